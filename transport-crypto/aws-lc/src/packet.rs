//! Packet ciphers of both suites.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
};
use transport_crypto::{Forged, KeyExhausted, Secret, Suite, Tag, provider::PacketCipher};

/// The packet cipher of `suite`; the library erases it on drop.
pub(crate) fn cipher(suite: Suite, key: &Secret<32>) -> Result<Box<dyn PacketCipher>, Unspecified> {
    let algorithm = match suite {
        Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        Suite::Aes256Gcm => &AES_256_GCM,
    };
    let key = UnboundKey::new(algorithm, key.expose())?;
    Ok(Box::new(Aead(LessSafeKey::new(key))))
}

/// The packet cipher of suite 1 for one message; it needs no box of ours.
pub(crate) fn single_use(key: &[u8; 32]) -> Result<impl PacketCipher, Unspecified> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key)?;
    Ok(Aead(LessSafeKey::new(key)))
}

const TAG_LEN: usize = 16;

/// "Less safe": nonces are for the caller to keep apart, which `SealKeys` does.
struct Aead(LessSafeKey);

impl PacketCipher for Aead {
    fn seal(&self, nonce: &[u8; 12], header: &[u8], body: &mut [u8]) -> Result<Tag, KeyExhausted> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut tag = [0; 16];
        self.0
            .seal_in_place_scatter(nonce, Aad::from(header), body, &[], &mut tag)
            .map_err(|_| KeyExhausted::BodyTooLong)?;
        Ok(tag)
    }

    fn seal_from(
        &self,
        nonce: &[u8; 12],
        header: &[u8],
        sealed: &mut [u8],
        tail: &[u8],
    ) -> Result<(), KeyExhausted> {
        let begun = sealed.len().wrapping_sub(tail.len() + TAG_LEN);
        let place = sealed.get_mut(begun..).and_then(|end| end.get_mut(..tail.len()));
        let place = place.ok_or(KeyExhausted::BodyTooLong)?;
        // ChaCha20 from one place to another is 64 bytes a call in the library, slower than a copy.
        let (begun, tail) = if self.0.algorithm() == &CHACHA20_POLY1305 {
            place.copy_from_slice(tail);
            (begun + tail.len(), &[][..])
        } else {
            (begun, tail)
        };
        let (body, end) = sealed.split_at_mut(begun);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0
            .seal_in_place_scatter(nonce, Aad::from(header), body, tail, end)
            .map_err(|_| KeyExhausted::BodyTooLong)
    }

    fn open(&self, nonce: &[u8; 12], header: &[u8], body: &mut [u8], tag: &Tag) -> Result<(), Forged> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0
            .open_in_place_separate_tag(nonce, Aad::from(header), tag, body)
            .map(|_| ())
            .map_err(|_| Forged)
    }
}
