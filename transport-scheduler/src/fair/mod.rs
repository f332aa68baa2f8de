//! Whose turn it is. Knows flows by key, their class and what they cost; not what they are.
//!
//! 1. Control, strictly, up to a tenth of what is sent while others wait.
//! 2. Realtime, the earliest deadline first, up to a half of any 100 ms while lower classes wait.
//! 3. Interactive, Bulk, Background by deficit round robin 8 : 4 : 1.
//!
//! Within a class, flows that go ahead (retransmissions, control frames) come first, then the others in turn.

pub(crate) mod deficit;
mod edf;
mod police;

use std::time::{Duration, Instant};

use crate::Class;
use crate::id::PerClass;
use crate::list::{Key, Links, List, reach};
use deficit::{QUANTUM, Round, Weighted};
use edf::{Edf, Stamp};
use police::{Recent, Share};

const CONTROL_PERCENT: i64 = 10;
/// A flow that went ahead pays back no more than this.
const MAX_DEBT: i64 = 8 * QUANTUM;
const BURST: i64 = 4 * QUANTUM;

/// What a flow wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    /// Nothing now.
    None,
    /// Its turn.
    Waiting,
    /// To go before the others of its class.
    Ahead,
    /// Its turn, once the connection may send more.
    Parked,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    None,
    New,
    Old,
    Ahead,
    Parked,
    Unstamped,
    Deadline(Stamp),
}

#[derive(Clone, Copy, Debug)]
struct Node {
    class: Class,
    place: Place,
    ready: bool,
    deficit: i32,
}

const EMPTY: Node = Node {
    class: Class::Bulk,
    place: Place::None,
    ready: false,
    deficit: 0,
};

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    ahead: List,
    round: Round,
    ready: usize,
}

/// The order of all flows.
#[derive(Debug)]
pub(crate) struct Fair {
    links: Links,
    nodes: Vec<Node>,
    lanes: PerClass<Lane>,
    parked: List,
    /// Realtime flows whose wait began at a time not yet known.
    unstamped: List,
    edf: Edf,
    weighted: Weighted,
    control: Share,
    /// Made when realtime first goes before others.
    realtime: Option<Box<Recent>>,
    patience: Duration,
}

impl Fair {
    /// `patience`: the deadline of a realtime flow that names none.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            links: Links::default(),
            nodes: Vec::new(),
            lanes: PerClass::default(),
            parked: List::default(),
            unstamped: List::default(),
            edf: Edf::default(),
            weighted: Weighted::default(),
            control: Share::new(CONTROL_PERCENT, BURST),
            realtime: None,
            patience,
        }
    }

    /// Whether any flow waits that is not parked.
    pub(crate) fn is_waiting(&self) -> bool {
        self.lanes.each().iter().any(|lane| lane.ready > 0)
    }

    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Puts an idle flow into `class`.
    pub(crate) fn add(&mut self, key: Key, class: Class) {
        self.links.reach(key);
        reach(&mut self.nodes, key, EMPTY);
        self.remove(key);
        if let Some(node) = self.nodes.get_mut(key as usize) {
            *node = Node { class, ..EMPTY };
        }
    }

    /// Forgets a flow.
    pub(crate) fn remove(&mut self, key: Key) {
        self.mark(key, false);
        self.unlink(key);
    }

    /// Says what a flow wants now.
    pub(crate) fn set(&mut self, key: Key, interest: Interest) {
        let Some(place) = self.nodes.get(key as usize).map(|node| node.place) else {
            return;
        };
        self.mark(key, matches!(interest, Interest::Waiting | Interest::Ahead));
        match (interest, place) {
            (Interest::None, Place::New | Place::Old)
            | (Interest::Ahead, Place::Ahead)
            | (Interest::Parked, Place::Parked)
            | (Interest::Waiting, Place::New | Place::Old | Place::Unstamped | Place::Deadline(_)) => {}
            (Interest::None, _) => self.unlink(key),
            (Interest::Ahead, _) => self.relink(key, Place::Ahead),
            (Interest::Parked, _) => self.relink(key, Place::Parked),
            (Interest::Waiting, Place::None) => self.relink(key, Place::New),
            (Interest::Waiting, Place::Ahead | Place::Parked) => self.relink(key, Place::Old),
        }
    }

    /// A realtime flow that waits names its deadline.
    pub(crate) fn set_deadline(&mut self, key: Key, deadline: Instant) {
        match self.nodes.get(key as usize).map(|node| node.place) {
            Some(Place::Deadline((old, _))) if old == deadline => {}
            Some(Place::Deadline(_) | Place::Unstamped) => {
                self.unlink(key);
                self.stamp(key, deadline);
            }
            _ => {}
        }
    }

    /// Lets up to `count` parked flows wait for their turn again.
    pub(crate) fn unpark(&mut self, count: u64) {
        for _ in 0..count {
            let Some(key) = self.parked.front() else {
                break;
            };
            self.set(key, Interest::Waiting);
        }
    }

    /// The flow whose turn it is. Asking again without a charge gives the same flow, unless one came that goes before it.
    pub(crate) fn select(&mut self, now: Instant) -> Option<Key> {
        while let Some(key) = self.unstamped.front() {
            self.unlink(key);
            self.stamp(key, now + self.patience);
        }
        if let Some(recent) = &mut self.realtime {
            recent.advance(now);
        }
        let lower = self.lower_waits();
        let realtime = self.waits(Class::Realtime);
        if self.waits(Class::Control) && (self.control.allows() || !(realtime || lower)) {
            return self.select_in(Class::Control);
        }
        if realtime && (self.realtime.as_ref().is_none_or(|recent| recent.allows()) || !lower) {
            return self.lanes.realtime.ahead.front().or_else(|| self.edf.first());
        }
        let lanes = &self.lanes;
        let class = self.weighted.select(|class| lanes.get(class).ready > 0)?;
        self.select_in(class)
    }

    /// The flow sent something of this cost.
    pub(crate) fn charge(&mut self, key: Key, cost: usize) {
        let cost = i64::try_from(cost).unwrap_or(i64::MAX >> 8);
        let Some(node) = self.nodes.get_mut(key as usize) else {
            return;
        };
        // Between the debt and one quantum: few bits are enough.
        node.deficit = (i64::from(node.deficit) - cost).max(-MAX_DEBT) as i32;
        let class = node.class;
        let lower = self.lower_waits();
        match class {
            Class::Control => self.control.spend(cost, lower || self.waits(Class::Realtime)),
            Class::Realtime => {
                self.control.earn(cost);
                if lower {
                    let recent = self.realtime.get_or_insert_with(|| Box::new(Recent::new()));
                    recent.spend(cost.unsigned_abs());
                }
                if matches!(
                    self.nodes.get(key as usize),
                    Some(Node {
                        place: Place::Deadline(_),
                        ..
                    })
                ) {
                    self.unlink(key);
                    self.link(key, Place::Unstamped);
                }
            }
            Class::Interactive | Class::Bulk | Class::Background => {
                self.control.earn(cost);
                if let Some(recent) = &mut self.realtime {
                    recent.earn(cost.unsigned_abs());
                }
                self.weighted.charge(class, cost);
            }
        }
    }

    /// Gives up the room for keys from `len` on, all idle.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.links.truncate(len);
        self.nodes.truncate(len);
        self.nodes.shrink_to(len);
        self.edf.shrink();
    }

    pub(crate) fn memory(&self) -> usize {
        self.links.memory()
            + self.nodes.capacity() * size_of::<Node>()
            + self.edf.memory()
            + self.realtime.as_ref().map_or(0, |_| size_of::<Recent>())
    }

    fn waits(&self, class: Class) -> bool {
        self.lanes.get(class).ready > 0
    }

    fn lower_waits(&self) -> bool {
        self.waits(Class::Interactive) || self.waits(Class::Bulk) || self.waits(Class::Background)
    }

    /// The next flow of a class served in turn; the class has one that is ready.
    fn select_in(&mut self, class: Class) -> Option<Key> {
        loop {
            let lane = self.lanes.get(class);
            if let Some(key) = lane.ahead.front() {
                return Some(key);
            }
            let (old, new) = (lane.round.old, lane.round.new.front());
            let key = new.or_else(|| old.front())?;
            let node = self.nodes.get_mut(key as usize)?;
            if node.ready && node.deficit > 0 {
                return Some(key);
            }
            if node.ready {
                node.deficit += QUANTUM as i32;
                // Who is alone takes turns with nobody.
                if new.is_some() || !old.is_single() {
                    self.relink(key, Place::Old);
                }
            } else if new.is_some() && !old.is_empty() {
                self.relink(key, Place::Old);
            } else {
                self.unlink(key);
            }
        }
    }

    fn mark(&mut self, key: Key, ready: bool) {
        let Some(node) = self.nodes.get_mut(key as usize) else {
            return;
        };
        let lane = self.lanes.get_mut(node.class);
        match (node.ready, ready) {
            (false, true) => lane.ready += 1,
            (true, false) => lane.ready -= 1,
            _ => {}
        }
        node.ready = ready;
    }

    fn stamp(&mut self, key: Key, deadline: Instant) {
        let stamp = self.edf.insert(deadline, key);
        if let Some(node) = self.nodes.get_mut(key as usize) {
            node.place = Place::Deadline(stamp);
        }
    }

    fn relink(&mut self, key: Key, place: Place) {
        self.unlink(key);
        self.link(key, place);
    }

    /// Lists a flow that is in no list. Realtime flows have no turns but deadlines.
    fn link(&mut self, key: Key, place: Place) {
        let Some(node) = self.nodes.get_mut(key as usize) else {
            return;
        };
        let place = match place {
            Place::New | Place::Old if node.class == Class::Realtime => Place::Unstamped,
            place => place,
        };
        if place == Place::New {
            node.deficit = QUANTUM as i32;
        }
        node.place = place;
        let class = node.class;
        if let Some((list, links)) = self.list(class, place) {
            links.push_back(list, key);
        }
    }

    fn unlink(&mut self, key: Key) {
        let Some(node) = self.nodes.get_mut(key as usize) else {
            return;
        };
        let place = std::mem::replace(&mut node.place, Place::None);
        let class = node.class;
        if let Place::Deadline(stamp) = place {
            self.edf.remove(stamp);
        } else if let Some((list, links)) = self.list(class, place) {
            links.remove(list, key);
        }
    }

    fn list(&mut self, class: Class, place: Place) -> Option<(&mut List, &mut Links)> {
        let lane = self.lanes.get_mut(class);
        let list = match place {
            Place::None | Place::Deadline(_) => return None,
            Place::New => &mut lane.round.new,
            Place::Old => &mut lane.round.old,
            Place::Ahead => &mut lane.ahead,
            Place::Parked => &mut self.parked,
            Place::Unstamped => &mut self.unstamped,
        };
        Some((list, &mut self.links))
    }
}

#[cfg(test)]
mod tests;
