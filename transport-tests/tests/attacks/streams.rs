//! Streams as a weapon: thin data, many streams, cancellations, credit that is never given.

use std::sync::Arc;
use std::time::Duration;

use transport_core::wire::TransportParameters;
use transport_core::wire::frame::Frame;
use transport_core::{Direction, DropReason, Limits, WriteError};
use transport_tests::misbehave::{Raw, encode, generous};
use transport_tests::oracle::memory::{Counting, cpu_ns};
use transport_tests::pair::{Options, Pair, Way};

use crate::{dropped, ended, forget_what_is_sent, pair, stream};

/// RUSTSEC-2026-0185 (quinn): single bytes at stride two, on as many streams as there may be, as far as the connection's
/// window reaches. What is held stays within a small multiple of that window.
#[test]
fn single_bytes_at_stride_two_on_every_stream_hold_a_multiple_of_the_window() {
    let (mut pair, mut raw) = pair(1);
    forget_what_is_sent(&mut pair, &mut raw);
    let limits = Limits::default();
    let window = limits.initial_connection_window as i64;
    let held = Counting::held();
    let span = limits.initial_connection_window / limits.max_streams_bi;
    for id in 0..limits.max_streams_bi {
        let bytes: Vec<Frame<'_>> = (0..span / 2)
            .take(limits.max_receive_segments)
            .map(|piece| stream(4 * id, 2 * piece, b"x", false))
            .collect();
        for packet in bytes.chunks(150) {
            raw.say(&mut pair, packet);
        }
    }
    assert_eq!((ended(&pair), dropped(&pair, DropReason::Refused)), (None, 0));
    let grown = Counting::held() - held;
    assert!(grown < 16 * window, "{grown} bytes for a window of {window}");
    let said = pair.server.connection().memory() as i64;
    assert!(
        said < 16 * window && said > grown / 4,
        "it says {said}, holds {grown}"
    );
}

/// Window exhaustion: ten thousand streams, each with a little, and an application that reads none of them.
#[test]
fn ten_thousand_streams_that_nobody_reads_hold_the_window() {
    const STREAMS: u64 = 10_000;
    let options =
        Options::new(2).with(|transport| Arc::make_mut(&mut transport.limits).max_streams_bi = STREAMS);
    let mut pair = Pair::idle(options);
    let mut raw = Raw::join(&mut pair, 2);
    forget_what_is_sent(&mut pair, &mut raw);
    let held = Counting::held();
    for first in (0..STREAMS).step_by(10) {
        let packet: Vec<Frame<'_>> = (first..first + 10)
            .map(|index| stream(4 * index, 0, &[5; 70], false))
            .collect();
        raw.say(&mut pair, &packet);
    }
    assert_eq!(ended(&pair), None);
    let grown = Counting::held() - held;
    // A stream costs its state and its smallest block, whatever it carries.
    assert!(
        grown < STREAMS as i64 * 2048,
        "{grown} bytes for {STREAMS} streams"
    );
    // The window of the connection is nearly used; whoever goes on beyond it is sent away.
    raw.say(&mut pair, &[stream(0, 70, &vec![5; 1000], false)]);
    assert_eq!(ended(&pair), None);
    for index in 0..90 {
        raw.say(&mut pair, &[stream(4 * index, 70, &[5; 1000], false)]);
    }
    assert_eq!(ended(&pair), Some(0x03));
    pair.run_for(Duration::from_secs(10));
    pair.server.events = Vec::new();
    assert_eq!(pair.server.endpoint.stats().connections, 0);
    let left = Counting::held() - held;
    assert!(left < 512 << 10, "{left} bytes stay behind");
}

/// Rapid reset (CVE-2023-44487's class): streams are opened, cancelled and stopped at once, and the relay's own resets are
/// never acknowledged. It holds the streams it allowed and nothing else.
#[test]
fn resets_and_stops_without_acknowledgement_hold_the_streams_allowed() {
    let (mut pair, mut raw) = pair(3);
    forget_what_is_sent(&mut pair, &mut raw);
    let held = Counting::held();
    let mut cancelled = 0;
    for index in 0..100_000u64 {
        let id = 4 * index;
        let reset = Frame::ResetStream {
            id,
            code: 1,
            final_size: 1,
        };
        let stop = Frame::StopSending { id, code: 2 };
        raw.say(&mut pair, &[stream(id, 0, b"x", false), reset, stop]);
        if ended(&pair).is_some() {
            break;
        }
        cancelled += 1;
        pair.server.events.clear();
    }
    assert_eq!(
        ended(&pair),
        Some(0x04),
        "their slots are not free before it knows"
    );
    assert_eq!(cancelled, Limits::default().max_streams_bi);
    let grown = Counting::held() - held;
    assert!(grown < 1 << 20, "{grown} bytes");
}

/// The same frames again and again for streams that are over: a million of them change nothing.
#[test]
fn a_million_frames_for_streams_that_are_over_change_nothing() {
    let (mut pair, mut raw) = pair(4);
    raw.say(&mut pair, &[stream(2, 0, b"x", true)]);
    let server = pair.server.connection();
    let id = server.accept(Direction::Uni).unwrap();
    assert!(server.read(id, &mut [0; 9]).unwrap().fin);
    forget_what_is_sent(&mut pair, &mut raw);
    let reset = Frame::ResetStream {
        id: 2,
        code: 1,
        final_size: 1,
    };
    let all = [
        stream(2, 0, b"x", true),
        reset,
        Frame::StreamDataBlocked { id: 2, at: 1 },
        Frame::DataBlocked { at: 1 << 40 },
        Frame::StreamsBlocked { uni: true, at: 256 },
        Frame::MaxData { max: 5 },
        Frame::MaxStreams { uni: true, max: 1 },
    ];
    let packet = encode(&all.iter().cycle().take(7 * 40).copied().collect::<Vec<_>>());
    raw.say_bytes(&mut pair, &packet);
    let (held, mut halves) = (Counting::held(), [0; 2]);
    for spent in &mut halves {
        let before = cpu_ns();
        for _ in 0..1_000_000 / (7 * 40) / 2 {
            raw.say_bytes(&mut pair, &packet);
        }
        *spent = cpu_ns() - before;
    }
    let grown = Counting::held() - held;
    assert_eq!(ended(&pair), None);
    assert!(grown < 64 << 10, "{grown} bytes");
    assert!(halves[1] < 3 * halves[0], "{halves:?} ns");
    assert_eq!(pair.server.connection().stats().streams_open, 0);
}

/// MAX_DATA withholding: a peer that takes nothing. The application's bytes wait in a buffer that ends, the relay says once
/// what it waits for, and then rests.
#[test]
fn a_peer_that_gives_no_credit_holds_a_buffer_and_no_attention() {
    for (what, said) in [
        (
            "no connection credit",
            TransportParameters {
                max_data: 0,
                ..generous()
            },
        ),
        (
            "no stream credit",
            TransportParameters {
                max_stream_data_uni: 0,
                ..generous()
            },
        ),
        (
            "credit for one byte",
            TransportParameters {
                max_data: 1,
                ..generous()
            },
        ),
    ] {
        let mut pair = Pair::idle(Options::new(5));
        let mut raw = Raw::join_saying(&mut pair, 5, &said);
        let held = Counting::held();
        let mut taken = 0;
        for _ in 0..20 {
            let id = pair.server.connection().open(Direction::Uni).unwrap();
            loop {
                match pair.server.connection().write(id, &vec![1; 1 << 20]) {
                    Ok(bytes) => taken += bytes,
                    Err(WriteError::Blocked) => break,
                    Err(error) => panic!("{what}: {error}"),
                }
            }
            pair.settle();
        }
        let limits = Limits::default();
        assert!(taken <= limits.send_buffer_total, "{what}: {taken} bytes taken");
        let before = pair.server.connection().stats().sent_packets;
        for _ in 0..60 {
            raw.hear(&pair);
            if let Some(ack) = raw.honest_ack(0) {
                raw.say_bytes(&mut pair, &ack);
            }
            pair.run_for(Duration::from_millis(400));
        }
        let sent = pair.server.connection().stats().sent_packets - before;
        assert!(
            sent <= 60,
            "{what}: {sent} packets to say that there is nothing to say"
        );
        let grown = Counting::held() - held;
        assert!(
            grown < 2 * limits.send_buffer_total as i64,
            "{what}: {grown} bytes held"
        );
        assert_eq!(ended(&pair), None, "{what}");
    }
}

/// Credit in crumbs: each frame allows one byte more. Each costs one small packet at most, and the window opens at once when
/// the peer comes to its senses.
#[test]
fn credit_in_crumbs_costs_a_packet_a_crumb() {
    let said = TransportParameters {
        max_data: 0,
        ..generous()
    };
    let mut pair = Pair::idle(Options::new(6));
    let mut raw = Raw::join_saying(&mut pair, 6, &said);
    let id = pair.server.connection().open(Direction::Uni).unwrap();
    let _ = pair.server.connection().write(id, &[1; 5000]);
    pair.settle();
    let before = pair.server.connection().stats();
    for max in 1..=1000 {
        raw.say(&mut pair, &[Frame::MaxData { max }]);
        raw.hear(&pair);
        let ack = raw.honest_ack(0).unwrap();
        raw.say_bytes(&mut pair, &ack);
    }
    let after = pair.server.connection().stats();
    assert!(after.sent_packets - before.sent_packets <= 3000, "{after:?}");
    raw.say(&mut pair, &[Frame::MaxData { max: 1 << 30 }]);
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server.connection().stats().stream_bytes_sent, 5000);
    assert_eq!(ended(&pair), None);
}

/// A stream of the wrong direction or of a far number (CVE-2026-6328, xquic) is in `every_breach_has_its_code`; here the
/// numbers between: opening the last allowed stream opens all below it, once, and at a price that is bounded.
#[test]
fn the_last_stream_allowed_opens_all_below_it_and_nothing_more() {
    let (mut pair, mut raw) = pair(7);
    forget_what_is_sent(&mut pair, &mut raw);
    let most = Limits::default().max_streams_bi;
    let held = Counting::held();
    for _ in 0..1000 {
        raw.say(
            &mut pair,
            &[Frame::StreamDataBlocked {
                id: 4 * (most - 1),
                at: 0,
            }],
        );
    }
    let mut opened = 0;
    while pair.server.connection().accept(Direction::Bi).is_some() {
        opened += 1;
    }
    assert_eq!((opened, ended(&pair)), (most, None));
    pair.server.events.clear();
    let grown = Counting::held() - held;
    assert!(grown < 1 << 20, "{grown} bytes for {most} empty streams");
    assert!(pair.sender(Way::Down).connection().memory() < 2 << 20);
}
