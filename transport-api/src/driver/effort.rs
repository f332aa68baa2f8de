//! What answering a handshake costs on this machine: the engine reads no clock, and shares out time by this figure.

use std::time::Duration;

use super::clock;
use crate::engine::{Batch, Endpoint, Now, Output};

/// The first guess, before anything was measured.
const GUESS: Duration = Duration::from_micros(250);
/// A new measurement counts for one part of these.
const WEIGHT: u32 = 8;
/// It counts as at most so many times the mean: the scheduler may have taken the processor away in the midst of it.
const OUTLIER: u32 = 4;

/// A moving mean.
#[derive(Debug)]
pub(super) struct Effort {
    mean: Duration,
}

impl Default for Effort {
    fn default() -> Self {
        Self { mean: GUESS }
    }
}

impl Effort {
    /// Polls the engine. While hellos wait, time is taken, for a poll may answer some.
    pub(super) fn poll(&mut self, engine: &mut Endpoint, now: Now, batch: &mut Batch) -> Output {
        let waiting = engine.hellos_waiting();
        if waiting == 0 {
            return engine.poll(now, batch);
        }
        let begun = clock::instant();
        let output = engine.poll(now, batch);
        let answered = waiting.saturating_sub(engine.hellos_waiting());
        if let Some(answered) = u32::try_from(answered).ok().filter(|count| *count > 0) {
            self.note(clock::instant().saturating_duration_since(begun) / answered);
            engine.set_handshake_cost(self.mean);
        }
        output
    }

    fn note(&mut self, one: Duration) {
        let one = one.min(self.mean * OUTLIER);
        self.mean = (self.mean * (WEIGHT - 1) + one) / WEIGHT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_and_one_interruption_does_not_count_much() {
        let mut effort = Effort::default();
        for _ in 0..60 {
            effort.note(Duration::from_micros(100));
        }
        assert!(
            (100..=101).contains(&effort.mean.as_micros()),
            "{:?}",
            effort.mean
        );
        effort.note(Duration::from_millis(50));
        assert!(effort.mean < Duration::from_micros(140), "{:?}", effort.mean);
        for _ in 0..60 {
            effort.note(Duration::from_micros(900));
        }
        assert!(effort.mean > Duration::from_micros(890), "{:?}", effort.mean);
    }
}
