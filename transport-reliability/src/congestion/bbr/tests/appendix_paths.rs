//! Appendix A of the draft, cases 10 to 22: ProbeRTT, aggregation, changing paths, spurious losses.

use std::time::Duration;

use super::link::{MS, Policer, SECOND};
use super::paths::{Path, paths, wide_paths};
use super::world::{App, World};
use crate::congestion::bbr::State;
use crate::congestion::bbr::model::{INFINITE, beta};

/// The path grew a little longer, and no sample will be as small as the one that is now five seconds old.
fn expire_probe_rtt(world: &mut World) {
    let rtt = world.link.rtt;
    world.link.rtt = rtt * 102 / 100 + MS / 10;
    // What flies already takes no longer.
    world.run_until(rtt * 2, |world| world.recovery.rtt().latest() > rtt * 3);
    let now = world.now;
    world.bbr_mut().min_rtt.probe_stamp = now.checked_sub(5 * SECOND);
}

#[test]
fn a10_probe_rtt_comes_after_five_seconds_and_lasts_200_ms_and_a_round() {
    for path in paths() {
        let mut world = path.world_in(State::Cruise, 10.0);
        let cwnd = world.bbr().cwnd;
        expire_probe_rtt(&mut world);
        world.reach(State::ProbeRtt, path.rounds(4));
        let (began, rounds) = (world.now, world.bbr().rounds.count);
        assert!(world.bbr().cwnd <= world.bbr().probe_rtt_cwnd());
        assert_eq!(world.state().cwnd_gain(), 0.5);
        let next = world.leave(path.rounds(10) + SECOND);
        assert_eq!(next, State::Cruise, "{path:?}");
        assert!(
            world.now - began >= 200 * MS && world.bbr().rounds.count > rounds,
            "{path:?}"
        );
        let received = world.received;
        world.run_for(path.rounds(4));
        assert!(
            world.received > received && world.bbr().prior_cwnd >= cwnd / 2,
            "{path:?}"
        );
    }
}

#[test]
fn a11_probe_rtt_is_skipped_after_silence() {
    for path in paths() {
        let mut world = path.world_in(State::Cruise, 10.0);
        world.set_app(App::Paused);
        world.run_for(6 * SECOND + path.rounds(2));
        assert_eq!(world.in_flight(), 0, "{path:?}");
        world.set_app(App::Bulk);
        let states = world.states.len();
        assert!(
            world.run_until(SECOND, |world| world.bbr().idle_restart),
            "{path:?}"
        );
        assert!(world.run_until(path.rounds(2), |world| !world.bbr().idle_restart));
        assert!(
            world.states[states..]
                .iter()
                .all(|(_, state)| *state != State::ProbeRtt)
        );
        let stamp = world.bbr().min_rtt.probe_stamp.expect("a sample");
        assert!(world.now - stamp < 5 * SECOND);
    }
}

/// ACKs come in lumps of a quarter of a round trip, four packets at least.
fn lumps(path: Path) -> Duration {
    (path.rtt / 4).max(path.packets(4.0))
}

#[test]
fn a12_startup_finds_the_bandwidth_behind_aggregated_acks() {
    for path in paths() {
        let mut world = path.world(20.0);
        world.link.slot = Some(lumps(path));
        let (mut widest, mut cwnd) = (0, 0);
        let found = world.run_until(path.rounds(60), |world| {
            widest = widest.max(world.bbr().aggregation.extra());
            cwnd = cwnd.max(world.bbr().cwnd);
            world.bbr().full.reached
        });
        assert!(found, "{path:?} {}", world.trace());
        let ratio = world.bbr().max_bw.get() as f64 / path.rate as f64;
        assert!((0.95..1.3).contains(&ratio), "{path:?} {ratio}");
        assert!(
            widest >= 2 * world.mds && cwnd > 2 * world.bdp(),
            "{path:?} {widest}"
        );
    }
}

#[test]
fn a13_cruise_keeps_the_bandwidth_behind_aggregated_acks() {
    for path in paths() {
        let mut world = path.world_in(State::Cruise, 20.0);
        world.link.slot = Some(lumps(path));
        world.run_for(path.rounds(6));
        let (at, received) = (world.now, world.received);
        world.run_for(path.rounds(12));
        assert!(world.bbr().aggregation.extra() >= 2 * world.mds, "{path:?}");
        let goodput = (world.received - received) as f64 / (world.now - at).as_secs_f64();
        let probing = world.states.iter().any(|(_, state)| *state == State::ProbeRtt);
        let least = if probing { 0.7 } else { 0.9 };
        assert!(
            goodput > least * path.rate as f64,
            "{path:?} {}",
            goodput / path.rate as f64
        );
    }
}

#[test]
fn a14_four_packets_carry_less_than_one() {
    let narrow: Vec<Path> = paths()
        .into_iter()
        .filter(|path| path.bdp_packets() < 1.1)
        .collect();
    assert_eq!(narrow.len(), 3);
    for path in narrow {
        let mut world = path.world_in(State::Cruise, 10.0);
        let (at, received) = (world.now, world.received);
        let mut least = INFINITE;
        world.run_until(path.rounds(30), |world| {
            least = least.min(world.bbr().cwnd);
            false
        });
        assert!(least >= 4 * world.mds, "{path:?}");
        let goodput = (world.received - received) as f64 / (world.now - at).as_secs_f64();
        assert!(goodput > 0.93 * path.rate as f64, "{path:?} {goodput}");
        let pacing = world.bbr().pacing_rate as f64 / world.state().pacing_gain() / path.rate as f64;
        assert!((0.97..=1.01).contains(&pacing), "{path:?} {pacing}");
    }
}

#[test]
fn a15_ten_times_the_bandwidth_is_found_within_rounds() {
    for path in paths() {
        // 6.4 kbit/s are below what the draft asks for.
        let (slow, fast) = if path.rate == 8_000 {
            (8_000, 80_000)
        } else {
            (path.rate / 10, path.rate)
        };
        let (before, path) = (Path { rate: slow, ..path }, Path { rate: fast, ..path });
        let mut world = before.world_in(State::Cruise, 2.0);
        world.link.rate = path.rate;
        world.link.queue = (2 * world.bdp()).max(world.link.queue);
        let at = world.now;
        let found = world.run_until(before.rounds(40) + 4 * SECOND, |world| {
            world.bbr().max_bw.get() as f64 > 0.95 * path.rate as f64
        });
        let rtts = (world.now - at).as_secs_f64() / path.rtt.as_secs_f64();
        assert!(found, "{path:?} after {rtts} round trips: {}", world.trace());
    }
}

#[test]
fn a16_a_tenth_of_the_bandwidth_is_found_within_two_cycles() {
    for path in wide_paths() {
        let mut world = path.world_in(State::Cruise, 2.0);
        world.link.rate /= 10;
        world.link.queue = (world.link.queue / 10).max(16 * world.mds);
        let states = world.states.len();
        let mut cut = false;
        let found = world.run_until(path.rounds(300), |world| {
            cut |= world.bbr().bounds.bw_shortterm < world.bbr().max_bw.get();
            world.bbr().max_bw.get() as f64 <= 1.05 * world.link.rate as f64
        });
        let ups = world.states[states..]
            .iter()
            .filter(|(_, state)| *state == State::Up)
            .count();
        assert!(found && ups <= 3, "{path:?} {ups} {}", world.trace());
        // With a second of round trip the next probe resets it before a round of losses is over.
        assert!(cut || path.rtt >= SECOND, "{path:?}");
    }
}

#[test]
fn a17_a_policer_is_obeyed() {
    for path in wide_paths() {
        let fast = Path {
            rate: path.rate * 4,
            ..path
        };
        let mut world = fast.world(10.0);
        let burst = (path.rate as f64 * path.rtt.as_secs_f64() / 2.0) as u64;
        let tokens = burst as f64;
        world.link.policer = Some(Policer {
            rate: path.rate,
            burst,
            tokens,
            at: world.now,
        });
        world.run_for(path.rounds(40));
        let (at, received, sent, dropped) = (world.now, world.received, world.sent, world.dropped);
        world.run_for(path.rounds(40));
        let goodput = (world.received - received) as f64 / (world.now - at).as_secs_f64();
        let loss = (world.dropped - dropped) as f64 / (world.sent - sent) as f64;
        assert!(loss < 0.05, "{path:?} {loss}");
        assert!(
            goodput > 0.9 * path.rate as f64,
            "{path:?} {}",
            goodput / path.rate as f64
        );
    }
}

#[test]
fn a18_a_spurious_recovery_is_undone_and_the_probe_goes_on() {
    for path in wide_paths() {
        let mut world = path.world_in(State::Up, 10.0);
        let late = (path.bdp_packets() / 10.0).max(6.0) as u64;
        world.link.late = (late, path.rtt / 4 + path.packets(8.0));
        let undone = world.run_until(path.rounds(4), |world| {
            world.spurious > 0 && world.bbr().undo.state.is_none() && !world.bbr().in_recovery
        });
        assert!(undone, "{path:?} {}", world.spurious);
        assert!(
            matches!(world.state(), State::Refill | State::Up),
            "{path:?} {}",
            world.trace()
        );
        let bounds = &world.bbr().bounds;
        assert_eq!(
            (bounds.bw_shortterm, bounds.inflight_longterm),
            (INFINITE, INFINITE),
            "{path:?}"
        );
    }
}

#[test]
fn a19_a_spurious_outage_is_undone() {
    for path in wide_paths() {
        let mut world = path.world_in(State::Cruise, 10.0);
        world.run_for(path.rtt * 2);
        let (cwnd, bound) = (world.bbr().cwnd, world.bbr().bounds.inflight_longterm);
        // For four timeouts the path keeps what it gets; then it forwards at once, and gives the rest back later.
        world.link.holds = true;
        let four = world.run_until(path.rtt * 3 + world.recovery.pto() * 40, |world| {
            world.recovery.pto_count() == 4
        });
        world.link.holds = false;
        assert!(four, "{path:?}");
        let out = world.run_until(path.rtt * 3, |world| world.outages > 0);
        assert!(out, "{path:?} {}", world.trace());
        assert!(world.bbr().cwnd < cwnd && world.bbr().in_recovery, "{path:?}");
        assert!(
            world.bbr().cwnd <= 8 * world.mds,
            "what flew, one more, and what this ACK took: {}",
            world.bbr().cwnd
        );
        world.release();
        // Undone means that there was no recovery.
        let undone = world.run_until(path.rtt, |world| {
            world.recovery.congestion.recovery_until.is_none()
        });
        assert!(undone && world.spurious > 0, "{path:?} {}", world.spurious);
        let restored = world.bbr().cwnd >= cwnd * 9 / 10 || world.state() == State::ProbeRtt;
        assert!(restored, "{path:?} {cwnd} {}", world.bbr().cwnd);
        assert_eq!(world.bbr().bounds.inflight_longterm, bound);
    }
}

#[test]
fn a20_probe_rtt_within_startup_returns_to_startup() {
    // On the others nothing is in flight between two packets: silence enough.
    for path in wide_paths() {
        let mut world = path.world(10.0);
        world.set_app(App::Rate(path.rate * 3 / 10));
        world.run_for(path.rounds(4));
        expire_probe_rtt(&mut world);
        world.reach(State::ProbeRtt, path.rounds(8) + 6 * SECOND);
        let next = world.leave(path.rounds(20) + SECOND);
        assert_eq!(next, State::Startup, "{path:?}");
        world.set_app(App::Bulk);
        assert!(
            world.run_until(path.rounds(40), |world| world.bbr().full.reached),
            "{path:?}"
        );
        let ratio = world.bbr().max_bw.get() as f64 / path.rate as f64;
        assert!((0.98..1.02).contains(&ratio), "{path:?} {ratio}");
    }
}

#[test]
fn a21_a_loss_in_up_lowers_the_bound_and_ends_the_probe() {
    for path in wide_paths() {
        let mut world = path.world_in(State::Refill, 10.0);
        let bound = world.bdp() * 3;
        world.bbr_mut().bounds.inflight_longterm = bound;
        world.reach(State::Up, path.rounds(4));
        world.link.drop_next = (path.bdp_packets() / 5.0) as u64;
        let next = world.leave(path.rounds(6));
        assert_eq!(next, State::Down, "{path:?}");
        let bbr = world.bbr();
        assert!(bbr.cycle.too_high && !bbr.full.now);
        let lowered = bbr.bounds.inflight_longterm;
        assert!(
            lowered < bound && lowered >= beta(bbr.target_inflight()),
            "{path:?} {lowered} of {bound}"
        );
    }
}

#[test]
fn a22_what_the_application_withholds_in_refill_is_not_learnt() {
    for path in paths() {
        let mut world = path.world_in(State::Refill, 10.0);
        let max_bw = world.bbr().max_bw.get();
        world.set_app(App::Rate(path.rate * 3 / 10));
        let next = world.leave(path.rounds(20));
        assert!(matches!(next, State::Up | State::ProbeRtt), "{path:?} {next:?}");
        world.run_for(path.rounds(2));
        assert_eq!(world.bbr().max_bw.get(), max_bw, "{path:?}");
        world.set_app(App::Bulk);
        world.run_for(path.rounds(20));
        let ratio = world.bbr().max_bw.get() as f64 / path.rate as f64;
        assert!((0.98..1.02).contains(&ratio), "{path:?} {ratio}");
    }
}
