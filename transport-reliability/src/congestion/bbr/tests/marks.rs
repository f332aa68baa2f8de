//! A router that marks instead of dropping (§5.5.10): the queue stays short, and nothing is lost.

use std::time::Duration;

use super::link::{MS, SECOND};
use super::world::World;
use crate::EcnState;

const RATE: u64 = 1_250_000;

/// 10 Mbit/s, 40 ms, a queue of four BDP. Largest RTT in Startup and after it, and the share of the link.
fn run(marks_above: Option<u64>) -> (World, Duration, Duration, f64) {
    let mut world = World::new(RATE, 40 * MS, 1200, 4.0);
    world.link.marks_above = marks_above;
    world.run_for(3 * SECOND);
    let startup = world.rtts.iter().max().copied().unwrap();
    world.rtts.clear();
    let before = world.received;
    world.run_for(12 * SECOND);
    let later = world.rtts.iter().max().copied().unwrap();
    let share = (world.received - before) as f64 / (12 * RATE) as f64;
    (world, startup, later, share)
}

#[test]
fn marks_keep_the_queue_short_without_a_loss() {
    // Marked above a quarter of a BDP: 10 ms.
    let (marked, startup, later, share) = run(Some(RATE / 100));
    let (_, unmarked_startup, unmarked_later, _) = run(None);
    let stats = marked.recovery.stats();
    assert_eq!(
        (stats.ecn, marked.dropped, stats.declared_lost),
        (EcnState::Capable, 0, 0)
    );
    assert!(stats.ce_reported > 0);
    assert!(
        startup <= unmarked_startup,
        "{startup:?}, unmarked {unmarked_startup:?}"
    );
    assert!(later < unmarked_later, "{later:?}, unmarked {unmarked_later:?}");
    assert!(later < 65 * MS, "{later:?}");
    assert!(share > 0.85, "{share}");
}
