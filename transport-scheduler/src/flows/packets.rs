//! The packets of all flow queues, in one arena: what a queue needed once serves the others, so that many queues that were long
//! at different times cost no more than the bytes that may wait at once.

use std::time::Instant;

use crate::DatagramId;
use crate::list::{Key, Links, List};

/// What a waiting packet counts beyond its bytes: its place, the links to its neighbours, and room to remember it as free.
pub(crate) const OVERHEAD: usize = size_of::<Option<Packet>>() + 3 * size_of::<Key>();

/// Places that are kept when none is in use: a few bursts of a tunnel device.
const KEPT: usize = 256;

/// A datagram that waits in a flow queue.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) id: DatagramId,
    pub(crate) data: Vec<u8>,
    pub(crate) since: Instant,
    pub(crate) expires: Instant,
    pub(crate) notify: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Packets {
    places: Vec<Option<Packet>>,
    free: Vec<Key>,
    links: Links,
    /// Of all packets, [`OVERHEAD`] included.
    pub(super) bytes: usize,
    pub(super) len: usize,
}

impl Packets {
    pub(super) fn push(&mut self, list: &mut List, packet: Packet) {
        self.bytes += packet.data.len() + OVERHEAD;
        self.len += 1;
        let key = self.free.pop().unwrap_or(self.places.len() as Key);
        match self.places.get_mut(key as usize) {
            Some(place) => *place = Some(packet),
            None => self.places.push(Some(packet)),
        }
        self.links.reach(key);
        self.links.push_back(list, key);
    }

    pub(super) fn front(&self, list: List) -> Option<&Packet> {
        self.places.get(list.front()? as usize)?.as_ref()
    }

    pub(super) fn pop(&mut self, list: &mut List) -> Option<Packet> {
        let key = list.front()?;
        let packet = self.places.get_mut(key as usize)?.take()?;
        self.links.remove(list, key);
        self.bytes -= packet.data.len() + OVERHEAD;
        self.len -= 1;
        self.free.push(key);
        if self.len == 0 {
            self.places.clear();
            self.places.shrink_to(KEPT);
            self.free.clear();
            self.free.shrink_to(KEPT);
            self.links.truncate(KEPT);
        }
        Some(packet)
    }

    pub(super) fn memory(&self) -> usize {
        let data = self.places.iter().flatten().map(|packet| packet.data.capacity());
        self.places.capacity() * size_of::<Option<Packet>>()
            + self.free.capacity() * size_of::<Key>()
            + self.links.memory()
            + data.sum::<usize>()
    }
}
