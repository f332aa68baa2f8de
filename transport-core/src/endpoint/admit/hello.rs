//! A complete hello: put into the queue; then read, judged, answered.
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

use transport_crypto::{EnvelopeType, HandshakeFailure, Offered, ServerAnswer, Suite, sha256};

use super::answer::{answer, refuse};
use super::commons::lock;
use super::early::{Guest, Visit};
use super::half_open::{HalfOpen, HelloHash, Waiting};
use super::queue::Hello;
use super::reassembly::Complete;
use super::{Admission, Hall, IDS_IN_ANSWER, forget};
use crate::buffer::Route;
use crate::config::Now;
use crate::connection::{Peer, announce};
use crate::endpoint::flight::{Hid, Token};
use crate::endpoint::route::Target;
use crate::error::code;
use crate::trace::{DropReason, Event, Tracer};
use crate::wire::{ConnectionId, TransportParameters};

impl Admission {
    /// One has come whole: it is answered as before, or waits.
    #[expect(
        clippy::too_many_arguments,
        reason = "one message, and all that is known about it"
    )]
    pub(super) fn on_hello(
        &mut self,
        now: Now,
        route: Route,
        index: usize,
        hid: Hid,
        complete: Complete,
        hall: &mut Hall<'_>,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), DropReason> {
        let hash = hello_hash(complete.body.bytes());
        if let Some(entry) = self.half_open.of_hello(&hash, route.remote) {
            entry.received += complete.received;
            entry.largest = entry.largest.min(complete.largest);
            return answer(entry, now, hall, tracer);
        }
        if lock(&self.commons.freshness).knows_hello(&hash) {
            return Err(DropReason::HelloReplayed);
        }
        let hello = Hello {
            hid,
            domain: index,
            route,
            hash,
            complete,
            queued: now.instant,
        };
        if let Some(oldest) = self.queue.push(hello)? {
            tracer.dropped(DropReason::Overload, oldest.complete.received);
        }
        Ok(())
    }

    /// Reads and answers the next one that waits. False: none, or it is too early.
    pub(in crate::endpoint) fn answer_next(
        &mut self,
        now: Now,
        hall: &mut Hall<'_>,
        tracer: &mut Tracer<'_>,
    ) -> bool {
        let Some(hello) = self.queue.next(now.instant) else {
            return false;
        };
        if let Err(reason) = self.read_hello(now, &hello, hall, tracer) {
            tracer.dropped(reason, hello.complete.received);
        }
        true
    }

    fn read_hello(
        &mut self,
        now: Now,
        hello: &Hello,
        hall: &mut Hall<'_>,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), DropReason> {
        let Hello {
            hid,
            domain,
            route,
            hash,
            ref complete,
            ..
        } = *hello;
        // Not before now: what had to leave the queue may come again.
        lock(&self.commons.freshness).note_hello(now, hash)?;
        let offered = self.open_hello(now, hello, hall)?;
        lock(&self.commons.freshness).check_time(now, offered.time_ms() / 60_000)?;
        if !self.may_enter(&offered) {
            return Err(DropReason::AccessDenied);
        }
        let params = TransportParameters::parse(offered.params()).map_err(|_| DropReason::HelloInvalid)?;
        let mut entry = HalfOpen {
            hash,
            hid,
            domain,
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
            early: None,
        };
        match self.objection(&params, hall.connections) {
            Some(code) => {
                refuse(&mut entry, code);
                tracer.tell_endpoint(&Event::HandshakeRefused { code });
            }
            None => self
                .accept(now, offered, params, complete.token, &mut entry, hall)
                .map_err(|_| DropReason::HelloInvalid)?,
        }
        let result = answer(&mut entry, now, hall, tracer);
        self.greet(now, &mut entry, hall, tracer);
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

    /// One KEM decapsulation, and the ticket if there is one.
    fn open_hello(&mut self, now: Now, hello: &Hello, hall: &mut Hall<'_>) -> Result<Offered, DropReason> {
        self.hellos_read += 1;
        let responder = self.epochs.responder(hello.domain).ok_or(DropReason::Unknown)?;
        let ring = self.tickets.ring(now, hall.entropy);
        let tickets = ring.as_ref().and_then(|ring| ring.keys());
        let body = hello.complete.body.bytes();
        responder
            .read(hello.hid, body, tickets, now.unix_ms / 1000)
            .map_err(|failure| match failure {
                HandshakeFailure::TicketRefused => DropReason::TicketInvalid,
                _ => DropReason::HelloInvalid,
            })
    }

    /// Early data of a hello that was answered: taken, the client becomes a connection at once; else what was kept of it goes.
    fn greet(&mut self, now: Now, entry: &mut HalfOpen, hall: &mut Hall<'_>, tracer: &mut Tracer<'_>) {
        let key = (entry.hid, entry.route.remote);
        let announced = entry.waiting.as_ref().and_then(|waiting| waiting.early);
        let Some(open) = entry.early.take() else {
            if announced.is_some() {
                let dropped = self.lanes.refuse(now.instant, key);
                (0..dropped).for_each(|_| tracer.dropped(DropReason::EarlyRejected, 0));
            }
            return;
        };
        let (packets, drops) = self
            .lanes
            .accept(now.instant, key, open, self.tickets.max_early() as usize);
        for reason in drops {
            tracer.dropped(reason, 0);
        }
        if let Some(waiting) = entry.waiting.take() {
            hall.visits.push(Visit::Guest(Box::new(Guest {
                key,
                waiting,
                route: entry.route,
                born: entry.born,
                packets,
            })));
        }
    }

    fn may_enter(&self, offered: &Offered) -> bool {
        let client = offered.enrolled().then(|| offered.client_id());
        self.access.allows(client.as_ref())
    }

    /// Why a client that may enter is told to stay out, as a wire code.
    fn objection(&self, params: &TransportParameters, connections: usize) -> Option<u64> {
        let elsewhere = self.commons.elsewhere();
        let full = connections + self.half_open.len() + elsewhere >= self.max_connections;
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
        token: Option<Token>,
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
        let announces = offered.resumed().is_some() && offered.wants_early();
        let early = self.tickets.judge(now, &offered, &announced);
        let resumed = offered.resumed().is_some();
        let reply = ServerAnswer {
            suite,
            relay_cids: &ours.map(|cid| cid.0),
            params: &announced,
            server_time_ms: now.unix_ms,
            early_accepted: early.is_some(),
            retry_token: token,
        };
        let mut answer = Vec::new();
        let secrets = offered.accept(reply, hall.entropy, &mut answer)?;
        entry.answer = answer.into_boxed_slice();
        let domain = entry.domain;
        entry.waiting = Some(Waiting {
            secrets,
            ours,
            theirs,
            params,
            peer,
            domain,
            resumed,
            early: announces.then_some(early.is_some()),
        });
        entry.early = early;
        self.answered += 1;
        Ok(())
    }
}

pub(super) fn hello_hash(body: &[u8]) -> HelloHash {
    let hash = sha256(&[body]);
    let (half, _) = hash.split_first_chunk().unwrap_or((&[0; 16], &[]));
    *half
}
