//! The harness: a deterministic simulator, oracles, and the guards of the house. It proves the other crates and is
//! used by none of them.
#![allow(
    missing_docs,
    reason = "nobody's library: names and the modules' introductions carry it"
)]

pub mod house;
