//! What a socket is asked for, what it can do, and what its errors mean.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// How a socket is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketOptions {
    /// Bytes of receive buffer to ask for; the system may grant less (see [`Caps`]).
    pub recv_buffer: usize,
    /// Bytes of send buffer to ask for.
    pub send_buffer: usize,
    /// Hand batches over in one piece where the kernel can cut them (UDP GSO).
    pub gso: bool,
    /// Take several datagrams of one sender in one piece where the kernel can join them (UDP GRO).
    pub gro: bool,
    /// Marks what is sent (`SO_MARK`), so that the system's routing rules tell it from other traffic. Linux alone; needs
    /// `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            recv_buffer: 4 << 20,
            send_buffer: 4 << 20,
            gso: true,
            gro: true,
            mark: None,
        }
    }
}

/// What the kernel offers on this socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Caps {
    /// Batches leave in one piece.
    pub gso: bool,
    /// Datagrams may arrive joined.
    pub gro: bool,
    /// Datagrams carry our own address in [`crate::Route::local`], and leave from it.
    pub local_address: bool,
    /// Datagrams tell their ECN codepoint, and leave with the batch's.
    pub ecn: bool,
    /// Datagrams are never fragmented by this host.
    pub dont_fragment: bool,
    /// Bytes of receive buffer granted, as the system counts them; 0 when unknown.
    pub recv_buffer: usize,
    /// Bytes of send buffer granted, as the system counts them; 0 when unknown.
    pub send_buffer: usize,
}

/// Where what a socket sends leaves this machine; what is `None` the system chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Source<'a> {
    /// An address of this machine, of the family of what is sent to.
    pub address: Option<IpAddr>,
    /// The name of an interface (`SO_BINDTODEVICE`), whatever the routing table prefers. Linux alone.
    pub interface: Option<&'a str>,
    /// A mark for the system's routing rules (`SO_MARK`). Linux alone.
    pub mark: Option<u32>,
}

/// An address of this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// The number of the interface it is on.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The interface is up, and its link works as far as the system knows.
    pub up: bool,
    /// The interface leads nowhere but here.
    pub loopback: bool,
}

/// What became of segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SendStats {
    /// Segments the kernel took.
    pub sent: u64,
    /// Segments it refused because they are longer than the interface carries.
    pub too_long: u64,
    /// Segments it refused for another reason.
    pub refused: u64,
    /// Words of the network, heard by sending or receiving, that nobody takes what was sent: ICMP errors, and routes that are missing.
    pub unreachable: u64,
    /// System calls that took something.
    pub calls: u64,
}

/// An IPv4 address mapped into IPv6 becomes the IPv4 address it is.
pub(super) fn normal(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(address.ip().to_canonical(), address.port())
        }
        _ => address,
    }
}

/// The reverse: what a socket, of IPv6 or not, calls an address.
pub(super) fn named(address: SocketAddr, by_ipv6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if by_ipv6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        other => other,
    }
}

/// A pending ICMP error that a call happened to fetch.
pub(super) fn is_about_an_earlier_send(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable
    )
}
