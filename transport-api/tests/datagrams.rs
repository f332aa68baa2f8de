//! Datagrams between real sockets, and speed.

mod common;

use std::time::Duration;

use common::{PATIENCE, pair, pair_with, pattern};
use transport_api::{
    Class, DatagramDrop, DatagramOptions, DatagramOutcome, DatagramPolicy, DatagramReceipt,
    SendDatagramError, TransportOptions, Wait,
};

#[test]
fn there_and_back() {
    let pair = pair();
    let max = pair.at_client.max_datagram_size();
    assert!(max >= 1000, "{max}");
    for len in [0, 1, 500, 1000] {
        pair.at_client.send_datagram(pattern(len)).unwrap();
        let data = pair
            .at_server
            .read_datagram()
            .wait_timeout(PATIENCE)
            .unwrap()
            .unwrap();
        assert_eq!(data, pattern(len));
        pair.at_server.send_datagram(data).unwrap();
        assert_eq!(
            pair.at_client
                .read_datagram()
                .wait_timeout(PATIENCE)
                .unwrap()
                .unwrap(),
            pattern(len)
        );
    }
    let error = pair.at_client.send_datagram(vec![0; 70_000]).unwrap_err();
    assert!(
        matches!(error, SendDatagramError::TooLarge { max } if max < 70_000),
        "{error:?}"
    );
}

#[test]
fn waiting_senders_lose_nothing_here() {
    let transport = TransportOptions {
        datagram_policy: DatagramPolicy::Wait,
        ..TransportOptions::default()
    };
    let pair = pair_with(transport.clone(), transport);
    let sender = pair.at_client.clone();
    let options = DatagramOptions {
        class: Class::Bulk,
        deadline: None,
        early: false,
        notify: false,
        flow: None,
    };
    let writer = std::thread::spawn(move || {
        for index in 0..3000_u32 {
            let mut data = vec![0; 1000];
            data[..4].copy_from_slice(&index.to_be_bytes());
            sender
                .send_datagram_wait(data, options)
                .wait_timeout(PATIENCE)
                .unwrap()
                .unwrap();
        }
        sender.datagram_drops()
    });
    let mut got = 0;
    let mut last = None;
    while let Some(data) = pair
        .at_server
        .read_datagram()
        .wait_timeout(Duration::from_secs(2))
    {
        let data = data.unwrap();
        let index = u32::from_be_bytes(data[..4].try_into().unwrap());
        assert!(
            last < Some(index) || last.is_none(),
            "in order on a loopback: {last:?} then {index}"
        );
        last = Some(index);
        got += 1;
        if index == 2999 {
            break;
        }
    }
    assert_eq!(writer.join().unwrap().sent, 0);
    // Loopback drops only when a socket buffer overflows.
    assert!(got >= 2700, "{got} of 3000");
}

fn outcome(receipt: DatagramReceipt) -> DatagramOutcome {
    receipt
        .wait_timeout(PATIENCE)
        .expect("an answer")
        .expect("an outcome")
}

/// Both ends with this policy and these bounds.
fn bounded(policy: DatagramPolicy, bytes: usize, age: Duration) -> common::Pair {
    let mut transport = TransportOptions {
        datagram_policy: policy,
        ..TransportOptions::default()
    };
    transport.limits.datagram_queue_bytes = bytes;
    transport.limits.datagram_max_age = age;
    pair_with(transport.clone(), transport)
}

const POLICIES: [DatagramPolicy; 3] = [
    DatagramPolicy::DropOldest,
    DatagramPolicy::Refuse,
    DatagramPolicy::Wait,
];

#[test]
fn a_receipt_says_that_it_arrived() {
    let pair = pair();
    let options = DatagramOptions::default();
    let receipt = pair
        .at_client
        .send_datagram_tracked(vec![1; 100], options)
        .unwrap();
    drop(
        pair.at_client
            .send_datagram_tracked(vec![2; 100], options)
            .unwrap(),
    );
    let waited = pair.at_client.send_datagram_wait(vec![3; 100], options).tracked();
    let waited = waited.wait_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(outcome(receipt), DatagramOutcome::Acked);
    assert_eq!(outcome(waited), DatagramOutcome::Acked);
    let late = DatagramOptions {
        deadline: Some(transport_api::now().instant),
        ..options
    };
    let late = pair.at_client.send_datagram_tracked(vec![4], late).unwrap();
    assert_eq!(outcome(late), DatagramOutcome::Expired);
}

#[test]
fn the_age_bound_holds_under_every_policy() {
    for policy in POLICIES {
        let pair = bounded(policy, 64 * 1024, Duration::ZERO);
        let sent = pair
            .at_client
            .send_datagram_tracked(vec![1; 100], DatagramOptions::default());
        assert_eq!(outcome(sent.unwrap()), DatagramOutcome::Expired, "{policy:?}");
        assert_eq!(pair.at_client.stats().datagrams_expired, 1);
    }
}

#[test]
fn the_byte_bound_holds_under_every_policy_and_every_receipt_is_answered() {
    const BOUND: usize = 8 * 1024;
    for policy in POLICIES {
        let pair = bounded(policy, BOUND, Duration::from_secs(5));
        let (mut receipts, mut refused) = (Vec::new(), 0);
        for _ in 0..2000 {
            let options = DatagramOptions::default();
            let sent = match policy {
                DatagramPolicy::Wait => {
                    let waiting = pair
                        .at_client
                        .send_datagram_wait(vec![1; 1000], options)
                        .tracked();
                    waiting.wait_timeout(PATIENCE).expect("room in the end")
                }
                _ => pair.at_client.send_datagram_tracked(vec![1; 1000], options),
            };
            match sent {
                Ok(receipt) => receipts.push(receipt),
                Err(SendDatagramError::Full) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        // The scheduler's queue and the handle's, each within the bound.
        let queue = pair.at_client.stats().datagram_queue;
        assert!(queue.bytes <= 2 * BOUND, "{queue:?}");
        let outcomes: Vec<_> = receipts.into_iter().map(outcome).collect();
        let dropped = DatagramOutcome::Dropped(DatagramDrop::QueueFull);
        let dropped = outcomes.iter().filter(|outcome| **outcome == dropped).count();
        match policy {
            DatagramPolicy::DropOldest => assert!(dropped > 0 && refused == 0, "{dropped} {refused}"),
            DatagramPolicy::Refuse => assert!(dropped == 0 && refused > 0, "{dropped} {refused}"),
            DatagramPolicy::Wait => assert!(dropped == 0 && refused == 0, "{dropped} {refused}"),
        }
    }
}

/// Outcomes of so many datagrams of ten flows, each with a receipt; those refused are not among them.
fn outcomes_in_flows(pair: &common::Pair, policy: DatagramPolicy, count: u32) -> Vec<DatagramOutcome> {
    let mut receipts = Vec::new();
    for index in 0..count {
        let options = DatagramOptions {
            class: Class::Bulk,
            flow: Some(index % 10),
            ..DatagramOptions::default()
        };
        let data = vec![1; 1000];
        let sent = if policy == DatagramPolicy::Wait {
            let waiting = pair.at_client.send_datagram_wait(data, options).tracked();
            waiting.wait_timeout(PATIENCE).expect("room in the end")
        } else {
            pair.at_client.send_datagram_tracked(data, options)
        };
        match sent {
            Ok(receipt) => receipts.push(receipt),
            Err(SendDatagramError::Full) if policy == DatagramPolicy::Refuse => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    receipts.into_iter().map(outcome).collect()
}

#[test]
fn a_burst_with_flows_finds_room_beside_a_small_queue() {
    let full = DatagramOutcome::Dropped(DatagramDrop::QueueFull);
    // 800 packets, a dozen super-packets of a tunnel device, wait in the bound of flows and not in that of the others.
    let pair = bounded(DatagramPolicy::DropOldest, 4096, Duration::from_secs(5));
    let outcomes = outcomes_in_flows(&pair, DatagramPolicy::DropOldest, 800);
    assert_eq!(outcomes.len(), 800);
    assert!(!outcomes.contains(&full), "{outcomes:?}");
    assert_eq!(pair.at_client.datagram_drops().sent, 0);
    let stats = pair.at_client.stats();
    assert_eq!(stats.datagrams_sent + stats.datagrams_dropped_by_delay, 800);
}

#[test]
fn with_flows_the_policies_look_at_the_bound_of_flows() {
    let full = DatagramOutcome::Dropped(DatagramDrop::QueueFull);
    for policy in POLICIES {
        let mut transport = TransportOptions {
            datagram_policy: policy,
            ..TransportOptions::default()
        };
        transport.limits.flow_queue_bytes = 8 * 1024;
        let pair = pair_with(transport.clone(), transport);
        let outcomes = outcomes_in_flows(&pair, policy, 2000);
        let dropped = outcomes.iter().filter(|outcome| **outcome == full).count();
        match policy {
            DatagramPolicy::DropOldest => assert!(dropped > 0 && outcomes.len() == 2000, "{dropped}"),
            DatagramPolicy::Refuse => assert!(dropped == 0 && outcomes.len() < 2000, "{dropped}"),
            DatagramPolicy::Wait => assert!(dropped == 0 && outcomes.len() == 2000, "{dropped}"),
        }
    }
}

#[test]
fn the_end_of_the_connection_answers_receipts_and_watches() {
    let pair = pair();
    let size = pair.at_client.max_datagram_size();
    let watch = pair.at_client.max_datagram_size_changed(0);
    assert_eq!(
        watch.wait_timeout(PATIENCE).unwrap(),
        Ok(pair.at_client.max_datagram_size())
    );
    // The search finds that a loopback carries more than the base.
    if size < 1300 {
        let grown = pair.at_client.max_datagram_size_changed(size);
        assert!(grown.wait_timeout(PATIENCE).unwrap().unwrap() > size);
    }
    let known = pair.at_client.max_datagram_size();
    let watch = pair.at_client.max_datagram_size_changed(known);
    pair.at_client.close(7, b"");
    let receipt = pair
        .at_client
        .send_datagram_tracked(vec![1; 100], DatagramOptions::default());
    if let Ok(receipt) = receipt {
        // Closed before the driver took it, or acknowledged just before.
        let _ = receipt.wait_timeout(PATIENCE).expect("an answer");
    }
    assert!(watch.wait_timeout(PATIENCE).unwrap().is_err());
}

#[test]
fn an_unread_queue_keeps_the_newest() {
    let pair = pair();
    for index in 0..6000_u32 {
        let mut data = vec![0; 64];
        data[..4].copy_from_slice(&index.to_be_bytes());
        let options = DatagramOptions {
            class: Class::Bulk,
            deadline: None,
            early: false,
            notify: false,
            flow: None,
        };
        pair.at_client
            .send_datagram_wait(data, options)
            .wait_timeout(PATIENCE)
            .unwrap()
            .unwrap();
        if index % 500 == 499 {
            // A moment for the other thread, or the test would measure the sender's queue.
            assert_eq!(
                pair.at_client.closed().wait_timeout(Duration::from_millis(30)),
                None
            );
        }
    }
    let first = pair
        .at_server
        .read_datagram()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap();
    let first = u32::from_be_bytes(first[..4].try_into().unwrap());
    let dropped = pair.at_server.datagram_drops().received;
    assert!(
        first >= 1000 && dropped >= 1000,
        "first {first}, dropped {dropped}"
    );
}

#[test]
fn bulk_is_not_slow() {
    // A smoke test on any machine and without optimisation; the benchmark measures.
    const TOTAL: usize = 8 << 20;
    let pair = pair();
    let mut send = pair.at_client.open_uni().wait().unwrap();
    let begin = transport_api::now().instant;
    let writer = std::thread::spawn(move || {
        let piece = pattern(64 * 1024);
        for _ in 0..TOTAL / piece.len() {
            send.write_all(&piece).wait_timeout(PATIENCE).unwrap().unwrap();
        }
    });
    let mut recv = pair
        .at_server
        .accept_uni()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap();
    let mut buffer = vec![0; 1 << 18];
    let mut total = 0;
    while let Some(count) = recv.read(&mut buffer).wait_timeout(PATIENCE).unwrap().unwrap() {
        total += count;
    }
    writer.join().unwrap();
    assert_eq!(total, TOTAL);
    let took = transport_api::now().instant - begin;
    assert!(took < Duration::from_secs(8), "8 MiB took {took:?}");
}
