//! Bytes of one stream between the application and the scheduler, in blocks that change hands instead of being copied.

use std::collections::VecDeque;

use crate::stream::store::{BLOCK, Pool, grow, push_back, split};

/// Spent blocks kept for the scheduler: 256 KiB.
const KEPT: usize = 32;

/// Blocks lent to a writer in full flow: 128 KiB; and to any other.
const LENT: usize = 16;
const LENT_SLOW: usize = 2;

/// A block, and where its bytes stand in it: never none of them.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) memory: Vec<u8>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Piece {
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.end).unwrap_or_default()
    }
}

/// A queue of the bytes of one stream, for [`Scheduler::write_blocks`](crate::Scheduler::write_blocks) and
/// [`Scheduler::read_blocks`](crate::Scheduler::read_blocks). It has no bound of its own: who fills it looks at its length.
/// Each byte stands in its block where the scheduler would put it, so whole blocks go over without a copy; spent ones stay
/// here, up to 32 of them, until the scheduler is called with this queue again.
#[derive(Debug, Default)]
pub struct Blocks {
    pieces: VecDeque<Piece>,
    len: usize,
    /// Offset in the stream of the byte that comes next.
    end: u64,
    spare: Vec<Vec<u8>>,
}

impl Blocks {
    /// Bytes in the queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `data` to the end. A queue serves one stream from its beginning, or the blocks do not fit the scheduler's.
    pub fn push(&mut self, data: &[u8]) {
        self.append(None, self.end, data);
    }

    /// The first bytes, as many as lie in one block; none only if the queue is empty.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        self.pieces.front().map(Piece::bytes).unwrap_or_default()
    }

    /// Drops the first `len` bytes, at most those [`front`](Self::front) gives.
    pub fn consume(&mut self, len: usize) {
        let Some(first) = self.pieces.front_mut() else {
            return;
        };
        let len = len.min(first.len());
        first.start += len;
        self.len -= len;
        if first.len() == 0
            && let Some(spent) = self.pieces.pop_front()
        {
            self.keep(spent.memory);
        }
    }

    /// Moves the first bytes into `out`; says how many.
    pub fn pull(&mut self, out: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(place) = out.get_mut(done..) {
            let len = self.front().len().min(place.len());
            let (Some(place), Some(bytes)) = (place.get_mut(..len), self.front().get(..len)) else {
                break;
            };
            if len == 0 {
                break;
            }
            place.copy_from_slice(bytes);
            self.consume(len);
            done += len;
        }
        done
    }

    /// Takes up to `count` blocks off the front of `from`, and leaves there those spent here.
    pub fn refill(&mut self, from: &mut Self, count: usize) {
        while let Some(spent) = self.spare.pop() {
            from.keep(spent);
        }
        for _ in 0..count {
            let Some(piece) = from.pop() else {
                break;
            };
            self.len += piece.len();
            self.seat(piece);
        }
        self.end = from.end - from.len as u64;
    }

    /// Drops all bytes, and the memory.
    pub fn clear(&mut self) {
        *self = Self {
            end: self.end,
            ..Self::default()
        };
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory(&self) -> usize {
        let held: usize = self.pieces.iter().map(|piece| piece.memory.capacity()).sum();
        held + self.pieces.capacity() * size_of::<Piece>()
            + self.spare.len() * BLOCK
            + self.spare.capacity() * size_of::<Vec<u8>>()
    }

    /// Copies `data`, which stands at `offset`, to the end.
    pub(crate) fn append(&mut self, mut pool: Option<&mut Pool>, offset: u64, mut data: &[u8]) {
        self.end = offset;
        while !data.is_empty() {
            let (number, at) = split(self.end);
            let (now, rest) = data.split_at(data.len().min(BLOCK - at));
            if let Some(place) = self.place(pool.as_deref_mut(), number, at, at + now.len()) {
                place.copy_from_slice(now);
            }
            self.end += now.len() as u64;
            self.len += now.len();
            data = rest;
        }
    }

    /// Takes a block over; its last byte stands before `offset`.
    pub(crate) fn adopt(&mut self, piece: Piece, offset: u64) {
        self.len += piece.len();
        self.end = offset;
        self.seat(piece);
    }

    fn seat(&mut self, piece: Piece) {
        push_back(&mut self.pieces, piece);
    }

    pub(crate) fn pop(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.len -= piece.len();
        Some(piece)
    }

    /// Keeps a spent block, unless it is a small one or there are enough.
    pub(crate) fn keep(&mut self, memory: Vec<u8>) {
        if memory.len() == BLOCK && self.spare.len() < KEPT {
            self.spare.push(memory);
        }
    }

    /// Gives all spent blocks back.
    pub(crate) fn give_back(&mut self, pool: &mut Pool) {
        while let Some(spent) = self.spare.pop() {
            pool.put(spent);
        }
    }

    /// Sees to it that a writer who has just given up so many whole blocks finds some to go on with, as far as there are any,
    /// and one that writes little holds little.
    pub(crate) fn settle(&mut self, pool: &mut Pool, given: usize) {
        let wanted = if given > 1 { LENT } else { LENT_SLOW };
        while self.spare.len() > wanted
            && let Some(spent) = self.spare.pop()
        {
            pool.put(spent);
        }
        while given > 0
            && self.spare.len() < wanted
            && let Some(block) = pool.lend()
        {
            self.spare.push(block);
        }
    }

    /// Room from `at` to `to` in the block `number`: in the last one, or in a new one. The first block of a stream grows with
    /// its content, as the store's does.
    fn place(&mut self, pool: Option<&mut Pool>, number: u64, at: usize, to: usize) -> Option<&mut [u8]> {
        let joins = at > 0 && self.pieces.back().is_some_and(|last| last.end == at);
        if !joins {
            let memory = match (self.spare.pop(), pool) {
                (Some(spare), _) => spare,
                (None, _) if number == 0 => Vec::new(),
                (None, Some(pool)) => pool.take(),
                (None, None) => vec![0; BLOCK],
            };
            self.seat(Piece {
                memory,
                start: at,
                end: at,
            });
        }
        let last = self.pieces.back_mut()?;
        grow(&mut last.memory, to);
        last.end = to;
        last.memory.get_mut(at..to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(at: usize) -> u8 {
        ((at * 7) >> 3) as u8
    }

    #[test]
    fn what_is_pushed_is_pulled_through_any_hands() {
        arbtest::arbtest(|u| {
            let (mut queue, mut reader) = (Blocks::default(), Blocks::default());
            let (mut written, mut read) = (0usize, 0usize);
            while !u.is_empty() {
                let data: Vec<u8> = (written..written + u.int_in_range(0..=20_000)?)
                    .map(content)
                    .collect();
                queue.push(&data);
                written += data.len();
                if u.arbitrary()? {
                    reader.refill(&mut queue, u.int_in_range(0..=4)?);
                }
                let mut out = vec![0; u.int_in_range(0..=20_000)?];
                let held = reader.len();
                let got = reader.pull(&mut out);
                assert_eq!(got, held.min(out.len()));
                let right = (read..).zip(&out[..got]).all(|(at, byte)| *byte == content(at));
                assert!(right, "after {read}");
                read += got;
                assert_eq!(queue.len() + reader.len(), written - read);
                assert!(queue.memory() <= queue.len() + (2 + KEPT) * (BLOCK + 64) + queue.len() / 64);
            }
            Ok(())
        })
        .budget_ms(600);
    }

    #[test]
    fn a_first_small_write_costs_little() {
        let mut queue = Blocks::default();
        queue.push(b"short");
        assert!(
            queue.memory() <= 512 + 4 * size_of::<Piece>(),
            "{}",
            queue.memory()
        );
    }

    #[test]
    fn a_reader_and_a_writer_share_the_same_few_blocks() {
        let (mut queue, mut reader) = (Blocks::default(), Blocks::default());
        let mut out = vec![0; 3 * BLOCK];
        queue.push(&out);
        let mut known: Vec<*const u8> = Vec::new();
        for round in 0..10 {
            reader.refill(&mut queue, 8);
            assert_eq!(reader.pull(&mut out), out.len());
            reader.refill(&mut queue, 8);
            queue.push(&out);
            let mut now: Vec<_> = queue.pieces.iter().map(|piece| piece.memory.as_ptr()).collect();
            now.sort_unstable();
            assert!(round < 1 || now == known);
            known = now;
        }
    }
}
