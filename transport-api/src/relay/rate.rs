//! Rates: how much may pass in a second. A rate is kept in one number, so that threads share it without a lock.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::driver::clock;

/// What may pass at once after silence.
const BURST: Duration = Duration::from_millis(100);
/// The smallest burst of bits: two whole reads of a tunnel.
const LEAST_BITS: u64 = 8 * 128 * 1024;
/// The smallest burst of packets: a batch.
const LEAST_PACKETS: u64 = 64;

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Bits,
    Packets,
}

/// Until when what has passed is paid for. It may lie ahead by a burst; who takes from a stream may go into debt, so that no
/// piece is too large for it.
#[derive(Debug)]
pub(super) struct Pace {
    base: Instant,
    /// Nanoseconds after `base`.
    paid_until: AtomicU64,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            base: now,
            paid_until: AtomicU64::new(0),
        }
    }

    /// Takes `amount` at `per_s` in a second, 0: no limit. How long the payer has to wait.
    pub(super) fn charge(&self, now: Instant, unit: Unit, per_s: u64, amount: u64) -> Duration {
        if per_s == 0 {
            return Duration::ZERO;
        }
        let (now, cost) = (self.nanos(now), cost(per_s, amount));
        let add = |paid: u64| Some(paid.max(now).saturating_add(cost));
        // The update has no case in which it fails.
        let (Ok(before) | Err(before)) =
            self.paid_until
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        let ahead = before.max(now).saturating_add(cost) - now;
        Duration::from_nanos(ahead.saturating_sub(burst(unit, per_s)))
    }

    /// Takes `amount` if it is there; for packets, which are dropped otherwise. Whoever owes nothing may take any amount, as
    /// packets that were merged are more than a burst at times.
    pub(super) fn try_charge(&self, now: Instant, unit: Unit, per_s: u64, amount: u64) -> bool {
        if per_s == 0 {
            return true;
        }
        let (now, cost, burst) = (self.nanos(now), cost(per_s, amount), burst(unit, per_s));
        let add = |paid: u64| {
            let paid = paid.max(now).saturating_add(cost);
            (paid - now <= burst || paid - now == cost).then_some(paid)
        };
        self.paid_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok()
    }

    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.base).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

/// Nanoseconds that `amount` takes.
fn cost(per_s: u64, amount: u64) -> u64 {
    amount.saturating_mul(1_000_000_000) / per_s.max(1)
}

fn burst(unit: Unit, per_s: u64) -> u64 {
    let least = match unit {
        Unit::Bits => LEAST_BITS,
        Unit::Packets => LEAST_PACKETS,
    };
    cost(per_s, least).max(BURST.as_nanos() as u64)
}

/// A rate that may change, and that several tunnels share, on any thread.
pub struct SharedRate {
    pace: Pace,
    unit: Unit,
    per_s: AtomicU64,
}

impl SharedRate {
    /// Bits per second; 0: no limit.
    pub fn bits(per_s: u64) -> Self {
        Self::new(Unit::Bits, per_s)
    }

    /// Packets per second; 0: no limit.
    pub fn packets(per_s: u64) -> Self {
        Self::new(Unit::Packets, per_s)
    }

    fn new(unit: Unit, per_s: u64) -> Self {
        Self {
            pace: Pace::new(clock::now().instant),
            unit,
            per_s: AtomicU64::new(per_s),
        }
    }

    /// Another rate from now on; 0: no limit.
    pub fn set(&self, per_s: u64) {
        self.per_s.store(per_s, Ordering::Relaxed);
    }

    /// The rate; 0: no limit.
    pub fn get(&self) -> u64 {
        self.per_s.load(Ordering::Relaxed)
    }

    pub(super) fn parts(&self) -> (&Pace, Unit, u64) {
        (&self.pace, self.unit, self.get())
    }
}

impl fmt::Debug for SharedRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedRate({} {:?}/s)", self.get(), self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_time() {
        let start = clock::now().instant;
        let pace = Pace::new(start);
        let (mut now, mut sent) = (start, 0u64);
        while now < start + Duration::from_secs(10) {
            now += pace
                .charge(now, Unit::Bits, 8_000_000, 8 * 65_536)
                .max(Duration::from_millis(1));
            sent += 65_536;
        }
        // 8 Mbit/s for 10 s are 10 MB; the burst comes on top.
        assert!((10_000_000..10_400_000).contains(&sent), "{sent}");
    }

    #[test]
    fn packets_beyond_the_rate_are_refused() {
        let start = clock::now().instant;
        let pace = Pace::new(start);
        let passes = |now, per_s| pace.try_charge(now, Unit::Bits, per_s, 8000);
        assert_eq!((0..1000).filter(|_| passes(start, 1_000_000)).count(), 131);
        assert!(passes(start + Duration::from_millis(10), 1_000_000));
        assert!(passes(start, 0), "0: no limit");
        let count = Pace::new(start);
        let passed = (0..1000).filter(|_| count.try_charge(start, Unit::Packets, 10, 1));
        assert_eq!(passed.count(), 64);
        let merged = Pace::new(start);
        let takes = |now| merged.try_charge(now, Unit::Packets, 10, 120);
        assert!(takes(start) && !takes(start), "once, and then it is paid for");
        assert!(!takes(start + Duration::from_secs(11)) && takes(start + Duration::from_secs(12)));
    }

    #[test]
    fn a_changed_rate_counts_at_once() {
        let rate = SharedRate::packets(1);
        let now = clock::now().instant;
        let takes = |amount| {
            let (pace, unit, per_s) = rate.parts();
            pace.try_charge(now, unit, per_s, amount)
        };
        while takes(1) {}
        rate.set(0);
        assert!(takes(1_000_000));
        assert_eq!(rate.get(), 0);
    }
}
