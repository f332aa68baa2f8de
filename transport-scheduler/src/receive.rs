//! What arrives: frames into streams and limits. Every rule is checked before anything changes.

use std::time::Instant;

use crate::flow::MAX_STREAMS;
use crate::steer::Topic;
use crate::stream::Due;
use crate::stream::state::SendState;
use crate::stream::table::Slot;
use crate::{Direction, Event, Input, ReceiveError, Scheduler, StreamId, Violation};

impl Scheduler {
    /// Takes a frame of the peer. A violation ends the connection; a refusal changed nothing, and the packet must be dropped
    /// before it is acknowledged, so that it comes again.
    pub fn receive(&mut self, now: Instant, input: Input<'_>) -> Result<(), ReceiveError> {
        self.tick(now);
        match input {
            Input::Stream {
                id,
                offset,
                data,
                fin,
            } => return self.on_stream(now, id, offset, data, fin),
            Input::Reset { id, code, final_size } => return self.on_reset(now, id, code, final_size),
            Input::Stop { id, code } => return self.on_stop(now, id, code),
            Input::MaxData(max) => self.raise_connection(max),
            Input::MaxStreamData { id, max } => return self.on_max_stream_data(id, max),
            Input::MaxStreams { direction, max } => {
                if max > MAX_STREAMS {
                    return Err(Violation::StreamLimit.into());
                }
                self.raise_streams(direction, max);
            }
            Input::StreamsBlocked { direction, at } => {
                if at > MAX_STREAMS {
                    return Err(Violation::StreamLimit.into());
                }
                if self.theirs.get_mut(direction).count.announce() {
                    self.owe_connection(Topic::max_streams(direction));
                }
            }
            // Limits rise when data is read; a peer that waits learns of it then.
            Input::DataBlocked { .. } => {}
            Input::StreamDataBlocked { id, .. } => {
                self.receiving(id)?;
            }
        }
        Ok(())
    }

    fn on_stream(
        &mut self,
        now: Instant,
        id: StreamId,
        offset: u64,
        data: &[u8],
        fin: bool,
    ) -> Result<(), ReceiveError> {
        let Some(slot) = self.receiving(id)? else {
            return Ok(());
        };
        let Some(recv) = self.streams.get_mut(slot).and_then(|stream| stream.recv.as_mut()) else {
            return Ok(());
        };
        let more = recv.check(offset, data.len(), fin)?;
        if more > self.window.announced().saturating_sub(self.received) {
            return Err(Violation::FlowControl.into());
        }
        recv.window.touch(now);
        self.window.touch(now);
        let max_segments = self.limits.max_receive_segments;
        if recv.insert(&mut self.pool, offset, data, fin, max_segments)? {
            self.events.push_back(Event::Readable { id });
        }
        self.received += more;
        if recv.is_stopped() {
            let over = recv.is_over();
            self.consume(more);
            if over {
                self.end_receiving(slot);
            }
        }
        Ok(())
    }

    fn on_reset(
        &mut self,
        now: Instant,
        id: StreamId,
        code: u64,
        final_size: u64,
    ) -> Result<(), ReceiveError> {
        let Some(slot) = self.receiving(id)? else {
            return Ok(());
        };
        let Some(recv) = self.streams.get_mut(slot).and_then(|stream| stream.recv.as_mut()) else {
            return Ok(());
        };
        let more = recv.check_reset(final_size)?;
        if more > self.window.announced().saturating_sub(self.received) {
            return Err(Violation::FlowControl.into());
        }
        self.count_cancel(now, slot)?;
        self.received += more;
        let Some(recv) = self.streams.get_mut(slot).and_then(|stream| stream.recv.as_mut()) else {
            return Ok(());
        };
        let stopped = recv.is_stopped();
        let Some(unread) = recv.reset(&mut self.pool, code, final_size) else {
            return Ok(());
        };
        self.consume(unread);
        if stopped {
            self.end_receiving(slot);
        } else {
            self.events.push_back(Event::StreamReset { id, code });
        }
        Ok(())
    }

    fn on_stop(&mut self, now: Instant, id: StreamId, code: u64) -> Result<(), ReceiveError> {
        let Some(slot) = self.sending(id)? else {
            return Ok(());
        };
        let wanted = |send: &crate::SendHalf| {
            send.stopped.is_none() && !matches!(send.state, SendState::ResetSent { .. })
        };
        if !self
            .streams
            .get(slot)
            .and_then(|stream| stream.send.as_deref())
            .is_some_and(wanted)
        {
            return Ok(());
        }
        self.count_cancel(now, slot)?;
        if let Some(send) = self.streams.get_mut(slot).and_then(|stream| stream.send.as_mut()) {
            send.stopped = Some(code);
        }
        self.give_up(slot, code);
        self.events.push_back(Event::StreamStopped { id, code });
        Ok(())
    }

    fn on_max_stream_data(&mut self, id: StreamId, max: u64) -> Result<(), ReceiveError> {
        let Some(slot) = self.sending(id)? else {
            return Ok(());
        };
        let send = self.streams.get_mut(slot).and_then(|stream| stream.send.as_mut());
        if send.is_some_and(|send| send.credit.raise(max)) {
            self.refresh(slot);
        }
        Ok(())
    }

    /// Gives the sending half up: what it held is dropped, and a reset is due.
    pub(crate) fn give_up(&mut self, slot: Slot, code: u64) {
        let send = self.streams.get_mut(slot).and_then(|stream| stream.send.as_mut());
        let Some(send) = send else { return };
        let dropped = send.reset(&mut self.pool, code);
        self.refresh(slot);
        self.owe(slot, Due::Reset);
        self.unbuffer(slot, dropped);
    }

    /// The receiving half is over and seen.
    pub(crate) fn end_receiving(&mut self, slot: Slot) {
        if let Some(stream) = self.streams.get_mut(slot)
            && let Some(mut recv) = stream.recv.take()
        {
            recv.clear(&mut self.pool);
        }
        self.settle(slot);
    }

    /// The stream on which the peer may send; `None` once it is gone. Opens it if it is the peer's to open.
    fn receiving(&mut self, id: StreamId) -> Result<Option<Slot>, Violation> {
        if id.initiator() == self.side && id.direction() == Direction::Uni {
            return Err(Violation::StreamState);
        }
        self.known(id)
    }

    /// The stream on which we may send; `None` once it is gone.
    fn sending(&mut self, id: StreamId) -> Result<Option<Slot>, Violation> {
        if id.initiator() != self.side && id.direction() == Direction::Uni {
            return Err(Violation::StreamState);
        }
        self.known(id)
    }

    /// Finds a stream; one of the peer opens with all below it (RFC 9000 §3.2), one of ours must have been opened.
    fn known(&mut self, id: StreamId) -> Result<Option<Slot>, Violation> {
        let direction = id.direction();
        if id.initiator() == self.side {
            if id.index() >= self.ours.get(direction).opened {
                return Err(Violation::StreamState);
            }
            return Ok(self.streams.slot(id));
        }
        let theirs = self.theirs.get(direction);
        if id.index() >= theirs.count.announced() {
            return Err(Violation::StreamLimit);
        }
        for index in theirs.opened..=id.index() {
            let id = StreamId::new(self.side.peer(), direction, index);
            self.create(id);
            self.theirs.get_mut(direction).opened = index + 1;
            self.events.push_back(Event::StreamOpened { id });
        }
        Ok(self.streams.slot(id))
    }

    /// Counts a cancelled stream of the peer, once for both halves.
    fn count_cancel(&mut self, now: Instant, slot: Slot) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(slot) else {
            return Ok(());
        };
        if stream.id.initiator() == self.side || std::mem::replace(&mut stream.cancelled, true) {
            return Ok(());
        }
        if self.cancels.count(now, self.srtt) {
            Ok(())
        } else {
            Err(Violation::ExcessiveResets)
        }
    }
}
