//! Packet numbers and integers at their edges, and the same packet again and again.

use transport_core::DropReason;
use transport_core::wire::TransportParameters;
use transport_core::wire::frame::Frame;
use transport_reliability::{Config, Recovery};
use transport_tests::misbehave::{Raw, encode, generous};
use transport_tests::oracle::memory::{Counting, cpu_ns};
use transport_tests::pair::{Options, Pair, Way, client_address};
use transport_tests::sim::clock::Clock;

use crate::{dropped, ended, forget_what_is_sent, pair, stream};

/// The largest number there is (RFC 9000 §12.3), and the largest integer on the wire.
const LARGEST: u64 = (1 << 62) - 1;

/// Packet numbers near 2^62. No peer gets there with packets, since the four bytes on the wire reach 2^31 further at most; so
/// this asks the receiving half itself, which must neither wrap nor run.
#[test]
fn numbers_near_their_end_neither_wrap_nor_run() {
    let now = Clock::start().now().instant;
    for last in [LARGEST, LARGEST - 1, LARGEST - 8192, 1 << 61] {
        let mut recovery = Recovery::<()>::new(Config::default());
        for number in [0, last - 300, last - 2, last] {
            let fresh = recovery.check(number).expect("not seen yet");
            recovery.received(fresh, now, true);
        }
        assert!(recovery.check(last).is_err() && recovery.check(0).is_err());
        let ranges: Vec<_> = recovery
            .acks_available()
            .unwrap()
            .ranges()
            .map(|range| (range.first, range.last))
            .collect();
        assert_eq!(
            ranges,
            [(last, last), (last - 2, last - 2), (last - 300, last - 300)]
        );
        for length in 1..=4 {
            for truncated in [0, 1, 0x7f, 0xff, 0xffff, u32::MAX] {
                let truncated = if length == 4 {
                    truncated
                } else {
                    truncated & ((1 << (8 * length)) - 1)
                };
                let number = recovery.expand(truncated, length);
                assert!(number <= LARGEST, "{truncated:x} in {length} bytes: {number:x}");
                let window = 1u64 << (8 * length);
                assert_eq!(number % window, u64::from(truncated));
            }
        }
    }
}

/// A sender jumps as far as it can with each packet. A jump costs no more than a step, whatever its length.
#[test]
fn the_cost_of_a_packet_does_not_depend_on_how_far_its_number_jumps() {
    let mut cost = Vec::new();
    for jump in [1, 63, 8191, 8192, 1 << 30] {
        let (mut pair, mut raw) = pair(1);
        forget_what_is_sent(&mut pair, &mut raw);
        let ping = encode(&[Frame::Padding { len: 20 }]);
        let packets: Vec<Vec<u8>> = (0..5000)
            .map(|_| {
                raw.next += jump - 1;
                raw.seal(&ping)
            })
            .collect();
        let held = Counting::held();
        let before = cpu_ns();
        for packet in &packets {
            pair.inject(Way::Up, client_address(), packet);
        }
        cost.push(cpu_ns() - before);
        assert!(Counting::held() - held < 16 << 10);
        assert_eq!(dropped(&pair, DropReason::Forged), 0, "jumps of {jump}");
        assert_eq!(pair.server.connection().stats().received_packets, 5001);
    }
    assert!(cost.iter().all(|ns| *ns < 3 * cost[0]), "{cost:?} ns");
}

/// A storm of copies: each ends before any cipher runs, asks for no memory, and is not answered.
#[test]
fn a_storm_of_copies_is_counted_and_costs_no_memory() {
    let (mut pair, mut raw) = pair(2);
    let packets: Vec<Vec<u8>> = (0..100).map(|_| raw.seal(&encode(&[Frame::Ping]))).collect();
    pair.inject_all(Way::Up, client_address(), &packets);
    pair.run_for(std::time::Duration::from_secs(1));
    let before = pair.server.connection().stats();
    raw.forget(&mut pair);
    let held = Counting::held();
    for _ in 0..1000 {
        pair.inject_all(Way::Up, client_address(), &packets);
    }
    assert_eq!(dropped(&pair, DropReason::Replay), 100_000);
    assert_eq!(Counting::held() - held, 0);
    assert!(pair.record.is_empty(), "an answer to a copy");
    let after = pair.server.connection().stats();
    assert_eq!(after.received_packets, before.received_packets);
}

/// Offsets, limits and codes at the end of what can be written: refused by rule or taken, never wrapped.
#[test]
fn integers_at_their_end_are_refused_or_taken_and_never_wrap() {
    let reset = |final_size| Frame::ResetStream {
        id: 0,
        code: LARGEST,
        final_size,
    };
    let cases: [(Vec<u8>, Option<u64>); 10] = [
        (encode(&[stream(0, LARGEST - 1, b"x", true)]), Some(0x03)),
        // Its end would lie beyond 2^62 − 1: no such frame (RFC 9000 §19.8).
        (
            [&[0x0e][..], &[0], &LARGEST_BYTES, &[1, b'x']].concat(),
            Some(0x07),
        ),
        (encode(&[reset(LARGEST)]), Some(0x03)),
        (encode(&[reset(0)]), None),
        (encode(&[Frame::MaxData { max: LARGEST }]), None),
        (encode(&[Frame::StreamDataBlocked { id: 0, at: LARGEST }]), None),
        (encode(&[stream(LARGEST - 3, 0, b"x", false)]), Some(0x04)),
        ([&[0x12][..], &LARGEST_BYTES].concat(), Some(0x07)),
        ([&[0x17][..], &LARGEST_BYTES].concat(), Some(0x07)),
        (Raw::ack_ranges(LARGEST, &[0..=LARGEST]), Some(0x0a)),
    ];
    for (seed, (bytes, verdict)) in (10..).zip(cases) {
        let (mut pair, mut raw) = pair(seed);
        raw.say_bytes(&mut pair, &bytes);
        assert_eq!(ended(&pair), verdict, "{bytes:x?}");
    }
}

/// 2^62 − 1 as eight bytes.
const LARGEST_BYTES: [u8; 8] = [0xff; 8];

/// Parameters at both ends of what they may be: the connection works, and its timers neither wrap nor stand still.
#[test]
fn parameters_at_their_ends_make_a_connection_that_works() {
    let most = TransportParameters {
        idle_timeout_ms: LARGEST,
        max_udp: LARGEST,
        max_data: LARGEST,
        max_stream_data_bidi_local: LARGEST,
        max_stream_data_bidi_remote: LARGEST,
        max_stream_data_uni: LARGEST,
        max_streams_bidi: 1 << 60,
        max_streams_uni: 1 << 60,
        max_ack_delay_us: (1 << 24) - 1,
        min_ack_delay_us: (1 << 24) - 1,
        cid_limit: LARGEST,
        max_datagram: LARGEST,
        ..generous()
    };
    let least = TransportParameters {
        idle_timeout_ms: 1,
        max_udp: 1000,
        max_ack_delay_us: 0,
        cid_limit: 2,
        max_datagram: 0,
        ..generous()
    };
    for (seed, said) in [most, least].into_iter().enumerate() {
        let options = Options::new(30).with(|transport| transport.idle_timeout = std::time::Duration::ZERO);
        let mut pair = Pair::idle(options);
        let mut raw = Raw::join_saying(&mut pair, seed as u64, &said);
        let held = Counting::held();
        let id = pair
            .server
            .connection()
            .open(transport_core::Direction::Uni)
            .unwrap();
        assert_eq!(pair.server.connection().write(id, &[1; 3000]), Ok(3000));
        pair.settle();
        raw.hear(&pair);
        let ack = raw.honest_ack(LARGEST).unwrap();
        raw.say_bytes(&mut pair, &ack);
        assert_eq!(
            pair.server.connection().stats().stream_bytes_sent,
            3000,
            "{said:?}"
        );
        assert_eq!(ended(&pair), None);
        pair.run_for(std::time::Duration::from_mins(2));
        assert!(Counting::held() - held < 1 << 20);
    }
}
