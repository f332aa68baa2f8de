//! Every frame in every state, frames that are cut off, and what is written down about them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use transport_core::trace::{self, Observer};
use transport_core::wire::ConnectionId;
use transport_core::wire::frame::{
    Close, ControlData, ControlKind, Datagram, Frame, NewTicket, NumberedAddress, PathNewConnectionId,
    PathRetireConnectionId, PunchMeNow,
};
use transport_core::{
    Access, By, CloseReason, Endpoint, EndpointConfig, Event, Now, SeededEntropy, TransportConfig,
};
use transport_crypto::TICKET_LEN;
use transport_tests::misbehave::{Raw, encode, generous};
use transport_tests::pair::{APP, End, Options, Pair, RELAY, Way};

use crate::{ended, pair, stream};

const ADDRESS: NumberedAddress = NumberedAddress {
    sequence: 1,
    address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(11, 0, 0, 1)), 4433),
};
const PUNCH: PunchMeNow = PunchMeNow {
    round: 1,
    path: 0,
    address: ADDRESS.address,
};

/// Frames with what a relay makes of them, and what a client does: a code, or nothing.
fn all() -> Vec<(Frame<'static>, Option<u64>, Option<u64>)> {
    let both = |frame, code| (frame, code, code);
    let close = |frame_type| {
        Frame::Close(Close {
            code: 1,
            frame_type,
            reason: b"so it is",
        })
    };
    let reset = |id| Frame::ResetStream {
        id,
        code: 3,
        final_size: 9,
    };
    let stop = |id| Frame::StopSending { id, code: 3 };
    let credit = |id| Frame::MaxStreamData { id, max: 1 << 40 };
    let blocked = |id| Frame::StreamDataBlocked { id, at: 7 };
    let cid = |path| PathNewConnectionId {
        path,
        sequence: 1,
        retire_prior_to: 0,
        cid: ConnectionId([77; 9]),
    };
    let retire = |path, sequence| PathRetireConnectionId { path, sequence };
    let data = ControlData {
        kind: ControlKind::Bundle,
        message: 0,
        offset: 0,
        total: 4,
        data: b"data",
    };
    let state = Some(0x05);
    let breach = Some(0x0a);
    vec![
        both(Frame::Padding { len: 9 }, None),
        both(Frame::Ping, None),
        both(Frame::MaxData { max: 0 }, None),
        both(Frame::MaxData { max: (1 << 62) - 1 }, None),
        both(
            Frame::MaxStreams {
                uni: false,
                max: 1 << 60,
            },
            None,
        ),
        both(Frame::MaxStreams { uni: true, max: 0 }, None),
        both(Frame::DataBlocked { at: (1 << 62) - 1 }, None),
        both(
            Frame::StreamsBlocked {
                uni: true,
                at: 1 << 60,
            },
            None,
        ),
        both(Frame::StreamsBlocked { uni: false, at: 0 }, None),
        both(Frame::PathChallenge([1; 8]), None),
        both(Frame::PathResponse([2; 8]), None),
        both(Frame::Datagram(Datagram { data: b"" }), None),
        both(Frame::Datagram(Datagram { data: &[9; 500] }), None),
        both(Frame::PathNewConnectionId(cid(0)), None),
        both(Frame::PathNewConnectionId(cid(1)), breach),
        both(Frame::PathRetireConnectionId(retire(0, 0)), None),
        both(Frame::PathRetireConnectionId(retire(3, 0)), breach),
        both(Frame::PathRetireConnectionId(retire(0, 1 << 40)), breach),
        both(close(None), None),
        both(close(Some(0x1f)), None),
        // Nobody asked for these, or agreed to take part.
        both(Frame::ObservedAddress(ADDRESS), breach),
        both(Frame::AddAddress(ADDRESS), breach),
        both(Frame::RemoveAddress { sequence: 1 }, breach),
        both(Frame::PunchMeNow(PUNCH), breach),
        (Frame::HandshakeDone, breach, None),
        // What the other side may not yet, or never, be told. Streams 0 and 2 are a client's, 1 and 3 a relay's.
        (stream(0, 0, b"hello", false), None, state),
        (stream(1, 0, b"hello", false), state, None),
        (stream(2, 0, b"hello", true), None, state),
        (stream(3, 0, b"hello", true), state, None),
        (reset(0), None, state),
        (reset(1), state, None),
        (reset(2), None, state),
        (reset(3), state, None),
        (stop(0), None, state),
        (stop(1), state, None),
        (stop(2), state, state),
        (stop(3), state, state),
        (credit(0), None, state),
        (credit(1), state, None),
        (credit(2), state, state),
        (credit(3), state, state),
        (blocked(0), None, state),
        (blocked(1), state, None),
        (blocked(2), None, state),
        (blocked(3), state, None),
        // A bundle that is none is refused, and the connection stands; a client has none to give.
        (Frame::ControlData(data), breach, None),
        (
            Frame::ControlData(ControlData { message: 1, ..data }),
            breach,
            breach,
        ),
        (
            Frame::NewTicket(NewTicket {
                serial: 1,
                lifetime_s: u32::MAX,
                max_early: u32::MAX,
                ticket: &[7; TICKET_LEN],
            }),
            breach,
            None,
        ),
    ]
}

/// How far a connection is when the frame comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// A client that has its keys and no HANDSHAKE_DONE; a relay that has seen one packet.
    Young,
    /// Confirmed, with an id announced and acknowledged.
    Standing,
    /// It has closed, and answers now and then.
    Closing,
    /// The peer has closed; it says nothing.
    Draining,
}

/// The end under test, and the scripted peer.
fn bed(seed: u64, against: Way, stage: Stage) -> (Pair, Raw) {
    let (mut pair, mut raw) = match against {
        Way::Up => pair(seed),
        Way::Down => {
            let mut pair = Pair::new(Options::new(seed));
            let raw = Raw::stand_in(&mut pair, seed, &generous());
            (pair, raw)
        }
    };
    if stage != Stage::Young {
        if against == Way::Down {
            raw.say(&mut pair, &[Frame::HandshakeDone]);
        }
        raw.hear(&pair);
        let ack = raw.honest_ack(0).unwrap();
        raw.say_bytes(&mut pair, &ack);
    }
    let now = pair.now(against);
    match stage {
        Stage::Young | Stage::Standing => {}
        Stage::Closing => pair.receiver(against).connection().close(now, 77, b"enough"),
        Stage::Draining => raw.say(
            &mut pair,
            &[Frame::Close(Close {
                code: 78,
                frame_type: None,
                reason: b"",
            })],
        ),
    }
    pair.settle();
    raw.forget(&mut pair);
    (pair, raw)
}

fn said(pair: &Pair, against: Way) -> usize {
    pair.record
        .iter()
        .filter(|passing| passing.way != against)
        .count()
}

/// CVE-2025-59530 (quic-go): a frame in a state in which nobody expected it. Every frame, at either end, in every state: the
/// verdict is the one of the table while the connection stands, and none at all once it ends.
#[test]
fn every_frame_in_every_state_has_its_verdict() {
    let mut seed = 0;
    for against in [Way::Up, Way::Down] {
        for stage in [Stage::Young, Stage::Standing, Stage::Closing, Stage::Draining] {
            for (frame, at_relay, at_client) in all() {
                seed += 1;
                let (mut pair, mut raw) = bed(seed, against, stage);
                let what = format!("{frame:?} {against:?}, {stage:?}");
                let before = pair.receiver(against).closed().cloned();
                raw.say(&mut pair, &[frame]);
                let verdict = if against == Way::Up { at_relay } else { at_client };
                let end = pair.receiver(against);
                let after = end.closed().cloned();
                let is_close = matches!(frame, Frame::Close(_));
                match stage {
                    Stage::Young | Stage::Standing => check_verdict(end, verdict, is_close, &what),
                    Stage::Closing | Stage::Draining => assert_eq!(before, after, "{what}"),
                }
                let most = match stage {
                    Stage::Young | Stage::Standing => 12,
                    Stage::Closing => 1,
                    Stage::Draining => 0,
                };
                assert!(said(&pair, against) <= most, "{what}: {}", said(&pair, against));
                if after.is_some() {
                    pair.run_for(Duration::from_secs(5));
                    assert_eq!(pair.receiver(against).endpoint.stats().connections, 0, "{what}");
                }
            }
        }
    }
}

fn check_verdict(end: &mut End, verdict: Option<u64>, is_close: bool, what: &str) {
    match (end.closed(), verdict) {
        (Some(CloseReason::Transport { code, by: By::Local }), Some(expected)) => {
            assert_eq!(*code, expected, "{what}");
        }
        (
            Some(CloseReason::Transport { by: By::Peer, .. } | CloseReason::Application { by: By::Peer, .. }),
            None,
        ) => {
            assert!(is_close, "{what}");
        }
        (None, None) => assert!(!is_close, "{what}"),
        (other, expected) => panic!("{what}: {other:?}, not {expected:?}"),
    }
}

/// What has become of a stream when a frame for it comes.
const FATES: [&str; 5] = ["open", "finished", "reset", "read to its end", "stopped here"];

/// The same for frames of a stream in every state of that stream, as a relay sees a client's stream.
#[test]
fn every_stream_frame_in_every_state_of_a_stream_has_its_verdict() {
    let reset = |final_size| Frame::ResetStream {
        id: 0,
        code: 1,
        final_size,
    };
    let size = Some(0x06);
    // The stream carries five bytes. One verdict for each fate.
    let table: [(Frame<'_>, [Option<u64>; 5]); 9] = [
        (stream(0, 0, b"12345", false), [None; 5]),
        (stream(0, 0, b"12345", true), [None; 5]),
        (stream(0, 5, b"6", false), [None, size, size, None, None]),
        (stream(0, 5, b"6", true), [None, size, size, None, None]),
        (reset(5), [None; 5]),
        (reset(6), [None, size, size, None, None]),
        (Frame::StopSending { id: 0, code: 1 }, [None; 5]),
        (Frame::MaxStreamData { id: 0, max: 1 << 30 }, [None; 5]),
        (Frame::StreamDataBlocked { id: 0, at: 5 }, [None; 5]),
    ];
    for (row, (frame, verdicts)) in table.into_iter().enumerate() {
        for (column, (fate, verdict)) in FATES.iter().zip(verdicts).enumerate() {
            let (mut pair, mut raw) = pair(1000 + 10 * row as u64 + column as u64);
            raw.say(&mut pair, &[stream(0, 0, b"12345", matches!(column, 1 | 3))]);
            let server = pair.server.connection();
            let id = server.accept(transport_core::Direction::Bi).unwrap();
            match column {
                2 => raw.say(&mut pair, &[reset(5)]),
                3 => {
                    assert!(server.read(id, &mut [0; 9]).unwrap().fin);
                    server.reset(id, 1).unwrap();
                    pair.settle();
                    raw.hear(&pair);
                    let ack = raw.honest_ack(0).unwrap();
                    raw.say_bytes(&mut pair, &ack);
                }
                4 => server.stop(id, 9).unwrap(),
                _ => {}
            }
            raw.say(&mut pair, &[frame]);
            assert_eq!(ended(&pair), verdict, "{frame:?} for a stream that is {fate}");
        }
    }
}

/// RUSTSEC-2026-0037, CVE-2023-42805 (quinn), haproxy's loop over types: integers and frames cut at every byte, sealed with
/// real keys. Each ends the connection as an encoding error; none panics, none is taken for something else.
#[test]
fn a_frame_cut_off_at_any_byte_is_an_encoding_error() {
    let big = (1 << 62) - 1;
    let mut samples: Vec<Vec<u8>> = all().iter().map(|(frame, ..)| encode(&[*frame])).collect();
    samples.extend([
        encode(&[Frame::MaxStreamData { id: 4, max: big }]),
        encode(&[stream(1 << 40, 1 << 50, &[1; 70], true)]),
        Raw::ack_ranges(1 << 40, &[1 << 41..=1 << 42, 70..=1 << 30, 3..=9]),
    ]);
    let mut seed = 5000;
    for sample in samples {
        // Padding is many frames of one byte, and each of them is whole.
        for cut in (1..sample.len()).filter(|_| sample[0] != 0) {
            seed += 1;
            let (mut pair, mut raw) = pair(seed % 7);
            raw.say_bytes(&mut pair, &sample[..cut]);
            assert_eq!(ended(&pair), Some(0x07), "{sample:x?} cut at {cut}");
        }
    }
}

/// RFC 9000 §12.4: a packet without frames is a breach, not a forgery. Its shortest form was shorter than any packet once.
#[test]
fn a_packet_without_frames_is_a_breach() {
    let (mut pair, mut raw) = pair(6000);
    raw.say_bytes(&mut pair, &[]);
    assert_eq!(ended(&pair), Some(0x0a));
    assert_eq!(raw.heard_close(&pair), Some(0x0a));
}

/// Writes down how long each line about an event would be.
struct Diary(Arc<Mutex<(usize, usize)>>);

impl Observer for Diary {
    fn on_event(&mut self, _: Now, event: &trace::Event<'_>) {
        let length = format!("{event:?}").len();
        let mut seen = self.0.lock().unwrap();
        *seen = (seen.0 + 1, seen.1.max(length));
    }
}

/// CVE-2024-52811, CVE-2026-40170 (ngtcp2): a log entry written into a buffer that was too small for the largest parameters.
/// Nothing a peer sends becomes a long line: acknowledgements of 256 ranges, ids, a reason as long as a packet.
#[test]
fn what_is_written_about_a_packet_does_not_grow_with_it() {
    let seen = Arc::new(Mutex::new((0, 0)));
    let config = EndpointConfig {
        server: Some(RELAY.config(Access::Open, APP)),
        transport: TransportConfig::default(),
        observer: Some(Box::new(Diary(seen.clone()))),
    };
    let mut pair = Pair::idle(Options::new(6001));
    pair.server.endpoint = Endpoint::new(config, [1; 32], Box::new(SeededEntropy::new([2; 32])));
    let mut raw = Raw::join(&mut pair, 6001);
    for (frame, verdict, _) in all().into_iter().filter(|(_, verdict, _)| verdict.is_none()) {
        assert_eq!(verdict, None);
        // Without those that would end it, take away its ids, or contradict each other.
        let apart = matches!(
            frame,
            Frame::Close(_) | Frame::PathRetireConnectionId(_) | Frame::ResetStream { .. }
        );
        if !apart {
            raw.say(&mut pair, &[frame]);
        }
    }
    raw.hear(&pair);
    let ack = raw.honest_ack((1 << 62) - 1).unwrap();
    raw.say_bytes(&mut pair, &ack);
    assert_eq!(ended(&pair), None);
    let reason = [0xff; 1150];
    raw.say(
        &mut pair,
        &[Frame::Close(Close {
            code: (1 << 62) - 1,
            frame_type: None,
            reason: &reason,
        })],
    );
    let Some(CloseReason::Application { reason, .. }) = pair.server.closed() else {
        panic!("{:?}", pair.server.closed());
    };
    assert_eq!(reason.len(), 1000, "a reason is cut to what is kept");
    let (events, longest) = *seen.lock().unwrap();
    // A byte of the reason takes five characters in a list of numbers.
    assert!(events > 30 && longest < 6000, "{events} events, {longest} bytes");
}

/// Found by fuzzing: behind the peer's CLOSE, in the same packet, frames were heard again once our own end had begun, and the
/// application was told of a stream after it had been told of the end.
#[test]
fn what_stands_behind_a_close_is_not_heard() {
    let (mut pair, mut raw) = pair(6002);
    let last_word = Frame::Close(Close {
        code: 1,
        frame_type: None,
        reason: b"",
    });
    let behind = Frame::StopSending { id: 0, code: 0 };
    let nonsense = Frame::ResetStream {
        id: 2,
        code: 0,
        final_size: 1 << 61,
    };
    raw.say(&mut pair, &[nonsense, last_word, behind]);
    raw.say(&mut pair, &[last_word, behind]);
    assert!(
        matches!(pair.server.events.last(), Some(Event::Closed(_))),
        "{:?}",
        pair.server.events
    );
}
