//! What a hand-written BBR gets wrong silently, measurement and rounds: a test each.

use super::hand::{BDP, BW, Hand, MDS, RTT};
use super::link::{MS, SECOND};
use crate::congestion::bbr::model::{Bounds, INFINITE, MaxBw};
use crate::congestion::bbr::probe_bw::AckPhase;
use crate::congestion::bbr::rs::{RateSample, Sampler};
use crate::congestion::bbr::{Packet, State};
use crate::start;

pub(super) fn sample(delivery_rate: u64, app_limited: bool) -> RateSample {
    RateSample {
        rtt: RTT,
        delivery_rate,
        delivered: BDP,
        newly_acked: MDS,
        prior_delivered: 0,
        app_limited,
        in_flight_then: BDP,
        lost: 0,
    }
}

#[test]
fn item_01_gains_come_of_the_state_alone() {
    let table = [
        (State::Startup, 2.77, 2.0),
        (State::Drain, 0.5, 2.0),
        (State::Down, 0.9, 2.0),
        (State::Cruise, 1.0, 2.0),
        (State::Refill, 1.0, 2.0),
        (State::Up, 1.25, 2.25),
        (State::ProbeRtt, 1.0, 0.5),
    ];
    for (state, pacing, cwnd) in table {
        assert_eq!(
            (state.pacing_gain(), state.cwnd_gain()),
            (pacing, cwnd),
            "{state:?}"
        );
    }
    let mut hand = Hand::up();
    assert_eq!(hand.bbr.pacing_rate, (1.25 * BW as f64 * 0.99) as u64);
    let sent = hand.send(150);
    hand.wait(RTT);
    hand.bbr.start_down(hand.moment());
    hand.ack(&sent[..10]);
    assert_eq!(hand.bbr.pacing_rate, (0.9 * BW as f64 * 0.99) as u64);
    assert!(hand.bbr.cwnd <= 2 * BDP + hand.bbr.aggregation.extra());
}

#[test]
fn item_02_coexistence_counts_packets() {
    let mut hand = Hand::steady(State::Cruise);
    assert_eq!(
        hand.bbr.reno_rounds(),
        63,
        "a hundred packets are more than 63 rounds"
    );
    (hand.bbr.bw, hand.bbr.max_bw.0) = (BW / 10, [BW / 10; 2]);
    assert_eq!(hand.bbr.reno_rounds(), 10);
    hand.bbr.cycle.rounds_since_up = 7;
    for round in 8..10 {
        hand.flight(9);
        assert_eq!(
            (hand.bbr.cycle.rounds_since_up, hand.bbr.state),
            (round, State::Cruise)
        );
    }
    hand.flight(9);
    assert_eq!(hand.bbr.state, State::Refill);
    hand.bbr.cwnd = 5 * MDS;
    assert_eq!(hand.bbr.reno_rounds(), 5, "congestion cut the window");
    (hand.bbr.bw, hand.bbr.cwnd) = (BW / 200, 4 * MDS);
    assert_eq!(hand.bbr.reno_rounds(), 4, "half a packet is not half a round");
}

#[test]
fn item_03_time_to_cruise_is_judged_by_the_long_term_bandwidth() {
    let mut hand = Hand::steady(State::Down);
    hand.bbr.bounds.bw_shortterm = BW / 2;
    hand.bbr.bw = BW / 2;
    let all = hand.send(100);
    hand.wait(RTT);
    hand.ack(&all[..10]);
    assert_eq!(hand.in_flight, 90 * MDS);
    assert_eq!(
        hand.bbr.state,
        State::Cruise,
        "90 kB are a queue at half the bandwidth only"
    );
}

#[test]
fn item_04_headroom_leaves_85_percent() {
    let mut bounds = Bounds::new();
    assert_eq!(bounds.with_headroom(MDS, 4 * MDS), INFINITE);
    bounds.inflight_longterm = 100_000;
    assert_eq!(bounds.with_headroom(MDS, 4 * MDS), 85_000);
    bounds.inflight_longterm = 5_500;
    assert_eq!(bounds.with_headroom(MDS, 4 * MDS), 4_500, "a datagram at least");
    bounds.inflight_longterm = 4_500;
    assert_eq!(bounds.with_headroom(MDS, 4 * MDS), 4_000);
    bounds.inflight_longterm = INFINITE - 1;
    assert!(bounds.with_headroom(MDS, 4 * MDS) < INFINITE);
}

#[test]
fn item_05_a_full_window_is_remembered_for_the_round() {
    let mut hand = Hand::up();
    hand.bbr.bounds.inflight_longterm = 120 * MDS;
    hand.bbr.cwnd = 120 * MDS;
    let sent = hand.send(120);
    hand.wait(RTT);
    hand.ack(&sent[..60]);
    assert!(
        hand.bbr.is_cwnd_limited(),
        "the ACK made room, the limit was met all the same"
    );
    hand.ack(&sent[60..]);
    assert!(hand.bbr.bounds.inflight_longterm > 120 * MDS, "the bound grows");
    hand.flight(10);
    hand.flight(10);
    assert!(!hand.bbr.is_cwnd_limited());
}

#[test]
fn item_06_a_packet_counts_itself_and_sending_after_silence_starts_the_clocks() {
    let (mut sampler, now) = (Sampler::default(), start());
    let stamp = sampler.on_sent(now, MDS, MDS);
    let packet = |stamp, sent_at| Packet {
        number: 1,
        size: MDS,
        sent_at,
        stamp,
    };
    sampler.on_acked(now + RTT, packet(stamp, now));
    let first = sampler.generate(now + RTT, None).expect("a sample");
    assert_eq!((first.in_flight_then, first.delivery_rate), (MDS, 10 * MDS));
    // Ten seconds of silence are no part of the next interval.
    let later = now + 10 * SECOND;
    let stamp = sampler.on_sent(later, MDS, MDS);
    sampler.on_acked(later + RTT, packet(stamp, later));
    let second = sampler.generate(later + RTT, None).expect("a sample");
    assert_eq!(second.delivery_rate, 10 * MDS);
    assert!(sampler.generate(later + RTT, None).is_none(), "nothing new");
}

#[test]
fn item_07_the_sample_is_of_the_packet_sent_last() {
    let (mut sampler, now) = (Sampler::default(), start());
    let early = sampler.on_sent(now, MDS, MDS);
    let late = sampler.on_sent(now + 10 * MS, MDS, 2 * MDS);
    let at = now + RTT;
    // The larger number left first, as on another path or by another clock.
    sampler.on_acked(
        at,
        Packet {
            number: 9,
            size: MDS,
            sent_at: now,
            stamp: early,
        },
    );
    sampler.on_acked(
        at,
        Packet {
            number: 5,
            size: MDS,
            sent_at: now + 10 * MS,
            stamp: late,
        },
    );
    let sample = sampler.generate(at, None).expect("a sample");
    assert_eq!((sample.rtt, sample.in_flight_then), (90 * MS, 2 * MDS));
    assert_eq!(sample.newly_acked, 2 * MDS);
}

#[test]
fn item_07_sending_is_timed_by_the_pacer_so_that_catching_up_overestimates_nothing() {
    let (mut sampler, now) = (Sampler::default(), start());
    let stamp = sampler.on_sent(now, MDS, MDS).lagging(10 * MS);
    let packet = |number, sent_at, stamp| Packet {
        number,
        size: MDS,
        sent_at,
        stamp,
    };
    let at = now + RTT;
    let last = sampler.on_sent(now + 5 * MS, MDS, 2 * MDS);
    sampler.on_acked(at, packet(1, now, stamp));
    let first = sampler.generate(at, None).expect("a sample");
    assert_eq!(first.rtt, RTT, "the round-trip time is as it was");
    let next = sampler.on_sent(at, MDS, 2 * MDS);
    sampler.on_acked(at, packet(2, now + 5 * MS, last));
    sampler.on_acked(at + RTT, packet(3, at, next));
    let sample = sampler.generate(at + RTT, None).expect("a sample");
    let wanted = (2.0 * MDS as f64 / (RTT + 10 * MS).as_secs_f64()) as u64;
    assert!(
        sample.delivery_rate.abs_diff(wanted) <= 1,
        "{} of {wanted}",
        sample.delivery_rate
    );
}

#[test]
fn item_08_rounds_end_with_what_was_sent_after_they_began() {
    let mut hand = Hand::steady(State::Cruise);
    let count = hand.bbr.rounds.count;
    let sent = hand.send(20);
    hand.wait(RTT);
    hand.ack(&sent[..10]);
    assert_eq!(hand.bbr.rounds.count, count + 1);
    hand.ack(&sent[10..]);
    assert_eq!(hand.bbr.rounds.count, count + 1, "sent before the round began");
    // A state that starts a round does not count one: packets sent before are of the old round.
    let old = hand.send(10);
    hand.wait(RTT / 2);
    let starts: [fn(&mut Hand); 3] = [
        |hand| hand.bbr.start_refill(),
        |hand| hand.bbr.start_down(hand.moment()),
        |hand| hand.bbr.start_refill(),
    ];
    for (at, begin) in starts.iter().enumerate() {
        hand.ack(&old[2 * at..=2 * at]);
        begin(&mut hand);
        let before = hand.bbr.rounds.count;
        hand.ack(&old[2 * at + 1..=2 * at + 1]);
        assert_eq!(hand.bbr.rounds.count, before);
    }
    hand.flight(1);
    assert_eq!(hand.bbr.rounds.count, count + 3);
}

#[test]
fn item_09_the_filter_advances_once_a_cycle_and_not_for_idle_flows() {
    let mut filter = MaxBw([5, 9]);
    filter.advance();
    assert_eq!((filter.get(), filter.0), (5, [0, 5]));
    filter.advance();
    assert_eq!(filter.get(), 5, "a cycle without samples is no cycle");
    let mut hand = Hand::steady(State::Down);
    for (app_limited, expected) in [(true, [BW, BW]), (false, [0, BW])] {
        hand.bbr.max_bw.0 = [BW, BW];
        hand.bbr.cycle.ack_phase = AckPhase::Stopping;
        if app_limited {
            hand.bbr.on_app_limited(hand.in_flight);
        }
        hand.flight(50);
        assert_eq!(
            (hand.bbr.max_bw.0, hand.bbr.cycle.ack_phase),
            (expected, AckPhase::Init)
        );
        hand.flight(50);
        assert!(hand.bbr.max_bw.0[1] == BW, "once");
    }
}

#[test]
fn item_10_application_limited_samples_raise_only() {
    let mut filter = MaxBw([BW, 0]);
    filter.update(&sample(BW / 2, true));
    assert_eq!(filter.get(), BW);
    filter.update(&sample(2 * BW, true));
    assert_eq!(filter.get(), 2 * BW);
    let (mut sampler, now) = (Sampler::default(), start());
    let first = sampler.on_sent(now, MDS, MDS);
    sampler.mark_app_limited(MDS);
    let second = sampler.on_sent(now, MDS, 2 * MDS);
    let packet = |number, stamp| Packet {
        number,
        size: MDS,
        sent_at: now,
        stamp,
    };
    sampler.on_acked(now + RTT, packet(1, first));
    assert!(!sampler.generate(now + RTT, None).expect("a sample").app_limited);
    assert!(sampler.is_app_limited(), "up to the mark");
    sampler.on_acked(now + RTT, packet(2, second));
    assert!(sampler.generate(now + RTT, None).expect("a sample").app_limited);
    assert!(!sampler.is_app_limited(), "beyond it");
}
