//! Puts received pieces in order, within bounds.

use crate::Refused;
use crate::blocks::{Blocks, Piece};
use crate::ranges::RangeSet;
use crate::stream::store::{BLOCK, Pool, Store, split};

/// More bytes than this are moved with their block, fewer are copied: so a queue of moved blocks is at least half full.
const WORTH_A_BLOCK: usize = BLOCK / 2;

/// The received bytes of a stream. Each is copied once to its place by offset, whether it came in order or not, so a piece
/// costs no allocation of its own: memory follows the window, and the list of disjoint pieces has a bound.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    store: Store,
    /// Read up to here.
    read: u64,
    /// Received without a hole up to here.
    contiguous: u64,
    /// Received above.
    ahead: RangeSet,
}

impl Assembler {
    /// Takes `data` at `offset`; says whether there is more to read than before. Refusal changes nothing.
    pub(crate) fn insert(
        &mut self,
        pool: &mut Pool,
        offset: u64,
        data: &[u8],
        max_segments: usize,
    ) -> Result<bool, Refused> {
        let end = offset + data.len() as u64;
        let known = self.contiguous.saturating_sub(offset);
        let Some(fresh) = usize::try_from(known).ok().and_then(|known| data.get(known..)) else {
            return Ok(false);
        };
        if fresh.is_empty() {
            return Ok(false);
        }
        if offset > self.contiguous {
            if self.ahead.len() >= max_segments && self.ahead.adds(&(offset..end)) {
                return Err(Refused::SegmentsFull);
            }
            self.store.write(pool, offset, fresh);
            self.ahead.insert(offset..end);
            return Ok(false);
        }
        self.store.write(pool, self.contiguous, fresh);
        self.contiguous = end;
        while self
            .ahead
            .first()
            .is_some_and(|next| next.start <= self.contiguous)
        {
            let next = self.ahead.pop_first();
            self.contiguous = next.map_or(self.contiguous, |next| next.end.max(self.contiguous));
        }
        Ok(true)
    }

    /// Moves bytes in order into `out`; says how many.
    pub(crate) fn read(&mut self, pool: &mut Pool, out: &mut [u8]) -> usize {
        let len = out
            .len()
            .min(usize::try_from(self.readable()).unwrap_or(usize::MAX));
        let Some(out) = out.get_mut(..len) else {
            return 0;
        };
        self.store.copy(self.read, out);
        self.read += len as u64;
        self.release(pool);
        len
    }

    /// Moves bytes in order into `out`, at most `max` of them; says how many. Blocks go over as they are where nothing else
    /// stands in them.
    pub(crate) fn read_blocks(&mut self, pool: &mut Pool, out: &mut Blocks, max: usize) -> usize {
        let len = max.min(usize::try_from(self.readable()).unwrap_or(usize::MAX));
        let mut left = len;
        while left > 0 {
            let start = split(self.read).1;
            let now = left.min(BLOCK - start);
            let end = start + now;
            let next = self.read + now as u64;
            let whole = now > WORTH_A_BLOCK && self.is_last_of_block(next);
            if let Some(memory) = whole.then(|| self.store.take(self.read)).flatten() {
                out.adopt(Piece { memory, start, end }, next);
            } else {
                let [bytes, _] = self.store.slices(self.read, now);
                out.append(Some(&mut *pool), self.read, bytes);
            }
            self.read = next;
            left -= now;
        }
        self.release(pool);
        len
    }

    /// Whether the block of the byte before `offset` holds nothing from `offset` on.
    fn is_last_of_block(&self, offset: u64) -> bool {
        let block_end = offset.next_multiple_of(BLOCK as u64);
        let ahead = self.ahead.first().map_or(u64::MAX, |next| next.start);
        offset == block_end || offset == self.contiguous && ahead >= block_end
    }

    fn release(&mut self, pool: &mut Pool) {
        if self.read == self.contiguous && self.ahead.is_empty() {
            self.store.clear(pool);
        } else {
            self.store.release(pool, self.read);
        }
    }

    /// Bytes that can be read.
    pub(crate) fn readable(&self) -> u64 {
        self.contiguous - self.read
    }

    /// Offset up to which was read.
    pub(crate) fn position(&self) -> u64 {
        self.read
    }

    /// Offset up to which nothing is missing.
    pub(crate) fn contiguous(&self) -> u64 {
        self.contiguous
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        self.store.clear(pool);
        self.ahead.clear();
        self.contiguous = self.read;
    }

    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.store.memory() + self.ahead.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn byte(offset: u64) -> u8 {
        (offset.wrapping_mul(0x9e37_79b9) >> 7) as u8
    }

    #[test]
    fn any_order_any_overlap_reads_as_sent() {
        arbtest::arbtest(|u| {
            let (mut pool, mut assembler) = (Pool::default(), Assembler::default());
            let mut blocks = Blocks::default();
            let total = 3 * BLOCK as u64;
            let mut have = vec![false; total as usize];
            let mut read = 0usize;
            while !u.is_empty() {
                let start = u.int_in_range(0..=total - 1)?;
                let len = u.int_in_range(0..=(total - start).min(4000))?;
                let data: Vec<u8> = (start..start + len).map(byte).collect();
                let limit = u.int_in_range(1..=4)?;
                let pieces = assembler.ahead.len();
                let taken = assembler.insert(&mut pool, start, &data, limit);
                match taken {
                    Ok(_) => have[start as usize..(start + len) as usize].fill(true),
                    Err(Refused::SegmentsFull) => {
                        assert!(pieces >= limit && assembler.ahead.len() == pieces);
                    }
                }
                let prefix = have.iter().take_while(|have| **have).count();
                assert_eq!(assembler.readable() as usize, prefix - read);
                if u.arbitrary()? {
                    let mut out = vec![0; u.int_in_range(0..=9000)?];
                    let got = if u.arbitrary()? {
                        assembler.read(&mut pool, &mut out)
                    } else {
                        let moved = assembler.read_blocks(&mut pool, &mut blocks, out.len());
                        assert_eq!(moved, blocks.pull(&mut out));
                        assert!(blocks.is_empty());
                        blocks.give_back(&mut pool);
                        moved
                    };
                    assert_eq!(got, out.len().min(prefix - read));
                    assert!(out[..got].iter().zip(read as u64..).all(|(b, at)| *b == byte(at)));
                    read += got;
                }
            }
            Ok(())
        })
        .budget_ms(1000);
    }

    #[test]
    fn whole_blocks_are_moved_and_come_back() {
        let (mut pool, mut assembler) = (Pool::default(), Assembler::default());
        let (mut blocks, mut out) = (Blocks::default(), vec![0; 8 * BLOCK]);
        let data = vec![1; 5 * BLOCK + 4000];
        let (mut offset, mut most) = (0, 0);
        for _ in 0..50 {
            assembler.insert(&mut pool, offset, &data, 8).unwrap();
            offset += data.len() as u64;
            assert_eq!(
                assembler.read_blocks(&mut pool, &mut blocks, usize::MAX),
                data.len()
            );
            assert_eq!(blocks.pull(&mut out), data.len());
            blocks.give_back(&mut pool);
            most = most.max(pool.memory() / BLOCK);
        }
        // Copied they would be twice as many.
        assert!(most <= 9, "{most} blocks for reads of six or seven");
    }

    #[test]
    fn a_reader_of_many_small_pieces_holds_little_more_than_the_bytes() {
        let (mut pool, mut assembler) = (Pool::default(), Assembler::default());
        let mut blocks = Blocks::default();
        for (index, len) in (0..600).map(|index| (index, 1 + (index * 733) % 6000)) {
            let offset = assembler.contiguous();
            assembler.insert(&mut pool, offset, &vec![2; len], 8).unwrap();
            assert_eq!(assembler.read_blocks(&mut pool, &mut blocks, usize::MAX), len);
            assert!(
                blocks.memory() <= 2 * blocks.len() + 4 * BLOCK,
                "{index}: {} for {}",
                blocks.memory(),
                blocks.len()
            );
        }
    }

    #[test]
    fn single_bytes_at_stride_two_stay_within_the_window() {
        let (mut pool, mut assembler) = (Pool::default(), Assembler::default());
        let window = 256 * 1024;
        let mut refused = 0;
        for offset in (1..window).step_by(2) {
            refused += usize::from(assembler.insert(&mut pool, offset, &[7], 1024).is_err());
        }
        assert_eq!(refused, window as usize / 2 - 1024);
        assert!(assembler.memory() < 64 * 1024, "{}", assembler.memory());
        // Spread as thin as may be, they still cost no more than the window that was promised.
        let mut sparse = Assembler::default();
        for offset in (1..window).step_by(257) {
            sparse.insert(&mut pool, offset, &[7], 1024).unwrap();
        }
        assert!(
            sparse.memory() <= window as usize + 64 * 1024,
            "{}",
            sparse.memory()
        );
        // Filling the holes from the front is always taken.
        for offset in (0..2048).step_by(2) {
            assert_eq!(assembler.insert(&mut pool, offset, &[7], 1024), Ok(true));
        }
        assert_eq!(assembler.readable(), 2048);
    }
}
