//! recvmmsg with GRO, sendmsg with GSO, sendmmsg where GSO is refused.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::cmsg::{Address, Control, zero};
use crate::buffer::{Batch, Ecn, MAX_SEGMENTS, RecvBatch, RecvMeta, Route};
use crate::net::meta::{Caps, SendStats, SocketOptions, is_about_an_earlier_send};

/// The most slots one receive call fills, and those it fills while it expects joined datagrams, or few: what they hold
/// stays in the cache until it is opened.
const MAX_SLOTS: usize = 32;
const FEW_SLOTS: usize = 4;
/// Below so many datagrams a slot, slots count more than bytes.
const JOINED: usize = 4;

#[derive(Debug)]
pub(in crate::net) struct Socket {
    socket: std::net::UdpSocket,
    ipv6: bool,
    caps: Caps,
    stats: SendStats,
    options: SocketOptions,
    /// The last call filled all its slots, with few datagrams each.
    crowded: bool,
    /// By which interface what has this source leaves.
    interfaces: Vec<(IpAddr, u32)>,
}

/// Sources whose interface is remembered.
const MAX_INTERFACES: usize = 16;

impl Socket {
    pub(in crate::net) fn bind(addr: SocketAddr, options: &SocketOptions) -> io::Result<Self> {
        let ipv6 = addr.is_ipv6();
        let fd = open(ipv6, libc::SOCK_DGRAM)?;
        let caps = configure(fd.as_fd(), ipv6, options)?;
        let address = Address::new(addr, ipv6);
        // SAFETY: `address` holds `length` bytes of a valid socket address and outlives the call.
        check(unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr(), address.length()) })?;
        Ok(Self {
            socket: fd.into(),
            ipv6,
            caps,
            stats: SendStats::default(),
            options: *options,
            crowded: false,
            interfaces: Vec::new(),
        })
    }

    /// A socket that hears one remote alone.
    pub(in crate::net) fn lane(&self, route: Route) -> io::Result<Self> {
        let own = self.socket.local_addr()?;
        let lane = self.beside(SocketAddr::new(route.local.unwrap_or(own.ip()), own.port()))?;
        let remote = Address::new(route.remote, self.ipv6);
        // SAFETY: `remote` holds `length` bytes of a valid socket address and outlives the call.
        check(unsafe { libc::connect(lane.as_raw_fd(), remote.as_ptr(), remote.length()) })?;
        Ok(lane)
    }

    /// A socket that hears some of all remotes.
    pub(in crate::net) fn share(&self) -> io::Result<Self> {
        self.beside(self.socket.local_addr()?)
    }

    /// The port is shared from here on, which the kernel grants to sockets of the same user only, and only if both ask: a
    /// program that binds it by mistake still hears that it is in use.
    fn beside(&self, local: SocketAddr) -> io::Result<Self> {
        let fd = open(self.ipv6, libc::SOCK_DGRAM)?;
        for socket in [self.as_fd(), fd.as_fd()] {
            set(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        let caps = configure(fd.as_fd(), self.ipv6, &self.options)?;
        let local = Address::new(local, self.ipv6);
        // SAFETY: `local` holds `length` bytes of a valid socket address and outlives the call.
        check(unsafe { libc::bind(fd.as_raw_fd(), local.as_ptr(), local.length()) })?;
        Ok(Self {
            socket: fd.into(),
            ipv6: self.ipv6,
            caps,
            stats: SendStats::default(),
            options: self.options,
            crowded: false,
            interfaces: Vec::new(),
        })
    }

    pub(in crate::net) fn use_interface(&mut self, local: IpAddr, index: u32) {
        self.interfaces.retain(|(known, _)| *known != local);
        if self.interfaces.len() >= MAX_INTERFACES {
            self.interfaces.remove(0);
        }
        self.interfaces.push((local, index));
    }

    pub(in crate::net) fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        let (asked, filled) = if self.crowded {
            (MAX_SLOTS, self.fill::<MAX_SLOTS>(batch)?)
        } else {
            (FEW_SLOTS, self.fill::<FEW_SLOTS>(batch)?)
        };
        let full = filled == asked.min(batch.slots());
        self.crowded = full && batch.count() < filled * JOINED;
        if !full {
            // The kernel stopped at an empty queue, or at an error that the next call tells.
            batch.set_drained();
        }
        Ok(filled)
    }

    /// One call for at most `SLOTS` slots.
    fn fill<const SLOTS: usize>(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        let mut names = [Address::empty(); SLOTS];
        let mut controls = [Control::empty(); SLOTS];
        let mut parts = [zero::<libc::iovec>(); SLOTS];
        let mut messages = [zero::<libc::mmsghdr>(); SLOTS];
        let places = names
            .iter_mut()
            .zip(&mut controls)
            .zip(parts.iter_mut().zip(&mut messages));
        let mut slots: libc::c_uint = 0;
        for (slot, ((name, control), (part, message))) in batch.start().zip(places) {
            *part = libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: slot.len(),
            };
            let head = &mut message.msg_hdr;
            head.msg_name = name.as_mut_ptr();
            head.msg_namelen = name.length();
            head.msg_iov = part;
            head.msg_iovlen = 1;
            head.msg_control = control.as_mut_ptr();
            head.msg_controllen = Control::ROOM as _;
            slots += 1;
        }
        let filled = retry(|| {
            // SAFETY: each of the first `slots` messages points to a name, a control buffer, an iovec and a slot of
            // `batch`, of the lengths stated; all of them are borrowed mutably in this frame and outlive the call.
            unsafe {
                libc::recvmmsg(
                    self.as_raw_fd(),
                    messages.as_mut_ptr(),
                    slots,
                    0,
                    std::ptr::null_mut(),
                )
            }
        })?;
        for (message, (name, control)) in messages.iter().zip(names.iter().zip(&controls)).take(filled) {
            note(batch, message, name, control);
        }
        Ok(filled)
    }

    /// The whole batch in one call if the kernel cuts it; segment by segment what is then left.
    pub(in crate::net) fn send(&mut self, route: Route, batch: &mut Batch) -> io::Result<()> {
        let remote = Address::new(route.remote, self.ipv6);
        let local = route
            .local
            .filter(|local| local.is_ipv4() == route.remote.is_ipv4());
        let mut control = control_for(local, &self.interfaces);
        if self.caps.ecn && batch.ecn() != Ecn::NotEct {
            control.push_ecn(batch.ecn(), route.remote.is_ipv4());
        }
        if batch.unsent().len() == 1 {
            return self.send_one(&remote, control, batch);
        }
        if !self.caps.gso {
            return self.send_singly(&remote, control, batch);
        }
        match self.send_joined(&remote, control, batch) {
            Err(error) if is_refusal(&error) => self.send_after_refusal(&remote, control, batch, &error),
            result => result,
        }
    }

    /// GSO was refused: is it to blame, or the route? If the segments pass one by one, it is, and is not tried again. A
    /// length the interface does not carry is nobody's fault but the segment's.
    fn send_after_refusal(
        &mut self,
        remote: &Address,
        control: Control,
        batch: &mut Batch,
        error: &io::Error,
    ) -> io::Result<()> {
        let before = self.stats;
        let result = self.send_singly(remote, control, batch);
        let passed = self.stats.sent > before.sent;
        let all_passed = self.stats.too_long == before.too_long && self.stats.refused == before.refused;
        if passed && all_passed && error.raw_os_error() != Some(libc::EMSGSIZE) {
            self.caps.gso = false;
        }
        result
    }

    fn send_joined(&mut self, remote: &Address, mut control: Control, batch: &mut Batch) -> io::Result<()> {
        control.push_segment_size(batch.segment_size() as u16);
        self.send_rest(remote, control, batch)
    }

    /// One datagram, without the headers that many would need.
    fn send_one(&mut self, remote: &Address, control: Control, batch: &mut Batch) -> io::Result<()> {
        match self.send_rest(remote, control, batch) {
            Err(error) if !is_fatal(&error) => {
                self.note_refusal(&error);
                batch.advance(1);
                Ok(())
            }
            result => result,
        }
    }

    /// What is left of the batch, as one message.
    fn send_rest(&mut self, remote: &Address, mut control: Control, batch: &mut Batch) -> io::Result<()> {
        let count = batch.unsent().len();
        let mut part = part_of(batch.unsent_bytes());
        let message = message_for(remote, &mut control, &mut part);
        retry(|| {
            // SAFETY: `message` points to `remote`, `control` and `part`, which points to the batch's bytes; all of them
            // outlive the call, and sending only reads them.
            unsafe { libc::sendmsg(self.as_raw_fd(), &raw const message, 0) as libc::c_int }
        })?;
        self.stats.sent += count as u64;
        self.stats.calls += 1;
        batch.advance(count);
        Ok(())
    }

    fn send_singly(&mut self, remote: &Address, control: Control, batch: &mut Batch) -> io::Result<()> {
        while batch.unsent().len() > 0 {
            match self.send_some(remote, control, batch) {
                Ok(count) => {
                    self.stats.sent += count as u64;
                    self.stats.calls += 1;
                    batch.advance(count);
                }
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    // The first segment was refused; it is lost, and the next ones are tried.
                    self.note_refusal(&error);
                    batch.advance(1);
                }
            }
        }
        Ok(())
    }

    fn note_refusal(&mut self, error: &io::Error) {
        if error.raw_os_error() == Some(libc::EMSGSIZE) {
            self.stats.too_long += 1;
        } else {
            self.stats.refused += 1;
            self.stats.unreachable += u64::from(is_about_an_earlier_send(error));
        }
    }

    pub(in crate::net) fn note_unreachable(&mut self) {
        self.stats.unreachable += 1;
    }

    /// The socket, and whether it is of IPv6.
    pub(in crate::net) fn plain(&self) -> (&std::net::UdpSocket, bool) {
        (&self.socket, self.ipv6)
    }

    /// One sendmmsg; the segments it took, at least one.
    fn send_some(&self, remote: &Address, mut control: Control, batch: &Batch) -> io::Result<usize> {
        let mut parts = [zero::<libc::iovec>(); MAX_SEGMENTS];
        let mut messages = [zero::<libc::mmsghdr>(); MAX_SEGMENTS];
        let mut count: libc::c_uint = 0;
        for (segment, (part, message)) in batch.unsent().zip(parts.iter_mut().zip(&mut messages)) {
            *part = part_of(segment);
            message.msg_hdr = message_for(remote, &mut control, part);
            count += 1;
        }
        retry(|| {
            // SAFETY: each of the first `count` messages points to `remote`, `control` and an iovec over a segment of the
            // batch; all of them outlive the call, which writes nothing but the lengths in `messages`.
            unsafe { libc::sendmmsg(self.as_raw_fd(), messages.as_mut_ptr(), count, 0) }
        })
    }

    pub(in crate::net) fn caps(&self) -> Caps {
        self.caps
    }

    pub(in crate::net) fn send_stats(&self) -> SendStats {
        self.stats
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Enters one received message into the batch.
#[allow(clippy::unnecessary_cast, reason = "the length is 32 bits wide with musl")]
fn note(batch: &mut RecvBatch, message: &libc::mmsghdr, name: &Address, control: &Control) {
    const CUT_OFF: libc::c_int = libc::MSG_TRUNC | libc::MSG_CTRUNC;
    let received = control.read(message.msg_hdr.msg_controllen as usize);
    let len = message.msg_len as usize;
    let whole = message.msg_hdr.msg_flags & CUT_OFF == 0;
    let meta = name.read().filter(|_| whole).map(|remote| RecvMeta {
        route: Route {
            remote,
            local: received.local,
        },
        ecn: received.ecn,
        len,
        stride: received.stride.unwrap_or(len).max(1),
    });
    batch.filled_next(meta);
}

fn control_for(local: Option<IpAddr>, interfaces: &[(IpAddr, u32)]) -> Control {
    let mut control = Control::empty();
    if let Some(local) = local {
        let known = interfaces.iter().find(|(address, _)| *address == local);
        control.push_source(local, known.map_or(0, |(_, index)| *index));
    }
    control
}

/// For sending only: the kernel does not write through it.
fn part_of(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

/// A message to send; it keeps pointers to all three.
fn message_for(remote: &Address, control: &mut Control, part: &mut libc::iovec) -> libc::msghdr {
    let mut message: libc::msghdr = zero();
    message.msg_name = remote.as_ptr().cast_mut().cast();
    message.msg_namelen = remote.length();
    message.msg_iov = part;
    message.msg_iovlen = 1;
    if control.length() > 0 {
        message.msg_control = control.as_mut_ptr();
        message.msg_controllen = control.length() as _;
    }
    message
}

/// Errors by which kernels and interfaces refuse a joined batch: no such option, no checksum offload (`EIO`), or a segment
/// longer than the interface carries (`EINVAL`, `EMSGSIZE` since 6.9).
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
    )
}

/// Errors after which trying the next segment is of no use.
fn is_fatal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || matches!(
            error.raw_os_error(),
            Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EAFNOSUPPORT)
        )
}

pub(super) fn check(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Repeats a call that a signal interrupted.
pub(super) fn retry(mut call: impl FnMut() -> libc::c_int) -> io::Result<usize> {
    loop {
        match check(call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub(super) fn open(ipv6: bool, kind: libc::c_int) -> io::Result<OwnedFd> {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes three integers and gives a new descriptor or −1.
    let fd = unsafe { libc::socket(family, kind, 0) };
    check(fd)?;
    // SAFETY: the descriptor is valid, new, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets all options; only those without which datagrams would be wrong are required.
fn configure(fd: BorrowedFd<'_>, ipv6: bool, options: &SocketOptions) -> io::Result<Caps> {
    let on = |level, name| set(fd, level, name, 1).is_ok();
    let mut local_address = on(libc::IPPROTO_IP, libc::IP_PKTINFO);
    // An IPv6 socket takes IPv4 as well, each with its own option.
    let mut ecn = on(libc::IPPROTO_IP, libc::IP_RECVTOS);
    if ipv6 {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
        local_address = on(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO);
        ecn &= on(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS);
    }
    if let Some(mark) = options.mark {
        set(fd, libc::SOL_SOCKET, libc::SO_MARK, mark as libc::c_int)?;
    }
    Ok(Caps {
        gso: options.gso && read(fd, libc::SOL_UDP, libc::UDP_SEGMENT).is_ok(),
        gro: options.gro && on(libc::SOL_UDP, libc::UDP_GRO),
        local_address,
        ecn,
        dont_fragment: probe_only(fd, ipv6).is_ok(),
        recv_buffer: buffer(fd, libc::SO_RCVBUF, libc::SO_RCVBUFFORCE, options.recv_buffer),
        send_buffer: buffer(fd, libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, options.send_buffer),
    })
}

/// DF, or no fragment header, on every datagram.
pub(in crate::net) fn set_dont_fragment(fd: BorrowedFd<'_>) -> io::Result<()> {
    match read(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)? {
        libc::AF_INET => probe_only(fd, false),
        libc::AF_INET6 => probe_only(fd, true),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// An IPv6 socket may send IPv4 as well.
fn probe_only(fd: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        let (name, value) = (libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE);
        set(fd, libc::IPPROTO_IPV6, name, value)?;
    }
    let (name, value) = (libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE);
    set(fd, libc::IPPROTO_IP, name, value)
}

/// Asks for `bytes` of buffer, above the system's maximum if we may; what was granted.
fn buffer(fd: BorrowedFd<'_>, name: libc::c_int, force: libc::c_int, bytes: usize) -> usize {
    let wanted = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let granted = || {
        read(fd, libc::SOL_SOCKET, name)
            .ok()
            .and_then(|size| usize::try_from(size).ok())
    };
    if granted().is_none_or(|size| size < bytes) {
        // Best effort: the answer is what counts, and it is reported.
        let _ = set(fd, libc::SOL_SOCKET, name, wanted);
        if granted().is_none_or(|size| size < bytes) {
            let _ = set(fd, libc::SOL_SOCKET, force, wanted);
        }
    }
    granted().unwrap_or(0)
}

pub(super) fn set(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is `length` readable bytes for the time of the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), length) })?;
    Ok(())
}

fn read(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is `length` writable bytes for the time of the call, and `length` is writable too.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn socket() -> Socket {
        Socket::bind((Ipv4Addr::LOCALHOST, 0).into(), &SocketOptions::default()).unwrap()
    }

    fn batch(fill: u8) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..20 {
            batch.push(&[fill; 1000]).unwrap();
        }
        batch
    }

    fn count(socket: &mut Socket, wanted: usize) -> usize {
        let mut slots = RecvBatch::new(8);
        let mut found = 0;
        for _ in 0..200 {
            match socket.recv(&mut slots) {
                Ok(_) => found += slots.datagrams().filter(|(_, bytes)| bytes.len() == 1000).count(),
                Err(_) if found >= wanted => break,
                Err(_) => crate::net::tests::pause(),
            }
        }
        found
    }

    /// The kernel cuts no batches on a socket that sends without checksums.
    fn make_kernel_refuse(socket: &Socket) {
        set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    }

    #[test]
    fn a_kernel_that_refuses_gso_gets_the_segments_one_by_one_from_then_on() {
        let (mut sender, mut receiver) = (socket(), socket());
        if !sender.caps().gso {
            return;
        }
        let route = Route {
            remote: receiver.socket.local_addr().unwrap(),
            local: None,
        };
        sender.send(route, &mut batch(1)).unwrap();
        assert!(sender.caps().gso);
        make_kernel_refuse(&sender);
        let remote = Address::new(route.remote, false);
        assert!(
            sender
                .send_joined(&remote, Control::empty(), &mut batch(2))
                .is_err(),
            "the kernel must refuse for this test"
        );
        sender.send(route, &mut batch(2)).unwrap();
        assert!(!sender.caps().gso, "the refusal is remembered");
        sender.send(route, &mut batch(3)).unwrap();
        assert_eq!(sender.send_stats().sent, 60);
        assert_eq!(count(&mut receiver, 60), 60);
    }

    #[test]
    fn segments_too_long_for_the_interface_are_lost_and_gso_stays() {
        let bind = || Socket::bind((Ipv6Addr::LOCALHOST, 0).into(), &SocketOptions::default()).unwrap();
        let (mut sender, mut receiver) = (bind(), bind());
        // The least IPv6 allows: 1232 bytes of UDP payload.
        set(sender.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU, 1280).unwrap();
        let route = Route {
            remote: receiver.socket.local_addr().unwrap(),
            local: None,
        };
        let gso = sender.caps().gso;
        let mut long = Batch::default();
        for length in [1233, 1233, 1233, 1000] {
            long.push(&vec![1; length]).unwrap();
        }
        sender.send(route, &mut long).unwrap();
        let stats = sender.send_stats();
        assert_eq!((stats.sent, stats.too_long, stats.refused), (1, 3, 0));
        assert_eq!(sender.caps().gso, gso);
        sender.send(route, &mut batch(2)).unwrap();
        assert_eq!(count(&mut receiver, 21), 21);
    }

    #[test]
    fn a_socket_told_not_to_fragment_refuses_what_is_too_long() {
        let receiver = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let sender = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        set(sender.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU, 1280).unwrap();
        assert_eq!(sender.send(&[1; 1233]).unwrap(), 1233, "cut, as usual");
        crate::net::set_dont_fragment(&sender).unwrap();
        let refusal = sender.send(&[1; 1233]).unwrap_err();
        assert_eq!(refusal.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(sender.send(&[1; 1232]).unwrap(), 1232);

        let v4 = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        crate::net::set_dont_fragment(&v4).unwrap();
        let mode = read(v4.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER).unwrap();
        assert_eq!(mode, libc::IP_PMTUDISC_PROBE);
        let (other, _) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert!(crate::net::set_dont_fragment(&other).is_err());
    }

    #[test]
    fn a_batch_begun_one_by_one_is_finished_without_repeating() {
        let (mut sender, mut receiver) = (socket(), socket());
        let route = Route {
            remote: receiver.socket.local_addr().unwrap(),
            local: None,
        };
        let mut half = batch(1);
        half.advance(12);
        sender.send(route, &mut half).unwrap();
        assert_eq!(count(&mut receiver, 8), 8);
    }
}
