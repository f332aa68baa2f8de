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
pub use recv::{RecvBatch, RecvMeta};

/// Which way a datagram came or shall go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// The other side. IPv4 addresses stand as such, never mapped into IPv6.
    pub remote: SocketAddr,
    /// Our address the datagram was sent to, or shall be sent from; `None` leaves it to the system.
    pub local: Option<IpAddr>,
}
