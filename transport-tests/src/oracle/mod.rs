//! Judges of a run: was everything delivered, was a perfect network quiet, was memory bounded.

pub mod delivery;
pub mod memory;
pub mod quiet;
