//! Deadlines of one connection, and why each was set.
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

use std::time::Instant;

/// A deadline a connection keeps itself. Those of loss recovery and of the scheduler live there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(usize)]
pub enum Timer {
    /// Nothing was heard for too long (RFC 9000 §10.1).
    Idle,
    /// Say something, so that the peer and the boxes between do not forget us.
    KeepAlive,
    /// The handshake must be over, or is given up.
    HandshakeGiveUp,
    /// Send the handshake datagrams again.
    HandshakeRetry,
    /// Closing or draining is over (RFC 9000 §10.2).
    CloseDone,
    /// Drop the keys of the previous phase (RFC 9001 §6.5).
    KeyDiscard,
    /// A path challenge has not been answered (RFC 9000 §8.2.4).
    PathValidation,
    /// Search for a larger path MTU again (RFC 8899 §5).
    MtuSearch,
}

impl Timer {
    /// Every timer, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::KeepAlive,
        Self::HandshakeGiveUp,
        Self::HandshakeRetry,
        Self::CloseDone,
        Self::KeyDiscard,
        Self::PathValidation,
        Self::MtuSearch,
    ];
}

/// Why somebody waits for a moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Why {
    /// One of the connection's own timers.
    Timer(Timer),
    /// A delayed acknowledgement must go.
    AckDelay,
    /// A packet will count as lost (RFC 9002 §6.1.2).
    Loss,
    /// A probe timeout (RFC 9002 §6.2).
    Probe,
    /// The pacer will let more through.
    Pacing,
    /// A queued datagram becomes worthless.
    DatagramExpiry,
    /// A client's first message waits until there is time to read it.
    Hello,
    /// A relay's epoch ends, or its new bundle goes to more connections.
    Rotation,
}

/// The earlier of two deadlines; the first one when they are equal.
pub fn earlier(a: Option<(Instant, Why)>, b: Option<(Instant, Why)>) -> Option<(Instant, Why)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// The table: at most one deadline for each [`Timer`].
#[derive(Clone, Debug, Default)]
pub struct Timers {
    at: [Option<Instant>; Timer::ALL.len()],
}

impl Timers {
    /// Sets or moves a deadline.
    pub fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(slot) = self.at.get_mut(timer as usize) {
            *slot = Some(at);
        }
    }

    /// Sets the deadline unless an earlier one stands.
    pub fn set_earlier(&mut self, timer: Timer, at: Instant) {
        if self.get(timer).is_none_or(|standing| at < standing) {
            self.set(timer, at);
        }
    }

    /// Removes a deadline.
    pub fn clear(&mut self, timer: Timer) {
        if let Some(slot) = self.at.get_mut(timer as usize) {
            *slot = None;
        }
    }

    /// Removes all deadlines.
    pub fn clear_all(&mut self) {
        self.at = Default::default();
    }

    /// When the deadline is, if it is set.
    pub fn get(&self, timer: Timer) -> Option<Instant> {
        self.at.get(timer as usize).copied().flatten()
    }

    /// The earliest deadline; of equal ones the first in [`Timer::ALL`].
    pub fn earliest(&self) -> Option<(Instant, Timer)> {
        let set = self
            .at
            .iter()
            .zip(Timer::ALL)
            .filter_map(|(at, timer)| at.map(|at| (at, timer)));
        set.min_by_key(|(at, _)| *at)
    }

    /// Removes and gives the earliest deadline that is not after `now`. Call it until it gives nothing.
    pub fn expire(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = self.earliest()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn deadlines_expire_in_order() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        assert_eq!(timers.earliest(), None);
        timers.set(Timer::MtuSearch, after(5));
        timers.set(Timer::Idle, after(9));
        timers.set(Timer::KeepAlive, after(5));
        timers.set_earlier(Timer::Idle, after(7));
        timers.set_earlier(Timer::Idle, after(8));
        assert_eq!(timers.get(Timer::Idle), Some(after(7)));
        assert_eq!(timers.earliest(), Some((after(5), Timer::KeepAlive)));
        assert_eq!(timers.expire(after(4)), None);
        assert_eq!(timers.expire(after(6)), Some(Timer::KeepAlive));
        assert_eq!(timers.expire(after(6)), Some(Timer::MtuSearch));
        assert_eq!(timers.expire(after(6)), None);
        timers.clear(Timer::Idle);
        assert_eq!(timers.expire(after(60)), None);
        let (idle, loss) = (
            Some((after(3), Why::Timer(Timer::Idle))),
            Some((after(3), Why::Loss)),
        );
        assert_eq!(earlier(idle, loss), idle);
        assert_eq!(earlier(None, loss), loss);
        assert_eq!(earlier(Some((after(4), Why::Probe)), loss), loss);
    }
}
