//! Sets of byte offsets.

use std::collections::VecDeque;
use std::ops::Range;

type Ranges = VecDeque<Range<u64>>;

/// Disjoint, non-touching, non-empty ranges in rising order. Made for sets that change at their ends; most never have any, and
/// those that had keep their room until they are cleared.
#[derive(Clone, Debug, Default)]
pub(crate) struct RangeSet {
    ranges: Option<Box<Ranges>>,
}

impl RangeSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of disjoint ranges.
    pub(crate) fn len(&self) -> usize {
        self.ranges.as_ref().map_or(0, |ranges| ranges.len())
    }

    pub(crate) fn first(&self) -> Option<Range<u64>> {
        self.ranges.as_ref()?.front().cloned()
    }

    pub(crate) fn pop_first(&mut self) -> Option<Range<u64>> {
        self.ranges.as_mut()?.pop_front()
    }

    /// Whether inserting `range` would make one range more, because it touches none.
    pub(crate) fn adds(&self, range: &Range<u64>) -> bool {
        self.ranges.as_ref().is_none_or(|ranges| {
            let at = first_reaching(ranges, range.start);
            ranges.get(at).is_none_or(|next| next.start > range.end)
        })
    }

    /// Adds all offsets of `range`.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let ranges = self.ranges.get_or_insert_default();
        let at = first_reaching(ranges, range.start);
        let mut after = at;
        let mut end = range.end;
        while let Some(next) = ranges.get(after).filter(|next| next.start <= range.end) {
            end = end.max(next.end);
            after += 1;
        }
        match ranges.get_mut(at).filter(|_| after > at) {
            Some(merged) => {
                merged.start = merged.start.min(range.start);
                merged.end = end;
                ranges.drain(at + 1..after);
            }
            None => ranges.insert(at, range),
        }
    }

    /// Takes all offsets of `range` away.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        let Some(ranges) = self.ranges.as_mut().filter(|_| !range.is_empty()) else {
            return;
        };
        let mut at = ranges.partition_point(|r| r.end <= range.start);
        if let Some(cut) = ranges.get_mut(at).filter(|r| r.start < range.start) {
            let tail = range.end..cut.end;
            cut.end = range.start;
            at += 1;
            if !tail.is_empty() {
                ranges.insert(at, tail);
                return;
            }
        }
        let mut after = at;
        while ranges.get(after).is_some_and(|r| r.end <= range.end) {
            after += 1;
        }
        ranges.drain(at..after);
        if let Some(cut) = ranges.get_mut(at) {
            cut.start = cut.start.max(range.end);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.ranges = None;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.ranges.iter().flat_map(|ranges| ranges.iter())
    }

    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        let bytes = |ranges: &Ranges| size_of::<Ranges>() + ranges.capacity() * size_of::<Range<u64>>();
        self.ranges.as_ref().map_or(0, |ranges| bytes(ranges))
    }
}

/// Index of the first range that ends at or behind `offset`; the search begins where changes are common: at the end.
fn first_reaching(ranges: &Ranges, offset: u64) -> usize {
    match ranges.back() {
        Some(last) if last.end >= offset => ranges.partition_point(|r| r.end < offset),
        _ => ranges.len(),
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
