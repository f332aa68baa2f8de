//! transport-core

pub mod buffer;
pub mod timer;
pub mod wire;

pub use buffer::{Batch, RecvBatch, Route};
