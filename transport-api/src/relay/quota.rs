//! Limits of sessions: how many, how many tunnels in each, how fast.

use std::cell::Cell;
use std::rc::Rc;

/// What one relay grants. Changes apply to new sessions and tunnels; the rate to running ones as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Sessions at a time.
    pub sessions: usize,
    /// Tunnels of one session at a time, requests under way included.
    pub tunnels_per_session: usize,
    /// Megabits per second of one session, both directions together; 0: no limit.
    pub mbit_per_session: u32,
}

impl Quota {
    pub(super) fn session_bits(&self) -> u64 {
        u64::from(self.mbit_per_session) * 1_000_000
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            sessions: 100_000,
            tunnels_per_session: 128,
            mbit_per_session: 0,
        }
    }
}

/// A count with a limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Rc<Cell<usize>>);

impl Slots {
    /// One of at most `max`; it is free again when the value is dropped.
    pub(super) fn take(&self, max: usize) -> Option<Slot> {
        if self.0.get() >= max {
            return None;
        }
        self.0.set(self.0.get() + 1);
        Some(Slot(Rc::clone(&self.0)))
    }
}

#[derive(Debug)]
pub(super) struct Slot(Rc<Cell<usize>>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back() {
        let slots = Slots::default();
        let one = slots.take(1);
        assert!(one.is_some() && slots.take(1).is_none());
        drop(one);
        assert!(slots.take(1).is_some());
    }
}
