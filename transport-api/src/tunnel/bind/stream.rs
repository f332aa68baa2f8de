//! The stream of a bind tunnel, at either end: capsules to the contexts, datagrams to packets.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::super::frames::StreamError;
use super::super::inbox::Datagram;
use super::super::session::RequestStream;
use super::super::stream::{Reader, TunnelStream};
use super::Desk;
use crate::http::{Code, Fault};
use crate::local::now;
use crate::masque::bind::{
    BindCapsule, BindCapsules, BindFault, BindItem, Change, Dialect, Received, Role, datagram,
};
use crate::masque::lane::Lane;

/// Datagrams kept whose context is not registered yet: they may have overtaken the registration.
const MAX_EARLY: usize = 16;
/// Longer than it takes to send a capsule again.
const EARLY_LIMIT: Duration = Duration::from_secs(1);
/// Items in a row, after which waiting capsules are looked for.
const FLUSH_EVERY: usize = 64;

/// What a stream or a datagram brings, before it is known what it means.
#[derive(Debug)]
pub(crate) enum Item {
    Datagram(u64, Datagram),
    Capsule(BindCapsule),
    WrapUp,
}

#[derive(Debug)]
pub(crate) struct BindReader(BindCapsules);

impl Reader for BindReader {
    type Item = Item;

    fn native(&mut self, datagram: Datagram) -> Result<Option<Item>, StreamError> {
        let (context, bytes) = datagram::parse(&datagram).map_err(malformed)?;
        let start = datagram.len() - bytes.len();
        Ok(Some(Item::Datagram(context, datagram.advance(start))))
    }

    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Item>, StreamError> {
        let item = self.0.next(input).map_err(malformed)?;
        Ok(item.map(|item| match item {
            BindItem::Capsule(capsule) => Item::Capsule(capsule),
            BindItem::Datagram { context, bytes } => Item::Datagram(context, Datagram::new(bytes, 0)),
            BindItem::WrapUp => Item::WrapUp,
        }))
    }

    fn finish(&self) -> Result<(), StreamError> {
        self.0.finish().map_err(malformed)
    }
}

/// What comes out of a tunnel.
#[derive(Debug)]
pub(crate) enum BindEvent {
    /// A packet from, for a relay to, `peer`.
    Packet { peer: SocketAddr, payload: Datagram },
    /// A context was opened, refused or closed.
    Changed(Change),
    /// A datagram came on a context that nobody registered.
    Unknown,
    /// A datagram was no payload of its context.
    Unreadable,
    /// The relay asks for what is open to be moved elsewhere.
    WrapUp,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct BindStream<L: Lane> {
    stream: TunnelStream<L, BindReader>,
    desk: Arc<Desk>,
    early: VecDeque<(Instant, u64, Datagram)>,
    /// Those of them whose context has come.
    ripe: VecDeque<(u64, Datagram)>,
    in_a_row: usize,
}

impl<L: Lane> BindStream<L> {
    /// `limit`: longer packets in capsules are dropped.
    pub(crate) fn new(
        request: RequestStream<L>,
        role: Role,
        dialect: Dialect,
        limit: usize,
        desk: Arc<Desk>,
    ) -> Self {
        let limit = limit + datagram::V6_HEADER;
        let reader = BindReader(BindCapsules::new(role, dialect, desk.target().is_none(), limit));
        Self {
            stream: TunnelStream::reading(request, reader),
            desk,
            early: VecDeque::new(),
            ripe: VecDeque::new(),
            in_a_row: 0,
        }
    }

    /// The next event; `None` when the peer closed the stream. `allow` is the policy's word on a registration.
    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        mut allow: impl FnMut(Option<SocketAddr>) -> bool,
    ) -> Poll<Result<Option<BindEvent>, StreamError>> {
        loop {
            if self.in_a_row >= FLUSH_EVERY {
                self.flush(cx);
            }
            let item = match self.ripe.pop_front() {
                Some((context, datagram)) => Item::Datagram(context, datagram),
                None => match self.stream.poll_recv(cx) {
                    // What was told now is written by another look at the stream.
                    Poll::Pending if self.flush(cx) => continue,
                    next => match ready!(next) {
                        Ok(Some(item)) => item,
                        other => return Poll::Ready(other.map(|_| None)),
                    },
                },
            };
            self.in_a_row += 1;
            let event = match item {
                Item::Datagram(context, datagram) => self.packet(context, datagram),
                Item::Capsule(capsule) => self.capsule(cx, capsule, &mut allow),
                Item::WrapUp => Ok(Some(BindEvent::WrapUp)),
            };
            match event.map_err(malformed) {
                Ok(None) => {}
                Ok(event) => return Poll::Ready(Ok(event)),
                Err(error) => {
                    self.stream.abort(&error);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// As [`TunnelStream::poll_closed`].
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamError>> {
        self.stream.poll_closed(cx)
    }

    /// Ends the stream from this side.
    pub(crate) fn close(&mut self) {
        self.stream.close();
    }

    fn packet(&mut self, context: u64, datagram: Datagram) -> Result<Option<BindEvent>, BindFault> {
        let (peer, len) = {
            let state = self.desk.state();
            let target = self.desk.target();
            let received = match &state.contexts {
                Some(contexts) => contexts.receive(context, &datagram)?,
                None if context == crate::masque::udp::UDP_CONTEXT => Received::Udp(&datagram),
                None => Received::Closed,
            };
            match (received, target) {
                (Received::Udp(payload), Some(target)) => (target, payload.len()),
                (Received::Peer(peer, payload), _) => (peer, payload.len()),
                (Received::Closed | Received::Udp(_), _) => return Ok(None),
                (Received::Unreadable, _) => return Ok(Some(BindEvent::Unreadable)),
                (Received::Unknown, _) => {
                    drop(state);
                    return Ok(self.keep(context, datagram));
                }
            }
        };
        let header = datagram.len() - len;
        Ok(Some(BindEvent::Packet {
            peer,
            payload: datagram.advance(header),
        }))
    }

    /// Keeps a datagram that may be early; tells when another one proves not to have been.
    fn keep(&mut self, context: u64, datagram: Datagram) -> Option<BindEvent> {
        let now = now();
        self.early.push_back((now, context, datagram));
        let stale = |kept: &VecDeque<(Instant, u64, Datagram)>| {
            kept.len() > MAX_EARLY
                || kept
                    .front()
                    .is_some_and(|(since, ..)| now.saturating_duration_since(*since) > EARLY_LIMIT)
        };
        // One for one: what is kept stays bounded, and each that goes is told.
        let gone = stale(&self.early).then(|| self.early.pop_front()).flatten();
        gone.map(|_| BindEvent::Unknown)
    }

    fn capsule(
        &mut self,
        cx: &Context<'_>,
        capsule: BindCapsule,
        allow: &mut impl FnMut(Option<SocketAddr>) -> bool,
    ) -> Result<Option<BindEvent>, BindFault> {
        let change = {
            let mut state = self.desk.state();
            let Some(contexts) = &mut state.contexts else {
                return Ok(None);
            };
            let change = contexts.on_capsule(capsule, allow)?;
            if let Some(change) = &change {
                state.note(change);
            }
            change
        };
        self.flush(cx);
        if let Some(Change::Opened { assign, .. }) = &change {
            let came = |(_, context, _): &mut (Instant, u64, Datagram)| *context == assign.context;
            let now = now();
            for at in (0..self.early.len()).rev() {
                if self.early.get_mut(at).is_some_and(came)
                    && let Some((since, context, datagram)) = self.early.remove(at)
                    && now.saturating_duration_since(since) <= EARLY_LIMIT
                {
                    self.ripe.push_front((context, datagram));
                }
            }
        }
        Ok(change.map(BindEvent::Changed))
    }

    /// Hands waiting capsules to the stream, if what it got before has left: what the peer does not take stays in the contexts,
    /// whose bounds end the stream. True when there were any.
    fn flush(&mut self, cx: &Context<'_>) -> bool {
        self.in_a_row = 0;
        let mut state = self.desk.state();
        if state
            .writer
            .as_ref()
            .is_none_or(|writer| !writer.will_wake(cx.waker()))
        {
            state.writer = Some(cx.waker().clone());
        }
        drop(state);
        self.hand_over()
    }

    /// The same for who does not receive, and does not wait.
    pub(crate) fn push(&mut self) {
        if self.hand_over() {
            self.stream.push();
        }
    }

    fn hand_over(&mut self) -> bool {
        let mut state = self.desk.state();
        let Some(contexts) = state.contexts.as_mut().filter(|contexts| contexts.has_outgoing()) else {
            return false;
        };
        if self.stream.is_writing() {
            return false;
        }
        let mut capsules = Vec::new();
        contexts.take_outgoing(&mut capsules);
        drop(state);
        self.stream.tell(&capsules);
        true
    }
}

fn malformed(_: BindFault) -> StreamError {
    StreamError::Fault(Fault::Stream(Code::MESSAGE_ERROR))
}
