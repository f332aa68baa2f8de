//! Devices (`linux/if_link.h`) and their addresses (`linux/if_addr.h`).

use std::net::IpAddr;

use super::Prefix;
use super::wire::{
    ACK, Attributes, CREATE, DUMP, EXCLUSIVE, INET, Malformed, Message, Request, UNSPEC, address, family,
    number, text,
};

pub(super) const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
pub(super) const NEW_ADDRESS: u16 = 20;
const REMOVE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;

const LINK_MAC: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_DETAIL: u16 = 29;
/// Without statistics.
const NO_STATISTICS: u32 = 8;
const IFF_UP: u32 = 1;

const ADDRESS_PEER: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_FLAGS: u16 = 8;
const NO_DETECTION: u32 = 0x2;
const NO_PREFIX_ROUTE: u32 = 0x200;

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its number, which it keeps when it is renamed.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The longest packet it takes, in bytes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// All its flags (`IFF_UP`, `IFF_LOOPBACK`, …).
    pub flags: u32,
    /// Its hardware address, where it has one of 6 bytes. A TUN device has none.
    pub mac: Option<[u8; 6]>,
}

/// An address of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The address, and the length of the prefix that is reached through the device.
    pub prefix: Prefix,
    /// Usable at once: nobody is asked whether they have it too (IPv6 alone, RFC 4862 section 5.4).
    pub no_detection: bool,
    /// The kernel adds no route to the prefix.
    pub no_prefix_route: bool,
}

impl Link {
    pub(super) fn get(name: &str) -> Request {
        Request::new(GET_LINK, ACK)
            .fixed(&[0; 16])
            .attribute(LINK_NAME, &[name.as_bytes(), &[0]].concat())
            .number(LINK_DETAIL, NO_STATISTICS)
    }

    pub(super) fn set(index: u32, up: Option<bool>, mtu: Option<u32>) -> Request {
        let flags = if up == Some(true) { IFF_UP } else { 0 };
        let changed = if up.is_some() { IFF_UP } else { 0 };
        Request::new(NEW_LINK, ACK)
            .fixed(&[0; 4])
            .fixed(&index.to_ne_bytes())
            .fixed(&flags.to_ne_bytes())
            .fixed(&changed.to_ne_bytes())
            .number_if(LINK_MTU, mtu)
    }

    pub(super) fn read(message: &Message<'_>) -> Result<Self, Malformed> {
        let (fixed, attributes) = message.split::<16>()?;
        let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *fixed;
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        let mut link = Self {
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            name: String::new(),
            mtu: 0,
            up: flags & IFF_UP != 0,
            flags,
            mac: None,
        };
        for attribute in attributes {
            match attribute? {
                (LINK_NAME, value) => link.name = text(value),
                (LINK_MTU, value) => link.mtu = number(value)?,
                (LINK_MAC, value) => link.mac = value.try_into().ok(),
                _ => {}
            }
        }
        Ok(link)
    }
}

impl Address {
    /// Of the prefix, with what the kernel does unless told otherwise: detection, and a route to the prefix.
    pub fn new(prefix: Prefix) -> Self {
        Self {
            prefix,
            no_detection: false,
            no_prefix_route: false,
        }
    }

    pub(super) fn add(&self, index: u32) -> Request {
        let detection = if self.no_detection { NO_DETECTION } else { 0 };
        let route = if self.no_prefix_route { NO_PREFIX_ROUTE } else { 0 };
        Self::request(NEW_ADDRESS, ACK | CREATE | EXCLUSIVE, index, self.prefix)
            .number(ADDRESS_FLAGS, detection | route)
    }

    pub(super) fn remove(index: u32, prefix: Prefix) -> Request {
        Self::request(REMOVE_ADDRESS, ACK, index, prefix)
    }

    fn request(kind: u16, flags: u16, index: u32, (ip, length): Prefix) -> Request {
        Request::new(kind, flags)
            .fixed(&[family(ip), length, 0, 0])
            .fixed(&index.to_ne_bytes())
            .address(ADDRESS_LOCAL, ip)
            .address(ADDRESS_PEER, ip)
    }

    pub(super) fn list(index: u32) -> Request {
        Request::new(GET_ADDRESS, DUMP)
            .fixed(&[UNSPEC, 0, 0, 0])
            .fixed(&index.to_ne_bytes())
    }

    /// The address, if it is one of this device.
    pub(super) fn read(message: &Message<'_>, index: u32) -> Result<Option<Self>, Malformed> {
        let (fixed, attributes) = message.split::<8>()?;
        let [_, length, flags, _, number @ ..] = *fixed;
        if u32::from_ne_bytes(number) != index {
            return Ok(None);
        }
        Self::read_attributes(length, u32::from(flags), attributes)
    }

    fn read_attributes(
        length: u8,
        mut flags: u32,
        attributes: Attributes<'_>,
    ) -> Result<Option<Self>, Malformed> {
        let (mut local, mut peer) = (None::<IpAddr>, None);
        for attribute in attributes {
            match attribute? {
                (ADDRESS_LOCAL, value) => local = Some(address(value)?),
                (ADDRESS_PEER, value) => peer = Some(address(value)?),
                (ADDRESS_FLAGS, value) => flags = number(value)?,
                _ => {}
            }
        }
        // IPv6 tells the own address as the peer's where there is no peer.
        Ok(local.or(peer).map(|ip| Self {
            prefix: (ip, length),
            no_detection: family(ip) != INET && flags & NO_DETECTION != 0,
            no_prefix_route: flags & NO_PREFIX_ROUTE != 0,
        }))
    }
}
