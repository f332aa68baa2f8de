//! What a packet is to whoever merges packets.

use super::{CWR, FIN, PSH, TCP_CHECKSUM, TCP_FLAGS, UDP_CHECKSUM, UDP_HEADER};
use crate::ip::bytes::{u16_at, u32_at};
use crate::ip::checksum::Sum;
use crate::ip::extension::V6_HEADER;
use crate::ip::mss::{TCP_HEADER, header_len};
use crate::ip::packet::V4_HEADER;
use crate::ip::{Version, protocol};

const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
/// More would not fit the length field of IPv4.
pub(super) const MOST: usize = 65_535;

/// What a packet is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look<'a> {
    /// Neither TCP nor UDP.
    Other,
    /// It may belong to any flow: a fragment, or a header that hides the ports.
    Hidden,
    /// It belongs to that flow, and stays alone.
    Lone(Key<'a>),
    /// Data that may be merged with its neighbours.
    Data(Segment<'a>),
}

/// Names a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    /// Version, protocol and ports.
    pub(super) tag: u64,
    /// Source and destination as in the header.
    pub(super) addresses: &'a [u8],
}

/// A whole TCP segment or UDP datagram with payload, under a plain IP header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) key: Key<'a>,
    pub(super) version: Version,
    pub(super) protocol: u8,
    pub(super) ip: &'a [u8],
    pub(super) transport: &'a [u8],
    /// Bytes of the transport's header.
    pub(super) header: usize,
}

impl<'a> Segment<'a> {
    pub(super) fn data(&self) -> &'a [u8] {
        self.transport.get(self.header..).unwrap_or_default()
    }

    pub(super) fn seq(&self) -> u32 {
        u32_at(self.transport, 4).unwrap_or_default()
    }

    /// Identification of IPv4; nothing for IPv6.
    pub(super) fn id(&self) -> u16 {
        match self.version {
            Version::V4 => u16_at(self.ip, 4).unwrap_or_default(),
            Version::V6 => 0,
        }
    }

    /// Nobody looks at the identification (RFC 6864 §4.1).
    pub(super) fn is_atomic(&self) -> bool {
        self.version == Version::V6 || self.ip.get(6).is_some_and(|flags| flags & 0x40 != 0)
    }

    /// FIN and PSH, which only the last of merged segments may have.
    pub(super) fn ending(&self) -> u8 {
        match self.protocol {
            protocol::TCP => self
                .transport
                .get(TCP_FLAGS)
                .map_or(0, |flags| flags & (FIN | PSH)),
            _ => 0,
        }
    }

    /// Where the checksum stands in the transport's header.
    pub(super) fn checksum_field(&self) -> usize {
        if self.protocol == protocol::TCP {
            TCP_CHECKSUM
        } else {
            UDP_CHECKSUM
        }
    }

    /// Its checksum is right, and in the form in which it would be computed: what is merged and cut again is the same.
    pub(super) fn is_intact(&self) -> bool {
        let len = self.transport.len() as u16;
        let sum = Sum::new().pseudo_header(self.key.addresses, self.protocol, len);
        sum.bytes(self.transport).fold() == 0xffff
            && (self.protocol != protocol::TCP || u16_at(self.transport, TCP_CHECKSUM) != Some(0xffff))
    }

    /// Its headers are those of `first` but for what segments have of their own: lengths, identification, sequence number,
    /// checksums, FIN and PSH. CWR is for first segments alone.
    pub(super) fn continues(&self, first: &Self) -> bool {
        self.same_network(first) && (self.protocol != protocol::TCP || self.same_tcp(first))
    }

    fn same_network(&self, first: &Self) -> bool {
        let same = |range: std::ops::Range<usize>| self.ip.get(range.clone()) == first.ip.get(range);
        match self.version {
            // Type of service; flags; TTL.
            Version::V4 => same(1..2) && same(6..9),
            // Traffic class and flow label; hop limit.
            Version::V6 => same(0..4) && same(7..8),
        }
    }

    fn same_tcp(&self, first: &Self) -> bool {
        let same =
            |range: std::ops::Range<usize>| self.transport.get(range.clone()) == first.transport.get(range);
        let flags = |tcp: &[u8]| tcp.get(TCP_FLAGS).copied().unwrap_or_default();
        let (mine, its) = (flags(self.transport), flags(first.transport));
        // Acknowledgement and length of the header; window; urgent pointer and options.
        self.header == first.header
            && same(8..TCP_FLAGS)
            && same(14..16)
            && same(18..self.header)
            && mine & !(FIN | PSH) == its & !(FIN | PSH | CWR)
    }
}

/// Looks at a packet. UDP counts as [`Look::Other`] unless `udp`.
#[inline]
pub(super) fn look(packet: &[u8], udp: bool) -> Look<'_> {
    let plain = match packet.first().map(|byte| byte >> 4) {
        Some(4) => plain_v4(packet),
        Some(6) => plain_v6(packet),
        _ => None,
    };
    let Some((version, protocol, ip, transport)) = plain else {
        return Look::Hidden;
    };
    match protocol {
        protocol::TCP => tcp(version, ip, transport).unwrap_or(Look::Hidden),
        protocol::UDP if udp => datagram(version, ip, transport).unwrap_or(Look::Hidden),
        _ => Look::Other,
    }
}

type Plain<'a> = (Version, u8, &'a [u8], &'a [u8]);

/// Header and payload of an IPv4 packet without options that is whole and intact.
fn plain_v4(packet: &[u8]) -> Option<Plain<'_>> {
    let fixed = packet.first_chunk::<V4_HEADER>()?;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let is_fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0;
    if fixed[0] != 0x45 || total != packet.len() || is_fragment || Sum::new().bytes(fixed).fold() != 0xffff {
        return None;
    }
    // A checksum of -0 would be cut again as +0.
    let canonical = [fixed[10], fixed[11]] != [0xff; 2];
    let (ip, transport) = packet.split_at_checked(V4_HEADER)?;
    canonical.then_some((Version::V4, fixed[9], ip, transport))
}

/// Header and payload of an IPv6 packet. Extension headers are protocols of their own here, but for one: they hide.
fn plain_v6(packet: &[u8]) -> Option<Plain<'_>> {
    let fixed = packet.first_chunk::<V6_HEADER>()?;
    let payload = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let hides = matches!(fixed[6], 0 | 43 | 44 | 51 | 60);
    if V6_HEADER + payload != packet.len() || packet.len() > MOST || hides {
        return None;
    }
    let (ip, transport) = packet.split_at_checked(V6_HEADER)?;
    Some((Version::V6, fixed[6], ip, transport))
}

fn key<'a>(version: Version, protocol: u8, ip: &'a [u8], transport: &[u8]) -> Option<Key<'a>> {
    let (addresses, tag) = match version {
        Version::V4 => (ip.get(12..20)?, 4 << 8),
        Version::V6 => (ip.get(8..40)?, 6 << 8),
    };
    let tag = (tag | u64::from(protocol)) << 32 | u64::from(u32_at(transport, 0)?);
    Some(Key { tag, addresses })
}

fn tcp<'a>(version: Version, ip: &'a [u8], transport: &'a [u8]) -> Option<Look<'a>> {
    let key = key(version, protocol::TCP, ip, transport)?;
    let header = header_len(transport);
    let flags = *transport.get(TCP_FLAGS)?;
    let is_data = flags & !(FIN | PSH | CWR | ECE) == ACK && (TCP_HEADER..transport.len()).contains(&header);
    let segment = Segment {
        key,
        version,
        protocol: protocol::TCP,
        ip,
        transport,
        header,
    };
    Some(if is_data {
        Look::Data(segment)
    } else {
        Look::Lone(key)
    })
}

fn datagram<'a>(version: Version, ip: &'a [u8], transport: &'a [u8]) -> Option<Look<'a>> {
    let key = key(version, protocol::UDP, ip, transport)?;
    let (len, checksum) = (u16_at(transport, 4)?, u16_at(transport, UDP_CHECKSUM)?);
    // Without a checksum it would get one.
    let is_data = usize::from(len) == transport.len() && transport.len() > UDP_HEADER && checksum != 0;
    let segment = Segment {
        key,
        version,
        protocol: protocol::UDP,
        ip,
        transport,
        header: UDP_HEADER,
    };
    Some(if is_data {
        Look::Data(segment)
    } else {
        Look::Lone(key)
    })
}
