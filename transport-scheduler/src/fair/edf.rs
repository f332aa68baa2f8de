//! Earliest deadline first.

use std::collections::VecDeque;
use std::time::Instant;

use crate::list::Key;

/// Orders entries: by deadline, then by arrival.
pub(crate) type Stamp = (Instant, u64);

/// Flows by deadline. Deadlines arrive nearly in order, so a sorted ring appends where a heap would sift; and unlike a heap it
/// lets go of any entry at once.
#[derive(Debug, Default)]
pub(crate) struct Edf {
    entries: VecDeque<(Stamp, Key)>,
    arrivals: u64,
}

impl Edf {
    /// Adds `key`; the stamp returned removes it again.
    pub(crate) fn insert(&mut self, deadline: Instant, key: Key) -> Stamp {
        self.arrivals += 1;
        let stamp = (deadline, self.arrivals);
        let at = match self.entries.back() {
            Some((last, _)) if *last > stamp => self.entries.partition_point(|(s, _)| *s < stamp),
            _ => self.entries.len(),
        };
        self.entries.insert(at, (stamp, key));
        stamp
    }

    pub(crate) fn remove(&mut self, stamp: Stamp) {
        if let Ok(at) = self.entries.binary_search_by_key(&stamp, |(s, _)| *s) {
            self.entries.remove(at);
        }
    }

    pub(crate) fn first(&self) -> Option<Key> {
        self.entries.front().map(|(_, key)| *key)
    }

    pub(crate) fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<(Stamp, Key)>()
    }

    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to(64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_deadline_is_first_whatever_the_order_of_arrival() {
        let start = crate::tests::start();
        let mut edf = Edf::default();
        let mut stamps = Vec::new();
        for (key, ms) in [(0u32, 50u64), (1, 10), (2, 90), (3, 10), (4, 30)] {
            stamps.push((key, edf.insert(start + Duration::from_millis(ms), key)));
        }
        edf.remove(stamps[4].1);
        let mut order = Vec::new();
        while let Some(key) = edf.first() {
            edf.remove(stamps[key as usize].1);
            order.push(key);
        }
        assert_eq!(order, [1, 3, 0, 2]);
    }
}
