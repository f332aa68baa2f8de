//! Datagrams between real sockets, and speed.

mod common;

use std::time::Duration;

use common::{PATIENCE, pair, pair_with, pattern};
use transport_api::{Class, DatagramOptions, DatagramPolicy, SendDatagramError, TransportOptions, Wait};

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
