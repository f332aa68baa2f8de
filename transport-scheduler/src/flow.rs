//! Flow control: what we may send (`Credit`), what the peer may (`Window`), and how fast it may cancel (`Cancels`).

use std::time::{Duration, Instant};

/// The largest offset or count that can be written on the wire (RFC 9000 §16).
pub(crate) const MAX_VARINT: u64 = (1 << 62) - 1;
/// The most streams of a kind there can be (RFC 9000 §4.6): their ids take the two bits below.
pub(crate) const MAX_STREAMS: u64 = 1 << 60;

/// How much we may still send: on a stream, or on all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credit {
    limit: u64,
    used: u64,
    reported: Option<u64>,
}

impl Credit {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: 0,
            reported: None,
        }
    }

    pub(crate) fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What was sent so far.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn spend(&mut self, amount: u64) {
        self.used = self.used.saturating_add(amount);
    }

    /// Raises the limit; a lower one is an old frame that came late. Says whether it rose.
    pub(crate) fn raise(&mut self, limit: u64) -> bool {
        let rose = limit > self.limit;
        self.limit = self.limit.max(limit);
        rose
    }

    /// Sets the limit, lower or higher. False: more was sent already.
    pub(crate) fn replace(&mut self, limit: u64) -> bool {
        self.limit = limit;
        self.used <= limit
    }

    /// Whether the peer should be told that we stand at the limit: once for each limit.
    pub(crate) fn report(&mut self) -> bool {
        self.available() == 0 && self.reported.replace(self.limit) != Some(self.limit)
    }

    /// Whether a report of the limit `at` is still true.
    pub(crate) fn blocked_at(&self, at: u64) -> bool {
        self.available() == 0 && self.limit == at
    }
}

/// Times what is read in a round trip. A sender that searches for the bandwidth doubles its rate each round trip, and what it sends
/// comes half of one later; a gap stops all reading for a round trip and a half, and should not stop the sender: 2 + 4 + 8 and
/// some.
const ROOM: u64 = 16;

/// What the peer may send before we read: follows what is read in a round trip, and never shrinks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    announced: u64,
    consumed: u64,
    size: u64,
    max_size: u64,
    /// When the round trip began, and what was consumed by then.
    since: Option<Instant>,
    before: u64,
}

impl Window {
    pub(crate) fn new(size: u64, max_size: u64) -> Self {
        let size = size.min(MAX_VARINT);
        Self {
            announced: size,
            consumed: 0,
            size,
            max_size: max_size.max(size),
            since: None,
            before: 0,
        }
    }

    /// The limit that holds for the peer.
    pub(crate) fn announced(&self) -> u64 {
        self.announced
    }

    /// Data arrived: the first arrival starts the clock.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// The application took `amount` bytes. Says whether the limit rose, which the peer is then to be told: when a quarter of the
    /// window is new.
    pub(crate) fn consume(&mut self, amount: u64, now: Option<Instant>, srtt: Duration) -> bool {
        self.consumed = self.consumed.saturating_add(amount);
        self.measure(now, srtt);
        let limit = self.consumed.saturating_add(self.size).min(MAX_VARINT);
        let rose = limit > self.announced && limit - self.announced >= self.size / 4;
        if rose {
            self.announced = limit;
        }
        rose
    }

    /// Once a round trip: is there room for what the next ones may bring?
    fn measure(&mut self, now: Option<Instant>, srtt: Duration) {
        let (Some(since), Some(now)) = (self.since, now) else {
            return;
        };
        let took = now.saturating_duration_since(since);
        if took < srtt {
            return;
        }
        let read = u128::from(self.consumed - self.before) * srtt.as_nanos() / took.as_nanos().max(1);
        let room = u64::try_from(read).unwrap_or(u64::MAX).saturating_mul(ROOM);
        self.size = self.size.max(room.min(self.max_size));
        (self.since, self.before) = (Some(now), self.consumed);
    }

    /// What was taken so far.
    #[cfg(test)]
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }
}

/// How many streams the peer may open: refilled as they close.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    at_once: u64,
    closed: u64,
    announced: u64,
}

impl Count {
    pub(crate) fn new(at_once: u64) -> Self {
        let at_once = at_once.min(MAX_STREAMS);
        Self {
            at_once,
            closed: 0,
            announced: at_once,
        }
    }

    pub(crate) fn announced(&self) -> u64 {
        self.announced
    }

    /// A stream closed. Says whether the limit rose: by sixteenths, to spare frames.
    pub(crate) fn close(&mut self) -> bool {
        self.closed += 1;
        self.at_once + self.closed - self.announced >= (self.at_once / 16).max(1) && self.announce()
    }

    /// The peer waits: whatever has closed counts now. Says whether the limit rose.
    pub(crate) fn announce(&mut self) -> bool {
        let limit = (self.at_once + self.closed).min(MAX_STREAMS);
        let rose = limit > self.announced;
        self.announced = self.announced.max(limit);
        rose
    }
}

/// Counts cancelled streams of the peer: as many at once as it may have open, and so many each round-trip time beyond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cancels {
    per_rtt: u32,
    burst: u32,
    /// When the debt of the cancels so far is paid.
    paid: Option<Instant>,
}

impl Cancels {
    pub(crate) fn new(per_rtt: u32, at_once: u64) -> Self {
        let burst = u32::try_from(at_once).unwrap_or(u32::MAX).saturating_add(per_rtt);
        Self {
            per_rtt: per_rtt.max(1),
            burst,
            paid: None,
        }
    }

    /// One more cancel; says whether it is tolerable.
    pub(crate) fn count(&mut self, now: Instant, srtt: Duration) -> bool {
        let each = srtt.max(Duration::from_millis(1)) / self.per_rtt;
        let paid = self.paid.map_or(now, |paid| paid.max(now));
        let debt = paid.saturating_duration_since(now) + each;
        if debt > each.saturating_mul(self.burst) {
            return false;
        }
        self.paid = now.checked_add(debt);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    #[test]
    fn a_window_has_room_for_sixteen_times_what_is_read_in_a_round_trip() {
        let start = crate::tests::start();
        let mut window = Window::new(1000, 3000);
        window.touch(start);
        assert!(!window.consume(100, Some(start + RTT / 2), RTT));
        assert!(window.consume(50, Some(start + RTT), RTT));
        assert_eq!((window.size, window.announced()), (2400, 2550));
        assert!(window.consume(2000, Some(start + RTT * 2), RTT));
        assert_eq!((window.size, window.announced()), (3000, 5150), "its bound");
    }

    #[test]
    fn a_window_read_slowly_stays_and_never_shrinks() {
        let start = crate::tests::start();
        let mut window = Window::new(1000, 8000);
        window.touch(start);
        assert!(!window.consume(249, Some(start + RTT * 8), RTT));
        assert!(
            window.consume(1, Some(start + RTT * 8), RTT),
            "a quarter of it is told"
        );
        assert_eq!((window.size, window.announced()), (1000, 1250));
        assert!(window.consume(500, Some(start + RTT * 1000), RTT));
        assert_eq!(window.announced(), 1750);
    }

    #[test]
    fn a_limit_is_reported_once() {
        let mut credit = Credit::new(10);
        assert!(!credit.report());
        credit.spend(10);
        assert!(credit.report() && !credit.report());
        assert!(!credit.raise(9) && credit.raise(11));
        assert!(!credit.blocked_at(10));
        credit.spend(1);
        assert!(credit.report() && credit.blocked_at(11));
    }

    #[test]
    fn stream_counts_are_refilled_by_sixteenths_or_on_demand() {
        let mut count = Count::new(32);
        assert!(!count.close() && count.announced() == 32);
        assert!(count.close() && count.announced() == 34);
        assert!(!count.announce());
        assert!(!count.close());
        assert!(count.announce() && count.announced() == 35);
    }

    #[test]
    fn cancels_beyond_credit_and_rate_are_too_many() {
        let start = crate::tests::start();
        let mut cancels = Cancels::new(100, 50);
        assert!((0..150).all(|_| cancels.count(start, RTT)));
        assert!(!cancels.count(start, RTT));
        let later = start + RTT;
        assert_eq!((0..1000).take_while(|_| cancels.count(later, RTT)).count(), 100);
    }
}
