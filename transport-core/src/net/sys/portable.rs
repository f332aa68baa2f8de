//! One datagram a call, with what the standard library offers.

use std::io;
use std::net::SocketAddr;

use crate::buffer::{Batch, RecvBatch, RecvMeta, Route};
use crate::net::meta::{Caps, SendStats, SocketOptions, is_about_an_earlier_send, named, normal};

#[derive(Debug)]
pub(in crate::net) struct Socket {
    socket: std::net::UdpSocket,
    ipv6: bool,
    caps: Caps,
    stats: SendStats,
}

impl Socket {
    pub(in crate::net) fn bind(addr: SocketAddr, _: &SocketOptions) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(addr)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            ipv6: addr.is_ipv6(),
            caps: Caps::default(),
            stats: SendStats::default(),
        })
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "the face of all systems")]
    pub(in crate::net) fn lane(&self, _: Route) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "the face of all systems")]
    pub(in crate::net) fn share(&self) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "the face of all systems")]
    pub(in crate::net) fn use_interface(&mut self, _: std::net::IpAddr, _: u32) {}

    pub(in crate::net) fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        let mut received = Err(io::ErrorKind::WouldBlock.into());
        let mut found = Vec::with_capacity(batch.slots());
        for slot in batch.start() {
            match self.socket.recv_from(slot) {
                Ok((len, from)) => found.push((len, from)),
                Err(error) => {
                    received = Err(error);
                    break;
                }
            }
        }
        for (len, from) in &found {
            let route = Route {
                remote: normal(*from),
                local: None,
            };
            batch.filled_next(Some(RecvMeta {
                route,
                ecn: None,
                len: *len,
                stride: (*len).max(1),
            }));
        }
        if found.is_empty() {
            received
        } else {
            Ok(found.len())
        }
    }

    pub(in crate::net) fn send(&mut self, route: Route, batch: &mut Batch) -> io::Result<()> {
        let remote = named(route.remote, self.ipv6);
        while let Some(segment) = batch.unsent().next() {
            match self.socket.send_to(segment, remote) {
                Ok(_) => {
                    self.stats.sent += 1;
                    self.stats.calls += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.stats.refused += 1;
                    self.stats.unreachable += u64::from(is_about_an_earlier_send(&error));
                }
            }
            batch.advance(1);
        }
        Ok(())
    }

    pub(in crate::net) fn note_unreachable(&mut self) {
        self.stats.unreachable += 1;
    }

    /// The socket, and whether it is of IPv6.
    pub(in crate::net) fn plain(&self) -> (&std::net::UdpSocket, bool) {
        (&self.socket, self.ipv6)
    }

    pub(in crate::net) fn caps(&self) -> Caps {
        self.caps
    }

    pub(in crate::net) fn send_stats(&self) -> SendStats {
        self.stats
    }
}

/// The standard library has no such option.
#[cfg(all(unix, not(target_os = "linux")))]
pub(in crate::net) fn set_dont_fragment(_: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Neither has it these.
#[cfg(all(unix, not(target_os = "linux")))]
pub(in crate::net) fn set_source(
    _: std::os::fd::BorrowedFd<'_>,
    source: &crate::net::meta::Source<'_>,
) -> io::Result<()> {
    match (source.interface, source.mark) {
        (None, None) => Ok(()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Nor this.
#[cfg(all(unix, not(target_os = "linux")))]
pub(in crate::net) fn begin_tcp(
    _: SocketAddr,
    _: &crate::net::meta::Source<'_>,
) -> io::Result<std::net::TcpStream> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.socket)
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.socket)
    }
}
