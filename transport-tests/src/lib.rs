//! The harness: a deterministic simulator, oracles, and the scanner behind the guards of the house.

#[doc(hidden)]
pub mod house;
pub mod oracle;
pub mod pair;
pub mod sim;
