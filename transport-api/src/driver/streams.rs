//! Moves stream bytes between handles and the scheduler, as far as each side has room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::carriers::Carriers;
use super::shared::{Queued, RECV_BUFFER, RecvShared, RecvState, SEND_BUFFER, SendShared, lock};
use crate::engine::{Connection, StreamId, StreamReadError, StreamWriteError};
use crate::error::ConnectionError;
use crate::few::Few;

/// What a turn of the driver collects.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Called at the end of the turn, when no lock is held.
    pub(crate) wakers: Vec<Waker>,
    /// A path begins at an address of this machine: the socket must know the interfaces.
    pub(crate) interfaces: bool,
    /// Places for datagrams on their way to the scheduler.
    pub(crate) places: VecDeque<Queued>,
    /// Where else paths may begin.
    pub(crate) carriers: Arc<Carriers>,
}

/// The sending half, seen by the driver.
struct SendSide {
    shared: Arc<SendShared>,
    fin_given: bool,
}

/// All streams of one connection.
#[derive(Default)]
pub(crate) struct Streams {
    send: Few<StreamId, SendSide>,
    recv: Few<StreamId, Arc<RecvShared>>,
}

impl Streams {
    pub(crate) fn add_send(&mut self, shared: Arc<SendShared>) {
        let side = SendSide {
            shared,
            fin_given: false,
        };
        self.send.insert(side.shared.id, side);
    }

    pub(crate) fn add_recv(&mut self, shared: Arc<RecvShared>) {
        self.recv.insert(shared.id, shared);
    }

    /// Handle → scheduler. One lock for all: what happens under it is pointers that change hands, and a copy of two pieces of
    /// blocks at most.
    pub(crate) fn pump_send(&mut self, engine: &mut Connection, id: StreamId, out: &mut Outbox) {
        let Some(side) = self.send.get_mut(id) else {
            return;
        };
        let mut guard = lock(&side.shared.state);
        let state = &mut *guard;
        if std::mem::take(&mut state.early) {
            engine.allow_early(id);
        }
        if let Some(class) = state.class.take() {
            engine.set_class(id, class);
        }
        if let Some(code) = state.reset {
            // Refused only when the stream is over already: then there is nothing to give up.
            let _ = engine.reset(id, code);
            state.watchers.take_into(&mut out.wakers);
            drop(guard);
            self.send.remove(id);
            return;
        }
        if !state.queue.is_empty() {
            match engine.write_blocks(id, &mut state.queue) {
                Ok(_) | Err(StreamWriteError::Blocked) => {}
                // Stopped: the event with the code is on its way. Otherwise nothing can be sent any more.
                Err(_) => state.queue.clear(),
            }
        }
        // A writer who waits is not woken for every block.
        if state.queue.len() <= SEND_BUFFER / 2 {
            out.wakers.extend(state.writer.take());
        }
        if state.queue.is_empty() && state.finished && !side.fin_given {
            side.fin_given = true;
            engine.recycle(&mut state.queue);
            // Refused only when the stream was stopped or reset meanwhile.
            let _ = engine.finish(id);
        }
    }

    /// Scheduler → handle, as far as the reader's queue has room.
    pub(crate) fn pump_recv(&mut self, engine: &mut Connection, id: StreamId, out: &mut Outbox) {
        self.fill_reader(engine, id, RECV_BUFFER, out);
    }

    /// One lock for all, as in `pump_send`.
    fn fill_reader(&mut self, engine: &mut Connection, id: StreamId, bound: usize, out: &mut Outbox) {
        let Some(shared) = self.recv.get(id) else {
            return;
        };
        let over = fill(&mut lock(&shared.state), engine, id, bound, out);
        if over {
            self.recv.remove(id);
        }
    }

    /// The peer has acknowledged everything.
    pub(crate) fn acknowledged(&mut self, id: StreamId, out: &mut Outbox) {
        if let Some(side) = self.send.remove(id) {
            let mut state = lock(&side.shared.state);
            state.acknowledged = true;
            state.watchers.take_into(&mut out.wakers);
        }
    }

    /// The peer wants no more.
    pub(crate) fn stopped(&mut self, id: StreamId, code: u64, out: &mut Outbox) {
        if let Some(side) = self.send.remove(id) {
            let mut state = lock(&side.shared.state);
            state.stopped = Some(code);
            state.queue.clear();
            out.wakers.extend(state.writer.take());
            state.watchers.take_into(&mut out.wakers);
        }
    }

    /// The peer gave its half up.
    pub(crate) fn reset(&mut self, id: StreamId, code: u64, out: &mut Outbox) {
        if let Some(shared) = self.recv.remove(id) {
            let mut state = lock(&shared.state);
            state.reset = Some(code);
            out.wakers.extend(state.reader.take());
        }
    }

    /// Finished streams the peer has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.send
            .values()
            .filter(|side| lock(&side.shared.state).finished)
            .count()
    }

    /// The connection is over: readers get what has arrived (it is bounded by the windows), then the reason.
    pub(crate) fn end(&mut self, engine: Option<&mut Connection>, error: &ConnectionError, out: &mut Outbox) {
        if let Some(engine) = engine {
            let ids: Vec<StreamId> = self.recv.keys().collect();
            for id in ids {
                self.fill_reader(engine, id, usize::MAX, out);
            }
        }
        for shared in std::mem::take(&mut self.recv).into_values() {
            let mut state = lock(&shared.state);
            state.lost = Some(Box::new(error.clone()));
            out.wakers.extend(state.reader.take());
        }
        for side in std::mem::take(&mut self.send).into_values() {
            let mut state = lock(&side.shared.state);
            state.lost = Some(Box::new(error.clone()));
            state.queue.clear();
            out.wakers.extend(state.writer.take());
            state.watchers.take_into(&mut out.wakers);
        }
    }
}

/// What can be read goes to the reader's queue. True: nothing comes after it.
fn fill(
    state: &mut RecvState,
    engine: &mut Connection,
    id: StreamId,
    bound: usize,
    out: &mut Outbox,
) -> bool {
    if let Some(code) = state.stop {
        // Refused only when the stream is over already.
        let _ = engine.stop(id, code);
        return true;
    }
    let room = bound.saturating_sub(state.queue.len());
    state.starved = room == 0;
    if room == 0 {
        return false;
    }
    let over = match engine.read_blocks(id, &mut state.queue, room) {
        Ok(read) => {
            // What comes from now on is told, unless some of it is there already.
            state.starved = read.bytes == room;
            state.fin |= read.fin;
            read.fin
        }
        Err(StreamReadError::Blocked) => return false,
        Err(StreamReadError::Reset(code)) => {
            state.reset = Some(code);
            true
        }
        Err(_) => true,
    };
    out.wakers.extend(state.reader.take());
    over
}
