//! Limits of sessions: how many, how many tunnels in each, how fast.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What one relay grants. Changes apply to new sessions and tunnels; the rate to running ones as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Sessions at a time.
    pub sessions: usize,
    /// Tunnels of one session at a time, requests under way included.
    pub tunnels_per_session: usize,
    /// Megabits per second of one session, both directions together; 0: no limit.
    pub mbit_per_session: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            sessions: 100_000,
            tunnels_per_session: 128,
            mbit_per_session: 0,
        }
    }
}

/// What may be sent at once after silence.
const BURST: Duration = Duration::from_millis(100);
/// The smallest burst, bytes: a whole read of a tunnel.
const MIN_BURST: f64 = 128.0 * 1024.0;

/// A token bucket that may go into debt: who sends first pays afterwards, so that no piece is too large for it.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Bytes; negative is debt.
    level: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            level: MIN_BURST,
            filled: now,
        }
    }

    fn fill(&mut self, now: Instant, bytes_per_s: f64) {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * bytes_per_s;
        self.level = (self.level + gained).min((bytes_per_s * BURST.as_secs_f64()).max(MIN_BURST));
        self.filled = now;
    }

    /// Takes `bytes`; how long the payer has to wait.
    pub(super) fn charge(&mut self, now: Instant, mbit_per_s: u32, bytes: usize) -> Duration {
        if mbit_per_s == 0 {
            return Duration::ZERO;
        }
        let rate = f64::from(mbit_per_s) * 125_000.0;
        self.fill(now, rate);
        self.level -= bytes as f64;
        Duration::from_secs_f64((-self.level / rate).max(0.0))
    }

    /// Takes `bytes` if they are there; for packets, which are dropped otherwise.
    pub(super) fn try_charge(&mut self, now: Instant, mbit_per_s: u32, bytes: usize) -> bool {
        if mbit_per_s == 0 {
            return true;
        }
        self.fill(now, f64::from(mbit_per_s) * 125_000.0);
        let enough = self.level >= bytes as f64;
        if enough {
            self.level -= bytes as f64;
        }
        enough
    }
}

/// A count with a limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Rc<Cell<usize>>);

impl Slots {
    /// One of at most `max`; it is free again when the value is dropped.
    pub(super) fn take(&self, max: usize) -> Option<Slot> {
        if self.0.get() >= max {
            return None;
        }
        self.0.set(self.0.get() + 1);
        Some(Slot(Rc::clone(&self.0)))
    }
}

#[derive(Debug)]
pub(super) struct Slot(Rc<Cell<usize>>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_time() {
        let start = crate::driver::clock::now().instant;
        let mut bucket = Bucket::new(start);
        let (mut now, mut sent) = (start, 0usize);
        while now < start + Duration::from_secs(10) {
            now += bucket.charge(now, 8, 65_536).max(Duration::from_millis(1));
            sent += 65_536;
        }
        // 8 Mbit/s for 10 s are 10 MB; the burst comes on top.
        assert!((10_000_000..10_400_000).contains(&sent), "{sent}");
    }

    #[test]
    fn packets_beyond_the_rate_are_refused() {
        let start = crate::driver::clock::now().instant;
        let mut bucket = Bucket::new(start);
        let mut passed = 0;
        while bucket.try_charge(start, 1, 1000) {
            passed += 1;
        }
        assert_eq!(passed, 131);
        assert!(bucket.try_charge(start + Duration::from_millis(10), 1, 1000));
        assert!(bucket.try_charge(start, 0, usize::MAX), "0: no limit");
    }

    #[test]
    fn slots_come_back() {
        let slots = Slots::default();
        let one = slots.take(1);
        assert!(one.is_some() && slots.take(1).is_none());
        drop(one);
        assert!(slots.take(1).is_some());
    }
}
