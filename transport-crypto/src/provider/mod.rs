//! The primitives, behind one trait.
//!
//! What costs time per packet or per handshake (packet ciphers, masks, X25519, ML-KEM-768) is a [`Provider`]'s
//! and may be replaced. Hashing, signatures and the relay-wide ciphers are fixed functions of this module:
//! they are cheap or rare. Both kinds are the only places that name a cipher, hash or KEM library.

pub(crate) mod hash;
mod key_agreement;
#[cfg(test)]
mod known_answers;
mod packet;
pub(crate) mod signature;
pub(crate) mod symmetric;

use std::{fmt, sync::Arc};

use crate::{Forged, InvalidKemKey, KeyExhausted, PacketMask, Sample, Secret, Suite, Tag};

pub use key_agreement::kem_check;

/// An ML-KEM-768 encapsulation key (FIPS 203).
pub type KemPublic = [u8; 1184];
/// An ML-KEM-768 ciphertext (FIPS 203).
pub type KemCiphertext = [u8; 1088];

/// A set of primitives. The same inputs give the same bytes, but for [`Self::kem_encapsulate`].
pub trait Provider: Send + Sync {
    /// What an operator calls it.
    fn name(&self) -> &'static str;
    /// A packet cipher; the key is expanded here, once.
    fn packet_cipher(&self, suite: Suite, key: &Secret<32>) -> Box<dyn PacketCipher>;
    /// `ChaCha20-Poly1305` (RFC 8439 §2.8) of one message, under a key no other has; `work` gets its cipher. [`DEFAULT`]
    /// allocates nothing for it.
    fn with_single_use(&self, key: &[u8; 32], work: &mut dyn FnMut(&dyn PacketCipher));
    /// A header mask generator (RFC 9001 §5.4.3, §5.4.4); the key is expanded here, once.
    fn mask_cipher(&self, suite: Suite, key: &Secret<32>) -> Box<dyn MaskCipher>;
    /// The ML-KEM-768 key pair of a 64-byte seed (FIPS 203 §7.1).
    fn kem_key_pair(&self, seed: &Secret<64>) -> Box<dyn KemKeyPair>;
    /// ML-KEM-768 encapsulation with the randomness `m` (FIPS 203 §6.2), after the modulus check.
    ///
    /// A provider whose library lets nobody choose `m` draws its own instead, and says so: nothing that must be the same
    /// twice, such as a simulation, may use it. [`DEFAULT`] takes `m`.
    fn kem_encapsulate(
        &self,
        key: &KemPublic,
        m: &Secret<32>,
    ) -> Result<(KemCiphertext, Secret<32>), InvalidKemKey>;
    /// The X25519 key pair of `secret` (RFC 7748 §6.1). Shared, as a relay's static key is by all its handshakes.
    fn x25519_key_pair(&self, secret: &Secret<32>) -> Arc<dyn DhKeyPair>;
}

impl fmt::Debug for dyn Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An expanded packet cipher. Nothing here allocates or expands keys.
pub trait PacketCipher: Send + Sync {
    /// Encrypts `body` in place and returns the tag over `header` and body.
    fn seal(&self, nonce: &[u8; 12], header: &[u8], body: &mut [u8]) -> Result<Tag, KeyExhausted>;
    /// As [`PacketCipher::seal`], but the end of the body is elsewhere: `sealed` holds its beginning, room for `tail`, and room for
    /// the tag. A library that encrypts from one place to another saves a copy here.
    fn seal_from(
        &self,
        nonce: &[u8; 12],
        header: &[u8],
        sealed: &mut [u8],
        tail: &[u8],
    ) -> Result<(), KeyExhausted> {
        let (body, tag) = sealed.split_last_chunk_mut().ok_or(KeyExhausted::BodyTooLong)?;
        let (_, end) = body
            .split_at_mut_checked(body.len().wrapping_sub(tail.len()))
            .ok_or(KeyExhausted::BodyTooLong)?;
        end.copy_from_slice(tail);
        *tag = self.seal(nonce, header, body)?;
        Ok(())
    }
    /// Verifies `tag`, then decrypts `body` in place.
    fn open(&self, nonce: &[u8; 12], header: &[u8], body: &mut [u8], tag: &Tag) -> Result<(), Forged>;
}

/// An expanded mask key.
pub trait MaskCipher: Send + Sync {
    /// One mask for each sample, in order, as far as the shorter of the two slices goes.
    fn masks(&self, samples: &[Sample], out: &mut [PacketMask]);
}

/// An expanded ML-KEM-768 key pair, erased on drop.
pub trait KemKeyPair: Send + Sync {
    /// The encapsulation key.
    fn public(&self) -> &KemPublic;
    /// The shared secret; for a damaged ciphertext a pseudo-random one (implicit rejection). All zeros if the library
    /// failed: the caller refuses those.
    fn decapsulate(&self, ciphertext: &KemCiphertext) -> Secret<32>;
}

/// An X25519 key pair, erased on drop.
pub trait DhKeyPair: Send + Sync {
    /// The public key.
    fn public(&self) -> &[u8; 32];
    /// X25519 (RFC 7748 §5) with a peer's public key. An all-zero result is for the caller to refuse.
    fn agree(&self, public: &[u8; 32]) -> Secret<32>;
}

/// The default provider: pure Rust, from the `RustCrypto` and dalek projects.
pub struct RustCrypto;

/// The provider used where none is named.
pub const DEFAULT: &dyn Provider = &RustCrypto;

impl Provider for RustCrypto {
    fn name(&self) -> &'static str {
        "rustcrypto"
    }

    fn packet_cipher(&self, suite: Suite, key: &Secret<32>) -> Box<dyn PacketCipher> {
        packet::cipher(suite, key)
    }

    fn with_single_use(&self, key: &[u8; 32], work: &mut dyn FnMut(&dyn PacketCipher)) {
        packet::with_single_use(key, work);
    }

    fn mask_cipher(&self, suite: Suite, key: &Secret<32>) -> Box<dyn MaskCipher> {
        packet::mask(suite, key)
    }

    fn kem_key_pair(&self, seed: &Secret<64>) -> Box<dyn KemKeyPair> {
        Box::new(key_agreement::MlKemKeyPair::new(seed))
    }

    fn kem_encapsulate(
        &self,
        key: &KemPublic,
        m: &Secret<32>,
    ) -> Result<(KemCiphertext, Secret<32>), InvalidKemKey> {
        key_agreement::kem_encapsulate(key, m)
    }

    fn x25519_key_pair(&self, secret: &Secret<32>) -> Arc<dyn DhKeyPair> {
        Arc::new(key_agreement::X25519KeyPair::new(secret))
    }
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    /// What the libraries keep for us, they erase.
    #[test]
    fn the_libraries_erase_their_keys() {
        fn erased<T: ZeroizeOnDrop>() {}
        erased::<chacha20poly1305::ChaCha20Poly1305>();
        erased::<chacha20poly1305::XChaCha20Poly1305>();
        erased::<chacha20::ChaChaCore<chacha20::R20, chacha20::variants::Ietf>>();
        erased::<super::packet::Aes256Gcm>();
        erased::<aes::Aes256Enc>();
        erased::<aes::Aes128>();
        erased::<ml_kem::ml_kem_768::DecapsulationKey>();
        erased::<ml_dsa::SigningKey<ml_dsa::MlDsa65>>();
        erased::<ed25519_dalek::SigningKey>();
        erased::<x25519_dalek::StaticSecret>();
        erased::<x25519_dalek::SharedSecret>();
    }
}
