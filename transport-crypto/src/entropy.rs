//! Secret randomness, always injected.

use crate::{EntropyFailed, provider::symmetric::KeyStream};

/// A source of secret randomness: the operating system, or a seed in tests and simulation.
pub trait Entropy {
    /// Fills `out` with unpredictable bytes, or fails; a failure aborts whatever needed them.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFailed>;
}

impl<E: Entropy + ?Sized> Entropy for Box<E> {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFailed> {
        (**self).fill(out)
    }
}

/// A `ChaCha20` key stream over a seed: the same seed gives the same bytes on every machine.
///
/// For tests, simulation and test vectors. The stream ends after 256 GiB, then `fill` fails.
pub struct SeededEntropy(KeyStream);

impl SeededEntropy {
    /// Starts the stream of `seed` (key = seed, nonce and counter zero).
    pub fn new(seed: [u8; 32]) -> Self {
        Self(KeyStream::new(&seed))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFailed> {
        self.0.fill(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_one_stream_however_it_is_cut() {
        let mut whole = [0xffu8; 200];
        SeededEntropy::new([3; 32]).fill(&mut whole).unwrap();
        let mut pieces = [0u8; 200];
        let mut rng = SeededEntropy::new([3; 32]);
        for piece in pieces.chunks_mut(7) {
            rng.fill(piece).unwrap();
        }
        assert_eq!(whole, pieces);
        let mut other = [0u8; 200];
        SeededEntropy::new([4; 32]).fill(&mut other).unwrap();
        assert_ne!(whole, other);
    }

    #[test]
    fn the_stream_is_rfc_8439_chacha20() {
        // RFC 8439, appendix A.1, test vector 1: zero key, zero nonce, block 0.
        let mut block = [0u8; 8];
        SeededEntropy::new([0; 32]).fill(&mut block).unwrap();
        assert_eq!(block, [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
    }
}
