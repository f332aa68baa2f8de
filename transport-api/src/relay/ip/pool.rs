//! The addresses a relay gives its clients. A client that is known by its keys gets the same ones whenever it comes back.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use crate::ClientId;
use crate::ip::Network;

/// Known clients whose addresses are remembered, at most; the one that was away longest goes first.
pub const MAX_LEASES: usize = 65_536;
/// Addresses tried one after another before the pool counts as full.
const MAX_TRIES: u128 = 1 << 20;

/// The addresses of one client, kept for its return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose they are.
    pub client: ClientId,
    /// At most one of each family; none when the lease is over.
    pub addresses: Vec<IpAddr>,
}

/// Why pools or leases cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// Two pools of one family: which would a client get?
    TwoOfAFamily(Network, Network),
    /// No room for the relay and one client.
    TooSmall(Network),
    /// One address was leased to two clients.
    LeasedTwice(IpAddr),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoOfAFamily(a, b) => write!(
                f,
                "pools {a} and {b} are of one family; give one IPv4 and one IPv6 pool"
            ),
            Self::TooSmall(pool) => write!(
                f,
                "pool {pool} has no room for a client; take a /29 or /125 at least"
            ),
            Self::LeasedTwice(address) => write!(f, "the leases give {address} to two clients"),
        }
    }
}

impl std::error::Error for PoolError {}

/// Who holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Holder {
    /// A client that proved who it is.
    Known(ClientId),
    /// A tunnel of a client nobody knows, by its number.
    Anonymous(u64),
}

#[derive(Debug, Default)]
struct Held {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
    /// When it was last used, in turns; `None` while it is.
    left: Option<u64>,
}

impl Held {
    fn of(&mut self, v4: bool) -> &mut Option<IpAddr> {
        if v4 { &mut self.v4 } else { &mut self.v6 }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.into_iter().chain(self.v6)
    }
}

/// A range of addresses, and where the next free one may be.
#[derive(Debug)]
struct Range {
    network: Network,
    next: u128,
    /// Index after the last address that may be given.
    end: u128,
}

/// All addresses of a relay.
#[derive(Debug)]
pub(crate) struct Pool {
    ranges: Vec<Range>,
    held: BTreeMap<Holder, Held>,
    /// All that are held.
    taken: HashSet<IpAddr>,
    turn: u64,
    /// Clients whose lease is not what was told last.
    changed: Vec<ClientId>,
}

/// The relay's own place in a pool; the first address of an IPv4 network names the network.
const GATEWAY: u128 = 1;

impl Pool {
    /// Leases of addresses outside the pools are forgotten: the operator chose others.
    pub(crate) fn new(networks: &[Network], leases: &[Lease]) -> Result<Self, PoolError> {
        let mut ranges: Vec<Range> = Vec::new();
        for &network in networks {
            if let Some(other) = ranges.iter().find(|r| r.network.is_ipv4() == network.is_ipv4()) {
                return Err(PoolError::TwoOfAFamily(other.network, network));
            }
            ranges.push(Range::new(network)?);
        }
        let mut pool = Self {
            ranges,
            held: BTreeMap::new(),
            taken: HashSet::new(),
            turn: 0,
            changed: Vec::new(),
        };
        for lease in leases.iter().take(MAX_LEASES) {
            for &address in &lease.addresses {
                if pool.is_for_clients(address) {
                    pool.note(Holder::Known(lease.client), address)
                        .map_err(|()| PoolError::LeasedTwice(address))?;
                }
            }
            if let Some(held) = pool.held.get_mut(&Holder::Known(lease.client)) {
                held.left = Some(0);
            }
        }
        pool.changed.clear();
        Ok(pool)
    }

    /// The relay's own address of a family, if it has a pool for it.
    pub(crate) fn gateway(&self, v4: bool) -> Option<IpAddr> {
        self.range(v4)?.network.nth(GATEWAY)
    }

    /// Whether an address belongs to one of the pools.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.network.contains(address))
    }

    /// An address of a family for `holder`: the one it has, the one it wishes if that is free, or the next one. `None`: there is
    /// no pool for the family, or nothing left in it.
    pub(crate) fn take(&mut self, holder: Holder, v4: bool, wish: Option<IpAddr>) -> Option<IpAddr> {
        if let Some(held) = self.held.get_mut(&holder) {
            held.left = None;
            if let Some(address) = *held.of(v4) {
                return Some(address);
            }
        }
        let wish =
            wish.filter(|&ip| ip.is_ipv4() == v4 && self.is_for_clients(ip) && !self.taken.contains(&ip));
        let address = wish.or_else(|| self.next_free(v4)).or_else(|| self.reclaim(v4))?;
        self.note(holder, address).ok()?;
        Some(address)
    }

    /// The holder has gone. A known one keeps what it has.
    pub(crate) fn leave(&mut self, holder: Holder) {
        self.turn += 1;
        match holder {
            Holder::Anonymous(_) => self.forget(holder),
            Holder::Known(_) => {
                if let Some(held) = self.held.get_mut(&holder) {
                    held.left = Some(self.turn);
                }
                if self.held.len() > MAX_LEASES {
                    self.forget_longest_away(|_| true);
                }
            }
        }
    }

    /// The leases that have changed since this was asked last, as they are now.
    pub(crate) fn changes(&mut self) -> Vec<Lease> {
        let lease = |client: ClientId| {
            let held = self.held.get(&Holder::Known(client));
            let addresses = held.map(|held| held.addresses().collect()).unwrap_or_default();
            Lease { client, addresses }
        };
        let changes = self.changed.iter().copied().map(lease).collect();
        self.changed.clear();
        changes
    }

    fn note_change(&mut self, holder: Holder) {
        if let Holder::Known(client) = holder
            && !self.changed.contains(&client)
        {
            self.changed.push(client);
        }
    }

    fn range(&self, v4: bool) -> Option<&Range> {
        self.ranges.iter().find(|range| range.network.is_ipv4() == v4)
    }

    fn is_for_clients(&self, address: IpAddr) -> bool {
        self.range(address.is_ipv4()).is_some_and(|range| {
            range
                .index(address)
                .is_some_and(|index| (GATEWAY + 1..range.end).contains(&index))
        })
    }

    fn note(&mut self, holder: Holder, address: IpAddr) -> Result<(), ()> {
        let held = self.held.get(&holder);
        let own = held.is_some_and(|held| held.addresses().any(|known| known == address));
        if self.taken.contains(&address) && !own {
            return Err(());
        }
        let place = self.held.entry(holder).or_default().of(address.is_ipv4());
        // One address of a family is enough; a lease with more gives the first.
        if place.is_none() {
            *place = Some(address);
            self.taken.insert(address);
            self.note_change(holder);
        }
        Ok(())
    }

    fn next_free(&mut self, v4: bool) -> Option<IpAddr> {
        let range = self
            .ranges
            .iter_mut()
            .find(|range| range.network.is_ipv4() == v4)?;
        let room = range.end - (GATEWAY + 1);
        for _ in 0..room.min(MAX_TRIES) {
            let index = range.next;
            range.next = if index + 1 < range.end {
                index + 1
            } else {
                GATEWAY + 1
            };
            let address = range.network.nth(index)?;
            if !self.taken.contains(&address) {
                return Some(address);
            }
        }
        None
    }

    /// Takes an address from the client that was away longest.
    fn reclaim(&mut self, v4: bool) -> Option<IpAddr> {
        let has = |held: &Held| if v4 { held.v4 } else { held.v6 }.is_some();
        let (v4_address, v6_address) = self.forget_longest_away(has)?;
        if v4 { v4_address } else { v6_address }
    }

    fn forget_longest_away(
        &mut self,
        which: impl Fn(&Held) -> bool,
    ) -> Option<(Option<IpAddr>, Option<IpAddr>)> {
        let away = self.held.iter().filter(|(_, held)| which(held));
        let (_, holder) = away
            .filter_map(|(holder, held)| Some((held.left?, *holder)))
            .min()?;
        let held = self.held.get(&holder)?;
        let addresses = (held.v4, held.v6);
        self.forget(holder);
        Some(addresses)
    }

    fn forget(&mut self, holder: Holder) {
        if let Some(held) = self.held.remove(&holder) {
            for address in held.addresses() {
                self.taken.remove(&address);
            }
            self.note_change(holder);
        }
    }
}

impl Range {
    fn new(network: Network) -> Result<Self, PoolError> {
        let width = if network.is_ipv4() { 32 } else { 128 };
        let host_bits = u32::from(width - network.prefix_len());
        let size = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        // The last address of an IPv4 network is its broadcast address.
        let end = size - u128::from(network.is_ipv4());
        if end <= GATEWAY + 1 {
            return Err(PoolError::TooSmall(network));
        }
        Ok(Self {
            network,
            next: GATEWAY + 1,
            end,
        })
    }

    fn index(&self, address: IpAddr) -> Option<u128> {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let inside = self.network.contains(address);
        inside.then(|| bits(address) - bits(self.network.first()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn known(n: u8) -> Holder {
        Holder::Known(ClientId::from_bytes([n; 32]))
    }

    fn small() -> Pool {
        Pool::new(&[network("10.77.0.0/29"), network("fd77::/64")], &[]).expect("a pool")
    }

    #[test]
    fn the_relay_has_the_first_address_and_clients_the_others() {
        let mut pool = small();
        assert_eq!(pool.gateway(true), Some(ip("10.77.0.1")));
        assert_eq!(pool.gateway(false), Some(ip("fd77::1")));
        assert_eq!(pool.take(Holder::Anonymous(1), true, None), Some(ip("10.77.0.2")));
        assert_eq!(pool.take(Holder::Anonymous(1), false, None), Some(ip("fd77::2")));
        assert_eq!(
            pool.take(Holder::Anonymous(1), true, None),
            Some(ip("10.77.0.2")),
            "the same again"
        );
        for wish in ["10.77.0.0", "10.77.0.1", "10.77.0.7", "10.77.0.2", "192.0.2.1"] {
            let got = pool.take(
                Holder::Anonymous(u64::from(wish.as_bytes()[8])),
                true,
                Some(ip(wish)),
            );
            assert_ne!(got, Some(ip(wish)));
        }
    }

    #[test]
    fn a_known_client_comes_back_to_its_address_even_after_a_restart() {
        let mut pool = small();
        let wished = pool.take(known(7), true, Some(ip("10.77.0.5")));
        assert_eq!(wished, Some(ip("10.77.0.5")));
        pool.leave(known(7));
        pool.take(Holder::Anonymous(1), true, None);
        pool.leave(Holder::Anonymous(1));
        let leases = pool.changes();
        assert_eq!(leases.len(), 1, "who is not known is not told of");
        assert_eq!(pool.changes(), []);
        let mut again = Pool::new(&[network("10.77.0.0/29")], &leases).expect("a pool");
        assert_eq!(
            again.take(known(8), true, Some(ip("10.77.0.5"))),
            Some(ip("10.77.0.2"))
        );
        assert_eq!(again.take(known(7), true, None), wished);
    }

    #[test]
    fn a_full_pool_takes_from_who_was_away_longest_and_then_refuses() {
        let mut pool = small();
        for n in 1..=5 {
            assert!(pool.take(known(n), true, None).is_some());
        }
        pool.leave(known(3));
        pool.leave(known(1));
        assert_eq!(
            pool.take(known(9), true, None),
            Some(ip("10.77.0.4")),
            "the third's"
        );
        pool.changes();
        assert_eq!(
            pool.take(known(10), true, None),
            Some(ip("10.77.0.2")),
            "the first's"
        );
        assert_eq!(
            pool.changes().first().map(|lease| lease.addresses.len()),
            Some(0),
            "it lost its lease"
        );
        assert_eq!(pool.take(known(11), true, None), None);
        assert!(
            pool.take(known(11), false, None).is_some(),
            "the other family has room"
        );
    }

    #[test]
    fn pools_and_leases_that_contradict_themselves_are_refused() {
        let two = Pool::new(&[network("10.0.0.0/8"), network("192.0.2.0/24")], &[]);
        assert!(matches!(two, Err(PoolError::TwoOfAFamily(..))));
        for tiny in ["10.0.0.0/31", "10.0.0.1/32", "10.0.0.0/30", "fd77::1"] {
            let made = Pool::new(&[network(tiny)], &[]);
            assert_eq!(made.is_ok(), tiny == "10.0.0.0/30", "{tiny}");
        }
        let lease = |n: u8, addresses: &[&str]| Lease {
            client: ClientId::from_bytes([n; 32]),
            addresses: addresses.iter().map(|text| ip(text)).collect(),
        };
        let twice = [lease(1, &["10.77.0.3"]), lease(2, &["10.77.0.3"])];
        let made = Pool::new(&[network("10.77.0.0/29")], &twice);
        assert_eq!(made.err(), Some(PoolError::LeasedTwice(ip("10.77.0.3"))));
        let outside = Pool::new(
            &[network("10.77.0.0/29")],
            &[lease(1, &["192.0.2.1", "10.77.0.1"])],
        );
        let mut outside = outside.expect("a pool");
        assert_eq!(
            outside.take(known(1), true, None),
            Some(ip("10.77.0.2")),
            "a new one"
        );
    }

    #[test]
    fn no_address_ever_has_two_holders() {
        arbtest::arbtest(|u| {
            let mut pool = small();
            let mut present: BTreeMap<Holder, IpAddr> = BTreeMap::new();
            for _ in 0..u.int_in_range(0..=60)? {
                let n: u8 = u.int_in_range(0..=9)?;
                let holder = if n < 5 {
                    known(n)
                } else {
                    Holder::Anonymous(u64::from(n))
                };
                if u.arbitrary()? {
                    pool.leave(holder);
                    present.remove(&holder);
                } else if let Some(address) = pool.take(holder, true, None) {
                    present.insert(holder, address);
                }
                let mut addresses: Vec<_> = present.values().collect();
                addresses.sort();
                addresses.dedup();
                assert_eq!(addresses.len(), present.len());
            }
            Ok(())
        });
    }
}
