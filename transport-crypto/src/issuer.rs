//! Keys of those who issue access tokens: ML-DSA-65 under the context "adit1 token". What a token says is its reader's business.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::{fmt, sync::Arc};

use crate::{
    Entropy, EntropyFailed, Secret,
    kdf::{self, label},
    provider::signature::{ML_DSA_KEY, ML_DSA_SIGNATURE, MlDsaKey, verify_ml_dsa},
};

/// A key that signs access tokens.
pub struct TokenIssuer {
    seed: Secret<32>,
    key: MlDsaKey,
}

impl TokenIssuer {
    /// From its seed (FIPS 204, ξ).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::new(Secret::new(seed))
    }

    /// A new key.
    ///
    /// # Errors
    /// When `rng` fails.
    pub fn generate(rng: &mut dyn Entropy) -> Result<Self, EntropyFailed> {
        Secret::generate(rng).map(Self::new)
    }

    fn new(seed: Secret<32>) -> Self {
        let key = MlDsaKey::new(&seed);
        Self { seed, key }
    }

    /// The seed, to be stored.
    pub fn seed(&self) -> &Secret<32> {
        &self.seed
    }

    /// What a relay must know to verify what this key signs.
    pub fn verifier(&self) -> TokenKey {
        TokenKey(self.key.public().into())
    }

    /// Signs what a token says. `None` cannot happen with a context of this length.
    pub fn sign(&self, message: &[u8]) -> Option<[u8; TokenKey::SIGNATURE]> {
        self.key.sign(message, label::TOKEN)
    }
}

/// The public half of a [`TokenIssuer`]. Clones share one copy.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey(Arc<[u8; ML_DSA_KEY]>);

impl TokenKey {
    /// Length of the key, bytes.
    pub const LENGTH: usize = ML_DSA_KEY;
    /// Length of a signature, bytes.
    pub const SIGNATURE: usize = ML_DSA_SIGNATURE;

    /// From its bytes (FIPS 204, `pkEncode`); every string of this length is a key.
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        Self(Arc::new(*bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// The first bytes of the key's SHA-256, by which tokens name it.
    pub fn id(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = kdf::hash(&[&*self.0]);
        [a, b, c, d, e, f, g, h]
    }

    /// Whether `signature` was made over `message` with this key. Costs as much as several thousand packets.
    pub fn verify(&self, message: &[u8], signature: &[u8; Self::SIGNATURE]) -> bool {
        verify_ml_dsa(&self.0, message, label::TOKEN, signature)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({:016x})", u64::from_be_bytes(self.id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_issuer_signs() {
        let (issuer, other) = (TokenIssuer::from_seed([1; 32]), TokenIssuer::from_seed([2; 32]));
        let signature = issuer.sign(b"tenant a").unwrap();
        let key = TokenKey::from_bytes(issuer.verifier().as_bytes());
        assert!(key.verify(b"tenant a", &signature));
        assert!(!key.verify(b"tenant b", &signature));
        assert!(!other.verifier().verify(b"tenant a", &signature));
        assert_ne!(key.id(), other.verifier().id());
        assert_eq!(TokenIssuer::from_seed(*issuer.seed().expose()).verifier(), key);
        // A bundle's signature is none of a token, nor the other way round.
        assert!(!verify_ml_dsa(
            key.as_bytes(),
            b"tenant a",
            label::BUNDLE,
            &signature
        ));
    }
}
