//! Packets into datagrams.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::super::session::{Route, Session};
use crate::Connection;
use crate::http::varint;
use crate::masque::ip::pieces::{self, cut};
use crate::masque::ip::{MIN_MTU, PACKET_CONTEXT, PIECE_CONTEXT, overhead};
use crate::masque::lane::Lane;

/// Why a packet was not sent. IP promises nothing: both may be ignored, but a sender of large packets should hear of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpSendError {
    /// It does not fit; the largest packet that does, in bytes.
    TooLarge(usize),
    /// The queue is full, or the connection ended.
    Dropped,
}

impl fmt::Display for IpSendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(max) => write!(f, "the packet is larger than the {max} bytes that fit"),
            Self::Dropped => f.write_str("the packet was dropped"),
        }
    }
}

impl std::error::Error for IpSendError {}

/// Sends packets into an [`IpTunnel`](super::IpTunnel); clones send into the same one.
#[derive(Debug)]
pub struct IpSender<L: Lane = Connection>(Arc<Inner<L>>);

#[derive(Debug)]
struct Inner<L> {
    session: Session<L>,
    quarter: u64,
    /// The peer puts pieces together.
    pieces: bool,
    /// The number of the next packet in pieces.
    number: AtomicU16,
}

impl<L: Lane> Clone for IpSender<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Lane> IpSender<L> {
    pub(crate) fn new(route: &Route<L>, pieces: bool) -> Self {
        Self(Arc::new(Inner {
            session: route.session().clone(),
            quarter: route.ordinal(),
            pieces,
            number: AtomicU16::new(0),
        }))
    }

    /// Sends one whole packet, or drops it; never waits. `flow` names the packet's flow, any number that its packets have in
    /// common: flows share the tunnel fairly.
    pub fn send(&self, flow: u32, packet: &[u8]) -> Result<(), IpSendError> {
        if packet.len() <= self.max_datagram_packet() {
            let mut datagram = self.datagram(Vec::new(), packet.len());
            datagram.extend_from_slice(packet);
            return self.send_now(flow, vec![datagram]);
        }
        let max = self.max_packet();
        if packet.len() > max {
            return Err(IpSendError::TooLarge(max));
        }
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        let pieces = cut(number, packet).into_iter().flatten().map(|piece| {
            let mut datagram = self.begin(Vec::new(), PIECE_CONTEXT, piece.len());
            datagram.extend_from_slice(&piece);
            datagram
        });
        self.send_now(flow, pieces.collect())
    }

    /// The longest packet that passes now, bytes; it changes with the path. Where the path is narrower than IPv6 allows and
    /// the peer puts pieces together, it is [`MIN_MTU`].
    pub fn max_packet(&self) -> usize {
        let max = self.max_datagram_packet();
        let halves = (max.saturating_sub(pieces::HEADER)) * 2;
        if self.0.pieces && max > 0 && halves >= MIN_MTU {
            max.max(MIN_MTU)
        } else {
            max
        }
    }

    /// The same as a field of TCP and ICMP.
    pub(crate) fn mtu(&self) -> u16 {
        mtu(self.max_packet())
    }

    /// The longest packet that passes in one datagram, bytes.
    pub fn max_datagram_packet(&self) -> usize {
        self.lane()
            .max_datagram()
            .saturating_sub(overhead(self.0.quarter))
    }

    pub(crate) fn lane(&self) -> &L {
        self.0.session.lane()
    }

    /// A datagram in `spare`, empty so far, to which a packet of about `len` bytes may be appended.
    pub(crate) fn datagram(&self, spare: Vec<u8>, len: usize) -> Vec<u8> {
        self.begin(spare, PACKET_CONTEXT, len)
    }

    fn begin(&self, mut datagram: Vec<u8>, context: u64, len: usize) -> Vec<u8> {
        datagram.clear();
        datagram.reserve_exact(overhead(self.0.quarter) + len);
        varint::put(&mut datagram, self.0.quarter);
        varint::put(&mut datagram, context);
        datagram
    }

    /// Sends what [`datagram`](Self::datagram) began; how many were dropped, these or older ones.
    pub(crate) fn send_datagrams(&self, flow: u32, datagrams: &mut Vec<Vec<u8>>) -> usize {
        self.lane().send_flow(flow, datagrams)
    }

    fn send_now(&self, flow: u32, mut datagrams: Vec<Vec<u8>>) -> Result<(), IpSendError> {
        match self.send_datagrams(flow, &mut datagrams) {
            0 => Ok(()),
            _ => Err(IpSendError::Dropped),
        }
    }
}

/// A packet's length as TCP and ICMP write it.
pub(crate) fn mtu(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}
