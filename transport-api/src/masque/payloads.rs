//! The payloads of DATAGRAM capsules (RFC 9297 §3.5), collected from the pieces of a data stream.

use super::udp::{MAX_UDP_PAYLOAD, UDP_CONTEXT, UdpFault};
use crate::http::varint;

/// Holds one payload at most, and none that could not be sent anyhow.
#[derive(Debug)]
pub(super) struct PayloadReader {
    state: State,
    held: Vec<u8>,
    /// Longest payload worth holding.
    limit: usize,
    /// Whether any context but 0 is of interest.
    contexts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In no capsule, or in one that is ignored.
    Ignore,
    /// This many bytes of the capsule are to come; `held` has the beginning of the context id.
    Context { left: u64 },
    /// In the payload on this context.
    Payload { context: u64 },
}

impl PayloadReader {
    /// Discards what is longer than `limit`, and unless `contexts` what is not on context 0, without holding it.
    pub(super) fn new(limit: usize, contexts: bool) -> Self {
        Self {
            state: State::Ignore,
            held: Vec::new(),
            limit,
            contexts,
        }
    }

    /// A DATAGRAM capsule of `len` bytes begins.
    pub(super) fn begin(&mut self, len: u64) {
        self.held.clear();
        self.state = State::Context { left: len };
    }

    /// Bytes of a capsule's value; those of capsules that did not [`begin`](Self::begin) here are ignored. The context, when it is
    /// known with these, whether the payload is then held or not.
    pub(super) fn chunk(&mut self, chunk: &[u8]) -> Result<Option<u64>, UdpFault> {
        match self.state {
            State::Ignore => Ok(None),
            State::Payload { .. } => {
                self.held.extend_from_slice(chunk);
                Ok(None)
            }
            State::Context { left } => self.on_context(chunk, left),
        }
    }

    fn on_context(&mut self, chunk: &[u8], left: u64) -> Result<Option<u64>, UdpFault> {
        self.held.extend_from_slice(chunk);
        let left = left - chunk.len() as u64;
        let Some((context, begin)) = varint::take(&self.held) else {
            self.state = State::Context { left };
            return Ok(None);
        };
        let total = begin.len() as u64 + left;
        if context == UDP_CONTEXT && total > MAX_UDP_PAYLOAD as u64 {
            return Err(UdpFault::TooLong);
        }
        let wanted = (context == UDP_CONTEXT || self.contexts) && total <= self.limit as u64;
        self.state = if wanted {
            let id = self.held.len() - begin.len();
            self.held.drain(..id);
            State::Payload { context }
        } else {
            State::Ignore
        };
        Ok(Some(context))
    }

    /// The capsule is whole: its context and payload, unless it was ignored.
    pub(super) fn end(&mut self) -> Result<Option<(u64, Vec<u8>)>, UdpFault> {
        match std::mem::replace(&mut self.state, State::Ignore) {
            State::Ignore => Ok(None),
            State::Context { .. } => Err(UdpFault::NoContext),
            State::Payload { context } => Ok(Some((context, std::mem::take(&mut self.held)))),
        }
    }
}
