//! One direction of a link: a policer, a bottleneck with its queue, then a wire with faults. Everything that crosses
//! the direction shares it: all connections and the cross traffic.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use transport_core::buffer::Ecn;

use self::codel::{Codel, Verdict};
use super::{cross::tcp::Segment, rng::Rng, scenario};

mod ahead;
mod codel;
mod policer;

/// IPv4 and UDP headers; the bottleneck and the MTU count IP packets. IPv6 adds 20.
pub const IP_UDP_HEADERS: usize = 28;
/// IPv6 has a longer header.
pub const IPV6_EXTRA: usize = 20;

/// What a packet carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Cargo {
    /// A datagram of the transport under test.
    Datagram {
        /// Whose connection it belongs to.
        session: usize,
        /// The client's address at the time of sending.
        address: SocketAddr,
        /// UDP payload.
        bytes: Vec<u8>,
    },
    /// A segment or an acknowledgement of simulated TCP.
    Tcp {
        /// Which of the cross flows.
        flow: usize,
        /// What it says.
        segment: Segment,
    },
    /// A packet of a constant rate.
    Cbr {
        /// Which of the cross flows.
        flow: usize,
    },
}

/// An IP packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// What is inside.
    pub cargo: Cargo,
    /// Bytes with all headers from IP on.
    pub size: usize,
    /// The ECN field.
    pub ecn: Ecn,
    entered: Duration,
    doomed: bool,
}

impl Packet {
    /// A packet that has not been sent yet.
    pub fn new(cargo: Cargo, size: usize, ecn: Ecn) -> Self {
        Self {
            cargo,
            size,
            ecn,
            entered: Duration::ZERO,
            doomed: false,
        }
    }
}

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The queue was full.
    Full,
    /// CoDel.
    Aqm,
    /// The policer's bucket was empty.
    Policed,
    /// Larger than the MTU.
    Mtu,
    /// The wire: random loss, outage, black hole, a numbered drop.
    Wire,
}

/// Where packets went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Arrived (duplicates count again).
    pub delivered: u64,
    /// Did not arrive, whatever the reason.
    pub dropped: u64,
    /// Of those, at a full queue.
    pub dropped_full: u64,
    /// Of those, by CoDel.
    pub dropped_aqm: u64,
    /// Of those, by the policer.
    pub dropped_policer: u64,
    /// Marked CE.
    pub marked: u64,
}

/// When and what, kept for windows and plots. Times are in milliseconds, so that an hour fits.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Time of leaving the queue and microseconds spent in it.
    pub waits: Vec<(u32, u32)>,
    /// Packets that did not arrive.
    pub drops: Vec<(u32, Cause)>,
    /// Packets offered, one entry each.
    pub offers: Vec<u32>,
}

/// When copies of a packet arrive: none, one or two.
pub type Arrivals = [Option<Duration>; 2];

/// A direction of the link with its state.
pub struct Link {
    config: scenario::Link,
    rng: Rng,
    policer: Option<policer::Bucket>,
    codel: Option<Codel>,
    queue: VecDeque<Packet>,
    queued_bytes: usize,
    sending: Option<Packet>,
    seen: u64,
    burst: u32,
    bad: bool,
    outage_until: Duration,
    frozen_until: Duration,
    counters: Counters,
    log: Log,
    ipv6: bool,
    /// For [`Link::send`]: what has not left yet, and what each waited.
    reckoned: VecDeque<(Duration, usize)>,
    reckoned_bytes: usize,
    busy_until: Duration,
    waited_us: Vec<u32>,
}

/// What leaves the bottleneck, and when to ask again.
#[derive(Default)]
pub struct Departure {
    /// The packet with its times of arrival.
    pub packet: Option<(Packet, Arrivals)>,
    /// When the next one leaves.
    pub next: Option<Duration>,
}

impl Link {
    /// A link as the scenario says, drawing its faults from its own random stream.
    pub fn new(config: scenario::Link, rng: Rng, ipv6: bool) -> Self {
        Self {
            policer: config.policer.as_ref().map(policer::Bucket::new),
            codel: (config.aqm == Some(scenario::Aqm::Codel)).then(Codel::default),
            config,
            rng,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sending: None,
            seen: 0,
            burst: 0,
            bad: false,
            outage_until: Duration::ZERO,
            frozen_until: Duration::ZERO,
            counters: Counters::default(),
            log: Log::default(),
            ipv6,
            reckoned: VecDeque::new(),
            reckoned_bytes: 0,
            busy_until: Duration::ZERO,
            waited_us: Vec::new(),
        }
    }

    /// Offers a packet at `now`. Answers when to call [`Link::depart`], if nothing was on its way yet.
    pub fn offer(&mut self, now: Duration, mut packet: Packet) -> Option<Duration> {
        if let Cargo::Datagram { .. } = packet.cargo {
            self.seen += 1;
            packet.doomed = self.config.drop.contains(&self.seen);
        }
        self.log.offers.push(millis(now));
        let held = self.queued_bytes + self.sending.as_ref().map_or(0, |packet| packet.size);
        let busy = self.sending.is_some();
        if let Some(cause) = self.refused(now, packet.size, self.queue.len(), held, busy) {
            self.dropped(now, cause);
            return None;
        }
        packet.entered = now;
        self.queued_bytes += packet.size;
        self.queue.push_back(packet);
        if self.sending.is_some() {
            return None;
        }
        self.begin(now)
    }

    /// Why a packet does not even enter: `waiting` packets and, with the one on the wire, `held` bytes are before it.
    fn refused(
        &mut self,
        now: Duration,
        size: usize,
        waiting: usize,
        held: usize,
        busy: bool,
    ) -> Option<Cause> {
        let config = &self.config;
        if config.mtu.is_some_and(|mtu| size > mtu) {
            return Some(Cause::Mtu);
        }
        if let Some(bucket) = &mut self.policer
            && !bucket.take(now, size)
        {
            return Some(Cause::Policed);
        }
        let full = config.rate_mbit.is_some()
            && busy
            && (config.queue_packets.is_some_and(|most| waiting >= most)
                || config.queue_bytes.is_some_and(|most| held + size > most));
        full.then_some(Cause::Full)
    }

    /// Puts the next packet on the wire; answers when its last bit has left.
    fn begin(&mut self, now: Duration) -> Option<Duration> {
        let packet = self.dequeue(now)?;
        let wait = now.saturating_sub(packet.entered);
        let start = now.max(self.frozen_until);
        let ends = match self.config.rate_mbit {
            Some(rate) => {
                self.log.waits.push((millis(now), wait.as_micros() as u32));
                start + Duration::from_secs_f64(packet.size as f64 * 8.0 / (rate * 1e6))
            }
            None => start,
        };
        self.sending = Some(packet);
        Some(ends)
    }

    fn dequeue(&mut self, now: Duration) -> Option<Packet> {
        loop {
            let Some(mut packet) = self.queue.pop_front() else {
                if let Some(codel) = &mut self.codel {
                    codel.empty();
                }
                return None;
            };
            self.queued_bytes -= packet.size;
            let Some(codel) = &mut self.codel else {
                return Some(packet);
            };
            match codel.judge(now, now.saturating_sub(packet.entered), self.queued_bytes) {
                Verdict::Pass => return Some(packet),
                Verdict::Signal if packet.ecn != Ecn::NotEct => {
                    packet.ecn = Ecn::Ce;
                    self.counters.marked += 1;
                    return Some(packet);
                }
                Verdict::Signal => self.dropped(now, Cause::Aqm),
            }
        }
    }

    /// The last bit of a packet has left the bottleneck at `now`.
    pub fn depart(&mut self, now: Duration) -> Departure {
        // A frozen link holds what it has.
        if now < self.frozen_until {
            return Departure {
                packet: None,
                next: Some(self.frozen_until),
            };
        }
        let Some(mut packet) = self.sending.take() else {
            return Departure::default();
        };
        let next = self.begin(now);
        if self.lost(now, packet.doomed) {
            self.dropped(now, Cause::Wire);
            return Departure { packet: None, next };
        }
        if self.rng.chance(self.config.corrupt) && !self.corrupt(&mut packet) {
            self.dropped(now, Cause::Wire);
            return Departure { packet: None, next };
        }
        let arrivals = self.arrivals(now);
        Departure {
            packet: Some((packet, arrivals)),
            next,
        }
    }

    fn arrivals(&mut self, departure: Duration) -> Arrivals {
        let first = self.arrival(departure);
        let second = self
            .rng
            .chance(self.config.duplicate)
            .then(|| self.arrival(departure));
        self.counters.delivered += 1 + u64::from(second.is_some());
        [Some(first), second]
    }

    /// Changes a byte of a datagram; false where a checksum would have caught it.
    fn corrupt(&mut self, packet: &mut Packet) -> bool {
        let Cargo::Datagram { bytes, .. } = &mut packet.cargo else {
            return false;
        };
        self.flip(bytes);
        true
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let at = self.rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 + self.rng.below(255) as u8;
        }
    }

    fn dropped(&mut self, now: Duration, cause: Cause) {
        self.count_drop(cause);
        self.log.drops.push((millis(now), cause));
    }

    fn count_drop(&mut self, cause: Cause) {
        self.counters.dropped += 1;
        match cause {
            Cause::Full => self.counters.dropped_full += 1,
            Cause::Aqm => self.counters.dropped_aqm += 1,
            Cause::Policed => self.counters.dropped_policer += 1,
            Cause::Mtu | Cause::Wire => {}
        }
    }

    fn lost(&mut self, at: Duration, doomed: bool) -> bool {
        if doomed || at < self.outage_until || self.blacked_out(at) {
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

    /// Changes the bottleneck; the packet on the wire leaves as it began.
    pub fn set_rate(&mut self, mbit: f64) {
        self.config.rate_mbit = Some(mbit);
    }

    /// Changes the propagation delay from now on.
    pub fn set_delay(&mut self, ms: f64) {
        self.config.delay_ms = ms;
    }

    /// Changes random loss from now on; zero ends it.
    pub fn set_loss(&mut self, p: f64) {
        self.config.loss = (p > 0.0).then_some(scenario::Loss::Iid { p });
    }

    /// Loses everything that leaves until `until`.
    pub fn outage(&mut self, until: Duration) {
        self.outage_until = until;
    }

    /// Holds everything until `until`, as Wi-Fi does while it looks at other channels.
    pub fn freeze(&mut self, until: Duration) {
        self.frozen_until = until;
    }

    /// What passed and what did not.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Waits, drops and offers with their times.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Packets and bytes that wait.
    pub fn queued(&self) -> (usize, usize) {
        (self.queue.len(), self.queued_bytes)
    }
}

fn millis(at: Duration) -> u32 {
    at.as_millis() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(text: &str) -> Link {
        Link::new(toml::from_str(text).unwrap(), Rng::new(1, "link"), false)
    }

    fn packet(payload: usize) -> Packet {
        let address = SocketAddr::from(([10, 0, 0, 2], 1));
        let bytes = vec![0; payload];
        let cargo = Cargo::Datagram {
            session: 0,
            address,
            bytes,
        };
        Packet::new(cargo, payload + IP_UDP_HEADERS, Ecn::NotEct)
    }

    /// Offers `count` packets of `payload` bytes, one every `gap`, and answers when each arrived, if it did.
    fn pass(link: &mut Link, count: usize, payload: usize, gap: Duration, ecn: Ecn) -> Vec<Option<Duration>> {
        let mut arrived = vec![None; count];
        let mut due = None;
        let mut at = Duration::ZERO;
        for index in 0..=count {
            while let Some(when) = due.filter(|when| index == count || *when <= at) {
                let departure = link.depart(when);
                due = departure.next;
                if let Some((packet, arrivals)) = departure.packet
                    && let Cargo::Datagram { session, .. } = packet.cargo
                {
                    arrived[session] = arrivals[0];
                }
            }
            if index < count {
                let mut packet = packet(payload);
                packet.ecn = ecn;
                if let Cargo::Datagram { session, .. } = &mut packet.cargo {
                    *session = index;
                }
                due = due.or(link.offer(at, packet)).into_iter().min();
                at += gap;
            }
        }
        arrived
    }

    fn through(link: &mut Link, count: usize) -> usize {
        pass(link, count, 10, Duration::ZERO, Ecn::NotEct)
            .iter()
            .flatten()
            .count()
    }

    #[test]
    fn a_clear_link_only_delays() {
        let mut clear = link("delay_ms = 15.0");
        let arrived = pass(&mut clear, 2, 100, Duration::from_secs(1), Ecn::NotEct);
        assert_eq!(
            arrived,
            [Some(Duration::from_millis(15)), Some(Duration::from_millis(1015))]
        );
    }

    #[test]
    fn the_queue_is_bounded_and_serialises() {
        let mut slow = link("rate_mbit = 1.0\nqueue_packets = 2");
        let arrived = pass(&mut slow, 5, 972, Duration::ZERO, Ecn::NotEct);
        let at = |ms| Some(Duration::from_millis(ms));
        assert_eq!(
            arrived,
            [at(8), at(16), at(24), None, None],
            "one on the wire, two waiting; 1000 bytes at 1 Mbit/s take 8 ms"
        );
        assert_eq!(slow.counters().dropped_full, 2);
    }

    #[test]
    fn a_queue_in_bytes_counts_what_is_on_the_wire() {
        let mut slow = link("rate_mbit = 1.0\nqueue_bytes = 3000");
        let arrived = pass(&mut slow, 5, 972, Duration::ZERO, Ecn::NotEct);
        assert_eq!(arrived.iter().flatten().count(), 3);
    }

    #[test]
    fn a_new_rate_holds_for_what_waits() {
        let mut slow = link("rate_mbit = 1.0");
        assert_eq!(
            slow.offer(Duration::ZERO, packet(972)),
            Some(Duration::from_millis(8))
        );
        assert_eq!(slow.offer(Duration::ZERO, packet(972)), None);
        slow.set_rate(0.1);
        assert_eq!(
            slow.depart(Duration::from_millis(8)).next,
            Some(Duration::from_millis(88))
        );
    }

    #[test]
    fn a_frozen_link_holds_and_then_delivers() {
        let mut slow = link("rate_mbit = 1.0");
        let first = slow.offer(Duration::ZERO, packet(972)).unwrap();
        slow.freeze(Duration::from_millis(250));
        let held = slow.depart(first);
        assert!(held.packet.is_none() && held.next == Some(Duration::from_millis(250)));
        assert!(slow.depart(Duration::from_millis(250)).packet.is_some());
    }

    #[test]
    fn bursts_of_loss_are_bounded() {
        let mut lossy = link("loss = { kind = \"burst\", p = 1.0, max_burst = 3 }");
        let arrived = pass(&mut lossy, 8, 10, Duration::from_millis(1), Ecn::NotEct);
        let pattern: Vec<bool> = arrived.iter().map(Option::is_some).collect();
        assert_eq!(pattern, [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn loss_comes_near_its_probability() {
        let mut lossy = link("loss = { kind = \"iid\", p = 0.1 }");
        let arrived = through(&mut lossy, 20_000);
        assert!((17_700..18_300).contains(&arrived), "{arrived}");
        // Gilbert: p / (p + r) of the time in the bad state.
        let mut lossy = link("loss = { kind = \"gilbert\", p = 0.01, r = 0.3 }");
        let arrived = through(&mut lossy, 20_000);
        assert!((19_100..19_600).contains(&arrived), "{arrived}");
    }

    #[test]
    fn a_black_hole_opens_and_closes() {
        let mut holed = link("blackhole = { on_ms = 5000, off_ms = 2000 }");
        let arrived = pass(&mut holed, 8, 10, Duration::from_millis(1001), Ecn::NotEct);
        let pattern: Vec<bool> = arrived.iter().map(Option::is_some).collect();
        assert_eq!(pattern, [true, true, true, true, true, false, false, true]);
    }

    #[test]
    fn numbered_datagrams_vanish() {
        let mut lossy = link("drop = [2, 3]");
        assert_eq!(through(&mut lossy, 5), 3);
    }

    #[test]
    fn too_large_packets_vanish() {
        let mut narrow = link("mtu = 1000");
        assert_eq!(pass(&mut narrow, 1, 973, Duration::ZERO, Ecn::NotEct), [None]);
        assert!(pass(&mut narrow, 1, 972, Duration::ZERO, Ecn::NotEct)[0].is_some());
    }

    #[test]
    fn the_policer_passes_its_rate_and_no_more() {
        let mut policed = link("policer = { rate_mbit = 8.0, burst_bytes = 20000 }");
        // 16 Mbit/s for a second: half of it passes, and the bucket once.
        let arrived = pass(&mut policed, 2000, 972, Duration::from_micros(500), Ecn::NotEct);
        let passed = arrived.iter().flatten().count();
        assert!((1018..=1021).contains(&passed), "{passed}");
        assert_eq!(policed.counters().dropped_policer, 2000 - passed as u64);
    }

    #[test]
    fn codel_drops_what_cannot_be_marked_and_marks_the_rest() {
        let text = "rate_mbit = 10.0\naqm = \"codel\"";
        // 12 Mbit/s into 10 for four seconds.
        let load = |link: &mut Link, ecn| pass(link, 6000, 972, Duration::from_micros(667), ecn);
        let mut dropping = link(text);
        let arrived = load(&mut dropping, Ecn::NotEct);
        let dropped = arrived.iter().filter(|at| at.is_none()).count();
        assert!(
            dropped > 50 && dropping.counters().dropped_aqm == dropped as u64,
            "{dropped}"
        );
        let mut marking = link(text);
        assert!(load(&mut marking, Ecn::Ect0).iter().all(Option::is_some));
        assert!(marking.counters().marked > 50, "{}", marking.counters().marked);
        let mut relaxed = link(text);
        pass(&mut relaxed, 6000, 972, Duration::from_micros(850), Ecn::Ect0);
        assert_eq!(relaxed.counters().marked, 0, "no standing queue, no mark");
    }

    #[test]
    fn corruption_changes_one_byte() {
        let mut noisy = link("corrupt = 1.0");
        noisy.offer(Duration::ZERO, packet(100));
        let (packet, _) = noisy.depart(Duration::ZERO).packet.unwrap();
        let Cargo::Datagram { bytes, .. } = packet.cargo else {
            panic!("what went in comes out")
        };
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 1);
    }
}
