//! Handshakes that break off, lie about who they are for, or try to make the next one weaker.

use std::net::SocketAddr;
use std::time::Duration;

use transport_core::{
    Access, CloseReason, DropReason, Endpoint, EndpointConfig, EndpointStats, SeededEntropy, ServerConfig,
    TransportConfig,
};
use transport_crypto::{ENVELOPE_OVERHEAD, EnvelopeType};
use transport_tests::misbehave::{Envelopes, Overheard, generous, hello};
use transport_tests::oracle::memory::Counting;
use transport_tests::pair::{
    APP, Options, Pair, RELAY, Relay, Way, client_address, server_address, stranger,
};
use transport_tests::sim::rng::Rng;

use crate::dropped;

const LIMIT: Duration = Duration::from_secs(40);

fn up(pair: &Pair) -> usize {
    pair.record
        .iter()
        .filter(|passing| passing.way == Way::Up)
        .count()
}

/// The right keys under another relay's name: whoever stole the keys of one node, or was handed a bundle that names somebody
/// else, gets silence, and so does its client.
#[test]
fn the_right_keys_under_another_name_are_silence() {
    let config = ServerConfig {
        relay_id: Relay::new(2).bundle.relay_id(),
        ..RELAY.config(Access::Open, APP)
    };
    let config = EndpointConfig {
        server: Some(config),
        transport: TransportConfig::default(),
        observer: None,
    };
    let mut pair = Pair::idle(Options::new(1));
    pair.server.endpoint = Endpoint::new(config, [1; 32], Box::new(SeededEntropy::new([2; 32])));
    pair.dial().unwrap();
    pair.run_for(LIMIT);
    assert_eq!(pair.client.closed(), Some(&CloseReason::HandshakeTimeout));
    assert_eq!(pair.record.len(), up(&pair), "an answer");
    assert!(dropped(&pair, DropReason::HelloInvalid) >= 1);
    assert_eq!(pair.server.endpoint.stats().half_open, 0);
}

/// A hello that cannot be read: its ciphertext is zero, short, long, flipped; its ephemeral key of low order. Silence, one drop
/// each, and nothing is held.
#[test]
fn hellos_that_cannot_be_read_are_silence() {
    const CT: std::ops::Range<usize> = 12..1100;
    let mut params = Vec::new();
    generous().encode(&mut params).unwrap();
    let (_, good) = hello(2, *b"hello---", &params);
    let low_order: [[u8; 32]; 3] = [
        [0; 32],
        {
            let mut one = [0; 32];
            one[0] = 1;
            one
        },
        // p − 1, which X25519 treats as of order two.
        {
            let mut point = [0xff; 32];
            (point[0], point[31]) = (0xec, 0x7f);
            point
        },
    ];
    let mut bad: Vec<(String, Vec<u8>)> = vec![
        ("all-zero ciphertext".into(), {
            let mut body = good.clone();
            body[CT].fill(0);
            body
        }),
        ("all-ones ciphertext".into(), {
            let mut body = good.clone();
            body[CT].fill(0xff);
            body
        }),
        ("short ciphertext".into(), [&good[..12], &good[13..]].concat()),
        (
            "long ciphertext".into(),
            [&good[..12], &[7], &good[12..]].concat(),
        ),
        (
            "no ciphertext".into(),
            [&good[..CT.start], &good[CT.end..]].concat(),
        ),
        ("nothing but a head".into(), good[..12].to_vec()),
        ("another mode".into(), [&[9], &good[1..]].concat()),
        (
            "another suite of KEMs".into(),
            [&good[..1], &[2], &good[2..]].concat(),
        ),
        ("one byte too many".into(), [&good[..], &[0]].concat()),
    ];
    for (index, point) in low_order.iter().enumerate() {
        let mut body = good.clone();
        body[1100..1132].copy_from_slice(point);
        bad.push((format!("low-order point {index}"), body));
    }
    let mut pair = Pair::idle(Options::new(2));
    let mut envelopes = Envelopes::new(2);
    for (count, (what, body)) in (1..).zip(&bad) {
        for datagram in envelopes.fragments(*b"hello---", body, 1232 - ENVELOPE_OVERHEAD) {
            pair.inject(Way::Up, client_address(), &datagram);
        }
        // Hellos are read at a measured pace.
        pair.run_for(Duration::from_millis(20));
        assert_eq!(pair.sent_to(client_address()), 0, "{what}");
        assert_eq!(dropped(&pair, DropReason::HelloInvalid), count, "{what}");
        assert_eq!(pair.server.endpoint.stats().half_open, 0, "{what}");
    }
    for datagram in envelopes.fragments(*b"hello---", &good, 1232 - ENVELOPE_OVERHEAD) {
        pair.inject(Way::Up, client_address(), &datagram);
    }
    assert!(pair.sent_to(client_address()) > 1000, "the good one is answered");
}

/// CVE-2026-123611 (rustls, RUSTSEC-2026-0349): an attacker makes a handshake fail in a way that is remembered, and the next is
/// weaker. Here nothing is remembered: after silence, garbage, refusals and broken answers the next hello offers the same.
#[test]
fn after_any_failure_the_next_hello_offers_the_same() {
    let mut pair = Pair::new(Options::new(3).with(|transport| transport.aes = true));
    let mut envelopes = Envelopes::new(3);
    pair.hook(transport_tests::pair::Passing::lose);
    let mut shape = None;
    for failure in 0..8 {
        pair.settle();
        let said = Overheard::newest(&pair, &mut envelopes).expect("a hello");
        let offered = said.read();
        // Mode, suite of KEMs, flags and epoch stand in the head; the keys make up the length.
        let now = (said.body[..12].to_vec(), said.body.len(), offered.has_aes());
        assert_eq!(*shape.get_or_insert(now.clone()), now, "after failure {failure}");
        let kind = match failure % 4 {
            0 => None,
            1 => Some((EnvelopeType::HandshakeClose, vec![0x02])),
            2 => Some((EnvelopeType::ServerHello, vec![7; 1500])),
            _ => Some((EnvelopeType::ServerHello, [&[1, 0][..], &[0; 1300]].concat())),
        };
        if let Some((kind, body)) = kind {
            for datagram in envelopes.answer(said.hid, kind, &body) {
                pair.inject(Way::Down, server_address(), &datagram);
            }
        }
        // Within one handshake it is the same message, byte for byte.
        pair.run_for(Duration::from_millis(1500));
        let again = Overheard::newest(&pair, &mut envelopes).unwrap();
        assert!(said == again, "a repeated hello differs after failure {failure}");
        pair.run_for(LIMIT);
        assert!(pair.client.closed().is_some(), "failure {failure}");
        assert!(pair.client.info().is_none());
        pair.client.events.clear();
        pair.record.clear();
        pair.dial().unwrap();
    }
}

/// Where a handshake is given up.
fn abort(pair: &mut Pair, envelopes: &mut Envelopes, params: &[u8], serial: u64) {
    let hid = serial.to_be_bytes();
    let [.., b, c, d] = hid;
    let from: SocketAddr = ([10, d, c, b + 1], 7).into();
    let real = serial.is_multiple_of(64);
    let body = if real {
        hello(serial, hid, params).1
    } else {
        vec![serial as u8; 1300]
    };
    let mut fragments = envelopes.fragments(hid, &body, 1232 - ENVELOPE_OVERHEAD);
    match serial % 4 {
        // Answered and never heard of again.
        0 if real => {}
        // Complete, and not a hello.
        0 if serial % 16 == 4 => {}
        // Its last part never comes, its first, or it contradicts itself.
        0 | 1 => drop(fragments.pop()),
        2 => drop(fragments.remove(0)),
        _ => {
            let mut header = Envelopes::header(hid, 999);
            header.count = 2;
            fragments.insert(1, envelopes.seal(&header, &[1; 30], 100));
        }
    }
    for datagram in &fragments {
        pair.inject(Way::Up, from, datagram);
    }
}

/// Fifty thousand of them from `first` on, and time for all of it to pass; the most that was held.
fn abort_many(pair: &mut Pair, envelopes: &mut Envelopes, first: u64) -> i64 {
    let mut params = Vec::new();
    generous().encode(&mut params).unwrap();
    let (before, mut peak) = (Counting::held(), 0);
    for serial in first..first + 50_000 {
        abort(pair, envelopes, &params, serial);
        if serial % 100 == 99 {
            pair.run_for(Duration::from_millis(500));
            peak = peak.max(Counting::held() - before);
        }
    }
    // What came before is remembered for 42 minutes at most, as long as datagrams come at all.
    envelopes.minutes_later(4);
    for _ in 0..5 {
        pair.run_for(Duration::from_mins(22));
        envelopes.minutes_later(22);
        abort(pair, envelopes, &params, first + 1);
    }
    pair.run_for(Duration::from_mins(1));
    peak
}

/// CVE-2023-38171, CVE-2023-36435 (msquic): memory that aborted handshakes leave behind. A hundred thousand of them, broken off
/// at every stage: what is held is bounded while it lasts, and the second half leaves nothing that the first did not.
#[test]
fn a_hundred_thousand_aborted_handshakes_leave_nothing() {
    let mut pair = Pair::idle(Options::new(4));
    pair.recording = false;
    let mut envelopes = Envelopes::new(4);
    let before = Counting::held();
    // Hellos in the making 8 MiB, half-open handshakes 4 MiB, and what came before: 8 and 4 MiB at most.
    let peak = abort_many(&mut pair, &mut envelopes, 0);
    assert!(peak < 24 << 20, "{peak} bytes at the worst moment");
    let EndpointStats {
        connections,
        half_open,
        handshakes_answered,
        drops,
        ..
    } = pair.server.endpoint.stats();
    assert_eq!((connections, half_open), (0, 0), "{drops:?}");
    // Some come while the relay asks for tokens, and never answer that.
    assert!((50..800).contains(&handshakes_answered), "{drops:?}");
    let after_half = Counting::held();
    let peak = abort_many(&mut pair, &mut envelopes, 50_000);
    assert!(peak < 24 << 20, "{peak} bytes at the worst moment");
    let left = [after_half - before, Counting::held() - after_half];
    assert!(
        left[0] < 2 << 20 && left[1] < 128 << 10,
        "{left:?} bytes stay behind"
    );
    pair.dial().unwrap();
    assert!(pair.run_until(LIMIT, Pair::is_connected), "the door is open");
}

/// Fragments of 10^5 handshakes that overlap, lie about the whole, or never end, from one place: sixteen of them are kept.
#[test]
fn one_place_fills_sixteen_places_and_no_more() {
    let mut pair = Pair::idle(Options::new(5));
    pair.recording = false;
    let mut envelopes = Envelopes::new(5);
    let mut rng = Rng::new(5, "hids");
    let before = Counting::held();
    for _ in 0..20_000u32 {
        let mut header = Envelopes::header(rng.u64().to_be_bytes(), 4000);
        (header.count, header.index) = (15, rng.below(15) as u8);
        header.fragment_offset = rng.below(3900) as u16;
        let datagram = envelopes.seal(&header, &[1; 60], ENVELOPE_OVERHEAD + 60);
        pair.inject(Way::Up, stranger(1), &datagram);
    }
    let grown = Counting::held() - before;
    let drops = pair.server.endpoint.stats().drops;
    assert!(drops.total() >= 20_000 - 16, "{drops:?}");
    assert!(grown < (1 << 20) + 16 * 8192, "{grown} bytes");
}
