//! One whole IP packet, read without copying.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::AddressKind;
use super::bytes::{set_u16, u16_at, u32_at};
use super::checksum::{Sum, update16};
use super::extension::{Piece, V6_HEADER, chain};
use super::{Malformed, protocol};

/// Bytes of an IPv4 header without options.
pub(crate) const V4_HEADER: usize = 20;

/// Version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// A packet whose lengths agree with its bytes: exactly one, from the version nibble to the last byte.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    version: Version,
    protocol: u8,
    /// Where the transport's header begins.
    transport_at: usize,
    piece: Piece,
}

impl<'a> Packet<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// A version that is neither 4 nor 6, lengths that are not those of `bytes`, a wrong IPv4 header checksum, a chain of
    /// IPv6 extension headers that is cut, out of order or longer than 8, or a fragment that ends beyond 65,535 bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => Self::parse_v4(bytes),
            Some(6) => Self::parse_v6(bytes),
            _ => Err(Malformed),
        }
    }

    #[inline]
    fn parse_v4(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fixed = bytes.first_chunk::<V4_HEADER>().ok_or(Malformed)?;
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        let header = bytes.get(..header_len).ok_or(Malformed)?;
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if header_len < V4_HEADER || total != bytes.len() || Sum::new().bytes(header).fold() != 0xffff {
            return Err(Malformed);
        }
        let field = u16::from_be_bytes([fixed[6], fixed[7]]);
        let piece = Piece {
            offset: field & 0x1fff,
            more: field & 0x2000 != 0,
        };
        Self {
            bytes,
            version: Version::V4,
            protocol: fixed[9],
            transport_at: header_len,
            piece,
        }
        .within_reach()
    }

    #[inline]
    fn parse_v6(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fixed = bytes.first_chunk::<V6_HEADER>().ok_or(Malformed)?;
        let payload = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        if V6_HEADER + payload != bytes.len() {
            return Err(Malformed);
        }
        let chain = chain(bytes)?;
        Self {
            bytes,
            version: Version::V6,
            protocol: chain.protocol,
            transport_at: chain.end,
            piece: chain.piece,
        }
        .within_reach()
    }

    /// A fragment whose end no packet can have is refused, so that nobody downstream has to count beyond 16 bits.
    #[inline]
    fn within_reach(self) -> Result<Self, Malformed> {
        let payload = self.bytes.len() - self.transport_at;
        if usize::from(self.piece.offset) * 8 + payload > 65_535 {
            return Err(Malformed);
        }
        Ok(self)
    }

    /// All its bytes.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes it has, at least 20.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "no packet is empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Version of its header.
    #[inline]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Who sent it, as it says.
    #[inline]
    pub fn source(&self) -> IpAddr {
        match self.version {
            Version::V4 => v4_at(self.bytes, 12),
            Version::V6 => v6_at(self.bytes, 8),
        }
    }

    /// Where it goes.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        match self.version {
            Version::V4 => v4_at(self.bytes, 16),
            Version::V6 => v6_at(self.bytes, 24),
        }
    }

    /// Source and destination as they stand in the packet: 8 or 32 bytes.
    #[inline]
    pub fn addresses(&self) -> &'a [u8] {
        let range = match self.version {
            Version::V4 => 12..20,
            Version::V6 => 8..40,
        };
        self.bytes.get(range).unwrap_or_default()
    }

    /// What its source stands for.
    pub fn source_kind(&self) -> AddressKind {
        AddressKind::of(self.source())
    }

    /// What its destination stands for.
    pub fn destination_kind(&self) -> AddressKind {
        AddressKind::of(self.destination())
    }

    /// Protocol behind all extension headers (RFC 9484 §4.8). In a fragment that is not the first it is what the fragment
    /// header names, behind which other extension headers may have been.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Time to live or hop limit.
    #[inline]
    pub fn ttl(&self) -> u8 {
        let at = match self.version {
            Version::V4 => 8,
            Version::V6 => 7,
        };
        self.bytes.get(at).copied().unwrap_or_default()
    }

    /// Routers may not cut it: DF of IPv4, and always for IPv6.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.version == Version::V6 || self.bytes.get(6).is_some_and(|flags| flags & 0x40 != 0)
    }

    /// It is a piece of a packet. A lone piece that is the whole (RFC 6946) does not count.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.piece != Piece::default()
    }

    /// Where this fragment's data begins in that of the whole packet, in bytes.
    #[inline]
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.piece.offset) * 8
    }

    /// The transport's header and payload, or as much of them as a first fragment holds. `None` in other fragments.
    #[inline]
    pub fn transport(&self) -> Option<&'a [u8]> {
        if self.piece.offset > 0 {
            return None;
        }
        self.bytes.get(self.transport_at..)
    }

    /// Bytes before the transport's header: the IP header with its options or extension headers.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.transport_at
    }

    /// Type of service or traffic class: DSCP and ECN.
    #[inline]
    fn traffic_class(&self) -> u8 {
        match (self.version, self.bytes) {
            (Version::V4, [_, class, ..]) => *class,
            (Version::V6, [high, low, ..]) => high << 4 | low >> 4,
            _ => 0,
        }
    }

    /// Differentiated services code point (RFC 2474), 6 bits.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.traffic_class() >> 2
    }

    /// Explicit congestion notification (RFC 3168), 2 bits.
    #[inline]
    pub fn ecn(&self) -> u8 {
        self.traffic_class() & 3
    }

    /// It opens a TCP connection, or answers such a packet: its MSS may have to be lowered ([`super::mss::clamp`]).
    #[inline]
    pub fn is_tcp_syn(&self) -> bool {
        self.protocol == protocol::TCP
            && self
                .transport()
                .and_then(|tcp| tcp.get(13))
                .is_some_and(|flags| flags & 0x02 != 0)
    }

    /// A hash of the flow, equal for all packets of one direction of it: of addresses, protocol and ports, or of the
    /// identifier of an ICMP echo. Fragments count by addresses alone, the first as well: else it would overtake the others.
    /// Who does not know `seed` cannot choose flows that collide on purpose more than by chance.
    #[inline]
    pub fn flow_hash(&self, seed: u64) -> u32 {
        let mut hash = seed ^ SPREAD;
        let (words, _) = self.addresses().as_chunks::<8>();
        for word in words {
            hash = mix(hash ^ u64::from_le_bytes(*word));
        }
        let hash = mix(hash ^ self.flow_key()) ^ seed;
        (hash ^ hash >> 32) as u32
    }

    #[inline]
    fn flow_key(&self) -> u64 {
        if self.is_fragment() {
            return 0;
        }
        let transport = self.transport().unwrap_or_default();
        let tells_apart = match self.protocol {
            // TCP, UDP, DCCP, SCTP, UDP-Lite: ports. ESP: the index of the association.
            protocol::TCP | protocol::UDP | 33 | 50 | 132 | 136 => u32_at(transport, 0),
            protocol::ICMP | protocol::ICMPV6 if matches!(transport.first(), Some(0 | 8 | 128 | 129)) => {
                u16_at(transport, 4).map(u32::from)
            }
            _ => None,
        };
        u64::from(self.protocol) << 32 | u64::from(tells_apart.unwrap_or_default())
    }
}

/// An odd number of 64 bits without a pattern (the golden ratio's fraction).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn mix(value: u64) -> u64 {
    let product = u128::from(value) * u128::from(SPREAD);
    (product as u64) ^ (product >> 64) as u64
}

#[inline]
pub(crate) fn v4_at(bytes: &[u8], at: usize) -> IpAddr {
    let octets = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    Ipv4Addr::from(octets.copied().unwrap_or_default()).into()
}

#[inline]
pub(crate) fn v6_at(bytes: &[u8], at: usize) -> IpAddr {
    let octets = bytes.get(at..).and_then(<[u8]>::first_chunk::<16>);
    Ipv6Addr::from(octets.copied().unwrap_or_default()).into()
}

/// The packet has travelled far enough: it is dropped, and its sender told ([`super::icmp::Problem::TimeExceeded`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

/// Takes one off the hop limit of a packet that is forwarded, which [`Packet::parse`] has accepted before. An IPv4 checksum
/// follows by RFC 1624.
///
/// # Errors
/// The limit is 1 or 0 (RFC 1812 §5.3.1, RFC 8200 §3), or this is no IP header; then nothing is changed.
#[inline]
pub fn decrement_ttl(packet: &mut [u8]) -> Result<(), Expired> {
    let (at, version) = match packet.first().map(|byte| byte >> 4) {
        Some(4) => (8, Version::V4),
        Some(6) => (7, Version::V6),
        _ => return Err(Expired),
    };
    let ttl = packet.get_mut(at).filter(|ttl| **ttl > 1).ok_or(Expired)?;
    *ttl -= 1;
    if version == Version::V4 {
        // The field shares its word with the protocol, which falls out of the difference.
        let new = u16::from(*ttl) << 8;
        if let Some(checksum) = u16_at(packet, 10) {
            set_u16(packet, 10, update16(checksum, new + 0x100, new));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
