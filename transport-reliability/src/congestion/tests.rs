use super::*;
use crate::start;

const MDS: u64 = 1200;

fn rtt(millis: u64) -> Rtt {
    let mut rtt = Rtt::new(Duration::from_millis(333));
    rtt.sample(Duration::from_millis(millis), Duration::ZERO);
    rtt
}

fn progress(now: Instant, bytes: u64, largest: u64) -> Progress {
    Progress {
        now,
        bytes,
        largest,
        largest_sent: largest + 10,
        in_flight: 0,
        app_limited: false,
        sample: None,
    }
}

#[test]
fn initial_windows() {
    assert_eq!(initial_window(1200), 12_000);
    assert_eq!(initial_window(1472), 14_720);
    assert_eq!(initial_window(9000), 18_000);
}

#[test]
fn rates_follow_window_and_rtt() {
    let mut cubic = Controller::new(Algorithm::Cubic, MDS, 0);
    assert_eq!(cubic.rate(&Rtt::new(Duration::from_millis(333))), None);
    assert_eq!(
        cubic.rate(&rtt(100)),
        Some(240_000),
        "twice the window a round trip in slow start"
    );
    cubic.on_lost(5, 9);
    assert_eq!(
        cubic.rate(&rtt(100)),
        Some(105_000),
        "a quarter more than the window afterwards"
    );
    let fixed = Controller::new(
        Algorithm::Fixed {
            bytes_per_s: 1_000_000,
        },
        MDS,
        0,
    );
    assert_eq!(
        (fixed.rate(&rtt(100)), fixed.window(&rtt(100))),
        (Some(1_000_000), 200_000)
    );
    assert_eq!(fixed.window(&rtt(1)), 100_000);
}

#[test]
fn one_reduction_a_round_trip() {
    let (mut cubic, rtt) = (Controller::new(Algorithm::Cubic, MDS, 0), rtt(100));
    assert_eq!(cubic.on_lost(5, 20), (1, true));
    let window = cubic.window(&rtt);
    assert_eq!(window, 8400);
    assert_eq!(cubic.on_lost(7, 25), (1, false), "sent before the reduction");
    assert_eq!(cubic.on_lost(20, 26), (1, false));
    assert_eq!(cubic.window(&rtt), window);
    assert_eq!(cubic.on_lost(21, 30), (2, true));
    assert_eq!(cubic.window(&rtt), 5880);
}

#[test]
fn undone_only_when_every_packet_of_the_event_came() {
    let (mut cubic, rtt) = (Controller::new(Algorithm::Cubic, MDS, 0), rtt(100));
    let (event, _) = cubic.on_lost(5, 20);
    cubic.on_lost(6, 20);
    cubic.on_spurious(event);
    assert_eq!(cubic.window(&rtt), 8400);
    cubic.on_spurious(event);
    assert_eq!((cubic.window(&rtt), cubic.ssthresh()), (12_000, u64::MAX));
    let (second, fresh) = cubic.on_lost(7, 20);
    assert!(fresh, "after the undo it is as if there had been no event");
    cubic.on_spurious(event);
    assert_ne!(second, event);
    assert_eq!(
        cubic.window(&rtt),
        8400,
        "a late packet of an older event proves nothing about this one"
    );
}

#[test]
fn an_idle_application_does_not_grow_the_window() {
    let (mut cubic, now, rtt) = (Controller::new(Algorithm::Cubic, MDS, 0), start(), rtt(100));
    for number in 0..100 {
        cubic.on_sent(Moment { now, in_flight: MDS }, MDS, &rtt);
        cubic.on_ack(
            Progress {
                app_limited: true,
                ..progress(now, MDS, number * 20)
            },
            &rtt,
        );
    }
    assert_eq!(cubic.window(&rtt), 12_000);
    cubic.on_sent(
        Moment {
            now,
            in_flight: 6_000,
        },
        MDS,
        &rtt,
    );
    cubic.on_ack(
        Progress {
            app_limited: true,
            ..progress(now, MDS, 5_000)
        },
        &rtt,
    );
    assert_eq!(
        cubic.window(&rtt),
        13_200,
        "half the window is in use: slow start must not stall"
    );
}

#[test]
fn a_restart_forgets_events_and_ignores_the_old_path() {
    let (mut cubic, rtt) = (Controller::new(Algorithm::Cubic, MDS, 0), rtt(100));
    let (event, _) = cubic.on_lost(5, 20);
    cubic.restart(Algorithm::Cubic, 21);
    cubic.on_spurious(event);
    assert!(!cubic.counts(20) && cubic.counts(21));
    assert_eq!((cubic.window(&rtt), cubic.ssthresh()), (12_000, u64::MAX));
}
