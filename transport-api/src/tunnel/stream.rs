//! The request stream of a tunnel that carries datagrams, at either end: native ones, and what stands in capsules.

use std::task::{Context, Poll, ready};

use super::frames::{FrameReader, StreamError};
use super::inbox::{Datagram, InboxEnd};
use super::session::{RequestStream, Route};
use crate::http::{Code, Fault, frame};
use crate::masque::lane::{Lane, LaneError, LaneSend};

/// Bytes of the data stream read at once.
const PIECE: usize = 2048;
/// Bytes of capsules that the peer does not take; beyond it the stream is given up.
const MAX_UNSENT: usize = 64 * 1024;

/// What datagrams and capsules of a kind of tunnel mean.
pub(crate) trait Reader {
    /// What a tunnel's user gets.
    type Item;
    /// A native datagram, without its quarter stream id; `None` when it says nothing.
    fn native(&mut self, datagram: Datagram) -> Result<Option<Self::Item>, StreamError>;
    /// The next item in `input`, which is taken off it; `None` when `input` is used up.
    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Self::Item>, StreamError>;
    /// The stream ended cleanly.
    fn finish(&self) -> Result<(), StreamError>;
}

/// A request stream and the reader of what it brings. Dropping it finishes it.
#[derive(Debug)]
pub(crate) struct TunnelStream<L: Lane, R> {
    send: L::Send,
    frames: FrameReader<L::Recv>,
    route: Route<L>,
    reader: R,
    /// Bytes of the data stream not yet taken apart.
    piece: Vec<u8>,
    position: usize,
    /// Frames not yet written.
    unsent: Vec<u8>,
    ended: bool,
}

impl<L: Lane, R: Reader> TunnelStream<L, R> {
    pub(crate) fn reading(request: RequestStream<L>, reader: R) -> Self {
        Self {
            send: request.send,
            frames: request.frames,
            route: request.route,
            reader,
            piece: Vec::new(),
            position: 0,
            unsent: Vec::new(),
            ended: false,
        }
    }

    /// Sends whole capsules in a DATA frame; they leave when the stream is polled.
    pub(crate) fn tell(&mut self, capsules: &[u8]) {
        frame::put(&mut self.unsent, frame::kind::DATA, capsules);
    }

    /// The next item; `None` when the peer has closed the stream. It also writes what was told.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<R::Item>, StreamError>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let result = ready!(self.poll_next(cx));
        match &result {
            Ok(Some(_)) => {}
            Ok(None) => {
                self.ended = true;
                self.send.finish();
            }
            Err(error) => {
                self.ended = true;
                self.abort(error);
            }
        }
        Poll::Ready(result)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<R::Item>, StreamError>> {
        self.write(cx)?;
        while let Poll::Ready(next) = self.route.inbox.poll_recv(cx) {
            let datagram = match next {
                Ok(datagram) => datagram,
                Err(InboxEnd::NotForDatagrams) => {
                    return Poll::Ready(Err(Fault::Stream(Code::DATAGRAM_ERROR).into()));
                }
                Err(InboxEnd::Closed) => {
                    return Poll::Ready(Err(LaneError::Closed("the session is over".into()).into()));
                }
            };
            if let Some(item) = self.reader.native(datagram)? {
                return Poll::Ready(Ok(Some(item)));
            }
        }
        loop {
            let mut rest = self.piece.get(self.position..).unwrap_or_default();
            let found = self.reader.next(&mut rest)?;
            self.position = self.piece.len() - rest.len();
            if found.is_some() {
                return Poll::Ready(Ok(found));
            }
            // A silent tunnel holds no buffer.
            (self.piece, self.position) = (Vec::new(), 0);
            let mut space = [0; PIECE];
            match ready!(self.frames.poll_data(cx, &mut space))? {
                Some(n) => self.piece.extend_from_slice(space.get(..n).unwrap_or_default()),
                None => {
                    self.reader.finish()?;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }

    /// Writes what the peer takes now.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), StreamError> {
        while !self.unsent.is_empty() {
            match self.send.poll_write(cx, &self.unsent) {
                Poll::Ready(written) => drop(self.unsent.drain(..written?)),
                Poll::Pending if self.unsent.len() > MAX_UNSENT => {
                    return Err(Fault::Stream(Code::EXCESSIVE_LOAD).into());
                }
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Gives the stream up.
    pub(crate) fn abort(&mut self, error: &StreamError) {
        let code = match error {
            StreamError::Fault(fault) => {
                self.route.session().fault(*fault);
                fault.code()
            }
            StreamError::Lane(_) => Code::REQUEST_CANCELLED,
        };
        self.ended = true;
        self.send.reset(code.0);
        self.frames.stop(code);
    }

    /// Ends the stream from this side.
    pub(crate) fn close(&mut self) {
        if !self.ended {
            self.ended = true;
            self.send.finish();
            self.frames.stop(Code::NO_ERROR);
        }
    }
}

impl<L: Lane, R> Drop for TunnelStream<L, R> {
    fn drop(&mut self) {
        if !self.ended {
            self.send.finish();
            self.frames.stop(Code::NO_ERROR);
        }
    }
}
