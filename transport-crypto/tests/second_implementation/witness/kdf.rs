//! HKDF and hashes straight from their crates.

use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

pub(crate) fn extract(salt: &[u8], ikm: &[&[u8]]) -> [u8; 32] {
    Hkdf::<Sha256>::extract(Some(salt), &ikm.concat()).0.into()
}

pub(crate) fn expand<const N: usize>(prk: &[u8; 32], info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    Hkdf::<Sha256>::from_prk(prk)
        .unwrap()
        .expand(&info.concat(), &mut out)
        .unwrap();
    out
}

/// The secrets of a connection, from the Noise split.
pub(crate) struct Secrets {
    pub(crate) client: [u8; 32],
    pub(crate) server: [u8; 32],
    pub(crate) exporter: [u8; 32],
    pub(crate) resumption: [u8; 32],
}

impl Secrets {
    pub(crate) fn new(h: &[u8; 32], k1: &[u8; 32], k2: &[u8; 32]) -> Self {
        let master = extract(h, &[k1, k2]);
        Self {
            client: expand(&master, &[b"adit1 c ap"]),
            server: expand(&master, &[b"adit1 s ap"]),
            exporter: expand(&master, &[b"adit1 exp"]),
            resumption: expand(&master, &[b"adit1 res"]),
        }
    }

    /// The secret of a ticket.
    pub(crate) fn rms(&self, serial: u64) -> [u8; 32] {
        expand(&self.resumption, &[b"tkt", &serial.to_be_bytes()])
    }

    pub(crate) fn export(&self, label: &[u8]) -> [u8; 32] {
        expand(&self.exporter, &[b"adit1 exported", label, &0u32.to_be_bytes()])
    }
}

/// HMAC-SHA-256 (RFC 2104).
pub(crate) fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(to, from)| *to ^= from);
        block
    };
    sha256(&[&pad(0x5c), &sha256(&[&pad(0x36), message])])
}

/// The application secret `generations` updates after `ap_0`.
pub(crate) fn updated(ap_0: &[u8; 32], generations: usize) -> [u8; 32] {
    (0..generations).fold(*ap_0, |ap, _| expand(&ap, &[b"adit1 ku"]))
}
