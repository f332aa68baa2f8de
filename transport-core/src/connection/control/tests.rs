#![expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin; nothing depends on it"
)]

use transport_crypto::{Bundle, BundleDraft, RelayIdentity, RelayStatics, SeededEntropy};
use transport_scheduler::Side;

use super::*;
use crate::connection::Event;
use crate::connection::tests::{Bed, relay};
use crate::trace::DropReason;
use crate::wire::frame::Frame;

fn piece(message: u64, total: u64, offset: u64, data: &[u8]) -> ControlData<'_> {
    ControlData {
        kind: ControlKind::Bundle,
        message,
        total,
        offset,
        data,
    }
}

fn message(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 % 251) as u8).collect()
}

/// Takes a piece off the sender.
fn send(control: &mut Control, room: usize) -> Option<(u64, Vec<u8>, Piece)> {
    let (frame, piece) = control.next_piece(room)?;
    let taken = (frame.offset, frame.data.to_vec(), piece);
    control.piece_sent(piece);
    Some(taken)
}

#[test]
fn lost_pieces_go_again_and_the_next_message_waits_for_the_last_of_this_one() {
    let mut out = Control::new(1);
    let (first, second) = (message(6600), message(700));
    assert!(out.offer(2, first.clone().into()));
    let pieces: Vec<_> = std::iter::from_fn(|| send(&mut out, 1200)).collect();
    assert_eq!(pieces.len(), 6);
    assert!(!out.has_pending());
    assert!(out.offer(3, second.clone().into()));
    assert!(!out.has_pending(), "one at a time");
    for (_, _, piece) in &pieces[..5] {
        out.piece_acked(*piece);
    }
    let last = pieces[5].2;
    out.piece_lost(pieces[0].2);
    assert!(!out.has_pending(), "what arrived is not sent again");
    out.piece_lost(last);
    let (offset, data, again) = send(&mut out, 1200).unwrap();
    assert_eq!(data, first[offset as usize..]);
    out.piece_acked(again);
    let (_, data, _) = send(&mut out, 1200).unwrap();
    assert_eq!(data, second);
    assert_eq!(out.next_piece(1200), None);
    out.piece_lost(last);
    assert!(!out.has_pending(), "a piece of a message that is over");
}

#[test]
fn a_waiting_message_gives_way_to_a_newer_one() {
    let mut out = Control::new(1);
    assert!(out.offer(2, message(10).into()));
    assert!(out.offer(3, message(20).into()) && out.offer(4, message(30).into()));
    assert!(!out.offer(4, message(40).into()), "the client has it");
    assert!(!out.offer(5, message(MOST + 1).into()), "too long for anyone");
    let (_, _, piece) = send(&mut out, 1200).unwrap();
    out.piece_acked(piece);
    assert_eq!(send(&mut out, 1200).unwrap().1, message(30));
}

#[test]
fn no_scrap_is_sent_where_more_waits() {
    let mut out = Control::new(1);
    assert!(out.offer(2, message(1000).into()));
    assert_eq!(out.next_piece(100), None);
    assert_eq!(out.next_piece(3), None);
    assert!(
        out.next_piece(400)
            .is_some_and(|(frame, _)| Frame::ControlData(frame).encoded_len() <= 400)
    );
}

#[test]
fn pieces_in_any_order_with_copies_and_overlaps_make_one_message() {
    let whole = message(500);
    let mut inner = Control::new(1);
    for start in (0..500).step_by(50).rev() {
        let end = (start + 75).min(500);
        for _ in 0..2 {
            let data = &whole[start..end];
            match inner.receive(&piece(0, 500, start as u64, data)).unwrap() {
                Some(found) => assert_eq!((found, start), (whole.clone(), 0)),
                None => assert!(start > 0 || inner.received == 1),
            }
        }
    }
    assert_eq!(inner.received, 1);
    assert_eq!(inner.memory(), 0, "the buffer goes with the message");
}

#[test]
fn a_late_copy_is_no_piece_of_the_next_message() {
    let mut inner = Control::new(1);
    assert_eq!(
        inner.receive(&piece(0, 3, 0, b"abc")).unwrap(),
        Some(b"abc".to_vec())
    );
    assert_eq!(inner.receive(&piece(0, 3, 0, b"abc")).unwrap(), None);
    assert_eq!(inner.memory(), 0);
    assert_eq!(
        inner.receive(&piece(1, 3, 0, b"xyz")).unwrap(),
        Some(b"xyz".to_vec())
    );
}

#[test]
fn contradictions_are_breaches() {
    let breaks = |second: ControlData<'_>| {
        let mut inner = Control::new(1);
        assert_eq!(inner.receive(&piece(0, 6, 0, b"abc")).unwrap(), None);
        inner.receive(&second).is_err()
    };
    assert!(breaks(piece(0, 7, 3, b"d")), "another length");
    assert!(breaks(piece(0, 6, 2, b"xd")), "another byte");
    assert!(
        breaks(piece(1, 6, 0, b"a")),
        "the next before the end of this one"
    );
    assert!(!breaks(piece(0, 6, 2, b"cd")));
    let mut inner = Control::new(1);
    assert!(inner.receive(&piece(0, 8193, 0, b"a")).is_err(), "too long");
}

#[test]
fn signatures_are_checked_a_few_times_an_hour() {
    let start = Instant::now();
    let mut inner = Control::new(1);
    let checked = (0..1000).filter(|_| inner.may_check(start)).count();
    assert_eq!(checked, usize::from(MAX_CHECKS));
    let later = start + CHECK_PERIOD;
    let checked = (0..1000).filter(|_| inner.may_check(later)).count();
    assert_eq!(checked, usize::from(MAX_CHECKS));
}

fn signed(relay: &RelayIdentity, epoch: u64, not_before: u64) -> Vec<u8> {
    let statics = RelayStatics::generate(&mut SeededEntropy::new([epoch as u8; 32])).unwrap();
    let draft = BundleDraft {
        epoch,
        not_before,
        not_after: not_before + 3600,
        endpoints: Vec::new(),
    };
    relay.sign_bundle(&draft, &statics).unwrap()
}

/// The relay sends a message; the bundle the application gets, if it does.
fn deliver(bed: &mut Bed, message: u64, bytes: &[u8]) -> Option<Bundle> {
    for (at, data) in bytes.chunks(1000).enumerate() {
        bed.frame(&Frame::ControlData(piece(
            message,
            bytes.len() as u64,
            at as u64 * 1000,
            data,
        )));
    }
    std::iter::from_fn(|| bed.connection.poll_event()).find_map(|event| match event {
        Event::Bundle(bundle) => Some(bundle),
        _ => None,
    })
}

#[test]
fn a_client_takes_only_its_own_relays_next_bundle_that_is_valid_now() {
    let (own, other) = (
        relay(),
        RelayIdentity::generate(&mut SeededEntropy::new([77; 32])).unwrap(),
    );
    let mut bed = Bed::new(Side::Client);
    let mut forged = signed(&own, 9, 0);
    *forged.last_mut().unwrap() ^= 1;
    let refused = [
        ("the epoch it has", signed(&own, 1, 0)),
        ("forged", forged),
        ("another relay's", signed(&other, 9, 0)),
        ("not valid yet", signed(&own, 9, 50)),
        ("no bundle at all", vec![0; 5]),
    ];
    for (message, (why, bytes)) in refused.iter().enumerate() {
        assert_eq!(deliver(&mut bed, message as u64, bytes), None, "{why}");
        assert_eq!(
            bed.drops.get(DropReason::BundleRefused),
            message as u64 + 1,
            "{why}"
        );
    }
    let good = signed(&own, 3, 0);
    let taken = deliver(&mut bed, 5, &good).expect("its next bundle");
    assert_eq!(taken.bytes(), good);
    assert_eq!(deliver(&mut bed, 6, &good), None, "it has that now");
    assert_eq!(
        deliver(&mut bed, 7, &signed(&own, 2, 0)),
        None,
        "there is no way back"
    );
    assert_eq!(bed.ended_with(), None);
}

#[test]
fn a_flood_of_forged_bundles_costs_a_few_checks_and_nothing_else() {
    let mut bed = Bed::new(Side::Client);
    let good = signed(&relay(), 3, 0);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    for message in 0..u64::from(MAX_CHECKS) {
        assert_eq!(deliver(&mut bed, message, &forged), None);
    }
    let next = u64::from(MAX_CHECKS);
    assert_eq!(deliver(&mut bed, next, &good), None, "not even looked at");
    bed.now.instant += CHECK_PERIOD;
    bed.now.unix_ms += 3_599_000;
    assert!(deliver(&mut bed, next + 1, &good).is_some());
    assert_eq!(bed.drops.get(DropReason::BundleRefused), next + 1);
}

#[test]
fn what_nobody_asked_for_is_counted_and_a_client_has_no_bundle_to_give() {
    for side in [Side::Client, Side::Server] {
        let mut bed = Bed::new(side);
        for kind in [ControlKind::Bind, ControlKind::Rekey] {
            let data = ControlData {
                kind,
                ..piece(0, 8192, 0, b"x")
            };
            bed.frame(&Frame::ControlData(data));
        }
        assert_eq!(bed.drops.get(DropReason::ControlUnasked), 2);
        assert_eq!(bed.connection.pending.control.memory(), 0, "no buffer for it");
        bed.frame(&Frame::ControlData(piece(0, 5, 0, b"x")));
        let ends = (side == Side::Server).then_some(code::PROTOCOL_VIOLATION);
        assert_eq!(bed.ended_with(), ends);
    }
}

#[test]
fn a_lie_about_a_bundle_ends_the_connection() {
    let mut bed = Bed::new(Side::Client);
    bed.frame(&Frame::ControlData(piece(0, 100, 0, b"abc")));
    assert_eq!(bed.connection.pending.control.memory(), 100 + MOST / 8);
    bed.frame(&Frame::ControlData(piece(0, 101, 3, b"d")));
    assert_eq!(bed.ended_with(), Some(code::PROTOCOL_VIOLATION));
}
