//! What the application should know.

use crate::{DatagramDrop, DatagramId, Direction, StreamId};

/// Something happened. Stream events are coalesced: one `Readable` until the stream is read, one `Writable` after a
/// write that was refused with `Blocked`. What became of a datagram is told once, and only if its options ask for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The peer opened a stream; [`accept`](crate::Scheduler::accept) gives it out.
    StreamOpened {
        /// The stream.
        id: StreamId,
    },
    /// There are bytes, or the end, to read.
    Readable {
        /// The stream.
        id: StreamId,
    },
    /// A write that was blocked may be tried again.
    Writable {
        /// The stream.
        id: StreamId,
    },
    /// Everything written, and the end, was acknowledged.
    StreamFinished {
        /// The stream.
        id: StreamId,
    },
    /// The peer asked us to stop sending (RFC 9000 §3.5); the stream was reset with the same code.
    StreamStopped {
        /// The stream.
        id: StreamId,
        /// The peer application's code.
        code: u64,
    },
    /// The peer gave up its sending half (RFC 9000 §3.2).
    StreamReset {
        /// The stream.
        id: StreamId,
        /// The peer application's code.
        code: u64,
    },
    /// The peer allows more streams, after an `open` that was refused.
    StreamsAvailable {
        /// Of which direction.
        direction: Direction,
    },
    /// The datagram queue, or that of datagrams with a flow, has drained to a quarter after being more than half full.
    DatagramsWritable,
    /// The packet that carried the datagram was acknowledged.
    DatagramAcked {
        /// The datagram.
        id: DatagramId,
    },
    /// The packet that carried the datagram was declared lost; it is not sent again. It may have arrived all the same: when
    /// an acknowledgement comes late, nothing more is said.
    DatagramLost {
        /// The datagram.
        id: DatagramId,
    },
    /// The datagram's deadline, or the age bound of the queue, passed before it could be sent.
    DatagramExpired {
        /// The datagram.
        id: DatagramId,
    },
    /// The datagram was dropped before it could be sent.
    DatagramDropped {
        /// The datagram.
        id: DatagramId,
        /// Why.
        why: DatagramDrop,
    },
}
