#![expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin; nothing depends on it"
)]

use super::*;
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
