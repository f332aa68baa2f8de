//! The probe timeout (RFC 9002 §6.2): asks for an ACK when none comes; it never declares a loss.

use std::time::{Duration, Instant};

/// Packets a timeout may send.
const PROBES: u8 = 2;
/// The backoff stops doubling here; ending a dead connection is the idle timeout's business.
const MAX_BACKOFF: u32 = 10;

/// Backoff, and the probes still to send.
#[derive(Debug)]
pub(crate) struct Probe {
    count: u32,
    total: u64,
    due: u8,
    /// When the last ack-eliciting packet left, or the last timeout fired.
    armed_from: Option<Instant>,
    blocked: bool,
}

impl Probe {
    pub(crate) fn new() -> Self {
        Self {
            count: 0,
            total: 0,
            due: 0,
            armed_from: None,
            blocked: false,
        }
    }

    /// An ack-eliciting packet left.
    pub(crate) fn on_sent(&mut self, now: Instant) {
        self.armed_from = Some(now);
        self.due = self.due.saturating_sub(1);
    }

    /// An ack-eliciting packet was newly acknowledged.
    pub(crate) fn on_acked(&mut self) {
        self.count = 0;
        self.due = 0;
    }

    /// When to probe; `pto` is without backoff. The caller leaves it alone while nothing elicits an ACK.
    pub(crate) fn deadline(&self, pto: Duration) -> Option<Instant> {
        let from = self.armed_from.filter(|_| !self.blocked)?;
        Some(from + pto * (1 << self.count.min(MAX_BACKOFF)))
    }

    /// The deadline passed.
    pub(crate) fn fire(&mut self, now: Instant) {
        self.count += 1;
        self.total += 1;
        self.due = PROBES;
        // A probe that cannot be sent must not make the deadline lie in the past.
        self.armed_from = Some(now);
    }

    /// At the anti-amplification limit a probe could not be sent (RFC 9002 §6.2.2.1).
    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Another path: the backoff starts over.
    pub(crate) fn reset(&mut self) {
        self.on_acked();
    }

    /// Probes still to send.
    pub(crate) fn due(&self) -> u8 {
        self.due
    }

    /// Timeouts since the last progress.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Timeouts ever.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start;

    const PTO: Duration = Duration::from_millis(100);

    #[test]
    fn backoff_doubles_and_progress_resets_it() {
        let (mut probe, mut now) = (Probe::new(), start());
        assert_eq!(probe.deadline(PTO), None);
        probe.on_sent(now);
        for count in 0..12 {
            let wait = PTO * (1 << u32::min(count, 10));
            assert_eq!(probe.deadline(PTO), Some(now + wait));
            now += wait;
            probe.fire(now);
            assert_eq!((probe.due(), probe.count()), (2, count + 1));
        }
        probe.on_sent(now);
        assert_eq!(probe.due(), 1);
        probe.on_acked();
        assert_eq!((probe.due(), probe.count(), probe.total()), (0, 0, 12));
        assert_eq!(probe.deadline(PTO), Some(now + PTO));
    }

    #[test]
    fn blocked_means_no_deadline() {
        let (mut probe, now) = (Probe::new(), start());
        probe.on_sent(now);
        probe.set_blocked(true);
        assert_eq!(probe.deadline(PTO), None);
        probe.set_blocked(false);
        assert_eq!(probe.deadline(PTO), Some(now + PTO));
    }
}
