//! Connection ids of a path: PATH_NEW_CONNECTION_ID and PATH_RETIRE_CONNECTION_ID (draft-ietf-quic-multipath §4.6-7).

use super::{FrameFault, kind, path_id};
use crate::wire::cursor::{Reader, WriteError, Writer};
use crate::wire::header::{CID_LEN, ConnectionId};
use crate::wire::varint;

/// One more connection id the peer may use on a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathNewConnectionId {
    /// The path it is for.
    pub path: u32,
    /// Its number on that path.
    pub sequence: u64,
    /// Ids below this number are to be retired; at most `sequence`.
    pub retire_prior_to: u64,
    /// The id.
    pub cid: ConnectionId,
}

impl PathNewConnectionId {
    pub(super) fn encoded_len(&self) -> usize {
        varint::len(kind::PATH_NEW_CONNECTION_ID)
            + varint::len(u64::from(self.path))
            + varint::len(self.sequence)
            + varint::len(self.retire_prior_to)
            + CID_LEN
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), WriteError> {
        if self.sequence > varint::MAX || self.retire_prior_to > self.sequence {
            return Err(WriteError::ValueTooLarge);
        }
        out.varint(kind::PATH_NEW_CONNECTION_ID)?;
        out.varint(u64::from(self.path))?;
        out.varint(self.sequence)?;
        out.varint(self.retire_prior_to)?;
        out.bytes(&self.cid.0)
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, FrameFault> {
        let path = path_id(input)?;
        let sequence = input.varint()?;
        let retire_prior_to = input.varint()?;
        if retire_prior_to > sequence {
            return Err(FrameFault::Invalid("retires connection ids not yet issued"));
        }
        Ok(Self {
            path,
            sequence,
            retire_prior_to,
            cid: ConnectionId(input.array()?),
        })
    }
}

/// The sender will not use this connection id of the peer again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathRetireConnectionId {
    /// The path it was for.
    pub path: u32,
    /// Its number on that path.
    pub sequence: u64,
}

impl PathRetireConnectionId {
    pub(super) fn encoded_len(&self) -> usize {
        varint::len(kind::PATH_RETIRE_CONNECTION_ID)
            + varint::len(u64::from(self.path))
            + varint::len(self.sequence)
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), WriteError> {
        if self.sequence > varint::MAX {
            return Err(WriteError::ValueTooLarge);
        }
        out.varint(kind::PATH_RETIRE_CONNECTION_ID)?;
        out.varint(u64::from(self.path))?;
        out.varint(self.sequence)
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, FrameFault> {
        Ok(Self {
            path: path_id(input)?,
            sequence: input.varint()?,
        })
    }
}
