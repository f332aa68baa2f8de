//! Deadlines: one timer, one call.
#![forbid(unsafe_code)]

use std::time::Instant;

use transport_reliability as reliability;

use super::transmit::SMALL_PROBES;
use super::{Connection, MAX_PATHS};
use crate::config::Now;
use crate::error::CloseReason;
use crate::path::{PathId, PathReason};
use crate::timer::{Timer, Why, earlier};
use crate::trace::Tracer;

impl Connection {
    /// The next moment something must be done, and what.
    pub(crate) fn next_timeout(&self, now: Instant) -> Option<(Instant, Why)> {
        let own = self.timers.earliest().map(|(at, timer)| (at, Why::Timer(timer)));
        // Towards an address that may get nothing more, nothing can be due but the end.
        if !self.state.is_open() || self.paths.active.allowance() == 0 {
            return own;
        }
        let recovery = self
            .paths
            .iter()
            .filter(|path| path.state.is_usable())
            .filter_map(|path| path.recovery.next_timeout())
            .min_by_key(|(at, _)| *at)
            .map(|(at, why)| (at, why_of(why)));
        let due = self.paths.next_due(self.keeps_paths());
        let punch = self.pending.punch.as_ref().and_then(|punch| punch.next_due());
        let due = [due, punch].into_iter().flatten().min();
        let recovery = earlier(recovery, due.map(|at| (at, Why::Timer(Timer::PathValidation))));
        let expiry = self.scheduler.next_timeout().map(|at| (at, Why::DatagramExpiry));
        earlier(earlier(own, recovery), earlier(expiry, self.pacing(now)))
    }

    /// When the pacer opens for what waits. In the past means that something else holds it back.
    fn pacing(&self, now: Instant) -> Option<(Instant, Why)> {
        let at = self
            .paths
            .active
            .recovery
            .next_send()
            .filter(|at| *at > now && self.scheduler.has_pending())?;
        Some((at, Why::Pacing))
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Now, tracer: &mut Tracer<'_>) {
        while let Some(timer) = self.timers.expire(now.instant) {
            self.on_timer(timer);
        }
        if !self.state.is_open() {
            return;
        }
        // What happens to a path may change their order, or end one of them.
        let ids = std::array::from_fn::<_, { MAX_PATHS as usize }, _>(|at| self.paths.nth(at));
        for id in ids.into_iter().flatten() {
            self.on_recovery_timeout(id, now.instant, tracer);
            self.on_path_due(id, now.instant, tracer);
        }
        self.advance_punch(now.instant, tracer);
        if self.scheduler.next_timeout().is_some_and(|at| at <= now.instant) {
            self.scheduler.on_timeout(now.instant);
        }
    }

    fn on_recovery_timeout(&mut self, id: PathId, now: Instant, tracer: &mut Tracer<'_>) {
        let Some(path) = self.paths.get_mut(id).filter(|path| path.state.is_usable()) else {
            return;
        };
        if path.recovery.next_timeout().is_some_and(|(at, _)| at <= now) {
            path.recovery.on_timeout(now, &mut path.outcome);
            let silent = path.recovery.pto_count() > 0;
            if path.recovery.pto_count() >= SMALL_PROBES {
                path.mtu.press();
            }
            self.deliver(id, now, tracer);
            if silent {
                self.suspect(id, PathReason::ProbeTimeout, now, tracer);
            }
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Idle => self.end_silently(CloseReason::Idle),
            Timer::KeepAlive => self.paths.active.ping = true,
            Timer::CloseDone => self.state.finish(),
            Timer::KeyDiscard => {
                if let Some(keys) = &mut self.keys {
                    keys.discard_previous();
                }
            }
            Timer::MtuSearch => self.paths.iter_mut().for_each(|path| path.mtu.search_again()),
            // A client that sent early data and nothing more.
            Timer::HandshakeGiveUp => self.end_silently(CloseReason::HandshakeTimeout),
            // A dial's, and those of paths, which keep their own.
            Timer::HandshakeRetry | Timer::PathValidation => {}
        }
    }
}

fn why_of(why: reliability::Why) -> Why {
    match why {
        reliability::Why::AckDelay => Why::AckDelay,
        reliability::Why::Loss => Why::Loss,
        reliability::Why::Probe => Why::Probe,
        reliability::Why::Pacing => Why::Pacing,
    }
}
