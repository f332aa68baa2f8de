//! A TCP tunnel: bytes in DATA frames.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use super::error::TunnelError;
use super::frames::{FrameReader, StreamError};
use super::session::{RequestStream, Route};
use crate::Connection;
use crate::http::Code;
use crate::http::frame::{DATA_HEADER, data_header};
use crate::masque::lane::{Lane, LaneSend};

/// The largest DATA frame begun, bytes; a reader's buffer rarely takes more at once.
const MAX_DATA: usize = 256 * 1024;

/// A TCP connection of the relay to the target.
#[derive(Debug)]
pub struct TcpTunnel<L: Lane = Connection> {
    sender: TcpSender<L>,
    receiver: TcpReceiver<L>,
}

impl<L: Lane> TcpTunnel<L> {
    pub(super) fn new(stream: RequestStream<L>) -> Self {
        Self {
            sender: TcpSender {
                send: stream.send,
                header: [0; DATA_HEADER],
                header_left: 0,
                owed: 0,
                finished: false,
            },
            receiver: TcpReceiver {
                frames: stream.frames,
                route: stream.route,
                ended: false,
            },
        }
    }

    /// Sends and receives from two tasks.
    pub fn split(self) -> (TcpSender<L>, TcpReceiver<L>) {
        (self.sender, self.receiver)
    }

    /// As [`TcpReceiver::read`].
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, TunnelError> {
        self.receiver.read(buffer).await
    }

    /// As [`TcpSender::write_all`].
    pub async fn write_all(&mut self, data: &[u8]) -> Result<(), TunnelError> {
        self.sender.write_all(data).await
    }

    /// As [`TcpSender::finish`].
    pub fn finish(&mut self) {
        self.sender.finish();
    }
}

/// To the target. Dropping it without [`TcpSender::finish`] resets the connection to the target.
#[derive(Debug)]
pub struct TcpSender<L: Lane = Connection> {
    send: L::Send,
    /// The header of the frame under way, right-aligned, and how much of it is still to be written.
    header: [u8; DATA_HEADER],
    header_left: usize,
    /// Bytes of the frame under way that are still to come.
    owed: usize,
    finished: bool,
}

impl<L: Lane> TcpSender<L> {
    /// Writes a part of `data`, and promises the relay the rest of it: what is written next belongs to the same frame.
    ///
    /// Cancel-safe: a dropped future has written nothing.
    pub async fn write(&mut self, data: &[u8]) -> Result<usize, TunnelError> {
        poll_fn(|cx| self.poll_write(cx, data)).await
    }

    /// Writes all of `data`. A dropped future has written an unknown part.
    pub async fn write_all(&mut self, mut data: &[u8]) -> Result<(), TunnelError> {
        while !data.is_empty() {
            let n = self.write(data).await?;
            data = data.get(n..).unwrap_or_default();
        }
        Ok(())
    }

    /// As [`TcpSender::write`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, TunnelError>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.owed == 0 {
            self.owed = data.len().min(MAX_DATA);
            self.header_left = DATA_HEADER - data_header(self.owed, &mut self.header);
        }
        while self.header_left > 0 {
            let rest = self
                .header
                .get(DATA_HEADER - self.header_left..)
                .unwrap_or_default();
            self.header_left -= ready!(self.send.poll_write(cx, rest)).map_err(StreamError::Lane)?;
        }
        let here = data.get(..self.owed).unwrap_or(data);
        let n = ready!(self.send.poll_write(cx, here)).map_err(StreamError::Lane)?;
        self.owed -= n;
        Poll::Ready(Ok(n))
    }

    /// Half-closes: the target reads the end after what was written. After a write that was begun and not completed it
    /// resets instead, since the frame that was promised cannot be completed.
    pub fn finish(&mut self) {
        if self.owed > 0 {
            return self.reset();
        }
        self.finished = true;
        self.send.finish();
    }

    /// Gives the connection up; the relay closes the one to the target.
    pub fn reset(&mut self) {
        self.finished = true;
        self.send.reset(Code::CONNECT_ERROR.0);
    }
}

impl<L: Lane> Drop for TcpSender<L> {
    fn drop(&mut self) {
        if !self.finished {
            self.send.reset(Code::REQUEST_CANCELLED.0);
        }
    }
}

/// From the target. Dropping it before the end tells the relay that nobody reads any more.
#[derive(Debug)]
pub struct TcpReceiver<L: Lane = Connection> {
    frames: FrameReader<L::Recv>,
    /// Keeps datagrams for this request from being taken for those of an unknown one.
    route: Route<L>,
    ended: bool,
}

impl<L: Lane> TcpReceiver<L> {
    /// Reads; `None` when the target has sent all.
    ///
    /// Cancel-safe: a dropped future has read nothing.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, TunnelError> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// As [`TcpReceiver::read`].
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<Option<usize>, TunnelError>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let result = ready!(self.frames.poll_data(cx, buffer));
        if let Err(StreamError::Fault(fault)) = &result {
            self.route.session().fault(*fault);
        }
        self.ended = !matches!(result, Ok(Some(_)));
        Poll::Ready(result.map_err(TunnelError::from))
    }

    /// Tells the relay that nobody reads any more.
    pub fn stop(&mut self) {
        if !self.ended {
            self.ended = true;
            self.frames.stop(Code::REQUEST_CANCELLED);
        }
    }
}

impl<L: Lane> Drop for TcpReceiver<L> {
    fn drop(&mut self) {
        self.stop();
    }
}
