//! SHA-256 and HKDF-SHA-256 (FIPS 180-4, RFC 5869).

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::Secret;

/// SHA-256 over the concatenation of `parts`.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// An incremental SHA-256, for the Noise library.
#[derive(Default)]
pub(crate) struct RunningHash(Sha256);

impl RunningHash {
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    pub(crate) fn finish(&mut self) -> [u8; 32] {
        self.0.finalize_reset().into()
    }
}

/// HMAC-SHA-256 under one key (RFC 2104): what depends on the key alone, two blocks, is hashed once. Boxed, so that moving it
/// leaves no key behind.
pub(crate) struct KeyedHash(Box<Hmac<Sha256>>);

impl KeyedHash {
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut block = Zeroizing::new([0; 64]);
        fill_up(key, &mut block);
        Self(Box::new(Hmac::new((&*block).into())))
    }

    /// Over the concatenation of `parts`, with a key that is used once.
    fn once(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut block = Zeroizing::new([0; 64]);
        fill_up(key, &mut block);
        let mut mac = Hmac::<Sha256>::new((&*block).into());
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Over the concatenation of `parts`.
    pub(crate) fn of(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.of_all(parts.iter().copied())
    }

    fn of_all<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut mac = (*self.0).clone();
        parts.for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

/// RFC 2104: a key shorter than a block is filled up with zeros, a longer one is hashed.
fn fill_up(key: &[u8], block: &mut [u8; 64]) {
    match block.get_mut(..key.len()) {
        Some(front) => front.copy_from_slice(key),
        None => block
            .iter_mut()
            .zip(sha256(&[key]))
            .for_each(|(to, from)| *to = from),
    }
}

/// A key of HKDF-SHA-256 (RFC 5869), from which several values are expanded.
pub(crate) struct Prk(KeyedHash);

impl Prk {
    /// HKDF-Extract over the concatenation of `ikm` (RFC 5869 §2.2).
    pub(crate) fn extract(salt: &[u8], ikm: &[&[u8]]) -> Self {
        let prk = Zeroizing::new(KeyedHash::once(salt, ikm));
        Self(KeyedHash::new(&*prk))
    }

    /// The key `secret`.
    pub(crate) fn of(secret: &Secret<32>) -> Self {
        Self(KeyedHash::new(secret.expose()))
    }

    /// HKDF-Expand with the concatenation of `info` (RFC 5869 §2.3). `out` is at most 255 × 32 bytes long.
    pub(crate) fn fill(&self, info: &[&[u8]], out: &mut [u8]) {
        assert!(out.len() <= MAX_EXPAND, "HKDF lengths are fixed at compile time");
        let mut block = Zeroizing::new([0; 32]);
        for (number, chunk) in (1..=u8::MAX).zip(out.chunks_mut(block.len())) {
            let before: &[u8] = if number == 1 { &[] } else { &*block };
            let parts = [before].into_iter().chain(info.iter().copied());
            *block = self.0.of_all(parts.chain([&[number][..]]));
            chunk.iter_mut().zip(&*block).for_each(|(to, from)| *to = *from);
        }
    }
}

/// The longest output of one HKDF-Expand with SHA-256.
pub(crate) const MAX_EXPAND: usize = 8160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_5869_test_case_1() {
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let extracted = Prk::extract(&salt, &[&[0x0b; 10], &[0x0b; 12]]);
        let known = [
            0x07, 0x77, 0x09, 0x36, 0x2c, 0x2e, 0x32, 0xdf, 0x0d, 0xdc, 0x3f, 0x0d, 0xc4, 0x7b, 0xba, 0x63,
            0x90, 0xb6, 0xc7, 0x3b, 0xb5, 0x0f, 0x9c, 0x31, 0x22, 0xec, 0x84, 0x4a, 0xd7, 0xc2, 0xb3, 0xe5,
        ];
        for prk in [extracted, Prk::of(&Secret::new(known))] {
            let mut okm = [0; 42];
            prk.fill(&[&info[..3], &info[3..]], &mut okm);
            assert_eq!(okm[..8], [0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a]);
            assert_eq!(okm[38..], [0x87, 0x18, 0x58, 0x65]);
        }
    }

    #[test]
    fn rfc_4231_hmac() {
        // Test case 1, whose 20-byte key is ours filled up with zeros (RFC 2104).
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let keyed = KeyedHash::new(&key);
        let mac = keyed.of(&[b"Hi ", b"There"]);
        assert_eq!(mac, keyed.of(&[b"Hi There"]), "a key serves again");
        assert_eq!(mac, KeyedHash::once(&key, &[b"Hi There"]));
        assert_eq!(mac[..8], [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53]);
        assert_eq!(mac[28..], [0x2e, 0x32, 0xcf, 0xf7]);
        // Test case 6: a key longer than a block.
        let mac =
            KeyedHash::new(&[0xaa; 131]).of(&[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(mac[..8], [0x60, 0xe4, 0x31, 0x59, 0x1e, 0xe0, 0xb6, 0x7f]);
    }

    #[test]
    fn sha256_of_parts_is_sha256_of_the_whole() {
        // FIPS 180-4 example "abc".
        assert_eq!(sha256(&[b"a", b"", b"bc"])[..4], [0xba, 0x78, 0x16, 0xbf]);
        let mut running = RunningHash::default();
        running.update(b"ab");
        running.update(b"c");
        assert_eq!(running.finish(), sha256(&[b"abc"]));
        assert_eq!(running.finish(), sha256(&[]));
    }
}
