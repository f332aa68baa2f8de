//! Paths open, prove themselves, take over from one another, and end.
//!
//! The client opens paths, one active, the others waiting; what goes where each end decides by itself and tells the other. A path
//! that is silent when it should speak is suspect: if another works, data go there at once, together with all that is unsettled on
//! the suspect one. Nothing counts as lost for that, so a suspicion that was wrong costs a few repeated bytes.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use transport_scheduler::Side;

use super::multipath::{SILENT, UNWANTED};
use super::path::set::Template;
use super::path::validate::Candidate;
use super::path::{Path, Watch};
use super::receive::Arrival;
use super::state::State;
use super::{Connection, Event};
use crate::buffer::Route;
use crate::config::Now;
use crate::error::{Breach, CloseReason, code};
use crate::path::{PathId, PathReason, PathState, Step};
use crate::trace::{self, Tracer};
use crate::wire::frame::kind;

/// A suspect path another one stands in for is not given up sooner, however short its round trip.
const LEAST_SILENCE: Duration = Duration::from_secs(1);

/// The round trip a new path is thought to have at least, before it was measured.
const LEAST_GUESS: Duration = Duration::from_millis(50);

/// One path of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathInfo {
    /// Its name.
    pub id: PathId,
    /// Its two ends.
    pub route: Route,
    /// How it stands.
    pub state: PathState,
    /// Where the peer's packets arrive here, if a client's socket tells: its beginning, when `route` leaves that to the system.
    pub begins: Option<IpAddr>,
    /// It leads to the peer without the detour the connection began with.
    pub direct: bool,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Largest UDP payload sent, bytes.
    pub mtu: u16,
    /// Congestion window, bytes.
    pub cwnd: u64,
}

/// Why a call about paths did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum PathError {
    /// It is for clients to open paths and to move.
    NotClient,
    /// The connection does not stand yet, or no longer.
    NotConnected,
    /// The two ends did not agree on several paths.
    Unsupported,
    /// So many paths are alive that no other may be opened now.
    Limit,
    /// The peer has not yet given a connection id for it.
    NoConnectionId,
    /// There is no such path.
    Unknown,
    /// The path has not proved itself, or is over.
    NotReady,
    /// Data go there; another path must be chosen first.
    InUse,
    /// The two ends did not agree to look for a direct path.
    NoDirect,
    /// This machine does not have the address.
    NoAddress,
    /// Fewer than 1,000 bytes fit a datagram that leaves there.
    TooNarrow,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotClient => "only a client opens paths",
            Self::NotConnected => "the connection does not stand",
            Self::Unsupported => "the two ends did not agree on several paths",
            Self::Limit => "too many paths are alive",
            Self::NoConnectionId => "the peer has given no connection id for another path",
            Self::Unknown => "there is no such path",
            Self::NotReady => "the path has not proved itself, or is over",
            Self::InUse => "the connection's data go by this path",
            Self::NoDirect => "the two ends did not agree to look for a direct path",
            Self::NoAddress => "this machine does not have the address",
            Self::TooNarrow => "fewer than 1,000 bytes fit a datagram that leaves there",
        })
    }
}

impl std::error::Error for PathError {}

impl Connection {
    // --- application face ---

    /// Opens a path over `route` (RFC 9000 §8.2): its address is asked for a proof, then it waits in standby, kept alive by a
    /// question every twelve seconds. [`Event::PathStateChanged`] tells how it goes.
    ///
    /// # Errors
    /// When no other path may be opened now; [`PathError::Unsupported`]: use [`Connection::move_to`].
    pub fn add_path(&mut self, now: Now, route: Route) -> Result<PathId, PathError> {
        self.check_mover()?;
        if !self.paths.is_multipath() {
            return Err(PathError::Unsupported);
        }
        let id = self.paths.next_id().ok_or(PathError::Limit)?;
        if self.ids.current(id.get()).is_none() {
            return Err(PathError::NoConnectionId);
        }
        let mut path = self.newcomer(id, route);
        path.candidate = Some(Box::new(Candidate::of_ours(route, now.instant)));
        path.recovery.disarm_probe(true);
        self.open_path(path, PathReason::Opened);
        Ok(id)
    }

    /// Sends the connection's data by another path from now on, and asks the peer to do so too. What is under way on the path
    /// before is settled there; if that path turns out to be dead, it is sent again.
    pub fn migrate(&mut self, now: Now, id: PathId) -> Result<(), PathError> {
        self.check_mover()?;
        let path = self.paths.get(id).ok_or(PathError::Unknown)?;
        if id == self.paths.active.id {
            return Ok(());
        }
        if !path.state.is_usable() {
            return Err(PathError::NotReady);
        }
        self.hand_over(id, PathReason::Application, now.instant);
        Ok(())
    }

    /// Gives up a path that is not in use. Its id is not used again.
    pub fn abandon_path(&mut self, now: Now, id: PathId) -> Result<(), PathError> {
        if !self.state.is_open() {
            return Err(PathError::NotConnected);
        }
        let path = self.paths.get(id).ok_or(PathError::Unknown)?;
        if path.state == PathState::Abandoned {
            return Err(PathError::NotReady);
        }
        if id == self.paths.active.id {
            return Err(PathError::InUse);
        }
        self.end_path(id, UNWANTED, PathReason::Application, now.instant);
        Ok(())
    }

    /// The machine's addresses or links may be others now: every path is suspect and asked at once. The first that answers carries
    /// the data.
    pub fn network_changed(&mut self, now: Now) {
        if self.state != State::Confirmed {
            return;
        }
        for at in 0.. {
            let Some(id) = self.paths.nth(at) else { break };
            self.doubt(id, PathReason::NetworkChanged, now.instant);
        }
        self.hasten_punch(now.instant);
    }

    /// Moves the one path there is over another `route`, with another connection id (RFC 9000 §9): for peers that know of one path
    /// only. The address is asked for a proof first, and everything goes the old way until it has come.
    pub fn move_to(&mut self, now: Now, route: Route) -> Result<(), PathError> {
        self.check_mover()?;
        let id = self.paths.active.id;
        let cid = self.ids.fresh(id.get()).ok_or(PathError::NoConnectionId)?;
        let mut candidate = Candidate::of_ours(route, now.instant);
        candidate.cid = Some(cid);
        self.paths.active.candidate = Some(Box::new(candidate));
        Ok(())
    }

    /// Paths that begin at `local` take datagrams of at most `payload` bytes, as [`Endpoint::set_width`](crate::Endpoint::set_width)
    /// says for all connections. Whether there is such a path.
    pub fn set_width(&mut self, local: IpAddr, payload: u16) -> bool {
        let top = self.paths.template.mtu.limit();
        let (mut any, mut adopted) = (false, false);
        for (at, path) in self.paths.iter_mut().enumerate() {
            if path.route.local != Some(local) {
                continue;
            }
            any = true;
            if path.mtu.bound(payload, top) {
                path.recovery.set_max_datagram(path.mtu.current());
                adopted |= at == 0;
            }
        }
        if adopted {
            self.adopt_mtu();
        }
        any
    }

    /// This machine has the address `local` no more, see [`Endpoint::lose_address`](crate::Endpoint::lose_address). Whether a path began
    /// there.
    pub(crate) fn lose_address(&mut self, now: Now, local: IpAddr) -> bool {
        let lost = |path: &Path| path.route.local == Some(local) && path.state != PathState::Abandoned;
        let ids: Vec<PathId> = self
            .paths
            .iter()
            .filter(|path| lost(path))
            .map(|path| path.id)
            .collect();
        for id in &ids {
            if *id == self.paths.active.id {
                let spare = self
                    .paths
                    .others
                    .iter()
                    .find(|path| path.state.is_usable() && !lost(path));
                let spare = self
                    .paths
                    .best()
                    .filter(|best| !ids.contains(best))
                    .or(spare.map(|path| path.id));
                let Some(spare) = spare else {
                    self.end_silently(CloseReason::violation(code::NO_VIABLE_PATH));
                    return true;
                };
                self.hand_over(spare, PathReason::Failover, now.instant);
            }
            self.end_path(*id, UNWANTED, PathReason::AddressLost, now.instant);
        }
        !ids.is_empty()
    }

    /// All paths that are not gone, the active one first.
    pub fn paths(&self) -> impl Iterator<Item = PathInfo> + '_ {
        self.paths.iter().map(|path| PathInfo {
            id: path.id,
            route: path.route,
            state: path.state,
            begins: path.begins,
            direct: path.direct,
            rtt: path.recovery.rtt().smoothed(),
            mtu: path.mtu.current(),
            cwnd: path.recovery.stats().cwnd,
        })
    }

    fn check_mover(&self) -> Result<(), PathError> {
        if self.settings.side != Side::Client {
            Err(PathError::NotClient)
        } else if self.state != State::Confirmed {
            Err(PathError::NotConnected)
        } else {
            Ok(())
        }
    }

    // --- opening ---

    /// This end keeps waiting paths alive and asks after flows that stop: the one that may open paths.
    pub(super) fn keeps_paths(&self) -> bool {
        self.settings.side == Side::Client && self.paths.is_multipath()
    }

    /// A path nothing was said on.
    pub(super) fn newcomer(&mut self, id: PathId, route: Route) -> Box<Path> {
        let mut template: Template = self.paths.template.clone();
        template.config.seed = self.random.u64();
        // The best guess, and on the careful side.
        let guess = self.paths.active.recovery.rtt().smoothed() * 2;
        template.config.initial_rtt = guess.max(LEAST_GUESS).min(template.config.initial_rtt);
        let mut path = Box::new(Path::new(id, route, &template));
        let least = self.pending.rhythm.least();
        path.recovery.set_peer_min_ack_delay(least);
        path
    }

    /// One path more.
    pub(super) fn open_path(&mut self, path: Box<Path>, reason: PathReason) {
        let id = path.id;
        self.paths.admit(path);
        self.ids.set_used(id.get(), &mut self.random);
        self.tell_state(id, reason);
    }

    /// A relay's client opened a path: its address must prove itself, and gets three bytes for one until then.
    pub(super) fn welcome_path(&mut self, mut path: Box<Path>, now: Instant, tracer: &mut Tracer<'_>) {
        let remote = path.route.remote;
        path.candidate = Some(Box::new(Candidate::new(path.route, 0, now)));
        path.limit();
        self.open_path(path, PathReason::Opened);
        tracer.tell(|connection| trace::Event::PathChallenged { connection, remote });
    }

    pub(super) fn on_path_response(&mut self, arrival: &Arrival, data: [u8; 8], tracer: &mut Tracer<'_>) {
        let (id, now) = (arrival.path, arrival.now.instant);
        if self.is_hole(id) {
            return self.prove_hole(arrival, data);
        }
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        let proves = |candidate: &Candidate| candidate.is_proved_by(data, arrival.route);
        if !path.candidate.as_deref().is_some_and(proves) {
            return;
        }
        let Some(moved) = path.switch(now) else {
            return;
        };
        if path.state == PathState::Probing {
            path.prove();
            self.step(id, Step::Proved, PathReason::Proved);
            self.on_proved(id, now, tracer);
        } else if path.state == PathState::Suspect && !moved {
            self.on_answer(id, now, tracer);
        } else {
            self.on_moved(id, moved, tracer);
        }
    }

    /// A new path works: it stands by, unless the peer already wants data there, or there is no other.
    fn on_proved(&mut self, id: PathId, now: Instant, tracer: &mut Tracer<'_>) {
        if self.keeps_paths() {
            self.step(id, Step::Spared, PathReason::Proved);
            self.paths.signals.status(id.get(), false);
        }
        self.follow(now, tracer);
        self.reconsider(now, tracer);
    }

    /// A path leads elsewhere now (RFC 9000 §9.3).
    fn on_moved(&mut self, id: PathId, moved: bool, tracer: &mut Tracer<'_>) {
        if moved {
            self.ids.rotate(id.get());
        }
        let Some(path) = self.paths.get(id).filter(|path| path.id == self.paths.active.id) else {
            return;
        };
        let remote = path.route.remote;
        self.counters.path_changes += 1;
        self.pending.tickets.on_new_path();
        self.inbox.push(Event::PathChanged { remote });
        tracer.tell(|connection| trace::Event::PathSwitched { connection, remote });
        if moved {
            self.adopt_mtu();
        }
    }

    // --- time ---

    /// What is to be done about a path by itself.
    pub(super) fn on_path_due(&mut self, id: PathId, now: Instant, tracer: &mut Tracer<'_>) {
        let keeps = self.keeps_paths();
        // A client that misses acknowledgements may open another path.
        let spared = keeps || self.paths.best().is_some();
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        path.ask(keeps, now);
        let unanswered = path
            .candidate
            .as_mut()
            .filter(|candidate| candidate.expires_at().is_some_and(|at| at <= now));
        if unanswered.is_some_and(|candidate| !candidate.timed_out(now)) {
            path.candidate = None;
            if path.state == PathState::Probing {
                return self.give_up(id, SILENT, PathReason::Unproved, now, tracer);
            }
        }
        if spared && path.is_missing_acks(now) {
            self.suspect(id, PathReason::AckSilence, now, tracer);
        }
        self.let_go(id, now, tracer);
    }

    /// A suspect path that never spoke again is given up; one that was given up is forgotten.
    fn let_go(&mut self, id: PathId, now: Instant, tracer: &mut Tracer<'_>) {
        let active = id == self.paths.active.id;
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        if path.watch.gone_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        match path.state {
            PathState::Abandoned => self.retire_path(id),
            PathState::Suspect if !active => self.give_up(id, SILENT, PathReason::Silence, now, tracer),
            _ => {}
        }
    }

    // --- suspicion ---

    /// A path may be dead. It is asked; if another works, that one takes over.
    pub(super) fn suspect(&mut self, id: PathId, reason: PathReason, now: Instant, tracer: &mut Tracer<'_>) {
        let alone = self.paths.others.is_empty();
        if alone && self.settings.side == Side::Server {
            // Nobody but the client could do anything about it.
            return;
        }
        self.doubt(id, reason, now);
        self.reconsider(now, tracer);
    }

    fn doubt(&mut self, id: PathId, reason: PathReason, now: Instant) {
        let active = id == self.paths.active.id;
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        let asks_again = reason == PathReason::NetworkChanged && path.state == PathState::Suspect;
        let Some(next) = path.state.after(Step::Suspected) else {
            if asks_again {
                path.candidate = Some(Box::new(Candidate::of_ours(path.route, now)));
            }
            return;
        };
        path.state = next;
        // Its answer is not held back, as an acknowledgement may be.
        let route = path.route;
        path.candidate
            .get_or_insert_with(|| Box::new(Candidate::of_ours(route, now)));
        // After a change of network only what is sent from now on can show anything.
        let from = if reason == PathReason::NetworkChanged {
            path.upcoming()
        } else {
            0
        };
        path.watch.suspect = Some((now, from));
        if !active {
            path.watch.gone_at = Some(now + patience_with(path));
            self.reinject(id);
        }
        self.tell_state(id, reason);
    }

    /// An acknowledgement said something new about a path.
    pub(super) fn on_progress(&mut self, id: PathId, largest: u64, now: Instant, tracer: &mut Tracer<'_>) {
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        path.note_progress(now);
        if path.watch.suspect.is_some_and(|(_, from)| largest >= from) {
            self.on_answer(id, now, tracer);
        }
    }

    /// A suspect path answered.
    fn on_answer(&mut self, id: PathId, now: Instant, tracer: &mut Tracer<'_>) {
        let active = id == self.paths.active.id;
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        let (Some((since, _)), Some(next)) = (path.watch.suspect.take(), path.state.after(Step::Answered))
        else {
            return;
        };
        let soon = now.saturating_duration_since(since) <= path.recovery.pto();
        let alarm = std::mem::take(&mut path.watch.left) && soon;
        path.watch.gone_at = None;
        path.watch.alarms += u32::from(soon);
        path.candidate = None;
        path.state = next;
        if active {
            path.state = path.state.after(Step::Chosen).unwrap_or(path.state);
        }
        self.tell_state(id, PathReason::Answered);
        if alarm {
            // It was only slow.
            self.choose(id, PathReason::Answered, now, tracer);
        }
        self.reconsider(now, tracer);
    }

    /// While the active path is suspect, or left by the peer, any other that works is better.
    pub(super) fn reconsider(&mut self, now: Instant, tracer: &mut Tracer<'_>) {
        let Path {
            state,
            abandoned_by_peer,
            ..
        } = *self.paths.active;
        if abandoned_by_peer.is_some() {
            self.take_over(PathReason::Peer, now, tracer);
        } else if state == PathState::Suspect {
            self.take_over(PathReason::Failover, now, tracer);
        }
    }

    /// The best of the other paths takes over. False: none works.
    pub(super) fn take_over(&mut self, reason: PathReason, now: Instant, tracer: &mut Tracer<'_>) -> bool {
        self.paths
            .best()
            .is_some_and(|id| self.choose(id, reason, now, tracer))
    }

    // --- one path for another ---

    /// Data go by this path from now on.
    pub(super) fn choose(
        &mut self,
        id: PathId,
        reason: PathReason,
        now: Instant,
        tracer: &mut Tracer<'_>,
    ) -> bool {
        let (left, before) = (self.paths.active.id, self.paths.active.route.remote);
        let chosen = self.hand_over(id, reason, now);
        let remote = self.paths.active.route.remote;
        if chosen && remote != before {
            tracer.tell(|connection| trace::Event::PathSwitched { connection, remote });
        }
        if chosen {
            self.note_direct(left, reason, now, tracer);
        }
        chosen
    }

    fn hand_over(&mut self, id: PathId, reason: PathReason, now: Instant) -> bool {
        let (left, before) = (self.paths.active.id, self.paths.active.route.remote);
        if self.paths.choose(id).is_none() {
            return false;
        }
        let watch = &mut self.paths.active.watch;
        (watch.suspect, watch.gone_at, watch.left) = (None, None, false);
        self.tell_state(left, PathReason::Replaced);
        self.tell_state(id, reason);
        if reason != PathReason::Peer {
            self.paths.signals.status(id.get(), true);
            self.paths.signals.status(left.get(), false);
            self.paths.iter_mut().for_each(|path| path.wanted = false);
        }
        self.measure();
        self.adopt_mtu();
        if let Some(path) = self.paths.get_mut(left) {
            path.ack_elsewhere = true;
        }
        self.leave(left, reason, now);
        let remote = self.paths.active.route.remote;
        if remote != before {
            self.counters.path_changes += 1;
            self.pending.tickets.on_new_path();
            self.inbox.push(Event::PathChanged { remote });
        }
        true
    }

    /// What is unsettled on a path that was left because it may be dead, or is, goes by the new one.
    fn leave(&mut self, left: PathId, reason: PathReason, now: Instant) {
        let Some(path) = self.paths.get_mut(left) else {
            return;
        };
        if let Some(code) = path.abandoned_by_peer {
            return self.end_path(left, code, PathReason::Peer, now);
        }
        if path.state != PathState::Suspect {
            return;
        }
        path.watch.left = reason == PathReason::Failover;
        path.watch.gone_at = Some(now + patience_with(path));
        self.reinject(left);
    }

    // --- the end of a path ---

    pub(super) fn give_up(
        &mut self,
        id: PathId,
        code: u64,
        reason: PathReason,
        now: Instant,
        tracer: &mut Tracer<'_>,
    ) {
        self.end_path(id, code, reason, now);
        self.deliver(id, now, tracer);
    }

    /// Nothing more is said on a path; what was unsettled goes by another. It is remembered a little, for what may still come.
    fn end_path(&mut self, id: PathId, code: u64, reason: PathReason, now: Instant) {
        let keep = self.paths.three_pto();
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        let Some(next) = path.state.after(Step::GivenUp) else {
            return;
        };
        path.state = next;
        path.candidate = None;
        path.watch = Watch::default();
        path.watch.gone_at = Some(now + keep);
        path.recovery.abandon(now, &mut path.outcome);
        self.paths.signals.abandon(id.get(), code);
        if let Some(punch) = &mut self.pending.punch {
            punch.on_end(id, now);
        }
        self.tell_state(id, reason);
        if self.paths.active.abandoned_by_peer.is_some() && !self.paths.has_others() {
            self.end_for(Breach::new(code::NO_VIABLE_PATH, kind::PATH_ABANDON), now);
        }
    }

    // --- news ---

    pub(super) fn step(&mut self, id: PathId, step: Step, reason: PathReason) {
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        if let Some(next) = path.state.after(step) {
            path.state = next;
            self.tell_state(id, reason);
        }
    }

    /// How a path stands now.
    pub(super) fn tell_state(&mut self, id: PathId, reason: PathReason) {
        if let Some(path) = self.paths.get(id) {
            let state = path.state;
            self.inbox.push(Event::PathStateChanged {
                path: id,
                state,
                reason,
            });
        }
    }
}

/// How long a suspect path is waited for.
fn patience_with(path: &Path) -> Duration {
    (path.recovery.pto() * 3).max(LEAST_SILENCE)
}
