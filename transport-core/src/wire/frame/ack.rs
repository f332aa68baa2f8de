//! PATH_ACK: RFC 9000 §19.3 with a path id before it and the delay in plain microseconds.
//!
//! `path (i) ‖ largest (i) ‖ delay µs (i) ‖ count (i) ‖ first range (i) ‖ count × (gap (i) ‖ range (i))`, and with
//! type 3f `‖ ECT(0) (i) ‖ ECT(1) (i) ‖ CE (i)`

use std::ops::RangeInclusive;

use super::{FrameFault, kind, path_id};
use crate::wire::cursor::{Reader, WriteError, Writer};
use crate::wire::varint;

/// The most ranges a PATH_ACK may hold, the first included; more is an encoding error.
pub const MAX_ACK_RANGES: usize = 256;

/// Packets received with ECT(0), ECT(1) and CE, in this order.
pub type Marks = [u64; 3];

/// Packets received on a path. The ranges were checked when it was decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathAck<'a> {
    path: u32,
    largest: u64,
    delay_us: u64,
    first_range: u64,
    count: u16,
    /// `count` pairs of gap and range, as they came.
    more: &'a [u8],
    marks: Option<Marks>,
}

impl<'a> PathAck<'a> {
    /// The path whose packets these are.
    pub const fn path(&self) -> u32 {
        self.path
    }

    /// The highest packet number acknowledged.
    pub const fn largest(&self) -> u64 {
        self.largest
    }

    /// How long the receiver held the acknowledgement back, in microseconds.
    pub const fn delay_us(&self) -> u64 {
        self.delay_us
    }

    /// Codepoints of all packets received on the path so far, if the receiver counts them.
    pub const fn marks(&self) -> Option<Marks> {
        self.marks
    }

    pub(super) const fn frame_type(&self) -> u64 {
        if self.marks.is_some() {
            kind::PATH_ACK_ECN
        } else {
            kind::PATH_ACK
        }
    }

    /// The packet numbers, highest range first, disjoint and not adjacent; at least one, at most [`MAX_ACK_RANGES`].
    pub const fn ranges(&self) -> AckRanges<'a> {
        AckRanges {
            next: Some((self.largest, self.first_range)),
            left: self.count,
            more: Reader::new(self.more),
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        head_len(self.path, self.largest, self.delay_us)
            + varint::len(u64::from(self.count))
            + varint::len(self.first_range)
            + self.more.len()
            + marks_len(self.marks)
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), WriteError> {
        out.varint(self.frame_type())?;
        out.varint(u64::from(self.path))?;
        out.varint(self.largest)?;
        out.varint(self.delay_us)?;
        out.varint(u64::from(self.count))?;
        out.varint(self.first_range)?;
        out.bytes(self.more)?;
        write_marks(out, self.marks)
    }

    pub(super) fn decode(frame_type: u64, input: &mut Reader<'a>) -> Result<Self, FrameFault> {
        let path = path_id(input)?;
        let largest = input.varint()?;
        let delay_us = input.varint()?;
        let count = input.varint()?;
        if count >= MAX_ACK_RANGES as u64 {
            return Err(FrameFault::Invalid("more than 256 ranges"));
        }
        let first_range = input.varint()?;
        let mut first = largest.checked_sub(first_range).ok_or(BELOW_ZERO)?;
        let start = input.peek();
        for _ in 0..count {
            (_, first) = next_range(first, input.varint()?, input.varint()?).ok_or(BELOW_ZERO)?;
        }
        let used = start.len().saturating_sub(input.remaining());
        let more = start.get(..used).unwrap_or_default();
        let marks = if frame_type == kind::PATH_ACK_ECN {
            Some([input.varint()?, input.varint()?, input.varint()?])
        } else {
            None
        };
        Ok(Self {
            path,
            largest,
            delay_us,
            first_range,
            count: count as u16,
            more,
            marks,
        })
    }
}

const BELOW_ZERO: FrameFault = FrameFault::Invalid("acknowledges packets below zero");

/// `(last, first)` of the range `gap` below a range that begins at `first` (RFC 9000 §19.3.1).
fn next_range(first: u64, gap: u64, range: u64) -> Option<(u64, u64)> {
    let last = first.checked_sub(gap)?.checked_sub(2)?;
    Some((last, last.checked_sub(range)?))
}

/// The ranges of a [`PathAck`], decoded on the way.
#[derive(Clone, Debug)]
pub struct AckRanges<'a> {
    /// Last number of the next range, and how many lie below it in the range.
    next: Option<(u64, u64)>,
    left: u16,
    more: Reader<'a>,
}

impl AckRanges<'_> {
    fn following(&mut self, first: u64) -> Option<(u64, u64)> {
        self.left = self.left.checked_sub(1)?;
        let gap = self.more.varint().ok()?;
        let range = self.more.varint().ok()?;
        next_range(first, gap, range).map(|(last, _)| (last, range))
    }
}

impl Iterator for AckRanges<'_> {
    type Item = RangeInclusive<u64>;

    fn next(&mut self) -> Option<Self::Item> {
        let (last, range) = self.next.take()?;
        let first = last.checked_sub(range)?;
        self.next = self.following(first);
        Some(first..=last)
    }
}

fn marks_len(marks: Option<Marks>) -> usize {
    marks.iter().flatten().map(|count| varint::len(*count)).sum()
}

fn write_marks(out: &mut Writer<'_>, marks: Option<Marks>) -> Result<(), WriteError> {
    marks.iter().flatten().try_for_each(|count| out.varint(*count))
}

fn head_len(path: u32, largest: u64, delay_us: u64) -> usize {
    1 + varint::len(u64::from(path)) + varint::len(largest) + varint::len(delay_us)
}

/// Writes a PATH_ACK with as many of `ranges` as fit, highest first; the lowest ones are left out when room is short.
/// `ranges` must be descending, disjoint and not adjacent. Gives the number of ranges written.
///
/// # Errors
/// [`WriteError::NoRoom`] when not even the first range fits, [`WriteError::ValueTooLarge`] when `ranges` is empty or
/// not as it must be; nothing was written then.
pub fn encode(
    out: &mut Writer<'_>,
    path: u32,
    delay_us: u64,
    ranges: impl Iterator<Item = RangeInclusive<u64>> + Clone,
    marks: Option<Marks>,
) -> Result<usize, WriteError> {
    let mut rest = ranges;
    let top = rest.next().ok_or(WriteError::ValueTooLarge)?;
    let (largest, lowest) = (*top.end(), *top.start());
    let first_range = largest.checked_sub(lowest).ok_or(WriteError::ValueTooLarge)?;
    let counts = marks.iter().flatten();
    if counts
        .chain([&largest, &delay_us])
        .any(|value| *value > varint::MAX)
    {
        return Err(WriteError::ValueTooLarge);
    }
    // Two bytes are set aside for the count, whichever it becomes.
    let head = head_len(path, largest, delay_us) + 2 + varint::len(first_range) + marks_len(marks);
    let spare = out.room().checked_sub(head).ok_or(WriteError::NoRoom)?;
    let count = count_fitting(spare, lowest, rest.clone())?;
    out.varint(if marks.is_some() {
        kind::PATH_ACK_ECN
    } else {
        kind::PATH_ACK
    })?;
    out.varint(u64::from(path))?;
    out.varint(largest)?;
    out.varint(delay_us)?;
    out.varint(count as u64)?;
    out.varint(first_range)?;
    let mut below = lowest;
    for range in rest.take(count) {
        let (gap, length) = step(below, &range)?;
        out.varint(gap)?;
        out.varint(length)?;
        below = *range.start();
    }
    write_marks(out, marks)?;
    Ok(count + 1)
}

fn count_fitting(
    mut spare: usize,
    mut below: u64,
    ranges: impl Iterator<Item = RangeInclusive<u64>>,
) -> Result<usize, WriteError> {
    let mut count = 0;
    for range in ranges.take(MAX_ACK_RANGES - 1) {
        let (gap, length) = step(below, &range)?;
        match spare.checked_sub(varint::len(gap) + varint::len(length)) {
            Some(left) => spare = left,
            None => break,
        }
        below = *range.start();
        count += 1;
    }
    Ok(count)
}

/// Gap and length of `range` as written below a range that begins at `below`.
fn step(below: u64, range: &RangeInclusive<u64>) -> Result<(u64, u64), WriteError> {
    let gap = below
        .checked_sub(2)
        .and_then(|value| value.checked_sub(*range.end()));
    let length = range.end().checked_sub(*range.start());
    gap.zip(length).ok_or(WriteError::ValueTooLarge)
}
