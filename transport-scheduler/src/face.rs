//! The small types of the two faces.

use std::time::{Duration, Instant};

use crate::{Class, Control, StreamId, Token};

/// Who speaks next, and how much could be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// One control frame, whole or not at all.
    Control(Control),
    /// Bytes of a stream.
    Stream {
        /// The stream.
        id: StreamId,
        /// Where the bytes begin.
        offset: u64,
        /// How many there are; may be zero when only the end is to be told.
        available: usize,
        /// The end comes with the last of them.
        fin: bool,
    },
    /// A datagram, whole or not at all.
    Datagram {
        /// Its length, may be zero.
        len: usize,
    },
}

/// How much fits the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Payload bytes that fit after the frame header. Zero: not even the frame fits, so grant one byte where only an empty
    /// stream end, an empty datagram or a control frame is offered and there is room for its frame.
    pub bytes: usize,
}

/// What was taken.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// To be handed back when the packet is acknowledged or lost.
    pub token: Token,
    /// The end of the stream comes with these bytes.
    pub fin: bool,
    /// The bytes; both empty for a control frame.
    pub parts: [&'a [u8]; 2],
}

impl Chunk<'_> {
    /// Payload bytes in both parts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Whether there is no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a read gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    /// Bytes put into the buffer.
    pub bytes: usize,
    /// The stream ends after them. It is gone now: reading again says `Unknown`.
    pub fin: bool,
}

/// How a datagram is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DatagramOptions {
    /// Its class.
    pub class: Class,
    /// When it becomes worthless. Without one a realtime datagram gets the default, and any waits at most the age bound; with a
    /// flow that is a second.
    pub deadline: Option<Instant>,
    /// May be sent before the handshake is over. It may arrive twice, so it must be safe to be repeated. With a flow it waits all
    /// the same.
    pub early: bool,
    /// Tell what became of it, by one of the `Datagram` events ([`Event`](crate::Event)). Otherwise it is only counted.
    pub notify: bool,
    /// A hash of the flow it belongs to, for packets of a tunnel; the last byte counts. Flows of a class take turns, one
    /// that was silent goes first, and one whose queue stands loses packets until its sender slows down (FQ-CoDel, RFC 8290).
    /// Order holds within a flow. `None`: it waits with the others of its class that have none.
    pub flow: Option<u32>,
}

impl Default for DatagramOptions {
    fn default() -> Self {
        Self {
            class: Class::Realtime,
            deadline: None,
            early: false,
            notify: false,
            flow: None,
        }
    }
}

/// Why a datagram was dropped before it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DatagramDrop {
    /// The queue was full, and it was the oldest; with a flow: the oldest of the flow that had most.
    QueueFull,
    /// The queue of its flow stood for too long: its loss tells the sender to slow down (CoDel, RFC 8289).
    Delay,
    /// The path narrowed while it waited, and it no longer fits a packet.
    TooLarge,
}

/// The datagrams that wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueState {
    /// Their bytes, the constant cost for each included.
    pub bytes: usize,
    /// How many they are.
    pub len: usize,
    /// How long the oldest has waited, as of the last time given to the scheduler.
    pub oldest_age: Duration,
}

/// Counters since the start, and what is open now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Stream bytes sent for the first time.
    pub sent_bytes: u64,
    /// Stream bytes sent again.
    pub retransmitted_bytes: u64,
    /// Stream bytes given to the application.
    pub read_bytes: u64,
    /// Streams open now.
    pub streams_open: usize,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams dropped because the queue was full, stood too long, or the path was too narrow.
    pub datagrams_dropped: u64,
    /// Of those, the ones whose flow's queue stood too long.
    pub datagrams_dropped_by_delay: u64,
    /// Of those, the ones that no longer fitted the path.
    pub datagrams_too_large: u64,
    /// Datagrams whose time passed in the queue.
    pub datagrams_expired: u64,
    /// Datagrams lost on the way.
    pub datagrams_lost: u64,
}
