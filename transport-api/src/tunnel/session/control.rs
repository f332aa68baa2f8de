//! The unidirectional streams of a session (RFC 9114 §6.2): the control streams with SETTINGS and GOAWAY, and those of
//! QPACK, on which nothing may come to an end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::{Role, Session, SessionEnd, State};
use crate::http::fields::MAX_FIELD_SECTION;
use crate::http::frame::{self, ControlFrame};
use crate::http::varint::{self, PairReader};
use crate::http::{Code, Settings};
use crate::masque::lane::{Lane, LaneError, LaneRecv};
use crate::tunnel::frames::{StreamError, poll_header, read_some, read_varint, write_all};

/// Stream types (RFC 9114 §6.2, RFC 9204 §4.2).
const CONTROL: u64 = 0x00;
const PUSH: u64 = 0x01;
const QPACK_ENCODER: u64 = 0x02;
const QPACK_DECODER: u64 = 0x03;
/// Unidirectional streams of the peer read at a time.
const MAX_UNI: usize = 16;
impl<L: Lane> Session<L> {
    /// Opens the control stream with SETTINGS, and sends GOAWAY when it is wanted.
    pub(super) async fn send_control(&self) -> SessionEnd {
        match self.try_send_control().await {
            Err(end) => end,
            Ok(never) => match never {},
        }
    }

    async fn try_send_control(&self) -> Result<Infallible, SessionEnd> {
        // Boxed, as what is written later: a silent session has no room for either.
        let mut control = Box::pin(self.open_control()).await?;
        loop {
            let out = self.until(|state| self.due_frame(state)).await;
            Box::pin(write_all(&mut control, &out)).await?;
        }
    }

    async fn open_control(&self) -> Result<L::Send, LaneError> {
        let mut control = self.0.lane.open_uni().await?;
        let settings = Settings {
            extended_connect: self.0.role == Role::Server,
            datagrams: true,
            max_field_section: Some(MAX_FIELD_SECTION),
        };
        let mut out = Vec::with_capacity(64);
        varint::put(&mut out, CONTROL);
        settings.put(&mut out);
        write_all(&mut control, &out).await?;
        Ok(control)
    }

    /// A successor first, so that whoever hears of the end knows where to go.
    fn due_frame(&self, state: &mut State) -> Option<Vec<u8>> {
        if let Some(named) = state.successor.take_frame() {
            return Some(named);
        }
        if !state.goaway_wanted || state.goaway_sent.is_some() {
            return None;
        }
        let id = *state.goaway_sent.insert(state.next_request * 4);
        // A client names a push id; there are none.
        let id = if self.0.role == Role::Server { id } else { 0 };
        let (mut out, mut payload) = (Vec::new(), Vec::new());
        varint::put(&mut payload, id);
        frame::put(&mut out, frame::kind::GOAWAY, &payload);
        Some(out)
    }

    /// Accepts the peer's unidirectional streams and reads them side by side.
    pub(super) async fn read_streams(&self) -> SessionEnd {
        let mut readers = Readers(Vec::new());
        loop {
            let accepted = {
                let mut accept = pin!(self.0.lane.accept_uni());
                poll_fn(|cx| match readers.poll(cx) {
                    Poll::Ready(end) => Poll::Ready(Err(end)),
                    Poll::Pending => accept.as_mut().poll(cx).map_err(SessionEnd::Lane),
                })
                .await
            };
            match accepted {
                Ok(_) if readers.0.len() >= MAX_UNI => return SessionEnd::Fault(Code::EXCESSIVE_LOAD),
                Ok(stream) => {
                    readers.0.reserve_exact(1);
                    readers.0.push(Box::pin(self.read_stream(Box::new(stream))));
                }
                Err(end) => return end,
            }
        }
    }

    /// Reads one unidirectional stream; `Ok` when it is over and does not matter.
    async fn read_stream(&self, mut recv: Box<L::Recv>) -> Result<(), SessionEnd> {
        let recv = &mut *recv;
        let Some(kind) = Box::pin(read_varint(recv)).await.unwrap_or(None) else {
            return Ok(());
        };
        if let Some(seen) = usize::try_from(kind)
            .ok()
            .and_then(|k| self.state().control_seen.get(k).copied())
        {
            if seen && kind != PUSH {
                return Err(SessionEnd::Fault(Code::STREAM_CREATION_ERROR));
            }
            self.change(|state| {
                if let Some(seen) = state.control_seen.get_mut(kind as usize) {
                    *seen = true;
                }
            });
        }
        match kind {
            CONTROL => Err(self.read_control(recv).await),
            PUSH if self.0.role == Role::Server => Err(SessionEnd::Fault(Code::STREAM_CREATION_ERROR)),
            PUSH => Err(SessionEnd::Fault(Code::ID_ERROR)),
            QPACK_ENCODER | QPACK_DECODER => Err(drain(recv).await),
            _ => {
                recv.stop(Code::STREAM_CREATION_ERROR.0);
                Ok(())
            }
        }
    }

    async fn read_control(&self, recv: &mut L::Recv) -> SessionEnd {
        let mut header = PairReader::default();
        loop {
            match self.read_control_frame(recv, &mut header).await {
                Ok(true) => {}
                Ok(false) | Err(SessionEnd::Lane(LaneError::Reset(_))) => {
                    return SessionEnd::Fault(Code::CLOSED_CRITICAL_STREAM);
                }
                Err(end) => return end,
            }
        }
    }

    /// One frame of the control stream; false when the stream is over.
    async fn read_control_frame(
        &self,
        recv: &mut L::Recv,
        header: &mut PairReader,
    ) -> Result<bool, SessionEnd> {
        let Some((kind, len)) = poll_fn(|cx| poll_header(recv, header, cx)).await? else {
            return Ok(false);
        };
        Box::pin(self.read_control_payload(recv, kind, len)).await
    }

    /// The rest of a frame; false when the stream is over.
    async fn read_control_payload(
        &self,
        recv: &mut L::Recv,
        kind: u64,
        len: u64,
    ) -> Result<bool, SessionEnd> {
        let settings_seen = self.state().peer.is_some();
        match frame::on_control(kind, len, settings_seen).map_err(StreamError::Fault)? {
            ControlFrame::Settings(len) => {
                let Some(payload) = read_exact(recv, len).await? else {
                    return Ok(false);
                };
                let settings = Settings::parse(&payload).map_err(StreamError::Fault)?;
                self.change(|state| state.peer = Some(settings));
            }
            ControlFrame::GoAway(len) => {
                let Some(payload) = read_exact(recv, len).await? else {
                    return Ok(false);
                };
                let id = frame::goaway_id(&payload).map_err(StreamError::Fault)?;
                self.on_goaway(id)?;
            }
            ControlFrame::Successor(len) => {
                let Some(payload) = read_exact(recv, len).await? else {
                    return Ok(false);
                };
                self.on_successor(&payload);
            }
            ControlFrame::Skip(mut left) => {
                while left > 0 {
                    let piece = usize::try_from(left).unwrap_or(usize::MAX).min(512);
                    if read_exact(recv, piece).await?.is_none() {
                        return Ok(false);
                    }
                    left -= piece as u64;
                }
            }
        }
        Ok(true)
    }

    /// Ids may only fall, and a server names request streams (RFC 9114 §5.2).
    fn on_goaway(&self, id: u64) -> Result<(), SessionEnd> {
        let risen = self.state().goaway_received.is_some_and(|before| id > before);
        if risen || self.0.role == Role::Client && !id.is_multiple_of(4) {
            return Err(SessionEnd::Fault(Code::ID_ERROR));
        }
        self.change(|state| state.goaway_received = Some(id));
        Ok(())
    }
}

/// Streams that are being read.
struct Readers<F>(Vec<Pin<Box<F>>>);

impl<F: Future<Output = Result<(), SessionEnd>>> Readers<F> {
    /// Polls all; ready when one of them ends the session.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        let mut index = 0;
        while let Some(reader) = self.0.get_mut(index) {
            match reader.as_mut().poll(cx) {
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Ready(Ok(())) => drop(self.0.swap_remove(index)),
                Poll::Pending => index += 1,
            }
        }
        Poll::Pending
    }
}

/// Reads `len` bytes, which are bounded by the caller; `None` when the stream ends before.
async fn read_exact(recv: &mut impl LaneRecv, len: usize) -> Result<Option<Vec<u8>>, LaneError> {
    let mut payload = vec![0; len];
    let mut filled = 0;
    while filled < len {
        let space = payload.get_mut(filled..).unwrap_or_default();
        match read_some(recv, space).await? {
            Some(n) => filled += n,
            None => return Ok(None),
        }
    }
    Ok(Some(payload))
}

/// A QPACK stream: without a dynamic table nothing on it concerns us, but it must not end.
async fn drain(recv: &mut impl LaneRecv) -> SessionEnd {
    let mut scrap = [0; 16];
    loop {
        match read_some(recv, &mut scrap).await {
            Ok(Some(_)) => {}
            Ok(None) | Err(LaneError::Reset(_)) => return SessionEnd::Fault(Code::CLOSED_CRITICAL_STREAM),
            Err(error) => return SessionEnd::Lane(error),
        }
    }
}
