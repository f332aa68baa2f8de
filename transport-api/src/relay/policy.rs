//! Which addresses a relay connects to (RFC 9298 §7): everything public, nothing else unless it is allowed by name.
//!
//! The policy looks at resolved addresses only, so a name cannot point around it. An address that carries an IPv4
//! address inside (NAT64, 6to4) is judged by both; a mapped one is the IPv4 address.

use std::fmt;
use std::net::IpAddr;

use crate::engine::{Special, special, translated};
use crate::ip::Network;

/// Why an address is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forbidden {
    /// The operator denies it.
    Denied,
    /// It is not of the public Internet.
    Special(Special),
    /// An address of the relay's own machine.
    OwnAddress,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("denied by configuration"),
            Self::Special(special) => special.fmt(f),
            Self::OwnAddress => f.write_str("address of the relay"),
        }
    }
}

/// Why an address may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// It lies in a network of the allow list.
    ByList,
    /// It is public.
    Public,
}

/// The operator's wishes on top of the built-in rules. Denying wins over allowing.
#[derive(Clone, Debug, Default)]
pub struct TargetPolicy {
    /// Networks allowed although they are not public. A metadata service must be named as a single address; multicast,
    /// broadcast and unspecified addresses cannot be allowed.
    pub allow: Vec<Network>,
    /// Networks denied although they are public.
    pub deny: Vec<Network>,
}

impl TargetPolicy {
    /// Whether the relay may connect to `address`.
    pub fn check(&self, address: IpAddr) -> Result<(), Forbidden> {
        self.verdict(address).map(|_| ())
    }

    pub(crate) fn verdict(&self, address: IpAddr) -> Result<Allowed, Forbidden> {
        let address = address.to_canonical();
        let outer = self.verdict_one(address)?;
        let inner = match address {
            IpAddr::V6(ip) => translated(ip),
            IpAddr::V4(_) => None,
        };
        match inner.map(|inner| self.verdict_one(inner.into())).transpose()? {
            Some(inner) if outer == Allowed::Public => Ok(inner),
            _ => Ok(outer),
        }
    }

    fn verdict_one(&self, address: IpAddr) -> Result<Allowed, Forbidden> {
        if self.deny.iter().any(|n| n.contains(address)) {
            return Err(Forbidden::Denied);
        }
        let mut lists = self.allow.iter().filter(|n| n.contains(address));
        let special = special(address);
        let listed = match special {
            Some(Special::Multicast | Special::Broadcast | Special::Unspecified) => false,
            Some(Special::Metadata) => lists.any(Network::is_single),
            _ => lists.next().is_some(),
        };
        match special {
            _ if listed => Ok(Allowed::ByList),
            Some(special) => Err(Forbidden::Special(special)),
            None => Ok(Allowed::Public),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn networks(list: &[&str]) -> Vec<Network> {
        list.iter().map(|n| n.parse().expect(n)).collect()
    }

    #[test]
    fn built_in_table() {
        use Special::*;
        let table = [
            ("8.8.8.8", None),
            ("1.1.1.1", None),
            ("100.63.255.255", None),
            ("172.32.0.1", None),
            ("2600::1", None),
            ("0.0.0.0", Some(Unspecified)),
            ("0.1.2.3", Some(Unspecified)),
            ("127.0.0.1", Some(Loopback)),
            ("127.255.0.9", Some(Loopback)),
            ("10.1.2.3", Some(Private)),
            ("172.16.0.1", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("192.168.1.1", Some(Private)),
            ("169.254.1.1", Some(LinkLocal)),
            ("169.254.169.254", Some(Metadata)),
            ("100.64.0.1", Some(SharedAddressSpace)),
            ("100.127.255.255", Some(SharedAddressSpace)),
            ("224.0.0.1", Some(Multicast)),
            ("255.255.255.255", Some(Broadcast)),
            ("240.0.0.1", Some(Reserved)),
            ("192.0.2.1", Some(Reserved)),
            ("198.18.0.1", Some(Reserved)),
            ("::", Some(Unspecified)),
            ("::1", Some(Loopback)),
            ("fe80::1", Some(LinkLocal)),
            ("fd12::1", Some(UniqueLocal)),
            ("fec0::1", Some(SiteLocal)),
            ("fd00:ec2::254", Some(Metadata)),
            ("ff02::1", Some(Multicast)),
            ("2001:db8::1", Some(Reserved)),
            ("2001:1::1", Some(Reserved)),
            ("2001:200::1", None),
            ("2001:0:1::1", Some(Reserved)),
            ("100::1", Some(Reserved)),
            ("64:ff9b:1::a00:1", Some(Reserved)),
            // IPv4 inside IPv6.
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::ffff:8.8.8.8", None),
            ("::127.0.0.1", Some(Reserved)),
            ("64:ff9b::7f00:1", Some(Loopback)),
            ("64:ff9b::a9fe:a9fe", Some(Metadata)),
            ("64:ff9b::808:808", None),
            ("2002:a00:1::", Some(Private)),
            ("2002:808:808::1", None),
        ];
        let policy = TargetPolicy::default();
        for (address, expected) in table {
            let expected = expected.map(Forbidden::Special);
            assert_eq!(policy.check(ip(address)).err(), expected, "{address}");
        }
    }

    #[test]
    fn lists() {
        use Special::{Loopback, Metadata, Multicast, Unspecified};
        let policy = TargetPolicy {
            allow: networks(&[
                "10.0.0.0/8",
                "127.0.0.1",
                "fd00::/8",
                "169.254.0.0/16",
                "224.0.0.0/4",
                "0.0.0.0/0",
            ]),
            deny: networks(&["10.9.0.0/16", "8.8.8.8"]),
        };
        for allowed in [
            "10.1.1.1",
            "127.0.0.1",
            "fd12::1",
            "::ffff:10.1.1.1",
            "64:ff9b::a01:101",
            "169.254.1.1",
        ] {
            assert_eq!(policy.check(ip(allowed)), Ok(()), "{allowed}");
        }
        for (address, why) in [
            ("10.9.1.1", Forbidden::Denied),
            ("8.8.8.8", Forbidden::Denied),
            ("::ffff:8.8.8.8", Forbidden::Denied),
            ("64:ff9b::808:808", Forbidden::Denied),
            ("169.254.169.254", Forbidden::Special(Metadata)),
            ("fd00:ec2::254", Forbidden::Special(Metadata)),
            ("224.0.0.1", Forbidden::Special(Multicast)),
            ("0.0.0.0", Forbidden::Special(Unspecified)),
            ("::1", Forbidden::Special(Loopback)),
        ] {
            assert_eq!(policy.check(ip(address)), Err(why), "{address}");
        }
        let translators = TargetPolicy {
            allow: networks(&["64:ff9b::/96", "2002::/16", "10.0.0.0/8"]),
            deny: networks(&["10.9.0.0/16"]),
        };
        for (address, why) in [
            ("64:ff9b::808:808", None),
            ("64:ff9b::a01:101", None),
            ("2002:a01:101::1", None),
            ("64:ff9b::a09:101", Some(Forbidden::Denied)),
            ("64:ff9b::a9fe:a9fe", Some(Forbidden::Special(Metadata))),
            ("2002:7f00:1::1", Some(Forbidden::Special(Loopback))),
        ] {
            assert_eq!(translators.check(ip(address)).err(), why, "{address}");
        }
        let metadata = TargetPolicy {
            allow: networks(&["169.254.169.254"]),
            deny: Vec::new(),
        };
        assert_eq!(metadata.check(ip("169.254.169.254")), Ok(()));
    }

    #[test]
    fn networks_are_parsed_strictly() {
        for bad in [
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::/129",
            "10.0.0/8",
            "x",
            "10.0.0.0/-1",
            "",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        let all: Network = "::/0".parse().expect("all");
        assert!(all.contains(ip("2600::1")) && !all.contains(ip("1.1.1.1")));
    }
}
