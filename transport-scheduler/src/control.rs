//! The frames that steer streams, in both directions.

use crate::{Direction, StreamId};

/// A frame to send (RFC 9000 §19.4–19.14).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Bytes allowed over all streams.
    MaxData {
        /// The limit.
        max: u64,
    },
    /// Bytes allowed on a stream.
    MaxStreamData {
        /// The stream.
        id: StreamId,
        /// The limit.
        max: u64,
    },
    /// Streams allowed since the start.
    MaxStreams {
        /// Of which direction.
        direction: Direction,
        /// The limit.
        max: u64,
    },
    /// We would send more but for the limit of the connection.
    DataBlocked {
        /// The limit we stand at.
        at: u64,
    },
    /// We would send more but for the limit of the stream.
    StreamDataBlocked {
        /// The stream.
        id: StreamId,
        /// The limit we stand at.
        at: u64,
    },
    /// We would open more but for the limit.
    StreamsBlocked {
        /// Of which direction.
        direction: Direction,
        /// The limit we stand at.
        at: u64,
    },
    /// We give up sending.
    ResetStream {
        /// The stream.
        id: StreamId,
        /// The application's code.
        code: u64,
        /// Bytes that count against flow control.
        final_size: u64,
    },
    /// We no longer read.
    StopSending {
        /// The stream.
        id: StreamId,
        /// The application's code.
        code: u64,
    },
}

/// A frame that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input<'a> {
    /// Bytes of a stream.
    Stream {
        /// The stream.
        id: StreamId,
        /// Where the bytes belong.
        offset: u64,
        /// The bytes.
        data: &'a [u8],
        /// They are the last.
        fin: bool,
    },
    /// The peer gives up sending.
    Reset {
        /// The stream.
        id: StreamId,
        /// Its application's code.
        code: u64,
        /// Bytes that count against flow control.
        final_size: u64,
    },
    /// The peer no longer reads.
    Stop {
        /// The stream.
        id: StreamId,
        /// Its application's code.
        code: u64,
    },
    /// Bytes we may send over all streams.
    MaxData(u64),
    /// Bytes we may send on a stream.
    MaxStreamData {
        /// The stream.
        id: StreamId,
        /// The limit.
        max: u64,
    },
    /// Streams we may open since the start.
    MaxStreams {
        /// Of which direction.
        direction: Direction,
        /// The limit.
        max: u64,
    },
    /// The peer waits for a higher connection limit.
    DataBlocked {
        /// The limit it stands at.
        at: u64,
    },
    /// The peer waits for a higher stream limit.
    StreamDataBlocked {
        /// The stream.
        id: StreamId,
        /// The limit it stands at.
        at: u64,
    },
    /// The peer waits for more streams.
    StreamsBlocked {
        /// Of which direction.
        direction: Direction,
        /// The limit it stands at.
        at: u64,
    },
}
