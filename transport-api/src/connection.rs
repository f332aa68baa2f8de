//! Connections: the handle, and the futures that open, accept and close.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::driver::shared::{ConnectionShared, FinishReply, Halves, OpenReply, Query, Reply, lock};
use crate::engine::{Algorithm, Bundle, ConnectionStats, Direction, Info, Peer, Suite};
use crate::error::{ConnectionError, FinishError};
use crate::stream::{RecvStream, SendStream};
use crate::wait::Wait;

/// Closes the connection when the last handle (streams included) is gone.
#[derive(Debug)]
pub(crate) struct Guard(pub(crate) Arc<ConnectionShared>);

impl Drop for Guard {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.0.state);
            if state.ended.is_some() {
                return;
            }
            state.orders().close.get_or_insert((0, Vec::new()));
        }
        self.0.post();
    }
}

/// A connection to one peer. Clones are the same connection.
///
/// It closes with code 0 when its last handle is dropped, streams included; bytes still on their way are lost then. Use
/// [`Connection::finish_and_close`] to wait for them.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(crate) guard: Arc<Guard>,
}

impl Connection {
    pub(crate) fn new(shared: Arc<ConnectionShared>) -> Self {
        Self {
            guard: Arc::new(Guard(shared)),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<ConnectionShared> {
        &self.guard.0
    }

    /// Number of this connection within its endpoint; never reused.
    pub fn id(&self) -> u64 {
        self.shared().id
    }

    /// Opens a stream both sides may send on. Waits while the peer allows no more streams. The peer learns of the
    /// stream with its first byte (or its end).
    ///
    /// Cancel-safe: a stream opened for a dropped future is reset.
    pub fn open_bi(&self) -> OpenBi {
        OpenBi(Open {
            connection: self.clone(),
            direction: Direction::Bi,
            reply: None,
        })
    }

    /// Opens a stream only this side sends on. Otherwise as [`Connection::open_bi`].
    pub fn open_uni(&self) -> OpenUni {
        OpenUni(Open {
            connection: self.clone(),
            direction: Direction::Uni,
            reply: None,
        })
    }

    /// Waits for the next stream the peer opens for both sides. Streams that arrived before the connection ended are
    /// still given out.
    ///
    /// Cancel-safe.
    pub fn accept_bi(&self) -> AcceptBi {
        AcceptBi {
            connection: self.clone(),
        }
    }

    /// Waits for the next stream only the peer sends on. Otherwise as [`Connection::accept_bi`].
    pub fn accept_uni(&self) -> AcceptUni {
        AcceptUni {
            connection: self.clone(),
        }
    }

    /// Waits for the relay's next bundle, which it sends in-band when its keys rotate: verified, of the same relay, valid now
    /// and of a higher epoch than the one this connection began with. Keep it and connect with it from now on. Of several
    /// that nobody asked for, the newest is given. One that came before the end of the connection is still given out.
    ///
    /// Cancel-safe.
    pub fn bundle_updates(&self) -> BundleUpdate {
        BundleUpdate {
            shared: Arc::clone(self.shared()),
        }
    }

    /// Who the other side is, as the handshake proved it.
    pub fn peer(&self) -> Peer {
        self.shared().peer
    }

    /// The peer's address now (it changes when a NAT gives it another).
    pub fn remote_address(&self) -> SocketAddr {
        *lock(&self.shared().remote)
    }

    /// The cipher of this connection; before the end of the handshake that of the ticket's.
    pub fn suite(&self) -> Suite {
        self.info().map_or(self.shared().suite, |info| info.suite)
    }

    /// How long the handshake took; zero before its end.
    pub fn handshake_duration(&self) -> Duration {
        self.info().map_or(Duration::ZERO, |info| info.handshake)
    }

    pub(crate) fn info(&self) -> Option<Info> {
        lock(&self.shared().state).info
    }

    /// Figures of this connection: asks the driver thread and waits for it (well under a millisecond). After the end,
    /// and on the driver thread itself (in an observer), the last known ones.
    pub fn stats(&self) -> ConnectionStats {
        let fresh = self.ask(Query::Stats).flatten();
        fresh.unwrap_or_else(|| self.last_stats())
    }

    /// As [`stats`](Self::stats), but waits without blocking: also for tasks of the loop on which the endpoint lives, where `stats`
    /// knows nothing before the end.
    ///
    /// Cancel-safe.
    pub async fn current_stats(&self) -> ConnectionStats {
        let fresh = self.ask_patiently(Query::Stats).await.flatten();
        fresh.unwrap_or_else(|| self.last_stats())
    }

    fn last_stats(&self) -> ConnectionStats {
        lock(&self.shared().state)
            .stats
            .as_deref()
            .copied()
            .unwrap_or_default()
    }

    /// Why the connection ended, if it has.
    pub fn close_reason(&self) -> Option<ConnectionError> {
        lock(&self.shared().state).ended.as_deref().cloned()
    }

    /// Ends the connection now. Whatever the peer has not received is lost; the peer reads `code` and `reason`.
    /// The first call counts.
    pub fn close(&self, code: u64, reason: &[u8]) {
        lock(&self.shared().state)
            .orders()
            .close
            .get_or_insert_with(|| (code, reason.to_vec()));
        self.shared().post();
    }

    /// Waits for the end of the connection.
    ///
    /// Cancel-safe.
    pub fn closed(&self) -> Closed {
        Closed {
            shared: Arc::clone(self.shared()),
        }
    }

    /// Waits until the peer has acknowledged every finished stream and queued datagrams are sent, then closes with
    /// code 0. Streams that were not finished are not waited for. After `deadline` it closes anyhow and says so.
    ///
    /// Cancel-safe, and nothing is lost: the request stands when the future is dropped.
    pub fn finish_and_close(&self, deadline: Duration) -> FinishAndClose {
        let reply = Reply::new();
        {
            let mut state = lock(&self.shared().state);
            match &state.ended {
                Some(error) => drop(reply.put(Err(FinishError::Connection(ConnectionError::clone(error))))),
                None => state.orders().finishes.push((deadline, Arc::clone(&reply))),
            }
        }
        self.shared().post();
        FinishAndClose {
            reply,
            _guard: Arc::clone(&self.guard),
        }
    }

    /// Fills `out` with keying material both sides share and nobody else knows (as RFC 5705): the same `label` gives
    /// the same bytes at both ends. Asks the driver thread and waits for it. False, and `out` untouched, when the
    /// connection has ended, and before the end of the handshake.
    pub fn export(&self, label: &[u8], out: &mut [u8]) -> bool {
        match self
            .ask(|reply| Query::Export(label.to_vec(), out.len(), reply))
            .flatten()
        {
            Some(bytes) if bytes.len() == out.len() => {
                out.copy_from_slice(&bytes);
                true
            }
            _ => false,
        }
    }

    /// Asks the driver and waits. `None` when there is nobody to ask, or it would be this thread.
    pub(crate) fn ask<T>(&self, query: impl FnOnce(Arc<Reply<T>>) -> Query) -> Option<T> {
        if std::thread::current().id() == self.shared().driver {
            return None;
        }
        Some(answer_of(self.post_query(query)?).wait())
    }

    /// As [`ask`](Self::ask), for whoever must not block.
    pub(crate) async fn ask_patiently<T>(&self, query: impl FnOnce(Arc<Reply<T>>) -> Query) -> Option<T> {
        Some(answer_of(self.post_query(query)?).await)
    }

    /// Asks the driver. `None` when there is nobody to ask.
    fn post_query<T>(&self, query: impl FnOnce(Arc<Reply<T>>) -> Query) -> Option<Arc<Reply<T>>> {
        let reply = Reply::new();
        {
            let mut state = lock(&self.shared().state);
            if state.ended.is_some() {
                return None;
            }
            state.orders().queries.push(query(Arc::clone(&reply)));
        }
        self.shared().post();
        Some(reply)
    }

    /// Changes to the next packet keys soon (RFC 9001 §6). The transport does it by itself before keys wear out.
    pub fn update_keys(&self) {
        lock(&self.shared().state).orders().update_keys = true;
        self.shared().post();
    }

    /// Another congestion controller for what this side sends, from now on. It starts from nothing, so the best moment is
    /// before the first bytes.
    pub fn set_congestion(&self, algorithm: Algorithm) {
        lock(&self.shared().state).orders().congestion = Some(algorithm);
        self.shared().post();
    }

    fn handles(&self, halves: Halves) -> (Option<SendStream>, Option<RecvStream>) {
        let send = halves
            .send
            .map(|shared| SendStream::new(shared, Arc::clone(&self.guard)));
        let recv = halves
            .recv
            .map(|shared| RecvStream::new(shared, Arc::clone(&self.guard)));
        (send, recv)
    }
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    direction: Direction,
    reply: Option<Arc<OpenReply>>,
}

impl Open {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Halves, ConnectionError>> {
        let reply = match &self.reply {
            Some(reply) => Arc::clone(reply),
            None => match self.ask() {
                Ok(reply) => reply,
                Err(error) => return Poll::Ready(Err(error)),
            },
        };
        match reply.poll(cx.waker()) {
            Some(answer) => {
                self.reply = None;
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }

    fn ask(&mut self) -> Result<Arc<OpenReply>, ConnectionError> {
        let reply = Reply::new();
        {
            let mut state = lock(&self.connection.shared().state);
            if let Some(error) = &state.ended {
                return Err(ConnectionError::clone(error));
            }
            state
                .orders()
                .opens
                .push_back((self.direction, Arc::clone(&reply)));
        }
        self.reply = Some(Arc::clone(&reply));
        self.connection.shared().post();
        Ok(reply)
    }
}

/// The oldest stream nobody has taken yet. Where there is none, there is no room for any.
fn next_of(accepted: &mut VecDeque<Halves>) -> Option<Halves> {
    let next = accepted.pop_front();
    if accepted.is_empty() {
        *accepted = VecDeque::new();
    }
    next
}

/// Waits for the driver's answer.
async fn answer_of<T>(reply: Arc<Reply<T>>) -> T {
    std::future::poll_fn(|cx| reply.poll(cx.waker()).map_or(Poll::Pending, Poll::Ready)).await
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(reply) = self.reply.take() else { return };
        if let Some(Ok(halves)) = reply.abandon() {
            let (send, recv) = self.connection.handles(halves);
            if let Some(mut send) = send {
                // It fails only when the connection has ended, and then there is nothing to reset.
                let _ = send.reset(0);
            }
            drop(recv);
        }
    }
}

/// Future of [`Connection::open_bi`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct OpenBi(Open);

impl Future for OpenBi {
    type Output = Result<(SendStream, RecvStream), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let halves = match self.0.poll(cx) {
            Poll::Ready(Ok(halves)) => halves,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        match self.0.connection.handles(halves) {
            (Some(send), Some(recv)) => Poll::Ready(Ok((send, recv))),
            _ => Poll::Ready(Err(ConnectionError::EndpointClosed)),
        }
    }
}

/// Future of [`Connection::open_uni`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct OpenUni(Open);

impl Future for OpenUni {
    type Output = Result<SendStream, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let halves = match self.0.poll(cx) {
            Poll::Ready(Ok(halves)) => halves,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        let send = self.0.connection.handles(halves).0;
        Poll::Ready(send.ok_or(ConnectionError::EndpointClosed))
    }
}

/// Future of [`Connection::accept_bi`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct AcceptBi {
    connection: Connection,
}

impl Future for AcceptBi {
    type Output = Result<(SendStream, RecvStream), ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let halves = {
            let mut state = lock(&self.connection.shared().state);
            match (next_of(&mut state.accepted_bi), &state.ended) {
                (Some(halves), _) => halves,
                (None, Some(error)) => return Poll::Ready(Err(ConnectionError::clone(error))),
                (None, None) => {
                    state.bi_waiters.add(cx.waker());
                    return Poll::Pending;
                }
            }
        };
        match self.connection.handles(halves) {
            (Some(send), Some(recv)) => Poll::Ready(Ok((send, recv))),
            _ => Poll::Ready(Err(ConnectionError::EndpointClosed)),
        }
    }
}

/// Future of [`Connection::accept_uni`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct AcceptUni {
    connection: Connection,
}

impl Future for AcceptUni {
    type Output = Result<RecvStream, ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let halves = {
            let mut state = lock(&self.connection.shared().state);
            match (next_of(&mut state.accepted_uni), &state.ended) {
                (Some(halves), _) => halves,
                (None, Some(error)) => return Poll::Ready(Err(ConnectionError::clone(error))),
                (None, None) => {
                    state.uni_waiters.add(cx.waker());
                    return Poll::Pending;
                }
            }
        };
        let recv = self.connection.handles(halves).1;
        Poll::Ready(recv.ok_or(ConnectionError::EndpointClosed))
    }
}

/// Future of [`Connection::bundle_updates`]. It does not keep the connection open.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct BundleUpdate {
    shared: Arc<ConnectionShared>,
}

impl Future for BundleUpdate {
    type Output = Result<Bundle, ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.shared.state);
        if let Some(bundle) = state.news().bundle.take() {
            return Poll::Ready(Ok(bundle));
        }
        if let Some(reason) = &state.ended {
            return Poll::Ready(Err(ConnectionError::clone(reason)));
        }
        state.news().bundle_waiters.add(cx.waker());
        Poll::Pending
    }
}

/// Future of [`Connection::closed`]. It does not keep the connection open.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Closed {
    shared: Arc<ConnectionShared>,
}

impl Future for Closed {
    type Output = ConnectionError;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.shared.state);
        if let Some(reason) = &state.ended {
            return Poll::Ready(ConnectionError::clone(reason));
        }
        state.end_waiters.add(cx.waker());
        Poll::Pending
    }
}

/// Future of [`Connection::finish_and_close`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct FinishAndClose {
    reply: Arc<FinishReply>,
    // The last handle must not close before everything has arrived.
    _guard: Arc<Guard>,
}

impl Future for FinishAndClose {
    type Output = Result<(), FinishError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.reply.poll(cx.waker()) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}
