use super::super::sample::{self, SERVER_V6, address};
use super::*;

/// V22: an ICMP echo that is forwarded.
const ECHO: [u8; 28] = [
    0x45, 0x00, 0x00, 0x1c, 0x00, 0x00, 0x40, 0x00, 0x40, 0x01, 0x4e, 0xa0, 0xc0, 0x00, 0x02, 0x0b, 0xc6,
    0x33, 0x64, 0x02, 0x08, 0x00, 0xf7, 0xfd, 0x00, 0x01, 0x00, 0x01,
];

#[test]
fn an_ipv4_header_is_read() {
    let packet = Packet::parse(&ECHO).unwrap();
    assert_eq!(
        (packet.version(), packet.len(), packet.header_len()),
        (Version::V4, 28, 20)
    );
    assert_eq!(packet.source(), address("192.0.2.11"));
    assert_eq!(packet.destination(), address("198.51.100.2"));
    assert_eq!((packet.protocol(), packet.ttl()), (protocol::ICMP, 64));
    assert!(packet.dont_fragment() && !packet.is_fragment() && !packet.is_tcp_syn());
    assert_eq!(packet.transport(), Some(&ECHO[20..]));
    let mut marked = ECHO;
    marked[1] = 0xbb;
    sample::seal_v4(&mut marked);
    let packet = Packet::parse(&marked).unwrap();
    assert_eq!((packet.dscp(), packet.ecn()), (46, 3));
}

#[test]
fn an_ipv6_header_is_read() {
    let mut bytes = sample::udp(false, 0, [1, 2], b"x");
    bytes[0] = 0x6b;
    bytes[1] = 0xb0;
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(
        (packet.version(), packet.len(), packet.header_len()),
        (Version::V6, 49, 40)
    );
    assert_eq!(packet.source(), address("2001:db8::1"));
    assert_eq!(packet.destination(), address("2001:db8::2"));
    assert_eq!(packet.addresses()[16..], SERVER_V6);
    assert_eq!((packet.protocol(), packet.ttl()), (protocol::UDP, 64));
    assert_eq!((packet.dscp(), packet.ecn()), (46, 3));
    assert!(packet.dont_fragment());
}

#[test]
fn a_datagram_is_exactly_one_packet() {
    let malformed = |bytes: &[u8]| Packet::parse(bytes).is_err();
    for whole in [ECHO.to_vec(), sample::udp(false, 0, [1, 2], b"x")] {
        assert!(!malformed(&whole));
        for cut in 0..whole.len() {
            assert!(malformed(&whole[..cut]), "{cut}");
        }
        assert!(malformed(&[&whole[..], &[0]].concat()));
        let mut other = whole.clone();
        other[0] = other[0] & 0x0f | 0x50;
        assert!(malformed(&other), "version 5");
    }
    for at in 0..20 {
        let mut damaged = ECHO;
        damaged[at] ^= 0x10;
        assert!(malformed(&damaged), "{at}");
    }
    for first in [0x44, 0x48] {
        let mut wrong = ECHO;
        wrong[0] = first;
        assert!(malformed(&wrong), "header length {first:x}");
    }
}

/// An extension header of 8 bytes.
fn short(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

fn v6(chain: &[&[u8]], first: u8) -> Vec<u8> {
    sample::v6(first, &chain.concat())
}

#[test]
fn extension_headers_are_walked() {
    let authentication = [
        60, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let bytes = v6(
        &[&short(43), &short(51), &authentication, &short(17), b"datagram"],
        0,
    );
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(
        (packet.protocol(), packet.header_len()),
        (17, 40 + 8 + 8 + 24 + 8)
    );
    assert_eq!(packet.transport(), Some(&b"datagram"[..]));
    // ESP, "no next header" and what nobody knows end the walk.
    for end in [50, 59, 6, 253] {
        let bytes = v6(&[&short(end), &short(0)], 60);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.protocol(), packet.header_len()), (end, 48));
    }
}

#[test]
fn a_chain_has_an_end_within_the_packet() {
    let malformed = |bytes: &[u8]| Packet::parse(bytes).is_err();
    let eight = [short(60); 7].concat();
    assert!(!malformed(&v6(&[&eight, &short(17)], 60)));
    assert!(malformed(&v6(&[&eight, &short(60), &short(17)], 60)));
    assert!(
        malformed(&v6(&[&short(0), &short(17)], 60)),
        "hop-by-hop options not first"
    );
    assert!(
        malformed(&v6(&[&[17, 1, 0, 0, 0, 0, 0, 0]], 60)),
        "longer than the packet"
    );
    assert!(malformed(&v6(&[&[17]], 60)));
    assert!(malformed(&v6(&[], 44)));
}

#[test]
fn fragments_hide_their_transport_but_for_the_first() {
    let fragment = |field: u16| {
        v6(
            &[&[17, 0, (field >> 8) as u8, field as u8, 0, 0, 0, 9], b"datagram"],
            44,
        )
    };
    let (first, later, lone) = (fragment(1), fragment(64 << 3), fragment(0));
    let first = Packet::parse(&first).unwrap();
    assert!(first.is_fragment() && first.transport() == Some(b"datagram"));
    let later = Packet::parse(&later).unwrap();
    assert!(later.is_fragment() && later.transport().is_none());
    assert_eq!((later.protocol(), later.fragment_offset()), (17, 512));
    assert!(!Packet::parse(&lone).unwrap().is_fragment());
    // What a later fragment carries is not read as a chain.
    let mut strange = fragment(64 << 3);
    strange[40] = 0;
    assert_eq!(Packet::parse(&strange).unwrap().protocol(), 0);

    let v4 = sample::v4(17, 0x2001, 5, &[], b"datagram");
    let v4 = Packet::parse(&v4).unwrap();
    assert!(v4.is_fragment() && v4.transport().is_none() && !v4.dont_fragment());
    assert!(Packet::parse(&sample::v4(17, 0x1fff, 5, &[], b"1234567")).is_ok());
    assert!(Packet::parse(&sample::v4(17, 0x1fff, 5, &[], b"12345678")).is_err());
}

#[test]
fn a_hop_is_taken_off() {
    let mut packet = ECHO;
    assert_eq!(decrement_ttl(&mut packet), Ok(()));
    let mut expected = ECHO;
    expected[8..12].copy_from_slice(&[0x3f, 0x01, 0x4f, 0xa0]);
    assert_eq!(packet, expected);
    for left in (1..63).rev() {
        assert_eq!(decrement_ttl(&mut packet), Ok(()));
        assert_eq!(Packet::parse(&packet).unwrap().ttl(), left);
    }
    let last = packet;
    assert_eq!((decrement_ttl(&mut packet), packet), (Err(Expired), last));

    let mut packet = sample::v6(59, &[]);
    packet[7] = 2;
    assert_eq!(decrement_ttl(&mut packet), Ok(()));
    assert_eq!((decrement_ttl(&mut packet), packet[7]), (Err(Expired), 1));
    assert_eq!(decrement_ttl(&mut []), Err(Expired));
    assert_eq!(decrement_ttl(&mut [0x45; 8]), Err(Expired));
}

#[test]
fn every_ttl_keeps_the_checksum() {
    arbtest::arbtest(|u| {
        let mut packet = sample::v4(u.arbitrary()?, 0x4000, u.arbitrary()?, &[], &[]);
        packet[8] = u.int_in_range(2..=255)?;
        packet[12..20].copy_from_slice(u.bytes(8)?);
        sample::seal_v4(&mut packet);
        let mut by_hand = packet.clone();
        by_hand[8] -= 1;
        sample::seal_v4(&mut by_hand);
        assert_eq!(decrement_ttl(&mut packet), Ok(()));
        assert_eq!(packet, by_hand);
        Ok(())
    });
}

#[test]
fn packets_of_one_flow_have_one_hash() {
    let hash = |bytes: &[u8]| Packet::parse(bytes).unwrap().flow_hash(7);
    for is_v4 in [true, false] {
        let flow = hash(&sample::udp(is_v4, 1, [1000, 53], b"a"));
        assert_eq!(flow, hash(&sample::udp(is_v4, 2, [1000, 53], b"other")));
        assert_ne!(flow, hash(&sample::udp(is_v4, 1, [1001, 53], b"a")));
        assert_ne!(
            flow,
            Packet::parse(&sample::udp(is_v4, 1, [1000, 53], b"a"))
                .unwrap()
                .flow_hash(8)
        );
    }
    // Echoes by identifier; fragments by addresses, whichever they are.
    let echo = |id: u8, number: u8| sample::v4(1, 0, 0, &[], &[8, 0, 0, 0, 0, id, 0, number]);
    assert_eq!(hash(&echo(1, 1)), hash(&echo(1, 2)));
    assert_ne!(hash(&echo(1, 1)), hash(&echo(2, 1)));
    let first = hash(&sample::v4(17, 0x2000, 3, &[], &[9; 16]));
    assert_eq!(first, hash(&sample::v4(17, 0x0002, 3, &[], &[1; 16])));
}

#[test]
fn flows_spread_evenly() {
    let mut places = [0_u32; 16];
    for port in 0..4096_u16 {
        let packet = sample::udp(true, 0, [port, 443], b"");
        places[(Packet::parse(&packet).unwrap().flow_hash(1) % 16) as usize] += 1;
    }
    assert!(
        places.iter().all(|&count| (180..340).contains(&count)),
        "{places:?}"
    );
}

#[test]
fn arbitrary_bytes_are_read_or_refused() {
    arbtest::arbtest(|u| {
        let mut bytes: Vec<u8> = u.arbitrary()?;
        if let [first, ..] = &mut *bytes {
            *first = if u.arbitrary()? { 0x60 } else { 0x45 };
        }
        if bytes.len() >= 40 && bytes[0] == 0x60 {
            let payload = (bytes.len() - 40) as u16;
            set_u16(&mut bytes, 4, payload);
        }
        if let Ok(packet) = Packet::parse(&bytes) {
            assert!(packet.header_len() <= packet.len() && packet.len() == bytes.len());
            packet.flow_hash(u.arbitrary()?);
        }
        Ok(())
    });
}
