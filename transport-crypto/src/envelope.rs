//! The outer envelope of handshake datagrams: uniform bytes to everyone without the bundle.
//!
//! ```text
//!  0  24  xnonce = r[20] ‖ AES-128(K_hint, r[0..16])[0..4]
//! 24   n  XChaCha20-Poly1305(K_out, xnonce)( header 22 ‖ [token 20] ‖ fragment ‖ zero padding )
//! end 16  tag
//! header: 0 type | 1 version | 2 hid[8] | 10 unix_minutes u32 | 14 index << 4 | count | 15 total_len u16
//!        17 fragment_offset u16 | 19 fragment_len u16 | 21 token_len (0 or 20)       all big-endian
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use subtle::ConstantTimeEq;

use crate::{
    Direction, Entropy, EnvelopeError, Forged, Grant, Secret,
    kdf::label,
    provider::{
        self, Provider,
        hash::Prk,
        symmetric::{Block128, LongNonceCipher},
    },
};

/// Bytes an envelope without a token adds to its fragment.
pub const ENVELOPE_OVERHEAD: usize = NONCE + HEADER + TAG;
/// No shorter datagram is an envelope.
pub const ENVELOPE_MIN: usize = 64;
/// No longer datagram is an envelope.
pub const ENVELOPE_MAX: usize = 2048;

const NONCE: usize = 24;
const HEADER: usize = 22;
const TAG: usize = 16;
const TOKEN: usize = 20;
const VERSION: u8 = 1;

/// What a handshake datagram carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EnvelopeType {
    /// A fragment of the client's message.
    ClientHello = 1,
    /// An address token.
    Retry = 2,
    /// A fragment of the relay's message.
    ServerHello = 3,
    /// Data sent before the handshake is complete.
    Early = 4,
    /// The relay will not answer; only a hint.
    HandshakeClose = 5,
}

impl EnvelopeType {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::ClientHello,
            2 => Self::Retry,
            3 => Self::ServerHello,
            4 => Self::Early,
            5 => Self::HandshakeClose,
            _ => return None,
        })
    }
}

/// The header inside an envelope: which handshake, which fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeHeader {
    /// What the fragment is part of.
    pub kind: EnvelopeType,
    /// The client's random name for this handshake.
    pub hid: [u8; 8],
    /// The sender's clock, in minutes since the Unix epoch.
    pub unix_minutes: u32,
    /// Number of this fragment, below `count`.
    pub index: u8,
    /// Fragments of the message, 1 to 15.
    pub count: u8,
    /// Length of the whole message.
    pub total_len: u16,
    /// Where this fragment belongs in the message.
    pub fragment_offset: u16,
    /// Length of this fragment.
    pub fragment_len: u16,
    /// The address token, if the relay gave one.
    pub token: Option<[u8; TOKEN]>,
}

impl EnvelopeHeader {
    /// The fragment lies inside the message and is one of its fragments.
    fn is_consistent(&self) -> bool {
        let end = u32::from(self.fragment_offset) + u32::from(self.fragment_len);
        self.index < self.count && self.count <= 15 && end <= u32::from(self.total_len)
    }

    fn encode(&self) -> [u8; HEADER] {
        let [h0, h1, h2, h3, h4, h5, h6, h7] = self.hid;
        let [m0, m1, m2, m3] = self.unix_minutes.to_be_bytes();
        let [t0, t1] = self.total_len.to_be_bytes();
        let [o0, o1] = self.fragment_offset.to_be_bytes();
        let [l0, l1] = self.fragment_len.to_be_bytes();
        let fragment = self.index << 4 | self.count;
        let token = if self.token.is_some() { TOKEN as u8 } else { 0 };
        [
            self.kind as u8,
            VERSION,
            h0,
            h1,
            h2,
            h3,
            h4,
            h5,
            h6,
            h7,
            m0,
            m1,
            m2,
            m3,
            fragment,
            t0,
            t1,
            o0,
            o1,
            l0,
            l1,
            token,
        ]
    }

    /// The header and what follows it and its token.
    fn decode(plaintext: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = plaintext.split_first_chunk::<HEADER>()?;
        let [
            kind,
            version,
            h0,
            h1,
            h2,
            h3,
            h4,
            h5,
            h6,
            h7,
            m0,
            m1,
            m2,
            m3,
            fragment,
            t0,
            t1,
            o0,
            o1,
            l0,
            l1,
            token_len,
        ] = *header;
        let (token, rest) = match usize::from(token_len) {
            0 => (None, rest),
            TOKEN => rest
                .split_first_chunk()
                .map(|(token, rest)| (Some(*token), rest))?,
            _ => return None,
        };
        let header = Self {
            kind: EnvelopeType::from_byte(kind)?,
            hid: [h0, h1, h2, h3, h4, h5, h6, h7],
            unix_minutes: u32::from_be_bytes([m0, m1, m2, m3]),
            index: fragment >> 4,
            count: fragment & 15,
            total_len: u16::from_be_bytes([t0, t1]),
            fragment_offset: u16::from_be_bytes([o0, o1]),
            fragment_len: u16::from_be_bytes([l0, l1]),
            token,
        };
        (version == VERSION && header.is_consistent()).then_some((header, rest))
    }
}

/// What an envelope says of itself before anybody has checked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeClaims {
    /// Number of the fragment.
    pub index: u8,
    /// It carries an address token.
    pub token: bool,
}

/// The keys of one bundle epoch and one grant, both directions.
pub struct EnvelopeKeys([HalfKeys; 2]);

struct HalfKeys {
    outer: LongNonceCipher,
    hint: Block128,
}

impl EnvelopeKeys {
    /// From the hash of the relay's static keys, the bundle's epoch and the group's secret.
    pub fn new(kh: &[u8; 32], epoch: u64, grant: &Grant) -> Self {
        Self::with_provider(provider::DEFAULT, kh, epoch, grant)
    }

    /// As [`Self::new`], with the primitives of `provider`.
    pub fn with_provider(provider: &'static dyn Provider, kh: &[u8; 32], epoch: u64, grant: &Grant) -> Self {
        let outer = Prk::extract(label::OUTER, &[kh, grant.expose()]);
        let hint = Prk::extract(label::HINT, &[kh, grant.expose(), &epoch.to_be_bytes()]);
        Self(Direction::both(|direction| {
            let outer_key: Secret<32> = outer.expand(&[direction.label()]);
            let hint_key: Secret<16> = hint.expand(&[direction.label()]);
            HalfKeys {
                outer: LongNonceCipher::new(provider, &outer_key),
                hint: Block128::new(&hint_key),
            }
        }))
    }

    /// Whether `datagram` looks made with these keys, for the price of one AES block. A wrong yes happens once
    /// in 2^32 and costs one failed [`Self::open`].
    pub fn recognises(&self, direction: Direction, datagram: &[u8]) -> bool {
        if !(ENVELOPE_MIN..=ENVELOPE_MAX).contains(&datagram.len()) {
            return false;
        }
        let Some(([random @ .., h0, h1, h2, h3], _)) = datagram.split_first_chunk::<NONCE>() else {
            return false;
        };
        direction
            .of(&self.0)
            .hint(random)
            .ct_eq(&[*h0, *h1, *h2, *h3])
            .into()
    }

    /// What the header of `datagram` claims, at a seventh of the price of [`Self::open`] and without any proof: good for turning
    /// away, never for letting in.
    pub fn claims(&self, direction: Direction, datagram: &[u8]) -> Option<EnvelopeClaims> {
        let (nonce, rest) = datagram.split_first_chunk::<NONCE>()?;
        let (sealed, _) = rest.split_first_chunk::<HEADER>()?;
        let mut header = *sealed;
        direction.of(&self.0).outer.peek(nonce, &mut header);
        let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, fragment, .., token_len] = header;
        Some(EnvelopeClaims {
            index: fragment >> 4,
            token: token_len != 0,
        })
    }

    /// Opens `datagram` in place: the header and the fragment. Every refusal looks the same.
    pub fn open<'a>(
        &self,
        direction: Direction,
        datagram: &'a mut [u8],
    ) -> Result<(EnvelopeHeader, &'a [u8]), Forged> {
        if !(ENVELOPE_MIN..=ENVELOPE_MAX).contains(&datagram.len()) {
            return Err(Forged);
        }
        let (nonce, rest) = datagram.split_first_chunk_mut::<NONCE>().ok_or(Forged)?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(Forged)?;
        direction.of(&self.0).outer.open(nonce, &[], body, tag)?;
        let (header, rest) = EnvelopeHeader::decode(body).ok_or(Forged)?;
        let (fragment, padding) = rest.split_at_checked(header.fragment_len.into()).ok_or(Forged)?;
        if padding.iter().fold(0, |any, byte| any | byte) != 0 {
            return Err(Forged);
        }
        Ok((header, fragment))
    }

    /// Appends one datagram of exactly `size` bytes to `out`, padded with zeros inside the encryption.
    ///
    /// `size` lies between [`ENVELOPE_MIN`] and [`ENVELOPE_MAX`] and leaves room for the fragment. On failure
    /// `out` is as before.
    pub fn seal(
        &self,
        direction: Direction,
        header: &EnvelopeHeader,
        fragment: &[u8],
        size: usize,
        rng: &mut dyn Entropy,
        out: &mut Vec<u8>,
    ) -> Result<(), EnvelopeError> {
        if usize::from(header.fragment_len) != fragment.len() || !header.is_consistent() {
            return Err(EnvelopeError::Header);
        }
        let token: &[u8] = header.token.as_ref().map_or(&[], |token| token);
        let used = ENVELOPE_OVERHEAD + token.len() + fragment.len();
        if !(ENVELOPE_MIN..=ENVELOPE_MAX).contains(&size) || used > size {
            return Err(EnvelopeError::Size);
        }
        let keys = direction.of(&self.0);
        let nonce = keys.nonce(rng)?;
        let start = out.len();
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(token);
        out.extend_from_slice(fragment);
        out.resize(start + size - TAG, 0);
        let sealed = out
            .get_mut(start + NONCE..)
            .and_then(|body| keys.outer.seal(&nonce, &[], body));
        match sealed {
            Some(tag) => out.extend_from_slice(&tag),
            None => out.truncate(start),
        }
        sealed.map(|_| ()).ok_or(EnvelopeError::Size)
    }
}

impl HalfKeys {
    fn nonce(&self, rng: &mut dyn Entropy) -> Result<[u8; NONCE], EnvelopeError> {
        let mut nonce = [0; NONCE];
        let [random @ .., h0, h1, h2, h3] = &mut nonce;
        rng.fill(random).map_err(|_| EnvelopeError::EntropyFailed)?;
        [*h0, *h1, *h2, *h3] = self.hint(random);
        Ok(nonce)
    }

    fn hint(&self, random: &[u8; 20]) -> [u8; 4] {
        let [sample @ .., _, _, _, _] = random;
        let mut hint = [[0; 4]];
        self.hint.masks(&[*sample], &mut hint);
        let [hint] = hint;
        hint
    }
}

#[cfg(test)]
mod tests;
