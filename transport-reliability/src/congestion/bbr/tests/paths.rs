//! The twelve paths every case of the draft's appendix runs over.

use std::time::Duration;

use super::link::MS;
use super::world::World;
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
    let wide: Vec<Path> = paths()
        .into_iter()
        .filter(|path| path.bdp_packets() > 20.0)
        .collect();
    assert_eq!(wide.len(), 7);
    wide
}
