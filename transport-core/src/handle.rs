//! The name of a connection.
#![forbid(unsafe_code)]

/// Names a connection at its endpoint, also after it is gone: a handle is not given out twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Handle {
    /// Names no connection: for tests of whoever keeps handles.
    pub const NOBODY: Self = Self {
        slot: u32::MAX,
        generation: 0,
    };
}
