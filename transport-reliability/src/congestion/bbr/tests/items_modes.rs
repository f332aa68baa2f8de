//! What a hand-written BBR gets wrong silently, modes and recovery: a test each.

use std::time::Duration;

use super::hand::{BDP, BW, Hand, MDS, RTT, UNBOUNDED};
use super::link::{MS, SECOND};
use crate::congestion::bbr::State;
use crate::congestion::bbr::model::INFINITE;

/// A round trip with something in the queue.
const QUEUED: Duration = Duration::from_millis(RTT.as_millis() as u64 * 5 / 4);

/// Startup with `ranges` losses of two packets in a round, and the round after them, each of which takes so long.
fn lossy_startup(ranges: u64, round: Duration) -> Hand {
    let mut hand = Hand::steady(State::Startup);
    hand.bbr.full.reached = false;
    hand.flight(50);
    let sent = hand.send(100);
    hand.wait(round);
    hand.ack(&sent[..1]);
    let after = hand.send(50);
    for range in 0..ranges {
        let at = 10 + 4 * range as usize;
        hand.lose(&sent[at..at + 2]);
    }
    assert_eq!(hand.bbr.state, State::Startup, "not within the round");
    hand.ack(&sent[50..]);
    assert_eq!(hand.bbr.state, State::Startup);
    hand.wait(round);
    let last = hand.send(1);
    hand.ack(&after);
    hand.wait(round);
    hand.ack(&last);
    hand
}

#[test]
fn item_14_startup_ends_by_losses_of_six_ranges_over_a_round() {
    assert_eq!(lossy_startup(5, QUEUED).bbr.state, State::Startup);
    let hand = lossy_startup(6, QUEUED);
    assert_ne!(hand.bbr.state, State::Startup);
    assert!(hand.bbr.full.reached && hand.bbr.full.now);
    let bound = hand.bbr.bounds.inflight_longterm;
    assert!(
        (BDP..INFINITE).contains(&bound),
        "max(BDP, delivered in the round): {bound}"
    );
    assert_eq!(hand.bbr.undo.state, Some(State::Startup));
}

#[test]
fn startup_without_a_queue_goes_on_until_a_tenth_is_lost() {
    assert_eq!(lossy_startup(6, RTT).bbr.state, State::Startup);
    assert_ne!(lossy_startup(10, RTT).bbr.state, State::Startup);
}

/// A flow that just entered ProbeRTT, RTT samples inflated to a second.
fn probing_rtt(full: bool) -> Hand {
    let mut hand = Hand::steady(if full { State::Cruise } else { State::Startup });
    hand.bbr.full.reached = full;
    hand.flight(100);
    hand.wait(4100 * MS);
    let sent = hand.send(150);
    hand.wait(SECOND);
    hand.ack(&sent[..10]);
    if !full {
        assert_eq!(
            hand.bbr.state,
            State::Startup,
            "a search may go on for another five seconds"
        );
        hand.wait(5100 * MS);
        hand.ack(&sent[10..20]);
    }
    hand
}

#[test]
fn item_15_probe_rtt_marks_samples_and_returns_to_where_it_belongs() {
    for full in [true, false] {
        let mut hand = probing_rtt(full);
        assert_eq!(hand.bbr.state, State::ProbeRtt);
        assert!(hand.bbr.sampler.is_app_limited(), "from the first ACK on");
        assert_eq!(hand.bbr.probe_rtt_cwnd(), BDP / 2);
        assert_eq!(hand.bbr.cwnd, BDP / 2);
        hand.bbr.cycle.wait = Duration::ZERO;
        let mut rounds = 0;
        while hand.bbr.state == State::ProbeRtt {
            hand.in_flight = 0;
            hand.flight(40);
            rounds += 1;
            assert!(rounds < 6);
        }
        assert!(rounds >= 3, "200 ms and a round");
        assert_eq!(hand.bbr.state, if full { State::Cruise } else { State::Startup });
        assert!(hand.bbr.cwnd > BDP, "the window is restored");
    }
}

/// What ProbeRTT let through is no measure for what a loss soon after it should leave.
#[test]
fn item_15_a_loss_after_probe_rtt_cuts_nothing_and_the_next_one_does() {
    let mut hand = probing_rtt(true);
    while hand.bbr.state == State::ProbeRtt {
        hand.in_flight = 0;
        hand.flight(40);
    }
    hand.in_flight = 0;
    for cuts in [false, true] {
        let sent = hand.send(40);
        hand.wait(100 * MS);
        hand.lose(&sent[..4]);
        hand.ack(&sent[4..]);
        let last = hand.send(1);
        hand.wait(100 * MS);
        hand.ack(&last);
        assert_eq!(hand.bbr.bounds.bw_shortterm < INFINITE, cuts);
    }
}

#[test]
fn item_15_the_probes_window_is_of_the_rtt_before_it_expired() {
    let mut hand = Hand::steady(State::Cruise);
    hand.flight(100);
    // Both filters expire while a queue makes a round trip two seconds; the flow is never idle.
    let kept = hand.send(150);
    hand.wait(11 * SECOND);
    hand.ack(&kept[..100]);
    assert_eq!(hand.bbr.state, State::ProbeRtt);
    assert_eq!(
        hand.bbr.min_rtt.min,
        Some(11 * SECOND),
        "the sample at hand is all there is"
    );
    assert_eq!(
        hand.bbr.probe_rtt_cwnd(),
        BDP / 2,
        "but the window is not computed from it"
    );
}

#[test]
fn item_16_idle_means_silent_by_choice() {
    let mut hand = Hand::steady(State::Cruise);
    hand.flight(100);
    hand.bbr.pacing_rate = BW / 2;
    // Nothing in flight between two ACKs, and more to say: not idle.
    hand.flight(100);
    assert!(!hand.bbr.idle_restart);
    hand.bbr.pacing_rate = BW / 2;
    hand.send(1);
    assert_eq!((hand.bbr.idle_restart, hand.bbr.pacing_rate), (false, BW / 2));
    let mut hand = Hand::steady(State::Down);
    hand.flight(100);
    hand.bbr.on_app_limited(0);
    hand.wait(20 * SECOND);
    let sent = hand.send(10);
    assert!(hand.bbr.idle_restart);
    assert_eq!(
        hand.bbr.pacing_rate,
        (BW as f64 * 0.99) as u64,
        "exactly the bandwidth"
    );
    hand.wait(RTT + MS);
    hand.ack(&sent);
    assert_ne!(hand.bbr.state, State::ProbeRtt, "silence drained the queue");
    assert!(!hand.bbr.idle_restart);
    assert_eq!(hand.bbr.min_rtt.min, Some(RTT + MS));
    assert!(hand.bbr.aggregation.extra() <= 100 * MDS);
}

#[test]
fn item_17_the_rate_begins_with_the_initial_window_and_only_rises_in_startup() {
    let mut hand = Hand::fresh();
    assert_eq!(
        hand.bbr.rate(&hand.rtt),
        27_700_000,
        "ten datagrams a millisecond"
    );
    let sent = hand.send(10);
    hand.wait(RTT);
    hand.rtt.sample(RTT, Duration::ZERO);
    assert_eq!(hand.bbr.rate(&hand.rtt), 277_000, "2.77 · 10 kB / 100 ms");
    hand.bbr.on_app_limited(hand.in_flight);
    hand.ack(&sent[..1]);
    assert_eq!(
        hand.bbr.rate(&hand.rtt),
        277_000,
        "10 kB/s delivered lower nothing"
    );
    hand.ack(&sent[1..]);
    for _ in 0..20 {
        hand.bbr.on_app_limited(0);
        hand.flight(1);
    }
    assert_eq!(
        (hand.bbr.state, hand.bbr.rate(&hand.rtt)),
        (State::Startup, 277_000)
    );
    hand.flight(40);
    assert_eq!(hand.bbr.rate(&hand.rtt), (2.77 * 400_000.0 * 0.99) as u64);
}

#[test]
fn item_20_after_a_probe_that_went_too_high_the_next_one_is_careful() {
    let mut hand = Hand::up();
    let sent = hand.send(120);
    hand.wait(RTT);
    hand.ack(&sent[100..]);
    hand.lose(&sent[90..94]);
    assert_eq!((hand.bbr.state, hand.bbr.cycle.too_high), (State::Down, true));
    hand.ack(&sent[..90]);
    let rest: Vec<u64> = sent[94..100].to_vec();
    hand.ack(&rest);
    let bound = hand.bbr.bounds.inflight_longterm;
    hand.flight(50);
    hand.bbr.start_refill();
    hand.flight(80);
    assert_eq!(hand.bbr.state, State::Up);
    let packets = bound / MDS + 5;
    let probe = hand.send(packets + 1);
    hand.wait(RTT);
    hand.ack(&probe[..1]);
    assert_eq!(
        (hand.bbr.state, hand.bbr.cycle.precautionary),
        (State::Down, true),
        "as soon as it is reached"
    );
    assert!(!hand.bbr.cycle.too_high);
    hand.ack(&probe[1..]);
    hand.flight(50);
    assert_eq!(hand.bbr.state, State::Refill, "it went well: at once again");
    hand.flight(80);
    assert_eq!((hand.bbr.state, hand.bbr.cycle.precautionary), (State::Up, false));
}

#[test]
fn item_21_an_outage_leaves_one_more_than_what_flies_and_is_forgotten_afterwards() {
    let mut hand = Hand::steady(State::Cruise);
    hand.flight(100);
    let window = hand.bbr.cwnd;
    let sent = hand.send(20);
    hand.bbr.on_recovery_start();
    hand.lose(&sent[..10]);
    hand.bbr.on_persistent_congestion(hand.in_flight);
    assert_eq!(hand.bbr.cwnd, 11 * MDS);
    hand.lose(&sent[10..18]);
    hand.bbr.on_persistent_congestion(hand.in_flight);
    assert_eq!(hand.bbr.cwnd, 4 * MDS, "never less than four");
    hand.bbr.on_recovery_end();
    assert_eq!(hand.bbr.cwnd, window);
    hand.bbr.on_recovery_end();
    assert_eq!(hand.bbr.cwnd, window);
}

#[test]
fn item_22_late_acks_undo_the_exit_of_startup_and_of_up() {
    let mut hand = lossy_startup(6, QUEUED);
    hand.bbr.on_spurious_event();
    assert_eq!((hand.bbr.state, hand.bbr.full.reached), (State::Startup, false));
    assert_eq!(hand.bounds(), UNBOUNDED);
    let mut hand = Hand::up();
    let sent = hand.send(120);
    hand.wait(RTT);
    hand.ack(&sent[100..]);
    hand.lose(&sent[90..94]);
    assert_eq!(hand.bbr.state, State::Down);
    assert!(hand.bbr.bounds.inflight_longterm < INFINITE);
    hand.bbr.on_spurious_event();
    assert_eq!((hand.bbr.state, hand.bbr.full.reached), (State::Refill, true));
    assert_eq!(hand.bounds(), UNBOUNDED);
    hand.bbr.on_spurious_event();
    assert_eq!(hand.bbr.state, State::Refill, "once");
    // In ProbeRTT the state stays, Startup's search is resumed after it.
    let mut hand = lossy_startup(6, QUEUED);
    hand.bbr.state = State::ProbeRtt;
    hand.bbr.on_spurious_event();
    assert_eq!((hand.bbr.state, hand.bbr.full.reached), (State::ProbeRtt, false));
}
