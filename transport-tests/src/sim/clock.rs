//! Virtual time: the simulator's only source of [`Now`].

use std::time::{Duration, Instant};

use transport_core::Now;

/// Wall-clock time at which every simulated world begins, in milliseconds since 1970 (2026-01-01).
pub const EPOCH_UNIX_MS: u64 = 1_767_225_600_000;

/// Virtual time since the world began.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Instant,
    elapsed: Duration,
}

impl Clock {
    /// A clock at zero. Its base instant is arbitrary: only differences ever reach the engine.
    #[expect(
        clippy::disallowed_methods,
        reason = "std offers no other way to make an Instant to count from"
    )]
    pub fn start() -> Self {
        Self {
            base: Instant::now(),
            elapsed: Duration::ZERO,
        }
    }

    /// The present, as the engine takes it.
    pub fn now(&self) -> Now {
        Now {
            instant: self.base + self.elapsed,
            unix_ms: EPOCH_UNIX_MS + self.elapsed.as_millis() as u64,
        }
    }

    /// Time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Moves forward to `at`; never back.
    pub fn advance(&mut self, at: Duration) {
        self.elapsed = self.elapsed.max(at);
    }

    /// The virtual time of an instant that the engine named.
    pub fn virtual_time(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.base)
    }
}
