//! Wire formats: how integers, headers, parameters and frames look as bytes.
//!
//! Nothing here knows keys, streams or clocks. Every reader is total: any input gives a value or an error,
//! never a panic, and nothing is allocated for what a peer sends.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

pub mod cursor;
pub mod frame;
pub mod header;
pub mod params;
pub mod varint;

pub use cursor::{Reader, Truncated, WriteError, Writer};
pub use frame::{Frame, FrameError, FrameFault, Frames};
pub use header::{CID_LEN, ConnectionId, Header, MAX_HEADER_LEN, TAG_LEN};
pub use params::{ParamError, TransportParameters};
