//! What lies between the ends of a program: faults of the moment, and links that may be bad all along.

use std::time::Duration;

use crate::pair::{Passing, Way};
use crate::sim::link::Link;
use crate::sim::rng::Rng;
use crate::sim::scenario;

/// Faults of the network at the moment, in 256ths.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) loss: u8,
    pub(super) reorder: u8,
    pub(super) duplicate: u8,
    pub(super) corrupt: u8,
}

impl Faults {
    fn are_there(&self) -> bool {
        self.loss | self.reorder | self.duplicate | self.corrupt != 0
    }

    fn befall(&self, rng: &mut Rng, passing: &mut Passing) {
        let mut chance = |of: u8| rng.chance(f64::from(of) / 256.0);
        if chance(self.duplicate) {
            passing.copies.push(passing.copies[0] + Duration::from_millis(7));
        }
        if chance(self.reorder) {
            passing.copies[0] += Duration::from_millis(15);
        }
        if chance(self.corrupt) {
            let at = passing.bytes.len() / 2;
            passing.bytes[at] ^= 0x55;
        }
        if chance(self.loss) {
            passing.lose();
        }
    }
}

/// The network of a program.
pub(super) struct Network {
    pub(super) faults: Faults,
    links: Option<[Link; 2]>,
    rng: Rng,
}

impl Network {
    /// `links`: up and down; none are perfect.
    pub(super) fn new(mut rng: Rng, links: Option<[scenario::Link; 2]>) -> Self {
        let links = links.map(|links| {
            let mut label = ["up", "down"].into_iter();
            links.map(|config| {
                let rng = Rng::new(rng.u64(), label.next().unwrap_or_default());
                Link::new(config, rng, false)
            })
        });
        Self {
            faults: Faults::default(),
            links,
            rng,
        }
    }

    pub(super) fn is_bad(&self) -> bool {
        self.links.is_some() || self.faults.are_there()
    }

    pub(super) fn heal(&mut self) {
        (self.faults, self.links) = (Faults::default(), None);
    }

    pub(super) fn befall(&mut self, passing: &mut Passing) {
        if let Some([up, down]) = &mut self.links {
            let link = if passing.way == Way::Up { up } else { down };
            let arrivals = link.send(passing.at, &mut passing.bytes);
            let took = |at: Duration| at.saturating_sub(passing.at);
            passing.copies = arrivals.into_iter().flatten().map(took).collect();
        }
        if !passing.copies.is_empty() {
            self.faults.befall(&mut self.rng, passing);
        }
    }
}
