//! The only caller of the Noise library.
//!
//! The library keeps the transcript and the order of tokens; every primitive under it is ours (`noise/primitives.rs`), and
//! every secret stays in ours (`noise/vault.rs`): the library passes them on by name. Its transport mode is never
//! entered (`clippy.toml` forbids it).

#![deny(clippy::disallowed_methods)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod primitives;
#[cfg(test)]
mod tests;
mod vault;

use std::sync::Arc;

use snow::{Builder, Error, HandshakeState};

use self::{
    primitives::Resolver,
    vault::{Place, Vault},
};
use super::{
    kem::{Psk0, Psk2},
    message::{NOISE_1, NOISE_2},
};
use crate::{
    HandshakeFailure, Secret,
    provider::{DhKeyPair, Provider},
    schedule::KeySchedule,
};

const PROTOCOL: &str = "Noise_IKpsk0+psk2_25519_ChaChaPoly_SHA256";

/// A handshake in progress; it cannot exist without a `psk0`.
pub(super) struct Noise {
    state: HandshakeState,
    vault: Vault,
    psk0: Psk0,
}

/// What a finished handshake leaves.
pub(super) struct Finished {
    pub(super) keys: KeySchedule,
    pub(super) transcript: [u8; 32],
}

impl Noise {
    /// The client's state with its static `key`; `relay` is the relay's static X25519 key.
    pub(super) fn initiator(
        provider: &'static dyn Provider,
        key: Arc<dyn DhKeyPair>,
        relay: &[u8; 32],
        prologue: &[u8],
        psk0: Psk0,
    ) -> Result<Self, HandshakeFailure> {
        let vault = Vault::default();
        let state = builder(provider, &vault, key, prologue, &psk0)?
            .remote_public_key(relay)?
            .build_initiator()?;
        Ok(Self { state, vault, psk0 })
    }

    /// The relay's state with its static `key`.
    pub(super) fn responder(
        provider: &'static dyn Provider,
        key: Arc<dyn DhKeyPair>,
        prologue: &[u8],
        psk0: Psk0,
    ) -> Result<Self, HandshakeFailure> {
        let vault = Vault::default();
        let state = builder(provider, &vault, key, prologue, &psk0)?.build_responder()?;
        Ok(Self { state, vault, psk0 })
    }

    /// Writes the next message with the ephemeral key `e`. After a failure the state is of no use.
    pub(super) fn write(&mut self, payload: &[u8], e: Secret<32>) -> Result<Vec<u8>, HandshakeFailure> {
        let overhead = if self.state.is_initiator() {
            NOISE_1
        } else {
            NOISE_2
        };
        self.vault.put_ephemeral(e)?;
        let mut message = vec![0; payload.len() + overhead];
        let written = self.state.write_message(payload, &mut message)?;
        if written == message.len() {
            Ok(message)
        } else {
            Err(HandshakeFailure::Misused)
        }
    }

    /// Reads the next message. After a failure the state is as before.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeFailure> {
        let mut payload = vec![0; message.len()];
        let read = self.state.read_message(message, &mut payload)?;
        payload.truncate(read);
        Ok(payload)
    }

    /// The client's static key, after its message was read.
    pub(super) fn remote_static(&self) -> Result<[u8; 32], HandshakeFailure> {
        let remote = self.state.get_remote_static().and_then(|key| key.try_into().ok());
        remote.ok_or(HandshakeFailure::Misused)
    }

    /// The transcript hash so far.
    pub(super) fn transcript(&self) -> Result<[u8; 32], HandshakeFailure> {
        self.state
            .get_handshake_hash()
            .try_into()
            .map_err(|_| HandshakeFailure::Misused)
    }

    /// Sets the key of the second message; it may be set anew after a failed read.
    pub(super) fn set_psk2(&mut self, psk2: &Psk2) -> Result<(), HandshakeFailure> {
        psk2.refuse_equal(&self.psk0)?;
        self.vault.put_psk(Place::Two, psk2.expose())?;
        Ok(self.state.set_psk(2, Place::Two.name())?)
    }

    /// The traffic secrets.
    pub(super) fn finish(self) -> Result<Finished, HandshakeFailure> {
        if !self.state.is_handshake_finished() {
            return Err(HandshakeFailure::Misused);
        }
        let transcript = self.transcript()?;
        let [k1, k2] = self.vault.take_split()?;
        let keys = KeySchedule::new(&transcript, &k1, &k2);
        Ok(Finished { keys, transcript })
    }
}

/// What the library takes for the static key, which stays in the resolver.
const STATIC: &[u8; 32] = &[b's'; 32];

fn builder<'a>(
    provider: &'static dyn Provider,
    vault: &Vault,
    key: Arc<dyn DhKeyPair>,
    prologue: &'a [u8],
    psk0: &Psk0,
) -> Result<Builder<'a>, HandshakeFailure> {
    vault.put_psk(Place::Zero, psk0.expose())?;
    let resolver = Resolver {
        provider,
        key,
        vault: vault.clone(),
    };
    let builder = Builder::with_resolver(PROTOCOL.parse()?, Box::new(resolver));
    Ok(builder
        .prologue(prologue)?
        .local_private_key(STATIC)?
        .psk(0, Place::Zero.name())?)
}

impl From<Error> for HandshakeFailure {
    fn from(error: Error) -> Self {
        match error {
            Error::Decrypt => Self::Forged,
            Error::Dh => Self::LowOrderPoint,
            Error::Rng => Self::EntropyFailed,
            Error::Input => Self::Malformed("Noise message"),
            _ => Self::Misused,
        }
    }
}
