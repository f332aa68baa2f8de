//! Datagrams of one request on their way from the session to the tunnel.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Datagrams held at most; the oldest go first.
pub(crate) const MAX_LEN: usize = 1024;
/// Bytes held at most.
pub(crate) const MAX_BYTES: usize = 1 << 20;

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
    queue: VecDeque<Datagram>,
    bytes: usize,
    waiting: Option<Waker>,
    end: Option<InboxEnd>,
}

/// A bounded queue between the session and one tunnel.
#[derive(Debug)]
pub(crate) struct Inbox {
    takes_datagrams: bool,
    state: Mutex<State>,
}

impl Inbox {
    pub(crate) fn new(takes_datagrams: bool) -> Self {
        Self {
            takes_datagrams,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, datagram: Datagram) -> Pushed {
        if !self.takes_datagrams {
            self.end(InboxEnd::NotForDatagrams);
            return Pushed::Refused;
        }
        let mut outcome = Pushed::Queued;
        let waiting = {
            let mut state = self.state();
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
