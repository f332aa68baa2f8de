//! Bytes of a stream by offset, in blocks: appended, filled at any place, read as slices, released from the front.

use std::collections::VecDeque;

use crate::blocks::Piece;

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
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.lend().unwrap_or_else(|| vec![0; BLOCK])
    }

    /// A block, if there is one.
    pub(crate) fn lend(&mut self) -> Option<Vec<u8>> {
        self.spare.pop()
    }

    pub(crate) fn put(&mut self, block: Vec<u8>) {
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

/// The number of the block where `offset` lies, and the place in it.
pub(crate) fn split(offset: u64) -> (u64, usize) {
    (offset / BLOCK as u64, (offset % BLOCK as u64) as usize)
}

/// Most streams never have more than one block at a time: the collection itself would begin with room for four.
pub(crate) fn push_back<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.capacity() == 0 {
        queue.reserve_exact(1);
    }
    queue.push_back(item);
}

/// Makes a block that grows at least `len` bytes long, in few steps.
pub(crate) fn grow(block: &mut Vec<u8>, len: usize) {
    if block.len() < len {
        let size = len.next_power_of_two().clamp(SMALLEST, BLOCK);
        block.reserve_exact(size - block.len());
        block.resize(size, 0);
    }
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

    /// Puts the bytes of `piece` at `offset`. Where there is no block yet its memory becomes one; otherwise they are copied, and
    /// the memory is given back.
    pub(crate) fn adopt(&mut self, pool: &mut Pool, offset: u64, piece: Piece) -> Option<Vec<u8>> {
        let (number, at) = split(offset);
        let place = self
            .seat(number)
            .filter(|place| place.is_empty() && at == piece.start);
        if let Some(place) = place {
            *place = piece.memory;
            self.bytes += place.capacity();
            return None;
        }
        self.write(pool, offset, piece.bytes());
        Some(piece.memory)
    }

    /// Takes the block where `offset` lies out, with all that stands in it.
    pub(crate) fn take(&mut self, offset: u64) -> Option<Vec<u8>> {
        let index = split(offset).0.checked_sub(self.first)?;
        let block = std::mem::take(self.blocks.get_mut(usize::try_from(index).ok()?)?);
        self.bytes -= block.capacity();
        Some(block)
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

    /// The place of the block `number`, which may be empty.
    fn seat(&mut self, number: u64) -> Option<&mut Vec<u8>> {
        if self.blocks.is_empty() {
            self.first = number;
        }
        while number < self.first {
            self.blocks.push_front(Vec::new());
            self.first -= 1;
        }
        let index = (number - self.first) as usize;
        if self.blocks.is_empty() && index == 0 {
            push_back(&mut self.blocks, Vec::new());
        } else if self.blocks.len() <= index {
            self.blocks.resize_with(index + 1, Vec::new);
        }
        self.blocks.get_mut(index)
    }

    /// Makes the block `number` at least `len` bytes long and returns it.
    fn block(&mut self, pool: &mut Pool, number: u64, len: usize) -> Option<&mut Vec<u8>> {
        let block = self.seat(number)?;
        let before = block.capacity();
        if block.len() < len && (number > 0 || len > BLOCK / 2) {
            // A whole block is always one of the pool's: it returns there, and must not be one more.
            let mut whole = pool.take();
            if let Some(place) = whole.get_mut(..block.len()) {
                place.copy_from_slice(block);
            }
            *block = whole;
        }
        grow(block, len);
        let grown = block.capacity() - before;
        self.bytes += grown;
        self.seat(number)
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
                if u.arbitrary()? {
                    store.write(&mut pool, start as u64, &data);
                } else {
                    adopt(&mut pool, &mut store, start, &data);
                }
                if u.ratio(1, 4)? {
                    let number = start / BLOCK;
                    let memory = store.take(start as u64).unwrap_or_default();
                    let (start, end) = (0, memory.len());
                    let piece = Piece { memory, start, end };
                    store.adopt(&mut pool, (number * BLOCK) as u64, piece);
                }
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

    /// As a handle's queue gives bytes over: in blocks of which only a part has a meaning.
    fn adopt(pool: &mut Pool, store: &mut Store, mut offset: usize, mut data: &[u8]) {
        while !data.is_empty() {
            let start = offset % BLOCK;
            let (now, rest) = data.split_at(data.len().min(BLOCK - start));
            let mut memory = vec![0xee; BLOCK];
            let end = start + now.len();
            memory[start..end].copy_from_slice(now);
            if let Some(left) = store.adopt(pool, offset as u64, Piece { memory, start, end }) {
                pool.put(left);
            }
            offset += now.len();
            data = rest;
        }
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
