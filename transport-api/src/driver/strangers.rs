//! How much time goes to what comes for nobody here, while connections are at work.
//!
//! A flood costs its sender as much as reading it costs us, so reading all of it would give it half of the machine. What is
//! not read overflows in the kernel, at the sender's expense. Only the common socket is read sparingly: connections have
//! lanes of their own.

use std::time::{Duration, Instant};

/// One part in so many of a core, while lanes are busy.
const SHARE: u32 = 5;
/// May be saved up.
const BURST: Duration = Duration::from_millis(2);
/// Lanes are busy for so long after they brought so much in as much time: some 30 Mbit/s, below which nobody needs the time.
const BUSY: Duration = Duration::from_millis(100);
const BUSY_DATAGRAMS: u32 = 256;

/// When the common socket may be read again.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    free_at: Option<Instant>,
    busy_until: Option<Instant>,
    /// Datagrams of lanes since when.
    lanes: (u32, Option<Instant>),
}

impl Strangers {
    /// So many datagrams came on lanes.
    pub(super) fn lanes_work(&mut self, now: Instant, datagrams: u32) {
        let (count, since) = &mut self.lanes;
        if since.is_none_or(|since| now.saturating_duration_since(since) >= BUSY) {
            (*count, *since) = (0, Some(now));
        }
        *count = count.saturating_add(datagrams);
        if *count >= BUSY_DATAGRAMS {
            self.busy_until = Some(now + BUSY);
        }
    }

    /// When the common socket may be read, unless that is now.
    pub(super) fn rest(&self, now: Instant) -> Option<Instant> {
        let busy = self.busy_until.is_some_and(|until| until > now);
        self.free_at.filter(|at| busy && *at > now)
    }

    /// Reading from `begun` to `now` brought `all` datagrams, `ours` of them for connections.
    pub(super) fn spent(&mut self, begun: Instant, now: Instant, all: u32, ours: u32) {
        let Some(useless) = all.checked_sub(ours).filter(|count| *count > 0) else {
            return;
        };
        let time = now.saturating_duration_since(begun) * useless / all;
        let earliest = begun.checked_sub(BURST).unwrap_or(begun);
        let from = self.free_at.map_or(earliest, |at| at.max(earliest));
        self.free_at = Some(from + time * SHARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::clock;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn floods_get_a_fifth_while_lanes_are_busy_and_everything_else_is_free() {
        let start = clock::now().instant;
        let mut strangers = Strangers::default();
        let (mut now, mut read) = (start, Duration::ZERO);
        while now < start + Duration::from_secs(1) {
            strangers.lanes_work(now, 2);
            if strangers.rest(now).is_none() {
                strangers.spent(now, now + 100 * US, 100, 0);
                read += 100 * US;
            }
            now += 150 * US;
        }
        // Until the lanes have shown that they are busy, everything was read.
        assert!((195..=220).contains(&read.as_millis()), "{read:?}");
        // Nothing is charged for datagrams of connections.
        let before = strangers.rest(now);
        strangers.spent(now, now + 100 * US, 64, 64);
        assert_eq!(strangers.rest(now), before);
        strangers.spent(now, now + 10_000 * US, 64, 0);
        assert!(strangers.rest(now).is_some());
        assert_eq!(strangers.rest(now + BUSY), None, "nobody is at work");
        let mut now = now + 2 * BUSY;
        for _ in 0..1000 {
            now += 1000 * US;
            strangers.lanes_work(now, 2);
            strangers.spent(now, now + 1000 * US, 64, 0);
            assert_eq!(strangers.rest(now), None, "a little work");
        }
    }
}
