//! Where what a socket sends leaves this machine: by which interface, with which mark, from which address.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::cmsg::Address;
use super::linux::{check, open, retry, set};
use crate::net::meta::Source;

pub(in crate::net) fn set_source(fd: BorrowedFd<'_>, source: &Source<'_>) -> io::Result<()> {
    if let Some(name) = source.interface {
        // SAFETY: `name` is `len` readable bytes for the time of the call.
        check(unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                name.as_ptr().cast(),
                name.len() as libc::socklen_t,
            )
        })?;
    }
    match source.mark {
        Some(mark) => set(fd, libc::SOL_SOCKET, libc::SO_MARK, mark as libc::c_int),
        None => Ok(()),
    }
}

pub(in crate::net) fn begin_tcp(to: SocketAddr, source: &Source<'_>) -> io::Result<TcpStream> {
    let ipv6 = to.is_ipv6();
    let fd = open(ipv6, libc::SOCK_STREAM)?;
    set_source(fd.as_fd(), source)?;
    if let Some(address) = source.address {
        // The port is chosen when the connection is made, so that one address may have more of them than ports.
        set(fd.as_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        let address = Address::new(SocketAddr::new(address, 0), ipv6);
        // SAFETY: `address` holds `length` bytes of a valid socket address and outlives the call.
        check(unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr(), address.length()) })?;
    }
    let remote = Address::new(to, ipv6);
    // SAFETY: as for `bind`.
    match retry(|| unsafe { libc::connect(fd.as_raw_fd(), remote.as_ptr(), remote.length()) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(fd.into()),
    }
}
