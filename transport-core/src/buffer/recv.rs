//! Incoming datagrams: a row of equally large slots, each of which the kernel may fill with several datagrams of one
//! sender, laid end to end (UDP GRO).

use std::fmt;

use super::{Arrived, Ecn, Route};

/// Bytes a slot needs so that no GRO buffer is cut off.
pub const GRO_SLOT: usize = 65_535;

/// What the kernel said about one filled slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecvMeta {
    /// Sender, and the local address it was sent to.
    pub route: Route,
    /// The codepoint all of it carried; `None` where the system does not tell.
    pub ecn: Option<Ecn>,
    /// Bytes in the slot; 0 for an empty datagram.
    pub len: usize,
    /// Bytes of each datagram in it but the last, which may be shorter; never 0.
    pub stride: usize,
}

/// Datagrams of one sender, end to end.
#[derive(Debug)]
pub struct Joined<'b> {
    /// How they came.
    pub arrived: Arrived,
    /// Bytes of each but the last, which may be shorter; never 0.
    pub stride: usize,
    /// All of them; nothing is one empty datagram.
    pub bytes: &'b mut [u8],
}

/// Slots and what was received into them.
pub struct RecvBatch {
    memory: Box<[u8]>,
    slot_size: usize,
    /// One for each filled slot; `None` when its datagram was cut off.
    metas: Vec<Option<RecvMeta>>,
    slots: usize,
    truncated: u64,
    /// The last receive took all there was.
    drained: bool,
}

impl fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBatch")
            .field("slots", &self.slots)
            .field("filled", &self.metas.len())
            .field("truncated", &self.truncated)
            .finish_non_exhaustive()
    }
}

impl RecvBatch {
    /// `slots` slots (at least 1) of [`GRO_SLOT`] bytes.
    pub fn new(slots: usize) -> Self {
        Self::with_slot_size(slots, GRO_SLOT)
    }

    /// `slots` slots of `slot_size` bytes, both at least 1. Longer datagrams are dropped and counted.
    pub fn with_slot_size(slots: usize, slot_size: usize) -> Self {
        let (slots, slot_size) = (slots.max(1), slot_size.max(1));
        let memory = vec![0; slots.saturating_mul(slot_size)].into_boxed_slice();
        Self {
            memory,
            slot_size,
            metas: Vec::with_capacity(slots),
            slots,
            truncated: 0,
            drained: false,
        }
    }

    /// Slots there are.
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// Bytes of a slot.
    pub const fn slot_size(&self) -> usize {
        self.slot_size
    }

    /// Slots filled by the last receive.
    pub fn filled(&self) -> usize {
        self.metas.len()
    }

    /// Datagrams dropped since the beginning because they were longer than a slot.
    pub const fn truncated(&self) -> u64 {
        self.truncated
    }

    /// Whether the last receive found no more than it took: the next one would be in vain until something arrives.
    pub const fn is_drained(&self) -> bool {
        self.drained
    }

    /// Datagrams of the last receive.
    pub fn count(&self) -> usize {
        let count = |meta: &RecvMeta| meta.len.div_ceil(meta.stride.max(1)).max(1);
        self.metas.iter().flatten().map(count).sum()
    }

    /// What each filled slot of the last receive holds, in order of arrival, writable so that it can be opened in place.
    pub fn joined(&mut self) -> impl Iterator<Item = Joined<'_>> {
        self.memory
            .chunks_mut(self.slot_size)
            .zip(&self.metas)
            .filter_map(|(slot, meta)| Some((slot, (*meta)?)))
            .map(|(slot, meta)| Joined {
                arrived: Arrived {
                    route: meta.route,
                    ecn: meta.ecn,
                },
                stride: meta.stride.max(1),
                bytes: slot.get_mut(..meta.len).unwrap_or_default(),
            })
    }

    /// Each datagram of the last receive and how it came.
    pub fn datagrams(&mut self) -> impl Iterator<Item = (Arrived, &mut [u8])> {
        self.joined().flat_map(|joined| {
            let Joined {
                arrived,
                stride,
                bytes,
            } = joined;
            // An empty datagram is one as well, to be counted like any other.
            let empty = bytes.is_empty().then_some::<&mut [u8]>(&mut []);
            let datagrams = bytes.chunks_mut(stride).chain(empty);
            datagrams.map(move |datagram| (arrived, datagram))
        })
    }

    /// The slots, for the kernel to fill; what they held before is forgotten.
    #[cfg(any(feature = "net", test))]
    pub(crate) fn start(&mut self) -> std::slice::ChunksMut<'_, u8> {
        self.metas.clear();
        self.drained = false;
        self.memory.chunks_mut(self.slot_size)
    }

    /// The kernel had no more than it gave.
    #[cfg(feature = "net")]
    pub(crate) fn set_drained(&mut self) {
        self.drained = true;
    }

    /// Says what the next slot holds. `None`: a datagram that was cut off, which is counted and left out.
    #[cfg(any(feature = "net", test))]
    pub(crate) fn filled_next(&mut self, meta: Option<RecvMeta>) {
        if self.metas.len() >= self.slots {
            return;
        }
        if meta.is_none() {
            self.truncated += 1;
        }
        let bounded = |meta: RecvMeta| RecvMeta {
            len: meta.len.min(self.slot_size),
            ..meta
        };
        self.metas.push(meta.map(bounded));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_cut_at_their_stride() {
        let route = Route {
            remote: "192.0.2.1:7".parse().unwrap(),
            local: None,
        };
        let other = Route {
            remote: "192.0.2.2:7".parse().unwrap(),
            local: None,
        };
        let mut batch = RecvBatch::with_slot_size(3, 10);
        for (index, slot) in batch.start().enumerate() {
            slot.fill(index as u8);
        }
        batch.filled_next(Some(RecvMeta {
            route,
            ecn: None,
            len: 9,
            stride: 4,
        }));
        batch.filled_next(None);
        batch.filled_next(Some(RecvMeta {
            route: other,
            ecn: None,
            len: 99,
            stride: 99,
        }));
        batch.filled_next(Some(RecvMeta {
            route,
            ecn: None,
            len: 1,
            stride: 1,
        }));
        let seen: Vec<_> = batch
            .datagrams()
            .map(|(from, bytes)| (from.route, bytes.to_vec()))
            .collect();
        assert_eq!(
            seen,
            [
                (route, vec![0; 4]),
                (route, vec![0; 4]),
                (route, vec![0]),
                (other, vec![2; 10])
            ]
        );
        assert_eq!((batch.filled(), batch.truncated()), (3, 1));
        assert_eq!(batch.start().count(), 3);
        batch.filled_next(Some(RecvMeta {
            route,
            ecn: None,
            len: 0,
            stride: 1,
        }));
        let empty: Vec<_> = batch
            .datagrams()
            .map(|(from, bytes)| (from.route, bytes.len()))
            .collect();
        assert_eq!(empty, [(route, 0)], "an empty datagram is handed on");
        assert_eq!(batch.start().count(), 3);
        assert_eq!(batch.datagrams().count(), 0);
    }
}
