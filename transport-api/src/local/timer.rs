//! Timers of a loop: an ordered map of deadlines.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Handle;
use crate::driver::clock;

/// The time of this loop.
pub(crate) fn now() -> Instant {
    clock::now().instant
}

/// The time given to [`Handle::timeout`] is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl std::error::Error for Elapsed {}

/// A deadline; the number tells equal ones apart.
type Key = (Instant, u64);

#[derive(Debug, Default)]
pub(super) struct Timers {
    waiting: RefCell<BTreeMap<Key, Waker>>,
    created: Cell<u64>,
}

impl Timers {
    pub(super) fn until_next(&self) -> Option<Duration> {
        let waiting = self.waiting.borrow();
        let (at, _) = waiting.keys().next()?;
        // The kernel counts milliseconds; rounding up keeps the loop from spinning through the last one.
        let left = at.saturating_duration_since(now());
        Some(if left.is_zero() {
            left
        } else {
            left + Duration::from_micros(999)
        })
    }

    pub(super) fn fire(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        let now = now();
        while let Some(waker) = self.take_due(now) {
            waker.wake();
        }
    }

    /// The map is not borrowed while somebody is woken.
    fn take_due(&self, now: Instant) -> Option<Waker> {
        let mut waiting = self.waiting.borrow_mut();
        let first = waiting.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    fn key(&self, at: Instant) -> Key {
        self.created.set(self.created.get() + 1);
        (at, self.created.get())
    }
}

/// The future of [`Handle::sleep`].
#[derive(Debug)]
pub struct Sleep {
    handle: Handle,
    key: Key,
}

impl Sleep {
    pub(super) fn new(handle: Handle, at: Instant) -> Self {
        let key = handle.0.timers.key(at);
        Self { handle, key }
    }

    /// Moves the deadline to `duration` from now.
    pub fn reset(&mut self, duration: Duration) {
        let timers = &self.handle.0.timers;
        let waker = timers.waiting.borrow_mut().remove(&self.key);
        self.key = timers.key(now() + duration);
        if let Some(waker) = waker {
            timers.waiting.borrow_mut().insert(self.key, waker);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if now() >= self.key.0 {
            return Poll::Ready(());
        }
        self.handle
            .0
            .timers
            .waiting
            .borrow_mut()
            .insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.handle.0.timers.waiting.borrow_mut().remove(&self.key);
    }
}
