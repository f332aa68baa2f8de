//! Packets that go alone: searches for a larger path MTU, proofs of addresses, last words.
#![forbid(unsafe_code)]

use std::time::Instant;

use transport_reliability::SentKind;

use super::Connection;
use super::content::Item;
use super::path::mtu::BASE;
use super::path::validate::PADDED;
use super::state::State;
use super::transmit::Built;
use crate::buffer::{Batch, Route};
use crate::timer::Timer;
use crate::trace::Tracer;
use crate::wire::frame::Frame;

/// Bytes of answers to challenges that may be under way beyond the congestion window.
const ANSWERS_BEYOND_WINDOW: u64 = 4 * PADDED as u64;

impl Connection {
    pub(super) fn mtu_probe_due(&self) -> Option<u16> {
        self.paths
            .active
            .mtu
            .probe_due()
            .filter(|_| self.state == State::Confirmed)
    }

    pub(super) fn transmit_mtu_probe(
        &mut self,
        size: u16,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> Option<Route> {
        let mut draft = self.draft(batch, usize::from(size))?;
        draft.put(&Frame::Ping, Some(Item::MtuProbe));
        draft.builder.pad_to(usize::from(size));
        self.paths.active.mtu.probe_sent(size);
        let built = self.finish_packet(draft, SentKind::MtuProbe, now, tracer);
        matches!(built, Built::Packet(_)).then_some(self.paths.active.route)
    }

    /// Answers to challenges, and our own challenge to an address that is to prove itself.
    pub(super) fn transmit_off_path(
        &mut self,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> Option<Route> {
        let pto = self.paths.active.recovery.pto();
        while let Some((route, data)) = self.paths.active.responses.pop(self.is_crowded(), now, pto) {
            if self.transmit_proof(&Frame::PathResponse(data), route, now, batch, tracer) {
                return Some(route);
            }
        }
        let route = self
            .paths
            .active
            .candidate
            .as_ref()
            .filter(|candidate| candidate.is_due(now))?
            .route;
        let data = self.random.bytes();
        let sent = self.transmit_proof(&Frame::PathChallenge(data), route, now, batch, tracer);
        let candidate = self.paths.active.candidate.as_mut()?;
        let again = candidate.challenged(data, now, pto);
        self.timers.set(Timer::PathValidation, again);
        sent.then_some(route)
    }

    /// So much is under way that answers to challenges must wait (RFC 9000 §8.2.2), though a little beyond the window is allowed.
    fn is_crowded(&self) -> bool {
        let stats = self.paths.active.recovery.stats();
        stats.in_flight > stats.cwnd + ANSWERS_BEYOND_WINDOW
    }

    /// One frame to `route`, padded as far as that address may be sent bytes. Its loss says nothing about the path.
    fn transmit_proof(
        &mut self,
        frame: &Frame<'_>,
        route: Route,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> bool {
        let foreign = route.remote != self.paths.active.route.remote;
        let allowance = match &self.paths.active.candidate {
            Some(candidate) if candidate.route.remote == route.remote => candidate.allowance(),
            _ if foreign => 0,
            _ => usize::MAX,
        };
        let Some(mut draft) = self.draft(batch, allowance.min(usize::from(BASE))) else {
            return false;
        };
        if !draft.put(frame, None) {
            self.paths.active.give_back(draft.number);
            return false;
        }
        let spread = u64::from(BASE) - PADDED as u64;
        draft
            .builder
            .pad_to(PADDED + self.random.within(0, spread) as usize);
        let Built::Packet(size) = self.finish_packet(draft, SentKind::MtuProbe, now, tracer) else {
            return false;
        };
        if let Some(candidate) = self.paths.active.candidate.as_mut().filter(|_| foreign) {
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
        let mut draft = self.draft(batch, self.packet_size())?;
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
