//! A UDP tunnel: native datagrams, and DATAGRAM capsules from peers that prefer them.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use super::error::{TunnelError, TunnelErrorKind};
use super::frames::StreamError;
use super::inbox::Datagram;
use super::session::{RequestStream, Route, Session};
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
pub struct UdpSender<L: Lane = Connection> {
    session: Session<L>,
    quarter: u64,
}

impl<L: Lane> Clone for UdpSender<L> {
    fn clone(&self) -> Self {
        Self {
            session: self.session.clone(),
            quarter: self.quarter,
        }
    }
}

impl<L: Lane> UdpSender<L> {
    pub(crate) fn new(route: &Route<L>) -> Self {
        Self {
            session: route.session().clone(),
            quarter: route.ordinal(),
        }
    }

    /// Sends one packet, or drops it; never waits.
    pub fn send(&self, payload: &[u8]) -> Result<(), UdpSendError> {
        let max = self.max_payload();
        if payload.len() > max {
            return Err(UdpSendError::TooLarge(max));
        }
        let datagram = udp::datagram(self.quarter, payload);
        self.session
            .lane()
            .send_datagram(datagram)
            .map_err(|error| match error {
                LaneDatagramError::TooLarge(max) => {
                    UdpSendError::TooLarge(max.saturating_sub(udp::overhead(self.quarter)))
                }
                LaneDatagramError::Dropped => UdpSendError::Dropped,
            })
    }

    /// The largest payload that fits now, in bytes; it changes with the path.
    pub fn max_payload(&self) -> usize {
        self.session
            .lane()
            .max_datagram()
            .saturating_sub(udp::overhead(self.quarter))
            .min(MAX_UDP_PAYLOAD)
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

    /// The next packet from the target. The error says why the tunnel ended: `Refused` when the relay closed it, as it
    /// does when the target is unreachable or nothing was sent for long.
    ///
    /// Cancel-safe. One task may wait at a time, over all clones.
    pub async fn recv(&self) -> Result<Datagram, TunnelError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`UdpTunnel::recv`].
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Datagram, TunnelError>> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        match ready!(stream.poll_recv(cx)) {
            Ok(Some(packet)) => Poll::Ready(Ok(packet)),
            Ok(None) => Poll::Ready(Err(TunnelError::new(
                TunnelErrorKind::Refused,
                "the relay closed the UDP tunnel",
            ))),
            Err(error) => Poll::Ready(Err(error.into())),
        }
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
