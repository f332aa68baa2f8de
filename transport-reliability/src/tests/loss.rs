//! RFC 9002 §6 and §7.6, rule by rule.

use super::*;

#[test]
fn three_later_packets_make_a_loss() {
    let mut path = Path::new(100);
    let sent = path.send_many(5);
    path.wait(100 * MS);
    path.ack(&sent[1..3]).expect("honest");
    assert!(path.out.lost.is_empty());
    path.ack(&sent[3..4]).expect("honest");
    assert_eq!(path.out.lost, sent[..1]);
    // Two acknowledged in slow start: 0.7 of twelve datagrams.
    assert_eq!((path.cwnd(), path.in_flight()), (10_080, 1200));
}

#[test]
fn nine_eighths_of_an_rtt_make_a_loss() {
    let mut path = Path::new(80);
    let first = path.send();
    path.wait(10 * MS);
    let second = path.send();
    path.wait(75 * MS);
    path.ack(&[second]).expect("honest");
    assert!(path.out.lost.is_empty());
    // srtt = (7·80 + 75)/8 = 79.375 ms, and an eighth more since the first left 85 ms ago.
    let due = path.now + Duration::from_nanos(4_296_875);
    assert_eq!(path.recovery.next_timeout(), Some((due, Why::Loss)));
    assert_eq!(path.timeout(), Why::Loss);
    assert_eq!(path.out.lost, [first]);
    assert_eq!(path.recovery.next_timeout(), None);
}

#[test]
fn packets_above_the_largest_acknowledged_are_never_lost() {
    let mut path = Path::new(100);
    let sent = path.send_many(4);
    path.wait(100 * MS);
    path.ack(&sent[..1]).expect("honest");
    path.wait(10_000 * MS);
    path.recovery.on_timeout(path.now, &mut path.out);
    assert!(path.out.lost.is_empty());
    assert_eq!(path.recovery.probes_due(), 2, "they are probed for instead");
}

#[test]
fn a_probe_timeout_backs_off_and_declares_nothing() {
    let mut path = Path::new(100);
    let sent = path.send_many(10);
    // srtt + 4·rttvar + max_ack_delay = 100 + 200 + 25.
    assert_eq!(path.recovery.pto(), 325 * MS);
    let mut last = path.now;
    for count in 0..4 {
        assert_eq!(path.timeout(), Why::Probe);
        assert_eq!(path.now - last, 325 * MS * (1 << count));
        assert!(path.out.lost.is_empty());
        assert_eq!(
            (path.recovery.probes_due(), path.recovery.pto_count()),
            (2, count + 1)
        );
        assert_eq!(
            path.recovery.permit(path.now),
            Permit::Retransmit,
            "beyond a full window"
        );
        assert_eq!(path.recovery.oldest_unacked(), Some(&sent[0]));
        last = path.now;
        path.send_many(2);
        assert_eq!(path.recovery.probes_due(), 0);
        assert_eq!(path.recovery.permit(path.now), Permit::AcksOnly);
    }
    assert_eq!(path.cwnd(), 12_000, "a timeout is not congestion");
    path.ack(&sent).expect("honest");
    assert_eq!(
        (path.recovery.pto_count(), path.recovery.stats().pto_count_total),
        (0, 4)
    );
}

#[test]
fn no_probe_is_armed_at_the_amplification_limit() {
    let mut path = Path::new(100);
    path.send();
    path.recovery.app_limited(path.now);
    path.recovery.disarm_probe(true);
    assert_eq!(path.recovery.next_timeout(), None);
    path.recovery.disarm_probe(false);
    assert_eq!(
        path.recovery.next_timeout(),
        Some((path.now + 325 * MS, Why::Probe))
    );
}

#[test]
fn a_spurious_loss_is_counted_undone_and_teaches_patience() {
    let mut path = Path::new(100);
    let sent = path.send_many(10);
    path.wait(100 * MS);
    path.ack(&sent[2..9]).expect("honest");
    assert_eq!(path.out.lost, sent[..2]);
    assert_eq!(path.cwnd(), 8400);
    path.ack(&sent[..1]).expect("late");
    assert_eq!(
        (path.out.spurious, path.cwnd()),
        (1, 8400),
        "one of two may still be lost"
    );
    path.ack(&sent[1..2]).expect("late");
    assert_eq!(
        (path.out.spurious, path.out.acked.len()),
        (1, 0),
        "its content went back as lost"
    );
    assert_eq!((path.cwnd(), path.recovery.stats().ssthresh), (12_000, u64::MAX));
    // Seven numbers late, capped at half the window.
    assert_eq!(path.recovery.thresholds.packets(), 5);
    let more = path.send_many(6);
    path.wait(100 * MS);
    path.ack(&[sent[9], more[4]]).expect("honest");
    assert!(path.out.lost.is_empty(), "four behind are forgiven now");
    path.ack(&more[5..]).expect("honest");
    assert_eq!(path.out.lost, more[..1]);
}

#[test]
fn a_late_ack_after_the_memory_has_faded_is_nothing() {
    let mut path = Path::new(100);
    let sent = path.send_many(5);
    path.wait(100 * MS);
    path.ack(&sent[1..]).expect("honest");
    assert_eq!(path.out.lost, sent[..1]);
    path.wait(2 * path.recovery.pto());
    path.recovery.on_timeout(path.now, &mut path.out);
    path.ack(&sent[..1]).expect("late");
    assert_eq!((path.out.spurious, path.cwnd()), (0, 8400));
}

#[test]
fn a_lost_mtu_probe_is_not_congestion() {
    let mut path = Path::new(100);
    let probe = path.send_as(1400, true, SentKind::MtuProbe);
    let sent = path.send_many(4);
    path.wait(100 * MS);
    path.ack(&sent).expect("honest");
    assert_eq!(path.out.lost, [probe]);
    assert!(path.cwnd() >= 12_000);
    assert_eq!(path.in_flight(), 0);
}

/// Losses spread over `gap` between packets; what the ACK of a last packet makes of them.
fn outage(gap: Duration, acked_between: bool) -> Path {
    let mut path = Path::new(100);
    let first = path.send();
    path.wait(100 * MS);
    path.ack(&[first]).expect("honest");
    let mut lost = Vec::new();
    for _ in 0..6 {
        lost.push(path.send());
        path.wait(gap);
    }
    let last = path.send();
    path.wait(100 * MS);
    let acked = if acked_between {
        vec![lost[3], last]
    } else {
        vec![last]
    };
    path.ack(&acked).expect("honest");
    path
}

#[test]
fn an_outage_of_three_timeouts_is_persistent_congestion() {
    // The third sample of 100 ms leaves rttvar at 28.125: 3·(100 + 112.5 + 25) = 712.5 ms.
    let path = outage(145 * MS, false);
    assert!(path.out.persistent_congestion);
    assert_eq!((path.out.lost.len(), path.cwnd()), (6, 2400));
    let path = outage(142 * MS, false);
    assert!(
        !path.out.persistent_congestion,
        "710 ms between the first and the last"
    );
    let path = outage(200 * MS, true);
    assert!(
        !path.out.persistent_congestion,
        "something got through in between"
    );
}

#[test]
fn no_persistent_congestion_before_a_sample_of_the_path() {
    let mut path = Path::fresh();
    let lost = path.send();
    path.wait(10_000 * MS);
    path.send_many(3);
    let last = path.send();
    path.wait(100 * MS);
    path.ack(&[last]).expect("honest");
    assert!(path.out.lost.contains(&lost) && !path.out.persistent_congestion);
}

#[test]
fn an_abandoned_flight_is_lost_without_congestion() {
    let mut path = Path::new(100);
    let sent = path.send_many(8);
    let window = path.cwnd();
    path.recovery.abandon(path.now, &mut path.out);
    assert_eq!(path.out.lost, sent);
    assert_eq!((path.in_flight(), path.cwnd()), (0, window));
    assert_eq!(path.recovery.next_timeout(), None, "nothing is waited for");
    let again = path.send_many(3);
    path.wait(100 * MS);
    path.ack(&again).expect("honest");
    assert_eq!((path.in_flight(), path.recovery.stats().declared_lost), (0, 8));
    assert!(path.cwnd() >= window);
}
