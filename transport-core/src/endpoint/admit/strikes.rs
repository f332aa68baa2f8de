//! Serial numbers of tickets whose early data was taken: each is taken once (RFC 8446 §8).
//!
//! Two Bloom filters take turns, so that a number is known for at least as long as its ticket could be shown again. There are no
//! false negatives: a filter that is fuller than planned only refuses more.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use transport_crypto::sha256;

/// How long a filter takes numbers: as wide as the window of ages that are accepted.
pub(super) const GENERATION: Duration = Duration::from_secs(20);
/// Bits of a filter: for half a million numbers with one false positive in ten thousand.
const BITS: u64 = 500_000 * 19_171 / 1000;
/// Bits a number sets.
const HASHES: u64 = 13;

/// The register; without memory until the first number.
#[derive(Default)]
pub(super) struct Strikes {
    young: Vec<u64>,
    old: Vec<u64>,
    young_since: Option<Instant>,
}

impl Strikes {
    /// Notes a number. False: it may have come before.
    pub(super) fn strike(&mut self, serial: u64, now: Instant) -> bool {
        self.age(now);
        if self.young.is_empty() {
            let words = BITS.div_ceil(64) as usize;
            (self.young, self.old) = (vec![0; words], vec![0; words]);
        }
        let bits = bits(serial);
        let set = |filter: &[u64], bit: u64| {
            filter
                .get((bit / 64) as usize)
                .is_some_and(|word| word >> (bit % 64) & 1 == 1)
        };
        let known = |filter: &[u64]| bits.iter().all(|bit| set(filter, *bit));
        if known(&self.young) || known(&self.old) {
            return false;
        }
        for bit in bits {
            if let Some(word) = self.young.get_mut((bit / 64) as usize) {
                *word |= 1 << (bit % 64);
            }
        }
        true
    }

    fn age(&mut self, now: Instant) {
        let since = *self.young_since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age < GENERATION {
            return;
        }
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.fill(0);
        if age >= GENERATION * 2 {
            self.old.fill(0);
        }
        self.young_since = Some(now);
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        (self.young.capacity() + self.old.capacity()) * 8
    }
}

/// Where a number's bits are: two hashes make them all (Kirsch and Mitzenmacher).
fn bits(serial: u64) -> [u64; HASHES as usize] {
    let hash = sha256(&[b"adit1 strike", &serial.to_be_bytes()]);
    let (first, rest) = hash.split_first_chunk().unwrap_or((&[0; 8], &[]));
    let second = rest.first_chunk().unwrap_or(&[0; 8]);
    let (first, second) = (u64::from_be_bytes(*first), u64::from_be_bytes(*second) | 1);
    std::array::from_fn(|at| first.wrapping_add(second.wrapping_mul(at as u64)) % BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn a_number_strikes_once_for_as_long_as_it_matters() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut strikes = Strikes::default();
        assert_eq!(strikes.memory(), 0);
        assert!(strikes.strike(7, after(0)));
        assert!(strikes.strike(8, after(19_900)));
        for ms in [0, 19_999, 20_000, 39_900] {
            assert!(!strikes.strike(8, after(19_900 + ms)), "{ms}");
        }
        assert!(
            strikes.strike(7, after(90_000)),
            "two generations later it is forgotten"
        );
        assert!(strikes.memory() < 2_500_000, "{}", strikes.memory());
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn false_positives_are_as_rare_as_planned_and_grow_gently() {
        let now = Instant::now();
        let mut strikes = Strikes::default();
        let refused = (0..500_000u64)
            .filter(|serial| !strikes.strike(*serial, now))
            .count();
        assert!(refused < 50, "{refused} while it filled");
        let wrong = (1 << 32..(1 << 32) + 20_000u64)
            .filter(|serial| {
                bits(*serial)
                    .iter()
                    .all(|bit| strikes.young[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
            })
            .count();
        assert!(wrong <= 8, "{wrong} of 20,000");
        assert!(
            (0..1000).all(|serial| !strikes.strike(serial, now)),
            "none is forgotten"
        );
    }
}
