//! How many signatures one source may have verified: each costs as much as thousands of packets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use crate::relay::rate::{Pace, Unit};

/// Sources remembered; all are forgotten when there are more.
const MAX_SOURCES: usize = 4096;
/// Verifications a second of one source; 64 at once after silence.
const PER_SOURCE: u64 = 16;
/// Verifications a second of all.
const ALTOGETHER: u64 = 1000;

/// Who has had how many verified.
#[derive(Debug)]
pub(super) struct Sources {
    all: Pace,
    known: BTreeMap<Option<IpAddr>, Pace>,
}

impl Sources {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            all: Pace::new(now),
            known: BTreeMap::new(),
        }
    }

    /// Whether one more may be verified for whoever is at `remote`.
    pub(super) fn allow(&mut self, now: Instant, remote: Option<SocketAddr>) -> bool {
        let source = remote.map(|remote| group(remote.ip()));
        if self.known.len() >= MAX_SOURCES && !self.known.contains_key(&source) {
            self.known.clear();
        }
        let own = self.known.entry(source).or_insert_with(|| Pace::new(now));
        own.try_charge(now, Unit::Packets, PER_SOURCE, 1)
            && self.all.try_charge(now, Unit::Packets, ALTOGETHER, 1)
    }
}

/// One IPv4 address, or the /56 that a site has of IPv6.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !0 << 72).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::clock;

    #[test]
    fn sources_are_held_back_one_by_one_and_all_together() {
        let now = clock::now().instant;
        let mut sources = Sources::new(now);
        let from = |text: &str| Some(SocketAddr::new(text.parse().expect(text), 1));
        let allowed =
            |sources: &mut Sources, remote| (0..1000).filter(|_| sources.allow(now, remote)).count();
        assert_eq!(allowed(&mut sources, from("192.0.2.1")), 64);
        assert_eq!(allowed(&mut sources, from("::ffff:192.0.2.1")), 0, "the same");
        // What all may have at once is 100 ms of their rate.
        assert_eq!(allowed(&mut sources, from("2001:db8::1")), 36);
        assert_eq!(allowed(&mut sources, from("2001:db8:0:ff::1")), 0);
        let later = now + std::time::Duration::from_secs(1);
        assert!(sources.allow(later, from("2001:db8::2")) && sources.allow(later, None));
        for n in 0..2 * MAX_SOURCES as u32 {
            sources.allow(
                now,
                Some(SocketAddr::new(std::net::Ipv4Addr::from_bits(n).into(), 1)),
            );
        }
        assert!(sources.known.len() <= MAX_SOURCES);
    }
}
