//! The receiving half of a stream.

use crate::flow::{MAX_VARINT, Window};
use crate::stream::assembler::Assembler;
use crate::stream::state::RecvState;
use crate::stream::store::Pool;
use crate::{Read, ReadError, ReceiveError, Violation};

/// What the peer sends on a stream.
#[derive(Debug)]
pub(crate) struct RecvHalf {
    pub(crate) state: RecvState,
    pub(crate) window: Window,
    assembler: Assembler,
    /// The highest offset seen: what counts against flow control.
    highest: u64,
    /// The application was told that there is something to read, and has not read since.
    told: bool,
    /// The application does not want the rest.
    stopped: Option<u64>,
}

impl RecvHalf {
    pub(crate) fn new(window: Window) -> Self {
        Self {
            state: RecvState::Recv,
            window,
            assembler: Assembler::default(),
            highest: 0,
            told: false,
            stopped: None,
        }
    }

    /// Checks a piece against the final size and the stream's limit; gives how much of the connection's limit it uses.
    /// Changes nothing.
    pub(crate) fn check(&self, offset: u64, len: usize, fin: bool) -> Result<u64, Violation> {
        let end = offset.saturating_add(len as u64);
        if end > MAX_VARINT {
            return Err(Violation::FlowControl);
        }
        match self.state.final_size() {
            Some(size) if end > size || (fin && end != size) => return Err(Violation::FinalSize),
            None if fin && end < self.highest => return Err(Violation::FinalSize),
            _ => {}
        }
        if end > self.window.announced() {
            return Err(Violation::FlowControl);
        }
        Ok(end.saturating_sub(self.highest))
    }

    /// Takes a piece that was checked. Says whether the application is to be told that there is something to read.
    pub(crate) fn insert(
        &mut self,
        pool: &mut Pool,
        offset: u64,
        data: &[u8],
        fin: bool,
        max_segments: usize,
    ) -> Result<bool, ReceiveError> {
        let end = offset.saturating_add(data.len() as u64);
        let wanted = self.stopped.is_none() && !matches!(self.state, RecvState::ResetRecvd { .. });
        let more = wanted && self.assembler.insert(pool, offset, data, max_segments)?;
        self.highest = self.highest.max(end);
        if fin && self.state == RecvState::Recv {
            self.state = RecvState::SizeKnown { final_size: end };
        }
        Ok(wanted && (more || self.is_complete()) && !std::mem::replace(&mut self.told, true))
    }

    /// Checks a reset; gives how much of the connection's limit its final size uses. Changes nothing.
    pub(crate) fn check_reset(&self, final_size: u64) -> Result<u64, Violation> {
        if final_size < self.highest || self.state.final_size().is_some_and(|size| size != final_size) {
            return Err(Violation::FinalSize);
        }
        if final_size > self.window.announced() {
            return Err(Violation::FlowControl);
        }
        Ok(final_size - self.highest)
    }

    /// Takes a reset that was checked, unless everything had arrived before it or it is repeated: `None`. Otherwise the bytes
    /// that will never be read, which the connection's window gets back.
    pub(crate) fn reset(&mut self, pool: &mut Pool, code: u64, final_size: u64) -> Option<u64> {
        if self.is_complete() || matches!(self.state, RecvState::ResetRecvd { .. }) {
            return None;
        }
        let unread = if self.stopped.is_some() {
            final_size - self.highest
        } else {
            final_size - self.assembler.position()
        };
        self.highest = final_size;
        self.assembler.clear(pool);
        self.state = RecvState::ResetRecvd { code, final_size };
        Some(unread)
    }

    /// Reads in order, at most `wanted` bytes, by a function that moves them and says how many.
    pub(crate) fn read(
        &mut self,
        wanted: usize,
        take: impl FnOnce(&mut Assembler) -> usize,
    ) -> Result<Read, ReadError> {
        if self.stopped.is_some() {
            return Err(ReadError::Stopped);
        }
        self.told = false;
        if let RecvState::ResetRecvd { code, .. } = self.state {
            return Err(ReadError::Reset(code));
        }
        let bytes = take(&mut self.assembler);
        let fin = self.is_complete() && self.assembler.readable() == 0;
        if bytes == 0 && !fin && (wanted > 0 || self.assembler.readable() == 0) {
            return Err(ReadError::Blocked);
        }
        Ok(Read { bytes, fin })
    }

    /// The application does not want the rest. Gives the bytes that came and will never be read.
    pub(crate) fn stop(&mut self, pool: &mut Pool, code: u64) -> Result<u64, ReadError> {
        if self.stopped.is_some() {
            return Err(ReadError::Stopped);
        }
        self.stopped = Some(code);
        if matches!(self.state, RecvState::ResetRecvd { .. }) {
            return Ok(0);
        }
        let unread = self.highest - self.assembler.position();
        self.assembler.clear(pool);
        Ok(unread)
    }

    /// The code of a stop, while the peer may still send.
    pub(crate) fn stop_wanted(&self) -> Option<u64> {
        self.stopped.filter(|_| self.state == RecvState::Recv)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Whether a higher limit is of any use to the peer.
    pub(crate) fn limit_matters(&self) -> bool {
        self.state == RecvState::Recv && self.stopped.is_none()
    }

    /// Whether nothing is left that the application would have to see.
    pub(crate) fn is_over(&self) -> bool {
        self.stopped.is_some() && self.state.final_size().is_some()
    }

    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.assembler.memory()
    }

    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        self.assembler.clear(pool);
    }

    /// Whether every byte up to the end has arrived, and none was thrown away.
    fn is_complete(&self) -> bool {
        matches!(self.state, RecvState::SizeKnown { final_size } if final_size == self.assembler.contiguous())
    }
}
