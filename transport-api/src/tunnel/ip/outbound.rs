//! From a device into a tunnel: super-packets become packets that the path takes.

use super::super::inbox::Datagram;
use super::super::ip::{IpSendError, IpSender, mtu};
use super::device::Device;
use super::limit::ErrorLimit;
use crate::ip::icmp::{self, Problem};
use crate::ip::{Packet, Version, fragment, mss};
use crate::masque::lane::Lane;
use crate::tun::offload::Segments;
use std::time::Instant;

/// What became of the packets of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Given to the tunnel.
    pub(crate) packets: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Dropped since, these or older ones: the tunnel's queue was full.
    pub(crate) queue_full: u64,
    /// Larger than the path takes, and their sender was told.
    pub(crate) too_large: u64,
}

/// Sends what a device gives. One for each device.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// Makes flows that collide unforeseeable.
    seed: u64,
    errors: ErrorLimit,
    /// The packets of the frame in hand.
    datagrams: Vec<Vec<u8>>,
    /// Vectors for such packets; those of datagrams that came out of the tunnel are as good.
    spares: Vec<Vec<u8>>,
    /// The answer that is being made.
    answer: Vec<u8>,
}

impl Outbound {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            errors: ErrorLimit::default(),
            datagrams: Vec::new(),
            spares: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// Sends a frame packet by packet; `packet` is what was read of it.
    pub(crate) fn send<L: Lane>(
        &mut self,
        now: Instant,
        sender: &IpSender<L>,
        packet: &Packet<'_>,
        frame: &mut Segments<'_>,
        device: &dyn Device,
    ) -> Tally {
        let max = sender.max_datagram_packet();
        let (flow, opens) = (packet.flow_hash(self.seed), packet.is_tcp_syn());
        if frame.largest() > max && frame.resplit(max).is_err() {
            return self.send_large(now, sender, frame, flow, device);
        }
        let mut tally = Tally::default();
        let (most, missing) = (frame.largest(), frame.count().saturating_sub(self.spares.len()));
        sender.lane().take_spares(missing, &mut self.spares);
        loop {
            let mut datagram = sender.datagram(self.spares.pop().unwrap_or_default(), most);
            let prefix = datagram.len();
            if !frame.next_into(&mut datagram) {
                self.spares.push(datagram);
                break;
            }
            if opens && let Some(packet) = datagram.get_mut(prefix..) {
                // A connection that begins learns what the path takes without losing a packet for it.
                mss::clamp(packet, sender.mtu());
            }
            tally.packets += 1;
            tally.bytes += (datagram.len() - prefix) as u64;
            self.datagrams.push(datagram);
        }
        tally.queue_full = sender.send_datagrams(flow, &mut self.datagrams) as u64;
        tally
    }

    /// Takes what a packet of the tunnel was in, for packets into it.
    pub(crate) fn spend(&mut self, packet: Datagram) {
        self.spares.push(packet.into_spent());
    }

    /// Gives back what is left of that. Due at the end of a turn: it is what bounds them.
    pub(crate) fn give_spares<L: Lane>(&mut self, sender: &IpSender<L>) {
        sender.lane().give_spares(&mut self.spares);
    }

    /// Packets that no datagram holds: cut where IPv4 allows it, carried in pieces where IPv6 demands it, refused otherwise.
    fn send_large<L: Lane>(
        &mut self,
        now: Instant,
        sender: &IpSender<L>,
        frame: &mut Segments<'_>,
        flow: u32,
        device: &dyn Device,
    ) -> Tally {
        let mut tally = Tally::default();
        let mut segment = Vec::with_capacity(frame.largest());
        while frame.next_into(&mut segment) {
            match self.send_one(now, sender, &segment, flow, device) {
                Ok(packets) => {
                    tally.packets += packets;
                    tally.bytes += segment.len() as u64;
                }
                Err(IpSendError::Dropped) => tally.queue_full += 1,
                Err(IpSendError::TooLarge(_)) => tally.too_large += 1,
            }
            segment.clear();
        }
        tally
    }

    fn send_one<L: Lane>(
        &mut self,
        now: Instant,
        sender: &IpSender<L>,
        segment: &[u8],
        flow: u32,
        device: &dyn Device,
    ) -> Result<u64, IpSendError> {
        let max = sender.max_datagram_packet();
        let Ok(packet) = Packet::parse(segment) else {
            return Err(IpSendError::Dropped);
        };
        if segment.len() > max && packet.version() == Version::V4 && !packet.dont_fragment() {
            let cut = fragment::fragment(&packet, max, |header, payload| {
                let mut datagram = sender.datagram(Vec::new(), header.len() + payload.len());
                datagram.extend_from_slice(header);
                datagram.extend_from_slice(payload);
                self.datagrams.push(datagram);
            });
            let fragments = self.datagrams.len() as u64;
            let dropped = sender.send_datagrams(flow, &mut self.datagrams);
            return match (cut, dropped) {
                (Ok(()), 0) => Ok(fragments),
                (Ok(()), _) => Err(IpSendError::Dropped),
                (Err(_), _) => Err(IpSendError::TooLarge(max)),
            };
        }
        let result = sender.send(flow, segment);
        if let Err(IpSendError::TooLarge(max)) = result {
            self.answer(now, &packet, Problem::TooBig { mtu: mtu(max) }, device);
        }
        result.map(|()| 1)
    }

    /// Tells the sender of a packet that came from the device why it goes no further. The answer comes from where the packet was to
    /// go: a kernel takes none from a device that claims one of its own addresses, and this one it has just sent there.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        problem: Problem,
        device: &dyn Device,
    ) {
        self.answer.clear();
        if self.errors.allow(now) && icmp::error(packet, problem, packet.destination(), &mut self.answer) {
            device.put(&self.answer);
            device.flush();
        }
    }
}
