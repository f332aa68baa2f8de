//! Drain (§5.3.2): lets the queue go that Startup made.

use super::{Bbr, Moment, State};

/// Rounds after which the bandwidth counts as overestimated, and Drain ends anyway.
const ROUNDS: u64 = 3;

impl Bbr {
    pub(super) fn enter_drain(&mut self) {
        self.state = State::Drain;
        self.drain_start_round = self.rounds.count;
    }

    pub(super) fn check_drain_done(&mut self, moment: Moment) {
        let drained = moment.in_flight <= self.inflight(self.bw);
        let expired = self.rounds.count > self.drain_start_round + ROUNDS;
        if self.state == State::Drain && (drained || expired) {
            self.start_down(moment);
        }
    }
}
