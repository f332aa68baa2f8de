//! A netlink socket that speaks with the kernel's routing tables.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_int, socklen_t};

/// The kernel answers within the call that asks. Should it ever not, the caller is not kept waiting for good.
const PATIENCE: libc::timeval = libc::timeval {
    tv_sec: 10,
    tv_usec: 0,
};

/// A blocking socket of `NETLINK_ROUTE`.
#[derive(Debug)]
pub(in crate::tun) struct NetlinkSocket {
    fd: OwnedFd,
}

impl NetlinkSocket {
    pub(in crate::tun) fn open() -> io::Result<Self> {
        // SAFETY: takes three integers and gives a new descriptor or −1.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::NETLINK_ROUTE,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is valid, new, and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = Self { fd };
        socket.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &PATIENCE)?;
        // Errors say in words what they are about, and do not repeat the request; dumps are filtered by the kernel, and it
        // refuses what it does not understand. Older kernels have none of these, and do without.
        for option in [
            libc::NETLINK_EXT_ACK,
            libc::NETLINK_CAP_ACK,
            libc::NETLINK_GET_STRICT_CHK,
        ] {
            let on: c_int = 1;
            let _ = socket.set(libc::SOL_NETLINK, option, &on);
        }
        Ok(socket)
    }

    /// Sends to the kernel, which is where a socket that was never connected sends to.
    pub(in crate::tun) fn send(&self, request: &[u8]) -> io::Result<()> {
        // SAFETY: `request` is readable for its length and outlives the call.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
        usize::try_from(sent)
            .map(drop)
            .map_err(|_| io::Error::last_os_error())
    }

    /// The length of the next datagram of the kernel, of which `buffer` holds what fits.
    pub(in crate::tun) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.recv_any(buffer) {
                // Somebody else's: netlink carries messages between processes as well.
                Ok((_, port)) if port != 0 => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(|(length, _)| length),
            }
        }
    }

    /// A datagram's length, and the port it comes from; the kernel's is 0.
    fn recv_any(&self, buffer: &mut [u8]) -> io::Result<(usize, u32)> {
        // SAFETY: `sockaddr_nl` is made of integers; zero is a value of each.
        let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        let mut from_length = size_of_val(&from) as socklen_t;
        // SAFETY: `buffer` and `from` are writable for the lengths given, borrowed mutably, and outlive the call.
        let received = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_TRUNC,
                (&raw mut from).cast(),
                &raw mut from_length,
            )
        };
        match usize::try_from(received) {
            Ok(length) => Ok((length, from.nl_pid)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    fn set<T: Copy>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is readable for its size, which is given, and outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as socklen_t,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}
