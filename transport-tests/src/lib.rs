//! The harness: a deterministic simulator, oracles, and the scanner behind the guards of the house.

pub mod fuzzing;
#[doc(hidden)]
pub mod house;
pub mod misbehave;
pub mod oracle;
pub mod pair;
pub mod program;
pub mod report;
pub mod sim;
pub mod soak;
