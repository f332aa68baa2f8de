use std::collections::BTreeMap;

use super::*;
use crate::number::NumberSource;
use crate::start;

const KEEP: Duration = Duration::from_millis(100);

fn packet(number: PacketNumber, eliciting: bool) -> Sent<u64> {
    Sent {
        number,
        size: 100,
        eliciting,
        in_flight: eliciting,
        kind: SentKind::Normal,
        ect: false,
        content: number.get(),
    }
}

/// A log of `count` eliciting packets, their numbers, and the first hole after them.
fn filled(count: usize) -> (SentLog<u64>, Vec<u64>, NumberSource) {
    let mut source = NumberSource::new(1, 10);
    let mut log = SentLog::new(source.upcoming());
    let mut numbers = Vec::new();
    for _ in 0..count {
        let number = source.take(|| (10, 10));
        numbers.push(number.get());
        log.push(start(), packet(number, true), Stamp::default());
    }
    (log, numbers, source)
}

fn loss(at: Instant) -> Loss {
    Loss {
        at,
        event: None,
        by_time: false,
    }
}

#[test]
fn content_comes_back_once() {
    let (mut log, numbers, _) = filled(3);
    assert_eq!(
        log.acked(numbers[1]).and_then(|entry| entry.content),
        Some(numbers[1])
    );
    assert_eq!(log.next_tracked(numbers[1], numbers[1]), None);
    assert_eq!(log.declare_lost(numbers[1], loss(start())), None);
    assert_eq!(log.declare_lost(numbers[0], loss(start())), Some(numbers[0]));
    assert_eq!(log.declare_lost(numbers[0], loss(start())), None);
    let late = log.acked(numbers[0]).unwrap();
    assert!(matches!(late.state, State::Lost(_)) && late.content.is_none() && late.flying() == 0);
    assert_eq!((log.oldest(), log.open_eliciting()), (Some(&numbers[2]), 1));
}

#[test]
fn holes_and_the_future_are_told_apart() {
    let (log, numbers, _) = filled(40);
    let hole = numbers
        .windows(2)
        .find(|w| w[1] == w[0] + 2)
        .map(|w| w[0] + 1)
        .unwrap();
    let verdict = |first, last| log.validate(&[AckRange { first, last }]);
    assert_eq!(verdict(numbers[0], numbers[1]), Ok(()));
    assert_eq!(verdict(numbers[0], hole - 1), Ok(()));
    assert_eq!(verdict(hole, hole), Err(AckViolation::Skipped));
    assert_eq!(verdict(numbers[0], numbers[39]), Err(AckViolation::Skipped));
    assert_eq!(verdict(numbers[39], numbers[39] + 1), Err(AckViolation::Unsent));
    assert_eq!(verdict(numbers[0] - 1, numbers[0]), Err(AckViolation::Unsent));
}

#[test]
fn a_hole_is_remembered_after_it_has_left_the_ring() {
    let (mut log, numbers, _) = filled(40);
    for &number in &numbers {
        log.acked(number);
    }
    log.retire(start(), KEEP);
    assert!(log.entries.is_empty());
    let all = AckRange {
        first: numbers[0],
        last: numbers[39],
    };
    assert_eq!(log.validate(&[all]), Err(AckViolation::Skipped));
}

#[test]
fn ack_only_packets_leave_no_trace() {
    let mut source = NumberSource::new(1, 10);
    let mut log = SentLog::new(source.upcoming());
    for _ in 0..1000 {
        log.push(start(), packet(source.take(|| (10, 10)), false), Stamp::default());
    }
    assert!(log.entries.is_empty() && log.oldest().is_none());
    assert_eq!(
        log.validate(&[AckRange {
            first: log.end() - 1,
            last: log.end() - 1
        }]),
        Ok(())
    );
}

#[test]
fn acks_behind_a_packet_that_nobody_acknowledges_cost_four_bytes_each() {
    let (mut log, numbers, mut source) = filled(1);
    for _ in 0..MAX_SPAN {
        log.push(start(), packet(source.take(|| (10, 10)), false), Stamp::default());
    }
    assert!(log.is_full() && log.entries.len() == 1);
    assert!(log.memory() < 12 * MAX_SPAN, "{} bytes", log.memory());
    log.acked(numbers[0]);
    log.retire(start(), KEEP);
    assert!(log.numbers.is_empty() && log.entries.is_empty());
}

#[test]
fn lost_packets_stay_for_a_while() {
    let (mut log, numbers, _) = filled(2);
    let now = start();
    log.declare_lost(numbers[0], loss(now));
    log.retire(now + KEEP / 2, KEEP);
    assert_eq!(log.next_tracked(0, numbers[0]), Some(numbers[0]));
    log.retire(now + KEEP, KEEP);
    assert_eq!(log.next_tracked(0, numbers[0]), None);
}

#[test]
fn an_mtu_probe_is_not_content_to_repeat() {
    let (mut log, numbers, mut source) = filled(1);
    log.push(
        start(),
        Sent {
            kind: SentKind::MtuProbe,
            ..packet(source.take(|| (10, 10)), true)
        },
        Stamp::default(),
    );
    log.acked(numbers[0]);
    assert_eq!((log.oldest(), log.open_eliciting()), (None, 1));
}

#[test]
fn a_full_log_says_so_and_forgets_losses_first() {
    let (mut log, numbers, _) = filled(MAX_SPAN);
    assert!(log.is_full());
    let now = start();
    for &number in &numbers[..MAX_SPAN / 2 + 10_000] {
        log.declare_lost(number, loss(now));
    }
    log.retire(now, KEEP);
    assert!(!log.is_full() && log.entries.len() < MAX_SPAN / 2);
    assert_eq!(log.next_open(0, log.end()), Some(numbers[MAX_SPAN / 2 + 10_000]));
}

/// Random sends, acknowledgements, losses and retirements against a map.
#[test]
fn log_against_a_map() {
    #[derive(PartialEq, Clone, Copy, Debug)]
    enum Model {
        Open,
        Lost(Instant),
        Settled,
    }
    arbtest::arbtest(|u| {
        let mut source = NumberSource::new(u.arbitrary()?, 10);
        let mut log = SentLog::new(source.upcoming());
        let mut model: BTreeMap<u64, Model> = BTreeMap::new();
        let mut now = start();
        for _ in 0..u.int_in_range(1..=60)? {
            now += Duration::from_millis(u.int_in_range(0..=40)?);
            let pick = |u: &mut arbitrary::Unstructured<'_>| -> arbitrary::Result<u64> {
                let (low, high) = (model.keys().next().copied().unwrap_or(0), log.end());
                u.int_in_range(low..=high)
            };
            match u.int_in_range(0..=4)? {
                0 | 1 => {
                    for _ in 0..u.int_in_range(1..=40)? {
                        let (number, eliciting) = (source.take(|| (10, 10)), u.ratio(9, 10)?);
                        log.push(now, packet(number, eliciting), Stamp::default());
                        model.insert(number.get(), if eliciting { Model::Open } else { Model::Settled });
                    }
                }
                2 => {
                    let (a, b) = (pick(u)?, pick(u)?);
                    let (mut from, upto) = (a.min(b), a.max(b));
                    while let Some(number) = log.next_tracked(from, upto) {
                        let entry = log.acked(number).unwrap();
                        let before = model.insert(number, Model::Settled).unwrap();
                        assert_ne!(before, Model::Settled);
                        assert_eq!(entry.content.is_some(), before == Model::Open);
                        from = number + 1;
                    }
                    let left: Vec<_> = model
                        .range(a.min(b)..=upto)
                        .filter(|(_, m)| **m == Model::Open)
                        .collect();
                    assert!(left.is_empty(), "{left:?}");
                }
                3 => {
                    let below = pick(u)?;
                    while let Some(number) = log.next_open(0, below) {
                        assert_eq!(model.insert(number, Model::Lost(now)), Some(Model::Open));
                        assert_eq!(log.declare_lost(number, loss(now)), Some(number));
                    }
                }
                _ => log.retire(now, KEEP),
            }
            let open: Vec<u64> = model
                .iter()
                .filter(|(_, m)| **m == Model::Open)
                .map(|(n, _)| *n)
                .collect();
            assert_eq!(log.open_eliciting(), open.len());
            assert_eq!(log.oldest(), open.first());
            for (&number, state) in &model {
                match (state, log.entry(number)) {
                    (Model::Open, entry) => assert_eq!(entry.unwrap().state, State::Open),
                    (Model::Lost(at), Some(entry)) => {
                        assert!(matches!(entry.state, State::Lost(l) if l.at == *at));
                    }
                    (Model::Lost(at), None) => {
                        assert!(now.duration_since(*at) >= KEEP, "forgotten too early");
                    }
                    (Model::Settled, entry) => {
                        assert!(entry.is_none_or(|entry| entry.state == State::Acked));
                    }
                }
            }
        }
        Ok(())
    });
}
