//! What is kept of a run while it runs: the digest of the wire and the peak of memory.

use std::time::Duration;

/// Digest of every datagram with its time and direction (FNV-1a, 128 bits).
#[derive(Clone, Copy)]
pub struct WireDigest(u128);

impl Default for WireDigest {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl WireDigest {
    /// Adds one datagram.
    pub fn add(&mut self, at: Duration, up: bool, datagram: &[u8]) {
        self.mix(&(at.as_nanos() as u64).to_le_bytes());
        self.mix(&[u8::from(up)]);
        self.mix(datagram);
    }

    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    /// 32 hex digits.
    pub fn hex(&self) -> String {
        format!("{:032x}", self.0)
    }
}

/// Percentiles of a set of samples.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
#[expect(missing_docs, reason = "the fields are named by themselves")]
pub struct Percentiles {
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    /// In milliseconds, of samples in microseconds; zeros when there are none.
    pub fn of_us(samples: &[u32]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let at = |share: f64| -> f64 {
            let index = (share * sorted.len() as f64).ceil() as usize;
            sorted
                .get(index.saturating_sub(1))
                .map_or(0.0, |us| f64::from(*us) / 1000.0)
        };
        let sum: f64 = sorted.iter().map(|us| f64::from(*us)).sum();
        Self {
            mean: sum / 1000.0 / sorted.len().max(1) as f64,
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let samples: Vec<u32> = (1..=100).map(|n| n * 1000).collect();
        let found = Percentiles::of_us(&samples);
        assert_eq!(
            (found.mean, found.p50, found.p95, found.p99, found.max),
            (50.5, 50.0, 95.0, 99.0, 100.0)
        );
        assert_eq!(Percentiles::of_us(&[]).max, 0.0);
    }

    #[test]
    fn the_digest_sees_time_direction_and_bytes() {
        let digest = |at, up, bytes: &[u8]| {
            let mut digest = WireDigest::default();
            digest.add(Duration::from_nanos(at), up, bytes);
            digest.hex()
        };
        let one = digest(1, true, b"x");
        assert_eq!(one, digest(1, true, b"x"));
        assert!(
            one != digest(2, true, b"x") && one != digest(1, false, b"x") && one != digest(1, true, b"y")
        );
    }
}
