//! Early data: what a client says along with its first flight, before the relay has answered (the role of 0-RTT, RFC 9001 §4.6).
//!
//! The client's connection begins without keys, under the limits the relay announced the last time. It gives packets of marked
//! data to the dial, which seals them; their numbers are those of path 0. When the answer comes the connection gets its keys and
//! goes on: accepted, its early packets are acknowledged like all others; refused, their content goes again.
//!
//! The relay's connection begins with the early packets. It speaks at once, but to an address that is not proved, so three bytes
//! for one, until the client's first packet with the session's keys.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_crypto::Suite;
use transport_reliability::{PacketNumber, Permit, Sent, SentKind};
use transport_scheduler::{Side, StreamId};

use super::content::Content;
use super::receive::Opened;
use super::state::State;
use super::transmit::Draft;
use super::{Connection, Established, Info, Peer, peer_limits};
use crate::buffer::{Batch, Route};
use crate::config::{Now, TransportConfig};
use crate::error::{Breach, CloseReason, code};
use crate::packet::Builder;
use crate::path::PathId;
use crate::random::Random;
use crate::timer::Timer;
use crate::trace::{self, DropReason, Tracer};
use crate::wire::TransportParameters;

/// A packet of early data that is to be sealed.
pub(crate) struct EarlyPacket {
    pub(crate) number: PacketNumber,
    pub(crate) frames: Vec<u8>,
    content: Content,
}

/// What a connection that began early learns when the relay has answered.
pub(crate) struct Confirmation<'a> {
    pub(crate) made: Established,
    /// What the relay had announced before.
    pub(crate) remembered: &'a TransportParameters,
    /// The relay took the early packets.
    pub(crate) accepted: bool,
}

impl Connection {
    /// What is sent on this stream may go along with the first flight. It may then arrive twice, as whoever saw that flight can
    /// send it again: only what is safe to be repeated may be marked. Without effect once the handshake is over.
    pub fn allow_early(&mut self, id: StreamId) {
        self.scheduler.allow_early(id);
    }

    /// Whether everything that arrived so far came along with the first flight of a client that has not yet shown that it is
    /// there. It may be a copy of an earlier flight, so only what is safe to be repeated should be done with it (RFC 8470).
    pub fn is_early(&self) -> bool {
        self.settings.side == Side::Server && self.state == State::Unconfirmed
    }

    // --- the client ---

    /// A client's connection before the relay has answered. `remembered`: what the relay announced the last time.
    pub(crate) fn early(
        now: Now,
        peer: Peer,
        suite: Suite,
        route: Route,
        remembered: &TransportParameters,
        transport: Arc<TransportConfig>,
        random: Random,
    ) -> Self {
        let info = Info {
            peer,
            suite,
            handshake: Duration::ZERO,
            resumed: false,
            early_accepted: None,
        };
        let mut connection = Self::bare(now, Side::Client, info, route, remembered, transport, random);
        connection.scheduler.begin_early();
        // Whether the relay is there is the dial's to find out.
        connection.paths.active.recovery.disarm_probe(true);
        connection
    }

    /// The next packet of early data, with at most `room` bytes of frames; none while nothing marked waits, or the initial
    /// window is full. The batch lends its memory.
    pub(crate) fn next_early(&mut self, now: Now, room: usize, batch: &mut Batch) -> Option<EarlyPacket> {
        let permitted = matches!(
            self.paths.active.recovery.permit(now.instant),
            Permit::Full { .. }
        );
        if !(permitted && self.state.is_open() && self.scheduler.has_pending()) {
            return None;
        }
        let number = self.paths.active.take_number();
        let Some(builder) = Builder::bare(batch, number.get(), room) else {
            self.paths.active.give_back(number);
            return None;
        };
        let mut draft = Draft::new(builder, PathId::FIRST, number);
        self.write_scheduled(now.instant, &mut draft);
        let Draft { builder, content, .. } = draft;
        let frames = builder.into_frames();
        if frames.is_empty() {
            self.paths.active.give_back(number);
            return None;
        }
        Some(EarlyPacket {
            number,
            frames,
            content,
        })
    }

    /// The packet left, in a datagram of `size` bytes.
    pub(crate) fn early_sent(&mut self, now: Now, packet: EarlyPacket, size: usize, tracer: &mut Tracer<'_>) {
        let EarlyPacket {
            number, mut content, ..
        } = packet;
        content.size = size as u16;
        let sent = Sent {
            number,
            size: size as u16,
            eliciting: true,
            in_flight: true,
            kind: SentKind::Normal,
            ect: false,
            content,
        };
        self.paths.active.recovery.sent(now.instant, sent);
        self.counters.sent_packets += 1;
        self.counters.sent_bytes += size as u64;
        self.counters.early_packets += 1;
        tracer.tell(|connection| trace::Event::PacketSent {
            connection,
            number: number.get(),
            size,
            eliciting: true,
        });
    }

    /// Whether the application gave up before the relay has answered, and what it said.
    pub(crate) fn given_up(&mut self) -> Option<CloseReason> {
        self.closing.take_news()
    }

    /// The relay has answered: the connection gets its keys, and goes on.
    pub(crate) fn establish(&mut self, now: Now, confirmation: Confirmation<'_>, tracer: &mut Tracer<'_>) {
        let Confirmation {
            made,
            remembered,
            accepted,
        } = confirmation;
        let shrunk = accepted && !made.params.allows_all_of(remembered);
        let limits = peer_limits(&made.params);
        self.adopt(now, made);
        self.paths.active.recovery.disarm_probe(false);
        if !accepted {
            self.paths
                .active
                .recovery
                .abandon(now.instant, &mut self.paths.active.outcome);
        }
        let kept = self.scheduler.end_early(limits);
        self.deliver(PathId::FIRST, now.instant, tracer);
        if shrunk || !kept {
            self.end_for(Breach::new(code::PROTOCOL_VIOLATION, 0), now.instant);
        }
    }

    // --- the relay ---

    /// A packet of early data, opened.
    pub(crate) fn handle_early(
        &mut self,
        now: Now,
        size: usize,
        number: u32,
        frames: &[u8],
        tracer: &mut Tracer<'_>,
    ) {
        if !self.state.is_open() {
            return tracer.dropped(DropReason::Closing, size);
        }
        let Ok(fresh) = self.paths.active.recovery.check(number.into()) else {
            return tracer.dropped(DropReason::Replay, size);
        };
        self.paths.active.earn(size);
        let opened = Opened {
            path: PathId::FIRST,
            arrived: self.paths.active.route.into(),
            size,
            fresh,
            key: None,
        };
        self.handle_opened(now, opened, frames, tracer);
    }

    /// A relay's connection that began with early packets: it has not seen the client yet.
    pub(super) fn start_unproved(&mut self, now: Instant) {
        self.paths.active.limit();
        let patience = self.settings.transport.handshake_timeout;
        self.timers.set(Timer::HandshakeGiveUp, now + patience);
    }

    /// A packet opened with the session's keys: the client is there, at its address.
    pub(super) fn note_proof(&mut self, tracer: &mut Tracer<'_>) {
        if self.settings.side == Side::Server && self.state.confirm() {
            self.paths.active.prove();
            self.timers.clear(Timer::HandshakeGiveUp);
            self.welcome();
            tracer.tell(|connection| trace::Event::Confirmed { connection });
        }
    }
}
