use super::super::Segments;
use super::*;
use crate::ip::sample;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;

fn merge(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut coalescer = Coalescer::new();
    coalescer.set_udp(true);
    let mut frames = Vec::new();
    for packet in packets {
        coalescer.push(packet, &mut |frame: &[u8]| frames.push(frame.to_vec()));
    }
    coalescer.flush(&mut |frame: &[u8]| frames.push(frame.to_vec()));
    assert!(frames.iter().all(|frame| frame.len() <= VNET_HEADER + MOST));
    frames
}

fn cut(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for frame in frames {
        let mut frame = frame.clone();
        let mut segments = Segments::new(&mut frame).expect("a frame of ours");
        assert!(segments.count() <= SEGMENTS);
        let mut out = Vec::new();
        while segments.next_into(&mut out) {
            packets.push(std::mem::take(&mut out));
        }
    }
    packets
}

/// How many packets each frame holds, when it is cut into what went in.
fn counts(packets: &[Vec<u8>]) -> Vec<usize> {
    let frames = merge(packets);
    assert_eq!(cut(&frames), packets);
    frames
        .iter()
        .map(|frame| cut(std::slice::from_ref(frame)).len())
        .collect()
}

/// `count` segments of 100 bytes, one after the other.
fn stream(is_v4: bool, count: u32) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| {
            sample::tcp(
                is_v4,
                5 + i as u16,
                1000 + i * 100,
                ACK,
                &[1, 1, 1, 1],
                &[i as u8; 100],
            )
        })
        .collect()
}

fn datagrams(is_v4: bool, sizes: &[usize]) -> Vec<Vec<u8>> {
    let all = sizes.iter().enumerate();
    all.map(|(i, &size)| sample::udp(is_v4, i as u16, [7, 8], &vec![i as u8; size]))
        .collect()
}

#[test]
fn a_stream_becomes_one_frame() {
    for (is_v4, gso_type, ip) in [(true, GSO_TCPV4, 20), (false, GSO_TCPV6, 40)] {
        let packets = stream(is_v4, 3);
        let frames = merge(&packets);
        assert_eq!(frames.len(), 1);
        let header = VnetHeader::read(*frames[0].first_chunk().unwrap());
        let expected = VnetHeader {
            needs_csum: true,
            gso_type,
            hdr_len: ip + 24,
            gso_size: 100,
            csum_start: ip,
            csum_offset: 16,
        };
        assert_eq!(header, expected);
        let whole = crate::ip::Packet::parse(&frames[0][VNET_HEADER..]).unwrap();
        assert_eq!(whole.len(), packets[0].len() + 200);
        assert_eq!(counts(&packets), [3]);
    }
}

#[test]
fn a_lone_packet_is_not_touched() {
    let mut packets = stream(true, 1);
    packets[0][37] ^= 1;
    let frames = merge(&packets);
    assert_eq!(frames, [[&[0; VNET_HEADER], &packets[0][..]].concat()]);
}

#[test]
fn an_end_or_a_shorter_one_is_the_last() {
    for ending in [PSH, FIN, PSH | FIN] {
        let mut packets = stream(true, 5);
        packets[2] = sample::tcp(true, 7, 1200, ACK | ending, &[1, 1, 1, 1], &[2; 100]);
        assert_eq!(counts(&packets), [3, 2], "{ending:x}");
        packets.swap_remove(0);
        packets.swap(0, 1);
        assert_eq!(counts(&packets[..1]), [1]);
    }
    for is_v4 in [true, false] {
        assert_eq!(counts(&datagrams(is_v4, &[50, 50, 20, 50, 50])), [3, 2]);
        assert_eq!(counts(&datagrams(is_v4, &[50, 60, 60, 1])), [1, 3]);
    }
}

#[test]
fn what_differs_begins_anew() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 8] = [
        ("type of service", |p| p[1] = 4),
        ("DF", |p| p[6] = 0),
        ("TTL", |p| p[8] = 63),
        ("acknowledgement", |p| p[31] ^= 1),
        ("window", |p| p[34] ^= 1),
        ("an option", |p| p[41] ^= 1),
        ("ECE", |p| p[33] |= 0x40),
        ("reserved bits", |p| p[32] |= 1),
    ];
    for (what, change) in changes {
        let mut packets = stream(true, 4);
        for packet in &mut packets[2..] {
            change(packet);
            sample::seal_v4(packet);
            sample::seal_transport(packet);
        }
        assert_eq!(counts(&packets), [2, 2], "{what}");
    }
    for at in [1, 7] {
        let mut packets = stream(false, 4);
        packets[2][at] ^= 1;
        packets[3][at] ^= 1;
        assert_eq!(counts(&packets), [2, 2], "byte {at} of IPv6");
    }
    let mut packets = stream(true, 4);
    packets.remove(1);
    assert_eq!(counts(&packets), [1, 2], "a gap");
}

#[test]
fn congestion_marks_keep_their_places() {
    let mut packets = stream(true, 3);
    for (index, flags) in [(0, ACK | CWR), (1, ACK)] {
        packets[index][33] = flags;
        sample::seal_transport(&mut packets[index]);
    }
    let frames = merge(&packets);
    assert_eq!((frames[0][1], counts(&packets)), (GSO_TCPV4 | GSO_ECN, vec![3]));
    packets.reverse();
    assert_eq!(counts(&packets).len(), 3, "backwards nothing follows");
    let mut packets = stream(true, 3);
    packets[1][33] |= CWR;
    sample::seal_transport(&mut packets[1]);
    assert_eq!(counts(&packets), [1, 2]);
}

#[test]
fn identifications_count_unless_nobody_looks_at_them() {
    let renamed = |fragment: u8, ids: [u8; 3]| {
        let mut packets = stream(true, 3);
        for (packet, id) in packets.iter_mut().zip(ids) {
            packet[5] = id;
            packet[6] = fragment;
            sample::seal_v4(packet);
        }
        packets
    };
    assert_eq!(counts(&renamed(0, [1, 2, 3])), [3]);
    assert_eq!(counts(&renamed(0, [1, 2, 2])), [2, 1]);
    assert_eq!(merge(&renamed(0x40, [0, 0, 0])).len(), 1);
}

#[test]
fn a_wrong_checksum_goes_on_alone() {
    for damaged in 0..3 {
        for mut packets in [stream(true, 3), stream(false, 3), datagrams(true, &[9; 3])] {
            *packets[damaged].last_mut().unwrap() ^= 1;
            let expected = [&[1, 2][..], &[1, 1, 1], &[2, 1]][damaged];
            assert_eq!(counts(&packets), expected);
        }
    }
    let mut none = datagrams(true, &[9; 3]);
    none[1][26..28].copy_from_slice(&[0, 0]);
    assert_eq!(counts(&none), [1, 1, 1], "no checksum is none");
}

#[test]
fn what_carries_no_data_keeps_its_place() {
    let ack = |flags: u8| sample::tcp(true, 9, 1200, flags, &[1, 1, 1, 1], &[]);
    for lone in [
        ack(ACK),
        sample::tcp(true, 9, 1200, ACK | 4, &[1, 1, 1, 1], b"rst"),
    ] {
        let mut packets = stream(true, 4);
        packets.insert(2, lone);
        assert_eq!(counts(&packets), [2, 1, 2]);
    }
    // What may belong to the flow as far as one can see.
    let fragment = sample::v4(6, 0x2000, 1, &[], &[0; 32]);
    let options = sample::v4(6, 0, 1, &[1, 1, 1, 0], &[0; 32]);
    let extended = sample::v6(60, &[6, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3]);
    for hidden in [fragment, options, extended, vec![0x45], Vec::new()] {
        let mut packets = stream(true, 4);
        packets.insert(2, hidden);
        let frames = merge(&packets);
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[1][VNET_HEADER..], packets[2]);
    }
    // Other protocols hurry past.
    let mut packets = stream(true, 2);
    packets.insert(1, sample::v4(1, 0, 1, &[], &[8, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(merge(&packets)[0][VNET_HEADER..], packets[1]);
}

#[test]
fn a_super_packet_has_an_end() {
    assert_eq!(counts(&stream(true, 150)), [64, 64, 22]);
    let large: Vec<Vec<u8>> = (0..50_u32)
        .map(|i| sample::tcp(false, 0, i * 1400, ACK, &[], &[7; 1400]))
        .collect();
    assert_eq!(counts(&large), [46, 4]);
}

#[test]
fn the_oldest_flow_gives_way_and_memory_is_reused() {
    let packet = |flow: u16, number: u16| sample::udp(true, number, [flow, 9], &[flow as u8; 40]);
    let mut packets = Vec::new();
    for flow in 0..9 {
        packets.extend([packet(flow, 0), packet(flow, 1)]);
    }
    let mut coalescer = Coalescer::new();
    coalescer.set_udp(true);
    let room: Vec<_> = coalescer.flows.iter().map(|flow| flow.frame.capacity()).collect();
    for round in 0..3 {
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for packet in &packets {
            coalescer.push(packet, &mut |frame: &[u8]| frames.push(frame.to_vec()));
        }
        assert_eq!(frames.len(), 1, "round {round}: the first flow only");
        coalescer.flush(&mut |frame: &[u8]| frames.push(frame.to_vec()));
        assert_eq!(cut(&frames), packets);
    }
    let after: Vec<_> = coalescer.flows.iter().map(|flow| flow.frame.capacity()).collect();
    assert_eq!(room, after);
}

#[test]
fn udp_is_merged_on_demand() {
    let packets = datagrams(true, &[9; 4]);
    let mut coalescer = Coalescer::default();
    let mut count = 0;
    for packet in &packets {
        coalescer.push(packet, &mut |_: &[u8]| count += 1);
    }
    assert_eq!(count, 4);
}

/// Packets of several flows: most follow one another, some differ in one thing.
fn traffic(u: &mut arbitrary::Unstructured<'_>) -> arbitrary::Result<Vec<Vec<u8>>> {
    let mut next = [(1_u16, u32::MAX - 500, 100_usize); 12];
    let mut packets = Vec::new();
    for _ in 0..u.int_in_range(0..=120)? {
        let flows = if u.ratio(3, 4)? { 3 } else { 12 };
        let flow = u.choose_index(flows)?;
        let (id, seq, size) = &mut next[flow];
        let is_v4 = flow % 2 == 0;
        if u.ratio(1, 12)? {
            *size = u.int_in_range(1..=1400)?;
        }
        let len = if u.ratio(1, 12)? {
            u.int_in_range(0..=*size)?
        } else {
            *size
        };
        let data = vec![u.arbitrary()?; len];
        let flags = if u.ratio(1, 8)? { u.arbitrary()? } else { ACK };
        let mut packet = if flow % 3 == 0 {
            sample::udp(is_v4, *id, [flow as u16, 1], &data)
        } else {
            let options = if flow % 4 == 0 { &[1, 1, 1, 1][..] } else { &[] };
            let mut packet = sample::tcp(is_v4, *id, *seq, flags, options, &data);
            packet[if is_v4 { 21 } else { 41 }] = flow as u8;
            sample::seal_transport(&mut packet);
            packet
        };
        if u.ratio(1, 16)? {
            let at = u.choose_index(packet.len())?;
            packet[at] ^= 1 << u.int_in_range(0..=7)?;
        }
        *id = id.wrapping_add(1);
        *seq = seq.wrapping_add(len as u32);
        packets.push(packet);
    }
    Ok(packets)
}

/// What tells flows apart in `traffic`: bytes that are damaged belong to a flow of their own.
fn flow(packet: &[u8]) -> Option<(u8, u64, &[u8])> {
    match look(packet, true) {
        Look::Data(segment) => Some((packet[0], segment.key.tag, segment.key.addresses)),
        Look::Lone(key) => Some((packet[0], key.tag, key.addresses)),
        Look::Hidden | Look::Other => None,
    }
}

/// Of a packet with DF: where one of its flow was damaged and went elsewhere, the next took its number.
fn without_id(mut packet: Vec<u8>) -> Vec<u8> {
    if flow(&packet).is_some() && packet[0] == 0x45 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

#[test]
fn what_is_merged_and_cut_again_is_what_went_in() {
    arbtest::arbtest(|u| {
        let packets = traffic(u)?;
        let frames = merge(&packets);
        let again = cut(&frames);
        assert!(frames.len() <= packets.len() && again.len() == packets.len());
        for packet in &packets {
            let of_flow = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
                let same = all.iter().filter(|other| flow(other) == flow(packet));
                same.cloned().map(without_id).collect()
            };
            let (before, after) = (of_flow(&packets), of_flow(&again));
            assert!(before == after, "flow {:?}", flow(packet));
        }
        Ok(())
    });
}
