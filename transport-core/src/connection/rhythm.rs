//! How often the peer acknowledges, how often we do, and what the IP headers said of congestion.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use transport_reliability::{self as reliability, EcnCounts};

use super::content::Item;
use super::receive::Arrival;
use super::transmit::Draft;
use super::{Connection, MIN_ACK_DELAY_US};
use crate::buffer::Ecn;
use crate::error::{Breach, code};
use crate::path::PathId;
use crate::wire::frame::{AckFrequency, Frame, kind};

/// Requests for another rhythm of ACKs, in either direction.
#[derive(Debug, Default)]
pub(super) struct Rhythm {
    /// The sequence number of our next request.
    next: u64,
    /// One above the highest the peer used.
    heard: u64,
    /// The shortest delay the peer can keep; `None`: it does not know the frames.
    least: Option<Duration>,
}

impl Rhythm {
    /// The peer's parameters say whether it takes requests: it names the shortest delay it can keep.
    pub(super) fn new(min_ack_delay_us: u64) -> Self {
        Self {
            least: Some(min_ack_delay_us)
                .filter(|us| *us > 0)
                .map(Duration::from_micros),
            ..Self::default()
        }
    }

    pub(super) fn least(&self) -> Option<Duration> {
        self.least
    }

    pub(super) fn requests(&self) -> (u64, u64) {
        (self.next, self.heard)
    }
}

impl Connection {
    /// The peer wants ACKs in another rhythm. What it may not have is a delay we said we cannot keep.
    pub(super) fn on_ack_frequency(&mut self, frame: &AckFrequency) -> Result<(), Breach> {
        if frame.delay_us < MIN_ACK_DELAY_US {
            return Err(Breach::new(code::PROTOCOL_VIOLATION, kind::ACK_FREQUENCY));
        }
        if frame.sequence < self.pending.rhythm.heard {
            return Ok(());
        }
        self.pending.rhythm.heard = frame.sequence.saturating_add(1);
        let wanted = reliability::AckFrequency {
            eliciting: u32::try_from(frame.threshold.saturating_add(1)).unwrap_or(u32::MAX),
            max_delay: Duration::from_micros(frame.delay_us),
            reordering: u32::try_from(frame.reordering).unwrap_or(u32::MAX),
        };
        self.paths.active.recovery.set_ack_frequency(wanted);
        Ok(())
    }

    /// Asks for what suits congestion control, along with data that goes anyway.
    pub(super) fn write_rhythm(&mut self, now: Instant, draft: &mut Draft<'_>) {
        if !self.scheduler.has_pending() {
            return;
        }
        let Some(wish) = self.paths.active.recovery.ack_frequency_due(now) else {
            return;
        };
        let frame = AckFrequency {
            sequence: self.pending.rhythm.next,
            threshold: u64::from(wish.eliciting).saturating_sub(1),
            delay_us: u64::try_from(wish.max_delay.as_micros()).unwrap_or(u64::MAX),
            reordering: wish.reordering.into(),
        };
        if draft.put(
            &Frame::AckFrequency(frame),
            Some(Item::AckFrequency(frame.sequence)),
        ) {
            self.pending.rhythm.next += 1;
            self.paths.active.recovery.ack_frequency_asked(now, wish);
        }
    }

    /// A request was lost: made again if it was the last one.
    pub(super) fn rhythm_lost(&mut self, sequence: u64) {
        if sequence + 1 == self.pending.rhythm.next {
            self.paths.active.recovery.ack_frequency_lost();
        }
    }

    /// A probe shall not wait for others to be acknowledged with.
    pub(super) fn write_haste(&mut self, draft: &mut Draft<'_>) {
        if self.pending.rhythm.least.is_some() && self.paths.active.recovery.probes_due() > 0 {
            draft.put(&Frame::ImmediateAck, None);
        }
    }

    /// Counts the codepoint of a packet that was taken.
    pub(super) fn note_mark(&mut self, arrival: &Arrival) {
        let mut one = EcnCounts::default();
        match arrival.ecn {
            Some(Ecn::Ect0) => one.ect0 = 1,
            Some(Ecn::Ect1) => one.ect1 = 1,
            Some(Ecn::Ce) => one.ce = 1,
            Some(Ecn::NotEct) | None => return,
        }
        self.counters.received_ce += one.ce;
        if let Some(path) = self.paths.get_mut(arrival.path) {
            path.recovery.received_mark(arrival.now.instant, one);
        }
    }

    /// What the next packets on a path carry in their IP headers.
    pub(super) fn codepoint(&self, path: PathId) -> Ecn {
        if self
            .paths
            .get(path)
            .is_some_and(|path| path.recovery.is_marking())
        {
            Ecn::Ect0
        } else {
            Ecn::NotEct
        }
    }
}
