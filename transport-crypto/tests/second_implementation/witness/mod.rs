//! A second Adit, written from `docs/protocol.md` alone: Noise by `clatter`, ML-KEM by `fips203`, the layouts and the
//! key schedule by hand. It shares no line with `src/`; what it has in common with the first are the libraries of
//! packet ciphers and hashes, which `known_answers.rs` holds against published vectors.

#![allow(
    dead_code,
    reason = "each test binary that includes the witness calls a part of it"
)]

pub(crate) mod kdf;
pub(crate) mod noise;
pub(crate) mod packet;
pub(crate) mod peer;

use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit as _, StreamCipher as _},
};

/// The bytes both implementations draw from: the `ChaCha20` stream of a seed.
pub(crate) struct Draws(ChaCha20);

impl Draws {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20::new(&seed.into(), &[0; 12].into()))
    }

    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.apply_keystream(&mut out);
        out
    }
}

/// What a client reads in a bundle, by offset.
#[derive(Clone)]
pub(crate) struct Bundle {
    pub(crate) epoch: u64,
    pub(crate) x25519: [u8; 32],
    pub(crate) ml_kem: [u8; 1184],
    pub(crate) relay_id: [u8; 32],
    pub(crate) kh: [u8; 32],
}

impl Bundle {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        Self {
            epoch: u64::from_be_bytes(at(bytes, 8)),
            x25519: at(bytes, 36),
            ml_kem: at(bytes, 68),
            relay_id: kdf::sha256(&[b"adit1 relay", &bytes[1252..3204], &bytes[3204..3236]]),
            kh: kdf::sha256(&[b"adit1 kh", &bytes[36..1252]]),
        }
    }
}

/// `N` bytes at `from`.
pub(crate) fn at<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    bytes[from..from + N].try_into().unwrap()
}
