//! Complete hellos that wait to be read, and how many of them time allows.
//!
//! Reading and answering one costs two or three lattice operations and six multiplications on the curve, a thousand
//! times what a packet costs. So it is not done where the datagram arrives, but when connections have nothing more to say:
//! a few at one moment, and at most half of a core's time. Core reads no clock: whoever drives it measures what one costs.
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

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::half_open::HelloHash;
use super::pace::Pace;
use super::reassembly::Complete;
use super::sources::Sources;
use crate::buffer::Route;
use crate::endpoint::flight::Hid;
use crate::endpoint::sessions::Usage;
use crate::trace::DropReason;

/// Hellos that wait; when more come, the oldest goes.
const MAX_WAITING: usize = 256;
/// With more than these waiting, the newest is served first: its sender has the most patience left.
const OVERLOAD: usize = MAX_WAITING / 2;
/// With so many waiting, each neighbourhood has to keep to its share.
const CONTESTED: usize = MAX_WAITING / 8;
/// How many at one moment.
const BURST: u32 = 4;
/// One in so many parts of a core's time.
const SHARE: u32 = 2;
/// Nobody waits longer for an answer.
const LIFETIME: Duration = Duration::from_secs(10);
/// What answering one hello costs, until somebody has measured it; and what a measurement is believed.
const COST: Duration = Duration::from_micros(250);
const COSTS: std::ops::RangeInclusive<Duration> = Duration::from_micros(20)..=Duration::from_millis(20);

/// A hello that waits.
pub(super) struct Hello {
    pub(super) hid: Hid,
    pub(super) domain: usize,
    pub(super) route: Route,
    pub(super) hash: HelloHash,
    pub(super) complete: Complete,
    pub(super) queued: Instant,
}

/// All of them.
pub(super) struct Queue {
    waiting: VecDeque<Hello>,
    pace: Pace,
    cost: Duration,
    sources: Sources,
}

impl Queue {
    /// `key`: a secret number.
    pub(super) fn new(key: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            pace: Pace::default(),
            cost: COST,
            sources: Sources::new(key),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How full it is, for whoever looks.
    pub(super) fn usage(&self) -> Usage {
        Usage::new("hellos_waiting", self.waiting.len(), MAX_WAITING)
    }

    /// Per cent.
    pub(super) fn filled(&self) -> u32 {
        (self.waiting.len() * 100 / MAX_WAITING) as u32
    }

    /// What answering one costs.
    pub(super) fn cost(&self) -> Duration {
        self.cost
    }

    pub(super) fn set_cost(&mut self, cost: Duration) {
        self.cost = cost.clamp(*COSTS.start(), *COSTS.end());
    }

    /// Adds one, and gives the one that had to go.
    pub(super) fn push(&mut self, hello: Hello) -> Result<Option<Hello>, DropReason> {
        if let Some(index) = self.waiting.iter().position(|same| same.hash == hello.hash) {
            return self.renew(index, hello).map(|()| None);
        }
        // Many may live behind one address; their share is a limit only when others wait.
        let within_share = self.sources.take(hello.queued, hello.route.remote);
        if !within_share && self.waiting.len() >= CONTESTED {
            return Err(DropReason::Overload);
        }
        let oldest = (self.waiting.len() >= MAX_WAITING).then(|| self.waiting.pop_front());
        self.waiting.push_back(hello);
        Ok(oldest.flatten())
    }

    /// A copy of one that waits. Its sender is still there, so it counts as the newest.
    fn renew(&mut self, index: usize, copy: Hello) -> Result<(), DropReason> {
        let same_place = |same: &Hello| same.route.remote == copy.route.remote;
        if !self.waiting.get(index).is_some_and(same_place) {
            return Err(DropReason::HelloReplayed);
        }
        if let Some(mut same) = self.waiting.remove(index) {
            same.complete.received += copy.complete.received;
            same.complete.largest = same.complete.largest.min(copy.complete.largest);
            same.complete.token = copy.complete.token.or(same.complete.token);
            self.waiting.push_back(same);
        }
        Ok(())
    }

    /// The one to read now, if it is time for one.
    pub(super) fn next(&mut self, now: Instant) -> Option<Hello> {
        if self.waiting.is_empty() || !self.pace.take(now, self.cost * SHARE, BURST) {
            return None;
        }
        if self.waiting.len() > OVERLOAD {
            self.waiting.pop_back()
        } else {
            self.waiting.pop_front()
        }
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let oldest = self.waiting.front()?;
        Some(self.pace.next().unwrap_or(oldest.queued))
    }

    /// Takes out one that has waited too long.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Hello> {
        self.waiting
            .pop_front_if(|oldest| now.saturating_duration_since(oldest.queued) >= LIFETIME)
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        let bodies: usize = self
            .waiting
            .iter()
            .map(|hello| hello.complete.body.memory())
            .sum();
        bodies + self.waiting.capacity() * size_of::<Hello>() + self.sources.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::flight::Body;

    fn hello(number: u64, now: Instant) -> Hello {
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        let [.., a, b, c] = number.to_be_bytes();
        Hello {
            hid: number.to_be_bytes(),
            domain: 0,
            route: Route {
                remote: ([a, b, c, 1], 9).into(),
                local: None,
            },
            hash,
            complete: Complete {
                body: Body::new(100).unwrap(),
                born: now,
                received: 1000,
                largest: 1000,
                token: None,
            },
            queued: now,
        }
    }

    fn numbers(queue: &mut Queue, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| queue.next(now))
            .map(|hello| u64::from_be_bytes(hello.hid))
            .collect()
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn first_in_first_out_until_it_is_half_full_then_the_last() {
        let now = Instant::now();
        let mut queue = Queue::new(1);
        (0..6).for_each(|number| assert!(queue.push(hello(number, now)).unwrap().is_none()));
        assert_eq!(numbers(&mut queue, now), [0, 1, 2, 3], "a few at one moment");
        let due = queue.due().unwrap();
        assert_eq!(due, now + COST * SHARE);
        assert_eq!(numbers(&mut queue, due), [4]);
        let later = due + Duration::from_secs(1);
        assert_eq!(numbers(&mut queue, later), [5]);
        assert_eq!(queue.due(), None);
        let mut gone = Vec::new();
        for number in 0..300 {
            gone.extend(queue.push(hello(number, later)).unwrap().map(|hello| hello.hid));
        }
        assert_eq!(
            gone,
            (0..44u64).map(u64::to_be_bytes).collect::<Vec<_>>(),
            "the oldest go"
        );
        let mut order = Vec::new();
        for step in 1..400 {
            order.extend(numbers(&mut queue, later + COST * SHARE * step));
        }
        let newest = (172..300).rev();
        assert_eq!(order, newest.chain(44..172).collect::<Vec<u64>>());
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn copies_join_from_the_same_place_and_are_refused_from_another() {
        let now = Instant::now();
        let mut queue = Queue::new(1);
        queue.push(hello(1, now)).unwrap();
        let mut copy = hello(1, now);
        copy.complete.token = Some([7; 20]);
        queue.push(copy).unwrap();
        let mut elsewhere = hello(1, now);
        elsewhere.route.remote.set_port(10);
        assert_eq!(queue.push(elsewhere).err(), Some(DropReason::HelloReplayed));
        assert_eq!(queue.len(), 1);
        let one = queue.next(now).unwrap();
        assert_eq!((one.complete.received, one.complete.token), (2000, Some([7; 20])));
        // A copy makes it the newest again: under overload that is the next.
        (10..12).for_each(|number| assert!(queue.push(hello(number, now)).unwrap().is_none()));
        queue.push(hello(10, now)).unwrap();
        assert_eq!(numbers(&mut queue, now), [11, 10]);
        // Too many of one place, and too long a wait.
        for number in 0..70 {
            let mut near = hello(number, now);
            near.route.remote = ([10, 0, 0, number as u8], 9).into();
            assert_eq!(
                queue.push(near).err(),
                (number >= 64).then_some(DropReason::Overload),
                "{number}"
            );
        }
        assert!(queue.expire(now + LIFETIME / 2).is_none());
        assert_eq!(std::iter::from_fn(|| queue.expire(now + LIFETIME)).count(), 64);
        assert!(queue.memory() < 100_000);
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn the_measured_cost_sets_the_pace_within_reason() {
        let mut queue = Queue::new(1);
        queue.set_cost(Duration::ZERO);
        assert_eq!(queue.cost(), Duration::from_micros(20));
        queue.set_cost(Duration::from_secs(9));
        assert_eq!(queue.cost(), Duration::from_millis(20));
        let now = Instant::now();
        for number in 0..200 {
            queue.push(hello(number, now)).unwrap();
        }
        let served: usize = (0..1000u32)
            .map(|ms| numbers(&mut queue, now + Duration::from_millis(1) * ms).len())
            .sum();
        assert_eq!(served, 4 + 24, "half of a second, and the burst");
    }
}
