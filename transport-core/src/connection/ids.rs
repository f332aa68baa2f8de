//! Connection ids: those we gave the peer, and those it gave us.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::error::{Breach, code};
use crate::random::Random;
use crate::wire::ConnectionId;
use crate::wire::frame::{PathNewConnectionId, PathRetireConnectionId, kind};

/// Ids of the peer we keep, and tell it so.
pub(crate) const CID_LIMIT: u64 = 4;
/// Ids we give out, whatever the peer would keep.
const MAX_ISSUED: u64 = 8;
/// Retirements that wait for their acknowledgement.
const MAX_RETIRING: usize = 2 * CID_LIMIT as usize;

/// What the endpoint must change in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Datagrams with this id are ours.
    Add(ConnectionId),
    /// They are no more.
    Remove(ConnectionId),
}

/// The ids of one connection, all of path 0.
#[derive(Debug)]
pub(crate) struct Ids {
    issued: Vec<(u64, ConnectionId)>,
    next_sequence: u64,
    /// What the peer was told of lies below this: it can retire nothing else.
    told_below: u64,
    wanted: u64,
    /// Issued, and to be announced; never more than are issued.
    announce: VecDeque<u64>,
    changes: Vec<Change>,
    theirs: Vec<(u64, ConnectionId)>,
    retired_below: u64,
    retire: VecDeque<u64>,
    retiring: Vec<u64>,
}

impl Ids {
    /// `issued` and `theirs` are those of the handshake, numbered from zero; neither is empty.
    pub(crate) fn new(issued: &[ConnectionId], theirs: &[ConnectionId], peer_limit: u64) -> Self {
        let number = |ids: &[ConnectionId]| (0..).zip(ids.iter().copied()).collect::<Vec<_>>();
        Self {
            issued: number(issued),
            next_sequence: issued.len() as u64,
            told_below: issued.len() as u64,
            wanted: peer_limit.min(MAX_ISSUED),
            announce: VecDeque::new(),
            changes: Vec::new(),
            theirs: number(theirs.get(..CID_LIMIT as usize).unwrap_or(theirs)),
            retired_below: 0,
            retire: VecDeque::new(),
            retiring: Vec::new(),
        }
    }

    /// The id to write on packets.
    pub(crate) fn current(&self) -> ConnectionId {
        self.theirs.first().map_or(ConnectionId([0; 9]), |(_, cid)| *cid)
    }

    /// All ids that lead here.
    pub(crate) fn issued(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.issued.iter().map(|(_, cid)| *cid)
    }

    /// Makes as many ids as the peer keeps; they are announced with the next packets.
    pub(crate) fn issue(&mut self, random: &mut Random) {
        while (self.issued.len() as u64) < self.wanted {
            let (sequence, cid) = (self.next_sequence, random.cid());
            self.next_sequence += 1;
            self.issued.push((sequence, cid));
            self.announce.push_back(sequence);
            self.changes.push(Change::Add(cid));
        }
    }

    /// What the endpoint has to change since the last call.
    pub(crate) fn take_change(&mut self) -> Option<Change> {
        if self.changes.is_empty() {
            None
        } else {
            Some(self.changes.remove(0))
        }
    }

    /// Whether a frame waits to be sent.
    pub(crate) fn has_pending(&self) -> bool {
        !self.announce.is_empty() || !self.retire.is_empty()
    }

    /// The next announcement; call [`Ids::announced`] once it is in a packet.
    pub(crate) fn next_announcement(&mut self) -> Option<PathNewConnectionId> {
        loop {
            let sequence = *self.announce.front()?;
            if let Some((_, cid)) = self.issued.iter().find(|(issued, _)| *issued == sequence) {
                return Some(PathNewConnectionId {
                    path: 0,
                    sequence,
                    retire_prior_to: 0,
                    cid: *cid,
                });
            }
            self.announce.pop_front();
        }
    }

    /// The announcement is in a packet.
    pub(crate) fn announced(&mut self) {
        if let Some(sequence) = self.announce.pop_front() {
            self.told_below = self.told_below.max(sequence + 1);
        }
    }

    /// The packet with an announcement was lost.
    pub(crate) fn announce_again(&mut self, sequence: u64) {
        let issued = self.issued.iter().any(|(issued, _)| *issued == sequence);
        if issued && !self.announce.contains(&sequence) {
            self.announce.push_back(sequence);
        }
    }

    /// The next retirement; call [`Ids::retired`] once it is in a packet.
    pub(crate) fn next_retirement(&self) -> Option<PathRetireConnectionId> {
        self.retire.front().map(|sequence| PathRetireConnectionId {
            path: 0,
            sequence: *sequence,
        })
    }

    /// The retirement is in a packet.
    pub(crate) fn retired(&mut self) {
        self.retire.pop_front();
    }

    /// The packet with a retirement was lost.
    pub(crate) fn retire_again(&mut self, sequence: u64) {
        if self.retiring.contains(&sequence) && !self.retire.contains(&sequence) {
            self.retire.push_back(sequence);
        }
    }

    /// The peer knows of a retirement.
    pub(crate) fn retirement_acked(&mut self, sequence: u64) {
        self.retiring.retain(|retiring| *retiring != sequence);
    }

    /// The peer gives us an id.
    pub(crate) fn on_new(&mut self, frame: PathNewConnectionId) -> Result<(), Breach> {
        let breach = |code| Err(Breach::new(code, kind::PATH_NEW_CONNECTION_ID));
        if frame.path != 0 {
            return breach(code::PROTOCOL_VIOLATION);
        }
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

    /// The peer no longer uses one of ours; it gets another.
    pub(crate) fn on_retire(
        &mut self,
        frame: PathRetireConnectionId,
        random: &mut Random,
    ) -> Result<(), Breach> {
        if frame.path != 0 || frame.sequence >= self.told_below {
            return Err(Breach::new(
                code::PROTOCOL_VIOLATION,
                kind::PATH_RETIRE_CONNECTION_ID,
            ));
        }
        if let Some(at) = self
            .issued
            .iter()
            .position(|(sequence, _)| *sequence == frame.sequence)
        {
            let (_, cid) = self.issued.remove(at);
            self.announce.retain(|sequence| *sequence != frame.sequence);
            self.changes.push(Change::Remove(cid));
            self.issue(random);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cid(name: u8) -> ConnectionId {
        ConnectionId([name; 9])
    }

    fn new(sequence: u64, retire_prior_to: u64) -> PathNewConnectionId {
        PathNewConnectionId {
            path: 0,
            sequence,
            retire_prior_to,
            cid: cid(100 + sequence as u8),
        }
    }

    #[test]
    fn as_many_as_the_peer_keeps_and_no_more() {
        let mut random = Random::new([1; 32]);
        let mut ids = Ids::new(&[cid(1)], &[cid(9)], 1 << 40);
        ids.issue(&mut random);
        assert_eq!(ids.issued().count() as u64, MAX_ISSUED);
        let added = std::iter::from_fn(|| ids.take_change()).count();
        assert_eq!(added, 7);
        let mut announced = 0;
        while ids.next_announcement().is_some() {
            ids.announced();
            announced += 1;
        }
        assert_eq!(announced, 7);
        ids.on_retire(PathRetireConnectionId { path: 0, sequence: 0 }, &mut random)
            .unwrap();
        assert_eq!(ids.take_change(), Some(Change::Remove(cid(1))));
        assert!(matches!(ids.take_change(), Some(Change::Add(_))));
        assert_eq!(ids.next_announcement().unwrap().sequence, 8);
        for sequence in [8, 9] {
            let unannounced = PathRetireConnectionId { path: 0, sequence };
            assert_eq!(
                ids.on_retire(unannounced, &mut random).unwrap_err().code,
                code::PROTOCOL_VIOLATION,
                "{sequence} was not announced"
            );
        }
    }

    #[test]
    fn announcements_that_wait_are_no_more_than_ids() {
        let mut random = Random::new([1; 32]);
        let mut ids = Ids::new(&[cid(1)], &[cid(9)], 4);
        ids.issue(&mut random);
        for sequence in 0..1000 {
            while ids.next_announcement().is_some() {
                ids.announced();
            }
            let retire = PathRetireConnectionId { path: 0, sequence };
            ids.on_retire(retire, &mut random).unwrap();
            // Lost packets of before ask for announcements again.
            (0..=sequence + 3).for_each(|old| ids.announce_again(old));
            assert!(ids.announce.len() <= 4, "{:?}", ids.announce);
            while ids.take_change().is_some() {}
        }
    }

    #[test]
    fn the_peer_replaces_its_ids() {
        let mut ids = Ids::new(&[cid(1)], &[cid(9)], 2);
        ids.on_new(new(1, 0)).unwrap();
        ids.on_new(new(1, 0)).unwrap();
        assert_eq!(ids.current(), cid(9));
        ids.on_new(new(2, 1)).unwrap();
        assert_eq!(ids.current(), cid(101));
        assert_eq!(ids.next_retirement().unwrap().sequence, 0);
        ids.retired();
        ids.retire_again(0);
        assert_eq!(ids.next_retirement().unwrap().sequence, 0);
        ids.retired();
        ids.retirement_acked(0);
        ids.retire_again(0);
        assert_eq!(ids.next_retirement(), None);
    }

    #[test]
    fn floods_and_contradictions_end_the_connection() {
        let mut ids = Ids::new(&[cid(1)], &[cid(9)], 2);
        for sequence in 1..4 {
            ids.on_new(new(sequence, 0)).unwrap();
        }
        assert_eq!(
            ids.on_new(new(4, 0)).unwrap_err().code,
            code::CONNECTION_ID_LIMIT_ERROR
        );
        let mut ids = Ids::new(&[cid(1)], &[cid(9)], 2);
        let flood = (1..40)
            .map(|sequence| ids.on_new(new(sequence, sequence)))
            .position(|result| result.is_err());
        assert_eq!(
            flood,
            Some(MAX_RETIRING),
            "retirements that are not acknowledged are bounded"
        );
        let mut ids = Ids::new(&[cid(1)], &[cid(9)], 2);
        let other = PathNewConnectionId {
            cid: cid(3),
            ..new(0, 0)
        };
        assert_eq!(ids.on_new(other).unwrap_err().code, code::PROTOCOL_VIOLATION);
    }
}
