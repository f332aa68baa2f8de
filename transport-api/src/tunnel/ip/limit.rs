//! How many ICMP errors are sent (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f).

use std::time::{Duration, Instant};

/// At once, after silence.
const BURST: u32 = 64;
/// Afterwards one each.
const PAUSE: Duration = Duration::from_millis(2);

/// A token bucket.
#[derive(Debug, Default)]
pub(crate) struct ErrorLimit {
    spent: u32,
    since: Option<Instant>,
}

impl ErrorLimit {
    /// Whether one more may be sent now.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let back = now.saturating_duration_since(since).as_micros() / PAUSE.as_micros();
        if back > 0 {
            self.spent = self.spent.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX));
            self.since = Some(now);
        }
        let allowed = self.spent < BURST;
        self.spent += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_a_pause() {
        let begin = crate::now().instant;
        let mut limit = ErrorLimit::default();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let passed = |limit: &mut ErrorLimit, now| (0..1000).filter(|_| limit.allow(now)).count();
        assert_eq!(passed(&mut limit, at(0)), 64);
        assert_eq!(passed(&mut limit, at(10)), 5);
        assert_eq!(passed(&mut limit, at(10_000)), 64);
    }
}
