//! Which addresses a relay connects to (RFC 9298 §7): everything public, nothing else unless it is allowed by name.
//!
//! The policy looks at resolved addresses only, so a name cannot point around it. An address that carries an IPv4
//! address inside (mapped, NAT64, 6to4, Teredo) is judged by both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ip::Network;

/// Why an address is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forbidden {
    /// The operator denies it.
    Denied,
    /// 0.0.0.0/8, ::
    Unspecified,
    /// 127.0.0.0/8, `::1`
    Loopback,
    /// RFC 1918
    Private,
    /// `fc00::/7`, and the deprecated `fec0::/10`
    UniqueLocal,
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
    /// Documentation, benchmarking, discard, and what IANA keeps for later.
    Reserved,
    /// An address of the relay's own machine.
    OwnAddress,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied => "denied by configuration",
            Self::Unspecified => "unspecified address",
            Self::Loopback => "loopback address",
            Self::Private => "private address",
            Self::UniqueLocal => "unique local address",
            Self::LinkLocal => "link-local address",
            Self::Multicast => "multicast address",
            Self::Broadcast => "broadcast address",
            Self::SharedAddressSpace => "shared address space",
            Self::Metadata => "metadata service",
            Self::Reserved => "reserved address",
            Self::OwnAddress => "address of the relay",
        })
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

const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

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
        match address {
            IpAddr::V6(ip) if outer == Allowed::Public => match embedded(ip) {
                Some(inner) => self.verdict_one(inner.into()),
                None => Ok(outer),
            },
            _ => Ok(outer),
        }
    }

    fn verdict_one(&self, address: IpAddr) -> Result<Allowed, Forbidden> {
        if self.deny.iter().any(|n| n.contains(address)) {
            return Err(Forbidden::Denied);
        }
        let class = match address {
            IpAddr::V4(ip) => classify_v4(ip),
            IpAddr::V6(ip) => classify_v6(ip),
        };
        let mut lists = self.allow.iter().filter(|n| n.contains(address));
        match class {
            Some(hard @ (Forbidden::Multicast | Forbidden::Broadcast | Forbidden::Unspecified)) => Err(hard),
            Some(Forbidden::Metadata) if lists.any(Network::is_single) => Ok(Allowed::ByList),
            Some(Forbidden::Metadata) => Err(Forbidden::Metadata),
            _ if lists.next().is_some() => Ok(Allowed::ByList),
            Some(soft) => Err(soft),
            None => Ok(Allowed::Public),
        }
    }
}

fn classify_v4(ip: Ipv4Addr) -> Option<Forbidden> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        _ if ip == METADATA_V4 => Forbidden::Metadata,
        _ if ip.is_broadcast() => Forbidden::Broadcast,
        (0, ..) => Forbidden::Unspecified,
        (127, ..) => Forbidden::Loopback,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Forbidden::Private,
        (169, 254, _) => Forbidden::LinkLocal,
        (100, 64..=127, _) => Forbidden::SharedAddressSpace,
        (224..=239, ..) => Forbidden::Multicast,
        // IETF protocols, 6to4 anycast, documentation, benchmarking, class E.
        (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18..=19, _)
        | (198, 51, 100)
        | (203, 0, 113)
        | (240..=255, ..) => Forbidden::Reserved,
        _ => return None,
    })
}

fn classify_v6(ip: Ipv6Addr) -> Option<Forbidden> {
    let s = ip.segments();
    Some(match s {
        _ if ip == METADATA_V6 => Forbidden::Metadata,
        _ if ip.is_unspecified() => Forbidden::Unspecified,
        _ if ip.is_loopback() => Forbidden::Loopback,
        [0xff00..=0xffff, ..] => Forbidden::Multicast,
        [0xfe80..=0xfebf, ..] => Forbidden::LinkLocal,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Forbidden::UniqueLocal,
        // Judged by the address inside, as is 6to4; the local NAT64 prefix has no fixed place for one.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => return None,
        // Teredo, ORCHID, documentation, and everything outside global unicast (2000::/3).
        [0x2001, 0 | 0x10..=0x2f | 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Forbidden::Reserved,
        [0x2000..=0x3fff, ..] => return None,
        _ => Forbidden::Reserved,
    })
}

/// The IPv4 address inside an IPv6 address that a translator would use.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
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
        use Forbidden::*;
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
            ("fec0::1", Some(UniqueLocal)),
            ("fd00:ec2::254", Some(Metadata)),
            ("ff02::1", Some(Multicast)),
            ("2001:db8::1", Some(Reserved)),
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
            assert_eq!(policy.check(ip(address)).err(), expected, "{address}");
        }
    }

    #[test]
    fn lists() {
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
            ("169.254.169.254", Forbidden::Metadata),
            ("fd00:ec2::254", Forbidden::Metadata),
            ("224.0.0.1", Forbidden::Multicast),
            ("0.0.0.0", Forbidden::Unspecified),
            ("::1", Forbidden::Loopback),
        ] {
            assert_eq!(policy.check(ip(address)), Err(why), "{address}");
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
