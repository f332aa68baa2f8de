//! The handshake: `Noise_IKpsk0+psk2_25519_ChaChaPoly_SHA256`, both pre-shared keys from ML-KEM-768.
//!
//! ```text
//! <- s, ek_s                                        the bundle
//! -> ct_s, psk0, e, es, s, ss  { ek_e [ek_c] .. }   psk0 = KEM to the relay's static key
//! <- ct_e [ct_c], e, ee, se, psk2  { .. }           psk2 = KEM to the client's ephemeral (and enrolled) key
//! ```
//!
//! A client with a ticket puts it in the place of `ct_s`, and `psk0` comes from the ticket's secret; `ek_c` and `ct_c` fall
//! away, `ek_e` and `ct_e` never. The ciphertexts travel in front of the Noise messages and are bound into them through the prologue and the
//! pre-shared keys; ML-KEM's implicit rejection turns any change into a failed decryption.

mod initiator;
mod kem;
mod message;
mod noise;
mod responder;

pub use initiator::{Auth, ClientEstablished, ClientHello, Initiator};
pub use message::{MAX_CLIENT_HELLO, MAX_PARAMS, MAX_RELAY_CIDS};
pub use responder::{Offered, Responder, ServerAnswer};

use crate::{
    Exporter, OpenKeys, Resumption, SealKeys, Secret, Suite, provider::Provider, resumption::Parties,
    schedule::KeySchedule,
};

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
    /// For tickets of later connections.
    pub resumption: Resumption,
    /// The hash of the whole handshake, the same on both sides; public.
    pub transcript: [u8; 32],
}

/// A [`Session`] before its keys are expanded: some 300 bytes, for a relay that waits for a client's first packet.
pub struct SessionSecrets {
    provider: &'static dyn Provider,
    role: Role,
    suite: Suite,
    ours: Secret<32>,
    theirs: Secret<32>,
    exporter: Exporter,
    resumption: Resumption,
    transcript: [u8; 32],
}

/// What the packet keys of both directions are derived from, as `schedule.rs` says. Whoever has them reads the connection, and
/// can speak in it; they are made for key logs alone.
pub struct TrafficSecrets {
    /// The packet cipher.
    pub suite: Suite,
    /// The hash of the whole handshake, which names the connection at both ends; public.
    pub transcript: [u8; 32],
    /// `c_ap_0`: of what the client sends, generation 0.
    pub client: Secret<32>,
    /// `s_ap_0`: of what the relay sends, generation 0.
    pub server: Secret<32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

impl SessionSecrets {
    fn new(
        provider: &'static dyn Provider,
        suite: Suite,
        role: Role,
        finished: noise::Finished,
        parties: Parties,
    ) -> Self {
        let KeySchedule {
            client,
            server,
            exporter,
            resumption,
        } = finished.keys;
        let (ours, theirs) = match role {
            Role::Client => (client, server),
            Role::Server => (server, client),
        };
        Self {
            provider,
            role,
            suite,
            ours,
            theirs,
            exporter,
            resumption: Resumption::new(resumption, suite, parties),
            transcript: finished.transcript,
        }
    }

    /// The packet cipher of both directions.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// What opens the other side's packets. To be dropped if the packet does not open, else to be [kept](Self::with_opener).
    pub fn opener(&self) -> OpenKeys {
        OpenKeys::new(self.provider, self.suite, self.theirs.duplicate())
    }

    /// What a key log tells, so that a recording of the connection can be read.
    pub fn traffic(&self) -> TrafficSecrets {
        let (ours, theirs) = (self.ours.duplicate(), self.theirs.duplicate());
        let (client, server) = match self.role {
            Role::Client => (ours, theirs),
            Role::Server => (theirs, ours),
        };
        TrafficSecrets {
            suite: self.suite,
            transcript: self.transcript,
            client,
            server,
        }
    }

    /// All keys, expanded.
    pub fn into_session(self) -> Session {
        let open = self.opener();
        self.with_opener(open)
    }

    /// All keys, expanded, but for those of `open`, which [`Self::opener`] gave.
    pub fn with_opener(self, open: OpenKeys) -> Session {
        Session {
            suite: self.suite,
            seal: SealKeys::new(self.provider, self.suite, self.ours),
            open,
            exporter: self.exporter,
            resumption: self.resumption,
            transcript: self.transcript,
        }
    }
}

#[cfg(test)]
mod fail_closed;
#[cfg(test)]
mod tests;
