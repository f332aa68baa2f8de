//! Connections by slot, and whose turn it is.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Instant;

use super::dial::Dial;
use crate::connection::Connection;
use crate::handle::Handle;

/// Who lives in a slot.
pub(super) enum Occupant {
    /// Nobody.
    Free,
    /// A client on its way.
    Dial(Box<Dial>),
    /// A connection, and, at a client, the domain it keeps alive.
    Live(Box<Connection>, Option<usize>),
}

/// A place for one connection.
pub(super) struct Slot {
    generation: u32,
    queued: bool,
    pub(super) armed: Option<Instant>,
    pub(super) occupant: Occupant,
}

/// All places, and those that have something to do in the order they shall be asked.
#[derive(Default)]
pub(super) struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
    ready: VecDeque<u32>,
}

impl Slab {
    /// Connections and dials.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Gives somebody a place and marks it ready.
    pub(super) fn insert(&mut self, occupant: Occupant) -> Handle {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                queued: false,
                armed: None,
                occupant: Occupant::Free,
            });
            (self.slots.len() - 1) as u32
        });
        if let Some(place) = self.slots.get_mut(slot as usize) {
            place.generation = place.generation.wrapping_add(1);
            place.occupant = occupant;
        }
        self.mark(slot);
        self.handle(slot)
    }

    /// The handle of whoever is in `slot` now.
    pub(super) fn handle(&self, slot: u32) -> Handle {
        let generation = self.slots.get(slot as usize).map_or(0, |place| place.generation);
        Handle { slot, generation }
    }

    /// The slot of `handle`, unless somebody else is there by now.
    pub(super) fn find(&self, handle: Handle) -> Option<u32> {
        let place = self.slots.get(handle.slot as usize)?;
        let same = place.generation == handle.generation && !matches!(place.occupant, Occupant::Free);
        same.then_some(handle.slot)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize)
    }

    /// The connection in `slot`: one that stands, or one that begins early.
    pub(super) fn connection(&mut self, slot: u32) -> Option<&mut Connection> {
        match &mut self.get_mut(slot)?.occupant {
            Occupant::Live(connection, _) => Some(connection),
            Occupant::Dial(dial) => dial.early.as_mut().map(|early| &mut *early.connection),
            Occupant::Free => None,
        }
    }

    /// Frees `slot`; who was there.
    pub(super) fn remove(&mut self, slot: u32) -> Occupant {
        let Some(place) = self.slots.get_mut(slot as usize) else {
            return Occupant::Free;
        };
        let occupant = std::mem::replace(&mut place.occupant, Occupant::Free);
        if !matches!(occupant, Occupant::Free) {
            self.free.push(slot);
        }
        occupant
    }

    /// `slot` has something to do.
    pub(super) fn mark(&mut self, slot: u32) {
        if let Some(place) = self.slots.get_mut(slot as usize).filter(|place| !place.queued) {
            place.queued = true;
            self.ready.push_back(slot);
        }
    }

    /// How many have something to do.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whose turn it is.
    pub(super) fn first(&self) -> Option<u32> {
        self.ready.front().copied()
    }

    /// The first had its turn and has more: the others come before it speaks again.
    pub(super) fn rotate(&mut self) {
        if !self.ready.is_empty() {
            self.ready.rotate_left(1);
        }
    }

    /// The first has nothing more to do.
    pub(super) fn done(&mut self) {
        if let Some(slot) = self.ready.pop_front()
            && let Some(place) = self.slots.get_mut(slot as usize)
        {
            place.queued = false;
        }
    }

    /// All slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Occupant)> {
        self.iter_from(0)
    }

    /// The slots from `first` on.
    pub(super) fn iter_from(&self, first: u32) -> impl Iterator<Item = (u32, &Occupant)> {
        let slots = self.slots.get(first as usize..).unwrap_or_default();
        (first..).zip(slots).map(|(slot, place)| (slot, &place.occupant))
    }

    /// The same, to be changed; whoever was given something to do must be marked.
    pub(super) fn iter_mut_from(&mut self, first: u32) -> impl Iterator<Item = (u32, &mut Occupant)> {
        let slots = self.slots.get_mut(first as usize..).unwrap_or_default();
        (first..)
            .zip(slots)
            .map(|(slot, place)| (slot, &mut place.occupant))
    }
}
