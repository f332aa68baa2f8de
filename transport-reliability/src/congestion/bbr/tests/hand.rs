//! A flow driven by hand: flights of datagrams of 1000 bytes over a path of 100 ms and 1 MB/s.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::link::MS;
use crate::congestion::bbr::model::INFINITE;
use crate::congestion::bbr::{Bbr, Moment, Packet, State};
use crate::rtt::Rtt;
use crate::start;

pub(super) const MDS: u64 = 1000;
pub(super) const RTT: Duration = Duration::from_millis(100);
pub(super) const BW: u64 = 1_000_000;
/// A hundred packets.
pub(super) const BDP: u64 = 100 * MDS;

pub(super) struct Hand {
    pub(super) bbr: Bbr,
    pub(super) now: Instant,
    pub(super) rtt: Rtt,
    pub(super) in_flight: u64,
    next: u64,
    last_lost: u64,
    flying: BTreeMap<u64, Packet>,
}

impl Hand {
    pub(super) fn fresh() -> Self {
        Self {
            bbr: Bbr::new(MDS, 3, false),
            now: start(),
            rtt: Rtt::new(333 * MS),
            in_flight: 0,
            next: 1,
            last_lost: 0,
            flying: BTreeMap::new(),
        }
    }

    /// The model is complete, and the flow is in `state`.
    pub(super) fn steady(state: State) -> Self {
        let mut hand = Self::fresh();
        hand.rtt.sample(RTT, Duration::ZERO);
        let moment = hand.moment();
        let bbr = &mut hand.bbr;
        bbr.initialize(moment, &hand.rtt);
        bbr.min_rtt.probe_min = Some(RTT);
        bbr.max_bw.0 = [BW, BW];
        (bbr.bw, bbr.pacing_rate, bbr.cwnd) = (BW, BW, 2 * BDP);
        bbr.full.reached = true;
        bbr.state = state;
        bbr.cycle.wait = Duration::from_secs(1000);
        hand.now += MS;
        hand
    }

    /// ProbeBW_UP, its first feedback arriving.
    pub(super) fn up() -> Self {
        let mut hand = Self::steady(State::Cruise);
        hand.flight(100);
        hand.bbr.start_refill();
        hand.flight(100);
        assert_eq!(hand.bbr.state, State::Up);
        hand
    }

    pub(super) fn moment(&self) -> Moment {
        Moment {
            now: self.now,
            in_flight: self.in_flight,
        }
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    pub(super) fn send(&mut self, count: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            self.in_flight += MDS;
            let stamp = self.bbr.on_sent(self.moment(), MDS, &self.rtt);
            let (number, sent_at) = (self.next, self.now);
            let size = MDS;
            self.flying.insert(
                number,
                Packet {
                    number,
                    size,
                    sent_at,
                    stamp,
                },
            );
            numbers.push(number);
            self.next += 1;
        }
        numbers
    }

    pub(super) fn ack(&mut self, numbers: &[u64]) {
        for number in numbers.iter().rev() {
            let packet = self.flying.remove(number).expect("in flight");
            self.in_flight -= MDS;
            self.bbr.on_acked(self.now, packet);
        }
        if let Some(last) = numbers.last() {
            assert!(*last > 0);
            self.bbr.on_ack(self.moment(), &self.rtt);
        }
    }

    pub(super) fn lose(&mut self, numbers: &[u64]) {
        if !self.bbr.in_recovery {
            self.bbr.on_recovery_start();
        }
        for &number in numbers {
            let packet = self.flying.remove(&number).expect("in flight");
            self.in_flight -= MDS;
            let new_range = number != self.last_lost + 1;
            self.last_lost = number;
            self.bbr.on_lost(self.moment(), &packet, new_range);
        }
    }

    /// Sends `count` packets and acknowledges them a round trip later: a sample of `count` · 10 kB/s.
    pub(super) fn flight(&mut self, count: u64) {
        let numbers = self.send(count);
        self.wait(RTT);
        self.ack(&numbers);
    }

    pub(super) fn bounds(&self) -> (u64, u64, u64) {
        let bounds = &self.bbr.bounds;
        (
            bounds.bw_shortterm,
            bounds.inflight_shortterm,
            bounds.inflight_longterm,
        )
    }
}

pub(super) const UNBOUNDED: (u64, u64, u64) = (INFINITE, INFINITE, INFINITE);
