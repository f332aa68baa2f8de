//! What became of packets goes home to whoever put it in: one item, one call.
#![forbid(unsafe_code)]

use std::time::Instant;

use super::Connection;
use super::content::{Content, Item};
use super::path::mtu::BASE;
use super::path::mtu::SEARCH_AGAIN;
use crate::timer::Timer;
use crate::trace::{Event, Tracer};

impl Connection {
    /// Hands out what loss recovery found.
    pub(super) fn deliver(&mut self, now: Instant, tracer: &mut Tracer<'_>) {
        let mut outcome = std::mem::take(&mut self.paths.active.outcome);
        if outcome.rtt_updated {
            self.scheduler
                .set_srtt(self.paths.active.recovery.rtt().smoothed());
        }
        for content in outcome.acked.drain(..) {
            self.acked(&content, tracer);
        }
        if !outcome.lost.is_empty() {
            let count = outcome.lost.len();
            tracer.tell(|connection| Event::PacketsLost { connection, count });
            self.lost(&outcome.lost, tracer);
        }
        if self.paths.active.mtu.is_settled_below() && self.timers.get(Timer::MtuSearch).is_none() {
            self.timers.set(Timer::MtuSearch, now + SEARCH_AGAIN);
        }
        outcome.clear();
        self.paths.active.outcome = outcome;
    }

    fn acked(&mut self, content: &Content, tracer: &mut Tracer<'_>) {
        self.paths.active.mtu.acked(content.size);
        for item in content.items() {
            match item {
                Item::Scheduled(token) => self.scheduler.acked(token),
                Item::HandshakeDone | Item::NewCid(_) | Item::AckFrequency(_) => {}
                Item::Ticket(serial) => self.pending.tickets.acked(serial),
                Item::RetireCid(sequence) => self.ids.retirement_acked(sequence),
                Item::Control(piece) => self.pending.control.piece_acked(piece),
                Item::MtuProbe => self.mtu_probe_acked(content.size, tracer),
            }
        }
    }

    fn lost(&mut self, lost: &[Content], tracer: &mut Tracer<'_>) {
        let mut large = false;
        for content in lost {
            let mut probe = false;
            for item in content.items() {
                match item {
                    Item::Scheduled(token) => self.scheduler.lost(token),
                    Item::HandshakeDone => self.pending.handshake_done = true,
                    Item::Ticket(serial) => self.pending.tickets.again(serial),
                    Item::NewCid(sequence) => self.ids.announce_again(sequence),
                    Item::RetireCid(sequence) => self.ids.retire_again(sequence),
                    Item::Control(piece) => self.pending.control.piece_lost(piece),
                    Item::AckFrequency(sequence) => self.rhythm_lost(sequence),
                    Item::MtuProbe => {
                        self.paths.active.mtu.probe_lost(content.size);
                        probe = true;
                    }
                }
            }
            large |= content.size > BASE && !probe;
        }
        if self.paths.active.mtu.lost(large) {
            self.mtu_changed(tracer);
        }
    }

    /// A probe goes out with what an unsettled packet carried, since there is nothing new to say.
    pub(super) fn repeat_oldest(&mut self) {
        let Some(content) = self.paths.active.recovery.oldest_unacked().cloned() else {
            return;
        };
        for item in content.items() {
            match item {
                Item::Scheduled(token) => self.scheduler.repeat(token),
                Item::HandshakeDone => self.pending.handshake_done = true,
                Item::Ticket(serial) => self.pending.tickets.again(serial),
                Item::NewCid(sequence) => self.ids.announce_again(sequence),
                Item::RetireCid(sequence) => self.ids.retire_again(sequence),
                Item::Control(piece) => self.pending.control.piece_lost(piece),
                Item::AckFrequency(sequence) => self.rhythm_lost(sequence),
                Item::MtuProbe => {}
            }
        }
    }

    fn mtu_probe_acked(&mut self, size: u16, tracer: &mut Tracer<'_>) {
        if self.paths.active.mtu.probe_acked(size) {
            self.mtu_changed(tracer);
        }
    }

    fn mtu_changed(&mut self, tracer: &mut Tracer<'_>) {
        self.adopt_mtu();
        let mtu = self.paths.active.mtu.current();
        tracer.tell(|connection| Event::MtuChanged { connection, mtu });
    }
}
