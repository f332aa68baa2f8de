//! ML-KEM-768 (FIPS 203) and X25519 (RFC 7748).

use ml_kem::{
    Decapsulate as _, KeyExport as _,
    ml_kem_768::{DecapsulationKey, EncapsulationKey},
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize;

use super::{KemCiphertext, KemKeyPair, KemPublic};
use crate::{InvalidKemKey, Secret};

/// An expanded key pair; the library erases the decapsulation key on drop.
pub(super) struct MlKemKeyPair {
    secret: DecapsulationKey,
    public: Box<KemPublic>,
}

impl MlKemKeyPair {
    pub(super) fn new(seed: &Secret<64>) -> Self {
        let mut copy = (*seed.expose()).into();
        let secret = DecapsulationKey::from_seed(copy);
        copy.as_mut_slice().zeroize();
        let public = Box::new(secret.encapsulation_key().to_bytes().into());
        Self { secret, public }
    }
}

impl KemKeyPair for MlKemKeyPair {
    fn public(&self) -> &KemPublic {
        &self.public
    }

    fn decapsulate(&self, ciphertext: &KemCiphertext) -> Secret<32> {
        let mut shared = self.secret.decapsulate(ciphertext.into());
        take(shared.as_mut_slice())
    }
}

pub(super) fn kem_check(key: &KemPublic) -> Result<(), InvalidKemKey> {
    EncapsulationKey::new(key.into())
        .map(|_| ())
        .map_err(|_| InvalidKemKey)
}

pub(super) fn kem_encapsulate(
    key: &KemPublic,
    m: &Secret<32>,
) -> Result<(KemCiphertext, Secret<32>), InvalidKemKey> {
    let key = EncapsulationKey::new(key.into()).map_err(|_| InvalidKemKey)?;
    let (ciphertext, mut shared) = key.encapsulate_deterministic(m.expose().into());
    Ok((ciphertext.into(), take(shared.as_mut_slice())))
}

pub(super) fn x25519_public(secret: &Secret<32>) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*secret.expose())).to_bytes()
}

pub(super) fn x25519(secret: &Secret<32>, public: &[u8; 32]) -> Secret<32> {
    let shared = StaticSecret::from(*secret.expose()).diffie_hellman(&PublicKey::from(*public));
    Secret::new(*shared.as_bytes())
}

/// Moves a shared secret into our own keeping and erases the library's copy.
fn take(shared: &mut [u8]) -> Secret<32> {
    let mut secret = Secret::new([0; 32]);
    secret.expose_mut().copy_from_slice(shared);
    shared.zeroize();
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encapsulation_round_trip_and_implicit_rejection() {
        let pair = MlKemKeyPair::new(&Secret::new([5; 64]));
        let (mut ciphertext, shared) = kem_encapsulate(pair.public(), &Secret::new([6; 32])).unwrap();
        assert!(pair.decapsulate(&ciphertext) == shared);
        for at in [0, 500, 1087] {
            ciphertext[at] ^= 1;
            assert!(pair.decapsulate(&ciphertext) != shared);
            ciphertext[at] ^= 1;
        }
    }

    #[test]
    fn coefficients_outside_the_field_are_refused() {
        let pair = MlKemKeyPair::new(&Secret::new([5; 64]));
        assert_eq!(kem_check(pair.public()), Ok(()));
        let mut key = *pair.public();
        // The first coefficient becomes 0xfff > 3328.
        key[0] = 0xff;
        key[1] |= 0x0f;
        assert_eq!(kem_check(&key), Err(InvalidKemKey));
        assert!(kem_encapsulate(&key, &Secret::new([6; 32])).is_err());
    }

    #[test]
    fn rfc_7748_first_iteration() {
        let mut base = [0; 32];
        base[0] = 9;
        let out = x25519(&Secret::new(base), &base);
        assert_eq!(out.expose()[..4], [0x42, 0x2c, 0x8e, 0x7a]);
        assert_eq!(
            *x25519(&Secret::new(base), &base).expose(),
            x25519_public(&Secret::new(base))
        );
    }
}
