//! IP tunnels (RFC 9484): whole packets in datagrams, addresses and routes in capsules.
//!
//! `reader` takes apart what arrives, `sender` puts packets into datagrams, `client` is the handle of a tunnel. `device` and
//! `outbound` stand between a device and a tunnel, at either end: super-packets, Packet Too Big.

mod bridge;
mod client;
mod device;
mod limit;
mod outbound;
mod reader;
mod sender;

pub use bridge::{BridgeFigures, BridgeMeter, IpBridge, IpChange};
pub use client::{IpEvent, IpRequest, IpTunnel};
pub(crate) use device::{Device, FrameReader, TunPort};
pub(crate) use limit::ErrorLimit;
pub(crate) use outbound::Outbound;
pub(crate) use reader::{IpItem, IpStream};
pub(crate) use sender::mtu;
pub use sender::{IpSendError, IpSender};
