//! What an address is for: the one table of special-purpose addresses, and which may be probed because a peer named them.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why an address is not of the public Internet (RFC 6890, and what IANA assigned since).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Special {
    /// 0.0.0.0/8, ::
    Unspecified,
    /// 127.0.0.0/8, `::1`
    Loopback,
    /// RFC 1918
    Private,
    /// `fc00::/7` (RFC 4193)
    UniqueLocal,
    /// `fec0::/10`, deprecated (RFC 3879)
    SiteLocal,
    /// 169.254.0.0/16, `fe80::/10`
    LinkLocal,
    /// 224.0.0.0/4, `ff00::/8`
    Multicast,
    /// 255.255.255.255
    Broadcast,
    /// 100.64.0.0/10 (RFC 6598)
    SharedAddressSpace,
    /// Where clouds keep the secrets of their machines.
    Metadata,
    /// Protocols, documentation, benchmarks, translation without a fixed form, and what IANA keeps for later.
    Reserved,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified address",
            Self::Loopback => "loopback address",
            Self::Private => "private address",
            Self::UniqueLocal => "unique local address",
            Self::SiteLocal => "site-local address",
            Self::LinkLocal => "link-local address",
            Self::Multicast => "multicast address",
            Self::Broadcast => "broadcast address",
            Self::SharedAddressSpace => "shared address space",
            Self::Metadata => "metadata service",
            Self::Reserved => "reserved address",
        })
    }
}

const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// What keeps `ip` from being public; of a mapped address, what keeps the IPv4 address. An address that leads to another by way of a
/// translator is judged by its outer form alone: [`translated`] says which is inside.
pub fn special(ip: IpAddr) -> Option<Special> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    }
}

/// The IPv4 address to which a translator of NAT64 (RFC 6052) or 6to4 (RFC 3056) carries what is sent to `ip`.
pub fn translated(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

/// Whether an address is of the public Internet: what a peer may name unless the application allows more. Not [`special`] addresses,
/// nor those of translators, whose other end is not the peer's.
pub fn is_public(address: SocketAddr) -> bool {
    address.port() != 0 && special(address.ip()).is_none() && !is_translated(address.ip())
}

/// Whether an address belongs to one host: public, or of a private network, and never loopback, link-local, multicast or broadcast. For
/// peers that may share a network.
pub fn is_host(address: SocketAddr) -> bool {
    use Special::{Private, SharedAddressSpace, UniqueLocal};
    let kind = special(address.ip());
    let private = matches!(kind, Some(Private | SharedAddressSpace | UniqueLocal));
    is_public(address) || address.port() != 0 && private
}

fn is_translated(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if translated(ip).is_some())
}

fn special_v4(ip: Ipv4Addr) -> Option<Special> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        _ if ip == METADATA_V4 => Special::Metadata,
        _ if ip.is_broadcast() => Special::Broadcast,
        (0, ..) => Special::Unspecified,
        (127, ..) => Special::Loopback,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Special::Private,
        (169, 254, _) => Special::LinkLocal,
        (100, 64..=127, _) => Special::SharedAddressSpace,
        (224..=239, ..) => Special::Multicast,
        // IETF protocols, 6to4 anycast, documentation, benchmarking, class E.
        (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18..=19, _)
        | (198, 51, 100)
        | (203, 0, 113)
        | (240..=255, ..) => Special::Reserved,
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<Special> {
    Some(match ip.segments() {
        _ if ip == METADATA_V6 => Special::Metadata,
        _ if ip.is_unspecified() => Special::Unspecified,
        _ if ip.is_loopback() => Special::Loopback,
        [0xff00..=0xffff, ..] => Special::Multicast,
        [0xfe80..=0xfebf, ..] => Special::LinkLocal,
        [0xfc00..=0xfdff, ..] => Special::UniqueLocal,
        [0xfec0..=0xfeff, ..] => Special::SiteLocal,
        // NAT64, as 6to4, is what the address inside is. The prefix for local use (RFC 8215) has no fixed place for one.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => return None,
        // IETF protocols (Teredo, ORCHID and others), documentation, and everything outside global unicast (2000::/3).
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3ff0..=0x3fff, ..] => Special::Reserved,
        [0x2000..=0x3fff, ..] => return None,
        _ => Special::Reserved,
    })
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
            "64:ff9b::808:808",
            "64:ff9b:1::808:808",
            "2002:808:808::1",
            "fec0::1",
            "fd00:ec2::254",
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
