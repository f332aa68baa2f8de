//! Strangers at the door of a relay. What fails at any step gets silence.
//!
//! 1. It has not come before.
//! 2. Under load it claims to have a token, or is one of those that get RETRY.
//! 3. The envelope opens (the hint has been checked before).
//! 4. Its clock is near ours.
//! 5. Under load the token is good; without one it gets RETRY and is forgotten: nothing below is touched.
//! 6. Its fragments make a hello.
//! 7. That hello has not come before, or is answered as before.
//! 8. It waits until there is time for it.
//! 9. It reads: one KEM decapsulation.
//! 10. Its sender may have a connection.
//! 11. An answer, and a half-open entry.
//! 12. The first packet that opens makes the connection.
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

use std::time::{Duration, Instant};

use transport_crypto::{
    Bundle, Entropy, EnvelopeHeader, EnvelopeType, Generation, OpenKeys, provider::Provider,
};

use super::EndpointStats;
use super::route::Routes;
use super::sessions::Usage;
use crate::buffer::Route;
use crate::config::{Access, EpochsError, Now, RelayEpoch, ServerConfig, TransportConfig};
use crate::connection::Peer;
use crate::packet::Sealed;
use crate::random::Random;
use crate::trace::{DropReason, Event, Tracer};
use crate::wire::ConnectionId;

mod answer;
mod commons;
mod early;
mod epochs;
mod freshness;
mod gate;
mod half_open;
mod hello;
mod load;
mod pace;
mod queue;
mod reassembly;
mod register;
mod sources;
mod strikes;
mod tickets;

pub(super) use commons::Commons;
use commons::lock;
use early::Lanes;
pub(super) use early::{Guest, Packet, Visit};
use epochs::Epochs;
use gate::Gate;
pub(super) use half_open::HalfOpen;
use half_open::HalfOpens;
pub(super) use half_open::Waiting;
use queue::Queue;
use reassembly::Reassembly;
use tickets::Tickets;
pub(super) use tickets::params_digest;

/// Datagrams a hello comes in, about.
const FRAGMENTS: u32 = 4;
/// Our connection ids in the answer.
const IDS_IN_ANSWER: usize = 2;

/// What the door needs from the house for one call.
pub(super) struct Hall<'a> {
    pub(super) routes: &'a mut Routes,
    pub(super) transport: &'a TransportConfig,
    pub(super) random: &'a mut Random,
    pub(super) entropy: &'a mut dyn Entropy,
    pub(super) out: &'a mut dyn FnMut(Route, Vec<u8>),
    /// Those who come with early data.
    pub(super) visits: &'a mut Vec<Visit>,
    /// Connections that stand.
    pub(super) connections: usize,
}

/// A client's first packet, opened.
pub(super) struct First<'d> {
    pub(super) entry: Box<HalfOpen>,
    pub(super) waiting: Waiting,
    /// What opened it.
    pub(super) opener: OpenKeys,
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
    envelopes_tried: u64,
    hellos_read: u64,
    gate: Gate,
    commons: Commons,
    queue: Queue,
    reassembly: Reassembly,
    half_open: HalfOpens,
    pub(super) tickets: Tickets,
    pub(super) lanes: Lanes,
}

impl Admission {
    /// Opens the door of a relay; its domains are entered into `routes`. `key`: a secret number; `commons`: what its workers
    /// share.
    pub(super) fn new(
        config: ServerConfig,
        provider: &'static dyn Provider,
        routes: &mut Routes,
        key: u64,
        commons: Commons,
    ) -> Self {
        let ServerConfig {
            relay_id,
            epochs,
            bundle,
            grants,
            access,
            app,
            max_connections,
            tickets,
        } = config;
        Self {
            epochs: Epochs::new(provider, relay_id, grants, epochs, bundle, routes),
            access,
            app,
            max_connections,
            refuse_new: false,
            answered: 0,
            envelopes_tried: 0,
            hellos_read: 0,
            gate: Gate::new(relay_id, commons.tokens.clone()),
            queue: Queue::new(key),
            reassembly: Reassembly::default(),
            half_open: HalfOpens::default(),
            tickets: Tickets::new(provider, relay_id, tickets, commons.tickets.clone()),
            lanes: Lanes::default(),
            commons,
        }
    }

    /// What the streams carry.
    pub(super) fn app(&self) -> &[u8] {
        &self.app
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
        self.half_open.take_all(shut_out, |entry| forget(entry, routes));
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
        let of_them = |entry: &HalfOpen| gone.contains(&entry.domain);
        self.half_open.take_all(of_them, |entry| forget(entry, routes));
    }

    /// The other workers learn how many are here, beside those at the door.
    pub(super) fn note_present(&self, connections: usize) {
        self.commons.note_present(connections + self.half_open.len());
    }

    /// Connections at most.
    pub(super) fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// How full everything at the door is.
    pub(super) fn usage(&self) -> Vec<Usage> {
        let mut usage = vec![self.half_open.usage(), self.queue.usage()];
        usage.extend(self.reassembly.usage());
        usage
    }

    /// Enters the gauges and counters of the door.
    pub(super) fn report(&self, stats: &mut EndpointStats) {
        (stats.epochs, stats.bundle) = self.epochs.stats();
        stats.half_open = self.half_open.len();
        stats.handshakes_answered = self.answered;
        stats.envelopes_tried = self.envelopes_tried;
        stats.hellos_read = self.hellos_read;
        stats.cookie_mode = self.gate.load.is_on();
        stats.retries_sent = self.gate.retries_sent;
        stats.reassembling = self.reassembly.len();
        stats.hellos_waiting = self.queue.len();
        stats.tickets_issued = self.tickets.issued;
        stats.early_accepted += self.tickets.early_accepted;
        stats.early_rejected += self.tickets.early_rejected;
    }

    /// What answering one hello costs whoever drives this.
    pub(super) fn set_cost(&mut self, cost: Duration) {
        self.queue.set_cost(cost);
    }

    /// Hellos that wait to be read.
    pub(super) fn hellos_waiting(&self) -> usize {
        self.queue.len()
    }

    /// When the next of them may be read.
    pub(super) fn due(&self) -> Option<Instant> {
        self.queue.due()
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        lock(&self.commons.freshness).memory()
            + self.queue.memory()
            + self.reassembly.memory()
            + self.half_open.memory()
            + self.tickets.memory()
            + self.lanes.memory()
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
        self.expire(now, hall.routes, tracer);
        self.retire(now, hall.routes);
        let nonce = nonce_key(datagram);
        let size = datagram.len();
        let domain = hall.routes.domain(index).ok_or(DropReason::Unknown)?;
        if lock(&self.commons.freshness).knows_envelope(nonce) {
            return Err(DropReason::EnvelopeReplayed);
        }
        if self.gate.load.is_on() {
            let claims = domain.envelope.claims(domain.incoming, datagram);
            if claims.is_none_or(|claims| self.gate.turns_away(now, claims)) {
                self.gate.load.note(self.queue.cost() / FRAGMENTS);
                return Err(DropReason::RetryRequired);
            }
        }
        self.envelopes_tried += 1;
        let (header, fragment) = domain
            .envelope
            .open(domain.incoming, datagram)
            .map_err(|_| DropReason::EnvelopeForged)?;
        if !matches!(header.kind, EnvelopeType::ClientHello | EnvelopeType::Early) {
            return Err(DropReason::EnvelopeKind);
        }
        let is_early = header.kind == EnvelopeType::Early;
        lock(&self.commons.freshness).check_time(now, u64::from(header.unix_minutes))?;
        let token = self.gate.proof(now, &header, route.remote);
        if token.is_none() && self.gate.load.is_on() {
            // Early data waits until the hello has shown a token, and then comes again.
            if is_early {
                return Err(DropReason::RetryRequired);
            }
            return Err(self.ask_for_token(now, route, index, &header, size, hall, tracer));
        }
        lock(&self.commons.freshness).note_envelope(now, nonce)?;
        self.gate.load.note(self.queue.cost() / FRAGMENTS);
        if is_early {
            return self.on_early(now, route, &header, fragment, size, hall);
        }
        let from = (route.remote, token);
        match self.reassembly.add(now.instant, from, &header, fragment, size)? {
            None => Ok(()),
            Some(complete) => self.on_hello(now, route, index, header.hid, complete, hall, tracer),
        }
    }

    /// Early data: kept, handed on, or dropped.
    fn on_early(
        &mut self,
        now: Now,
        route: Route,
        header: &EnvelopeHeader,
        fragment: &[u8],
        size: usize,
        hall: &mut Hall<'_>,
    ) -> Result<(), DropReason> {
        if !self.tickets.takes_early() {
            return Err(DropReason::EarlyRejected);
        }
        let key = (header.hid, route.remote);
        let visit = self.lanes.add(now.instant, key, header, fragment, size)?;
        hall.visits.extend(visit);
        Ok(())
    }

    /// Cookie mode: RETRY, and no trace of who asked.
    #[expect(
        clippy::too_many_arguments,
        reason = "one datagram, and all that is known about it"
    )]
    fn ask_for_token(
        &mut self,
        now: Now,
        route: Route,
        index: usize,
        header: &EnvelopeHeader,
        size: usize,
        hall: &mut Hall<'_>,
        tracer: &mut Tracer<'_>,
    ) -> DropReason {
        self.gate.load.note(self.queue.cost() / FRAGMENTS);
        let (random, entropy) = (&mut *hall.random, &mut *hall.entropy);
        let retry = hall.routes.domain(index).and_then(|domain| {
            self.gate
                .retry(now, header, route.remote, size, domain, random, entropy)
        });
        if let Some(datagram) = retry {
            (hall.out)(route, datagram);
            tracer.tell_endpoint(&Event::RetrySent);
        }
        if header.token.is_some() {
            DropReason::TokenInvalid
        } else {
            DropReason::RetryRequired
        }
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
        let mut opener = waiting.secrets.opener();
        let sealed = Sealed::unmask(datagram, cid, &opener).ok_or(DropReason::Forged)?;
        // Nothing was received, so the truncated number is the number (RFC 9000 §A.3).
        let number = u64::from(sealed.truncated());
        let frames = sealed
            .open(&mut opener, Generation::Current, 0, number)
            .map_err(|_| DropReason::Forged)?;
        let mut entry = self.half_open.remove(id).ok_or(DropReason::Unknown)?;
        let waiting = entry.waiting.take().ok_or(DropReason::Unknown)?;
        Ok(First {
            entry,
            waiting,
            opener,
            number,
            frames,
        })
    }

    /// Lets go what has waited too long, and decides whether strangers must show a token.
    pub(super) fn expire(&mut self, now: Now, routes: &mut Routes, tracer: &mut Tracer<'_>) {
        self.reassembly.expire(now.instant);
        self.lanes.expire(now.instant);
        while let Some(hello) = self.queue.expire(now.instant) {
            tracer.dropped(DropReason::Overload, hello.complete.received);
        }
        while let Some(entry) = self.half_open.expire(now.instant) {
            forget(&entry, routes);
        }
        let filled = [
            self.reassembly.filled(),
            self.half_open.filled(),
            self.queue.filled(),
            lock(&self.commons.freshness).filled(),
        ];
        let fullest = filled.into_iter().max().unwrap_or(0);
        if let Some(on) = self.gate.load.judge(now.instant, fullest) {
            tracer.tell_endpoint(&Event::CookieMode { on });
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

/// Envelopes are told apart by eight of the random bytes they begin with.
fn nonce_key(datagram: &[u8]) -> u64 {
    datagram
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
