//! The client's end of a bind tunnel.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use super::super::error::{TunnelError, TunnelErrorKind};
use super::super::inbox::Datagram;
use super::super::outlet::Outlet;
use super::super::session::RequestStream;
use super::super::udp::ended;
use super::busy::Busy;
use super::sender::canonical;
use super::{BindEvent, BindSendError, BindSender, BindStream, Desk};
use crate::Connection;
use crate::http::Field;
use crate::masque::bind::{self, Contexts, Dialect, Limits, OpenError, Role, address};
use crate::masque::is_true;
use crate::masque::lane::Lane;
use crate::masque::udp::MAX_UDP_PAYLOAD;

/// What is asked of the relay.
#[derive(Clone, Debug)]
pub struct BindOptions {
    /// Bounds of contexts. The relay has its own, and refuses what is beyond.
    pub limits: Limits,
    /// Give peers that are sent to often contexts of their own, as far as the limits go; the least recently used make room.
    pub automatic: bool,
    /// Let strangers in from the beginning ([`BoundUdp::firewall`]).
    pub strangers: bool,
    /// Which revision of the draft the relay speaks.
    pub dialect: Dialect,
}

impl Default for BindOptions {
    /// Everybody may send, busy peers get contexts.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            automatic: true,
            strangers: true,
            dialect: Dialect::Current,
        }
    }
}

impl BindOptions {
    /// The contexts to begin with, and the capsules that say so.
    pub(in crate::tunnel) fn begin(&self, any: bool) -> (Contexts, Vec<u8>) {
        let mut contexts = Contexts::new(Role::Client, self.dialect, any, self.limits);
        if self.strangers {
            // The first one cannot fail but for a limit of 0, and then there shall be none.
            let _ = contexts.open(None);
        }
        let mut capsules = Vec::new();
        contexts.take_outgoing(&mut capsules);
        (contexts, capsules)
    }
}

/// A UDP port of the relay's, over which packets go to and come from anybody; or, where the relay knows no bind, from the one
/// target that was named. Clones are the same one; it ends when the last is dropped, senders aside.
///
/// What the relay says of contexts is heard, and peers found busy get theirs, while somebody receives: a program that only sends
/// should receive all the same.
#[derive(Debug)]
pub struct BoundUdp<L: Lane = Connection> {
    sender: BindSender<L>,
    public: Arc<[SocketAddr]>,
    stream: Arc<Mutex<BindStream<L>>>,
}

impl<L: Lane> Clone for BoundUdp<L> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            public: Arc::clone(&self.public),
            stream: Arc::clone(&self.stream),
        }
    }
}

impl<L: Lane> BoundUdp<L> {
    /// From a relay's success with `fields`.
    pub(in crate::tunnel) fn new(
        request: RequestStream<L>,
        fields: &[Field],
        target: Option<SocketAddr>,
        contexts: Contexts,
        options: &BindOptions,
    ) -> Result<Self, TunnelError> {
        let bound = is_true(fields, bind::FIELD);
        let public = match address::parse(fields) {
            _ if !bound => Vec::new(),
            Ok(public) => public,
            Err(_) => {
                let text = "the relay does not say where it listens";
                return Err(TunnelError::new(TunnelErrorKind::Protocol, text));
            }
        };
        if !bound && target.is_none() {
            let text = "the relay does not offer bind";
            return Err(TunnelError::new(TunnelErrorKind::Rejected, text));
        }
        let busy = options.automatic.then(|| Busy::new(options.limits.contexts));
        let desk = Arc::new(Desk::new(target, bound.then_some(contexts), busy));
        let outlet = Outlet::new(&request.route);
        let stream = BindStream::new(
            request,
            Role::Client,
            options.dialect,
            MAX_UDP_PAYLOAD,
            Arc::clone(&desk),
        );
        Ok(Self {
            sender: BindSender::new(outlet, desk, &public),
            public: public.into(),
            stream: Arc::new(Mutex::new(stream)),
        })
    }

    /// Where others send to. Empty when the relay knows no bind, and the target alone can be reached.
    pub fn public_addrs(&self) -> &[SocketAddr] {
        &self.public
    }

    /// Whether the relay knows bind.
    pub fn is_bound(&self) -> bool {
        !self.public.is_empty()
    }

    /// As [`BindSender::send_to`].
    pub fn send_to(&self, payload: &[u8], peer: SocketAddr) -> Result<(), BindSendError> {
        self.sender.send_to(payload, peer)
    }

    /// A handle for sending from another task.
    pub fn sender(&self) -> BindSender<L> {
        self.sender.clone()
    }

    /// As [`BindSender::max_payload`].
    pub fn max_payload(&self, peer: SocketAddr) -> usize {
        self.sender.max_payload(peer)
    }

    /// As [`BindSender::max_payload_changed`].
    pub async fn max_payload_changed(&self, peer: SocketAddr, known: usize) -> Result<usize, TunnelError> {
        self.sender.max_payload_changed(peer, known).await
    }

    /// The next packet, and who sent it. The error says why the tunnel ended: `Refused` when the relay closed it.
    ///
    /// Cancel-safe. One task may wait at a time, over all clones.
    pub async fn recv_from(&self) -> Result<(Datagram, SocketAddr), TunnelError> {
        poll_fn(|cx| self.poll_recv_from(cx)).await
    }

    /// As [`BoundUdp::recv_from`].
    pub fn poll_recv_from(&self, cx: &mut Context<'_>) -> Poll<Result<(Datagram, SocketAddr), TunnelError>> {
        let mut stream = self.stream();
        loop {
            // The relay may name whom it likes.
            return Poll::Ready(match ready!(stream.poll_recv(cx, |_| true)) {
                Ok(Some(BindEvent::Packet { peer, payload })) => Ok((payload, peer)),
                Ok(Some(_)) => continue,
                Ok(None) => Err(ended(None)),
                Err(error) => Err(error.into()),
            });
        }
    }

    /// Gives `peer` a context of its own: smaller packets, and it is heard even if strangers are kept out. It stays until
    /// [`BoundUdp::uncompress`].
    ///
    /// # Errors
    /// As many contexts are open as may be, or too many wait for the relay's answer.
    pub fn compress(&self, peer: SocketAddr) -> Result<(), OpenError> {
        self.open(Some(canonical(peer)))
    }

    /// Closes the peer's context, if it has one.
    pub fn uncompress(&self, peer: SocketAddr) {
        let peer = canonical(peer);
        self.sender.desk().change(|contexts, busy| {
            if let Some(busy) = busy {
                busy.forget(peer);
            }
            contexts
                .compressed(peer)
                .is_some_and(|context| contexts.close(context))
        });
        self.push();
    }

    /// Whether the peer has a context of its own.
    pub fn is_compressed(&self, peer: SocketAddr) -> bool {
        let has = |contexts: &Contexts| contexts.compressed(canonical(peer)).is_some();
        self.sender.desk().state().contexts.as_ref().is_some_and(has)
    }

    /// Keeps strangers out, or lets them in again: while it is on, packets go to and come from peers with contexts alone, as the
    /// relay sees to (draft §8.1). What is under way meanwhile may still arrive.
    ///
    /// # Errors
    /// Nothing can be registered now, see [`BoundUdp::compress`]; the relay knows no bind.
    pub fn firewall(&self, on: bool) -> Result<(), OpenError> {
        if !on {
            return self.open(None);
        }
        let closed = self.sender.desk().change(|contexts, _| {
            let open = contexts.uncompressed();
            open.is_some_and(|context| contexts.close(context))
        });
        self.push();
        closed.map(drop).ok_or(OpenError::Uncompressed(None))
    }

    fn open(&self, peer: Option<SocketAddr>) -> Result<(), OpenError> {
        let opened = self.sender.desk().open(peer);
        self.push();
        opened
    }

    /// Tells the relay at once. Who receives just now does it instead, having been woken.
    fn push(&self) {
        if let Ok(mut stream) = self.stream.try_lock() {
            stream.push();
        }
    }

    /// Waits for the tunnel's end and says why it came: as the error of [`BoundUdp::recv_from`], whether somebody receives or not.
    ///
    /// Cancel-safe. Any number of tasks may wait.
    pub async fn closed(&self) -> TunnelError {
        poll_fn(|cx| self.stream().poll_closed(cx).map(ended)).await
    }

    fn stream(&self) -> MutexGuard<'_, BindStream<L>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
