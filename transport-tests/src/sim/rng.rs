//! Deterministic randomness: a ChaCha20 key stream read as numbers.

use transport_crypto::{Entropy, SeededEntropy};

/// A stream of numbers decided by a seed and a label, so that one part of the world drawing more
/// does not change what another part draws.
pub struct Rng(SeededEntropy);

impl Rng {
    /// The stream named `label` of `seed`.
    pub fn new(seed: u64, label: &str) -> Self {
        Self(SeededEntropy::new(seed_bytes(seed, label)))
    }

    /// A uniform 64-bit number.
    pub fn u64(&mut self) -> u64 {
        let mut out = [0; 8];
        self.0.fill(&mut out).expect("a seeded stream does not fail");
        u64::from_le_bytes(out)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `p`. Draws nothing when `p` is zero.
    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.unit() < p
    }

    /// Uniform in `[0, bound)`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.u64() % bound }
    }
}

/// 32 seed bytes for the stream named `label`.
pub fn seed_bytes(seed: u64, label: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    for (index, byte) in label.bytes().enumerate() {
        bytes[8 + index % 24] ^= byte.rotate_left((index / 24) as u32);
    }
    bytes
}
