//! Strangers at the door of a relay. What fails at any step gets silence.
//!
//! 1. The envelope opens (the hint has been checked before).
//! 2. Its clock is near ours.
//! 3. It has not come before.
//! 4. Its fragments make a hello.
//! 5. That hello has not come before, or is answered as before.
//! 6. It reads: one KEM decapsulation.
//! 7. Its sender may have a connection.
//! 8. An answer, and a half-open entry.
//! 9. The first packet that opens makes the connection.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::time::Instant;

use transport_crypto::{
    Bundle, Direction, Entropy, EnvelopeHeader, EnvelopeType, Generation, HandshakeFailure, Offered,
    ServerAnswer, Suite, sha256,
};

use super::flight::{Flight, SIZES, SMALL_SIZES};
use super::route::{Routes, Target};
use super::sessions::Usage;
use crate::buffer::Route;
use crate::config::{Access, EpochsError, Now, RelayEpoch, ServerConfig, TransportConfig};
use crate::connection::{Peer, announce};
use crate::error::code;
use crate::packet::Sealed;
use crate::random::Random;
use crate::trace::{DropReason, Event, Tracer};
use crate::wire::{ConnectionId, TransportParameters, Writer};

mod epochs;
mod half_open;
mod reassembly;
mod register;

pub(super) use half_open::HalfOpen;
use epochs::Epochs;
use half_open::{HalfOpens, HelloHash, Waiting};
use reassembly::{Complete, Reassembly};
use register::Register;

/// How far a client's clock may be off, minutes.
const TOLERANCE: u64 = 10;
/// What the nonces and the hellos that came before may take, two generations each: a hello comes in four envelopes or so.
const NONCE_BYTES: usize = 8 << 20;
const HELLO_BYTES: usize = 4 << 20;
/// Our connection ids in the answer.
const IDS_IN_ANSWER: usize = 2;
/// Size of a refusal, bytes.
const REFUSAL_SIZES: std::ops::RangeInclusive<usize> = 200..=400;

/// What the door needs from the house for one call.
pub(super) struct Hall<'a> {
    pub(super) routes: &'a mut Routes,
    pub(super) transport: &'a TransportConfig,
    pub(super) random: &'a mut Random,
    pub(super) entropy: &'a mut dyn Entropy,
    pub(super) out: &'a mut dyn FnMut(Route, Vec<u8>),
    /// Connections that stand.
    pub(super) connections: usize,
}

/// A client's first packet, opened.
pub(super) struct First<'d> {
    pub(super) entry: Box<HalfOpen>,
    pub(super) waiting: Waiting,
    pub(super) number: u64,
    pub(super) frames: &'d [u8],
}

/// The door.
pub(super) struct Admission {
    pub(super) epochs: Epochs,
    access: Access,
    app: Vec<u8>,
    max_connections: usize,
    pub(super) refuse_new: bool,
    pub(super) answered: u64,
    started_ms: Option<u64>,
    nonces: Register<u64>,
    hellos: Register<HelloHash>,
    reassembly: Reassembly,
    half_open: HalfOpens,
}

impl Admission {
    /// Opens the door of a relay; its domains are entered into `routes`.
    pub(super) fn new(config: ServerConfig, routes: &mut Routes) -> Self {
        let ServerConfig {
            relay_id,
            epochs,
            bundle,
            grants,
            access,
            app,
            max_connections,
        } = config;
        Self {
            epochs: Epochs::new(relay_id, grants, epochs, bundle, routes),
            access,
            app,
            max_connections,
            refuse_new: false,
            answered: 0,
            started_ms: None,
            nonces: Register::new(Register::<u64>::capacity_within(NONCE_BYTES), 0),
            hellos: Register::new(Register::<HelloHash>::capacity_within(HELLO_BYTES), 0),
            reassembly: Reassembly::default(),
            half_open: HalfOpens::default(),
        }
    }

    /// Who may enter.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// Another rule for who may enter; half-open handshakes of those it shuts out are forgotten.
    pub(super) fn replace_access(&mut self, access: Access, routes: &mut Routes) {
        self.access = access;
        let access = &self.access;
        let shut_out = |entry: &HalfOpen| {
            let peer = entry.waiting.as_ref().map(|waiting| waiting.peer);
            peer.is_some_and(|peer| !lets_in(access, peer))
        };
        for entry in self.half_open.take_all(shut_out) {
            forget(&entry, routes);
        }
    }

    /// Other epochs from now on.
    pub(super) fn replace_epochs(
        &mut self,
        epochs: Vec<RelayEpoch>,
        bundle: Option<Bundle>,
        routes: &mut Routes,
    ) -> Result<(), EpochsError> {
        let gone = self.epochs.replace(epochs, bundle, routes)?;
        self.forget_domains(&gone, routes);
        Ok(())
    }

    /// Lets the epochs go whose time is over: from now on their datagrams look like anybody's.
    pub(super) fn retire(&mut self, now: Now, routes: &mut Routes) {
        let gone = self.epochs.retire(now, routes);
        self.forget_domains(&gone, routes);
    }

    /// Handshakes of these domains cannot be answered any more.
    fn forget_domains(&mut self, gone: &[usize], routes: &mut Routes) {
        if gone.is_empty() {
            return;
        }
        for entry in self.half_open.take_all(|entry| gone.contains(&entry.domain)) {
            forget(&entry, routes);
        }
    }

    /// Connections at most.
    pub(super) fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// How full everything at the door is.
    pub(super) fn usage(&self) -> Vec<Usage> {
        let mut usage = vec![self.half_open.usage()];
        usage.extend(self.reassembly.usage());
        usage
    }

    /// Handshakes that were answered and are not yet connections.
    pub(super) fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.nonces.memory() + self.hellos.memory() + self.reassembly.memory() + self.half_open.memory()
    }

    /// A datagram that looks like an envelope of domain `index`.
    pub(super) fn handle_envelope(
        &mut self,
        now: Now,
        route: Route,
        index: usize,
        datagram: &mut [u8],
        hall: &mut Hall<'_>,
        tracer: &mut Tracer<'_>,
    ) {
        let size = datagram.len();
        if let Err(reason) = self.admit(now, route, index, datagram, hall, tracer) {
            tracer.dropped(reason, size);
        }
    }

    fn admit(
        &mut self,
        now: Now,
        route: Route,
        index: usize,
        datagram: &mut [u8],
        hall: &mut Hall<'_>,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), DropReason> {
        self.expire(now.instant, hall.routes);
        self.retire(now, hall.routes);
        let nonce = nonce_key(datagram);
        let size = datagram.len();
        let domain = hall.routes.domain(index).ok_or(DropReason::Unknown)?;
        let (header, fragment) = domain
            .envelope
            .open(domain.incoming, datagram)
            .map_err(|_| DropReason::EnvelopeForged)?;
        if header.kind != EnvelopeType::ClientHello {
            return Err(DropReason::EnvelopeKind);
        }
        self.check_time(now, u64::from(header.unix_minutes))?;
        if !self.nonces.insert(nonce, now.unix_ms) {
            return Err(DropReason::EnvelopeReplayed);
        }
        match self
            .reassembly
            .add(now.instant, route.remote, &header, fragment, size)?
        {
            None => Ok(()),
            Some(complete) => self.on_hello(now, route, index, &header, &complete, hall, tracer),
        }
    }

    /// Minutes of the sender near ours; just after a start only such that no copy from before is taken.
    fn check_time(&mut self, now: Now, minutes: u64) -> Result<(), DropReason> {
        let present = now.unix_minutes();
        let started = *self.started_ms.get_or_insert(now.unix_ms) / 60_000;
        let tolerance = self
            .nonces
            .tolerance(now.unix_ms, TOLERANCE)
            .min(self.hellos.tolerance(now.unix_ms, TOLERANCE));
        let fresh_start = present.saturating_sub(started) < TOLERANCE;
        if minutes.abs_diff(present) > tolerance || (fresh_start && minutes + 1 < started) {
            return Err(DropReason::Stale);
        }
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one message, and all that is known about it"
    )]
    fn on_hello(
        &mut self,
        now: Now,
        route: Route,
        index: usize,
        header: &EnvelopeHeader,
        complete: &Complete,
        hall: &mut Hall<'_>,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), DropReason> {
        let body = complete.body.bytes();
        let hash = hello_hash(body);
        if let Some(entry) = self.half_open.of_hello(&hash, route.remote) {
            entry.received += complete.received;
            entry.largest = entry.largest.min(complete.largest);
            return answer(entry, now, hall, tracer);
        }
        if !self.hellos.insert(hash, now.unix_ms) {
            return Err(DropReason::HelloReplayed);
        }
        let responder = self.epochs.responder(index).ok_or(DropReason::Unknown)?;
        let offered = responder
            .read(header.hid, body)
            .map_err(|_| DropReason::HelloInvalid)?;
        self.check_time(now, offered.time_ms() / 60_000)?;
        if !self.may_enter(&offered) {
            return Err(DropReason::AccessDenied);
        }
        let params = TransportParameters::parse(offered.params()).map_err(|_| DropReason::HelloInvalid)?;
        let mut entry = HalfOpen {
            hash,
            hid: header.hid,
            domain: index,
            route,
            kind: EnvelopeType::ServerHello,
            answer: Box::default(),
            waiting: None,
            born: complete.born,
            answered: now.instant,
            times_answered: 0,
            received: complete.received,
            sent: 0,
            largest: complete.largest,
        };
        match self.objection(&params, hall.connections) {
            Some(code) => {
                refuse(&mut entry, code);
                tracer.tell_endpoint(&Event::HandshakeRefused { code });
            }
            None => self
                .accept(now, offered, params, &mut entry, hall)
                .map_err(|_| DropReason::HelloInvalid)?,
        }
        let result = answer(&mut entry, now, hall, tracer);
        if let Some(oldest) = self.half_open.make_room() {
            forget(&oldest, hall.routes);
            tracer.dropped(DropReason::HalfOpenFull, complete.received);
        }
        let ids = entry.waiting.as_ref().map(|waiting| waiting.ours);
        let id = self.half_open.insert(entry);
        for cid in ids.into_iter().flatten() {
            hall.routes.insert(cid, Target::HalfOpen(id));
        }
        result
    }

    fn may_enter(&self, offered: &Offered) -> bool {
        let client = offered.enrolled().then(|| offered.client_id());
        self.access.allows(client.as_ref())
    }

    /// Why a client that may enter is told to stay out, as a wire code.
    fn objection(&self, params: &TransportParameters, connections: usize) -> Option<u64> {
        let full = connections + self.half_open.len() >= self.max_connections;
        if params.app != self.app {
            Some(code::NO_APPLICATION_PROTOCOL)
        } else if self.refuse_new || full {
            Some(code::CONNECTION_REFUSED)
        } else {
            None
        }
    }

    fn accept(
        &mut self,
        now: Now,
        offered: Offered,
        mut params: TransportParameters,
        entry: &mut HalfOpen,
        hall: &mut Hall<'_>,
    ) -> Result<(), HandshakeFailure> {
        // It is ours; no need to keep a copy of it for each.
        params.app = Vec::new();
        let both = offered.has_aes() && hall.transport.aes;
        let suite = if both {
            Suite::Aes256Gcm
        } else {
            Suite::ChaCha20Poly1305
        };
        let ours: [ConnectionId; IDS_IN_ANSWER] = std::array::from_fn(|_| hall.random.cid());
        let mut announced = Vec::new();
        announce(hall.transport, &self.app)
            .encode(&mut announced)
            .map_err(|_| HandshakeFailure::TooLong("parameters"))?;
        let peer = if offered.enrolled() {
            Peer::Client(offered.client_id())
        } else {
            Peer::Anonymous
        };
        let theirs = ConnectionId(offered.scid());
        let reply = ServerAnswer {
            suite,
            relay_cids: &ours.map(|cid| cid.0),
            params: &announced,
            server_time_ms: now.unix_ms,
        };
        let mut answer = Vec::new();
        let session = offered.accept(reply, hall.entropy, &mut answer)?;
        entry.answer = answer.into_boxed_slice();
        let domain = entry.domain;
        entry.waiting = Some(Waiting {
            session,
            ours,
            theirs,
            params,
            peer,
            domain,
        });
        self.answered += 1;
        Ok(())
    }

    /// A packet for a half-open handshake: if it opens, the client has the keys and becomes a connection.
    pub(super) fn handle_first<'d>(
        &mut self,
        id: u64,
        cid: ConnectionId,
        datagram: &'d mut [u8],
    ) -> Result<First<'d>, DropReason> {
        let waiting = self
            .half_open
            .get_mut(id)
            .and_then(|entry| entry.waiting.as_mut())
            .ok_or(DropReason::Unknown)?;
        let keys = &mut waiting.session.open;
        let sealed = Sealed::unmask(datagram, cid, keys).ok_or(DropReason::Forged)?;
        // Nothing was received, so the truncated number is the number (RFC 9000 §A.3).
        let number = u64::from(sealed.truncated());
        let frames = sealed
            .open(keys, Generation::Current, 0, number)
            .map_err(|_| DropReason::Forged)?;
        let mut entry = self.half_open.remove(id).ok_or(DropReason::Unknown)?;
        let waiting = entry.waiting.take().ok_or(DropReason::Unknown)?;
        Ok(First {
            entry,
            waiting,
            number,
            frames,
        })
    }

    /// Lets go what has waited too long.
    pub(super) fn expire(&mut self, now: Instant, routes: &mut Routes) {
        self.reassembly.expire(now);
        while let Some(entry) = self.half_open.expire(now) {
            forget(&entry, routes);
        }
    }
}

/// Whether somebody may be here.
pub(super) fn lets_in(access: &Access, peer: Peer) -> bool {
    match peer {
        Peer::Relay(_) => true,
        Peer::Client(id) => access.allows(Some(&id)),
        Peer::Anonymous => access.allows(None),
    }
}

/// Nothing leads to it any more.
fn forget(entry: &HalfOpen, routes: &mut Routes) {
    let ids = entry.waiting.iter().flat_map(|waiting| &waiting.ours);
    ids.for_each(|cid| routes.remove(cid));
}

/// HSCLOSE instead of an answer.
fn refuse(entry: &mut HalfOpen, code: u64) {
    let mut bytes = [0; 8];
    let mut writer = Writer::new(&mut bytes);
    // Cannot fail: our codes are short.
    let _ = writer.varint(code);
    let used = writer.len();
    entry.kind = EnvelopeType::HandshakeClose;
    entry.answer = bytes.get(..used).unwrap_or_default().into();
}

/// Sends the answer, or sends it again, as far as three times what the client sent goes.
fn answer(
    entry: &mut HalfOpen,
    now: Now,
    hall: &mut Hall<'_>,
    tracer: &mut Tracer<'_>,
) -> Result<(), DropReason> {
    let domain = hall.routes.domain(entry.domain).ok_or(DropReason::Unknown)?;
    let flight = Flight {
        keys: &domain.envelope,
        direction: Direction::ServerToClient,
        kind: entry.kind,
        hid: entry.hid,
        unix_ms: now.unix_ms,
        body: &entry.answer,
        sizes: match entry.kind {
            EnvelopeType::HandshakeClose => REFUSAL_SIZES,
            _ if entry.largest <= *SMALL_SIZES.end() => SMALL_SIZES,
            _ => SIZES,
        },
        parity: false,
    };
    let datagrams = flight
        .seal(hall.random, hall.entropy)
        .map_err(|_| DropReason::HelloInvalid)?;
    let size: usize = datagrams.iter().map(Vec::len).sum();
    if size > entry.allowance() {
        return Err(DropReason::Amplification);
    }
    entry.sent += size;
    entry.times_answered += 1;
    for datagram in datagrams {
        (hall.out)(entry.route, datagram);
    }
    tracer.tell_endpoint(&Event::HelloAnswered {
        again: entry.times_answered > 1,
    });
    Ok(())
}

/// Envelopes are told apart by eight of the random bytes they begin with.
fn nonce_key(datagram: &[u8]) -> u64 {
    datagram
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn hello_hash(body: &[u8]) -> HelloHash {
    let hash = sha256(&[body]);
    let (half, _) = hash.split_first_chunk().unwrap_or((&[0; 16], &[]));
    *half
}

#[cfg(test)]
mod tests;
