//! Appendix A of the draft, cases 1 to 9: ends of Startup, Drain, UP and DOWN.

use super::link::MS;
use super::paths::{Path, paths, wide_paths};
use super::world::{App, World};
use crate::congestion::bbr::State;
use crate::congestion::bbr::model::INFINITE;

fn ratio(world: &World) -> f64 {
    world.bbr().max_bw.get() as f64 / world.link.rate as f64
}

#[test]
fn a01_startup_ends_on_a_plateau_with_the_bandwidth_known() {
    for path in paths() {
        let mut world = path.world(10.0);
        assert!(
            world.run_until(path.rounds(40), |world| world.bbr().full.reached),
            "{path:?}"
        );
        assert!(world.bbr().full.now && world.bbr().full.rounds == 3);
        assert_ne!(world.state(), State::Startup);
        assert!(
            (0.98..=1.02).contains(&ratio(&world)),
            "{path:?}: {}",
            ratio(&world)
        );
        world.run_for(path.rounds(4));
        assert!(
            (0.98..=1.02).contains(&ratio(&world)),
            "{path:?}: {}",
            ratio(&world)
        );
    }
}

#[test]
fn a02_startup_ends_on_loss_though_application_limited() {
    let mut exercised = 0;
    // Six ranges in a round need a dozen packets in it.
    for path in wide_paths().into_iter().filter(|path| path.bdp_packets() > 60.0) {
        let mut world = path.world(10.0);
        world.set_app(App::Rate(path.rate / 2));
        world.run_for(path.rtt * 12);
        assert!(!world.bbr().full.reached, "{path:?}");
        world.link.drop_next = path.bdp_packets() as u64;
        world.run_until(path.rounds(6), |world| world.bbr().full.reached);
        if world.states.iter().any(|(_, state)| *state == State::ProbeRtt) {
            continue;
        }
        exercised += 1;
        assert!(world.bbr().full.reached, "{path:?}");
        assert!(world.bbr().full.now && world.bbr().bounds.inflight_longterm < INFINITE);
        assert!(world.bbr().full.rounds < 3, "not by a plateau");
        assert_ne!(world.state(), State::Startup);
    }
    assert!(exercised >= 4, "{exercised}");
}

#[test]
fn a03_drain_ends_when_the_queue_is_gone() {
    let mut exercised = 0;
    for path in wide_paths() {
        let mut world = path.world(10.0);
        world.run_until(path.rounds(100), |world| world.bbr().full.reached);
        if world.state() == State::ProbeRtt {
            continue;
        }
        exercised += 1;
        let bbr = world.bbr();
        assert_eq!(bbr.pacing_rate, (0.5 * bbr.bw as f64 * 0.99) as u64, "{path:?}");
        assert!(world.in_flight() > bbr.inflight(bbr.bw));
        let next = world.leave(path.rounds(6));
        if next != State::ProbeRtt {
            let bbr = world.bbr();
            assert!(next.is_probe_bw());
            assert!(bbr.rounds.count <= bbr.drain_start_round + 3, "{path:?}");
        }
    }
    assert!(exercised >= 5, "{exercised}");
}

#[test]
fn a04_drain_ends_after_three_rounds_though_the_queue_stands() {
    let mut exercised = 0;
    // A fifth or less, where the draft says nine tenths: half the rate would drain that as well.
    for (path, slower) in wide_paths()
        .into_iter()
        .flat_map(|path| [5, 10].map(|by| (path, by)))
    {
        let mut world = path.world(20.0);
        world.run_until(path.rounds(100), |world| world.bbr().full.reached);
        if world.state() == State::ProbeRtt {
            continue;
        }
        world.link.rate /= slower;
        let next = world.leave(path.rounds(60));
        let bbr = world.bbr();
        if next != State::ProbeRtt && world.in_flight() > bbr.inflight(bbr.bw) {
            assert!(next.is_probe_bw(), "{path:?} {next:?}");
            assert_eq!(bbr.rounds.count, bbr.drain_start_round + 4);
            exercised += 1;
        }
    }
    assert!(exercised >= 3, "{exercised}");
}

/// A world in UP that neither ProbeRTT nor anything else interrupted yet.
fn in_up(path: Path, queue: f64) -> World {
    path.world_in(State::Up, queue)
}

/// Leaves UP, again if ProbeRTT came in between.
fn leave_up(path: Path, world: &mut World) -> State {
    for _ in 0..4 {
        let next = world.leave(path.rounds(20));
        if next != State::ProbeRtt {
            return next;
        }
        world.reach(State::Up, path.rounds(80));
    }
    panic!("{path:?}: ProbeRTT only: {}", world.trace());
}

#[test]
fn a05_up_ends_on_a_plateau() {
    for path in paths() {
        let mut world = in_up(path, 10.0);
        let dropped = world.dropped;
        let next = leave_up(path, &mut world);
        assert!(matches!(next, State::Down | State::Cruise), "{path:?} {next:?}");
        assert!(world.bbr().full.now && world.bbr().full.rounds == 3);
        assert_eq!(world.dropped, dropped);
        assert!(
            (0.98..=1.02).contains(&ratio(&world)),
            "{path:?}: {}",
            ratio(&world)
        );
    }
}

#[test]
fn a06_up_ends_on_loss_though_application_limited() {
    let mut exercised = 0;
    for path in paths() {
        let mut world = path.world_in(State::Refill, 10.0);
        world.set_app(App::Rate(path.rate * 3 / 5));
        if world.leave(path.rounds(20)) != State::Up {
            continue;
        }
        // Until there is feedback of what the application limited.
        world.run_for(path.rtt * 2 + path.packets(8.0));
        if world.state() != State::Up {
            continue;
        }
        world.link.drop_next = (path.bdp_packets() as u64).max(8);
        let next = world.leave(path.rounds(20));
        if matches!(next, State::Down | State::Cruise) {
            exercised += 1;
            assert!(world.bbr().cycle.too_high && !world.bbr().full.now, "{path:?}");
        } else {
            assert_eq!(next, State::ProbeRtt, "{path:?}");
        }
    }
    assert!(exercised >= 7, "{exercised}");
}

#[test]
fn a07_without_loss_nothing_ends_while_application_limited() {
    for path in paths() {
        let mut world = path.world(10.0);
        world.set_app(App::Rate(path.rate * 2 / 5));
        world.run_for(path.rounds(20));
        assert!(
            !world.bbr().full.reached && world.state() == State::Startup,
            "{path:?}"
        );
        let mut world = in_up(path, 10.0);
        world.set_app(App::Rate(path.rate * 2 / 5));
        let (rounds, up) = (world.bbr().rounds.count, world.states.len());
        world.run_for(path.rounds(12));
        let stayed = world.states.len() == up || world.states[up].1 == State::ProbeRtt;
        assert!(stayed, "{path:?} {}", world.trace());
        assert!(world.bbr().rounds.count > rounds + 5);
    }
}

#[test]
fn a08_down_ends_when_queue_and_headroom_are_free() {
    let mut exercised = 0;
    for path in wide_paths() {
        let mut world = in_up(path, 10.0);
        if leave_up(path, &mut world) != State::Down {
            continue;
        }
        let bbr = world.bbr();
        assert_eq!(bbr.pacing_rate, (0.9 * bbr.bw as f64 * 0.99) as u64, "{path:?}");
        if world.leave(path.rounds(40)) == State::Cruise {
            let bbr = world.bbr();
            assert!(
                world.in_flight() <= bbr.inflight(bbr.max_bw.get()) + 64 * 1200,
                "{path:?}"
            );
            assert!(world.in_flight() <= bbr.bounds.with_headroom(bbr.max_datagram, bbr.min_pipe_cwnd()));
            exercised += 1;
        }
    }
    assert!(exercised >= 3, "{exercised}");
}

#[test]
fn a09_down_ends_after_its_time_and_skips_cruise() {
    let mut exercised = 0;
    for path in wide_paths() {
        let mut world = in_up(path, 10.0);
        if leave_up(path, &mut world) != State::Down {
            continue;
        }
        world.link.rate = world.link.rate * 8 / 10;
        let (began, wait) = (world.now, world.bbr().cycle.wait);
        let next = world.leave(path.rounds(100) + 4000 * MS);
        if next == State::Refill {
            let bbr = world.bbr();
            let by_time = world.now + path.rtt > began + wait;
            assert!(
                by_time || bbr.cycle.rounds_since_up >= bbr.reno_rounds(),
                "{path:?}"
            );
            exercised += 1;
        } else {
            assert_eq!(next, State::ProbeRtt, "{path:?}");
        }
    }
    assert!(exercised >= 3, "{exercised}");
}
