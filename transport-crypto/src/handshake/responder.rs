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

use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::{
    Role, SessionSecrets,
    initiator::prologue,
    kem::{Binding, Psk0, Psk2},
    message::{ClientBody, Mode, Opening, Payload1, Payload2, ServerHead, retry_echo},
    noise::Noise,
};
use crate::{
    ClientId, EarlyOpen, Entropy, HandshakeFailure, RelayId, RelayStatics, Secret, Suite, TICKET_LEN,
    TOKEN_LEN, TicketContent, TicketKeys,
    identity::HybridKeys,
    provider::{self, KemPublic, Provider, kem_check},
    resumption::{Parties, Side},
    ticket::static_tag,
};

/// A relay's long-term side of all handshakes; holds no state of any.
pub struct Responder {
    provider: &'static dyn Provider,
    keys: HybridKeys,
    kh: [u8; 32],
    relay_id: RelayId,
    epoch: u64,
}

/// A client's message that was read and is authentic as far as one message can be: it may be a replay, and the client
/// has not proved anything until its first packet.
pub struct Offered {
    provider: &'static dyn Provider,
    noise: Noise,
    relay_id: RelayId,
    hid: [u8; 8],
    mode: Mode,
    resumed: Option<Box<TicketContent>>,
    enrolled: bool,
    x25519: [u8; 32],
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
    /// Early data is taken; only if the client [`Offered::wants_early`].
    pub early_accepted: bool,
    /// The address token the client came with, if one was asked for: it gets an echo.
    pub retry_token: Option<[u8; TOKEN_LEN]>,
}

impl Responder {
    /// The relay with these static keys, in the epoch of the bundle that carries them.
    pub fn new(statics: RelayStatics, relay_id: RelayId, epoch: u64) -> Self {
        Self::with_provider(provider::DEFAULT, statics, relay_id, epoch)
    }

    /// As [`Self::new`], with the primitives of `provider`, which expands the keys once more.
    pub fn with_provider(
        provider: &'static dyn Provider,
        statics: RelayStatics,
        relay_id: RelayId,
        epoch: u64,
    ) -> Self {
        Self {
            provider,
            keys: statics.keys().expanded_by(provider),
            kh: *statics.kh(),
            relay_id,
            epoch,
        }
    }

    /// Reads a client's message; `now_s` is the relay's clock in Unix seconds, for tickets. Without `tickets` nothing is resumed.
    ///
    /// Costs one decapsulation, or the opening of a ticket, and two X25519; nothing is kept of what is refused.
    pub fn read(
        &self,
        hid: [u8; 8],
        client_hello: &[u8],
        tickets: Option<&TicketKeys>,
        now_s: u64,
    ) -> Result<Offered, HandshakeFailure> {
        let body = ClientBody::parse(client_hello)?;
        if body.epoch != self.epoch {
            return Err(HandshakeFailure::WrongEpoch { offered: body.epoch });
        }
        // 1. Decapsulate, or open the ticket: psk0.
        let (keys, kh) = (&self.keys, &self.kh);
        let (psk0, resumed) = match body.opening {
            Opening::Encapsulation(ct_s) => (Psk0::decapsulate(kh, &*keys.kem, ct_s)?, None),
            Opening::Ticket(ticket) => {
                let content = open_ticket(tickets, ticket, now_s)?;
                (Psk0::resume(&content.rms, ticket)?, Some(Box::new(content)))
            }
        };
        // 2. The Noise message.
        let prologue = prologue(body.head, hid, &self.relay_id, kh, &psk0);
        let mut noise = Noise::responder(self.provider, Arc::clone(&keys.x25519), &prologue, psk0)?;
        let payload = noise.read(body.noise)?;
        let payload = Payload1::parse(&payload, body.mode)?;
        // 3. Who it is, and keys that can be answered to.
        let x25519 = noise.remote_static()?;
        let client_id = match (&resumed, payload.ek_c) {
            (Some(content), _) => ticket_holder(content, &x25519, payload.enrolled)?,
            (None, Some(ek_c)) => ClientId::enrolled(&x25519, ek_c),
            (None, None) => ClientId::anonymous(&x25519),
        };
        for key in [Some(payload.ek_e), payload.ek_c].into_iter().flatten() {
            kem_check(key)?;
        }
        Ok(Offered {
            provider: self.provider,
            relay_id: self.relay_id,
            hid,
            mode: body.mode,
            resumed,
            enrolled: payload.enrolled,
            x25519,
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

fn open_ticket(
    tickets: Option<&TicketKeys>,
    ticket: &[u8; TICKET_LEN],
    now_s: u64,
) -> Result<TicketContent, HandshakeFailure> {
    tickets
        .and_then(|keys| keys.open(ticket).ok())
        .filter(|content| content.is_valid_at(now_s))
        .ok_or(HandshakeFailure::TicketRefused)
}

/// The name in the ticket, if it is its holder who shows it.
fn ticket_holder(
    content: &TicketContent,
    x25519: &[u8; 32],
    enrolled: bool,
) -> Result<ClientId, HandshakeFailure> {
    let same: bool = static_tag(x25519).ct_eq(&content.static_tag).into();
    if same && enrolled == content.flags.enrolled {
        Ok(content.client_id)
    } else {
        Err(HandshakeFailure::TicketRefused)
    }
}

impl Offered {
    /// The client's name; for an anonymous client that of its throw-away key.
    pub fn client_id(&self) -> ClientId {
        self.client_id
    }

    /// The client named its long-term keys: the answer will be readable to their holder alone, or, in a resumption, to the
    /// holder of a ticket that was issued to them.
    pub fn enrolled(&self) -> bool {
        self.enrolled
    }

    /// The content of the ticket this handshake resumes from.
    pub fn resumed(&self) -> Option<&TicketContent> {
        self.resumed.as_deref()
    }

    /// The client sends early data, and its ticket allows it. Whether the ticket was used before is for the caller to know.
    pub fn wants_early(&self) -> bool {
        let allowed = |content: &TicketContent| content.flags.early_ok && content.max_early > 0;
        self.mode == Mode::ResumeEarly && self.resumed().is_some_and(allowed)
    }

    /// What opens the client's early data, if it [`Self::wants_early`].
    pub fn early_open(&self) -> Option<EarlyOpen> {
        let content = self.resumed().filter(|_| self.wants_early())?;
        let h1 = self.noise.transcript().ok()?;
        Some(EarlyOpen::new(self.provider, &h1, &content.rms))
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
    /// The client is confirmed by the first packet that opens; send no application data before, unless the handshake
    /// [`Self::resumed`].
    pub fn accept(
        mut self,
        answer: ServerAnswer<'_>,
        rng: &mut dyn Entropy,
        body: &mut Vec<u8>,
    ) -> Result<SessionSecrets, HandshakeFailure> {
        body.clear();
        if answer.suite == Suite::Aes256Gcm && !self.has_aes {
            return Err(HandshakeFailure::SuiteNotOffered);
        }
        if answer.early_accepted && !self.wants_early() {
            return Err(HandshakeFailure::Misused);
        }
        let payload = Payload2 {
            server_time_ms: answer.server_time_ms,
            retry_echo: answer.retry_token.map(|token| retry_echo(self.hid, &token)),
            relay_cids: answer.relay_cids,
            params: answer.params,
        }
        .encode()?;
        // 1. Encapsulate to the client's keys: psk2.
        let head = self.head(&answer).encode();
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
        let parties = self.parties();
        let finished = self.noise.finish()?;
        let ct_c: &[u8] = kem.ct_c.as_ref().map_or(&[], |ct_c| ct_c);
        let parts = [&head[..], &kem.ct_e, ct_c, &message];
        body.reserve_exact(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            body.extend_from_slice(part);
        }
        Ok(SessionSecrets::new(
            self.provider,
            answer.suite,
            Role::Server,
            finished,
            parties,
        ))
    }

    fn head(&self, answer: &ServerAnswer<'_>) -> ServerHead {
        ServerHead {
            resumed: self.resumed.is_some(),
            suite: answer.suite,
            ct_c: self.ek_c.is_some(),
            early_accepted: answer.early_accepted,
            retry: answer.retry_token.is_some(),
        }
    }

    fn parties(&self) -> Parties {
        Parties {
            relay_id: self.relay_id,
            client_id: self.client_id,
            enrolled: self.enrolled,
            side: Side::relay(&self.x25519),
        }
    }
}
