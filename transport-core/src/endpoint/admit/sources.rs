//! How much of one neighbourhood of the net is taken in a second: a fixed row of counters, nothing kept by address.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Counters; two neighbourhoods that share one share its limit.
const COUNTERS: usize = 4096;
/// Hellos of a neighbourhood in a second.
const PER_SECOND: u8 = 64;
const SECOND: Duration = Duration::from_secs(1);

/// A /24, or a /56: what one subscriber may hold.
pub(super) type Prefix = (bool, u64);

pub(super) fn prefix(address: SocketAddr) -> Prefix {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (false, u64::from(ip.to_bits() >> 8)),
        IpAddr::V6(ip) => (true, (ip.to_bits() >> 72) as u64),
    }
}

/// The counters of the present second.
pub(super) struct Sources {
    counts: Box<[u8]>,
    /// Unknown outside, so that nobody aims at the counter of somebody else.
    key: u64,
    since: Option<Instant>,
}

impl Sources {
    pub(super) fn new(key: u64) -> Self {
        Self {
            counts: vec![0; COUNTERS].into_boxed_slice(),
            key,
            since: None,
        }
    }

    /// One more from there; false when it was enough for this second.
    pub(super) fn take(&mut self, now: Instant, from: SocketAddr) -> bool {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= SECOND {
            self.counts.fill(0);
            self.since = Some(now);
        }
        let index = self.index(prefix(from));
        let Some(count) = self.counts.get_mut(index) else {
            return false;
        };
        let free = *count < PER_SECOND;
        *count += u8::from(free);
        free
    }

    fn index(&self, (v6, net): Prefix) -> usize {
        // Multiply and fold, twice (as in splitmix64), from a secret start.
        let mut mixed = net ^ self.key ^ u64::from(v6) << 63;
        for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
            mixed = (mixed ^ mixed >> 31).wrapping_mul(factor).wrapping_add(self.key);
        }
        (mixed >> 52) as usize % COUNTERS
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn a_neighbourhood_has_its_share_of_a_second_and_leaves_that_of_others() {
        let now = Instant::now();
        let mut sources = Sources::new(7);
        let from = |net: u8, host: u8| SocketAddr::from(([10, 0, net, host], 9));
        let taken = (0..200).filter(|host| sources.take(now, from(1, *host))).count();
        assert_eq!(taken, usize::from(PER_SECOND));
        let others = (2..200).filter(|net| sources.take(now, from(*net, 1))).count();
        assert!(others >= 196, "{others}");
        assert!(!sources.take(now + SECOND / 2, from(1, 1)));
        assert!(sources.take(now + SECOND, from(1, 1)));
        let v6 = |host: u16| {
            SocketAddr::from((
                std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0x1200 | host & 0xff, 1, 2, 3, host),
                9,
            ))
        };
        let taken = (0..200)
            .filter(|host| sources.take(now + SECOND, v6(*host)))
            .count();
        assert_eq!(taken, usize::from(PER_SECOND));
    }
}
