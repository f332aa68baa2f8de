//! UDP as the kernel offers it: many datagrams a call, in and out.
//!
//! Only `sys` speaks to the kernel; this file says what it offers.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::buffer::{Batch, RecvBatch, Route};

pub mod meta;
mod sys;

pub use meta::{Caps, Interface, SendStats, SocketOptions, Source};
#[cfg(target_os = "linux")]
pub use sys::Timer;

/// Whether the system refused a packet because it is longer than the path carries; the socket is still good.
#[cfg(unix)]
pub fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// Keeps this host from cutting datagrams that `socket` sends: IPv4 packets carry DF, and what is longer than the
/// interface carries is an error. The path's cached MTU is ignored, whoever sent the ICMP message it comes from.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] on a system where this crate does not know how; others when `socket` is not an IP
/// datagram socket.
#[cfg(unix)]
pub fn set_dont_fragment(socket: &impl std::os::fd::AsFd) -> io::Result<()> {
    sys::set_dont_fragment(socket.as_fd())
}

/// Lets what `socket` sends leave by the interface and with the mark of `source`; its address is for whoever binds.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] without the privilege (Linux: `CAP_NET_ADMIN` or `CAP_NET_RAW` for a mark, and before
/// 5.7 `CAP_NET_RAW` for an interface), [`io::ErrorKind::Unsupported`] where the system has no such option, and what it says
/// of an interface it does not know.
#[cfg(unix)]
pub fn set_source(socket: &impl std::os::fd::AsFd, source: &Source<'_>) -> io::Result<()> {
    sys::set_source(socket.as_fd(), source)
}

/// Begins a TCP connection to `to` that leaves as `source` says; it stands once the socket is writable and has no error. The
/// socket does not block.
///
/// # Errors
/// As [`set_source`], and what the system says at once: an address that is not this machine's, no route.
#[cfg(unix)]
pub fn begin_tcp(to: SocketAddr, source: &Source<'_>) -> io::Result<std::net::TcpStream> {
    sys::begin_tcp(to, source)
}

/// The addresses of this machine.
///
/// # Errors
/// What the system says.
#[cfg(unix)]
pub fn interfaces() -> io::Result<Vec<Interface>> {
    sys::interfaces()
}

/// A UDP socket that never blocks.
#[derive(Debug)]
pub struct UdpSocket {
    inner: sys::Socket,
}

impl UdpSocket {
    /// Binds to `addr`; port 0 lets the system choose. An IPv6 wildcard takes IPv4 as well.
    pub fn bind(addr: SocketAddr, options: &SocketOptions) -> io::Result<Self> {
        sys::Socket::bind(addr, options).map(|inner| Self { inner })
    }

    /// Another socket at the same port, which hears one remote alone: the kernel prefers it for what comes from there, so
    /// that a flood from elsewhere neither fills its buffer nor stands before it in line. What came before stays where it is.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where systems do not deliver this way; others as for [`UdpSocket::bind`].
    pub fn lane(&self, route: Route) -> io::Result<Self> {
        self.inner.lane(route).map(|inner| Self { inner })
    }

    /// Another socket at the same address and port: the kernel hands each of them what comes from some of the remotes, always
    /// the same ones while their number stays. For workers that share the load of one relay.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where systems do not share ports; others as for [`UdpSocket::bind`].
    pub fn share(&self) -> io::Result<Self> {
        self.inner.share().map(|inner| Self { inner })
    }

    /// Receives what is there, at most as many slots as `batch` has; gives the slots filled, at least 1. Datagrams longer
    /// than a slot are counted in the batch and left out.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there.
    pub fn recv_batch(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        loop {
            match self.inner.recv(batch) {
                // An ICMP message about something sent earlier; reported once, and no concern of the receiver.
                Err(error) if meta::is_about_an_earlier_send(&error) => self.inner.note_unreachable(),
                result => return result,
            }
        }
    }

    /// Sends all segments of `batch`. Segments the network refuses (too long for the interface, no route, a firewall) are
    /// lost like any other packet and counted in [`UdpSocket::send_stats`].
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the socket's buffer is full: call again with the same batch once it is writable;
    /// the segments that left are not repeated. Other errors mean that the socket is of no use. A batch with packets
    /// that were not masked is [`io::ErrorKind::InvalidInput`].
    pub fn send_batch(&mut self, route: Route, batch: &mut Batch) -> io::Result<()> {
        if !batch.is_finished() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "headers in the batch are not masked",
            ));
        }
        self.inner.send(route, batch)
    }

    /// Hears `remote` alone from now on, and its ICMP errors ([`SendStats::unreachable`]).
    ///
    /// # Errors
    /// What the system says, such as that no route leads there.
    pub fn connect(&self, remote: SocketAddr) -> io::Result<()> {
        let (socket, ipv6) = self.inner.plain();
        socket.connect(meta::named(remote, ipv6))
    }

    /// Sends a datagram without content, which no batch can hold.
    ///
    /// # Errors
    /// What the system says.
    pub fn send_empty(&self, remote: SocketAddr) -> io::Result<()> {
        let (socket, ipv6) = self.inner.plain();
        socket.send_to(&[], meta::named(remote, ipv6)).map(drop)
    }

    /// From now on what leaves from `local` ([`Route::local`]) leaves by the interface of this number, whatever the routing
    /// table prefers. At most 16 addresses are remembered, the newest. Where the system does not know how, only the address is
    /// chosen.
    pub fn use_interface(&mut self, local: IpAddr, index: u32) {
        self.inner.use_interface(local, index);
    }

    /// What the kernel turned out to offer. GSO may end at run time.
    pub fn caps(&self) -> Caps {
        self.inner.caps()
    }

    /// What became of the segments handed to the kernel.
    pub fn send_stats(&self) -> SendStats {
        self.inner.send_stats()
    }

    /// The bound address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.plain().0.local_addr()
    }
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.inner.as_raw_fd()
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for UdpSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

#[cfg(test)]
mod tests;
