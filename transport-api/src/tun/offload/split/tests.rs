use super::super::*;
use super::*;
use crate::ip::Packet;
use crate::ip::sample::{self, is_sealed};

/// What the kernel gives: `packet` with the sum of its pseudo-header where the checksum belongs, behind a header.
fn frame(packet: &[u8], gso_type: u8, gso_size: usize) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let (version, next, start) = network(&packet).unwrap();
    let field = if next == protocol::TCP {
        TCP_CHECKSUM
    } else {
        UDP_CHECKSUM
    };
    let len = (packet.len() - start) as u16;
    let partial = Sum::new()
        .pseudo_header(addresses(&packet, version), next, len)
        .fold();
    set_u16(&mut packet, start + field, partial);
    let header = VnetHeader {
        needs_csum: true,
        gso_type,
        hdr_len: 77,
        gso_size: gso_size as u16,
        csum_start: start as u16,
        csum_offset: field as u16,
    };
    [&header.bytes()[..], &packet].concat()
}

fn cut(mut frame: Vec<u8>) -> Vec<Vec<u8>> {
    let mut segments = Segments::new(&mut frame).unwrap();
    drain(&mut segments)
}

fn drain(segments: &mut Segments<'_>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let (count, largest) = (segments.count(), segments.largest());
        let mut out = vec![0xee; 5];
        if !segments.next_into(&mut out) {
            assert_eq!((count, largest, out.len()), (0, 0, 5));
            return all;
        }
        assert!(out.len() - 5 <= largest && segments.count() == count - 1);
        assert_eq!(out[..5], [0xee; 5], "what was there stays");
        all.push(out.split_off(5));
    }
}

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256) as u8).collect()
}

#[test]
fn tcp_is_cut_into_whole_segments() {
    for (is_v4, kind) in [(true, GSO_TCPV4), (false, GSO_TCPV6 | GSO_ECN)] {
        let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let flags = 0x10 | FIN | PSH | CWR;
        let data = data(3500);
        let big = sample::tcp(is_v4, 0xffff, 0xffff_ff00, flags, &options, &data);
        let segments = cut(frame(&big, kind, 1400));
        let mut at = 0;
        for (index, bytes) in segments.iter().enumerate() {
            let last = index == 2;
            let flags = match index {
                0 => 0x10 | CWR,
                1 => 0x10,
                _ => 0x10 | FIN | PSH,
            };
            let part = &data[at..(at + 1400).min(data.len())];
            let seq = 0xffff_ff00_u32.wrapping_add(at as u32);
            let id = 0xffff_u16.wrapping_add(index as u16);
            assert_eq!(*bytes, sample::tcp(is_v4, id, seq, flags, &options, part));
            assert!(Packet::parse(bytes).is_ok() && is_sealed(bytes));
            at += part.len();
            assert_eq!(at == data.len(), last);
        }
    }
}

#[test]
fn udp_is_cut_into_datagrams() {
    for is_v4 in [true, false] {
        let data = data(2501);
        let big = sample::udp(is_v4, 9, [53, 54], &data);
        let segments = cut(frame(&big, GSO_UDP_L4, 1000));
        let parts = [&data[..1000], &data[1000..2000], &data[2000..]];
        let expected = (9..)
            .zip(parts)
            .map(|(id, part)| sample::udp(is_v4, id, [53, 54], part));
        assert_eq!(segments, expected.collect::<Vec<_>>());
    }
}

#[test]
fn without_a_partial_sum_the_addresses_are_summed() {
    let big = sample::tcp(true, 1, 1, 0x10, &[], &data(2000));
    let mut frame = frame(&big, GSO_TCPV4, 1000);
    let with = cut(frame.clone());
    frame[..VNET_HEADER].copy_from_slice(
        &VnetHeader {
            gso_type: GSO_TCPV4,
            gso_size: 1000,
            ..Default::default()
        }
        .bytes(),
    );
    assert_eq!(cut(frame), with);
}

#[test]
fn a_packet_that_lacks_its_checksum_gets_it() {
    for is_v4 in [true, false] {
        let whole = [
            sample::tcp(is_v4, 1, 1, 0x10, &[], b"data"),
            sample::udp(is_v4, 1, [1, 2], b"data"),
            sample::udp(is_v4, 1, [1, 2], b"odd"),
        ];
        for packet in whole {
            assert_eq!(cut(frame(&packet, GSO_NONE, 0)), [packet]);
        }
    }
    // A datagram whose checksum is zero says so as 0xffff.
    let zero = (0..=0xffff_u16)
        .map(|word| sample::udp(true, 1, [1, 2], &word.to_be_bytes()))
        .find(|packet| packet[26..28] == [0xff, 0xff])
        .unwrap();
    assert_eq!(cut(frame(&zero, GSO_NONE, 0)), [zero]);
}

#[test]
fn a_packet_that_wants_nothing_is_not_looked_at() {
    let strange = b"\x45 anything".to_vec();
    let frame = [&[0; VNET_HEADER], &strange[..]].concat();
    assert_eq!(cut(frame), [strange]);
}

#[test]
fn segments_are_made_to_fit_the_path() {
    let big = sample::tcp(true, 1, 1, 0x10 | PSH, &[], &data(4000));
    let mut bytes = frame(&big, GSO_TCPV4, 1460);
    let mut segments = Segments::new(&mut bytes).unwrap();
    assert_eq!((segments.count(), segments.largest()), (3, 1500));
    assert_eq!(segments.resplit(40), Err(TooLarge));
    assert_eq!(segments.resplit(1500), Ok(()));
    assert_eq!(segments.count(), 3);
    let mut first = Vec::new();
    assert!(segments.next_into(&mut first));
    assert_eq!(segments.resplit(1040), Ok(()));
    assert_eq!((segments.count(), segments.largest()), (3, 1040));
    let rest = drain(&mut segments);
    let lengths: Vec<usize> = rest.iter().map(Vec::len).collect();
    assert_eq!((first.len(), &lengths[..]), (1500, &[1040, 1040, 580][..]));
    let joined: Vec<u8> = std::iter::once(&first)
        .chain(&rest)
        .flat_map(|s| &s[40..])
        .copied()
        .collect();
    assert_eq!(joined, data(4000));
    assert!(rest.iter().all(|s| is_sealed(s)));
    assert_eq!(u32_at(&rest[2], 24), Some(1 + 1460 + 2000));
    assert_eq!((first[33], rest[1][33], rest[2][33]), (0x10, 0x10, 0x18));

    let mut bytes = frame(&sample::udp(true, 1, [1, 2], &data(3000)), GSO_UDP_L4, 1400);
    let mut segments = Segments::new(&mut bytes).unwrap();
    assert_eq!(segments.resplit(1400), Err(TooLarge));
    assert_eq!((segments.resplit(1428), segments.count()), (Ok(()), 3));
}

#[test]
fn frames_that_contradict_themselves_are_refused() {
    let refused = |mut bytes: Vec<u8>| Segments::new(&mut bytes).is_err();
    let tcp = sample::tcp(true, 1, 1, 0x10, &[], &data(2000));
    let udp = sample::udp(false, 1, [1, 2], &data(2000));
    assert!(!refused(frame(&tcp, GSO_TCPV4, 1000)) && !refused(frame(&udp, GSO_UDP_L4, 1000)));
    assert!(refused(Vec::new()) && refused(vec![0; VNET_HEADER]));
    assert!(refused(frame(&tcp, GSO_TCPV4, 0)), "no size");
    assert!(refused(frame(&tcp, GSO_TCPV6, 1000)) && refused(frame(&tcp, GSO_UDP_L4, 1000)));
    assert!(
        refused(frame(&udp, GSO_UDP_L4 | GSO_TCPV4 | 2, 1000)),
        "an unknown kind"
    );
    for (at, value) in [
        (6, 0),
        (8, 0),
        (VNET_HEADER + 32, 0x40),
        (VNET_HEADER, 0x44),
        (VNET_HEADER + 7, 1),
    ] {
        let mut bytes = frame(&tcp, GSO_TCPV4, 1000);
        bytes[at] = value;
        assert!(refused(bytes), "byte {at}");
    }
    let mut bytes = frame(&tcp, GSO_NONE, 0);
    bytes[8..10].copy_from_slice(&2000_u16.to_ne_bytes());
    assert!(!refused(bytes.clone()));
    bytes[8..10].copy_from_slice(&2019_u16.to_ne_bytes());
    assert!(refused(bytes), "a checksum beyond the end");
    for len in 1..40 {
        assert!(
            refused(frame(&tcp, GSO_TCPV4, 1000)[..VNET_HEADER + len].to_vec()),
            "{len}"
        );
    }
}

#[test]
fn arbitrary_frames_are_cut_or_refused() {
    arbtest::arbtest(|u| {
        let (is_v4, udp): (bool, bool) = u.arbitrary()?;
        let data = data(u.int_in_range(0..=3000)?);
        let (packet, kind) = if udp {
            (sample::udp(is_v4, 1, [1, 2], &data), GSO_UDP_L4)
        } else {
            let kind = if is_v4 { GSO_TCPV4 } else { GSO_TCPV6 };
            (sample::tcp(is_v4, 1, 1, u.arbitrary()?, &[], &data), kind)
        };
        let mut bytes = frame(&packet, kind, u.int_in_range(1..=1500)?);
        for _ in 0..u.int_in_range(0..=3)? {
            let at = u.choose_index(bytes.len().min(90))?;
            bytes[at] = u.arbitrary()?;
        }
        let total = bytes.len();
        if let Ok(mut segments) = Segments::new(&mut bytes) {
            let _ = segments.resplit(u.int_in_range(30..=2000)?);
            let (count, mut out) = (segments.count(), Vec::new());
            while segments.next_into(&mut out) {}
            assert!(out.len() <= total * count);
        }
        Ok(())
    });
}
