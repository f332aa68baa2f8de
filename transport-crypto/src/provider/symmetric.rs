//! Relay-wide and handshake ciphers: envelopes, hints, connection-id masks, the seeded stream.

use aes::{
    Aes128,
    cipher::{KeyInit as _, StreamCipher as _},
};
use chacha20::{ChaCha20, KeyIvInit as _, R20, XChaCha20, cipher::StreamCipherSeek as _, hchacha};
use zeroize::Zeroize as _;

use super::{PacketCipher, Provider, packet::encrypt_by_batch};
use crate::{EntropyFailed, Forged, Sample, Secret, Tag};

/// AES-128 as a mask generator and hint (FIPS 197).
pub(crate) struct Block128(Aes128);

impl Block128 {
    pub(crate) fn new(key: &Secret<16>) -> Self {
        Self(Aes128::new(key.expose().into()))
    }

    /// The first `N` bytes of each encrypted sample.
    pub(crate) fn masks<const N: usize>(&self, samples: &[Sample], out: &mut [[u8; N]]) {
        encrypt_by_batch(&self.0, samples, out);
    }
}

/// `XChaCha20-Poly1305` (draft-irtf-cfrg-xchacha-03): nonces long enough to be drawn at random. What seals is the provider's
/// `ChaCha20-Poly1305`, under a key of each nonce's own.
pub(crate) struct LongNonceCipher {
    provider: &'static dyn Provider,
    key: Secret<32>,
}

/// Where the key stream of a message begins: the block before makes the key of its tag (RFC 8439 §2.8).
const FIRST_BYTE: u64 = 64;

impl LongNonceCipher {
    pub(crate) fn new(provider: &'static dyn Provider, key: &Secret<32>) -> Self {
        let key = key.duplicate();
        Self { provider, key }
    }

    /// The same key with other primitives.
    pub(crate) fn use_provider(&mut self, provider: &'static dyn Provider) {
        self.provider = provider;
    }

    /// Gives `work` the cipher of `nonce`, and the nonce it is to be used with, once (§2.3).
    fn with<R>(
        &self,
        nonce: &[u8; 24],
        mut work: impl FnMut(&dyn PacketCipher, &[u8; 12]) -> R,
    ) -> Option<R> {
        let [first @ .., n0, n1, n2, n3, n4, n5, n6, n7] = nonce;
        let rest = [0, 0, 0, 0, *n0, *n1, *n2, *n3, *n4, *n5, *n6, *n7];
        let mut key = hchacha::<R20>(self.key.expose().into(), first.into());
        let mut result = None;
        self.provider.with_single_use(key.as_ref(), &mut |cipher| {
            result = Some(work(cipher, &rest));
        });
        key.as_mut_slice().zeroize();
        result
    }

    /// Decrypts the beginning of a body, for the price of two blocks and without any proof that it is genuine.
    pub(crate) fn peek(&self, nonce: &[u8; 24], beginning: &mut [u8]) {
        let mut stream = XChaCha20::new(self.key.expose().into(), nonce.into());
        stream.seek(FIRST_BYTE);
        stream.apply_keystream(beginning);
    }

    /// Encrypts `body` in place. `None` only for bodies no datagram can hold.
    pub(crate) fn seal(&self, nonce: &[u8; 24], ad: &[u8], body: &mut [u8]) -> Option<Tag> {
        self.with(nonce, |cipher, nonce| cipher.seal(nonce, ad, body).ok())?
    }

    /// Verifies, then decrypts `body` in place.
    pub(crate) fn open(&self, nonce: &[u8; 24], ad: &[u8], body: &mut [u8], tag: &Tag) -> Result<(), Forged> {
        self.with(nonce, |cipher, nonce| cipher.open(nonce, ad, body, tag))
            .unwrap_or(Err(Forged))
    }
}

/// The `ChaCha20` stream behind [`crate::SeededEntropy`].
pub(crate) struct KeyStream(ChaCha20);

impl KeyStream {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20::new(key.into(), &[0; 12].into()))
    }

    pub(crate) fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFailed> {
        out.fill(0);
        self.0.try_apply_keystream(out).map_err(|_| EntropyFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fips_197_aes_128() {
        let key: [u8; 16] = std::array::from_fn(|i| i as u8);
        let sample: Sample = std::array::from_fn(|i| (i * 0x11) as u8);
        let mut out = [[0u8; 9]];
        Block128::new(&Secret::new(key)).masks(&[sample], &mut out);
        assert_eq!(out, [[0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30, 0xd8]]);
    }

    #[test]
    fn long_nonce_cipher_refuses_every_bit_flip() {
        let cipher = LongNonceCipher::new(crate::provider::DEFAULT, &Secret::new([9; 32]));
        let mut body = *b"fragment";
        let tag = cipher.seal(&[1; 24], b"ad", &mut body).unwrap();
        for bit in 0..(8 * body.len()) {
            let mut bad = body;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cipher.open(&[1; 24], b"ad", &mut bad, &tag), Err(Forged));
        }
        assert_eq!(cipher.open(&[2; 24], b"ad", &mut body.clone(), &tag), Err(Forged));
        assert_eq!(cipher.open(&[1; 24], b"", &mut body.clone(), &tag), Err(Forged));
        let mut beginning = [body[0], body[1], body[2]];
        cipher.peek(&[1; 24], &mut beginning);
        assert_eq!(&beginning, b"fra");
        cipher.open(&[1; 24], b"ad", &mut body, &tag).unwrap();
        assert_eq!(&body, b"fragment");
    }
}
