//! The endpoint as a relay: strangers are admitted, and become connections with their first packet.
#![forbid(unsafe_code)]

use transport_scheduler::Side;

use super::admit::{Admission, First, Hall};
use super::route::Target;
use super::slab::Occupant;
use super::{Endpoint, enqueue};
use crate::buffer::Route;
use crate::config::Now;
use crate::connection::{Connection, Established, Info};
use crate::trace::{self, Tracer};
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
        let mut hall = Hall {
            routes: &mut self.routes,
            transport: &self.transport,
            random: &mut self.random,
            entropy: &mut *self.entropy,
            out: &mut |route, datagram| enqueue(waiting, route, datagram),
            connections: self.slab.len(),
        };
        Some(call(admission, &mut hall, &mut self.watch.tracer(now, None)))
    }

    pub(super) fn on_first(
        &mut self,
        now: Now,
        route: Route,
        id: u64,
        cid: ConnectionId,
        datagram: &mut [u8],
    ) {
        let Some(admission) = &mut self.admission else {
            return;
        };
        let size = datagram.len();
        match admission.handle_first(id, cid, datagram) {
            Ok(first) => self.welcome(now, route, size, first),
            Err(reason) => self.watch.tracer(now, None).dropped(reason, size),
        }
    }

    /// The client has the keys: the connection begins.
    fn welcome(&mut self, now: Now, route: Route, size: usize, first: First<'_>) {
        let First {
            entry,
            waiting,
            number,
            frames,
        } = first;
        let Some(domain) = self.routes.domain(waiting.domain) else {
            return;
        };
        let info = Info {
            peer: waiting.peer,
            suite: waiting.secrets.suite(),
            handshake: now.instant.saturating_duration_since(entry.born),
        };
        let sample = now.instant.saturating_duration_since(entry.answered);
        let made = Established {
            side: Side::Server,
            info,
            session: waiting.secrets.into_session(),
            cids: domain.masks.clone(),
            route,
            ours: waiting.ours.to_vec(),
            theirs: vec![waiting.theirs],
            params: waiting.params,
            rtt: (entry.times_answered == 1).then_some(sample),
        };
        let connection = Connection::new(now, made, self.transport.clone(), self.random.fork());
        let handle = self
            .slab
            .insert(Occupant::Live(Box::new(connection), waiting.domain));
        for cid in waiting.ours {
            self.routes.insert(cid, Target::Connection(handle.slot));
        }
        self.watch.stats.handshakes_completed += 1;
        let mut tracer = self.watch.tracer(now, Some(handle));
        tracer.tell(|connection| trace::Event::Connected { connection });
        tracer.tell(|connection| trace::Event::Confirmed { connection });
        if let Some(connection) = self.slab.connection(handle.slot) {
            connection.handle_first(now, route, size, number, frames, &mut tracer);
        }
    }
}
