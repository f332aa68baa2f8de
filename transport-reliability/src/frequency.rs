//! How often the peer is asked to acknowledge (draft-ietf-quic-ack-frequency): seldom while the path is known, often
//! while it is being learnt.

use std::time::{Duration, Instant};

use crate::Recovery;
use crate::congestion::Rhythm;

/// Ack-eliciting packets at most that one ACK shall answer.
const MAX_THRESHOLD: u64 = 64;
/// The longest delay ever asked for: what RFC 9000 §18.2 has as default.
const MAX_DELAY: Duration = Duration::from_millis(25);

/// What an `ACK_FREQUENCY` frame asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckFrequency {
    /// Ack-eliciting packets that make an ACK due; two by default (RFC 9000 §13.2.2).
    pub eliciting: u32,
    /// Longest delay of an ACK.
    pub max_delay: Duration,
    /// A packet missing so far behind the largest makes an ACK due; 0: never, 1: any gap, at once.
    pub reordering: u32,
}

impl AckFrequency {
    /// What holds when nothing was asked.
    pub(crate) const DEFAULT: Self = Self {
        eliciting: 2,
        max_delay: MAX_DELAY,
        reordering: 1,
    };

    /// Worth a frame: a quarter more or less, or another threshold.
    fn differs(&self, other: &Self) -> bool {
        let apart = |a: u128, b: u128| a.abs_diff(b) * 4 > a.min(b);
        self.reordering != other.reordering
            || apart(self.eliciting.into(), other.eliciting.into())
            || apart(self.max_delay.as_nanos(), other.max_delay.as_nanos())
    }
}

/// What was asked last.
#[derive(Debug)]
pub(crate) struct Asking {
    /// The shortest delay the peer allows; none: it does not know the frame.
    least_delay: Option<Duration>,
    asked: AckFrequency,
    at: Option<Instant>,
}

impl Asking {
    pub(crate) fn new() -> Self {
        Self {
            least_delay: None,
            asked: AckFrequency::DEFAULT,
            at: None,
        }
    }
}

impl<T> Recovery<T> {
    /// The peer takes `ACK_FREQUENCY`, and delays of `least` or more (its `min_ack_delay`).
    pub fn set_peer_min_ack_delay(&mut self, least: Option<Duration>) {
        self.asking.least_delay = least;
    }

    /// What to ask of the peer now, if it is not what was asked last; a round trip apart at least.
    pub fn ack_frequency_due(&self, now: Instant) -> Option<AckFrequency> {
        let asking = &self.asking;
        let least = asking.least_delay.filter(|_| self.rtt.is_sampled())?;
        let rested = asking
            .at
            .is_none_or(|at| now.saturating_duration_since(at) >= self.rtt.smoothed());
        let wish = self.wish(least);
        (rested && wish.differs(&asking.asked)).then_some(wish)
    }

    /// It was asked for.
    pub fn ack_frequency_asked(&mut self, now: Instant, what: AckFrequency) {
        self.asking.asked = what;
        self.asking.at = Some(now);
    }

    /// The newest request was lost: what holds at the peer is unknown.
    pub fn ack_frequency_lost(&mut self) {
        self.asking.asked = AckFrequency::DEFAULT;
        self.asking.at = None;
    }

    /// What suits the controller.
    fn wish(&self, least: Duration) -> AckFrequency {
        let Some(Rhythm { windows, rtts }) = self.congestion.rhythm() else {
            return AckFrequency::DEFAULT;
        };
        let packets = (self.window_packets() / windows).clamp(2, MAX_THRESHOLD);
        let delay = self.rtt.smoothed() / rtts;
        AckFrequency {
            eliciting: packets as u32,
            max_delay: delay.min(MAX_DELAY).max(least),
            reordering: u32::try_from(self.thresholds.packets()).unwrap_or(u32::MAX),
        }
    }
}
