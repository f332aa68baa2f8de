//! What contexts are asked and what they answer.

use std::fmt;
use std::net::SocketAddr;

use crate::http::varint;
use crate::masque::bind::{Assign, datagram};

/// Bounds of one request's contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Contexts open at once, of both ends together. What the peer registers beyond is refused.
    pub contexts: usize,
    /// Registrations of this end that may wait for an answer, and answers to the peer that may wait to be written. A peer that
    /// has the same limit never runs into the second.
    pub unanswered: usize,
}

impl Default for Limits {
    /// 256 contexts, 64 unanswered.
    fn default() -> Self {
        Self {
            contexts: 256,
            unanswered: 64,
        }
    }
}

/// What a capsule of the peer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The peer registered a context, which is in force.
    Opened {
        /// The registration.
        assign: Assign,
        /// The context of this end for the same tuple that is closed for it: both had registered one, and the client's stays.
        replaces: Option<u64>,
    },
    /// The peer's registration was refused: forbidden, one too many, or the client keeps strangers out.
    Refused {
        /// The registration.
        assign: Assign,
        /// As for [`Opened`](Self::Opened).
        replaces: Option<u64>,
    },
    /// The peer accepted a context of this end.
    Accepted(Assign),
    /// The peer closed, or refused, a context.
    Closed(Assign),
}

/// Why this end may not register a context now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The tuple has this context already.
    Exists(u64),
    /// As many contexts are open as may be.
    Limit,
    /// As many registrations wait for an answer, or capsules to be written, as may be. Later it may go.
    Busy,
    /// Only a client registers an uncompressed context, and none while this one is open.
    Uncompressed(Option<u64>),
    /// A proxy may not register contexts while the client has no uncompressed one.
    Firewalled,
    /// No UDP packet goes to port 0.
    NoPort,
    /// No ids are left.
    Exhausted,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exists(_) => "the peer has a context already",
            Self::Limit => "no more contexts may be open",
            Self::Busy => "too many registrations wait for an answer",
            Self::Uncompressed(Some(_)) => "an uncompressed context is open already",
            Self::Uncompressed(None) => "only a client with bind has an uncompressed context",
            Self::Firewalled => "the client keeps strangers out",
            Self::NoPort => "no packet goes to port 0",
            Self::Exhausted => "no context ids are left",
        })
    }
}

impl std::error::Error for OpenError {}

/// The context that carries a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// The payload follows the context id.
    Compressed(u64),
    /// Address and port of the peer follow the context id.
    Uncompressed(u64),
}

impl Outgoing {
    /// Bytes in front of the payload of a packet to or from `peer`.
    pub const fn overhead(self, peer: SocketAddr) -> usize {
        match self {
            Self::Compressed(context) => datagram::overhead(context, None),
            Self::Uncompressed(context) => datagram::overhead(context, Some(peer)),
        }
    }

    /// Appends what stands in front of the payload of a packet to or from `peer`.
    pub fn put_header(self, out: &mut Vec<u8>, peer: SocketAddr) {
        match self {
            Self::Compressed(context) => varint::put(out, context),
            Self::Uncompressed(context) => datagram::put_header(out, context, peer),
        }
    }
}

/// What a context means for datagrams of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Context 0: plain CONNECT-UDP with the request's target.
    Udp,
    /// A packet from (for a proxy: to) this peer.
    Peer(SocketAddr),
    /// The payload names its peer.
    Uncompressed,
    /// It was closed: dropped silently.
    Closed,
    /// Nobody registered it yet: dropped, and counted.
    Unknown,
    /// Context 0 without a target: the stream is aborted.
    Abort,
}

/// A datagram of the peer, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A packet from, for a proxy to, the request's target.
    Udp(&'a [u8]),
    /// A packet from, for a proxy to, this peer. Whether it may go there is another question.
    Peer(SocketAddr, &'a [u8]),
    /// On a context that was closed: dropped silently.
    Closed,
    /// On a context nobody registered yet: dropped, and counted.
    Unknown,
    /// Not a payload of its context, or longer than a UDP packet: dropped, and counted.
    Unreadable,
}
