//! Several ways to the relay: other addresses of this machine, waiting or in use.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::connection::Connection;
use crate::driver::shared::{ConnectionShared, PathOrder, PathReply, Query, Reply, lock};
use crate::engine::{PathError, PathId, PathInfo, PathReason, PathState};
use crate::error::ConnectionError;

/// What a client does by itself when the path in use falls silent and no other waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failover {
    /// Nothing: the application opens paths, if it wants any.
    #[default]
    Off,
    /// Opens paths from the other addresses this machine has on interfaces that are up; whichever answers first is used.
    Auto,
    /// The same without the addresses of this device: a tunnel that leads through the connection itself.
    AutoExcept(String),
    /// The same from these addresses alone.
    Among(Vec<IpAddr>),
}

/// A path of a connection was opened, works, is suspect, or is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathChange {
    /// Which.
    pub path: PathId,
    /// How it stands now.
    pub state: PathState,
    /// Why.
    pub reason: PathReason,
}

impl Connection {
    /// Opens another path to the relay, from the address `local` of this machine and by the interface that has it. Once it has
    /// proved itself it waits, kept alive, and takes over at once when the path in use falls silent. Nothing else is sent on it
    /// until then, or until [`Connection::migrate`].
    ///
    /// Only clients open paths, at most three beside the first, and the endpoint must be bound to no address in particular. A relay
    /// that knows of one path only is moved instead ([`PathId::FIRST`] is the answer): when `local` has proved itself, everything
    /// goes from there.
    ///
    /// Cancel-safe: the request stands when the future is dropped.
    ///
    /// # Errors
    /// [`PathError`] says why no path was opened. Whether it works tells [`Connection::path_changes`].
    pub fn add_path(&self, local: IpAddr) -> PathAnswer {
        self.order(PathOrder::Add(local))
    }

    /// Sends everything by this path from now on, and asks the relay to do so too. What is under way on the other is not lost.
    ///
    /// Cancel-safe: the request stands when the future is dropped.
    pub fn migrate(&self, path: PathId) -> PathAnswer {
        self.order(PathOrder::Migrate(path))
    }

    /// Gives up a path that is not in use.
    ///
    /// Cancel-safe: the request stands when the future is dropped.
    pub fn abandon_path(&self, path: PathId) -> PathAnswer {
        self.order(PathOrder::Abandon(path))
    }

    /// Tells the connection that this machine's addresses or links changed: it asks every path at once, and goes on by the first
    /// that answers, instead of finding out by silence. A false alarm costs a small packet a path.
    pub fn network_changed(&self) {
        lock(&self.shared().state).orders().network_changed = true;
        self.shared().post();
    }

    /// The paths there are, the one in use first. Asks the driver thread and waits for it (well under a millisecond); nothing after
    /// the end of the connection, and on the driver's own thread.
    pub fn paths(&self) -> Vec<PathInfo> {
        self.ask(Query::Paths).flatten().unwrap_or_default()
    }

    /// As [`paths`](Self::paths), but waits without blocking: also for tasks of the loop on which the endpoint lives.
    ///
    /// Cancel-safe.
    pub async fn current_paths(&self) -> Vec<PathInfo> {
        self.ask_patiently(Query::Paths)
            .await
            .flatten()
            .unwrap_or_default()
    }

    /// Waits for the next change of a path. Of more than sixteen that nobody asked for, the newest are given.
    ///
    /// Cancel-safe.
    pub fn path_changes(&self) -> NextPathChange {
        NextPathChange {
            shared: Arc::clone(self.shared()),
        }
    }

    fn order(&self, order: PathOrder) -> PathAnswer {
        let reply = Reply::new();
        let ended = {
            let mut state = lock(&self.shared().state);
            if state.ended.is_none() {
                state
                    .orders()
                    .queries
                    .push(Query::Path(order, Arc::clone(&reply)));
            }
            state.ended.is_some()
        };
        if ended {
            // A fresh reply takes its first value.
            let _ = reply.put(Err(PathError::NotConnected));
        } else {
            self.shared().post();
        }
        PathAnswer(reply)
    }
}

/// Future of [`Connection::add_path`], [`Connection::migrate`] and [`Connection::abandon_path`]: the path it is about.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct PathAnswer(Arc<PathReply>);

impl Future for PathAnswer {
    type Output = Result<PathId, PathError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

/// Future of [`Connection::path_changes`]. It does not keep the connection open.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct NextPathChange {
    shared: Arc<ConnectionShared>,
}

impl Future for NextPathChange {
    type Output = Result<PathChange, ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.shared.state);
        if let Some(change) = state.news().changes.pop_front() {
            return Poll::Ready(Ok(change));
        }
        if let Some(reason) = &state.ended {
            return Poll::Ready(Err(ConnectionError::clone(reason)));
        }
        state.news().path_waiters.add(cx.waker());
        Poll::Pending
    }
}
