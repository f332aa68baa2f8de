//! The application face: open, write, read, close.

use std::time::Instant;

use crate::steer::Topic;
use crate::stream::Due;
use crate::stream::assembler::Assembler;
use crate::stream::send::{Blocked, SendHalf};
use crate::stream::state::SendState;
use crate::stream::store::{BLOCK, Pool};
use crate::stream::table::{Slot, Table};
use crate::{
    Blocks, Class, DatagramDrop, DatagramError, DatagramId, DatagramOptions, Direction, QueueState, Read,
    ReadError, Scheduler, StreamId, StreamsExhausted, WriteError, stream_flow, worth_waking,
};

impl Scheduler {
    /// Opens a stream. Refused while the peer allows no more; then [`StreamsAvailable`](crate::Event::StreamsAvailable)
    /// comes when it does.
    pub fn open(&mut self, direction: Direction) -> Result<StreamId, StreamsExhausted> {
        self.offer = None;
        let ours = self.ours.get_mut(direction);
        if ours.opened < ours.allowed {
            let id = StreamId::new(self.side, direction, ours.opened);
            ours.opened += 1;
            self.create(id);
            return Ok(id);
        }
        ours.wanted = true;
        if ours.reported.replace(ours.allowed) != Some(ours.allowed) {
            self.owe_connection(Topic::streams_blocked(direction));
        }
        Err(StreamsExhausted)
    }

    /// The next stream the peer opened, in order of opening.
    pub fn accept(&mut self, direction: Direction) -> Option<StreamId> {
        let theirs = self.theirs.get_mut(direction);
        if theirs.accepted == theirs.opened {
            return None;
        }
        let id = StreamId::new(self.side.peer(), direction, theirs.accepted);
        theirs.accepted += 1;
        Some(id)
    }

    /// Takes as much of `data` as there is room for, at least a byte unless `data` is empty; [`Blocked`](WriteError::Blocked)
    /// when there is none, and then [`Writable`](crate::Event::Writable) comes.
    pub fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        self.offer = None;
        let slot = self.streams.slot(id).ok_or(WriteError::Unknown)?;
        let room = self.room(slot, id, data.len().min(1))?;
        let taken = data.get(..room).unwrap_or(data);
        let send = open_half(&mut self.streams, slot)?;
        send.write(&mut self.pool, taken);
        self.buffered += taken.len();
        self.refresh(slot);
        Ok(taken.len())
    }

    /// Takes from the front of `data` what there is room for, blocks where they are of use without a copy, and gives spent ones
    /// for them. Where anything is left [`Writable`](crate::Event::Writable) comes; [`Blocked`](WriteError::Blocked) when
    /// nothing was taken. Unless buffers are very small a block goes over whole or waits until it can.
    pub fn write_blocks(&mut self, id: StreamId, data: &mut Blocks) -> Result<usize, WriteError> {
        self.offer = None;
        let slot = self.streams.slot(id).ok_or(WriteError::Unknown)?;
        let [held, ahead] = self.send_bounds();
        let portion = worth_waking(held.min(ahead).min(self.limits.send_buffer_total));
        let whole = portion >= BLOCK;
        let (mut taken, mut given) = (0, 0);
        let end = loop {
            let len = data.front().len();
            let room = match self.room(slot, id, if whole { len } else { len.min(1) }) {
                Ok(room) => room,
                Err(error) => break Err(error),
            };
            let send = open_half(&mut self.streams, slot)?;
            if let Some(head) = data.front().get(..room).filter(|head| head.len() < len) {
                send.write(&mut self.pool, head);
                data.consume(room);
            } else if let Some(piece) = data.pop() {
                given += usize::from(piece.memory.len() == BLOCK);
                if let Some(left) = send.write_block(&mut self.pool, piece) {
                    given -= usize::from(left.len() == BLOCK);
                    data.keep(left);
                }
            } else {
                break Ok(());
            }
            let now = len.min(room);
            self.buffered += now;
            taken += now;
        };
        let send = self.streams.get(slot).and_then(|stream| stream.send.as_ref());
        // Who is far ahead of the network is no slow writer, however little was taken now.
        if given > 1 || send.is_none_or(|send| send.unsent() < portion) {
            data.settle(&mut self.pool, given);
        }
        self.refresh(slot);
        end.map_or_else(
            |error| if taken > 0 { Ok(taken) } else { Err(error) },
            |()| Ok(taken),
        )
    }

    /// Takes the spent blocks out of a queue that will not be filled again.
    pub fn recycle(&mut self, spent: &mut Blocks) {
        if self.streams.len() > 0 {
            spent.give_back(&mut self.pool);
        }
    }

    /// How much a stream takes now. When that is less than `least` a writer waits, and that is remembered.
    fn room(&mut self, slot: Slot, id: StreamId, least: usize) -> Result<usize, WriteError> {
        let total = self.limits.send_buffer_total.saturating_sub(self.buffered);
        let bounds = self.send_bounds();
        let send = open_half(&mut self.streams, slot)?;
        let room = send.room(bounds).min(total);
        if room >= least {
            return Ok(room);
        }
        let reason = if total < least {
            Blocked::Total
        } else {
            Blocked::Room
        };
        match (send.blocked, reason) {
            // Its place among those that wait for all stands.
            (Blocked::Total, _) | (Blocked::Room, Blocked::Room) => {}
            (_, Blocked::Total) => {
                send.blocked = Blocked::Total;
                self.wait_for_total(id);
            }
            _ => send.blocked = Blocked::Room,
        }
        Err(WriteError::Blocked)
    }

    /// How many bytes a write would take now.
    pub fn writable(&self, id: StreamId) -> usize {
        let send = self.streams.find(id).and_then(|stream| stream.send.as_ref());
        let total = self.limits.send_buffer_total.saturating_sub(self.buffered);
        send.filter(|send| send.state == SendState::Send)
            .map_or(0, |send| send.room(self.send_bounds()).min(total))
    }

    /// Ends the stream after what was written.
    pub fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        self.offer = None;
        let slot = self.streams.slot(id).ok_or(WriteError::Unknown)?;
        open_half(&mut self.streams, slot)?.finish();
        self.refresh(slot);
        Ok(())
    }

    /// Gives the sending half up; what was not delivered is dropped. Also after `finish`, until all is acknowledged.
    pub fn reset(&mut self, id: StreamId, code: u64) -> Result<(), WriteError> {
        self.offer = None;
        let slot = self.streams.slot(id).ok_or(WriteError::Unknown)?;
        let send = self
            .streams
            .get(slot)
            .and_then(|stream| stream.send.as_ref())
            .ok_or(WriteError::Unknown)?;
        if let Some(code) = send.stopped {
            return Err(WriteError::Stopped(code));
        }
        if matches!(send.state, SendState::ResetSent { .. }) {
            return Err(WriteError::Finished);
        }
        self.give_up(slot, code);
        Ok(())
    }

    /// Reads in order. `fin` comes with the last bytes, or alone; after it, as after [`Reset`](ReadError::Reset), the half is
    /// gone.
    pub fn read(&mut self, id: StreamId, out: &mut [u8]) -> Result<Read, ReadError> {
        self.read_by(id, out.len(), |assembler, pool| assembler.read(pool, out))
    }

    /// Reads at most `max` bytes to the end of `out`: blocks that are complete change hands, the rest is copied. Takes the
    /// spent blocks out of `out`. Otherwise as [`read`](Self::read).
    pub fn read_blocks(&mut self, id: StreamId, out: &mut Blocks, max: usize) -> Result<Read, ReadError> {
        self.recycle(out);
        self.read_by(id, max, |assembler, pool| assembler.read_blocks(pool, out, max))
    }

    fn read_by(
        &mut self,
        id: StreamId,
        wanted: usize,
        take: impl FnOnce(&mut Assembler, &mut Pool) -> usize,
    ) -> Result<Read, ReadError> {
        self.offer = None;
        let slot = self.streams.slot(id).ok_or(ReadError::Unknown)?;
        let recv = self
            .streams
            .get_mut(slot)
            .and_then(|stream| stream.recv.as_mut())
            .ok_or(ReadError::Unknown)?;
        let pool = &mut self.pool;
        let read = match recv.read(wanted, |assembler| take(assembler, pool)) {
            Ok(read) => read,
            Err(error) => {
                if matches!(error, ReadError::Reset(_)) {
                    self.end_receiving(slot);
                }
                return Err(error);
            }
        };
        let bytes = read.bytes as u64;
        if recv.window.consume(bytes, self.now, self.srtt) && recv.limit_matters() {
            self.owe(slot, Due::MaxData);
        }
        self.stats.read_bytes += bytes;
        self.consume(bytes);
        if read.fin {
            self.end_receiving(slot);
        }
        Ok(read)
    }

    /// Stops reading: what comes is thrown away, and the peer is asked to stop.
    pub fn stop(&mut self, id: StreamId, code: u64) -> Result<(), ReadError> {
        self.offer = None;
        let slot = self.streams.slot(id).ok_or(ReadError::Unknown)?;
        let recv = self
            .streams
            .get_mut(slot)
            .and_then(|stream| stream.recv.as_mut())
            .ok_or(ReadError::Unknown)?;
        let unread = recv.stop(&mut self.pool, code)?;
        let over = recv.is_over();
        self.consume(unread);
        if over {
            self.end_receiving(slot);
        } else {
            self.owe(slot, Due::Stop);
        }
        Ok(())
    }

    /// Puts a stream into a class.
    pub fn set_class(&mut self, id: StreamId, class: Class) {
        self.offer = None;
        let Some(slot) = self.streams.slot(id) else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(slot).filter(|stream| stream.class != class) {
            stream.class = class;
            self.fair.add(stream_flow(slot), class);
            self.refresh(slot);
        }
    }

    /// Queues a datagram; drops the oldest ones while the queue is over its bound, or the oldest ones of the flow that has most
    /// ([`DatagramDropped`](crate::Event::DatagramDropped)).
    pub fn send_datagram(
        &mut self,
        now: Instant,
        data: Vec<u8>,
        options: DatagramOptions,
    ) -> Result<DatagramId, DatagramError> {
        self.tick(now);
        if self.peer.max_datagram == 0 {
            return Err(DatagramError::Disabled);
        }
        let allowed = usize::try_from(self.peer.max_datagram).unwrap_or(usize::MAX);
        let max = allowed
            .min(self.max_datagram)
            .min(self.datagrams.max_len(options.flow.is_some()));
        if data.len() > max {
            return Err(DatagramError::TooLarge { max });
        }
        let (class, patience) = (options.class, self.limits.realtime_deadline);
        let deadline = options
            .deadline
            .or_else(|| (class == Class::Realtime).then(|| now + patience));
        let id = self
            .datagrams
            .push(now, data, DatagramOptions { deadline, ..options });
        while let Some((class, dropped, notify)) = self.datagrams.drop_excess() {
            self.datagram_dropped(dropped, notify, DatagramDrop::QueueFull);
            self.refresh_datagrams(class);
        }
        self.shed_flows();
        self.refresh_datagrams(class);
        Ok(id)
    }

    /// Whether `count` datagrams of `bytes` altogether, with flows or without, may be queued without any being dropped.
    pub fn has_datagram_room(&self, bytes: usize, count: usize, with_flow: bool) -> bool {
        self.datagrams.has_room(bytes, count, with_flow)
    }

    /// The datagrams that wait.
    pub fn datagram_queue(&self) -> QueueState {
        self.datagrams.state(self.now)
    }

    /// Remembers a stream whose write was refused because all buffers together are full. Streams that are gone meanwhile are
    /// forgotten now and then, so that the list stays as short as the table.
    fn wait_for_total(&mut self, id: StreamId) {
        if self.crowded.len() > 2 * self.streams.len() + 16 {
            let streams = &self.streams;
            self.crowded.retain(|id| streams.slot(*id).is_some());
        }
        self.crowded.push_back(id);
    }
}

/// The half of a stream that still takes bytes.
fn open_half(streams: &mut Table, slot: Slot) -> Result<&mut SendHalf, WriteError> {
    let stream = streams.get_mut(slot).ok_or(WriteError::Unknown)?;
    let send = stream.send.as_deref_mut().ok_or(WriteError::Unknown)?;
    match (send.stopped, send.state) {
        (Some(code), _) => Err(WriteError::Stopped(code)),
        (None, SendState::Send) => Ok(send),
        (None, SendState::DataSent | SendState::ResetSent { .. }) => Err(WriteError::Finished),
    }
}
