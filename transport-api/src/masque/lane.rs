//! What MASQUE needs from whatever carries it: ordered streams and unreliable datagrams.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::task::{Context, Poll};

/// Why a lane or one of its streams cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneError {
    /// The peer reset the stream, or stopped reading it, with this code.
    Reset(u64),
    /// The stream was finished, reset or stopped at this side before.
    Finished,
    /// The whole connection ended; the text says why.
    Closed(String),
}

impl fmt::Display for LaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "the peer gave the stream up ({})", crate::http::Code(*code)),
            Self::Finished => f.write_str("the stream is finished"),
            Self::Closed(reason) => write!(f, "the connection ended: {reason}"),
        }
    }
}

impl std::error::Error for LaneError {}

/// Why a datagram was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneDatagramError {
    /// It does not fit; the largest that does, in bytes.
    TooLarge(usize),
    /// The queue is full, or the connection ended.
    Dropped,
}

/// A connection with streams and datagrams. Clones are the same connection.
pub trait Lane: Clone + fmt::Debug + 'static {
    /// Sending half of a stream.
    type Send: LaneSend;
    /// Receiving half of a stream.
    type Recv: LaneRecv;

    /// Opens a stream for both directions.
    fn open_bi(&self) -> impl Future<Output = Result<(Self::Send, Self::Recv), LaneError>>;
    /// Opens a stream this side sends on.
    fn open_uni(&self) -> impl Future<Output = Result<Self::Send, LaneError>>;
    /// The next stream of the peer for both directions. Cancel-safe.
    fn accept_bi(&self) -> impl Future<Output = Result<(Self::Send, Self::Recv), LaneError>>;
    /// The next stream the peer sends on. Cancel-safe.
    fn accept_uni(&self) -> impl Future<Output = Result<Self::Recv, LaneError>>;
    /// The next datagram. Cancel-safe.
    fn read_datagram(&self) -> impl Future<Output = Result<Vec<u8>, LaneError>>;
    /// Sends a datagram or drops it; never waits.
    fn send_datagram(&self, datagram: Vec<u8>) -> Result<(), LaneDatagramError>;
    /// Sends the datagrams of a flow, or drops them; never waits. Flows share the connection fairly, and a small one is not kept
    /// waiting by a large one, where the lane can do that. How many were dropped; `datagrams` is empty afterwards.
    fn send_flow(&self, flow: u32, datagrams: &mut Vec<Vec<u8>>) -> usize {
        let _ = flow;
        let dropped = |datagram| usize::from(self.send_datagram(datagram).is_err());
        datagrams.drain(..).map(dropped).sum()
    }
    /// Ready when the lane has taken over what flows were given before: who has much to send gives it in portions, and waits
    /// between them for no longer than this takes. It is no congestion control.
    fn poll_flow_taken(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
    /// Appends empty vectors to `spares`, `count` at most, for datagrams to be sent; none where the lane keeps none.
    fn take_spares(&self, count: usize, spares: &mut Vec<Vec<u8>>) {
        let _ = (count, spares);
    }
    /// Gives back vectors of received datagrams that nobody needs any more. `spent` is empty afterwards.
    fn give_spares(&self, spent: &mut Vec<Vec<u8>>) {
        spent.clear();
    }
    /// The largest datagram that fits now, bytes.
    fn max_datagram(&self) -> usize;
    /// Waits until [`Lane::max_datagram`] is not `known`, and says what it is then. Cancel-safe.
    fn max_datagram_changed(&self, known: usize) -> impl Future<Output = Result<usize, LaneError>>;
    /// Ends the connection.
    fn close(&self, code: u64, reason: &str);
    /// Where the peer is now, if that is known.
    fn remote(&self) -> Option<SocketAddr> {
        None
    }
    /// Fills `out` with keying material that both ends share and nobody else knows; false when there is none.
    fn export(&self, label: &[u8], out: &mut [u8]) -> bool {
        let _ = (label, out);
        false
    }
}

/// The sending half of a stream. Dropping it finishes the stream.
pub trait LaneSend: fmt::Debug + 'static {
    /// Which stream of its kind and initiator this is, from 0: for streams of the client in both directions, the
    /// quarter stream id.
    fn ordinal(&self) -> u64;
    /// Writes a part of `data`.
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, LaneError>>;
    /// Ends the stream; what was written still arrives.
    fn finish(&mut self);
    /// Gives the stream up.
    fn reset(&mut self, code: u64);
}

/// The receiving half of a stream.
pub trait LaneRecv: fmt::Debug + 'static {
    /// Reads; `None` is the end.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<Option<usize>, LaneError>>;
    /// Asks the peer to give the stream up.
    fn stop(&mut self, code: u64);
    /// Whether the peer opened it before it had shown that it is there: it may be a copy of an earlier one (RFC 8470).
    fn is_early(&self) -> bool {
        false
    }
}
