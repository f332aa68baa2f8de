//! The capsules of CONNECT-IP (RFC 9484 §4.7), and packets in DATAGRAM capsules.
//!
//! The reader holds one capsule at most, and none that is longer than [`MAX_ENTRIES`] entries or than a packet that could be sent on.

use std::net::IpAddr;

use super::route::{RouteRange, Routes};
use super::{IpFault, Payload, parse};
use crate::http::varint;
use crate::ip::Network;
use crate::masque::capsule::{self, CapsuleParser, Piece};

/// Entries of one capsule that are read; more are refused.
pub const MAX_ENTRIES: usize = 256;

const ADDRESS_ASSIGN: u64 = 0x01;
const ADDRESS_REQUEST: u64 = 0x02;
const ROUTE_ADVERTISEMENT: u64 = 0x03;
/// The longest entry: a range of IPv6 addresses, or an address with a request id of eight bytes.
const MAX_ENTRY: usize = 1 + 16 + 16 + 1;

/// An address of an ADDRESS_ASSIGN capsule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssignedAddress {
    /// The request it answers; 0 when nobody asked.
    pub request_id: u64,
    /// What may be used. All zeros with a full prefix: the request is denied.
    pub prefix: Network,
}

impl AssignedAddress {
    /// The answer to a request that gets nothing.
    pub fn denied(request_id: u64, v4: bool) -> Self {
        let zero = Network::all(v4).first();
        Self {
            request_id,
            prefix: Network::single(zero),
        }
    }

    /// Whether the request was denied.
    pub fn is_denied(&self) -> bool {
        self.prefix.is_single() && self.prefix.first().is_unspecified()
    }
}

/// One wish of an ADDRESS_REQUEST capsule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRequest {
    /// Never 0, and never used twice by one endpoint.
    pub request_id: u64,
    /// The address wanted; all zeros for any. Its length is wanted as well.
    pub prefix: Network,
}

/// What the peer told on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpCapsule {
    /// The whole list of addresses this side may use.
    Assign(Vec<AssignedAddress>),
    /// Addresses the peer wants.
    Request(Vec<AddressRequest>),
    /// The whole list of what the peer routes to.
    Routes(Routes),
    /// The payload of a DATAGRAM capsule, its context id included.
    Datagram(Vec<u8>),
}

/// Reads the capsules of one stream, however they are cut; unknown ones are skipped.
#[derive(Debug, Default)]
pub struct IpCapsules {
    parser: CapsuleParser,
    /// The kind of the capsule that is being collected.
    collecting: Option<u64>,
    held: Vec<u8>,
    /// Longest DATAGRAM payload worth holding.
    limit: usize,
}

impl IpCapsules {
    /// DATAGRAM payloads longer than `limit` are discarded without being held (RFC 9297 §3.5).
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// The next capsule in `input`, which is taken off it; `None` when `input` is used up.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<IpCapsule>, IpFault> {
        while let Some(piece) = self.parser.next(input) {
            match piece {
                Piece::Header { kind, len } => self.begin(kind, len)?,
                Piece::Chunk(chunk) if self.collecting.is_some() => self.held.extend_from_slice(chunk),
                Piece::Chunk(_) => {}
                Piece::End => {
                    if let Some(kind) = self.collecting.take() {
                        return read(kind, std::mem::take(&mut self.held)).map(Some);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The stream ended cleanly.
    pub fn finish(&self) -> Result<(), IpFault> {
        self.parser.finish().map_err(|_| IpFault::Truncated)
    }

    fn begin(&mut self, kind: u64, len: u64) -> Result<(), IpFault> {
        self.held.clear();
        self.collecting = match kind {
            capsule::kind::DATAGRAM => (len <= self.limit as u64).then_some(kind),
            ADDRESS_ASSIGN | ADDRESS_REQUEST | ROUTE_ADVERTISEMENT => {
                if len > (MAX_ENTRIES * MAX_ENTRY) as u64 {
                    return Err(IpFault::TooMany);
                }
                Some(kind)
            }
            _ => None,
        };
        Ok(())
    }
}

fn read(kind: u64, value: Vec<u8>) -> Result<IpCapsule, IpFault> {
    match kind {
        ADDRESS_ASSIGN => entries(&value, take_assigned).map(IpCapsule::Assign),
        ADDRESS_REQUEST => match entries(&value, take_request)? {
            none if none.is_empty() => Err(IpFault::Malformed),
            requests => Ok(IpCapsule::Request(requests)),
        },
        ROUTE_ADVERTISEMENT => Routes::checked(entries(&value, take_range)?).map(IpCapsule::Routes),
        _ => {
            parse(&value).map(|_: Payload<'_>| ())?;
            Ok(IpCapsule::Datagram(value))
        }
    }
}

type Taken<'a, T> = Option<(T, &'a [u8])>;

fn entries<T>(mut value: &[u8], take: impl Fn(&[u8]) -> Taken<'_, T>) -> Result<Vec<T>, IpFault> {
    let mut entries = Vec::new();
    while !value.is_empty() {
        if entries.len() == MAX_ENTRIES {
            return Err(IpFault::TooMany);
        }
        let (entry, rest) = take(value).ok_or(IpFault::Malformed)?;
        entries.push(entry);
        value = rest;
    }
    Ok(entries)
}

fn take_assigned(value: &[u8]) -> Taken<'_, AssignedAddress> {
    let (request_id, rest) = varint::take(value)?;
    let (prefix, rest) = take_prefix(rest)?;
    Some((AssignedAddress { request_id, prefix }, rest))
}

fn take_request(value: &[u8]) -> Taken<'_, AddressRequest> {
    let (request_id, rest) = varint::take(value)?;
    let (prefix, rest) = take_prefix(rest)?;
    (request_id != 0).then_some((AddressRequest { request_id, prefix }, rest))
}

fn take_prefix(value: &[u8]) -> Taken<'_, Network> {
    let (&version, rest) = value.split_first()?;
    let (address, rest) = take_address(version, rest)?;
    let (&len, rest) = rest.split_first()?;
    Some((Network::new(address, len)?, rest))
}

fn take_range(value: &[u8]) -> Taken<'_, RouteRange> {
    let (&version, rest) = value.split_first()?;
    let (start, rest) = take_address(version, rest)?;
    let (end, rest) = take_address(version, rest)?;
    let (&protocol, rest) = rest.split_first()?;
    Some((RouteRange::new(start, end, protocol)?, rest))
}

fn take_address(version: u8, value: &[u8]) -> Taken<'_, IpAddr> {
    match version {
        4 => {
            let (bytes, rest) = value.split_first_chunk::<4>()?;
            Some((IpAddr::from(*bytes), rest))
        }
        6 => {
            let (bytes, rest) = value.split_first_chunk::<16>()?;
            Some((IpAddr::from(*bytes), rest))
        }
        _ => None,
    }
}

/// Appends an ADDRESS_ASSIGN capsule: the whole list of what the peer may use.
pub fn put_assign(out: &mut Vec<u8>, addresses: &[AssignedAddress]) {
    let mut value = Vec::with_capacity(addresses.len() * MAX_ENTRY);
    for address in addresses {
        varint::put(&mut value, address.request_id);
        put_prefix(&mut value, address.prefix);
    }
    capsule::put(out, ADDRESS_ASSIGN, &value);
}

/// Appends an ADDRESS_REQUEST capsule; there must be one wish at least.
pub fn put_request(out: &mut Vec<u8>, wishes: &[AddressRequest]) {
    let mut value = Vec::with_capacity(wishes.len() * MAX_ENTRY);
    for wish in wishes {
        varint::put(&mut value, wish.request_id);
        put_prefix(&mut value, wish.prefix);
    }
    capsule::put(out, ADDRESS_REQUEST, &value);
}

/// Appends a ROUTE_ADVERTISEMENT capsule: the whole list of what this side routes to.
pub fn put_routes(out: &mut Vec<u8>, routes: &Routes) {
    let mut value = Vec::with_capacity(routes.ranges().len() * MAX_ENTRY);
    for range in routes.ranges() {
        value.push(version(range.start()));
        put_address(&mut value, range.start());
        put_address(&mut value, range.end());
        value.push(range.protocol());
    }
    capsule::put(out, ROUTE_ADVERTISEMENT, &value);
}

fn put_prefix(value: &mut Vec<u8>, prefix: Network) {
    value.push(version(prefix.first()));
    put_address(value, prefix.first());
    value.push(prefix.prefix_len());
}

fn put_address(value: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => value.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => value.extend_from_slice(&ip.octets()),
    }
}

fn version(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

#[cfg(test)]
mod tests;
