//! The way out: from what loss recovery permits to sealed packets in a batch.
//!
//! 1. last words, or answers to another address, go alone
//! 2. how much may be said?
//! 3. a number and a header
//! 4. frames: acknowledgements, our own, the scheduler's, a probe
//! 5. padding, where the length would tell something
//! 6. seal in place
//! 7. remember what it carried
//! 8. masks for the whole batch
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Instant;

use transport_crypto::SealKeys;
use transport_reliability::{AckRange, Acks, PacketNumber, Permit, Sent, SentKind};
use transport_scheduler::{Control, Direction, Grant, Next};

use super::Connection;
use super::content::{Content, Item};
use super::keys::Keys;
use super::path::Path;
use super::path::mtu::FLOOR;
use super::state::State;
use crate::buffer::{Batch, Ecn, Route};
use crate::config::Now;
use crate::error::{By, CloseReason, code};
use crate::packet::{Builder, SealError, mask_batch};
use crate::path::{PathId, PathState};
use crate::trace::{Event, Tracer};
use crate::wire::frame::Frame;
use crate::wire::{ConnectionId, Header};

/// ACK ranges of one frame.
const MAX_RANGES: usize = 64;
/// Below this room no stream data is begun: the frame's own bytes would outweigh it.
const SCRAP: usize = 24;
/// What a packet is padded by at most so that a batch can go on: an ACK in its first packet makes that so much longer.
const EVENED_OUT: usize = 32;
/// Probe timeouts in a row after which probes are small: large ones may be what is lost.
pub(super) const SMALL_PROBES: u32 = 2;
/// Packets of a connection whose lengths would give away how far it is.
const FIRST_PACKETS: u64 = 16;

/// One packet on its way into the batch.
pub(super) struct Draft<'b> {
    pub(super) builder: Builder<'b>,
    pub(super) path: PathId,
    pub(super) number: PacketNumber,
    pub(super) content: Content,
    pub(super) eliciting: bool,
    acks: bool,
    /// The batch leaves with ECT(0).
    ect: bool,
}

/// How the building of a packet ended.
#[derive(PartialEq, Eq)]
pub(super) enum Built {
    /// It stands in the batch, with so many bytes.
    Packet(usize),
    /// There was nothing to say, or nothing that fits this batch.
    Nothing { said_all: bool },
}

impl Connection {
    /// Fills the batch with what may be said now, all of it for one address; `None` when that is nothing.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Now,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> Option<Route> {
        let route = match self.state {
            State::Unconfirmed | State::Confirmed => self
                .transmit_off_path(now.instant, batch, tracer)
                .or_else(|| self.transmit_all(now.instant, batch, tracer)),
            State::Closing => self.transmit_close(now.instant, batch, tracer),
            State::Draining | State::Closed => None,
        }?;
        let keys = self.keys.as_ref()?;
        mask_batch(batch, &keys.seal, &keys.cids, keys.outgoing);
        self.note_shown(route, batch);
        Some(route)
    }

    /// Remembers what a router may quote that finds a packet too big.
    fn note_shown(&mut self, route: Route, batch: &Batch) {
        let large = batch.segments().find(|packet| packet.len() > usize::from(FLOOR));
        let path = self
            .paths
            .iter_mut()
            .find(|path| path.route.remote == route.remote);
        if let (Some(packet), Some(path)) = (large, path) {
            path.shown.note(packet);
        }
    }

    /// Somebody says that only so many bytes of payload pass to `remote`. False: there is no reason to believe that.
    pub(crate) fn on_too_big(&mut self, remote: SocketAddr, payload: u16, quoted: &[u8]) -> bool {
        let saw = |path: &&mut Path| path.route.remote == remote && path.shown.quotes(quoted);
        let path = self.paths.iter_mut().find(saw).filter(|_| self.state.is_open());
        path.is_some_and(|path| path.mtu.claim(payload))
    }

    /// What each path has to say, the active one first.
    fn transmit_all(&mut self, now: Instant, batch: &mut Batch, tracer: &mut Tracer<'_>) -> Option<Route> {
        self.update_keys_if_due(now, tracer);
        while let Some(id) = self.paths.unsettled() {
            self.deliver(id, now, tracer);
        }
        let mut at = 0;
        while let Some(id) = self.paths.nth(at) {
            if let Some(route) = self.transmit_path(id, now, batch, tracer) {
                return Some(route);
            }
            at += 1;
        }
        None
    }

    fn transmit_path(
        &mut self,
        id: PathId,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> Option<Route> {
        let permit = self.permit(id, now);
        let probes = self.paths.get(id)?.recovery.probes_due();
        if permit >= Permit::Retransmit && probes > 0 && !self.has_news(id) {
            self.say_something(id);
        }
        if let (Permit::Full { .. }, Some(size)) = (permit, self.mtu_probe_due(id)) {
            return self.transmit_mtu_probe(id, size, now, batch, tracer);
        }
        batch.set_ecn(self.codepoint(id));
        let mut left = if let Permit::Full { bytes } = permit {
            bytes
        } else {
            1
        };
        while left > 0 {
            match self.transmit_packet(id, permit, now, batch, tracer) {
                Built::Packet(_) if !self.paths.get(id)?.trains.allowed() => break,
                Built::Packet(size) => left = left.saturating_sub(size),
                // What seemed to be news was none: the probe leaves all the same.
                Built::Nothing { .. } if batch.is_empty() && self.owes_probe(id, permit) => {
                    self.paths.get_mut(id)?.ping = true;
                }
                Built::Nothing { said_all } => {
                    if said_all && matches!(permit, Permit::Full { .. }) {
                        self.paths.get_mut(id)?.recovery.app_limited(now);
                    }
                    break;
                }
            }
        }
        let route = self.paths.get(id)?.route;
        (!batch.is_empty()).then_some(route)
    }

    /// How much may be said on a path: while its address is not proved it carries acknowledgements alone.
    fn permit(&self, id: PathId, now: Instant) -> Permit {
        match self.paths.get(id) {
            Some(path) if path.state.is_usable() => path.recovery.permit(now),
            Some(_) if self.is_unaimed(id) => Permit::Nothing,
            Some(path) if path.state == PathState::Probing => path.recovery.permit(now).min(Permit::AcksOnly),
            _ => Permit::Nothing,
        }
    }

    /// A probe needs something to say: on the active path what is unsettled there, elsewhere a PING.
    fn say_something(&mut self, id: PathId) {
        if id == self.paths.active.id {
            self.repeat_oldest();
        }
        let silent = !self.has_news(id);
        if let Some(path) = self.paths.get_mut(id) {
            path.ping |= silent;
        }
    }

    /// Whether a probe is due that not even a PING was meant for.
    fn owes_probe(&self, id: PathId, permit: Permit) -> bool {
        let owes = |path: &Path| path.recovery.probes_due() > 0 && !path.ping;
        permit >= Permit::Retransmit && self.paths.get(id).is_some_and(owes)
    }

    /// Whether the application's data wait to be sent.
    pub(crate) fn has_data(&self) -> bool {
        self.scheduler.has_pending()
    }

    /// Whether there is anything but acknowledgements to say on a path. The connection's own things go by the active one.
    fn has_news(&self, id: PathId) -> bool {
        if id != self.paths.active.id {
            return self.paths.get(id).is_some_and(|path| path.ping) || self.owes_observation(id);
        }
        self.pending.handshake_done
            || self.pending.tickets.has_ready()
            || self.paths.active.ping
            || self.ids.has_pending()
            || self.paths.signals.has_pending()
            || self.pending.control.has_pending()
            || self.owes_addresses()
            || self.owes_observation(id)
            || self.scheduler.has_pending()
    }

    fn transmit_packet(
        &mut self,
        id: PathId,
        permit: Permit,
        now: Instant,
        batch: &mut Batch,
        tracer: &mut Tracer<'_>,
    ) -> Built {
        let may_ask = permit >= Permit::Retransmit;
        let due = |path: &Path| path.recovery.acks_due(now).is_some();
        let acks = permit > Permit::Nothing && self.paths.get(id).is_some_and(due);
        let by_proxy = permit > Permit::Nothing && id == self.paths.active.id && self.paths.owes_acks();
        if !(acks || by_proxy || may_ask && self.has_news(id)) {
            return Built::Nothing {
                said_all: !self.has_news(id),
            };
        }
        let size = self.packet_size(id);
        let first = batch.is_empty();
        let Some(mut draft) = self.draft(id, None, batch, size) else {
            return Built::Nothing { said_all: false };
        };
        if acks {
            self.write_acks(now, &mut draft);
        }
        if by_proxy {
            self.write_acks_of_others(now, &mut draft);
        }
        if may_ask && id == self.paths.active.id {
            self.write_control(&mut draft);
            if first {
                self.write_rhythm(now, &mut draft);
            }
            self.write_haste(&mut draft);
            self.write_scheduled(now, &mut draft);
        }
        if may_ask {
            self.write_observed(&mut draft);
            self.write_acks_riding(now, &mut draft);
            self.write_ping(&mut draft);
        }
        self.write_ping_with_acks(now, &mut draft);
        if draft.builder.is_empty() {
            self.give_back(&draft);
            return Built::Nothing {
                said_all: !self.has_news(id),
            };
        }
        self.blur(first.then_some(now), &mut draft);
        if self.scheduler.has_pending() {
            draft.builder.even_out(EVENED_OUT);
        }
        self.finish_packet(draft, SentKind::Normal, now, tracer)
    }

    /// The packet was not sealed, its number was not used.
    pub(super) fn give_back(&mut self, draft: &Draft<'_>) {
        if let Some(path) = self.paths.get_mut(draft.path) {
            path.give_back(draft.number);
        }
    }

    /// A packet that stands out by itself gets a length by chance: the first ones of a connection, which are the same
    /// few frames each time, and those that break a silence, such as a keep-alive and its answer. `first`: when it leaves, of the
    /// first of a batch; what follows breaks no silence.
    pub(super) fn blur(&mut self, first: Option<Instant>, draft: &mut Draft<'_>) {
        let quiet = |path: &Path| first.is_some_and(|now| path.is_quiet(now));
        if self.counters.sent_packets < FIRST_PACKETS || self.paths.get(draft.path).is_some_and(quiet) {
            let more = usize::from(self.random.byte());
            draft.builder.pad_to(draft.builder.size() + more);
        }
    }

    /// Bytes of the next datagram of a path at most.
    pub(super) fn packet_size(&self, id: PathId) -> usize {
        let Some(path) = self.paths.get(id) else { return 0 };
        let size = if path.recovery.pto_count() >= SMALL_PROBES {
            FLOOR
        } else {
            path.mtu.for_data()
        };
        usize::from(size).min(path.allowance())
    }

    /// Begins a packet, with another connection id than the path's if there is `cid`; the number is given back if the batch has
    /// no room.
    pub(super) fn draft<'b>(
        &mut self,
        id: PathId,
        cid: Option<ConnectionId>,
        batch: &'b mut Batch,
        size: usize,
    ) -> Option<Draft<'b>> {
        let key_phase = self.keys.as_ref()?.seal.phase();
        let (ect, follows) = (batch.ecn() == Ecn::Ect0, !batch.is_empty());
        let cid = cid.or(self.ids.current(id.get()))?;
        let path = self.paths.get_mut(id)?;
        let number = path.take_number();
        let header = Header {
            cid,
            key_phase,
            number: number.get(),
            number_len: path.recovery.number_len(number),
            grease: self.random.byte(),
        };
        let Some(builder) = Builder::start(batch, &header, size) else {
            path.give_back(number);
            return None;
        };
        let mut draft = Draft::new(builder, id, number);
        draft.ect = ect;
        draft.content.follows = follows;
        Some(draft)
    }

    // --- frames, in order ---

    /// What is known anyway may use the room that is left, so that an ACK need not travel alone a little later.
    fn write_acks_riding(&mut self, now: Instant, draft: &mut Draft<'_>) {
        if !draft.acks && draft.eliciting && draft.builder.room() >= SCRAP {
            self.write_acks(now, draft);
        }
    }

    pub(super) fn write_acks(&mut self, now: Instant, draft: &mut Draft<'_>) {
        let Some(path) = self.paths.get_mut(draft.path) else {
            return;
        };
        let Some(acks) = path.recovery.acks_available() else {
            return;
        };
        let largest = acks.largest();
        let marks = path.recovery.marks_received();
        let marks = marks.map(|marks| [marks.ect0, marks.ect1, marks.ce]);
        if put_acks(&acks, draft.path, marks, now, draft) {
            path.recovery.acks_sent(now);
            if let Some(keys) = &mut self.keys {
                keys.acknowledging(draft.path.get(), largest);
            }
            draft.acks = true;
        }
    }

    /// What arrived by paths that may not carry acknowledgements any more.
    fn write_acks_of_others(&mut self, now: Instant, draft: &mut Draft<'_>) {
        for path in &mut self.paths.others {
            if !path.ack_elsewhere {
                continue;
            }
            let marks = path.recovery.marks_received();
            let marks = marks.map(|marks| [marks.ect0, marks.ect1, marks.ce]);
            path.ack_elsewhere = match path.recovery.acks_known() {
                Some(acks) => !put_acks(&acks, path.id, marks, now, draft),
                None => false,
            };
        }
    }

    /// Frames of the connection itself.
    fn write_control(&mut self, draft: &mut Draft<'_>) {
        if self.pending.handshake_done && draft.put(&Frame::HandshakeDone, Some(Item::HandshakeDone)) {
            self.pending.handshake_done = false;
        }
        self.write_paths(draft);
        self.write_addresses(draft);
        self.write_tickets(draft);
        while let Some((frame, piece)) = self.pending.control.next_piece(draft.builder.room()) {
            if !draft.put(&Frame::ControlData(frame), Some(Item::Control(piece))) {
                return;
            }
            self.pending.control.piece_sent(piece);
        }
    }

    /// What the scheduler has: it offers, we see what fits, it hands over.
    pub(super) fn write_scheduled(&mut self, now: Instant, draft: &mut Draft<'_>) {
        while !draft.content.is_full() && draft.builder.room() > 0 {
            let Some(next) = self.scheduler.next(now) else {
                return;
            };
            let taken = match next {
                Next::Control(control) => self.write_steering(control, now, draft),
                Next::Stream {
                    id,
                    offset,
                    available,
                    ..
                } => {
                    let fit = draft.builder.stream_fit(id.get(), offset);
                    let fit = fit.filter(|fit| *fit >= SCRAP.min(available.max(1)));
                    fit.is_some_and(|bytes| {
                        let Some(chunk) = self.scheduler.take(now, Grant { bytes: bytes.max(1) }) else {
                            return false;
                        };
                        draft.content.push(Item::Scheduled(chunk.token));
                        let keys = sealer(&mut self.keys, draft.path);
                        draft
                            .builder
                            .stream(id.get(), offset, chunk.fin, chunk.parts, keys)
                            .is_ok()
                    })
                }
                Next::Datagram { len } => {
                    let fit = draft.builder.datagram_fit().filter(|fit| *fit >= len);
                    fit.is_some_and(|bytes| {
                        let Some(chunk) = self.scheduler.take(now, Grant { bytes: bytes.max(1) }) else {
                            return false;
                        };
                        draft.content.push(Item::Scheduled(chunk.token));
                        let keys = sealer(&mut self.keys, draft.path);
                        draft.builder.datagram(chunk.parts, keys).is_ok()
                    })
                }
            };
            if !taken {
                return;
            }
            draft.eliciting = true;
        }
    }

    fn write_steering(&mut self, control: Control, now: Instant, draft: &mut Draft<'_>) -> bool {
        let frame = frame_of(control);
        if frame.encoded_len() > draft.builder.room() {
            return false;
        }
        let Some(chunk) = self.scheduler.take(now, Grant { bytes: 1 }) else {
            return false;
        };
        draft.put(&frame, Some(Item::Scheduled(chunk.token)))
    }

    /// PING, where something must ask for an ACK and nothing else does.
    fn write_ping(&mut self, draft: &mut Draft<'_>) {
        let wanted = self.paths.get(draft.path).is_some_and(|path| path.ping);
        if wanted
            && (draft.eliciting || draft.put(&Frame::Ping, None))
            && let Some(path) = self.paths.get_mut(draft.path)
        {
            path.ping = false;
        }
    }

    /// Many packets that only acknowledge: one of them asks for an ACK itself.
    fn write_ping_with_acks(&mut self, now: Instant, draft: &mut Draft<'_>) {
        let wants = |path: &&mut Path| path.state.is_usable() && path.wants_ping(now);
        if draft.acks
            && !draft.eliciting
            && let Some(path) = self.paths.get_mut(draft.path).filter(wants)
        {
            path.ping = true;
            self.write_ping(draft);
        }
    }

    // --- sealing ---

    pub(super) fn finish_packet(
        &mut self,
        draft: Draft<'_>,
        sort: SentKind,
        now: Instant,
        tracer: &mut Tracer<'_>,
    ) -> Built {
        let Draft {
            builder,
            path: id,
            number,
            mut content,
            eliciting,
            ect,
            ..
        } = draft;
        let (Some(keys), Some(path)) = (self.keys.as_mut(), self.paths.get_mut(id)) else {
            return Built::Nothing { said_all: false };
        };
        let size = match builder.seal(&mut keys.seal, id.get()) {
            Ok(size) => size,
            Err(SealError::Empty) => return Built::Nothing { said_all: false },
            Err(SealError::Key(_)) => {
                self.end_silently(CloseReason::Transport {
                    code: code::AEAD_LIMIT_REACHED,
                    by: By::Local,
                });
                return Built::Nothing { said_all: false };
            }
        };
        content.size = size as u16;
        let sent = Sent {
            number,
            size: size as u16,
            eliciting,
            in_flight: eliciting,
            kind: sort,
            ect,
            content,
        };
        keys.sealed(id.get(), number.get());
        path.recovery.sent(now, sent);
        path.note_sent(now, size, eliciting);
        let first = eliciting && path.first_question();
        self.counters.sent_packets += 1;
        self.counters.sent_bytes += size as u64;
        if first {
            self.restart_idle(now);
        }
        let number = number.get();
        tracer.tell(|connection| Event::PacketSent {
            connection,
            number,
            size,
            eliciting,
        });
        Built::Packet(size)
    }

    fn update_keys_if_due(&mut self, now: Instant, tracer: &mut Tracer<'_>) {
        let pto = self.paths.max_pto();
        let Some(keys) = self.keys.as_mut().filter(|_| self.state == State::Confirmed) else {
            return;
        };
        if keys.update_if_due(now, pto, &mut self.random) {
            tracer.tell(|connection| Event::KeysUpdated {
                connection,
                by: By::Local,
            });
        }
    }
}

impl<'b> Draft<'b> {
    pub(super) fn new(builder: Builder<'b>, path: PathId, number: PacketNumber) -> Self {
        Self {
            builder,
            path,
            number,
            content: Content::default(),
            eliciting: false,
            acks: false,
            ect: false,
        }
    }

    /// Appends a frame and notes the item that stands for it. False: it does not fit.
    pub(super) fn put(&mut self, frame: &Frame<'_>, item: Option<Item>) -> bool {
        if (item.is_some() && self.content.is_full()) || self.builder.frame(frame).is_err() {
            return false;
        }
        if let Some(item) = item {
            self.content.push(item);
        }
        self.eliciting |= frame.is_ack_eliciting();
        true
    }
}

/// Appends a PATH_ACK of `path`. False: it does not fit.
fn put_acks(
    acks: &Acks<'_>,
    path: PathId,
    marks: Option<[u64; 3]>,
    now: Instant,
    draft: &mut Draft<'_>,
) -> bool {
    let mut ranges = [AckRange { first: 0, last: 0 }; MAX_RANGES];
    let mut count = 0;
    for (slot, range) in ranges.iter_mut().zip(acks.ranges()) {
        *slot = range;
        count += 1;
    }
    let delay = u64::try_from(acks.delay(now).as_micros()).unwrap_or(u64::MAX >> 2);
    let ranges = ranges.iter().take(count).map(|range| range.first..=range.last);
    draft.builder.ack(path.get(), delay, ranges, marks).is_ok()
}

/// What encrypts the packets of a path as they are written. `None`: early data are sealed elsewhere.
fn sealer(keys: &mut Option<Keys>, path: PathId) -> Option<(&mut SealKeys, u32)> {
    keys.as_mut().map(|keys| (&mut keys.seal, path.get()))
}

fn frame_of(control: Control) -> Frame<'static> {
    let uni = |direction| direction == Direction::Uni;
    match control {
        Control::MaxData { max } => Frame::MaxData { max },
        Control::MaxStreamData { id, max } => Frame::MaxStreamData { id: id.get(), max },
        Control::MaxStreams { direction, max } => Frame::MaxStreams {
            uni: uni(direction),
            max,
        },
        Control::DataBlocked { at } => Frame::DataBlocked { at },
        Control::StreamDataBlocked { id, at } => Frame::StreamDataBlocked { id: id.get(), at },
        Control::StreamsBlocked { direction, at } => Frame::StreamsBlocked {
            uni: uni(direction),
            at,
        },
        Control::ResetStream { id, code, final_size } => Frame::ResetStream {
            id: id.get(),
            code,
            final_size,
        },
        Control::StopSending { id, code } => Frame::StopSending { id: id.get(), code },
    }
}
