//! Packets of a path that is being made: questions to all addresses it might lead to, answers, and the trial of the chosen one.
#![forbid(unsafe_code)]

use std::time::Instant;

use transport_reliability::SentKind;

use crate::buffer::{Batch, Route};
use crate::connection::Connection;
use crate::connection::content::Item;
use crate::connection::path::holes::Holes;
use crate::connection::transmit::Built;
use crate::path::PathId;
use crate::trace::Tracer;
use crate::wire::frame::Frame;

/// Bytes of a question, and of an answer, by chance: little enough for an address that may be nobody's.
const LEAST: usize = 200;
const MOST: usize = 400;
/// Less than this carries no question.
const SMALLEST: usize = 64;

impl Connection {
    pub(super) fn holes(&mut self) -> Option<&mut Holes> {
        self.pending.punch.as_mut()?.holes.as_mut()
    }

    /// Whether this is the path that is being made.
    pub(in crate::connection) fn is_hole(&self, id: PathId) -> bool {
        let holes = self.pending.punch.as_ref().and_then(|punch| punch.holes.as_ref());
        holes.is_some_and(|holes| holes.path() == id)
    }

    /// Whether it leads nowhere yet.
    pub(in crate::connection) fn is_unaimed(&self, id: PathId) -> bool {
        let holes = self.pending.punch.as_ref().and_then(|punch| punch.holes.as_ref());
        holes.is_some_and(|holes| holes.path() == id && !holes.is_chosen())
    }

    /// The next question or packet of a trial that is due.
    pub(in crate::connection) fn transmit_holes(
        &mut self,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> Option<Route> {
        let id = self.holes()?.path();
        while let Some((number, size)) = self.holes()?.trial_due(now) {
            let route = self.paths.get(id)?.route;
            let item = Item::Trial { number, size };
            let size = usize::from(size);
            if self.transmit_one(id, (&Frame::Ping, Some(item)), size..=size, now, batch, tracer) > 0 {
                return Some(route);
            }
        }
        while let Some((route, most)) = self.holes()?.question_due(now) {
            let data = self.random.bytes();
            let frame = (&Frame::PathChallenge(data), None);
            let size = self.transmit_one(id, frame, LEAST..=MOST.min(most), now, batch, tracer);
            self.holes()?.asked(route.remote, data, size, now);
            if size > 0 {
                return Some(route);
            }
        }
        None
    }

    /// An answer to an address the path might lead to.
    pub(in crate::connection) fn answer_hole(
        &mut self,
        id: PathId,
        frame: &Frame<'_>,
        route: Route,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> bool {
        let most = self.holes().map_or(0, |holes| holes.allowance(route.remote));
        let size = self.transmit_one(id, (frame, None), LEAST..=MOST.min(most), now, batch, tracer);
        if let Some(holes) = self.holes() {
            holes.answered(route.remote, size);
        }
        size > 0
    }

    /// One frame alone, of a size by chance, whose loss says nothing; its bytes, or zero when it could not be.
    fn transmit_one(
        &mut self,
        id: PathId,
        (frame, item): (&Frame<'_>, Option<Item>),
        sizes: std::ops::RangeInclusive<usize>,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> usize {
        let (least, most) = sizes.into_inner();
        if most < SMALLEST {
            return 0;
        }
        let size = self.random.within(least.min(most) as u64, most as u64) as usize;
        let Some(mut draft) = self.draft(id, None, batch, size) else {
            return 0;
        };
        if !draft.put(frame, item) {
            self.give_back(&draft);
            return 0;
        }
        draft.builder.pad_to(size);
        draft.content.elsewhere = true;
        match self.finish_packet(draft, SentKind::MtuProbe, now, tracer) {
            Built::Packet(size) => size,
            Built::Nothing { .. } => 0,
        }
    }
}
