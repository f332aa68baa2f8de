//! Packets that go alone: searches for a larger path MTU, proofs of addresses, last words.
#![forbid(unsafe_code)]

use std::time::Instant;

use transport_reliability::SentKind;

use super::Connection;
use super::content::Item;
use super::path::Path;
use super::path::mtu::{BASE, FLOOR};
use super::path::validate::{Candidate, PADDED, PADDED_LITTLE, Response};
use super::state::State;
use super::transmit::Built;
use crate::buffer::{Batch, Route};
use crate::path::PathId;
use crate::trace::Tracer;
use crate::wire::frame::Frame;

/// Bytes of answers to challenges that may be under way beyond the congestion window.
const ANSWERS_BEYOND_WINDOW: u64 = 4 * PADDED as u64;

impl Connection {
    /// The search upwards begins with the first acknowledgement: a connection of one round trip would probe for nothing, and
    /// before its first words. Other paths are searched at once, for data may have to wait for the result.
    pub(super) fn mtu_probe_due(&self, id: PathId) -> Option<u16> {
        let path = self.paths.get(id).filter(|path| path.state.is_usable())?;
        let searches = id != PathId::FIRST || path.recovery.is_acked();
        let may_go = |size: &u16| self.state == State::Confirmed && (searches || *size <= BASE);
        path.mtu.probe_due().filter(may_go)
    }

    pub(super) fn transmit_mtu_probe(
        &mut self,
        id: PathId,
        size: u16,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> Option<Route> {
        let mut draft = self.draft(id, None, batch, usize::from(size))?;
        draft.put(&Frame::Ping, Some(Item::MtuProbe));
        draft.builder.pad_to(usize::from(size));
        let path = self.paths.get_mut(id)?;
        path.mtu.probe_sent(size);
        let route = path.route;
        let built = self.finish_packet(draft, SentKind::MtuProbe, now, tracer);
        matches!(built, Built::Packet(_)).then_some(route)
    }

    /// Answers to challenges, and our own challenges to addresses that are to prove themselves.
    pub(super) fn transmit_off_path(
        &mut self,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> Option<Route> {
        let mut at = 0;
        while let Some(id) = self.paths.nth(at) {
            if let Some(route) = self.transmit_proofs(id, now, batch, tracer) {
                return Some(route);
            }
            at += 1;
        }
        self.transmit_holes(now, batch, tracer)
    }

    fn transmit_proofs(
        &mut self,
        id: PathId,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> Option<Route> {
        let path = self.paths.get_mut(id)?;
        let (pto, crowded) = (path.recovery.pto(), is_crowded(path));
        while let Some(response) = self.paths.get_mut(id)?.responses.pop(crowded, now, pto) {
            let Response { route, data, narrow } = response;
            let proof = Proof {
                frame: Frame::PathResponse(data),
                route,
                narrow,
            };
            if self.transmit_proof(id, &proof, now, batch, tracer) {
                return Some(route);
            }
        }
        let candidate = self.paths.get(id)?.candidate.as_ref();
        let candidate = candidate.filter(|candidate| candidate.is_due(now))?;
        let (route, narrow) = (candidate.route, candidate.is_last());
        let data = self.random.bytes();
        let proof = Proof {
            frame: Frame::PathChallenge(data),
            route,
            narrow,
        };
        let sent = self.transmit_proof(id, &proof, now, batch, tracer);
        let candidate = self.paths.get_mut(id)?.candidate.as_mut()?;
        candidate.challenged(data, now, pto);
        sent.then_some(route)
    }

    /// One frame to `route`, padded as far as that address may be sent bytes. Its loss says nothing about the path.
    fn transmit_proof(
        &mut self,
        id: PathId,
        &Proof {
            ref frame,
            route,
            narrow,
        }: &Proof<'_>,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> bool {
        if self.is_hole(id) {
            return self.answer_hole(id, frame, route, now, batch, tracer);
        }
        let Some(path) = self.paths.get(id) else {
            return false;
        };
        let foreign = route.remote != path.route.remote;
        let same = |one: &&Candidate| {
            one.route.remote == route.remote && (one.cid.is_none() || one.route.local == route.local)
        };
        let candidate = path.candidate.as_deref().filter(same);
        let allowance = match candidate {
            Some(candidate) if foreign => candidate.allowance(),
            _ if foreign => 0,
            _ => path.allowance(),
        };
        let cid = candidate.and_then(|candidate| candidate.cid);
        let known = if foreign {
            BASE
        } else {
            path.mtu.current().min(BASE)
        };
        let (least, most) = if narrow || usize::from(known) < PADDED {
            (PADDED_LITTLE, usize::from(FLOOR))
        } else {
            (PADDED, usize::from(known))
        };
        let Some(mut draft) = self.draft(id, cid, batch, allowance.min(most)) else {
            return false;
        };
        if !draft.put(frame, None) {
            self.give_back(&draft);
            return false;
        }
        let padded = self.random.within(least as u64, most as u64) as usize;
        draft.builder.pad_to(padded);
        draft.content.elsewhere = foreign || cid.is_some();
        let Built::Packet(size) = self.finish_packet(draft, SentKind::MtuProbe, now, tracer) else {
            return false;
        };
        let path = self.paths.get_mut(id).filter(|_| foreign);
        if let Some(candidate) = path.and_then(|path| path.candidate.as_mut()) {
            candidate.sent(size);
        }
        true
    }

    pub(super) fn transmit_close(
        &mut self,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> Option<Route> {
        if !self.closing.is_due() {
            return None;
        }
        let id = self.paths.active.id;
        let mut draft = self.draft(id, None, batch, self.packet_size(id))?;
        self.write_acks(now, &mut draft);
        let room = draft.builder.room();
        if let Some(close) = self.closing.take_frame() {
            draft.put(&Frame::Close(close.fitted(room)), None);
        }
        draft.eliciting = false;
        let more = usize::from(self.random.byte());
        draft.builder.pad_to(draft.builder.size() + more);
        let built = self.finish_packet(draft, SentKind::Normal, now, tracer);
        matches!(built, Built::Packet(_)).then_some(self.paths.active.route)
    }
}

/// A frame that asks for a proof of an address, or gives one.
struct Proof<'a> {
    frame: Frame<'a>,
    route: Route,
    /// In a small datagram.
    narrow: bool,
}

/// So much is under way that answers to challenges must wait (RFC 9000 §8.2.2), though a little beyond the window is allowed.
fn is_crowded(path: &Path) -> bool {
    let stats = path.recovery.stats();
    stats.in_flight > stats.cwnd + ANSWERS_BEYOND_WINDOW
}
