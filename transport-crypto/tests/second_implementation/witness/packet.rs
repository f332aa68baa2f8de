//! Packets, masks and envelopes by hand.

use aes::{
    Aes128, Aes256,
    cipher::{BlockCipherEncrypt as _, KeyInit as _},
};
use aes_gcm::Aes256Gcm;
use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit as _, StreamCipher as _, StreamCipherSeek as _},
};
use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, XChaCha20Poly1305};

use super::{
    at,
    kdf::{expand, extract, hmac},
};

/// `iv xor (lane ‖ number)`.
pub(crate) fn nonce(iv: &[u8; 12], lane: u32, number: u64) -> [u8; 12] {
    let mut nonce = *iv;
    let counter = [&lane.to_be_bytes()[..], &number.to_be_bytes()].concat();
    nonce.iter_mut().zip(counter).for_each(|(to, from)| *to ^= from);
    nonce
}

/// Body and tag of a packet under the application secret of its generation; `aes` is suite 2.
pub(crate) fn seal(ap: &[u8; 32], aes: bool, lane: u32, number: u64, header: &[u8], body: &[u8]) -> Vec<u8> {
    let key: [u8; 32] = expand(ap, &[b"adit1 key"]);
    let nonce = nonce(&expand(ap, &[b"adit1 iv"]), lane, number).into();
    let mut out = body.to_vec();
    let sealed = if aes {
        Aes256Gcm::new(&key.into()).encrypt_inout_detached(&nonce, header, out.as_mut_slice().into())
    } else {
        ChaCha20Poly1305::new(&key.into()).encrypt_inout_detached(&nonce, header, out.as_mut_slice().into())
    };
    out.extend_from_slice(&sealed.unwrap());
    out
}

/// The mask over flags and packet number (RFC 9001 §5.4.3, §5.4.4) from generation 0's secret.
pub(crate) fn mask(ap_0: &[u8; 32], aes: bool, sample: [u8; 16]) -> [u8; 5] {
    let hp: [u8; 32] = expand(ap_0, &[b"adit1 hp"]);
    let mut mask = [0; 5];
    if aes {
        let mut block = sample.into();
        Aes256::new(&hp.into()).encrypt_block(&mut block);
        mask.copy_from_slice(&block[..5]);
    } else {
        let (counter, nonce) = sample.split_first_chunk().unwrap();
        let nonce: [u8; 12] = nonce.try_into().unwrap();
        let mut stream = ChaCha20::new(&hp.into(), &nonce.into());
        stream.seek(64 * u64::from(u32::from_le_bytes(*counter)));
        stream.apply_keystream(&mut mask);
    }
    mask
}

/// The mask over a connection id; `direction` is "c2s" or "s2c".
pub(crate) fn cid_mask(relay_id: &[u8; 32], grant: &[u8; 32], direction: &[u8], sample: [u8; 16]) -> [u8; 9] {
    let key: [u8; 16] = expand(&extract(b"adit1 hdr", &[relay_id, grant]), &[direction]);
    let mut block = sample.into();
    Aes128::new(&key.into()).encrypt_block(&mut block);
    block[..9].try_into().unwrap()
}

/// Keys of envelopes in one direction.
pub(crate) struct Envelope {
    outer: XChaCha20Poly1305,
    hint: Aes128,
}

impl Envelope {
    pub(crate) fn new(kh: &[u8; 32], epoch: u64, grant: &[u8; 32], direction: &[u8]) -> Self {
        let outer: [u8; 32] = expand(&extract(b"adit1 outer", &[kh, grant]), &[direction]);
        let hint: [u8; 16] = expand(
            &extract(b"adit1 hint", &[kh, grant, &epoch.to_be_bytes()]),
            &[direction],
        );
        Self {
            outer: XChaCha20Poly1305::new(&outer.into()),
            hint: Aes128::new(&hint.into()),
        }
    }

    /// A datagram of `size` bytes: `random` and the hint, then `plaintext` and zeros, encrypted.
    pub(crate) fn seal(&self, random: [u8; 20], plaintext: &[u8], size: usize) -> Vec<u8> {
        let mut block = *random.first_chunk::<16>().unwrap();
        self.hint.encrypt_block((&mut block).into());
        let nonce: [u8; 24] = [&random[..], &block[..4]].concat().try_into().unwrap();
        let mut body = plaintext.to_vec();
        body.resize(size - 24 - 16, 0);
        let tag = self
            .outer
            .encrypt_inout_detached(&nonce.into(), b"", body.as_mut_slice().into())
            .unwrap();
        [&nonce[..], &body, &tag].concat()
    }
}

/// An early packet: the number is its associated data.
pub(crate) fn seal_early(h1: &[u8; 32], rms: &[u8; 32], number: u32, frames: &[u8]) -> Vec<u8> {
    let early = extract(h1, &[rms]);
    seal(&early, false, 0, number.into(), &number.to_be_bytes(), frames)
}

/// A ticket over `content`.
pub(crate) fn seal_ticket(
    (id, key): &(u32, [u8; 32]),
    relay_id: &[u8; 32],
    nonce: [u8; 24],
    content: &[u8; 136],
) -> [u8; 180] {
    let mut body = *content;
    let tag = XChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(&nonce.into(), relay_id, body.as_mut_slice().into())
        .unwrap();
    let ticket = [&id.to_be_bytes()[..], &nonce, &body, &tag].concat();
    ticket.try_into().unwrap()
}

/// The content of a ticket.
pub(crate) fn open_ticket(key: &[u8; 32], relay_id: &[u8; 32], ticket: &[u8; 180]) -> Option<[u8; 136]> {
    let (nonce, mut body, tag): ([u8; 24], [u8; 136], [u8; 16]) =
        (at(ticket, 4), at(ticket, 28), at(ticket, 164));
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(&nonce.into(), relay_id, body.as_mut_slice().into(), &tag.into())
        .ok()?;
    Some(body)
}

/// An address token made at `unix_s`.
pub(crate) fn token(
    secret: &[u8; 32],
    unix_s: u32,
    relay_id: &[u8; 32],
    hid: &[u8; 8],
    ip16: [u8; 16],
    port: u16,
) -> [u8; 20] {
    let key = expand(secret, &[b"adit1 cookie key", &(unix_s / 120).to_be_bytes()]);
    let time = unix_s.to_be_bytes();
    let message = [b"adit1 ck", &hid[..], &ip16, &port.to_be_bytes(), &time, relay_id].concat();
    [&time[..], &hmac(&key, &message)[..16]]
        .concat()
        .try_into()
        .unwrap()
}
