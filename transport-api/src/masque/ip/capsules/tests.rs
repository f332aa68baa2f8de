//! The vectors of RFC 9484, whole, byte by byte, and cut anywhere.

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex") as u8;
    hex.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn run(pieces: &[&[u8]]) -> Result<Vec<IpCapsule>, IpFault> {
    let mut reader = IpCapsules::new(1500);
    let mut out = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        while let Some(capsule) = reader.next(&mut input)? {
            out.push(capsule);
        }
    }
    reader.finish()?;
    Ok(out)
}

/// All ways to deliver a vector: whole, byte by byte, cut anywhere, twice.
fn every_way(hex: &str) -> Result<Vec<IpCapsule>, IpFault> {
    let wire = bytes(hex);
    let whole = run(&[&wire]);
    assert_eq!(run(&wire.chunks(1).collect::<Vec<_>>()), whole);
    for cut in 0..wire.len() {
        assert_eq!(run(&[&wire[..cut], &wire[cut..]]), whole, "{hex} cut at {cut}");
    }
    if let Ok(once) = &whole {
        assert_eq!(run(&[&wire, &wire]), Ok([once.clone(), once.clone()].concat()));
    }
    whole
}

fn network(text: &str) -> Network {
    text.parse().expect(text)
}

fn assigned(request_id: u64, prefix: &str) -> AssignedAddress {
    AssignedAddress {
        request_id,
        prefix: network(prefix),
    }
}

fn range(start: &str, end: &str, protocol: u8) -> RouteRange {
    let ip = |text: &str| text.parse().expect("an address");
    RouteRange::new(ip(start), ip(end), protocol).expect("a range")
}

/// What is read is also what is written.
fn holds(hex: &str, expected: &IpCapsule) {
    assert_eq!(every_way(hex), Ok(vec![expected.clone()]));
    let mut out = Vec::new();
    match expected {
        IpCapsule::Assign(list) => put_assign(&mut out, list),
        IpCapsule::Request(list) => put_request(&mut out, list),
        IpCapsule::Routes(routes) => put_routes(&mut out, routes),
        IpCapsule::Datagram(payload) => capsule::put(&mut out, capsule::kind::DATAGRAM, payload),
    }
    assert_eq!(out, bytes(hex));
}

#[test]
fn vectors_v16_to_v18_addresses() {
    let any = AddressRequest {
        request_id: 1,
        prefix: network("0.0.0.0/32"),
    };
    holds("020701040000000020", &IpCapsule::Request(vec![any]));
    holds(
        "01070104c000020b20",
        &IpCapsule::Assign(vec![assigned(1, "192.0.2.11/32")]),
    );
    holds("0100", &IpCapsule::Assign(vec![]));
    let (granted, denied) = (assigned(1, "192.0.2.11"), AssignedAddress::denied(2, false));
    assert!(denied.is_denied() && !granted.is_denied());
    holds(
        "011a0104c000020b2002060000000000000000000000000000000080",
        &IpCapsule::Assign(vec![granted, denied]),
    );
}

#[test]
fn vectors_v19_to_v21_routes() {
    let routes = |ranges: Vec<RouteRange>| IpCapsule::Routes(Routes::checked(ranges).expect("in order"));
    holds(
        "030a0400000000ffffffff00",
        &routes(vec![range("0.0.0.0", "255.255.255.255", 0)]),
    );
    holds("0300", &routes(vec![]));
    holds(
        "031404c0000200c00002290004c000022bc00002ff00",
        &routes(vec![
            range("192.0.2.0", "192.0.2.41", 0),
            range("192.0.2.43", "192.0.2.255", 0),
        ]),
    );
    holds(
        "032c04c6336402c6336402110620010db834560000000000000000000b20010db834560000000000000000000b11",
        &routes(vec![
            range("198.51.100.2", "198.51.100.2", 17),
            range("2001:db8:3456::b", "2001:db8:3456::b", 17),
        ]),
    );
}

#[test]
fn what_is_malformed_is_refused() {
    let zeros = "00".repeat(32);
    let v6_before_v4 = format!("032c06{zeros}0004{}", "00".repeat(9));
    for (hex, why) in [
        ("0200", "X15: a request for nothing"),
        ("020700040000000020", "X16: request id 0"),
        ("01070104c000020b21", "X16: /33"),
        ("01070004c000020b18", "X16: host bits under /24"),
        ("01070005c000020b20", "a version nobody has"),
        ("01060004c000020b", "no prefix length"),
        ("01080004c000020b2000", "a byte more"),
        ("030a04c000020ac00002010000", "X17: the end before the start"),
        (&v6_before_v4, "X17: IPv6 before IPv4"),
        (
            "031404c0000201c00002011104c0000202c000020206",
            "X17: protocol 17 before 6",
        ),
        ("031404c0000200c000020a0004c000020ac000021400", "X17: overlap"),
        ("03090400000000ffffffff", "X18: a byte short"),
        ("0000", "X20: no context id"),
        ("000140", "half a context id"),
    ] {
        assert_eq!(every_way(hex), Err(IpFault::Malformed), "{why}");
    }
    assert_eq!(every_way("000a0070696e67"), Err(IpFault::Truncated), "X19");
}

#[test]
fn what_is_too_large_is_not_held() {
    assert_eq!(every_way("028000ffff"), Err(IpFault::TooMany));
    let mut many = Vec::new();
    put_assign(&mut many, &[assigned(0, "192.0.2.1"); MAX_ENTRIES + 1]);
    assert_eq!(run(&[&many]), Err(IpFault::TooMany));
    let mut reader = IpCapsules::new(1500);
    let mut wire = bytes("00800005de");
    wire.resize(wire.len() + 1502, 0);
    wire.extend(bytes("0300"));
    let mut input = wire.as_slice();
    assert!(matches!(reader.next(&mut input), Ok(Some(IpCapsule::Routes(_)))));
    assert!(reader.held.capacity() < 64, "the long one was not held");
}

#[test]
fn any_bytes_cut_anywhere_say_the_same() {
    arbtest::arbtest(|u| {
        let wire: Vec<u8> = u.arbitrary()?;
        let cut = u.int_in_range(0..=wire.len())?;
        assert_eq!(run(&[&wire[..cut], &wire[cut..]]), run(&[&wire]));
        Ok(())
    });
}
