//! The two signatures of a bundle: ML-DSA-65 (FIPS 204) and Ed25519 (RFC 8032).

use ed25519_dalek::Signer as _;
use ml_dsa::{KeyExport as _, MlDsa65};
use zeroize::Zeroize;

use crate::Secret;

/// Length of an ML-DSA-65 verifying key.
pub(crate) const ML_DSA_KEY: usize = 1952;
/// Length of an ML-DSA-65 signature.
pub(crate) const ML_DSA_SIGNATURE: usize = 3309;
/// Length of an Ed25519 signature.
pub(crate) const ED25519_SIGNATURE: usize = 64;

/// An ML-DSA-65 signing key, expanded; the library erases it on drop. Boxed, so that moving it leaves nothing behind.
pub(crate) struct MlDsaKey(Box<ml_dsa::SigningKey<MlDsa65>>);

impl MlDsaKey {
    pub(crate) fn new(seed: &Secret<32>) -> Self {
        let mut seed = (*seed.expose()).into();
        let key = Box::new(ml_dsa::SigningKey::from_seed(&seed));
        seed.as_mut_slice().zeroize();
        Self(key)
    }

    pub(crate) fn public(&self) -> Box<[u8; ML_DSA_KEY]> {
        Box::new(self.0.expanded_key().verifying_key().to_bytes().into())
    }

    /// With `context`, without randomness (FIPS 204 §5.2).
    pub(crate) fn sign(&self, message: &[u8], context: &[u8]) -> Option<[u8; ML_DSA_SIGNATURE]> {
        let signature = self.0.expanded_key().sign_deterministic(message, context).ok()?;
        Some(signature.encode().into())
    }
}

/// Both signing keys of a relay, expanded and boxed.
pub(crate) struct SigningKeys {
    ml_dsa: MlDsaKey,
    ed25519: Box<ed25519_dalek::SigningKey>,
}

impl SigningKeys {
    pub(crate) fn new(ml_dsa_seed: &Secret<32>, ed25519_seed: &Secret<32>) -> Self {
        Self {
            ml_dsa: MlDsaKey::new(ml_dsa_seed),
            ed25519: Box::new(ed25519_dalek::SigningKey::from_bytes(ed25519_seed.expose())),
        }
    }

    pub(crate) fn ml_dsa_public(&self) -> Box<[u8; ML_DSA_KEY]> {
        self.ml_dsa.public()
    }

    pub(crate) fn ed25519_public(&self) -> [u8; 32] {
        self.ed25519.verifying_key().to_bytes()
    }

    pub(crate) fn sign_ml_dsa(&self, message: &[u8], context: &[u8]) -> Option<[u8; ML_DSA_SIGNATURE]> {
        self.ml_dsa.sign(message, context)
    }

    pub(crate) fn sign_ed25519(&self, message: &[u8]) -> [u8; ED25519_SIGNATURE] {
        self.ed25519.sign(message).to_bytes()
    }
}

pub(crate) fn verify_ml_dsa(
    key: &[u8; ML_DSA_KEY],
    message: &[u8],
    context: &[u8],
    signature: &[u8; ML_DSA_SIGNATURE],
) -> bool {
    let key = ml_dsa::VerifyingKey::<MlDsa65>::decode(key.into());
    ml_dsa::Signature::decode(signature.into())
        .is_some_and(|signature| key.verify_with_context(message, context, &signature))
}

/// Strict verification: no weak keys, no malleable signatures.
pub(crate) fn verify_ed25519(key: &[u8; 32], message: &[u8], signature: &[u8; ED25519_SIGNATURE]) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    ed25519_dalek::VerifyingKey::from_bytes(key)
        .is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_legs_bind_message_and_context() {
        let keys = SigningKeys::new(&Secret::new([1; 32]), &Secret::new([2; 32]));
        let ml_dsa = keys.sign_ml_dsa(b"message", b"context").unwrap();
        let ed25519 = keys.sign_ed25519(b"message");
        let public = keys.ml_dsa_public();
        assert!(verify_ml_dsa(&public, b"message", b"context", &ml_dsa));
        assert!(!verify_ml_dsa(&public, b"massage", b"context", &ml_dsa));
        assert!(!verify_ml_dsa(&public, b"message", b"other", &ml_dsa));
        assert!(verify_ed25519(&keys.ed25519_public(), b"message", &ed25519));
        assert!(!verify_ed25519(&keys.ed25519_public(), b"massage", &ed25519));
        // The neutral element is a weak key that plain verification would accept for many messages.
        assert!(!verify_ed25519(
            &std::array::from_fn(|i| u8::from(i == 0)),
            b"message",
            &ed25519
        ));
    }
}
