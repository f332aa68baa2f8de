//! Datagrams that wait to be sent: bounded in bytes and in age. Those that name a flow wait in `flows`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::flows::Flows;
use crate::flows::packets::OVERHEAD as FLOW_OVERHEAD;
use crate::id::PerClass;
use crate::{Class, DatagramDrop, DatagramId, DatagramOptions, QueueState};

/// What a waiting datagram counts beyond its bytes, so that empty ones are bounded too.
pub(crate) const OVERHEAD: usize = size_of::<Waiting>();

#[derive(Debug)]
struct Waiting {
    id: DatagramId,
    data: Vec<u8>,
    since: Instant,
    deadline: Option<Instant>,
    early: bool,
    notify: bool,
    /// The earlier of its deadline and the age bound.
    expires: Instant,
}

/// A datagram that has left its queue.
#[derive(Debug)]
pub(crate) struct Popped {
    pub(crate) id: DatagramId,
    pub(crate) notify: bool,
    pub(crate) data: Vec<u8>,
}

/// Why a datagram leaves its queue unsent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unsent {
    Expired,
    Dropped(DatagramDrop),
}

/// What is next in a class.
#[derive(Clone, Copy)]
enum Turn {
    /// A datagram without a flow, at this place.
    Plain(usize),
    Flow,
}

impl Waiting {
    fn cost(&self) -> usize {
        self.data.len() + OVERHEAD
    }
}

/// The queues, one a class: realtime by deadline, the others in order of arrival; and the flow queues beside them.
#[derive(Debug)]
pub(crate) struct Datagrams {
    queues: PerClass<VecDeque<Waiting>>,
    max_bytes: usize,
    max_age: Duration,
    bytes: usize,
    len: usize,
    next_id: u64,
    /// No datagram expires before.
    earliest: Option<Instant>,
    /// Was more than half full since it last drained.
    filled: bool,
    /// Only those that may go early are next.
    only_early: bool,
    /// Made for the first datagram that names a flow.
    pub(crate) flows: Option<Box<Flows>>,
    flow_bytes: usize,
}

impl Datagrams {
    /// `flow_bytes`: the bound of those that name a flow, which have neither part in `max_bytes` nor in `max_age`.
    pub(crate) fn new(max_bytes: usize, max_age: Duration, flow_bytes: usize) -> Self {
        Self {
            queues: PerClass::default(),
            max_bytes,
            max_age,
            bytes: 0,
            len: 0,
            next_id: 0,
            earliest: None,
            filled: false,
            only_early: false,
            flows: None,
            flow_bytes,
        }
    }

    /// The largest datagram the queue can hold.
    pub(crate) fn max_len(&self, with_flow: bool) -> usize {
        if with_flow {
            self.flow_bytes.saturating_sub(FLOW_OVERHEAD)
        } else {
            self.max_bytes.saturating_sub(OVERHEAD)
        }
    }

    /// Whether `count` datagrams of `bytes` altogether may join without any being dropped; one always may when there is none.
    pub(crate) fn has_room(&self, bytes: usize, count: usize, with_flow: bool) -> bool {
        let (load, len, overhead, bound) = if with_flow {
            let (load, len) = self.flows.as_ref().map_or((0, 0), |flows| flows.load());
            (load, len, FLOW_OVERHEAD, self.flow_bytes)
        } else {
            (self.bytes, self.len, OVERHEAD, self.max_bytes)
        };
        len == 0 && count <= 1 || load + bytes + count * overhead <= bound
    }

    /// Queues a datagram no larger than [`max_len`](Self::max_len).
    pub(crate) fn push(&mut self, now: Instant, data: Vec<u8>, options: DatagramOptions) -> DatagramId {
        let DatagramOptions {
            class,
            deadline,
            early,
            notify,
            flow,
        } = options;
        let id = DatagramId(self.next_id);
        self.next_id += 1;
        if let Some(flow) = flow {
            let bound = self.flow_bytes;
            let flows = self.flows.get_or_insert_with(|| Box::new(Flows::new(bound)));
            flows.push(now, id, data, flow, options);
            return id;
        }
        let oldest = now + self.max_age;
        let expires = deadline.map_or(oldest, |deadline| deadline.min(oldest));
        self.earliest = Some(self.earliest.map_or(expires, |earliest| earliest.min(expires)));
        let waiting = Waiting {
            id,
            data,
            since: now,
            deadline,
            early,
            notify,
            expires,
        };
        self.bytes += waiting.cost();
        self.len += 1;
        self.filled |= self.bytes > self.max_bytes / 2;
        let queue = self.queues.get_mut(class);
        let at = match queue.back() {
            Some(last) if class == Class::Realtime && last.deadline > deadline => {
                queue.partition_point(|other| other.deadline <= deadline)
            }
            _ => queue.len(),
        };
        queue.insert(at, waiting);
        id
    }

    /// Whether only those that may go early are next.
    pub(crate) fn set_early(&mut self, only: bool) {
        self.only_early = only;
    }

    fn next(&self, class: Class) -> Option<(usize, &Waiting)> {
        let only = self.only_early;
        let mut queue = self.queues.get(class).iter().enumerate();
        queue.find(|(_, waiting)| waiting.early || !only)
    }

    /// While the queue is over its bound: drops the oldest.
    pub(crate) fn drop_excess(&mut self) -> Option<(Class, DatagramId, bool)> {
        if self.bytes <= self.max_bytes {
            return None;
        }
        let oldest = Class::ALL.into_iter().filter_map(|class| {
            let (at, waiting) = self.oldest_of(class)?;
            Some((waiting.id, class, at))
        });
        let (id, class, at) = oldest.min_by_key(|(id, ..)| *id)?;
        let dropped = self.queues.get_mut(class).remove(at);
        self.forget(dropped.as_ref());
        dropped.map(|dropped| (class, id, dropped.notify))
    }

    /// While the flow queues are over their bound: drops from the fattest; says what.
    pub(crate) fn shed_flows(&mut self, gone: impl FnMut(DatagramId, bool, Unsent)) {
        if let Some(flows) = &mut self.flows {
            flows.shed(gone);
        }
    }

    /// Drops what has expired; says what.
    pub(crate) fn expire(&mut self, now: Instant, mut gone: impl FnMut(DatagramId, bool)) {
        if let Some(flows) = &mut self.flows {
            flows.expire(now, &mut gone);
        }
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        let (bytes, len, mut earliest) = (&mut self.bytes, &mut self.len, None::<Instant>);
        for queue in self.queues.each_mut() {
            queue.retain(|waiting| {
                if waiting.expires > now {
                    earliest = Some(earliest.map_or(waiting.expires, |e| e.min(waiting.expires)));
                    return true;
                }
                *bytes -= waiting.cost();
                *len -= 1;
                gone(waiting.id, waiting.notify);
                false
            });
        }
        self.earliest = earliest;
        self.shrink();
    }

    /// Whether any datagram of the class may go.
    pub(crate) fn waits(&self, class: Class) -> bool {
        self.turn(class).is_some()
    }

    /// Length of the datagram that is next in its class. In flow queues what has waited too long is dropped on the way to it, and
    /// told.
    pub(crate) fn peek(
        &mut self,
        class: Class,
        now: Instant,
        mut gone: impl FnMut(DatagramId, bool, Unsent),
    ) -> Option<usize> {
        while let Turn::Flow = self.turn(class)? {
            let next = self.flows.as_mut()?.peek(class, now, &mut gone);
            if next.is_some() {
                return next;
            }
        }
        self.next(class).map(|(_, waiting)| waiting.data.len())
    }

    /// What is next in a class: while both wait, flows and what has none send the same.
    fn turn(&self, class: Class) -> Option<Turn> {
        let plain = self.next(class).map(|(at, _)| Turn::Plain(at));
        // What is inside a tunnel may not be repeated.
        let waiting = self
            .flows
            .as_ref()
            .filter(|flows| !self.only_early && flows.waiting(class));
        match waiting {
            Some(flows) if plain.is_none() || flows.go_first(class) => Some(Turn::Flow),
            _ => plain,
        }
    }

    /// Deadline of the datagram without a flow that is next in its class.
    pub(crate) fn deadline(&self, class: Class) -> Option<Instant> {
        self.next(class).and_then(|(_, waiting)| waiting.deadline)
    }

    /// Takes the datagram that is next in its class: what [`peek`](Self::peek) found last.
    pub(crate) fn pop(&mut self, class: Class) -> Option<Popped> {
        let Turn::Plain(at) = self.turn(class)? else {
            let shared = self.next(class).is_some();
            let packet = self.flows.as_mut()?.pop(class, shared)?;
            return Some(Popped {
                id: packet.id,
                notify: packet.notify,
                data: packet.data,
            });
        };
        let waiting = self.queues.get_mut(class).remove(at);
        self.forget(waiting.as_ref());
        if let (Some(flows), Some(waiting)) = (&mut self.flows, &waiting) {
            flows.passed(class, waiting.data.len());
        }
        waiting.map(|waiting| Popped {
            id: waiting.id,
            notify: waiting.notify,
            data: waiting.data,
        })
    }

    /// Whether a queue has drained to a quarter after it was more than half full: said once.
    pub(crate) fn drained(&mut self) -> bool {
        let plain = self.bytes <= self.max_bytes / 4 && std::mem::take(&mut self.filled);
        self.flows.as_mut().is_some_and(|flows| flows.drained()) || plain
    }

    /// When something may expire.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        let in_flows = self.flows.as_ref().and_then(|flows| flows.next_expiry());
        self.earliest.into_iter().chain(in_flows).min()
    }

    pub(crate) fn state(&self, now: Option<Instant>) -> QueueState {
        let oldest = Class::ALL
            .into_iter()
            .filter_map(|class| self.oldest_of(class))
            .map(|(_, w)| w.since)
            .chain(self.flows.as_ref().and_then(|flows| flows.oldest()))
            .min();
        let (bytes, len) = self.flows.as_ref().map_or((0, 0), |flows| flows.load());
        let age = now.zip(oldest).map_or(Duration::ZERO, |(now, since)| {
            now.saturating_duration_since(since)
        });
        QueueState {
            bytes: self.bytes + bytes,
            len: self.len + len,
            oldest_age: age,
        }
    }

    pub(crate) fn memory(&self) -> usize {
        let queues = self.queues.each();
        let places: usize = queues
            .iter()
            .map(|queue| queue.capacity() * size_of::<Waiting>())
            .sum();
        let data: usize = queues
            .iter()
            .flat_map(|queue| queue.iter())
            .map(|waiting| waiting.data.capacity())
            .sum();
        places + data + self.flows.as_ref().map_or(0, |flows| flows.memory())
    }

    fn oldest_of(&self, class: Class) -> Option<(usize, &Waiting)> {
        let queue = self.queues.get(class);
        match class {
            Class::Realtime => queue.iter().enumerate().min_by_key(|(_, waiting)| waiting.id),
            _ => queue.front().map(|waiting| (0, waiting)),
        }
    }

    fn forget(&mut self, gone: Option<&Waiting>) {
        if let Some(waiting) = gone {
            self.bytes -= waiting.cost();
            self.len -= 1;
        }
        self.shrink();
    }

    /// An empty queue keeps little, and has no expiry.
    fn shrink(&mut self) {
        if self.len == 0 {
            self.earliest = None;
            for queue in self.queues.each_mut() {
                queue.shrink_to(64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn options(class: Class, deadline: Option<Instant>) -> DatagramOptions {
        DatagramOptions {
            class,
            deadline,
            ..DatagramOptions::default()
        }
    }

    #[test]
    fn the_oldest_of_all_classes_is_dropped_when_full() {
        let now = crate::tests::start();
        let mut queue = Datagrams::new(3 * (100 + OVERHEAD), ms(100), 0);
        let a = queue.push(now, vec![0; 100], options(Class::Realtime, Some(now + ms(90))));
        let b = queue.push(now, vec![0; 100], options(Class::Bulk, None));
        let c = queue.push(now, vec![0; 100], options(Class::Realtime, Some(now + ms(10))));
        assert_eq!(queue.drop_excess(), None);
        queue.push(now, vec![0; 100], options(Class::Interactive, None));
        assert_eq!(queue.drop_excess(), Some((Class::Realtime, a, false)));
        assert_eq!(queue.drop_excess(), None);
        queue.push(now, vec![], options(Class::Bulk, None));
        assert_eq!(queue.drop_excess(), Some((Class::Bulk, b, false)));
        assert_eq!(queue.pop(Class::Realtime).map(|gone| gone.id), Some(c));
    }

    #[test]
    fn empty_datagrams_are_bounded_too() {
        let now = crate::tests::start();
        let mut queue = Datagrams::new(64 * 1024, ms(100), 0);
        let mut dropped = 0;
        for _ in 0..100_000 {
            queue.push(now, Vec::new(), options(Class::Interactive, None));
            while queue.drop_excess().is_some() {
                dropped += 1;
            }
        }
        assert!(queue.state(None).len <= 64 * 1024 / OVERHEAD && dropped > 90_000);
        assert!(queue.memory() <= 256 * 1024);
    }

    #[test]
    fn age_and_deadline_expire() {
        let now = crate::tests::start();
        let mut queue = Datagrams::new(64 * 1024, ms(100), 0);
        let old = queue.push(now, vec![1], options(Class::Bulk, None));
        let short = queue.push(now + ms(50), vec![2], options(Class::Bulk, Some(now + ms(60))));
        let last = queue.push(now + ms(50), vec![3], options(Class::Bulk, Some(now + ms(1000))));
        assert_eq!(queue.next_expiry(), Some(now + ms(60)));
        let mut gone = Vec::new();
        queue.expire(now + ms(60), |id, _| gone.push(id));
        queue.expire(now + ms(99), |id, _| gone.push(id));
        queue.expire(now + ms(100), |id, _| gone.push(id));
        queue.expire(now + ms(150), |id, _| gone.push(id));
        assert_eq!(gone, [short, old, last]);
        assert_eq!((queue.next_expiry(), queue.state(None).bytes), (None, 0));
    }
}
