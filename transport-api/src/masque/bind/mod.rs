//! CONNECT-UDP bind (draft-ietf-masque-connect-udp-listen): one request whose UDP packets go to and come from many peers.
//!
//! `capsules` reads and writes what is registered on the stream, `datagram` the payloads of both kinds of contexts, `address` the
//! proxy's public addresses, and [`Contexts`] is the state of one request: which context means which peer, and what may be said next.

pub mod address;
mod capsules;
mod contexts;
pub mod datagram;

pub use capsules::{Assign, BindCapsule, BindCapsules, BindItem, put_assign, put_capsule};
pub use contexts::{Change, Contexts, Incoming, Limits, OpenError, Outgoing, Received};

use super::udp::UdpFault;

/// The structured boolean of request and response by which both sides agree to bind (draft §6).
pub const FIELD: &str = "connect-udp-bind";
/// The response field that names the proxy's public addresses (draft §7).
pub const ADDRESS_FIELD: &str = "proxy-public-address";
/// WRAP_UP (draft-ietf-httpbis-wrap-up): the proxy asks to move what is open elsewhere.
pub const WRAP_UP: u64 = 0x272d_da5e;

/// Which end of the request this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Made the request; its contexts are even, and only it registers uncompressed ones.
    Client,
    /// Answered it; its contexts are odd.
    Proxy,
}

impl Role {
    /// The end at the other side.
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Proxy,
            Self::Proxy => Self::Client,
        }
    }

    /// Whether this end may allocate `context` (RFC 9298 §4). Nobody allocates 0.
    pub const fn allocates(self, context: u64) -> bool {
        context != 0 && context.is_multiple_of(2) == matches!(self, Self::Client)
    }
}

/// Which revision of the draft is spoken. It is configured, never guessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Revision 8 and later: COMPRESSION_ASSIGN, ACK and CLOSE.
    #[default]
    Current,
    /// Revisions 3 to 7: other code points, and a registration is accepted by its own ASSIGN, sent back. Some peers never send
    /// it, so a registration is taken as accepted until it is closed.
    Older,
}

/// The code points of a dialect: the only place that knows them.
#[derive(Clone, Copy, Debug)]
struct Codes {
    assign: u64,
    /// `None`: an ASSIGN that comes back says the same.
    ack: Option<u64>,
    close: u64,
}

impl Dialect {
    const fn codes(self) -> Codes {
        match self {
            Self::Current => Codes {
                assign: 0x11,
                ack: Some(0x12),
                close: 0x13,
            },
            Self::Older => Codes {
                assign: 0x1c0f_e323,
                ack: None,
                close: 0x1c0f_e324,
            },
        }
    }
}

/// What the peer did wrong; the stream is aborted with `H3_MESSAGE_ERROR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindFault {
    /// A capsule is not exactly what its type describes.
    Malformed,
    /// The stream ended inside a capsule.
    Truncated,
    /// A datagram has no whole context id.
    NoContext,
    /// More than 65527 bytes on context 0.
    TooLong,
    /// A datagram on context 0 of a request that has no target.
    NoTarget,
    /// A capsule names context 0.
    ZeroContext,
    /// A registration of a context that the peer may not allocate.
    Parity,
    /// A context registered twice, be it closed in between.
    Reused,
    /// An uncompressed registration by a proxy, or while another is open.
    Uncompressed,
    /// A second registration of the same tuple by the same end.
    SameTuple,
    /// An acknowledgement of what was never registered.
    NeverAssigned,
    /// WRAP_UP twice, or from a client.
    WrapUp,
    /// More answers are queued than [`Limits::unanswered`].
    Overrun,
    /// The peer's context ids leave more gaps than are remembered.
    Scattered,
}

impl From<UdpFault> for BindFault {
    fn from(fault: UdpFault) -> Self {
        match fault {
            UdpFault::NoContext => Self::NoContext,
            UdpFault::TooLong => Self::TooLong,
            UdpFault::Truncated => Self::Truncated,
        }
    }
}

#[cfg(test)]
mod tests;
