//! The only use of the system's randomness in the workspace.

use crate::engine::{Entropy, EntropyFailed};

/// Secret randomness from the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one entropy source: everything else is given `Entropy` or a seed"
    )]
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFailed> {
        getrandom::fill(out).map_err(|_| EntropyFailed)
    }
}
