//! Super-packets: what a TUN device with `IFF_VNET_HDR` reads and writes in one call, up to 64 KiB of one flow.
//!
//! Each frame begins with a `virtio_net_hdr` (virtio 1.2 §5.1.6) of ten bytes in the machine's byte order. Bytes in, bytes
//! out, no I/O.
#![forbid(unsafe_code)]

pub mod coalesce;
mod segment;
pub mod split;

pub use coalesce::Coalescer;
pub use split::{Segments, TooLarge};

/// Bytes of the header before each packet.
pub const VNET_HEADER: usize = 10;

/// The transport's checksum is to be completed: its field holds the sum of the pseudo-header.
const NEEDS_CSUM: u8 = 1;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// The first segment has CWR set (RFC 3168 §6.1.2).
const GSO_ECN: u8 = 0x80;

/// Where the checksum stands in a TCP header, and in a UDP header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
const UDP_HEADER: usize = 8;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;
/// Where the flags stand in a TCP header.
const TCP_FLAGS: usize = 13;

/// The header of a frame. Its flag "data is valid" asks nothing of anybody and is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct VnetHeader {
    needs_csum: bool,
    gso_type: u8,
    /// Bytes of all headers. The kernel's figure may be that of more; it is written, not read.
    hdr_len: u16,
    /// Payload of each segment but the last.
    gso_size: u16,
    /// Where the transport's header begins.
    csum_start: u16,
    /// Where the checksum stands in it.
    csum_offset: u16,
}

impl VnetHeader {
    fn read(bytes: [u8; VNET_HEADER]) -> Self {
        let [flags, gso_type, a, b, c, d, e, f, g, h] = bytes;
        let [hdr_len, gso_size, csum_start, csum_offset] =
            [[a, b], [c, d], [e, f], [g, h]].map(u16::from_ne_bytes);
        Self {
            needs_csum: flags & NEEDS_CSUM != 0,
            gso_type,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
        }
    }

    fn bytes(self) -> [u8; VNET_HEADER] {
        let flags = if self.needs_csum { NEEDS_CSUM } else { 0 };
        let words = [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset];
        let [[a, b], [c, d], [e, f], [g, h]] = words.map(u16::to_ne_bytes);
        [flags, self.gso_type, a, b, c, d, e, f, g, h]
    }
}
