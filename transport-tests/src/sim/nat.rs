//! Network address translators of the four kinds of RFC 3489 §5, in the words of RFC 4787: how they map, and what they filter.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// What a NAT lets in, and whether everybody sees a host behind it at one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One address for all; whoever knows it may send there.
    FullCone,
    /// One address for all; hosts that were sent something may send there.
    AddressRestricted,
    /// One address for all; addresses that were sent something may send there.
    PortRestricted,
    /// Another address for each that is sent something, and only that one may send there.
    Symmetric,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Symmetric,
    ];

    /// Whether theory knows of a direct path between hosts behind two of them.
    pub fn meets(self, other: Self) -> bool {
        let closed = |kind| matches!(kind, Self::PortRestricted | Self::Symmetric);
        let symmetric = self == Self::Symmetric || other == Self::Symmetric;
        !(symmetric && closed(self) && closed(other))
    }

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::FullCone => "full cone",
            Self::AddressRestricted => "address-restricted",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
        }
    }
}

/// Whom a mapping is for: the host inside, and with a symmetric NAT the one outside.
type Key = (SocketAddr, Option<SocketAddr>);

#[derive(Debug)]
struct Mapping {
    port: u16,
    used: Duration,
    /// Who was sent something, and when last.
    sent_to: BTreeMap<SocketAddr, Duration>,
}

/// One NAT.
#[derive(Debug)]
pub struct Nat {
    kind: Kind,
    public: IpAddr,
    timeout: Duration,
    next_port: u16,
    mappings: BTreeMap<Key, Mapping>,
}

impl Nat {
    /// A NAT that forgets what was not used outwards for `timeout`.
    pub fn new(kind: Kind, public: IpAddr, timeout: Duration) -> Self {
        Self {
            kind,
            public,
            timeout,
            next_port: 20_000,
            mappings: BTreeMap::new(),
        }
    }

    /// A packet leaves: the address it comes from outside.
    pub fn outward(&mut self, now: Duration, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let key = (from, (self.kind == Kind::Symmetric).then_some(to));
        let timeout = self.timeout;
        self.mappings
            .retain(|_, mapping| now.saturating_sub(mapping.used) < timeout);
        let next_port = &mut self.next_port;
        let mapping = self.mappings.entry(key).or_insert_with(|| {
            // Nobody guesses the next one.
            *next_port += 7;
            Mapping {
                port: *next_port,
                used: now,
                sent_to: BTreeMap::new(),
            }
        });
        mapping.used = now;
        mapping.sent_to.insert(to, now);
        SocketAddr::new(self.public, mapping.port)
    }

    /// A packet comes: the host inside it is for, if it is let in.
    pub fn inward(&self, now: Duration, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let fresh = |at: Duration| now.saturating_sub(at) < self.timeout;
        let meant =
            |mapping: &&Mapping| to == SocketAddr::new(self.public, mapping.port) && fresh(mapping.used);
        let (key, mapping) = self.mappings.iter().find(|(_, mapping)| meant(mapping))?;
        let mut sent_to = mapping.sent_to.iter().filter(|(_, at)| fresh(**at));
        let open = match self.kind {
            Kind::FullCone => true,
            Kind::AddressRestricted => sent_to.any(|(known, _)| known.ip() == from.ip()),
            Kind::PortRestricted | Kind::Symmetric => sent_to.any(|(known, _)| *known == from),
        };
        open.then_some(key.0)
    }

    /// It starts anew, and has forgotten everything.
    pub fn restart(&mut self) {
        self.mappings.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);
    const TIMEOUT: Duration = Duration::from_secs(30);

    fn outside(host: u8, port: u16) -> SocketAddr {
        ([11, 0, 9, host], port).into()
    }

    /// What comes through from the address that was sent something, from another port of it, and from elsewhere.
    fn lets_in(kind: Kind) -> [bool; 3] {
        let mut nat = Nat::new(kind, [11, 0, 0, 1].into(), TIMEOUT);
        let inside = ([192, 168, 0, 2], 5000).into();
        let seen = nat.outward(NOW, inside, outside(1, 1));
        assert_eq!(seen.ip(), IpAddr::from([11, 0, 0, 1]));
        let other = nat.outward(NOW, inside, outside(2, 1));
        assert_eq!(other == seen, kind != Kind::Symmetric, "{kind:?}");
        [outside(1, 1), outside(1, 2), outside(3, 1)].map(|from| {
            let found = nat.inward(NOW, from, seen);
            assert_eq!(nat.inward(NOW + TIMEOUT, from, seen), None, "it forgets");
            found == Some(inside)
        })
    }

    #[test]
    fn each_kind_maps_and_filters_as_it_is_said_to() {
        assert_eq!(lets_in(Kind::FullCone), [true, true, true]);
        assert_eq!(lets_in(Kind::AddressRestricted), [true, true, false]);
        assert_eq!(lets_in(Kind::PortRestricted), [true, false, false]);
        assert_eq!(lets_in(Kind::Symmetric), [true, false, false]);
    }

    #[test]
    fn what_is_used_stays() {
        let mut nat = Nat::new(Kind::PortRestricted, [11, 0, 0, 1].into(), TIMEOUT);
        let inside = ([192, 168, 0, 2], 5000).into();
        let first = nat.outward(NOW, inside, outside(1, 1));
        for second in 0..100 {
            let seen = nat.outward(NOW * second, inside, outside(1, 1));
            assert_eq!(seen, first);
        }
        assert_ne!(nat.outward(NOW * 200, inside, outside(1, 1)), first);
    }
}
