//! Judges of a run: was everything delivered, was a perfect network quiet, was memory bounded, do
//! bytes look like noise.

pub mod delivery;
pub mod memory;
pub mod quiet;
pub mod uniform;
