//! The growth of CUBIC (RFC 9438) in segments, and the end of its slow start by delay (RFC 9406 in short).

use std::time::Duration;

/// What CUBIC remembers of the last congestion.
#[derive(Debug, Default)]
pub(super) struct Cubic {
    w_max: f64,
    k: f64,
    epoch: Option<Duration>,
    w_est: f64,
}

impl Cubic {
    pub(super) const BETA: f64 = 0.7;
    const C: f64 = 0.4;
    /// RFC 9438 §4.3: what makes CUBIC as fast as Reno where Reno is faster.
    const ALPHA: f64 = 3.0 * (1.0 - Self::BETA) / (1.0 + Self::BETA);

    /// Congestion at a window of `window` segments, with fast convergence (§4.7).
    pub(super) fn congestion(&mut self, window: f64) {
        self.w_max = if window < self.w_max {
            window * f64::midpoint(1.0, Self::BETA)
        } else {
            window
        };
        self.epoch = None;
    }

    /// An epoch of congestion avoidance begins with `window`.
    pub(super) fn begin(&mut self, now: Duration, window: f64) {
        self.epoch = Some(now);
        self.w_max = self.w_max.max(window);
        self.k = ((self.w_max - window) / Self::C).cbrt();
        self.w_est = window;
    }

    /// By how much the window grows for `newly` acknowledged segments (§4.2–4.5).
    pub(super) fn growth(&mut self, now: Duration, window: f64, rtt: Duration, newly: f64) -> f64 {
        if self.epoch.is_none() {
            self.begin(now, window);
        }
        let since = now.saturating_sub(self.epoch.unwrap_or(now));
        let t = (since + rtt).as_secs_f64() - self.k;
        let target = (Self::C * t.powi(3) + self.w_max).clamp(window, 1.5 * window);
        let alpha = if self.w_est >= self.w_max {
            1.0
        } else {
            Self::ALPHA
        };
        self.w_est += alpha * newly / window;
        let cubic = (target - window) / window * newly;
        cubic.max(self.w_est - window).max(0.0)
    }
}

/// Ends slow start when a round's fastest samples show a queue.
#[derive(Debug, Default)]
pub(super) struct SlowStart {
    round_ends: u64,
    samples: u32,
    fastest: Option<Duration>,
    before: Option<Duration>,
}

impl SlowStart {
    const SAMPLES: u32 = 8;
    const LEAST: Duration = Duration::from_millis(4);
    const MOST: Duration = Duration::from_millis(16);

    /// A round-trip sample.
    pub(super) fn sample(&mut self, rtt: Duration) {
        self.samples += 1;
        self.fastest = Some(self.fastest.map_or(rtt, |fastest| fastest.min(rtt)));
    }

    /// Whether slow start ends now; `una` and `next` tell the rounds apart.
    pub(super) fn ends(&mut self, una: u64, next: u64) -> bool {
        if una >= self.round_ends {
            self.round_ends = next;
            self.before = self.fastest.take().or(self.before);
            self.samples = 0;
            return false;
        }
        let (Some(fastest), Some(before)) = (self.fastest, self.before) else {
            return false;
        };
        self.samples >= Self::SAMPLES && fastest >= before + (before / 8).clamp(Self::LEAST, Self::MOST)
    }
}
