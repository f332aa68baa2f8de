//! Datagrams that name their flow, such as the packets inside a tunnel: flows of a class take turns, and a flow whose queue
//! stands loses packets (FQ-CoDel, RFC 8290), so that a small flow stays fast while TCP fills the tunnel beside it.

pub(crate) mod packets;
mod turns;

use std::time::{Duration, Instant};

use crate::datagram::Unsent;
use crate::id::PerClass;
use crate::{Class, DatagramId, DatagramOptions};
use packets::{Packet, Packets};
use turns::Turns;

/// How long a packet may wait when nothing can be sent at all: CoDel drops only what is about to leave.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The flow queues of a connection. Those of a class are made for its first datagram with a flow, and stay.
#[derive(Debug)]
pub(crate) struct Flows {
    classes: PerClass<Option<Box<Turns>>>,
    packets: Packets,
    max_bytes: usize,
    /// No head of a queue expires before.
    earliest: Option<Instant>,
    /// Was more than half full since it last drained.
    filled: bool,
}

impl Flows {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            classes: PerClass::default(),
            packets: Packets::default(),
            max_bytes,
            earliest: None,
            filled: false,
        }
    }

    /// Queues a datagram. Its deadline, or what is left of a second, is looked at when it comes to the head of its queue.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        id: DatagramId,
        data: Vec<u8>,
        flow: u32,
        options: DatagramOptions,
    ) {
        let oldest = now + MAX_AGE;
        let expires = options.deadline.map_or(oldest, |deadline| deadline.min(oldest));
        self.earliest = Some(self.earliest.map_or(expires, |earliest| earliest.min(expires)));
        let packet = Packet {
            id,
            data,
            since: now,
            expires,
            notify: options.notify,
        };
        let turns = self.classes.get_mut(options.class);
        let turns = turns.get_or_insert_with(|| Box::new(Turns::new()));
        turns.push(&mut self.packets, flow, packet);
        self.filled |= self.packets.bytes > self.max_bytes / 2;
    }

    /// While more waits than may: drops from the head of the fattest queue (RFC 8290 §4.1.3), of whatever class.
    pub(crate) fn shed(&mut self, mut gone: impl FnMut(DatagramId, bool, Unsent)) {
        while self.packets.bytes > self.max_bytes {
            let each = Class::ALL.into_iter().filter_map(|class| {
                let (weight, key) = self.turns(class)?.fattest()?;
                Some((weight, key, class))
            });
            let fattest = each.max_by_key(|(weight, ..)| *weight);
            let Some((_, key, class)) = fattest else { break };
            if let Some(turns) = self.classes.get_mut(class) {
                turns.shed(&mut self.packets, key, &mut gone);
            }
        }
        self.rest();
    }

    /// Whether anything waits in the flow queues of a class.
    pub(crate) fn waiting(&self, class: Class) -> bool {
        self.turns(class).is_some_and(Turns::waits)
    }

    /// Whether the flows of a class go before its datagrams without a flow: both get the same while both wait.
    pub(crate) fn go_first(&self, class: Class) -> bool {
        self.turns(class).is_some_and(Turns::go_first)
    }

    /// A datagram of the class without a flow went.
    pub(crate) fn passed(&mut self, class: Class, len: usize) {
        if let Some(turns) = self.classes.get_mut(class) {
            turns.passed(len);
        }
    }

    /// Length of what [`pop`](Self::pop) will give, after what waited too long was dropped, and told.
    pub(crate) fn peek(
        &mut self,
        class: Class,
        now: Instant,
        mut gone: impl FnMut(DatagramId, bool, Unsent),
    ) -> Option<usize> {
        let turns = self.classes.get_mut(class).as_mut()?;
        let len = turns.peek(&mut self.packets, now, &mut gone);
        self.rest();
        len
    }

    /// Takes what [`peek`](Self::peek) found last. `shared`: datagrams without a flow wait in the same class.
    pub(crate) fn pop(&mut self, class: Class, shared: bool) -> Option<Packet> {
        let turns = self.classes.get_mut(class).as_mut()?;
        let packet = turns.pop(&mut self.packets, shared);
        self.rest();
        packet
    }

    /// Drops what has expired at the head of its queue; says what.
    pub(crate) fn expire(&mut self, now: Instant, mut gone: impl FnMut(DatagramId, bool)) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        for turns in self.classes.each_mut().into_iter().flatten() {
            turns.expire(&mut self.packets, now, &mut gone);
        }
        self.earliest = self.heads().map(|head| head.expires).min();
    }

    /// When something may expire.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.earliest
    }

    /// Whether the queues have drained to a quarter after they were more than half full: said once.
    pub(crate) fn drained(&mut self) -> bool {
        self.packets.bytes <= self.max_bytes / 4 && std::mem::take(&mut self.filled)
    }

    /// Bytes that wait, [`packets::OVERHEAD`] included, and how many datagrams.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.packets.bytes, self.packets.len)
    }

    /// Since when the oldest has waited.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.heads().map(|head| head.since).min()
    }

    pub(crate) fn memory(&self) -> usize {
        let turns: usize = self
            .classes
            .each()
            .into_iter()
            .flatten()
            .map(|turns| turns.memory())
            .sum();
        size_of::<Self>() + self.packets.memory() + turns
    }

    fn turns(&self, class: Class) -> Option<&Turns> {
        self.classes.get(class).as_deref()
    }

    fn heads(&self) -> impl Iterator<Item = &Packet> {
        let turns = self.classes.each().into_iter().flatten();
        turns.flat_map(|turns| turns.heads(&self.packets))
    }

    /// Nothing waits: nothing expires.
    fn rest(&mut self) {
        if self.packets.len == 0 {
            self.earliest = None;
        }
    }
}

#[cfg(test)]
mod tests;
