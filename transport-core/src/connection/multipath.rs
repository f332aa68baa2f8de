//! What the peer says of paths, and what we tell it (draft-ietf-quic-multipath).
#![forbid(unsafe_code)]

use std::time::Instant;

use super::Connection;
use super::content::Item;
use super::path::set::Standing;
use super::receive::Arrival;
use super::transmit::Draft;
use crate::error::{Breach, code};
use crate::path::{PathId, PathReason, PathState, Step};
use crate::trace::{DropReason, Tracer};
use crate::wire::frame::{
    Frame, PathAbandon, PathNewConnectionId, PathRetireConnectionId, PathStatus, kind, path::abandon,
};

impl Connection {
    /// The path a frame is about: `None` when it is over, `breach` when there never was such a path id.
    pub(super) fn path_named(&self, id: u32, breach: Breach) -> Result<Option<PathId>, Breach> {
        match self.paths.standing(id) {
            Standing::Alive => Ok(Some(PathId(id))),
            Standing::Over => Ok(None),
            Standing::Beyond => Err(breach),
        }
    }

    pub(super) fn on_new_connection_id(&mut self, new: PathNewConnectionId) -> Result<(), Breach> {
        let breach = Breach::new(code::PROTOCOL_VIOLATION, kind::PATH_NEW_CONNECTION_ID);
        match self.path_named(new.path, breach)? {
            Some(_) => self.ids.on_new(new),
            None => Ok(()),
        }
    }

    pub(super) fn on_retire_connection_id(&mut self, retire: PathRetireConnectionId) -> Result<(), Breach> {
        let breach = Breach::new(code::PROTOCOL_VIOLATION, kind::PATH_RETIRE_CONNECTION_ID);
        match self.path_named(retire.path, breach)? {
            Some(_) => self.ids.on_retire(retire, &mut self.random),
            None => Ok(()),
        }
    }

    /// The peer uses a path no more. We do not either, and say so; the active one is left as soon as another works, which the peer may
    /// know before we do.
    pub(super) fn on_path_abandon(
        &mut self,
        arrival: &Arrival,
        end: PathAbandon,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), Breach> {
        let breach = Breach::new(code::PROTOCOL_VIOLATION, kind::PATH_ABANDON);
        let Some(id) = self.path_named(end.path, breach)? else {
            return Ok(());
        };
        let now = arrival.now.instant;
        let Some(path) = self.paths.get_mut(id) else {
            self.paths.signals.abandon(id.get(), end.code);
            self.retire_path(id);
            return Ok(());
        };
        path.abandoned_by_peer = Some(end.code);
        if id != self.paths.active.id {
            self.give_up(id, end.code, PathReason::Peer, now, tracer);
        } else if !self.take_over(PathReason::Peer, now, tracer) && !self.paths.has_others() {
            return Err(Breach::new(code::NO_VIABLE_PATH, kind::PATH_ABANDON));
        }
        Ok(())
    }

    /// How the peer would like a path to be used: the newest that shall carry data becomes the active one.
    pub(super) fn on_path_status(
        &mut self,
        arrival: &Arrival,
        status: PathStatus,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), Breach> {
        let breach = Breach::new(code::PROTOCOL_VIOLATION, kind::PATH_STATUS_BACKUP);
        let Some(id) = self.path_named(status.path, breach)? else {
            return Ok(());
        };
        let Some(path) = self.paths.get_mut(id) else {
            tracer.dropped(DropReason::PathUnopened, arrival.size);
            return Ok(());
        };
        if path.told.is_some_and(|told| told >= status.sequence) {
            tracer.dropped(DropReason::PathStatusOld, arrival.size);
            return Ok(());
        }
        path.told = Some(status.sequence);
        if !status.available {
            if path.state == PathState::Validated {
                self.step(id, Step::Spared, PathReason::Peer);
            }
            return Ok(());
        }
        if self.paths.is_newest_wish(status.sequence) {
            // Done at the end of the packet, so that many wishes in one are one.
            self.paths.iter_mut().for_each(|path| path.wanted = path.id == id);
        }
        Ok(())
    }

    /// Data go where the peer wants them, once that address is proved.
    pub(super) fn follow(&mut self, now: Instant, tracer: &mut Tracer<'_>) {
        let Some(id) = self.paths.wanted() else {
            return;
        };
        let left = self.paths.active.id;
        if !self.choose(id, PathReason::Peer, now, tracer) {
            return;
        }
        if self.keeps_paths() {
            // A relay goes elsewhere only because it is not heard here.
            self.suspect(left, PathReason::Peer, now, tracer);
        }
    }

    pub(super) fn on_max_path_id(&mut self, max: u32) {
        if self.paths.on_max_path_id(max) {
            self.provide_ids();
        }
    }

    /// The peer would open a path, and cannot. It will, when an older one is gone.
    pub(super) fn on_paths_blocked(&self, path: u32, frame_type: u64) -> Result<(), Breach> {
        let breach = Breach::new(code::PROTOCOL_VIOLATION, frame_type);
        self.path_named(path, breach).map(|_| ())
    }

    /// The connection ids the path ids in use need.
    pub(super) fn provide_ids(&mut self) {
        let (alive, peer_max) = self.paths.usable();
        self.ids.set_paths(alive, peer_max);
        self.ids.issue(&mut self.random);
    }

    /// A path id is over for good.
    pub(super) fn retire_path(&mut self, id: PathId) {
        self.paths.retire(id);
        self.provide_ids();
        if let Some(keys) = &mut self.keys {
            keys.forget(id.get());
        }
    }

    /// Frames about paths.
    pub(super) fn write_paths(&mut self, draft: &mut Draft<'_>) {
        while let Some((frame, item)) = self.paths.signals.next() {
            if !draft.put(&frame, Some(item)) {
                return;
            }
            self.paths.signals.sent(item);
        }
        while let Some(new) = self.ids.next_announcement() {
            let PathNewConnectionId { path, sequence, .. } = new;
            let item = Item::NewCid { path, sequence };
            if !draft.put(&Frame::PathNewConnectionId(new), Some(item)) {
                return;
            }
            self.ids.announced(path);
        }
        while let Some(retirement) = self.ids.next_retirement() {
            let PathRetireConnectionId { path, sequence } = retirement;
            let item = Item::RetireCid { path, sequence };
            if !draft.put(&Frame::PathRetireConnectionId(retirement), Some(item)) {
                return;
            }
            self.ids.retired(path);
        }
    }
}

/// What a silent path is given up with.
pub(super) const SILENT: u64 = abandon::UNSTABLE;
/// What a path the application gives up is given up with.
pub(super) const UNWANTED: u64 = abandon::APPLICATION;
