//! What a flood does to the memory of what came before.

use std::time::Instant;

use super::*;

const MINUTE: u64 = 60_000;

#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary origin; nothing depends on it"
)]
fn at(minute: u64) -> Now {
    Now {
        instant: Instant::now(),
        unix_ms: minute * MINUTE,
    }
}

/// How far from `minute` a sender's clock may be.
fn accepted(door: &mut Freshness, minute: u64) -> u64 {
    let off = |by: u64| [minute - by, minute + by];
    (0..20)
        .take_while(|by| off(*by).map(|minutes| door.check_time(at(minute), minutes)) == [Ok(()), Ok(())])
        .count() as u64
        - 1
}

#[test]
fn a_flood_of_nonces_is_bounded_and_narrows_the_accepted_minutes() {
    let mut door = Freshness::new();
    let _ = door.check_time(at(1000), 1000);
    assert_eq!(accepted(&mut door, 1100), 10);
    let capacity = Register::<u64>::capacity_within(NONCE_BYTES) as u64;
    assert!(door.nonces.insert(u64::MAX, 1099 * MINUTE));
    for nonce in 0..3 * capacity {
        assert!(door.nonces.insert(nonce, 1100 * MINUTE));
        assert!(door.nonces.memory() <= NONCE_BYTES);
    }
    assert!(
        door.nonces.insert(u64::MAX, 1100 * MINUTE),
        "the flood washed it away"
    );
    assert!(!door.nonces.insert(3 * capacity - 1, 1100 * MINUTE));
    // What is older than the register is not taken, and the window opens again as the register covers more.
    assert_eq!(accepted(&mut door, 1100), 1);
    assert_eq!(accepted(&mut door, 1107), 3);
    assert_eq!(accepted(&mut door, 1113), 6);
    assert_eq!(accepted(&mut door, 1121), 10);
    assert!(accepted(&mut door, 1130) == 10);
}

#[test]
fn a_flood_of_hellos_is_bounded_and_narrows_too() {
    let mut door = Freshness::new();
    let _ = door.check_time(at(1000), 1000);
    let capacity = Register::<HelloHash>::capacity_within(HELLO_BYTES) as u128;
    for hello in 0..3 * capacity {
        door.hellos.insert(hello.to_be_bytes(), 1100 * MINUTE);
    }
    assert!(door.hellos.memory() <= HELLO_BYTES);
    assert_eq!(accepted(&mut door, 1105), 2);
}
