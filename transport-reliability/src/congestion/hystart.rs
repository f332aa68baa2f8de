//! `HyStart++` (RFC 9406): leaves slow start when the round-trip time rises, before packets are lost.

use std::time::Duration;

const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u32 = 8;
const CSS_GROWTH_DIVISOR: u64 = 4;
const CSS_ROUNDS: u32 = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    SlowStart,
    /// Conservative slow start: grows slowly until it is known whether the rise was real.
    Conservative {
        baseline: Duration,
        rounds: u32,
    },
}

/// The state of one slow start.
#[derive(Clone, Debug)]
pub(super) struct HyStart {
    phase: Phase,
    last_round: Option<Duration>,
    this_round: Option<Duration>,
    samples: u32,
}

impl HyStart {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::SlowStart,
            last_round: None,
            this_round: None,
            samples: 0,
        }
    }

    /// A round trip ended; true when slow start is over.
    pub(super) fn on_round(&mut self) -> bool {
        self.last_round = self.this_round.take();
        self.samples = 0;
        match &mut self.phase {
            Phase::SlowStart => false,
            Phase::Conservative { rounds, .. } => {
                *rounds += 1;
                *rounds >= CSS_ROUNDS
            }
        }
    }

    /// One RTT sample.
    pub(super) fn on_rtt(&mut self, sample: Duration) {
        let current = self.this_round.map_or(sample, |min| min.min(sample));
        self.this_round = Some(current);
        self.samples += 1;
        if self.samples < N_RTT_SAMPLE {
            return;
        }
        match self.phase {
            Phase::SlowStart => {
                let Some(last) = self.last_round else { return };
                let threshold = (last / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                if current >= last + threshold {
                    self.phase = Phase::Conservative {
                        baseline: current,
                        rounds: 0,
                    };
                }
            }
            // The rise was jitter.
            Phase::Conservative { baseline, .. } if current < baseline => {
                self.phase = Phase::SlowStart;
            }
            Phase::Conservative { .. } => {}
        }
    }

    /// Window growth for `acked` bytes. The pacer bounds bursts, so RFC 9406's `L` is infinite.
    pub(super) fn growth(&self, acked: u64) -> u64 {
        match self.phase {
            Phase::SlowStart => acked,
            Phase::Conservative { .. } => acked / CSS_GROWTH_DIVISOR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(hystart: &mut HyStart, millis: u64, samples: u32) -> bool {
        for _ in 0..samples {
            hystart.on_rtt(Duration::from_millis(millis));
        }
        hystart.on_round()
    }

    #[test]
    fn a_lasting_rise_ends_slow_start_after_five_rounds() {
        let mut hystart = HyStart::new();
        assert!(!round(&mut hystart, 80, 10));
        assert!(!round(&mut hystart, 89, 10), "below an eighth");
        assert_eq!(hystart.growth(4000), 4000);
        for _ in 0..8 {
            hystart.on_rtt(Duration::from_millis(101));
        }
        assert_eq!(hystart.growth(4000), 1000);
        for _ in 0..4 {
            assert!(!round(&mut hystart, 101, 10));
        }
        assert!(round(&mut hystart, 101, 10));
    }

    #[test]
    fn jitter_resumes_slow_start() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 80, 10);
        round(&mut hystart, 100, 10);
        assert_eq!(hystart.growth(4000), 1000);
        round(&mut hystart, 82, 10);
        assert_eq!(hystart.growth(4000), 4000);
    }

    #[test]
    fn few_samples_decide_nothing_and_the_threshold_is_clamped() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 80, 10);
        round(&mut hystart, 200, 7);
        assert_eq!(hystart.growth(4), 4);
        let mut short = HyStart::new();
        round(&mut short, 8, 10);
        round(&mut short, 11, 10);
        assert_eq!(short.growth(4), 4, "4 ms at least");
        let mut long = HyStart::new();
        round(&mut long, 600, 10);
        round(&mut long, 616, 10);
        assert_eq!(long.growth(4), 1, "16 ms at most");
    }
}
