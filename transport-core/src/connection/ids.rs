//! Connection ids: those we gave the peer, and those it gave us, for each path by itself (draft-ietf-quic-multipath §3.2).
//!
//! Path ids that may be used but are not yet get one id each, so that a path can be opened at once when it is needed; a path in
//! use gets some more, so that it can change them. The ids of a path that is over are over with it.
#![forbid(unsafe_code)]

use crate::error::{Breach, code};
use crate::random::Random;
use crate::wire::ConnectionId;
use crate::wire::frame::{PathNewConnectionId, PathRetireConnectionId, kind};

mod space;

use space::Space;

/// Ids of the peer we keep for each path, and tell it so.
pub(crate) const CID_LIMIT: u64 = 4;
/// Ids of path 0 we give out, whatever the peer would keep.
const MAX_ISSUED: u64 = 8;
/// Ids of a later path in use.
const ISSUED_LATER: u64 = 2;

/// What the endpoint must change in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Datagrams with this id are ours.
    Add(ConnectionId),
    /// They are no more.
    Remove(ConnectionId),
}

/// The ids of one connection.
#[derive(Debug)]
pub(crate) struct Ids {
    /// By path, ascending; only paths that may be used.
    spaces: Vec<Space>,
    peer_limit: u64,
    changes: Vec<Change>,
    /// No frame waits: packets need not look at the spaces.
    told: bool,
}

impl Ids {
    /// `issued` and `theirs` are those of the handshake, numbered from zero; neither is empty.
    pub(crate) fn new(issued: &[ConnectionId], theirs: &[ConnectionId], peer_limit: u64) -> Self {
        let wanted = peer_limit.min(MAX_ISSUED);
        Self {
            spaces: vec![Space::new(0, issued, theirs, wanted)],
            peer_limit,
            changes: Vec::new(),
            told: false,
        }
    }

    /// The id to write on packets of a path; `None` when the peer gave none for it.
    pub(crate) fn current(&self, path: u32) -> Option<ConnectionId> {
        self.space(path)?.current()
    }

    /// Another id than [`Ids::current`], for a route the present one shall not be seen on.
    pub(crate) fn fresh(&self, path: u32) -> Option<ConnectionId> {
        self.space(path)?.fresh()
    }

    /// From now on the other id is the current one, and the one before is retired. False: there is no other.
    pub(crate) fn rotate(&mut self, path: u32) -> bool {
        self.space_mut(path).is_some_and(Space::rotate)
    }

    /// The path an id of ours belongs to.
    pub(crate) fn path_of(&self, cid: ConnectionId) -> Option<u32> {
        self.spaces
            .iter()
            .find(|space| space.issued().any(|issued| issued == cid))
            .map(Space::path)
    }

    /// All ids that lead here.
    pub(crate) fn issued(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.spaces.iter().flat_map(Space::issued)
    }

    /// Path ids from now on: those of `alive`. Ids of paths that are missing lead here no more; the peer gets ids for paths up to
    /// `peer_max`, the highest it takes, with the next [`Ids::issue`].
    pub(crate) fn set_paths(&mut self, alive: &[u32], peer_max: u32) {
        for space in self.spaces.extract_if(.., |space| !alive.contains(&space.path())) {
            self.changes.extend(space.issued().map(Change::Remove));
        }
        for path in alive {
            if let Err(at) = self.spaces.binary_search_by_key(path, Space::path) {
                self.spaces.insert(at, Space::new(*path, &[], &[], 0));
            }
        }
        for space in self.spaces.iter_mut().filter(|space| space.path() <= peer_max) {
            space.want(1);
        }
    }

    /// The path is in use: it gets ids to change to.
    pub(crate) fn set_used(&mut self, path: u32, random: &mut Random) {
        let wanted = self.peer_limit.min(ISSUED_LATER);
        if let Some(space) = self.space_mut(path).filter(|space| space.path() > 0) {
            space.want(wanted);
        }
        self.issue(random);
    }

    /// Makes as many ids as are wanted; they are announced with the next packets.
    pub(crate) fn issue(&mut self, random: &mut Random) {
        self.told = false;
        for space in &mut self.spaces {
            space.issue(random, |cid| self.changes.push(Change::Add(cid)));
        }
    }

    /// What the endpoint has to change since the last call.
    pub(crate) fn take_change(&mut self) -> Option<Change> {
        if self.changes.is_empty() {
            // Ids change seldom: the room is given back.
            self.changes = Vec::new();
            None
        } else {
            Some(self.changes.remove(0))
        }
    }

    /// Whether a frame waits to be sent.
    pub(crate) fn has_pending(&self) -> bool {
        !self.told && self.spaces.iter().any(Space::has_pending)
    }

    /// The next announcement; call [`Ids::announced`] once it is in a packet.
    pub(crate) fn next_announcement(&mut self) -> Option<PathNewConnectionId> {
        self.told |= !self.has_pending();
        let mut spaces = self.spaces.iter().filter(|_| !self.told);
        spaces.find_map(Space::next_announcement)
    }

    /// The announcement is in a packet.
    pub(crate) fn announced(&mut self, path: u32) {
        if let Some(space) = self.space_mut(path) {
            space.announced();
        }
    }

    /// The packet with an announcement was lost.
    pub(crate) fn announce_again(&mut self, path: u32, sequence: u64) {
        if let Some(space) = self.space_mut(path) {
            space.announce_again(sequence);
        }
    }

    /// The next retirement; call [`Ids::retired`] once it is in a packet.
    pub(crate) fn next_retirement(&self) -> Option<PathRetireConnectionId> {
        let mut spaces = self.spaces.iter().filter(|_| !self.told);
        spaces.find_map(Space::next_retirement)
    }

    /// The retirement is in a packet.
    pub(crate) fn retired(&mut self, path: u32) {
        if let Some(space) = self.space_mut(path) {
            space.retired();
        }
    }

    /// The packet with a retirement was lost.
    pub(crate) fn retire_again(&mut self, path: u32, sequence: u64) {
        if let Some(space) = self.space_mut(path) {
            space.retire_again(sequence);
        }
    }

    /// The peer knows of a retirement.
    pub(crate) fn retirement_acked(&mut self, path: u32, sequence: u64) {
        if let Some(space) = self.space_mut(path) {
            space.retirement_acked(sequence);
        }
    }

    /// The peer gives us an id. Whoever calls has seen to it that the path is not one that is over.
    pub(crate) fn on_new(&mut self, frame: PathNewConnectionId) -> Result<(), Breach> {
        let kept = |space: &Space| space.path() != frame.path && space.knows(frame.cid);
        let breach = Breach::new(code::PROTOCOL_VIOLATION, kind::PATH_NEW_CONNECTION_ID);
        if self.spaces.iter().any(kept) {
            return Err(breach);
        }
        self.space_mut(frame.path).ok_or(breach)?.on_new(frame)
    }

    /// The peer no longer uses one of ours; it gets another.
    pub(crate) fn on_retire(
        &mut self,
        frame: PathRetireConnectionId,
        random: &mut Random,
    ) -> Result<(), Breach> {
        let breach = Breach::new(code::PROTOCOL_VIOLATION, kind::PATH_RETIRE_CONNECTION_ID);
        let space = self.space_mut(frame.path).ok_or(breach)?;
        if let Some(cid) = space.on_retire(frame)? {
            self.changes.push(Change::Remove(cid));
            self.issue(random);
        }
        Ok(())
    }

    fn space(&self, path: u32) -> Option<&Space> {
        self.spaces.iter().find(|space| space.path() == path)
    }

    fn space_mut(&mut self, path: u32) -> Option<&mut Space> {
        self.told = false;
        self.spaces.iter_mut().find(|space| space.path() == path)
    }
}

#[cfg(test)]
mod tests;
