//! UDP with segmentation by the kernel on the way out (GSO) and reassembly on the way in (GRO).

use std::{
    io,
    mem::{size_of, size_of_val, zeroed},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    ptr,
    time::Duration,
};

use crate::SOCKET_BUFFER;

/// The largest datagram, and so the largest run of datagrams, that the kernel hands over at once.
pub const BURST: usize = 65_535;

/// A socket with large buffers and GRO, which does not fragment.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, SOCKET_BUFFER as i32)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, SOCKET_BUFFER as i32)?;
    set(
        &socket,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::IP_PMTUDISC_PROBE,
    )?;
    set(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    Ok(socket)
}

fn set(socket: &UdpSocket, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the option is the integer that lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Room for one control message, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends `data` in one call, to be cut into datagrams of `segment` bytes; the last may be shorter.
pub fn send(socket: &UdpSocket, data: &[u8], segment: usize, to: SocketAddr) -> io::Result<()> {
    let SocketAddr::V4(to) = to else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    // SAFETY: all of these are plain numbers and pointers, for which zero is a value.
    let (mut name, mut message): (libc::sockaddr_in, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    name.sin_family = libc::AF_INET as _;
    name.sin_port = to.port().to_be();
    name.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
    let mut vector = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    let mut control = Control([0; 64]);
    message.msg_name = ptr::from_mut(&mut name).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in>() as _;
    message.msg_iov = &mut vector;
    message.msg_iovlen = 1;
    if data.len() > segment {
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: the buffer holds one message of two bytes and is aligned; the kernel reads it during the call alone.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(2) as _;
            let first = libc::CMSG_FIRSTHDR(&message);
            (*first).cmsg_level = libc::SOL_UDP;
            (*first).cmsg_type = libc::UDP_SEGMENT;
            (*first).cmsg_len = libc::CMSG_LEN(2) as _;
            libc::CMSG_DATA(first)
                .cast::<u16>()
                .write_unaligned(segment as u16);
        }
    }
    // SAFETY: every pointer in the message leads to something that lives until the call returns.
    if unsafe { libc::sendmsg(socket.as_raw_fd(), &message, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What one call received: `length` bytes, which are datagrams of `segment` bytes, the last maybe shorter.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    pub length: usize,
    pub segment: usize,
    pub from: SocketAddr,
}

/// Receives a run of datagrams; `wait` or `WouldBlock`.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8], wait: bool) -> io::Result<Arrived> {
    // SAFETY: as above.
    let (mut name, mut message): (libc::sockaddr_in, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control([0; 64]);
    message.msg_name = ptr::from_mut(&mut name).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in>() as _;
    message.msg_iov = &mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: every pointer in the message leads to something that lives until the call returns.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags) };
    let Ok(length) = usize::try_from(length) else {
        return Err(io::Error::last_os_error());
    };
    let from = SocketAddrV4::new(
        Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes()),
        u16::from_be(name.sin_port),
    );
    Ok(Arrived {
        length,
        segment: stride(&message).unwrap_or(length).max(1),
        from: from.into(),
    })
}

/// The length of each datagram of a run, where the kernel joined several.
fn stride(message: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel wrote the control messages and their total length; the macros stay inside of it.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = next.as_ref() {
            if header.cmsg_level == libc::SOL_UDP && header.cmsg_type == libc::UDP_GRO {
                let stride = libc::CMSG_DATA(next).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(stride).ok();
            }
            next = libc::CMSG_NXTHDR(message, next);
        }
    }
    None
}

/// Sleeps until something arrives or `limit` has passed, with the kernel's resolution of nanoseconds.
pub fn wait(socket: &UdpSocket, limit: Duration) {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let limit = libc::timespec {
        tv_sec: limit.as_secs() as _,
        tv_nsec: limit.subsec_nanos() as _,
    };
    // SAFETY: one descriptor, as said, and a time that lives until the call returns. Failing is waking early.
    unsafe { libc::ppoll(&mut poll, 1, &limit, ptr::null()) };
}
