//! Packets between tunnels and sockets: memory that all tunnels of a relay share, and packets that leave together.

use std::net::{IpAddr, SocketAddr};

use super::event::DropCause;
use super::ledger::{Ledger, Way};
use crate::engine::{Batch, RecvBatch, Route};
use crate::local::BatchSocket;
use crate::masque::lane::Lane;
use crate::tunnel::Outlet;

/// Buffers the kernel fills in a call.
const SLOTS: usize = 32;

/// One for all tunnels of a relay: nothing in it outlives a turn of a tunnel.
pub(super) struct Buffers {
    pub(super) received: RecvBatch,
    pub(super) sending: Batch,
    /// Datagrams on their way to a client.
    pub(super) down: Vec<Vec<u8>>,
    /// Vectors for such datagrams; those of datagrams that came from the client are as good.
    pub(super) spares: Vec<Vec<u8>>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            received: RecvBatch::new(SLOTS),
            sending: Batch::default(),
            down: Vec::new(),
            spares: Vec::new(),
        }
    }
}

/// Packets for targets. Those in a row for one of them leave in one call; the rest of it when this is dropped.
pub(super) struct Outgoing<'a> {
    socket: &'a BatchSocket,
    batch: &'a mut Batch,
    ledger: &'a Ledger,
    to: Option<SocketAddr>,
    sources: [Option<IpAddr>; 2],
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(socket: &'a BatchSocket, batch: &'a mut Batch, ledger: &'a Ledger) -> Self {
        batch.clear();
        Self {
            socket,
            batch,
            ledger,
            to: None,
            sources: [None; 2],
        }
    }

    /// What packets leave from, IPv4 and IPv6; otherwise the system chooses.
    pub(super) fn from(mut self, sources: [Option<IpAddr>; 2]) -> Self {
        self.sources = sources;
        self
    }

    /// Sends a packet, sooner or later.
    pub(super) fn push(&mut self, to: SocketAddr, packet: &[u8]) {
        if self.to != Some(to) || packet.len() > self.batch.room() {
            self.flush();
            self.to = Some(to);
        }
        if packet.is_empty() {
            self.flush();
            match self.socket.try_send_empty(to) {
                Ok(()) => self.ledger.carried(Way::Up, 1, 0),
                Err(_) => self.ledger.dropped(DropCause::Refused, 1),
            }
        } else if self.batch.push(packet).is_err() {
            self.ledger.dropped(DropCause::TooLarge, 1);
        }
    }

    fn flush(&mut self) {
        let Some(to) = self.to.take() else { return };
        if self.batch.is_empty() {
            return;
        }
        let [v4, v6] = self.sources;
        let route = Route {
            remote: to,
            local: if to.is_ipv4() { v4 } else { v6 },
        };
        let before = self.socket.send_stats();
        // What did not leave is counted below, whatever the reason.
        let _ = self.socket.try_send(route, self.batch);
        let after = self.socket.send_stats();
        let sent = after.sent - before.sent;
        let bytes = if sent == self.batch.count() as u64 {
            self.batch.bytes().len() as u64
        } else {
            sent * self.batch.segment_size() as u64
        };
        let ledger = self.ledger;
        ledger.carried(Way::Up, sent, bytes);
        ledger.dropped(DropCause::TooLarge, after.too_long - before.too_long);
        ledger.dropped(DropCause::Refused, after.refused - before.refused);
        ledger.dropped(DropCause::QueueFull, self.batch.unsent().len() as u64);
        self.batch.clear();
    }
}

impl Drop for Outgoing<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Datagrams for a client, which leave together when this is dropped.
pub(super) struct Downward<'a, L: Lane> {
    outlet: &'a Outlet<L>,
    datagrams: &'a mut Vec<Vec<u8>>,
    ledger: &'a Ledger,
    bytes: u64,
}

impl<'a, L: Lane> Downward<'a, L> {
    pub(super) fn new(outlet: &'a Outlet<L>, datagrams: &'a mut Vec<Vec<u8>>, ledger: &'a Ledger) -> Self {
        Self {
            outlet,
            datagrams,
            ledger,
            bytes: 0,
        }
    }

    /// Sends a datagram with a UDP packet of `payload` bytes.
    pub(super) fn push(&mut self, datagram: Vec<u8>, payload: usize) {
        self.datagrams.push(datagram);
        self.bytes += payload as u64;
    }
}

impl<L: Lane> Drop for Downward<'_, L> {
    fn drop(&mut self) {
        let packets = self.datagrams.len() as u64;
        if packets == 0 {
            return;
        }
        // Older ones may have gone instead: what is told is how many, not which.
        let dropped = (self.outlet.send_all(self.datagrams) as u64).min(packets);
        self.ledger.dropped(DropCause::QueueFull, dropped);
        let bytes = self.bytes - self.bytes / packets.max(1) * dropped;
        self.ledger.carried(Way::Down, packets - dropped, bytes);
    }
}
