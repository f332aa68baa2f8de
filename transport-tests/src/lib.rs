//! The harness: a deterministic simulator, oracles, and the guards of the house.

pub mod oracle;
pub mod sim;
