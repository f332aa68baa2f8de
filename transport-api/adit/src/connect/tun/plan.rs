//! What the kernel is to be told, thought out without it.

use std::net::IpAddr;

use transport_api::{
    ip::Network,
    masque::ip::{MIN_MTU, RouteRange, Routes},
};

/// The narrowest device the kernel makes for IPv4 (RFC 791).
const LEAST_MTU: usize = 68;

/// The networks that the relay routes to, for whatever protocol: the bridge refuses what it does not carry.
pub(super) fn networks(routes: &Routes) -> Vec<Network> {
    let mut networks: Vec<Network> = Vec::new();
    for network in routes.ranges().iter().flat_map(RouteRange::networks) {
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    networks
}

/// What is left of `offered` when only `wanted` is wanted; all of it when nothing is named.
pub(super) fn chosen(offered: &[Network], wanted: &[Network]) -> Vec<Network> {
    if wanted.is_empty() {
        return offered.to_vec();
    }
    // Networks are disjoint or nested: the smaller of two is what they share.
    let shared = |a: &Network, b: &Network| {
        a.overlaps(b)
            .then_some(if a.prefix_len() >= b.prefix_len() { *a } else { *b })
    };
    let mut chosen = Vec::new();
    for network in offered
        .iter()
        .flat_map(|a| wanted.iter().filter_map(move |b| shared(a, b)))
    {
        if !chosen.contains(&network) {
            chosen.push(network);
        }
    }
    chosen
}

/// Whether a route would swallow the packets that carry it: these go by a table of their own, which the tunnel's socket
/// does not ask.
pub(super) fn is_wide(route: &Network, relay: IpAddr) -> bool {
    route.prefix_len() == 0 || route.contains(relay)
}

/// What the device takes: what the path takes, but IPv6 needs [`MIN_MTU`], which then goes in two pieces.
pub(super) fn mtu(addresses: &[Network], max_packet: usize) -> usize {
    let v6 = addresses.iter().any(|address| !address.is_ipv4());
    max_packet.max(if v6 { MIN_MTU } else { LEAST_MTU })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_choice_is_what_both_sides_name() {
        let offered = networks(&["10.0.0.0/8", "192.0.2.0/24", "::/0"]);
        assert_eq!(chosen(&offered, &[]), offered);
        assert_eq!(
            chosen(&offered, &networks(&["10.1.0.0/16"])),
            networks(&["10.1.0.0/16"])
        );
        assert_eq!(
            chosen(&offered, &networks(&["0.0.0.0/0"])),
            networks(&["10.0.0.0/8", "192.0.2.0/24"])
        );
        assert_eq!(chosen(&offered, &networks(&["198.51.100.0/24"])), []);
        assert_eq!(
            chosen(&offered, &networks(&["10.0.0.0/8", "10.0.0.0/8"])),
            networks(&["10.0.0.0/8"])
        );
    }

    #[test]
    fn routes_that_lead_to_the_relay_itself_are_wide() {
        let relay = "10.91.2.1".parse().unwrap();
        for (route, wide) in [
            ("0.0.0.0/0", true),
            ("10.0.0.0/8", true),
            ("10.92.0.0/16", false),
            ("::/0", true),
        ] {
            assert_eq!(is_wide(&route.parse().unwrap(), relay), wide, "{route}");
        }
    }

    #[test]
    fn a_narrow_path_lowers_the_device_only_where_ipv6_lets_it() {
        assert_eq!(mtu(&networks(&["10.77.0.2"]), 1100), 1100);
        assert_eq!(mtu(&networks(&["10.77.0.2", "fd77::2"]), 1100), 1280);
        assert_eq!(mtu(&networks(&["fd77::2"]), 1400), 1400);
    }
}
