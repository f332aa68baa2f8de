//! The relay's side, in protocol order: [`Responder::read`], the caller's decision, [`Offered::accept`].

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use super::{
    Role, Session,
    initiator::prologue,
    kem::{Binding, Psk0, Psk2},
    message::{ClientBody, Payload1, Payload2, server_head},
    noise::{Finished, Noise},
};
use crate::{
    ClientId, Entropy, HandshakeFailure, RelayId, RelayStatics, Secret, Suite,
    provider::{self, KemPublic, Provider},
};

/// A relay's long-term side of all handshakes; holds no state of any.
pub struct Responder {
    provider: &'static dyn Provider,
    statics: RelayStatics,
    relay_id: RelayId,
    epoch: u64,
}

/// A client's message that was read and is authentic as far as one message can be: it may be a replay, and the client
/// has not proved anything until its first packet.
pub struct Offered {
    provider: &'static dyn Provider,
    noise: Noise,
    client_id: ClientId,
    has_aes: bool,
    time_ms: u64,
    scid: [u8; 9],
    ek_e: Box<KemPublic>,
    ek_c: Option<Box<KemPublic>>,
    params: Vec<u8>,
}

/// What the relay says in its message.
#[derive(Clone, Copy)]
pub struct ServerAnswer<'a> {
    /// The packet cipher; suite 2 only if the client [`Offered::has_aes`].
    pub suite: Suite,
    /// The connection ids the client shall use: for path 0, then spare ones; 1 to [`super::MAX_RELAY_CIDS`].
    pub relay_cids: &'a [[u8; 9]],
    /// Transport parameters, at most [`super::MAX_PARAMS`] bytes.
    pub params: &'a [u8],
    /// The relay's clock, milliseconds since the Unix epoch.
    pub server_time_ms: u64,
}

impl Responder {
    /// The relay with these static keys, in the epoch of the bundle that carries them.
    pub fn new(statics: RelayStatics, relay_id: RelayId, epoch: u64) -> Self {
        Self::with_provider(provider::DEFAULT, statics, relay_id, epoch)
    }

    /// As [`Self::new`], with the primitives of `provider`.
    pub fn with_provider(
        provider: &'static dyn Provider,
        statics: RelayStatics,
        relay_id: RelayId,
        epoch: u64,
    ) -> Self {
        Self {
            provider,
            statics,
            relay_id,
            epoch,
        }
    }

    /// Reads a client's message. Costs one decapsulation and three X25519; nothing is kept of what is refused.
    pub fn read(&self, hid: [u8; 8], client_hello: &[u8]) -> Result<Offered, HandshakeFailure> {
        let body = ClientBody::parse(client_hello)?;
        if body.epoch != self.epoch {
            return Err(HandshakeFailure::WrongEpoch { offered: body.epoch });
        }
        // 1. Decapsulate: psk0.
        let (keys, kh) = (self.statics.keys(), self.statics.kh());
        let psk0 = Psk0::decapsulate(kh, &*keys.kem, body.ct_s)?;
        // 2. The Noise message.
        let prologue = prologue(body.head, hid, &self.relay_id, kh, body.ct_s);
        let mut noise = Noise::responder(self.provider, &keys.x25519, &prologue, psk0)?;
        let payload = noise.read(body.noise)?;
        let payload = Payload1::parse(&payload)?;
        // 3. Who it is, and keys that can be answered to.
        let x25519 = noise.remote_static()?;
        let client_id = match payload.ek_c {
            Some(ek_c) => ClientId::enrolled(&x25519, ek_c),
            None => ClientId::anonymous(&x25519),
        };
        for key in [Some(payload.ek_e), payload.ek_c].into_iter().flatten() {
            self.provider.kem_check(key)?;
        }
        Ok(Offered {
            provider: self.provider,
            client_id,
            has_aes: body.has_aes,
            time_ms: payload.time_ms,
            scid: payload.scid,
            ek_e: Box::new(*payload.ek_e),
            ek_c: payload.ek_c.map(|ek_c| Box::new(*ek_c)),
            params: payload.params.to_vec(),
            noise,
        })
    }
}

impl Offered {
    /// The client's name; for an anonymous client that of its throw-away key.
    pub fn client_id(&self) -> ClientId {
        self.client_id
    }

    /// The client named its long-term keys; the answer will be readable to their holder alone.
    pub fn enrolled(&self) -> bool {
        self.ek_c.is_some()
    }

    /// The client has AES instructions.
    pub fn has_aes(&self) -> bool {
        self.has_aes
    }

    /// The client's clock, milliseconds since the Unix epoch.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// The connection id to be used towards the client.
    pub fn scid(&self) -> [u8; 9] {
        self.scid
    }

    /// The client's transport parameters.
    pub fn params(&self) -> &[u8] {
        &self.params
    }

    /// Writes the relay's message into `body` (its former content is discarded).
    ///
    /// The client is confirmed by the first packet that opens; send no application data before.
    pub fn accept(
        mut self,
        answer: ServerAnswer<'_>,
        rng: &mut dyn Entropy,
        body: &mut Vec<u8>,
    ) -> Result<Session, HandshakeFailure> {
        body.clear();
        if answer.suite == Suite::Aes256Gcm && !self.has_aes {
            return Err(HandshakeFailure::SuiteNotOffered);
        }
        let ServerAnswer {
            relay_cids,
            params,
            server_time_ms,
            ..
        } = answer;
        let payload = Payload2 {
            server_time_ms,
            relay_cids,
            params,
        }
        .encode()?;
        // 1. Encapsulate to the client's keys: psk2.
        let head = server_head(answer.suite, self.enrolled());
        let h1 = self.noise.transcript()?;
        let binding = Binding {
            h1: &h1,
            head,
            client_id: self.client_id,
        };
        let kem = Psk2::encapsulate(self.provider, &self.ek_e, self.ek_c.as_deref(), &binding, rng)?;
        // 2. The Noise message.
        self.noise.set_psk2(&kem.psk)?;
        let message = self.noise.write(&payload, Secret::generate(rng)?)?;
        // 3. Keys.
        let Finished { keys, transcript } = self.noise.finish()?;
        let ct_c: &[u8] = kem.ct_c.as_ref().map_or(&[], |ct_c| ct_c);
        for part in [&head[..], &kem.ct_e, ct_c, &message] {
            body.extend_from_slice(part);
        }
        Ok(Session::new(
            self.provider,
            answer.suite,
            Role::Server,
            keys,
            transcript,
        ))
    }
}
