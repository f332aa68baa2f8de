//! A map of few entries, most often one or two: a sorted row, where a tree would take room for eleven.

/// Entries by key, ascending. Finding one takes logarithmic time; room grows and is given back with the entries.
#[derive(Debug)]
pub(crate) struct Few<K, V>(Vec<(K, V)>);

/// Up to here room is made for one entry after the other.
const EXACT: usize = 4;

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord + Copy, V> Few<K, V> {
    fn find(&self, key: K) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, |(key, _)| *key)
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        let at = self.find(key).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// An entry that has this key is replaced.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.remove(key);
        if self.0.len() < EXACT {
            self.0.reserve_exact(1);
        }
        let at = self.0.partition_point(|(other, _)| *other < key);
        self.0.insert(at, (key, value));
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let (_, value) = self.0.remove(self.find(key).ok()?);
        if self.0.len() < self.0.capacity() / 4 || self.0.is_empty() {
            self.0.shrink_to(self.0.len() * 2);
        }
        Some(value)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = K> {
        self.0.iter().map(|(key, _)| *key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = V> {
        self.0.into_iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_does_what_a_tree_does() {
        arbtest::arbtest(|u| {
            let (mut few, mut tree) = (Few::default(), BTreeMap::new());
            for _ in 0..u.int_in_range(0..=200)? {
                let (key, value): (u8, u32) = (u.int_in_range(0..=40)?, u.arbitrary()?);
                if u.arbitrary()? {
                    few.insert(key, value);
                    tree.insert(key, value);
                } else {
                    assert_eq!(few.remove(key), tree.remove(&key));
                }
                assert_eq!(few.get(key), tree.get(&key));
                assert_eq!(few.get_mut(key), tree.get_mut(&key));
                assert!(few.keys().eq(tree.keys().copied()) && few.values().eq(tree.values()));
                assert!(few.0.capacity() <= 4 * few.0.len().max(EXACT) + 3);
            }
            assert!(few.into_values().eq(tree.into_values()));
            Ok(())
        });
    }

    #[test]
    fn one_entry_takes_room_for_one_and_none_takes_none() {
        let mut few = Few::default();
        few.insert(7u64, 1u64);
        assert_eq!(few.0.capacity(), 1);
        few.remove(7);
        assert_eq!(few.0.capacity(), 0);
    }
}
