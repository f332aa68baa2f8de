//! The client's side, in protocol order.

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
    kem::{Binding, Psk0, Psk2},
    message::{MAX_PARAMS, Payload1, Payload2, ServerBody, client_head},
    noise::{Finished, Noise},
};
use crate::{
    Bundle, ClientId, ClientIdentity, Entropy, HandshakeFailure, RelayId, Secret, Suite,
    kdf::{self, label},
    provider::{self, KemCiphertext, KemKeyPair, Provider},
};

/// What the client says in its message.
#[derive(Clone, Copy)]
pub struct ClientHello<'a> {
    /// This machine has AES instructions: the relay may choose suite 2.
    pub has_aes: bool,
    /// The client's clock, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The connection id the relay shall use towards the client.
    pub scid: [u8; 9],
    /// Who the client is.
    pub auth: Auth<'a>,
    /// Transport parameters, at most [`super::MAX_PARAMS`] bytes.
    pub params: &'a [u8],
}

/// Who the client is.
#[derive(Clone, Copy)]
pub enum Auth<'a> {
    /// Nobody in particular: a throw-away static key.
    Anonymous,
    /// The holder of an identity, authenticated by X25519 and ML-KEM.
    Enrolled(&'a ClientIdentity),
}

/// The client between the two flights.
pub struct Initiator(Option<State>);

struct State {
    provider: &'static dyn Provider,
    noise: Noise,
    ephemeral: Box<dyn KemKeyPair>,
    identity: Option<ClientIdentity>,
    client_id: ClientId,
    h1: [u8; 32],
    has_aes: bool,
}

/// What the client has when the relay's message was accepted.
pub struct ClientEstablished {
    /// The keys.
    pub session: Session,
    /// The relay's connection ids: for path 0, then spare ones.
    pub relay_cids: Vec<[u8; 9]>,
    /// The relay's transport parameters.
    pub params: Vec<u8>,
    /// The relay's clock, milliseconds since the Unix epoch.
    pub server_time_ms: u64,
}

impl Initiator {
    /// Writes the client's message into `body` (its former content is discarded).
    ///
    /// `hid` names the handshake in its envelopes. The bundle's time is for the caller to check.
    pub fn start(
        bundle: &Bundle,
        hid: [u8; 8],
        hello: ClientHello<'_>,
        rng: &mut dyn Entropy,
        body: &mut Vec<u8>,
    ) -> Result<Self, HandshakeFailure> {
        Self::start_with(provider::DEFAULT, bundle, hid, hello, rng, body)
    }

    /// As [`Self::start`], with the primitives of `provider`.
    pub fn start_with(
        provider: &'static dyn Provider,
        bundle: &Bundle,
        hid: [u8; 8],
        hello: ClientHello<'_>,
        rng: &mut dyn Entropy,
        body: &mut Vec<u8>,
    ) -> Result<Self, HandshakeFailure> {
        body.clear();
        if hello.params.len() > MAX_PARAMS {
            return Err(HandshakeFailure::TooLong("parameters"));
        }
        // 1. Encapsulate to the relay's static key: psk0.
        let (ct_s, psk0) = Psk0::encapsulate(provider, bundle.kh(), bundle.ml_kem(), rng)?;
        // 2. The ephemeral KEM key the relay will answer to.
        let ephemeral = provider.kem_key_pair(&Secret::generate(rng)?);
        // 3. The Noise message over everything said so far.
        let head = client_head(hello.has_aes, bundle.epoch());
        let prologue = prologue(&head, hid, &bundle.relay_id(), bundle.kh(), &ct_s);
        let key = StaticKey::of(hello.auth, provider, rng)?;
        let mut noise = Noise::initiator(provider, key.secret(), bundle.x25519(), &prologue, psk0)?;
        let payload = Payload1 {
            time_ms: hello.time_ms,
            scid: hello.scid,
            ek_e: ephemeral.public(),
            ek_c: key.identity.as_ref().map(|identity| identity.keys().kem.public()),
            params: hello.params,
        };
        let message = noise.write(&payload.encode(), Secret::generate(rng)?)?;
        let h1 = noise.transcript()?;
        for part in [&head[..], &ct_s, &message] {
            body.extend_from_slice(part);
        }
        let StaticKey {
            identity, client_id, ..
        } = key;
        Ok(Self(Some(State {
            provider,
            noise,
            ephemeral,
            identity,
            client_id,
            h1,
            has_aes: hello.has_aes,
        })))
    }

    /// Reads the relay's message. A forged or damaged one leaves the state as it was; wait for the next.
    pub fn finish(&mut self, server_hello: &[u8]) -> Result<ClientEstablished, HandshakeFailure> {
        let state = self.0.as_mut().ok_or(HandshakeFailure::Misused)?;
        let body = ServerBody::parse(server_hello)?;
        // 1. Decapsulate: psk2.
        let psk2 = state.open_psk2(&body)?;
        // 2. The Noise message; from here on the relay is authenticated.
        state.noise.set_psk2(&psk2)?;
        let payload = state.noise.read(body.noise)?;
        let state = self.0.take().ok_or(HandshakeFailure::Misused)?;
        // 3. Keys.
        let Finished { keys, transcript } = state.noise.finish()?;
        let payload = Payload2::parse(&payload)?;
        Ok(ClientEstablished {
            session: Session::new(state.provider, body.suite, Role::Client, keys, transcript),
            relay_cids: payload.relay_cids.to_vec(),
            params: payload.params.to_vec(),
            server_time_ms: payload.server_time_ms,
        })
    }
}

impl State {
    fn open_psk2(&self, body: &ServerBody<'_>) -> Result<Psk2, HandshakeFailure> {
        if body.suite == Suite::Aes256Gcm && !self.has_aes {
            return Err(HandshakeFailure::Malformed("suite 2 was not offered"));
        }
        let enrolled = match (&self.identity, body.ct_c) {
            (Some(identity), Some(ct_c)) => Some((&*identity.keys().kem, ct_c)),
            (None, None) => None,
            _ => return Err(HandshakeFailure::AuthMismatch),
        };
        let binding = Binding {
            h1: &self.h1,
            head: body.head,
            client_id: self.client_id,
        };
        Psk2::decapsulate(&*self.ephemeral, body.ct_e, enrolled, &binding)
    }
}

/// The static key of this handshake: the identity's, or a throw-away one.
struct StaticKey {
    throw_away: Secret<32>,
    identity: Option<ClientIdentity>,
    client_id: ClientId,
}

impl StaticKey {
    fn of(auth: Auth<'_>, provider: &dyn Provider, rng: &mut dyn Entropy) -> Result<Self, HandshakeFailure> {
        Ok(match auth {
            Auth::Enrolled(identity) => Self {
                throw_away: Secret::new([0; 32]),
                identity: Some(identity.clone()),
                client_id: identity.client_id(),
            },
            Auth::Anonymous => {
                let throw_away = Secret::generate(rng)?;
                let client_id = ClientId::anonymous(&provider.x25519_public(&throw_away));
                Self {
                    throw_away,
                    identity: None,
                    client_id,
                }
            }
        })
    }

    fn secret(&self) -> &Secret<32> {
        self.identity
            .as_ref()
            .map_or(&self.throw_away, |identity| &identity.keys().x25519)
    }
}

/// `"adit1/noise" ‖ version ‖ CH[0..12] ‖ hid ‖ relay_id ‖ KH ‖ SHA-256(ct_s)`: what both sides must agree on.
pub(super) fn prologue(
    head: &[u8],
    hid: [u8; 8],
    relay_id: &RelayId,
    kh: &[u8; 32],
    ct_s: &KemCiphertext,
) -> Vec<u8> {
    const VERSION: u8 = 1;
    [
        label::PROLOGUE,
        &[VERSION],
        head,
        &hid,
        relay_id.as_bytes(),
        kh,
        &kdf::hash(&[ct_s]),
    ]
    .concat()
}
