//! Datagrams of one request on their way from the session to the tunnel.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Datagrams held at most; the oldest go first.
pub(crate) const MAX_LEN: usize = 1024;
/// Bytes held at most.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Datagrams held for a request that is not answered yet; further ones are dropped.
pub(crate) const EARLY_LEN: usize = 8;
/// Bytes of them, for one request and for all of a connection.
pub(crate) const EARLY_BYTES: usize = 64 * 1024;

/// Bytes that wait on one connection for answers to their requests.
#[derive(Debug, Default)]
pub(crate) struct EarlyBytes(AtomicUsize);

impl EarlyBytes {
    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| Some(used + bytes).filter(|used| *used <= EARLY_BYTES);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A request without an answer.
#[derive(Debug)]
struct Pending {
    budget: Arc<EarlyBytes>,
    dropped: u64,
}

/// One received payload; reads as a byte slice.
#[derive(Clone, Debug)]
pub struct Datagram {
    bytes: Vec<u8>,
    start: usize,
}

impl Datagram {
    /// `bytes` from `start` on.
    pub(crate) fn new(bytes: Vec<u8>, start: usize) -> Self {
        Self { bytes, start }
    }

    /// What it was in, to be used again.
    pub(crate) fn into_spent(self) -> Vec<u8> {
        self.bytes
    }

    /// The same datagram without its first `n` bytes.
    pub(crate) fn advance(mut self, n: usize) -> Self {
        self.start = (self.start + n).min(self.bytes.len());
        self
    }
}

impl Deref for Datagram {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

impl DerefMut for Datagram {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Datagram {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// What happened to a datagram that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits; nothing was lost.
    Queued,
    /// It waits; the oldest one had to go.
    DroppedOldest,
    /// The request has no datagrams.
    Refused,
    /// The request is not answered yet, and no more is kept for it.
    Early,
}

/// Why no datagram will come any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InboxEnd {
    /// The session ended.
    Closed,
    /// A datagram came for a request that has none (RFC 9297 §2).
    NotForDatagrams,
}

#[derive(Debug, Default)]
struct State {
    pending: Option<Pending>,
    takes_datagrams: bool,
    queue: VecDeque<Datagram>,
    bytes: usize,
    waiting: Option<Waker>,
    end: Option<InboxEnd>,
}

impl State {
    /// Whether a datagram has room before the answer; `None` when there was one.
    fn push_early(&mut self, datagram: &Datagram) -> Option<Pushed> {
        let pending = self.pending.as_mut()?;
        let len = datagram.len();
        let room = self.queue.len() < EARLY_LEN && self.bytes + len <= EARLY_BYTES;
        if !(room && pending.budget.take(len)) {
            pending.dropped += 1;
            return Some(Pushed::Early);
        }
        self.bytes += len;
        Some(Pushed::Queued)
    }
}

/// A bounded queue between the session and one tunnel.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
}

impl Inbox {
    pub(crate) fn new(takes_datagrams: bool) -> Self {
        let state = State {
            takes_datagrams,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// For a request that is not answered yet.
    pub(crate) fn pending(budget: Arc<EarlyBytes>) -> Self {
        let state = State {
            pending: Some(Pending { budget, dropped: 0 }),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// The request is answered: from now on the usual bounds hold. How many datagrams were dropped before.
    pub(crate) fn open(&self, takes_datagrams: bool) -> u64 {
        let (dropped, stray) = {
            let mut state = self.state();
            let Some(pending) = state.pending.take() else {
                return 0;
            };
            pending.budget.give_back(state.bytes);
            state.takes_datagrams = takes_datagrams;
            (pending.dropped, !takes_datagrams && !state.queue.is_empty())
        };
        if stray {
            self.discard();
            self.end(InboxEnd::NotForDatagrams);
        }
        dropped
    }

    /// Nobody will read; how many datagrams are lost with it, those that were dropped before an answer included.
    pub(crate) fn discard(&self) -> u64 {
        let mut state = self.state();
        let mut lost = state.queue.len() as u64;
        state.queue.clear();
        let bytes = std::mem::take(&mut state.bytes);
        if let Some(pending) = state.pending.take() {
            pending.budget.give_back(bytes);
            lost += pending.dropped;
        }
        lost
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, datagram: Datagram) -> Pushed {
        let mut outcome = Pushed::Queued;
        let waiting = {
            let mut state = self.state();
            if let Some(early) = state.push_early(&datagram) {
                if early == Pushed::Queued {
                    state.queue.push_back(datagram);
                }
                return early;
            }
            if !state.takes_datagrams {
                drop(state);
                self.end(InboxEnd::NotForDatagrams);
                return Pushed::Refused;
            }
            state.bytes += datagram.len();
            state.queue.push_back(datagram);
            while state.queue.len() > MAX_LEN || state.bytes > MAX_BYTES {
                let Some(oldest) = state.queue.pop_front() else {
                    break;
                };
                state.bytes -= oldest.len();
                outcome = Pushed::DroppedOldest;
            }
            state.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
        outcome
    }

    /// The first end counts; what waits is still given out.
    pub(crate) fn end(&self, end: InboxEnd) {
        let waiting = {
            let mut state = self.state();
            state.end.get_or_insert(end);
            state.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// The next datagram. One task may wait.
    pub(crate) fn poll_recv(&self, cx: &Context<'_>) -> Poll<Result<Datagram, InboxEnd>> {
        let mut state = self.state();
        if let Some(datagram) = state.queue.pop_front() {
            state.bytes -= datagram.len();
            return Poll::Ready(Ok(datagram));
        }
        if let Some(end) = state.end {
            return Poll::Ready(Err(end));
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(inbox: &Inbox) -> Poll<Result<Datagram, InboxEnd>> {
        inbox.poll_recv(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_oldest_datagrams_are_dropped() {
        let inbox = Inbox::new(true);
        for i in 0..MAX_LEN {
            assert_eq!(inbox.push(Datagram::new(vec![9, i as u8], 1)), Pushed::Queued);
        }
        assert_eq!(inbox.push(Datagram::new(vec![9, 7], 1)), Pushed::DroppedOldest);
        let Poll::Ready(Ok(first)) = next(&inbox) else {
            panic!("not empty")
        };
        assert_eq!(*first, [1]);
        let big = Inbox::new(true);
        big.push(Datagram::new(vec![0; MAX_BYTES], 0));
        assert_eq!(big.push(Datagram::new(vec![1], 0)), Pushed::DroppedOldest);
    }

    #[test]
    fn little_is_kept_before_the_answer() {
        let budget = Arc::new(EarlyBytes::default());
        let (one, two) = (
            Inbox::pending(Arc::clone(&budget)),
            Inbox::pending(Arc::clone(&budget)),
        );
        let push = |inbox: &Inbox, len| inbox.push(Datagram::new(vec![0; len], 0));
        for _ in 0..EARLY_LEN {
            assert_eq!(push(&one, 1000), Pushed::Queued);
        }
        assert_eq!(push(&one, 1), Pushed::Early);
        let room = EARLY_BYTES - EARLY_LEN * 1000;
        assert_eq!(push(&two, room + 1), Pushed::Early, "beyond the connection's");
        assert_eq!(push(&two, room), Pushed::Queued);
        assert_eq!(push(&two, 1), Pushed::Early);
        assert_eq!(one.open(true), 1);
        assert_eq!(push(&one, 1000), Pushed::Queued, "as usual from here on");
        assert_eq!(push(&two, EARLY_LEN * 1000 + 1), Pushed::Early);
        assert_eq!(two.discard(), 1 + 3);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
        let stream = Inbox::pending(budget);
        push(&stream, 5);
        stream.open(false);
        assert!(matches!(
            next(&stream),
            Poll::Ready(Err(InboxEnd::NotForDatagrams))
        ));
    }

    #[test]
    fn ends_come_after_what_waits() {
        let inbox = Inbox::new(true);
        inbox.push(Datagram::new(vec![1], 0));
        inbox.end(InboxEnd::Closed);
        assert!(matches!(next(&inbox), Poll::Ready(Ok(_))));
        assert!(matches!(next(&inbox), Poll::Ready(Err(InboxEnd::Closed))));
        let refusing = Inbox::new(false);
        assert_eq!(refusing.push(Datagram::new(vec![1], 0)), Pushed::Refused);
        assert!(matches!(
            next(&refusing),
            Poll::Ready(Err(InboxEnd::NotForDatagrams))
        ));
    }
}
