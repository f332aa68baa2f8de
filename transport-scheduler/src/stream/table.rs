//! Finds streams: by identifier, and by slot for the lists.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::StreamId;
use crate::stream::Stream;

/// Where a stream lies while it is open.
pub(crate) type Slot = u32;

/// Spreads identifiers with fixed constants: the same on every run. Limits on open streams bound what chosen ones could do.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

/// All open streams. The map is only asked, never walked, so its order cannot matter.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Vec<Option<Stream>>,
    free: Vec<Slot>,
    index: HashMap<StreamId, Slot, BuildHasherDefault<IdHasher>>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Slots below this one may be taken.
    pub(crate) fn slots(&self) -> Slot {
        self.slots.len() as Slot
    }

    pub(crate) fn insert(&mut self, stream: Stream) -> Slot {
        let id = stream.id;
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.slots.len() < 4 {
                self.slots.reserve_exact(1);
            }
            self.slots.push(None);
            (self.slots.len() - 1) as Slot
        });
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(stream);
        }
        self.index.insert(id, slot);
        slot
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Stream> {
        let stream = self.slots.get_mut(slot as usize)?.take()?;
        self.index.remove(&stream.id);
        self.free.push(slot);
        if self.index.is_empty() {
            *self = Self::default();
        }
        Some(stream)
    }

    pub(crate) fn slot(&self, id: StreamId) -> Option<Slot> {
        self.index.get(&id).copied()
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Stream> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Stream> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn find(&self, id: StreamId) -> Option<&Stream> {
        self.get(self.slot(id)?)
    }

    /// Bytes on the heap, streams included.
    pub(crate) fn memory(&self) -> usize {
        let streams: usize = self.slots.iter().flatten().map(Stream::memory).sum();
        streams
            + self.slots.capacity() * size_of::<Option<Stream>>()
            + self.free.capacity() * size_of::<Slot>()
            + self.index.capacity() * (size_of::<(StreamId, Slot)>() + 1)
    }
}
