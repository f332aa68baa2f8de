//! Random programs on random links, from a seed. Each seed leaves out some kinds of calls altogether and prefers others, for what
//! is rare in a fair mixture is common in some unfair one (Groce et al., Swarm Testing, 2012).

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};
use transport_core::Algorithm;

use super::{Call, Setup, World};
use crate::sim::rng::Rng;
use crate::sim::scenario::{Blackhole, Link, Loss, Reorder};

/// Calls of the longest program.
const MAX_CALLS: u64 = 200;

/// All that a seed decides; kept as JSON, it runs the same when the generator has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The two ends.
    pub setup: Setup,
    /// BBR at both ends; else CUBIC.
    pub bbr: bool,
    /// The way up and the way down, until they are healed.
    pub links: [Link; 2],
    /// What is done.
    pub calls: Vec<Call>,
}

impl Program {
    /// The program of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "swarm");
        let setup = Setup {
            seed: rng.u64() as u8,
            small_windows: rng.chance(0.3),
            aes: rng.chance(0.5),
            mtu_search: rng.chance(0.5),
            latency_ms: rng.u64() as u8,
            skew_ms: rng.u64() as i16,
        };
        let bbr = rng.chance(0.7);
        // Both ways are bad in their own manner, or in the same.
        let up = link(&mut rng);
        let down = if rng.chance(0.5) {
            up.clone()
        } else {
            link(&mut rng)
        };
        Self {
            setup,
            bbr,
            links: [up, down],
            calls: calls(&mut rng),
        }
    }

    /// Runs it, heals the network, and holds the ends to their promises.
    ///
    /// # Errors
    /// What they broke.
    pub fn run(&self) -> Result<(), String> {
        let algorithm = if self.bbr {
            Algorithm::Bbr
        } else {
            Algorithm::Cubic
        };
        let run = || {
            let world = World::on_links(&self.setup, algorithm, self.links.clone());
            self.setup.run(world, &self.calls);
        };
        catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            text.unwrap_or("a panic without words").to_owned()
        })
    }

    /// A shorter program that still fails, found by leaving out ever smaller parts (Zeller and Hildebrandt, 2002).
    #[must_use]
    pub fn shrink(&self) -> Self {
        let mut best = self.clone();
        let mut part = best.calls.len().div_ceil(2);
        while part > 0 {
            let mut at = 0;
            while at < best.calls.len() {
                let mut shorter = best.clone();
                let end = (at + part).min(shorter.calls.len());
                shorter.calls.drain(at..end);
                if shorter.run().is_err() {
                    best = shorter;
                } else {
                    at += part;
                }
            }
            part /= 2;
        }
        best
    }
}

/// Between `low` and `high`, each order of magnitude as often as another.
fn between(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low * (high / low).powf(rng.unit())
}

/// A link with some of all impairments.
fn link(rng: &mut Rng) -> Link {
    let mut link = Link {
        delay_ms: between(rng, 0.1, 300.0),
        ..Link::default()
    };
    if rng.chance(0.7) {
        let rate = between(rng, 0.064, 1000.0);
        link.rate_mbit = Some(rate);
        // A queue of a millisecond to a second, and never less than a few packets.
        let bytes = rate * 125.0 * between(rng, 1.0, 1000.0);
        link.queue_bytes = Some((bytes as usize).max(6000));
    }
    if rng.chance(0.4) {
        link.jitter_ms = between(rng, 0.1, 50.0);
    }
    if rng.chance(0.6) {
        link.loss = Some(loss(rng));
    }
    if rng.chance(0.3) {
        link.reorder = Some(Reorder {
            p: between(rng, 1e-3, 0.3),
            extra_ms: between(rng, 0.1, 100.0),
        });
    }
    if rng.chance(0.2) {
        link.duplicate = between(rng, 1e-3, 0.3);
    }
    if rng.chance(0.2) {
        link.corrupt = between(rng, 1e-3, 0.3);
    }
    if rng.chance(0.3) {
        link.mtu = Some(1260 + rng.below(241) as usize);
    }
    if rng.chance(0.15) {
        link.blackhole = Some(Blackhole {
            on_ms: between(rng, 100.0, 5000.0),
            off_ms: between(rng, 10.0, 3000.0),
        });
    }
    link
}

fn loss(rng: &mut Rng) -> Loss {
    let p = between(rng, 1e-3, 0.3);
    match rng.below(3) {
        0 => Loss::Iid { p },
        1 => Loss::Burst {
            p,
            max_burst: 1 + rng.below(8) as u32,
        },
        _ => Loss::Gilbert {
            p: p / 5.0,
            r: between(rng, 0.1, 1.0),
        },
    }
}

/// Kinds of calls a program is made of.
const KINDS: usize = 14;
/// Those without which nothing happens: open, write, read, run.
const NEEDED: [usize; 4] = [0, 1, 5, 11];

fn calls(rng: &mut Rng) -> Vec<Call> {
    let weights: [u64; KINDS] = std::array::from_fn(|kind| match kind {
        _ if NEEDED.contains(&kind) => 4 + rng.below(12),
        // A close ends the program; it comes late or not at all.
        13 => rng.below(8) / 7,
        _ if rng.chance(0.4) => 0,
        _ => 1 + rng.below(8),
    });
    let total: u64 = weights.iter().sum();
    let count = 10 + rng.below(MAX_CALLS - 10);
    (0..count)
        .map(|_| {
            let mut left = rng.below(total);
            let kind = weights.iter().position(|weight| {
                let here = left < *weight;
                left = left.saturating_sub(*weight);
                here
            });
            call(kind.unwrap_or_default(), rng)
        })
        .collect()
}

fn call(kind: usize, rng: &mut Rng) -> Call {
    let (up, byte) = (rng.chance(0.5), rng.u64() as u8);
    let length = between(rng, 1.0, 65_000.0) as u16;
    // Few streams, so that calls meet.
    let stream = rng.below(8) as u8;
    match kind {
        0 => Call::Open {
            up,
            uni: rng.chance(0.5),
        },
        1 => Call::Write { up, stream, length },
        2 => Call::Finish { up, stream },
        3 => Call::Reset { up, stream },
        4 => Call::Stop { up, stream },
        5 => Call::Read { up, stream, length },
        6 => Call::Rank {
            up,
            stream,
            class: byte,
        },
        7 => Call::Message {
            up,
            length: length % 1500,
            class: byte,
            deadline_ms: rng.chance(0.5).then_some(byte),
        },
        8 => Call::UpdateKeys { up },
        9 => Call::Rebind { port: byte },
        10 => Call::Network {
            loss: byte / 2,
            reorder: rng.u64() as u8,
            duplicate: rng.u64() as u8,
            corrupt: rng.u64() as u8,
        },
        11 => Call::Run { ms: byte },
        12 => Call::Steps { count: byte },
        _ => Call::Close { up },
    }
}
