//! Writing a packet into the batch it will leave with.
//!
//! 1. `start` writes the header, and sets room for the tag aside. 2. Frames are appended in place. 3. `seal` encrypts in
//!    place (`seal.rs`). Whoever drops the builder before that leaves the batch as it was.

use std::ops::RangeInclusive;

use transport_crypto::{KeyExhausted, SealKeys};

use crate::buffer::Batch;
use crate::wire::cursor::{WriteError, Writer};
use crate::wire::frame::{self, Extent, Frame};
use crate::wire::header::{Header, TAG_LEN};

/// A packet that grows.
#[derive(Debug)]
pub struct Builder<'b> {
    pub(super) batch: &'b mut Batch,
    /// Bytes the finished datagram may have.
    pub(super) limit: usize,
    pub(super) header_len: usize,
    pub(super) number: u64,
    /// Bytes written, header included.
    pub(super) at: usize,
    /// A frame without a length was written: nothing may follow.
    full: bool,
    /// What came of encrypting it, if that is done already.
    pub(super) sealed: Option<Result<(), KeyExhausted>>,
}

impl<'b> Builder<'b> {
    /// Begins a datagram of at most `max_size` bytes as the next segment of `batch`; `None` when the batch has no room for
    /// header, tag and one byte of frames.
    pub fn start(batch: &'b mut Batch, header: &Header, max_size: usize) -> Option<Self> {
        let limit = max_size.min(batch.room());
        let header_len = header.encoded_len();
        if limit <= header_len + TAG_LEN {
            return None;
        }
        header.encode(&mut Writer::new(batch.reserve(limit)?)).ok()?;
        Some(Self {
            batch,
            limit,
            header_len,
            number: header.number,
            at: header_len,
            full: false,
            sealed: None,
        })
    }

    /// Begins frames alone, without header, that are to be sealed elsewhere: at most `room` bytes. The batch lends its memory.
    pub fn bare(batch: &'b mut Batch, number: u64, room: usize) -> Option<Self> {
        let limit = (room + TAG_LEN).min(batch.room());
        batch.reserve(limit)?;
        Some(Self {
            batch,
            limit,
            header_len: 0,
            number,
            at: 0,
            full: false,
            sealed: None,
        })
    }

    /// The frames; the batch is as it was.
    pub fn into_frames(self) -> Vec<u8> {
        let start = self.header_len;
        let written = self
            .batch
            .reserve(self.limit)
            .and_then(|space| space.get(start..self.at));
        written.unwrap_or_default().to_vec()
    }

    /// The packet's number.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of frames that still fit.
    pub const fn room(&self) -> usize {
        if self.full {
            0
        } else {
            self.limit.saturating_sub(self.at + TAG_LEN)
        }
    }

    /// Whether there are no frames yet.
    pub const fn is_empty(&self) -> bool {
        self.at == self.header_len
    }

    /// Bytes the datagram would have if it were sealed now.
    pub const fn size(&self) -> usize {
        self.at + TAG_LEN
    }

    /// Appends a frame, or nothing.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Result<(), WriteError> {
        self.append(|out| frame.encode(out))
    }

    /// Appends a STREAM frame with bytes from two slices, at most what [`Builder::stream_fit`] said. If it fills the packet and
    /// there are keys, and the path they seal for, the packet is encrypted at once, which saves a copy of most bytes.
    pub fn stream(
        &mut self,
        id: u64,
        offset: u64,
        fin: bool,
        parts: [&[u8]; 2],
        keys: Option<(&mut SealKeys, u32)>,
    ) -> Result<(), WriteError> {
        self.carry(parts, keys, |out, len| {
            frame::stream::begin(out, id, offset, fin, len)
        })
    }

    /// The most bytes of a stream that fit now; `None` when no STREAM frame does.
    pub fn stream_fit(&self, id: u64, offset: u64) -> Option<usize> {
        if self.full {
            None
        } else {
            frame::stream::fit(self.room(), id, offset)
        }
    }

    /// Appends a DATAGRAM frame with a message from two slices, at most what [`Builder::datagram_fit`] said; encrypted at once where
    /// [`Builder::stream`] would be.
    pub fn datagram(
        &mut self,
        parts: [&[u8]; 2],
        keys: Option<(&mut SealKeys, u32)>,
    ) -> Result<(), WriteError> {
        self.carry(parts, keys, frame::datagram::begin)
    }

    /// The longest message that fits now; `None` when no DATAGRAM frame does.
    pub const fn datagram_fit(&self) -> Option<usize> {
        if self.full {
            None
        } else {
            frame::datagram::fit(self.room())
        }
    }

    /// Appends a PATH_ACK with as many of the descending `ranges` as fit; how many those are.
    pub fn ack(
        &mut self,
        path: u32,
        delay_us: u64,
        ranges: impl Iterator<Item = RangeInclusive<u64>> + Clone,
        marks: Option<frame::ack::Marks>,
    ) -> Result<usize, WriteError> {
        self.append(|out| frame::ack::encode(out, path, delay_us, ranges, marks))
    }

    /// Appends PADDING until the datagram will have `size` bytes, or as many as its limit allows. A packet that is full
    /// already, or longer, stays as it is.
    pub fn pad_to(&mut self, size: usize) {
        let missing = size.saturating_sub(self.size()).min(self.room());
        // Cannot fail: `missing` is at most the room.
        let _ = self.append(|out| out.zeros(missing));
    }

    /// Appends PADDING if that makes the packet as long as those before it in the batch and takes `most` bytes at most: a shorter one
    /// ends the batch.
    pub fn even_out(&mut self, most: usize) {
        let stride = self.batch.segment_size();
        if stride.saturating_sub(self.size()) <= most {
            self.pad_to(stride);
        }
    }

    /// Appends the application's bytes behind what `begin` writes for so many. The last part of a packet that they fill is read
    /// where it is and written encrypted.
    fn carry(
        &mut self,
        parts: [&[u8]; 2],
        keys: Option<(&mut SealKeys, u32)>,
        begin: impl FnOnce(&mut Writer<'_>, usize) -> Result<Extent, WriteError>,
    ) -> Result<(), WriteError> {
        let [first, last] = match parts {
            [only, []] => [&[], only],
            both => both,
        };
        let extent = self.append(|out| {
            let extent = begin(out, first.len().saturating_add(last.len()))?;
            out.bytes(first)?;
            if extent == Extent::Delimited || keys.is_none() {
                out.bytes(last)?;
            }
            Ok(extent)
        })?;
        self.full = extent == Extent::ToEnd;
        if let (Extent::ToEnd, Some((keys, path))) = (extent, keys) {
            self.at += last.len();
            self.sealed = Some(self.encrypt(keys, path, last));
        }
        Ok(())
    }

    fn append<T>(
        &mut self,
        write: impl FnOnce(&mut Writer<'_>) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let room = self.room();
        let space = self
            .batch
            .reserve(self.limit)
            .and_then(|space| space.get_mut(self.at..)?.get_mut(..room));
        let mut out = Writer::new(space.ok_or(WriteError::NoRoom)?);
        let result = write(&mut out)?;
        self.at += out.len();
        Ok(result)
    }
}
