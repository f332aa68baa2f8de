//! Window, pacing and path changes through the façade.

use super::*;

/// Sends what the permit covers now; the bytes of it.
fn burst(path: &mut Path, sent: &mut Vec<(Instant, u64)>) -> u64 {
    let packets = path.recovery.permit(path.now).bytes() / usize::from(MDS);
    for _ in 0..packets {
        let number = path.send();
        sent.push((path.now, number));
    }
    (packets * usize::from(MDS)) as u64
}

/// A bulk transfer over a lossless link of fixed delay, every packet acknowledged after `rtt`.
fn bulk(path: &mut Path, rtt: Duration, time: Duration) -> Vec<(Instant, u64)> {
    let (end, mut sent, mut acked) = (path.now + time, Vec::new(), 0);
    let mut bursts = Vec::new();
    while path.now < end {
        let start = path.now;
        let bytes = burst(path, &mut sent);
        if bytes > 0 {
            bursts.push((start, bytes));
        }
        let pacing = path
            .recovery
            .next_timeout()
            .filter(|(_, why)| *why == Why::Pacing)
            .map(|(at, _)| at);
        let ack = sent.get(acked).map(|(at, _)| *at + rtt);
        path.now = pacing
            .into_iter()
            .chain(ack)
            .min()
            .expect("something goes on")
            .max(path.now);
        path.recovery.on_timeout(path.now, &mut path.out);
        let arrived: Vec<u64> = sent[acked..]
            .iter()
            .take_while(|(at, _)| *at + rtt <= path.now)
            .map(|(_, number)| *number)
            .collect();
        if !arrived.is_empty() {
            acked += arrived.len();
            path.ack(&arrived).expect("honest");
            assert!(path.out.lost.is_empty(), "a perfect link");
        }
    }
    bursts
}

#[test]
fn slow_start_doubles_every_round_and_bursts_stay_small() {
    let mut path = Path::new(100);
    let bursts = bulk(&mut path, 100 * MS, 450 * MS);
    assert!(path.cwnd() >= 8 * 12_000, "{}", path.cwnd());
    let rate = path.recovery.stats().pacing_bytes_per_s;
    let largest = bursts.iter().map(|(_, bytes)| *bytes).max().expect("bursts");
    assert!(largest <= (2 * rate / 1000).max(4 * 1200), "{largest} at {rate}");
}

#[test]
fn one_reduction_and_one_extra_packet_when_recovery_begins() {
    let mut path = Path::fresh();
    let sent = path.send_many(10);
    path.wait(100 * MS);
    path.ack(&sent[3..4]).expect("honest");
    assert_eq!(path.out.lost, sent[..1]);
    assert_eq!((path.cwnd(), path.in_flight()), (8400, 9600));
    assert_eq!(path.recovery.permit(path.now), Permit::Retransmit);
    path.send();
    assert_eq!(path.recovery.permit(path.now), Permit::AcksOnly);
    path.ack(&sent[4..5]).expect("honest");
    assert_eq!(
        (path.out.lost.as_slice(), path.cwnd()),
        (&sent[1..2], 8400),
        "the same event"
    );
}

#[test]
fn an_application_that_sends_little_keeps_its_window() {
    let mut path = Path::new(20);
    for _ in 0..200 {
        let sent = path.send();
        path.recovery.app_limited(path.now);
        path.wait(20 * MS);
        path.ack(&[sent]).expect("honest");
    }
    assert_eq!(path.cwnd(), 12_000);
}

#[test]
fn a_shut_pacer_asks_to_be_woken_once() {
    let mut path = Path::new(100);
    let mut sent = Vec::new();
    assert_eq!(
        burst(&mut path, &mut sent),
        2400,
        "two datagrams are the smallest quantum"
    );
    assert_eq!(path.recovery.permit(path.now), Permit::AcksOnly);
    // 240 kB/s: 2400 bytes take 10 ms.
    assert_eq!(
        path.recovery.next_timeout(),
        Some((path.now + 10 * MS, Why::Pacing))
    );
    assert_eq!(path.recovery.next_send(), Some(path.now + 10 * MS));
    path.recovery.app_limited(path.now);
    assert_eq!(
        path.timeout(),
        Why::Pacing,
        "data may come before the pacer opens"
    );
    assert!(
        matches!(path.recovery.next_timeout(), Some((_, Why::Probe))),
        "and only once"
    );
    path.wait(10_000 * MS);
    path.recovery.on_timeout(path.now, &mut path.out);
    assert_eq!(
        path.recovery.permit(path.now).bytes(),
        2400,
        "idle time is not saved up"
    );
}

#[test]
fn a_deadline_in_the_past_never_stays() {
    let mut path = Path::new(100);
    path.send_many(10);
    path.wait(100_000 * MS);
    for _ in 0..3 {
        path.recovery.on_timeout(path.now, &mut path.out);
    }
    let (at, _) = path.recovery.next_timeout().expect("a probe to come");
    assert!(at > path.now);
}

#[test]
fn a_fixed_rate_ignores_losses() {
    let algorithm = Algorithm::Fixed {
        bytes_per_s: 1_000_000,
    };
    let config = Config {
        max_datagram: MDS,
        algorithm,
        ..Config::default()
    };
    let mut path = Path {
        recovery: Recovery::new(config),
        ..Path::fresh()
    };
    path.recovery.seed_rtt(100 * MS);
    let sent = path.send_many(20);
    path.wait(100 * MS);
    path.ack(&sent[10..]).expect("honest");
    assert_eq!(path.out.lost.len(), 10);
    let stats = path.recovery.stats();
    assert_eq!(
        (stats.cwnd, stats.pacing_bytes_per_s, stats.in_flight),
        (200_000, 1_000_000, 0)
    );
}

#[test]
fn a_new_path_starts_over_and_old_packets_do_not_touch_it() {
    let mut path = Path::new(100);
    let old = path.send_many(10);
    path.wait(100 * MS);
    path.ack(&old[..4]).expect("honest");
    path.recovery.reset_path(path.now);
    assert_eq!((path.cwnd(), path.in_flight()), (12_000, 0));
    assert!(!path.recovery.rtt().is_sampled());
    let new = path.send_many(4);
    assert!(new[0] > old[9], "numbers go on");
    path.wait(30 * MS);
    path.ack(&old[4..6]).expect("honest");
    assert_eq!(path.out.acked, old[4..6], "content still comes home");
    assert!(!path.out.rtt_updated);
    path.ack(&new).expect("honest");
    assert_eq!(path.out.lost, old[6..]);
    assert_eq!(path.recovery.rtt().smoothed(), 30 * MS);
    assert!(path.cwnd() >= 12_000, "their loss is not this path's congestion");
    assert_eq!(path.in_flight(), 0);
}

#[test]
fn a_larger_datagram_raises_the_floor() {
    let mut path = outaged();
    path.recovery.set_max_datagram(1472);
    assert_eq!(path.cwnd(), 2 * 1472);
}

/// A path in persistent congestion.
fn outaged() -> Path {
    let mut path = Path::new(10);
    let mut sent = Vec::new();
    for _ in 0..6 {
        sent.push(path.send());
        path.wait(500 * MS);
    }
    sent.push(path.send());
    path.wait(10 * MS);
    path.ack(&sent[6..]).expect("honest");
    assert!(path.out.persistent_congestion);
    path
}
