//! Networks in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network in CIDR notation; a bare address is the network of just this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// Left-aligned bits, host bits zero.
    bits: u128,
    len: u8,
    v4: bool,
}

/// The text is not a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadNetwork(String);

impl fmt::Display for BadNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a network such as 10.0.0.0/8 or fd00::/8", self.0)
    }
}

impl std::error::Error for BadNetwork {}

impl Network {
    /// `None` when `len` is too long for the address, or host bits are set.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let (bits, v4) = aligned(address);
        let network = Self { bits, len, v4 };
        (len <= network.width() && bits & !mask(len) == 0).then_some(network)
    }

    /// Whether `address` lies in it. IPv4 addresses mapped into IPv6 count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (bits, v4) = aligned(address.to_canonical());
        v4 == self.v4 && bits & mask(self.len) == self.bits
    }

    /// The network of just this address.
    pub fn single(address: IpAddr) -> Self {
        let (bits, v4) = aligned(address);
        let len = if v4 { 32 } else { 128 };
        Self { bits, len, v4 }
    }

    /// All addresses of a family.
    pub const fn all(v4: bool) -> Self {
        Self { bits: 0, len: 0, v4 }
    }

    /// Whether it is just one address.
    pub fn is_single(&self) -> bool {
        self.len == self.width()
    }

    /// Whether it is a network of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.v4
    }

    /// Bits that all its addresses share.
    pub fn prefix_len(&self) -> u8 {
        self.len
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.address(self.bits)
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        self.address(self.bits | !mask(self.len))
    }

    /// The address `index` above the first; `None` beyond the last.
    pub fn nth(&self, index: u128) -> Option<IpAddr> {
        let host_bits = u32::from(self.width() - self.len);
        if index.checked_shr(host_bits).unwrap_or(0) != 0 {
            return None;
        }
        let unused = u32::from(128 - self.width());
        Some(self.address(self.bits | index.checked_shl(unused).unwrap_or(0)))
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let shared = mask(self.len.min(other.len));
        self.v4 == other.v4 && self.bits & shared == other.bits & shared
    }

    fn width(&self) -> u8 {
        if self.v4 { 32 } else { 128 }
    }

    fn address(&self, bits: u128) -> IpAddr {
        if self.v4 {
            Ipv4Addr::from_bits((bits >> 96) as u32).into()
        } else {
            Ipv6Addr::from_bits(bits).into()
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.len)
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let bad = || BadNetwork(text.to_owned());
        let (address, len) = text
            .split_once('/')
            .map_or((text, None), |(address, len)| (address, Some(len)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let len = match len {
            Some(len) => len.parse().map_err(|_| bad())?,
            None if address.is_ipv4() => 32,
            None => 128,
        };
        Self::new(address, len).ok_or_else(bad)
    }
}

fn aligned(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, true),
        IpAddr::V6(ip) => (ip.to_bits(), false),
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    #[test]
    fn the_ends_of_a_network() {
        let small = network("10.77.0.0/30");
        assert_eq!(
            (small.first().to_string(), small.last().to_string()),
            ("10.77.0.0".into(), "10.77.0.3".into())
        );
        assert_eq!(small.nth(3), Some(small.last()));
        assert_eq!(small.nth(4), None);
        let wide = network("fd77::/64");
        assert_eq!(wide.nth(1), "fd77::1".parse().ok());
        assert_eq!(wide.nth(1 << 64), None);
        assert_eq!(
            network("::/0").nth(u128::MAX),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().ok()
        );
        assert_eq!(network("192.0.2.7").to_string(), "192.0.2.7/32");
    }

    #[test]
    fn overlaps_are_symmetric() {
        for (a, b, expected) in [
            ("10.0.0.0/8", "10.77.0.0/16", true),
            ("10.77.0.0/16", "10.78.0.0/16", false),
            ("0.0.0.0/0", "::/0", false),
            ("fd77::/64", "fd77::1", true),
        ] {
            assert_eq!(network(a).overlaps(&network(b)), expected, "{a} {b}");
            assert_eq!(network(b).overlaps(&network(a)), expected, "{b} {a}");
        }
    }
}
