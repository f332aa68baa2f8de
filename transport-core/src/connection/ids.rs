//! Connection ids: those we gave the peer, and those it gave us, for each path by itself (draft-ietf-quic-multipath §3.2).
//!
//! Path ids that may be used but are not yet get one id each, so that a path can be opened at once when it is needed; a path in
//! use gets some more, so that it can change them. The ids of a path that is over are over with it.
#![forbid(unsafe_code)]

use crate::error::{Breach, code};
use crate::random::Random;
use crate::wire::ConnectionId;
use crate::wire::frame::{PathNewConnectionId, PathRetireConnectionId, kind};

/// Ids of the peer we keep for each path, and tell it so.
pub(crate) const CID_LIMIT: u64 = 4;
/// Ids of path 0 we give out, whatever the peer would keep.
const MAX_ISSUED: u64 = 8;
/// Ids of a later path in use.
const ISSUED_LATER: u64 = 2;
/// Retirements of one path that wait for their acknowledgement.
const MAX_RETIRING: usize = 2 * CID_LIMIT as usize;

/// What the endpoint must change in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Datagrams with this id are ours.
    Add(ConnectionId),
    /// They are no more.
    Remove(ConnectionId),
}

/// How far the ids of one path are. Every connection has a few of these for paths it may never open, so they are small, and what
/// they have stands in lists that all share.
#[derive(Debug)]
struct Space {
    path: u32,
    /// The peer shall have so many of ours.
    wanted: u32,
    next_sequence: u64,
    /// What the peer was told of lies below this: it can retire nothing else.
    told_below: u64,
    retired_below: u64,
}

/// One of our ids.
#[derive(Debug)]
struct Issued {
    sequence: u64,
    path: u32,
    cid: ConnectionId,
    /// The peer is to be told.
    announce: bool,
}

/// One of the peer's.
#[derive(Debug)]
struct Theirs {
    sequence: u64,
    path: u32,
    cid: ConnectionId,
}

/// One of the peer's ids that it is to forget, until it has said that it did.
#[derive(Debug)]
struct Retiring {
    sequence: u64,
    path: u32,
    /// The peer is to be told.
    tell: bool,
}

/// The ids of one connection.
#[derive(Debug)]
pub(crate) struct Ids {
    /// By path, ascending; only paths that may be used.
    spaces: Vec<Space>,
    /// By path and number.
    issued: Vec<Issued>,
    theirs: Vec<Theirs>,
    /// In the order of their retirement.
    retiring: Vec<Retiring>,
    peer_limit: u64,
    changes: Vec<Change>,
    /// No frame waits: packets need not look at the lists.
    told: bool,
}

impl Ids {
    /// `issued` and `theirs` are those of the handshake, numbered from zero; neither is empty.
    pub(crate) fn new(issued: &[ConnectionId], theirs: &[ConnectionId], peer_limit: u64) -> Self {
        let (path, known) = (0, issued.len() as u64);
        let ours = (0..).zip(issued).map(|(sequence, cid)| Issued {
            sequence,
            path,
            cid: *cid,
            announce: false,
        });
        let theirs = (0..CID_LIMIT).zip(theirs).map(|(sequence, cid)| Theirs {
            sequence,
            path,
            cid: *cid,
        });
        Self {
            spaces: vec![Space {
                path,
                wanted: peer_limit.min(MAX_ISSUED) as u32,
                next_sequence: known,
                told_below: known,
                retired_below: 0,
            }],
            issued: ours.collect(),
            theirs: theirs.collect(),
            retiring: Vec::new(),
            peer_limit,
            changes: Vec::new(),
            told: false,
        }
    }

    /// The id to write on packets of a path; `None` when the peer gave none for it.
    pub(crate) fn current(&self, path: u32) -> Option<ConnectionId> {
        self.theirs_of(path).next().map(|theirs| theirs.cid)
    }

    /// Another id than [`Ids::current`], for a route the present one shall not be seen on.
    pub(crate) fn fresh(&self, path: u32) -> Option<ConnectionId> {
        self.theirs_of(path).nth(1).map(|theirs| theirs.cid)
    }

    /// From now on the other id is the current one, and the one before is retired. False: there is no other, or too many
    /// retirements wait.
    pub(crate) fn rotate(&mut self, path: u32) -> bool {
        if self.theirs_of(path).nth(1).is_none() || self.retiring_of(path) >= MAX_RETIRING {
            return false;
        }
        self.retire_first(path);
        true
    }

    /// The path an id of ours belongs to.
    pub(crate) fn path_of(&self, cid: ConnectionId) -> Option<u32> {
        let found = self.issued.iter().find(|issued| issued.cid == cid);
        found.map(|issued| issued.path)
    }

    /// All ids that lead here.
    pub(crate) fn issued(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.issued.iter().map(|issued| issued.cid)
    }

    /// Path ids from now on: those of `alive`. Ids of paths that are missing lead here no more; the peer gets ids for paths up to
    /// `peer_max`, the highest it takes, with the next [`Ids::issue`].
    pub(crate) fn set_paths(&mut self, alive: &[u32], peer_max: u32) {
        self.told = false;
        let over = self.issued.extract_if(.., |issued| !alive.contains(&issued.path));
        self.changes.extend(over.map(|issued| Change::Remove(issued.cid)));
        self.theirs.retain(|theirs| alive.contains(&theirs.path));
        self.retiring.retain(|retiring| alive.contains(&retiring.path));
        self.spaces.retain(|space| alive.contains(&space.path));
        self.spaces
            .reserve_exact(alive.len().saturating_sub(self.spaces.len()));
        for &path in alive {
            if let Err(at) = self.spaces.binary_search_by_key(&path, |space| space.path) {
                let space = Space {
                    path,
                    wanted: 0,
                    next_sequence: 0,
                    told_below: 0,
                    retired_below: 0,
                };
                self.spaces.insert(at, space);
            }
        }
        for space in self.spaces.iter_mut().filter(|space| space.path <= peer_max) {
            space.wanted = space.wanted.max(1);
        }
    }

    /// The path is in use: it gets ids to change to.
    pub(crate) fn set_used(&mut self, path: u32, random: &mut Random) {
        let wanted = self.peer_limit.min(ISSUED_LATER) as u32;
        if let Some(space) = self.space_mut(path).filter(|space| space.path > 0) {
            space.wanted = space.wanted.max(wanted);
        }
        self.issue(random);
    }

    /// Makes as many ids as are wanted; they are announced with the next packets.
    pub(crate) fn issue(&mut self, random: &mut Random) {
        self.told = false;
        let wanted: usize = self.spaces.iter().map(|space| space.wanted as usize).sum();
        self.issued
            .reserve_exact(wanted.saturating_sub(self.issued.len()));
        for space in &mut self.spaces {
            let end = self.issued.partition_point(|issued| issued.path <= space.path);
            let have = self
                .issued
                .iter()
                .filter(|issued| issued.path == space.path)
                .count();
            for at in end..end + (space.wanted as usize).saturating_sub(have) {
                let issued = Issued {
                    sequence: space.next_sequence,
                    path: space.path,
                    cid: random.cid(),
                    announce: true,
                };
                space.next_sequence += 1;
                self.changes.push(Change::Add(issued.cid));
                self.issued.insert(at, issued);
            }
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
        !self.told && (self.issued.iter().any(|issued| issued.announce) || self.next_retirement().is_some())
    }

    /// The next announcement; call [`Ids::announced`] once it is in a packet.
    pub(crate) fn next_announcement(&mut self) -> Option<PathNewConnectionId> {
        self.told |= !self.has_pending();
        let mut issued = self.issued.iter().filter(|_| !self.told);
        let next = issued.find(|issued| issued.announce)?;
        Some(PathNewConnectionId {
            path: next.path,
            sequence: next.sequence,
            retire_prior_to: 0,
            cid: next.cid,
        })
    }

    /// The announcement is in a packet.
    pub(crate) fn announced(&mut self, path: u32) {
        let mut issued = self.issued.iter_mut();
        if let Some(next) = issued.find(|issued| issued.path == path && issued.announce) {
            next.announce = false;
            let told_below = next.sequence + 1;
            if let Some(space) = self.space_mut(path) {
                space.told_below = space.told_below.max(told_below);
            }
        }
    }

    /// The packet with an announcement was lost.
    pub(crate) fn announce_again(&mut self, path: u32, sequence: u64) {
        self.told = false;
        let lost = |issued: &&mut Issued| issued.path == path && issued.sequence == sequence;
        if let Some(lost) = self.issued.iter_mut().find(lost) {
            lost.announce = true;
        }
    }

    /// The next retirement; call [`Ids::retired`] once it is in a packet.
    pub(crate) fn next_retirement(&self) -> Option<PathRetireConnectionId> {
        let mut retiring = self.retiring.iter().filter(|_| !self.told);
        let next = retiring.find(|retiring| retiring.tell)?;
        Some(PathRetireConnectionId {
            path: next.path,
            sequence: next.sequence,
        })
    }

    /// The retirement is in a packet.
    pub(crate) fn retired(&mut self, path: u32) {
        let next = |retiring: &&mut Retiring| retiring.path == path && retiring.tell;
        if let Some(next) = self.retiring.iter_mut().find(next) {
            next.tell = false;
        }
    }

    /// The packet with a retirement was lost.
    pub(crate) fn retire_again(&mut self, path: u32, sequence: u64) {
        self.told = false;
        let lost = |retiring: &&mut Retiring| retiring.path == path && retiring.sequence == sequence;
        if let Some(lost) = self.retiring.iter_mut().find(lost) {
            lost.tell = true;
        }
    }

    /// The peer knows of a retirement.
    pub(crate) fn retirement_acked(&mut self, path: u32, sequence: u64) {
        self.retiring
            .retain(|retiring| retiring.path != path || retiring.sequence != sequence);
    }

    /// The peer gives us an id. Whoever calls has seen to it that the path is not one that is over.
    pub(crate) fn on_new(&mut self, frame: PathNewConnectionId) -> Result<(), Breach> {
        let PathNewConnectionId {
            path, sequence, cid, ..
        } = frame;
        let breach = |code| Breach::new(code, kind::PATH_NEW_CONNECTION_ID);
        let mut known = self.theirs.iter();
        let known =
            known.find(|theirs| theirs.cid == cid || theirs.path == path && theirs.sequence == sequence);
        let violation = breach(code::PROTOCOL_VIOLATION);
        let space = self.space(path).ok_or(violation)?;
        if let Some(known) = known {
            let same = (known.path, known.sequence, known.cid) == (path, sequence, cid);
            return if same { Ok(()) } else { Err(violation) };
        }
        let below = space.retired_below.max(frame.retire_prior_to);
        let waits = |retiring: &Retiring| retiring.path == path && retiring.sequence == sequence;
        let retiring = self.retiring.iter().any(waits);
        if sequence >= space.retired_below && !retiring {
            let before = |theirs: &Theirs| (theirs.path, theirs.sequence) < (path, sequence);
            let at = self.theirs.partition_point(before);
            self.theirs.reserve_exact(1);
            self.theirs.insert(at, Theirs { sequence, path, cid });
        } else if !retiring {
            self.queue_retirement(path, sequence);
        }
        while self
            .theirs_of(path)
            .next()
            .is_some_and(|first| first.sequence < frame.retire_prior_to)
        {
            self.retire_first(path);
        }
        if let Some(space) = self.space_mut(path) {
            space.retired_below = below;
        }
        let kept = self.theirs_of(path).count();
        if kept == 0 || kept as u64 > CID_LIMIT || self.retiring_of(path) > MAX_RETIRING {
            return Err(breach(code::CONNECTION_ID_LIMIT_ERROR));
        }
        Ok(())
    }

    /// The peer no longer uses one of ours; it gets another.
    pub(crate) fn on_retire(
        &mut self,
        frame: PathRetireConnectionId,
        random: &mut Random,
    ) -> Result<(), Breach> {
        let breach = Breach::new(code::PROTOCOL_VIOLATION, kind::PATH_RETIRE_CONNECTION_ID);
        let space = self.space(frame.path).ok_or(breach)?;
        if frame.sequence >= space.told_below {
            return Err(breach);
        }
        let named = |issued: &Issued| issued.path == frame.path && issued.sequence == frame.sequence;
        if let Some(at) = self.issued.iter().position(named) {
            self.changes.push(Change::Remove(self.issued.remove(at).cid));
            self.issue(random);
        }
        Ok(())
    }

    fn theirs_of(&self, path: u32) -> impl Iterator<Item = &Theirs> {
        self.theirs.iter().filter(move |theirs| theirs.path == path)
    }

    fn retiring_of(&self, path: u32) -> usize {
        self.retiring
            .iter()
            .filter(|retiring| retiring.path == path)
            .count()
    }

    /// The first of a path's ids of the peer is used no more.
    fn retire_first(&mut self, path: u32) {
        if let Some(at) = self.theirs.iter().position(|theirs| theirs.path == path) {
            let sequence = self.theirs.remove(at).sequence;
            self.queue_retirement(path, sequence);
        }
    }

    fn queue_retirement(&mut self, path: u32, sequence: u64) {
        self.told = false;
        self.retiring.push(Retiring {
            sequence,
            path,
            tell: true,
        });
    }

    fn space(&self, path: u32) -> Option<&Space> {
        self.spaces.iter().find(|space| space.path == path)
    }

    fn space_mut(&mut self, path: u32) -> Option<&mut Space> {
        self.told = false;
        self.spaces.iter_mut().find(|space| space.path == path)
    }
}

#[cfg(test)]
mod tests;
