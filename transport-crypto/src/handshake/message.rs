//! The two messages, at fixed offsets, all integers big-endian.
//!
//! ```text
//! CH: 0 mode (0 full, 1 resume, 2 resume with early data) | 1 kem_suite = 1 | 2 flags u16 (1: has AES) | 4 epoch u64
//!     mode 0: 12 ct_s[1088] | 1100 Noise message 1          mode 1, 2: 12 ticket[180] | 192 Noise message 1
//!     payload 1: 0 time_ms u64 | 8 scid_len = 9 | 9 scid[9] | 18 ek_e[1184] | 1202 auth | 1203 params | [ek_c[1184]]
//!     auth: 0 anonymous, 1 enrolled; ek_c in mode 0 with auth 1 alone
//! SH: 0 status (1 full, 2 resumed) | 1 flags (1: ct_c, 2: early data accepted, 4: retry, 8: suite 2)
//!     2 ct_e[1088] | [ct_c[1088]] | Noise message 2         ct_c with status 1 alone, flag 2 with status 2 alone
//!     payload 2: 0 server_time_ms u64 | [retry echo[16]] | n u8 (1 to 8) | relay_cids[9 · n] | params
//!     retry echo, with flag 4: SHA-256(hid ‖ token)[..16]
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
    HandshakeFailure, Suite, TICKET_LEN, TOKEN_LEN, kdf,
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
const KEM_SUITE: u8 = 1;
const CLIENT_HAS_AES: u16 = 1;
const STATUS_FULL: u8 = 1;
const STATUS_RESUMED: u8 = 2;
const SERVER_CT_C: u8 = 1;
const SERVER_EARLY: u8 = 2;
const SERVER_RETRY: u8 = 4;
const SERVER_SUITE_2: u8 = 8;
const CID: usize = 9;
/// Length of the echo of an address token.
const ECHO: usize = 16;
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

/// What the first pre-shared key comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Full = 0,
    Resume = 1,
    ResumeEarly = 2,
}

impl Mode {
    fn from_byte(byte: u8) -> Result<Self, HandshakeFailure> {
        match byte {
            0 => Ok(Self::Full),
            1 => Ok(Self::Resume),
            2 => Ok(Self::ResumeEarly),
            other => Err(HandshakeFailure::UnsupportedMode(other)),
        }
    }

    pub(super) fn resumes(self) -> bool {
        self != Self::Full
    }
}

/// What stands between the head and the Noise message.
#[derive(Clone, Copy)]
pub(super) enum Opening<'a> {
    /// The encapsulation to the relay's static key.
    Encapsulation(&'a KemCiphertext),
    /// A ticket.
    Ticket(&'a [u8; TICKET_LEN]),
}

impl<'a> Opening<'a> {
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Encapsulation(ct_s) => ct_s,
            Self::Ticket(ticket) => ticket,
        }
    }
}

/// The client's message, taken apart.
pub(super) struct ClientBody<'a> {
    pub(super) head: &'a [u8; CLIENT_HEAD],
    pub(super) mode: Mode,
    pub(super) has_aes: bool,
    pub(super) epoch: u64,
    pub(super) opening: Opening<'a>,
    pub(super) noise: &'a [u8],
}

/// The first twelve bytes of the client's message.
pub(super) fn client_head(mode: Mode, has_aes: bool, epoch: u64) -> [u8; CLIENT_HEAD] {
    let [f0, f1] = if has_aes { CLIENT_HAS_AES } else { 0 }.to_be_bytes();
    let [e0, e1, e2, e3, e4, e5, e6, e7] = epoch.to_be_bytes();
    [mode as u8, KEM_SUITE, f0, f1, e0, e1, e2, e3, e4, e5, e6, e7]
}

impl<'a> ClientBody<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, HandshakeFailure> {
        if body.len() > MAX_CLIENT_HELLO {
            return Err(HandshakeFailure::Malformed("client message too long"));
        }
        let short = HandshakeFailure::Malformed("client message too short");
        let (head, rest) = body.split_first_chunk::<CLIENT_HEAD>().ok_or(short)?;
        let [mode, kem_suite, f0, f1, epoch @ ..] = head;
        let mode = Mode::from_byte(*mode)?;
        let (opening, noise) = if mode.resumes() {
            let (ticket, noise) = rest.split_first_chunk().ok_or(short)?;
            (Opening::Ticket(ticket), noise)
        } else {
            let (ct_s, noise) = rest.split_first_chunk().ok_or(short)?;
            (Opening::Encapsulation(ct_s), noise)
        };
        if noise.len() < NOISE_1 + PAYLOAD_1 {
            return Err(short);
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
            mode,
            has_aes: flags & CLIENT_HAS_AES != 0,
            epoch: u64::from_be_bytes(*epoch),
            opening,
            noise,
        })
    }
}

/// What the client says under encryption.
pub(super) struct Payload1<'a> {
    pub(super) time_ms: u64,
    pub(super) scid: [u8; CID],
    pub(super) ek_e: &'a KemPublic,
    pub(super) enrolled: bool,
    pub(super) ek_c: Option<&'a KemPublic>,
    pub(super) params: &'a [u8],
}

impl<'a> Payload1<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let ek_c: &[u8] = self.ek_c.map_or(&[], |ek_c| ek_c);
        let auth = if self.enrolled {
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

    /// In a resumption nobody shows a static KEM key: the ticket stands for it.
    pub(super) fn parse(payload: &'a [u8], mode: Mode) -> Result<Self, HandshakeFailure> {
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
            AUTH_ENROLLED if mode.resumes() => (rest, None),
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
            enrolled: *auth == AUTH_ENROLLED,
            ek_c,
            params,
        })
    }
}

/// The relay's message, taken apart.
pub(super) struct ServerBody<'a> {
    pub(super) head: [u8; 2],
    pub(super) says: ServerHead,
    pub(super) ct_e: &'a KemCiphertext,
    pub(super) ct_c: Option<&'a KemCiphertext>,
    pub(super) noise: &'a [u8],
}

/// The first two bytes of the relay's message.
#[derive(Clone, Copy)]
pub(super) struct ServerHead {
    pub(super) resumed: bool,
    pub(super) suite: Suite,
    pub(super) ct_c: bool,
    pub(super) early_accepted: bool,
    pub(super) retry: bool,
}

impl ServerHead {
    pub(super) fn encode(self) -> [u8; 2] {
        let status = if self.resumed { STATUS_RESUMED } else { STATUS_FULL };
        let flags = [
            (self.ct_c, SERVER_CT_C),
            (self.early_accepted, SERVER_EARLY),
            (self.retry, SERVER_RETRY),
            (self.suite == Suite::Aes256Gcm, SERVER_SUITE_2),
        ];
        let set = flags.iter().filter(|(set, _)| *set);
        [status, set.fold(0, |flags, (_, flag)| flags | flag)]
    }

    fn parse([status, flags]: [u8; 2]) -> Result<Self, HandshakeFailure> {
        let resumed = match status {
            STATUS_FULL => false,
            STATUS_RESUMED => true,
            other => return Err(HandshakeFailure::UnsupportedMode(other)),
        };
        let not_now = if resumed { SERVER_CT_C } else { SERVER_EARLY };
        if flags & !(SERVER_CT_C | SERVER_EARLY | SERVER_RETRY | SERVER_SUITE_2) != 0 || flags & not_now != 0
        {
            return Err(HandshakeFailure::Malformed("server flags"));
        }
        Ok(Self {
            resumed,
            suite: if flags & SERVER_SUITE_2 == 0 {
                Suite::ChaCha20Poly1305
            } else {
                Suite::Aes256Gcm
            },
            ct_c: flags & SERVER_CT_C != 0,
            early_accepted: flags & SERVER_EARLY != 0,
            retry: flags & SERVER_RETRY != 0,
        })
    }
}

impl<'a> ServerBody<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, HandshakeFailure> {
        let short = HandshakeFailure::Malformed("server message too short");
        let (head, rest) = body.split_first_chunk().ok_or(short)?;
        let says = ServerHead::parse(*head)?;
        let (ct_e, rest) = rest.split_first_chunk().ok_or(short)?;
        let (ct_c, noise) = if says.ct_c {
            rest.split_first_chunk()
                .map(|(ct_c, rest)| (Some(ct_c), rest))
                .ok_or(short)?
        } else {
            (None, rest)
        };
        let fixed = NOISE_2 + 9 + if says.retry { ECHO } else { 0 };
        if !(fixed + CID..=fixed + CID * MAX_RELAY_CIDS + MAX_PARAMS).contains(&noise.len()) {
            return Err(HandshakeFailure::Malformed("server message length"));
        }
        Ok(Self {
            head: *head,
            says,
            ct_e,
            ct_c,
            noise,
        })
    }
}

/// `SHA-256(hid ‖ token)[..16]`: shows the client that its address token is the relay's own.
pub(super) fn retry_echo(hid: [u8; 8], token: &[u8; TOKEN_LEN]) -> [u8; ECHO] {
    let [echo @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = kdf::hash(&[&hid, token]);
    echo
}

/// What the relay says under encryption.
pub(super) struct Payload2<'a> {
    pub(super) server_time_ms: u64,
    pub(super) retry_echo: Option<[u8; ECHO]>,
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
        let parts: [&[u8]; 5] = [
            &time,
            self.retry_echo.as_ref().map_or(&[], |echo| echo),
            &[self.relay_cids.len() as u8],
            self.relay_cids.as_flattened(),
            self.params,
        ];
        Ok(parts.concat())
    }

    pub(super) fn parse(payload: &'a [u8], retry: bool) -> Result<Self, HandshakeFailure> {
        let short = HandshakeFailure::Malformed("server payload too short");
        let (time, rest) = payload.split_first_chunk().ok_or(short)?;
        let (retry_echo, rest) = if retry {
            let (echo, rest) = rest.split_first_chunk().ok_or(short)?;
            (Some(*echo), rest)
        } else {
            (None, rest)
        };
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
            retry_echo,
            relay_cids,
            params,
        })
    }
}
