//! Which context ids a peer has ever used: none may come twice, and ids are usually allocated in turn.

/// Runs of ids that are remembered. A peer that leaves more gaps is not served.
pub(super) const MAX_RUNS: usize = 64;

/// More gaps than are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooScattered;

/// Sorted, disjoint, never adjacent runs of ordinals (an end's ids, halved), both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Used {
    runs: Vec<(u64, u64)>,
}

impl Used {
    pub(super) fn contains(&self, context: u64) -> bool {
        let ordinal = context >> 1;
        let at = self.runs.partition_point(|&(_, last)| last < ordinal);
        self.runs.get(at).is_some_and(|&(first, _)| first <= ordinal)
    }

    /// Whether `context` is new; it is used from now on.
    pub(super) fn insert(&mut self, context: u64) -> Result<bool, TooScattered> {
        if self.contains(context) {
            return Ok(false);
        }
        let ordinal = context >> 1;
        // The run behind the new id, and whether it or the one before borders on it.
        let at = self.runs.partition_point(|&(_, last)| last < ordinal);
        let joins_next = self.runs.get(at).is_some_and(|run| run.0 == ordinal + 1);
        let before = at
            .checked_sub(1)
            .filter(|&i| self.runs.get(i).is_some_and(|run| run.1 + 1 == ordinal));
        let first = before.and_then(|i| self.runs.get(i)).map_or(ordinal, |run| run.0);
        match (before, joins_next) {
            (Some(i), true) => {
                self.runs.remove(i);
                self.set(i, |run| run.0 = first);
            }
            (Some(i), false) => self.set(i, |run| run.1 = ordinal),
            (None, true) => self.set(at, |run| run.0 = ordinal),
            (None, false) if self.runs.len() == MAX_RUNS => return Err(TooScattered),
            (None, false) => self.runs.insert(at, (ordinal, ordinal)),
        }
        Ok(true)
    }

    fn set(&mut self, at: usize, change: impl FnOnce(&mut (u64, u64))) {
        if let Some(run) = self.runs.get_mut(at) {
            change(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_a_set_of_few_runs() {
        arbtest::arbtest(|u| {
            let mut used = Used::default();
            let mut model = BTreeSet::new();
            for _ in 0..u.int_in_range(0..=60)? {
                let id = u.int_in_range(0..=40)? * 2;
                assert_eq!(used.insert(id), Ok(model.insert(id)));
                for id in 0..=41 {
                    assert_eq!(used.contains(id * 2), model.contains(&(id * 2)), "{id}");
                }
                let ordered = used
                    .runs
                    .windows(2)
                    .all(|w| w[0].1 + 1 < w[1].0 && w[0].0 <= w[0].1);
                assert!(ordered, "{:?}", used.runs);
            }
            Ok(())
        });
    }

    #[test]
    fn gaps_are_bounded_and_may_be_filled() {
        let mut used = Used::default();
        for i in 0..MAX_RUNS as u64 {
            assert_eq!(used.insert(2 + 4 * i), Ok(true));
        }
        let next = 2 + 4 * MAX_RUNS as u64;
        assert_eq!(used.insert(next), Err(TooScattered));
        assert_eq!(used.insert(4), Ok(true), "closes a gap");
        assert_eq!(used.insert(next), Ok(true));
        assert_eq!(used.insert(crate::http::varint::MAX), Err(TooScattered));
    }
}
