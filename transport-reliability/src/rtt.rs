//! The estimate of the round-trip time (RFC 9002 §5).

use std::time::Duration;

/// Timers are no finer than this (RFC 9002 §6.1.2, `kGranularity`).
pub(crate) const GRANULARITY: Duration = Duration::from_millis(1);

/// RTT of one path: latest, smallest, smoothed, and its variation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rtt {
    latest: Duration,
    smoothed: Duration,
    variation: Duration,
    min: Duration,
    sampled: bool,
}

impl Rtt {
    /// Before the first sample: `initial`, and half of it as variation.
    pub(crate) fn new(initial: Duration) -> Self {
        Self {
            latest: initial,
            smoothed: initial,
            variation: initial / 2,
            min: initial,
            sampled: false,
        }
    }

    /// One sample; `ack_delay` is already capped by the peer's promise.
    pub(crate) fn sample(&mut self, sample: Duration, ack_delay: Duration) {
        // A clock too coarse to see the trip must not make rates infinite.
        let sample = sample.max(Duration::from_micros(1));
        self.latest = sample;
        if !self.sampled {
            self.sampled = true;
            self.min = sample;
            self.smoothed = sample;
            self.variation = sample / 2;
            return;
        }
        self.min = self.min.min(sample);
        let without_delay = sample.saturating_sub(ack_delay);
        let adjusted = if without_delay >= self.min {
            without_delay
        } else {
            sample
        };
        self.variation = (self.variation * 3 + self.smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = (self.smoothed * 7 + adjusted) / 8;
    }

    /// After persistent congestion the path may be another one (RFC 9002 §5.2).
    pub(crate) fn forget_min(&mut self) {
        self.min = self.latest;
    }

    /// Latest sample; the initial guess before the first.
    pub fn latest(&self) -> Duration {
        self.latest
    }

    /// Exponentially smoothed RTT (`smoothed_rtt`).
    pub fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// Mean deviation (`rttvar`).
    pub fn variation(&self) -> Duration {
        self.variation
    }

    /// Smallest sample, the peer's delay included.
    pub fn min(&self) -> Duration {
        self.min
    }

    /// Whether any sample was taken.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// `srtt + max(4·rttvar, 1 ms)`: the probe timeout before the peer's delay is added.
    pub(crate) fn timeout(&self) -> Duration {
        self.smoothed + (self.variation * 4).max(GRANULARITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_sample_replaces_the_guess() {
        let mut rtt = Rtt::new(333 * MS);
        assert_eq!(rtt.timeout(), 333 * MS + 666 * MS);
        rtt.sample(100 * MS, 25 * MS);
        assert_eq!(
            (rtt.smoothed(), rtt.variation(), rtt.min()),
            (100 * MS, 50 * MS, 100 * MS)
        );
        assert!(rtt.is_sampled());
    }

    #[test]
    fn later_samples_are_smoothed() {
        let mut rtt = Rtt::new(333 * MS);
        rtt.sample(100 * MS, Duration::ZERO);
        rtt.sample(140 * MS, 20 * MS);
        // 120 ms after the delay is taken off: var = (3·50 + 20)/4, srtt = (7·100 + 120)/8.
        assert_eq!(rtt.variation(), Duration::from_micros(42_500));
        assert_eq!(rtt.smoothed(), Duration::from_micros(102_500));
        assert_eq!((rtt.latest(), rtt.min()), (140 * MS, 100 * MS));
    }

    #[test]
    fn a_delay_that_would_undercut_the_minimum_is_not_believed() {
        let mut rtt = Rtt::new(333 * MS);
        rtt.sample(100 * MS, Duration::ZERO);
        rtt.sample(110 * MS, 20 * MS);
        assert_eq!(rtt.smoothed(), Duration::from_micros(101_250));
    }

    #[test]
    fn steady_samples_converge_and_the_timeout_keeps_a_granule() {
        let mut rtt = Rtt::new(333 * MS);
        for _ in 0..200 {
            rtt.sample(20 * MS, Duration::ZERO);
        }
        assert_eq!(rtt.timeout(), 21 * MS);
        rtt.sample(30 * MS, Duration::ZERO);
        rtt.forget_min();
        assert_eq!(rtt.min(), 30 * MS);
    }
}
