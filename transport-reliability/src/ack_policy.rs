//! When an acknowledgement is due (RFC 9000 §13.2).

use std::time::{Duration, Instant};

use crate::AckFrequency;

/// What the peer may ask for at most: an ACK must come before the window of received numbers has moved on.
const MAX_THRESHOLD: u32 = 512;
/// The delay we promise never to exceed.
const MAX_DELAY: Duration = AckFrequency::DEFAULT.max_delay;

/// What a received packet means for the peer's loss detection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// The next number, or the first of all.
    InOrder,
    /// A number below one already received.
    Late,
    /// The peer gives up a number below it that it did not before.
    OpensGap,
}

/// Decides when to acknowledge; knows nothing of ranges.
#[derive(Debug)]
pub(crate) struct AckPolicy {
    wanted: AckFrequency,
    /// The last packet came marked with CE.
    marked: bool,
    /// Ack-eliciting packets since the last ACK left.
    eliciting: u32,
    /// Anything received since the last ACK left.
    unreported: bool,
    due: Option<Instant>,
    last_eliciting: Option<Instant>,
}

impl AckPolicy {
    pub(crate) fn new() -> Self {
        Self {
            wanted: AckFrequency::DEFAULT,
            marked: false,
            eliciting: 0,
            unreported: false,
            due: None,
            last_eliciting: None,
        }
    }

    /// The peer asks for another rhythm (`ACK_FREQUENCY`); the delay is only ever shortened.
    pub(crate) fn set_frequency(&mut self, wanted: AckFrequency) {
        self.wanted = AckFrequency {
            eliciting: wanted.eliciting.clamp(1, MAX_THRESHOLD),
            max_delay: wanted.max_delay.min(MAX_DELAY),
            reordering: wanted.reordering,
        };
    }

    /// Numbers a packet may stay behind the largest before the peer gives it up.
    pub(crate) fn reordering(&self) -> u64 {
        self.wanted.reordering.into()
    }

    /// A packet came with a codepoint. Whether its mark is news: congestion is told at once, but not packet by packet.
    pub(crate) fn on_mark(&mut self, ce: bool) -> bool {
        !std::mem::replace(&mut self.marked, ce) && ce
    }

    /// The peer asks for an ACK at once.
    pub(crate) fn immediately(&mut self, now: Instant) {
        self.due = Some(now);
        self.unreported = true;
    }

    /// A packet arrived; `srtt` decides what counts as a pause.
    pub(crate) fn on_received(&mut self, now: Instant, eliciting: bool, arrival: Arrival, srtt: Duration) {
        self.unreported = true;
        if !eliciting {
            return;
        }
        let after_pause = self
            .last_eliciting
            .is_none_or(|last| last != now && now.saturating_duration_since(last) > srtt);
        self.last_eliciting = Some(now);
        self.eliciting += 1;
        let at_once = after_pause || arrival != Arrival::InOrder || self.eliciting >= self.wanted.eliciting;
        let due = if at_once { now } else { now + self.wanted.max_delay };
        self.due = Some(self.due.map_or(due, |already| already.min(due)));
    }

    /// The ranges went out.
    pub(crate) fn on_sent(&mut self) {
        self.eliciting = 0;
        self.unreported = false;
        self.due = None;
    }

    /// When an ACK must go.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether an ACK would say something new.
    pub(crate) fn unreported(&self) -> bool {
        self.unreported
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start;

    const MS: Duration = Duration::from_millis(1);
    const SRTT: Duration = Duration::from_millis(100);

    /// A policy that has just acknowledged its first packet.
    fn warm() -> (AckPolicy, Instant) {
        let (mut policy, now) = (AckPolicy::new(), start());
        policy.on_received(now, true, Arrival::InOrder, SRTT);
        assert_eq!(
            policy.due(),
            Some(now),
            "the first packet is acknowledged at once"
        );
        policy.on_sent();
        (policy, now)
    }

    #[test]
    fn every_second_packet_or_25_ms() {
        let (mut policy, now) = warm();
        policy.on_received(now, true, Arrival::InOrder, SRTT);
        assert_eq!(policy.due(), Some(now + 25 * MS));
        policy.on_received(now + MS, true, Arrival::InOrder, SRTT);
        assert_eq!(policy.due(), Some(now + MS));
        policy.on_sent();
        assert_eq!((policy.due(), policy.unreported()), (None, false));
    }

    #[test]
    fn packets_that_elicit_nothing_only_ride_along() {
        let (mut policy, now) = warm();
        policy.on_received(now, false, Arrival::OpensGap, SRTT);
        assert_eq!((policy.due(), policy.unreported()), (None, true));
    }

    #[test]
    fn disorder_and_pauses_are_reported_at_once() {
        for arrival in [Arrival::Late, Arrival::OpensGap] {
            let (mut policy, now) = warm();
            policy.on_received(now, true, arrival, SRTT);
            assert_eq!(policy.due(), Some(now));
        }
        let (mut policy, now) = warm();
        let later = now + SRTT + MS;
        policy.on_received(later, true, Arrival::InOrder, SRTT);
        assert_eq!(policy.due(), Some(later));
    }

    #[test]
    fn the_peer_may_ask_for_another_rhythm() {
        let (mut policy, now) = warm();
        policy.set_frequency(AckFrequency {
            eliciting: 4,
            max_delay: Duration::from_secs(9),
            reordering: 1,
        });
        for _ in 0..3 {
            policy.on_received(now, true, Arrival::InOrder, SRTT);
            assert_eq!(
                policy.due(),
                Some(now + 25 * MS),
                "our own promise of 25 ms stands"
            );
        }
        policy.on_received(now + MS, true, Arrival::InOrder, SRTT);
        assert_eq!(policy.due(), Some(now + MS));
        policy.on_sent();
        policy.immediately(now + 2 * MS);
        assert_eq!(policy.due(), Some(now + 2 * MS));
    }
}
