//! Controlled delay (RFC 8289): a queue that stands longer than 5 ms for 100 ms is told so, ever more often.

use std::time::Duration;

const TARGET: Duration = Duration::from_millis(5);
const INTERVAL: Duration = Duration::from_millis(100);
/// A queue of less than one full packet is no standing queue.
const FULL_PACKET: usize = 1500;

/// What becomes of a packet that leaves the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// Mark it, or drop it if it cannot be marked.
    Signal,
}

/// The state of RFC 8289 §5.
#[derive(Debug, Default)]
pub(super) struct Codel {
    first_above: Option<Duration>,
    next: Duration,
    count: u32,
    last_count: u32,
    signalling: bool,
}

impl Codel {
    /// The queue has run empty.
    pub(super) fn empty(&mut self) {
        self.first_above = None;
        self.signalling = false;
    }

    /// A packet leaves after `sojourn`; `backlog` bytes stay behind.
    pub(super) fn judge(&mut self, now: Duration, sojourn: Duration, backlog: usize) -> Verdict {
        let standing = self.standing(now, sojourn, backlog);
        if self.signalling {
            if !standing {
                self.signalling = false;
                return Verdict::Pass;
            }
            if now < self.next {
                return Verdict::Pass;
            }
            self.count += 1;
            self.next = law(self.next, self.count);
            return Verdict::Signal;
        }
        if !standing {
            return Verdict::Pass;
        }
        self.signalling = true;
        // A queue that was told not long ago is told from where it stopped.
        let since = self.count.saturating_sub(self.last_count);
        let recent = now.saturating_sub(self.next) < 16 * INTERVAL;
        self.count = if recent && since > 1 { since } else { 1 };
        self.last_count = self.count;
        self.next = law(now, self.count);
        Verdict::Signal
    }

    fn standing(&mut self, now: Duration, sojourn: Duration, backlog: usize) -> bool {
        if sojourn < TARGET || backlog <= FULL_PACKET {
            self.first_above = None;
            return false;
        }
        let since = *self.first_above.get_or_insert(now + INTERVAL);
        now >= since
    }
}

/// The control law: the interval shrinks with the square root of the signals given.
fn law(from: Duration, count: u32) -> Duration {
    from + INTERVAL.div_f64(f64::from(count.max(1)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_begin_after_an_interval_and_come_closer() {
        let mut codel = Codel::default();
        let signals: Vec<u64> = (0..1000)
            .filter(|ms| {
                let late = Duration::from_millis(20);
                codel.judge(Duration::from_millis(*ms), late, 30_000) == Verdict::Signal
            })
            .collect();
        // 100, then + 100, + 100/√2, + 100/√3 ...
        assert_eq!(&signals[..4], [100, 200, 271, 329]);
    }

    #[test]
    fn a_short_queue_is_left_alone() {
        let mut codel = Codel::default();
        let judge = |codel: &mut Codel, ms, late| codel.judge(Duration::from_millis(ms), late, 30_000);
        for ms in 0..500 {
            let late = Duration::from_millis(if ms % 90 == 0 { 4 } else { 20 });
            assert_eq!(judge(&mut codel, ms, late), Verdict::Pass, "at {ms} ms");
        }
    }
}
