//! Whoever has no keys gets silence, costs little, and disturbs nobody.

use std::time::Duration;

use transport_core::{DropReason, Event, TransportConfig};
use transport_crypto::ENVELOPE_OVERHEAD;
use transport_tests::misbehave::{Envelopes, generous, hello};
use transport_tests::pair::{
    Options, Pair, Passing, Transfer, Way, client_address, server_address, stranger,
};
use transport_tests::sim::rng::Rng;

const LIMIT: Duration = Duration::from_secs(30);
/// What strangers may make a relay hold: 8 MiB of hellos in the making, and 16 bytes (with the overhead of the set) for
/// each envelope that opened in the last 42 minutes.
const MEMORY_BOUND: usize = (8 << 20) + (2 << 20);

fn random(rng: &mut Rng, length: usize) -> Vec<u8> {
    (0..length.div_ceil(8))
        .flat_map(|_| rng.u64().to_le_bytes())
        .take(length)
        .collect()
}

fn answers(pair: &Pair) -> usize {
    pair.record
        .iter()
        .filter(|passing| passing.way == Way::Down && passing.to.ip() == stranger(1).ip())
        .count()
}

#[test]
fn junk_of_every_length_is_counted_and_not_answered() {
    let mut pair = Pair::connected(Options::new(1));
    let mut rng = Rng::new(1, "junk");
    let before = pair.server.endpoint.memory();
    let mut sent = 0;
    for length in (0..2100).chain([2500, 9000, 9001, 20_000, 65_507]) {
        let bytes = random(&mut rng, length);
        for from in [stranger(1 + length as u16 % 7), client_address()] {
            pair.inject(Way::Up, from, &bytes);
            pair.inject(Way::Up, from, &vec![0; length]);
            sent += 2;
        }
    }
    let stats = pair.server.endpoint.stats();
    assert_eq!(stats.drops.total(), sent);
    assert_eq!(
        stats.drops.get(DropReason::Length) + stats.drops.get(DropReason::Unknown),
        sent
    );
    assert!(
        stats.drops.get(DropReason::Length) >= 12,
        "those above the largest that could be ours"
    );
    assert_eq!(answers(&pair), 0);
    assert!(
        pair.server.endpoint.memory() <= before + 1024,
        "junk leaves something behind"
    );
    assert!(pair.transfer(Way::Up, 100_000, LIMIT) && pair.transfer(Way::Down, 100_000, LIMIT));
}

#[test]
fn junk_from_the_relays_address_does_not_disturb_a_client() {
    let mut pair = Pair::new(Options::new(2));
    let mut rng = Rng::new(2, "junk");
    for length in 0..1500 {
        let bytes = random(&mut rng, length);
        pair.inject(Way::Down, server_address(), &bytes);
    }
    assert_eq!(pair.client.endpoint.stats().drops.total(), 1500);
    assert!(pair.run_until(LIMIT, Pair::is_connected));
    for length in 0..1500 {
        let bytes = random(&mut rng, length);
        pair.inject(Way::Down, server_address(), &bytes);
    }
    assert_eq!(pair.client.endpoint.stats().drops.total(), 3000);
    assert!(pair.transfer(Way::Down, 50_000, LIMIT));
}

#[test]
fn captured_datagrams_cut_short_or_made_longer_are_silence() {
    let mut pair = Pair::connected(Options::new(3));
    assert!(pair.transfer(Way::Up, 5000, LIMIT));
    let captured: Vec<Passing> = pair
        .record
        .iter()
        .filter(|passing| passing.way == Way::Up)
        .cloned()
        .collect();
    pair.record.clear();
    let before = pair.server.endpoint.stats().drops.total();
    let mut sent = 0;
    for passing in &captured {
        for cut in [1, 2, 8, 16, 17, 31, 63, 64, 500] {
            let short = &passing.bytes[..passing.bytes.len().saturating_sub(cut)];
            let long = [&passing.bytes[..], &[0; 900][..cut]].concat();
            for bytes in [short, &long] {
                pair.inject(Way::Up, stranger(5), bytes);
                sent += 1;
            }
        }
    }
    assert_eq!(pair.server.endpoint.stats().drops.total(), before + sent);
    assert_eq!(answers(&pair), 0);
    assert_eq!(pair.server.connection().remote(), client_address());
}

/// A flood of fragments of hellos that never become whole, from holders of the bundle, in the midst of a transfer.
#[test]
fn a_flood_of_fragments_is_bounded_and_disturbs_nobody() {
    const FRAGMENTS: u64 = 100_000;
    let mut pair = Pair::connected(Options::new(4));
    let mut transfer = Transfer::open(&mut pair, Way::Up, 300_000);
    let mut rng = Rng::new(4, "flood");
    let mut envelopes = Envelopes::new(4);
    let (mut over, mut peak) = (false, 0);
    for fragment in 0..FRAGMENTS {
        let hid = rng.below(FRAGMENTS / 2).to_be_bytes();
        let mut header = Envelopes::header(hid, 100 + rng.below(6000) as usize);
        (header.count, header.index) = (15, rng.below(15) as u8);
        header.fragment_offset = rng.below(90) as u16;
        let datagram = envelopes.seal(&header, &[fragment as u8; 8], ENVELOPE_OVERHEAD + 8);
        let mut from = stranger(rng.u64() as u16 | 1);
        let [a, b, c, _] = (rng.u64() as u32).to_be_bytes();
        from.set_ip([10, a, b, c].into());
        pair.inject(Way::Up, from, &datagram);
        if fragment % 100 == 0 {
            over |= transfer.drive(&mut pair);
            pair.run_for(Duration::from_millis(1));
            peak = peak.max(pair.server.endpoint.memory());
        }
    }
    assert!(
        over || pair.run_until(LIMIT, |pair| transfer.drive(pair)),
        "the connection was disturbed"
    );
    assert!(
        peak < MEMORY_BOUND + (1 << 20),
        "the flood made the relay hold {peak} bytes"
    );
    let stats = pair.server.endpoint.stats();
    assert!(
        stats.cookie_mode && stats.drops.get(DropReason::RetryRequired) > FRAGMENTS / 2,
        "{:?}",
        stats.drops
    );
    // They are too short to be asked for a token with less.
    assert_eq!(
        pair.record
            .iter()
            .filter(|passing| passing.way == Way::Down && passing.to != client_address())
            .count(),
        0
    );
    assert_eq!((stats.half_open, stats.handshakes_answered), (0, 1));
    let lost = pair.client.connection().stats().declared_lost;
    assert_eq!(lost, 0, "packets of the connection were lost");
    // It all goes away, and the door is open again.
    pair.run_for(Duration::from_secs(15));
    pair.server.handle = None;
    pair.server.events.clear();
    pair.client.events.clear();
    pair.dial().unwrap();
    assert!(pair.run_until(LIMIT, Pair::is_connected));
}

/// Hellos that are whole, from clients that are where they say and never show that they have the keys.
#[test]
fn half_open_handshakes_are_bounded_and_pass() {
    let mut pair = Pair::connected(Options::new(5));
    let mut params = Vec::new();
    generous().encode(&mut params).unwrap();
    let mut envelopes = Envelopes::new(5);
    let mut peak = 0;
    for client in 0..1100u64 {
        let hid = client.to_be_bytes();
        let (_, body) = hello(client, hid, &params);
        let from = std::net::SocketAddr::from(([172, 16 + (client >> 8) as u8, client as u8, 1], 9));
        envelopes.knock(&mut pair, from, hid, &body);
        pair.run_for(Duration::from_millis(1));
        peak = peak.max(pair.server.endpoint.stats().half_open);
        pair.record.clear();
    }
    let stats = pair.server.endpoint.stats();
    assert_eq!(peak, 1024);
    assert!(
        stats.drops.get(DropReason::HalfOpenFull) >= 60,
        "{:?}",
        stats.drops
    );
    assert!(
        pair.server.endpoint.memory() < MEMORY_BOUND,
        "{} bytes",
        pair.server.endpoint.memory()
    );
    assert!(
        pair.transfer(Way::Up, 50_000, LIMIT),
        "the connection that stands is disturbed"
    );
    pair.run_for(Duration::from_secs(31));
    pair.server.handle = None;
    pair.server.events.clear();
    pair.client.events.clear();
    pair.dial().unwrap();
    assert!(pair.run_until(LIMIT, Pair::is_connected), "the door stays shut");
    assert_eq!(pair.server.endpoint.stats().half_open, 0);
}

#[test]
fn flipped_bits_of_packets_are_silence() {
    let mut pair = Pair::connected(Options::new(6));
    for way in [Way::Up, Way::Down] {
        pair.hook(move |passing| {
            if passing.way == way {
                passing.lose();
            }
        });
        let now = pair.now(way);
        pair.sender(way)
            .connection()
            .send_datagram(now, vec![7; 40], transport_core::DatagramOptions::default())
            .unwrap();
        pair.settle();
        let packet = pair
            .record
            .iter()
            .rfind(|passing| passing.way == way)
            .cloned()
            .unwrap();
        let said = pair.record.len();
        let drops = pair.receiver(way).endpoint.stats().drops.total();
        let from = if way == Way::Up {
            client_address()
        } else {
            server_address()
        };
        for at in 0..packet.bytes.len() * 8 {
            let mut damaged = packet.bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            pair.inject(way, from, &damaged);
        }
        assert_eq!(pair.record.len(), said, "an answer to damage");
        assert_eq!(
            pair.receiver(way).endpoint.stats().drops.total(),
            drops + packet.bytes.len() as u64 * 8
        );
        assert!(pair.receiver(way).take_datagrams().is_empty());
        pair.inject(way, from, &packet.bytes);
        assert_eq!(
            pair.receiver(way).take_datagrams(),
            [vec![7; 40]],
            "the honest one arrives"
        );
        pair.inject(way, from, &packet.bytes);
        assert!(
            pair.receiver(way).take_datagrams().is_empty(),
            "its copy does not"
        );
        pair.hook(|_| {});
        pair.run_for(Duration::from_secs(1));
    }
}

#[test]
fn every_packet_ever_sent_replayed_later_changes_nothing() {
    let mut pair = Pair::connected(Options::new(7));
    assert!(pair.transfer(Way::Up, 200_000, LIMIT) && pair.transfer(Way::Down, 200_000, LIMIT));
    pair.run_for(Duration::from_secs(2));
    let captured: Vec<Passing> = std::mem::take(&mut pair.record);
    pair.client.events.clear();
    pair.server.events.clear();
    for passing in &captured {
        pair.inject(passing.way, passing.from, &passing.bytes);
        pair.inject(passing.way, stranger(3), &passing.bytes);
    }
    assert!(pair.record.is_empty(), "an answer to a copy");
    assert!(pair.client.events.is_empty() && pair.server.events.is_empty());
    assert_eq!(pair.server.connection().remote(), client_address());
    let drops = pair.server.endpoint.stats().drops.total() + pair.client.endpoint.stats().drops.total();
    assert_eq!(drops, captured.len() as u64 * 2);
    assert!(pair.transfer(Way::Up, 10_000, LIMIT));
}

/// The copy of a packet overtakes the packet, from somewhere else: the relay asks that place for a proof, and stays.
#[test]
fn a_copy_that_comes_first_from_elsewhere_does_not_move_the_connection() {
    let keep = |transport: &mut TransportConfig| transport.keep_alive = Some(Duration::from_secs(5));
    let mut pair = Pair::connected(Options::new(8).with(keep));
    for round in 0..5 {
        pair.record.clear();
        let mut transfer = Transfer::open(&mut pair, Way::Up, 20_000);
        transfer.drive(&mut pair);
        pair.settle();
        let first = pair
            .record
            .iter()
            .find(|passing| passing.way == Way::Up)
            .cloned()
            .unwrap();
        let place = stranger(100 + round);
        pair.inject(Way::Up, place, &first.bytes);
        assert!(pair.run_until(LIMIT, |pair| transfer.drive(pair)));
        pair.run_for(Duration::from_secs(10));
        assert_eq!(pair.server.connection().remote(), client_address());
        assert!(pair.sent_to(place) <= 3 * first.bytes.len());
        assert!(
            !pair
                .server
                .events
                .iter()
                .any(|event| matches!(event, Event::PathChanged { .. }))
        );
    }
    assert!(pair.transfer(Way::Down, 20_000, LIMIT));
}
