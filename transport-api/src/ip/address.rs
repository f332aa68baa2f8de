//! What an address stands for, as far as forwarding cares (RFC 1122 §3.2.1.3, RFC 4291 §2.4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// One interface, reachable beyond its link.
    Unicast,
    /// One interface of this link (`169.254.0.0/16`, `fe80::/10`); never forwarded.
    LinkLocal,
    /// A group.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// Nobody (`0.0.0.0/8`, `::`).
    Unspecified,
    /// This host (`127.0.0.0/8`, `::1`).
    Loopback,
}

impl AddressKind {
    /// What `address` stands for.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [0, ..] => Self::Unspecified,
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [224..=239, ..] => Self::Multicast,
            [255, 255, 255, 255] => Self::Broadcast,
            _ => Self::Unicast,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        match address.segments() {
            [0xff00..=0xffff, ..] => Self::Multicast,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0, 0, 0, 0, 0, 0, 0, 0] => Self::Unspecified,
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            _ => Self::Unicast,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (text, kind) in [
            ("192.0.2.1", AddressKind::Unicast),
            ("10.255.255.255", AddressKind::Unicast),
            ("169.254.1.1", AddressKind::LinkLocal),
            ("169.253.1.1", AddressKind::Unicast),
            ("224.0.0.1", AddressKind::Multicast),
            ("239.255.255.255", AddressKind::Multicast),
            ("240.0.0.1", AddressKind::Unicast),
            ("255.255.255.255", AddressKind::Broadcast),
            ("0.0.0.0", AddressKind::Unspecified),
            ("127.9.9.9", AddressKind::Loopback),
            ("2001:db8::1", AddressKind::Unicast),
            ("fe80::1", AddressKind::LinkLocal),
            ("febf::1", AddressKind::LinkLocal),
            ("fec0::1", AddressKind::Unicast),
            ("ff02::1", AddressKind::Multicast),
            ("::", AddressKind::Unspecified),
            ("::1", AddressKind::Loopback),
            ("::2", AddressKind::Unicast),
        ] {
            assert_eq!(AddressKind::of(text.parse().unwrap()), kind, "{text}");
        }
    }
}
