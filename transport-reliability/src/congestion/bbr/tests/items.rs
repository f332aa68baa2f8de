//! What a hand-written BBR gets wrong silently, measurement and model: a test each.

use std::time::Duration;

use super::hand::{BDP, BW, Hand, MDS, RTT};
use super::link::{MS, SECOND, World};
use crate::congestion::bbr::model::{Aggregation, Bounds, INFINITE, MaxBw};
use crate::congestion::bbr::probe_bw::AckPhase;
use crate::congestion::bbr::rs::{LossSample, RateSample, Sampler};
use crate::congestion::bbr::startup::FullPipe;
use crate::congestion::bbr::{Packet, State, loss};
use crate::start;

fn sample(delivery_rate: u64, app_limited: bool) -> RateSample {
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

#[test]
fn item_11_losses_act_when_they_are_found_and_once_a_probe() {
    let mut hand = Hand::up();
    let sent = hand.send(120);
    hand.wait(RTT);
    hand.ack(&sent[110..]);
    assert_eq!(hand.bbr.state, State::Up);
    hand.lose(&sent[50..53]);
    assert_eq!(hand.bbr.state, State::Down, "before any further ACK");
    // The third loss crossed 2 % of what was in flight with packet 53: 52 before it, of which two may be lost.
    let bound = hand.bbr.bounds.inflight_longterm;
    assert_eq!(bound, loss_bound(53));
    hand.lose(&sent[60..80]);
    assert_eq!(hand.bbr.bounds.inflight_longterm, bound, "once");
    let odd = LossSample {
        size: 1500,
        in_flight_then: 1000,
        lost: 1000,
        app_limited: false,
    };
    assert_eq!(loss::inflight_at_loss(&odd), 0);
    let early = LossSample {
        size: 60_000,
        in_flight_then: 160_000,
        lost: 60_000,
        app_limited: false,
    };
    assert_eq!(
        loss::inflight_at_loss(&early),
        102_040,
        "2 % of 102 kB, within the packet"
    );
}

/// `max(what was in flight before the third loss, β · BDP)`.
fn loss_bound(number: u64) -> u64 {
    ((number - 1) * MDS).max(70 * MDS)
}

#[test]
fn item_12_the_short_term_is_cut_at_round_ends_and_never_while_probing() {
    for state in [State::Startup, State::Refill, State::Up] {
        let mut hand = Hand::steady(state);
        hand.bbr.full.reached = state != State::Startup;
        hand.bbr.cycle.probe_sample = false;
        let sent = hand.send(100);
        hand.lose(&sent[..30]);
        hand.bbr.bounds.loss_round_start = true;
        hand.bbr.adapt_lower_bounds();
        assert_eq!(hand.bounds(), super::hand::UNBOUNDED, "{state:?}");
    }
    let mut hand = Hand::steady(State::Cruise);
    hand.flight(100);
    let sent = hand.send(100);
    hand.wait(RTT);
    hand.ack(&sent[..50]);
    hand.lose(&sent[50..70]);
    hand.ack(&sent[70..]);
    assert_eq!(hand.bounds().0, INFINITE, "the round is not over");
    hand.flight(60);
    // What 80 packets in a round trip delivered, above β · 1 MB/s; and β of the window, above those 80 packets.
    assert_eq!(hand.bounds(), (800_000, 210_000, INFINITE));
}

#[test]
fn item_13_growth_is_a_quarter() {
    let mut full = FullPipe::default();
    full.update(&sample(1000, false), true);
    full.update(&sample(1249, false), true);
    assert_eq!((full.rounds, full.baseline), (1, 1000));
    full.update(&sample(1250, false), true);
    assert_eq!(
        (full.rounds, full.baseline),
        (0, 1250),
        "less than a third is growth"
    );
    for _ in 0..3 {
        full.update(&sample(1500, true), true);
        full.update(&sample(1500, false), false);
    }
    assert_eq!(
        full.rounds, 0,
        "neither the application's rounds nor their middle count"
    );
    for _ in 0..3 {
        assert!(!full.reached);
        full.update(&sample(1300, false), true);
    }
    assert!(full.now && full.reached);
}

#[test]
fn item_18_the_smallest_rtt_is_of_the_newest_packet_even_on_a_loopback() {
    let mut hand = Hand::fresh();
    let old = hand.send(1);
    hand.wait(40 * MS);
    let new = hand.send(1);
    hand.wait(30 * MS);
    hand.ack(&[old[0], new[0]]);
    assert_eq!(hand.bbr.min_rtt.min, Some(30 * MS));
    // 20 µs, 1 Gbit/s: two packets of BDP. Probes end all the same, and the window is not stuck at its floor.
    let mut world = World::new(125_000_000, Duration::from_micros(20), 1200, 10.0);
    world.run_for(30 * MS);
    let ups = world
        .states
        .iter()
        .filter(|(_, state)| *state == State::Up)
        .count();
    assert!(
        ups >= 2 && world.bbr().cwnd > 5 * 1200,
        "{:?}",
        world.states.len()
    );
    let goodput = world.received as f64 / world.elapsed().as_secs_f64();
    assert!(goodput > 0.9 * 125e6, "{goodput}");
}

#[test]
fn item_19_aggregation_widens_the_window_within_bounds() {
    let (mut aggregation, now) = (Aggregation::default(), start());
    aggregation.restart(now);
    aggregation.update(now + 10 * MS, 50_000, BW, 200_000, 1, false);
    assert_eq!(aggregation.extra(), 50_000);
    aggregation.update(now + 20 * MS, 50_000, BW, 200_000, 2, false);
    assert_eq!(aggregation.extra(), 90_000, "10 kB of 100 were expected in 10 ms");
    aggregation.update(now + 20 * MS, 500_000, BW, 200_000, 3, false);
    assert_eq!(aggregation.extra(), 200_000, "a window at most");
    for round in 4..=12 {
        aggregation.update(now + round as u32 * SECOND, 1, BW, 200_000, round, false);
        assert_eq!(aggregation.extra(), 200_000);
    }
    aggregation.update(now + 13 * SECOND, 1, BW, 200_000, 13, false);
    assert_eq!(aggregation.extra(), 1, "ten rounds later it is forgotten");
    aggregation.update(now + 14 * SECOND, 9_000, BW, 200_000, 14, true);
    aggregation.update(now + 15 * SECOND, 7, BW, 200_000, 15, true);
    assert_eq!(aggregation.extra(), 7, "Startup remembers one round");
    // A sample over less than a round trip is none.
    let mut sampler = Sampler::default();
    let stamp = sampler.on_sent(now, MDS, MDS);
    let packet = Packet {
        number: 1,
        size: MDS,
        sent_at: now,
        stamp,
    };
    sampler.on_acked(now + 10 * MS, packet);
    let short = sampler.generate(now + 10 * MS, Some(RTT)).expect("a sample");
    assert_eq!((short.delivery_rate, short.newly_acked), (0, MDS));
}
