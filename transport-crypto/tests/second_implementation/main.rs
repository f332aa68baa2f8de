//! The handshake and the keys against a second implementation (`witness/`), in both roles: same bytes, same transcript,
//! same keys.
//!
//! Where the two libraries of Noise differ, and what follows:
//!
//! * `clatter` takes an all-zero Diffie-Hellman result; we refuse it (`low_order_points_part_the_two`).
//! * After a message that does not open, `clatter`'s state is dead; ours is as before and may read the true message
//!   (`a_damaged_answer_parts_the_two`).
//! * `clatter` takes pre-shared keys in the order they are used, snow by their place; both may arrive late.

mod first;
mod handshake;
mod resumption;
mod vectors;
mod witness;
