//! From a super-packet to whole segments, as Linux cuts them in `tcp_gso_segment` and `__udp_gso_segment`.

use super::{
    CWR, FIN, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, PSH, TCP_CHECKSUM, TCP_FLAGS,
    UDP_CHECKSUM, UDP_HEADER, VnetHeader,
};
use crate::ip::bytes::{set_u16, set_u32, u16_at, u32_at};
use crate::ip::checksum::Sum;
use crate::ip::extension::{V6_HEADER, chain};
use crate::ip::mss::{TCP_HEADER, header_len};
use crate::ip::packet::V4_HEADER;
use crate::ip::{Malformed, Version, protocol};

/// What a segment must be made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing: there is one, and it is the packet.
    Whole,
    Tcp,
    Udp,
}

/// A segment is larger than the path takes, and may not be cut smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// The segments of one frame, in order. Each is a complete IP packet with lengths and checksums of its own.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a [u8],
    version: Version,
    kind: Kind,
    transport_at: usize,
    /// Bytes of IP and transport headers, which every segment has; of a whole packet all.
    headers: usize,
    /// Payload of each segment but the last.
    size: usize,
    /// Payload that was given.
    at: usize,
    given: u16,
    left: usize,
    /// The IPv4 header but for length, identification and checksum.
    ip_sum: Sum,
    /// The pseudo-header but for the length.
    pseudo: Sum,
}

impl<'a> Segments<'a> {
    /// Reads what one `read` of the device gave: header and packet. A packet that is no super-packet and lacks its checksum
    /// gets it here; without that wish nothing is computed, and nothing of such a packet is checked.
    ///
    /// # Errors
    /// No packet behind the header, an unknown kind of super-packet, or one whose headers do not agree with it.
    pub fn new(frame: &'a mut [u8]) -> Result<Self, Malformed> {
        let (header, packet) = frame.split_first_chunk_mut().ok_or(Malformed)?;
        let header = VnetHeader::read(*header);
        if packet.is_empty() {
            return Err(Malformed);
        }
        if header.gso_type & !GSO_ECN == GSO_NONE {
            if header.needs_csum {
                complete(packet, header)?;
            }
            return Ok(Self::whole(packet));
        }
        Self::of_many(packet, header)
    }

    fn whole(packet: &'a [u8]) -> Self {
        Self {
            packet,
            version: Version::V4,
            kind: Kind::Whole,
            transport_at: 0,
            headers: packet.len(),
            size: 1,
            at: 0,
            given: 0,
            left: 1,
            ip_sum: Sum::new(),
            pseudo: Sum::new(),
        }
    }

    fn of_many(packet: &'a [u8], header: VnetHeader) -> Result<Self, Malformed> {
        let (version, next, transport_at) = network(packet)?;
        let kind = match (header.gso_type & !GSO_ECN, version, next) {
            (GSO_TCPV4, Version::V4, protocol::TCP) | (GSO_TCPV6, Version::V6, protocol::TCP) => Kind::Tcp,
            (GSO_UDP_L4, _, protocol::UDP) => Kind::Udp,
            _ => return Err(Malformed),
        };
        let transport = packet.get(transport_at..).ok_or(Malformed)?;
        // Not the header's word: when forwarding, it is that of the whole first packet.
        let (headers, field) = match kind {
            Kind::Tcp => (header_len(transport), TCP_CHECKSUM),
            Kind::Udp | Kind::Whole => (UDP_HEADER, UDP_CHECKSUM),
        };
        let least = if kind == Kind::Tcp { TCP_HEADER } else { UDP_HEADER };
        let payload = transport.len().checked_sub(headers).ok_or(Malformed)?;
        let size = usize::from(header.gso_size);
        let len = u16::try_from(transport.len()).map_err(|_| Malformed)?;
        let longest = transport_at + headers + size.min(payload);
        if headers < least || size == 0 || longest > 65_535 {
            return Err(Malformed);
        }
        let pseudo = if header.needs_csum {
            if usize::from(header.csum_start) != transport_at || usize::from(header.csum_offset) != field {
                return Err(Malformed);
            }
            // The sum that is there counts the length of the super-packet.
            Sum::new()
                .word(u16_at(transport, field).ok_or(Malformed)?)
                .without(len)
        } else {
            Sum::new().pseudo_header(addresses(packet, version), next, 0)
        };
        Ok(Self {
            packet,
            version,
            kind,
            transport_at,
            headers: transport_at + headers,
            size,
            at: 0,
            given: 0,
            left: payload.div_ceil(size).max(1),
            ip_sum: ip_sum(packet.get(..transport_at).unwrap_or_default()),
            pseudo,
        })
    }

    /// The packet as it was read, which tells the flow of all segments; of a super-packet length and checksums are its own.
    pub fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// How many segments are still to come.
    pub fn count(&self) -> usize {
        self.left
    }

    /// Length of the largest segment that is still to come, in bytes with its IP header; 0 when none is.
    pub fn largest(&self) -> usize {
        if self.left == 0 {
            return 0;
        }
        self.headers + self.size.min(self.packet.len() - self.headers - self.at)
    }

    /// Makes all segments that are still to come at most `max` bytes long, with their IP headers. TCP may be cut smaller, as
    /// its bytes are counted.
    ///
    /// # Errors
    /// They are larger, and are datagrams or a packet that is whole already, or not even a byte of payload would fit.
    pub fn resplit(&mut self, max: usize) -> Result<(), TooLarge> {
        if self.largest() <= max {
            return Ok(());
        }
        if self.kind != Kind::Tcp || max <= self.headers {
            return Err(TooLarge);
        }
        self.size = max - self.headers;
        self.left = (self.packet.len() - self.headers - self.at).div_ceil(self.size);
        Ok(())
    }

    /// Appends the next segment to `out`; `false` when there is none. The payload is copied once.
    #[inline]
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        let (headers, payload) = self.packet.split_at_checked(self.headers).unwrap_or_default();
        let rest = payload.get(self.at..).unwrap_or_default();
        let data = rest.get(..self.size).unwrap_or(rest);
        let start = out.len();
        out.reserve(headers.len() + data.len());
        out.extend_from_slice(headers);
        out.extend_from_slice(data);
        if self.kind != Kind::Whole {
            self.finish(out.get_mut(start..).unwrap_or_default());
        }
        self.at += data.len();
        self.given = self.given.wrapping_add(1);
        true
    }

    /// Gives a segment what is its own.
    #[inline]
    fn finish(&self, segment: &mut [u8]) {
        let total = segment.len() as u16;
        match self.version {
            Version::V4 => {
                let id = u16_at(segment, 4).unwrap_or_default().wrapping_add(self.given);
                set_u16(segment, 2, total);
                set_u16(segment, 4, id);
                set_u16(segment, 10, self.ip_sum.word(total).word(id).checksum());
            }
            Version::V6 => set_u16(segment, 4, total - V6_HEADER as u16),
        }
        let transport = segment.get_mut(self.transport_at..).unwrap_or_default();
        let len = transport.len() as u16;
        let field = match self.kind {
            Kind::Tcp => {
                self.finish_tcp(transport);
                TCP_CHECKSUM
            }
            Kind::Udp | Kind::Whole => {
                set_u16(transport, 4, len);
                UDP_CHECKSUM
            }
        };
        set_u16(transport, field, 0);
        let checksum = self.pseudo.word(len).bytes(transport).checksum();
        set_u16(transport, field, said(checksum, field));
    }

    #[inline]
    fn finish_tcp(&self, tcp: &mut [u8]) {
        let seq = u32_at(tcp, 4).unwrap_or_default();
        set_u32(tcp, 4, seq.wrapping_add(self.at as u32));
        if let Some(flags) = tcp.get_mut(TCP_FLAGS) {
            if self.left > 0 {
                *flags &= !(FIN | PSH);
            }
            if self.at > 0 {
                *flags &= !CWR;
            }
        }
    }
}

/// Version, protocol and where it begins.
fn network(packet: &[u8]) -> Result<(Version, u8, usize), Malformed> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => {
            let fixed = packet.first_chunk::<V4_HEADER>().ok_or(Malformed)?;
            let header_len = usize::from(fixed[0] & 0x0f) * 4;
            let is_fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0;
            if header_len < V4_HEADER || is_fragment {
                return Err(Malformed);
            }
            Ok((Version::V4, fixed[9], header_len))
        }
        Some(6) => {
            packet.first_chunk::<V6_HEADER>().ok_or(Malformed)?;
            let chain = chain(packet)?;
            if chain.piece != Default::default() {
                return Err(Malformed);
            }
            Ok((Version::V6, chain.protocol, chain.end))
        }
        _ => Err(Malformed),
    }
}

pub(super) fn addresses(packet: &[u8], version: Version) -> &[u8] {
    let range = match version {
        Version::V4 => 12..20,
        Version::V6 => 8..40,
    };
    packet.get(range).unwrap_or_default()
}

/// The sum of an IPv4 header without the fields that segments have of their own.
fn ip_sum(header: &[u8]) -> Sum {
    let own = [2, 4, 10].map(|at| u16_at(header, at).unwrap_or_default());
    own.into_iter().fold(Sum::new().bytes(header), Sum::without)
}

/// Completes the checksum of a packet whose field holds the sum of the pseudo-header.
fn complete(packet: &mut [u8], header: VnetHeader) -> Result<(), Malformed> {
    let field = usize::from(header.csum_offset);
    let transport = packet
        .get_mut(usize::from(header.csum_start)..)
        .ok_or(Malformed)?;
    u16_at(transport, field).ok_or(Malformed)?;
    let checksum = Sum::new().bytes(transport).checksum();
    set_u16(transport, field, said(checksum, field));
    Ok(())
}

/// In UDP zero says that there is none, so a checksum of zero is said as its other form (RFC 768).
#[inline]
fn said(checksum: u16, field: usize) -> u16 {
    if checksum == 0 && field == UDP_CHECKSUM {
        0xffff
    } else {
        checksum
    }
}

#[cfg(test)]
mod tests;
