//! Controlled delay (RFC 8289): a queue in which packets stay longer than 5 ms for 100 ms is a standing one, and loses packets,
//! ever more often, until its senders slow down.
//!
//! The dequeuing routine of §5 as a question about each packet that is about to leave. Asked again at the same moment about a
//! packet that may stay, it says the same.

use std::time::{Duration, Instant};

/// The delay a good queue may have (RFC 8289 §4.4).
const TARGET: Duration = Duration::from_millis(5);
/// How long senders have to react: a long round trip (RFC 8289 §4.3).
const INTERVAL: Duration = Duration::from_millis(100);
/// Where no more than this stays behind the queue does not stand: it is the last packet that is slow.
const FULL_PACKET: usize = 1514;

/// The state of one queue, named as in RFC 8289 §5.
#[derive(Clone, Debug, Default)]
pub(crate) struct Codel {
    first_above: Option<Instant>,
    drop_next: Option<Instant>,
    count: u32,
    last_count: u32,
    dropping: bool,
    /// Since the last drop `drop_next` has not moved: it does when the packet behind waited too long as well.
    dropped: bool,
}

impl Codel {
    /// There is nothing left to leave.
    pub(crate) fn empty(&mut self) {
        self.first_above = None;
        self.dropping = false;
        self.dropped = false;
    }

    /// A packet is about to leave after it waited for `sojourn`; `behind`: the bytes that stay. True: drop it, and ask about the
    /// next one.
    pub(crate) fn drops(&mut self, now: Instant, sojourn: Duration, behind: usize) -> bool {
        let dropped = std::mem::take(&mut self.dropped);
        if !self.is_standing(now, sojourn, behind) {
            self.dropping = false;
            return false;
        }
        if !self.dropping {
            self.begin(now);
            return true;
        }
        if dropped {
            self.drop_next = self.drop_next.map(|at| at + spacing(self.count));
        }
        if self.drop_next.is_some_and(|at| now < at) {
            return false;
        }
        self.count = self.count.saturating_add(1);
        self.dropped = true;
        true
    }

    /// The first drop of a phase. After a phase that ended not long ago drops go on about as often as they came then.
    fn begin(&mut self, now: Instant) {
        let more = self.count.saturating_sub(self.last_count);
        let recent = |at| now.saturating_duration_since(at) < 16 * INTERVAL;
        self.count = if more > 1 && self.drop_next.is_some_and(recent) {
            more
        } else {
            1
        };
        self.last_count = self.count;
        self.drop_next = Some(now + spacing(self.count));
        self.dropping = true;
    }

    fn is_standing(&mut self, now: Instant, sojourn: Duration, behind: usize) -> bool {
        if sojourn < TARGET || behind <= FULL_PACKET {
            self.first_above = None;
            return false;
        }
        now >= *self.first_above.get_or_insert(now + INTERVAL)
    }
}

/// From one drop to the next: throughput of TCP falls with the square root of the rate of drops.
fn spacing(count: u32) -> Duration {
    INTERVAL.div_f64(f64::from(count.max(1)).sqrt())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const BACKLOG: usize = 30_000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Milliseconds at which a packet a millisecond is dropped that waited as long as `late` says.
    fn drops(codel: &mut Codel, time: std::ops::Range<u64>, late: impl Fn(u64) -> u64) -> Vec<u64> {
        let start = START.with(|start| *start);
        time.filter(|&at| codel.drops(start + ms(at), ms(late(at)), BACKLOG))
            .collect()
    }

    thread_local! {
        static START: Instant = crate::tests::start();
    }

    #[test]
    fn the_first_drop_comes_after_an_interval_and_the_others_closer_and_closer() {
        let at = drops(&mut Codel::default(), 0..1000, |_| 20);
        // 100, then 100, 100/√2, 100/√3, ... after it, each on the millisecond after.
        let (mut expected, mut exact) = (vec![100], 100.0);
        for count in 1..at.len() {
            exact += 100.0 / (count as f64).sqrt();
            expected.push(exact.ceil() as u64);
        }
        assert_eq!(at, expected);
        assert!(at.len() > 20, "{at:?}");
    }

    #[test]
    fn a_queue_that_is_good_now_and_then_is_left_alone() {
        let mut codel = Codel::default();
        assert_eq!(
            drops(&mut codel, 0..1000, |at| if at % 90 == 0 { 4 } else { 500 }),
            []
        );
        let start = crate::tests::start();
        for at in 0..1000 {
            assert!(!codel.drops(start + ms(at), ms(500), FULL_PACKET));
        }
    }

    #[test]
    fn dropping_ends_below_the_target_and_begins_again_where_it_was() {
        let mut codel = Codel::default();
        let first = drops(&mut codel, 0..1000, |_| 20);
        assert_eq!(drops(&mut codel, 1000..1010, |_| 4), []);
        let again = drops(&mut codel, 1010..1300, |_| 20);
        assert_eq!(again[0], 1110);
        // As many as there were drops in the phase before: the spacing is that of its end, not of its beginning.
        let spacing = 100.0 / ((first.len() - 1) as f64).sqrt();
        assert!(((again[1] - again[0]) as f64 - spacing).abs() < 2.0, "{again:?}");
        codel.empty();
        let late = drops(&mut codel, 10_000..10_201, |_| 20);
        assert_eq!(late, [10_100, 10_200], "long ago is forgotten");
    }

    /// The routines `dodequeue` and `dequeue` of RFC 8289 §5.5 and §5.6, word for word, over a queue of (time, bytes).
    #[derive(Default)]
    struct Reference {
        queue: VecDeque<(Duration, usize)>,
        first_above: Duration,
        drop_next: Duration,
        count: u32,
        last_count: u32,
        dropping: bool,
        dropped: Vec<Duration>,
    }

    impl Reference {
        fn dodequeue(&mut self, now: Duration) -> (Option<(Duration, usize)>, bool) {
            let packet = self.queue.pop_front();
            let Some((since, _)) = packet else {
                self.first_above = Duration::ZERO;
                return (None, false);
            };
            let bytes: usize = self.queue.iter().map(|(_, bytes)| bytes).sum();
            if now.saturating_sub(since) < TARGET || bytes <= FULL_PACKET {
                self.first_above = Duration::ZERO;
            } else if self.first_above == Duration::ZERO {
                self.first_above = now + INTERVAL;
            } else if now >= self.first_above {
                return (packet, true);
            }
            (packet, false)
        }

        fn dequeue(&mut self, now: Duration) -> Option<Duration> {
            let law = |from: Duration, count: u32| from + INTERVAL.div_f64(f64::from(count).sqrt());
            let (mut packet, mut ok) = self.dodequeue(now);
            if self.dropping {
                if !ok {
                    self.dropping = false;
                }
                while now >= self.drop_next && self.dropping {
                    self.dropped.extend(packet.map(|(since, _)| since));
                    self.count += 1;
                    (packet, ok) = self.dodequeue(now);
                    if ok {
                        self.drop_next = law(self.drop_next, self.count);
                    } else {
                        self.dropping = false;
                    }
                }
            } else if ok {
                self.dropped.extend(packet.map(|(since, _)| since));
                (packet, _) = self.dodequeue(now);
                self.dropping = true;
                let delta = self.count - self.last_count;
                self.count = 1;
                if delta > 1 && now.saturating_sub(self.drop_next) < 16 * INTERVAL {
                    self.count = delta;
                }
                self.drop_next = law(now, self.count);
                self.last_count = self.count;
            }
            packet.map(|(since, _)| since)
        }
    }

    #[test]
    fn packet_by_packet_it_decides_as_the_pseudo_code_does() {
        arbtest::arbtest(|u| {
            let start = crate::tests::start();
            let (mut codel, mut queue) = (Codel::default(), VecDeque::new());
            let (mut reference, mut dropped) = (Reference::default(), Vec::new());
            // The pseudo-code writes zero for "never".
            let mut now = ms(10_000);
            while !u.is_empty() {
                let (gap, bytes) = (u.int_in_range(0..=9)?, u.int_in_range(1..=1500)?);
                for _ in 0..u.int_in_range(1..=40)? {
                    now += ms(gap);
                    queue.push_back((now, bytes));
                    reference.queue.push_back((now, bytes));
                }
                for _ in 0..u.int_in_range(0..=30)? {
                    now += ms(u.int_in_range(0..=12)?);
                    let sent = loop {
                        let Some((since, _)) = queue.pop_front() else {
                            codel.empty();
                            break None;
                        };
                        let behind = queue.iter().map(|(_, bytes)| bytes).sum();
                        let sojourn = now.saturating_sub(since);
                        if !codel.drops(start + now, sojourn, behind) {
                            assert!(!codel.drops(start + now, sojourn, behind), "it may stay");
                            break Some(since);
                        }
                        dropped.push(since);
                    };
                    assert_eq!(reference.dequeue(now), sent);
                    assert_eq!(reference.dropped, dropped);
                }
            }
            Ok(())
        })
        .budget_ms(500);
    }
}
