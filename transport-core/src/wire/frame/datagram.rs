//! DATAGRAM (RFC 9221 §4).

use super::{Extent, kind};
use crate::wire::cursor::{WriteError, Writer};
use crate::wire::varint;

/// One unreliable message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// The message; may be empty.
    pub data: &'a [u8],
}

impl Datagram<'_> {
    pub(super) fn encoded_len(&self) -> usize {
        1usize
            .saturating_add(varint::len(self.data.len() as u64))
            .saturating_add(self.data.len())
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), WriteError> {
        out.varint(kind::DATAGRAM_LEN)?;
        out.prefixed(self.data)
    }
}

/// The longest message a DATAGRAM frame can hold in `room` bytes; `None` when not even an empty one fits.
pub const fn fit(room: usize) -> Option<usize> {
    room.checked_sub(1)
}

/// Writes a DATAGRAM frame up to where its message of `length` bytes follows, with the length if that fits; otherwise without, behind
/// PADDING that makes it end where the packet does.
///
/// # Errors
/// [`WriteError::NoRoom`] when the message is longer than [`fit`] said; then nothing was written.
pub fn begin(out: &mut Writer<'_>, length: usize) -> Result<Extent, WriteError> {
    let gap = out
        .room()
        .checked_sub(length.saturating_add(1))
        .ok_or(WriteError::NoRoom)?;
    let delimited = varint::len(length as u64) <= gap;
    if delimited {
        out.varint(kind::DATAGRAM_LEN)?;
        out.varint(length as u64)?;
    } else {
        out.zeros(gap)?;
        out.varint(kind::DATAGRAM)?;
    }
    Ok(if delimited {
        Extent::Delimited
    } else {
        Extent::ToEnd
    })
}
