//! ML-KEM-768 and X25519.

use aws_lc_rs::{
    agreement::{PrivateKey, UnparsedPublicKey, X25519, agree},
    error::Unspecified,
    kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768},
};
use ml_kem::KeyExport as _;
use transport_crypto::{
    InvalidKemKey, Secret,
    provider::{DhKeyPair, KemCiphertext, KemKeyPair, KemPublic},
};
use zeroize::Zeroize as _;

/// What a caller refuses: neither exchange ever agrees on it.
fn nothing() -> Secret<32> {
    Secret::new([0; 32])
}

/// A key pair; the library erases the decapsulation key on drop.
pub(crate) struct MlKemKeyPair {
    secret: DecapsulationKey,
    public: Box<KemPublic>,
}

impl MlKemKeyPair {
    pub(crate) fn new(seed: &Secret<64>) -> Result<Self, Unspecified> {
        let mut copy = (*seed.expose()).into();
        let expanded = ml_kem::ml_kem_768::DecapsulationKey::from_seed(copy);
        copy.as_mut_slice().zeroize();
        let public = Box::new(expanded.encapsulation_key().to_bytes().into());
        let secret = expose(&expanded, |bytes| DecapsulationKey::new(&ML_KEM_768, bytes))?;
        Ok(Self { secret, public })
    }
}

/// Shows `key` in the long form, the only one AWS-LC's safe interface reads.
#[expect(
    deprecated,
    reason = "seeds are the better form; this one lives as long as the call"
)]
fn expose<T, E>(
    key: &ml_kem::ml_kem_768::DecapsulationKey,
    read: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<T, Unspecified> {
    use ml_kem::ExpandedKeyEncoding as _;

    let mut bytes = key.to_expanded_bytes();
    let result = read(&bytes);
    bytes.as_mut_slice().zeroize();
    result.map_err(|_| Unspecified)
}

impl KemKeyPair for MlKemKeyPair {
    fn public(&self) -> &KemPublic {
        &self.public
    }

    fn decapsulate(&self, ciphertext: &KemCiphertext) -> Secret<32> {
        let shared = self.secret.decapsulate(Ciphertext::from(&ciphertext[..]));
        shared.map_or_else(|_| nothing(), |shared| take(shared.as_ref()))
    }
}

/// AWS-LC makes the modulus check (FIPS 203 §7.2) itself; `differential.rs` holds it to ours.
pub(crate) fn kem_encapsulate(key: &KemPublic) -> Result<(KemCiphertext, Secret<32>), InvalidKemKey> {
    let key = EncapsulationKey::new(&ML_KEM_768, key).map_err(|_| InvalidKemKey)?;
    let (ciphertext, shared) = key.encapsulate().map_err(|_| InvalidKemKey)?;
    let ciphertext = ciphertext.as_ref().try_into().map_err(|_| InvalidKemKey)?;
    Ok((ciphertext, take(shared.as_ref())))
}

/// A key pair; the library erases it on drop.
pub(crate) struct X25519KeyPair {
    secret: PrivateKey,
    public: [u8; 32],
}

impl X25519KeyPair {
    pub(crate) fn new(secret: &Secret<32>) -> Result<Self, Unspecified> {
        let secret = PrivateKey::from_private_key(&X25519, secret.expose()).map_err(|_| Unspecified)?;
        let public = secret.compute_public_key()?;
        let public = public.as_ref().try_into().map_err(|_| Unspecified)?;
        Ok(Self { secret, public })
    }
}

impl DhKeyPair for X25519KeyPair {
    fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// AWS-LC refuses an all-zero result by itself; the caller learns of it as of any other.
    fn agree(&self, public: &[u8; 32]) -> Secret<32> {
        let public = UnparsedPublicKey::new(&X25519, public);
        agree(&self.secret, public, (), |shared| Ok(take(shared))).unwrap_or_else(|()| nothing())
    }
}

/// A library's secret in our own keeping; the library erases its copy.
fn take(shared: &[u8]) -> Secret<32> {
    let mut secret = [0; 32];
    secret.iter_mut().zip(shared).for_each(|(to, from)| *to = *from);
    let kept = Secret::new(secret);
    secret.zeroize();
    kept
}
