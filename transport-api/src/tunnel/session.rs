//! One HTTP/3 session over a lane, the same code at both ends: its state, its request streams, and the way of each
//! datagram to its request. The unidirectional streams are read and written in `control`.
//!
//! [`Session::run`] does the work that belongs to no request; it must be polled as long as the session lives.

mod control;
mod successor;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::frames::{FrameReader, StreamError};
use super::inbox::{Datagram, EarlyBytes, Inbox, InboxEnd, Pushed};
use crate::few::Few;
use crate::http::{Code, Fault, Settings};
use crate::local::yield_now;
use crate::masque::lane::{Lane, LaneError, LaneRecv, LaneSend};
use crate::wait::Waiters;

use successor::Naming;
pub use successor::Successor;

/// Datagrams routed before other work has its turn.
const DATAGRAM_BATCH: usize = 64;

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The connection below ended.
    Lane(LaneError),
    /// The peer broke a rule of HTTP/3; the connection was closed with this code.
    Fault(Code),
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane(error) => error.fmt(f),
            Self::Fault(code) => write!(f, "the peer broke the protocol: {code}"),
        }
    }
}

impl std::error::Error for SessionEnd {}

impl From<StreamError> for SessionEnd {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Lane(error) => Self::Lane(error),
            StreamError::Fault(fault) => Self::Fault(fault.code()),
        }
    }
}

impl From<LaneError> for SessionEnd {
    fn from(error: LaneError) -> Self {
        Self::Lane(error)
    }
}

/// Received datagrams that reached no tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionDrops {
    /// For a request that does not exist, or no longer.
    pub no_request: u64,
    /// The tunnel reads too slowly; the oldest went.
    pub queue_full: u64,
    /// For a request without datagrams.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct DropCounters {
    no_request: AtomicU64,
    queue_full: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    peer: Option<Settings>,
    control_seen: [bool; 4],
    goaway_received: Option<u64>,
    goaway_wanted: bool,
    /// Id that this side's GOAWAY named: requests from there on are not served.
    goaway_sent: Option<u64>,
    /// Ordinal after the highest request seen.
    next_request: u64,
    inboxes: Few<u64, Arc<Inbox>>,
    successor: Naming,
    end: Option<SessionEnd>,
    waiting: Waiters,
}

#[derive(Debug)]
struct Inner<L> {
    lane: L,
    role: Role,
    state: Mutex<State>,
    early: Arc<EarlyBytes>,
    drops: DropCounters,
}

/// A session; clones are the same one.
#[derive(Debug)]
pub(crate) struct Session<L>(Arc<Inner<L>>);

impl<L> Clone for Session<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A request stream, and its place among those that get datagrams.
#[derive(Debug)]
pub(crate) struct RequestStream<L: Lane> {
    pub(crate) send: L::Send,
    pub(crate) frames: FrameReader<L::Recv>,
    pub(crate) route: Route<L>,
}

/// The datagrams of one request; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Route<L> {
    session: Session<L>,
    ordinal: u64,
    pub(crate) inbox: Arc<Inbox>,
}

impl<L> Route<L> {
    /// The quarter stream id.
    pub(crate) fn ordinal(&self) -> u64 {
        self.ordinal
    }

    pub(crate) fn session(&self) -> &Session<L> {
        &self.session
    }
}

impl<L> Drop for Route<L> {
    fn drop(&mut self) {
        self.session.state().inboxes.remove(self.ordinal);
        self.inbox.discard();
    }
}

impl<L> Session<L> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lane(&self) -> &L {
        &self.0.lane
    }

    pub(crate) fn drops(&self) -> SessionDrops {
        let drops = &self.0.drops;
        SessionDrops {
            no_request: drops.no_request.load(Ordering::Relaxed),
            queue_full: drops.queue_full.load(Ordering::Relaxed),
            refused: drops.refused.load(Ordering::Relaxed),
        }
    }

    /// Changes the state and wakes whoever waits for a change.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut waiting = Vec::new();
        let result = {
            let mut state = self.state();
            let result = change(&mut state);
            state.waiting.take_into(&mut waiting);
            result
        };
        waiting.into_iter().for_each(Waker::wake);
        result
    }

    /// Waits until `look` finds something.
    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        poll_fn(|cx| {
            let mut state = self.state();
            if let Some(found) = look(&mut state) {
                return Poll::Ready(found);
            }
            state.waiting.add(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// The peer's SETTINGS, as soon as they are here.
    pub(crate) async fn peer_settings(&self) -> Result<Settings, SessionEnd> {
        self.until(|state| match (&state.peer, &state.end) {
            (_, Some(end)) => Some(Err(end.clone())),
            (Some(peer), None) => Some(Ok(*peer)),
            (None, None) => None,
        })
        .await
    }

    /// Whether the peer takes no further requests.
    pub(crate) fn is_going_away(&self) -> bool {
        self.state().goaway_received.is_some()
    }

    pub(crate) fn end(&self) -> Option<SessionEnd> {
        self.state().end.clone()
    }

    /// Tells the peer to send no further requests; those under way go on.
    pub(crate) fn go_away(&self) {
        self.change(|state| state.goaway_wanted = true);
    }
}

impl<L: Lane> Session<L> {
    pub(crate) fn new(lane: L, role: Role) -> Self {
        Self(Arc::new(Inner {
            lane,
            role,
            state: Mutex::default(),
            early: Arc::default(),
            drops: DropCounters::default(),
        }))
    }

    /// The session's own work, until its end.
    pub(crate) async fn run(&self) -> SessionEnd {
        let end = {
            let mut control = pin!(self.send_control());
            let mut streams = pin!(self.read_streams());
            let mut datagrams = pin!(self.route_datagrams());
            poll_fn(|cx| {
                let results = [
                    streams.as_mut().poll(cx),
                    datagrams.as_mut().poll(cx),
                    control.as_mut().poll(cx),
                ];
                results
                    .into_iter()
                    .find_map(ready_value)
                    .map_or(Poll::Pending, Poll::Ready)
            })
            .await
        };
        self.finish(end)
    }

    /// Ends the session: the first end counts.
    pub(crate) fn finish(&self, end: SessionEnd) -> SessionEnd {
        if let SessionEnd::Fault(code) = &end {
            self.0.lane.close(code.0, &code.to_string());
        }
        let (end, inboxes) = self.change(|state| {
            let end = state.end.get_or_insert(end).clone();
            (end, std::mem::take(&mut state.inboxes))
        });
        for inbox in inboxes.into_values() {
            inbox.end(InboxEnd::Closed);
        }
        end
    }

    /// A rule was broken on some stream: a fault of the connection ends the session.
    pub(crate) fn fault(&self, fault: Fault) {
        if let Fault::Connection(code) = fault {
            self.finish(SessionEnd::Fault(code));
        }
    }

    /// Opens a request stream (client).
    pub(crate) async fn open_request(&self, takes_datagrams: bool) -> Result<RequestStream<L>, LaneError> {
        let (send, recv) = self.0.lane.open_bi().await?;
        Ok(self.request(send, recv, Inbox::new(takes_datagrams)))
    }

    /// The next request stream (server), for which few datagrams are kept until it is answered ([`Inbox::open`]). Streams after
    /// this side's GOAWAY are turned away.
    pub(crate) async fn accept_request(&self) -> Result<RequestStream<L>, LaneError> {
        loop {
            let (mut send, mut recv) = self.0.lane.accept_bi().await?;
            let ordinal = send.ordinal();
            let served = {
                let mut state = self.state();
                state.next_request = state.next_request.max(ordinal + 1);
                state
                    .goaway_sent
                    .is_none_or(|first_refused| ordinal * 4 < first_refused)
            };
            if served {
                let inbox = Inbox::pending(Arc::clone(&self.0.early));
                return Ok(self.request(send, recv, inbox));
            }
            send.reset(Code::REQUEST_REJECTED.0);
            recv.stop(Code::REQUEST_REJECTED.0);
        }
    }

    /// Gives a request stream its place among those that get datagrams.
    fn request(&self, send: L::Send, recv: L::Recv, inbox: Inbox) -> RequestStream<L> {
        let ordinal = send.ordinal();
        let inbox = Arc::new(inbox);
        let ended = {
            let mut state = self.state();
            state.inboxes.insert(ordinal, Arc::clone(&inbox));
            state.end.is_some()
        };
        if ended {
            inbox.end(InboxEnd::Closed);
        }
        let route = Route {
            session: self.clone(),
            ordinal,
            inbox,
        };
        let frames = FrameReader::new(recv);
        RequestStream { send, frames, route }
    }

    async fn route_datagrams(&self) -> SessionEnd {
        let mut routed = 0;
        loop {
            let bytes = match self.0.lane.read_datagram().await {
                Ok(bytes) => bytes,
                Err(error) => return SessionEnd::Lane(error),
            };
            if let Err(fault) = self.route(bytes) {
                return SessionEnd::Fault(fault.code());
            }
            routed += 1;
            if routed % DATAGRAM_BATCH == 0 {
                yield_now().await;
            }
        }
    }

    fn route(&self, bytes: Vec<u8>) -> Result<(), Fault> {
        let (quarter, payload) = crate::masque::datagram::split(&bytes)?;
        let start = bytes.len() - payload.len();
        let inbox = self.state().inboxes.get(quarter).cloned();
        let drops = &self.0.drops;
        let counter = match inbox.map(|inbox| inbox.push(Datagram::new(bytes, start))) {
            Some(Pushed::Queued) => return Ok(()),
            Some(Pushed::DroppedOldest) => &drops.queue_full,
            Some(Pushed::Refused) => &drops.refused,
            // Counted when the request is answered.
            Some(Pushed::Early) => return Ok(()),
            None => &drops.no_request,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn ready_value<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
