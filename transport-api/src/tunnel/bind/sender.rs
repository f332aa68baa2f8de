//! Packets into datagrams.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::error::TunnelError;
use super::super::outlet::Outlet;
use super::Desk;
use crate::Connection;
use crate::http::varint;
use crate::masque::bind::Outgoing;
use crate::masque::lane::{Lane, LaneDatagramError};
use crate::masque::udp::MAX_UDP_PAYLOAD;

/// Why a packet was not sent. UDP promises nothing: all may be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindSendError {
    /// It does not fit; the largest payload for this peer that does, in bytes.
    TooLarge(usize),
    /// The queue is full, or the connection ended.
    Dropped,
    /// The relay has no address of the peer's family; or it knows no bind, and this is not the tunnel's target.
    Unsupported,
    /// Strangers are kept out ([`BoundUdp::firewall`](super::BoundUdp::firewall)), and this peer has no context.
    NoContext,
}

impl fmt::Display for BindSendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(max) => write!(f, "the packet is larger than the {max} bytes that fit"),
            Self::Dropped => f.write_str("the packet was dropped"),
            Self::Unsupported => f.write_str("the relay does not reach this peer"),
            Self::NoContext => f.write_str("the peer has no context, and strangers are kept out"),
        }
    }
}

impl std::error::Error for BindSendError {}

/// Sends packets through a bind tunnel; clones send through the same one.
#[derive(Debug)]
pub struct BindSender<L: Lane = Connection> {
    outlet: Outlet<L>,
    desk: Arc<Desk>,
    families: Families,
}

/// What the relay has addresses of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    pub(crate) fn of(addresses: &[SocketAddr]) -> Self {
        Self {
            v4: addresses.iter().any(SocketAddr::is_ipv4),
            v6: addresses.iter().any(SocketAddr::is_ipv6),
        }
    }

    pub(crate) fn has(self, peer: SocketAddr) -> bool {
        if peer.is_ipv4() { self.v4 } else { self.v6 }
    }
}

impl<L: Lane> Clone for BindSender<L> {
    fn clone(&self) -> Self {
        Self {
            outlet: self.outlet.clone(),
            desk: Arc::clone(&self.desk),
            families: self.families,
        }
    }
}

impl<L: Lane> BindSender<L> {
    pub(crate) fn new(outlet: Outlet<L>, desk: Arc<Desk>, public: &[SocketAddr]) -> Self {
        Self {
            outlet,
            desk,
            families: Families::of(public),
        }
    }

    pub(crate) fn outlet(&self) -> &Outlet<L> {
        &self.outlet
    }

    pub(crate) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Sends one packet to `peer`, or drops it; never waits.
    pub fn send_to(&self, payload: &[u8], peer: SocketAddr) -> Result<(), BindSendError> {
        let peer = canonical(peer);
        if !self.reaches(peer) && self.desk.target() != Some(peer) {
            return Err(BindSendError::Unsupported);
        }
        let way = self.desk.outgoing_now(peer).ok_or(BindSendError::NoContext)?;
        let max = self.room(way, peer);
        if payload.len() > max {
            return Err(BindSendError::TooLarge(max));
        }
        let datagram = self.datagram(Vec::new(), way, peer, payload);
        self.outlet.send(datagram).map_err(|error| match error {
            LaneDatagramError::TooLarge(max) => {
                BindSendError::TooLarge(max.saturating_sub(self.overhead(way, peer)))
            }
            LaneDatagramError::Dropped => BindSendError::Dropped,
        })
    }

    /// The largest payload for `peer` that fits now, in bytes; it changes with the path, and is larger by 7 (IPv4) or 19 (IPv6) once
    /// the peer has a context. 0 when nothing can be sent there.
    pub fn max_payload(&self, peer: SocketAddr) -> usize {
        let peer = canonical(peer);
        self.desk.outgoing(peer).map_or(0, |way| self.room(way, peer))
    }

    /// Waits until [`BindSender::max_payload`] is not `known` because the path became wider or narrower, and says what it is now; at
    /// once if it is so already. That the peer got a context meanwhile is not waited for.
    ///
    /// Cancel-safe.
    pub async fn max_payload_changed(&self, peer: SocketAddr, known: usize) -> Result<usize, TunnelError> {
        self.outlet.changed(known, || self.max_payload(peer)).await
    }

    /// Whether the relay has an address of the peer's family.
    pub(crate) fn reaches(&self, peer: SocketAddr) -> bool {
        self.families.has(peer)
    }

    /// The largest payload on this way, bytes.
    pub(crate) fn room(&self, way: Outgoing, peer: SocketAddr) -> usize {
        let max = self
            .outlet
            .max_datagram()
            .saturating_sub(self.overhead(way, peer));
        max.min(MAX_UDP_PAYLOAD)
    }

    fn overhead(&self, way: Outgoing, peer: SocketAddr) -> usize {
        varint::len(self.outlet.quarter()) + way.overhead(peer)
    }

    /// The datagram that carries a packet to, for a relay from, `peer`, in `spare`.
    pub(crate) fn datagram(
        &self,
        mut spare: Vec<u8>,
        way: Outgoing,
        peer: SocketAddr,
        payload: &[u8],
    ) -> Vec<u8> {
        spare.clear();
        spare.reserve_exact(self.overhead(way, peer) + payload.len());
        varint::put(&mut spare, self.outlet.quarter());
        way.put_header(&mut spare, peer);
        spare.extend_from_slice(payload);
        spare
    }
}

/// An IPv4 address in IPv6 clothes, as dual-stack sockets show them, is the IPv4 address; scopes are nobody's business here.
pub(crate) fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
