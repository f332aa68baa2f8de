//! Errors about packets that are not forwarded (RFC 792, RFC 1812 §4.3.2, RFC 4443), and what errors of others are about.
//!
//! How many are sent is for the caller to limit (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f).

use std::net::IpAddr;

use super::address::AddressKind;
use super::bytes::set_u16;
use super::checksum::Sum;
use super::extension::{V6_HEADER, chain};
use super::packet::{Packet, V4_HEADER, Version, v4_at, v6_at};
use super::protocol;

/// Length of an error at most, with its IP header: for IPv4 RFC 1812 §4.3.2.3, for IPv6 RFC 4443 §2.4 c.
const V4_MOST: usize = 576;
const V6_MOST: usize = 1280;
/// Type, code, checksum and one more word.
const HEADER: usize = 8;
const HOP_LIMIT: u8 = 64;
/// Precedence 6, "internetwork control" (RFC 1812 §4.3.2.5).
const V4_SERVICE: u8 = 0xc0;
const V4_UNREACHABLE: u8 = 3;
const V6_TOO_BIG: u8 = 2;

/// Why a packet is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is larger than `mtu`, in bytes with the IP header, and may not be cut (RFC 1191, RFC 4443 §3.2).
    TooBig {
        /// Largest packet that the next link takes.
        mtu: u16,
    },
    /// There is no route to its destination.
    NoRoute,
    /// There is a route, and nobody answers at its end.
    AddressUnreachable,
    /// Policy forbids it.
    Prohibited,
    /// Its source is not one that its sender may use; in IPv4 that is said as [`Self::Prohibited`].
    SourcePolicy,
    /// Its hop limit is used up.
    TimeExceeded,
}

impl Problem {
    /// Type, code and the word behind the checksum.
    fn words(self, version: Version) -> (u8, u8, u32) {
        match (version, self) {
            (Version::V4, Self::NoRoute) => (V4_UNREACHABLE, 0, 0),
            (Version::V4, Self::AddressUnreachable) => (V4_UNREACHABLE, 1, 0),
            (Version::V4, Self::TooBig { mtu }) => (V4_UNREACHABLE, 4, u32::from(mtu)),
            (Version::V4, Self::Prohibited | Self::SourcePolicy) => (V4_UNREACHABLE, 13, 0),
            (Version::V4, Self::TimeExceeded) => (11, 0, 0),
            (Version::V6, Self::NoRoute) => (1, 0, 0),
            (Version::V6, Self::Prohibited) => (1, 1, 0),
            (Version::V6, Self::AddressUnreachable) => (1, 3, 0),
            (Version::V6, Self::SourcePolicy) => (1, 5, 0),
            (Version::V6, Self::TooBig { mtu }) => (V6_TOO_BIG, 0, u32::from(mtu)),
            (Version::V6, Self::TimeExceeded) => (3, 0, 0),
        }
    }
}

/// Appends to `out` the packet that tells the sender of `about` what became of it, from `source`, an address of this router.
///
/// Writes nothing and returns `false` where no error may be sent (RFC 1812 §4.3.2.7, RFC 4443 §2.4 e): about an ICMP error or
/// redirect, or ICMP that cannot be seen; about a fragment that is not the first; to a sender that is not one interface;
/// about a packet to many, except that an IPv6 multicast may be too big. Also when `source` is of the other version.
pub fn error(about: &Packet<'_>, problem: Problem, source: IpAddr, out: &mut Vec<u8>) -> bool {
    if !may_answer(about, problem) {
        return false;
    }
    match (about.version(), source) {
        (Version::V4, IpAddr::V4(source)) => put_v4(about, problem, source.octets(), out),
        (Version::V6, IpAddr::V6(source)) => put_v6(about, problem, source.octets(), out),
        _ => return false,
    }
    true
}

fn may_answer(about: &Packet<'_>, problem: Problem) -> bool {
    let Some(transport) = about.transport() else {
        return false;
    };
    let (to, version) = (about.destination_kind(), about.version());
    let may_be_for_many = version == Version::V6 && matches!(problem, Problem::TooBig { .. });
    let to_one = match to {
        AddressKind::Multicast => may_be_for_many,
        AddressKind::Broadcast | AddressKind::Unspecified => false,
        AddressKind::Unicast | AddressKind::LinkLocal | AddressKind::Loopback => true,
    };
    let from_one = matches!(about.source_kind(), AddressKind::Unicast | AddressKind::LinkLocal);
    let kind = transport.first().copied();
    let is_error = match (version, about.protocol()) {
        (Version::V4, protocol::ICMP) => kind.is_none_or(is_v4_error),
        // Redirects (137) count as errors here.
        (Version::V6, protocol::ICMPV6) => kind.is_none_or(|kind| kind < 128 || kind == 137),
        _ => false,
    };
    to_one && from_one && !is_error
}

/// Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122 §3.2.2).
fn is_v4_error(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

fn put_v4(about: &Packet<'_>, problem: Problem, source: [u8; 4], out: &mut Vec<u8>) {
    let quote = about.bytes();
    let quote = quote.get(..V4_MOST - V4_HEADER - HEADER).unwrap_or(quote);
    let total = (V4_HEADER + HEADER + quote.len()) as u16;
    let [high, low] = total.to_be_bytes();
    let mut header = [0; V4_HEADER];
    // With DF set the identification says nothing (RFC 6864 §4.1).
    header[..10].copy_from_slice(&[
        0x45,
        V4_SERVICE,
        high,
        low,
        0,
        0,
        0x40,
        0,
        HOP_LIMIT,
        protocol::ICMP,
    ]);
    header[12..16].copy_from_slice(&source);
    header[16..].copy_from_slice(about.addresses().get(..4).unwrap_or(&[0; 4]));
    let checksum = Sum::new().bytes(&header).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    out.extend_from_slice(&header);
    put_message(problem.words(Version::V4), Sum::new(), quote, out);
}

fn put_v6(about: &Packet<'_>, problem: Problem, source: [u8; 16], out: &mut Vec<u8>) {
    let quote = about.bytes();
    let quote = quote.get(..V6_MOST - V6_HEADER - HEADER).unwrap_or(quote);
    let payload = (HEADER + quote.len()) as u16;
    let [high, low] = payload.to_be_bytes();
    let mut header = [0; V6_HEADER];
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, protocol::ICMPV6, HOP_LIMIT]);
    header[8..24].copy_from_slice(&source);
    header[24..].copy_from_slice(about.addresses().get(..16).unwrap_or(&[0; 16]));
    out.extend_from_slice(&header);
    let sum = Sum::new().pseudo_header(&header[8..], protocol::ICMPV6, payload);
    put_message(problem.words(Version::V6), sum, quote, out);
}

fn put_message((kind, code, word): (u8, u8, u32), sum: Sum, quote: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[kind, code, 0, 0]);
    out.extend_from_slice(&word.to_be_bytes());
    out.extend_from_slice(quote);
    let checksum = sum.bytes(out.get(at..).unwrap_or_default()).checksum();
    set_u16(out, at + 2, checksum);
}

/// What an ICMP error is about: the packet that met the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Who sent it, and receives the error.
    pub source: IpAddr,
    /// Where it went.
    pub destination: IpAddr,
    /// Its protocol, behind all extension headers.
    pub protocol: u8,
}

/// What `packet` is about, when it is an ICMP error (for IPv4 also a redirect). On a shared address this, not the packet's own header, says
/// whose scope it belongs to (RFC 9484 §11). `None` for every other packet, and for a quote that is cut before it has said so.
pub fn quoted(packet: &Packet<'_>) -> Option<Quoted> {
    let transport = packet.transport()?;
    let &kind = transport.first()?;
    match (packet.version(), packet.protocol()) {
        (Version::V4, protocol::ICMP) if is_v4_error(kind) => quoted_v4(transport.get(HEADER..)?),
        (Version::V6, protocol::ICMPV6) if kind < 128 => quoted_v6(transport.get(HEADER..)?),
        _ => None,
    }
}

fn quoted_v4(quote: &[u8]) -> Option<Quoted> {
    let fixed = quote.first_chunk::<V4_HEADER>()?;
    if !(0x45..=0x4f).contains(&fixed[0]) {
        return None;
    }
    Some(Quoted {
        source: v4_at(quote, 12),
        destination: v4_at(quote, 16),
        protocol: fixed[9],
    })
}

fn quoted_v6(quote: &[u8]) -> Option<Quoted> {
    let fixed = quote.first_chunk::<V6_HEADER>()?;
    if fixed[0] >> 4 != 6 {
        return None;
    }
    Some(Quoted {
        source: v6_at(quote, 8),
        destination: v6_at(quote, 24),
        protocol: chain(quote).ok()?.protocol,
    })
}

#[cfg(test)]
mod tests;
