//! Two schedulers, joined by hand or by a pipe that loses and reorders.

mod blocks;
mod datagrams;
mod early;
mod flow;
mod order;
mod pipe;
mod streams;

use super::*;

/// Where the time of a test begins.
#[expect(
    clippy::disallowed_methods,
    reason = "no other way to make an Instant; what follows is computed"
)]
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// A frame on its way.
#[derive(Clone, Debug, PartialEq)]
enum Frame {
    Control(Control),
    Stream {
        id: StreamId,
        offset: u64,
        data: Vec<u8>,
        fin: bool,
    },
    Datagram(Vec<u8>),
}

/// What `scheduler` puts into one packet of `size` payload bytes; `None` if it has nothing.
fn packet(scheduler: &mut Scheduler, now: Instant, size: usize) -> Option<(Vec<Frame>, Vec<Token>)> {
    let (mut frames, mut tokens, mut room) = (Vec::new(), Vec::new(), size);
    while let Some(next) = scheduler.next(now) {
        assert!(scheduler.has_pending());
        let Some(chunk) = scheduler.take(now, Grant { bytes: room }) else {
            break;
        };
        tokens.push(chunk.token);
        let data = chunk.parts.concat();
        room = room.saturating_sub(data.len() + 8);
        frames.push(match next {
            Next::Control(control) => Frame::Control(control),
            Next::Stream {
                id,
                offset,
                available,
                fin,
            } => {
                assert!(data.len() <= available && (!chunk.fin || fin));
                Frame::Stream {
                    id,
                    offset,
                    data,
                    fin: chunk.fin,
                }
            }
            Next::Datagram { len } => {
                assert_eq!(len, data.len());
                Frame::Datagram(data)
            }
        });
    }
    (!tokens.is_empty()).then_some((frames, tokens))
}

fn deliver(scheduler: &mut Scheduler, now: Instant, frame: &Frame) -> Result<(), ReceiveError> {
    let input = match *frame {
        Frame::Datagram(_) => return Ok(()),
        Frame::Stream {
            id,
            offset,
            ref data,
            fin,
        } => Input::Stream {
            id,
            offset,
            data,
            fin,
        },
        Frame::Control(control) => match control {
            Control::MaxData { max } => Input::MaxData(max),
            Control::MaxStreamData { id, max } => Input::MaxStreamData { id, max },
            Control::MaxStreams { direction, max } => Input::MaxStreams { direction, max },
            Control::DataBlocked { at } => Input::DataBlocked { at },
            Control::StreamDataBlocked { id, at } => Input::StreamDataBlocked { id, at },
            Control::StreamsBlocked { direction, at } => Input::StreamsBlocked { direction, at },
            Control::ResetStream { id, code, final_size } => Input::Reset { id, code, final_size },
            Control::StopSending { id, code } => Input::Stop { id, code },
        },
    };
    scheduler.receive(now, input)
}

/// Client and server that know each other's limits.
struct Pair {
    now: Instant,
    client: Scheduler,
    server: Scheduler,
}

impl Pair {
    fn new(limits: &Limits) -> Self {
        let mut client = Scheduler::new(Side::Client, limits.clone());
        let mut server = Scheduler::new(Side::Server, limits.clone());
        client.limits(limits.announce(65_535));
        server.limits(limits.announce(65_535));
        Self {
            now: start(),
            client,
            server,
        }
    }

    /// Carries packets both ways without loss until both are quiet.
    fn settle(&mut self) {
        let mut busy = true;
        while busy {
            busy = carry(&mut self.client, &mut self.server, self.now)
                | carry(&mut self.server, &mut self.client, self.now);
        }
    }
}

fn carry(from: &mut Scheduler, to: &mut Scheduler, now: Instant) -> bool {
    let mut busy = false;
    while let Some((frames, tokens)) = packet(from, now, 1200) {
        for frame in &frames {
            deliver(to, now, frame).unwrap();
        }
        for token in tokens {
            from.acked(token);
        }
        busy = true;
    }
    busy
}

fn events(scheduler: &mut Scheduler) -> Vec<Event> {
    std::iter::from_fn(|| scheduler.poll_event()).collect()
}

/// Everything there is to read, and whether the end was seen.
fn read_all(scheduler: &mut Scheduler, id: StreamId) -> (Vec<u8>, bool) {
    let (mut all, mut buffer) = (Vec::new(), [0; 3000]);
    while let Ok(Read { bytes, fin }) = scheduler.read(id, &mut buffer) {
        all.extend_from_slice(&buffer[..bytes]);
        if fin {
            return (all, true);
        }
    }
    (all, false)
}

const PEER_BI: StreamId = StreamId::from_wire(0);

/// A server to which a client speaks by hand.
fn server(limits: &Limits) -> (Scheduler, Instant) {
    let mut server = Scheduler::new(Side::Server, limits.clone());
    server.limits(limits.announce(65_535));
    (server, start())
}

fn small() -> Limits {
    Limits {
        initial_stream_window: 1000,
        initial_connection_window: 1500,
        max_stream_window: 4000,
        max_connection_window: 8000,
        max_streams_bi: 4,
        max_streams_uni: 4,
        ..Limits::default()
    }
}
