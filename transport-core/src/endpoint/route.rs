//! Whose datagram is it? Keys of the relays this endpoint is or talks to, and the table of connection ids.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use transport_crypto::{CidMasks, Direction, EnvelopeKeys, Grant, RelayId, provider::Provider};

use super::sessions::{DOMAINS, Usage};
use crate::buffer::MAX_SEGMENTS;
use crate::packet::{clear_cid, clear_cids, sample};
use crate::seat::Seat;
use crate::wire::ConnectionId;

/// Relays an endpoint talks to at once, each with one grant: every datagram may be held against all of them.
const MAX_DOMAINS: usize = 64;

/// Where a connection id leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// To a connection, by slot.
    Connection(u32),
    /// To a handshake that was answered.
    HalfOpen(u64),
}

/// What all datagrams of one relay and grant have in common.
pub(super) struct Domain {
    name: (RelayId, u64, [u8; 32], [u8; 32]),
    pub(super) masks: Arc<CidMasks>,
    pub(super) envelope: EnvelopeKeys,
    /// The way datagrams of this domain travel to us.
    pub(super) incoming: Direction,
    /// What the relay's clock is ahead of ours, milliseconds; zero until it told.
    pub(super) clock_offset_ms: i64,
    users: usize,
}

impl Domain {
    pub(super) fn new(
        provider: &'static dyn Provider,
        relay: RelayId,
        epoch: u64,
        kh: &[u8; 32],
        grant: &Grant,
        incoming: Direction,
    ) -> Self {
        Self {
            name: (relay, epoch, *kh, *grant.expose()),
            masks: Arc::new(CidMasks::new(&relay, grant)),
            envelope: EnvelopeKeys::with_provider(provider, kh, epoch, grant),
            incoming,
            clock_offset_ms: 0,
            users: 1,
        }
    }

    /// The epoch its datagrams are sealed for.
    pub(super) fn epoch(&self) -> u64 {
        self.name.1
    }

    fn veil(&self) -> (RelayId, [u8; 32], Direction) {
        let (relay, _, _, grant) = self.name;
        (relay, grant, self.incoming)
    }

    /// The sender's time as the relay sees it.
    pub(super) fn relay_time(&self, unix_ms: u64) -> u64 {
        unix_ms.saturating_add_signed(self.clock_offset_ms)
    }
}

/// What masks connection ids: the same for all epochs of a relay, so that a connection outlives the one it came by.
struct Veil {
    name: (RelayId, [u8; 32], Direction),
    masks: Arc<CidMasks>,
    users: usize,
}

/// All domains, and where ids lead.
#[derive(Default)]
pub(super) struct Routes {
    veils: Vec<Veil>,
    domains: Vec<Option<Domain>>,
    table: HashMap<ConnectionId, Target, BuildHasherDefault<CidHasher>>,
    /// Among several workers: which one this is.
    pub(super) seat: Option<Arc<Seat>>,
}

impl Routes {
    /// Unmasks connection ids of this relay and grant for good, with or without a domain.
    pub(super) fn keep(&mut self, relay: RelayId, grant: &Grant, incoming: Direction) {
        let name = (relay, *grant.expose(), incoming);
        self.raise(name, || Arc::new(CidMasks::new(&relay, grant)));
    }

    /// One more user of a veil; its masks.
    fn raise(
        &mut self,
        name: (RelayId, [u8; 32], Direction),
        masks: impl FnOnce() -> Arc<CidMasks>,
    ) -> Arc<CidMasks> {
        if let Some(known) = self.veils.iter_mut().find(|known| known.name == name) {
            known.users += 1;
            return Arc::clone(&known.masks);
        }
        let masks = masks();
        self.veils.push(Veil {
            name,
            masks: Arc::clone(&masks),
            users: 1,
        });
        masks
    }

    /// One user of a veil less.
    fn lower(&mut self, name: (RelayId, [u8; 32], Direction)) {
        if let Some(known) = self.veils.iter_mut().find(|known| known.name == name) {
            known.users -= 1;
        }
        self.veils.retain(|known| known.users > 0);
    }

    /// Adds a domain that stays, or finds it and counts one more user; `None` when there are too many.
    pub(super) fn enter(&mut self, mut domain: Domain) -> Option<usize> {
        let same = |slot: &Option<Domain>| {
            slot.as_ref()
                .is_some_and(|known| known.name == domain.name && known.incoming == domain.incoming)
        };
        if let Some(index) = self.domains.iter().position(same) {
            if let Some(known) = self.domains.get_mut(index).and_then(Option::as_mut) {
                known.users += 1;
            }
            return Some(index);
        }
        let index = self
            .domains
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.domains.len());
        if index >= MAX_DOMAINS {
            return None;
        }
        let own = Arc::clone(&domain.masks);
        domain.masks = self.raise(domain.veil(), || own);
        match self.domains.get_mut(index) {
            Some(free) => *free = Some(domain),
            None => self.domains.push(Some(domain)),
        }
        Some(index)
    }

    /// One user less; the last takes the domain along.
    pub(super) fn leave(&mut self, index: usize) {
        if let Some(slot) = self.domains.get_mut(index) {
            if let Some(domain) = slot {
                domain.users -= 1;
            }
            if let Some(gone) = slot.take_if(|domain| domain.users == 0) {
                self.lower(gone.veil());
            }
        }
    }

    pub(super) fn domain(&self, index: usize) -> Option<&Domain> {
        self.domains.get(index)?.as_ref()
    }

    pub(super) fn domain_mut(&mut self, index: usize) -> Option<&mut Domain> {
        self.domains.get_mut(index)?.as_mut()
    }

    /// The connection or handshake a datagram belongs to, by its id. The datagram stays as it is.
    pub(super) fn find(&self, datagram: &[u8]) -> Option<(ConnectionId, Target)> {
        self.find_under(&self.veils, datagram)
    }

    fn find_under(&self, veils: &[Veil], datagram: &[u8]) -> Option<(ConnectionId, Target)> {
        let sample = sample(datagram)?;
        veils.iter().find_map(|veil| {
            let mut mask = [[0; 9]];
            veil.masks.masks(veil.name.2, &[sample], &mut mask);
            let [mask] = mask;
            let cid = clear_cid(datagram, &mask)?;
            self.table.get(&cid).map(|target| (cid, *target))
        })
    }

    /// The same for datagrams that came together, as many as `out` has places: their masks are made at once.
    pub(super) fn find_each<'d>(
        &self,
        datagrams: impl Iterator<Item = &'d [u8]> + Clone,
        out: &mut [Option<(ConnectionId, Target)>; MAX_SEGMENTS],
    ) {
        let Some((veil, others)) = self.veils.split_first() else {
            return;
        };
        let mut cids = [None; MAX_SEGMENTS];
        let count = clear_cids(&veil.masks, veil.name.2, datagrams.clone(), &mut cids);
        let mut last = None;
        for ((place, cid), datagram) in out.iter_mut().zip(cids).take(count).zip(datagrams) {
            // They are mostly of one connection.
            if last.is_none_or(|(known, _)| Some(known) != cid) {
                last = cid.and_then(|cid| Some((cid, *self.table.get(&cid)?)));
            }
            *place = last.or_else(|| self.find_under(others, datagram));
        }
    }

    /// The worker whose connection a datagram belongs to, where it is none of ours. Asked of those alone that nothing else
    /// claims, so it costs what is ours nothing.
    pub(super) fn elsewhere(&self, datagram: &[u8]) -> Option<u8> {
        let (seat, sample) = (self.seat.as_ref()?, sample(datagram)?);
        let incoming = self
            .veils
            .iter()
            .filter(|veil| veil.name.2 == Direction::ClientToServer);
        incoming.into_iter().find_map(|veil| {
            let mut mask = [[0; 9]];
            veil.masks.masks(veil.name.2, &[sample], &mut mask);
            let [mask] = mask;
            seat.elsewhere(clear_cid(datagram, &mask)?)
        })
    }

    /// How many share this relay's work.
    pub(super) fn workers(&self) -> u32 {
        self.seat.as_ref().map_or(1, |seat| u32::from(seat.workers()))
    }

    /// The domain whose envelope a datagram looks like.
    pub(super) fn recognise(&self, datagram: &[u8]) -> Option<usize> {
        self.domains.iter().position(|slot| {
            slot.as_ref()
                .is_some_and(|domain| domain.envelope.recognises(domain.incoming, datagram))
        })
    }

    /// From now on `cid` leads to `target`.
    pub(super) fn insert(&mut self, cid: ConnectionId, target: Target) {
        self.table.insert(cid, target);
    }

    /// `cid` leads nowhere.
    pub(super) fn remove(&mut self, cid: &ConnectionId) {
        self.table.remove(cid);
    }

    /// Relays and grants whose datagrams are looked for.
    pub(super) fn usage(&self) -> Usage {
        Usage::new(DOMAINS, self.domains.iter().flatten().count(), MAX_DOMAINS)
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.table.capacity() * (size_of::<(ConnectionId, Target)>() + 1) + self.domains.len() * 2048
    }
}

/// Ids are made here and uniform: eight of their bytes are as good as any hash, and nobody else chooses them.
#[derive(Default)]
pub(super) struct CidHasher(u64);

impl Hasher for CidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*last);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}
