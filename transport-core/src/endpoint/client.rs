//! The endpoint as a client: hellos go out, answers come in, and a dial becomes a connection or ends.
#![forbid(unsafe_code)]

use transport_crypto::ClientEstablished;
use transport_scheduler::Side;

use super::dial::{Dial, Heard};
use super::opening::Early;
use super::slab::Occupant;
use super::{Endpoint, enqueue};
use crate::buffer::Route;
use crate::config::Now;
use crate::connection::{Connection, Established, Event, Info, Peer};
use crate::error::{CloseReason, code};
use crate::handle::Handle;
use crate::trace::{self, DropReason};
use crate::wire::{ConnectionId, TransportParameters};

impl Endpoint {
    pub(super) fn dial(&mut self, slot: u32) -> Option<&mut Dial> {
        match &mut self.slab.get_mut(slot)?.occupant {
            Occupant::Dial(dial) => Some(dial),
            Occupant::Free | Occupant::Live(..) => None,
        }
    }

    pub(super) fn send_hello(&mut self, now: Now, slot: u32) {
        let handle = self.slab.handle(slot);
        let Some(Occupant::Dial(dial)) = self.slab.get_mut(slot).map(|place| &mut place.occupant) else {
            return;
        };
        let Some(domain) = self.routes.domain(dial.domain) else {
            return;
        };
        let (route, datagrams) = (
            dial.route,
            dial.transmit(now, domain, &mut self.random, &mut *self.entropy),
        );
        let attempt = dial.sends;
        for datagram in datagrams {
            enqueue(&mut self.waiting, route, datagram);
        }
        self.watch
            .tracer(now, Some(handle))
            .tell(|connection| trace::Event::HelloSent { connection, attempt });
        self.slab.mark(slot);
    }

    pub(super) fn on_answer(&mut self, now: Now, route: Route, index: usize, datagram: &mut [u8]) {
        let size = datagram.len();
        if let Err(reason) = self.try_answer(now, route, index, datagram) {
            self.watch.tracer(now, None).dropped(reason, size);
        }
    }

    fn try_answer(
        &mut self,
        now: Now,
        route: Route,
        index: usize,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        let domain = self.routes.domain(index).ok_or(DropReason::Unknown)?;
        let opened = domain.envelope.open(domain.incoming, datagram);
        let (header, fragment) = opened.map_err(|_| DropReason::EnvelopeForged)?;
        let known = self.dials.get(&header.hid).or(self.former.get(&header.hid));
        let slot = *known.ok_or(DropReason::AnswerInvalid)?;
        let dial = self.dial(slot).ok_or(DropReason::AnswerInvalid)?;
        if dial.route.remote != route.remote {
            return Err(DropReason::WrongAddress);
        }
        let heard = dial.handle(now.instant, &header, fragment)?;
        self.slab.mark(slot);
        match heard {
            Heard::Nothing => {}
            Heard::Retry => {
                let handle = self.slab.handle(slot);
                self.watch
                    .tracer(now, Some(handle))
                    .tell(|connection| trace::Event::RetryReceived { connection });
                self.send_hello(now, slot);
            }
            Heard::Answer(established) => self.establish(now, slot, *established),
        }
        Ok(())
    }

    /// The relay's answer reads: the connection begins, unless the two ends do not fit.
    fn establish(&mut self, now: Now, slot: u32, established: ClientEstablished) {
        let Some(place) = self.slab.get_mut(slot) else {
            return;
        };
        let Occupant::Dial(dial) = std::mem::replace(&mut place.occupant, Occupant::Free) else {
            return;
        };
        self.forget_names(&dial);
        let ClientEstablished {
            traffic,
            session,
            relay_cids,
            params,
            server_time_ms,
            retry_echoed,
            resumed,
            early_accepted,
        } = established;
        let params = match fitting(&params, &dial.app) {
            Ok(params) => params,
            Err(reason) => return self.forget_dial(slot, dial, reason),
        };
        let Some(domain) = self.routes.domain_mut(dial.domain) else {
            return;
        };
        domain.clock_offset_ms =
            i64::try_from(i128::from(server_time_ms) - i128::from(now.unix_ms)).unwrap_or(0);
        self.watch.log_keys(now, true, dial.route.remote, || traffic);
        let handshake = now.instant.saturating_duration_since(dial.started);
        let made = Established {
            side: Side::Client,
            info: Info {
                peer: Peer::Relay(dial.relay_id),
                suite: session.suite,
                handshake,
                resumed,
                early_accepted: dial.early.is_some().then_some(early_accepted),
            },
            session,
            cids: domain.masks.clone(),
            route: dial.route,
            ours: vec![dial.scid],
            theirs: relay_cids.into_iter().map(ConnectionId).collect(),
            params,
            tickets: 0,
            confirmed: false,
            rtt: dial.round_trip(now.instant, retry_echoed),
            epoch: dial.epoch,
            narrow: dial.is_narrow(),
        };
        let (dial_domain, width) = (dial.domain, dial.width);
        let handle = self.slab.handle(slot);
        let connection = self.begun(now, handle, dial.early, made, width);
        if let Some(place) = self.slab.get_mut(slot) {
            place.occupant = Occupant::Live(connection, Some(dial_domain));
        }
        self.watch.stats.handshakes_completed += 1;
        self.watch.stats.resumed += u64::from(resumed);
        self.watch
            .tracer(now, Some(handle))
            .tell(|connection| trace::Event::Connected { connection });
    }

    /// The connection of a handshake that is over; it may have begun early. `width`: bytes of payload that leave from where it begins.
    fn begun(
        &mut self,
        now: Now,
        handle: Handle,
        early: Option<Box<Early>>,
        made: Established,
        width: Option<u16>,
    ) -> Box<Connection> {
        let width = width.zip(made.route.local);
        let mut connection = match early {
            Some(early) => self.confirm_early(now, handle, *early, made),
            None => Box::new(Connection::new(
                now,
                made,
                self.transport.clone(),
                self.random.fork(),
            )),
        };
        if let Some((width, local)) = width {
            connection.set_width(local, width);
        }
        connection
    }

    pub(super) fn end_dial(&mut self, now: Now, slot: u32, reason: CloseReason) {
        let handle = self.slab.handle(slot);
        let Some(Occupant::Dial(dial)) = self
            .slab
            .get_mut(slot)
            .map(|place| std::mem::replace(&mut place.occupant, Occupant::Free))
        else {
            return;
        };
        let news = trace::Event::Closed {
            connection: handle,
            reason: &reason,
        };
        self.watch.tracer(now, Some(handle)).tell_endpoint(&news);
        self.forget_dial(slot, dial, reason);
    }

    fn forget_names(&mut self, dial: &Dial) {
        for hid in dial.hids() {
            self.dials.remove(&hid);
            self.former.remove(&hid);
        }
    }

    /// The dial was taken out of its slot; everything else that knows it forgets it.
    fn forget_dial(&mut self, slot: u32, dial: Box<Dial>, reason: CloseReason) {
        let handle = self.slab.handle(slot);
        self.forget_names(&dial);
        self.routes.remove(&dial.scid);
        self.routes.leave(dial.domain);
        if let Some(place) = self.slab.get_mut(slot) {
            place.occupant = Occupant::Dial(dial);
            self.deadlines.set(slot, &mut place.armed, None);
        }
        self.slab.remove(slot);
        self.notices.push_back((handle, Event::Closed(reason)));
    }
}

/// What the relay says of itself, if both ends mean the same application.
fn fitting(params: &[u8], app: &[u8]) -> Result<TransportParameters, CloseReason> {
    let params =
        TransportParameters::parse(params).map_err(|_| CloseReason::violation(code::PROTOCOL_VIOLATION))?;
    if params.app == app {
        Ok(params)
    } else {
        Err(CloseReason::Refused {
            code: code::NO_APPLICATION_PROTOCOL,
        })
    }
}
