//! A UDP tunnel: native datagrams, and DATAGRAM capsules from peers that prefer them.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use super::error::{TunnelError, TunnelErrorKind};
use super::frames::StreamError;
use super::inbox::Datagram;
use super::outlet::Outlet;
use super::session::{RequestStream, Route};
use super::stream::{Reader, TunnelStream};
use crate::Connection;
use crate::http::{Code, Fault};
use crate::masque::lane::{Lane, LaneDatagramError};
use crate::masque::udp::{self, MAX_UDP_PAYLOAD, Payload, UdpCapsules, UdpFault};

/// Why a packet was not sent. UDP promises nothing: both may be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpSendError {
    /// It does not fit; the largest payload that does, in bytes.
    TooLarge(usize),
    /// The queue is full, or the connection ended.
    Dropped,
}

impl fmt::Display for UdpSendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(max) => write!(f, "the packet is larger than the {max} bytes that fit"),
            Self::Dropped => f.write_str("the packet was dropped"),
        }
    }
}

impl std::error::Error for UdpSendError {}

/// A UDP association of the relay with one target. Clones are the same one; it ends when the last is dropped.
#[derive(Debug)]
pub struct UdpTunnel<L: Lane = Connection> {
    sender: UdpSender<L>,
    stream: Arc<Mutex<UdpStream<L>>>,
}

impl<L: Lane> Clone for UdpTunnel<L> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            stream: Arc::clone(&self.stream),
        }
    }
}

/// Sends packets into a [`UdpTunnel`]; clones send into the same one.
#[derive(Debug)]
pub struct UdpSender<L: Lane = Connection>(Outlet<L>);

impl<L: Lane> Clone for UdpSender<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L: Lane> UdpSender<L> {
    pub(crate) fn new(route: &Route<L>) -> Self {
        Self(Outlet::new(route))
    }

    pub(crate) fn outlet(&self) -> &Outlet<L> {
        &self.0
    }

    /// The datagram that carries a packet, in `spare`.
    pub(crate) fn datagram(&self, spare: Vec<u8>, payload: &[u8]) -> Vec<u8> {
        udp::datagram(spare, self.0.quarter(), payload)
    }

    fn overhead(&self) -> usize {
        udp::overhead(self.0.quarter())
    }

    /// Sends one packet, or drops it; never waits.
    pub fn send(&self, payload: &[u8]) -> Result<(), UdpSendError> {
        let max = self.max_payload();
        if payload.len() > max {
            return Err(UdpSendError::TooLarge(max));
        }
        let datagram = self.datagram(Vec::new(), payload);
        self.0.send(datagram).map_err(|error| match error {
            LaneDatagramError::TooLarge(max) => UdpSendError::TooLarge(max.saturating_sub(self.overhead())),
            LaneDatagramError::Dropped => UdpSendError::Dropped,
        })
    }

    /// The largest payload that fits now, in bytes; it changes with the path.
    pub fn max_payload(&self) -> usize {
        let max = self.0.max_datagram().saturating_sub(self.overhead());
        max.min(MAX_UDP_PAYLOAD)
    }

    /// Waits until [`UdpSender::max_payload`] is not `known`, larger or smaller, and says what it is now; at once if it is so
    /// already. The error says why the connection ended.
    ///
    /// Cancel-safe.
    pub async fn max_payload_changed(&self, known: usize) -> Result<usize, TunnelError> {
        self.0.changed(known, || self.max_payload()).await
    }
}

impl<L: Lane> UdpTunnel<L> {
    pub(super) fn new(request: RequestStream<L>) -> Self {
        let sender = UdpSender::new(&request.route);
        Self {
            sender,
            stream: Arc::new(Mutex::new(UdpStream::new(request, MAX_UDP_PAYLOAD))),
        }
    }

    /// As [`UdpSender::send`].
    pub fn send(&self, payload: &[u8]) -> Result<(), UdpSendError> {
        self.sender.send(payload)
    }

    /// A handle for sending from another task.
    pub fn sender(&self) -> UdpSender<L> {
        self.sender.clone()
    }

    /// As [`UdpSender::max_payload`].
    pub fn max_payload(&self) -> usize {
        self.sender.max_payload()
    }

    /// As [`UdpSender::max_payload_changed`].
    pub async fn max_payload_changed(&self, known: usize) -> Result<usize, TunnelError> {
        self.sender.max_payload_changed(known).await
    }

    /// Waits for the tunnel's end and says why it came: as the error of [`UdpTunnel::recv`], whether somebody receives or not.
    ///
    /// Cancel-safe. Any number of tasks may wait.
    pub async fn closed(&self) -> TunnelError {
        poll_fn(|cx| self.stream().poll_closed(cx).map(ended)).await
    }

    fn stream(&self) -> MutexGuard<'_, UdpStream<L>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next packet from the target. The error says why the tunnel ended: `Refused` when the relay closed it, as it
    /// does when the target is unreachable or nothing was sent for long.
    ///
    /// Cancel-safe. One task may wait at a time, over all clones.
    pub async fn recv(&self) -> Result<Datagram, TunnelError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`UdpTunnel::recv`].
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Datagram, TunnelError>> {
        let next = ready!(self.stream().poll_recv(cx));
        Poll::Ready(match next {
            Ok(Some(packet)) => Ok(packet),
            Ok(None) => Err(ended(None)),
            Err(error) => Err(error.into()),
        })
    }
}

/// Why a tunnel is over; `None`: the relay closed it.
pub(super) fn ended(error: Option<StreamError>) -> TunnelError {
    match error {
        Some(error) => error.into(),
        None => TunnelError::new(TunnelErrorKind::Refused, "the relay closed the UDP tunnel"),
    }
}

/// The request stream of a UDP tunnel, at either end.
pub(crate) type UdpStream<L> = TunnelStream<L, UdpCapsules>;

impl<L: Lane> UdpStream<L> {
    /// Payloads in capsules longer than `limit` are dropped.
    pub(crate) fn new(request: RequestStream<L>, limit: usize) -> Self {
        Self::reading(request, UdpCapsules::new(limit))
    }
}

impl Reader for UdpCapsules {
    type Item = Datagram;

    fn native(&mut self, datagram: Datagram) -> Result<Option<Datagram>, StreamError> {
        Ok(match udp::parse(&datagram).map_err(malformed)? {
            Payload::Udp(payload) => {
                let context = datagram.len() - payload.len();
                Some(datagram.advance(context))
            }
            Payload::UnknownContext(_) => None,
        })
    }

    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Datagram>, StreamError> {
        let packet = self.next(input).map_err(malformed)?;
        Ok(packet.map(|packet| Datagram::new(packet, 0)))
    }

    fn finish(&self) -> Result<(), StreamError> {
        self.finish().map_err(malformed)
    }
}

fn malformed(_: UdpFault) -> StreamError {
    StreamError::Fault(Fault::Stream(Code::MESSAGE_ERROR))
}
