//! What the ends tell one another of their paths (draft-ietf-quic-multipath §4.2-5): PATH_ABANDON, PATH_STATUS_BACKUP,
//! PATH_STATUS_AVAILABLE, MAX_PATH_ID, PATHS_BLOCKED, PATH_CIDS_BLOCKED.

use super::{Frame, FrameFault, kind, path_id};
use crate::wire::cursor::Reader;

/// The sender uses this path no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathAbandon {
    /// The path.
    pub path: u32,
    /// Why: one of [`abandon`].
    pub code: u64,
}

/// How the sender would like this path to be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathStatus {
    /// The path.
    pub path: u32,
    /// Statuses of a sender are numbered upwards; of one path the highest number counts.
    pub sequence: u64,
    /// For data; otherwise only while no available path works.
    pub available: bool,
}

/// Codes of PATH_ABANDON.
pub mod abandon {
    /// Its application wants it so.
    pub const APPLICATION: u64 = 0x3e;
    /// Too many paths.
    pub const RESOURCE_LIMIT: u64 = 0x3e75;
    /// It is silent, or bad.
    pub const UNSTABLE: u64 = 0x3e76;
}

pub(super) fn decode(frame_type: u64, input: &mut Reader<'_>) -> Result<Frame<'static>, FrameFault> {
    Ok(match frame_type {
        kind::PATH_ABANDON => Frame::PathAbandon(PathAbandon {
            path: path_id(input)?,
            code: input.varint()?,
        }),
        kind::PATH_STATUS_BACKUP | kind::PATH_STATUS_AVAILABLE => Frame::PathStatus(PathStatus {
            path: path_id(input)?,
            sequence: input.varint()?,
            available: frame_type == kind::PATH_STATUS_AVAILABLE,
        }),
        kind::MAX_PATH_ID => Frame::MaxPathId { max: path_id(input)? },
        kind::PATHS_BLOCKED => Frame::PathsBlocked { at: path_id(input)? },
        kind::PATH_CIDS_BLOCKED => Frame::PathCidsBlocked {
            path: path_id(input)?,
            sequence: input.varint()?,
        },
        _ => return Err(FrameFault::UnknownType),
    })
}
