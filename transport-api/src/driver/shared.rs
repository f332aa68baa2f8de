//! What handles and the driver share: one small locked state per stream, connection and endpoint.
//!
//! Locks are leaves: no code holds two of them, and wakers are called after the lock is gone.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::carriers::Carriers;
use super::command::{Mailbox, Mark, Marked};
use crate::config::DatagramPolicy;
use crate::engine::net::Caps;
use crate::engine::{
    Access, Algorithm, Blocks, Bundle, Class, ClientId, ConnectionStats, Direction, EndpointStats, Info,
    PathError, PathId, PathInfo, Peer, RelayEpoch, RelayId, StreamId, Ticket, TicketKeys, Usage,
};
use crate::engine::{DatagramDrop, DatagramOptions, Suite};
use crate::error::{ConnectError, ConnectionError, FinishError};
use crate::paths::PathChange;
use crate::sessions::SessionInfo;
use crate::wait::Waiters;

/// A panic of another thread does not make plain data wrong; the driver's own end is reported by `ended`.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer that is awaited once.
#[derive(Debug)]
pub(crate) struct Reply<T>(Mutex<ReplyState<T>>);

#[derive(Debug)]
struct ReplyState<T> {
    value: Option<T>,
    waker: Option<Waker>,
    abandoned: bool,
}

impl<T> Reply<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(ReplyState {
            value: None,
            waker: None,
            abandoned: false,
        })))
    }

    /// Err(value) when nobody waits any more.
    pub(crate) fn put(&self, value: T) -> Result<(), T> {
        let waker = {
            let mut state = lock(&self.0);
            if state.abandoned {
                return Err(value);
            }
            state.value = Some(value);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    pub(crate) fn poll(&self, waker: &Waker) -> Option<T> {
        let mut state = lock(&self.0);
        let value = state.value.take();
        if value.is_none() {
            state.waker = Some(waker.clone());
        }
        value
    }

    /// The waiting side goes away; gives back an answer that came too late.
    pub(crate) fn abandon(&self) -> Option<T> {
        let mut state = lock(&self.0);
        state.abandoned = true;
        state.waker = None;
        state.value.take()
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        lock(&self.0).abandoned
    }
}

// ---- streams -------------------------------------------------------------------------------------------------------

/// The sending half of a stream.
#[derive(Debug)]
pub(crate) struct SendShared {
    pub(crate) connection: u64,
    pub(crate) id: StreamId,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) marked: Marked,
    pub(crate) state: Mutex<SendState>,
}

#[derive(Debug, Default)]
pub(crate) struct SendState {
    /// Bytes on their way to the scheduler, at most [`SEND_BUFFER`].
    pub(crate) queue: Blocks,
    pub(crate) class: Option<Class>,
    /// It may be sent before the handshake is over.
    pub(crate) early: bool,
    pub(crate) finished: bool,
    pub(crate) reset: Option<u64>,
    pub(crate) stopped: Option<u64>,
    /// The peer has everything, FIN included.
    pub(crate) acknowledged: bool,
    pub(crate) lost: Option<Box<ConnectionError>>,
    pub(crate) writer: Option<Waker>,
    pub(crate) watchers: Waiters,
}

/// Bytes a stream holds for the scheduler.
pub(crate) const SEND_BUFFER: usize = 128 * 1024;

impl SendShared {
    pub(crate) fn new(connection: u64, id: StreamId, mailbox: Arc<Mailbox>) -> Arc<Self> {
        Arc::new(Self {
            connection,
            id,
            mailbox,
            marked: Marked::default(),
            state: Mutex::default(),
        })
    }

    pub(crate) fn post(self: &Arc<Self>) {
        if self.marked.set() {
            self.mailbox.post(Mark::Send(Arc::clone(self)));
        }
    }
}

/// The receiving half of a stream.
#[derive(Debug)]
pub(crate) struct RecvShared {
    pub(crate) connection: u64,
    pub(crate) id: StreamId,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) marked: Marked,
    pub(crate) state: Mutex<RecvState>,
}

#[derive(Debug, Default)]
pub(crate) struct RecvState {
    /// Bytes in order, at most [`RECV_BUFFER`] (more only when the connection has ended), and the blocks the reader has spent.
    pub(crate) queue: Blocks,
    pub(crate) fin: bool,
    pub(crate) reset: Option<u64>,
    pub(crate) stop: Option<u64>,
    pub(crate) lost: Option<Box<ConnectionError>>,
    /// The scheduler may have more, and there was no room for it.
    pub(crate) starved: bool,
    /// The peer opened it before it had shown that it is there.
    pub(crate) early: bool,
    pub(crate) reader: Option<Waker>,
}

/// Bytes a stream holds for a reader beyond the scheduler's window.
pub(crate) const RECV_BUFFER: usize = 256 * 1024;

impl RecvShared {
    pub(crate) fn new(connection: u64, id: StreamId, mailbox: Arc<Mailbox>) -> Arc<Self> {
        Arc::new(Self {
            connection,
            id,
            mailbox,
            marked: Marked::default(),
            state: Mutex::default(),
        })
    }

    pub(crate) fn post(self: &Arc<Self>) {
        if self.marked.set() {
            self.mailbox.post(Mark::Recv(Arc::clone(self)));
        }
    }
}

/// The halves of a new stream before they are handles. `send` is `None` on a unidirectional stream of the peer,
/// `recv` on one of ours.
#[derive(Debug)]
pub(crate) struct Halves {
    pub(crate) send: Option<Arc<SendShared>>,
    pub(crate) recv: Option<Arc<RecvShared>>,
}

// ---- connections ---------------------------------------------------------------------------------------------------

/// One connection.
#[derive(Debug)]
pub(crate) struct ConnectionShared {
    /// Number of this connection within its endpoint; never reused.
    pub(crate) id: u64,
    /// The driver's thread, which must not wait for itself.
    pub(crate) driver: ThreadId,
    pub(crate) peer: Peer,
    /// What was agreed the last time, for a connection that can be used before it is agreed anew.
    pub(crate) suite: Suite,
    pub(crate) policy: DatagramPolicy,
    /// Bytes of datagrams that may wait here without a flow, and with one: as many as in the scheduler.
    pub(crate) queue_bytes: usize,
    pub(crate) flow_queue_bytes: usize,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) marked: Marked,
    pub(crate) remote: Mutex<SocketAddr>,
    pub(crate) max_datagram: AtomicUsize,
    pub(crate) state: Mutex<ConnectionState>,
    pub(crate) datagrams: Mutex<DatagramState>,
}

/// A question only the driver can answer. `None`: the connection has ended.
#[derive(Debug)]
pub(crate) enum Query {
    /// Label, bytes wanted.
    Export(Vec<u8>, usize, Arc<Reply<Option<Vec<u8>>>>),
    Stats(Arc<Reply<Option<ConnectionStats>>>),
    Early(Arc<Reply<Option<bool>>>),
    Paths(Arc<Reply<Option<Vec<PathInfo>>>>),
    Path(PathOrder, Arc<PathReply>),
    Offer(Vec<SocketAddr>, Arc<OfferReply>),
}

/// What shall happen to a path.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PathOrder {
    Add(IpAddr),
    Migrate(PathId),
    Abandon(PathId),
}

pub(crate) type PathReply = Reply<Result<PathId, PathError>>;

pub(crate) type OfferReply = Reply<Result<(), PathError>>;

/// Changes of paths kept for the application; the oldest goes first.
pub(crate) const MAX_PATH_CHANGES: usize = 16;

/// Tickets kept for the application; the oldest goes first.
pub(crate) const MAX_TICKETS: usize = 8;

pub(crate) type FinishReply = Reply<Result<(), FinishError>>;
pub(crate) type OpenReply = Reply<Result<Halves, ConnectionError>>;

/// What was heard of a connection, and who wants to hear more: for most connections at a relay nothing and nobody.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// The newest bundle nobody has asked for yet.
    pub(crate) bundle: Option<Bundle>,
    pub(crate) bundle_waiters: Waiters,
    /// The newest tickets nobody has asked for yet, at most [`MAX_TICKETS`].
    pub(crate) tickets: VecDeque<Ticket>,
    pub(crate) ticket_waiters: Waiters,
    /// The newest changes of paths nobody has asked for yet, at most [`MAX_PATH_CHANGES`].
    pub(crate) changes: VecDeque<PathChange>,
    /// Where the peer sees this end.
    pub(crate) observed: Option<SocketAddr>,
    pub(crate) path_waiters: Waiters,
}

/// What handles ask the driver for.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) close: Option<(u64, Vec<u8>)>,
    pub(crate) update_keys: bool,
    pub(crate) congestion: Option<Algorithm>,
    pub(crate) network_changed: bool,
    pub(crate) opens: VecDeque<(Direction, Arc<OpenReply>)>,
    pub(crate) queries: Vec<Query>,
    pub(crate) finishes: Vec<(Duration, Arc<FinishReply>)>,
}

#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    /// What the handshake brought, once it is over.
    pub(crate) info: Option<Info>,
    pub(crate) info_waiters: Waiters,
    pub(crate) ended: Option<Box<ConnectionError>>,
    /// What was asked for since the driver looked; nothing, nearly always.
    pub(crate) orders: Option<Box<Orders>>,
    pub(crate) accepted_bi: VecDeque<Halves>,
    pub(crate) accepted_uni: VecDeque<Halves>,
    pub(crate) bi_waiters: Waiters,
    pub(crate) uni_waiters: Waiters,
    pub(crate) end_waiters: Waiters,
    news: Option<Box<News>>,
    /// The last ones, after the end.
    pub(crate) stats: Option<Box<ConnectionStats>>,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatagramOutcome {
    /// The packet that carried it was acknowledged.
    Acked,
    /// The packet that carried it was declared lost. That is a judgement: when packets were only late it may have arrived all
    /// the same, and an acknowledgement that comes after this is not told.
    Lost,
    /// Its deadline, or the age bound of the queue, passed before it could be sent.
    Expired,
    /// It was dropped before it could be sent.
    Dropped(DatagramDrop),
}

pub(crate) type ReceiptReply = Reply<Result<DatagramOutcome, ConnectionError>>;

/// A datagram on its way to the scheduler.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) data: Vec<u8>,
    pub(crate) options: DatagramOptions,
    /// Its age counts from here.
    pub(crate) since: Instant,
    /// Who wants to know what becomes of it.
    pub(crate) receipt: Option<Arc<ReceiptReply>>,
}

impl Queued {
    /// What a datagram of `len` bytes counts, so that empty ones are bounded too.
    pub(crate) fn cost(len: usize) -> usize {
        len + size_of::<Self>()
    }
}

/// Datagrams that wait for the scheduler.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) bytes: usize,
}

impl Sending {
    pub(crate) fn push(&mut self, queued: Queued) {
        self.bytes += Queued::cost(queued.data.len());
        self.queue.push_back(queued);
    }

    /// Takes the oldest into `out`, which is empty, as long as `fits` holds for the bytes of all that are taken and their number.
    /// Whoever takes all leaves the places of `out` for it.
    pub(crate) fn take(&mut self, out: &mut VecDeque<Queued>, fits: impl Fn(usize, usize) -> bool) {
        let count = self.queue.len();
        if count == 0 {
            return;
        }
        if fits(self.bytes.saturating_sub(count * Queued::cost(0)), count) {
            self.bytes = 0;
            return std::mem::swap(&mut self.queue, out);
        }
        let mut bytes = 0;
        while let Some(next) = self.queue.front()
            && fits(bytes + next.data.len(), out.len() + 1)
        {
            bytes += next.data.len();
            out.extend(self.pop());
        }
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(Queued::cost(queued.data.len()));
        Some(queued)
    }
}

#[derive(Debug, Default)]
pub(crate) struct DatagramState {
    pub(crate) received: VecDeque<Vec<u8>>,
    pub(crate) received_bytes: usize,
    pub(crate) received_dropped: u64,
    /// Without a flow and with one, apart as in the scheduler: neither waits for the other's room.
    pub(crate) plain: Sending,
    pub(crate) flows: Sending,
    pub(crate) sending_dropped: u64,
    pub(crate) ended: Option<Box<ConnectionError>>,
    pub(crate) readers: Waiters,
    pub(crate) writers: Waiters,
    /// Receipts whose answer is due, at most [`MAX_RECEIPTS`](crate::datagram::MAX_RECEIPTS).
    pub(crate) receipts: usize,
    /// Wait for another size.
    pub(crate) sizes: Waiters,
}

impl DatagramState {
    /// Where a datagram waits for the scheduler.
    pub(crate) fn sending(&mut self, with_flow: bool) -> &mut Sending {
        if with_flow {
            &mut self.flows
        } else {
            &mut self.plain
        }
    }
}

impl ConnectionState {
    /// Where to ask the driver for something; whoever does must post the connection.
    pub(crate) fn orders(&mut self) -> &mut Orders {
        self.orders.get_or_insert_default()
    }

    pub(crate) fn news(&mut self) -> &mut News {
        self.news.get_or_insert_default()
    }
}

impl ConnectionShared {
    pub(crate) fn post(self: &Arc<Self>) {
        if self.marked.set() {
            self.mailbox.post(Mark::Connection(Arc::clone(self)));
        }
    }

    /// Bytes of datagrams that may wait, here and in the scheduler.
    pub(crate) fn bound(&self, with_flow: bool) -> usize {
        if with_flow {
            self.flow_queue_bytes
        } else {
            self.queue_bytes
        }
    }

    pub(crate) fn max_datagram(&self) -> usize {
        self.max_datagram.load(Ordering::Relaxed)
    }
}

// ---- the endpoint --------------------------------------------------------------------------------------------------

/// One endpoint.
#[derive(Debug)]
pub(crate) struct EndpointShared {
    /// The first of several workers; `None`: this one. Those who accept wait there.
    pub(crate) lead: Option<Arc<EndpointShared>>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) marked: Marked,
    pub(crate) socket_buffer: usize,
    pub(crate) mark: Option<u32>,
    pub(crate) carriers: Arc<Carriers>,
    pub(crate) state: Mutex<EndpointState>,
}

/// What a handle wants changed at a relay; done in order. Epochs hold secrets: no `Debug`.
#[derive(Clone)]
pub(crate) enum Change {
    Access(Access),
    Revoke(Vec<ClientId>),
    /// A carrier was detached.
    AddressLost(IpAddr),
    Epochs(Vec<RelayEpoch>, Option<Bundle>),
    /// Taken by whoever comes first: workers share them.
    TicketKeys(Arc<Mutex<Option<TicketKeys>>>),
}

/// A question about the endpoint that only the driver can answer. `None`: it has ended.
#[derive(Debug)]
pub(crate) enum EndpointQuery {
    /// Where the page begins.
    Sessions(u32, Arc<PageReply>),
    Usage(Arc<Reply<Option<Vec<Usage>>>>),
}

pub(crate) type PageReply = Reply<Option<Page>>;

/// Some connections, and where the next page begins.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) sessions: Vec<SessionInfo>,
    pub(crate) next: Option<u32>,
}

/// Questions that may wait.
const MAX_ASKED: usize = 256;

pub(crate) type ConnectReply = Reply<Result<Arc<ConnectionShared>, ConnectError>>;

pub(crate) struct EndpointState {
    pub(crate) local: SocketAddr,
    pub(crate) connects: VecDeque<(Box<crate::engine::Connect>, Arc<ConnectReply>)>,
    pub(crate) incoming: VecDeque<Arc<ConnectionShared>>,
    pub(crate) incoming_waiters: Waiters,
    pub(crate) idle_waiters: Waiters,
    /// No connection is left (the driver's view).
    pub(crate) idle: bool,
    pub(crate) close: Option<(u64, Vec<u8>)>,
    pub(crate) refuse_new: Option<bool>,
    pub(crate) changes: Vec<Change>,
    pub(crate) queries: Vec<EndpointQuery>,
    /// Who this endpoint answers as.
    pub(crate) relay_id: Option<RelayId>,
    pub(crate) socket: Option<crate::engine::net::UdpSocket>,
    /// Every `Endpoint` handle is gone: end when the last connection does.
    pub(crate) unreferenced: bool,
    /// `close` was called or the driver has ended.
    pub(crate) closed: bool,
    /// The driver has ended.
    pub(crate) ended: bool,
    pub(crate) stats: EndpointStats,
    pub(crate) caps: Caps,
}

impl std::fmt::Debug for EndpointState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointState")
            .field("local", &self.local)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Connects and unaccepted connections that may wait.
pub(crate) const MAX_WAITING: usize = 1024;

impl EndpointShared {
    /// Whose queue unaccepted connections wait in.
    pub(crate) fn lead(&self) -> &Self {
        self.lead.as_deref().unwrap_or(self)
    }

    pub(crate) fn post(&self) -> bool {
        !self.marked.set() || self.mailbox.post(Mark::Endpoint)
    }

    /// Asks the driver. False: it has ended, or is asked too much.
    pub(crate) fn ask(&self, query: EndpointQuery) -> bool {
        {
            let mut state = lock(&self.state);
            if state.ended || state.queries.len() >= MAX_ASKED {
                return false;
            }
            state.queries.push(query);
        }
        self.post();
        true
    }
}
