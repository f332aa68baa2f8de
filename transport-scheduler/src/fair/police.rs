//! A bound on the share of a class that would otherwise always go first.

use std::time::{Duration, Instant};

/// Lets a class go first while it has had less than its share of what was sent. Bytes are the clock: what the others send
/// earns credit, so no rate is needed, and the bound counts only while others wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    percent: i64,
    /// In hundredths of bytes.
    credit: i64,
    burst: i64,
}

impl Share {
    pub(crate) fn new(percent: i64, burst_bytes: i64) -> Self {
        let burst = burst_bytes * (100 - percent);
        Self {
            percent,
            credit: burst,
            burst,
        }
    }

    /// Whether the class may go before the others.
    pub(crate) fn allows(&self) -> bool {
        self.credit > 0
    }

    /// The class sent `bytes`. Nothing is owed when nobody waited.
    pub(crate) fn spend(&mut self, bytes: i64, others_wait: bool) {
        if others_wait {
            self.credit -= bytes * (100 - self.percent);
        } else {
            self.credit = self.burst;
        }
    }

    /// Others sent `bytes`.
    pub(crate) fn earn(&mut self, bytes: i64) {
        self.credit = self.burst.min(self.credit + bytes * self.percent);
    }
}

/// How far back [`Recent`] looks.
pub(crate) const LOOK_BACK: Duration = Duration::from_millis(100);
const BINS: u64 = 20;
const AHEAD: u64 = 1400;

/// Lets a class go first while it has had no more than half of what was sent in the last [`LOOK_BACK`]. What was sent while
/// nobody else waited does not count. Time is cut into bins, so it looks back between 95 and 100 ms; and the class may be a
/// packet ahead, so that a few small messages need not alternate with full packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recent {
    origin: Option<Instant>,
    /// Packets of one batch leave at one moment: that is asked once.
    known: Option<Instant>,
    /// The newest bin, counted from the origin.
    newest: u64,
    /// Bytes of the class, and of the others, by bin: 4 GiB in 5 ms are beyond any link.
    bins: [(u32, u32); BINS as usize],
    own: u64,
    others: u64,
}

impl Recent {
    pub(crate) fn new() -> Self {
        Self {
            origin: None,
            known: None,
            newest: 0,
            bins: [(0, 0); BINS as usize],
            own: 0,
            others: 0,
        }
    }

    /// Forgets what is too long ago. Time does not go back: an earlier moment counts as the latest one.
    pub(crate) fn advance(&mut self, now: Instant) {
        if self.known.replace(now) == Some(now) {
            return;
        }
        let origin = *self.origin.get_or_insert(now);
        let bin = LOOK_BACK / BINS as u32;
        let since = u64::try_from(now.saturating_duration_since(origin).as_nanos()).unwrap_or(u64::MAX);
        let at = since / bin.as_nanos() as u64;
        for passed in (self.newest.saturating_add(1)..=at).take(BINS as usize) {
            if let Some(bin) = self.bins.get_mut((passed % BINS) as usize) {
                let (own, others) = std::mem::take(bin);
                self.own -= u64::from(own);
                self.others -= u64::from(others);
            }
        }
        self.newest = self.newest.max(at);
    }

    /// Whether the class may go before the others.
    pub(crate) fn allows(&self) -> bool {
        self.own < self.others + AHEAD
    }

    /// The class sent `bytes` while others waited.
    pub(crate) fn spend(&mut self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.own += u64::from(bytes);
        if let Some((own, _)) = self.bins.get_mut((self.newest % BINS) as usize) {
            *own = own.saturating_add(bytes);
        }
    }

    /// Others sent `bytes`.
    pub(crate) fn earn(&mut self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.others += u64::from(bytes);
        if let Some((_, others)) = self.bins.get_mut((self.newest % BINS) as usize) {
            *others = others.saturating_add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the class and of all in every window of 100 ms, while both always wait, at `rate` packets of 1,200 bytes a
    /// millisecond; `quiet_ms`: how long the class says nothing before.
    fn worst_window(per_ms: u32, quiet_ms: u64) -> (i64, f64) {
        let start = crate::tests::start();
        let mut recent = Recent::new();
        let mut log = Vec::new();
        for ms in 0..600u64 {
            for _ in 0..per_ms {
                recent.advance(start + Duration::from_millis(ms));
                let own = ms >= quiet_ms && recent.allows();
                if own {
                    recent.spend(1200);
                } else {
                    recent.earn(1200);
                }
                log.push((ms, own));
            }
        }
        let mut worst = i64::MIN;
        for from in 0..=500 {
            let window = log.iter().filter(|(ms, _)| (from..from + 95).contains(ms));
            worst = worst.max(window.map(|(_, own)| if *own { 1 } else { -1 }).sum());
        }
        let tail = log.iter().filter(|(ms, _)| *ms >= 300);
        let share = tail.clone().filter(|(_, own)| *own).count() as f64 / tail.count() as f64;
        (worst, share)
    }

    #[test]
    fn in_no_hundred_milliseconds_more_than_half_and_a_packet() {
        for per_ms in [1, 2, 10] {
            for quiet in [0, 37, 200] {
                let (ahead, share) = worst_window(per_ms, quiet);
                // A bin of 5 ms is the precision of the look back.
                let slack = 2 + 5 * i64::from(per_ms);
                assert!(
                    ahead <= slack,
                    "{ahead} packets ahead at {per_ms}/ms after {quiet} ms"
                );
                assert!((share - 0.5).abs() < 0.03, "{share}");
            }
        }
    }

    #[test]
    fn who_was_silent_may_send_what_others_did_at_once() {
        let start = crate::tests::start();
        let mut recent = Recent::new();
        for ms in 0..300 {
            recent.advance(start + Duration::from_millis(ms));
            recent.earn(1000);
        }
        let mut burst = 0;
        while recent.allows() {
            recent.spend(1000);
            burst += 1;
        }
        assert!((95..=102).contains(&burst), "{burst}");
        recent.advance(start + Duration::from_hours(1));
        assert!(recent.allows() && recent.own == 0 && recent.others == 0);
        // An earlier moment changes nothing.
        recent.spend(1);
        recent.advance(start);
        assert_eq!((recent.own, recent.others), (1, 0));
    }

    #[test]
    fn the_share_is_kept_while_others_wait() {
        for percent in [10, 50] {
            let mut share = Share::new(percent, 4000);
            let mut sent = [0i64; 2];
            for _ in 0..10_000 {
                if share.allows() {
                    share.spend(1200, true);
                    sent[0] += 1200;
                } else {
                    share.earn(1000);
                    sent[1] += 1000;
                }
            }
            let got = sent[0] as f64 / (sent[0] + sent[1]) as f64;
            assert!(
                (got - percent as f64 / 100.0).abs() < 0.005,
                "{percent} % became {got}"
            );
        }
    }

    #[test]
    fn alone_it_owes_nothing() {
        let mut share = Share::new(10, 4000);
        for _ in 0..1000 {
            share.spend(1200, false);
        }
        assert!(share.allows());
    }
}
