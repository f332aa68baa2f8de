//! What was sent, and what came back when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use transport_api::now;

use crate::{LATE, WINDOW};

/// What was sent and what came back.
pub(crate) struct Tally {
    /// When each was sent, the oldest first; `None` once it is back.
    awaited: VecDeque<Option<Instant>>,
    /// The number of the oldest.
    oldest: u32,
    pub(crate) on_the_way: usize,
    pub(crate) sent: u32,
    pub(crate) returned: u32,
    trips_us: Vec<u32>,
    last: Instant,
    longest_gap: Duration,
}

impl Tally {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            awaited: VecDeque::with_capacity(WINDOW),
            oldest: 0,
            on_the_way: 0,
            sent: 0,
            returned: 0,
            trips_us: Vec::with_capacity(count as usize),
            last: now().instant,
            longest_gap: Duration::ZERO,
        }
    }

    pub(crate) fn sent(&mut self) {
        self.awaited.push_back(Some(now().instant));
        self.on_the_way += 1;
        self.sent += 1;
    }

    /// Forgets those at the head that are back, or lost.
    pub(crate) fn advance(&mut self, at: Instant) {
        while let Some(oldest) = self.awaited.front()
            && oldest.is_none_or(|sent| at >= sent + LATE)
        {
            self.on_the_way -= usize::from(oldest.is_some());
            self.awaited.pop_front();
            self.oldest += 1;
        }
    }

    pub(crate) fn back(&mut self, number: u32) {
        let at = now().instant;
        let index = number.wrapping_sub(self.oldest) as usize;
        // Once only; one that was given up does not count.
        if let Some(sent) = self.awaited.get_mut(index).and_then(Option::take) {
            self.trips_us
                .push((at - sent).as_micros().try_into().unwrap_or(u32::MAX));
            self.on_the_way -= 1;
            self.returned += 1;
            self.longest_gap = self.longest_gap.max(at - self.last);
            self.last = at;
        }
        self.advance(at);
    }

    /// Everything, as the last line of the report.
    pub(crate) fn summary(mut self, begun: Instant, route: &str) -> Value {
        self.trips_us.sort_unstable();
        let quantile = |of: usize| {
            let at = self.trips_us.len().saturating_sub(1) * of / 100;
            self.trips_us.get(at).map(|us| f64::from(*us) / 1e3)
        };
        json!({
            "event": "done",
            "route": route,
            "sent": self.sent,
            "returned": self.returned,
            "lost": self.sent - self.returned,
            "seconds": (now().instant - begun).as_secs_f64(),
            "rtt_ms": { "p50": quantile(50), "p99": quantile(99) },
            "longest_gap_ms": self.longest_gap.as_millis() as u64,
        })
    }
}
