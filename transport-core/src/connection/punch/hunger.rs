//! Whether a path that carries small packets starves the large ones. Acknowledgements go on and no timeout passes, so nothing else
//! would notice.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::connection::content::{Content, Item};

/// Bytes of a packet that is one of data.
const LARGE: u16 = 600;
/// Large packets lost, small ones that arrived meanwhile, and the time all that took at least.
const LOST: u32 = 4;
const ARRIVED: u32 = 2;
const WHILE: Duration = Duration::from_millis(250);

/// What became of large packets and small ones, since a large one arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hunger {
    since: Option<Instant>,
    lost: u32,
    arrived: u32,
}

impl Hunger {
    /// A packet arrived.
    pub(crate) fn acked(&mut self, content: &Content) {
        if content.size >= LARGE {
            *self = Self::default();
        } else if self.since.is_some() {
            self.arrived += 1;
        }
    }

    /// A packet was lost.
    pub(crate) fn lost(&mut self, content: &Content, now: Instant) {
        let asks_for_more = content.items().any(|item| item == Item::MtuProbe);
        if content.size >= LARGE && !content.elsewhere && !asks_for_more {
            self.since.get_or_insert(now);
            self.lost += 1;
        }
    }

    /// Whether large packets do not come through.
    pub(crate) fn starves(&self, now: Instant) -> bool {
        let long = |since| now.saturating_duration_since(since) >= WHILE;
        self.lost >= LOST && self.arrived >= ARRIVED && self.since.is_some_and(long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(size: u16) -> Content {
        let mut content = Content::default();
        (content.size, content.elsewhere) = (size, false);
        content
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn small_packets_alone_are_no_food() {
        let now = Instant::now();
        let later = now + Duration::from_millis(300);
        let mut hunger = Hunger::default();
        for _ in 0..10 {
            hunger.lost(&packet(1200), now);
        }
        assert!(!hunger.starves(later), "a blackout: nothing arrives");
        (0..2).for_each(|_| hunger.acked(&packet(80)));
        assert!(!hunger.starves(now) && hunger.starves(later));
        hunger.acked(&packet(1200));
        assert!(!hunger.starves(later));
        // The search for a larger size may fail as often as it likes.
        let mut probe = packet(1472);
        probe.push(Item::MtuProbe);
        for _ in 0..10 {
            hunger.lost(&probe, now);
            hunger.acked(&packet(80));
        }
        assert!(!hunger.starves(later));
    }
}
