//! Moves stream bytes between handles and the scheduler, as far as each side has room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use super::shared::{RECV_BUFFER, RecvShared, SendShared, lock};
use crate::engine::{Connection, StreamId, StreamReadError, StreamWriteError};
use crate::error::ConnectionError;

/// Largest piece read at once; larger reads would only make the reader wait for the first byte.
const CHUNK: usize = 64 * 1024;

/// Buffers above this are given back when a stream has nothing to say.
const KEEP: usize = 16 * 1024;

/// What a turn of the driver collects, and memory it reuses.
pub(crate) struct Outbox {
    /// Called at the end of the turn, when no lock is held.
    pub(crate) wakers: Vec<Waker>,
    /// A path begins at an address of this machine: the socket must know the interfaces.
    pub(crate) interfaces: bool,
    scratch: Box<[u8]>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            interfaces: false,
            scratch: vec![0; CHUNK].into_boxed_slice(),
        }
    }
}

/// The sending half, seen by the driver.
struct SendSide {
    shared: Arc<SendShared>,
    /// Taken from the handle, not yet taken by the scheduler.
    pending: Vec<u8>,
    position: usize,
    fin_given: bool,
}

/// All streams of one connection.
#[derive(Default)]
pub(crate) struct Streams {
    send: BTreeMap<StreamId, SendSide>,
    recv: BTreeMap<StreamId, Arc<RecvShared>>,
}

impl Streams {
    pub(crate) fn add_send(&mut self, shared: Arc<SendShared>) {
        let side = SendSide {
            shared,
            pending: Vec::new(),
            position: 0,
            fin_given: false,
        };
        self.send.insert(side.shared.id, side);
    }

    pub(crate) fn add_recv(&mut self, shared: Arc<RecvShared>) {
        self.recv.insert(shared.id, shared);
    }

    /// Handle → scheduler.
    pub(crate) fn pump_send(&mut self, engine: &mut Connection, id: StreamId, out: &mut Outbox) {
        let Some(side) = self.send.get_mut(&id) else {
            return;
        };
        let (class, early, reset) = {
            let mut state = lock(&side.shared.state);
            (state.class.take(), std::mem::take(&mut state.early), state.reset)
        };
        if early {
            engine.allow_early(id);
        }
        if let Some(class) = class {
            engine.set_class(id, class);
        }
        if let Some(code) = reset {
            // Refused only when the stream is over already: then there is nothing to give up.
            let _ = engine.reset(id, code);
            lock(&side.shared.state).watchers.take_into(&mut out.wakers);
            self.send.remove(&id);
            return;
        }
        while side.refill(engine, out) {
            match engine.write(id, side.pending.get(side.position..).unwrap_or_default()) {
                Ok(taken) => side.position += taken,
                // Stopped: the event with the code is on its way. Otherwise nothing can be sent any more.
                Err(StreamWriteError::Blocked) => return,
                Err(_) => side.position = side.pending.len(),
            }
        }
    }

    /// Scheduler → handle, as far as the reader's queue has room.
    pub(crate) fn pump_recv(&mut self, engine: &mut Connection, id: StreamId, out: &mut Outbox) {
        self.fill_reader(engine, id, RECV_BUFFER, out);
    }

    fn fill_reader(&mut self, engine: &mut Connection, id: StreamId, bound: usize, out: &mut Outbox) {
        let Some(shared) = self.recv.get(&id).cloned() else {
            return;
        };
        loop {
            let room = {
                let mut state = lock(&shared.state);
                if let Some(code) = state.stop {
                    drop(state);
                    // Refused only when the stream is over already.
                    let _ = engine.stop(id, code);
                    self.recv.remove(&id);
                    return;
                }
                let room = bound.saturating_sub(state.bytes);
                state.starved = room == 0;
                room.min(CHUNK)
            };
            if room == 0 {
                return;
            }
            let result = engine.read(id, out.scratch.get_mut(..room).unwrap_or_default());
            let over = {
                let mut state = lock(&shared.state);
                let over = match &result {
                    Ok(read) => {
                        if read.bytes > 0 && state.stop.is_none() {
                            let chunk = out.scratch.get(..read.bytes).unwrap_or_default();
                            state.bytes += chunk.len();
                            state.chunks.push_back(chunk.to_vec());
                        }
                        state.fin |= read.fin;
                        read.fin
                    }
                    Err(StreamReadError::Blocked) => return,
                    Err(StreamReadError::Reset(code)) => {
                        state.reset = Some(*code);
                        true
                    }
                    Err(_) => true,
                };
                out.wakers.extend(state.reader.take());
                over
            };
            if over {
                self.recv.remove(&id);
                return;
            }
        }
    }

    /// The peer has acknowledged everything.
    pub(crate) fn acknowledged(&mut self, id: StreamId, out: &mut Outbox) {
        if let Some(side) = self.send.remove(&id) {
            let mut state = lock(&side.shared.state);
            state.acknowledged = true;
            state.watchers.take_into(&mut out.wakers);
        }
    }

    /// The peer wants no more.
    pub(crate) fn stopped(&mut self, id: StreamId, code: u64, out: &mut Outbox) {
        if let Some(side) = self.send.remove(&id) {
            let mut state = lock(&side.shared.state);
            state.stopped = Some(code);
            state.buffer = Vec::new();
            out.wakers.extend(state.writer.take());
            state.watchers.take_into(&mut out.wakers);
        }
    }

    /// The peer gave its half up.
    pub(crate) fn reset(&mut self, id: StreamId, code: u64, out: &mut Outbox) {
        if let Some(shared) = self.recv.remove(&id) {
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
            let ids: Vec<StreamId> = self.recv.keys().copied().collect();
            for id in ids {
                self.fill_reader(engine, id, usize::MAX, out);
            }
        }
        for shared in std::mem::take(&mut self.recv).into_values() {
            let mut state = lock(&shared.state);
            state.lost = Some(error.clone());
            out.wakers.extend(state.reader.take());
        }
        for side in std::mem::take(&mut self.send).into_values() {
            let mut state = lock(&side.shared.state);
            state.lost = Some(error.clone());
            state.buffer = Vec::new();
            out.wakers.extend(state.writer.take());
            state.watchers.take_into(&mut out.wakers);
        }
    }
}

impl SendSide {
    /// True when there are bytes to write. Swaps buffers with the handle, so that neither waits for the other's copy;
    /// hands the end over after the last byte.
    fn refill(&mut self, engine: &mut Connection, out: &mut Outbox) -> bool {
        if self.position < self.pending.len() {
            return true;
        }
        self.pending.clear();
        self.position = 0;
        let fin = {
            let mut state = lock(&self.shared.state);
            std::mem::swap(&mut state.buffer, &mut self.pending);
            out.wakers.extend(state.writer.take());
            state.finished
        };
        if !self.pending.is_empty() {
            return true;
        }
        if self.pending.capacity() > KEEP {
            self.pending = Vec::new();
        }
        if fin && !self.fin_given {
            self.fin_given = true;
            // Refused only when the stream was stopped or reset meanwhile.
            let _ = engine.finish(self.shared.id);
        }
        false
    }
}
