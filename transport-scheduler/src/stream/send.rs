//! The sending half of a stream.

use crate::StreamId;
use crate::blocks::Piece;
use crate::fair::Interest;
use crate::flow::Credit;
use crate::ranges::RangeSet;
use crate::stream::state::SendState;
use crate::stream::store::{BLOCK, Pool, Store};

/// How far the end of the stream has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fin {
    Unsent,
    InFlight,
    Lost,
    Acked,
}

/// What a refused write waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Blocked {
    No,
    /// Room in the stream's own buffer.
    Room,
    /// Room in all buffers together.
    Total,
}

/// A piece that could be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) offset: u64,
    pub(crate) len: usize,
    /// The end comes with it.
    pub(crate) fin: bool,
    /// It was sent before.
    pub(crate) again: bool,
}

/// What we send on a stream: bytes from `base` (all below are acknowledged) to `end`.
#[derive(Debug)]
pub(crate) struct SendHalf {
    pub(crate) state: SendState,
    pub(crate) credit: Credit,
    /// A write was refused; the application is to be told when it may try again.
    pub(crate) blocked: Blocked,
    /// The peer asked us to stop, with this code.
    pub(crate) stopped: Option<u64>,
    store: Store,
    base: u64,
    sent: u64,
    end: u64,
    acked: RangeSet,
    lost: RangeSet,
    fin: Fin,
}

impl SendHalf {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            state: SendState::Send,
            credit: Credit::new(limit),
            blocked: Blocked::No,
            stopped: None,
            store: Store::default(),
            base: 0,
            sent: 0,
            end: 0,
            acked: RangeSet::default(),
            lost: RangeSet::default(),
            fin: Fin::Unsent,
        }
    }

    /// Bytes held: written and not acknowledged from the front.
    pub(crate) fn buffered(&self) -> usize {
        (self.end - self.base) as usize
    }

    /// Bytes that may be written: `bounds` of all that is held, and of what was never sent.
    pub(crate) fn room(&self, [held, ahead]: [usize; 2]) -> usize {
        held.saturating_sub(self.buffered())
            .min(ahead.saturating_sub(self.unsent()))
    }

    /// Bytes that were never sent.
    pub(crate) fn unsent(&self) -> usize {
        (self.end - self.sent) as usize
    }

    /// Appends; the caller has seen to the room.
    pub(crate) fn write(&mut self, pool: &mut Pool, data: &[u8]) {
        self.store.write(pool, self.end, data);
        self.end += data.len() as u64;
    }

    /// Appends a block; gives its memory back if the bytes were copied. The caller has seen to the room.
    pub(crate) fn write_block(&mut self, pool: &mut Pool, piece: Piece) -> Option<Vec<u8>> {
        let offset = self.end;
        self.end += piece.len() as u64;
        self.store.adopt(pool, offset, piece)
    }

    pub(crate) fn finish(&mut self) {
        self.state = SendState::DataSent;
    }

    /// Gives up: drops everything held and says how many bytes that was.
    pub(crate) fn reset(&mut self, pool: &mut Pool, code: u64) -> usize {
        let dropped = self.buffered();
        self.state = SendState::ResetSent { code };
        self.store.clear(pool);
        self.acked.clear();
        self.lost.clear();
        self.base = self.end;
        self.blocked = Blocked::No;
        dropped
    }

    /// What it wants, given what the connection may send.
    pub(crate) fn interest(&self, connection: u64) -> Interest {
        if matches!(self.state, SendState::ResetSent { .. }) {
            Interest::None
        } else if !self.lost.is_empty() || self.fin == Fin::Lost {
            Interest::Ahead
        } else if self.fin_next() && self.sent == self.end {
            Interest::Waiting
        } else if self.sent == self.end || self.credit.available() == 0 {
            Interest::None
        } else if connection == 0 {
            Interest::Parked
        } else {
            Interest::Waiting
        }
    }

    /// Whether it has bytes that its own limit holds back.
    pub(crate) fn is_held_back(&self) -> bool {
        self.sent < self.end && self.credit.available() == 0
    }

    /// The next piece, given what the connection may send: what was lost first.
    pub(crate) fn offer(&self, connection: u64) -> Option<Span> {
        if !matches!(self.interest(connection), Interest::Ahead | Interest::Waiting) {
            return None;
        }
        if let Some(range) = self.lost.first() {
            let len = (range.end - range.start).min(BLOCK as u64);
            let last = range.start + len == self.end;
            let fin = last && (self.fin == Fin::Lost || self.fin_next() && self.sent == self.end);
            return Some(Span {
                offset: range.start,
                len: len as usize,
                fin,
                again: true,
            });
        }
        if self.fin == Fin::Lost {
            return Some(Span {
                offset: self.end,
                len: 0,
                fin: true,
                again: true,
            });
        }
        let allowed = self.credit.available().min(connection).min(BLOCK as u64);
        let len = (self.end - self.sent).min(allowed);
        let fin = self.fin_next() && self.sent + len == self.end;
        Some(Span {
            offset: self.sent,
            len: len as usize,
            fin,
            again: false,
        })
    }

    /// Commits the first `len` bytes of a piece offered; gives whether the end goes with them.
    pub(crate) fn take(&mut self, span: Span, len: usize) -> bool {
        let end = span.offset + len as u64;
        let fin = span.fin && len == span.len;
        if span.again {
            self.lost.remove(span.offset..end);
        } else {
            self.sent = end;
            self.credit.spend(len as u64);
        }
        if fin {
            self.fin = Fin::InFlight;
        }
        fin
    }

    /// The bytes of a piece that was taken.
    pub(crate) fn slices(&self, offset: u64, len: usize) -> [&[u8]; 2] {
        self.store.slices(offset, len)
    }

    /// A piece arrived. Gives the bytes no longer held.
    pub(crate) fn acked(&mut self, pool: &mut Pool, offset: u64, len: u32, fin: bool) -> usize {
        if matches!(self.state, SendState::ResetSent { .. }) {
            return 0;
        }
        if fin {
            self.fin = Fin::Acked;
        }
        let end = (offset + u64::from(len)).min(self.sent);
        let start = offset.max(self.base);
        if start >= end {
            return 0;
        }
        self.lost.remove(start..end);
        if start > self.base {
            self.acked.insert(start..end);
            return 0;
        }
        let before = self.base;
        self.base = end;
        while self.acked.first().is_some_and(|next| next.start <= self.base) {
            let next = self.acked.pop_first();
            self.base = next.map_or(self.base, |next| next.end.max(self.base));
        }
        if self.base == self.end {
            self.store.clear(pool);
        } else {
            self.store.release(pool, self.base);
        }
        (self.base - before) as usize
    }

    /// A piece was lost, or is to be repeated: what of it is not acknowledged goes again.
    pub(crate) fn lost(&mut self, offset: u64, len: u32, fin: bool) {
        if matches!(self.state, SendState::ResetSent { .. }) {
            return;
        }
        if fin && self.fin == Fin::InFlight {
            self.fin = Fin::Lost;
        }
        let end = (offset + u64::from(len)).min(self.sent);
        let mut start = offset.max(self.base);
        for acked in self.acked.iter() {
            if acked.start >= end {
                break;
            }
            self.lost.insert(start..acked.start.max(start));
            start = start.max(acked.end);
        }
        self.lost.insert(start..end.max(start));
    }

    /// Whether everything up to the end was acknowledged.
    pub(crate) fn is_finished(&self) -> bool {
        self.state == SendState::DataSent && self.fin == Fin::Acked && self.base == self.end
    }

    /// The reset frame's content, if the stream was given up.
    pub(crate) fn reset_frame(&self, id: StreamId) -> Option<crate::Control> {
        match self.state {
            SendState::ResetSent { code } => Some(crate::Control::ResetStream {
                id,
                code,
                final_size: self.sent,
            }),
            SendState::Send | SendState::DataSent => None,
        }
    }

    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.store.memory() + self.acked.memory() + self.lost.memory()
    }

    fn fin_next(&self) -> bool {
        self.state == SendState::DataSent && self.fin == Fin::Unsent
    }
}
