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

use std::sync::Arc;

use super::{
    Role, Session, SessionSecrets, TrafficSecrets,
    kem::{Binding, Psk0, Psk2},
    message::{MAX_PARAMS, Mode, Opening, Payload1, Payload2, ServerBody, client_head, retry_echo},
    noise::Noise,
};
use crate::{
    Bundle, ClientId, ClientIdentity, ClientTicket, EarlySeal, Entropy, HandshakeFailure, RelayId, Secret,
    Suite, TOKEN_LEN,
    kdf::label,
    provider::{self, DhKeyPair, KemKeyPair, Provider},
    resumption::{Parties, Side},
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
    key: StaticKey,
    relay_id: RelayId,
    hid: [u8; 8],
    mode: Mode,
    h1: [u8; 32],
    has_aes: bool,
}

/// What the client has when the relay's message was accepted.
pub struct ClientEstablished {
    /// For a key log; to be dropped where there is none.
    pub traffic: TrafficSecrets,
    /// The keys.
    pub session: Session,
    /// The relay's connection ids: for path 0, then spare ones.
    pub relay_cids: Vec<[u8; 9]>,
    /// The relay's transport parameters.
    pub params: Vec<u8>,
    /// The relay's clock, milliseconds since the Unix epoch.
    pub server_time_ms: u64,
    /// The connection resumes from the ticket.
    pub resumed: bool,
    /// The relay took, or takes, the early data.
    pub early_accepted: bool,
    /// The relay confirmed the address token.
    pub retry_echoed: bool,
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
        // Encapsulate to the relay's static key: psk0.
        let (ct_s, psk0) = Psk0::encapsulate(provider, bundle.kh(), bundle.ml_kem(), rng)?;
        let begin = Begin {
            provider,
            bundle,
            hid,
            hello,
            mode: Mode::Full,
            opening: Opening::Encapsulation(&ct_s),
        };
        let state = begin.write(psk0, |rng| StaticKey::of(hello.auth, provider, rng), rng, body)?;
        Ok(Self(Some(state)))
    }

    /// As [`Self::start`], from a ticket: the encapsulation to the relay's static key falls away, the one to the client's
    /// ephemeral key does not. With `early`, and if the ticket allows it, also what seals early data.
    ///
    /// `hello.auth` must be whom the ticket was issued to. The ticket's time is for the caller to check, and that it is
    /// used once.
    pub fn resume(
        bundle: &Bundle,
        ticket: &ClientTicket,
        early: bool,
        hid: [u8; 8],
        hello: ClientHello<'_>,
        rng: &mut dyn Entropy,
        body: &mut Vec<u8>,
    ) -> Result<(Self, Option<EarlySeal>), HandshakeFailure> {
        Self::resume_with(provider::DEFAULT, bundle, (ticket, early), hid, hello, rng, body)
    }

    /// As [`Self::resume`], with the primitives of `provider`.
    pub fn resume_with(
        provider: &'static dyn Provider,
        bundle: &Bundle,
        (ticket, early): (&ClientTicket, bool),
        hid: [u8; 8],
        hello: ClientHello<'_>,
        rng: &mut dyn Entropy,
        body: &mut Vec<u8>,
    ) -> Result<(Self, Option<EarlySeal>), HandshakeFailure> {
        body.clear();
        if bundle.relay_id() != ticket.relay_id {
            return Err(HandshakeFailure::TicketMismatch);
        }
        let mode = if early && ticket.max_early > 0 {
            Mode::ResumeEarly
        } else {
            Mode::Resume
        };
        let key = StaticKey::of_ticket(hello.auth, ticket, provider)?;
        let psk0 = Psk0::resume(&ticket.rms, &ticket.ticket)?;
        let begin = Begin {
            provider,
            bundle,
            hid,
            hello,
            mode,
            opening: Opening::Ticket(&ticket.ticket),
        };
        let state = begin.write(psk0, |_| Ok(key), rng, body)?;
        let seal = (mode == Mode::ResumeEarly).then(|| EarlySeal::new(provider, &state.h1, &ticket.rms));
        Ok((Self(Some(state)), seal))
    }

    /// Reads the relay's message; `tokens` are the address tokens this side sent: the answer may belong to any of them.
    ///
    /// A forged or damaged message leaves the state as it was; wait for the next.
    pub fn finish(
        &mut self,
        server_hello: &[u8],
        tokens: &[[u8; TOKEN_LEN]],
    ) -> Result<ClientEstablished, HandshakeFailure> {
        let state = self.0.as_mut().ok_or(HandshakeFailure::Misused)?;
        let body = ServerBody::parse(server_hello)?;
        // 1. Decapsulate: psk2.
        let psk2 = state.open_psk2(&body)?;
        // 2. The Noise message; from here on the relay is authenticated.
        state.noise.set_psk2(&psk2)?;
        let payload = state.noise.read(body.noise)?;
        let state = self.0.take().ok_or(HandshakeFailure::Misused)?;
        let payload = Payload2::parse(&payload, body.says.retry)?;
        let ours = |echo| tokens.iter().any(|token| retry_echo(state.hid, token) == echo);
        if !payload.retry_echo.is_none_or(ours) {
            return Err(HandshakeFailure::RetryMismatch);
        }
        // 3. Keys.
        let parties = Parties {
            relay_id: state.relay_id,
            client_id: state.key.client_id,
            enrolled: state.key.identity.is_some(),
            side: Side::Client(state.key.throw_away),
        };
        let finished = state.noise.finish()?;
        let secrets = SessionSecrets::new(state.provider, body.says.suite, Role::Client, finished, parties);
        Ok(ClientEstablished {
            traffic: secrets.traffic(),
            session: secrets.into_session(),
            relay_cids: payload.relay_cids.to_vec(),
            params: payload.params.to_vec(),
            server_time_ms: payload.server_time_ms,
            resumed: body.says.resumed,
            early_accepted: body.says.early_accepted,
            retry_echoed: body.says.retry,
        })
    }
}

/// What the client's message is made of, but for secrets.
struct Begin<'a> {
    provider: &'static dyn Provider,
    bundle: &'a Bundle,
    hid: [u8; 8],
    hello: ClientHello<'a>,
    mode: Mode,
    opening: Opening<'a>,
}

impl Begin<'_> {
    fn write(
        self,
        psk0: Psk0,
        key: impl FnOnce(&mut dyn Entropy) -> Result<StaticKey, HandshakeFailure>,
        rng: &mut dyn Entropy,
        body: &mut Vec<u8>,
    ) -> Result<State, HandshakeFailure> {
        let Self {
            provider,
            bundle,
            hid,
            hello,
            mode,
            opening,
        } = self;
        if hello.params.len() > MAX_PARAMS {
            return Err(HandshakeFailure::TooLong("parameters"));
        }
        // The ephemeral KEM key the relay will answer to.
        let ephemeral = provider.kem_key_pair(&Secret::generate(rng)?);
        // The Noise message over everything said so far.
        let head = client_head(mode, hello.has_aes, bundle.epoch());
        let prologue = prologue(&head, hid, &bundle.relay_id(), bundle.kh(), &psk0);
        let key = key(rng)?;
        let mut noise = Noise::initiator(provider, Arc::clone(&key.pair), bundle.x25519(), &prologue, psk0)?;
        let shown = key.identity.as_ref().filter(|_| !mode.resumes());
        let payload = Payload1 {
            time_ms: hello.time_ms,
            scid: hello.scid,
            ek_e: ephemeral.public(),
            enrolled: key.identity.is_some(),
            ek_c: shown.map(|identity| identity.keys().kem.public()),
            params: hello.params,
        };
        let message = noise.write(&payload.encode(), Secret::generate(rng)?)?;
        let h1 = noise.transcript()?;
        for part in [&head[..], opening.bytes(), &message] {
            body.extend_from_slice(part);
        }
        Ok(State {
            provider,
            noise,
            ephemeral,
            key,
            relay_id: bundle.relay_id(),
            hid,
            mode,
            h1,
            has_aes: hello.has_aes,
        })
    }
}

impl State {
    fn open_psk2(&self, body: &ServerBody<'_>) -> Result<Psk2, HandshakeFailure> {
        let says = &body.says;
        if says.suite == Suite::Aes256Gcm && !self.has_aes {
            return Err(HandshakeFailure::Malformed("suite 2 was not offered"));
        }
        if says.resumed != self.mode.resumes() {
            return Err(HandshakeFailure::AuthMismatch);
        }
        if says.early_accepted && self.mode != Mode::ResumeEarly {
            return Err(HandshakeFailure::EarlyNotOffered);
        }
        let identity = self.key.identity.as_ref().filter(|_| !self.mode.resumes());
        let enrolled = match (identity, body.ct_c) {
            (Some(identity), Some(ct_c)) => Some((&*identity.keys().kem, ct_c)),
            (None, None) => None,
            _ => return Err(HandshakeFailure::AuthMismatch),
        };
        let binding = Binding {
            h1: &self.h1,
            head: body.head,
            client_id: self.key.client_id,
        };
        Psk2::decapsulate(&*self.ephemeral, body.ct_e, enrolled, &binding)
    }
}

/// The static key of this handshake: the identity's, or a throw-away one.
struct StaticKey {
    /// An identity's keys are expanded once, by the default provider.
    pair: Arc<dyn DhKeyPair>,
    throw_away: Option<Secret<32>>,
    identity: Option<ClientIdentity>,
    client_id: ClientId,
}

impl StaticKey {
    fn of(auth: Auth<'_>, provider: &dyn Provider, rng: &mut dyn Entropy) -> Result<Self, HandshakeFailure> {
        Ok(match auth {
            Auth::Enrolled(identity) => Self::enrolled(identity),
            Auth::Anonymous => Self::anonymous(Secret::generate(rng)?, provider),
        })
    }

    /// The key the ticket was issued to.
    fn of_ticket(
        auth: Auth<'_>,
        ticket: &ClientTicket,
        provider: &dyn Provider,
    ) -> Result<Self, HandshakeFailure> {
        let key = match (auth, &ticket.throw_away) {
            (Auth::Enrolled(identity), None) => Self::enrolled(identity),
            (Auth::Anonymous, Some(throw_away)) => Self::anonymous(throw_away.duplicate(), provider),
            _ => return Err(HandshakeFailure::TicketMismatch),
        };
        if key.client_id == ticket.client_id {
            Ok(key)
        } else {
            Err(HandshakeFailure::TicketMismatch)
        }
    }

    fn enrolled(identity: &ClientIdentity) -> Self {
        Self {
            pair: Arc::clone(&identity.keys().x25519),
            throw_away: None,
            identity: Some(identity.clone()),
            client_id: identity.client_id(),
        }
    }

    fn anonymous(throw_away: Secret<32>, provider: &dyn Provider) -> Self {
        let pair = provider.x25519_key_pair(&throw_away);
        Self {
            client_id: ClientId::anonymous(pair.public()),
            pair,
            throw_away: Some(throw_away),
            identity: None,
        }
    }
}

/// `"adit1/noise" ‖ version ‖ CH[0..12] ‖ hid ‖ relay_id ‖ KH ‖ SHA-256(ct_s | ticket)`: what both sides must agree on.
pub(super) fn prologue(head: &[u8], hid: [u8; 8], relay_id: &RelayId, kh: &[u8; 32], psk0: &Psk0) -> Vec<u8> {
    const VERSION: u8 = 1;
    [
        label::PROLOGUE,
        &[VERSION],
        head,
        &hid,
        relay_id.as_bytes(),
        kh,
        psk0.opening(),
    ]
    .concat()
}
