//! Who is connected: a list in pages, so that a hundred thousand connections do not hold the driver up.
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
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::driver::shared::{EndpointQuery, EndpointShared, PageReply, Reply};
use crate::engine::{ConnectionStats, EngineSession, Peer, Suite};

/// One connection, as a list of them shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its [`crate::Connection::id`].
    pub id: u64,
    /// Who is at the other end.
    pub peer: Peer,
    /// Where the peer is now.
    pub remote: SocketAddr,
    /// Time since the handshake.
    pub age: Duration,
    /// The packet cipher.
    pub suite: Suite,
    /// It came by a ticket.
    pub resumed: bool,
    /// Counters and gauges: the path, streams, bytes, losses.
    pub stats: ConnectionStats,
}

impl SessionInfo {
    pub(crate) fn new(id: u64, info: &EngineSession) -> Self {
        let EngineSession {
            peer,
            remote,
            age,
            suite,
            resumed,
            stats,
            ..
        } = *info;
        Self {
            id,
            peer,
            remote,
            age,
            suite,
            resumed,
            stats,
        }
    }
}

/// A walk through the connections of an endpoint, by [`crate::Endpoint::sessions`].
#[derive(Debug)]
pub struct Sessions {
    workers: Arc<[Arc<EndpointShared>]>,
    /// Whose connections are listed, and where their next page begins; `None` behind the last.
    next: Option<(usize, u32)>,
    asked: Option<Arc<PageReply>>,
}

impl Sessions {
    pub(crate) fn new(workers: Arc<[Arc<EndpointShared>]>) -> Self {
        Self {
            workers,
            next: Some((0, 0)),
            asked: None,
        }
    }

    /// The next connections, at most 256; `None` after the last of them, and when the endpoint has ended. A page may be
    /// empty. What comes or goes during the walk may be missed; nobody is told twice.
    ///
    /// Cancel-safe.
    pub fn next_page(&mut self) -> NextPage<'_> {
        NextPage { walk: self }
    }

    fn ask(&mut self) -> Option<Arc<PageReply>> {
        let (worker, from) = self.next?;
        if let Some(asked) = &self.asked {
            return Some(Arc::clone(asked));
        }
        let reply = Reply::new();
        let asked = EndpointQuery::Sessions(from, Arc::clone(&reply));
        if !self.workers.get(worker)?.ask(asked) {
            return None;
        }
        self.asked = Some(Arc::clone(&reply));
        Some(reply)
    }
}

/// Future of [`Sessions::next_page`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct NextPage<'a> {
    walk: &'a mut Sessions,
}

impl Future for NextPage<'_> {
    type Output = Option<Vec<SessionInfo>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(reply) = self.walk.ask() else {
            self.walk.next = None;
            return Poll::Ready(None);
        };
        let Some(answer) = reply.poll(cx.waker()) else {
            return Poll::Pending;
        };
        self.walk.asked = None;
        let (worker, _) = self.walk.next.unwrap_or_default();
        let behind = (worker + 1, 0);
        let last = behind.0 >= self.walk.workers.len();
        self.walk.next = answer.as_ref().and_then(|page| match page.next {
            Some(place) => Some((worker, place)),
            None => (!last).then_some(behind),
        });
        Poll::Ready(answer.map(|page| page.sessions))
    }
}
