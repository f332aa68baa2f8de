//! The engine face: what goes out, and what became of it.
//!
//! 1. `next` asks the order whose turn it is and offers what that flow has; nothing is committed.
//! 2. `take` commits as much of the offer as fits, charges the flow, and names it in a token.
//! 3. `acked`, `lost` and `repeat` hand the token back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::datagram::{Popped, Unsent};
use crate::fair::Interest;
use crate::steer::{Source, carried};
use crate::stream::send::Span;
use crate::stream::table::Slot;
use crate::token::Carried;
use crate::{
    CONTROL_FLOW, Chunk, Class, Control, DatagramDrop, DatagramId, Direction, Event, FIRST_STREAM, Grant,
    Next, PeerLimits, Scheduler, Spares, Stats, StreamId, Token, datagram_flow, stream_flow,
};

/// What a frame counts beyond its payload, and a control frame altogether: bytes on the wire, roughly.
const FRAME_COST: usize = 8;
const CONTROL_COST: usize = 12;

/// What `next` offered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Offer {
    Control(Control, Source),
    Stream(Slot, StreamId, Span),
    Datagram(Class, usize),
}

impl Scheduler {
    /// Who speaks next, and how much it could say. Expired datagrams are dropped on the way.
    pub fn next(&mut self, now: Instant) -> Option<Next> {
        self.on_timeout(now);
        self.spend();
        self.offer = self.select(now);
        self.offer.map(|offer| match offer {
            Offer::Control(control, _) => Next::Control(control),
            Offer::Stream(_, id, span) => Next::Stream {
                id,
                offset: span.offset,
                available: span.len,
                fin: span.fin,
            },
            Offer::Datagram(_, len) => Next::Datagram { len },
        })
    }

    /// Commits what `next` offered last, as much of it as fits. `None`: it does not fit, or nothing is on offer because some
    /// other call came between; nothing changed.
    pub fn take(&mut self, _now: Instant, grant: Grant) -> Option<Chunk<'_>> {
        if grant.bytes == 0 {
            return None;
        }
        match self.offer? {
            Offer::Control(control, source) => {
                self.offer = None;
                self.settle_due(source);
                self.fair.charge(CONTROL_FLOW, CONTROL_COST);
                Some(Chunk {
                    token: Token(carried(control)),
                    fin: false,
                    parts: [&[], &[]],
                })
            }
            Offer::Stream(slot, id, span) => self.take_stream(slot, id, span, grant.bytes),
            Offer::Datagram(class, len) => self.take_datagram(class, len, grant.bytes),
        }
    }

    /// The packet that carried this arrived.
    pub fn acked(&mut self, token: Token) {
        self.offer = None;
        match token.0 {
            Carried::Stream { id, offset, len, fin } => self.stream_acked(id, offset, len, fin),
            Carried::Reset(id) => {
                let Some(slot) = self.streams.slot(id) else {
                    return;
                };
                if let Some(stream) = self.streams.get_mut(slot) {
                    stream.send = None;
                }
                self.refresh(slot);
                self.settle(slot);
            }
            Carried::Datagram(id, notify) => {
                if notify {
                    self.events.push_back(Event::DatagramAcked { id });
                }
            }
            Carried::Stop(_)
            | Carried::MaxData(_)
            | Carried::MaxStreamData(..)
            | Carried::MaxStreams(..)
            | Carried::DataBlocked(_)
            | Carried::StreamDataBlocked(..)
            | Carried::StreamsBlocked(..) => {}
        }
    }

    /// The packet that carried this is lost: what still matters goes again.
    pub fn lost(&mut self, token: Token) {
        if let Carried::Datagram(id, notify) = token.0 {
            self.stats.datagrams_lost += 1;
            if notify {
                self.events.push_back(Event::DatagramLost { id });
            }
        }
        self.repeat(token);
    }

    /// Sends the content again although it may arrive yet, as a probe does. A datagram is not repeated.
    pub fn repeat(&mut self, token: Token) {
        self.offer = None;
        let Carried::Stream { id, offset, len, fin } = token.0 else {
            return self.control_lost(token.0);
        };
        let Some(slot) = self.streams.slot(id) else {
            return;
        };
        if let Some(send) = self.streams.get_mut(slot).and_then(|stream| stream.send.as_mut()) {
            send.lost(offset, len, fin);
            self.refresh(slot);
        }
    }

    /// The limits the peer announced in its parameters.
    pub fn limits(&mut self, peer: PeerLimits) {
        self.peer = peer;
        self.raise_connection(peer.max_data);
        self.raise_streams(Direction::Bi, peer.max_streams_bidi);
        self.raise_streams(Direction::Uni, peer.max_streams_uni);
    }

    /// Lends vectors to this connection while it is worked on: those of datagrams that are sent join them, and those of
    /// datagrams that arrive may be made of them ([`spares`](Self::spares)).
    pub fn lend(&mut self, spares: Option<Box<Spares>>) {
        self.spares = spares;
    }

    /// What was lent, until it is taken back.
    pub fn spares(&mut self) -> Option<&mut Spares> {
        self.spares.as_deref_mut()
    }

    /// Takes back what was lent. What was [taken](Self::take) last must not be needed any more.
    pub fn take_back(&mut self) -> Option<Box<Spares>> {
        self.spend();
        self.spares.take()
    }

    /// What was taken last is not needed any more.
    fn spend(&mut self) {
        let spent = std::mem::take(&mut self.current);
        if let Some(spares) = &mut self.spares {
            spares.put(spent);
        }
    }

    /// The largest datagram payload that fits a packet of the path now, bytes. Larger ones that wait are dropped when their
    /// turn comes.
    pub fn set_max_datagram(&mut self, bytes: usize) {
        self.offer = None;
        self.max_datagram = bytes;
    }

    /// The smoothed round-trip time, by which windows grow and cancels are counted, and the congestion window in bytes, by which
    /// send buffers grow.
    pub fn set_path(&mut self, srtt: Duration, cwnd: u64) {
        self.srtt = srtt;
        let twice = usize::try_from(cwnd.saturating_mul(2)).unwrap_or(usize::MAX);
        self.send_buffer = twice.clamp(
            self.limits.send_buffer,
            self.limits.max_send_buffer.max(self.limits.send_buffer),
        );
    }

    /// When a datagram may expire; [`on_timeout`](Self::on_timeout) then drops it.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.datagrams.next_expiry()
    }

    /// Drops expired datagrams.
    pub fn on_timeout(&mut self, now: Instant) {
        self.tick(now);
        let before = self.datagrams.next_expiry();
        if before.is_none_or(|at| at > now) {
            return;
        }
        let (events, stats) = (&mut self.events, &mut self.stats);
        self.datagrams.expire(now, |id, notify| {
            tell_unsent(stats, events, id, notify, Unsent::Expired);
        });
        if before != self.datagrams.next_expiry() {
            self.refresh_all_datagrams();
        }
    }

    /// Whether `next` would offer anything, expiry apart.
    pub fn has_pending(&self) -> bool {
        self.fair.is_waiting() || self.fair.has_parked() && self.credit.available() > 0
    }

    pub(crate) fn raise_connection(&mut self, max: u64) {
        if self.credit.raise(max) {
            self.fair.unpark(self.credit.available());
        }
    }

    pub(crate) fn raise_streams(&mut self, direction: Direction, max: u64) {
        let ours = self.ours.get_mut(direction);
        if max > ours.allowed {
            ours.allowed = max;
            if std::mem::take(&mut ours.wanted) {
                self.events.push_back(Event::StreamsAvailable { direction });
            }
        }
    }

    /// Tells the order whether datagrams of a class wait, and until when.
    pub(crate) fn refresh_datagrams(&mut self, class: Class) {
        let key = datagram_flow(class);
        let waits = self.datagrams.waits(class);
        self.fair
            .set(key, if waits { Interest::Waiting } else { Interest::None });
        if let (Class::Realtime, Some(deadline)) = (class, self.datagrams.deadline(class)) {
            self.fair.set_deadline(key, deadline);
        }
        if self.datagrams.drained() {
            self.events.push_back(Event::DatagramsWritable);
        }
    }

    fn refresh_all_datagrams(&mut self) {
        for class in Class::ALL {
            self.refresh_datagrams(class);
        }
    }

    fn select(&mut self, now: Instant) -> Option<Offer> {
        loop {
            let Some(key) = self.fair.select(now) else {
                if !(self.fair.has_parked() && self.credit.available() > 0) {
                    return None;
                }
                self.fair.unpark(self.credit.available());
                continue;
            };
            let offer = match key.checked_sub(FIRST_STREAM) {
                Some(slot) => self.offer_stream(slot),
                None => match Class::ALL.into_iter().find(|&class| datagram_flow(class) == key) {
                    Some(class) => self.offer_datagram(class, now),
                    None => self.offer_control(),
                },
            };
            if offer.is_some() {
                return offer;
            }
        }
    }

    fn offer_control(&mut self) -> Option<Offer> {
        let (control, source) = self.control_due()?;
        Some(Offer::Control(control, source))
    }

    fn offer_stream(&mut self, slot: Slot) -> Option<Offer> {
        let connection = self.credit.available();
        let stream = self.streams.get(slot);
        let span = stream.and_then(|stream| Some((stream.id, stream.send.as_ref()?.offer(connection)?)));
        let Some((id, span)) = span else {
            self.refresh(slot);
            return None;
        };
        Some(Offer::Stream(slot, id, span))
    }

    fn offer_datagram(&mut self, class: Class, now: Instant) -> Option<Offer> {
        let (events, stats) = (&mut self.events, &mut self.stats);
        let len = self.datagrams.peek(class, now, |id, notify, why| {
            tell_unsent(stats, events, id, notify, why);
        });
        if let Some(len) = len.filter(|&len| len <= self.max_datagram) {
            return Some(Offer::Datagram(class, len));
        }
        if let Some(gone) = self.datagrams.pop(class) {
            self.datagram_dropped(gone.id, gone.notify, DatagramDrop::TooLarge);
        }
        self.refresh_datagrams(class);
        None
    }

    pub(crate) fn datagram_dropped(&mut self, id: DatagramId, notify: bool, why: DatagramDrop) {
        tell_unsent(
            &mut self.stats,
            &mut self.events,
            id,
            notify,
            Unsent::Dropped(why),
        );
    }

    /// While the flow queues are over their bound: drops from the fattest.
    pub(crate) fn shed_flows(&mut self) {
        let (events, stats) = (&mut self.events, &mut self.stats);
        let dropped = stats.datagrams_dropped;
        self.datagrams.shed_flows(|id, notify, why| {
            tell_unsent(stats, events, id, notify, why);
        });
        if dropped != self.stats.datagrams_dropped {
            self.refresh_all_datagrams();
        }
    }

    fn take_stream(&mut self, slot: Slot, id: StreamId, span: Span, room: usize) -> Option<Chunk<'_>> {
        self.offer = None;
        let len = span.len.min(room);
        let send = self.streams.get_mut(slot)?.send.as_mut()?;
        let fin = send.take(span, len);
        if span.again {
            self.stats.retransmitted_bytes += len as u64;
        } else {
            self.stats.sent_bytes += len as u64;
            self.credit.spend(len as u64);
            self.wake_writer(slot);
        }
        self.fair.charge(stream_flow(slot), len + FRAME_COST);
        self.refresh(slot);
        let send = self.streams.get(slot)?.send.as_ref()?;
        let token = Token(Carried::Stream {
            id,
            offset: span.offset,
            len: len as u32,
            fin,
        });
        Some(Chunk {
            token,
            fin,
            parts: send.slices(span.offset, len),
        })
    }

    fn take_datagram(&mut self, class: Class, len: usize, room: usize) -> Option<Chunk<'_>> {
        if len > room {
            return None;
        }
        self.offer = None;
        let Popped { id, notify, data } = self.datagrams.pop(class)?;
        self.stats.datagrams_sent += 1;
        self.fair.charge(datagram_flow(class), len + FRAME_COST);
        self.refresh_datagrams(class);
        self.current = data;
        Some(Chunk {
            token: Token(Carried::Datagram(id, notify)),
            fin: false,
            parts: [&self.current, &[]],
        })
    }

    fn stream_acked(&mut self, id: StreamId, offset: u64, len: u32, fin: bool) {
        let Some(slot) = self.streams.slot(id) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        let Some(send) = stream.send.as_mut() else {
            return;
        };
        let held = send.interest(1);
        let freed = send.acked(&mut self.pool, offset, len, fin);
        let finished = send.is_finished();
        if finished {
            stream.send = None;
            self.events.push_back(Event::StreamFinished { id });
        }
        if freed > 0 {
            self.unbuffer(slot, freed);
        }
        // Acknowledgement takes away only retransmissions and the end.
        if finished || held == Interest::Ahead {
            self.refresh(slot);
            self.settle(slot);
        }
    }
}

/// A datagram leaves its queue unsent: counts it, and tells who wants to know.
fn tell_unsent(stats: &mut Stats, events: &mut VecDeque<Event>, id: DatagramId, notify: bool, why: Unsent) {
    let event = match why {
        Unsent::Expired => {
            stats.datagrams_expired += 1;
            Event::DatagramExpired { id }
        }
        Unsent::Dropped(why) => {
            stats.datagrams_dropped += 1;
            stats.datagrams_dropped_by_delay += u64::from(why == DatagramDrop::Delay);
            stats.datagrams_too_large += u64::from(why == DatagramDrop::TooLarge);
            Event::DatagramDropped { id, why }
        }
    };
    if notify {
        events.push_back(event);
    }
}
