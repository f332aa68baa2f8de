//! Bytes of a stream by offset, in blocks: appended, filled at any place, read as slices, released from the front.

use std::collections::VecDeque;

/// Bytes of a block. A piece no longer than this lies in at most two.
pub(crate) const BLOCK: usize = 8192;
const SMALLEST: usize = 512;
/// Blocks kept for reuse: 2 MiB.
const SPARE: usize = 256;

/// Blocks kept for reuse by all streams of a connection.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    spare: Vec<Vec<u8>>,
}

impl Pool {
    fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| vec![0; BLOCK])
    }

    fn put(&mut self, block: Vec<u8>) {
        if block.len() == BLOCK && self.spare.len() < SPARE {
            self.spare.push(block);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.spare = Vec::new();
    }

    pub(crate) fn memory(&self) -> usize {
        self.spare.len() * BLOCK + self.spare.capacity() * size_of::<Vec<u8>>()
    }
}

/// The bytes of one half of one stream. A block never written is empty, so a hole costs no more than its place in the list.
/// The first block of a stream grows with its content, because most streams are short; later ones are whole.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Number of the first block held: its offset divided by the size of a block.
    first: u64,
    blocks: VecDeque<Vec<u8>>,
    bytes: usize,
}

fn split(offset: u64) -> (u64, usize) {
    (offset / BLOCK as u64, (offset % BLOCK as u64) as usize)
}

impl Store {
    /// Puts `data` at `offset`, which is not below what was released. The caller bounds how far that is.
    pub(crate) fn write(&mut self, pool: &mut Pool, mut offset: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let (number, at) = split(offset);
            let (piece, rest) = data.split_at(data.len().min(BLOCK - at));
            let block = self.block(pool, number, at + piece.len());
            if let Some(place) = block.and_then(|block| block.get_mut(at..at + piece.len())) {
                place.copy_from_slice(piece);
            }
            offset += piece.len() as u64;
            data = rest;
        }
    }

    /// The `len` bytes at `offset`, all written before, at most [`BLOCK`] of them.
    pub(crate) fn slices(&self, offset: u64, len: usize) -> [&[u8]; 2] {
        let (number, at) = split(offset);
        let head = len.min(BLOCK - at);
        let part = |number: u64, at: usize, len: usize| {
            let block = number
                .checked_sub(self.first)
                .and_then(|index| self.blocks.get(index as usize));
            block.and_then(|block| block.get(at..at + len)).unwrap_or(&[])
        };
        [part(number, at, head), part(number + 1, 0, len - head)]
    }

    /// Copies the bytes from `offset` on into `out`; all of them were written before.
    pub(crate) fn copy(&self, mut offset: u64, mut out: &mut [u8]) {
        while !out.is_empty() {
            let len = out.len().min(BLOCK - split(offset).1);
            let [piece, _] = self.slices(offset, len);
            let (place, rest) = out.split_at_mut(len);
            if piece.len() == len {
                place.copy_from_slice(piece);
            }
            offset += len as u64;
            out = rest;
        }
    }

    /// Releases the blocks that lie below `offset`.
    pub(crate) fn release(&mut self, pool: &mut Pool, offset: u64) {
        let (keep, _) = split(offset);
        while self.first < keep {
            match self.blocks.pop_front() {
                Some(block) => {
                    self.bytes -= block.capacity();
                    pool.put(block);
                    self.first += 1;
                }
                None => break,
            }
        }
    }

    /// Releases everything.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        for block in self.blocks.drain(..) {
            pool.put(block);
        }
        self.bytes = 0;
        if self.blocks.capacity() > 64 {
            self.blocks = VecDeque::new();
        }
    }

    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.bytes + self.blocks.capacity() * size_of::<Vec<u8>>()
    }

    /// Makes the block `number` at least `len` bytes long and returns it.
    fn block(&mut self, pool: &mut Pool, number: u64, len: usize) -> Option<&mut Vec<u8>> {
        if self.blocks.is_empty() {
            self.first = number;
        }
        while number < self.first {
            self.blocks.push_front(Vec::new());
            self.first -= 1;
        }
        let index = (number - self.first) as usize;
        if self.blocks.len() <= index {
            self.blocks.resize_with(index + 1, Vec::new);
        }
        let block = self.blocks.get_mut(index)?;
        if block.len() < len {
            let before = block.capacity();
            let size = len.next_power_of_two().clamp(SMALLEST, BLOCK);
            if number > 0 || size == BLOCK {
                // A whole block is always one of the pool's: it returns there, and must not be one more.
                let mut whole = pool.take();
                if let Some(place) = whole.get_mut(..block.len()) {
                    place.copy_from_slice(block);
                }
                *block = whole;
            } else {
                block.reserve_exact(size - block.len());
                block.resize(size, 0);
            }
            self.bytes += block.capacity() - before;
        }
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_one_long_vector() {
        arbtest::arbtest(|u| {
            let (mut pool, mut store) = (Pool::default(), Store::default());
            let mut model = vec![0u8; 5 * BLOCK];
            let mut released = 0;
            while !u.is_empty() {
                let start = released + u.choose_index(model.len() - released)?;
                let len = u.int_in_range(0..=(2 * BLOCK).min(model.len() - start))?;
                let fill = u.arbitrary::<u8>()?;
                let data: Vec<u8> = (0..len).map(|i| fill.wrapping_add(i as u8)).collect();
                store.write(&mut pool, start as u64, &data);
                model[start..start + len].copy_from_slice(&data);
                let mut out = vec![0; len];
                store.copy(start as u64, &mut out);
                assert_eq!(out, model[start..start + len]);
                let short = len.min(BLOCK);
                assert_eq!(
                    store.slices(start as u64, short).concat(),
                    model[start..start + short]
                );
                if u.ratio(1, 4)? {
                    released = u.int_in_range(released..=model.len() - 1)?.min(start + 1);
                    store.release(&mut pool, released as u64);
                }
                assert!(store.memory() <= 6 * BLOCK + 64 * 24);
            }
            store.clear(&mut pool);
            assert!(store.memory() <= 64 * 24);
            Ok(())
        })
        .budget_ms(600);
    }

    #[test]
    fn what_is_read_at_once_is_one_block_again_and_again() {
        let (mut pool, mut store) = (Pool::default(), Store::default());
        for offset in (0..3 * BLOCK as u64).step_by(700) {
            store.write(&mut pool, offset, &[1; 700]);
            store.clear(&mut pool);
        }
        assert!(pool.spare.len() <= 2, "{} spare blocks", pool.spare.len());
    }

    #[test]
    fn a_short_stream_costs_little_and_a_hole_nothing() {
        let (mut pool, mut store) = (Pool::default(), Store::default());
        store.write(&mut pool, 0, b"short");
        assert!(store.memory() <= SMALLEST + 4 * 24);
        store.write(&mut pool, 20 * BLOCK as u64, b"far");
        assert!(store.memory() <= SMALLEST + BLOCK + 64 * 24);
    }
}
