//! Sets of byte offsets.

use std::collections::VecDeque;
use std::ops::Range;

/// Disjoint, non-touching, non-empty ranges in rising order. Made for sets that change at their ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct RangeSet {
    ranges: VecDeque<Range<u64>>,
}

impl RangeSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Number of disjoint ranges.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn first(&self) -> Option<Range<u64>> {
        self.ranges.front().cloned()
    }

    pub(crate) fn pop_first(&mut self) -> Option<Range<u64>> {
        self.ranges.pop_front()
    }

    /// Whether inserting `range` would make one range more, because it touches none.
    pub(crate) fn adds(&self, range: &Range<u64>) -> bool {
        let at = self.first_reaching(range.start);
        self.ranges.get(at).is_none_or(|next| next.start > range.end)
    }

    /// Adds all offsets of `range`.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let at = self.first_reaching(range.start);
        let mut after = at;
        let mut end = range.end;
        while let Some(next) = self.ranges.get(after).filter(|next| next.start <= range.end) {
            end = end.max(next.end);
            after += 1;
        }
        match self.ranges.get_mut(at).filter(|_| after > at) {
            Some(merged) => {
                merged.start = merged.start.min(range.start);
                merged.end = end;
                self.ranges.drain(at + 1..after);
            }
            None => self.ranges.insert(at, range),
        }
    }

    /// Takes all offsets of `range` away.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut at = self.ranges.partition_point(|r| r.end <= range.start);
        if let Some(cut) = self.ranges.get_mut(at).filter(|r| r.start < range.start) {
            let tail = range.end..cut.end;
            cut.end = range.start;
            at += 1;
            if !tail.is_empty() {
                self.ranges.insert(at, tail);
                return;
            }
        }
        let mut after = at;
        while self.ranges.get(after).is_some_and(|r| r.end <= range.end) {
            after += 1;
        }
        self.ranges.drain(at..after);
        if let Some(cut) = self.ranges.get_mut(at) {
            cut.start = cut.start.max(range.end);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.ranges = VecDeque::new();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.ranges.iter()
    }

    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.ranges.capacity() * size_of::<Range<u64>>()
    }

    /// Index of the first range that ends at or behind `offset`; the search begins where changes are common: at the end.
    fn first_reaching(&self, offset: u64) -> usize {
        match self.ranges.back() {
            Some(last) if last.end >= offset => self.ranges.partition_point(|r| r.end < offset),
            _ => self.ranges.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn agrees_with_a_set_of_single_offsets() {
        arbtest::arbtest(|u| {
            let mut ranges = RangeSet::default();
            let mut model = BTreeSet::new();
            while !u.is_empty() {
                let start = u64::from(u.arbitrary::<u8>()?);
                let end = start + u64::from(u.arbitrary::<u8>()? % 24);
                if u.ratio(2, 3)? {
                    let adds = ranges.adds(&(start..end));
                    let before = ranges.len();
                    ranges.insert(start..end);
                    model.extend(start..end);
                    assert!(start == end || adds == (ranges.len() == before + 1));
                } else {
                    ranges.remove(start..end);
                    model.retain(|x| !(start..end).contains(x));
                }
                let flat: Vec<u64> = ranges.iter().cloned().flatten().collect();
                assert_eq!(flat, model.iter().copied().collect::<Vec<_>>());
                let all: Vec<_> = ranges.iter().cloned().collect();
                assert!(
                    all.windows(2).all(|w| w[0].end < w[1].start),
                    "ranges touch: {all:?}"
                );
            }
            Ok(())
        })
        .budget_ms(600);
    }
}
