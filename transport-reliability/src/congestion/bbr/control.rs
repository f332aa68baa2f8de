//! From the model to the three knobs (§5.6): pacing rate, send quantum, congestion window.

use std::time::Duration;

use super::model::volume;
use super::rs::RateSample;
use super::{Bbr, State};
use crate::congestion::MAX_WINDOW_PACKETS;

/// `BBR.MinPipeCwnd`, packets.
const MIN_PIPE: u64 = 4;
/// What is left of the rate by `BBR.PacingMarginPercent`.
const MARGIN: f64 = 0.99;
/// 64 KiB.
const MAX_QUANTUM: u64 = 64 * 1024;

impl Bbr {
    pub(super) fn min_pipe_cwnd(&self) -> u64 {
        MIN_PIPE * self.max_datagram
    }

    /// Bandwidth times RTT; before any RTT, the initial window.
    pub(super) fn bdp(&self, bw: u64) -> u64 {
        self.bdp_over(bw, self.min_rtt.min)
    }

    pub(super) fn bdp_over(&self, bw: u64, rtt: Option<Duration>) -> u64 {
        rtt.map_or(self.initial_cwnd, |rtt| volume(bw, rtt))
    }

    /// What the pacer lets go at once; with QUIC it is the offload budget as well (§5.5.8.2).
    fn send_quantum(&self) -> u64 {
        let least = 2 * self.max_datagram;
        (self.pacing_rate / 1000).min(MAX_QUANTUM).max(least)
    }

    fn quantized(&self, inflight: u64) -> u64 {
        let inflight = inflight.max(self.send_quantum()).max(self.min_pipe_cwnd());
        if self.state == State::Up {
            inflight.saturating_add(2 * self.max_datagram)
        } else {
            inflight
        }
    }

    /// `Inflight(bw, 1.0)`: enough to fill the pipe at that bandwidth.
    pub(super) fn inflight(&self, bw: u64) -> u64 {
        self.quantized(self.bdp(bw))
    }

    fn max_inflight(&self) -> u64 {
        let (bdp, extra) = (self.bdp(self.bw), self.aggregation.extra());
        let times = |gain: f64| (gain * bdp as f64) as u64;
        // Without an RTT there is nothing to multiply.
        let wanted = if self.min_rtt.min.is_none() {
            bdp.saturating_add(extra)
        } else if self.probes_gently(bdp, extra) {
            times(self.state.pacing_gain()).max(bdp.saturating_add(extra))
        } else {
            times(self.state.cwnd_gain()).saturating_add(extra)
        };
        self.quantized(wanted)
    }

    /// Where nobody else has a queue, a probe makes one of a quarter of the BDP: it shows whether there is more, and is all
    /// that waits if there is not (the draft: three round trips of a quarter each). Clumps of ACKs need as much as they hold;
    /// where that is more than half a BDP, a window so small would hide what there is.
    fn probes_gently(&self, bdp: u64, extra: u64) -> bool {
        self.state == State::Up && self.cycle.alone && extra <= bdp / 2
    }

    /// What is wanted in flight: the BDP, unless congestion cut the window.
    pub(super) fn target_inflight(&self) -> u64 {
        self.bdp(self.bw).min(self.cwnd)
    }

    pub(super) fn update_control(&mut self, sample: &RateSample) {
        self.set_pacing_rate(self.state.pacing_gain());
        self.set_cwnd(sample);
    }

    /// The rate only rises until the pipe was full once: what an application sends little by little must not slow
    /// the search. A datagram a second is the least, lest a sender wait for ever.
    pub(super) fn set_pacing_rate(&mut self, gain: f64) {
        if self.bw == 0 {
            return;
        }
        let rate = (gain * self.bw as f64 * MARGIN) as u64;
        if self.full.reached || rate > self.pacing_rate {
            self.pacing_rate = rate.max(self.max_datagram);
        }
    }

    fn set_cwnd(&mut self, sample: &RateSample) {
        let wanted = self.max_inflight();
        let grown = self.cwnd.saturating_add(sample.newly_acked);
        if self.full.reached {
            self.cwnd = grown.min(wanted);
        } else if self.cwnd < wanted || self.sampler.delivered() < self.initial_cwnd {
            self.cwnd = grown;
        }
        self.cwnd = self.cwnd.max(self.min_pipe_cwnd());
        if self.state == State::ProbeRtt {
            self.cwnd = self.cwnd.min(self.probe_rtt_cwnd());
        }
        self.cwnd = self
            .cwnd
            .min(self.caps())
            .min(MAX_WINDOW_PACKETS * self.max_datagram);
    }
}
