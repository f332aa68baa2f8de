//! STREAM (RFC 9000 §19.8).

use super::{FrameFault, kind};
use crate::wire::cursor::{Reader, WriteError, Writer};
use crate::wire::varint;

const FIN: u64 = 1;
const LEN: u64 = 2;
const OFF: u64 = 4;

/// How a frame ends: a length in it says so, or the packet's end does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// More frames may follow.
    Delimited,
    /// The packet is full; nothing may follow.
    ToEnd,
}

/// Bytes of one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream<'a> {
    /// Stream id.
    pub id: u64,
    /// Where in the stream `data` begins; `offset + data.len()` is at most 2^62 − 1.
    pub offset: u64,
    /// The bytes; may be empty.
    pub data: &'a [u8],
    /// Whether the stream ends after them.
    pub fin: bool,
}

impl<'a> Stream<'a> {
    pub(super) fn frame_type(&self) -> u64 {
        frame_type(self.offset, self.fin, true)
    }

    pub(super) fn encoded_len(&self) -> usize {
        head_len(self.id, self.offset)
            .saturating_add(varint::len(self.data.len() as u64))
            .saturating_add(self.data.len())
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), WriteError> {
        check(self.id, self.offset, self.data.len())?;
        out.varint(self.frame_type())?;
        encode_head(out, self.id, self.offset)?;
        out.prefixed(self.data)
    }

    pub(super) fn decode(frame_type: u64, input: &mut Reader<'a>) -> Result<Self, FrameFault> {
        let id = input.varint()?;
        let offset = if frame_type & OFF == 0 { 0 } else { input.varint()? };
        let data = if frame_type & LEN == 0 {
            input.take_rest()
        } else {
            input.prefixed()?
        };
        match offset.checked_add(data.len() as u64) {
            Some(end) if end <= varint::MAX => Ok(Self {
                id,
                offset,
                data,
                fin: frame_type & FIN != 0,
            }),
            _ => Err(FrameFault::Invalid("stream offset above 2^62 - 1")),
        }
    }
}

/// The most bytes of stream `id` from `offset` a STREAM frame can hold in `room` bytes; `None` when not even an empty
/// frame fits. This is what a scheduler may be granted.
pub fn fit(room: usize, id: u64, offset: u64) -> Option<usize> {
    room.checked_sub(head_len(id, offset))
}

/// Writes a STREAM frame up to where its `length` bytes follow. If it does not fit with a length it goes without one and its bytes
/// fill the packet to the end: missing ones are made up by PADDING before it, so that packets of a batch stay equally long.
///
/// # Errors
/// [`WriteError::NoRoom`] when there are more bytes than [`fit`] said; then nothing was written.
pub fn begin(
    out: &mut Writer<'_>,
    id: u64,
    offset: u64,
    fin: bool,
    length: usize,
) -> Result<Extent, WriteError> {
    check(id, offset, length)?;
    let open_ended = head_len(id, offset).saturating_add(length);
    let gap = out.room().checked_sub(open_ended).ok_or(WriteError::NoRoom)?;
    let delimited = varint::len(length as u64) <= gap;
    if !delimited {
        out.zeros(gap)?;
    }
    out.varint(frame_type(offset, fin, delimited))?;
    encode_head(out, id, offset)?;
    if delimited {
        out.varint(length as u64)?;
    }
    Ok(if delimited {
        Extent::Delimited
    } else {
        Extent::ToEnd
    })
}

fn frame_type(offset: u64, fin: bool, delimited: bool) -> u64 {
    kind::STREAM
        | if offset == 0 { 0 } else { OFF }
        | if delimited { LEN } else { 0 }
        | if fin { FIN } else { 0 }
}

fn head_len(id: u64, offset: u64) -> usize {
    1 + varint::len(id) + if offset == 0 { 0 } else { varint::len(offset) }
}

fn encode_head(out: &mut Writer<'_>, id: u64, offset: u64) -> Result<(), WriteError> {
    out.varint(id)?;
    if offset == 0 { Ok(()) } else { out.varint(offset) }
}

fn check(id: u64, offset: u64, length: usize) -> Result<(), WriteError> {
    match offset.checked_add(length as u64) {
        Some(end) if end <= varint::MAX && id <= varint::MAX => Ok(()),
        _ => Err(WriteError::ValueTooLarge),
    }
}
