//! Marks: who is believed, and what they do to the window.

use super::*;

fn counts(ect0: u64, ce: u64) -> Option<EcnCounts> {
    Some(EcnCounts { ect0, ect1: 0, ce })
}

/// A path on which marks work; so many packets were acknowledged as ECT(0).
fn capable(algorithm: Algorithm) -> (Path, u64) {
    let mut path = Path::with(algorithm);
    path.recovery.seed_rtt(100 * MS);
    path.ect = true;
    let numbers = path.send_many(10);
    path.wait(100 * MS);
    path.ecn = counts(10, 0);
    path.ack(&numbers).unwrap();
    assert_eq!(path.recovery.stats().ecn, EcnState::Capable);
    (path, 10)
}

#[test]
fn a_mark_takes_fifteen_percent_from_cubic_once_a_round_trip() {
    let (mut path, counted) = capable(Algorithm::Cubic);
    let before = path.cwnd();
    let numbers = path.send_many(10);
    path.wait(100 * MS);
    path.ecn = counts(counted + 1, 1);
    path.ack(&numbers[..2]).unwrap();
    let after = path.cwnd();
    let expected = (before + 2 * u64::from(MDS)) as f64 * 0.85;
    assert!(
        (after as f64 - expected).abs() <= 2.0 * f64::from(MDS),
        "{before} to {after}"
    );
    path.ecn = counts(counted + 1, 9);
    path.ack(&numbers).unwrap();
    assert!(path.cwnd() >= after, "the same round trip");
    assert_eq!(path.recovery.stats().declared_lost, 0);
}

#[test]
fn marks_that_cannot_be_true_change_no_window() {
    let lies = [
        counts(0, 0),
        counts(11, 0),
        counts(10, 50),
        counts(u64::MAX, 1),
        None,
    ];
    for lie in lies {
        let (mut path, _) = capable(Algorithm::Cubic);
        let before = path.cwnd();
        let numbers = path.send_many(2);
        path.wait(100 * MS);
        path.ecn = lie;
        path.ack(&numbers).unwrap();
        assert_eq!(path.recovery.stats().ecn, EcnState::Failed, "{lie:?}");
        assert!(!path.recovery.is_marking());
        assert!(path.cwnd() >= before, "{lie:?}");
    }
}

#[test]
fn nothing_is_marked_before_the_test_was_answered_and_on_a_new_path_it_begins_anew() {
    let mut path = Path::new(100);
    path.ect = true;
    assert!(path.recovery.is_marking());
    let numbers = path.send_many(10);
    assert!(!path.recovery.is_marking(), "ten packets are the test");
    path.wait(100 * MS);
    path.ecn = counts(10, 0);
    path.ack(&numbers).unwrap();
    assert!(path.recovery.is_marking());
    path.recovery.reset_path(path.now);
    assert_eq!(path.recovery.stats().ecn, EcnState::Testing);
}

#[test]
fn who_does_not_heed_marks_asks_for_none() {
    let rate = Algorithm::Fixed {
        bytes_per_s: 1_000_000,
    };
    assert!(!Path::with(rate).recovery.is_marking());
    assert!(Path::with(Algorithm::Bbr).recovery.is_marking());
}

#[test]
fn a_mark_is_acknowledged_at_once_but_a_row_of_them_is_not_a_row_of_acks() {
    let mut path = Path::new(100);
    let receive = |path: &mut Path, number: u64, ce: u64| {
        let fresh = path.recovery.check(number).unwrap();
        path.recovery.received(fresh, path.now, true);
        let one = EcnCounts {
            ect0: 1 - ce,
            ect1: 0,
            ce,
        };
        path.recovery.received_mark(path.now, one);
        let due = path.recovery.acks_due(path.now).is_some();
        if due {
            path.recovery.acks_sent(path.now);
        }
        due
    };
    assert!(receive(&mut path, 0, 0), "the first of all");
    assert!(!receive(&mut path, 1, 0));
    assert!(receive(&mut path, 2, 1), "the first mark (and the second packet)");
    assert!(!receive(&mut path, 3, 1), "not each of a row");
    assert!(receive(&mut path, 4, 1), "every second as always");
    assert!(!receive(&mut path, 5, 0));
    assert!(receive(&mut path, 6, 1));
    let counted = path.recovery.marks_received();
    assert_eq!(
        counted,
        Some(EcnCounts {
            ect0: 3,
            ect1: 0,
            ce: 4
        })
    );
}
