//! One direction of a link: a bottleneck with a drop-tail queue, then a wire with faults.

use std::{collections::VecDeque, time::Duration};

use super::{rng::Rng, scenario};

/// IPv4 and UDP headers; the bottleneck and the MTU count IP packets. IPv6 adds 20.
pub const IP_UDP_HEADERS: usize = 28;

/// Where a datagram went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Arrived (duplicates count again).
    pub delivered: u64,
    /// Did not arrive, whatever the reason.
    pub dropped: u64,
}

/// A direction of the link with its state.
pub struct Link {
    config: scenario::Link,
    rng: Rng,
    headers: usize,
    busy_until: Duration,
    queued: VecDeque<(Duration, usize)>,
    queued_bytes: usize,
    seen: u64,
    burst: u32,
    bad: bool,
    outage_until: Duration,
    counters: Counters,
    queue_delays_us: Vec<u32>,
}

/// When copies of a datagram arrive: none, one or two.
pub type Arrivals = [Option<Duration>; 2];

impl Link {
    /// A link as the scenario says, drawing its faults from its own random stream.
    pub fn new(config: scenario::Link, rng: Rng, ipv6: bool) -> Self {
        Self {
            config,
            rng,
            headers: IP_UDP_HEADERS + if ipv6 { 20 } else { 0 },
            busy_until: Duration::ZERO,
            queued: VecDeque::new(),
            queued_bytes: 0,
            seen: 0,
            burst: 0,
            bad: false,
            outage_until: Duration::ZERO,
            counters: Counters::default(),
            queue_delays_us: Vec::new(),
        }
    }

    /// Offers a datagram at `now`; corruption changes it in place. Answers when it arrives.
    pub fn send(&mut self, now: Duration, datagram: &mut [u8]) -> Arrivals {
        self.seen += 1;
        let bytes = datagram.len() + self.headers;
        let Some(departure) = self.admit(now, bytes) else {
            self.counters.dropped += 1;
            return [None; 2];
        };
        if self.lost(departure) {
            self.counters.dropped += 1;
            return [None; 2];
        }
        if self.rng.chance(self.config.corrupt) && !datagram.is_empty() {
            let at = self.rng.below(datagram.len() as u64) as usize;
            datagram[at] ^= 1 + self.rng.below(255) as u8;
        }
        let first = self.arrival(departure);
        let second = self
            .rng
            .chance(self.config.duplicate)
            .then(|| self.arrival(departure));
        self.counters.delivered += 1 + u64::from(second.is_some());
        [Some(first), second]
    }

    /// The bottleneck: the time at which the last bit leaves it, or nothing when the queue is full.
    fn admit(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        if self.config.mtu.is_some_and(|mtu| bytes > mtu) {
            return None;
        }
        let Some(rate) = self.config.rate_mbit else {
            return Some(now);
        };
        while let Some(&(left, size)) = self.queued.front().filter(|(left, _)| *left <= now) {
            self.queued.pop_front();
            self.queued_bytes -= size;
            debug_assert!(left <= now);
        }
        let full = self
            .config
            .queue_packets
            .is_some_and(|most| self.queued.len() > most)
            || self
                .config
                .queue_bytes
                .is_some_and(|most| self.queued_bytes + bytes > most);
        if full {
            return None;
        }
        let start = self.busy_until.max(now);
        self.queue_delays_us
            .push(start.saturating_sub(now).as_micros() as u32);
        self.busy_until = start + Duration::from_secs_f64(bytes as f64 * 8.0 / (rate * 1e6));
        self.queued.push_back((self.busy_until, bytes));
        self.queued_bytes += bytes;
        Some(self.busy_until)
    }

    fn lost(&mut self, at: Duration) -> bool {
        if self.config.drop.contains(&self.seen) || at < self.outage_until || self.blacked_out(at) {
            return true;
        }
        match self.config.loss {
            None => false,
            Some(scenario::Loss::Iid { p }) => self.rng.chance(p),
            Some(scenario::Loss::Burst { p, max_burst }) => {
                let lost = self.burst < max_burst && self.rng.chance(p);
                self.burst = if lost { self.burst + 1 } else { 0 };
                lost
            }
            Some(scenario::Loss::Gilbert { p, r }) => {
                let turn = if self.bad { r } else { p };
                self.bad ^= self.rng.chance(turn);
                self.bad
            }
        }
    }

    fn blacked_out(&self, at: Duration) -> bool {
        self.config.blackhole.as_ref().is_some_and(|hole| {
            let phase = (at.as_secs_f64() * 1000.0) % (hole.on_ms + hole.off_ms);
            phase >= hole.on_ms
        })
    }

    fn arrival(&mut self, departure: Duration) -> Duration {
        let mut extra_ms = self.config.delay_ms;
        if self.config.jitter_ms > 0.0 {
            extra_ms += self.rng.unit() * self.config.jitter_ms;
        }
        if let Some(reorder) = &self.config.reorder
            && self.rng.chance(reorder.p)
        {
            extra_ms += reorder.extra_ms;
        }
        departure + Duration::from_secs_f64(extra_ms / 1000.0)
    }

    /// Changes the bottleneck from now on.
    pub fn set_rate(&mut self, mbit: f64) {
        self.config.rate_mbit = Some(mbit);
    }

    /// Changes the propagation delay from now on.
    pub fn set_delay(&mut self, ms: f64) {
        self.config.delay_ms = ms;
    }

    /// Drops everything until `at`.
    pub fn outage(&mut self, until: Duration) {
        self.outage_until = until;
    }

    /// What passed and what did not.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Time each packet waited in the queue, in microseconds.
    pub fn queue_delays_us(&self) -> &[u32] {
        &self.queue_delays_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(text: &str) -> Link {
        let config: scenario::Link = toml::from_str(text).unwrap();
        Link::new(config, Rng::new(1, "link"), false)
    }

    #[test]
    fn a_clear_link_only_delays() {
        let mut clear = link("delay_ms = 15.0");
        let now = Duration::from_secs(1);
        assert_eq!(
            clear.send(now, &mut [0; 100]),
            [Some(now + Duration::from_millis(15)), None]
        );
    }

    #[test]
    fn the_queue_is_bounded_and_serialises() {
        let mut slow = link("rate_mbit = 1.0\nqueue_packets = 2");
        let sent = (0..5)
            .filter(|_| slow.send(Duration::ZERO, &mut [0; 972])[0].is_some())
            .count();
        assert_eq!(sent, 3, "one on the wire, two waiting");
        let arrival = slow.send(Duration::from_millis(24), &mut [0; 972])[0].unwrap();
        assert_eq!(
            arrival,
            Duration::from_millis(32),
            "1000 bytes at 1 Mbit/s take 8 ms"
        );
    }

    #[test]
    fn bursts_of_loss_are_bounded() {
        let mut lossy = link("loss = { kind = \"burst\", p = 1.0, max_burst = 3 }");
        let pattern: Vec<bool> = (0..8)
            .map(|_| lossy.send(Duration::ZERO, &mut [0; 10])[0].is_some())
            .collect();
        assert_eq!(pattern, [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn loss_comes_near_its_probability() {
        let mut lossy = link("loss = { kind = \"iid\", p = 0.1 }");
        let lost = (0..10_000)
            .filter(|_| lossy.send(Duration::ZERO, &mut [0; 10])[0].is_none())
            .count();
        assert!((850..1150).contains(&lost), "{lost}");
    }

    #[test]
    fn a_blackhole_opens_and_closes() {
        let mut holed = link("blackhole = { on_ms = 5000, off_ms = 2000 }");
        assert!(holed.send(Duration::from_millis(4_999), &mut [0; 10])[0].is_some());
        assert!(holed.send(Duration::from_millis(5_001), &mut [0; 10])[0].is_none());
        assert!(holed.send(Duration::from_millis(7_001), &mut [0; 10])[0].is_some());
    }

    #[test]
    fn corruption_changes_exactly_one_byte() {
        let mut bad = link("corrupt = 1.0");
        let mut datagram = [7; 50];
        assert!(bad.send(Duration::ZERO, &mut datagram)[0].is_some());
        assert_eq!(datagram.iter().filter(|byte| **byte != 7).count(), 1);
    }

    #[test]
    fn packets_over_the_mtu_and_named_ones_vanish() {
        let mut narrow = link("mtu = 1280\ndrop = [2]");
        assert!(narrow.send(Duration::ZERO, &mut [0; 1252])[0].is_some());
        assert!(narrow.send(Duration::ZERO, &mut [0; 10])[0].is_none());
        assert!(narrow.send(Duration::ZERO, &mut [0; 1253])[0].is_none());
        assert_eq!((narrow.counters().delivered, narrow.counters().dropped), (1, 2));
    }
}
