//! CLOSE, transport and application form (RFC 9000 §19.19).

use super::{FrameFault, kind};
use crate::wire::cursor::{Reader, WriteError, Writer};
use crate::wire::varint;

/// The end of a connection and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close<'a> {
    /// Code from the transport's table, or the application's own.
    pub code: u64,
    /// `Some` in the transport form: the frame type that caused it, 0 when none did. `None` in the application form.
    pub frame_type: Option<u64>,
    /// For people; not necessarily UTF-8.
    pub reason: &'a [u8],
}

impl<'a> Close<'a> {
    pub(super) const fn frame_type(&self) -> u64 {
        if self.frame_type.is_some() {
            kind::CLOSE_TRANSPORT
        } else {
            kind::CLOSE_APPLICATION
        }
    }

    /// The same with as much of the reason as fits a frame of `room` bytes.
    #[must_use]
    pub fn fitted(self, room: usize) -> Self {
        let empty = Self { reason: &[], ..self }.encoded_len();
        // The empty frame counts one byte of length; a longer reason may need one more.
        let keep = room
            .saturating_sub(empty.saturating_add(1))
            .min(self.reason.len());
        Self {
            reason: self.reason.get(..keep).unwrap_or_default(),
            ..self
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        (1 + varint::len(self.code) + self.frame_type.map_or(0, varint::len))
            .saturating_add(varint::len(self.reason.len() as u64))
            .saturating_add(self.reason.len())
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), WriteError> {
        if self.code > varint::MAX || self.frame_type.is_some_and(|value| value > varint::MAX) {
            return Err(WriteError::ValueTooLarge);
        }
        out.varint(self.frame_type())?;
        out.varint(self.code)?;
        if let Some(cause) = self.frame_type {
            out.varint(cause)?;
        }
        out.prefixed(self.reason)
    }

    pub(super) fn decode(frame_type: u64, input: &mut Reader<'a>) -> Result<Self, FrameFault> {
        let code = input.varint()?;
        let cause = if frame_type == kind::CLOSE_TRANSPORT {
            Some(input.varint()?)
        } else {
            None
        };
        Ok(Self {
            code,
            frame_type: cause,
            reason: input.prefixed()?,
        })
    }
}
