//! transport-core

pub mod buffer;
#[cfg(feature = "net")]
pub mod net;
pub mod packet;
pub mod timer;
pub mod wire;

pub use buffer::{Batch, RecvBatch, Route};
