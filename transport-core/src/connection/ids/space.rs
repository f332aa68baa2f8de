//! The connection ids of one path.
#![forbid(unsafe_code)]

use super::CID_LIMIT;
use crate::error::{Breach, code};
use crate::random::Random;
use crate::wire::ConnectionId;
use crate::wire::frame::{PathNewConnectionId, PathRetireConnectionId, kind};

/// Retirements that wait for their acknowledgement.
pub(super) const MAX_RETIRING: usize = 2 * CID_LIMIT as usize;

/// One of our ids.
#[derive(Debug)]
struct Issued {
    sequence: u64,
    cid: ConnectionId,
    /// The peer is to be told.
    announce: bool,
}

/// One of the peer's ids that it is to forget, until it has said that it did.
#[derive(Debug)]
struct Retiring {
    sequence: u64,
    /// The peer is to be told.
    tell: bool,
}

/// The ids of one path. Every connection has a few of these for paths it may never open, so they are small.
#[derive(Debug)]
pub(super) struct Space {
    path: u32,
    /// Ascending.
    issued: Vec<Issued>,
    next_sequence: u64,
    /// What the peer was told of lies below this: it can retire nothing else.
    told_below: u64,
    wanted: u64,
    theirs: Vec<(u64, ConnectionId)>,
    retired_below: u64,
    retiring: Vec<Retiring>,
}

impl Space {
    /// Ids of either side are numbered from zero; the peer shall have `wanted` of ours.
    pub(super) fn new(path: u32, issued: &[ConnectionId], theirs: &[ConnectionId], wanted: u64) -> Self {
        let known = |(sequence, cid): (u64, &ConnectionId)| Issued {
            sequence,
            cid: *cid,
            announce: false,
        };
        let theirs = theirs.get(..CID_LIMIT as usize).unwrap_or(theirs);
        Self {
            path,
            issued: (0..).zip(issued).map(known).collect(),
            next_sequence: issued.len() as u64,
            told_below: issued.len() as u64,
            wanted,
            theirs: (0..).zip(theirs.iter().copied()).collect(),
            retired_below: 0,
            retiring: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> u32 {
        self.path
    }

    /// The id to write on packets.
    pub(super) fn current(&self) -> Option<ConnectionId> {
        self.theirs.first().map(|(_, cid)| *cid)
    }

    /// The one after it.
    pub(super) fn fresh(&self) -> Option<ConnectionId> {
        self.theirs.get(1).map(|(_, cid)| *cid)
    }

    /// Retires the current one for the next. False: there is no next, or too many retirements wait.
    pub(super) fn rotate(&mut self) -> bool {
        if self.theirs.len() < 2 || self.retiring.len() >= MAX_RETIRING {
            return false;
        }
        let (sequence, _) = self.theirs.remove(0);
        self.queue_retirement(sequence);
        true
    }

    /// Whether the peer gave us this id.
    pub(super) fn knows(&self, cid: ConnectionId) -> bool {
        self.theirs.iter().any(|(_, known)| *known == cid)
    }

    /// The peer shall have so many ids, or more.
    pub(super) fn want(&mut self, wanted: u64) {
        self.wanted = self.wanted.max(wanted);
    }

    /// All ids that lead here.
    pub(super) fn issued(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.issued.iter().map(|issued| issued.cid)
    }

    /// Makes as many ids as are wanted; the caller learns of each.
    pub(super) fn issue(&mut self, random: &mut Random, mut made: impl FnMut(ConnectionId)) {
        let missing = self.wanted.saturating_sub(self.issued.len() as u64);
        self.issued.reserve_exact(missing as usize);
        for _ in 0..missing {
            let (sequence, cid) = (self.next_sequence, random.cid());
            self.next_sequence += 1;
            self.issued.push(Issued {
                sequence,
                cid,
                announce: true,
            });
            made(cid);
        }
    }

    /// Whether a frame waits to be sent.
    pub(super) fn has_pending(&self) -> bool {
        self.issued.iter().any(|issued| issued.announce) || self.retiring.iter().any(|retiring| retiring.tell)
    }

    /// The next announcement; call [`Space::announced`] once it is in a packet.
    pub(super) fn next_announcement(&self) -> Option<PathNewConnectionId> {
        let next = self.issued.iter().find(|issued| issued.announce)?;
        Some(PathNewConnectionId {
            path: self.path,
            sequence: next.sequence,
            retire_prior_to: 0,
            cid: next.cid,
        })
    }

    /// The announcement is in a packet.
    pub(super) fn announced(&mut self) {
        if let Some(next) = self.issued.iter_mut().find(|issued| issued.announce) {
            next.announce = false;
            self.told_below = self.told_below.max(next.sequence + 1);
        }
    }

    /// The packet with an announcement was lost.
    pub(super) fn announce_again(&mut self, sequence: u64) {
        if let Some(lost) = self.issued.iter_mut().find(|issued| issued.sequence == sequence) {
            lost.announce = true;
        }
    }

    /// The next retirement; call [`Space::retired`] once it is in a packet.
    pub(super) fn next_retirement(&self) -> Option<PathRetireConnectionId> {
        let next = self.retiring.iter().find(|retiring| retiring.tell)?;
        Some(PathRetireConnectionId {
            path: self.path,
            sequence: next.sequence,
        })
    }

    /// The retirement is in a packet.
    pub(super) fn retired(&mut self) {
        if let Some(next) = self.retiring.iter_mut().find(|retiring| retiring.tell) {
            next.tell = false;
        }
    }

    /// The packet with a retirement was lost.
    pub(super) fn retire_again(&mut self, sequence: u64) {
        if let Some(lost) = self
            .retiring
            .iter_mut()
            .find(|retiring| retiring.sequence == sequence)
        {
            lost.tell = true;
        }
    }

    /// The peer knows of a retirement.
    pub(super) fn retirement_acked(&mut self, sequence: u64) {
        self.retiring.retain(|retiring| retiring.sequence != sequence);
    }

    /// The peer gives us an id.
    pub(super) fn on_new(&mut self, frame: PathNewConnectionId) -> Result<(), Breach> {
        let breach = |code| Err(Breach::new(code, kind::PATH_NEW_CONNECTION_ID));
        let same = |(sequence, cid): &(u64, ConnectionId)| (*sequence == frame.sequence, *cid == frame.cid);
        if let Some(found) = self
            .theirs
            .iter()
            .map(same)
            .find(|(sequence, cid)| *sequence || *cid)
        {
            return if found == (true, true) {
                Ok(())
            } else {
                breach(code::PROTOCOL_VIOLATION)
            };
        }
        let retiring = self
            .retiring
            .iter()
            .any(|retiring| retiring.sequence == frame.sequence);
        if frame.sequence >= self.retired_below && !retiring {
            let at = self
                .theirs
                .partition_point(|(sequence, _)| *sequence < frame.sequence);
            self.theirs.reserve_exact(1);
            self.theirs.insert(at, (frame.sequence, frame.cid));
        } else if !retiring {
            self.queue_retirement(frame.sequence);
        }
        while let Some((sequence, _)) = self
            .theirs
            .first()
            .filter(|(sequence, _)| *sequence < frame.retire_prior_to)
        {
            let sequence = *sequence;
            self.theirs.remove(0);
            self.queue_retirement(sequence);
        }
        self.retired_below = self.retired_below.max(frame.retire_prior_to);
        if self.theirs.is_empty()
            || self.theirs.len() as u64 > CID_LIMIT
            || self.retiring.len() > MAX_RETIRING
        {
            return breach(code::CONNECTION_ID_LIMIT_ERROR);
        }
        Ok(())
    }

    fn queue_retirement(&mut self, sequence: u64) {
        self.retiring.push(Retiring { sequence, tell: true });
    }

    /// The peer no longer uses one of ours: which, if it was not retired before.
    pub(super) fn on_retire(
        &mut self,
        frame: PathRetireConnectionId,
    ) -> Result<Option<ConnectionId>, Breach> {
        if frame.sequence >= self.told_below {
            return Err(Breach::new(
                code::PROTOCOL_VIOLATION,
                kind::PATH_RETIRE_CONNECTION_ID,
            ));
        }
        let known = |issued: &Issued| issued.sequence == frame.sequence;
        let at = self.issued.iter().position(known);
        Ok(at.map(|at| self.issued.remove(at).cid))
    }
}
