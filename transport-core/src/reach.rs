//! Which addresses may be probed because a peer named them.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether an address is of the public Internet: what a peer may name unless the application allows more. Not loopback, link-local,
/// multicast, private or shared (RFC 1918, RFC 6598, RFC 4193) addresses, nor those of documentation, benchmarks and translation.
pub fn is_public(address: SocketAddr) -> bool {
    address.port() != 0
        && match address.ip().to_canonical() {
            IpAddr::V4(ip) => is_public_v4(ip),
            IpAddr::V6(ip) => is_public_v6(ip),
        }
}

/// Whether an address belongs to one host: public, or of a private network, and never loopback, link-local, multicast or broadcast. For
/// peers that may share a network.
pub fn is_host(address: SocketAddr) -> bool {
    is_public(address)
        || address.port() != 0
            && match address.ip().to_canonical() {
                IpAddr::V4(ip) => ip.is_private() || is_shared(ip),
                IpAddr::V6(ip) => ip.is_unique_local(),
            }
}

fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && b & 0xc0 == 64
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || is_shared(ip)
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && b & 0xfe == 18);
    !special && (1..224).contains(&a)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // Global unicast, without Teredo, ORCHID, documentation and 6to4.
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && (b < 0x0200 || b == 0x0db8))
        && a != 0x2002
        && a & 0xfff0 != 0x3ff0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_peer_may_name() {
        for ip in [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.251",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "192.0.0.170",
            "192.88.99.1",
            "::",
            "::1",
            "::7f00:1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
        ] {
            let address = SocketAddr::new(ip.parse().unwrap(), 443);
            assert!(!is_public(address) && !is_host(address), "{ip}");
        }
        for ip in ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1"] {
            let address = SocketAddr::new(ip.parse().unwrap(), 443);
            assert!(!is_public(address) && is_host(address), "{ip}");
        }
        for ip in ["1.1.1.1", "198.20.0.1", "100.128.0.1", "2a00::1", "2001:4860::1"] {
            let address = |port| SocketAddr::new(ip.parse().unwrap(), port);
            assert!(is_public(address(443)) && is_host(address(443)), "{ip}");
            assert!(!is_public(address(0)) && !is_host(address(0)), "{ip}");
        }
    }
}
