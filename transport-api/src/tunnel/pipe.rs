//! A lane in memory, for tests: two ends, streams with small buffers, datagrams that arrive.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::masque::lane::{Lane, LaneDatagramError, LaneError, LaneRecv, LaneSend};

/// Bytes a stream holds.
const BUFFER: usize = 10_000;

#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    fin: bool,
    reset: Option<u64>,
    stopped: Option<u64>,
    wakers: Vec<Waker>,
}

impl Pipe {
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

#[derive(Debug)]
pub(crate) struct PipeSend(Rc<RefCell<Pipe>>, u64);

#[derive(Debug)]
pub(crate) struct PipeRecv(Rc<RefCell<Pipe>>);

impl LaneSend for PipeSend {
    fn ordinal(&self) -> u64 {
        self.1
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, LaneError>> {
        let mut pipe = self.0.borrow_mut();
        if let Some(code) = pipe.stopped {
            return Poll::Ready(Err(LaneError::Reset(code)));
        }
        if pipe.fin || pipe.reset.is_some() {
            return Poll::Ready(Err(LaneError::Finished));
        }
        let n = data.len().min(BUFFER - pipe.bytes.len());
        if n == 0 {
            return pipe.wait(cx);
        }
        pipe.bytes.extend(&data[..n]);
        pipe.wake();
        Poll::Ready(Ok(n))
    }

    fn finish(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.fin = true;
        pipe.wake();
    }

    fn reset(&mut self, code: u64) {
        let mut pipe = self.0.borrow_mut();
        pipe.reset.get_or_insert(code);
        pipe.wake();
    }
}

impl Drop for PipeSend {
    fn drop(&mut self) {
        self.finish();
    }
}

impl LaneRecv for PipeRecv {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<Option<usize>, LaneError>> {
        let mut pipe = self.0.borrow_mut();
        if let Some(code) = pipe.reset {
            return Poll::Ready(Err(LaneError::Reset(code)));
        }
        if pipe.stopped.is_some() {
            return Poll::Ready(Err(LaneError::Finished));
        }
        let n = buffer.len().min(pipe.bytes.len());
        if n == 0 && !buffer.is_empty() {
            return if pipe.fin {
                Poll::Ready(Ok(None))
            } else {
                pipe.wait(cx)
            };
        }
        for (to, from) in buffer.iter_mut().zip(pipe.bytes.drain(..n)) {
            *to = from;
        }
        pipe.wake();
        Poll::Ready(Ok(Some(n)))
    }

    fn stop(&mut self, code: u64) {
        let mut pipe = self.0.borrow_mut();
        pipe.stopped.get_or_insert(code);
        pipe.wake();
    }
}

#[derive(Debug, Default)]
struct Mailbox {
    bi: VecDeque<(PipeSend, PipeRecv)>,
    uni: VecDeque<PipeRecv>,
    datagrams: VecDeque<Vec<u8>>,
    opened_bi: u64,
    opened_uni: u64,
    closed: Option<u64>,
    /// As if the path had become narrower.
    max_datagram: Option<usize>,
    wakers: Vec<Waker>,
}

type Side = Rc<RefCell<Mailbox>>;

/// One end.
#[derive(Clone, Debug)]
pub(crate) struct PipeLane {
    mine: Side,
    theirs: Side,
}

/// Both ends.
pub(crate) fn lanes() -> (PipeLane, PipeLane) {
    let (a, b) = (Side::default(), Side::default());
    (
        PipeLane {
            mine: Rc::clone(&a),
            theirs: Rc::clone(&b),
        },
        PipeLane { mine: b, theirs: a },
    )
}

impl PipeLane {
    /// The code the connection was closed with.
    pub(crate) fn closed(&self) -> Option<u64> {
        self.mine.borrow().closed
    }

    /// Both ends carry datagrams of so many bytes from now on.
    pub(crate) fn set_max_datagram(&self, max: usize) {
        self.mine.borrow_mut().max_datagram = Some(max);
        self.put(|theirs| theirs.max_datagram = Some(max));
        self.mine.borrow_mut().wakers.drain(..).for_each(Waker::wake);
    }

    fn put(&self, put: impl FnOnce(&mut Mailbox)) {
        let mut theirs = self.theirs.borrow_mut();
        put(&mut theirs);
        theirs.wakers.drain(..).for_each(Waker::wake);
    }

    async fn next<T>(&self, mut take: impl FnMut(&mut Mailbox) -> Option<T>) -> Result<T, LaneError> {
        std::future::poll_fn(|cx| {
            let mut mine = self.mine.borrow_mut();
            if let Some(found) = take(&mut mine) {
                return Poll::Ready(Ok(found));
            }
            if let Some(code) = mine.closed {
                return Poll::Ready(Err(LaneError::Closed(code.to_string())));
            }
            mine.wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Lane for PipeLane {
    type Send = PipeSend;
    type Recv = PipeRecv;

    async fn open_bi(&self) -> Result<(PipeSend, PipeRecv), LaneError> {
        let (to, from) = (Rc::<RefCell<Pipe>>::default(), Rc::<RefCell<Pipe>>::default());
        let n = self.mine.borrow().opened_bi;
        self.mine.borrow_mut().opened_bi += 1;
        self.put(|m| {
            m.bi.push_back((PipeSend(Rc::clone(&from), n), PipeRecv(Rc::clone(&to))));
        });
        Ok((PipeSend(to, n), PipeRecv(from)))
    }

    async fn open_uni(&self) -> Result<PipeSend, LaneError> {
        let pipe = Rc::<RefCell<Pipe>>::default();
        let n = self.mine.borrow().opened_uni;
        self.mine.borrow_mut().opened_uni += 1;
        self.put(|m| m.uni.push_back(PipeRecv(Rc::clone(&pipe))));
        Ok(PipeSend(pipe, n))
    }

    async fn accept_bi(&self) -> Result<(PipeSend, PipeRecv), LaneError> {
        self.next(|m| m.bi.pop_front()).await
    }

    async fn accept_uni(&self) -> Result<PipeRecv, LaneError> {
        self.next(|m| m.uni.pop_front()).await
    }

    async fn read_datagram(&self) -> Result<Vec<u8>, LaneError> {
        self.next(|m| m.datagrams.pop_front()).await
    }

    fn send_datagram(&self, datagram: Vec<u8>) -> Result<(), LaneDatagramError> {
        if datagram.len() > self.max_datagram() {
            return Err(LaneDatagramError::TooLarge(self.max_datagram()));
        }
        self.put(|m| m.datagrams.push_back(datagram));
        Ok(())
    }

    fn max_datagram(&self) -> usize {
        self.mine.borrow().max_datagram.unwrap_or(1200)
    }

    async fn max_datagram_changed(&self, known: usize) -> Result<usize, LaneError> {
        self.next(|m| m.max_datagram.filter(|&now| now != known)).await
    }

    fn close(&self, code: u64, _: &str) {
        self.put(|m| {
            m.closed.get_or_insert(code);
        });
        let mut mine = self.mine.borrow_mut();
        mine.closed.get_or_insert(code);
        mine.wakers.drain(..).for_each(Waker::wake);
    }
}
