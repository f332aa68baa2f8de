//! What came before: nonces of envelopes and hashes of hellos, for as long as a copy could still be accepted.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

/// How long a generation takes entries: the span of acceptable clocks, and a minute.
pub(super) const GENERATION_MS: u64 = 21 * 60_000;

/// A set that forgets in two steps, by time or when full. An ordered set, since what goes in may be chosen by an attacker.
#[derive(Debug)]
pub(super) struct Register<K> {
    young: BTreeSet<K>,
    old: BTreeSet<K>,
    capacity: usize,
    young_since_ms: u64,
    /// Everything since then is still known; `None` while nothing has been forgotten before its time.
    complete_since_ms: Option<u64>,
}

impl<K: Ord> Register<K> {
    /// Bytes of an entry when they come in an order that leaves the nodes of the set half empty: eleven places each, seven of
    /// them used, and the links.
    const WORST: usize = size_of::<K>() * 7 / 4 + 6;

    /// How many entries a generation may have for both to stay within `bytes`.
    pub(super) const fn capacity_within(bytes: usize) -> usize {
        bytes / 2 / Self::WORST
    }

    /// Two generations of at most `capacity` entries: [`Register::WORST`] bytes for each of them.
    pub(super) fn new(capacity: usize, now_ms: u64) -> Self {
        Self {
            young: BTreeSet::new(),
            old: BTreeSet::new(),
            capacity,
            young_since_ms: now_ms,
            complete_since_ms: None,
        }
    }

    /// Notes `key`. False: it came before.
    pub(super) fn insert(&mut self, key: K, now_ms: u64) -> bool {
        self.age(now_ms);
        if self.old.contains(&key) {
            return false;
        }
        self.young.insert(key)
    }

    /// Whether `key` is known; nothing is noted.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.young.contains(key) || self.old.contains(key)
    }

    /// How full the young generation is, per cent.
    pub(super) fn filled(&self) -> u32 {
        (self.young.len() * 100 / self.capacity.max(1)) as u32
    }

    fn age(&mut self, now_ms: u64) {
        let age = now_ms.saturating_sub(self.young_since_ms);
        let full = self.young.len() >= self.capacity;
        if age < GENERATION_MS && !full {
            return;
        }
        if full && age < GENERATION_MS {
            // The old generation goes before its time.
            self.complete_since_ms = Some(self.young_since_ms);
        }
        self.old = std::mem::take(&mut self.young);
        if age >= 2 * GENERATION_MS {
            self.old.clear();
        }
        self.young_since_ms = now_ms;
    }

    /// How far a sender's clock may be off, in minutes, so that no copy of a forgotten entry is taken; at most `most`, and
    /// at least one, for minutes change while datagrams travel.
    pub(super) fn tolerance(&self, now_ms: u64, most: u64) -> u64 {
        let Some(since) = self.complete_since_ms else {
            return most;
        };
        let minutes = now_ms.saturating_sub(since) / 60_000;
        (minutes.saturating_sub(1) / 2).clamp(1, most)
    }

    /// Allocated bytes, roughly.
    pub(super) fn memory(&self) -> usize {
        (self.young.len() + self.old.len()) * Self::WORST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn entries_live_for_twenty_one_minutes_at_least() {
        let mut register = Register::new(1000, 0);
        assert!(register.insert(7u64, 20 * MINUTE));
        assert!(register.insert(8, 22 * MINUTE));
        assert!(
            !register.insert(7, 41 * MINUTE),
            "one generation later it is still known"
        );
        assert_eq!(register.tolerance(41 * MINUTE, 10), 10);
        assert!(register.insert(9, 44 * MINUTE));
        assert!(
            register.insert(7, 44 * MINUTE),
            "two generations later it is forgotten"
        );
        assert!(!register.insert(8, 44 * MINUTE) && !register.insert(9, 44 * MINUTE));
    }

    #[test]
    fn a_flood_narrows_the_window_instead_of_opening_it() {
        let mut register = Register::new(100, 0);
        (0..150u64).for_each(|key| assert!(register.insert(key, MINUTE)));
        assert_eq!(register.tolerance(MINUTE, 10), 1);
        assert!(!register.insert(3, MINUTE));
        assert_eq!(register.tolerance(8 * MINUTE, 10), 3);
        assert_eq!(register.tolerance(90 * MINUTE, 10), 10);
        (150..1000u64).for_each(|key| assert!(register.insert(key, 9 * MINUTE)));
        assert!(register.young.len() + register.old.len() <= 200);
    }
}
