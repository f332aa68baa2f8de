//! Decides who speaks next, and keeps each speaker's bytes in order.
//!
//! A [`Scheduler`] holds the streams and datagrams of one connection. It has two faces. The *engine* asks it what to send
//! ([`next`](Scheduler::next), [`take`](Scheduler::take)), tells it what became of that ([`acked`](Scheduler::acked),
//! [`lost`](Scheduler::lost)) and gives it what arrived ([`receive`](Scheduler::receive)). The *application* opens, writes,
//! reads and closes.
//!
//! Laws of the crate:
//!
//! * It knows no packets and no wire format: `next` lets the caller compute what fits, `take` commits it, and a [`Token`] is
//!   all that a packet remembers.
//! * It reads no clock. Time comes in with the calls of the engine face.
//! * The same calls give the same answers: no randomness, no order that depends on a hash.
//! * Every queue has a bound; what the peer sends can end the connection or be refused, never grow without limit.
//! * One decision takes constant time (realtime: a sorted ring), and a stream in full flow allocates nothing.
//!
//! Streams follow RFC 9000 §2–4, in the file `stream/state.rs`; who goes first is decided in `fair`.
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

mod application;
mod blocks;
mod codel;
mod control;
mod datagram;
mod early;
mod engine;
mod event;
mod face;
mod fair;
mod flow;
mod flows;
mod id;
mod limits;
mod list;
mod ranges;
mod receive;
mod spares;
mod steer;
mod stream;
mod token;
mod violation;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use blocks::Blocks;
pub use control::{Control, Input};
pub use event::Event;
pub use face::{Chunk, DatagramDrop, DatagramOptions, Grant, Next, QueueState, Read, Stats};
pub use id::{Class, DatagramId, Direction, Side, StreamId};
pub use limits::{Limits, PeerLimits};
pub use spares::Spares;
pub use token::Token;
pub use violation::{
    DatagramError, ReadError, ReceiveError, Refused, StreamsExhausted, Violation, WriteError,
};

use datagram::Datagrams;
use fair::{Fair, Interest};
use flow::{Cancels, Count, Credit, Window};
use id::PerDirection;
use list::Key;
use steer::Steering;
use stream::Stream;
use stream::recv::RecvHalf;
use stream::send::{Blocked, SendHalf};
use stream::store::Pool;
use stream::table::{Slot, Table};

/// Flows that are no streams: the datagrams of each class, and the control frames. Streams follow.
const CONTROL_FLOW: Key = 5;
const FIRST_STREAM: Key = 6;

fn stream_flow(slot: Slot) -> Key {
    slot + FIRST_STREAM
}

fn datagram_flow(class: Class) -> Key {
    class as Key
}

/// Streams we open, of one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Ours {
    opened: u64,
    allowed: u64,
    /// An `open` was refused since.
    wanted: bool,
    /// The limit at which the peer was told that we wait.
    reported: Option<u64>,
}

/// Streams the peer opens, of one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Theirs {
    opened: u64,
    accepted: u64,
    count: Count,
}

/// All streams and datagrams of one connection.
#[derive(Debug)]
pub struct Scheduler {
    side: Side,
    limits: Arc<Limits>,
    peer: PeerLimits,
    /// The latest time seen: calls of the application face bring none.
    now: Option<Instant>,
    srtt: Duration,
    /// What one stream may hold unacknowledged now.
    send_buffer: usize,
    streams: Table,
    pool: Pool,
    fair: Fair,
    steering: Steering,
    /// What we may send over all streams.
    credit: Credit,
    /// What the peer may send over all streams, and how much it has.
    window: Window,
    received: u64,
    ours: PerDirection<Ours>,
    theirs: PerDirection<Theirs>,
    cancels: Cancels,
    /// Bytes in all send buffers, and the streams whose writes that refused.
    buffered: usize,
    crowded: VecDeque<StreamId>,
    datagrams: Datagrams,
    max_datagram: usize,
    /// The handshake is under way: only what is marked goes.
    early: bool,
    /// The datagram taken last: its bytes are lent to the caller.
    current: Vec<u8>,
    spares: Option<Box<Spares>>,
    offer: Option<engine::Offer>,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Scheduler {
    /// The streams of a connection in which we are `side`. Until the peer's limits are given nothing can be opened or sent.
    #[must_use]
    pub fn new(side: Side, limits: impl Into<Arc<Limits>>) -> Self {
        let limits = limits.into();
        let theirs = |at_once| Theirs {
            count: Count::new(at_once),
            ..Theirs::default()
        };
        let at_once = limits.max_streams_bi.saturating_add(limits.max_streams_uni);
        let mut fair = Fair::new(limits.realtime_deadline);
        // The highest first: room is made once.
        fair.add(CONTROL_FLOW, Class::Control);
        for class in Class::ALL {
            fair.add(datagram_flow(class), class);
        }
        // Many connections never have a stream.
        fair.truncate(FIRST_STREAM as usize);
        Self {
            side,
            peer: PeerLimits::default(),
            now: None,
            srtt: Duration::from_millis(333),
            send_buffer: limits.send_buffer,
            streams: Table::default(),
            pool: Pool::default(),
            fair,
            steering: Steering::default(),
            credit: Credit::default(),
            window: Window::new(limits.initial_connection_window, limits.max_connection_window),
            received: 0,
            ours: PerDirection::default(),
            theirs: PerDirection {
                bi: theirs(limits.max_streams_bi),
                uni: theirs(limits.max_streams_uni),
            },
            cancels: Cancels::new(limits.max_resets_per_rtt, at_once),
            buffered: 0,
            crowded: VecDeque::new(),
            datagrams: Datagrams::new(
                limits.datagram_queue_bytes,
                limits.datagram_max_age,
                limits.flow_queue_bytes,
            ),
            max_datagram: usize::MAX,
            early: false,
            current: Vec::new(),
            spares: None,
            offer: None,
            events: VecDeque::new(),
            stats: Stats::default(),
            limits,
        }
    }

    /// The next thing the application should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() {
            self.events.shrink_to(64);
        }
        event
    }

    /// Allocated bytes, overhead included; what is in [`Blocks`] is counted there. Walks all streams.
    pub fn memory(&self) -> usize {
        self.streams.memory()
            + self.pool.memory()
            + self.fair.memory()
            + self.steering.memory()
            + self.datagrams.memory()
            + self.current.capacity()
            + self.spares.as_ref().map_or(0, |spares| spares.memory())
            + self.events.capacity() * size_of::<Event>()
            + self.crowded.capacity() * size_of::<StreamId>()
    }

    /// Counters since the start, and what is open now.
    pub fn stats(&self) -> Stats {
        Stats {
            streams_open: self.streams.len(),
            ..self.stats
        }
    }

    fn tick(&mut self, now: Instant) {
        self.now = Some(self.now.map_or(now, |before| before.max(now)));
        self.offer = None;
    }

    /// Makes the stream `id`, in the state in which it begins.
    fn create(&mut self, id: StreamId) -> Slot {
        let ours = id.initiator() == self.side;
        let allowed = match (id.direction(), ours) {
            (Direction::Uni, false) => None,
            (Direction::Uni, true) => Some(self.peer.max_stream_data_uni),
            (Direction::Bi, true) => Some(self.peer.max_stream_data_bidi_remote),
            (Direction::Bi, false) => Some(self.peer.max_stream_data_bidi_local),
        };
        let window = Window::new(self.limits.initial_stream_window, self.limits.max_stream_window);
        let reads = id.direction() == Direction::Bi || !ours;
        let class = Class::default();
        let slot = self.streams.insert(Stream {
            id,
            class,
            due: stream::DueSet::default(),
            cancelled: false,
            early: false,
            send: allowed.map(|limit| Box::new(SendHalf::new(limit))),
            recv: reads.then(|| Box::new(RecvHalf::new(window))),
        });
        self.fair.add(stream_flow(slot), class);
        self.steering.reach(slot);
        slot
    }

    /// Tells the order what a stream wants now, and the peer if its limit holds the stream back.
    fn refresh(&mut self, slot: Slot) {
        let early = self.early;
        let stream = self.streams.get_mut(slot).filter(|stream| !early || stream.early);
        let Some(send) = stream.and_then(|stream| stream.send.as_mut()) else {
            self.fair.set(stream_flow(slot), Interest::None);
            return;
        };
        let interest = send.interest(self.credit.available());
        let held_back = send.is_held_back() && send.credit.report();
        self.fair.set(stream_flow(slot), interest);
        if held_back {
            self.owe(slot, stream::Due::Blocked);
        }
        if interest == Interest::Parked && self.credit.report() {
            self.owe_connection(steer::Topic::DataBlocked);
        }
    }

    /// Lets a stream go when both halves are over and seen.
    fn settle(&mut self, slot: Slot) {
        let Some(stream) = self.streams.get(slot) else {
            return;
        };
        if stream.send.is_some() || stream.recv.is_some() {
            return;
        }
        let id = stream.id;
        self.fair.remove(stream_flow(slot));
        self.drop_dues(slot);
        self.streams.remove(slot);
        if id.initiator() != self.side && self.theirs.get_mut(id.direction()).count.close() {
            self.owe_connection(steer::Topic::max_streams(id.direction()));
        }
        if self.streams.len() == 0 {
            self.pool.clear();
            self.fair.truncate(FIRST_STREAM as usize);
            self.steering.truncate();
            self.crowded = VecDeque::new();
        }
    }

    /// Bytes one stream may hold, and how many of them before they are sent.
    fn send_bounds(&self) -> [usize; 2] {
        [self.send_buffer, self.limits.send_ahead.max(1)]
    }

    /// Bytes of a stream were sent, or acknowledged: its writer goes on if there is room enough for it now.
    fn wake_writer(&mut self, slot: Slot) {
        let bounds = self.send_bounds();
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        let id = stream.id;
        if let Some(send) = stream.send.as_mut().filter(|send| send.blocked == Blocked::Room)
            && send.room(bounds) >= worth_waking(bounds[0].min(bounds[1]))
        {
            if self.buffered < self.limits.send_buffer_total {
                send.blocked = Blocked::No;
                self.events.push_back(Event::Writable { id });
            } else {
                send.blocked = Blocked::Total;
                self.crowded.push_back(id);
            }
        }
    }

    /// Bytes left the send buffers: lets writers go on.
    fn unbuffer(&mut self, slot: Slot, bytes: usize) {
        self.buffered -= bytes;
        self.wake_writer(slot);
        let free = self.limits.send_buffer_total.saturating_sub(self.buffered);
        if self.crowded.is_empty() || free < worth_waking(self.limits.send_buffer_total) {
            return;
        }
        for id in std::mem::take(&mut self.crowded) {
            let slot = self.streams.slot(id);
            let stream = slot.and_then(|slot| self.streams.get_mut(slot));
            if let Some(send) = stream.and_then(|stream| stream.send.as_mut())
                && std::mem::replace(&mut send.blocked, Blocked::No) != Blocked::No
            {
                self.events.push_back(Event::Writable { id });
            }
        }
    }

    /// The application took, or will never take, so many received bytes of whatever stream.
    fn consume(&mut self, bytes: u64) {
        if self.window.consume(bytes, self.now, self.srtt) {
            self.owe_connection(steer::Topic::MaxData);
        }
    }
}

/// How much room makes it worth waking a writer.
fn worth_waking(buffer: usize) -> usize {
    (buffer / 8).clamp(1, 64 * 1024)
}

#[cfg(test)]
mod tests;
