//! What the peer says about addresses, and what it is told.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Instant;

use transport_scheduler::Side;

use super::{HASTE, PEERS_HASTE};
use crate::buffer::Route;
use crate::config::Now;
use crate::connection::path::holes::Holes;
use crate::connection::receive::Arrival;
use crate::connection::transmit::Draft;
use crate::connection::{Connection, PathError};
use crate::error::{Breach, code};
use crate::path::{PathId, PathReason, PathState};
use crate::trace::{self, DropReason, Tracer};
use crate::wire::frame::{Frames, NumberedAddress, PunchMeNow, kind};

impl Connection {
    // --- application face ---

    /// From now on this end may be reached at these addresses, 8 of them at most: its own, and those others see it at. The peer
    /// is told those that are new and those that are missing; a client begins to look for a direct path when both ends have some.
    ///
    /// # Errors
    /// [`PathError::NoDirect`]: the two ends did not agree to look for one.
    pub fn offer_addresses(&mut self, now: Now, addresses: &[SocketAddr]) -> Result<(), PathError> {
        let punch = self.pending.punch.as_mut().ok_or(PathError::NoDirect)?;
        let canonical = |address: &SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let usable = addresses.iter().filter(|address| address.port() != 0);
        let new = punch.own.replace(&usable.map(canonical).collect::<Vec<_>>());
        if new && punch.client {
            punch.plan.failures = 0;
            punch.plan.hasten(HASTE, now.instant);
        }
        Ok(())
    }

    // --- what the peer says ---

    pub(in crate::connection) fn on_add_address(
        &mut self,
        arrival: &Arrival,
        new: NumberedAddress,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), Breach> {
        let uninvited = Breach::new(code::PROTOCOL_VIOLATION, kind::ADD_ADDRESS_V4);
        let punch = self.pending.punch.as_mut().ok_or(uninvited)?;
        let (now, address) = (arrival.now.instant, new.address);
        if !(punch.allow)(address) || !punch.peers.add(new)? {
            tracer.dropped(DropReason::AddressRefused, arrival.size);
            return Ok(());
        }
        tracer.tell(|connection| trace::Event::CandidateAdded { connection, address });
        match &mut punch.holes {
            Some(holes) => {
                holes.aim(address, now);
            }
            None => punch.plan.hasten(PEERS_HASTE, now),
        }
        Ok(())
    }

    pub(in crate::connection) fn on_remove_address(
        &mut self,
        sequence: u64,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), Breach> {
        let uninvited = Breach::new(code::PROTOCOL_VIOLATION, kind::REMOVE_ADDRESS);
        let punch = self.pending.punch.as_mut().ok_or(uninvited)?;
        if let Some(address) = punch.peers.remove(sequence) {
            if let Some(holes) = &mut punch.holes {
                holes.forget(address);
            }
            tracer.tell(|connection| trace::Event::CandidateRemoved { connection, address });
        }
        Ok(())
    }

    /// The client asks for packets to an address of its own.
    pub(in crate::connection) fn on_punch_me_now(
        &mut self,
        arrival: &Arrival,
        ask: PunchMeNow,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), Breach> {
        let breach = Breach::new(code::PROTOCOL_VIOLATION, kind::PUNCH_ME_NOW_V4);
        let punch = self.pending.punch.as_ref().ok_or(breach)?;
        let (newest, allowed) = (punch.round, (punch.allow)(ask.address));
        let id = self.path_named(ask.path, breach)?;
        let Some(id) = id.filter(|_| ask.round >= newest) else {
            return Ok(());
        };
        if id == PathId::FIRST {
            return Err(breach);
        }
        let now = arrival.now.instant;
        if !allowed || (ask.round > newest && !self.join_round(&ask, id, now, tracer)) {
            tracer.dropped(DropReason::AddressRefused, arrival.size);
            return Ok(());
        }
        let holes = self.pending.punch.as_mut().and_then(|punch| punch.holes.as_mut());
        if let Some(holes) = holes.filter(|holes| holes.path() == id)
            && holes.aim(ask.address, now)
        {
            let address = ask.address;
            tracer.tell(|connection| trace::Event::CandidateAdded { connection, address });
        }
        Ok(())
    }

    /// At a server: the client's next attempt begins. False: too many of them came.
    fn join_round(&mut self, ask: &PunchMeNow, id: PathId, now: Instant, tracer: &mut Tracer<'_>) -> bool {
        let Some(punch) = &mut self.pending.punch else {
            return false;
        };
        if !punch.credit.take(now) {
            return false;
        }
        punch.round = ask.round;
        if let Some(holes) = &punch.holes {
            let before = holes.path();
            self.end_attempt(before, now, tracer);
        }
        let mut holes = Holes::new(id, now);
        match self.paths.get_mut(id) {
            None => {
                let route = Route {
                    remote: ask.address,
                    local: None,
                };
                let mut path = self.newcomer(id, route);
                path.limit();
                self.open_path(path, PathReason::Opened);
            }
            // Its packets were faster than the question.
            Some(path) if path.state == PathState::Probing => {
                if let Some(candidate) = path.candidate.take() {
                    holes.hear(candidate.route, candidate.unspent(), now);
                }
            }
            Some(_) => return true,
        }
        if let Some(punch) = &mut self.pending.punch {
            punch.holes = Some(holes);
        }
        let (round, path) = (ask.round, id);
        tracer.tell(|connection| trace::Event::PunchBegun {
            connection,
            round,
            path,
        });
        true
    }

    /// A packet of a path that is being made came from `arrival.route`, whatever that is. True: nothing else is to be made of where it
    /// came from.
    pub(in crate::connection) fn note_hole(&mut self, arrival: &Arrival, frames: &[u8]) -> bool {
        let client = self.settings.side == Side::Client;
        let Some(path) = self.paths.get_mut(arrival.path) else {
            return false;
        };
        let holes = self.pending.punch.as_mut().and_then(|punch| punch.holes.as_mut());
        let Some(holes) = holes.filter(|holes| holes.path() == arrival.path) else {
            // A late question to another address does not move a path that was chosen.
            return path.direct && path.route.remote != arrival.route.remote && only_probes(frames);
        };
        let now = arrival.now.instant;
        let mut route = arrival.route;
        if client {
            // From which of its own addresses a client sends is the system's choice.
            route.local = None;
        }
        holes.hear(route, arrival.size, now);
        if !client && arrival.newest && !only_probes(frames) {
            holes.wish(route.remote);
        }
        // Until the path works no timer waits for its acknowledgements.
        path.recovery.acknowledge_immediately(now);
        true
    }

    /// An answer to a question: it came from where the question went, or proves nothing.
    pub(in crate::connection) fn prove_hole(&mut self, arrival: &Arrival, data: [u8; 8]) {
        if let Some(holes) = self.holes() {
            holes.prove(arrival.route.remote, data, arrival.now.instant);
        }
    }

    // --- what it is told ---

    /// Whether the peer has to be told something about addresses.
    pub(in crate::connection) fn owes_addresses(&self) -> bool {
        let punch = self.pending.punch.as_ref();
        punch.is_some_and(|punch| punch.own.next().is_some())
    }

    /// Frames about addresses.
    pub(in crate::connection) fn write_addresses(&mut self, draft: &mut Draft<'_>) {
        let Some(punch) = &mut self.pending.punch else {
            return;
        };
        while let Some((frame, item)) = punch.own.next() {
            if !draft.put(&frame, Some(item)) {
                return;
            }
            punch.own.sent(item);
        }
    }
}

/// Whether a packet only asks for proofs and gives them.
fn only_probes(frames: &[u8]) -> bool {
    Frames::new(frames).all(|frame| frame.is_ok_and(|frame| frame.is_probing()))
}
