//! Memory that datagrams live in between the kernel and the engine.
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

use std::net::{IpAddr, SocketAddr};

pub mod batch;
pub mod recv;

pub use batch::{Batch, BatchFull, MAX_BATCH_BYTES, MAX_SEGMENTS};
pub use recv::{Joined, RecvBatch, RecvMeta};

/// Which way a datagram came or shall go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// The other side. IPv4 addresses stand as such, never mapped into IPv6.
    pub remote: SocketAddr,
    /// Our address the datagram was sent to, or shall be sent from; `None` leaves it to the system.
    pub local: Option<IpAddr>,
}

/// The two ECN bits of an IP header (RFC 3168 §5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[repr(u8)]
pub enum Ecn {
    /// The sender does not take part.
    #[default]
    NotEct = 0b00,
    /// ECT(1): low-latency traffic (RFC 9331).
    Ect1 = 0b01,
    /// ECT(0): the sender reacts to marks.
    Ect0 = 0b10,
    /// A router marked it instead of dropping it.
    Ce = 0b11,
}

impl Ecn {
    /// The codepoint in the low two bits of a TOS or traffic-class byte.
    pub const fn from_bits(tos: u8) -> Self {
        match tos & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }
}

/// How a datagram came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// Sender, and our address it was sent to.
    pub route: Route,
    /// Its codepoint; `None` where the system does not tell.
    pub ecn: Option<Ecn>,
}

impl From<Route> for Arrived {
    fn from(route: Route) -> Self {
        Self { route, ecn: None }
    }
}
