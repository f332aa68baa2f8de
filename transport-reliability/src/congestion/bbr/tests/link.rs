//! The bottleneck: a queue that drains at a rate, then a delay, and what may go wrong on it.

use std::time::{Duration, Instant};

use crate::number::SplitMix;

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A token bucket that drops what it cannot pay for.
#[derive(Debug)]
pub(super) struct Policer {
    pub(super) rate: u64,
    pub(super) burst: u64,
    pub(super) tokens: f64,
    pub(super) at: Instant,
}

impl Policer {
    fn takes(&mut self, now: Instant, size: u64) -> bool {
        let earned = (now - self.at).as_secs_f64() * self.rate as f64;
        self.tokens = (self.tokens + earned).min(self.burst as f64);
        self.at = now;
        let takes = self.tokens >= size as f64;
        if takes {
            self.tokens -= size as f64;
        }
        takes
    }
}

/// The path and what may go wrong on it.
pub(super) struct Link {
    /// Bytes a second.
    pub(super) rate: u64,
    pub(super) rtt: Duration,
    /// Bytes the queue holds.
    pub(super) queue: u64,
    /// Losses per thousand packets, at random.
    pub(super) loss: u64,
    /// Drop this many of the next packets, every second one.
    pub(super) drop_next: u64,
    /// Deliver this many of the next packets late, by the duration.
    pub(super) late: (u64, Duration),
    /// Keeps what it gets, until it is released.
    pub(super) holds: bool,
    /// ACKs leave only at multiples of this.
    pub(super) slot: Option<Duration>,
    pub(super) policer: Option<Policer>,
    /// Packets that find more bytes than this in the queue are marked with CE.
    pub(super) marks_above: Option<u64>,
    /// Whether the last packet was.
    pub(super) marked: bool,
    free_at: Instant,
    random: SplitMix,
}

impl Link {
    pub(super) fn new(rate: u64, rtt: Duration, queue: u64, now: Instant) -> Self {
        Self {
            rate,
            rtt,
            queue,
            loss: 0,
            drop_next: 0,
            late: (0, Duration::ZERO),
            holds: false,
            slot: None,
            policer: None,
            marks_above: None,
            marked: false,
            free_at: now,
            random: SplitMix(5),
        }
    }

    pub(super) fn seed(&mut self, seed: u64) {
        self.random = SplitMix(seed);
    }

    /// When a packet that leaves now arrives, if it does; the ACK's way back is included.
    pub(super) fn carry(&mut self, now: Instant, size: u64) -> Option<Instant> {
        if self
            .policer
            .as_mut()
            .is_some_and(|policer| !policer.takes(now, size))
        {
            return None;
        }
        if self.drop_next > 0 {
            self.drop_next -= 1;
            if self.drop_next.is_multiple_of(2) {
                return None;
            }
        }
        if self.loss > 0 && self.random.below(1000) < self.loss {
            return None;
        }
        let waiting = self.free_at.saturating_duration_since(now);
        let queued = (waiting.as_secs_f64() * self.rate as f64) as u64;
        if queued + size > self.queue {
            return None;
        }
        self.marked = self.marks_above.is_some_and(|above| queued > above);
        self.free_at = self.free_at.max(now) + Duration::from_secs_f64(size as f64 / self.rate as f64);
        let mut at = self.free_at + self.rtt;
        if self.late.0 > 0 {
            self.late.0 -= 1;
            at += self.late.1;
        }
        Some(at)
    }
}
