//! BBRv3 (draft-ietf-ccwg-bbr-06): a model of the path, and a sender that follows it instead of its losses.
//!
//! [`rs`] measures, [`model`] remembers, one file a mode decides, [`loss`] corrects, [`control`] sets the knobs. All
//! amounts are bytes, all rates bytes a second; the one place that counts packets says so.

mod calm;
mod control;
mod drain;
mod loss;
mod model;
mod probe_bw;
mod probe_rtt;
mod rs;
mod startup;

use std::time::Instant;

use super::{Rhythm, initial_window};
use crate::number::SplitMix;
use crate::rtt::Rtt;
use calm::Calm;
use loss::Undo;
use model::{Aggregation, Bounds, MaxBw, Rounds};
use probe_bw::Cycle;
use probe_rtt::MinRtt;
pub(crate) use rs::{Packet, Stamp};
use rs::{RateSample, Sampler};
use startup::FullPipe;

/// Keeps the times of probes apart from the numbers left out, which come of the same seed.
const STREAM: u64 = 0x6262_7276_335f_7072;

/// The states of §5.1, ProbeBW's four phases among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

impl State {
    /// The table of §5.6.1. Gains are functions of the state, so no transition can forget them.
    fn pacing_gain(self) -> f64 {
        match self {
            State::Startup => 2.77,
            State::Drain => 0.5,
            State::Down => 0.9,
            State::Cruise | State::Refill | State::ProbeRtt => 1.0,
            State::Up => 1.25,
        }
    }

    fn cwnd_gain(self) -> f64 {
        match self {
            State::Startup | State::Drain | State::Down | State::Cruise | State::Refill => 2.0,
            State::Up => 2.25,
            State::ProbeRtt => 0.5,
        }
    }

    fn is_probe_bw(self) -> bool {
        matches!(self, State::Down | State::Cruise | State::Refill | State::Up)
    }

    /// Losses are expected: the bounds of the short term stay.
    fn is_probing(self) -> bool {
        matches!(self, State::Startup | State::Refill | State::Up)
    }
}

/// When something happens, and how much is in flight after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) in_flight: u64,
}

/// One BBR flow.
#[derive(Debug)]
pub(super) struct Bbr {
    state: State,
    sampler: Sampler,
    rounds: Rounds,
    max_bw: MaxBw,
    min_rtt: MinRtt,
    aggregation: Aggregation,
    bounds: Bounds,
    full: FullPipe,
    cycle: Cycle,
    undo: Undo,
    calm: Calm,
    random: SplitMix,
    /// `BBR.bw`: what the short term allows of `max_bw`.
    bw: u64,
    pacing_rate: u64,
    /// The initial pacing rate came of a measured RTT.
    rate_from_rtt: bool,
    cwnd: u64,
    prior_cwnd: u64,
    initial_cwnd: u64,
    max_datagram: u64,
    drain_start_round: u64,
    /// Ranges lost in this loss round.
    lost_ranges: u32,
    in_recovery: bool,
    idle_restart: bool,
    /// The window was full at some point of this round, and of the one before.
    cwnd_limited: [bool; 2],
}

impl Bbr {
    /// `lossy`: learns to bear losses without a queue.
    pub(super) fn new(max_datagram: u64, seed: u64, lossy: bool) -> Self {
        let cwnd = initial_window(max_datagram);
        Self {
            state: State::Startup,
            sampler: Sampler::default(),
            rounds: Rounds::default(),
            max_bw: MaxBw::default(),
            min_rtt: MinRtt::default(),
            aggregation: Aggregation::default(),
            bounds: Bounds::new(),
            full: FullPipe::default(),
            cycle: Cycle::new(),
            undo: Undo::new(),
            calm: Calm::new(lossy),
            random: SplitMix(seed ^ STREAM),
            bw: 0,
            pacing_rate: 0,
            rate_from_rtt: false,
            cwnd,
            prior_cwnd: 0,
            initial_cwnd: cwnd,
            max_datagram,
            drain_start_round: 0,
            lost_ranges: 0,
            in_recovery: false,
            idle_restart: false,
            cwnd_limited: [false; 2],
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.cwnd
    }

    /// Eight ACKs for each BDP; the window is two of them. With two, their clumps were taken for aggregation by the path, and half a
    /// BDP more was kept in flight.
    pub(super) fn rhythm(&self) -> Option<Rhythm> {
        self.full.reached.then_some(Rhythm { windows: 16, rtts: 8 })
    }

    /// Bytes a second.
    pub(super) fn rate(&self, rtt: &Rtt) -> u64 {
        if self.min_rtt.stamp.is_none() || (!self.rate_from_rtt && rtt.is_sampled()) {
            self.initial_rate(rtt)
        } else {
            self.pacing_rate
        }
    }

    pub(super) fn set_max_datagram(&mut self, bytes: u64) {
        self.max_datagram = bytes;
        self.cwnd = self.cwnd.max(self.min_pipe_cwnd());
    }

    /// The application left something of the permit.
    pub(super) fn on_app_limited(&mut self, in_flight: u64) {
        self.sampler.mark_app_limited(in_flight);
    }

    /// A packet leaves; `moment` counts it as in flight already.
    pub(super) fn on_sent(&mut self, moment: Moment, size: u64, rtt: &Rtt) -> Stamp {
        self.initialize(moment, rtt);
        if moment.in_flight <= size && self.sampler.is_app_limited() {
            self.restart_from_idle(moment);
        }
        self.cwnd_limited[0] |= moment.in_flight + self.max_datagram > self.cwnd;
        self.sampler.on_sent(moment.now, size, moment.in_flight)
    }

    /// Nothing was in flight because nothing was to be said (§5.4).
    fn restart_from_idle(&mut self, moment: Moment) {
        self.idle_restart = true;
        self.aggregation.restart(moment.now);
        if self.state.is_probe_bw() {
            self.set_pacing_rate(1.0);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(moment);
        }
    }

    /// A packet of this path was newly acknowledged; [`on_ack`](Self::on_ack) follows when all of an ACK were.
    pub(super) fn on_acked(&mut self, now: Instant, packet: Packet) {
        self.sampler.on_acked(now, packet);
    }

    /// An ACK was read, its losses included (§5.2.3).
    pub(super) fn on_ack(&mut self, moment: Moment, rtt: &Rtt) {
        let Some(sample) = self.sampler.generate(moment.now, self.min_rtt.min) else {
            return;
        };
        self.initialize(moment, rtt);
        self.update_model(moment, &sample);
        self.update_control(&sample);
    }

    fn update_model(&mut self, moment: Moment, sample: &RateSample) {
        let delivered = self.sampler.delivered();
        self.bounds.update_latest(sample, delivered);
        if self.rounds.update(sample.prior_delivered, delivered) {
            self.cycle.rounds_since_up += 1;
            self.cwnd_limited = [false, self.cwnd_limited[0]];
        }
        self.max_bw.update(sample);
        self.calm.on_rtt(sample.rtt);
        self.adapt_lower_bounds(moment);
        let short = !self.full.reached;
        self.aggregation.update(
            moment.now,
            sample.newly_acked,
            self.bw,
            self.cwnd,
            self.rounds.count,
            short,
        );
        self.full.update(sample, self.rounds.start);
        self.check_startup_done(sample);
        self.check_drain_done(moment);
        self.update_cycle(moment, sample);
        self.update_min_rtt(moment, sample);
        self.check_probe_rtt(moment, sample);
        self.bounds.advance_latest(sample);
        self.bw = self.max_bw.get().min(self.bounds.bw_shortterm);
    }

    /// Whether the window was full in the last round trip; at the end of one it rarely is (§2.2).
    fn is_cwnd_limited(&self) -> bool {
        self.cwnd_limited[0] || self.cwnd_limited[1]
    }
}

#[cfg(test)]
mod tests;
