//! The blocking face of every future: park the thread until it is ready.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use crate::driver::clock;

/// Blocks the calling thread on a future. Implemented for every future.
///
/// Do not call it from inside an executor's task: the whole executor thread stops until the future is ready.
pub trait Wait: Future {
    /// Parks the thread until the future is ready.
    fn wait(self) -> Self::Output
    where
        Self: Sized,
    {
        let mut future = pin!(self);
        with_parker(|parker, waker| {
            let mut context = Context::from_waker(waker);
            loop {
                if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                    return output;
                }
                parker.park();
            }
        })
    }

    /// Like [`Wait::wait`], but gives up after `limit`: `None`, and the future is dropped (cancelled).
    fn wait_timeout(self, limit: Duration) -> Option<Self::Output>
    where
        Self: Sized,
    {
        let mut future = pin!(self);
        let deadline = clock::now().instant.checked_add(limit);
        with_parker(|parker, waker| {
            let mut context = Context::from_waker(waker);
            loop {
                if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                    return Some(output);
                }
                let Some(deadline) = deadline else {
                    parker.park();
                    continue;
                };
                let left = deadline.saturating_duration_since(clock::now().instant);
                if left.is_zero() {
                    return None;
                }
                parker.park_timeout(left);
            }
        })
    }
}

impl<F: Future> Wait for F {}

struct Parker {
    thread: Thread,
    notified: AtomicBool,
}

impl Parker {
    fn park(&self) {
        while !self.notified.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }

    fn park_timeout(&self, limit: Duration) {
        if !self.notified.swap(false, Ordering::Acquire) {
            std::thread::park_timeout(limit);
        }
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.notified.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

thread_local! {
    // One waker per thread, so that waiter lists recognise a thread that comes back (`Waker::will_wake`).
    static PARKER: RefCell<Option<(Arc<Parker>, Waker)>> = const { RefCell::new(None) };
}

fn with_parker<R>(run: impl FnOnce(&Parker, &Waker) -> R) -> R {
    let (parker, waker) = PARKER.with(|cell| {
        let mut slot = cell.borrow_mut();
        let (parker, waker) = slot.get_or_insert_with(|| {
            let parker = Arc::new(Parker {
                thread: std::thread::current(),
                notified: AtomicBool::new(false),
            });
            (Arc::clone(&parker), Waker::from(parker))
        });
        (Arc::clone(parker), waker.clone())
    });
    run(&parker, &waker)
}

/// Wakers of everybody who waits for the same thing. Bounded: beyond the bound all are woken and ask again.
///
/// A connection has many of these, nearly all of them with one waker at most, which needs no allocation; the others are a chain.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    first: Option<Waker>,
    others: Option<Box<Other>>,
}

#[derive(Debug)]
struct Other {
    waker: Waker,
    next: Option<Box<Self>>,
}

const MAX_WAITERS: usize = 1024;

impl Waiters {
    pub(crate) fn add(&mut self, waker: &Waker) {
        if self.first.get_or_insert_with(|| waker.clone()).will_wake(waker) {
            return;
        }
        let (mut last, mut count) = (&mut self.others, 0);
        while let Some(other) = last {
            if other.waker.will_wake(waker) {
                return;
            }
            count += 1;
            last = &mut other.next;
        }
        *last = Some(Box::new(Other {
            waker: waker.clone(),
            next: None,
        }));
        if count >= MAX_WAITERS {
            let mut all = Vec::new();
            self.take_into(&mut all);
            all.into_iter().for_each(Waker::wake);
        }
    }

    /// Moves the wakers to `out`; the caller wakes them when it holds no lock.
    pub(crate) fn take_into(&mut self, out: &mut Vec<Waker>) {
        out.extend(self.first.take());
        let mut next = self.others.take();
        while let Some(other) = next {
            out.push(other.waker);
            next = other.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_future_returns_at_once() {
        assert_eq!(std::future::ready(7).wait(), 7);
        assert_eq!(std::future::ready(7).wait_timeout(Duration::ZERO), Some(7));
    }

    #[test]
    fn a_timeout_ends_the_wait() {
        assert_eq!(
            std::future::pending::<()>().wait_timeout(Duration::from_millis(5)),
            None
        );
    }

    #[test]
    fn another_thread_wakes_the_waiter() {
        let flag = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&flag);
        let mut helper = None;
        let value = std::future::poll_fn(move |cx| {
            if seen.load(Ordering::Acquire) {
                return Poll::Ready(3);
            }
            if helper.is_none() {
                let (waker, flag) = (cx.waker().clone(), Arc::clone(&flag));
                helper = Some(std::thread::spawn(move || {
                    flag.store(true, Ordering::Release);
                    waker.wake();
                }));
            }
            Poll::Pending
        })
        .wait_timeout(Duration::from_secs(10));
        assert_eq!(value, Some(3));
    }

    #[test]
    fn the_same_thread_waits_once() {
        let mut waiters = Waiters::default();
        for _ in 0..3 {
            with_parker(|_, waker| waiters.add(waker));
        }
        let mut all = Vec::new();
        waiters.take_into(&mut all);
        assert_eq!(all.len(), 1);
    }
}
