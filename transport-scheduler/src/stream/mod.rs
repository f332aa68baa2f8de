//! Streams: their bytes, their two state machines, and the table that finds them.

pub(crate) mod assembler;
pub(crate) mod recv;
pub(crate) mod send;
pub(crate) mod state;
pub(crate) mod store;
pub(crate) mod table;

use crate::{Class, StreamId};
use recv::RecvHalf;
use send::SendHalf;

/// Control frames a stream has to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    Reset,
    Stop,
    MaxData,
    Blocked,
}

/// A set of [`Due`], the most urgent first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct DueSet(u8);

impl DueSet {
    pub(crate) fn insert(&mut self, due: Due) {
        self.0 |= 1 << due as u8;
    }

    pub(crate) fn remove(&mut self, due: Due) {
        self.0 &= !(1 << due as u8);
    }

    pub(crate) fn first(self) -> Option<Due> {
        [Due::Reset, Due::Stop, Due::MaxData, Due::Blocked]
            .into_iter()
            .find(|&due| self.0 & 1 << due as u8 != 0)
    }
}

/// One stream. A half that does not exist, or is over and seen to its end, is `None`; without halves the stream is gone.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) class: Class,
    pub(crate) due: DueSet,
    /// Counted as cancelled by the peer, which is done once for both halves.
    pub(crate) cancelled: bool,
    /// May be sent before the handshake is over.
    pub(crate) early: bool,
    /// Halves are boxed: many streams go one way, and of many one half is over.
    pub(crate) send: Option<Box<SendHalf>>,
    pub(crate) recv: Option<Box<RecvHalf>>,
}

impl Stream {
    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.send.as_ref().map_or(0, |send| send.memory())
            + self.recv.as_ref().map_or(0, |recv| recv.memory())
    }
}
