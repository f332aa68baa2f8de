//! From packets to super-packets, by the rules of Linux's own (`tcp_gro_receive`, `inet_gro_receive`).
//!
//! What comes out is written to the device frame by frame. Cutting it again gives the packets that went in, byte for byte;
//! only the identification of IPv4 packets with DF set, which nobody may look at (RFC 6864 §4.1), counts upwards then.

use super::segment::{Key, Look, MOST, Segment, look};
use super::{CWR, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, TCP_FLAGS, VNET_HEADER, VnetHeader};
use crate::ip::bytes::set_u16;
use crate::ip::checksum::{Sum, checksum};
use crate::ip::{Version, protocol};

/// Flows that are merged at a time.
const FLOWS: usize = 8;
/// Segments of a super-packet.
const SEGMENTS: usize = 64;

/// Merges neighbouring packets of a flow. Packets of one flow keep their order; those of different flows may not.
#[derive(Debug)]
pub struct Coalescer {
    /// The first `open` hold packets, the oldest first; the others wait with their memory.
    flows: Vec<Flow>,
    open: usize,
    udp: bool,
    /// A frame with a packet that stays alone.
    alone: Vec<u8>,
}

impl Default for Coalescer {
    fn default() -> Self {
        Self::new()
    }
}

impl Coalescer {
    /// One that merges TCP. All its memory, half a megabyte, is taken here.
    pub fn new() -> Self {
        Self {
            flows: (0..FLOWS).map(|_| Flow::new()).collect(),
            open: 0,
            udp: false,
            alone: Vec::with_capacity(VNET_HEADER + MOST),
        }
    }

    /// Whether UDP is merged as well: the device must know `TUN_F_USO4` and `TUN_F_USO6`. To be said before the first packet.
    pub fn set_udp(&mut self, udp: bool) {
        self.udp = udp;
    }

    /// Takes a packet. Frames that are complete go to `out`, each for one write: header and packet. What is held back comes
    /// with later packets or [`Self::flush`].
    #[inline]
    pub fn push(&mut self, packet: &[u8], out: &mut impl FnMut(&[u8])) {
        match look(packet, self.udp) {
            Look::Data(segment) => return self.push_data(packet, &segment, out),
            Look::Lone(key) => {
                if let Some(at) = self.find(&key) {
                    self.emit(at, out);
                }
            }
            Look::Hidden => self.flush(out),
            Look::Other => {}
        }
        self.pass(packet, out);
    }

    /// Gives out all that is held back, the oldest flow first. To be called when no more packets are at hand.
    pub fn flush(&mut self, out: &mut impl FnMut(&[u8])) {
        while self.open > 0 {
            self.emit(0, out);
        }
    }

    fn push_data(&mut self, packet: &[u8], segment: &Segment<'_>, out: &mut impl FnMut(&[u8])) {
        if let Some(at) = self.find(&segment.key) {
            let fate = self
                .flows
                .get_mut(at)
                .map_or(Fate::Refused, |flow| flow.append(segment));
            match fate {
                Fate::Merged => return,
                Fate::Complete => return self.emit(at, out),
                Fate::Refused => self.emit(at, out),
                Fate::Damaged => {
                    self.emit(at, out);
                    return self.pass(packet, out);
                }
            }
        }
        if segment.ending() != 0 {
            return self.pass(packet, out);
        }
        if self.open == FLOWS {
            self.emit(0, out);
        }
        if let Some(flow) = self.flows.get_mut(self.open) {
            flow.start(packet, segment);
            self.open += 1;
        }
    }

    fn find(&self, key: &Key<'_>) -> Option<usize> {
        self.flows.iter().take(self.open).position(|flow| flow.is(key))
    }

    /// Gives out a flow, and moves its memory behind the open ones.
    fn emit(&mut self, at: usize, out: &mut impl FnMut(&[u8])) {
        let Some(open) = self.flows.get_mut(at..self.open) else {
            return;
        };
        if let Some(flow) = open.first_mut() {
            flow.finish();
            out(&flow.frame);
            open.rotate_left(1);
            self.open -= 1;
        }
    }

    /// Gives out a packet as it is.
    fn pass(&mut self, packet: &[u8], out: &mut impl FnMut(&[u8])) {
        self.alone.clear();
        self.alone.extend_from_slice(&[0; VNET_HEADER]);
        self.alone.extend_from_slice(packet);
        out(&self.alone);
    }
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is in, and others may follow.
    Merged,
    /// It is in, and nothing may follow.
    Complete,
    /// It begins anew.
    Refused,
    /// Its checksum is wrong: it is passed on for others to count.
    Damaged,
}

/// A super-packet that grows.
#[derive(Debug)]
struct Flow {
    /// Header and packet. Until [`Self::finish`] all fields but the flags are those of the first packet.
    frame: Vec<u8>,
    tag: u64,
    /// What is needed to read the first packet again.
    shape: Shape,
    /// Payload of each segment but the last.
    size: usize,
    segments: usize,
    next_seq: u32,
    next_id: u16,
    /// The first packet's checksum was seen to be right.
    first_is_intact: bool,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    version: Version,
    protocol: u8,
    /// Bytes of the IP header, and of the transport's.
    ip: usize,
    header: usize,
}

impl Flow {
    fn new() -> Self {
        Self {
            frame: Vec::with_capacity(VNET_HEADER + MOST),
            tag: 0,
            shape: Shape {
                version: Version::V4,
                protocol: 0,
                ip: 0,
                header: 0,
            },
            size: 0,
            segments: 0,
            next_seq: 0,
            next_id: 0,
            first_is_intact: false,
        }
    }

    #[inline]
    fn is(&self, key: &Key<'_>) -> bool {
        self.tag == key.tag && super::split::addresses(self.packet(), self.shape.version) == key.addresses
    }

    fn packet(&self) -> &[u8] {
        self.frame.get(VNET_HEADER..).unwrap_or_default()
    }

    fn start(&mut self, packet: &[u8], segment: &Segment<'_>) {
        self.frame.clear();
        self.frame.extend_from_slice(&[0; VNET_HEADER]);
        self.frame.extend_from_slice(packet);
        self.tag = segment.key.tag;
        self.shape = Shape {
            version: segment.version,
            protocol: segment.protocol,
            ip: segment.ip.len(),
            header: segment.header,
        };
        self.size = segment.data().len();
        self.segments = 1;
        self.next_seq = segment.seq().wrapping_add(self.size as u32);
        self.next_id = segment.id().wrapping_add(1);
        self.first_is_intact = false;
    }

    /// The first packet as it came, as long as it is alone; afterwards its headers only.
    fn first(&self) -> Segment<'_> {
        let (ip, transport) = self.packet().split_at_checked(self.shape.ip).unwrap_or_default();
        Segment {
            key: Key {
                tag: self.tag,
                addresses: super::split::addresses(ip, self.shape.version),
            },
            version: self.shape.version,
            protocol: self.shape.protocol,
            ip,
            transport,
            header: self.shape.header,
        }
    }

    fn append(&mut self, segment: &Segment<'_>) -> Fate {
        let data = segment.data();
        if !self.takes(segment) || !self.intact() {
            return Fate::Refused;
        }
        if !segment.is_intact() {
            return Fate::Damaged;
        }
        self.frame.extend_from_slice(data);
        self.segments += 1;
        self.next_seq = self.next_seq.wrapping_add(data.len() as u32);
        self.next_id = self.next_id.wrapping_add(1);
        let ending = segment.ending();
        if ending != 0
            && let Some(flags) = self.frame.get_mut(VNET_HEADER + self.shape.ip + TCP_FLAGS)
        {
            *flags |= ending;
        }
        if ending != 0 || data.len() < self.size || self.segments == SEGMENTS {
            return Fate::Complete;
        }
        Fate::Merged
    }

    /// It follows what is there, and there is room.
    fn takes(&self, segment: &Segment<'_>) -> bool {
        let data = segment.data().len();
        data <= self.size
            && self.packet().len() + data <= MOST
            && (segment.protocol != protocol::TCP || segment.seq() == self.next_seq)
            && (segment.is_atomic() || segment.id() == self.next_id)
            && segment.continues(&self.first())
    }

    fn intact(&mut self) -> bool {
        self.first_is_intact = self.first_is_intact || self.first().is_intact();
        self.first_is_intact
    }

    /// Makes the headers those of the whole. A packet that stayed alone stays as it came.
    fn finish(&mut self) {
        if self.segments < 2 {
            return;
        }
        let first = self.first();
        let field = first.checksum_field();
        let header = VnetHeader {
            needs_csum: true,
            gso_type: gso_type(&first),
            hdr_len: (self.shape.ip + self.shape.header) as u16,
            gso_size: self.size as u16,
            csum_start: self.shape.ip as u16,
            csum_offset: field as u16,
        };
        let len = first.transport.len() as u16;
        let pseudo = Sum::new().pseudo_header(first.key.addresses, self.shape.protocol, len);
        let Some((vnet, packet)) = self.frame.split_first_chunk_mut::<VNET_HEADER>() else {
            return;
        };
        *vnet = header.bytes();
        let Some((ip, transport)) = packet.split_at_mut_checked(self.shape.ip) else {
            return;
        };
        match self.shape.version {
            Version::V4 => {
                set_u16(ip, 2, ip.len() as u16 + len);
                set_u16(ip, 10, 0);
                set_u16(ip, 10, checksum(ip));
            }
            Version::V6 => set_u16(ip, 4, len),
        }
        if self.shape.protocol == protocol::UDP {
            set_u16(transport, 4, len);
        }
        set_u16(transport, field, pseudo.fold());
    }
}

fn gso_type(first: &Segment<'_>) -> u8 {
    let cwr = first
        .transport
        .get(TCP_FLAGS)
        .is_some_and(|flags| flags & CWR != 0);
    match (first.protocol, first.version) {
        (protocol::TCP, version) => {
            let tcp = if version == Version::V4 {
                GSO_TCPV4
            } else {
                GSO_TCPV6
            };
            tcp | if cwr { GSO_ECN } else { 0 }
        }
        _ => GSO_UDP_L4,
    }
}

#[cfg(test)]
mod tests;
