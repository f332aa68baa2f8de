//! Payloads of bind (draft §§4, 5): a context id, for an uncompressed context the peer's address and port, and the bytes of one
//! UDP packet.

use std::net::{IpAddr, SocketAddr};

use super::BindFault;
use crate::http::varint;
use crate::masque::udp::{MAX_UDP_PAYLOAD, UDP_CONTEXT};

/// Bytes of address and port in front of an uncompressed payload to or from an IPv4 peer.
pub const V4_HEADER: usize = 1 + 4 + 2;
/// The same for IPv6.
pub const V6_HEADER: usize = 1 + 16 + 2;

/// Splits the payload of an HTTP datagram into its context id and what follows.
///
/// Fails without a whole id, and on context 0 with more than a UDP packet holds (RFC 9298 §5).
pub fn parse(payload: &[u8]) -> Result<(u64, &[u8]), BindFault> {
    match varint::take(payload) {
        None => Err(BindFault::NoContext),
        Some((UDP_CONTEXT, bytes)) if bytes.len() > MAX_UDP_PAYLOAD => Err(BindFault::TooLong),
        Some(split) => Ok(split),
    }
}

/// The peer and the UDP payload of what follows the id of an uncompressed context. `None`: it is no such thing, and is dropped.
pub fn split_peer(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (&version, rest) = bytes.split_first()?;
    let (peer, payload) = take_tuple(version, rest)?;
    (payload.len() <= MAX_UDP_PAYLOAD).then_some((peer, payload))
}

/// Address and port as ASSIGN and uncompressed datagrams have them, behind the version.
pub(super) fn take_tuple(version: u8, bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (ip, rest): (IpAddr, _) = match version {
        4 => {
            let (octets, rest) = bytes.split_first_chunk::<4>()?;
            ((*octets).into(), rest)
        }
        6 => {
            let (octets, rest) = bytes.split_first_chunk::<16>()?;
            ((*octets).into(), rest)
        }
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), rest))
}

/// Appends version, address and port. The header of an uncompressed payload after its context id is this.
pub fn put_peer(out: &mut Vec<u8>, peer: SocketAddr) {
    match peer.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&peer.port().to_be_bytes());
}

/// Appends what stands in front of a UDP payload to or from `peer` on an uncompressed context.
pub fn put_header(out: &mut Vec<u8>, context: u64, peer: SocketAddr) {
    varint::put(out, context);
    put_peer(out, peer);
}

/// Bytes that address and port of `peer` take.
pub const fn peer_len(peer: SocketAddr) -> usize {
    if peer.is_ipv4() { V4_HEADER } else { V6_HEADER }
}

/// Bytes in front of a UDP payload in the payload of an HTTP datagram; `peer` for an uncompressed context.
pub const fn overhead(context: u64, peer: Option<SocketAddr>) -> usize {
    varint::len(context)
        + match peer {
            Some(peer) => peer_len(peer),
            None => 0,
        }
}
