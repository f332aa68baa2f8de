//! The harness of the transport: what proves the other crates, and is used by none of them.
//!
//! * [`house`] – the guards: who may import whom, how long a file may grow.

pub mod house;
