//! ProbeRTT and the smallest round-trip time (§5.3.4): empties the queue to see how long the path really is.

use std::time::{Duration, Instant};

use super::probe_bw::AckPhase;
use super::rs::RateSample;
use super::{Bbr, Moment, State};

/// `BBR.MinRTTFilterLen`.
const FILTER: Duration = Duration::from_secs(10);
/// `BBR.ProbeRTTInterval`.
const INTERVAL: Duration = Duration::from_secs(5);
/// `BBR.ProbeRTTDuration`.
const DURATION: Duration = Duration::from_millis(200);
/// A sample that exceeds the minimum by less than this part of it confirms it. The draft asks for less than the minimum, which
/// a path whose hosts add some noise shows once and never again; a round trip at half a BDP every five seconds then cost 2 %
/// of the goodput of a flow that never had a queue.
const CONFIRMS: u32 = 64;

/// The smallest RTT of the last ten seconds, of the last five, and the probe for it.
#[derive(Default, Debug)]
pub(super) struct MinRtt {
    pub(super) min: Option<Duration>,
    pub(super) stamp: Option<Instant>,
    pub(super) probe_min: Option<Duration>,
    pub(super) probe_stamp: Option<Instant>,
    pub(super) expired: bool,
    /// The smallest RTT before the last ACK: the one at hand may be inflated by the very queue that is to be drained.
    before: Option<Duration>,
    /// What the probe's window is computed from.
    base: Option<Duration>,
    /// A probe is due since, and waits for a search for bandwidth to end.
    due: Option<Instant>,
    pub(super) done_at: Option<Instant>,
    round_done: bool,
}

impl MinRtt {
    pub(super) fn begin(&mut self, now: Instant, known: Option<Duration>) {
        (self.min, self.stamp) = (known, Some(now));
        self.probe_stamp = Some(now);
    }

    fn update(&mut self, now: Instant, rtt: Duration) {
        self.before = self.min;
        // Two round trips at least: on a path of ten seconds every sample would come too late to confirm anything.
        let interval = INTERVAL.max(2 * self.probe_min.unwrap_or_default());
        self.expired = is_past(now, self.probe_stamp, interval);
        if self.expired || self.probe_min.is_none_or(|min| rtt < min) {
            self.probe_min = Some(rtt);
            self.probe_stamp = Some(now);
        } else if self.probe_min.is_some_and(|min| rtt <= min + min / CONFIRMS) {
            self.probe_stamp = Some(now);
        }
        let smaller = match (self.probe_min, self.min) {
            (Some(probe), Some(min)) => probe <= min,
            (_, min) => min.is_none(),
        };
        if smaller || is_past(now, self.stamp, FILTER) {
            self.min = self.probe_min;
            self.stamp = self.probe_stamp;
        }
        if self.due.is_some() && self.base.is_some_and(|base| rtt <= base) {
            self.due = None;
        } else if self.expired && self.due.is_none() {
            self.due = Some(now);
            self.base = self.before;
        }
    }

    /// Whether to probe now. On paths of a second a cycle lasts longer than the five seconds between probes: if these
    /// broke off every search, bandwidth once overestimated would stay so for ever. So a search may end first, for
    /// another five seconds; then the filter of ten seconds is due as well.
    fn is_time(&self, now: Instant, searching: bool) -> bool {
        self.due.is_some() && (!searching || is_past(now, self.due, INTERVAL))
    }
}

fn is_past(now: Instant, since: Option<Instant>, wait: Duration) -> bool {
    since.is_some_and(|since| now > since + wait)
}

impl Bbr {
    pub(super) fn update_min_rtt(&mut self, moment: Moment, sample: &RateSample) {
        self.min_rtt.update(moment.now, sample.rtt);
    }

    pub(super) fn check_probe_rtt(&mut self, moment: Moment, sample: &RateSample) {
        if self.idle_restart {
            self.min_rtt.due = None;
        }
        // The search is over when its last ACKs were read.
        let stopping = self.state == State::Down && self.cycle.ack_phase == AckPhase::Stopping;
        let searching = self.state.is_probing() || stopping;
        if self.state != State::ProbeRtt && self.min_rtt.is_time(moment.now, searching) {
            self.state = State::ProbeRtt;
            self.save_cwnd();
            self.min_rtt.due = None;
            self.min_rtt.done_at = None;
            self.cycle.ack_phase = AckPhase::Stopping;
            self.rounds.restart(self.sampler.delivered());
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(moment);
        }
        if sample.delivered > 0 {
            self.idle_restart = false;
        }
    }

    fn handle_probe_rtt(&mut self, moment: Moment) {
        // What so little in flight delivers says nothing about the path.
        self.sampler.mark_app_limited(moment.in_flight);
        if self.min_rtt.done_at.is_none() {
            if moment.in_flight <= self.probe_rtt_cwnd() {
                self.min_rtt.done_at = Some(moment.now + DURATION);
                self.min_rtt.round_done = false;
                self.rounds.restart(self.sampler.delivered());
            }
            return;
        }
        self.min_rtt.round_done |= self.rounds.start;
        if self.min_rtt.round_done {
            self.check_probe_rtt_done(moment);
        }
    }

    pub(super) fn check_probe_rtt_done(&mut self, moment: Moment) {
        if self.min_rtt.done_at.is_none_or(|at| moment.now <= at) {
            return;
        }
        self.min_rtt.probe_stamp = Some(moment.now);
        self.restore_cwnd();
        self.bounds.reset_shortterm();
        if self.full.reached {
            self.start_down(moment);
            self.start_cruise();
            self.bounds.begin_held_down(self.sampler.delivered());
        } else {
            self.enter_startup();
        }
    }

    /// Half a BDP, by the RTT known before the probe was due: both filters may have expired with a queue standing.
    pub(super) fn probe_rtt_cwnd(&self) -> u64 {
        let rtt = match (self.min_rtt.base, self.min_rtt.min) {
            (Some(base), Some(min)) => Some(base.min(min)),
            (base, min) => base.or(min),
        };
        let half = self.bdp_over(self.bw, rtt) / 2;
        half.max(self.min_pipe_cwnd())
    }
}
