//! ML-KEM-768 (FIPS 203) and X25519 (RFC 7748).

use ml_kem::{
    Decapsulate as _, KeyExport as _,
    ml_kem_768::{DecapsulationKey, EncapsulationKey},
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize;

use super::{DhKeyPair, KemCiphertext, KemKeyPair, KemPublic};
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

/// Refuses an ML-KEM-768 key with a coefficient outside the field (FIPS 203 §7.2). The key is public, so this need not take
/// the same time for all; libraries expand the whole matrix for the same answer.
pub fn kem_check(key: &KemPublic) -> Result<(), InvalidKemKey> {
    // Twelve bits each, four in six bytes; two at a time, with room above each for what the sum carries out of it.
    const TWO: u64 = 1 | 1 << 24;
    const MODULUS: u64 = 3329;
    let (coefficients, _rho) = key.split_at(1152);
    let (fours, _) = coefficients.as_chunks();
    let carried = fours.iter().fold(0, |carried, [a, b, c, d, e, f]: &[u8; 6]| {
        let four = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, 0, 0]);
        let beyond = |two: u64| (two & (0xfff * TWO)) + (0x1000 - MODULUS) * TWO;
        carried | beyond(four) | beyond(four >> 12)
    });
    if carried & (0x1000 * TWO) == 0 {
        Ok(())
    } else {
        Err(InvalidKemKey)
    }
}

pub(super) fn kem_encapsulate(
    key: &KemPublic,
    m: &Secret<32>,
) -> Result<(KemCiphertext, Secret<32>), InvalidKemKey> {
    let key = EncapsulationKey::new(key.into()).map_err(|_| InvalidKemKey)?;
    let (ciphertext, mut shared) = key.encapsulate_deterministic(m.expose().into());
    Ok((ciphertext.into(), take(shared.as_mut_slice())))
}

/// A key pair. The library's form of the secret lasts as long as a call, and is erased with it.
pub(super) struct X25519KeyPair {
    secret: Secret<32>,
    public: [u8; 32],
}

impl X25519KeyPair {
    pub(super) fn new(secret: &Secret<32>) -> Self {
        Self {
            public: PublicKey::from(&StaticSecret::from(*secret.expose())).to_bytes(),
            secret: secret.duplicate(),
        }
    }
}

impl DhKeyPair for X25519KeyPair {
    fn public(&self) -> &[u8; 32] {
        &self.public
    }

    fn agree(&self, public: &[u8; 32]) -> Secret<32> {
        let shared = StaticSecret::from(*self.secret.expose()).diffie_hellman(&PublicKey::from(*public));
        Secret::new(*shared.as_bytes())
    }
}

/// Moves a shared secret into our own keeping and erases the library's copy.
fn take(shared: &mut [u8]) -> Secret<32> {
    let mut secret = Secret::unwritten();
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
        // Every place, and the two values beside the limit.
        for place in 0..768 {
            for (value, good) in [(3328u16, true), (3329, false)] {
                let mut key = *pair.public();
                let at = place / 2 * 3 + place % 2;
                let [low, high] = value.to_le_bytes();
                if place % 2 == 0 {
                    (key[at], key[at + 1]) = (low, key[at + 1] & 0xf0 | high);
                } else {
                    (key[at], key[at + 1]) = (key[at] & 0x0f | low << 4, low >> 4 | high << 4);
                }
                assert_eq!(kem_check(&key).is_ok(), good, "{value} at {place}");
            }
        }
    }

    #[test]
    fn rfc_7748_first_iteration() {
        let mut base = [0; 32];
        base[0] = 9;
        let pair = X25519KeyPair::new(&Secret::new(base));
        assert_eq!(pair.public()[..4], [0x42, 0x2c, 0x8e, 0x7a]);
        assert_eq!(pair.agree(&base).expose(), pair.public());
    }
}
