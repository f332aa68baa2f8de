//! IP tunnels (RFC 9484): whole packets in datagrams, addresses and routes in capsules.
//!
//! `reader` takes apart what arrives, `sender` puts packets into datagrams, `client` is the handle of a tunnel. `outbound` and
//! `inbound` stand between a device and a tunnel, at either end: super-packets, checks, Packet Too Big.

mod client;
mod reader;
mod sender;

pub use client::{IpEvent, IpRequest, IpTunnel};
pub(crate) use reader::{IpItem, IpReader, IpStream};
pub use sender::{IpSendError, IpSender};
