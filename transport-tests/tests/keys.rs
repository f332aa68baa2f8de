//! Key updates, by either side, both at once, again and again: nothing is lost because of them.

use std::time::Duration;

use transport_core::wire::Frame;
use transport_core::{By, CloseReason, DropReason, SuiteChoice};
use transport_tests::misbehave::Raw;
use transport_tests::pair::{Options, Pair, Transfer, Way, drive_all, faults};

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
            Transfer::open(&mut pair, Way::Up, 400_000),
            Transfer::open(&mut pair, Way::Down, 400_000),
        ];
        let mut wishes = 0;
        let over = pair.run_until(LIMIT, |pair| {
            wishes += 1;
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
