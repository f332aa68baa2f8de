//! Bytes that must not outlive their use.

use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{Entropy, EntropyFailed};

/// `N` secret bytes: zeroized on drop, without `Debug`, compared in constant time.
///
/// There is no `Clone` and no `Copy`; where a second holder is needed, the owner is shared instead, or the copy is made by
/// a function of this crate that says so. The bytes stay in one heap block for life: what moves is a pointer, so that no
/// move, and no `Option::take`, leaves them behind.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Takes over `bytes`. The caller's own copy, if any, is the caller's to erase.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(Box::new(bytes))
    }

    /// Room for `N` bytes that are written in place before anybody looks. Not zeros: those the compiler takes from `calloc`, which
    /// in glibc before 2.41 passes by the thread's cache, and a handshake has fifty of them.
    pub(crate) fn unwritten() -> Self {
        Self::new([0xff; N])
    }

    /// Draws `N` bytes from `rng`.
    pub fn generate(rng: &mut dyn Entropy) -> Result<Self, EntropyFailed> {
        let mut secret = Self::unwritten();
        rng.fill(&mut *secret.0)?;
        Ok(secret)
    }

    /// A copy of the first `N` bytes of `bytes`, written in place; `None` if there are fewer.
    pub(crate) fn copy_of(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..N)?;
        let mut secret = Self::unwritten();
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    /// A second holder of the same bytes.
    pub(crate) fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// The bytes themselves. The name marks every place where a secret is looked at.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes, to be written in place by a derivation.
    pub(crate) fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }

    /// All zero: a key nobody derived.
    pub(crate) fn is_zero(&self) -> bool {
        self.0.ct_eq(&[0; N]).into()
    }
}

impl<const N: usize> Zeroize for Secret<N> {
    fn zeroize(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl<const N: usize> ZeroizeOnDrop for Secret<N> {}

impl<const N: usize> ConstantTimeEq for Secret<N> {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&*other.0)
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_looks_at_every_byte() {
        for at in 0..32 {
            let mut bytes = [7u8; 32];
            assert!(Secret::new(bytes) == Secret::new([7; 32]));
            bytes[at] ^= 0x80;
            assert!(Secret::new(bytes) != Secret::new([7; 32]));
        }
    }

    #[test]
    fn zeroize_erases() {
        let mut secret = Secret::new([0xa5u8; 64]);
        assert!(!secret.is_zero());
        secret.zeroize();
        assert!(secret.is_zero());
    }
}
