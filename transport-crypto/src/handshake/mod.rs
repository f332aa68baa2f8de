//! The handshake: `Noise_IKpsk0+psk2_25519_ChaChaPoly_SHA256`, both pre-shared keys from ML-KEM-768.
//!
//! ```text
//! <- s, ek_s                                        the bundle
//! -> ct_s, psk0, e, es, s, ss  { ek_e [ek_c] .. }   psk0 = KEM to the relay's static key
//! <- ct_e [ct_c], e, ee, se, psk2  { .. }           psk2 = KEM to the client's ephemeral (and enrolled) key
//! ```
//!
//! The ciphertexts travel in front of the Noise messages and are bound into them through the prologue and the
//! pre-shared keys; ML-KEM's implicit rejection turns any change into a failed decryption.

mod initiator;
mod kem;
mod message;
mod noise;
mod responder;

pub use initiator::{Auth, ClientEstablished, ClientHello, Initiator};
pub use message::{MAX_CLIENT_HELLO, MAX_PARAMS, MAX_RELAY_CIDS};
pub use responder::{Offered, Responder, ServerAnswer};

use crate::{Exporter, OpenKeys, SealKeys, Suite, provider::Provider, schedule::KeySchedule};

/// The keys of a connection, one side.
pub struct Session {
    /// The packet cipher of both directions.
    pub suite: Suite,
    /// Seals what this side sends.
    pub seal: SealKeys,
    /// Opens what the other side sent.
    pub open: OpenKeys,
    /// Keys for the application.
    pub exporter: Exporter,
    /// The hash of the whole handshake, the same on both sides; public.
    pub transcript: [u8; 32],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

impl Session {
    fn new(
        provider: &'static dyn Provider,
        suite: Suite,
        role: Role,
        keys: KeySchedule,
        transcript: [u8; 32],
    ) -> Self {
        let (ours, theirs) = match role {
            Role::Client => (keys.client, keys.server),
            Role::Server => (keys.server, keys.client),
        };
        Self {
            suite,
            seal: SealKeys::new(provider, suite, ours),
            open: OpenKeys::new(provider, suite, theirs),
            exporter: keys.exporter,
            transcript,
        }
    }
}

#[cfg(test)]
mod tests;
