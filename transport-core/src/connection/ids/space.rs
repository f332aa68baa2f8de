//! The connection ids of one path.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::CID_LIMIT;
use crate::error::{Breach, code};
use crate::random::Random;
use crate::wire::ConnectionId;
use crate::wire::frame::{PathNewConnectionId, PathRetireConnectionId, kind};

/// Retirements that wait for their acknowledgement.
pub(super) const MAX_RETIRING: usize = 2 * CID_LIMIT as usize;

/// The ids of one path.
#[derive(Debug)]
pub(super) struct Space {
    path: u32,
    issued: Vec<(u64, ConnectionId)>,
    next_sequence: u64,
    /// What the peer was told of lies below this: it can retire nothing else.
    told_below: u64,
    wanted: u64,
    /// Issued, and to be announced; never more than are issued.
    pub(super) announce: VecDeque<u64>,
    theirs: Vec<(u64, ConnectionId)>,
    retired_below: u64,
    retire: VecDeque<u64>,
    retiring: Vec<u64>,
}

impl Space {
    /// Ids of either side are numbered from zero; the peer shall have `wanted` of ours.
    pub(super) fn new(path: u32, issued: &[ConnectionId], theirs: &[ConnectionId], wanted: u64) -> Self {
        let number = |ids: &[ConnectionId]| (0..).zip(ids.iter().copied()).collect::<Vec<_>>();
        Self {
            path,
            issued: number(issued),
            next_sequence: issued.len() as u64,
            told_below: issued.len() as u64,
            wanted,
            announce: VecDeque::new(),
            theirs: number(theirs.get(..CID_LIMIT as usize).unwrap_or(theirs)),
            retired_below: 0,
            retire: VecDeque::new(),
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
        self.issued.iter().map(|(_, cid)| *cid)
    }

    /// Makes as many ids as are wanted; the caller learns of each.
    pub(super) fn issue(&mut self, random: &mut Random, mut made: impl FnMut(ConnectionId)) {
        let missing = self.wanted.saturating_sub(self.issued.len() as u64);
        self.issued.reserve_exact(missing as usize);
        for _ in 0..missing {
            let (sequence, cid) = (self.next_sequence, random.cid());
            self.next_sequence += 1;
            self.issued.push((sequence, cid));
            self.announce.push_back(sequence);
            made(cid);
        }
    }

    /// Whether a frame waits to be sent.
    pub(super) fn has_pending(&self) -> bool {
        !self.announce.is_empty() || !self.retire.is_empty()
    }

    /// The next announcement; call [`Space::announced`] once it is in a packet.
    pub(super) fn next_announcement(&mut self) -> Option<PathNewConnectionId> {
        loop {
            let sequence = *self.announce.front()?;
            if let Some((_, cid)) = self.issued.iter().find(|(issued, _)| *issued == sequence) {
                return Some(PathNewConnectionId {
                    path: self.path,
                    sequence,
                    retire_prior_to: 0,
                    cid: *cid,
                });
            }
            self.announce.pop_front();
        }
    }

    /// The announcement is in a packet.
    pub(super) fn announced(&mut self) {
        if let Some(sequence) = self.announce.pop_front() {
            self.told_below = self.told_below.max(sequence + 1);
        }
        if self.announce.is_empty() {
            self.announce = VecDeque::new();
        }
    }

    /// The packet with an announcement was lost.
    pub(super) fn announce_again(&mut self, sequence: u64) {
        let issued = self.issued.iter().any(|(issued, _)| *issued == sequence);
        if issued && !self.announce.contains(&sequence) {
            self.announce.push_back(sequence);
        }
    }

    /// The next retirement; call [`Space::retired`] once it is in a packet.
    pub(super) fn next_retirement(&self) -> Option<PathRetireConnectionId> {
        self.retire.front().map(|sequence| PathRetireConnectionId {
            path: self.path,
            sequence: *sequence,
        })
    }

    /// The retirement is in a packet.
    pub(super) fn retired(&mut self) {
        self.retire.pop_front();
    }

    /// The packet with a retirement was lost.
    pub(super) fn retire_again(&mut self, sequence: u64) {
        if self.retiring.contains(&sequence) && !self.retire.contains(&sequence) {
            self.retire.push_back(sequence);
        }
    }

    /// The peer knows of a retirement.
    pub(super) fn retirement_acked(&mut self, sequence: u64) {
        self.retiring.retain(|retiring| *retiring != sequence);
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
        if frame.sequence >= self.retired_below && !self.retiring.contains(&frame.sequence) {
            let at = self
                .theirs
                .partition_point(|(sequence, _)| *sequence < frame.sequence);
            self.theirs.reserve_exact(1);
            self.theirs.insert(at, (frame.sequence, frame.cid));
        } else if !self.retiring.contains(&frame.sequence) {
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
        self.retiring.push(sequence);
        self.retire.push_back(sequence);
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
        let known = |(sequence, _): &(u64, ConnectionId)| *sequence == frame.sequence;
        let Some(at) = self.issued.iter().position(known) else {
            return Ok(None);
        };
        let (_, cid) = self.issued.remove(at);
        self.announce.retain(|sequence| *sequence != frame.sequence);
        Ok(Some(cid))
    }
}
