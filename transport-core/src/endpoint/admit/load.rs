//! When strangers must first show that they receive where they claim to be (cookie mode), and when no longer.
//!
//! On: what was asked for in the present second would cost more than 30 % of a core in handshakes, or a table of strangers
//! is more than half full. Off: five seconds below half of that. What counts is what was *asked for*, answered or not: a
//! flood that RETRY keeps out must not look like peace.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::time::{Duration, Instant};

/// Per cent of a core: above the first cookie mode begins, below the second it may end.
const CPU: (u32, u32) = (30, 15);
/// Per cent of a table.
const TABLE: (u32, u32) = (50, 25);
/// What is summed up, and how many of them must be calm.
const WINDOW: Duration = Duration::from_secs(1);
const CALM_WINDOWS: u64 = 5;

/// What strangers ask for.
#[derive(Debug, Default)]
pub(super) struct Load {
    on: bool,
    since: Option<Instant>,
    demand: Duration,
    calm: u64,
}

impl Load {
    /// Cookie mode.
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Somebody asks for work of `cost`.
    pub(super) fn note(&mut self, cost: Duration) {
        self.demand = self.demand.saturating_add(cost);
    }

    /// Decides; the fullest table holds `filled` per cent. The new mode, if it changed.
    pub(super) fn judge(&mut self, now: Instant, filled: u32) -> Option<bool> {
        let elapsed = now.saturating_duration_since(*self.since.get_or_insert(now));
        let above = |limit, span: Duration| self.demand.saturating_mul(100) > span.saturating_mul(limit);
        let (high, busy) = (above(CPU.0, WINDOW.max(elapsed)), above(CPU.1, elapsed));
        if !self.on && (high || filled > TABLE.0) {
            *self = Self {
                on: true,
                since: Some(now),
                ..Self::default()
            };
            return Some(true);
        }
        if elapsed < WINDOW {
            return None;
        }
        let windows = (elapsed.as_nanos() / WINDOW.as_nanos()) as u64;
        self.calm = if busy || filled >= TABLE.1 {
            0
        } else {
            self.calm.saturating_add(windows)
        };
        (self.since, self.demand) = (Some(now), Duration::ZERO);
        let over = self.on && self.calm >= CALM_WINDOWS;
        self.on &= !over;
        over.then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn start() -> (Load, Instant) {
        let now = Instant::now();
        let mut load = Load::default();
        assert_eq!(load.judge(now, 0), None);
        (load, now)
    }

    #[test]
    fn demand_turns_it_on_within_its_second_and_five_calm_seconds_off() {
        let (mut load, mut now) = start();
        load.note(300 * MS);
        assert_eq!(load.judge(now + 500 * MS, 0), None, "30 % is not above 30 %");
        load.note(MS);
        assert_eq!(load.judge(now + 501 * MS, 0), Some(true));
        now += 501 * MS;
        for second in 1..20 {
            load.note(151 * MS);
            assert_eq!(
                load.judge(now + second * 1000 * MS, 0),
                None,
                "between the two limits it stays on"
            );
        }
        now += 19_000 * MS;
        for second in 1..5 {
            load.note(149 * MS);
            assert_eq!(load.judge(now + second * 1000 * MS, 0), None);
        }
        assert_eq!(load.judge(now + 5000 * MS, 0), Some(false));
        assert!(!load.is_on());
    }

    #[test]
    fn a_table_turns_it_on_and_keeps_it_on() {
        let (mut load, now) = start();
        assert_eq!(load.judge(now, 50), None);
        assert_eq!(load.judge(now, 51), Some(true));
        assert_eq!(load.judge(now + 60_000 * MS, 25), None, "a quarter is not calm");
        assert_eq!(load.judge(now + 61_000 * MS, 24), None);
        assert_eq!(
            load.judge(now + 66_000 * MS, 24),
            Some(false),
            "a long silence counts whole"
        );
    }

    #[test]
    fn a_second_that_was_long_ago_is_not_this_one() {
        let (mut load, now) = start();
        for second in 0..100 {
            load.note(200 * MS);
            assert_eq!(load.judge(now + second * 2000 * MS, 0), None, "10 % each");
        }
    }
}
