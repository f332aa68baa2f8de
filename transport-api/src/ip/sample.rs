//! Packets for tests.

use std::net::IpAddr;

use super::bytes::set_u16;
use super::checksum::{Sum, checksum};
use super::protocol;

pub(crate) const CLIENT_V4: [u8; 4] = [192, 0, 2, 11];
pub(crate) const SERVER_V4: [u8; 4] = [198, 51, 100, 2];
pub(crate) const CLIENT_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(crate) const SERVER_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// An IPv4 packet; `fragment` is the word of flags and offset.
pub(crate) fn v4(protocol: u8, fragment: u16, id: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0, 0, 0];
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[64, protocol, 0, 0]);
    packet.extend_from_slice(&CLIENT_V4);
    packet.extend_from_slice(&SERVER_V4);
    packet.extend_from_slice(options);
    packet.extend_from_slice(payload);
    let total = packet.len() as u16;
    set_u16(&mut packet, 2, total);
    seal_v4(&mut packet);
    packet
}

/// An IPv6 packet whose payload begins with a header of kind `next`.
pub(crate) fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[next, 64]);
    packet.extend_from_slice(&CLIENT_V6);
    packet.extend_from_slice(&SERVER_V6);
    packet.extend_from_slice(payload);
    packet
}

/// Writes the header checksum anew.
pub(crate) fn seal_v4(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 15) * 4;
    set_u16(packet, 10, 0);
    let sum = checksum(&packet[..len]);
    set_u16(packet, 10, sum);
}

/// Writes the checksum of the transport anew. The packet has no extension headers.
pub(crate) fn seal_transport(packet: &mut [u8]) {
    let is_v4 = packet[0] >> 4 == 4;
    let (protocol, at, addresses) = if is_v4 {
        (packet[9], usize::from(packet[0] & 15) * 4, 12..20)
    } else {
        (packet[6], 40, 8..40)
    };
    let field = at + if protocol == protocol::UDP { 6 } else { 16 };
    set_u16(packet, field, 0);
    let sum = Sum::new().pseudo_header(&packet[addresses], protocol, (packet.len() - at) as u16);
    let checksum = sum.bytes(&packet[at..]).checksum();
    let checksum = if protocol == protocol::UDP && checksum == 0 {
        0xffff
    } else {
        checksum
    };
    set_u16(packet, field, checksum);
}

/// Whether the checksum of the transport is right.
pub(crate) fn is_sealed(packet: &[u8]) -> bool {
    let mut copy = packet.to_vec();
    seal_transport(&mut copy);
    copy == packet
}

/// A TCP packet with DF set.
pub(crate) fn tcp(is_v4: bool, id: u16, seq: u32, flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x1f, 0x90, 0xc0, 0x01];
    segment.extend_from_slice(&seq.to_be_bytes());
    segment.extend_from_slice(&[9, 8, 7, 6, ((20 + options.len()) << 2) as u8, flags]);
    segment.extend_from_slice(&[0xff, 0x00, 0, 0, 0, 0]);
    segment.extend_from_slice(options);
    segment.extend_from_slice(data);
    finished(is_v4, protocol::TCP, id, &segment)
}

/// A UDP packet with DF set.
pub(crate) fn udp(is_v4: bool, id: u16, ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    for word in [ports[0], ports[1], 8 + data.len() as u16, 0] {
        datagram.extend_from_slice(&word.to_be_bytes());
    }
    datagram.extend_from_slice(data);
    finished(is_v4, protocol::UDP, id, &datagram)
}

fn finished(is_v4: bool, protocol: u8, id: u16, transport: &[u8]) -> Vec<u8> {
    let mut packet = if is_v4 {
        v4(protocol, 0x4000, id, &[], transport)
    } else {
        v6(protocol, transport)
    };
    seal_transport(&mut packet);
    packet
}

/// An address from text.
pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
