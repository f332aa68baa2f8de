//! Whatever bytes come, no parser panics, and what it reads it can say again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use transport_tests::fuzzing::{Property, TARGETS};
use transport_tests::sim::rng::Rng;

/// Inputs made of pieces that look like something to a parser: small integers, lengths near the rest, runs.
fn plausible(rng: &mut Rng) -> Vec<u8> {
    let mut data = Vec::new();
    for _ in 0..rng.below(24) {
        match rng.below(5) {
            0 => data.push(rng.below(0x40) as u8),
            1 => data.extend_from_slice(&(0x4000 | rng.below(0x4000) as u16).to_be_bytes()),
            2 => data.extend_from_slice(&rng.u64().to_be_bytes()),
            3 => data.extend(std::iter::repeat_n(rng.u64() as u8, rng.below(40) as usize)),
            _ => data.extend((0..rng.below(20)).map(|_| b' ' + rng.below(95) as u8)),
        }
    }
    data
}

/// Properties that cost a handshake or a signature each time.
const SLOW: [&str; 8] = [
    "packets_up",
    "packets_down",
    "programs",
    "bundle",
    "bundle_damaged",
    "bundle_drafts",
    "client_hello",
    "server_hello",
];

fn properties() -> impl Iterator<Item = &'static (&'static str, Property)> {
    TARGETS.iter().flat_map(|target| target.properties)
}

fn times(name: &str, slow: u64, fast: u64) -> u64 {
    if SLOW.contains(&name) { slow } else { fast }
}

#[test]
fn properties_hold_for_arbitrary_bytes() {
    for (name, property) in properties() {
        for round in 1..=times(name, 40, 1500) {
            // The lower half of arbtest's seed is the size, the upper half the randomness.
            let size = round * 7 % if round % 5 == 0 { 2600 } else { 160 };
            let property = |u: &mut arbitrary::Unstructured<'_>| {
                property(u.bytes(u.len())?);
                Ok(())
            };
            let run = || arbtest::arbtest(property).seed(round << 32 | size).run();
            assert!(
                catch_unwind(AssertUnwindSafe(run)).is_ok(),
                "{name} with round {round}"
            );
        }
    }
}

#[test]
fn properties_hold_for_bytes_that_look_like_something() {
    for (name, property) in properties() {
        for seed in 0..times(name, 60, 3000) {
            let data = plausible(&mut Rng::new(seed, name));
            let result = catch_unwind(AssertUnwindSafe(|| property(&data)));
            assert!(result.is_ok(), "{name} with seed {seed}: {data:02x?}");
        }
    }
}
