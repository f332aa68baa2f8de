use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::DatagramDrop;
use crate::datagram::Datagrams;

const CLASS: Class = Class::Bulk;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn of(class: Class, flow: u32) -> DatagramOptions {
    DatagramOptions {
        class,
        flow: Some(flow),
        ..DatagramOptions::default()
    }
}

/// Queues whose bound is only that of flows.
fn queues(max_bytes: usize) -> Datagrams {
    Datagrams::new(64 * 1024, ms(100), max_bytes)
}

/// What the flow sent is in the first byte.
fn push(queue: &mut Datagrams, now: Instant, flow: u32, len: usize) -> DatagramId {
    queue.push(now, vec![flow as u8; len], of(CLASS, flow))
}

/// Takes what is next; nothing may be dropped.
fn pop(queue: &mut Datagrams, now: Instant) -> Option<(u32, usize)> {
    let len = queue.peek(CLASS, now, |id, _, why| panic!("{id:?} {why:?}"))?;
    let data = queue.pop(CLASS).expect("what was found").data;
    assert_eq!(data.len(), len);
    Some((u32::from(data[0]), len))
}

#[test]
fn flows_of_any_packet_size_get_the_same_bytes() {
    let now = crate::tests::start();
    let mut queue = queues(1 << 20);
    let size = |flow: u32| 60 + 144 * flow as usize;
    let mut sent = BTreeMap::<u32, usize>::new();
    for flow in 0..10 {
        for _ in 0..40 {
            push(&mut queue, now, flow, size(flow));
        }
    }
    let mut memory = None;
    for _ in 0..10_000 {
        let (flow, len) = pop(&mut queue, now).unwrap();
        *sent.entry(flow).or_default() += len;
        push(&mut queue, now, flow, size(flow));
        assert_eq!(
            queue.memory(),
            *memory.get_or_insert(queue.memory()),
            "nothing grows"
        );
    }
    let fair = sent.values().sum::<usize>() as f64 / 10.0;
    for (flow, bytes) in sent {
        assert!(
            (bytes as f64 / fair - 1.0).abs() < 0.03,
            "{flow}: {bytes} of {fair}"
        );
    }
}

#[test]
fn empty_packets_end_their_turn_too() {
    let now = crate::tests::start();
    let mut queue = queues(1 << 20);
    for _ in 0..2000 {
        queue.push(now, vec![], of(CLASS, 1));
    }
    for _ in 0..100 {
        push(&mut queue, now, 2, 1000);
    }
    let full = (0..1000).filter(|_| {
        queue.peek(CLASS, now, |_, _, _| panic!("dropped"));
        !queue.pop(CLASS).unwrap().data.is_empty()
    });
    assert!(full.count() >= 5, "the flow of full packets starves");
}

#[test]
fn a_sparse_flow_goes_before_those_that_stand() {
    let now = crate::tests::start();
    let mut queue = queues(1 << 20);
    for flow in 0..9 {
        for _ in 0..50 {
            push(&mut queue, now, flow, 1400);
        }
    }
    for _ in 0..100 {
        pop(&mut queue, now).unwrap();
    }
    push(&mut queue, now, 100, 80);
    assert_eq!(pop(&mut queue, now), Some((100, 80)));
    // One that never pauses is no sparse flow for long: it waits for its turn.
    for _ in 0..30 {
        push(&mut queue, now, 100, 1400);
    }
    let turns: Vec<u32> = (0..30)
        .filter_map(|_| pop(&mut queue, now))
        .map(|(flow, _)| flow)
        .collect();
    let own = turns.iter().filter(|flow| **flow == 100).count();
    assert!((3..=5).contains(&own), "{turns:?}");
}

#[test]
fn a_pause_wins_no_new_start() {
    let now = crate::tests::start();
    let mut queue = queues(1 << 20);
    for _ in 0..200 {
        push(&mut queue, now, 1, 1400);
    }
    let mut own = 0;
    for _ in 0..100 {
        // Whenever its queue is empty it sends one packet more.
        push(&mut queue, now, 2, 1400);
        while let Some((flow, _)) = pop(&mut queue, now) {
            if flow == 2 {
                own += 1;
                break;
            }
        }
    }
    let others = 200 - queue.state(None).len;
    assert!(own == 100 && others >= 95, "{own} beside {others}");
}

/// Packets of 1,000 bytes come at `load` times the rate at which they leave, for two seconds. What left, what was dropped, and how
/// long the last one waited.
fn overload(load: u64) -> (u64, u64, Duration) {
    let start = crate::tests::start();
    let mut queue = queues(16 << 20);
    let (mut sent, mut dropped, mut waited) = (0, 0, Duration::ZERO);
    let mut times = VecDeque::new();
    for tick in 0..2000 {
        let now = start + ms(tick);
        for _ in 0..load {
            push(&mut queue, now, 7, 1000);
            times.push_back(now);
        }
        let found = queue.peek(CLASS, now, |_, _, why| {
            assert_eq!(why, Unsent::Dropped(DatagramDrop::Delay));
            times.pop_front();
            dropped += 1;
        });
        if found.is_some() && queue.pop(CLASS).is_some() {
            waited = now - times.pop_front().unwrap();
            sent += 1;
        }
    }
    (sent, dropped, waited)
}

#[test]
fn a_flow_that_does_not_slow_down_loses_ever_more_and_one_that_fits_nothing() {
    let (sent, dropped, waited) = overload(1);
    assert_eq!((sent, dropped, waited), (2000, 0, Duration::ZERO));
    let (sent, dropped, _) = overload(2);
    // From 110 ms on, 100/√n apart: n take 200·√n − 146 ms.
    assert!(sent == 2000 && (102..=106).contains(&dropped), "{sent} {dropped}");
}

#[test]
fn the_fattest_queue_pays_when_there_is_no_room() {
    let now = crate::tests::start();
    let mut queue = queues(100 * (1000 + packets::OVERHEAD));
    let thin: Vec<_> = (0..10).map(|_| push(&mut queue, now, 1, 1000)).collect();
    let fat: Vec<_> = (0..90).map(|_| push(&mut queue, now, 2, 1000)).collect();
    let mut gone = Vec::new();
    queue.shed_flows(|id, _, why| gone.push((id, why)));
    assert_eq!(gone, [], "it is full, not over-full");
    assert!(!queue.has_room(1000, 1, true) && queue.has_room(1000, 1, false));
    push(&mut queue, now, 3, 1000);
    queue.shed_flows(|id, _, why| gone.push((id, why)));
    // Half of it, the oldest first.
    let full = Unsent::Dropped(DatagramDrop::QueueFull);
    assert_eq!(gone, fat[..45].iter().map(|id| (*id, full)).collect::<Vec<_>>());
    assert_eq!(queue.state(None).len, 10 + 45 + 1);
    assert_eq!(queue.state(None).bytes, 56 * (1000 + packets::OVERHEAD));
    assert!(thin.iter().all(|id| gone.iter().all(|(other, _)| other != id)));
    assert!(queue.has_room(1000, 1, true));
}

#[test]
fn no_more_than_64_go_at_once_and_a_class_may_pay_for_another() {
    let now = crate::tests::start();
    let mut queue = queues(1000 * (100 + packets::OVERHEAD));
    for _ in 0..1000 {
        queue.push(now, vec![0; 100], of(Class::Background, 1));
    }
    queue.push(now, vec![0; 100], of(Class::Interactive, 1));
    let mut gone = 0;
    queue.shed_flows(|_, _, _| gone += 1);
    assert_eq!((gone, queue.waits(Class::Interactive)), (64, true));
}

#[test]
fn a_hundred_thousand_empty_datagrams_are_bounded() {
    arbtest::arbtest(|u| {
        let now = crate::tests::start();
        let mut queue = queues(1 << 20);
        let (mut dropped, mut flow) = (0, u.arbitrary::<u32>()?);
        for _ in 0..100_000 {
            flow = flow.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            queue.push(
                now,
                Vec::new(),
                of(Class::ALL[flow as usize >> 8 & 3], flow >> 16),
            );
            queue.shed_flows(|_, _, _| dropped += 1);
            assert!(queue.flows.as_ref().unwrap().load().0 <= 1 << 20);
        }
        assert_eq!(queue.state(None).len + dropped, 100_000);
        assert!(queue.memory() <= 3 << 20, "{}", queue.memory());
        Ok(())
    })
    .budget_ms(100);
}

#[test]
fn what_was_long_once_is_given_back_and_no_flow_costs_a_pointer() {
    let now = crate::tests::start();
    let mut queue = queues(1 << 20);
    assert_eq!(queue.memory(), 0);
    assert_eq!(size_of_val(&queue.flows), size_of::<usize>());
    // Every bucket is long in turn.
    for flow in 0..256 {
        for _ in 0..700 {
            push(&mut queue, now, flow, 1000);
        }
        while pop(&mut queue, now).is_some() {}
    }
    assert!(queue.memory() < 100 * 1024, "{}", queue.memory());
}

#[test]
fn a_second_is_the_most_and_a_deadline_may_be_less() {
    let now = crate::tests::start();
    let mut queue = queues(1 << 20);
    let old = push(&mut queue, now, 1, 100);
    let late = DatagramOptions {
        deadline: Some(now + ms(300)),
        ..of(CLASS, 2)
    };
    let late = queue.push(now, vec![2; 100], late);
    assert_eq!(queue.next_expiry(), Some(now + ms(300)));
    let mut gone = Vec::new();
    queue.expire(now + ms(299), |id, _| gone.push(id));
    assert_eq!(gone, []);
    queue.expire(now + ms(300), |id, _| gone.push(id));
    assert_eq!(gone, [late]);
    assert_eq!(queue.next_expiry(), Some(now + ms(1000)));
    assert_eq!(queue.state(Some(now + ms(999))).oldest_age, ms(999));
    queue.expire(now + ms(1000), |id, _| gone.push(id));
    assert_eq!(gone, [late, old]);
    assert_eq!((queue.next_expiry(), queue.state(None).bytes), (None, 0));
}

#[test]
fn behind_another_of_its_flow_a_late_datagram_is_dropped_when_its_turn_comes() {
    let now = crate::tests::start();
    let mut queue = queues(1 << 20);
    push(&mut queue, now, 1, 100);
    let late = DatagramOptions {
        deadline: Some(now + ms(3)),
        ..of(CLASS, 1)
    };
    let late = queue.push(now, vec![1; 200], late);
    queue.expire(now + ms(4), |id, _| panic!("{id:?}"));
    assert_eq!(pop(&mut queue, now + ms(4)), Some((1, 100)));
    let mut gone = Vec::new();
    let next = queue.peek(CLASS, now + ms(4), |id, _, why| gone.push((id, why)));
    assert_eq!((next, gone), (None, vec![(late, Unsent::Expired)]));
    assert!(!queue.waits(CLASS) && queue.next_expiry().is_none());
}

#[test]
fn datagrams_without_a_flow_share_the_class_with_those_that_have_one() {
    let now = crate::tests::start();
    let mut queue = queues(1 << 20);
    for _ in 0..50 {
        queue.push(
            now,
            vec![200; 1000],
            DatagramOptions {
                flow: None,
                ..of(CLASS, 0)
            },
        );
        for flow in 0..4 {
            push(&mut queue, now, flow, 500);
        }
    }
    let sent: Vec<_> = (0..60).filter_map(|_| pop(&mut queue, now)).collect();
    let plain: usize = sent
        .iter()
        .filter(|(flow, _)| *flow == 200)
        .map(|(_, len)| len)
        .sum();
    assert!((19_000..=21_000).contains(&plain), "{plain} of {}", 60 * 500);
    // While nothing but early data may go they wait.
    queue.set_early(true);
    assert!(!queue.waits(CLASS));
    queue.set_early(false);
    assert!(queue.waits(CLASS));
}

/// Whatever is pushed, peeked at, popped and expired when: every datagram leaves once, what waits is counted to the byte, no peek
/// differs from its pop, and within a flow order is kept.
#[test]
fn any_program_keeps_count_and_order() {
    const BOUND: usize = 20_000;
    arbtest::arbtest(|u| {
        let mut now = crate::tests::start();
        let mut queue = queues(BOUND);
        let mut model = BTreeMap::<(u8, u32), VecDeque<(DatagramId, usize)>>::new();
        while !u.is_empty() {
            let mut gone = Vec::new();
            let class = Class::ALL[u.int_in_range(1..=3)?];
            match u.int_in_range(0..=9)? {
                0..=3 => {
                    let (flow, len) = (u.int_in_range(0..=5)?, u.int_in_range(0..=3000)?);
                    let deadline = u.arbitrary::<Option<u8>>()?;
                    let options = DatagramOptions {
                        deadline: deadline.map(|left| now + ms(left.into())),
                        ..of(class, flow)
                    };
                    let id = queue.push(now, vec![flow as u8; len], options);
                    model.entry((class as u8, flow)).or_default().push_back((id, len));
                    queue.shed_flows(|id, _, _| gone.push(id));
                }
                4..=7 => {
                    let found = queue.peek(class, now, |id, _, _| gone.push(id));
                    assert_eq!(
                        found,
                        queue.peek(class, now, |id, _, _| panic!("{id:?}, second look"))
                    );
                    if u.arbitrary()? {
                        let taken = queue.pop(class);
                        assert_eq!(found, taken.as_ref().map(|taken| taken.data.len()));
                        gone.extend(taken.map(|taken| taken.id));
                    } else {
                        assert_eq!(found.is_some(), queue.waits(class));
                    }
                }
                _ => {
                    now += ms(u.int_in_range(0..=200)?);
                    queue.expire(now, |id, _| gone.push(id));
                    assert!(queue.next_expiry().is_none_or(|at| at > now));
                }
            }
            for id in gone {
                // The oldest of its flow, or else order is not kept.
                let flow = model
                    .values_mut()
                    .find(|flow| flow.front().is_some_and(|(first, _)| *first == id));
                flow.expect("waits, before the others of its flow").pop_front();
            }
            let waiting = model.values().flatten();
            let bytes: usize = waiting.clone().map(|(_, len)| len + packets::OVERHEAD).sum();
            let state = queue.state(None);
            assert_eq!((state.len, state.bytes), (waiting.count(), bytes));
            assert!(bytes <= BOUND);
        }
        Ok(())
    })
    .budget_ms(800);
}
