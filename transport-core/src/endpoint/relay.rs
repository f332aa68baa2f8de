//! The endpoint as a relay: strangers are admitted, and become connections with their first packet.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use transport_crypto::OpenKeys;
use transport_scheduler::Side;

use super::admit::{Admission, First, Guest, Hall, Packet, Visit, Waiting, params_digest};
use super::route::Target;
use super::slab::Occupant;
use super::{Endpoint, enqueue};
use crate::buffer::{Arrived, Route};
use crate::config::Now;
use crate::connection::{Connection, Established, Info};
use crate::handle::Handle;
use crate::trace::{self, DropReason, Tracer};
use crate::wire::ConnectionId;

impl Endpoint {
    pub(super) fn on_stranger(&mut self, now: Now, route: Route, index: usize, datagram: &mut [u8]) {
        self.at_the_door(now, |admission, hall, tracer| {
            admission.handle_envelope(now, route, index, datagram, hall, tracer);
        });
    }

    /// Answers one hello that waits. False: there is none, or it is too early.
    pub(super) fn answer_stranger(&mut self, now: Now) -> bool {
        self.at_the_door(now, |admission, hall, tracer| {
            admission.answer_next(now, hall, tracer)
        })
        .unwrap_or(false)
    }

    fn at_the_door<R>(
        &mut self,
        now: Now,
        call: impl FnOnce(&mut Admission, &mut Hall<'_>, &mut Tracer<'_>) -> R,
    ) -> Option<R> {
        let admission = self.admission.as_mut()?;
        let waiting = &mut self.waiting;
        let mut visits = Vec::new();
        let mut hall = Hall {
            routes: &mut self.routes,
            transport: &self.transport,
            random: &mut self.random,
            entropy: &mut *self.entropy,
            out: &mut |route, datagram| enqueue(waiting, route, datagram),
            visits: &mut visits,
            connections: self.slab.len(),
        };
        let result = call(admission, &mut hall, &mut self.watch.tracer(now, None));
        for visit in visits {
            match visit {
                Visit::Guest(guest) => self.welcome_guest(now, *guest),
                Visit::Packet(handle, packet) => self.on_early(now, handle, &packet),
            }
        }
        Some(result)
    }

    pub(super) fn on_first(
        &mut self,
        now: Now,
        arrived: Arrived,
        id: u64,
        cid: ConnectionId,
        datagram: &mut [u8],
    ) {
        let Some(admission) = &mut self.admission else {
            return;
        };
        let size = datagram.len();
        match admission.handle_first(id, cid, datagram) {
            Ok(first) => self.welcome(now, arrived, size, first),
            Err(reason) => self.watch.tracer(now, None).dropped(reason, size),
        }
    }

    /// The client has the keys: the connection begins.
    fn welcome(&mut self, now: Now, arrived: Arrived, size: usize, first: First<'_>) {
        let First {
            entry,
            waiting,
            opener,
            number,
            frames,
        } = first;
        let sample = now.instant.saturating_duration_since(entry.answered);
        let rtt = (entry.times_answered == 1).then_some(sample);
        let confirmed = Proof {
            // The answer arrived there, or the packet could not have been sealed. Where the packet came from is unproved.
            route: entry.route,
            born: entry.born,
            rtt,
            confirmed: true,
            narrow: entry.is_narrow(),
        };
        let Some(handle) = self.seat(now, waiting, Some(opener), confirmed) else {
            return;
        };
        let mut tracer = self.watch.tracer(now, Some(handle));
        tracer.tell(|connection| trace::Event::Confirmed { connection });
        if let Some(connection) = self.slab.connection(handle.slot) {
            connection.handle_first(now, arrived, size, number, frames, &mut tracer);
        }
    }

    /// A client whose early data is taken. It has shown no more than that it has a ticket.
    fn welcome_guest(&mut self, now: Now, guest: Guest) {
        let Guest {
            key,
            waiting,
            route,
            born,
            packets,
        } = guest;
        let unproved = Proof {
            route,
            born,
            rtt: None,
            confirmed: false,
            narrow: false,
        };
        let Some(handle) = self.seat(now, waiting, None, unproved) else {
            return;
        };
        if let Some(admission) = &mut self.admission {
            admission.lanes.seat(&key, handle);
        }
        for packet in &packets {
            self.on_early(now, handle, packet);
        }
    }

    /// An early packet of a connection that began with such.
    fn on_early(&mut self, now: Now, handle: Handle, packet: &Packet) {
        let mut tracer = self.watch.tracer(now, Some(handle));
        let slot = self.slab.find(handle);
        match slot.and_then(|slot| self.slab.connection(slot)) {
            Some(connection) => {
                connection.handle_early(now, packet.size, packet.number, &packet.frames, &mut tracer);
            }
            None => tracer.dropped(DropReason::Closing, packet.size),
        }
        if let Some(slot) = slot {
            self.slab.mark(slot);
        }
    }

    /// The connection of a handshake that was answered; `opener`: what opened a first packet.
    fn seat(&mut self, now: Now, waiting: Waiting, opener: Option<OpenKeys>, proof: Proof) -> Option<Handle> {
        let domain = self.routes.domain(waiting.domain)?;
        let tickets = self
            .admission
            .as_ref()
            .map_or(0, |admission| admission.tickets.count());
        self.watch
            .log_keys(now, false, proof.route.remote, || waiting.secrets.traffic());
        let info = Info {
            peer: waiting.peer,
            suite: waiting.secrets.suite(),
            handshake: now.instant.saturating_duration_since(proof.born),
            resumed: waiting.resumed,
            early_accepted: waiting.early,
        };
        let made = Established {
            side: Side::Server,
            info,
            session: match opener {
                Some(opener) => waiting.secrets.with_opener(opener),
                None => waiting.secrets.into_session(),
            },
            cids: domain.masks.clone(),
            route: proof.route,
            ours: waiting.ours.to_vec(),
            theirs: vec![waiting.theirs],
            params: waiting.params,
            rtt: proof.rtt,
            tickets,
            confirmed: proof.confirmed,
            epoch: domain.epoch(),
            narrow: proof.narrow,
        };
        let connection = Connection::new(now, made, self.transport.clone(), self.random.fork());
        let handle = self.slab.insert(Occupant::Live(Box::new(connection), None));
        for cid in waiting.ours {
            self.routes.insert(cid, Target::Connection(handle.slot));
        }
        self.watch.stats.handshakes_completed += 1;
        self.watch.stats.resumed += u64::from(info.resumed);
        self.watch
            .tracer(now, Some(handle))
            .tell(|connection| trace::Event::Connected { connection });
        self.tell_news(now, handle.slot);
        Some(handle)
    }

    /// Makes the tickets a connection owes its client.
    pub(super) fn issue_tickets(&mut self, now: Now, slot: u32) {
        let (Some(admission), Some(connection)) = (&mut self.admission, self.slab.connection(slot)) else {
            return;
        };
        if connection.tickets_due().is_some() {
            let digest = params_digest(&self.transport, admission.app());
            admission
                .tickets
                .issue(now, connection, digest, &mut self.random, &mut *self.entropy);
        }
    }
}

/// What is known of a client when its connection begins.
struct Proof {
    route: Route,
    born: Instant,
    rtt: Option<Duration>,
    /// It has shown that it has the keys.
    confirmed: bool,
    /// It took small datagrams.
    narrow: bool,
}
