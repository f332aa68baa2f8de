//! The two messages, at fixed offsets, all integers big-endian.
//!
//! ```text
//! CH: 0 mode = 0 | 1 kem_suite = 1 | 2 flags u16 (1: has AES) | 4 epoch u64 | 12 ct_s[1088] | 1100 Noise message 1
//!     payload 1: 0 time_ms u64 | 8 scid_len = 9 | 9 scid[9] | 18 ek_e[1184] | 1202 auth | 1203 params | [ek_c[1184]]
//! SH: 0 status = 1 | 1 flags (1: ct_c, 8: suite 2) | 2 ct_e[1088] | [ct_c[1088]] | Noise message 2
//!     payload 2: 0 server_time_ms u64 | 8 n (1 to 8) | 9 relay_cids[9 · n] | params
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

use crate::{
    HandshakeFailure, Suite,
    provider::{KemCiphertext, KemPublic},
};

/// Longest parameter block of either message.
pub const MAX_PARAMS: usize = 512;
/// Longest client message: what a relay holds for a stranger.
pub const MAX_CLIENT_HELLO: usize = 4096;
/// Most connection ids a relay gives in its message.
pub const MAX_RELAY_CIDS: usize = 8;

/// Length of the fixed head of the client's message; it enters the prologue.
pub(super) const CLIENT_HEAD: usize = 12;
const MODE_FULL: u8 = 0;
const KEM_SUITE: u8 = 1;
const CLIENT_HAS_AES: u16 = 1;
const STATUS_FULL: u8 = 1;
const SERVER_CT_C: u8 = 1;
const SERVER_SUITE_2: u8 = 8;
const CID: usize = 9;
const AUTH_ANONYMOUS: u8 = 0;
const AUTH_ENROLLED: u8 = 1;

/// What Noise adds to payload 1: `e`, the sealed `s`, the tag.
pub(super) const NOISE_1: usize = 32 + 48 + 16;
/// What Noise adds to payload 2: `e` and the tag.
pub(super) const NOISE_2: usize = 32 + 16;

const _: () = assert!(
    CLIENT_HEAD + size_of::<KemCiphertext>() + NOISE_1 + PAYLOAD_1 + MAX_PARAMS + size_of::<KemPublic>()
        <= MAX_CLIENT_HELLO
);
/// Payload 1 without parameters and `ek_c`.
const PAYLOAD_1: usize = 8 + 1 + CID + size_of::<KemPublic>() + 1;

/// The client's message, taken apart.
pub(super) struct ClientBody<'a> {
    pub(super) head: &'a [u8; CLIENT_HEAD],
    pub(super) has_aes: bool,
    pub(super) epoch: u64,
    pub(super) ct_s: &'a KemCiphertext,
    pub(super) noise: &'a [u8],
}

/// The first twelve bytes of the client's message.
pub(super) fn client_head(has_aes: bool, epoch: u64) -> [u8; CLIENT_HEAD] {
    let [f0, f1] = if has_aes { CLIENT_HAS_AES } else { 0 }.to_be_bytes();
    let [e0, e1, e2, e3, e4, e5, e6, e7] = epoch.to_be_bytes();
    [MODE_FULL, KEM_SUITE, f0, f1, e0, e1, e2, e3, e4, e5, e6, e7]
}

impl<'a> ClientBody<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, HandshakeFailure> {
        if body.len() > MAX_CLIENT_HELLO {
            return Err(HandshakeFailure::Malformed("client message too long"));
        }
        let short = HandshakeFailure::Malformed("client message too short");
        let (head, rest) = body.split_first_chunk::<CLIENT_HEAD>().ok_or(short)?;
        let (ct_s, noise) = rest.split_first_chunk().ok_or(short)?;
        if noise.len() < NOISE_1 + PAYLOAD_1 {
            return Err(short);
        }
        let [mode, kem_suite, f0, f1, epoch @ ..] = head;
        if *mode != MODE_FULL {
            return Err(HandshakeFailure::UnsupportedMode(*mode));
        }
        if *kem_suite != KEM_SUITE {
            return Err(HandshakeFailure::UnsupportedKemSuite(*kem_suite));
        }
        let flags = u16::from_be_bytes([*f0, *f1]);
        if flags & !CLIENT_HAS_AES != 0 {
            return Err(HandshakeFailure::Malformed("unknown client flags"));
        }
        Ok(Self {
            head,
            has_aes: flags & CLIENT_HAS_AES != 0,
            epoch: u64::from_be_bytes(*epoch),
            ct_s,
            noise,
        })
    }
}

/// What the client says under encryption.
pub(super) struct Payload1<'a> {
    pub(super) time_ms: u64,
    pub(super) scid: [u8; CID],
    pub(super) ek_e: &'a KemPublic,
    pub(super) ek_c: Option<&'a KemPublic>,
    pub(super) params: &'a [u8],
}

impl<'a> Payload1<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let ek_c: &[u8] = self.ek_c.map_or(&[], |ek_c| ek_c);
        let auth = if self.ek_c.is_some() {
            AUTH_ENROLLED
        } else {
            AUTH_ANONYMOUS
        };
        let time_ms = self.time_ms.to_be_bytes();
        let parts: [&[u8]; 7] = [
            &time_ms,
            &[CID as u8],
            &self.scid,
            self.ek_e,
            &[auth],
            self.params,
            ek_c,
        ];
        parts.concat()
    }

    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, HandshakeFailure> {
        let short = HandshakeFailure::Malformed("client payload too short");
        let (time_ms, rest) = payload.split_first_chunk().ok_or(short)?;
        let ([scid_len, scid @ ..], rest) = rest.split_first_chunk::<{ 1 + CID }>().ok_or(short)?;
        let (ek_e, rest) = rest.split_first_chunk().ok_or(short)?;
        let ([auth], rest) = rest.split_first_chunk().ok_or(short)?;
        if usize::from(*scid_len) != CID {
            return Err(HandshakeFailure::Malformed("client connection id"));
        }
        let (params, ek_c) = match *auth {
            AUTH_ANONYMOUS => (rest, None),
            AUTH_ENROLLED => {
                let (params, ek_c) = rest.split_last_chunk().ok_or(short)?;
                (params, Some(ek_c))
            }
            other => return Err(HandshakeFailure::UnsupportedAuth(other)),
        };
        if params.len() > MAX_PARAMS {
            return Err(HandshakeFailure::Malformed("client parameters too long"));
        }
        Ok(Self {
            time_ms: u64::from_be_bytes(*time_ms),
            scid: *scid,
            ek_e,
            ek_c,
            params,
        })
    }
}

/// The relay's message, taken apart.
pub(super) struct ServerBody<'a> {
    pub(super) head: [u8; 2],
    pub(super) suite: Suite,
    pub(super) ct_e: &'a KemCiphertext,
    pub(super) ct_c: Option<&'a KemCiphertext>,
    pub(super) noise: &'a [u8],
}

/// The first two bytes of the relay's message.
pub(super) fn server_head(suite: Suite, enrolled: bool) -> [u8; 2] {
    let suite = if suite == Suite::Aes256Gcm {
        SERVER_SUITE_2
    } else {
        0
    };
    [STATUS_FULL, suite | if enrolled { SERVER_CT_C } else { 0 }]
}

impl<'a> ServerBody<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, HandshakeFailure> {
        let short = HandshakeFailure::Malformed("server message too short");
        let (head, rest) = body.split_first_chunk().ok_or(short)?;
        let [status, flags] = *head;
        if status != STATUS_FULL {
            return Err(HandshakeFailure::UnsupportedMode(status));
        }
        if flags & !(SERVER_CT_C | SERVER_SUITE_2) != 0 {
            return Err(HandshakeFailure::Malformed("unknown server flags"));
        }
        let (ct_e, rest) = rest.split_first_chunk().ok_or(short)?;
        let (ct_c, noise) = if flags & SERVER_CT_C == 0 {
            (None, rest)
        } else {
            rest.split_first_chunk()
                .map(|(ct_c, rest)| (Some(ct_c), rest))
                .ok_or(short)?
        };
        if !(NOISE_2 + 9 + CID..=NOISE_2 + 9 + CID * MAX_RELAY_CIDS + MAX_PARAMS).contains(&noise.len()) {
            return Err(HandshakeFailure::Malformed("server message length"));
        }
        let suite = if flags & SERVER_SUITE_2 == 0 {
            Suite::ChaCha20Poly1305
        } else {
            Suite::Aes256Gcm
        };
        Ok(Self {
            head: *head,
            suite,
            ct_e,
            ct_c,
            noise,
        })
    }
}

/// What the relay says under encryption.
pub(super) struct Payload2<'a> {
    pub(super) server_time_ms: u64,
    pub(super) relay_cids: &'a [[u8; CID]],
    pub(super) params: &'a [u8],
}

impl<'a> Payload2<'a> {
    pub(super) fn encode(&self) -> Result<Vec<u8>, HandshakeFailure> {
        if !(1..=MAX_RELAY_CIDS).contains(&self.relay_cids.len()) {
            return Err(HandshakeFailure::TooLong("relay connection ids"));
        }
        if self.params.len() > MAX_PARAMS {
            return Err(HandshakeFailure::TooLong("parameters"));
        }
        let time = self.server_time_ms.to_be_bytes();
        let parts: [&[u8]; 4] = [
            &time,
            &[self.relay_cids.len() as u8],
            self.relay_cids.as_flattened(),
            self.params,
        ];
        Ok(parts.concat())
    }

    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, HandshakeFailure> {
        let short = HandshakeFailure::Malformed("server payload too short");
        let (time, rest) = payload.split_first_chunk().ok_or(short)?;
        let ([count], rest) = rest.split_first_chunk().ok_or(short)?;
        let count = usize::from(*count);
        if !(1..=MAX_RELAY_CIDS).contains(&count) {
            return Err(HandshakeFailure::Malformed("number of relay connection ids"));
        }
        let (cids, params) = rest.split_at_checked(CID * count).ok_or(short)?;
        if params.len() > MAX_PARAMS {
            return Err(HandshakeFailure::Malformed("server parameters too long"));
        }
        let (relay_cids, _) = cids.as_chunks();
        Ok(Self {
            server_time_ms: u64::from_be_bytes(*time),
            relay_cids,
            params,
        })
    }
}
