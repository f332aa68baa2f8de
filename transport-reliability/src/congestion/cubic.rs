//! CUBIC (RFC 9438), in bytes.
//!
//! Floating point here uses only the four operations, which IEEE 754 fixes to the bit: the same input gives the
//! same window on every machine.

use std::time::{Duration, Instant};

use super::hystart::HyStart;
use super::{MAX_WINDOW_PACKETS, initial_window};

const C: f64 = 0.4;
const BETA: f64 = 0.7;
/// After a mark instead of a loss (RFC 8511): the router's queue was short.
const BETA_ECN: f64 = 0.85;
/// Reno's growth that is fair at β = 0.7 (§4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// What an undo restores (§4.9.2).
#[derive(Clone, Debug)]
struct Curve {
    window: f64,
    ssthresh: u64,
    /// Window before the last reduction, fast convergence applied.
    w_max: f64,
    /// Window before the last reduction.
    prior: f64,
    epoch: Option<Epoch>,
    /// Only the first slow start ends by delay (RFC 9406 §4.3).
    hystart: Option<HyStart>,
}

/// One stretch of congestion avoidance.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// Seconds until the window is back at `w_max`.
    k: f64,
    /// What Reno would have.
    w_est: f64,
    /// Growth paused because the window went unused: this time does not count (§5.8).
    paused: Option<Instant>,
}

/// CUBIC with `HyStart++`.
#[derive(Debug)]
pub(super) struct Cubic {
    curve: Curve,
    saved: Option<Curve>,
    max_datagram: f64,
}

impl Cubic {
    pub(super) fn new(max_datagram: u64) -> Self {
        let window = initial_window(max_datagram) as f64;
        Self {
            curve: Curve {
                window,
                ssthresh: u64::MAX,
                w_max: window,
                prior: window,
                epoch: None,
                hystart: Some(HyStart::new()),
            },
            saved: None,
            max_datagram: max_datagram as f64,
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.curve.window.round() as u64
    }

    pub(super) fn ssthresh(&self) -> u64 {
        self.curve.ssthresh
    }

    pub(super) fn in_slow_start(&self) -> bool {
        self.window() < self.curve.ssthresh
    }

    pub(super) fn set_max_datagram(&mut self, bytes: u64) {
        self.max_datagram = bytes as f64;
        self.curve.window = self.curve.window.max(2.0 * self.max_datagram);
    }

    /// A round trip ended.
    pub(super) fn on_round(&mut self) {
        if self.in_slow_start() && self.curve.hystart.as_mut().is_some_and(HyStart::on_round) {
            self.curve.ssthresh = self.window();
            self.curve.hystart = None;
        }
    }

    /// One RTT sample.
    pub(super) fn on_rtt(&mut self, sample: Duration) {
        if self.in_slow_start()
            && let Some(hystart) = &mut self.curve.hystart
        {
            hystart.on_rtt(sample);
        }
    }

    /// `acked` bytes arrived; `used` says whether the window had been the limit.
    pub(super) fn on_ack(&mut self, now: Instant, acked: u64, used: bool, srtt: Duration) {
        if !used {
            if let Some(epoch) = &mut self.curve.epoch {
                epoch.paused = epoch.paused.or(Some(now));
            }
        } else if self.in_slow_start() {
            let growth = self
                .curve
                .hystart
                .as_ref()
                .map_or(acked, |hystart| hystart.growth(acked));
            self.curve.window += growth as f64;
        } else if acked > 0 {
            self.avoid(now, acked as f64, srtt);
        }
        self.curve.window = self
            .curve
            .window
            .min(MAX_WINDOW_PACKETS as f64 * self.max_datagram);
    }

    /// Congestion avoidance (§4.2 to §4.5).
    fn avoid(&mut self, now: Instant, acked: f64, srtt: Duration) {
        let mut epoch = self.curve.epoch.unwrap_or_else(|| self.begin(now));
        if let Some(paused) = epoch.paused.take() {
            epoch.start += now.saturating_duration_since(paused);
        }
        let window = self.curve.window;
        let elapsed = now.saturating_duration_since(epoch.start).as_secs_f64();
        let alpha = if epoch.w_est < self.curve.prior {
            ALPHA
        } else {
            1.0
        };
        epoch.w_est += alpha * self.max_datagram * acked / window;
        if self.w_cubic(elapsed, epoch.k) < epoch.w_est {
            self.curve.window = window.max(epoch.w_est);
        } else {
            let target = self
                .w_cubic(elapsed + srtt.as_secs_f64(), epoch.k)
                .clamp(window, 1.5 * window);
            self.curve.window = window + (target - window) * acked / window;
        }
        self.curve.epoch = Some(epoch);
    }

    /// The first ACK after a reduction, or after slow start ended by delay.
    fn begin(&mut self, now: Instant) -> Epoch {
        let window = self.curve.window;
        if window >= self.curve.w_max {
            self.curve.w_max = window;
            self.curve.prior = window;
        }
        let k = cube_root((self.curve.w_max - window) / self.max_datagram / C);
        Epoch {
            start: now,
            k,
            w_est: window,
            paused: None,
        }
    }

    fn w_cubic(&self, t: f64, k: f64) -> f64 {
        let d = t - k;
        C * d * d * d * self.max_datagram + self.curve.w_max
    }

    /// A new congestion event (§4.6, §4.7).
    pub(super) fn on_congestion(&mut self) {
        self.reduce(BETA);
    }

    /// A new congestion event that cost no packet.
    pub(super) fn on_marked(&mut self) {
        self.reduce(BETA_ECN);
        self.saved = None;
    }

    fn reduce(&mut self, beta: f64) {
        self.saved = Some(self.curve.clone());
        let curve = &mut self.curve;
        let converge = curve.window < curve.w_max;
        curve.w_max = if converge {
            curve.window * (1.0 + BETA) / 2.0
        } else {
            curve.window
        };
        curve.prior = curve.window;
        curve.window = (curve.window * beta).max(2.0 * self.max_datagram);
        curve.ssthresh = curve.window.round() as u64;
        curve.epoch = None;
        curve.hystart = None;
    }

    /// Every loss of the last event was spurious; false when there is nothing to restore.
    pub(super) fn undo(&mut self) -> bool {
        let Some(saved) = self.saved.take() else {
            return false;
        };
        let window = self.curve.window.max(saved.window);
        self.curve = Curve { window, ..saved };
        true
    }

    pub(super) fn on_persistent_congestion(&mut self) {
        self.saved = None;
        self.curve.epoch = None;
        self.curve.window = 2.0 * self.max_datagram;
    }
}

/// Newton's iteration, from above.
fn cube_root(x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let mut root = x.max(1.0);
    for _ in 0..200 {
        let next = (2.0 * root + x / (root * root)) / 3.0;
        if next >= root {
            break;
        }
        root = next;
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start;

    const MDS: u64 = 1200;
    const SEGMENT: f64 = 1200.0;
    const RTT: Duration = Duration::from_millis(100);

    /// A controller that reduced from `segments`.
    fn reduced(segments: u64, now: Instant) -> Cubic {
        let mut cubic = Cubic::new(MDS);
        cubic.on_ack(now, segments * MDS - cubic.window(), true, RTT);
        assert_eq!(cubic.window(), segments * MDS);
        cubic.on_congestion();
        cubic
    }

    /// Acknowledges one full window a round trip, spread over ten ACKs.
    fn run(cubic: &mut Cubic, from: Instant, rtt: Duration, rounds: u32) -> Instant {
        let mut now = from;
        for _ in 0..rounds * 10 {
            cubic.on_ack(now, cubic.window() / 10, true, rtt);
            now += rtt / 10;
        }
        now
    }

    #[test]
    fn cube_roots() {
        for x in [1e-9, 0.3, 1.0, 27.0, 1e6, 1e12] {
            let root = cube_root(x);
            assert!((root * root * root / x - 1.0).abs() < 1e-12, "{x}: {root}");
        }
        assert!(cube_root(0.0) == 0.0 && cube_root(-1.0) == 0.0);
    }

    #[test]
    fn reduction_is_to_seven_tenths() {
        let cubic = reduced(100, start());
        assert_eq!((cubic.window(), cubic.ssthresh()), (70 * MDS, 70 * MDS));
        assert!(!cubic.in_slow_start());
    }

    #[test]
    fn the_curve_is_back_at_its_maximum_after_k() {
        // K = cbrt(1000·0.3/0.4) = 9.086 s; with srtt of lookahead the plateau is reached about then.
        let now = start();
        let mut cubic = reduced(1000, now);
        let at = run(&mut cubic, now, RTT, 60);
        let at_six = cubic.window() as f64 / SEGMENT;
        let t = 6.0_f64;
        let expected = 1000.0 + C * (t - 9.086_f64) * (t - 9.086) * (t - 9.086);
        assert!(
            (at_six / expected - 1.0).abs() < 0.01,
            "{at_six} instead of {expected}"
        );
        let at = run(&mut cubic, at, RTT, 30);
        let plateau = cubic.window() as f64 / SEGMENT;
        assert!((plateau - 1000.0).abs() < 2.0, "{plateau}");
        run(&mut cubic, at, RTT, 60);
        let convex = cubic.window() as f64 / SEGMENT;
        let expected = 1000.0 + C * 5.914_f64 * 5.914 * 5.914;
        assert!(
            (convex / expected - 1.0).abs() < 0.02,
            "{convex} instead of {expected}"
        );
    }

    #[test]
    fn on_short_paths_it_is_no_slower_than_reno() {
        // 20 segments, 10 ms: the cubic would take 2.5 s, Reno's line with α = 0.529 some 12 rounds.
        let (now, rtt) = (start(), Duration::from_millis(10));
        let mut cubic = reduced(20, now);
        run(&mut cubic, now, rtt, 10);
        let window = cubic.window() as f64 / SEGMENT;
        assert!((window - (14.0 + 10.0 * ALPHA)).abs() < 0.2, "{window}");
        run(&mut cubic, now + 10 * rtt, rtt, 12);
        let later = cubic.window() as f64 / SEGMENT;
        assert!(
            (later - (20.0 + 22.0 - 6.0 / ALPHA)).abs() < 0.5,
            "one segment a round beyond the old window: {later}"
        );
    }

    #[test]
    fn never_more_than_half_again_in_one_round() {
        let now = start();
        let mut cubic = reduced(10, now);
        cubic.on_ack(now, MDS, true, RTT);
        // A long pause in ACKs makes the target enormous.
        let window = cubic.window();
        cubic.on_ack(now + Duration::from_mins(10), window, true, RTT);
        assert!(cubic.window() <= window * 3 / 2);
        assert!(cubic.window() > window * 4 / 3);
    }

    #[test]
    fn fast_convergence_yields() {
        let now = start();
        let mut cubic = reduced(100, now);
        assert!((cubic.curve.w_max - 100.0 * SEGMENT).abs() < 1.0);
        cubic.on_congestion();
        assert!((cubic.curve.w_max - 70.0 * 0.85 * SEGMENT).abs() < 1.0);
        assert_eq!(cubic.window(), 49 * MDS);
    }

    #[test]
    fn unused_time_does_not_count() {
        let now = start();
        let (mut busy, mut paused) = (reduced(1000, now), reduced(1000, now));
        let at = run(&mut busy, now, RTT, 30);
        run(&mut paused, now, RTT, 30);
        assert_eq!(busy.window(), paused.window());
        paused.on_ack(at, 10 * MDS, false, RTT);
        assert_eq!(busy.window(), paused.window());
        let later = at + Duration::from_secs(30);
        run(&mut busy, at, RTT, 10);
        run(&mut paused, later, RTT, 10);
        assert_eq!(busy.window(), paused.window());
    }

    #[test]
    fn undo_restores_the_curve_and_persistent_congestion_forgets_it() {
        let now = start();
        let mut cubic = reduced(1000, now);
        run(&mut cubic, now, RTT, 30);
        let (window, k) = (cubic.window(), cubic.curve.epoch.map(|epoch| epoch.k));
        cubic.on_congestion();
        assert!(cubic.window() < window);
        assert!(cubic.undo());
        assert_eq!(
            (
                cubic.window(),
                cubic.ssthresh(),
                cubic.curve.epoch.map(|epoch| epoch.k)
            ),
            (window, 700 * MDS, k)
        );
        assert!(!cubic.undo(), "once");
        cubic.on_congestion();
        cubic.on_persistent_congestion();
        assert!(!cubic.undo());
        assert_eq!(cubic.window(), 2 * MDS);
        assert!(cubic.in_slow_start());
    }

    #[test]
    fn hystart_ends_the_first_slow_start_without_loss() {
        let (now, mut cubic) = (start(), Cubic::new(MDS));
        let rounds = [100, 100, 120, 120, 120, 120, 120];
        for millis in rounds {
            for _ in 0..10 {
                cubic.on_rtt(Duration::from_millis(millis));
                cubic.on_ack(now, cubic.window() / 10, true, RTT);
            }
            cubic.on_round();
        }
        assert!(!cubic.in_slow_start());
        let window = cubic.window();
        assert_eq!(cubic.ssthresh(), window);
        cubic.on_ack(now, window, true, RTT);
        assert!(
            cubic.window() > window && cubic.window() < window + 2 * MDS,
            "congestion avoidance from here"
        );
    }
}
