//! Turns identities into keys, and keys into sealed bytes.
//!
//! Laws of this crate:
//!
//! * It knows no packets, no frames, no I/O and reads no clock; randomness arrives as [`Entropy`].
//! * There is no way to a session that skips ML-KEM: [`Initiator`] and [`Responder`] build the Noise
//!   state only from pre-shared keys that came out of a key encapsulation, the first one at times out of a ticket.
//! * Secrets are zeroized on drop, have no `Debug`, and are compared in constant time.
//! * Whatever arrives from the network is parsed at fixed offsets and can only be refused.
//! * Cipher, hash and KEM libraries are named in `provider/` and `handshake/noise.rs` alone.

#![forbid(unsafe_code)]

mod aead;
mod bundle;
mod cookie;
mod early;
mod entropy;
mod envelope;
mod error;
mod fields;
mod handshake;
mod identity;
mod ids;
mod issuer;
mod kdf;
mod mask;
pub mod provider;
mod resumption;
mod schedule;
mod secret;
mod server_id;
#[cfg(test)]
mod tests;
mod ticket;

pub use aead::{Counter, Generation, OpenKeys, SealKeys, Suite, Tag};
pub use bundle::{Bundle, BundleDraft, BundleEndpoint, EndpointAddress, MAX_BUNDLE_BYTES};
pub use cookie::{COOKIE_LIFETIME_S, CookieKeys, TOKEN_LEN};
pub use early::{EARLY_OVERHEAD, EarlyOpen, EarlySeal};
pub use entropy::{Entropy, SeededEntropy};
pub use envelope::{
    ENVELOPE_MAX, ENVELOPE_MIN, ENVELOPE_OVERHEAD, EnvelopeClaims, EnvelopeHeader, EnvelopeKeys, EnvelopeType,
};
pub use error::{
    BundleError, EntropyFailed, EnvelopeError, Fault, Forged, HandshakeFailure, InvalidId, InvalidKemKey,
    InvalidTicket, KeyExhausted,
};
pub use handshake::{
    Auth, ClientEstablished, ClientHello, Initiator, MAX_CLIENT_HELLO, MAX_PARAMS, MAX_RELAY_CIDS, Offered,
    Responder, ServerAnswer, Session, SessionSecrets, TrafficSecrets,
};
pub use identity::{ClientIdentity, RelayIdentity, RelayStatics};
pub use ids::{ClientId, Grant, RelayId};
pub use issuer::{TokenIssuer, TokenKey};
pub use mask::{CidMask9, CidMasks, Direction, PacketMask, Sample};
pub use resumption::{IssuedTicket, Resumption, TicketGrant};
pub use schedule::Exporter;
pub use secret::Secret;
pub use server_id::{IdNonce, SealedId, ServerId, ServerIdKey};
pub use ticket::{ClientTicket, MAX_TICKET_LIFETIME_S, TICKET_LEN, TicketContent, TicketFlags, TicketKeys};

/// SHA-256 over the concatenation of `parts` (FIPS 180-4): names for public data, such as a register of messages seen.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    kdf::hash(parts)
}
