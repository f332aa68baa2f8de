//! A peer that holds keys and breaks rules: each breach has its code, and none costs memory or answers without bound.

use std::time::Duration;

use transport_core::wire::ConnectionId;
use transport_core::wire::frame::{
    Frame, Frames, PathAbandon, PathNewConnectionId, PathRetireConnectionId, Stream,
};
use transport_core::{By, CloseReason, Direction, Limits};
use transport_tests::misbehave::{Raw, encode};
use transport_tests::pair::{Options, Pair, Way, client_address, stranger};

fn pair(seed: u64) -> (Pair, Raw) {
    let mut pair = Pair::idle(Options::new(seed));
    let raw = Raw::join(&mut pair, seed);
    (pair, raw)
}

fn stream(id: u64, offset: u64, data: &[u8], fin: bool) -> Frame<'_> {
    Frame::Stream(Stream {
        id,
        offset,
        data,
        fin,
    })
}

/// The bytes of one packet after the other, and the code they end with.
type Case = (&'static str, u64, Vec<Vec<u8>>);

fn frames_out_of_place() -> Vec<Case> {
    let one = |frame: Frame<'_>| vec![encode(&[frame])];
    vec![
        ("HANDSHAKE_DONE from a client", 0x0a, one(Frame::HandshakeDone)),
        ("an unknown type", 0x07, vec![vec![0x21]]),
        ("a type in a long form", 0x07, vec![vec![0x40, 0x01]]),
        ("a frame cut off", 0x07, vec![vec![0x10]]),
        (
            "more streams than there can be",
            0x07,
            vec![vec![0x12, 0xd0, 0, 0, 0, 0, 0, 0, 1]],
        ),
        ("an ACK of what was never sent", 0x0a, vec![Raw::ack(0, 1 << 40)]),
        (
            "an ACK for a path that is not",
            0x0a,
            vec![vec![0x3e, 1, 0, 0, 0, 0]],
        ),
        (
            "the only path given up",
            0x10,
            one(Frame::PathAbandon(PathAbandon { path: 0, code: 0 })),
        ),
    ]
}

fn streams_out_of_place() -> Vec<Case> {
    let one = |frame: Frame<'_>| vec![encode(&[frame])];
    let two = |first: Frame<'_>, second: Frame<'_>| vec![encode(&[first]), encode(&[second])];
    let reset = |id, final_size| Frame::ResetStream {
        id,
        code: 1,
        final_size,
    };
    let limits = Limits::default();
    let (window, most) = (limits.initial_stream_window, limits.max_streams_bi);
    vec![
        (
            "data beyond the window of the stream",
            0x03,
            one(stream(0, window, b"x", false)),
        ),
        (
            "a reset beyond the window of the stream",
            0x03,
            one(reset(0, window + 1)),
        ),
        (
            "data beyond the window of the connection",
            0x03,
            (0..4)
                .map(|index| encode(&[stream(4 * index, window - 1, b"x", false)]))
                .collect(),
        ),
        (
            "a stream beyond the limit",
            0x04,
            one(stream(4 * most, 0, b"x", false)),
        ),
        (
            "an unidirectional one beyond the limit",
            0x04,
            one(stream(4 * limits.max_streams_uni + 2, 0, b"x", false)),
        ),
        (
            "data on a stream only the relay may open",
            0x05,
            one(stream(1, 0, b"x", false)),
        ),
        (
            "data on a stream the relay only sends",
            0x05,
            one(stream(3, 0, b"x", false)),
        ),
        (
            "credit for a stream the relay only receives",
            0x05,
            one(Frame::MaxStreamData { id: 2, max: 9 }),
        ),
        (
            "a stop for a stream the relay only receives",
            0x05,
            one(Frame::StopSending { id: 2, code: 9 }),
        ),
        (
            "credit for a stream the relay has not opened",
            0x05,
            one(Frame::MaxStreamData { id: 1, max: 9 }),
        ),
        (
            "data behind the end",
            0x06,
            two(stream(0, 0, b"abc", true), stream(0, 3, b"d", false)),
        ),
        (
            "another end",
            0x06,
            two(stream(0, 0, b"abc", true), stream(0, 0, b"ab", true)),
        ),
        (
            "a reset with another end",
            0x06,
            two(stream(0, 0, b"abc", true), reset(0, 4)),
        ),
        (
            "a reset below what came",
            0x06,
            two(stream(0, 0, b"abc", false), reset(0, 2)),
        ),
    ]
}

fn ids_out_of_place() -> Vec<Case> {
    let new = |sequence, retire_prior_to, id| {
        Frame::PathNewConnectionId(PathNewConnectionId {
            path: 0,
            sequence,
            retire_prior_to,
            cid: ConnectionId([id; 9]),
        })
    };
    let many: Vec<Frame<'_>> = (1..30).map(|sequence| new(sequence, 0, sequence as u8)).collect();
    let churn: Vec<Frame<'_>> = (1..60)
        .map(|sequence| new(sequence, sequence, sequence as u8))
        .collect();
    let retire = Frame::PathRetireConnectionId(PathRetireConnectionId {
        path: 0,
        sequence: 40,
    });
    vec![
        ("too many ids", 0x09, vec![encode(&many)]),
        (
            "ids that retire each other without end",
            0x09,
            vec![encode(&churn)],
        ),
        (
            "two ids with one number",
            0x0a,
            vec![encode(&[new(1, 0, 1), new(1, 0, 2)])],
        ),
        ("retirement of an id never issued", 0x0a, vec![encode(&[retire])]),
    ]
}

#[test]
fn every_breach_has_its_code() {
    let cases = [frames_out_of_place(), streams_out_of_place(), ids_out_of_place()].concat();
    for (seed, (what, code, packets)) in cases.into_iter().enumerate() {
        let (mut pair, mut raw) = pair(seed as u64);
        let last = packets.len() - 1;
        for (index, frames) in packets.iter().enumerate() {
            assert!(
                pair.server.closed().is_none(),
                "{what}: closed by packet {index} of {last}"
            );
            raw.say_bytes(&mut pair, frames);
        }
        assert_eq!(
            pair.server.closed(),
            Some(&CloseReason::Transport { code, by: By::Local }),
            "{what}"
        );
        assert_eq!(raw.heard_close(&pair), Some(code), "{what}");
        pair.run_for(Duration::from_secs(10));
        assert_eq!(pair.server.endpoint.stats().connections, 0, "{what}");
    }
}

/// A receiver that acknowledges what it did not get is found out by the numbers a sender skips.
#[test]
fn acknowledging_a_skipped_number_is_a_breach() {
    let (mut pair, mut raw) = pair(100);
    let id = pair.server.connection().open(Direction::Uni).unwrap();
    let mut acked = 0;
    for _ in 0..4000 {
        let _ = pair.server.connection().write(id, &vec![7; 60_000]);
        pair.settle();
        acked += 6;
        raw.say_bytes(&mut pair, &Raw::ack(0, acked));
        if pair.server.closed().is_some() {
            break;
        }
        pair.run_for(Duration::from_millis(3));
        raw.hear(&pair);
    }
    assert_eq!(
        pair.server.closed(),
        Some(&CloseReason::Transport {
            code: 0x0a,
            by: By::Local
        })
    );
}

#[test]
fn streams_cancelled_as_fast_as_they_are_opened_end_the_connection() {
    let (mut pair, mut raw) = pair(101);
    for index in 0..5000u64 {
        let id = index * 4;
        raw.say(
            &mut pair,
            &[
                stream(id, 0, b"x", false),
                Frame::ResetStream {
                    id,
                    code: 1,
                    final_size: 1,
                },
            ],
        );
        while pair.server.handle.is_some()
            && pair.server.closed().is_none()
            && pair.server.connection().accept(Direction::Bi).is_some()
        {}
        if pair.server.closed().is_some() {
            break;
        }
        assert!(pair.server.endpoint.memory() < 4 << 20);
    }
    let Some(CloseReason::Transport {
        code: 0x0107 | 0x04,
        by: By::Local,
    }) = pair.server.closed()
    else {
        panic!("{:?}", pair.server.closed());
    };
}

/// One byte here, one byte there: what cannot be kept is not acknowledged, and a healthy connection is not closed.
#[test]
fn a_stream_in_a_thousand_pieces_is_bounded() {
    let (mut pair, mut raw) = pair(102);
    for piece in 0..3000u64 {
        raw.say(&mut pair, &[stream(0, 2 * piece + 1, b"x", false)]);
    }
    assert_eq!(pair.server.closed(), None);
    assert!(
        pair.server.connection().memory() < 512 << 10,
        "{} bytes",
        pair.server.connection().memory()
    );
    let refused = pair
        .server
        .endpoint
        .stats()
        .drops
        .get(transport_core::DropReason::Refused);
    assert_eq!(refused, 3000 - 1024);
    // When the holes are filled it all comes together.
    let all = vec![b'x'; 1000];
    for start in (0..6000).step_by(1000) {
        raw.say(&mut pair, &[stream(0, start, &all, false)]);
    }
    let server = pair.server.connection();
    let id = server.accept(Direction::Bi).unwrap();
    let mut space = [0; 8000];
    assert_eq!(server.read(id, &mut space).unwrap().bytes, 6000);
}

/// Each challenge must be answered with 1200 bytes. Whoever asks without end and acknowledges nothing gets a congestion
/// window of them, and the relay does not remember thousands of answers.
#[test]
fn challenges_without_end_are_answered_within_the_congestion_window() {
    let (mut pair, mut raw) = pair(103);
    pair.run_for(Duration::from_millis(100));
    pair.record.clear();
    let before = pair.server.connection().memory();
    for round in 0..5000u64 {
        raw.say(
            &mut pair,
            &[
                Frame::Ping,
                Frame::PathChallenge(round.to_be_bytes()),
                Frame::MaxData { max: round },
                // The answer to a small challenge is small.
                Frame::Padding { len: 1170 },
            ],
        );
    }
    assert_eq!(pair.server.closed(), None);
    let held = pair.server.connection().memory() - before;
    assert!(held < 64 << 10, "{held} bytes more");
    let large = pair
        .record
        .iter()
        .filter(|passing| passing.way == Way::Down && passing.bytes.len() >= 1200);
    let large = large.count();
    assert!(
        (8..=32).contains(&large),
        "{large} answers without one acknowledgement"
    );
    let stats = pair.server.connection().stats();
    assert!(
        stats.in_flight <= stats.cwnd + 8000,
        "{} in flight, window {}",
        stats.in_flight,
        stats.cwnd
    );
}

/// A challenge from an address that never proved itself is answered within three times its bytes, or not.
#[test]
fn challenges_from_elsewhere_are_no_amplifier() {
    let (mut pair, mut raw) = pair(104);
    let mut received = 0;
    for round in 0..200u64 {
        let datagram = raw.seal(&encode(&[Frame::PathChallenge(round.to_be_bytes())]));
        received += datagram.len();
        pair.inject(Way::Up, stranger(7), &datagram);
        assert!(
            pair.sent_to(stranger(7)) <= 3 * received,
            "{} for {received}",
            pair.sent_to(stranger(7))
        );
    }
    pair.run_for(Duration::from_secs(10));
    assert!(pair.sent_to(stranger(7)) <= 3 * received);
}

/// Many addresses, one packet each: only the newest is asked, and each within its three times.
#[test]
fn a_client_everywhere_at_once_gets_little_anywhere() {
    let (mut pair, mut raw) = pair(105);
    let mut received = std::collections::BTreeMap::new();
    for round in 0..500u16 {
        let from = stranger(1 + round % 50);
        let datagram = raw.seal(&encode(&[Frame::Ping]));
        *received.entry(from).or_insert(0) += datagram.len();
        pair.inject(Way::Up, from, &datagram);
    }
    pair.run_for(Duration::from_secs(5));
    for (address, bytes) in received {
        assert!(
            pair.sent_to(address) <= 3 * bytes,
            "{address}: {} for {bytes}",
            pair.sent_to(address)
        );
    }
    assert_eq!(pair.server.connection().remote(), client_address());
}

#[test]
fn whoever_goes_on_after_the_end_hears_it_ever_more_rarely() {
    let (mut pair, mut raw) = pair(106);
    let now = pair.now(Way::Down);
    pair.server.connection().close(now, 3, b"go");
    pair.settle();
    assert_eq!(raw.heard_close(&pair), Some(3));
    pair.record.clear();
    for _ in 0..1000 {
        raw.say(&mut pair, &[Frame::Ping]);
    }
    let answers = pair
        .record
        .iter()
        .filter(|passing| passing.way == Way::Down)
        .count();
    assert!(
        (1..=12).contains(&answers),
        "{answers} answers to a thousand packets"
    );
}

#[test]
fn numbers_may_jump_and_come_late_but_not_twice() {
    let (mut pair, mut raw) = pair(107);
    let mut late = Vec::new();
    for jump in [1, 1000, 1 << 20, 1 << 30] {
        late.push(raw.seal(&encode(&[Frame::Datagram(
            transport_core::wire::frame::Datagram { data: b"late" },
        )])));
        raw.next += jump;
        raw.say(&mut pair, &[Frame::Ping]);
    }
    pair.server.take_datagrams();
    for (index, datagram) in late.iter().enumerate() {
        pair.inject(Way::Up, client_address(), datagram);
        let fresh = pair.server.take_datagrams().len();
        pair.inject(Way::Up, client_address(), datagram);
        assert_eq!(pair.server.take_datagrams().len(), 0, "taken twice: {index}");
        assert!(fresh <= 1);
    }
    assert_eq!(pair.server.closed(), None);
    raw.say(&mut pair, &[Frame::Ping]);
    let answered = raw.hear(&pair);
    assert!(
        answered
            .iter()
            .all(|frames| Frames::new(frames).all(|frame| frame.is_ok()))
    );
}
