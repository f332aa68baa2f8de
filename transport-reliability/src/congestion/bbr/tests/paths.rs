//! The twelve paths every case of the draft's appendix runs over.

use std::time::Duration;

use super::link::{MS, World};

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

    pub(super) fn bdp_packets(self) -> f64 {
        self.rate as f64 * self.rtt.as_secs_f64() / f64::from(self.mds)
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

#[test]
#[ignore = "trace"]
fn trace() {
    for path in paths() {
        let mut world = path.world(10.0);
        world.run_for((path.rtt * 40).max(20 * MS).min(40 * super::link::SECOND));
        let bbr = world.bbr();
        println!(
            "{path:?} bdp {:.1} pkts, state {:?}, max_bw {:.3}, min_rtt {:?}, rounds {}, sent {}, dropped {}, util {:.3}",
            path.bdp_packets(),
            bbr.state,
            bbr.max_bw.get() as f64 / path.rate as f64,
            bbr.min_rtt.min,
            bbr.rounds.count,
            world.sent,
            world.dropped,
            world.received as f64 / world.elapsed().as_secs_f64() / path.rate as f64
        );
        let s: Vec<String> = world.states.iter().take(14).map(|(at, s)| format!("{s:?}@{:.2}", (*at - world.began).as_secs_f64() / path.rtt.as_secs_f64())).collect();
        println!("   {}", s.join(" "));
    }
}
