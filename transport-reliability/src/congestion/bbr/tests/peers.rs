//! What went wrong in other implementations, as tests.

use std::time::Duration;

use super::hand::{BW, Hand, MDS, RTT};
use super::link::{MS, SECOND};
use super::world::{App, World};
use crate::congestion::bbr::State;

/// 10 Mbit/s, 30 ms.
fn world(queue: f64) -> World {
    World::new(1_250_000, 30 * MS, 1200, queue)
}

#[test]
fn quinn_2798_a_tunnel_that_is_application_limited_keeps_a_bounded_window() {
    let mut world = world(4.0);
    world.set_app(App::Rate(200_000));
    world.run_for(20 * SECOND);
    let bbr = world.bbr();
    assert!(
        bbr.max_bw.get() > 150_000,
        "samples of such a sender enter an empty filter: {}",
        bbr.max_bw.get()
    );
    assert!(bbr.cwnd < 100_000, "{}", bbr.cwnd);
    assert!(bbr.aggregation.extra() < 20_000, "{}", bbr.aggregation.extra());
}

#[test]
fn hysteria_1105_pauses_shorter_than_the_pacing_do_not_hold_a_sender_in_startup() {
    let mut world = world(4.0);
    // An application that is always a little behind at first, then keeps up.
    world.set_app(App::Rate(1_200_000));
    world.run_for(SECOND);
    world.set_app(App::Bulk);
    assert!(
        world.run_until(SECOND, |world| world.bbr().full.reached),
        "{}",
        world.trace()
    );
}

#[test]
fn quiche_2496_no_plateau_on_a_long_path_whose_flight_lands_in_one_ack() {
    let mut world = World::new(1_250_000, 600 * MS, 1200, 2.0);
    // All of a flight is acknowledged at once: in flight is zero between two ACKs again and again.
    world.link.slot = Some(600 * MS);
    world.run_for(40 * SECOND);
    let (at, received) = (world.now, world.received);
    world.run_for(20 * SECOND);
    let goodput = (world.received - received) as f64 / (world.now - at).as_secs_f64();
    assert!(goodput > 0.7 * 1_250_000.0, "{goodput} {}", world.trace());
    assert!(world.bbr().cwnd >= world.bdp(), "{}", world.bbr().cwnd);
}

#[test]
fn picoquic_1670_up_ends_though_the_round_trip_grew() {
    let mut world = world(10.0);
    world.reach(State::Up, 10 * SECOND);
    world.link.rtt *= 5;
    world.leave(3 * SECOND);
    world.run_for(20 * SECOND);
    let (at, received) = (world.now, world.received);
    world.run_for(10 * SECOND);
    let goodput = (world.received - received) as f64 / (world.now - at).as_secs_f64();
    assert!(
        goodput > 0.85 * 1_250_000.0,
        "the new round trip is learnt: {goodput} {}",
        world.trace()
    );
}

#[test]
fn picoquic_1493_startup_loses_little_on_a_shallow_buffer() {
    let mut world = world(0.5);
    assert!(
        world.run_until(SECOND, |world| world.bbr().full.reached),
        "{}",
        world.trace()
    );
    assert!(
        world.run_until(SECOND, |world| world.state() == State::Cruise),
        "{}",
        world.trace()
    );
    // The sixteen packets of queue are half a BDP. The draft waits for a full round of losses.
    assert!(world.dropped * world.mds < 2 * world.bdp(), "{}", world.dropped);
    let dropped = world.dropped;
    world.run_for(90 * MS);
    assert_eq!(world.dropped, dropped, "recovered");
}

#[test]
fn xquic_602_four_packets_are_the_least() {
    let mut hand = Hand::steady(State::Cruise);
    hand.flight(100);
    hand.bbr.on_persistent_congestion(0);
    assert_eq!(hand.bbr.cwnd, 4 * MDS);
    hand.bbr.bounds.inflight_shortterm = 1;
    hand.flight(1);
    assert_eq!(hand.bbr.cwnd, 4 * MDS);
    hand.bbr.set_max_datagram(1500);
    assert_eq!(hand.bbr.cwnd, 6000);
}

#[test]
fn s2n_1539_the_long_term_bound_rises_when_the_path_does() {
    let mut world = world(1.0);
    world.run_for(5 * SECOND);
    let bound = world.bdp() * 6 / 5;
    world.bbr_mut().bounds.inflight_longterm = bound;
    world.link.rate *= 4;
    world.link.queue *= 4;
    let grown = world.run_until(10 * SECOND, |world| world.bbr().max_bw.get() > 4_500_000);
    assert!(grown, "{} {}", world.bbr().max_bw.get(), world.trace());
    assert!(world.bbr().bounds.inflight_longterm > 2 * bound);
}

#[test]
fn one_lost_datagram_ends_no_probe() {
    let mut hand = Hand::up();
    let sent = hand.send(30);
    hand.wait(RTT);
    hand.lose(&sent[10..11]);
    assert_eq!(
        hand.bbr.state,
        State::Up,
        "a thirtieth is more than 2 %, and proves nothing"
    );
    hand.lose(&sent[12..13]);
    assert_eq!((hand.bbr.state, hand.bbr.cycle.too_high), (State::Down, true));
}

#[test]
fn a_second_of_round_trip_does_not_keep_a_bandwidth_that_is_gone() {
    // Losses end each probe at once, waits end before a round trip does, and ProbeRTT is due every five seconds.
    let mut world = World::new(1_250_000, SECOND, 4200, 2.0);
    world.reach(State::Cruise, 60 * SECOND);
    world.link.rate /= 10;
    world.link.queue /= 10;
    let found = world.run_until(90 * SECOND, |world| world.bbr().max_bw.get() < 140_000);
    assert!(found, "{} {}", world.bbr().max_bw.get(), world.trace());
}

#[test]
fn a_cut_model_never_stops_a_sender() {
    let mut hand = Hand::steady(State::Cruise);
    for _ in 0..200 {
        let sent = hand.send(40);
        hand.wait(RTT);
        hand.ack(&sent[39..]);
        hand.lose(&sent[..39]);
        hand.flight(1);
    }
    assert!(hand.bbr.pacing_rate >= MDS, "a datagram a second");
    assert!(
        hand.bbr.bounds.bw_shortterm >= BW / 100,
        "what was delivered is the floor: {:?}",
        hand.bounds()
    );
}

#[test]
fn one_flow_keeps_a_short_queue_in_a_deep_buffer() {
    for (rate, rtt) in [(1_250_000, 30 * MS), (12_500_000, 20 * MS), (2_500_000, 100 * MS)] {
        let mut world = World::new(rate, rtt, 1200, 10.0);
        world.run_for(3 * SECOND);
        let peak = world.rtts.iter().max().copied().expect("samples");
        assert!(peak <= rtt * 3 + 4 * MS, "Startup's queue: {peak:?} of {rtt:?}");
        world.rtts.clear();
        let (at, received, dropped) = (world.now, world.received, world.dropped);
        world.run_for(20 * SECOND);
        let count = world.rtts.len() as u32;
        let mean = world.rtts.iter().sum::<Duration>() / count;
        world.rtts.sort_unstable();
        let p99 = world.rtts[(count * 99 / 100) as usize];
        // Two datagrams of the quantum take their time on slow links.
        let least = rtt + Duration::from_secs_f64(2400.0 / rate as f64);
        assert!(
            mean <= least * 5 / 4 && p99 <= least * 2,
            "{mean:?} {p99:?} of {least:?}"
        );
        let goodput = (world.received - received) as f64 / (world.now - at).as_secs_f64();
        assert!(goodput > 0.97 * rate as f64, "{goodput}");
        assert_eq!(world.dropped, dropped);
    }
}

/// The median goodput of five seeds over twenty seconds, in shares of the link.
fn goodput(rate: u64, rtt: Duration, queue: f64, loss: u64) -> f64 {
    let mut shares: Vec<f64> = (0..5)
        .map(|seed| {
            let mut world = World::new(rate, rtt, 1200, queue);
            world.link.loss = loss;
            world.link.seed(seed);
            world.run_for(20 * SECOND);
            world.received as f64 / world.elapsed().as_secs_f64() / rate as f64
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    shares[2]
}

#[test]
fn random_loss_costs_little() {
    for (loss, least) in [(0, 0.95), (1, 0.95), (10, 0.88), (20, 0.8), (50, 0.4)] {
        let share = goodput(1_250_000, 30 * MS, 0.8, loss);
        assert!(share > least, "{loss}: {share}");
    }
    let share = goodput(12_500_000, 100 * MS, 1.0, 10);
    assert!(share > 0.85, "{share}");
    let share = goodput(2_500_000, 200 * MS, 1.0, 5);
    assert!(share > 0.88, "{share}");
}

#[test]
fn the_same_seed_gives_the_same_flow_and_another_probes_at_other_times() {
    let trace = |seed: u64| {
        // So long a path waits by the clock, not by rounds.
        let mut world = World::new(1_250_000, 200 * MS, 1200, 2.0);
        let now = world.now;
        world.bbr_mut().random = crate::number::SplitMix(seed);
        world.run_for(8 * SECOND);
        world
            .states
            .iter()
            .map(|(at, state)| (*at - now, *state))
            .collect::<Vec<_>>()
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}
