//! Programs: calls on two endpoints, and what the network does meanwhile. [`World`] runs one and holds the ends to their
//! promises; a fuzzer draws programs from bytes ([`crate::fuzzing::programs`]), the swarm from a seed ([`swarm`]).

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

mod network;
pub mod swarm;
mod world;

pub use world::World;

/// What the two ends are.
#[derive(Arbitrary, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    seed: u8,
    small_windows: bool,
    aes: bool,
    mtu_search: bool,
    latency_ms: u8,
    skew_ms: i16,
}

/// One call, or what the network does. `up` says at which end: the client's where true.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Call {
    Open {
        up: bool,
        uni: bool,
    },
    Write {
        up: bool,
        stream: u8,
        length: u16,
    },
    Finish {
        up: bool,
        stream: u8,
    },
    Reset {
        up: bool,
        stream: u8,
    },
    Stop {
        up: bool,
        stream: u8,
    },
    Read {
        up: bool,
        stream: u8,
        length: u16,
    },
    Rank {
        up: bool,
        stream: u8,
        class: u8,
    },
    Message {
        up: bool,
        length: u16,
        class: u8,
        deadline_ms: Option<u8>,
    },
    UpdateKeys {
        up: bool,
    },
    Rebind {
        port: u8,
    },
    Network {
        loss: u8,
        reorder: u8,
        duplicate: u8,
        corrupt: u8,
    },
    Run {
        ms: u8,
    },
    Steps {
        count: u8,
    },
    Close {
        up: bool,
    },
}

impl Setup {
    /// Runs `calls`, heals the network, and holds the ends to their promises; panics where one is broken.
    pub fn run(&self, mut world: World, calls: &[Call]) {
        for call in calls {
            world.call(call);
            world.observe();
        }
        world.heal();
        if world.is_closed() {
            world.wind_down();
        } else {
            world.finish_all();
            world.check_rest();
            world.call(&Call::Close {
                up: self.seed & 1 == 0,
            });
            world.wind_down();
        }
    }
}
