//! What became of packets goes home to whoever put it in: one item, one call.
#![forbid(unsafe_code)]

use std::time::Instant;

use super::Connection;
use super::content::{Content, Item};
use super::path::Path;
use super::path::mtu::SEARCH_AGAIN;
use crate::path::PathId;
use crate::timer::Timer;
use crate::trace::{Event, Tracer};

impl Connection {
    /// Tells the streams how long and how wide the active path is.
    pub(super) fn measure(&mut self) {
        let recovery = &self.paths.active.recovery;
        self.scheduler
            .set_path(recovery.rtt().smoothed(), recovery.congestion_window());
    }

    /// Hands out what loss recovery found on a path.
    pub(super) fn deliver(&mut self, id: PathId, now: Instant, tracer: &mut Tracer<'_>) {
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        let mut outcome = std::mem::take(&mut path.outcome);
        if outcome.rtt_updated && id == self.paths.active.id {
            self.measure();
        }
        self.note_food(id, &outcome.acked, &outcome.lost, now);
        for content in outcome.acked.drain(..) {
            self.acked(id, &content, tracer);
        }
        if !outcome.lost.is_empty() {
            let count = outcome.lost.len();
            tracer.tell(|connection| Event::PacketsLost { connection, count });
            self.lost(id, &outcome.lost, tracer);
        }
        let settled = self.paths.iter().any(|path| path.mtu.is_settled_below());
        if settled && self.timers.get(Timer::MtuSearch).is_none() {
            self.timers.set(Timer::MtuSearch, now + SEARCH_AGAIN);
        }
        outcome.clear();
        if let Some(path) = self.paths.get_mut(id).filter(|path| !path.recovery.is_at_rest()) {
            path.outcome = outcome;
        }
        self.leave_starving(id, now, tracer);
    }

    fn acked(&mut self, id: PathId, content: &Content, tracer: &mut Tracer<'_>) {
        if let Some(path) = self.paths.get_mut(id).filter(|_| !content.elsewhere) {
            path.mtu.acked(content.size);
            path.trains.acked(content);
        }
        for item in content.items() {
            match item {
                Item::Scheduled(token) => self.scheduler.acked(token),
                Item::HandshakeDone | Item::NewCid { .. } | Item::AckFrequency(_) | Item::Observed { .. } => {
                }
                Item::Ticket(serial) => self.pending.tickets.acked(serial),
                Item::RetireCid { path, sequence } => self.ids.retirement_acked(path, sequence),
                Item::PathStatus { .. } | Item::PathAbandon(_) | Item::MaxPathId(_) => {
                    self.paths.signals.acked(item);
                }
                Item::Control(piece) => self.pending.control.piece_acked(piece),
                Item::MtuProbe => self.mtu_probe_acked(id, content.size, tracer),
                Item::AddAddress(_) | Item::RemoveAddress(_) | Item::PunchMeNow { .. } => {
                    if let Some(punch) = &mut self.pending.punch {
                        punch.told(item);
                    }
                }
                Item::Trial { number, size } => {
                    if let Some(punch) = &mut self.pending.punch {
                        punch.trial_arrived(id, number, size);
                    }
                }
            }
        }
    }

    fn lost(&mut self, id: PathId, lost: &[Content], tracer: &mut Tracer<'_>) {
        let (mut large, mut smaller) = (None::<u16>, false);
        for content in lost {
            let mut probe = false;
            for item in content.items() {
                match item {
                    Item::Scheduled(token) => self.scheduler.lost(token),
                    Item::MtuProbe => probe = true,
                    own => self.say_again(own),
                }
            }
            let Some(path) = self.paths.get_mut(id) else {
                continue;
            };
            if path.trains.lost(content) {
                self.counters.batches_stopped += 1;
                tracer.tell(|connection| Event::BatchesStopped { connection, path: id });
            }
            if probe {
                smaller |= path.mtu.probe_lost(content.size);
            } else if path.mtu.is_large(content.size) && !content.elsewhere {
                large = Some(large.map_or(content.size, |other| other.min(content.size)));
            }
        }
        smaller |= self.paths.get_mut(id).is_some_and(|path| path.mtu.lost(large));
        if smaller {
            self.mtu_changed(id, tracer);
        }
    }

    /// A probe goes out with what an unsettled packet of the active path carried, since there is nothing new to say.
    pub(super) fn repeat_oldest(&mut self) {
        if let Some(content) = self.paths.active.recovery.oldest_unacked().cloned() {
            self.repeat(&content);
        }
    }

    /// All that is unsettled on a path may be dead with it: it goes out again, by any path, and counts as lost by none.
    pub(super) fn reinject(&mut self, id: PathId) {
        let Some(path) = self.paths.get(id) else {
            return;
        };
        let unsettled: Vec<Content> = path.recovery.unacked().cloned().collect();
        for content in &unsettled {
            self.repeat(content);
        }
    }

    fn repeat(&mut self, content: &Content) {
        for item in content.items() {
            match item {
                Item::Scheduled(token) => self.scheduler.repeat(token),
                own => self.say_again(own),
            }
        }
    }

    /// A frame of the connection itself that may not have arrived.
    fn say_again(&mut self, item: Item) {
        match item {
            Item::HandshakeDone => self.pending.handshake_done = true,
            Item::Ticket(serial) => self.pending.tickets.again(serial),
            Item::NewCid { path, sequence } => self.ids.announce_again(path, sequence),
            Item::RetireCid { path, sequence } => self.ids.retire_again(path, sequence),
            Item::PathStatus { .. } | Item::PathAbandon(_) | Item::MaxPathId(_) => {
                self.paths.signals.again(item);
            }
            Item::Control(piece) => self.pending.control.piece_lost(piece),
            Item::AckFrequency(sequence) => self.rhythm_lost(sequence),
            Item::Observed { path, sequence } => {
                if let Some(observing) = &mut self.pending.observing {
                    observing.again(path, sequence);
                }
            }
            Item::AddAddress(_) | Item::RemoveAddress(_) | Item::PunchMeNow { .. } => {
                if let Some(punch) = &mut self.pending.punch {
                    punch.tell_again(item);
                }
            }
            Item::Scheduled(_) | Item::MtuProbe | Item::Trial { .. } => {}
        }
    }

    fn mtu_probe_acked(&mut self, id: PathId, size: u16, tracer: &mut Tracer<'_>) {
        let larger = |path: &mut Path| path.mtu.probe_acked(size);
        if self.paths.get_mut(id).is_some_and(larger) {
            self.mtu_changed(id, tracer);
        }
    }

    fn mtu_changed(&mut self, id: PathId, tracer: &mut Tracer<'_>) {
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        let mtu = path.mtu.current();
        path.recovery.set_max_datagram(mtu);
        if id == self.paths.active.id {
            self.adopt_mtu();
        }
        tracer.tell(|connection| Event::MtuChanged { connection, mtu });
    }
}
