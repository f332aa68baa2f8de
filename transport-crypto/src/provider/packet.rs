//! Packet ciphers and header masks of both suites.

use aes::{
    Aes256Enc,
    cipher::{Array, BlockCipherEncrypt, KeyInit as _, StreamCipherCore},
};
use aes_gcm::AesGcm;
use chacha20::{ChaChaCore, KeyIvInit as _, R20, variants::Ietf};
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305};
use zeroize::Zeroize;

use super::{MaskCipher, PacketCipher};
use crate::{Forged, KeyExhausted, PacketMask, Sample, Secret, Suite, Tag};

/// AES-256-GCM without the decryption schedule, which counter mode never needs: 240 bytes of a key less, and half of its
/// expansion.
pub(super) type Aes256Gcm = AesGcm<Aes256Enc, U12>;

/// The packet cipher of `suite`.
pub(super) fn cipher(suite: Suite, key: &Secret<32>) -> Box<dyn PacketCipher> {
    let key = key.expose().into();
    match suite {
        Suite::ChaCha20Poly1305 => Box::new(Aead(ChaCha20Poly1305::new(key))),
        Suite::Aes256Gcm => Box::new(Aead(Aes256Gcm::new(key))),
    }
}

/// Gives `work` a cipher of suite 1 that lasts as long as the call.
pub(super) fn with_single_use(key: &[u8; 32], work: &mut dyn FnMut(&dyn PacketCipher)) {
    work(&Aead(ChaCha20Poly1305::new(key.into())));
}

/// The mask generator of `suite`.
pub(super) fn mask(suite: Suite, key: &Secret<32>) -> Box<dyn MaskCipher> {
    match suite {
        Suite::ChaCha20Poly1305 => Box::new(ChaChaMask(Secret::new(*key.expose()))),
        Suite::Aes256Gcm => Box::new(AesMask(Aes256Enc::new(key.expose().into()))),
    }
}

struct Aead<C>(C);

type U12 = chacha20poly1305::consts::U12;
type U16 = chacha20poly1305::consts::U16;

impl<C> PacketCipher for Aead<C>
where
    C: AeadInOut<NonceSize = U12, TagSize = U16> + Send + Sync,
{
    fn seal(&self, nonce: &[u8; 12], header: &[u8], body: &mut [u8]) -> Result<Tag, KeyExhausted> {
        let sealed = self.0.encrypt_inout_detached(nonce.into(), header, body.into());
        sealed.map(Into::into).map_err(|_| KeyExhausted::BodyTooLong)
    }

    fn open(&self, nonce: &[u8; 12], header: &[u8], body: &mut [u8], tag: &Tag) -> Result<(), Forged> {
        let opened = self
            .0
            .decrypt_inout_detached(nonce.into(), header, body.into(), tag.into());
        opened.map_err(|_| Forged)
    }
}

/// RFC 9001 §5.4.4: counter and nonce of one `ChaCha20` block come from the sample.
struct ChaChaMask(Secret<32>);

impl MaskCipher for ChaChaMask {
    fn masks(&self, samples: &[Sample], out: &mut [PacketMask]) {
        let key = self.0.expose().into();
        for ([c0, c1, c2, c3, nonce @ ..], mask) in samples.iter().zip(out) {
            let mut core = ChaChaCore::<R20, Ietf>::new(key, nonce.into());
            core.set_block_pos(u32::from_le_bytes([*c0, *c1, *c2, *c3]));
            let mut block = Array::default();
            core.write_keystream_block(&mut block);
            mask.iter_mut().zip(&block).for_each(|(to, from)| *to = *from);
            block.zeroize();
        }
    }
}

/// RFC 9001 §5.4.3: the sample encrypted as one block; eight blocks go through the cipher at a time.
struct AesMask(Aes256Enc);

impl MaskCipher for AesMask {
    fn masks(&self, samples: &[Sample], out: &mut [PacketMask]) {
        encrypt_by_batch(&self.0, samples, out);
    }
}

/// Blocks encrypted in one call: what AES instructions keep in flight.
const BATCH: usize = 16;

/// Encrypts each sample and keeps the first `N` bytes.
pub(super) fn encrypt_by_batch<C, const N: usize>(cipher: &C, samples: &[Sample], out: &mut [[u8; N]])
where
    C: BlockCipherEncrypt<BlockSize = U16>,
{
    for (samples, masks) in samples.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
        let mut blocks = [Array::default(); BATCH];
        for (block, sample) in blocks.iter_mut().zip(samples) {
            *block = Array::from(*sample);
        }
        let (used, _) = blocks.split_at_mut(samples.len().min(BATCH));
        cipher.encrypt_blocks(used);
        for (mask, block) in masks.iter_mut().zip(used) {
            mask.iter_mut()
                .zip(block.iter())
                .for_each(|(to, from)| *to = *from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let mut out = [0; N];
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap();
        }
        assert_eq!(text.len(), 2 * N);
        out
    }

    #[test]
    fn rfc_9001_a5_chacha20_packet() {
        let key = Secret::new(hex(
            "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8",
        ));
        let aead = cipher(Suite::ChaCha20Poly1305, &key);
        let mut body = [1u8];
        let tag = aead
            .seal(&hex("e0459b3474bdd0e46d417eb0"), &hex::<4>("4200bff4"), &mut body)
            .unwrap();
        assert_eq!((body, tag), (hex("65"), hex("5e5cd55c41f69080575d7999c25a5bfb")));

        let hp = Secret::new(hex(
            "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4",
        ));
        let mut masks = [[0; 5]];
        mask(Suite::ChaCha20Poly1305, &hp).masks(&[tag], &mut masks);
        assert_eq!(masks, [hex("aefefe7d03")]);
    }

    #[test]
    fn gcm_specification_test_case_14() {
        let aead = cipher(Suite::Aes256Gcm, &Secret::new([0; 32]));
        let mut body = [0u8; 16];
        let tag = aead.seal(&[0; 12], &[], &mut body).unwrap();
        assert_eq!(body, hex("cea7403d4d606b6e074ec5d3baf39d18"));
        assert_eq!(tag, hex("d0d1c8a799996bf0265b98b5d48ab919"));
    }

    #[test]
    fn fips_197_masks_in_every_batch_length() {
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let mask = mask(Suite::Aes256Gcm, &Secret::new(key));
        let sample = hex("00112233445566778899aabbccddeeff");
        for n in [0, 1, 15, 16, 17, 64] {
            let mut out = vec![[0; 5]; n];
            mask.masks(&vec![sample; n], &mut out);
            assert!(out.iter().all(|mask| *mask == hex("8ea2b7ca51")), "{n}");
        }
        let mut out = [[0; 5]; 2];
        mask.masks(&[sample], &mut out);
        assert_eq!(out[1], [0; 5]);
    }

    #[test]
    fn a_wrapping_counter_still_masks() {
        let mask = mask(Suite::ChaCha20Poly1305, &Secret::new([1; 32]));
        let mut out = [[0; 5]; 2];
        mask.masks(&[[0xff; 16], [0; 16]], &mut out);
        assert_ne!(out[0], out[1]);
        assert_ne!(out[0], [0; 5]);
    }
}
