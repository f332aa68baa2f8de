//! The application on one side of a session: opens, fills, reads and checks streams and datagrams.
//!
//! Each stream begins with four bytes that name its flow and four that name the request; what follows
//! is the delivery oracle's pattern, so that the reader can check every byte.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use transport_core::{
    Class, Connection, DatagramId, DatagramOptions, Direction, Now, ReadError, StreamEvent, StreamId,
    WriteError,
};

use super::{
    flow::Flow,
    scenario::{self, Kind, Side},
};
use crate::oracle::delivery;

const HEADER: usize = 8;
/// Bytes of pattern made at once.
const CHUNK: u64 = 32 * 1024;
const DATAGRAM_HEADER: usize = 12;

/// What one side does with one stream.
struct Stream {
    flow: u32,
    request: u32,
    header: Vec<u8>,
    sending: Option<Sending>,
    received: u64,
    expected: u64,
    fin: bool,
    opened: Duration,
}

struct Sending {
    header_left: Vec<u8>,
    /// Pattern from `sent` on, made ahead: a blocked write costs nothing.
    ready: VecDeque<u8>,
    sent: u64,
    total: u64,
    finished: bool,
}

/// The application on one side of one session.
pub struct App {
    side: Side,
    session: usize,
    streams: BTreeMap<StreamId, Stream>,
    scratch: Vec<u8>,
    /// Datagrams of which nothing is known yet, and the flow each belongs to.
    open: BTreeMap<DatagramId, u32>,
    /// What went wrong, for people.
    pub faults: Vec<String>,
}

impl App {
    /// An application with nothing open.
    pub fn new(side: Side, session: usize) -> Self {
        Self {
            side,
            session,
            streams: BTreeMap::new(),
            scratch: vec![0; 64 * 1024],
            open: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// Does all that can be done now; true if anything moved.
    pub fn drive(
        &mut self,
        moment: Now,
        now: Duration,
        connection: &mut Connection,
        flows: &mut [Flow],
    ) -> bool {
        let mut moved = self.open_due(now, connection, flows);
        for direction in [Direction::Bi, Direction::Uni] {
            while let Some(id) = connection.accept(direction) {
                self.streams.insert(id, Stream::incoming(now));
                moved = true;
            }
        }
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            moved |= self.drive_stream(now, id, connection, flows);
        }
        moved | self.send_datagrams(moment, now, connection, flows)
    }

    fn mine<'a>(&self, now: Duration, flows: &'a mut [Flow]) -> impl Iterator<Item = &'a mut Flow> + use<'a> {
        let (side, session) = (self.side, self.session);
        flows
            .iter_mut()
            .filter(move |flow| flow.session == session && flow.spec.from == side && flow.start <= now)
    }

    fn open_due(&mut self, now: Duration, connection: &mut Connection, flows: &mut [Flow]) -> bool {
        let mut opened = Vec::new();
        for flow in self.mine(now, flows) {
            let (direction, most, at_once) = match flow.spec.kind {
                Kind::Bulk => (Direction::Uni, 1, 1),
                Kind::Requests => (
                    Direction::Bi,
                    u64::from(flow.spec.count),
                    u64::from(flow.spec.concurrency),
                ),
                Kind::Datagrams => continue,
            };
            while flow.offered < most && flow.offered < flow.delivered + at_once {
                let Ok(id) = connection.open(direction) else { break };
                if let Some(class) = flow.spec.class {
                    connection.set_class(id, class_of(class));
                }
                if flow.spec.kind == Kind::Requests {
                    // Whether any of it goes early is the connection's to know.
                    connection.allow_early(id);
                }
                opened.push((id, Stream::outgoing(flow, now)));
                flow.offered += 1;
            }
        }
        let moved = !opened.is_empty();
        self.streams.extend(opened);
        moved
    }

    fn drive_stream(
        &mut self,
        now: Duration,
        id: StreamId,
        connection: &mut Connection,
        flows: &mut [Flow],
    ) -> bool {
        let Some(mut stream) = self.streams.remove(&id) else {
            return false;
        };
        let mut moved = self.read(now, id, &mut stream, connection, flows);
        if let Some(flow) = flows.get_mut(stream.flow as usize) {
            stream.cut(now, flow);
        }
        moved |= self.write(id, &mut stream, connection);
        if !stream.done(id, self.side) {
            self.streams.insert(id, stream);
        }
        moved
    }

    fn write(&mut self, id: StreamId, stream: &mut Stream, connection: &mut Connection) -> bool {
        let label = stream.label(self.side);
        let Some(sending) = &mut stream.sending else {
            return false;
        };
        let mut moved = false;
        while !sending.finished {
            let data: &[u8] = if sending.header_left.is_empty() {
                let want = (sending.total - sending.sent).min(CHUNK) as usize;
                if sending.ready.is_empty() {
                    sending.ready.resize(want, 0);
                    delivery::fill(label, sending.sent, sending.ready.make_contiguous());
                }
                let data = sending.ready.as_slices().0;
                &data[..want.min(data.len())]
            } else {
                &sending.header_left
            };
            if data.is_empty() {
                sending.finished = connection.finish(id).is_ok();
                return true;
            }
            match connection.write(id, data) {
                Ok(wrote) if sending.header_left.is_empty() => {
                    sending.ready.drain(..wrote);
                    sending.sent += wrote as u64;
                }
                Ok(wrote) => drop(sending.header_left.drain(..wrote)),
                Err(WriteError::Blocked) => return moved,
                Err(error) => {
                    self.faults.push(format!("stream {id:?}: write: {error:?}"));
                    sending.finished = true;
                }
            }
            moved = true;
        }
        moved
    }

    fn read(
        &mut self,
        now: Duration,
        id: StreamId,
        stream: &mut Stream,
        connection: &mut Connection,
        flows: &mut [Flow],
    ) -> bool {
        let mut moved = false;
        while !stream.fin && receives(id, self.side) {
            match connection.read(id, &mut self.scratch) {
                Ok(read) => {
                    let data = std::mem::take(&mut self.scratch);
                    self.arrived(now, stream, &data[..read.bytes], flows);
                    self.scratch = data;
                    moved |= read.bytes > 0 || read.fin;
                    stream.fin = read.fin;
                    if read.fin {
                        self.ended(now, id, stream, flows);
                    } else if read.bytes == 0 {
                        break;
                    }
                }
                Err(ReadError::Blocked) => break,
                Err(error) => {
                    self.faults.push(format!("stream {id:?}: read: {error:?}"));
                    stream.fin = true;
                }
            }
        }
        moved
    }

    /// Checks bytes that arrived; the first of a peer's stream say what it is.
    fn arrived(&mut self, now: Duration, stream: &mut Stream, mut data: &[u8], flows: &mut [Flow]) {
        if stream.header.len() < HEADER {
            let need = (HEADER - stream.header.len()).min(data.len());
            let (head, rest) = data.split_at(need);
            stream.header.extend_from_slice(head);
            data = rest;
            if stream.header.len() < HEADER {
                return;
            }
            stream.name(flows, self.side);
        }
        let label = stream.label(self.side.other());
        if let Some(at) = delivery::first_fault(label, stream.received, data) {
            self.faults
                .push(format!("flow {}: byte {at} is not what was sent", stream.flow));
        }
        stream.received += data.len() as u64;
        if let Some(flow) = flows.get_mut(stream.flow as usize) {
            flow.payload(now, data.len() as u64);
        }
    }

    fn ended(&mut self, now: Duration, id: StreamId, stream: &mut Stream, flows: &mut [Flow]) {
        let cut = flows.get(stream.flow as usize).and_then(|flow| flow.cut);
        if let Some(cut) = cut {
            stream.expected = cut;
        }
        if stream.received != stream.expected {
            self.faults.push(format!(
                "flow {}: {} of {} bytes",
                stream.flow, stream.received, stream.expected
            ));
        }
        let Some(flow) = flows.get_mut(stream.flow as usize) else {
            return;
        };
        match flow.spec.kind {
            Kind::Bulk => flow.completion = Some(now),
            Kind::Requests if flow.spec.from == self.side => {
                flow.arrived(now.saturating_sub(stream.opened));
                if flow.delivered == u64::from(flow.spec.count) {
                    flow.completion = Some(now);
                }
            }
            Kind::Requests => stream.answer(flow),
            Kind::Datagrams => self.faults.push(format!("stream {id:?} claims a datagram flow")),
        }
    }

    fn send_datagrams(
        &mut self,
        moment: Now,
        now: Duration,
        connection: &mut Connection,
        flows: &mut [Flow],
    ) -> bool {
        let mut sent = false;
        for flow in self
            .mine(now, flows)
            .filter(|flow| flow.spec.kind == Kind::Datagrams)
        {
            while flow.next_datagram <= now && !flow.over(now) {
                let mut payload = vec![0; flow.spec.size];
                payload[..4].copy_from_slice(&flow.index.to_be_bytes());
                payload[4..DATAGRAM_HEADER].copy_from_slice(&(now.as_nanos() as u64).to_be_bytes());
                delivery::fill(u64::from(flow.index), 0, &mut payload[DATAGRAM_HEADER..]);
                flow.offered += 1;
                flow.next_datagram += flow.interval();
                let class = flow.spec.class.map_or(Class::Realtime, class_of);
                let limit = flow
                    .spec
                    .deadline_ms
                    .map(|ms| Duration::from_secs_f64(ms / 1000.0));
                let deadline = limit.map(|limit| moment.instant + limit);
                let options = DatagramOptions {
                    class,
                    deadline,
                    early: false,
                    notify: true,
                    flow: None,
                };
                match connection.send_datagram(moment, payload, options) {
                    Ok(id) => drop(self.open.insert(id, flow.index)),
                    Err(error) => self
                        .faults
                        .push(format!("flow {}: datagram: {error:?}", flow.index)),
                }
                sent = true;
            }
        }
        sent
    }

    /// What became of a datagram.
    pub fn told(&mut self, event: &StreamEvent, flows: &mut [Flow]) {
        let (id, expired) = match event {
            StreamEvent::DatagramExpired { id } => (id, true),
            StreamEvent::DatagramAcked { id }
            | StreamEvent::DatagramLost { id }
            | StreamEvent::DatagramDropped { id, .. } => (id, false),
            _ => return,
        };
        let flow = self
            .open
            .remove(id)
            .and_then(|index| flows.get_mut(index as usize));
        if let Some(flow) = flow.filter(|_| expired) {
            flow.expired += 1;
        }
    }

    /// When the next datagram of this side is due.
    pub fn next_due(&self, flows: &[Flow]) -> Option<Duration> {
        let mine = flows
            .iter()
            .filter(|flow| flow.session == self.session && flow.spec.from == self.side);
        mine.filter_map(|flow| match flow.spec.kind {
            Kind::Datagrams if !flow.over(flow.next_datagram) => Some(flow.next_datagram),
            Kind::Bulk | Kind::Requests if flow.offered == 0 => Some(flow.start),
            _ => None,
        })
        .min()
    }

    /// A datagram of the peer.
    pub fn datagram(&mut self, now: Duration, payload: &[u8], flows: &mut [Flow]) {
        let Some((index, rest)) = payload.split_first_chunk::<4>() else {
            return;
        };
        let Some((sent, pattern)) = rest.split_first_chunk::<8>() else {
            return;
        };
        let index = u32::from_be_bytes(*index);
        let sent = Duration::from_nanos(u64::from_be_bytes(*sent));
        match flows.get_mut(index as usize) {
            Some(flow) if delivery::first_fault(u64::from(index), 0, pattern).is_none() => {
                flow.payload(now, payload.len() as u64);
                flow.arrived(now.saturating_sub(sent));
            }
            _ => self
                .faults
                .push(format!("flow {index}: a datagram is not what was sent")),
        }
    }
}

impl Stream {
    fn incoming(now: Duration) -> Self {
        Self {
            flow: u32::MAX,
            request: 0,
            header: Vec::new(),
            sending: None,
            received: 0,
            expected: 0,
            fin: false,
            opened: now,
        }
    }

    fn outgoing(flow: &Flow, now: Duration) -> Self {
        let request = flow.offered as u32;
        let total = if flow.spec.kind == Kind::Bulk {
            flow.spec.total()
        } else {
            flow.spec.request_bytes
        };
        let expected = flow.spec.response_bytes;
        let header = [flow.index.to_be_bytes(), request.to_be_bytes()].concat();
        let sending = Sending {
            header_left: header.clone(),
            ready: VecDeque::new(),
            sent: 0,
            total,
            finished: false,
        };
        Self {
            flow: flow.index,
            request,
            header,
            sending: Some(sending),
            received: 0,
            expected,
            fin: false,
            opened: now,
        }
    }

    /// Reads the header of a peer's stream.
    fn name(&mut self, flows: &[Flow], side: Side) {
        let word = |at: usize| {
            self.header
                .get(at..at + 4)
                .and_then(|b| b.try_into().ok())
                .map_or(u32::MAX, u32::from_be_bytes)
        };
        (self.flow, self.request) = (word(0), word(4));
        let Some(flow) = flows.get(self.flow as usize) else {
            return;
        };
        self.expected = match flow.spec.kind {
            Kind::Bulk => flow.spec.total(),
            _ if flow.spec.from == side => flow.spec.response_bytes,
            _ => flow.spec.request_bytes,
        };
    }

    /// A bulk flow whose time has passed ends with what was written.
    fn cut(&mut self, now: Duration, flow: &mut Flow) {
        if let Some(sending) = &mut self.sending
            && flow.spec.kind == Kind::Bulk
            && flow.over(now)
            && sending.sent < sending.total
        {
            sending.total = sending.sent;
            flow.cut = Some(sending.sent);
        }
    }

    fn answer(&mut self, flow: &Flow) {
        let total = flow.spec.response_bytes;
        self.sending = Some(Sending {
            header_left: Vec::new(),
            ready: VecDeque::new(),
            sent: 0,
            total,
            finished: false,
        });
    }

    /// Names the bytes that `sender` puts on this stream.
    fn label(&self, sender: Side) -> u64 {
        u64::from(self.flow) << 33 | u64::from(self.request) << 1 | u64::from(sender == Side::Server)
    }

    fn done(&self, id: StreamId, side: Side) -> bool {
        let sent = self
            .sending
            .as_ref()
            .map_or(!(self.fin && sends(id, side)), |sending| sending.finished);
        sent && (self.fin || !receives(id, side))
    }
}

fn local(id: StreamId, side: Side) -> bool {
    (id.initiator() == transport_core::Side::Client) == (side == Side::Client)
}

fn receives(id: StreamId, side: Side) -> bool {
    id.direction() == Direction::Bi || !local(id, side)
}

fn sends(id: StreamId, side: Side) -> bool {
    id.direction() == Direction::Bi || local(id, side)
}

fn class_of(class: scenario::Class) -> Class {
    match class {
        scenario::Class::Control => Class::Control,
        scenario::Class::Realtime => Class::Realtime,
        scenario::Class::Interactive => Class::Interactive,
        scenario::Class::Bulk => Class::Bulk,
        scenario::Class::Background => Class::Background,
    }
}
