//! When an acknowledgement is due (RFC 9000 §13.2).

use std::time::{Duration, Instant};

/// Ack-eliciting packets that make an ACK due (RFC 9000 §13.2.2).
const THRESHOLD: u32 = 2;
/// Longest wait for a second one.
const MAX_DELAY: Duration = Duration::from_millis(25);

/// What a received packet means for the peer's loss detection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// The next number, or the first of all.
    InOrder,
    /// A number below one already received.
    Late,
    /// Numbers are missing right below it that were not missing before.
    OpensGap,
}

/// Decides when to acknowledge; knows nothing of ranges.
#[derive(Debug)]
pub(crate) struct AckPolicy {
    threshold: u32,
    max_delay: Duration,
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
            threshold: THRESHOLD,
            max_delay: MAX_DELAY,
            eliciting: 0,
            unreported: false,
            due: None,
            last_eliciting: None,
        }
    }

    /// The peer asks for another rhythm (`ACK_FREQUENCY`); the delay is only ever shortened.
    pub(crate) fn set_frequency(&mut self, eliciting: u32, max_delay: Duration) {
        self.threshold = eliciting.max(1);
        self.max_delay = max_delay.min(MAX_DELAY);
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
            .is_none_or(|last| now.saturating_duration_since(last) > srtt);
        self.last_eliciting = Some(now);
        self.eliciting += 1;
        let at_once = after_pause || arrival != Arrival::InOrder || self.eliciting >= self.threshold;
        let due = if at_once { now } else { now + self.max_delay };
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
        policy.set_frequency(4, Duration::from_secs(9));
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
