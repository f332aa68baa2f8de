//! Handshakes that were answered and whose client has not yet shown that it has the keys: only keys, ids and the answer.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use transport_crypto::{EarlyOpen, EnvelopeType, SessionSecrets};

use crate::buffer::Route;
use crate::connection::Peer;
use crate::endpoint::flight::{Hid, SMALL_SIZES};
use crate::endpoint::sessions::Usage;
use crate::wire::{ConnectionId, TransportParameters};

use super::IDS_IN_ANSWER;

/// Handshakes at once.
const MAX_ENTRIES: usize = 1024;
/// How long an answer is kept, and repeated to whoever asks again.
const LIFETIME: Duration = Duration::from_secs(30);
/// Bytes sent for one received, until the client has shown that it gets them (RFC 9000 §8.1).
const AMPLIFICATION: usize = 3;

/// A hash of a hello.
pub(super) type HelloHash = [u8; 16];

/// What a client's first packet is opened with, and what its connection is made of.
pub(crate) struct Waiting {
    /// Keys are made of them when they are needed: expanded they would be the largest part.
    pub(crate) secrets: SessionSecrets,
    pub(crate) ours: [ConnectionId; IDS_IN_ANSWER],
    pub(crate) theirs: ConnectionId,
    pub(crate) params: TransportParameters,
    pub(crate) peer: Peer,
    pub(crate) domain: usize,
    pub(crate) resumed: bool,
    /// Whether early data is taken; `None`: none was announced.
    pub(crate) early: Option<bool>,
}

/// A handshake that was answered.
pub(crate) struct HalfOpen {
    pub(super) hash: HelloHash,
    pub(super) hid: Hid,
    pub(super) domain: usize,
    /// Where the hello came from and the answer went.
    pub(crate) route: Route,
    pub(super) kind: EnvelopeType,
    pub(super) answer: Box<[u8]>,
    /// Nothing to wait for after a refusal.
    pub(crate) waiting: Option<Waiting>,
    /// When the first fragment came, and when the first answer left.
    pub(crate) born: Instant,
    pub(crate) answered: Instant,
    pub(crate) times_answered: u32,
    pub(super) received: usize,
    pub(super) sent: usize,
    /// Size of the largest datagram the client sent: it may not get larger ones.
    pub(super) largest: usize,
    /// What opens its early data, until that is begun.
    pub(super) early: Option<EarlyOpen>,
}

impl HalfOpen {
    /// Whether the client took to small datagrams.
    pub(crate) fn is_narrow(&self) -> bool {
        self.largest <= *SMALL_SIZES.end()
    }

    /// Bytes that may still be sent to it.
    pub(super) fn allowance(&self) -> usize {
        self.received
            .saturating_mul(AMPLIFICATION)
            .saturating_sub(self.sent)
    }
}

/// The table of them.
#[derive(Default)]
pub(super) struct HalfOpens {
    /// Boxed, for ids that rise leave the nodes of the map half empty.
    entries: BTreeMap<u64, Box<HalfOpen>>,
    by_hello: BTreeMap<HelloHash, u64>,
    by_age: VecDeque<(Instant, u64)>,
    next: u64,
}

impl HalfOpens {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Per cent.
    pub(super) fn filled(&self) -> u32 {
        (self.entries.len() * 100 / MAX_ENTRIES) as u32
    }

    /// Takes out the oldest if another one has no place.
    ///
    /// To refuse newcomers instead would let a thousand hellos shut the door for half a minute. So they must come within one
    /// round trip, again and again, to keep out a client that answers at once; and the oldest is the least likely to answer.
    pub(super) fn make_room(&mut self) -> Option<Box<HalfOpen>> {
        while self.entries.len() >= MAX_ENTRIES {
            let (_, id) = self.by_age.pop_front()?;
            if let Some(oldest) = self.remove(id) {
                return Some(oldest);
            }
        }
        None
    }

    /// Adds one; its name.
    pub(super) fn insert(&mut self, entry: HalfOpen) -> u64 {
        let id = self.next;
        self.next += 1;
        self.by_hello.insert(entry.hash, id);
        self.by_age.push_back((entry.answered, id));
        self.entries.insert(id, Box::new(entry));
        id
    }

    /// The one made for a hello from `remote`.
    pub(super) fn of_hello(&mut self, hash: &HelloHash, remote: SocketAddr) -> Option<&mut HalfOpen> {
        let id = self.by_hello.get(hash)?;
        self.entries
            .get_mut(id)
            .map(|entry| &mut **entry)
            .filter(|entry| entry.route.remote == remote)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut HalfOpen> {
        self.entries.get_mut(&id).map(|entry| &mut **entry)
    }

    /// Takes one out: it becomes a connection.
    pub(super) fn remove(&mut self, id: u64) -> Option<Box<HalfOpen>> {
        let entry = self.entries.remove(&id)?;
        self.by_hello.remove(&entry.hash);
        Some(entry)
    }

    /// Takes out all that `wanted` names, and gives each to `gone`. Walks all of them.
    pub(super) fn take_all(&mut self, wanted: impl Fn(&HalfOpen) -> bool, mut gone: impl FnMut(&HalfOpen)) {
        let found = self.entries.iter().filter(|(_, entry)| wanted(entry));
        let ids: Vec<u64> = found.map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(entry) = self.remove(id) {
                gone(&entry);
            }
        }
    }

    /// How full it is.
    pub(super) fn usage(&self) -> Usage {
        Usage::new("half_open", self.entries.len(), MAX_ENTRIES)
    }

    /// Takes out one whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Box<HalfOpen>> {
        while let Some((since, id)) = self.by_age.front().copied() {
            let there = self.entries.contains_key(&id);
            if there && now.saturating_duration_since(since) < LIFETIME {
                return None;
            }
            self.by_age.pop_front();
            if there {
                return self.remove(id);
            }
        }
        None
    }

    /// Allocated bytes, roughly.
    pub(super) fn memory(&self) -> usize {
        let answers: usize = self.entries.values().map(|entry| entry.answer.len()).sum();
        answers + self.entries.len() * (size_of::<HalfOpen>() + 2048) + self.by_age.capacity() * 24
    }
}
