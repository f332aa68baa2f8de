//! Tunnels through a relay: TCP by CONNECT (RFC 9114 §4.4), UDP by CONNECT-UDP (RFC 9298) and its extension bind, IP by CONNECT-IP (RFC 9484).
//!
//! A [`Client`] speaks the HTTP/3 profile over a [`crate::Connection`]. It needs one future driven in the background:
//! [`Client::start`] spawns it on a [`crate::local::Loop`], [`Client::start_thread`] gives it a thread, and
//! [`Client::new`] leaves it to the caller's executor.
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

pub(crate) mod bind;
mod chain;
mod client;
mod connection;
mod error;
pub(crate) mod frames;
pub(crate) mod inbox;
pub(crate) mod ip;
mod outlet;
mod peer;
#[cfg(test)]
pub(crate) mod pipe;
pub(crate) mod session;
pub(crate) mod stream;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

pub use bind::{BindOptions, BindSendError, BindSender, BoundUdp};
pub use chain::{Chain, ChainError, ChainErrorKind, ChainWork, MAX_HOPS, connect_through};
pub use client::Client;

/// The application protocol of relays, as both sides name it in the handshake: HTTP/3 without QUIC.
pub const APP: &[u8] = b"h3-nq";

pub use error::{Refusal, TunnelError, TunnelErrorKind};
pub use inbox::Datagram;
pub use ip::{
    BridgeFigures, BridgeMeter, IpBridge, IpChange, IpEvent, IpRequest, IpSendError, IpSender, IpTunnel,
};
pub(crate) use outlet::Outlet;
pub use peer::{PeerError, PeerLink};
pub use session::{SessionDrops, SessionEnd, Successor};
pub use tcp::{TcpReceiver, TcpSender, TcpTunnel};
pub(crate) use udp::UdpStream;
pub use udp::{UdpSendError, UdpSender, UdpTunnel};
