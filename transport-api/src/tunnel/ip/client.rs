//! The client's end of an IP tunnel.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use super::super::error::{TunnelError, TunnelErrorKind};
use super::super::inbox::Datagram;
use super::super::session::RequestStream;
use super::{IpItem, IpSendError, IpSender, IpStream};
use crate::Connection;
use crate::ip::Network;
use crate::masque::ip::{AddressRequest, AssignedAddress, IpScope, Routes, put_assign, put_request};
use crate::masque::lane::Lane;

/// What is asked of the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpRequest {
    /// What is to be reached.
    pub scope: IpScope,
    /// The addresses wanted; all zeros for any of that family. One for each answer in the first [`IpEvent::Addresses`].
    pub addresses: Vec<Network>,
}

impl Default for IpRequest {
    /// Everything, with one address of each family.
    fn default() -> Self {
        let any = |v4| Network::single(Network::all(v4).first());
        Self {
            scope: IpScope::default(),
            addresses: vec![any(true), any(false)],
        }
    }
}

impl IpRequest {
    /// The capsule that goes with the request.
    pub(in crate::tunnel) fn capsule(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let wishes: Vec<_> = (1..)
            .zip(&self.addresses)
            .map(|(request_id, &prefix)| AddressRequest { request_id, prefix })
            .collect();
        if !wishes.is_empty() {
            put_request(&mut out, &wishes);
        }
        out
    }
}

/// What comes out of a tunnel.
#[derive(Debug)]
#[non_exhaustive]
pub enum IpEvent {
    /// One IP packet, not looked at yet.
    Packet(Datagram),
    /// The addresses this side may use from now on, and no others; none when the relay has none to give.
    Addresses(Vec<Network>),
    /// What the relay routes to from now on, and nothing else.
    Routes(Routes),
}

/// An IP tunnel to a relay; it ends when it is dropped.
#[derive(Debug)]
pub struct IpTunnel<L: Lane = Connection> {
    sender: IpSender<L>,
    stream: IpStream<L>,
}

impl<L: Lane> IpTunnel<L> {
    pub(in crate::tunnel) fn new(request: RequestStream<L>, pieces: bool) -> Self {
        Self {
            sender: IpSender::new(&request.route, pieces),
            stream: IpStream::new(request, pieces),
        }
    }

    /// As [`IpSender::send`].
    pub fn send(&self, flow: u32, packet: &[u8]) -> Result<(), IpSendError> {
        self.sender.send(flow, packet)
    }

    /// A handle for sending from another task.
    pub fn sender(&self) -> IpSender<L> {
        self.sender.clone()
    }

    /// As [`IpSender::max_packet`].
    pub fn max_packet(&self) -> usize {
        self.sender.max_packet()
    }

    /// The next packet or change. The error says why the tunnel ended: `Refused` when the relay closed it.
    ///
    /// Cancel-safe.
    pub async fn recv(&mut self) -> Result<IpEvent, TunnelError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`IpTunnel::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<IpEvent, TunnelError>> {
        loop {
            let event = match ready!(self.stream.poll_recv(cx)) {
                Ok(Some(IpItem::Packet(packet))) => IpEvent::Packet(packet),
                Ok(Some(IpItem::Routes(routes))) => IpEvent::Routes(routes),
                Ok(Some(IpItem::Assigned(list))) => {
                    let granted = list.iter().filter(|address| !address.is_denied());
                    IpEvent::Addresses(granted.map(|address| address.prefix).collect())
                }
                Ok(Some(IpItem::Requested(wishes))) => {
                    self.deny(&wishes);
                    continue;
                }
                Ok(None) => {
                    let error = TunnelError::new(TunnelErrorKind::Refused, "the relay closed the IP tunnel");
                    return Poll::Ready(Err(error));
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            return Poll::Ready(Ok(event));
        }
    }

    /// Capsules as they are, for tests of the other end.
    #[cfg(test)]
    pub(crate) fn tell(&mut self, capsules: &[u8]) {
        self.stream.tell(capsules);
    }

    /// A client has no addresses to give.
    fn deny(&mut self, wishes: &[AddressRequest]) {
        let denied: Vec<_> = wishes
            .iter()
            .map(|wish| AssignedAddress::denied(wish.request_id, wish.prefix.is_ipv4()))
            .collect();
        let mut out = Vec::new();
        put_assign(&mut out, &denied);
        self.stream.tell(&out);
    }
}
