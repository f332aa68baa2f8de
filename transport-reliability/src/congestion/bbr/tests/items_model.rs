//! What a hand-written BBR gets wrong silently, the model and its bounds: a test each.

use std::time::Duration;

use super::hand::{BW, Hand, MDS, RTT};
use super::items::sample;
use super::link::{MS, SECOND};
use super::world::World;
use crate::congestion::bbr::model::{Aggregation, INFINITE};
use crate::congestion::bbr::rs::{LossSample, Sampler};
use crate::congestion::bbr::startup::FullPipe;
use crate::congestion::bbr::{Packet, State, loss};
use crate::start;

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
    assert_eq!(loss::inflight_at_loss(&odd, 20), 0);
    let early = LossSample {
        size: 60_000,
        in_flight_then: 160_000,
        lost: 60_000,
        app_limited: false,
    };
    assert_eq!(
        loss::inflight_at_loss(&early, 20),
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
        let moment = hand.moment();
        hand.bbr.adapt_lower_bounds(moment);
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
