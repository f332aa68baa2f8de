use super::super::sample::{self, CLIENT_V6, SERVER_V4, SERVER_V6, address};
use super::*;

fn answer(about: &[u8], problem: Problem) -> Option<Vec<u8>> {
    let about = Packet::parse(about).unwrap();
    let router = match about.version() {
        Version::V4 => address("203.0.113.1"),
        Version::V6 => address("2001:db8:f::1"),
    };
    let mut out = vec![0xaa; 3];
    let sent = error(&about, problem, router, &mut out);
    assert!(sent || out.len() == 3, "nothing is written without an answer");
    sent.then(|| out.split_off(3))
}

const ALL: [Problem; 6] = [
    Problem::TooBig { mtu: 1300 },
    Problem::NoRoute,
    Problem::AddressUnreachable,
    Problem::Prohibited,
    Problem::SourcePolicy,
    Problem::TimeExceeded,
];

#[test]
fn errors_say_what_happened() {
    let v4 = [(3, 4), (3, 0), (3, 1), (3, 13), (3, 13), (11, 0)];
    let v6 = [(2, 0), (1, 0), (1, 3), (1, 1), (1, 5), (3, 0)];
    for (is_v4, codes) in [(true, v4), (false, v6)] {
        for size in [0, 1, 500, 2000] {
            let about = sample::udp(is_v4, 3, [5, 6], &vec![7; size]);
            for (problem, (kind, code)) in ALL.into_iter().zip(codes) {
                let bytes = answer(&about, problem).unwrap();
                let packet = Packet::parse(&bytes).unwrap();
                let original = Packet::parse(&about).unwrap();
                assert_eq!(packet.destination(), original.source());
                assert_ne!(packet.source(), original.destination());
                let icmp = packet.transport().unwrap();
                assert_eq!((icmp[0], icmp[1]), (kind, code));
                let mtu = u32::from_be_bytes(*icmp[4..].first_chunk().unwrap());
                assert_eq!(mtu, if problem == ALL[0] { 1300 } else { 0 });
                let most = if is_v4 { 576 } else { 1280 };
                assert_eq!(bytes.len(), (about.len() + packet.header_len() + 8).min(most));
                assert!(about.starts_with(&icmp[8..]));
                let pseudo = if is_v4 {
                    Sum::new()
                } else {
                    Sum::new().pseudo_header(packet.addresses(), 58, icmp.len() as u16)
                };
                assert_eq!(pseudo.bytes(icmp).fold(), 0xffff);
                let said = quoted(&packet).unwrap();
                assert_eq!(
                    (said.source, said.destination),
                    (original.source(), original.destination())
                );
                assert_eq!(said.protocol, 17);
            }
        }
    }
}

#[test]
fn no_error_about_errors() {
    for problem in ALL {
        for is_v4 in [true, false] {
            let first = answer(&sample::udp(is_v4, 3, [5, 6], b"data"), problem).unwrap();
            assert_eq!(answer(&first, problem), None);
        }
        for (kind, answered) in [(8, true), (0, true), (5, false), (12, false)] {
            let packet = sample::v4(1, 0, 0, &[], &[kind, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(answer(&packet, problem).is_some(), answered, "{kind}");
        }
        for (kind, answered) in [(128, true), (127, false), (4, false), (137, false)] {
            let packet = sample::v6(58, &[kind, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(answer(&packet, problem).is_some(), answered, "{kind}");
        }
        assert_eq!(answer(&sample::v4(1, 0, 0, &[], &[]), problem), None);
        assert_eq!(answer(&sample::v6(58, &[]), problem), None);
    }
}

#[test]
fn no_error_about_later_fragments() {
    let fragment = |field| sample::v4(17, field, 9, &[], &[0; 64]);
    assert!(answer(&fragment(0x2000), Problem::NoRoute).is_some());
    assert_eq!(answer(&fragment(0x2001), Problem::NoRoute), None);
    let later = sample::v6(44, &[17, 0, 1, 0, 0, 0, 0, 9, 1, 2, 3]);
    assert_eq!(answer(&later, Problem::NoRoute), None);
}

#[test]
fn no_error_to_many_or_about_many() {
    let v4 = |at: usize, address: [u8; 4]| {
        let mut packet = sample::udp(true, 1, [1, 2], b"x");
        packet[at..at + 4].copy_from_slice(&address);
        sample::seal_v4(&mut packet);
        packet
    };
    for bad in [[224, 0, 0, 1], [255; 4], [0; 4]] {
        for at in [12, 16] {
            for problem in ALL {
                assert_eq!(answer(&v4(at, bad), problem), None, "{bad:?} at {at}");
            }
        }
    }
    assert_eq!(answer(&v4(12, [127, 0, 0, 1]), Problem::NoRoute), None);
    let v6 = |at: usize, text: &str| {
        let mut packet = sample::udp(false, 1, [1, 2], b"x");
        let IpAddr::V6(address) = address(text) else {
            unreachable!("an IPv6 address")
        };
        packet[at..at + 16].copy_from_slice(&address.octets());
        packet
    };
    for text in ["ff02::1", "::"] {
        for problem in ALL {
            assert_eq!(answer(&v6(8, text), problem), None);
            // RFC 4443 §2.4 e.3: path MTU discovery works for groups, too.
            let too_big = text == "ff02::1" && problem == ALL[0];
            assert_eq!(
                answer(&v6(24, text), problem).is_some(),
                too_big,
                "{text} {problem:?}"
            );
        }
    }
}

#[test]
fn the_router_speaks_its_packets_version() {
    let about = sample::udp(true, 1, [1, 2], b"x");
    let about = Packet::parse(&about).unwrap();
    let mut out = Vec::new();
    assert!(!error(&about, Problem::NoRoute, address("2001:db8::1"), &mut out));
    assert!(out.is_empty());
}

#[test]
fn a_quote_is_walked_as_far_as_it_goes() {
    let icmp = |quote: &[u8]| sample::v6(58, &[&[1, 0, 0, 0, 0, 0, 0, 0], quote].concat());
    let inner = sample::v6(60, &[6, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3, 4]);
    let read = |quote: &[u8]| {
        let bytes = icmp(quote);
        quoted(&Packet::parse(&bytes).unwrap())
    };
    let expected = Quoted {
        source: CLIENT_V6.into(),
        destination: SERVER_V6.into(),
        protocol: 6,
    };
    assert_eq!(read(&inner), Some(expected));
    assert_eq!(read(&inner[..48]), Some(expected), "no transport needed");
    for cut in 0..48 {
        assert_eq!(read(&inner[..cut]), None, "{cut}");
    }
    let v4 = sample::udp(true, 1, [1, 2], b"");
    assert_eq!(read(&v4), None, "the other version");
    let echo = sample::v4(1, 0, 0, &[], &[&[8, 0, 0, 0, 0, 0, 0, 0], &v4[..]].concat());
    assert_eq!(quoted(&Packet::parse(&echo).unwrap()), None);
    let redirect = sample::v4(1, 0, 0, &[], &[&[5, 1, 0, 0, 0, 0, 0, 0], &v4[..]].concat());
    let said = quoted(&Packet::parse(&redirect).unwrap()).unwrap();
    assert_eq!((said.destination, said.protocol), (SERVER_V4.into(), 17));
}
