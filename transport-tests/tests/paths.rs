//! The way between both ends: it moves, narrows, falls silent, and ends.

use std::time::Duration;

use transport_core::{By, CloseReason, Event, TransportConfig};
use transport_tests::pair::{
    Options, Pair, Passing, Transfer, Way, client_address, drive_all, faults, stranger,
};

const LIMIT: Duration = Duration::from_mins(1);

/// A way through which larger datagrams than `most` bytes of UDP payload do not come.
fn narrow(most: usize) -> impl FnMut(&mut Passing) {
    move |passing| {
        if passing.bytes.len() > most {
            passing.lose();
        }
    }
}

fn mtus(pair: &mut Pair) -> (u16, u16) {
    (
        pair.client.connection().stats().mtu,
        pair.server.connection().stats().mtu,
    )
}

#[test]
fn the_client_moves_in_the_midst_of_a_transfer() {
    for (seed, way) in [(1, Way::Up), (2, Way::Down)] {
        for new in [
            ([10, 0, 0, 2], 50_001),
            ([10, 0, 9, 9], 50_000),
            ([192, 168, 7, 7], 1),
        ] {
            let mut pair = Pair::connected(Options::new(seed));
            let mut transfer = Transfer::open(&mut pair, way, 2_000_000);
            pair.run_until(LIMIT, |pair| {
                transfer.drive(pair);
                transfer.read > 500_000
            });
            pair.address = new.into();
            // In the direction that only receives, the client's next packet is what tells.
            assert!(
                pair.run_until(LIMIT, |pair| transfer.drive(pair)),
                "{way:?} to {new:?}"
            );
            pair.run_for(Duration::from_secs(1));
            assert_eq!(pair.server.connection().remote(), new.into());
            assert_eq!(pair.server.connection().stats().path_changes, 1);
            let told = pair
                .server
                .events
                .iter()
                .filter(|event| matches!(event, Event::PathChanged { .. }))
                .count();
            assert_eq!(told, 1);
        }
    }
}

#[test]
fn the_client_moves_again_and_again_and_back() {
    let mut pair = Pair::connected(Options::new(3));
    pair.recording = false;
    let mut both = [
        Transfer::open(&mut pair, Way::Up, 3_000_000),
        Transfer::open(&mut pair, Way::Down, 3_000_000),
    ];
    for round in 0..8u16 {
        let port = 50_000 + (round + 1) % 3;
        pair.run_until(Duration::from_millis(300), |pair| drive_all(&mut both, pair));
        pair.address = ([10, 0, 0, 2 + (round / 4) as u8], port).into();
    }
    assert!(pair.exchange(&mut both, LIMIT));
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server.connection().remote(), pair.address);
}

/// Loss halves the window while more is under way; then the client moves. It answered no challenge before what was under way was
/// acknowledged, and that never happened, for the acknowledgements went to where it had been.
#[test]
fn a_client_that_moves_with_more_under_way_than_its_window_answers_the_challenge() {
    for seed in 0..8 {
        // Who only receives, and says nothing from the new address, is not found there.
        let mut pair = Pair::connected(Options::new(seed).with(|transport| {
            transport.keep_alive = Some(Duration::from_secs(1));
        }));
        pair.recording = false;
        pair.hook(faults(seed, 0.05, 0.3, 0.1));
        let mut both = [
            Transfer::open(&mut pair, Way::Up, 600_000),
            Transfer::open(&mut pair, Way::Down, 600_000),
        ];
        for port in 0..8 {
            pair.run_until(Duration::from_millis(700), |pair| drive_all(&mut both, pair));
            pair.address = stranger(2000 + port);
        }
        assert!(pair.exchange(&mut both, LIMIT), "seed {seed}");
    }
}

/// Before a new address has proved itself it gets at most three times what came from it.
#[test]
fn a_new_address_without_proof_gets_little() {
    let mut pair = Pair::connected(Options::new(4));
    let mut transfer = Transfer::open(&mut pair, Way::Down, 2_000_000);
    pair.run_until(LIMIT, |pair| {
        transfer.drive(pair);
        transfer.read > 200_000
    });
    pair.record.clear();
    pair.address = ([10, 7, 7, 7], 777).into();
    let new = pair.address;
    // What the relay says to the new place never gets there.
    pair.hook(move |passing| {
        if passing.to == new {
            passing.lose();
        }
    });
    pair.run_for(Duration::from_secs(5));
    let received: usize = pair
        .record
        .iter()
        .filter(|passing| passing.from == new)
        .map(|passing| passing.bytes.len())
        .sum();
    assert!(received > 0);
    assert!(
        pair.sent_to(new) <= 3 * received,
        "{} for {received}",
        pair.sent_to(new)
    );
    assert_eq!(pair.server.connection().remote(), client_address());
}

#[test]
fn a_clear_path_is_used_to_its_width() {
    let mut pair = Pair::connected(Options::new(5));
    assert!(pair.transfer(Way::Up, 300_000, LIMIT) && pair.transfer(Way::Down, 300_000, LIMIT));
    assert_eq!(mtus(&mut pair), (1472, 1472));
    assert_eq!(pair.client.connection().max_datagram(), 1472 - 31);
    assert!(pair.record.iter().all(|passing| passing.bytes.len() <= 1472));
}

#[test]
fn a_path_of_1260_byte_packets_is_enough() {
    let mut pair = Pair::new(Options::new(6));
    pair.hook(narrow(1232));
    assert!(pair.run_until(LIMIT, Pair::is_connected));
    assert!(pair.transfer(Way::Up, 1_000_000, LIMIT) && pair.transfer(Way::Down, 1_000_000, LIMIT));
    assert_eq!(mtus(&mut pair), (1232, 1232));
    let probes = pair
        .record
        .iter()
        .filter(|passing| passing.bytes.len() > 1232)
        .count();
    assert!((2..=60).contains(&probes), "{probes} probes");
    let (client, server) = (pair.client.connection().stats(), pair.server.connection().stats());
    assert_eq!(
        client.retransmitted_bytes + server.retransmitted_bytes,
        0,
        "only probes were lost"
    );
}

#[test]
fn every_width_is_found() {
    for width in [1240, 1280, 1300, 1372, 1400, 1420, 1440, 1452, 1460, 1471] {
        let mut pair = Pair::new(Options::new(7));
        pair.recording = false;
        pair.hook(narrow(width));
        assert!(pair.run_until(LIMIT, Pair::is_connected));
        assert!(pair.transfer(Way::Up, 400_000, LIMIT));
        pair.run_for(Duration::from_secs(5));
        let mtu = usize::from(pair.client.connection().stats().mtu);
        assert!(mtu <= width && width - mtu <= 92, "{mtu} on a path of {width}");
    }
}

#[test]
fn a_path_that_narrows_later_is_noticed() {
    let mut pair = Pair::connected(Options::new(8));
    assert!(pair.transfer(Way::Up, 300_000, LIMIT) && pair.transfer(Way::Down, 300_000, LIMIT));
    assert_eq!(mtus(&mut pair), (1472, 1472));
    pair.hook(narrow(1300));
    let mut both = [
        Transfer::open(&mut pair, Way::Up, 500_000),
        Transfer::open(&mut pair, Way::Down, 500_000),
    ];
    assert!(
        pair.exchange(&mut both, LIMIT),
        "the transfer starves in a black hole"
    );
    let (client, server) = mtus(&mut pair);
    assert!(client <= 1300 && server <= 1300, "{client}, {server}");
    let told = |event: &Event| matches!(event, Event::MtuChanged { max_datagram } if *max_datagram <= 1300);
    assert!(pair.client.events.iter().any(told));
}

#[test]
fn silence_ends_a_connection_and_keep_alive_prevents_it() {
    let idle = |transport: &mut TransportConfig| transport.idle_timeout = Duration::from_secs(5);
    let mut pair = Pair::connected(Options::new(9).with(idle));
    let heard = pair.elapsed();
    assert!(
        pair.run_until(Duration::from_secs(8), |pair| pair.client.closed().is_some()
            && pair.server.closed().is_some())
    );
    assert_eq!(
        (pair.client.closed(), pair.server.closed()),
        (Some(&CloseReason::Idle), Some(&CloseReason::Idle))
    );
    assert!(pair.since(heard) > Duration::from_secs(4));
    let stats = (pair.client.endpoint.stats(), pair.server.endpoint.stats());
    assert_eq!((stats.0.connections, stats.1.connections), (0, 0));
    for client_keeps in [true, false] {
        let mut options = Options::new(10).with(idle);
        let keeper = if client_keeps {
            &mut options.client
        } else {
            &mut options.server
        };
        keeper.keep_alive = Some(Duration::from_secs(2));
        let mut pair = Pair::connected(options);
        pair.run_for(Duration::from_mins(2));
        assert_eq!((pair.client.closed(), pair.server.closed()), (None, None));
        let packets = pair
            .record
            .iter()
            .filter(|passing| passing.at > Duration::from_secs(10))
            .count();
        assert!(
            packets <= 130,
            "{packets} packets to keep a connection for two minutes"
        );
        assert!(pair.transfer(Way::Down, 5000, LIMIT));
    }
}

fn application(code: u64, reason: &[u8], by: By) -> CloseReason {
    CloseReason::Application {
        code,
        reason: reason.to_vec(),
        by,
    }
}

#[test]
fn the_code_and_the_words_of_a_close_arrive() {
    for way in [Way::Up, Way::Down] {
        let mut pair = Pair::connected(Options::new(11));
        let now = pair.now(way);
        pair.sender(way).connection().close(now, 77, b"enough");
        pair.run_for(Duration::from_secs(5));
        assert_eq!(
            pair.sender(way).closed(),
            Some(&application(77, b"enough", By::Local))
        );
        assert_eq!(
            pair.receiver(way).closed(),
            Some(&application(77, b"enough", By::Peer))
        );
        for end in [&pair.client, &pair.server] {
            assert_eq!(end.endpoint.stats().connections, 0);
            assert_eq!(
                end.events
                    .iter()
                    .filter(|event| matches!(event, Event::Closed(_)))
                    .count(),
                1
            );
        }
        assert!(
            pair.record.len() < 60,
            "{} packets for so little",
            pair.record.len()
        );
    }
}

#[test]
fn a_close_that_is_lost_is_said_again() {
    for way in [Way::Up, Way::Down] {
        let mut pair = Pair::connected(Options::new(12));
        let mut left = 1;
        pair.hook(move |passing| {
            if passing.way == way && left > 0 {
                left -= 1;
                passing.lose();
            }
        });
        let now = pair.now(way);
        pair.sender(way).connection().close(now, 5, b"");
        pair.run_for(Duration::from_millis(50));
        assert!(pair.receiver(way).closed().is_none());
        // Whoever did not hear it goes on speaking, and is told again.
        let back = if way == Way::Up { Way::Down } else { Way::Up };
        Transfer::open(&mut pair, back, 2000).write_all(&mut pair);
        pair.run_for(Duration::from_secs(2));
        assert_eq!(
            pair.receiver(way).closed(),
            Some(&application(5, b"", By::Peer)),
            "{way:?}"
        );
    }
}

#[test]
fn a_peer_that_vanished_costs_an_idle_timeout() {
    let mut pair = Pair::connected(Options::new(13));
    pair.hook(Passing::lose);
    let mut transfer = Transfer::open(&mut pair, Way::Up, 100_000);
    transfer.drive(&mut pair);
    let from = pair.elapsed();
    assert!(pair.run_until(Duration::from_secs(90), |pair| pair.client.closed().is_some()));
    assert_eq!(pair.client.closed(), Some(&CloseReason::Idle));
    let took = pair.since(from);
    assert!(
        (Duration::from_secs(25)..Duration::from_secs(40)).contains(&took),
        "{took:?}"
    );
    let sent: usize = pair
        .record
        .iter()
        .filter(|passing| passing.at > from + Duration::from_secs(1))
        .count();
    assert!(sent < 40, "{sent} packets into the void");
}

#[test]
fn an_outage_shorter_than_the_idle_timeout_is_survived() {
    let mut pair = Pair::connected(Options::new(14));
    let mut both = [
        Transfer::open(&mut pair, Way::Up, 1_000_000),
        Transfer::open(&mut pair, Way::Down, 1_000_000),
    ];
    pair.run_until(LIMIT, |pair| {
        drive_all(&mut both, pair);
        both[0].read > 300_000
    });
    pair.hook(Passing::lose);
    pair.run_for(Duration::from_secs(12));
    pair.hook(|_| {});
    let from = pair.elapsed();
    assert!(pair.exchange(&mut both, LIMIT));
    assert!(
        pair.since(from) < Duration::from_secs(20),
        "recovered after {:?}",
        pair.since(from)
    );
    assert_eq!(mtus(&mut pair), (1472, 1472), "a blackout is not a narrow path");
}
