//! The way in: from a datagram with one of our connection ids to frames.
//!
//! 1. whose path, and unmask the header
//! 2. expand the number
//! 3. has it come before?
//! 4. open the body
//! 5. keys and path take note
//! 6. frames go to their components
//! 7. remember to acknowledge
#![forbid(unsafe_code)]

use std::time::Instant;

use transport_crypto::{Generation, PacketMask};
use transport_reliability::Fresh;
use transport_scheduler::Side;

use super::Connection;
use super::keys::Keys;
use super::path::Origin;
use super::path::validate::Candidate;
use super::state::State;
use crate::buffer::{Arrived, Ecn, MAX_SEGMENTS, Route};
use crate::config::Now;
use crate::error::{Breach, CloseReason, code};
use crate::packet::{Sealed, samples};
use crate::path::{PathId, PathReason, PathState};
use crate::timer::Timer;
use crate::trace::{DropReason, Event, Tracer};
use crate::wire::{ConnectionId, TAG_LEN};

/// How a packet arrived.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) now: Now,
    pub(super) path: PathId,
    pub(super) route: Route,
    pub(super) ecn: Option<Ecn>,
    pub(super) number: u64,
    pub(super) size: usize,
    /// No packet with a higher number came before.
    pub(super) newest: bool,
    /// It came along with the first flight.
    pub(super) early: bool,
}

/// A packet that was opened.
pub(super) struct Opened {
    pub(super) path: PathId,
    pub(super) arrived: Arrived,
    pub(super) size: usize,
    pub(super) fresh: Fresh,
    /// What opened it; `None` for early data.
    pub(super) key: Option<Generation>,
}

/// What the frames of a packet amounted to.
pub(super) enum Verdict {
    /// Taken. Whether it asks for an ACK, and whether it does more than probe a path.
    Taken { eliciting: bool },
    /// Not to be acknowledged: it must come again.
    Refused,
    /// A rule was broken.
    Breach(Breach),
}

impl Connection {
    /// The header masks of datagrams that came together. False: there are no keys yet.
    pub(crate) fn packet_masks<'d>(
        &self,
        datagrams: impl Iterator<Item = &'d [u8]>,
        out: &mut [PacketMask; MAX_SEGMENTS],
    ) -> bool {
        let Some(keys) = &self.keys else { return false };
        let mut tags = [[0; TAG_LEN]; MAX_SEGMENTS];
        let count = samples(datagrams, &mut tags);
        let (tags, out) = (tags.get(..count), out.get_mut(..count));
        keys.open.masks(tags.unwrap_or_default(), out.unwrap_or_default());
        true
    }

    /// A datagram whose connection id is one of ours; the mask of its header where it was computed before.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Now,
        arrived: impl Into<Arrived>,
        (cid, mask): (ConnectionId, Option<&PacketMask>),
        datagram: &mut [u8],
        tracer: &mut Tracer<'_>,
    ) {
        let arrived = arrived.into();
        let route = arrived.route;
        let size = datagram.len();
        let id = match self.path_in(route, cid) {
            Ok(id) => id,
            Err(reason) => return tracer.dropped(reason, size),
        };
        // What a path not seen before would be, should the packet open.
        let newcomer = self.paths.get(id).is_none().then(|| self.newcomer(id, route));
        let Some(path) = newcomer.as_deref().or(self.paths.get(id)) else {
            return;
        };
        // A packet may overtake the answer it belongs behind; it will come again.
        let Some(keys) = &mut self.keys else {
            return tracer.dropped(DropReason::Unknown, size);
        };
        let unmasked = match mask {
            Some(mask) => Sealed::unmask_with(datagram, cid, mask),
            None => Sealed::unmask(datagram, cid, &keys.open),
        };
        let Some(sealed) = unmasked else {
            return tracer.dropped(DropReason::Forged, size);
        };
        let number = path.recovery.expand(sealed.truncated(), sealed.number_len());
        let Ok(fresh) = path.recovery.check(number) else {
            return tracer.dropped(DropReason::Replay, size);
        };
        let Ok((frames, which)) = keys.open(sealed, id.get(), number) else {
            return self.on_forged(size, tracer);
        };
        if let Some(path) = newcomer {
            self.welcome_path(path, now.instant, tracer);
        }
        let opened = Opened {
            path: id,
            arrived,
            size,
            fresh,
            key: Some(which),
        };
        self.handle_opened(now, opened, frames, tracer);
    }

    /// The path a packet with this id belongs to.
    fn path_in(&self, route: Route, cid: ConnectionId) -> Result<PathId, DropReason> {
        let id = self.ids.path_of(cid).map(PathId).ok_or(DropReason::Unknown)?;
        let client = self.settings.side == Side::Client;
        match self.paths.get(id) {
            Some(path) if client && path.route.remote != route.remote && !self.is_hole(id) => {
                Err(DropReason::WrongAddress)
            }
            // It is for clients to open paths.
            None if client => Err(DropReason::PathUnopened),
            _ if matches!(self.state, State::Draining | State::Closed) => Err(DropReason::Closing),
            None if self.state == State::Closing => Err(DropReason::Closing),
            _ => Ok(id),
        }
    }

    /// The first packet of a client: it was opened to see whether the connection should exist at all.
    pub(crate) fn handle_first(
        &mut self,
        now: Now,
        arrived: Arrived,
        size: usize,
        number: u64,
        frames: &[u8],
        tracer: &mut Tracer<'_>,
    ) {
        if let Ok(fresh) = self.paths.active.recovery.check(number) {
            let opened = Opened {
                path: PathId::FIRST,
                arrived,
                size,
                fresh,
                key: Some(Generation::Current),
            };
            self.handle_opened(now, opened, frames, tracer);
        }
    }

    pub(super) fn handle_opened(&mut self, now: Now, opened: Opened, frames: &[u8], tracer: &mut Tracer<'_>) {
        let Opened {
            path: id,
            arrived: Arrived { route, ecn },
            size,
            fresh,
            key,
        } = opened;
        let number = fresh.number();
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        let newest = path
            .recovery
            .largest_received()
            .is_none_or(|largest| number > largest);
        let arrival = Arrival {
            now,
            path: id,
            route,
            ecn,
            number,
            size,
            newest,
            early: key.is_none(),
        };
        self.counters.received_packets += 1;
        self.counters.received_bytes += size as u64;
        tracer.tell(|connection| Event::PacketReceived {
            connection,
            number,
            size,
        });
        if let Some(which) = key {
            self.note_keys(which, &arrival, tracer);
            if !self.note_hole(&arrival, frames) {
                self.note_origin(&arrival, tracer);
            }
            self.note_proof(tracer);
        }
        let told = self.inbox.len();
        match self.dispatch_all(&arrival, frames, tracer) {
            Verdict::Taken { eliciting } => {
                let again = self.note_received(id, fresh, now.instant, eliciting);
                self.note_mark(&arrival);
                // Packets of one feed restart the timers once.
                if !(again && self.state.is_open()) {
                    self.note_heard(now.instant);
                }
                self.follow(now.instant, tracer);
                self.advance_punch(now.instant, tracer);
            }
            Verdict::Refused => {
                // Its number stays unknown, so a copy may still be taken. What the other frames before the refused one did,
                // they may do twice, for all of them may be sent twice; messages alone would be told twice.
                self.counters.datagrams_received -= self.inbox.forget_messages(told);
                tracer.dropped(DropReason::Refused, size);
            }
            Verdict::Breach(breach) => self.end_for(breach, now.instant),
        }
    }

    fn on_forged(&mut self, size: usize, tracer: &mut Tracer<'_>) {
        tracer.dropped(DropReason::Forged, size);
        if self.keys.as_ref().is_some_and(Keys::is_worn_out) {
            self.end_silently(CloseReason::violation(code::AEAD_LIMIT_REACHED));
        }
    }

    fn note_keys(&mut self, which: Generation, arrival: &Arrival, tracer: &mut Tracer<'_>) {
        let now = arrival.now.instant;
        let Some(keys) = &mut self.keys else { return };
        match keys.opened(which, arrival.path.get(), arrival.number, now) {
            Ok(None) => {}
            Ok(Some(by)) => {
                self.timers.set(Timer::KeyDiscard, now + self.paths.three_pto());
                tracer.tell(|connection| Event::KeysUpdated { connection, by });
            }
            Err(breach) => self.end_for(breach, now),
        }
    }

    /// The newest packet from another address makes that address a candidate (RFC 9000 §9.3).
    fn note_origin(&mut self, arrival: &Arrival, tracer: &mut Tracer<'_>) {
        let Arrival { route, size, now, .. } = *arrival;
        let client = self.settings.side == Side::Client;
        let Some(path) = self.paths.get_mut(arrival.path) else {
            return;
        };
        match path.origin(route) {
            // A client's own address is its own choice, or the system's.
            Origin::Active if client => {
                // One that is suspect is about to be cleared, and tells with the next packet.
                let trusted = path.state == PathState::Active;
                if trusted && arrival.newest && path.arrived_at(route.local) {
                    self.tell_state(arrival.path, PathReason::AddressChanged);
                }
            }
            Origin::Active => {
                path.route.local = route.local;
                path.earn(size);
            }
            Origin::Candidate => {
                if let Some(candidate) = &mut path.candidate {
                    candidate.received(size);
                }
            }
            Origin::New if arrival.newest && self.state.is_open() => {
                path.candidate = Some(Box::new(Candidate::new(route, size, now.instant)));
                tracer.tell(|connection| Event::PathChallenged {
                    connection,
                    remote: route.remote,
                });
            }
            Origin::New => {}
        }
    }

    /// Gives whether the peer was heard at this very moment before.
    fn note_received(&mut self, id: PathId, fresh: Fresh, now: Instant, eliciting: bool) -> bool {
        let Some(path) = self.paths.get_mut(id) else {
            return false;
        };
        path.recovery.received(fresh, now, eliciting);
        path.note_heard();
        eliciting && path.note_flow(now)
    }

    fn note_heard(&mut self, now: Instant) {
        match self.state {
            State::Unconfirmed | State::Confirmed => self.restart_idle(now),
            State::Closing => self.closing.on_packet(),
            State::Draining | State::Closed => {}
        }
    }

    /// The peer broke a rule: tell it, and end.
    pub(super) fn end_for(&mut self, breach: Breach, now: Instant) {
        if self.state.close() {
            self.closing.by_breach(breach);
            self.begin_end(now);
        }
    }
}
