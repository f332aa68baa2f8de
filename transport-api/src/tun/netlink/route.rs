//! Routes (`linux/rtnetlink.h`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{
    ACK, Attributes, CREATE, DUMP, EXCLUSIVE, INET, INET6, Malformed, Message, Request, UNSPEC, address,
    family, number, push_attribute,
};
use super::{MAIN_TABLE, Prefix, is_prefix};

pub(super) const NEW_ROUTE: u16 = 24;
const REMOVE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

const DESTINATION: u16 = 1;
const DEVICE: u16 = 4;
const GATEWAY: u16 = 5;
const METRIC: u16 = 6;
const SOURCE: u16 = 7;
const METRICS: u16 = 8;
const TABLE: u16 = 15;
/// A gateway of the other family: its family, then its address.
const VIA: u16 = 18;
const METRICS_MTU: u16 = 2;

/// How far a destination is: anywhere, on the link; nowhere is any when removing. IPv4 alone looks at it.
const ANYWHERE: u8 = 0;
const ON_LINK: u8 = 253;
const NOWHERE: u8 = 255;
/// A flag of what IPv6 remembers of a single destination.
const CLONED: u32 = 0x200;

/// What becomes of packets that a route matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteKind {
    /// They leave.
    Unicast,
    /// They are dropped, and the sender is told.
    Unreachable,
    /// They are dropped silently.
    Blackhole,
    /// The next rule is asked, as if the table had no route.
    Throw,
}

/// Numbers of the kernel's.
const KINDS: [(RouteKind, u8, &str); 4] = [
    (RouteKind::Unicast, 1, ""),
    (RouteKind::Blackhole, 6, "blackhole "),
    (RouteKind::Unreachable, 7, "unreachable "),
    (RouteKind::Throw, 9, "throw "),
];

/// A route of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Where to. The kernel wants bits after the prefix to be 0.
    pub destination: Prefix,
    /// By which device ([`Link::index`](super::Link::index)).
    pub device: Option<u32>,
    /// By which neighbour.
    pub gateway: Option<IpAddr>,
    /// The address packets carry whose sender chose none.
    pub source: Option<IpAddr>,
    /// In which table.
    pub table: u32,
    /// Of several routes to one destination the lowest is taken. `None` leaves it to the kernel (0; 1024 for IPv6), and
    /// removes whatever it is.
    pub metric: Option<u32>,
    /// The longest packet in bytes, where it is less than the device's.
    pub mtu: Option<u32>,
    /// What becomes of packets.
    pub kind: RouteKind,
    /// Who made it, as a number others can see (`/etc/iproute2/rt_protos`).
    pub protocol: u8,
}

impl Route {
    /// The protocol of routes an administrator made.
    pub const STATIC: u8 = 4;

    /// To this destination, in the main table, and nothing else said.
    pub fn to(destination: Prefix) -> Self {
        Self {
            destination,
            device: None,
            gateway: None,
            source: None,
            table: MAIN_TABLE,
            metric: None,
            mtu: None,
            kind: RouteKind::Unicast,
            protocol: Self::STATIC,
        }
    }

    /// What is wrong with it that the kernel would misread.
    pub(super) fn flaw(&self) -> Option<&'static str> {
        let same_family = |ip: IpAddr| ip.is_ipv4() == self.destination.0.is_ipv4();
        if !is_prefix(self.destination) {
            return Some("the prefix is longer than an address");
        }
        let foreign = self.source.is_some_and(|ip| !same_family(ip));
        foreign.then_some("the source is of another family than the destination")
    }

    pub(super) fn add(&self) -> Request {
        let on_link = self.kind == RouteKind::Unicast && self.gateway.is_none();
        let scope = if on_link && self.destination.0.is_ipv4() {
            ON_LINK
        } else {
            ANYWHERE
        };
        self.request(NEW_ROUTE, ACK | CREATE | EXCLUSIVE, scope)
    }

    pub(super) fn remove(&self) -> Request {
        self.request(REMOVE_ROUTE, ACK, NOWHERE)
    }

    fn request(&self, kind: u16, flags: u16, scope: u8) -> Request {
        let (ip, length) = self.destination;
        let table = u8::try_from(self.table).unwrap_or(0);
        let fixed = [
            family(ip),
            length,
            0,
            0,
            table,
            self.protocol,
            scope,
            self.kind.number(),
        ];
        let mut request = Request::new(kind, flags)
            .fixed(&fixed)
            .fixed(&[0; 4])
            .address(DESTINATION, ip)
            .number(TABLE, self.table)
            .number_if(DEVICE, self.device)
            .number_if(METRIC, self.metric);
        request = match self.gateway {
            Some(gateway) if gateway.is_ipv4() == ip.is_ipv4() => request.address(GATEWAY, gateway),
            Some(gateway) => request.attribute(VIA, &via(gateway)),
            None => request,
        };
        if let Some(source) = self.source {
            request = request.address(SOURCE, source);
        }
        if let Some(mtu) = self.mtu {
            let mut metrics = Vec::new();
            push_attribute(&mut metrics, METRICS_MTU, &mtu.to_ne_bytes());
            request = request.attribute(METRICS, &metrics);
        }
        request
    }

    pub(super) fn list(table: u32) -> Request {
        Request::new(GET_ROUTE, DUMP)
            .fixed(&[UNSPEC, 0, 0, 0])
            .fixed(&[0; 8])
            .number(TABLE, table)
    }

    /// The route, if it is of this table and can be told.
    pub(super) fn read(message: &Message<'_>, table: u32) -> Result<Option<Self>, Malformed> {
        let (fixed, attributes) = message.split::<12>()?;
        let [
            family,
            length,
            source_length,
            tos,
            low_table,
            protocol,
            _,
            kind,
            flags @ ..,
        ] = *fixed;
        let anywhere = match family {
            INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return Ok(None),
        };
        let Some(kind) = RouteKind::of(kind) else {
            return Ok(None);
        };
        if source_length != 0 || tos != 0 || u32::from_ne_bytes(flags) & CLONED != 0 {
            return Ok(None);
        }
        let mut route = Self {
            table: u32::from(low_table),
            kind,
            protocol,
            ..Self::to((anywhere, length))
        };
        route.read_attributes(attributes)?;
        if kind != RouteKind::Unicast {
            // IPv6 tells the loopback device.
            route.device = None;
        }
        Ok(Some(route).filter(|route| route.table == table))
    }

    fn read_attributes(&mut self, attributes: Attributes<'_>) -> Result<(), Malformed> {
        for attribute in attributes {
            match attribute? {
                (DESTINATION, value) => self.destination.0 = address(value)?,
                (DEVICE, value) => self.device = Some(number(value)?),
                (GATEWAY, value) => self.gateway = Some(address(value)?),
                (VIA, value) => self.gateway = Some(address(value.get(2..).unwrap_or_default())?),
                (METRIC, value) => self.metric = Some(number(value)?),
                (SOURCE, value) => self.source = Some(address(value)?),
                (TABLE, value) => self.table = number(value)?,
                (METRICS, value) => self.mtu = mtu_of(value)?.or(self.mtu),
                _ => {}
            }
        }
        Ok(())
    }
}

fn mtu_of(metrics: &[u8]) -> Result<Option<u32>, Malformed> {
    for metric in Attributes::new(metrics) {
        if let (METRICS_MTU, value) = metric? {
            return number(value).map(Some);
        }
    }
    Ok(None)
}

fn via(gateway: IpAddr) -> Vec<u8> {
    let mut value = u16::from(family(gateway)).to_ne_bytes().to_vec();
    match gateway {
        IpAddr::V4(v4) => value.extend(v4.octets()),
        IpAddr::V6(v6) => value.extend(v6.octets()),
    }
    value
}

impl RouteKind {
    fn of(number: u8) -> Option<Self> {
        let known = KINDS.iter().find(|(_, known, _)| *known == number);
        known.map(|(kind, ..)| *kind)
    }

    fn number(self) -> u8 {
        let known = KINDS.iter().find(|(kind, ..)| *kind == self);
        known.map_or(0, |(_, number, _)| *number)
    }

    fn word(self) -> &'static str {
        let known = KINDS.iter().find(|(kind, ..)| *kind == self);
        known.map_or("", |(.., word)| *word)
    }
}

/// As `ip route` writes it, with the device's number.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, length) = self.destination;
        write!(f, "{}{ip}/{length}", self.kind.word())?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(device) = self.device {
            write!(f, " dev #{device}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        write!(f, " table {}", self.table)
    }
}
