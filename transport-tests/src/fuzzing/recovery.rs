//! ACKs: what a path believes of those it gets, and what it says in those it sends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use transport_reliability::{
    AckFrequency, AckInput, AckRange, Acks, Config, EcnCounts, Outcome, Recovery, Sent, SentKind,
};

use super::decode;
use crate::sim::clock::Clock;

const MAX_DATAGRAM: u16 = 1200;

/// One step on a path.
#[derive(Arbitrary, Clone, Debug)]
enum Act {
    /// Time goes on, microseconds.
    Wait(u32),
    /// Packets leave.
    Send {
        count: u8,
        size: u16,
        eliciting: bool,
        probe: bool,
    },
    /// The peer names numbers, as ranges counted down from the largest sent: what it skips, what it names.
    Ack {
        below: u8,
        runs: [(u8, u8); 3],
        delay: u32,
    },
    /// The peer names whatever it likes.
    Claim { largest: u64, ranges: Vec<(u64, u64)> },
    /// The deadline passes.
    Timeout,
    /// Only the call is made.
    Spurious,
    /// A packet arrives, so far above or below the largest.
    Receive { up: bool, by: u16, eliciting: bool },
    /// An ACK leaves.
    Report,
    /// The path is another one now.
    Reset,
    /// There is nothing to send.
    AppLimited,
}

/// The steps an input stands for.
pub fn show(data: &[u8]) -> String {
    format!("{:#?}", decode::<Act>(data))
}

/// Any program keeps the laws of recovery: contents come back once, bytes in flight are those of open packets, ACKs say
/// what was received, and a violation changes nothing.
pub fn acks(data: &[u8]) {
    let mut path = Path::new();
    for act in decode::<Act>(data) {
        path.step(act);
        path.check();
    }
    let rest: Vec<u64> = path.open.keys().rev().copied().collect();
    for numbers in rest.chunks(100) {
        path.ack(numbers.iter().map(|&number| (number, number)), 0);
    }
    assert!(path.open.is_empty(), "an ACK was not believed");
    assert_eq!(path.recovery.stats().in_flight, 0);
}

/// A path, and what must be true of it.
struct Path {
    recovery: Recovery<u64>,
    now: Instant,
    out: Outcome<u64>,
    /// Eliciting packets by number, with their sizes.
    open: BTreeMap<u64, u64>,
    lost: BTreeSet<u64>,
    /// Those that probe the MTU.
    probes: BTreeSet<u64>,
    /// Numbers that left.
    sent: BTreeSet<u64>,
    received: BTreeSet<u64>,
}

impl Path {
    fn new() -> Self {
        let config = Config {
            max_datagram: MAX_DATAGRAM,
            seed: 7,
            ..Config::default()
        };
        Self {
            recovery: Recovery::new(config),
            now: Clock::start().now().instant,
            out: Outcome::default(),
            open: BTreeMap::new(),
            lost: BTreeSet::new(),
            probes: BTreeSet::new(),
            sent: BTreeSet::new(),
            received: BTreeSet::new(),
        }
    }

    fn step(&mut self, act: Act) {
        match act {
            Act::Wait(us) => self.now += Duration::from_micros(u64::from(us >> 8)),
            Act::Send {
                count,
                size,
                eliciting,
                probe,
            } => {
                for _ in 0..count % 32 {
                    self.send(size % 1161 + 40, eliciting, probe);
                }
            }
            Act::Ack { below, runs, delay } => self.honest(below, &runs, delay),
            Act::Claim { largest, ranges } => self.claim(largest, &ranges),
            Act::Timeout => {
                if let Some((at, _)) = self.recovery.next_timeout() {
                    self.now = self.now.max(at);
                    self.recovery.on_timeout(self.now, &mut self.out);
                }
            }
            Act::Spurious => self.recovery.on_timeout(self.now, &mut self.out),
            Act::Receive { up, by, eliciting } => self.receive(up, by.into(), eliciting),
            Act::Report => self.recovery.acks_sent(self.now),
            Act::Reset => {
                self.recovery.reset_path(self.now);
                // What was sent before no longer counts as in flight.
                self.open.values_mut().for_each(|size| *size = 0);
            }
            Act::AppLimited => self.recovery.app_limited(self.now),
        }
        self.settle();
    }

    fn send(&mut self, size: u16, eliciting: bool, probe: bool) {
        let number = self.recovery.next_number();
        let content = number.get();
        let kind = if probe {
            SentKind::MtuProbe
        } else {
            SentKind::Normal
        };
        let packet = Sent {
            number,
            size,
            eliciting,
            in_flight: eliciting,
            kind,
            ect: self.recovery.is_marking(),
            content,
        };
        self.recovery.sent(self.now, packet);
        self.sent.insert(content);
        if probe {
            self.probes.insert(content);
        }
        if eliciting {
            self.open.insert(content, size.into());
        }
    }

    /// Runs of numbers that were sent, from the largest down: so many are left out, so many are named.
    fn honest(&mut self, below: u8, runs: &[(u8, u8)], delay: u32) {
        let mut numbers = self.sent.iter().rev().skip(usize::from(below % 16));
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (skip, take) in runs {
            for number in numbers.by_ref().take(usize::from(take % 64)) {
                match ranges.last_mut() {
                    Some((first, _)) if *first == number + 1 => *first = *number,
                    _ => ranges.push((*number, *number)),
                }
            }
            numbers.by_ref().take(usize::from(skip % 8)).for_each(drop);
        }
        if !ranges.is_empty() {
            self.ack(ranges.into_iter(), delay);
        }
    }

    fn ack(&mut self, ranges: impl Iterator<Item = (u64, u64)>, delay: u32) {
        let ranges: Vec<AckRange> = ranges.map(|(first, last)| AckRange { first, last }).collect();
        let mut joined: Vec<AckRange> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.first == range.last + 1 => last.first = range.first,
                _ => joined.push(range),
            }
        }
        let ack = AckInput {
            largest: joined[0].last,
            delay: Duration::from_micros(delay.into()),
            ranges: &joined,
            ecn: None,
        };
        self.recovery
            .on_ack(self.now, ack, &mut self.out)
            .expect("only what was sent");
        let named = |number: &u64| {
            joined
                .iter()
                .any(|range| (range.first..=range.last).contains(number))
        };
        assert!(self.out.acked.iter().all(named), "acknowledged, and not named");
        self.settle();
    }

    fn claim(&mut self, largest: u64, ranges: &[(u64, u64)]) {
        if ranges.is_empty() {
            // No acknowledgement, but a wish for others.
            self.recovery.set_ack_frequency(AckFrequency {
                eliciting: largest as u32,
                max_delay: Duration::from_micros(largest >> 32),
                reordering: (largest >> 8) as u8 as u32,
            });
        }
        let near = self.sent.last().copied().unwrap_or(0);
        // Small values count down from the largest sent, others are taken as they are.
        let value = |claimed: u64| {
            if claimed < 256 {
                (near + 2).saturating_sub(claimed)
            } else {
                claimed
            }
        };
        let ranges: Vec<AckRange> = ranges
            .iter()
            .map(|(first, last)| AckRange {
                first: value(*first),
                last: value(*last),
            })
            .collect();
        let ack = AckInput {
            largest: value(largest),
            delay: Duration::from_micros(largest),
            ranges: &ranges,
            // Counts as good as any.
            ecn: largest.is_multiple_of(3).then_some(EcnCounts {
                ect0: largest,
                ect1: largest >> 40,
                ce: largest >> 8,
            }),
        };
        let before = self.recovery.stats();
        if self.recovery.on_ack(self.now, ack, &mut self.out).is_err() {
            assert_eq!(self.recovery.stats(), before, "a violation changes nothing");
            assert!(self.out.acked.is_empty() && self.out.lost.is_empty());
            return;
        }
        for range in &ranges {
            let length = range.last - range.first + 1;
            let sent = self.sent.range(range.first..=range.last).count() as u64;
            assert_eq!(sent, length, "believed for numbers never sent");
        }
    }

    fn receive(&mut self, up: bool, by: u64, eliciting: bool) {
        let largest = self.recovery.largest_received();
        let number = match largest {
            None => by,
            Some(largest) if up => largest + 1 + (by >> 4),
            Some(largest) => largest.saturating_sub(by),
        };
        match self.recovery.check(number) {
            Ok(fresh) => {
                assert!(self.received.insert(number), "{number} counts twice");
                self.recovery.received(fresh, self.now, eliciting);
            }
            Err(_) => assert!(
                self.received.contains(&number) || largest.is_some_and(|largest| number + 1000 < largest),
                "{number} refused at {largest:?}"
            ),
        }
    }

    fn settle(&mut self) {
        for number in self.out.acked.drain(..) {
            assert!(self.open.remove(&number).is_some(), "{number} came back twice");
        }
        for number in self.out.lost.drain(..) {
            assert!(self.open.remove(&number).is_some(), "{number} came back twice");
            self.lost.insert(number);
        }
        self.out.clear();
    }

    fn check(&self) {
        let stats = self.recovery.stats();
        assert_eq!(
            stats.in_flight,
            self.open.values().sum::<u64>(),
            "bytes in flight leak"
        );
        assert!(stats.cwnd >= 2 * u64::from(MAX_DATAGRAM), "{stats:?}");
        assert_eq!(stats.declared_lost, self.lost.len() as u64);
        assert!(stats.spurious <= stats.declared_lost);
        assert_eq!(stats.sent_packets, self.sent.len() as u64);
        assert_eq!(stats.received_packets, self.received.len() as u64);
        let oldest = self.open.keys().find(|number| !self.probes.contains(number));
        assert_eq!(self.recovery.oldest_unacked(), oldest);
        assert!(
            self.open.is_empty() || self.recovery.next_timeout().is_some(),
            "open packets, no deadline"
        );
        let permit = self.recovery.permit(self.now);
        assert!(permit.bytes() as u64 <= stats.cwnd.saturating_sub(stats.in_flight));
        if let Some(acks) = self.recovery.acks_available() {
            self.check_acks(&acks);
        }
    }

    fn check_acks(&self, acks: &Acks<'_>) {
        assert_eq!(Some(&acks.largest()), self.received.last());
        let mut below = None;
        for (count, range) in acks.ranges().enumerate() {
            assert!(count < 64 && range.first <= range.last);
            assert!(
                below.is_none_or(|below| range.last + 1 < below),
                "ranges descend, with gaps"
            );
            assert!(
                (range.first..=range.last).all(|number| self.received.contains(&number)),
                "an ACK for what never came"
            );
            below = Some(range.first);
        }
        assert!(below.is_some());
    }
}
