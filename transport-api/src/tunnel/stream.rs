//! The request stream of a tunnel that carries datagrams, at either end: native ones, and what stands in capsules.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use super::frames::{FrameReader, StreamError};
use super::inbox::{Datagram, InboxEnd};
use super::session::{RequestStream, Route};
use crate::http::{Code, Fault, frame};
use crate::masque::lane::{Lane, LaneError, LaneSend};

/// Bytes of the data stream read at once.
const PIECE: usize = 2048;
/// Bytes of capsules that the peer does not take; beyond it the stream is given up.
const MAX_UNSENT: usize = 64 * 1024;
/// Datagrams in a row, after which the stream is looked at before the next one.
const STREAM_EVERY: usize = 64;
/// Items that who watches for the end found on the stream, kept for who receives.
const MAX_FOUND: usize = 64;
/// Wakers of one stream; beyond, all are woken and ask again.
const MAX_WATCHERS: usize = 64;

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
pub(crate) struct TunnelStream<L: Lane, R: Reader> {
    send: L::Send,
    frames: FrameReader<L::Recv>,
    route: Route<L>,
    reader: R,
    /// Bytes of the data stream not yet taken apart.
    piece: Vec<u8>,
    position: usize,
    /// Frames not yet written.
    unsent: Vec<u8>,
    /// Datagrams given out since the stream was looked at.
    in_a_row: usize,
    end: Option<End>,
    watch: Option<Box<Watch<R::Item>>>,
    /// Who receives, as long as it waits.
    receiver: Option<Waker>,
}

/// How a stream ended.
#[derive(Clone, Debug)]
enum End {
    Proper,
    Broken(StreamError),
}

impl End {
    fn error(&self) -> Option<StreamError> {
        match self {
            Self::Proper => None,
            Self::Broken(error) => Some(error.clone()),
        }
    }
}

/// What is there once somebody watches for the end: the stream's one waker is then everybody's.
#[derive(Debug)]
struct Watch<T> {
    crowd: Arc<Crowd>,
    waker: Waker,
    found: VecDeque<T>,
}

impl<T> Watch<T> {
    fn new() -> Self {
        let crowd = Arc::<Crowd>::default();
        Self {
            waker: Waker::from(Arc::clone(&crowd)),
            crowd,
            found: VecDeque::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Crowd(Mutex<Vec<Waker>>);

impl Crowd {
    fn add(&self, waker: &Waker) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            if waiting.len() >= MAX_WATCHERS {
                waiting.drain(..).for_each(Waker::wake);
            }
            waiting.push(waker.clone());
        }
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Crowd {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
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
            in_a_row: 0,
            end: None,
            watch: None,
            receiver: None,
        }
    }

    /// Sends whole capsules in a DATA frame; they leave when the stream is polled.
    pub(crate) fn tell(&mut self, capsules: &[u8]) {
        frame::put(&mut self.unsent, frame::kind::DATA, capsules);
    }

    /// Writes what was told as far as it goes, without waiting. Who receives is woken when more may go.
    pub(crate) fn push(&mut self) {
        let waker = match (&self.watch, &self.receiver) {
            (Some(watch), _) => watch.waker.clone(),
            (None, Some(receiver)) => receiver.clone(),
            (None, None) => Waker::noop().clone(),
        };
        // An error comes again, to who receives.
        let _ = self.write(&mut Context::from_waker(&waker));
    }

    /// Whether some of what was told has not been taken yet.
    pub(crate) fn is_writing(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The next item; `None` when the stream was closed. It also writes what was told.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<R::Item>, StreamError>> {
        if let Some(found) = self.watch.as_mut().and_then(|watch| watch.found.pop_front()) {
            return Poll::Ready(Ok(Some(found)));
        }
        if let Some(end) = &self.end {
            return Poll::Ready(end.error().map_or(Ok(None), Err));
        }
        let next = self.poll_next(cx);
        match &next {
            Poll::Ready(result) => self.conclude(result),
            Poll::Pending => match &mut self.receiver {
                Some(known) => known.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            },
        }
        next
    }

    /// Waits for the end, whether somebody receives meanwhile or not; `None` when it was a proper one.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamError>> {
        loop {
            if let Some(end) = &self.end {
                return Poll::Ready(end.error());
            }
            let watch = self.watch.get_or_insert_with(|| Box::new(Watch::new()));
            watch.crowd.add(cx.waker());
            if let Some(receiver) = &self.receiver {
                watch.crowd.add(receiver);
            }
            if watch.found.len() >= MAX_FOUND {
                return Poll::Pending;
            }
            let next = ready!(self.poll_stream(cx));
            self.conclude(&next);
            if let Some(watch) = &mut self.watch {
                watch.found.extend(next.unwrap_or_default());
                watch.crowd.wake_all();
            }
        }
    }

    /// Keeps how it ended, if it did, and ends this side.
    fn conclude(&mut self, result: &Result<Option<R::Item>, StreamError>) {
        match result {
            Ok(Some(_)) => return,
            Ok(None) => {
                self.end = Some(End::Proper);
                self.send.finish();
            }
            Err(error) => self.abort(error),
        }
        if let Some(watch) = &self.watch {
            watch.crowd.wake_all();
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<R::Item>, StreamError>> {
        if self.in_a_row >= STREAM_EVERY
            && let Poll::Ready(next) = self.poll_stream(cx)
        {
            return Poll::Ready(next);
        }
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
            self.in_a_row += 1;
            if let Some(item) = self.reader.native(datagram)? {
                return Poll::Ready(Ok(Some(item)));
            }
        }
        self.poll_stream(cx)
    }

    /// The next item that stands on the stream.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<R::Item>, StreamError>> {
        self.in_a_row = 0;
        let everybody = self.watch.as_ref().map(|watch| {
            watch.crowd.add(cx.waker());
            watch.waker.clone()
        });
        let cx = &mut Context::from_waker(everybody.as_ref().unwrap_or(cx.waker()));
        self.write(cx)?;
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
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
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
        self.end = Some(End::Broken(error.clone()));
        self.send.reset(code.0);
        self.frames.stop(code);
    }

    /// Ends the stream from this side.
    pub(crate) fn close(&mut self) {
        if self.end.is_none() {
            self.end = Some(End::Proper);
            self.send.finish();
            self.frames.stop(Code::NO_ERROR);
        }
    }
}

impl<L: Lane, R: Reader> Drop for TunnelStream<L, R> {
    fn drop(&mut self) {
        self.close();
    }
}
