//! Deadlines: one timer, one call.
#![forbid(unsafe_code)]

use std::time::Instant;

use transport_reliability as reliability;

use super::Connection;
use crate::config::Now;
use crate::error::CloseReason;
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
            .active
            .recovery
            .next_timeout()
            .map(|(at, why)| (at, why_of(why)));
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
            self.on_timer(timer, now.instant);
        }
        if !self.state.is_open() {
            return;
        }
        if self
            .paths
            .active
            .recovery
            .next_timeout()
            .is_some_and(|(at, _)| at <= now.instant)
        {
            self.paths
                .active
                .recovery
                .on_timeout(now.instant, &mut self.paths.active.outcome);
            self.deliver(now.instant, tracer);
        }
        if self.scheduler.next_timeout().is_some_and(|at| at <= now.instant) {
            self.scheduler.on_timeout(now.instant);
        }
    }

    fn on_timer(&mut self, timer: Timer, now: Instant) {
        match timer {
            Timer::Idle => self.end_silently(CloseReason::Idle),
            Timer::KeepAlive => self.pending.ping = true,
            Timer::CloseDone => self.state.finish(),
            Timer::KeyDiscard => {
                if let Some(keys) = &mut self.keys {
                    keys.discard_previous();
                }
            }
            Timer::PathValidation => self.on_path_silence(now),
            Timer::MtuSearch => self.paths.active.mtu.search_again(),
            // A client that sent early data and nothing more.
            Timer::HandshakeGiveUp => self.end_silently(CloseReason::HandshakeTimeout),
            // A dial's.
            Timer::HandshakeRetry => {}
        }
    }

    fn on_path_silence(&mut self, now: Instant) {
        let Some(candidate) = &mut self.paths.active.candidate else {
            return;
        };
        if !candidate.timed_out(now) {
            self.paths.active.candidate = None;
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
