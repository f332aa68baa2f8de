//! Startup (§5.3.1): doubles the rate every round until the pipe is full, by the rate or by losses.

use super::calm::MOST;
use super::model::per_mille;
use super::rs::RateSample;
use super::{Bbr, Moment, State, Undo};

/// Rounds of little growth that fill the pipe.
const FULL_BW_ROUNDS: u32 = 3;
/// `BBRStartupFullLossCnt`: separate ranges lost in one round.
const FULL_LOSS_RANGES: u32 = 6;

/// Has the rate stopped growing (§5.3.1.2)? Used by Startup, and by every probe for bandwidth.
#[derive(Default, Debug)]
pub(super) struct FullPipe {
    /// Since the connection began.
    pub(super) reached: bool,
    /// Since the search last began.
    pub(super) now: bool,
    pub(super) rounds: u32,
    pub(super) baseline: u64,
}

impl FullPipe {
    /// A new search, from `baseline` up.
    pub(super) fn search(&mut self, baseline: u64) {
        self.now = false;
        self.rounds = 0;
        self.baseline = baseline;
    }

    pub(super) fn update(&mut self, sample: &RateSample, round_start: bool) {
        if self.now || !round_start || sample.app_limited {
            return;
        }
        // Growth by a quarter, in integers: rate · 4 ≥ baseline · 5.
        if u128::from(sample.delivery_rate) * 4 >= u128::from(self.baseline) * 5 {
            self.search(sample.delivery_rate);
            return;
        }
        self.rounds += 1;
        self.now = self.rounds >= FULL_BW_ROUNDS;
        self.reached |= self.now;
    }
}

impl Bbr {
    pub(super) fn enter_startup(&mut self) {
        self.state = State::Startup;
    }

    pub(super) fn check_startup_done(&mut self, sample: &RateSample) {
        self.check_startup_high_loss(sample);
        if self.state == State::Startup && self.full.reached {
            self.enter_drain();
        }
    }

    /// A full round since the first loss, more than 2 % of the bytes, six ranges (§5.3.1.3). Without a queue it takes 10 %: a rate
    /// that exceeds the path's loses more than that in a round, and chance would end the search long before the pipe is full.
    fn check_startup_high_loss(&mut self, sample: &RateSample) {
        if !self.bounds.loss_round_start {
            return;
        }
        let ranges = std::mem::take(&mut self.lost_ranges);
        let searching = self.state == State::Startup && !self.full.reached;
        let too_high = if self.calm.last() {
            sample.lost > per_mille(sample.in_flight_then, MOST)
        } else {
            self.is_too_high(sample.lost, sample.in_flight_then)
        };
        if searching && ranges >= FULL_LOSS_RANGES && too_high {
            self.undo.state = Undo::STARTUP;
            self.full.reached = true;
            self.full.now = true;
            self.bounds.inflight_longterm = self.bdp(self.bw).max(self.bounds.inflight_latest);
        }
    }
}

impl Bbr {
    /// Pacing before anything was measured: 2.77 · IW / srtt (§5.6.2).
    pub(super) fn initial_rate(&self, rtt: &crate::rtt::Rtt) -> u64 {
        let span = if rtt.is_sampled() {
            rtt.smoothed()
        } else {
            std::time::Duration::from_millis(1)
        };
        (State::Startup.pacing_gain() * self.initial_cwnd as f64 / span.as_secs_f64()) as u64
    }

    /// The first send, and the first RTT sample after it if none was known.
    pub(super) fn initialize(&mut self, moment: Moment, rtt: &crate::rtt::Rtt) {
        if self.min_rtt.stamp.is_none() {
            self.min_rtt
                .begin(moment.now, rtt.is_sampled().then(|| rtt.smoothed()));
            self.aggregation.restart(moment.now);
            self.cycle.stamp = Some(moment.now);
            self.pacing_rate = self.initial_rate(rtt);
            self.rate_from_rtt = rtt.is_sampled();
        } else if !self.rate_from_rtt && rtt.is_sampled() {
            self.rate_from_rtt = true;
            self.pacing_rate = self.initial_rate(rtt);
        }
    }
}
