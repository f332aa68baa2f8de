//! Streams: ordered bytes, one direction each half.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::connection::Guard;
use crate::driver::shared::{RECV_BUFFER, RecvShared, SEND_BUFFER, SendShared, lock};
use crate::engine::{Blocks, Class, StreamId};
use crate::error::{ConnectionError, ReadError, ReadToEndError, WriteError};
use crate::wait::Wait;

/// Blocks of 8 KiB that a reader takes at once: enough for few locks, and no second queue.
const TAKEN: usize = 8;

/// The sending half of a stream.
///
/// Dropping it finishes the stream: what was written still arrives. To give it up instead, call [`SendStream::reset`].
/// The connection closes when its last handle is dropped; use [`crate::Connection::finish_and_close`] to be sure that
/// finished streams have arrived.
#[derive(Debug)]
pub struct SendStream {
    shared: Arc<SendShared>,
    _connection: Arc<Guard>,
}

impl SendStream {
    pub(crate) fn new(shared: Arc<SendShared>, connection: Arc<Guard>) -> Self {
        Self {
            shared,
            _connection: connection,
        }
    }

    /// The stream's id (RFC 9000 §2.1).
    pub fn id(&self) -> StreamId {
        self.shared.id
    }

    /// Writes some bytes; how many is the output, never 0 unless `data` is empty. It waits while the stream's buffer is
    /// full, that is while the peer's flow control or the network is slower than the writer.
    ///
    /// Cancel-safe: a dropped future has written nothing.
    pub fn write<'a>(&'a mut self, data: &'a [u8]) -> Write<'a> {
        Write { stream: self, data }
    }

    /// Writes all of `data`.
    ///
    /// Not cancel-safe: a dropped future has written some prefix, and does not say how much.
    pub fn write_all<'a>(&'a mut self, data: &'a [u8]) -> WriteAll<'a> {
        WriteAll { stream: self, data }
    }

    /// The poll face of [`SendStream::write`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, WriteError>> {
        let taken = {
            let mut state = lock(&self.shared.state);
            if let Some(error) = &state.lost {
                return Poll::Ready(Err(WriteError::Connection(ConnectionError::clone(error))));
            }
            if let Some(code) = state.stopped {
                return Poll::Ready(Err(WriteError::Stopped(code)));
            }
            if state.finished || state.reset.is_some() {
                return Poll::Ready(Err(WriteError::Finished));
            }
            let taken = data.len().min(SEND_BUFFER.saturating_sub(state.queue.len()));
            if taken == 0 && !data.is_empty() {
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.queue.push(data.get(..taken).unwrap_or_default());
            taken
        };
        if taken > 0 {
            self.shared.post();
        }
        Poll::Ready(Ok(taken))
    }

    /// Bytes that [`SendStream::write`] takes now without waiting.
    pub fn writable(&self) -> usize {
        SEND_BUFFER.saturating_sub(lock(&self.shared.state).queue.len())
    }

    /// Ends the stream after what was written. The bytes are sent (and resent) in the background.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        {
            let mut state = lock(&self.shared.state);
            if let Some(error) = &state.lost {
                return Err(WriteError::Connection(ConnectionError::clone(error)));
            }
            if let Some(code) = state.stopped {
                return Err(WriteError::Stopped(code));
            }
            if state.finished || state.reset.is_some() {
                return Err(WriteError::Finished);
            }
            state.finished = true;
        }
        self.shared.post();
        Ok(())
    }

    /// Gives the stream up: nothing more is sent or resent, the peer reads `code` (RFC 9000 §19.4).
    pub fn reset(&mut self, code: u64) -> Result<(), WriteError> {
        {
            let mut state = lock(&self.shared.state);
            if let Some(error) = &state.lost {
                return Err(WriteError::Connection(ConnectionError::clone(error)));
            }
            if state.reset.is_some() || state.acknowledged {
                return Err(WriteError::Finished);
            }
            state.reset = Some(code);
            state.queue.clear();
        }
        self.shared.post();
        Ok(())
    }

    /// Which class this stream is sent in (default: [`Class::Interactive`] as the scheduler sets it).
    pub fn set_class(&self, class: Class) {
        lock(&self.shared.state).class = Some(class);
        self.shared.post();
    }

    /// What is written may go along with the first flight, before the relay has answered
    /// ([`Endpoint::connect_early`](crate::Endpoint::connect_early)). Whoever sees that flight can send it again, to this
    /// relay after a restart of it, or to another one of its fleet: mark only what is safe to be done twice. Mark it before
    /// writing; without effect once the handshake is over.
    pub fn allow_early(&self) {
        lock(&self.shared.state).early = true;
        self.shared.post();
    }

    /// Waits until the peer has acknowledged the whole stream, FIN included: `Ok(None)`; or has stopped it: its code.
    /// `Ok(None)` also when the stream was reset here.
    ///
    /// Cancel-safe.
    pub fn stopped(&self) -> Stopped {
        Stopped {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        let post = {
            let mut state = lock(&self.shared.state);
            let open = !state.finished && state.reset.is_none() && state.lost.is_none();
            state.finished |= open;
            open
        };
        if post {
            self.shared.post();
        }
    }
}

impl io::Write for SendStream {
    /// Blocks until some bytes are taken.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        SendStream::write(self, data).wait().map_err(io::Error::from)
    }

    /// Nothing to do: the driver sends what was written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Future of [`SendStream::write`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Write<'a> {
    stream: &'a mut SendStream,
    data: &'a [u8],
}

impl Future for Write<'_> {
    type Output = Result<usize, WriteError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let data = self.data;
        self.stream.poll_write(cx, data)
    }
}

/// Future of [`SendStream::write_all`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct WriteAll<'a> {
    stream: &'a mut SendStream,
    data: &'a [u8],
}

impl Future for WriteAll<'_> {
    type Output = Result<(), WriteError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while !self.data.is_empty() {
            let data = self.data;
            match self.stream.poll_write(cx, data) {
                Poll::Ready(Ok(taken)) => self.data = data.get(taken..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Future of [`SendStream::stopped`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Stopped {
    shared: Arc<SendShared>,
}

impl Future for Stopped {
    type Output = Result<Option<u64>, WriteError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.shared.state);
        if let Some(code) = state.stopped {
            return Poll::Ready(Ok(Some(code)));
        }
        if state.acknowledged || state.reset.is_some() {
            return Poll::Ready(Ok(None));
        }
        if let Some(error) = &state.lost {
            return Poll::Ready(Err(WriteError::Connection(ConnectionError::clone(error))));
        }
        state.watchers.add(cx.waker());
        Poll::Pending
    }
}

/// The receiving half of a stream.
///
/// Dropping it before its end stops the stream with code 0: the peer need not send what nobody reads.
#[derive(Debug)]
pub struct RecvStream {
    shared: Arc<RecvShared>,
    /// Taken out of the shared queue, and spent blocks that go back with the next look at it.
    current: Blocks,
    ended: bool,
    _connection: Arc<Guard>,
}

impl RecvStream {
    pub(crate) fn new(shared: Arc<RecvShared>, connection: Arc<Guard>) -> Self {
        Self {
            shared,
            current: Blocks::default(),
            ended: false,
            _connection: connection,
        }
    }

    /// The stream's id (RFC 9000 §2.1).
    pub fn id(&self) -> StreamId {
        self.shared.id
    }

    /// At a relay: whether the stream came along with the first flight of a client that had not yet shown that it is there. It may
    /// be a copy of an earlier flight (RFC 8470): do only what is safe to be done twice.
    pub fn is_early(&self) -> bool {
        lock(&self.shared.state).early
    }

    /// Reads some bytes, in order; `None` at the end of the stream. The peer may send more only as this is called.
    ///
    /// Cancel-safe: a dropped future has read nothing.
    pub fn read<'a>(&'a mut self, out: &'a mut [u8]) -> Read<'a> {
        Read { stream: self, out }
    }

    /// Reads to the end of the stream, at most `limit` bytes.
    ///
    /// Not cancel-safe: what a dropped future has read is lost.
    pub fn read_to_end(&mut self, limit: usize) -> ReadToEnd<'_> {
        ReadToEnd {
            stream: self,
            limit,
            data: Vec::new(),
        }
    }

    /// The poll face of [`RecvStream::read`].
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<Result<Option<usize>, ReadError>> {
        if out.is_empty() {
            return Poll::Ready(Ok(Some(0)));
        }
        match self.poll_chunk(cx.waker()) {
            Poll::Ready(Ok(true)) => {}
            Poll::Ready(Ok(false)) => return Poll::Ready(Ok(None)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(Ok(Some(self.current.pull(out))))
    }

    /// Makes `current` non-empty: true; false at the end of the stream.
    fn poll_chunk(&mut self, waker: &Waker) -> Poll<Result<bool, ReadError>> {
        if !self.current.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        let hungry = {
            let mut state = lock(&self.shared.state);
            if state.stop.is_some() {
                return Poll::Ready(Err(ReadError::Stopped));
            }
            if let Some(code) = state.reset {
                return Poll::Ready(Err(ReadError::Reset(code)));
            }
            self.current.refill(&mut state.queue, TAKEN);
            if self.current.is_empty() {
                if state.fin {
                    self.ended = true;
                    state.queue.clear();
                    return Poll::Ready(Ok(false));
                }
                if let Some(error) = &state.lost {
                    return Poll::Ready(Err(ReadError::Connection(ConnectionError::clone(error))));
                }
                state.reader = Some(waker.clone());
                return Poll::Pending;
            }
            let hungry = state.starved && state.queue.len() <= RECV_BUFFER / 2;
            state.starved &= !hungry;
            hungry
        };
        if hungry {
            self.shared.post();
        }
        Poll::Ready(Ok(true))
    }

    /// Tells the peer that nobody reads this stream any more (RFC 9000 §19.5). Unread bytes are dropped.
    pub fn stop(&mut self, code: u64) -> Result<(), ReadError> {
        {
            let mut state = lock(&self.shared.state);
            if let Some(error) = &state.lost {
                return Err(ReadError::Connection(ConnectionError::clone(error)));
            }
            if state.stop.is_some() {
                return Err(ReadError::Stopped);
            }
            state.stop = Some(code);
            state.queue.clear();
        }
        self.current.clear();
        self.shared.post();
        Ok(())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        let post = {
            let mut state = lock(&self.shared.state);
            state.queue.clear();
            let open = !self.ended && state.stop.is_none() && state.reset.is_none() && state.lost.is_none();
            if open {
                state.stop = Some(0);
            }
            open
        };
        if post {
            self.shared.post();
        }
    }
}

impl io::Read for RecvStream {
    /// Blocks until bytes arrive; 0 at the end of the stream.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = RecvStream::read(self, out).wait();
        read.map(Option::unwrap_or_default).map_err(io::Error::from)
    }
}

/// Future of [`RecvStream::read`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Read<'a> {
    stream: &'a mut RecvStream,
    out: &'a mut [u8],
}

impl Future for Read<'_> {
    type Output = Result<Option<usize>, ReadError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.stream.poll_read(cx, this.out)
    }
}

/// Future of [`RecvStream::read_to_end`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct ReadToEnd<'a> {
    stream: &'a mut RecvStream,
    limit: usize,
    data: Vec<u8>,
}

impl Future for ReadToEnd<'_> {
    type Output = Result<Vec<u8>, ReadToEndError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match this.stream.poll_chunk(cx.waker()) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(std::mem::take(&mut this.data))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(ReadToEndError::Read(error))),
                Poll::Pending => return Poll::Pending,
            }
            let bytes = this.stream.current.front();
            if this.data.len() + bytes.len() > this.limit {
                return Poll::Ready(Err(ReadToEndError::TooLong { limit: this.limit }));
            }
            this.data.extend_from_slice(bytes);
            let read = bytes.len();
            this.stream.current.consume(read);
        }
    }
}

#[cfg(test)]
mod tests;
