//! So many a second, a few at once: the generic cell rate algorithm (ITU-T I.371, appendix I.2).
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::time::{Duration, Instant};

/// When the next one would be on time.
#[derive(Debug, Default)]
pub(super) struct Pace(Option<Instant>);

impl Pace {
    /// One more, if its time has come: one each `interval`, and after a pause `burst` at once.
    pub(super) fn take(&mut self, now: Instant, interval: Duration, burst: u32) -> bool {
        let slack = interval.saturating_mul(burst.saturating_sub(1));
        let earliest = now.checked_sub(slack).unwrap_or(now);
        let next = self.0.map_or(earliest, |next| next.max(earliest));
        let free = next <= now;
        if free {
            self.0 = Some(next + interval);
        }
        free
    }

    /// Whether one would be on time.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        self.0.is_none_or(|next| next <= now)
    }

    /// When the next one may go, as far as known.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn a_burst_and_then_one_an_interval() {
        let (start, interval) = (Instant::now(), Duration::from_millis(10));
        let mut pace = Pace::default();
        let mut taken = |ms| {
            (0..100)
                .filter(|_| pace.take(start + Duration::from_millis(ms), interval, 4))
                .count()
        };
        assert_eq!(
            [0, 9, 10, 11, 40, 1000, 1001].map(&mut taken),
            [4, 0, 1, 0, 3, 4, 0]
        );
        assert_eq!(pace.next(), Some(start + Duration::from_millis(1010)));
    }
}
