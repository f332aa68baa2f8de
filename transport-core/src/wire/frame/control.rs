//! CONTROL_DATA: a message larger than a packet, in pieces.
//!
//! `kind (8) ‖ message (i) ‖ total (i) ‖ offset (i) ‖ length (i) ‖ bytes`
//!
//! Messages of one kind are numbered from zero. Without that, a late copy of a piece would belong to the message after.

use super::{FrameFault, kind};
use crate::wire::cursor::{Reader, WriteError, Writer};
use crate::wire::varint;

/// The longest message, in bytes: what a receiver must be able to reassemble.
pub const MAX_CONTROL_DATA: u64 = 8192;

/// What the message is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum ControlKind {
    /// A newer signed relay bundle.
    Bundle = 1,
    /// An answer to a bind request.
    Bind = 2,
    /// A message of the in-band rekey.
    Rekey = 3,
}

/// One piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlData<'a> {
    /// What the message is.
    pub kind: ControlKind,
    /// Messages of this kind before this one.
    pub message: u64,
    /// Bytes of the whole message, 1 to [`MAX_CONTROL_DATA`].
    pub total: u64,
    /// Where in the message this piece begins.
    pub offset: u64,
    /// The piece, not empty, ending within `total`.
    pub data: &'a [u8],
}

impl<'a> ControlData<'a> {
    fn check(self) -> Result<Self, FrameFault> {
        let end = self.offset.checked_add(self.data.len() as u64);
        if self.total > MAX_CONTROL_DATA {
            return Err(FrameFault::Invalid("control message above 8192 bytes"));
        }
        if self.data.is_empty() || end.is_none_or(|end| end > self.total) {
            return Err(FrameFault::Invalid("piece outside its control message"));
        }
        Ok(self)
    }

    fn head_len(message: u64, total: u64, offset: u64) -> usize {
        let numbers = varint::len(message) + varint::len(total) + varint::len(offset);
        varint::len(kind::CONTROL_DATA) + 1 + numbers
    }

    /// The longest piece from `offset` that fits a frame of `room` bytes; `None` when not one byte does.
    pub fn fit(room: usize, message: u64, total: u64, offset: u64) -> Option<usize> {
        let length_field = if room < 64 { 1 } else { 2 };
        room.checked_sub(Self::head_len(message, total, offset) + length_field)
            .filter(|bytes| *bytes > 0)
    }

    pub(super) fn encoded_len(&self) -> usize {
        Self::head_len(self.message, self.total, self.offset)
            .saturating_add(varint::len(self.data.len() as u64))
            .saturating_add(self.data.len())
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), WriteError> {
        self.check().map_err(|_| WriteError::ValueTooLarge)?;
        out.varint(kind::CONTROL_DATA)?;
        out.u8(self.kind as u8)?;
        out.varint(self.message)?;
        out.varint(self.total)?;
        out.varint(self.offset)?;
        out.prefixed(self.data)
    }

    pub(super) fn decode(input: &mut Reader<'a>) -> Result<Self, FrameFault> {
        let kind = match input.u8()? {
            1 => ControlKind::Bundle,
            2 => ControlKind::Bind,
            3 => ControlKind::Rekey,
            _ => return Err(FrameFault::Invalid("unknown kind of control message")),
        };
        Self {
            kind,
            message: input.varint()?,
            total: input.varint()?,
            offset: input.varint()?,
            data: input.prefixed()?,
        }
        .check()
    }
}
