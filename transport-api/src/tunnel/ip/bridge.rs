//! A client's tunnel and its TUN device, joined: what the kernel sends goes to the relay, what the relay sends to the kernel.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::super::error::TunnelError;
use super::{Device, FrameReader, IpEvent, IpSender, IpTunnel, Outbound, TunPort};
use crate::Connection;
use crate::ip::icmp::Problem;
use crate::ip::{AddressKind, Network, Packet, mss};
use crate::local::{TunDevice, now};
use crate::masque::ip::Routes;
use crate::masque::lane::Lane;
use crate::tun::offload::Segments;

/// Frames read from the device, and packets from the tunnel, before others have their turn.
const FRAMES: usize = 16;
const PACKETS: usize = 256;

/// What the relay has changed; the caller tells the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IpChange {
    /// The addresses of the device from now on.
    Addresses(Vec<Network>),
    /// What is to be routed to the device from now on.
    Routes(Routes),
}

/// Packets that went through a bridge, and those that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeFigures {
    /// Packets from the device that were sent.
    pub packets_up: u64,
    /// Their bytes.
    pub bytes_up: u64,
    /// Packets from the relay that were given to the device.
    pub packets_down: u64,
    /// Their bytes.
    pub bytes_down: u64,
    /// Not well-formed, in either direction.
    pub dropped_malformed: u64,
    /// From or for an address that is not this client's, or outside the relay's routes.
    pub dropped_policy: u64,
    /// Larger than the path takes; their sender was told.
    pub dropped_too_large: u64,
    /// The tunnel's queue was full, or the device took no more.
    pub dropped_queue_full: u64,
}

/// Reads a bridge's figures while the bridge works, and after its end.
#[derive(Clone, Debug, Default)]
pub struct BridgeMeter(Rc<Cell<BridgeFigures>>);

impl BridgeMeter {
    /// Figures as of the bridge's last turn.
    pub fn figures(&self) -> BridgeFigures {
        self.0.get()
    }
}

/// Joins a tunnel and a device as long as [`next`](Self::next) is polled.
#[derive(Debug)]
pub struct IpBridge<L: Lane = Connection> {
    tunnel: IpTunnel<L>,
    sender: IpSender<L>,
    reader: FrameReader,
    port: TunPort,
    outbound: Outbound,
    own: Own,
    figures: BridgeFigures,
    meter: BridgeMeter,
}

/// What the relay gave.
#[derive(Debug, Default)]
struct Own {
    addresses: Vec<Network>,
    routes: Routes,
}

impl Own {
    fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.contains(address))
    }

    /// Why the relay would not take a packet; the local sender hears of it sooner.
    fn objection(&self, packet: &Packet<'_>) -> Option<Problem> {
        if !self.has(packet.source()) {
            return Some(Problem::SourcePolicy);
        }
        let routed = self.routes.admit(packet.destination(), packet.protocol());
        (!routed).then_some(Problem::NoRoute)
    }
}

impl<L: Lane> IpBridge<L> {
    /// Joins the two; nothing passes before the relay has given addresses. `seed` is random: flows are hashed with it, so that
    /// nobody makes them collide.
    pub fn new(tunnel: IpTunnel<L>, device: &TunDevice, seed: u64) -> Self {
        Self {
            sender: tunnel.sender(),
            tunnel,
            reader: FrameReader::new(device.clone()),
            port: TunPort::new(device.clone()),
            outbound: Outbound::new(seed),
            own: Own::default(),
            figures: BridgeFigures::default(),
            meter: BridgeMeter::default(),
        }
    }

    /// As [`IpSender::max_packet`]: the MTU of the device.
    pub fn max_packet(&self) -> usize {
        self.sender.max_packet()
    }

    /// What tells of the packets that went through, and of those that did not.
    pub fn meter(&self) -> BridgeMeter {
        self.meter.clone()
    }

    /// Carries packets until the relay changes something. The error says why the tunnel ended, or what the device said.
    ///
    /// Cancel-safe: between two calls nothing is carried, and nothing that arrived is lost beyond the bounds of the queues.
    pub async fn next(&mut self) -> Result<IpChange, TunnelError> {
        poll_fn(|cx| {
            let change = self.poll(cx);
            self.meter.0.set(self.figures);
            change
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<IpChange, TunnelError>> {
        let change = self.poll_tunnel(cx);
        self.outbound.give_spares(&self.sender);
        if let Poll::Ready(change) = change {
            self.port.flush();
            return Poll::Ready(change);
        }
        self.port.flush();
        self.figures.dropped_queue_full += self.port.take_dropped();
        for _ in 0..FRAMES {
            let result = match self.poll_device(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => result,
            };
            if let Err(error) = result {
                return Poll::Ready(Err(TunnelError::device(&error)));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Pending as well when others should have their turn.
    fn poll_tunnel(&mut self, cx: &mut Context<'_>) -> Poll<Result<IpChange, TunnelError>> {
        for _ in 0..PACKETS {
            let change = match ready!(self.tunnel.poll_recv(cx))? {
                IpEvent::Packet(mut packet) => {
                    self.deliver(&mut packet);
                    self.outbound.spend(packet);
                    continue;
                }
                IpEvent::Addresses(addresses) => {
                    self.own.addresses.clone_from(&addresses);
                    IpChange::Addresses(addresses)
                }
                IpEvent::Routes(routes) => {
                    self.own.routes = routes.clone();
                    IpChange::Routes(routes)
                }
            };
            return Poll::Ready(Ok(change));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// A packet of the relay.
    fn deliver(&mut self, bytes: &mut [u8]) {
        let Ok(packet) = Packet::parse(bytes) else {
            self.figures.dropped_malformed += 1;
            return;
        };
        if !self.own.has(packet.destination()) {
            self.figures.dropped_policy += 1;
            return;
        }
        if packet.is_tcp_syn() {
            mss::clamp(bytes, self.sender.mtu());
        }
        self.figures.packets_down += 1;
        self.figures.bytes_down += bytes.len() as u64;
        self.port.put(bytes);
    }

    /// A frame of the device, and where it goes.
    fn poll_device(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.sender.lane().poll_flow_taken(cx));
        let frame = ready!(self.reader.poll_next(cx))?;
        let Ok(mut segments) = Segments::new(frame) else {
            self.figures.dropped_malformed += 1;
            return Poll::Ready(Ok(()));
        };
        let Ok(packet) = Packet::parse(segments.packet()) else {
            self.figures.dropped_malformed += 1;
            return Poll::Ready(Ok(()));
        };
        let at = now();
        if let Some(problem) = self.own.objection(&packet) {
            self.figures.dropped_policy += 1;
            if packet.source_kind() == AddressKind::Unicast {
                self.outbound.answer(at, &packet, problem, &self.port);
            }
            return Poll::Ready(Ok(()));
        }
        let sent = self
            .outbound
            .send(at, &self.sender, &packet, &mut segments, &self.port);
        self.figures.packets_up += sent.packets;
        self.figures.bytes_up += sent.bytes;
        self.figures.dropped_queue_full += sent.queue_full;
        self.figures.dropped_too_large += sent.too_large;
        Poll::Ready(Ok(()))
    }
}
