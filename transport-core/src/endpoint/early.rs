//! The endpoint as a client that comes back with a ticket: early data goes out beside the hello, and a full hello follows where
//! the relay does not answer to the ticket.
#![forbid(unsafe_code)]

use super::dial::{Dial, Due};
use super::opening::Early;
use super::slab::Occupant;
use super::{Endpoint, Output};
use crate::buffer::Batch;
use crate::config::Now;
use crate::connection::{Confirmation, Connection, Established};
use crate::handle::Handle;
use crate::timer::earlier;
use crate::trace::Tracer;

impl Endpoint {
    /// What a dial has to say beside its hello; its next deadline is noted when that is nothing.
    pub(super) fn poll_dial(&mut self, now: Now, slot: u32, batch: &mut Batch) -> Option<Output> {
        let given_up = self
            .dial(slot)?
            .early
            .as_mut()
            .and_then(|early| early.connection.given_up());
        if let Some(reason) = given_up {
            self.end_dial(now, slot, reason);
            return None;
        }
        if let Some(output) = self.send_early(now, slot, batch) {
            self.slab.rotate();
            return Some(output);
        }
        let place = self.slab.get_mut(slot)?;
        let Occupant::Dial(dial) = &place.occupant else {
            return None;
        };
        let early = dial.early.as_ref();
        let next = early.and_then(|early| early.connection.next_timeout(now.instant));
        let next = earlier(Some(dial.next_timeout()), next);
        self.deadlines.set(slot, &mut place.armed, next);
        None
    }

    fn send_early(&mut self, now: Now, slot: u32, batch: &mut Batch) -> Option<Output> {
        let handle = self.slab.handle(slot);
        let Some(Occupant::Dial(dial)) = self.slab.get_mut(slot).map(|place| &mut place.occupant) else {
            return None;
        };
        let domain = self.routes.domain(dial.domain)?;
        let room = dial.early_room();
        let early = dial.early.as_mut().filter(|early| early.seal.is_some())?;
        let packet = early.connection.next_early(now, room.min(early.left), batch)?;
        early.left = early.left.saturating_sub(packet.frames.len());
        let sealed = dial.seal_early(now, &packet, domain, &mut self.random, &mut *self.entropy);
        // Without randomness it is as good as lost.
        let datagram = sealed.unwrap_or_default();
        let mut tracer = self.watch.tracer(now, Some(handle));
        let early = dial.early.as_mut()?;
        early
            .connection
            .early_sent(now, packet, datagram.len(), &mut tracer);
        let written = !datagram.is_empty() && batch.push(&datagram).is_ok();
        written.then_some(Output::Transmit(dial.route))
    }

    /// The relay does not answer to the ticket: a full hello, under another name. The other goes out once more before it, for it
    /// may have been the answer that was lost, and the relay may have taken the early data.
    pub(super) fn fall_back(&mut self, now: Now, slot: u32) {
        self.send_hello(now, slot);
        let Some(Occupant::Dial(dial)) = self.slab.get_mut(slot).map(|place| &mut place.occupant) else {
            return;
        };
        let Some(domain) = self.routes.domain(dial.domain) else {
            return;
        };
        let relay_ms = domain.relay_time(now.unix_ms);
        let before = dial.hids().next();
        if let Some(hid) = dial.fall_back(relay_ms, &mut self.random, &mut *self.entropy) {
            if let Some(before) = before {
                self.dials.remove(&before);
                self.former.insert(before, slot);
            }
            self.dials.insert(hid, slot);
        }
        self.send_hello(now, slot);
    }

    /// The relay has answered a client whose connection began early.
    pub(super) fn confirm_early(
        &mut self,
        now: Now,
        handle: Handle,
        early: Early,
        made: Established,
    ) -> Box<Connection> {
        let Early {
            mut connection,
            remembered,
            ..
        } = early;
        let accepted = made.info.early_accepted == Some(true);
        if accepted {
            self.watch.stats.early_accepted += 1;
        } else {
            self.watch.stats.early_rejected += 1;
        }
        let confirmation = Confirmation {
            made,
            remembered: &remembered,
            accepted,
        };
        connection.establish(now, confirmation, &mut self.watch.tracer(now, Some(handle)));
        connection
    }
}

/// What time brought a dial, and the connection that began early.
pub(super) fn on_time(dial: &mut Dial, now: Now, tracer: &mut Tracer<'_>) -> Option<Due> {
    if let Some(early) = &mut dial.early {
        early.connection.handle_timeout(now, tracer);
    }
    dial.due(now.instant)
}
