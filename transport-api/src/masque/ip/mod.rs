//! CONNECT-IP (RFC 9484): whole IP packets as HTTP datagrams, addresses and routes as capsules.
//!
//! `capsules` reads and writes what is told on the stream, `route` and `scope` say what may pass, `pieces` carries the packets
//! that no datagram holds.

mod capsules;
pub mod pieces;
mod route;
mod scope;

pub use capsules::{
    AddressRequest, AssignedAddress, IpCapsule, IpCapsules, MAX_ENTRIES, put_assign, put_request, put_routes,
};
pub use route::{RouteRange, Routes};
pub use scope::{BadScope, IpScope, ScopeTarget};

use crate::http::varint;

/// The token of extended CONNECT.
pub const PROTOCOL: &str = "connect-ip";
/// The context of whole packets (RFC 9484 §6).
pub const PACKET_CONTEXT: u64 = 0;
/// The context of packets in two pieces, which the client allocates when both sides have agreed to them.
pub const PIECE_CONTEXT: u64 = 2;
/// A structured boolean, by which both sides say that they put pieces together. No standard names it.
pub const PIECES_FIELD: &str = "adit-ip-pieces";
/// What every link that carries IPv6 must carry (RFC 8200 §5), bytes.
pub const MIN_MTU: usize = 1280;

/// What the peer did wrong on the stream: it is aborted with `H3_MESSAGE_ERROR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFault {
    /// A capsule or a datagram is not what RFC 9297 and RFC 9484 describe.
    Malformed,
    /// More than [`MAX_ENTRIES`] addresses or ranges in one capsule.
    TooMany,
    /// The stream ended inside a capsule.
    Truncated,
}

/// One proxied payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Context 0: one IP packet.
    Packet(&'a [u8]),
    /// A piece of one, see [`pieces`].
    Piece(&'a [u8]),
    /// A context nobody registered: dropped silently.
    UnknownContext(u64),
}

/// Reads the payload of an HTTP datagram.
pub fn parse(payload: &[u8]) -> Result<Payload<'_>, IpFault> {
    match varint::take(payload) {
        None => Err(IpFault::Malformed),
        Some((PACKET_CONTEXT, packet)) => Ok(Payload::Packet(packet)),
        Some((PIECE_CONTEXT, piece)) => Ok(Payload::Piece(piece)),
        Some((context, _)) => Ok(Payload::UnknownContext(context)),
    }
}

/// Bytes in front of a packet in a native datagram of the request with this quarter stream id.
pub const fn overhead(quarter_stream_id: u64) -> usize {
    varint::len(quarter_stream_id) + 1
}
