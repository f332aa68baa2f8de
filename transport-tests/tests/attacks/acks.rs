//! Acknowledgements that lie.

use std::time::Duration;

use transport_core::wire::frame::{AckFrequency, Frame};
use transport_core::{Direction, EcnState, StreamId};
use transport_tests::misbehave::Raw;
use transport_tests::oracle::memory::{Counting, cpu_ns};
use transport_tests::pair::{Pair, Way};

use crate::{ended, forget_what_is_sent, pair};

const ROUND: Duration = Duration::from_millis(40);
const STEP: Duration = Duration::from_millis(5);

/// A receiver 40 ms away that downloads all it can, and what it knows.
struct Download {
    pair: Pair,
    raw: Raw,
    id: StreamId,
    /// When the packet with each number was sent.
    sent: Vec<(Duration, u64)>,
}

impl Download {
    fn begin(seed: u64) -> Self {
        let (mut pair, raw) = pair(seed);
        let id = pair.server.connection().open(Direction::Uni).unwrap();
        Self {
            pair,
            raw,
            id,
            sent: Vec::new(),
        }
    }

    /// A step of time: the relay sends, and the numbers of what it sent are noted.
    fn step(&mut self) {
        let _ = self.pair.server.connection().write(self.id, &vec![7; 1 << 20]);
        self.pair.run_for(STEP);
        let before = self.raw.heard.len();
        self.raw.hear(&self.pair);
        let now = self.pair.elapsed();
        self.sent
            .extend(self.raw.heard[before..].iter().map(|number| (now, *number)));
    }

    /// Acknowledges what has arrived, with the holes a receiver sees; an optimist adds what must be under way.
    fn acknowledge(&mut self, optimistic: bool) {
        let now = self.pair.elapsed();
        let arrived = self.sent.partition_point(|(at, _)| *at + ROUND <= now);
        let mut ranges: Vec<std::ops::RangeInclusive<u64>> = Vec::new();
        let first = arrived.saturating_sub(2000);
        for (_, number) in self.sent[first..arrived].iter().rev() {
            match ranges.last_mut() {
                Some(range) if *range.start() == number + 1 => *range = *number..=*range.end(),
                _ => ranges.push(*number..=*number),
            }
        }
        if let Some(last) = self.sent.last().filter(|_| optimistic) {
            match ranges.first_mut() {
                Some(range) => *range = *range.start()..=last.1,
                None => ranges.push(self.sent[0].1..=last.1),
            }
        }
        ranges.truncate(60);
        if !ranges.is_empty() {
            let ack = Raw::ack_ranges(0, &ranges);
            self.raw.say_bytes(&mut self.pair, &ack);
        }
    }

    fn bytes_sent(&mut self) -> u64 {
        self.pair.server.connection().stats().sent_bytes
    }
}

/// CVE-2025-4820: a receiver acknowledges what it has not got yet, to be sent more. The numbers that are skipped give it
/// away within four round trips, and until then it was sent at most twice what an honest receiver is.
#[test]
fn optimistic_acknowledgements_are_found_out_within_four_round_trips() {
    // From the start, and after an honest beginning, when windows are large and holes are far apart.
    for (seed, honest_rounds) in (0..12).map(|seed| (seed, [0, 4, 8][seed as usize % 3])) {
        let (mut honest, mut liar) = (Download::begin(seed), Download::begin(seed));
        let steps = |rounds: u32| rounds * (ROUND.as_millis() / STEP.as_millis()) as u32;
        for _ in 0..steps(honest_rounds) {
            for download in [&mut honest, &mut liar] {
                download.step();
                download.acknowledge(false);
            }
        }
        let before = [honest.bytes_sent(), liar.bytes_sent()];
        for _ in 0..steps(4) {
            honest.step();
            honest.acknowledge(false);
            if ended(&liar.pair).is_none() {
                liar.step();
                liar.acknowledge(true);
            }
        }
        assert_eq!(
            ended(&liar.pair),
            Some(0x0a),
            "seed {seed}: four round trips, and not found out"
        );
        assert_eq!(ended(&honest.pair), None);
        let sent = [honest.bytes_sent() - before[0], liar.bytes_sent() - before[1]];
        assert!(
            sent[1] <= 2 * sent[0],
            "seed {seed}: the liar got {} bytes, an honest receiver {}",
            sent[1],
            sent[0]
        );
    }
}

/// CVE-2025-4821: acknowledging what was never sent ends the connection, and the window does not move.
#[test]
fn acknowledging_what_was_never_sent_leaves_the_window_alone() {
    for beyond in [1, 2, 100, 1 << 20, (1 << 62) - 1] {
        let mut download = Download::begin(beyond);
        download.step();
        let last = *download.raw.heard.last().unwrap();
        let before = download.pair.server.connection().stats();
        let ack = Raw::ack(last, (last + beyond).min((1 << 62) - 1));
        download.raw.say_bytes(&mut download.pair, &ack);
        assert_eq!(ended(&download.pair), Some(0x0a), "{beyond} beyond");
        let after = download.pair.server.connection().stats();
        assert_eq!(
            (after.cwnd, after.ssthresh, after.srtt),
            (before.cwnd, before.ssthresh, before.srtt)
        );
    }
}

/// ACK-delay lying (RFC 9002 §5.3): whatever delay a receiver claims, the estimate stays between the shortest round trip and
/// the real one, since no more than the promised 25 ms is believed.
#[test]
fn a_lie_about_the_delay_moves_the_estimate_no_further_than_the_promise() {
    for claimed in [0, 1, 5_000, 25_000, 1_000_000, 1 << 40, (1 << 62) - 1] {
        let (mut pair, mut raw) = pair(20);
        let mut ping = 0;
        for _ in 0..60 {
            // Each answer comes 40 ms after what it acknowledges.
            let now = pair.now(Way::Down);
            ping += 1;
            let message = vec![ping as u8; 20];
            pair.server
                .connection()
                .send_datagram(now, message, transport_core::DatagramOptions::default())
                .unwrap();
            pair.settle();
            raw.hear(&pair);
            pair.run_for(ROUND);
            let ack = raw.honest_ack(claimed).unwrap();
            raw.say_bytes(&mut pair, &ack);
        }
        assert_eq!(ended(&pair), None, "{claimed}");
        let stats = pair.server.connection().stats();
        assert!(
            stats.srtt >= ROUND.saturating_sub(Duration::from_millis(26)).max(stats.min_rtt)
                && stats.srtt <= ROUND + Duration::from_millis(5),
            "{claimed} µs claimed: smoothed {:?}, least {:?}",
            stats.srtt,
            stats.min_rtt
        );
        assert!(stats.rttvar <= ROUND, "{:?}", stats.rttvar);
    }
}

/// ECN lying: counts of marks that cannot be true end marking on the path, and neither the window nor the connection.
#[test]
fn counts_of_marks_that_cannot_be_true_are_not_believed() {
    for lie in [[1, 1, 1], [0, 0, 63], [63, 0, 0], [0, 63, 0]] {
        let (mut pair, mut raw) = pair(30);
        raw.hear(&pair);
        let mut ack = raw.honest_ack(0).unwrap();
        ack[0] = 0x3f;
        ack.extend(lie);
        let before = pair.server.connection().stats().cwnd;
        raw.say_bytes(&mut pair, &ack);
        assert_eq!(ended(&pair), None, "{lie:?}");
        let after = pair.server.connection().stats();
        assert_eq!(after.ecn, EcnState::Failed, "{lie:?}");
        assert!(after.cwnd >= before, "{lie:?}");
    }
}

/// A peer asks for no ACKs at all, and for one of each packet; it gets one within 25 ms, and one a packet.
#[test]
fn requests_for_another_rhythm_neither_silence_nor_flood() {
    let (mut pair, mut raw) = pair(31);
    let ask = |sequence, threshold, delay_us, reordering| {
        Frame::AckFrequency(AckFrequency {
            sequence,
            threshold,
            delay_us,
            reordering,
        })
    };
    raw.say(&mut pair, &[ask(0, (1 << 62) - 1, (1 << 24) - 1, (1 << 62) - 1)]);
    pair.run_for(Duration::from_millis(30));
    let before = pair.server.connection().stats().sent_packets;
    raw.say(&mut pair, &[Frame::Ping]);
    pair.run_for(Duration::from_millis(26));
    assert!(pair.server.connection().stats().sent_packets > before, "silenced");
    // An older request comes late, and changes nothing; a newer one does.
    raw.say(&mut pair, &[ask(0, 0, 1000, 1), ask(1, 0, 1000, 1)]);
    pair.run_for(Duration::from_millis(30));
    let before = pair.server.connection().stats().sent_packets;
    for _ in 0..100 {
        raw.say(
            &mut pair,
            &[Frame::Ping, Frame::ImmediateAck, Frame::ImmediateAck],
        );
    }
    let sent = pair.server.connection().stats().sent_packets - before;
    assert!((100..=110).contains(&sent), "{sent} packets for a hundred");
    assert_eq!(ended(&pair), None);
    // A delay we said we cannot keep.
    raw.say(&mut pair, &[ask(2, 1, 999, 1)]);
    assert_eq!(ended(&pair), Some(0x0a));
}

/// ACK withholding: a peer that acknowledges nothing makes the relay acknowledge everything. None of those packets can be
/// forgotten before the one in front of them, so each must cost next to nothing; it was a hundred and sixty bytes once.
#[test]
fn a_peer_that_acknowledges_nothing_costs_four_bytes_a_packet() {
    let (mut pair, mut raw) = pair(50);
    forget_what_is_sent(&mut pair, &mut raw);
    let held = Counting::held();
    for _ in 0..300_000 {
        raw.say(&mut pair, &[Frame::Ping]);
    }
    let sent = pair.server.connection().stats().sent_packets;
    assert!(sent > 100_000, "{sent} acknowledgements");
    let grown = Counting::held() - held;
    assert!(grown < 1 << 20, "{grown} bytes for {sent} acknowledgements");
    assert_eq!(ended(&pair), None);
}

/// Acknowledgements of many ranges, the same again and again: each costs its own length, and none leaves anything behind.
#[test]
fn a_flood_of_acknowledgements_costs_its_length_and_holds_nothing() {
    let mut download = Download::begin(40);
    for _ in 0..100 {
        download.step();
        download.acknowledge(false);
    }
    let Download {
        mut pair, mut raw, ..
    } = download;
    raw.hear(&pair);
    forget_what_is_sent(&mut pair, &mut raw);
    let numbers = raw.heard.clone();
    let ranges: Vec<_> = numbers
        .iter()
        .rev()
        .filter(|number| **number % 2 == 0)
        .map(|number| *number..=*number)
        .take(200)
        .collect();
    assert!(ranges.len() > 150);
    let flood = Raw::ack_ranges(0, &ranges);
    // What it settles makes room for more, once.
    raw.say_bytes(&mut pair, &flood);
    let mut halves = Vec::new();
    for _ in 0..2 {
        let (held, cpu) = (Counting::held(), cpu_ns());
        for _ in 0..5000 {
            raw.say_bytes(&mut pair, &flood);
        }
        halves.push(cpu_ns() - cpu);
        let grown = Counting::held() - held;
        assert!(grown < 256 << 10, "{grown} bytes more");
    }
    assert_eq!(ended(&pair), None);
    assert!(halves[1] < 3 * halves[0], "{halves:?} ns for equal work");
}
