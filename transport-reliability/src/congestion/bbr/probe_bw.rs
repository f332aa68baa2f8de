//! ProbeBW (§5.3.3): DOWN, CRUISE, REFILL and UP in turn, to see whether there is more, and to leave room for others.

use std::time::{Duration, Instant};

use super::model::INFINITE;
use super::rs::RateSample;
use super::{Bbr, Moment, State};

/// Rounds after which Reno would have filled its window anyway: probing then does not hurt it more.
const RENO_ROUNDS: u64 = 63;
/// The longest wait between probes is two to three seconds.
const LEAST_WAIT: Duration = Duration::from_secs(2);
const MORE_WAIT: Duration = Duration::from_secs(1);
/// Doublings of the growth of `inflight_longterm`.
const MAX_SLOPE: u32 = 30;

/// What the ACKs now arriving tell about the probe.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum AckPhase {
    #[default]
    Init,
    Refilling,
    Starting,
    Feedback,
    Stopping,
}

/// Where the cycle of probes stands.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) ack_phase: AckPhase,
    pub(super) stamp: Option<Instant>,
    pub(super) wait: Duration,
    pub(super) rounds_since_up: u64,
    /// ACKs are of packets sent while probing, and the probe was not yet punished.
    pub(super) probe_sample: bool,
    pub(super) up_rounds: u32,
    up_acked: u64,
    pub(super) acked_per_increase: u64,
    pub(super) too_high: bool,
    pub(super) precautionary: bool,
    /// UP began without a queue: what it finds will be its own.
    pub(super) alone: bool,
}

impl Cycle {
    pub(super) fn new() -> Self {
        Self {
            ack_phase: AckPhase::Init,
            stamp: None,
            wait: Duration::ZERO,
            rounds_since_up: 0,
            probe_sample: false,
            up_rounds: 0,
            up_acked: 0,
            acked_per_increase: INFINITE,
            too_high: false,
            precautionary: false,
            alone: false,
        }
    }
}

impl Bbr {
    pub(super) fn start_down(&mut self, moment: Moment) {
        self.bounds.reset_signals();
        self.cycle.acked_per_increase = INFINITE;
        self.pick_wait();
        self.cycle.stamp = Some(moment.now);
        self.cycle.ack_phase = AckPhase::Stopping;
        self.rounds.restart(self.sampler.delivered());
        self.state = State::Down;
    }

    pub(super) fn start_cruise(&mut self) {
        self.state = State::Cruise;
    }

    pub(super) fn start_refill(&mut self) {
        self.bounds.reset_shortterm();
        self.cycle.up_rounds = 0;
        self.cycle.up_acked = 0;
        self.cycle.precautionary = false;
        self.cycle.ack_phase = AckPhase::Refilling;
        self.rounds.restart(self.sampler.delivered());
        self.state = State::Refill;
    }

    fn start_up(&mut self, sample: &RateSample) {
        self.cycle.probe_sample = true;
        self.cycle.alone = self.calm.last();
        self.cycle.ack_phase = AckPhase::Starting;
        self.rounds.restart(self.sampler.delivered());
        self.full.search(sample.delivery_rate);
        self.state = State::Up;
        self.raise_slope();
    }

    /// Randomised, so that flows do not probe in step.
    fn pick_wait(&mut self) {
        self.cycle.rounds_since_up = self.random.below(2);
        let more = self.random.below(MORE_WAIT.as_nanos() as u64 + 1);
        self.cycle.wait = LEAST_WAIT + Duration::from_nanos(more);
    }

    pub(super) fn update_cycle(&mut self, moment: Moment, sample: &RateSample) {
        if !self.full.reached || self.adapt_longterm(sample) {
            return;
        }
        match self.state {
            State::Down | State::Cruise if self.is_time_to_probe(moment) => self.start_refill(),
            State::Down if self.is_time_to_cruise(moment) => self.start_cruise(),
            State::Refill if self.rounds.start => self.start_up(sample),
            State::Up => self.check_up_done(moment, sample),
            _ => {}
        }
    }

    /// Not before the last probe's ACKs were read: with a round trip longer than the wait no cycle would ever end, and a
    /// bandwidth once overestimated would stay so.
    fn is_time_to_probe(&self, moment: Moment) -> bool {
        if self.cycle.ack_phase == AckPhase::Stopping {
            return false;
        }
        let waited = self
            .cycle
            .stamp
            .is_some_and(|stamp| moment.now > stamp + self.cycle.wait);
        waited || self.cycle.rounds_since_up >= self.reno_rounds()
    }

    /// In packets, where all else is bytes. With less than a packet in flight every round would be a probe: as the
    /// least window is four packets, so is the least wait four rounds.
    pub(super) fn reno_rounds(&self) -> u64 {
        let target = self.target_inflight().max(self.min_pipe_cwnd());
        (target / self.max_datagram).min(RENO_ROUNDS)
    }

    /// Headroom for others, and no queue of our own by the bandwidth of the long term.
    fn is_time_to_cruise(&self, moment: Moment) -> bool {
        let headroom = self.bounds.with_headroom(self.max_datagram, self.min_pipe_cwnd());
        moment.in_flight <= headroom && moment.in_flight <= self.inflight(self.max_bw.get())
    }

    fn check_up_done(&mut self, moment: Moment, sample: &RateSample) {
        if self.is_time_to_go_down(moment, sample) {
            self.cycle.too_high = false;
            self.start_down(moment);
        }
    }

    fn is_time_to_go_down(&mut self, moment: Moment, sample: &RateSample) -> bool {
        if self.cycle.too_high && moment.in_flight >= self.bounds.inflight_longterm {
            self.cycle.precautionary = true;
            return true;
        }
        if self.is_cwnd_limited() && self.cwnd >= self.bounds.inflight_longterm {
            // Not the path but the old bound holds the rate down.
            self.full.search(sample.delivery_rate);
            return false;
        }
        self.full.now
    }

    /// Growth doubles every round: by 1, 2, 4 datagrams and so on for each window acknowledged.
    fn raise_slope(&mut self) {
        let growth = 1 << self.cycle.up_rounds;
        self.cycle.up_rounds = (self.cycle.up_rounds + 1).min(MAX_SLOPE);
        self.cycle.acked_per_increase = (self.cwnd / growth).max(self.max_datagram);
    }

    fn probe_longterm_upward(&mut self, sample: &RateSample) {
        if !self.is_cwnd_limited() || self.cwnd < self.bounds.inflight_longterm {
            return;
        }
        self.cycle.up_acked += sample.newly_acked;
        let steps = self.cycle.up_acked / self.cycle.acked_per_increase;
        self.cycle.up_acked -= steps * self.cycle.acked_per_increase;
        self.bounds.inflight_longterm = self
            .bounds
            .inflight_longterm
            .saturating_add(steps * self.max_datagram);
        if self.rounds.start {
            self.raise_slope();
        }
    }

    /// Follows the probe's ACKs; true when that already decided the next state.
    fn adapt_longterm(&mut self, sample: &RateSample) -> bool {
        if self.cycle.ack_phase == AckPhase::Starting && self.rounds.start {
            self.cycle.ack_phase = AckPhase::Feedback;
        }
        if self.cycle.ack_phase == AckPhase::Stopping && self.rounds.start && self.stop_feedback(sample) {
            return true;
        }
        let too_high = self.went_too_high(sample.lost, sample.in_flight_then);
        if too_high || self.bounds.inflight_longterm == INFINITE {
            return false;
        }
        self.bounds.inflight_longterm = self.bounds.inflight_longterm.max(sample.in_flight_then);
        if self.state == State::Up {
            self.probe_longterm_upward(sample);
        }
        false
    }

    /// The last ACK of the probe came. True when a careful probe went well, and a real one begins at once.
    fn stop_feedback(&mut self, sample: &RateSample) -> bool {
        self.cycle.probe_sample = false;
        self.cycle.ack_phase = AckPhase::Init;
        if !self.state.is_probe_bw() {
            return false;
        }
        if !sample.app_limited {
            self.max_bw.advance();
        }
        let again = self.cycle.precautionary && !self.cycle.too_high;
        if again {
            self.start_refill();
        }
        again
    }
}
