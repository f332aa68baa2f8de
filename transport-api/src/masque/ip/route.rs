//! Ranges of addresses a peer routes to (RFC 9484 §4.7.3).

use std::net::IpAddr;
use std::sync::Arc;

use super::IpFault;
use crate::ip::Network;

/// A range of addresses of one family, both ends included, and what may be said to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteRange {
    start: IpAddr,
    end: IpAddr,
    protocol: u8,
}

impl RouteRange {
    /// `None` when the ends are of two families or in the wrong order. `protocol` 0 is every one.
    pub fn new(start: IpAddr, end: IpAddr, protocol: u8) -> Option<Self> {
        let ordered = start.is_ipv4() == end.is_ipv4() && start <= end;
        ordered.then_some(Self { start, end, protocol })
    }

    /// A network, for every protocol.
    pub fn of(network: Network) -> Self {
        Self {
            start: network.first(),
            end: network.last(),
            protocol: 0,
        }
    }

    /// The lowest address.
    pub fn start(&self) -> IpAddr {
        self.start
    }

    /// The highest address.
    pub fn end(&self) -> IpAddr {
        self.end
    }

    /// The only IP protocol that passes; 0 for all. ICMP passes always.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Whether a packet of `protocol` may go to `address`.
    pub fn admits(&self, address: IpAddr, protocol: u8) -> bool {
        let icmp = if address.is_ipv4() { 1 } else { 58 };
        let covered = address.is_ipv4() == self.start.is_ipv4() && (self.start..=self.end).contains(&address);
        covered && (self.protocol == 0 || self.protocol == protocol || protocol == icmp)
    }

    /// The networks that make up the range, largest first where it begins; at most 62 for IPv4, 254 for IPv6.
    pub fn networks(&self) -> Vec<Network> {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32u32),
            IpAddr::V6(ip) => (ip.to_bits(), 128),
        };
        let ((mut at, width), (end, _)) = (bits(self.start), bits(self.end));
        let mut networks = Vec::new();
        loop {
            // As large as the alignment of its beginning and what is left allow.
            let aligned = if at == 0 { width } else { at.trailing_zeros() };
            let left = (end - at).checked_add(1).map_or(128, u128::ilog2);
            let host_bits = aligned.min(left).min(width);
            let address = match self.start {
                IpAddr::V4(_) => IpAddr::V4((at as u32).into()),
                IpAddr::V6(_) => IpAddr::V6(at.into()),
            };
            networks.extend(Network::new(address, (width - host_bits) as u8));
            let next = 1u128.checked_shl(host_bits).and_then(|size| at.checked_add(size));
            match next {
                Some(next) if next <= end => at = next,
                _ => return networks,
            }
        }
    }

    /// Versions, then protocols, then addresses must rise (RFC 9484 §4.7.3).
    fn follows(&self, before: &Self) -> bool {
        let rank = |range: &Self| (range.start.is_ipv6(), range.protocol);
        rank(before) < rank(self) || rank(before) == rank(self) && before.end < self.start
    }
}

/// A checked list of ranges, in the order of the wire. Clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(Arc<[RouteRange]>);

impl Routes {
    /// Brings `networks` into the order of the wire; those inside others are left out.
    pub fn of(networks: &[Network]) -> Self {
        let mut sorted = networks.to_vec();
        sorted.sort_by_key(|network| (network.first(), network.prefix_len()));
        let mut ranges: Vec<RouteRange> = Vec::new();
        for range in sorted.into_iter().map(RouteRange::of) {
            // Networks are disjoint or nested.
            if ranges.last().is_none_or(|last| range.follows(last)) {
                ranges.push(range);
            }
        }
        Self(ranges.into())
    }

    /// Checks what arrived; the order is part of the format.
    pub fn checked(ranges: Vec<RouteRange>) -> Result<Self, IpFault> {
        let ordered = ranges
            .iter()
            .zip(ranges.iter().skip(1))
            .all(|(before, range)| range.follows(before));
        if ordered {
            Ok(Self(ranges.into()))
        } else {
            Err(IpFault::Malformed)
        }
    }

    /// The ranges in order.
    pub fn ranges(&self) -> &[RouteRange] {
        &self.0
    }

    /// Whether a packet of `protocol` may go to `address`.
    pub fn admit(&self, address: IpAddr, protocol: u8) -> bool {
        self.0.iter().any(|range| range.admits(address, protocol))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn range(start: &str, end: &str) -> RouteRange {
        RouteRange::new(ip(start), ip(end), 0).expect("a range")
    }

    #[test]
    fn a_range_is_the_sum_of_its_networks() {
        let texts =
            |range: RouteRange| -> Vec<String> { range.networks().iter().map(ToString::to_string).collect() };
        assert_eq!(texts(range("0.0.0.0", "255.255.255.255")), ["0.0.0.0/0"]);
        assert_eq!(
            texts(range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
            ["::/0"]
        );
        assert_eq!(
            texts(range("192.0.2.0", "192.0.2.41")),
            ["192.0.2.0/27", "192.0.2.32/29", "192.0.2.40/31"]
        );
        assert_eq!(
            texts(range("255.255.255.255", "255.255.255.255")),
            ["255.255.255.255/32"]
        );
        arbtest::arbtest(|u| {
            let (a, b): (u32, u32) = u.arbitrary()?;
            let whole = RouteRange::new(IpAddr::V4(a.min(b).into()), IpAddr::V4(a.max(b).into()), 0)
                .expect("a range");
            let networks = whole.networks();
            let mut next = Some(a.min(b));
            for network in &networks {
                assert_eq!(network.first(), IpAddr::V4(next.expect("more").into()));
                let IpAddr::V4(last) = network.last() else {
                    panic!("family")
                };
                next = last.to_bits().checked_add(1);
            }
            assert_eq!(networks.last().map(Network::last), Some(whole.end()));
            assert!(networks.len() <= 62);
            Ok(())
        });
    }

    #[test]
    fn protocols_scope_a_route_and_icmp_passes() {
        let udp = RouteRange::new(ip("192.0.2.1"), ip("192.0.2.1"), 17).expect("a range");
        for (protocol, passes) in [(17, true), (6, false), (1, true), (58, false)] {
            assert_eq!(udp.admits(ip("192.0.2.1"), protocol), passes, "{protocol}");
        }
        assert!(!udp.admits(ip("192.0.2.2"), 17) && !udp.admits(ip("::c000:201"), 17));
    }

    #[test]
    fn networks_become_an_ordered_list() {
        let networks: Vec<Network> = [
            "fd00::/8",
            "10.1.0.0/16",
            "192.0.2.0/24",
            "10.0.0.0/8",
            "10.0.0.0/8",
        ]
        .iter()
        .map(|text| text.parse().expect(text))
        .collect();
        let routes = Routes::of(&networks);
        assert_eq!(routes.ranges().len(), 3);
        assert_eq!(Routes::checked(routes.ranges().to_vec()), Ok(routes.clone()));
        assert!(routes.admit(ip("10.1.2.3"), 6) && !routes.admit(ip("11.0.0.0"), 6));
    }
}
