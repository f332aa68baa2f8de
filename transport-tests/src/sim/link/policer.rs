//! A token bucket without a queue: what exceeds the rate is dropped at once.

use std::time::Duration;

use crate::sim::scenario::Policer;

/// Tokens are bytes.
#[derive(Debug)]
pub(super) struct Bucket {
    bytes_per_s: f64,
    most: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(config: &Policer) -> Self {
        Self {
            bytes_per_s: config.rate_mbit * 1e6 / 8.0,
            most: config.burst_bytes,
            tokens: config.burst_bytes,
            at: Duration::ZERO,
        }
    }

    /// Takes tokens for a packet; false if there are too few.
    pub(super) fn take(&mut self, now: Duration, bytes: usize) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * self.bytes_per_s).min(self.most);
        let enough = self.tokens >= bytes as f64;
        if enough {
            self.tokens -= bytes as f64;
        }
        enough
    }
}
