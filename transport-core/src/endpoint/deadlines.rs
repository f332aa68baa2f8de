//! Which connection must be called next, without asking all of them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Instant;

use crate::timer::Why;

/// At most one deadline for each slot; the slot remembers it, so that it can be moved.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeMap<(Instant, u32), Why>);

impl Deadlines {
    /// Replaces the deadline `armed` of a slot.
    pub(super) fn set(&mut self, slot: u32, armed: &mut Option<Instant>, next: Option<(Instant, Why)>) {
        let same_time = next.map(|(at, _)| at) == *armed;
        if let Some(at) = armed.take_if(|_| !same_time) {
            self.0.remove(&(at, slot));
        }
        if let Some((at, why)) = next {
            self.0.insert((at, slot), why);
            *armed = Some(at);
        }
    }

    /// The earliest.
    pub(super) fn earliest(&self) -> Option<(Instant, Why)> {
        self.0.first_key_value().map(|((at, _), why)| (*at, *why))
    }

    /// Removes one that is not after `now`; its slot.
    pub(super) fn expire(&mut self, now: Instant) -> Option<u32> {
        let entry = self.0.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((_, slot), _) = entry.remove_entry();
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::timer::Timer;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn deadlines_move_and_expire_in_order() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        let mut armed = [None; 3];
        for (slot, ms) in [(0, 30), (1, 10), (2, 10)] {
            deadlines.set(slot, &mut armed[slot as usize], Some((after(ms), Why::Loss)));
        }
        deadlines.set(1, &mut armed[1], Some((after(40), Why::Timer(Timer::Idle))));
        deadlines.set(2, &mut armed[2], Some((after(10), Why::Probe)));
        assert_eq!(deadlines.earliest(), Some((after(10), Why::Probe)));
        deadlines.set(2, &mut armed[2], None);
        assert_eq!(deadlines.0.len(), 2);
        assert_eq!(deadlines.expire(after(29)), None);
        assert_eq!(deadlines.expire(after(99)), Some(0));
        assert_eq!(deadlines.expire(after(99)), Some(1));
        assert_eq!(deadlines.expire(after(99)), None);
    }
}
