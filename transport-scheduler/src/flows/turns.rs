//! The flow queues of one class, in turn: deficit round robin with the flows that are new or sparse first (RFC 8290 §4.2), and
//! CoDel on each queue.

use std::time::Instant;

use super::packets::{OVERHEAD, Packet, Packets};
use crate::codel::Codel;
use crate::datagram::Unsent;
use crate::fair::deficit::Round;
use crate::list::{Key, Links, List};
use crate::{DatagramDrop, DatagramId};

/// Queues of a class; flows whose hashes agree in the last byte share one.
const BUCKETS: Key = 256;
/// Bytes a queue may send a turn: a full packet, so that small ones do not wait for several of another flow (RFC 8290 §5.2.4).
const QUANTUM: i64 = 1514;
/// What a packet counts at least, as its frame does on the wire: a flow of empty ones must not have the turn for ever.
const FRAME: usize = 8;
/// Packets that go at once when there is no room, so that the search for the fattest queue is rare (RFC 8290 §4.1.3).
const SHED_AT_ONCE: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Place {
    #[default]
    Idle,
    New,
    Old,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    packets: List,
    bytes: usize,
    len: usize,
    deficit: i64,
    place: Place,
    codel: Codel,
}

impl Bucket {
    /// What its packets count against the bound.
    fn weight(&self) -> usize {
        self.bytes + self.len * OVERHEAD
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Turns {
    /// The place of each queue in `buckets`, from 1; 0: nothing has come for it.
    places: [u16; BUCKETS as usize],
    /// The queues that were ever used: of 256, a quiet tunnel has a few.
    buckets: Vec<Bucket>,
    links: Links,
    round: Round,
    len: usize,
    /// Bytes the flows sent more than the datagrams of the class without a flow, while both waited.
    ahead: i64,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            places: [0; BUCKETS as usize],
            buckets: Vec::new(),
            links: Links::default(),
            round: Round::default(),
            len: 0,
            ahead: 0,
        }
    }

    pub(super) fn waits(&self) -> bool {
        self.len > 0
    }

    pub(super) fn push(&mut self, packets: &mut Packets, flow: u32, packet: Packet) {
        let key = self.key(flow);
        let Some(bucket) = self.buckets.get_mut(key as usize) else {
            return;
        };
        bucket.bytes += packet.data.len();
        bucket.len += 1;
        self.len += 1;
        packets.push(&mut bucket.packets, packet);
        if bucket.place == Place::Idle {
            bucket.deficit = QUANTUM;
            self.relink(key, Place::New);
        }
    }

    fn key(&mut self, flow: u32) -> Key {
        let Some(place) = self.places.get_mut((flow % BUCKETS) as usize) else {
            return 0;
        };
        if *place == 0 {
            self.links.reach(self.buckets.len() as Key);
            self.buckets.push(Bucket::default());
            *place = self.buckets.len() as u16;
        }
        Key::from(*place - 1)
    }

    /// Length of the packet that [`pop`](Self::pop) will give. On the way to it what waited too long is dropped, and told.
    pub(super) fn peek(
        &mut self,
        packets: &mut Packets,
        now: Instant,
        gone: &mut impl FnMut(DatagramId, bool, Unsent),
    ) -> Option<usize> {
        loop {
            let key = self.first()?;
            let bucket = self.buckets.get_mut(key as usize)?;
            if bucket.deficit <= 0 {
                bucket.deficit += QUANTUM;
                self.relink(key, Place::Old);
                continue;
            }
            let Some(packet) = packets.front(bucket.packets) else {
                bucket.codel.empty();
                // A new one goes round once more, so that a flow cannot win a new start by pausing.
                let place = if bucket.place == Place::New {
                    Place::Old
                } else {
                    Place::Idle
                };
                self.relink(key, place);
                continue;
            };
            let len = packet.data.len();
            let sojourn = now.saturating_duration_since(packet.since);
            let why = if packet.expires <= now {
                Unsent::Expired
            } else if bucket.codel.drops(now, sojourn, bucket.bytes - len) {
                Unsent::Dropped(DatagramDrop::Delay)
            } else {
                return Some(len);
            };
            if let Some(packet) = self.take(packets, key) {
                gone(packet.id, packet.notify, why);
            }
        }
    }

    /// Takes the packet that [`peek`](Self::peek) found. `shared`: datagrams without a flow wait in the same class.
    pub(super) fn pop(&mut self, packets: &mut Packets, shared: bool) -> Option<Packet> {
        let key = self.first()?;
        let packet = self.take(packets, key)?;
        let cost = cost(packet.data.len());
        if let Some(bucket) = self.buckets.get_mut(key as usize) {
            bucket.deficit -= cost;
        }
        if shared {
            self.ahead += cost;
        }
        Some(packet)
    }

    /// Whether the flows go before the datagrams of the class that have none.
    pub(super) fn go_first(&self) -> bool {
        self.ahead <= 0
    }

    /// A datagram without a flow went.
    pub(super) fn passed(&mut self, len: usize) {
        if self.waits() {
            // What went while flows were held back is not made up for.
            self.ahead = (self.ahead - cost(len)).max(-QUANTUM);
        }
    }

    /// Drops what is too old at the heads of the queues.
    pub(super) fn expire(
        &mut self,
        packets: &mut Packets,
        now: Instant,
        gone: &mut impl FnMut(DatagramId, bool),
    ) {
        for key in 0..BUCKETS {
            while self.head(packets, key).is_some_and(|head| head.expires <= now) {
                if let Some(packet) = self.take(packets, key) {
                    gone(packet.id, packet.notify);
                }
            }
        }
    }

    /// The first packets of all queues.
    pub(super) fn heads<'a>(&'a self, packets: &'a Packets) -> impl Iterator<Item = &'a Packet> {
        (0..BUCKETS).filter_map(|key| self.head(packets, key))
    }

    /// The queue that counts most, and how much.
    pub(super) fn fattest(&self) -> Option<(usize, Key)> {
        let weights = self.buckets.iter().map(Bucket::weight);
        weights.zip(0..).filter(|(weight, _)| *weight > 0).max()
    }

    /// Drops from the head of a queue half of what it holds, or a few packets of it.
    pub(super) fn shed(
        &mut self,
        packets: &mut Packets,
        key: Key,
        gone: &mut impl FnMut(DatagramId, bool, Unsent),
    ) {
        let weight = |turns: &Self| turns.buckets.get(key as usize).map_or(0, Bucket::weight);
        let enough = weight(self) / 2;
        for _ in 0..SHED_AT_ONCE {
            let Some(packet) = self.take(packets, key) else {
                return;
            };
            gone(packet.id, packet.notify, Unsent::Dropped(DatagramDrop::QueueFull));
            if weight(self) <= enough {
                return;
            }
        }
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.buckets.capacity() * size_of::<Bucket>() + self.links.memory()
    }

    fn first(&self) -> Option<Key> {
        self.round.new.front().or_else(|| self.round.old.front())
    }

    fn head<'a>(&self, packets: &'a Packets, key: Key) -> Option<&'a Packet> {
        packets.front(self.buckets.get(key as usize)?.packets)
    }

    fn take(&mut self, packets: &mut Packets, key: Key) -> Option<Packet> {
        let bucket = self.buckets.get_mut(key as usize)?;
        let packet = packets.pop(&mut bucket.packets)?;
        bucket.bytes -= packet.data.len();
        bucket.len -= 1;
        self.len -= 1;
        Some(packet)
    }

    fn relink(&mut self, key: Key, place: Place) {
        let Some(bucket) = self.buckets.get_mut(key as usize) else {
            return;
        };
        match std::mem::replace(&mut bucket.place, place) {
            Place::Idle => {}
            Place::New => self.links.remove(&mut self.round.new, key),
            Place::Old => self.links.remove(&mut self.round.old, key),
        }
        match place {
            Place::Idle => {}
            Place::New => self.links.push_back(&mut self.round.new, key),
            Place::Old => self.links.push_back(&mut self.round.old, key),
        }
    }
}

fn cost(len: usize) -> i64 {
    i64::try_from(len.max(FRAME)).unwrap_or(i64::MAX >> 8)
}
