//! Times by their order of magnitude: two percent wide buckets, a few hundred of them, however long a run lasts.

use serde::{Deserialize, Serialize};

const WIDTH: f64 = 1.02;
/// Up to about 10 minutes in microseconds.
const BUCKETS: usize = 1024;

/// A histogram of milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max_ms: f64,
}

impl Histogram {
    /// Notes one time.
    pub fn add(&mut self, ms: f64) {
        let us = (ms * 1000.0).max(1.0);
        let bucket = ((us.ln() / WIDTH.ln()) as usize).min(BUCKETS - 1);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        if let Some(slot) = self.buckets.get_mut(bucket) {
            *slot += 1;
        }
        self.count += 1;
        self.max_ms = self.max_ms.max(ms);
    }

    /// Times noted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub fn max_ms(&self) -> f64 {
        self.max_ms
    }

    /// The longest, when anything was noted.
    pub fn max_ms_if_any(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max_ms)
    }

    /// The time that a share of all stays under, milliseconds; `None` when nothing was noted.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let upper = WIDTH.powi(bucket as i32 + 1) / 1000.0;
                return Some(upper.min(self.max_ms));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_two_percent() {
        let mut times = Histogram::default();
        assert_eq!(times.quantile(0.5), None);
        for ms in 1..=1000 {
            times.add(f64::from(ms));
        }
        let near = |share: f64, wanted: f64| {
            let got = times.quantile(share).unwrap();
            assert!((got - wanted).abs() <= wanted * 0.021, "{share}: {got}");
        };
        near(0.5, 500.0);
        near(0.95, 950.0);
        near(1.0, 1000.0);
        assert_eq!(times.count(), 1000);
    }
}
