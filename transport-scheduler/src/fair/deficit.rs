//! Deficit round robin: among the weighted classes, and among the flows of one class.
//!
//! Both let a turn end with the packet that overdraws it and carry the debt over, because the size of a packet is known only
//! after it was taken.

use crate::Class;
use crate::id::PerClass;
use crate::list::List;

/// Bytes a flow may send a turn, and a class for each unit of its weight: a full packet.
pub(crate) const QUANTUM: i64 = 1400;

/// The turn of the weighted classes.
#[derive(Debug)]
pub(crate) struct Weighted {
    turn: Class,
    deficit: PerClass<i64>,
}

impl Default for Weighted {
    fn default() -> Self {
        Self {
            turn: Class::Interactive,
            deficit: PerClass::default(),
        }
    }
}

fn weight(class: Class) -> i64 {
    match class {
        Class::Control | Class::Realtime => 0,
        Class::Interactive => 8,
        Class::Bulk => 4,
        Class::Background => 1,
    }
}

fn following(class: Class) -> Class {
    match class {
        Class::Interactive => Class::Bulk,
        Class::Bulk => Class::Background,
        Class::Control | Class::Realtime | Class::Background => Class::Interactive,
    }
}

impl Weighted {
    /// The class whose turn it is, among those that wait.
    pub(crate) fn select(&mut self, waits: impl Fn(Class) -> bool) -> Option<Class> {
        if ![Class::Interactive, Class::Bulk, Class::Background]
            .into_iter()
            .any(&waits)
        {
            return None;
        }
        loop {
            let deficit = self.deficit.get_mut(self.turn);
            if !waits(self.turn) {
                *deficit = 0;
            } else if *deficit > 0 {
                return Some(self.turn);
            }
            self.turn = following(self.turn);
            if waits(self.turn) {
                *self.deficit.get_mut(self.turn) += weight(self.turn) * QUANTUM;
            }
        }
    }

    pub(crate) fn charge(&mut self, class: Class, cost: i64) {
        *self.deficit.get_mut(class) -= cost;
    }
}

/// The flows of one class in turn. A flow that was empty goes ahead of the others for one quantum; it stays listed when it
/// empties until its turn comes, so that it cannot win a new start by pausing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    pub(crate) new: List,
    pub(crate) old: List,
}
