//! Outgoing datagrams for one route, laid end to end so that one system call takes them all (UDP GSO).
//!
//! The kernel cuts the bytes at a fixed stride, so all segments are equally long and only the last may be shorter.

use std::fmt;

use super::Ecn;

/// The most segments one batch holds: what Linux accepts in one call (`UDP_MAX_SEGMENTS`).
pub const MAX_SEGMENTS: usize = 64;
/// The most bytes one batch holds: what the kernel takes as one UDP datagram over IPv4.
pub const MAX_BATCH_BYTES: usize = 65_507;

/// The batch takes no further segment of this length; send it first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchFull;

impl fmt::Display for BatchFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the batch takes no such segment")
    }
}

impl std::error::Error for BatchFull {}

/// One GSO batch. The memory is allocated once and reused by [`Batch::clear`].
pub struct Batch {
    memory: Box<[u8]>,
    used: usize,
    segment_size: usize,
    segments: usize,
    /// Segments whose headers are final; those behind still wait for their masks.
    finished: usize,
    /// Segments the kernel took.
    sent: usize,
    /// What all segments carry in their IP headers.
    ecn: Ecn,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("segments", &self.segments)
            .field("segment_size", &self.segment_size)
            .field("bytes", &self.used)
            .finish_non_exhaustive()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new(MAX_BATCH_BYTES)
    }
}

impl Batch {
    /// An empty batch of at most `capacity` bytes, itself at most [`MAX_BATCH_BYTES`].
    pub fn new(capacity: usize) -> Self {
        let memory = vec![0; capacity.min(MAX_BATCH_BYTES)].into_boxed_slice();
        Self {
            memory,
            used: 0,
            segment_size: 0,
            segments: 0,
            finished: 0,
            sent: 0,
            ecn: Ecn::NotEct,
        }
    }

    /// Bytes of every segment but the last, which may be shorter; 0 when the batch is empty.
    pub const fn segment_size(&self) -> usize {
        self.segment_size
    }

    /// Segments in the batch.
    pub const fn count(&self) -> usize {
        self.segments
    }

    /// Whether nothing is to be sent.
    pub const fn is_empty(&self) -> bool {
        self.segments == 0
    }

    /// All segments, end to end.
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(..self.used).unwrap_or_default()
    }

    /// The segments one by one.
    pub fn segments(&self) -> std::slice::Chunks<'_, u8> {
        self.bytes().chunks(self.segment_size.max(1))
    }

    /// The codepoint of all segments.
    pub const fn ecn(&self) -> Ecn {
        self.ecn
    }

    /// All segments leave with this codepoint.
    pub const fn set_ecn(&mut self, ecn: Ecn) {
        self.ecn = ecn;
    }

    /// Forgets all segments; keeps the memory.
    pub fn clear(&mut self) {
        self.ecn = Ecn::NotEct;
        (
            self.used,
            self.segment_size,
            self.segments,
            self.finished,
            self.sent,
        ) = (0, 0, 0, 0, 0);
    }

    /// The longest segment that may follow: anything up to the capacity first, then the segment size; 0 when no whole one fits, lest a
    /// stream leave a crumb at the end of each batch, or when the last segment was a shorter one.
    pub fn room(&self) -> usize {
        let left = self.memory.len().saturating_sub(self.used);
        if self.segments == 0 {
            left
        } else if self.segments >= MAX_SEGMENTS
            || self.used < self.segment_size.saturating_mul(self.segments)
            || left < self.segment_size
        {
            0
        } else {
            self.segment_size
        }
    }

    /// Appends a finished datagram, such as one of the handshake.
    ///
    /// # Errors
    /// [`BatchFull`] when it is empty or longer than [`Batch::room`], or when packets before it still wait for masks.
    pub fn push(&mut self, datagram: &[u8]) -> Result<(), BatchFull> {
        if self.finished != self.segments || datagram.is_empty() {
            return Err(BatchFull);
        }
        self.reserve(datagram.len())
            .ok_or(BatchFull)?
            .copy_from_slice(datagram);
        self.commit(datagram.len());
        self.finished = self.segments;
        Ok(())
    }

    /// Memory for the next segment, exactly `size` bytes with stale content; `None` when that is more than
    /// [`Batch::room`] or nothing. Without [`Batch::commit`] it is as if it had not been asked for.
    pub(crate) fn reserve(&mut self, size: usize) -> Option<&mut [u8]> {
        if size == 0 || size > self.room() {
            return None;
        }
        self.memory.get_mut(self.used..self.used.checked_add(size)?)
    }

    /// Makes the first `size` bytes behind the last segment a segment. What exceeds [`Batch::room`] is cut off.
    pub(crate) fn commit(&mut self, size: usize) {
        let size = size.min(self.room());
        if size == 0 {
            return;
        }
        if self.segments == 0 {
            self.segment_size = size;
        }
        self.segments += 1;
        self.used += size;
    }

    /// The bytes of the segments the kernel has not taken yet.
    pub fn unsent_bytes(&self) -> &[u8] {
        let from = self.segment_size.saturating_mul(self.sent).min(self.used);
        self.memory.get(from..self.used).unwrap_or_default()
    }

    /// The segments the kernel has not taken yet. All of them again after [`Batch::clear`].
    pub fn unsent(&self) -> std::slice::Chunks<'_, u8> {
        self.unsent_bytes().chunks(self.segment_size.max(1))
    }

    /// The kernel took `count` more segments, or they are given up.
    pub fn advance(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count).min(self.segments);
    }

    /// The segments that still wait for masks.
    pub(crate) fn unfinished(&mut self) -> std::slice::ChunksMut<'_, u8> {
        let from = self.segment_size.saturating_mul(self.finished).min(self.used);
        self.memory
            .get_mut(from..self.used)
            .unwrap_or_default()
            .chunks_mut(self.segment_size.max(1))
    }

    /// Every segment has its masks.
    pub(crate) fn finish(&mut self) {
        self.finished = self.segments;
    }

    /// Whether all headers are final, so that the batch may leave.
    pub const fn is_finished(&self) -> bool {
        self.finished == self.segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_segment_may_be_shorter() {
        let mut batch = Batch::new(10_000);
        assert_eq!(batch.room(), 10_000);
        batch.push(&[1; 1200]).unwrap();
        assert_eq!(batch.push(&[2; 1201]), Err(BatchFull));
        batch.push(&[2; 1200]).unwrap();
        batch.push(&[3; 7]).unwrap();
        assert_eq!(batch.room(), 0);
        assert_eq!(batch.push(&[4; 7]), Err(BatchFull));
        assert_eq!(
            batch.segments().map(<[u8]>::len).collect::<Vec<_>>(),
            [1200, 1200, 7]
        );
        assert_eq!(
            (batch.count(), batch.segment_size(), batch.bytes().len()),
            (3, 1200, 2407)
        );
        batch.clear();
        assert!(batch.is_empty() && batch.bytes().is_empty() && batch.segments().next().is_none());
        assert_eq!(batch.room(), 10_000);
    }

    #[test]
    fn segments_and_bytes_are_bounded() {
        let mut batch = Batch::new(usize::MAX);
        assert_eq!(batch.room(), MAX_BATCH_BYTES);
        while batch.push(&[0; 100]).is_ok() {}
        assert_eq!(batch.count(), MAX_SEGMENTS);
        batch.clear();
        while batch.push(&[0; 1452]).is_ok() {}
        assert_eq!(batch.count(), 45);
        // What is left would make a crumb.
        assert!(batch.bytes().len() < MAX_BATCH_BYTES && batch.room() == 0);
        assert_eq!(batch.push(&[0; 40]), Err(BatchFull));
    }

    #[test]
    fn reserving_without_commit_is_nothing() {
        let mut batch = Batch::new(100);
        assert!(batch.reserve(101).is_none());
        assert!(batch.reserve(0).is_none());
        batch.reserve(60).unwrap().fill(7);
        assert!(batch.is_empty());
        batch.reserve(60).unwrap().fill(8);
        batch.commit(50);
        assert_eq!(batch.bytes(), [8; 50]);
        batch.commit(80);
        assert_eq!(batch.segment_size(), 50);
        assert_eq!(batch.count(), 2);
    }

    #[test]
    fn datagrams_do_not_mix_with_packets_that_wait_for_masks() {
        let mut batch = Batch::new(1000);
        batch.push(&[1; 40]).unwrap();
        batch.reserve(40).unwrap().fill(2);
        batch.commit(40);
        assert!(!batch.is_finished());
        assert_eq!(batch.push(&[3; 40]), Err(BatchFull));
        assert_eq!(batch.unfinished().collect::<Vec<_>>(), [&[2; 40]]);
        batch.finish();
        assert_eq!(batch.unfinished().count(), 0);
        batch.push(&[3; 40]).unwrap();
        assert!(batch.is_finished());
    }
}
