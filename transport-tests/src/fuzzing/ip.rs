//! What tunnels of IP packets meet: packets of strangers, and frames of a TUN device.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::Arbitrary;
use transport_api::ip::checksum::{Sum, checksum};
use transport_api::ip::icmp::{self, Problem};
use transport_api::ip::{Packet, Version, decrement_ttl, fragment, mss, protocol};
use transport_api::tun::offload::{Coalescer, Segments, VNET_HEADER};

use super::decode;

const PROBLEMS: [Problem; 6] = [
    Problem::TooBig { mtu: 1280 },
    Problem::NoRoute,
    Problem::AddressUnreachable,
    Problem::Prohibited,
    Problem::SourcePolicy,
    Problem::TimeExceeded,
];

/// Bytes as they are and as a packet whose lengths and checksum are right: what is read can be forwarded, narrowed and
/// answered.
pub fn ip_packets(data: &[u8]) {
    for bytes in [data.to_vec(), repaired(data)] {
        let mut touched = bytes.clone();
        let hop = decrement_ttl(&mut touched);
        mss::clamp(&mut touched, 1280);
        let Ok(packet) = Packet::parse(&bytes) else {
            continue;
        };
        let after = Packet::parse(&touched).expect("still a packet");
        assert_eq!(after.ttl(), packet.ttl() - u8::from(hop.is_ok()));
        assert_eq!(after.flow_hash(1), packet.flow_hash(1));
        assert_eq!(transport_sum(&after), transport_sum(&packet));
        assert!(packet.header_len() <= packet.len());
        let _ = icmp::quoted(&packet);
        for problem in PROBLEMS {
            answered(&packet, problem);
        }
        for mtu in [28, 68, 576, 1280] {
            reassembled(&packet, mtu);
        }
    }
}

fn answered(packet: &Packet<'_>, problem: Problem) {
    let router = match packet.version() {
        Version::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        Version::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let mut out = Vec::new();
    if !icmp::error(packet, problem, router, &mut out) {
        assert!(out.is_empty());
        return;
    }
    let error = Packet::parse(&out).expect("a packet");
    assert!(out.len() <= 1280 && error.destination() == packet.source());
    let quoted = icmp::quoted(&error).expect("a quote");
    assert_eq!(
        (quoted.source, quoted.destination),
        (packet.source(), packet.destination())
    );
    assert_eq!(quoted.protocol, packet.protocol());
    assert!(
        !icmp::error(&error, problem, router, &mut Vec::new()),
        "no error about an error"
    );
}

fn reassembled(packet: &Packet<'_>, mtu: usize) {
    let mut whole = packet.bytes()[..packet.header_len()].to_vec();
    let mut at = packet.fragment_offset();
    let cut = fragment::fragment(packet, mtu, |header, payload| {
        let piece = [header, payload].concat();
        let piece = Packet::parse(&piece).expect("a packet");
        assert!(piece.len() <= mtu && piece.fragment_offset() == at);
        at += payload.len();
        whole.extend_from_slice(payload);
    });
    if cut.is_ok() {
        assert_eq!(whole, packet.bytes());
    }
}

/// The sum of a TCP segment and its pseudo-header; it holds the checksum, so no change that keeps that right changes it.
fn transport_sum(packet: &Packet<'_>) -> Option<u16> {
    let tcp = packet
        .transport()
        .filter(|_| packet.protocol() == protocol::TCP)?;
    let sum = Sum::new().pseudo_header(packet.addresses(), protocol::TCP, tcp.len() as u16);
    Some(sum.bytes(tcp).fold() % 0xffff)
}

/// The same bytes under a version, a length and a checksum that are right.
fn repaired(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.truncate(65_535);
    let Some(first) = bytes.first().copied() else {
        return bytes;
    };
    if first & 0x10 == 0 && bytes.len() >= 20 {
        let words = usize::from(first & 15).clamp(5, bytes.len() / 4);
        bytes[0] = 0x40 | words as u8;
        let total = (bytes.len() as u16).to_be_bytes();
        bytes[2..4].copy_from_slice(&total);
        seal(&mut bytes, words * 4);
    } else if bytes.len() >= 40 {
        bytes[0] = 0x60 | first & 15;
        let payload = (bytes.len() as u16 - 40).to_be_bytes();
        bytes[4..6].copy_from_slice(&payload);
    }
    bytes
}

fn seal(packet: &mut [u8], header_len: usize) {
    packet[10..12].fill(0);
    let sum = checksum(&packet[..header_len]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Frames of a device, as they are and around a packet that is one: what is cut is whole packets, and all of the payload.
pub fn tun_frames(data: &[u8]) {
    cut(data, 1280);
    let Some((header, packet)) = data.split_first_chunk::<VNET_HEADER>() else {
        return;
    };
    let packet = repaired(packet);
    cut(&[&header[..], &packet].concat(), 9000);
    // With a header that agrees: without a wish for a checksum nothing but kind and size is in it.
    let Ok(read) = Packet::parse(&packet) else {
        return;
    };
    let kind = match (read.protocol(), read.version()) {
        (protocol::TCP, Version::V4) => 1,
        (protocol::TCP, Version::V6) => 4,
        _ => 5,
    };
    let size = (u16::from(header[4]) + 1).to_ne_bytes();
    let header = [0, kind, 0, 0, size[0], size[1], 0, 0, 0, 0];
    cut(&[&header[..], &packet].concat(), 576);
}

fn cut(frame: &[u8], max: usize) {
    let mut copy = frame.to_vec();
    let Ok(mut segments) = Segments::new(&mut copy) else {
        return;
    };
    let fits = segments.resplit(max).is_ok();
    let (count, largest, is_super) = (segments.count(), segments.largest(), frame[1] & 0x7f != 0);
    assert!(!fits || largest <= max);
    let mut out = Vec::new();
    let mut payload = 0;
    for _ in 0..count {
        out.clear();
        assert!(segments.next_into(&mut out) && out.len() <= largest);
        if is_super {
            let packet = Packet::parse(&out).expect("a whole packet");
            let transport = packet.transport().expect("no fragment");
            payload += match packet.protocol() {
                protocol::TCP => transport.len() - usize::from(transport[12] >> 4) * 4,
                _ => transport.len() - 8,
            };
            let sum = Sum::new().pseudo_header(packet.addresses(), packet.protocol(), transport.len() as u16);
            // A sum that was there is taken on trust.
            assert!(frame[0] & 1 != 0 || sum.bytes(transport).fold() == 0xffff);
        }
    }
    assert!(!segments.next_into(&mut out));
    assert!(payload <= frame.len());
}

/// One packet of a few flows.
#[derive(Arbitrary, Debug)]
struct Step {
    flow: u8,
    len: u8,
    repeat: u8,
    /// Most are an acknowledgement and nothing else.
    flags: Option<u8>,
    damage: Option<(u8, u8)>,
    jump: bool,
}

/// What was merged and is cut again is what came, and in the order of each flow.
pub fn tun_merging(data: &[u8]) {
    let packets = packets(&decode(data));
    for udp in [false, true] {
        let mut coalescer = Coalescer::new();
        coalescer.set_udp(udp);
        let mut again = Vec::new();
        let mut take = |frame: &[u8]| {
            let mut frame = frame.to_vec();
            let mut segments = Segments::new(&mut frame).expect("a frame of ours");
            let mut out = Vec::new();
            while segments.next_into(&mut out) {
                again.push(std::mem::take(&mut out));
            }
        };
        for packet in &packets {
            coalescer.push(packet, &mut take);
        }
        coalescer.flush(&mut take);
        assert_eq!(by_flow(&packets), by_flow(&again));
    }
}

fn packets(steps: &[Step]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut next = [(1_u16, 0xffff_fe00_u32); 256];
    for step in steps {
        let (id, seq) = &mut next[usize::from(step.flow)];
        *seq = seq.wrapping_add(u32::from(step.jump));
        for _ in 0..=step.repeat % 8 {
            let mut packet = packet(step, *id, *seq);
            *id = id.wrapping_add(1);
            *seq = seq.wrapping_add(u32::from(step.len));
            if let Some((at, bits)) = step.damage
                && let Some(byte) = packet.get_mut(usize::from(at))
            {
                *byte ^= bits;
            }
            packets.push(packet);
        }
    }
    packets
}

/// Bits of `flow`: IPv6, UDP, DF, and the rest is a port.
fn packet(step: &Step, id: u16, seq: u32) -> Vec<u8> {
    let (is_v6, is_udp) = (step.flow & 1 != 0, step.flow & 2 != 0);
    let len = usize::from(step.len);
    let [high, low] = (8 + len as u16).to_be_bytes();
    let mut transport = vec![0, step.flow, 1, 187];
    if is_udp {
        transport.extend_from_slice(&[high, low, 0, 0]);
    } else {
        transport.extend_from_slice(&seq.to_be_bytes());
        transport.extend_from_slice(&[1, 2, 3, 4, 0x50, step.flags.unwrap_or(0x10), 4, 0, 0, 0, 0, 0]);
    }
    transport.resize(transport.len() + len, step.repeat);
    let (kind, field) = if is_udp {
        (protocol::UDP, 6)
    } else {
        (protocol::TCP, 16)
    };
    let addresses: &[u8] = if is_v6 { &[7; 32] } else { &[7; 8] };
    let sum = Sum::new().pseudo_header(addresses, kind, transport.len() as u16);
    let sum = sum.bytes(&transport).checksum();
    let sum = if is_udp && sum == 0 { 0xffff } else { sum };
    transport[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    let mut packet = if is_v6 {
        vec![0x60, 0, 0, 0, 0, 0, kind, 64]
    } else {
        let [high, low] = id.to_be_bytes();
        vec![0x45, 0, 0, 0, high, low, (step.flow & 4) << 4, 0, 64, kind, 0, 0]
    };
    packet.extend_from_slice(addresses);
    packet.extend_from_slice(&transport);
    measured(packet)
}

/// Lengths and checksum of a packet that was written by hand.
fn measured(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        let total = (packet.len() as u16).to_be_bytes();
        packet[2..4].copy_from_slice(&total);
        seal(&mut packet, 20);
    } else {
        let payload = (packet.len() as u16 - 40).to_be_bytes();
        packet[4..6].copy_from_slice(&payload);
    }
    packet
}

/// Packets of each flow in their order, under addresses and ports; those of no flow in any order.
fn by_flow(packets: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    let mut strange = Vec::new();
    for packet in packets {
        match Packet::parse(packet) {
            Ok(read) if !read.is_fragment() => {
                let ports = read
                    .transport()
                    .and_then(|transport| transport.get(..4))
                    .unwrap_or_default();
                let flow = [read.addresses(), &[read.protocol()], ports].concat();
                let mut packet = packet.clone();
                if read.version() == Version::V4 && read.dont_fragment() {
                    // Nobody may look at its identification (RFC 6864).
                    packet[4..6].fill(0);
                    packet[10..12].fill(0);
                }
                flows.entry(flow).or_default().push(packet);
            }
            _ => strange.push(packet.clone()),
        }
    }
    strange.sort();
    flows.insert(Vec::new(), strange);
    flows
}

/// Packets and frames to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let step = |flow, flags| Step {
        flow,
        len: 100,
        repeat: 3,
        flags,
        damage: None,
        jump: false,
    };
    let mut all: Vec<Vec<u8>> = (0..8).map(|flow| packet(&step(flow, None), 7, 9)).collect();
    // A TCP header with options that says so; a SYN among them.
    for flow in [0, 1] {
        let mut syn = packet(&step(flow, Some(0x02)), 7, 9);
        let tcp = if flow == 0 { 20 } else { 40 };
        syn[tcp + 12] = 0x70;
        syn[tcp + 20..tcp + 28].copy_from_slice(&[2, 4, 5, 0xb4, 1, 1, 4, 2]);
        all.push(syn);
    }
    // Errors about packets, in either version.
    for about in all.clone() {
        let packet = Packet::parse(&about).expect("a packet");
        let mut error = Vec::new();
        if icmp::error(
            &packet,
            Problem::TooBig { mtu: 1280 },
            packet.destination(),
            &mut error,
        ) {
            all.push(error);
        }
    }
    // A fragment, options, and a chain of extension headers.
    let v4 = |words: u8, flags: u8, at: u8| {
        let mut packet = packet(&step(2, None), 7, 9);
        (packet[0], packet[6], packet[7]) = (0x40 | words, flags, at);
        packet[20..28].copy_from_slice(&[0x94, 4, 0, 0, 7, 3, 4, 0]);
        seal(&mut packet, usize::from(words) * 4);
        packet
    };
    all.extend([v4(7, 0, 0), v4(7, 0x20, 0), v4(5, 0x20, 3)]);
    let mut chained = packet(&step(1, None), 7, 9);
    chained[6] = 0;
    let headers = [
        43, 0, 1, 4, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 9,
    ];
    chained.splice(40..40, headers);
    all.push(measured(chained));
    for packet in all.clone() {
        let kind = match (packet[0] >> 4, packet[9], packet[6]) {
            (4, protocol::TCP, _) => 1,
            (6, _, protocol::TCP) => 4,
            _ => 5,
        };
        let [high, low] = 40_u16.to_ne_bytes();
        all.push([&[0, kind, 0, 0, high, low, 0, 0, 0, 0], &packet[..]].concat());
        let start = if packet[0] >> 4 == 4 { 20_u16 } else { 40 }.to_ne_bytes();
        let field = if kind == 5 { 6_u16 } else { 16 }.to_ne_bytes();
        let wish = [1, kind, 0, 0, high, low, start[0], start[1], field[0], field[1]];
        all.push([&wish[..], &packet].concat());
    }
    all
}
