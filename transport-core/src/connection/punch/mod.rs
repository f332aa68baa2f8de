//! How two ends that reach each other by a detour make a direct path (after draft-seemann-quic-nat-traversal).
//!
//! The server tells its addresses (ADD_ADDRESS, REMOVE_ADDRESS). The client opens a path that may lead to any of them, names its
//! own addresses for it (PUNCH_ME_NOW), and both ask what the other named, at about the same time: the packets are PATH_CHALLENGE
//! of that path, sealed like all others, so whoever gets one knows whose it is, from whatever address it came. An attempt ends with
//! a path that has carried packets of full size both ways and takes the data over, or with none; then the next one comes later.
//! The path before stays in waiting, kept alive, for the day the direct one dies.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::content::Item;
use super::path::holes::Holes;
use crate::error::{Breach, code};
use crate::path::PathId;
use crate::wire::frame::{NumberedAddress, kind};

mod drive;
mod frames;
mod hunger;
mod offers;
mod transmit;

use hunger::Hunger;
use offers::{MAX_ADDRESSES, Offers};

/// The pause after the first attempt in vain; each doubles it.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// A direct path that lasted so long was none in vain.
const LASTING: Duration = Duration::from_mins(1);
/// The least time from one attempt to the next, when this end has new addresses, and when the peer has.
const HASTE: Duration = Duration::from_secs(1);
const PEERS_HASTE: Duration = Duration::from_secs(10);
/// Attempts of its client a server takes part in at once, and the time after which it is one more.
const MAX_CREDIT: u32 = 5;
const CREDIT: Duration = Duration::from_secs(10);
/// Addresses of the peer that were taken back and are not taken up again.
const MAX_GONE: usize = 16;

/// What a connection knows of direct paths.
pub(crate) struct Punch {
    client: bool,
    allow: fn(SocketAddr) -> bool,
    /// This end's addresses.
    own: Offers,
    /// At a client: the peer's.
    peers: Peers,
    /// The newest attempt.
    round: u64,
    /// While one is made.
    holes: Option<Holes>,
    /// The direct path there is, and since when.
    direct: Option<(PathId, Instant)>,
    hunger: Hunger,
    plan: Plan,
    credit: Credit,
}

impl Punch {
    pub(crate) fn new(client: bool, allow: fn(SocketAddr) -> bool) -> Self {
        Self {
            client,
            allow,
            own: Offers::new(!client),
            peers: Peers::default(),
            round: 0,
            holes: None,
            direct: None,
            hunger: Hunger::default(),
            plan: Plan::default(),
            credit: Credit::default(),
        }
    }

    /// When something is to be done.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let holes = self.holes.as_ref().map(|holes| holes.next_at(self.client));
        holes.or(self.plan.due_at)
    }

    /// A path is over: an attempt may have failed with it, or the direct path may be gone. Whether it was an attempt's.
    pub(super) fn on_end(&mut self, id: PathId, now: Instant) -> bool {
        let tried = self.holes.as_ref().is_some_and(|holes| holes.path() == id);
        if tried {
            self.holes = None;
            self.own.name_for(None);
        }
        let lasted = self.direct.take_if(|(direct, _)| *direct == id);
        if tried || lasted.is_some() {
            self.put_off(lasted.map(|(_, since)| since), now);
        }
        tried
    }

    /// The client tries again, later each time.
    pub(super) fn put_off(&mut self, since: Option<Instant>, now: Instant) {
        if self.client && self.plan.due_at.is_none_or(|at| at <= now) {
            self.plan.put_off(since, now);
        }
    }

    /// The peer has a frame about addresses.
    pub(super) fn told(&mut self, item: Item) {
        self.own.acked(item);
    }

    /// It was lost.
    pub(super) fn tell_again(&mut self, item: Item) {
        self.own.again(item);
    }

    /// A packet of a trial arrived.
    pub(super) fn trial_arrived(&mut self, id: PathId, number: u8, size: u16) {
        if let Some(holes) = self.holes.as_mut().filter(|holes| holes.path() == id) {
            holes.trial_arrived(number, size);
        }
    }

    /// The path by which the peer is reached directly.
    pub(super) fn direct(&self) -> Option<PathId> {
        self.direct.map(|(id, _)| id)
    }
}

/// When a client makes its next attempt.
#[derive(Debug, Default)]
struct Plan {
    due_at: Option<Instant>,
    began_at: Option<Instant>,
    failures: u32,
}

impl Plan {
    /// There are new addresses: an attempt is made soon, but not before `gap` has passed since the last.
    fn hasten(&mut self, gap: Duration, now: Instant) {
        let soon = self.began_at.map_or(now, |at| now.max(at + gap));
        self.due_at = Some(self.due_at.map_or(soon, |due| due.min(soon)));
    }

    /// The next one, after one in vain, or after a direct path that was there `since`.
    fn put_off(&mut self, since: Option<Instant>, now: Instant) {
        if since.is_some_and(|since| now.saturating_duration_since(since) >= LASTING) {
            self.failures = 0;
        }
        let pause = PAUSE
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.due_at = Some(now + pause);
    }
}

/// How many attempts of the peer may cost packets.
#[derive(Debug, Default)]
struct Credit {
    used: u32,
    since: Option<Instant>,
}

impl Credit {
    fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let back = now.saturating_duration_since(since).as_secs() / CREDIT.as_secs();
        if back > 0 {
            self.used = self.used.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX));
            self.since = Some(now);
        }
        let left = self.used < MAX_CREDIT;
        self.used += u32::from(left);
        left
    }
}

/// The addresses a server told its client.
#[derive(Debug, Default)]
struct Peers {
    known: Vec<(u64, SocketAddr)>,
    /// Numbers of those taken back: their frames may still be under way.
    gone: VecDeque<u64>,
}

impl Peers {
    /// One more; whether it is new and there was room.
    fn add(&mut self, new: NumberedAddress) -> Result<bool, Breach> {
        let same = |(sequence, _): &&(u64, SocketAddr)| *sequence == new.sequence;
        if let Some((_, address)) = self.known.iter().find(same) {
            let lie = Breach::new(code::PROTOCOL_VIOLATION, kind::ADD_ADDRESS_V4);
            return if *address == new.address {
                Ok(false)
            } else {
                Err(lie)
            };
        }
        let again = self.known.iter().any(|(_, address)| *address == new.address);
        if again || self.gone.contains(&new.sequence) || self.known.len() >= MAX_ADDRESSES {
            return Ok(false);
        }
        self.known.push((new.sequence, new.address));
        Ok(true)
    }

    /// One less; which.
    fn remove(&mut self, sequence: u64) -> Option<SocketAddr> {
        if self.gone.len() >= MAX_GONE {
            self.gone.pop_front();
        }
        self.gone.push_back(sequence);
        let at = self.known.iter().position(|(known, _)| *known == sequence)?;
        Some(self.known.remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(sequence: u64, port: u16) -> NumberedAddress {
        NumberedAddress {
            sequence,
            address: ([192, 0, 2, 1], port).into(),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn addresses_of_the_peer_are_bounded_and_do_not_come_back() {
        let mut peers = Peers::default();
        for number in 0..1000 {
            let taken = peers.add(numbered(number, 1 + number as u16));
            assert_eq!(taken.ok(), Some(number < MAX_ADDRESSES as u64));
        }
        assert_eq!(peers.add(numbered(3, 4)).ok(), Some(false));
        assert!(
            peers.add(numbered(3, 5)).is_err(),
            "another address under its number"
        );
        assert_eq!(peers.remove(3), Some(numbered(3, 4).address));
        assert_eq!(peers.add(numbered(3, 4)).ok(), Some(false), "a late copy");
        assert_eq!(peers.add(numbered(1001, 4)).ok(), Some(true));
        (0..1000).for_each(|number| {
            peers.remove(number);
        });
        assert!(peers.gone.len() <= MAX_GONE);
    }

    #[test]
    fn attempts_become_rarer_and_new_addresses_bring_one_forward() {
        let now = start();
        let mut plan = Plan::default();
        plan.hasten(HASTE, now);
        assert_eq!(plan.due_at, Some(now));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            plan.put_off(None, now);
            pauses.push((plan.due_at.unwrap() - now).as_secs());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        plan.began_at = Some(now);
        plan.hasten(PEERS_HASTE, now);
        assert_eq!(plan.due_at, Some(now + PEERS_HASTE));
        plan.put_off(Some(now), now + LASTING);
        assert_eq!(plan.due_at, Some(now + LASTING + PAUSE));
    }

    #[test]
    fn a_peer_has_credit_for_few_attempts() {
        let now = start();
        let mut credit = Credit::default();
        let mut took = |at: u64| {
            (0..100)
                .filter(|_| credit.take(now + Duration::from_secs(at)))
                .count()
        };
        assert_eq!(
            [took(0), took(9), took(10), took(35), took(1000)],
            [5, 0, 1, 2, 5]
        );
    }
}
