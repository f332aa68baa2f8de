//! What losses do to the model (§5.5.10), what late ACKs undo (§5.5.11), and what an outage does (§5.6.4.4).

use super::model::{INFINITE, beta, per_mille};
use super::probe_bw::AckPhase;
use super::rs::{LossSample, Packet};
use super::{Bbr, Moment, State};

/// What was in flight when losses passed the threshold (per mille), perhaps within this packet (`InflightAtLoss`).
pub(super) fn inflight_at_loss(sample: &LossSample, threshold: u64) -> u64 {
    let before = sample.in_flight_then.saturating_sub(sample.size);
    let lost_before = sample.lost.saturating_sub(sample.size);
    let tolerated = per_mille(before, threshold);
    let prefix = tolerated.saturating_sub(lost_before);
    before.saturating_add(prefix + prefix * threshold / (1000 - threshold))
}

/// What a spurious loss gives back.
#[derive(Debug)]
pub(super) struct Undo {
    pub(super) state: Option<State>,
    bw_shortterm: u64,
    inflight_shortterm: u64,
    inflight_longterm: u64,
}

impl Undo {
    pub(super) const STARTUP: Option<State> = Some(State::Startup);

    pub(super) fn new() -> Self {
        Self {
            state: None,
            bw_shortterm: 0,
            inflight_shortterm: 0,
            inflight_longterm: 0,
        }
    }
}

impl Bbr {
    /// A packet was declared lost to congestion. `new_range`: something before it, after the last loss, arrived.
    pub(in crate::congestion) fn on_lost(&mut self, moment: Moment, packet: &Packet, new_range: bool) {
        let sample = self.sampler.on_lost(packet);
        self.calm.on_lost(packet.size);
        self.bounds.note_loss(self.sampler.delivered());
        self.lost_ranges += u32::from(new_range || self.lost_ranges == 0);
        // Once a probe, and only for what was sent while probing.
        if self.cycle.probe_sample && self.went_too_high(sample.lost, sample.in_flight_then) {
            self.handle_too_high(moment, &sample);
        }
    }

    /// Bytes were marked instead of dropped: the draft wants a mark to count as congestion (§5.5.10) and leaves open how.
    /// They count as lost, except that a round with marks alone takes away half as much.
    pub(in crate::congestion) fn on_marked(&mut self, moment: Moment, packet: &Packet, bytes: u64) {
        let sample = self.sampler.on_marked(packet, bytes);
        // A mark is told by a router, queue or not.
        self.calm.on_mark();
        self.bounds.note_mark(self.sampler.delivered());
        self.lost_ranges += 1;
        if self.cycle.probe_sample && self.went_too_high(sample.lost, sample.in_flight_then) {
            self.handle_too_high(moment, &sample);
        }
    }

    /// More of what was in flight was lost than is tolerated: 2 % and what chance adds, unless more is known to be usual.
    pub(super) fn is_too_high(&self, lost: u64, in_flight: u64) -> bool {
        lost > self.calm.bearable(in_flight, self.max_datagram)
    }

    /// [`is_too_high`](Self::is_too_high) for a probe. One datagram is more than 2 % of any flight below fifty: a single random loss would end
    /// each probe on a short path, so there have to be two; unless so little flies that two would never be found.
    pub(super) fn went_too_high(&self, lost: u64, in_flight: u64) -> bool {
        let telling = lost > self.max_datagram || in_flight <= self.min_pipe_cwnd();
        telling && self.is_too_high(lost, in_flight)
    }

    fn handle_too_high(&mut self, moment: Moment, sample: &LossSample) {
        self.cycle.too_high = true;
        self.cycle.probe_sample = false;
        if !sample.app_limited {
            self.bounds.inflight_longterm =
                inflight_at_loss(sample, self.calm.tolerated()).max(beta(self.target_inflight()));
        }
        if self.state == State::Up {
            self.undo.state = Some(State::Up);
            self.start_down(moment);
        }
    }

    /// A recovery period began (RFC 9002 §7.3.2): what it changes can be undone. The draft saves at the first loss of
    /// each round as well; a probe that ends by a loss begins a new round, and its next loss would overwrite what is to
    /// be restored.
    pub(in crate::congestion) fn on_recovery_start(&mut self) {
        self.save_state();
        self.in_recovery = true;
    }

    /// A packet sent after its begin was acknowledged.
    pub(in crate::congestion) fn on_recovery_end(&mut self) {
        if std::mem::take(&mut self.in_recovery) {
            self.restore_cwnd();
        }
    }

    /// Persistent congestion, the counterpart of TCP's retransmission timeout: one more than what flies.
    pub(in crate::congestion) fn on_persistent_congestion(&mut self, in_flight: u64) {
        self.save_cwnd();
        self.in_recovery = true;
        self.cwnd = self
            .cwnd
            .min(in_flight + self.max_datagram)
            .max(self.min_pipe_cwnd());
    }

    /// Once a round: the bounds of the short term, unless this is a probe, or little was delivered because little was sent.
    pub(super) fn adapt_lower_bounds(&mut self, moment: Moment) {
        if !self.bounds.loss_round_start {
            return;
        }
        let delivered = self.sampler.delivered();
        let probing = self.state.is_probing();
        let probed = probing || self.state == State::Drain || self.cycle.ack_phase == AckPhase::Stopping;
        let bearable = self
            .calm
            .round(moment.now, delivered, self.min_rtt.min, self.max_datagram, probed);
        let ours = self.bounds.was_held_down() || probing || self.state == State::ProbeRtt;
        if self.bounds.loss_in_round && !bearable && !ours {
            // In DOWN nine tenths were sent, so no more can have been delivered: that is our doing, not the path's.
            let gain = if self.state == State::Down { 0.9 } else { 1.0 };
            self.bounds.cut_shortterm(self.max_bw.get(), self.cwnd, gain);
        }
        self.bounds.loss_in_round = false;
    }

    fn save_state(&mut self) {
        self.save_cwnd();
        self.undo = Undo {
            state: None,
            bw_shortterm: self.bounds.bw_shortterm,
            inflight_shortterm: self.bounds.inflight_shortterm,
            inflight_longterm: self.bounds.inflight_longterm,
        };
    }

    pub(super) fn save_cwnd(&mut self) {
        self.prior_cwnd = if self.in_recovery || self.state == State::ProbeRtt {
            self.prior_cwnd.max(self.cwnd)
        } else {
            self.cwnd
        };
    }

    pub(super) fn restore_cwnd(&mut self) {
        self.cwnd = self.cwnd.max(self.prior_cwnd);
    }

    /// No packet of the last event was really lost.
    pub(in crate::congestion) fn on_spurious_event(&mut self) {
        self.in_recovery = false;
        self.restore_cwnd();
        self.full.search(0);
        let (bounds, undo) = (&mut self.bounds, &self.undo);
        bounds.loss_in_round = false;
        bounds.bw_shortterm = bounds.bw_shortterm.max(undo.bw_shortterm);
        bounds.inflight_shortterm = bounds.inflight_shortterm.max(undo.inflight_shortterm);
        bounds.inflight_longterm = bounds.inflight_longterm.max(undo.inflight_longterm);
        let probing_rtt = self.state == State::ProbeRtt;
        match self.undo.state.take() {
            Some(State::Startup) if self.state != State::Startup => {
                self.full.reached = false;
                if !probing_rtt {
                    self.enter_startup();
                }
            }
            Some(State::Up) if self.state != State::Up && !probing_rtt => self.start_refill(),
            _ => {}
        }
    }

    /// What losses leave of the window (`BoundCwndForModel`), by the table of §5.6.1.
    pub(super) fn caps(&self) -> u64 {
        let least = self.min_pipe_cwnd();
        let longterm = match self.state {
            State::Startup => INFINITE,
            State::Drain | State::Down | State::Refill | State::Up => self.bounds.inflight_longterm,
            State::Cruise | State::ProbeRtt => self.bounds.with_headroom(self.max_datagram, least),
        };
        longterm.min(self.bounds.inflight_shortterm).max(least)
    }
}
