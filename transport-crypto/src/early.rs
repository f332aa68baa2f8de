//! Protection of early data: data a resuming client sends before the relay has answered (the role of RFC 8446 §2.3).
//!
//! ```text
//! early = Extract(salt = h1, ikm = rms)     key, iv = Expand(early, "adit1 key" | "adit1 iv")
//! nonce = iv xor ( 0 u32 ‖ number u64 )     ad = number u32
//! ```
//!
//! `h1` is the transcript hash of the client's message, so that every attempt has keys of its own. The cipher is always
//! `ChaCha20-Poly1305`: the suite is chosen by the relay, later. Early data can be replayed and is not forward secret
//! against theft of the relay's ticket keys; whoever accepts it must know.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use crate::{
    Counter, Forged, KeyExhausted, Secret, Suite,
    kdf::label,
    provider::{Provider, hash::Prk},
    schedule::PacketKey,
};

/// Bytes [`EarlySeal::seal`] adds.
pub const EARLY_OVERHEAD: usize = 16;

/// Seals early data: the client's.
pub struct EarlySeal {
    key: PacketKey,
    next: Option<u32>,
}

/// Opens early data: the relay's.
pub struct EarlyOpen(PacketKey);

fn derive(provider: &dyn Provider, h1: &[u8; 32], rms: &Secret<32>) -> PacketKey {
    let early = Prk::extract(h1, &[rms.expose()]);
    let key = early.expand(&[label::KEY]);
    PacketKey {
        cipher: provider.packet_cipher(Suite::ChaCha20Poly1305, &key),
        iv: early.expand(&[label::IV]),
    }
}

fn counter(number: u32) -> Counter {
    Counter {
        lane: 0,
        number: number.into(),
    }
}

impl EarlySeal {
    pub(crate) fn new(provider: &dyn Provider, h1: &[u8; 32], rms: &Secret<32>) -> Self {
        Self {
            key: derive(provider, h1, rms),
            next: Some(0),
        }
    }

    /// Encrypts `frames` in place and appends the tag. Numbers must rise; one that does not is refused before anything is
    /// encrypted.
    pub fn seal(&mut self, number: u32, frames: &mut Vec<u8>) -> Result<(), KeyExhausted> {
        if self.next.is_none_or(|next| number < next) {
            return Err(KeyExhausted::CounterReused);
        }
        self.next = number.checked_add(1);
        let nonce = counter(number).nonce(&self.key.iv);
        let tag = self.key.cipher.seal(&nonce, &number.to_be_bytes(), frames)?;
        frames.extend_from_slice(&tag);
        Ok(())
    }
}

impl EarlyOpen {
    pub(crate) fn new(provider: &dyn Provider, h1: &[u8; 32], rms: &Secret<32>) -> Self {
        Self(derive(provider, h1, rms))
    }

    /// Verifies and decrypts `sealed` (ciphertext and tag) in place. Whether the number was seen before is for the caller.
    pub fn open<'a>(&self, number: u32, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Forged> {
        let (body, tag) = sealed.split_last_chunk_mut::<EARLY_OVERHEAD>().ok_or(Forged)?;
        let nonce = counter(number).nonce(&self.0.iv);
        self.0.cipher.open(&nonce, &number.to_be_bytes(), body, tag)?;
        Ok(body)
    }
}
