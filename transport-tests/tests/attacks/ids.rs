//! Connection ids given and taken back without end.

use transport_core::wire::ConnectionId;
use transport_core::wire::frame::{Frame, Frames, PathNewConnectionId, PathRetireConnectionId};
use transport_tests::misbehave::{Raw, encode};
use transport_tests::oracle::memory::{Counting, cpu_ns};
use transport_tests::pair::Pair;

use crate::{ended, forget_what_is_sent, pair};

/// Ids the relay keeps of a client, and retirements it lets wait: its bounds.
const KEPT: usize = 4;
const RETIRING: usize = 8;

fn new(sequence: u64, retire_prior_to: u64) -> Frame<'static> {
    let mut cid = [7; 9];
    cid[..8].copy_from_slice(&sequence.to_be_bytes());
    Frame::PathNewConnectionId(PathNewConnectionId {
        path: 0,
        sequence,
        retire_prior_to,
        cid: ConnectionId(cid),
    })
}

fn retire(sequence: u64) -> Frame<'static> {
    Frame::PathRetireConnectionId(PathRetireConnectionId { path: 0, sequence })
}

/// Sends a million copies of `frame` and gives the bytes they left behind and the processor time of both halves.
fn million(pair: &mut Pair, raw: &mut Raw, frame: Frame<'_>) -> (i64, [u64; 2]) {
    let length = frame.encoded_len();
    let packet = encode(&vec![frame; 1150 / length]);
    forget_what_is_sent(pair, raw);
    raw.say_bytes(pair, &packet);
    let (held, mut cpu) = (Counting::held(), [0; 2]);
    for half in &mut cpu {
        let before = cpu_ns();
        for _ in 0..500_000 / (1150 / length) {
            raw.say_bytes(pair, &packet);
        }
        *half = cpu_ns() - before;
    }
    (Counting::held() - held, cpu)
}

/// CVE-2024-22189 (quic-go), CVE-2024-1410 (quiche), RUSTSEC-2026-0339 (quinn), CVE-2025-7054 (quiche): a peer gives ids that
/// retire each other and acknowledges nothing. The queue of retirements ends at twice the limit, and with it the connection.
#[test]
fn ids_that_retire_each_other_end_the_connection_at_twice_the_limit() {
    let (mut pair, mut raw) = pair(1);
    let mut taken = 0;
    for sequence in 1..1000 {
        raw.say(&mut pair, &[new(sequence, sequence)]);
        if ended(&pair).is_some() {
            break;
        }
        taken += 1;
    }
    assert_eq!((ended(&pair), taken), (Some(0x09), RETIRING));
    let (mut pair, mut raw) = self::pair(2);
    let most = (1..1000).take_while(|sequence| {
        raw.say(&mut pair, &[new(*sequence, 0)]);
        ended(&pair).is_none()
    });
    assert_eq!(most.count(), KEPT - 1, "and no more are kept than were asked for");
    assert_eq!(ended(&pair), Some(0x09));
}

/// The branch of RUSTSEC-2026-0339 and CVE-2024-1410 that was forgotten: ids that arrive when they are retired already.
#[test]
fn ids_that_come_retired_already_end_the_connection_at_twice_the_limit() {
    let (mut pair, mut raw) = pair(3);
    raw.say(&mut pair, &[new(100, 100)]);
    assert_eq!(ended(&pair), None);
    let taken = (1..100).take_while(|sequence| {
        raw.say(&mut pair, &[new(*sequence, 0)]);
        ended(&pair).is_none()
    });
    assert_eq!(
        taken.count(),
        RETIRING - 1,
        "the first retirement is that of the handshake's id"
    );
    assert_eq!(ended(&pair), Some(0x09));
}

/// A million frames of each kind that change nothing, with every acknowledgement withheld: nothing is kept, and the second
/// half costs what the first did.
#[test]
fn a_million_copies_of_an_id_or_of_a_retirement_leave_nothing_behind() {
    let setup: [(&str, &[Frame<'_>], Frame<'_>); 4] = [
        ("the same id", &[], new(1, 0)),
        (
            "an id whose retirement is not acknowledged",
            &[new(2, 0), new(3, 3)],
            new(2, 0),
        ),
        ("a retirement again", &[retire(0)], retire(0)),
        ("the id that retired the others", &[], new(5, 5)),
    ];
    for (seed, (what, before, frame)) in (4..).zip(setup) {
        let (mut pair, mut raw) = pair(seed);
        if !before.is_empty() {
            raw.say(&mut pair, before);
        }
        raw.say(&mut pair, &[frame]);
        let (held, cpu) = million(&mut pair, &mut raw, frame);
        assert_eq!(ended(&pair), None, "{what}");
        assert!(held < 64 << 10, "{what}: {held} bytes more");
        assert!(cpu[1] < 3 * cpu[0], "{what}: {cpu:?} ns");
    }
}

/// A client can retire only what it was told of. Ids that were made and wait to be announced are none of that; otherwise a
/// client that acknowledges nothing could have them made without end.
#[test]
fn retiring_an_id_before_it_was_announced_is_a_breach() {
    let (mut pair, mut raw) = pair(10);
    let held = Counting::held();
    let all: Vec<Frame<'_>> = (0..200).map(retire).collect();
    raw.say(&mut pair, &all);
    assert_eq!(ended(&pair), Some(0x0a));
    assert!(Counting::held() - held < 64 << 10);
}

/// The same client retires each id as soon as it hears of it, and acknowledges nothing: when the congestion window is full
/// it hears of no more, and what waits to be announced is never more than the ids there are.
#[test]
fn retiring_every_announced_id_without_acknowledging_ends_with_the_window() {
    let (mut pair, mut raw) = pair(11);
    let mut retired = 0;
    let mut grown = 0;
    for round in 0..2000 {
        let heard = raw.hear(&pair);
        raw.forget(&mut pair);
        let announced: Vec<u64> = heard
            .iter()
            .flat_map(|frames| Frames::new(frames).flatten())
            .filter_map(|frame| match frame {
                Frame::PathNewConnectionId(new) => Some(new.sequence),
                _ => None,
            })
            .collect();
        let before = Counting::held();
        for sequence in announced {
            raw.say(&mut pair, &[retire(sequence)]);
            retired += 1;
        }
        raw.say(&mut pair, &[Frame::Ping]);
        if round > 1000 {
            grown += Counting::held() - before;
        }
        assert_eq!(ended(&pair), None);
    }
    assert!((20..2000).contains(&retired), "{retired} retired");
    assert!(grown < 256 << 10, "{grown} bytes more");
    let stats = pair.server.connection().stats();
    assert!(stats.in_flight <= stats.cwnd + 2000, "{stats:?}");
}
