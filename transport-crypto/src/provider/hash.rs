//! SHA-256 and HKDF-SHA-256 (FIPS 180-4, RFC 5869).

use hkdf::Hkdf;
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

/// HMAC-SHA-256 under one key (RFC 2104): what depends on the key alone is computed once. Boxed, so that moving it leaves no
/// key behind.
pub(crate) struct KeyedHash(Box<Hmac<Sha256>>);

impl KeyedHash {
    pub(crate) fn new(key: &Secret<32>) -> Self {
        // RFC 2104: a key shorter than a block is filled up with zeros.
        let mut block = Zeroizing::new([0; 64]);
        block
            .iter_mut()
            .zip(key.expose())
            .for_each(|(to, from)| *to = *from);
        Self(Box::new(Hmac::new((&*block).into())))
    }

    /// Over the concatenation of `parts`.
    pub(crate) fn of(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// HKDF-Extract over the concatenation of `ikm` (RFC 5869 §2.2).
pub(crate) fn extract(salt: &[u8], ikm: &[&[u8]]) -> Secret<32> {
    let mut extract = hkdf::HkdfExtract::<Sha256>::new(Some(salt));
    for part in ikm {
        extract.input_ikm(part);
    }
    Secret::new(extract.finalize().0.into())
}

/// HKDF-Expand with the concatenation of `info` (RFC 5869 §2.3). `out` is at most 255 × 32 bytes long.
pub(crate) fn expand(prk: &Secret<32>, info: &[&[u8]], out: &mut [u8]) {
    const { assert!(MAX_EXPAND == 255 * 32) };
    debug_assert!(out.len() <= MAX_EXPAND);
    // A 32-byte key is never too short and no caller asks for more than the bound, so neither can fail;
    // should it ever, `out` keeps no usable key.
    let done = Hkdf::<Sha256>::from_prk(prk.expose()).map(|hkdf| hkdf.expand_multi_info(info, out));
    assert!(
        matches!(done, Ok(Ok(()))),
        "HKDF lengths are fixed at compile time"
    );
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
        let prk = extract(&salt, &[&[0x0b; 10], &[0x0b; 12]]);
        assert_eq!(prk.expose()[..4], [0x07, 0x77, 0x09, 0x36]);
        let mut okm = [0; 42];
        expand(&prk, &[&info[..3], &info[3..]], &mut okm);
        assert_eq!(okm[..8], [0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a]);
        assert_eq!(okm[38..], [0x87, 0x18, 0x58, 0x65]);
    }

    #[test]
    fn rfc_4231_hmac() {
        // Test case 1, whose 20-byte key is ours filled up with zeros (RFC 2104).
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let keyed = KeyedHash::new(&Secret::new(key));
        let mac = keyed.of(&[b"Hi ", b"There"]);
        assert_eq!(mac, keyed.of(&[b"Hi There"]), "a key serves again");
        assert_eq!(mac[..8], [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53]);
        assert_eq!(mac[28..], [0x2e, 0x32, 0xcf, 0xf7]);
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
