//! What a packet carried, in the scheduler's own words.

use crate::{DatagramId, Direction, StreamId};

/// Names what was taken into a packet. Opaque: the holder hands it back to [`acked`](crate::Scheduler::acked) or
/// [`lost`](crate::Scheduler::lost), on whatever path, in whatever order; handing it back twice does no harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token(pub(crate) Carried);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carried {
    Stream {
        id: StreamId,
        offset: u64,
        len: u32,
        fin: bool,
    },
    Reset(StreamId),
    Stop(StreamId),
    MaxData(u64),
    MaxStreamData(StreamId, u64),
    MaxStreams(Direction, u64),
    DataBlocked(u64),
    StreamDataBlocked(StreamId, u64),
    StreamsBlocked(Direction, u64),
    /// And whether somebody wants to know what became of it.
    Datagram(DatagramId, bool),
}

// A packet remembers a dozen of these.
const _: () = assert!(size_of::<Token>() <= 24);
