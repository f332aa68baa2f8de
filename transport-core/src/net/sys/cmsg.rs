//! Socket addresses and control messages as the kernel lays them out.
//!
//! Both are built and read inside bounds-checked byte arrays; the two `unsafe` functions copy one plain C struct into or
//! out of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::buffer::Ecn;
use crate::net::meta::normal;

/// C structs for which every bit pattern is a value.
///
/// # Safety
/// Implement it only for such types.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: all of these consist of integers (and, in the headers, raw pointers), for which every bit pattern is valid.
unsafe impl Plain for libc::cmsghdr {}
// SAFETY: as above.
unsafe impl Plain for libc::in_pktinfo {}
// SAFETY: as above.
unsafe impl Plain for libc::in6_pktinfo {}
// SAFETY: as above.
unsafe impl Plain for libc::sockaddr_in {}
// SAFETY: as above.
unsafe impl Plain for libc::sockaddr_in6 {}
// SAFETY: as above.
unsafe impl Plain for libc::msghdr {}
// SAFETY: as above.
unsafe impl Plain for libc::mmsghdr {}
// SAFETY: as above.
unsafe impl Plain for libc::iovec {}
// SAFETY: as above.
unsafe impl Plain for libc::c_int {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u8 {}

/// A `T` of zeros.
pub(super) fn zero<T: Plain>() -> T {
    // SAFETY: `Plain` says that zeros are a value of `T`.
    unsafe { std::mem::zeroed() }
}

fn put<T: Plain>(bytes: &mut [u8], at: usize, value: T) -> Option<()> {
    let place = bytes.get_mut(at..at.checked_add(size_of::<T>())?)?;
    // SAFETY: `place` is exactly `size_of::<T>()` writable bytes; the write needs no alignment.
    unsafe { place.as_mut_ptr().cast::<T>().write_unaligned(value) };
    Some(())
}

fn get<T: Plain>(bytes: &[u8], at: usize) -> Option<T> {
    let place = bytes.get(at..at.checked_add(size_of::<T>())?)?;
    // SAFETY: `place` is exactly `size_of::<T>()` initialised bytes, any of which make a `T`; no alignment is needed.
    Some(unsafe { place.as_ptr().cast::<T>().read_unaligned() })
}

/// Room for a socket address of either family.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Address {
    bytes: [u8; size_of::<libc::sockaddr_in6>()],
    length: usize,
}

impl Address {
    /// Room for the kernel to write into.
    pub(super) const fn empty() -> Self {
        const ROOM: usize = size_of::<libc::sockaddr_in6>();
        Self {
            bytes: [0; ROOM],
            length: ROOM,
        }
    }

    /// `address` for a socket of the family `ipv6`: on such a socket IPv4 addresses travel mapped.
    pub(super) fn new(address: SocketAddr, ipv6: bool) -> Self {
        let mut made = Self::empty();
        match address {
            SocketAddr::V4(v4) if ipv6 => {
                made.put_v6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0));
            }
            SocketAddr::V4(v4) => made.put_v4(v4),
            SocketAddr::V6(v6) => made.put_v6(v6),
        }
        made
    }

    fn put_v4(&mut self, address: SocketAddrV4) {
        let mut raw: libc::sockaddr_in = zero();
        raw.sin_family = libc::AF_INET as libc::sa_family_t;
        raw.sin_port = address.port().to_be();
        raw.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
        put(&mut self.bytes, 0, raw);
        self.length = size_of_val(&raw);
    }

    fn put_v6(&mut self, address: SocketAddrV6) {
        let mut raw: libc::sockaddr_in6 = zero();
        raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        raw.sin6_port = address.port().to_be();
        raw.sin6_flowinfo = address.flowinfo();
        raw.sin6_scope_id = address.scope_id();
        raw.sin6_addr.s6_addr = address.ip().octets();
        put(&mut self.bytes, 0, raw);
        self.length = size_of_val(&raw);
    }

    pub(super) const fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    pub(super) const fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    pub(super) const fn length(&self) -> libc::socklen_t {
        self.length as libc::socklen_t
    }

    /// What the kernel wrote, IPv4 never mapped; `None` for other families.
    pub(super) fn read(&self) -> Option<SocketAddr> {
        match libc::c_int::from(get::<u16>(&self.bytes, 0)?) {
            libc::AF_INET => {
                let raw: libc::sockaddr_in = get(&self.bytes, 0)?;
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
            }
            libc::AF_INET6 => {
                let raw: libc::sockaddr_in6 = get(&self.bytes, 0)?;
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                // The flow label is the sender's business; left in, it would make one peer look like several.
                Some(normal(
                    SocketAddrV6::new(ip, u16::from_be(raw.sin6_port), 0, raw.sin6_scope_id).into(),
                ))
            }
            _ => None,
        }
    }
}

const fn align(length: usize) -> usize {
    length.next_multiple_of(size_of::<usize>())
}

const HEAD: usize = align(size_of::<libc::cmsghdr>());

/// Control messages of one datagram, to be sent or as received.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl Control {
    /// Bytes for an address of each family and three numbers.
    pub(super) const ROOM: usize = 160;

    pub(super) const fn empty() -> Self {
        Self {
            bytes: [0; Self::ROOM],
            length: 0,
        }
    }

    pub(super) const fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    pub(super) const fn length(&self) -> usize {
        self.length
    }

    fn push<T: Plain>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        let mut head: libc::cmsghdr = zero();
        head.cmsg_len = (HEAD + size_of::<T>()) as _;
        head.cmsg_level = level;
        head.cmsg_type = kind;
        let end = self.length + HEAD + align(size_of::<T>());
        if end <= self.bytes.len() {
            put(&mut self.bytes, self.length, head);
            put(&mut self.bytes, self.length + HEAD, value);
            self.length = end;
        }
    }

    /// The datagram shall leave from `local`, by the interface of this number; 0: by the one the routing table names.
    pub(super) fn push_source(&mut self, local: IpAddr, interface: u32) {
        match local {
            IpAddr::V4(ip) => {
                let mut info: libc::in_pktinfo = zero();
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(ip.octets());
                info.ipi_ifindex = interface as _;
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            IpAddr::V6(ip) => {
                let mut info: libc::in6_pktinfo = zero();
                info.ipi6_addr.s6_addr = ip.octets();
                info.ipi6_ifindex = interface as _;
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
    }

    /// The kernel shall cut the bytes every `size` bytes.
    pub(super) fn push_segment_size(&mut self, size: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, size);
    }

    /// The datagram shall carry this codepoint to an address of the family `ipv4`.
    pub(super) fn push_ecn(&mut self, ecn: Ecn, ipv4: bool) {
        let (level, kind) = if ipv4 {
            (libc::IPPROTO_IP, libc::IP_TOS)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
        };
        self.push(level, kind, libc::c_int::from(ecn as u8));
    }

    /// What the kernel wrote into the first `length` bytes.
    #[allow(clippy::unnecessary_cast, reason = "the length is 32 bits wide with musl")]
    pub(super) fn read(&self, length: usize) -> Received {
        let mut received = Received::default();
        let bytes = self.bytes.get(..length.min(Self::ROOM)).unwrap_or_default();
        let mut at = 0;
        while let Some(head) = get::<libc::cmsghdr>(bytes, at) {
            received.take(head.cmsg_level, head.cmsg_type, bytes, at + HEAD);
            match align(head.cmsg_len as usize) {
                step if step >= HEAD => at += step,
                _ => break,
            }
        }
        received
    }
}

/// What the control messages of a received datagram say.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Our address it was sent to.
    pub(super) local: Option<IpAddr>,
    /// The codepoint of its IP header.
    pub(super) ecn: Option<Ecn>,
    /// Bytes of each datagram in the buffer but the last; absent when there is one datagram.
    pub(super) stride: Option<usize>,
}

impl Received {
    fn take(&mut self, level: libc::c_int, kind: libc::c_int, bytes: &[u8], at: usize) {
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info: Option<libc::in_pktinfo> = get(bytes, at);
                self.local = info.map(|info| Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info: Option<libc::in6_pktinfo> = get(bytes, at);
                self.local = info.map(|info| IpAddr::from(info.ipi6_addr.s6_addr).to_canonical());
            }
            // One byte when received, an integer when sent (ip(7)).
            (libc::IPPROTO_IP, libc::IP_TOS) => self.ecn = get::<u8>(bytes, at).map(Ecn::from_bits),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                let class: Option<libc::c_int> = get(bytes, at);
                self.ecn = class.map(|class| Ecn::from_bits(class as u8));
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size: Option<libc::c_int> = get(bytes, at);
                self.stride = size
                    .and_then(|size| usize::try_from(size).ok())
                    .filter(|size| *size > 0);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for (text, ipv6) in [
            ("192.0.2.7:443", false),
            ("192.0.2.7:443", true),
            ("[2001:db8::1]:9", true),
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::new(address, ipv6).read(), Some(address));
        }
        let scoped = SocketAddr::from(SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, 3));
        assert_eq!(Address::new(scoped, true).read(), Some(scoped));
        assert_eq!(Address::empty().read(), None);
    }

    #[test]
    fn control_messages_round_trip() {
        for ip in ["192.0.2.7", "2001:db8::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let mut control = Control::empty();
            control.push_source(ip, 0);
            control.push(libc::SOL_UDP, libc::UDP_GRO, 1200 as libc::c_int);
            control.push_ecn(Ecn::Ce, false);
            let length = control.length();
            assert_eq!(
                control.read(length),
                Received {
                    local: Some(ip),
                    ecn: Some(Ecn::Ce),
                    stride: Some(1200)
                }
            );
            assert_eq!(control.read(0), Received::default());
        }
    }

    #[test]
    fn broken_control_messages_end_the_walk() {
        arbtest::arbtest(|u| {
            let mut control = Control::empty();
            u.fill_buffer(&mut control.bytes)?;
            let _ = control.read(u.int_in_range(0..=200)?);
            let zero_length = Control::empty();
            assert_eq!(zero_length.read(128), Received::default());
            Ok(())
        });
    }
}
