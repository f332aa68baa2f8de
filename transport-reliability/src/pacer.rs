//! Spreads packets over time: a token bucket kept as the instant at which it is full again.
//!
//! A bucket holds one send quantum, about a millisecond's worth. Once it is drained the pacer stays shut until a
//! whole quantum is back, so that a bulk sender leaves in batches; a sender that spends less is not held at all.
//! Who wakes late catches up at twice the rate, so that a machine that pauses keeps the rate over a round trip and a long
//! pause makes no burst.

use std::time::{Duration, Instant};

const MAX_QUANTUM: u64 = 64 * 1024;
/// More lost time than this is not made up for.
const MAX_LAG: Duration = Duration::from_millis(10);

/// A rate, and what follows from it: divisions would cost more than all else that is done for a packet.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Bytes a second.
    rate: u64,
    max_datagram: u64,
    quantum: u64,
    /// A bucket that is full only after so long holds less than a datagram.
    drained_at: Duration,
    /// What a packet takes: of the size that was last asked for.
    last: (u64, Duration),
}

impl Pace {
    fn new(rate: u64, max_datagram: u64) -> Self {
        let (rate, least) = (rate.max(1), 2 * max_datagram);
        let quantum = (rate / 1000).clamp(least, MAX_QUANTUM.max(least));
        let spent = quantum + 1 - max_datagram;
        Self {
            rate,
            max_datagram,
            quantum,
            drained_at: Duration::from_nanos((spent * SECOND).div_ceil(rate)),
            last: (max_datagram, time_for(max_datagram, rate)),
        }
    }

    fn time_for(&mut self, bytes: u64) -> Duration {
        if self.last.0 != bytes {
            self.last = (bytes, time_for(bytes, self.rate));
        }
        self.last.1
    }
}

/// The pacer of one path.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Unpaced until an RTT is known, the initial window being the limit.
    pace: Option<Pace>,
    /// When a whole quantum is (or was) there.
    full_at: Option<Instant>,
    drained: bool,
    /// The sender waits for us, so that time lost by a late wake-up is its own.
    waiting: bool,
    /// Time lost that way and not made up for.
    lag: Duration,
}

impl Pacer {
    pub(crate) fn new() -> Self {
        Self {
            pace: None,
            full_at: None,
            drained: false,
            waiting: false,
            lag: Duration::ZERO,
        }
    }

    pub(crate) fn set_rate(&mut self, rate: Option<u64>, max_datagram: u64) {
        let unchanged = |pace: &Pace| (Some(pace.rate), pace.max_datagram) == (rate, max_datagram);
        if !self.pace.as_ref().is_some_and(unchanged) {
            self.pace = rate.map(|rate| Pace::new(rate, max_datagram));
        }
    }

    /// Bytes a second; zero while unpaced.
    pub(crate) fn rate(&self) -> u64 {
        self.pace.map_or(0, |pace| pace.rate)
    }

    /// Bytes that may leave now; zero, or a datagram at least.
    pub(crate) fn budget(&self, now: Instant) -> u64 {
        let Some(Pace {
            rate,
            max_datagram,
            quantum,
            ..
        }) = self.pace
        else {
            return u64::MAX;
        };
        let Some(full_at) = self.full_at else {
            return quantum;
        };
        if now < full_at && self.drained {
            return 0;
        }
        let room = quantum.saturating_sub(bytes_in(full_at.saturating_duration_since(now), rate));
        // What is made up for costs half, so the room holds twice as much of it: without that, batches of a late sender would
        // shrink to crumbs. Open means a datagram at least, whatever became of rate and size since it was last charged.
        let made_up = bytes_in(self.lag(now), rate).min(room);
        (room + made_up).max(max_datagram)
    }

    /// How much too late a packet is that leaves now, as far as that is made up for.
    pub(crate) fn lag(&self, now: Instant) -> Duration {
        if !self.waiting {
            return Duration::ZERO;
        }
        let late = match self.full_at {
            Some(at) if at < now => now - at,
            _ => Duration::ZERO,
        };
        (self.lag + late).min(MAX_LAG)
    }

    /// Charges a packet; half its time while there is lag to make up for.
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: u64) {
        let Some(pace) = &mut self.pace else { return };
        let (mut time, drained_at) = (pace.time_for(bytes), pace.drained_at);
        let lag = self.lag(now);
        if !lag.is_zero() {
            let relief = lag.min(time / 2);
            self.lag = lag.saturating_sub(relief);
            time = time.saturating_sub(relief);
        }
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        self.drained &= now < full_at;
        let full_at = full_at + time;
        self.full_at = Some(full_at);
        if full_at - now >= drained_at {
            self.drained = true;
            self.waiting = true;
        }
    }

    /// Time passed; a drained pacer that is full again opens.
    pub(crate) fn on_timeout(&mut self, now: Instant) {
        self.drained &= self.full_at.is_some_and(|at| now < at);
    }

    /// The sender has nothing to say, or the window holds it back: that time earns no credit.
    pub(crate) fn on_idle(&mut self) {
        self.waiting = false;
    }

    /// When the next quantum may leave, if the pacer is what holds it back.
    pub(crate) fn next_send(&self) -> Option<Instant> {
        self.full_at.filter(|_| self.drained)
    }
}

const SECOND: u64 = 1_000_000_000;

/// `a · b / c`; in 64 bits where that is exact, since a division of 128 costs more than all else per packet.
fn scale(a: u64, b: u64, c: u64) -> u64 {
    match a.checked_mul(b) {
        Some(product) => product / c,
        None => u64::try_from(u128::from(a) * u128::from(b) / u128::from(c)).unwrap_or(u64::MAX),
    }
}

fn bytes_in(time: Duration, rate: u64) -> u64 {
    scale(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), rate, SECOND)
}

fn time_for(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(scale(bytes, SECOND, rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start;

    const MTU: u64 = 1200;

    fn pacer(rate: u64) -> Pacer {
        let mut pacer = Pacer::new();
        pacer.set_rate(Some(rate), MTU);
        pacer
    }

    /// Sends all the budget allows; the bytes of it.
    fn burst(pacer: &mut Pacer, now: Instant) -> u64 {
        let budget = pacer.budget(now);
        let packets = budget / MTU;
        for _ in 0..packets {
            pacer.on_sent(now, MTU);
        }
        packets * MTU
    }

    #[test]
    fn unpaced_until_a_rate_is_known() {
        let mut pacer = Pacer::new();
        pacer.on_sent(start(), 100_000);
        assert_eq!(pacer.budget(start()), u64::MAX);
        assert_eq!(pacer.next_send(), None);
    }

    #[test]
    fn quanta_are_spaced_within_five_percent() {
        for rate in [100_000, 1_250_000, 12_500_000, 125_000_000, 1_250_000_000] {
            let (mut pacer, start) = (pacer(rate), start());
            let (mut now, mut last, mut total) = (start, None, 0);
            for _ in 0..1000 {
                let sent = burst(&mut pacer, now);
                assert!(
                    sent >= MTU && sent <= pacer.pace.expect("a rate").quantum,
                    "{sent} at {rate}"
                );
                total += sent;
                let next = pacer.next_send().expect("a drained pacer names its time");
                assert_eq!(pacer.budget(now + (next - now).mul_f64(0.999)), 0);
                let gap = next - now;
                if let Some((bytes, gap)) = last.replace((sent, gap)) {
                    let wanted = time_for(bytes, rate);
                    assert!(
                        gap.abs_diff(wanted) * 20 <= wanted,
                        "{gap:?} instead of {wanted:?} at {rate}"
                    );
                }
                now = next;
            }
            let wanted = time_for(total, rate);
            assert!(
                (now - start).abs_diff(wanted) * 200 <= wanted,
                "the mean is the rate"
            );
        }
    }

    #[test]
    fn a_late_wake_up_is_made_up_for_at_twice_the_rate() {
        let rate = 12_500_000;
        let (mut pacer, start) = (pacer(rate), start());
        let quantum = pacer.pace.expect("a rate").quantum;
        burst(&mut pacer, start);
        let due = pacer.next_send().expect("drained");
        assert_eq!(pacer.budget(due + Duration::from_micros(200)), quantum + 2500);
        let late = due + Duration::from_millis(8);
        let (mut now, mut sent) = (late, 0);
        while now < late + Duration::from_millis(8) {
            assert!(pacer.budget(now) <= 2 * quantum);
            sent += burst(&mut pacer, now);
            let fastest = bytes_in(now - late, 2 * rate) + 2 * quantum;
            assert!(sent <= fastest, "{sent} of {fastest} after {:?}", now - late);
            now = pacer.next_send().expect("drained");
        }
        let owed = bytes_in(now - start, rate);
        assert!(
            sent + quantum > owed - quantum,
            "{sent} of {owed}: it is as if there had been no pause"
        );
        let before = now;
        let last = burst(&mut pacer, now);
        assert!(last <= quantum && pacer.next_send().expect("drained") - before <= time_for(quantum, rate));
    }

    #[test]
    fn who_catches_up_leaves_in_whole_batches() {
        const SEGMENT: u64 = 1472;
        let mut pacer = Pacer::new();
        pacer.set_rate(Some(875_000_000), SEGMENT);
        let mut now = start();
        for _ in 0..100 {
            let mut batches = Vec::new();
            // A batch is one system call, of 44 packets at most.
            while let count @ 1.. = (pacer.budget(now) / SEGMENT).min(44) {
                (0..count).for_each(|_| pacer.on_sent(now, SEGMENT));
                batches.push(count);
            }
            assert!(batches == [44] || batches == [44, 44], "{batches:?}");
            now = pacer.next_send().expect("drained") + Duration::from_micros(100);
        }
    }

    #[test]
    fn a_pause_beyond_the_limit_is_lost() {
        let rate = 12_500_000;
        let (mut pacer, start) = (pacer(rate), start());
        burst(&mut pacer, start);
        let late = start + Duration::from_secs(1);
        let (mut now, mut sent) = (late, 0);
        while now < late + Duration::from_millis(50) {
            sent += burst(&mut pacer, now);
            now = pacer.next_send().expect("drained");
        }
        let most = bytes_in(now - late + MAX_LAG, rate) + 2 * pacer.pace.expect("a rate").quantum;
        assert!(sent <= most, "{sent} of {most}");
    }

    #[test]
    fn a_falling_rate_never_shuts_it_without_naming_a_time() {
        let (mut pacer, now) = (pacer(12_500_000), start());
        pacer.on_sent(now, 11_200);
        assert_eq!((pacer.budget(now), pacer.next_send()), (1300, None));
        pacer.set_rate(Some(6_000_000), MTU);
        assert_eq!(pacer.budget(now), MTU);
        pacer.on_sent(now, MTU);
        assert!(pacer.budget(now) == 0 && pacer.next_send().is_some());
    }

    #[test]
    fn idleness_earns_one_quantum_only() {
        let rate = 12_500_000;
        let (mut pacer, now) = (pacer(rate), start());
        burst(&mut pacer, now);
        pacer.on_idle();
        assert_eq!(
            pacer.budget(now + Duration::from_secs(10)),
            pacer.pace.expect("a rate").quantum
        );
    }

    #[test]
    fn a_sparing_sender_is_not_held() {
        let (mut pacer, now) = (pacer(100_000), start());
        pacer.on_sent(now, 100);
        assert_eq!(pacer.budget(now), 2 * MTU - 100);
        assert_eq!(pacer.next_send(), None);
        pacer.on_sent(now, MTU);
        assert_eq!(pacer.budget(now), 0, "less than a datagram is left");
        let due = pacer.next_send().expect("drained");
        assert_eq!(due - now, Duration::from_millis(13));
        pacer.on_timeout(due);
        assert_eq!((pacer.next_send(), pacer.budget(due)), (None, 2 * MTU));
    }
}
