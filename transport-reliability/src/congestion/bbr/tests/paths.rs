//! The twelve paths every case of the draft's appendix runs over.

use std::time::Duration;

use super::link::{MS, World};
use crate::congestion::bbr::State;

/// A path: bytes a second, round trip, and datagrams so large that a round trip is some hundreds at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) rate: u64,
    pub(super) rtt: Duration,
    pub(super) mds: u16,
}

impl Path {
    /// A world with a queue of `queue` bandwidth-delay products.
    pub(super) fn world(self, queue: f64) -> World {
        World::new(self.rate, self.rtt, self.mds, queue)
    }

    /// A world that came to `state` by itself.
    pub(super) fn world_in(self, state: State, queue: f64) -> World {
        let mut world = self.world(queue);
        world.reach(state, self.rounds(100));
        world
    }

    pub(super) fn bdp_packets(self) -> f64 {
        self.rate as f64 * self.rtt.as_secs_f64() / f64::from(self.mds)
    }

    /// So many rounds, with a queue standing and a window of some packets at least.
    pub(super) fn rounds(self, count: u32) -> Duration {
        (self.rtt * 2 + self.packets(12.0)) * count
    }

    /// The time so many packets take.
    pub(super) fn packets(self, count: f64) -> Duration {
        Duration::from_secs_f64(count * f64::from(self.mds) / self.rate as f64)
    }
}

pub(super) fn paths() -> Vec<Path> {
    let mut paths = Vec::new();
    for rate in [8_000, 1_250_000, 125_000_000] {
        for rtt in [1, 30, 300, 1000] {
            let rtt = rtt * MS;
            let bdp = rate as f64 * rtt.as_secs_f64();
            let mds = ((bdp / 300.0) as u16).clamp(1200, 60_000);
            paths.push(Path { rate, rtt, mds });
        }
    }
    paths
}

/// The paths whose round trips hold some packets.
pub(super) fn wide_paths() -> Vec<Path> {
    let wide: Vec<Path> = paths().into_iter().filter(|path| path.bdp_packets() > 20.0).collect();
    assert_eq!(wide.len(), 7);
    wide
}

#[test]
#[ignore = "trace"]
fn trace() {
    use super::link::{SECOND, Policer};
    use super::super::State;
    fn report(name: &str, world: &World, from: u64, at: std::time::Instant) {
        let bbr = world.bbr();
        let secs = (world.now - at).as_secs_f64();
        let mut rtts = world.rtts.clone();
        rtts.sort_unstable();
        let mean = rtts.iter().map(|r| r.as_secs_f64()).sum::<f64>() / rtts.len() as f64;
        println!("{name}: goodput {:.3} Mbit/s of {:.1}, max_bw {:.3}, drop {:.2}%, mean rtt {:.1} p99 {:.1} ms, bounds bw {} lt {} st {}, cwnd {} bdp {}, state {:?}",
            (world.received - from) as f64 * 8e-6 / secs, world.link.rate as f64 * 8e-6, bbr.max_bw.get() as f64 / world.link.rate as f64,
            100.0 * world.dropped as f64 / world.sent as f64, mean * 1e3, rtts[rtts.len() * 99 / 100].as_secs_f64() * 1e3,
            bbr.bounds.bw_shortterm, bbr.bounds.inflight_longterm, bbr.bounds.inflight_shortterm, bbr.cwnd, world.bdp(), bbr.state);
        let s: Vec<String> = world.states.iter().rev().take(12).map(|(at, s)| format!("{s:?}@{:.2}", (*at - world.began).as_secs_f64())).collect();
        println!("   {}", s.join(" < "));
    }
    for (loss, q) in [(0, 0.8), (1, 0.8), (10, 0.8), (20, 0.8)] {
        let mut world = World::new(1_250_000, 30 * MS, 1200, q);
        world.link.loss = loss;
        world.run_for(10 * SECOND);
        report(&format!("10M 30ms loss {loss}/1000"), &world, 0, world.began);
    }
    for (loss, q) in [(0, 10.0), (10, 1.0), (50, 1.0)] {
        let mut world = World::new(12_500_000, 100 * MS, 1200, q);
        world.link.loss = loss;
        world.run_for(20 * SECOND);
        report(&format!("100M 100ms loss {loss}/1000 q {q}"), &world, 0, world.began);
    }
    for q in [10.0, 1.0, 0.5] {
        let mut world = World::new(1_250_000, 30 * MS, 1200, q);
        world.run_for(3 * SECOND);
        let (at, from) = (world.now, world.received);
        world.rtts.clear();
        world.run_for(30 * SECOND);
        report(&format!("10M 30ms clean queue {q} BDP, after startup"), &world, from, at);
    }
    let mut world = World::new(1_250_000, 30 * MS, 1200, 2.0);
    world.run_for(10 * SECOND);
    world.link.rate *= 10; world.link.queue *= 10;
    let at = world.now;
    let ok = world.run_until(20 * SECOND, |w| w.bbr().max_bw.get() > 12_000_000);
    println!("10x up: {ok} after {:?}", world.now - at);
    world.run_for(5 * SECOND);
    world.link.rate /= 10; world.link.queue /= 10;
    let at = world.now;
    let ok = world.run_until(20 * SECOND, |w| w.bbr().max_bw.get() < 1_280_000);
    println!("10x down: {ok} after {:?}; short term {}", world.now - at, world.bbr().bounds.bw_shortterm);
    report("down", &world, 0, world.began);
    let mut world = World::new(125_000_000, 30 * MS, 1200, 4.0);
    let now = world.now;
    world.link.policer = Some(Policer { rate: 1_250_000, burst: 60_000, tokens: 60_000.0, at: now });
    world.run_for(10 * SECOND);
    let (at, from, d, s) = (world.now, world.received, world.dropped, world.sent);
    world.run_for(20 * SECOND);
    report("policer", &world, from, at);
    println!("   policer late loss {:.2}%", 100.0 * (world.dropped - d) as f64 / (world.sent - s) as f64);
    let mut world = World::new(1_250_000, 30 * MS, 1200, 0.5);
    let ok = world.run_until(10 * SECOND, |w| w.state() == State::Cruise);
    println!("startup loss {ok} at {:?} dropped {} of bdp {}", world.elapsed(), world.dropped * 1200, world.bdp());
}
