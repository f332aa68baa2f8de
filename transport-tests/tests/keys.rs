//! Key updates, by either side, both at once, again and again: nothing is lost because of them.

use std::time::Duration;

use transport_core::wire::Frame;
use transport_core::{By, CloseReason, DatagramOptions, DropReason, SuiteChoice, code};
use transport_tests::misbehave::Raw;
use transport_tests::pair::{
    Options, Pair, Passing, Transfer, Way, drive_all, faults, server_address, stranger,
};

const LIMIT: Duration = Duration::from_mins(1);

fn updates(pair: &mut Pair) -> (u64, u64) {
    (
        pair.client.connection().stats().key_updates,
        pair.server.connection().stats().key_updates,
    )
}

fn forged(pair: &Pair) -> u64 {
    [&pair.client, &pair.server]
        .iter()
        .map(|end| end.endpoint.stats().drops.get(DropReason::Forged))
        .sum()
}

#[test]
fn either_side_updates_and_the_other_follows() {
    for suite in [SuiteChoice::ChaCha20Poly1305, SuiteChoice::Aes256Gcm] {
        let mut pair = Pair::connected(
            Options {
                suite,
                ..Options::new(1)
            }
            .with(|transport| transport.aes = true),
        );
        for (round, way) in [Way::Up, Way::Down, Way::Down, Way::Up].into_iter().enumerate() {
            assert!(pair.transfer(Way::Up, 3000, LIMIT) && pair.transfer(Way::Down, 3000, LIMIT));
            pair.run_for(Duration::from_secs(2));
            assert!(pair.sender(way).connection().update_keys(), "round {round}");
            assert!(pair.transfer(Way::Up, 3000, LIMIT) && pair.transfer(Way::Down, 3000, LIMIT));
            pair.run_for(Duration::from_millis(500));
            let expected = round as u64 + 1;
            assert_eq!(updates(&mut pair), (expected, expected));
        }
        assert_eq!(forged(&pair), 0);
    }
}

#[test]
fn both_update_at_once() {
    let mut pair = Pair::connected(Options::new(2));
    for round in 1..=5 {
        assert!(pair.transfer(Way::Up, 3000, LIMIT) && pair.transfer(Way::Down, 3000, LIMIT));
        pair.run_for(Duration::from_secs(2));
        assert!(pair.client.connection().update_keys() && pair.server.connection().update_keys());
        let mut both = [
            Transfer::open(&mut pair, Way::Up, 20_000),
            Transfer::open(&mut pair, Way::Down, 20_000),
        ];
        assert!(pair.exchange(&mut both, LIMIT));
        assert_eq!(
            updates(&mut pair),
            (round, round),
            "crossing updates are one update"
        );
    }
    assert_eq!(forged(&pair), 0);
}

/// Updates whenever they are possible, while both directions are full, packets are lost and overtake each other.
#[test]
fn updates_under_loss_and_disorder_lose_nothing() {
    let mut most = 0;
    for seed in 0..6 {
        let mut pair = Pair::connected(Options::new(seed));
        pair.recording = false;
        pair.hook(faults(seed, 0.1, 0.3, 0.0));
        let mut both = [
            Transfer::open(&mut pair, Way::Up, 1_200_000),
            Transfer::open(&mut pair, Way::Down, 1_200_000),
        ];
        let mut wishes = 0;
        let over = pair.run_until(LIMIT, |pair| {
            wishes += 1;
            let ends = (pair.client.closed(), pair.server.closed());
            assert_eq!(ends, (None, None), "seed {seed} at {:?}", pair.elapsed());
            if wishes % 3 == 0 {
                pair.client.connection().update_keys();
            }
            if wishes % 5 == seed % 5 {
                pair.server.connection().update_keys();
            }
            drive_all(&mut both, pair)
        });
        assert!(over, "seed {seed}");
        assert_eq!(forged(&pair), 0, "seed {seed}: packets that did not open");
        let (client, server) = updates(&mut pair);
        assert!(client.abs_diff(server) <= 1, "seed {seed}: {client} and {server}");
        most = most.max(client);
    }
    assert!(
        most >= 5,
        "updates are possible again and again, not {most} times"
    );
}

#[test]
fn an_update_is_not_possible_before_the_peer_followed_the_last() {
    let mut pair = Pair::connected(Options::new(3));
    assert!(pair.transfer(Way::Up, 3000, LIMIT));
    assert!(pair.client.connection().update_keys());
    pair.hook(|passing| {
        if passing.way == Way::Down {
            passing.lose();
        }
    });
    let mut transfer = Transfer::open(&mut pair, Way::Up, 5000);
    transfer.drive(&mut pair);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.client.connection().stats().key_updates, 1);
    for _ in 0..20 {
        assert!(
            !pair.client.connection().update_keys(),
            "the relay has not been heard since"
        );
        pair.run_for(Duration::from_millis(100));
    }
    assert_eq!(pair.client.connection().stats().key_updates, 1);
    pair.hook(|_| {});
    assert!(pair.run_until(LIMIT, |pair| transfer.drive(pair)));
    pair.run_for(Duration::from_secs(3));
    assert!(pair.client.connection().update_keys());
    assert!(pair.transfer(Way::Up, 3000, LIMIT));
    assert_eq!(updates(&mut pair), (2, 2));
}

#[test]
fn a_peer_that_updates_too_fast_is_sent_away() {
    let mut pair = Pair::idle(Options::new(4));
    let mut raw = Raw::join(&mut pair, 4);
    raw.session.seal.update();
    raw.say(&mut pair, &[Frame::Ping]);
    assert_eq!(raw.heard_close(&pair), None, "one update is fine");
    assert!(pair.server.closed().is_none());
    raw.session.seal.update();
    raw.say(&mut pair, &[Frame::Ping]);
    assert_eq!(raw.heard_close(&pair), Some(0x0e));
    assert_eq!(
        pair.server.closed(),
        Some(&CloseReason::Transport {
            code: 0x0e,
            by: By::Local
        })
    );
}

#[test]
fn a_forged_phase_bit_changes_no_keys() {
    let mut pair = Pair::connected(Options::new(5));
    pair.hook(|passing| {
        if passing.way == Way::Up {
            passing.lose();
        }
    });
    let mut transfer = Transfer::open(&mut pair, Way::Up, 1000);
    transfer.drive(&mut pair);
    pair.settle();
    let packet = pair
        .record
        .iter()
        .rfind(|passing| passing.way == Way::Up)
        .cloned()
        .unwrap();
    for _ in 0..50 {
        let mut flipped = packet.bytes.clone();
        // The flags byte stands behind nine bytes of id; its top bit is the phase, masked or not.
        flipped[9] ^= 0x80;
        pair.inject(Way::Up, packet.from, &flipped);
    }
    assert_eq!(forged(&pair), 50);
    assert_eq!(updates(&mut pair), (0, 0));
    pair.hook(|_| {});
    assert!(pair.run_until(LIMIT, |pair| transfer.drive(pair)));
}

/// Found by fuzzing: after a change of path the relay knew no round-trip time, and took honest updates for too fast ones.
#[test]
fn a_client_that_moved_updates_its_keys_again_and_again() {
    let mut options = Options::new(11);
    options.latency = Duration::from_millis(2);
    let mut pair = Pair::connected(options);
    pair.address = stranger(3);
    pair.transfer(Way::Up, 1000, Duration::from_secs(5));
    for _ in 0..4 {
        pair.client.connection().update_keys();
        pair.transfer(Way::Up, 1000, Duration::from_secs(5));
        pair.run_for(Duration::from_millis(100));
    }
    assert_eq!(pair.server.closed(), None);
    assert!(pair.server.connection().stats().key_updates >= 2);
}

fn send(pair: &mut Pair, way: Way, data: &[u8]) {
    let now = pair.now(way);
    let connection = pair.sender(way).connection();
    connection
        .send_datagram(now, data.to_vec(), DatagramOptions::default())
        .expect("a short message");
}

fn lost(pair: &mut Pair) -> u64 {
    let client = pair.client.connection().stats().declared_lost;
    client + pair.server.connection().stats().declared_lost
}

/// Datagram messages are not sent again, so each that arrives came in the packet it was put in.
#[test]
fn a_minute_of_updates_every_second_loses_no_packet() {
    for suite in [SuiteChoice::ChaCha20Poly1305, SuiteChoice::Aes256Gcm] {
        let options = Options {
            suite,
            ..Options::new(6)
        };
        let mut pair = Pair::connected(options.with(|transport| {
            transport.aes = true;
            transport.key_update_interval = Duration::from_secs(1);
        }));
        pair.recording = false;
        for number in 0..6000u32 {
            send(&mut pair, Way::Up, &number.to_be_bytes());
            send(&mut pair, Way::Down, &number.to_be_bytes());
            pair.run_for(Duration::from_millis(10));
        }
        pair.run_for(Duration::from_secs(1));
        let expected: Vec<Vec<u8>> = (0..6000u32).map(|number| number.to_be_bytes().to_vec()).collect();
        assert_eq!(pair.server.take_datagrams(), expected);
        assert_eq!(pair.client.take_datagrams(), expected);
        assert_eq!((forged(&pair), lost(&mut pair)), (0, 0));
        let (client, server) = updates(&mut pair);
        assert!(
            client == server && (50..=76).contains(&client),
            "{client} and {server}"
        );
    }
}

#[test]
fn keys_are_replaced_after_as_many_packets_as_the_configuration_says() {
    for suite in [SuiteChoice::ChaCha20Poly1305, SuiteChoice::Aes256Gcm] {
        let options = Options {
            suite,
            ..Options::new(7)
        };
        let mut pair = Pair::connected(options.with(|transport| {
            transport.aes = true;
            transport.key_update_packets = 200;
        }));
        assert_eq!(updates(&mut pair), (0, 0));
        pair.recording = false;
        for _ in 0..1000 {
            send(&mut pair, Way::Up, b"x");
            pair.run_for(Duration::from_millis(10));
        }
        let (client, server) = updates(&mut pair);
        assert!(
            client == server && (4..=8).contains(&client),
            "{client} and {server}"
        );
        assert_eq!((forged(&pair), lost(&mut pair)), (0, 0));
    }
}

/// Of two updates the first packets of the first were lost, so that they reached the relay as two in a row; and the relay
/// forgets its round trip with each move. Honest clients were sent away for updating too fast.
#[test]
fn an_honest_client_that_loses_packets_and_moves_is_not_sent_away_for_its_updates() {
    for seed in 0..8 {
        let mut pair = Pair::connected(Options::new(seed).with(|transport| {
            transport.key_update_interval = Duration::from_millis(500);
            transport.keep_alive = Some(Duration::from_secs(1));
        }));
        pair.recording = false;
        pair.hook(faults(seed, 0.05, 0.3, 0.1));
        let mut both = [
            Transfer::open(&mut pair, Way::Up, 600_000),
            Transfer::open(&mut pair, Way::Down, 600_000),
        ];
        for port in 0..8 {
            let over = pair.run_until(Duration::from_millis(700), |pair| {
                let ends = (pair.client.closed(), pair.server.closed());
                assert_eq!(ends, (None, None), "seed {seed} at {:?}", pair.elapsed());
                drive_all(&mut both, pair)
            });
            if over {
                break;
            }
            pair.address = stranger(2000 + port);
        }
        assert!(pair.exchange(&mut both, LIMIT), "seed {seed}");
        assert_eq!(forged(&pair), 0, "seed {seed}");
        let (client, server) = updates(&mut pair);
        assert!(
            client.abs_diff(server) <= 1 && client >= 1,
            "seed {seed}: {client} and {server}"
        );
    }
}

#[test]
fn packets_of_the_old_keys_open_for_three_probe_timeouts_and_no_longer() {
    for (late, opens) in [(150, true), (5000, false)] {
        let mut pair = Pair::connected(Options::new(8));
        assert!(pair.transfer(Way::Up, 3000, LIMIT) && pair.transfer(Way::Down, 3000, LIMIT));
        pair.run_for(Duration::from_secs(2));
        let mut held = false;
        pair.hook(move |passing| {
            if passing.way == Way::Up && !std::mem::replace(&mut held, true) {
                passing.copies = vec![Duration::from_millis(late)];
            }
        });
        send(&mut pair, Way::Up, b"sealed with the old keys");
        pair.settle();
        assert!(pair.client.connection().update_keys());
        for _ in 0..10 {
            send(&mut pair, Way::Up, b"sealed with the new keys");
            pair.run_for(Duration::from_millis(10));
        }
        assert_eq!(updates(&mut pair), (1, 1));
        pair.run_for(Duration::from_secs(6));
        let arrived = pair.server.take_datagrams();
        assert_eq!(arrived.len(), if opens { 11 } else { 10 });
        assert_eq!(arrived.contains(&b"sealed with the old keys".to_vec()), opens);
        assert_eq!(forged(&pair), u64::from(!opens));
    }
}

#[test]
fn forgeries_are_summed_over_all_keys_until_the_connection_ends() {
    let mut pair = Pair::connected(Options::new(9).with(|transport| transport.forgery_limit = 60));
    let forge = |pair: &mut Pair, count| {
        let packet = pair
            .record
            .iter()
            .rfind(|passing| passing.way == Way::Up)
            .cloned()
            .unwrap();
        for _ in 0..count {
            let mut flipped = packet.bytes.clone();
            flipped[14] ^= 1;
            pair.inject(Way::Up, packet.from, &flipped);
        }
    };
    let held = |pair: &mut Pair| {
        // A number the relay has not seen, or it would be no forgery but a replay.
        pair.hook(Passing::lose);
        send(pair, Way::Up, b"lost");
        pair.settle();
        pair.hook(|_| {});
    };
    held(&mut pair);
    forge(&mut pair, 30);
    assert!(pair.transfer(Way::Up, 3000, LIMIT) && pair.transfer(Way::Down, 3000, LIMIT));
    assert!(pair.client.connection().update_keys());
    assert!(pair.transfer(Way::Up, 3000, LIMIT) && pair.transfer(Way::Down, 3000, LIMIT));
    assert_eq!(updates(&mut pair), (1, 1));
    held(&mut pair);
    forge(&mut pair, 29);
    assert_eq!(pair.server.closed(), None);
    forge(&mut pair, 1);
    let reason = CloseReason::Transport {
        code: code::AEAD_LIMIT_REACHED,
        by: By::Local,
    };
    assert_eq!(pair.server.closed(), Some(&reason));
    let said = pair.sent_to(pair.address);
    pair.inject(Way::Up, stranger(1), &[7; 100]);
    assert_eq!(pair.sent_to(pair.address), said, "without a word");
    assert_ne!(pair.address, server_address());
}

/// It flips the phase with every packet, each after it was acknowledged: a waste, but within the rules.
#[test]
fn a_peer_that_flaps_within_the_rules_is_followed() {
    let mut pair = Pair::idle(Options::new(10));
    let mut raw = Raw::join(&mut pair, 10);
    let first = raw.seal(&transport_tests::misbehave::encode(&[Frame::Ping]));
    for _ in 0..8 {
        raw.session.seal.update();
        raw.say(&mut pair, &[Frame::Ping]);
        pair.run_for(Duration::from_secs(3));
        assert_eq!(raw.heard_close(&pair), None);
    }
    assert_eq!(pair.server.connection().stats().key_updates, 8);
    pair.inject(Way::Up, raw.address, &first);
    assert_eq!(
        forged(&pair),
        1,
        "eight generations old, though of the same phase"
    );
    raw.say(&mut pair, &[Frame::Ping]);
    assert_eq!(pair.server.closed(), None);
}
