//! Frames on a lane's streams: heads are read whole, DATA is handed on as it comes, straight into the reader's buffer.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use crate::http::frame::{self, RequestFrame};
use crate::http::varint::{self, PairReader};
use crate::http::{Code, Fault};
use crate::masque::lane::{LaneError, LaneRecv, LaneSend};

/// Why a stream of the session cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// The lane or the peer ended it.
    Lane(LaneError),
    /// The peer broke a rule.
    Fault(Fault),
}

impl From<LaneError> for StreamError {
    fn from(error: LaneError) -> Self {
        Self::Lane(error)
    }
}

impl From<Fault> for StreamError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane(error) => error.fmt(f),
            Self::Fault(fault) => write!(f, "the peer broke the protocol: {fault}"),
        }
    }
}

impl std::error::Error for StreamError {}

/// A stream that ends inside a frame (RFC 9114 §7.1).
const CUT: StreamError = StreamError::Fault(Fault::Connection(Code::FRAME_ERROR));

/// Writes all of `data`.
pub(crate) async fn write_all(send: &mut impl LaneSend, mut data: &[u8]) -> Result<(), LaneError> {
    while !data.is_empty() {
        let n = poll_fn(|cx| send.poll_write(cx, data)).await?;
        data = data.get(n..).unwrap_or_default();
    }
    Ok(())
}

/// Reads one integer, byte by byte; `None` when the stream ends before it is whole.
pub(crate) async fn read_varint(recv: &mut impl LaneRecv) -> Result<Option<u64>, LaneError> {
    let mut bytes = Vec::with_capacity(8);
    loop {
        let mut one = [0];
        if read_some(recv, &mut one).await?.is_none() {
            return Ok(None);
        }
        bytes.extend_from_slice(&one);
        if let Some((value, _)) = varint::take(&bytes) {
            return Ok(Some(value));
        }
    }
}

/// Reads into `buffer`; `None` is the end of the stream.
pub(crate) async fn read_some(
    recv: &mut impl LaneRecv,
    buffer: &mut [u8],
) -> Result<Option<usize>, LaneError> {
    poll_fn(|cx| recv.poll_read(cx, buffer)).await
}

/// Reads the header of the next frame; `None` when the stream ends before it begins.
pub(crate) fn poll_header(
    recv: &mut impl LaneRecv,
    header: &mut PairReader,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<(u64, u64)>, StreamError>> {
    loop {
        let mut space = [0u8; 16];
        let missing = header.missing();
        let Some(wanted) = space.get_mut(..missing) else {
            return Poll::Ready(Err(CUT));
        };
        let Some(n) = ready!(recv.poll_read(cx, wanted))? else {
            return Poll::Ready(if header.is_partial() { Err(CUT) } else { Ok(None) });
        };
        let mut read = wanted.get(..n).unwrap_or_default();
        if let Some(pair) = header.take(&mut read) {
            return Poll::Ready(Ok(Some(pair)));
        }
    }
}

/// The receiving half of a request stream. All methods are cancel-safe.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    recv: R,
    header: PairReader,
    state: State,
    head_seen: bool,
}

#[derive(Debug)]
enum State {
    Between,
    Head { payload: Vec<u8>, filled: usize },
    Data(u64),
    Skip(u64),
}

impl<R: LaneRecv> FrameReader<R> {
    pub(crate) fn new(recv: R) -> Self {
        Self {
            recv,
            header: PairReader::default(),
            state: State::Between,
            head_seen: false,
        }
    }

    /// Whether the stream may be a copy of an earlier one ([`LaneRecv::is_early`]).
    pub(crate) fn is_early(&self) -> bool {
        self.recv.is_early()
    }

    /// From here on DATA may come, and no further head.
    pub(crate) fn head_done(&mut self) {
        self.head_seen = true;
    }

    pub(crate) fn stop(&mut self, code: Code) {
        self.recv.stop(code.0);
    }

    /// The payload of the next HEADERS frame; `None` when the stream ends before one.
    pub(crate) async fn read_head(&mut self) -> Result<Option<Vec<u8>>, StreamError> {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>, StreamError>> {
        loop {
            match &mut self.state {
                State::Between => {
                    if !ready!(self.poll_frame(cx))? {
                        return Poll::Ready(Ok(None));
                    }
                }
                State::Skip(_) => ready!(self.poll_skip(cx))?,
                State::Head { payload, filled } if *filled < payload.len() => {
                    let space = payload.get_mut(*filled..).unwrap_or_default();
                    *filled += ready!(self.recv.poll_read(cx, space))?.ok_or(CUT)?;
                }
                State::Head { payload, .. } => {
                    let payload = std::mem::take(payload);
                    self.state = State::Between;
                    return Poll::Ready(Ok(Some(payload)));
                }
                State::Data(_) => return Poll::Ready(Err(Fault::Connection(Code::FRAME_UNEXPECTED).into())),
            }
        }
    }

    /// Bytes of the data stream; `None` at its end.
    pub(crate) async fn read_data(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, StreamError> {
        poll_fn(|cx| self.poll_data(cx, buffer)).await
    }

    /// As [`FrameReader::read_data`].
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<Option<usize>, StreamError>> {
        loop {
            match &mut self.state {
                State::Between => {
                    if !ready!(self.poll_frame(cx))? {
                        return Poll::Ready(Ok(None));
                    }
                }
                State::Skip(_) => ready!(self.poll_skip(cx))?,
                State::Data(0) => self.state = State::Between,
                State::Data(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    let space = buffer.get_mut(..here).unwrap_or_default();
                    let n = ready!(self.recv.poll_read(cx, space))?.ok_or(CUT)?;
                    *left -= n as u64;
                    return Poll::Ready(Ok(Some(n)));
                }
                State::Head { .. } => {
                    return Poll::Ready(Err(Fault::Connection(Code::FRAME_UNEXPECTED).into()));
                }
            }
        }
    }

    /// Begins the next frame; false at the end of the stream.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        let Some((kind, len)) = ready!(poll_header(&mut self.recv, &mut self.header, cx))? else {
            return Poll::Ready(Ok(false));
        };
        self.state = match frame::on_request(kind, len, self.head_seen)? {
            RequestFrame::Headers(len) => State::Head {
                payload: vec![0; len],
                filled: 0,
            },
            RequestFrame::Data(len) => State::Data(len),
            RequestFrame::Skip(len) => State::Skip(len),
        };
        Poll::Ready(Ok(true))
    }

    fn poll_skip(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        while let State::Skip(left @ 1..) = &mut self.state {
            let mut scrap = [0u8; 512];
            let here = usize::try_from(*left).unwrap_or(usize::MAX).min(scrap.len());
            let space = scrap.get_mut(..here).unwrap_or_default();
            *left -= ready!(self.recv.poll_read(cx, space))?.ok_or(CUT)? as u64;
        }
        self.state = State::Between;
        Poll::Ready(Ok(()))
    }
}
