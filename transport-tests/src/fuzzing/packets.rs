//! What a peer that holds keys may send: any frames under any number, replays, forgeries, from anywhere, in any phase.

use std::time::Duration;

use arbitrary::Unstructured;
use transport_core::wire::frame::{Frame, Frames};
use transport_core::{By, Class, CloseReason, DatagramOptions, Direction, StreamId};
use transport_core::{Connection, Event};

use crate::misbehave::{Raw, outgoing};
use crate::pair::{Options, Pair, Way, stranger};

/// What one end may hold: the window of the connection, a block of 8 KiB for each of 512 streams, messages and what was written.
const MEMORY: usize = 8 << 20;
/// Steps of one input at most.
const STEPS: usize = 200;

/// One step of the peer, or of the application it annoys.
#[derive(Debug)]
enum Act<'a> {
    /// A packet with these frames.
    Say(&'a [u8]),
    /// The next number is that much larger.
    Leap(u32),
    /// A packet of which one byte is changed.
    Forge(u16, u8),
    /// One of the last datagrams once more.
    Replay(u8),
    /// Time goes on, milliseconds.
    Rest(u16),
    /// The next key.
    Update,
    /// Another address.
    Move(u8),
    /// The application writes.
    Write(u8, u16),
    /// The application reads everything.
    Read,
    /// The application sends a message.
    Message(u16),
    /// The application gives up a stream.
    Abandon(u8, bool),
    /// The application closes.
    Close,
}

impl<'a> Act<'a> {
    fn take(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let kind: u8 = u.arbitrary()?;
        Ok(match kind % 20 {
            0..=6 => {
                let length = usize::from(u.arbitrary::<u8>()?);
                Self::Say(u.bytes(length.min(u.len()))?)
            }
            7 => {
                let length = usize::from(u.arbitrary::<u16>()? % 1400);
                Self::Say(u.bytes(length.min(u.len()))?)
            }
            8 => Self::Leap(u.arbitrary()?),
            9 => Self::Forge(u.arbitrary()?, u.arbitrary()?),
            10 => Self::Replay(u.arbitrary()?),
            11 | 12 => Self::Rest(u.arbitrary()?),
            13 => Self::Update,
            14 => Self::Move(u.arbitrary()?),
            15 => Self::Write(u.arbitrary()?, u.arbitrary()?),
            16 => Self::Read,
            17 => Self::Message(u.arbitrary()?),
            18 => Self::Abandon(u.arbitrary()?, u.arbitrary()?),
            _ => Self::Close,
        })
    }
}

fn acts(data: &[u8]) -> Vec<Act<'_>> {
    let mut u = Unstructured::new(data);
    let more = || (!u.is_empty()).then(|| Act::take(&mut u).ok()).flatten();
    std::iter::from_fn(more).take(STEPS).collect()
}

/// The steps an input stands for.
pub fn show(data: &[u8]) -> String {
    let line = |act: Act<'_>| match act {
        Act::Say(bytes) => format!("Say {:?}\n", Frames::new(bytes).collect::<Vec<_>>()),
        act => format!("{act:?}\n"),
    };
    acts(data).into_iter().map(line).collect()
}

/// A client with keys before a relay.
pub fn up(data: &[u8]) {
    let mut pair = Pair::idle(Options::new(0xF1).outgoing());
    let raw = Raw::join_saying(&mut pair, 0xF1, &outgoing());
    Bout::new(pair, raw, Way::Up).fight(data);
}

/// A relay with keys before a client.
pub fn down(data: &[u8]) {
    let mut pair = Pair::new(Options::new(0xF4).outgoing());
    let mut raw = Raw::stand_in(&mut pair, 0xF4, &outgoing());
    raw.say(&mut pair, &[Frame::HandshakeDone]);
    Bout::new(pair, raw, Way::Down).fight(data);
}

/// One peer against one product.
struct Bout {
    pair: Pair,
    raw: Raw,
    way: Way,
    said: Vec<Vec<u8>>,
    sent: u64,
    read: u64,
    received: u64,
    over: bool,
}

impl Bout {
    fn new(pair: Pair, raw: Raw, way: Way) -> Self {
        Self {
            pair,
            raw,
            way,
            said: Vec::new(),
            sent: 0,
            read: 0,
            received: 0,
            over: false,
        }
    }

    fn fight(mut self, data: &[u8]) {
        self.check();
        for act in acts(data) {
            self.step(act);
        }
        self.pair.run_for(Duration::from_secs(2));
        self.check();
        // Whatever was said, an end that hears nothing more lets the connection go.
        self.pair.run_for(Duration::from_secs(100));
        let end = self.pair.receiver(self.way);
        assert_eq!(end.endpoint.stats().connections, 0, "a connection stays for ever");
        assert!(end.closed().is_some(), "nobody was told of the end");
        self.check();
    }

    fn step(&mut self, act: Act<'_>) {
        match act {
            Act::Say(frames) => {
                let datagram = self.raw.seal(frames);
                self.send(datagram);
            }
            Act::Leap(by) => self.raw.next += u64::from(by) >> 8,
            Act::Forge(at, with) => {
                let mut datagram = self.raw.seal(&[1]);
                let at = usize::from(at) % datagram.len();
                datagram[at] ^= with;
                self.send(datagram);
            }
            Act::Replay(back) => {
                let count = self.said.len();
                if count > 0 {
                    let again = self.said[count - 1 - usize::from(back) % count].clone();
                    self.inject(&again);
                }
            }
            Act::Rest(time) => self.pair.run_for(Duration::from_millis(u64::from(time) >> 3)),
            Act::Update => self.raw.session.seal.update(),
            Act::Move(port) if self.way == Way::Up => self.raw.address = stranger(u16::from(port) + 1),
            Act::Move(_) => {}
            act => self.apply(act),
        }
        // What is recorded for the peer is only needed while it listens.
        self.pair.settle();
        self.check();
    }

    fn send(&mut self, datagram: Vec<u8>) {
        self.inject(&datagram);
        self.said.push(datagram);
    }

    fn inject(&mut self, datagram: &[u8]) {
        let (way, from) = (self.way, self.raw.address);
        self.pair.inject(way, from, datagram);
        self.sent += 1;
    }

    /// What the application does at the end that is under attack.
    fn apply(&mut self, act: Act<'_>) {
        let to_peer = if self.way == Way::Up { Way::Down } else { Way::Up };
        let now = self.pair.now(to_peer);
        let end = self.pair.receiver(self.way);
        let Some(connection) = end.handle.and_then(|handle| end.endpoint.connection(handle)) else {
            return;
        };
        match act {
            Act::Write(stream, length) => {
                let id = stream_of(stream).or_else(|| connection.open(direction(stream)).ok());
                let bytes = vec![stream; usize::from(length % 4000)];
                if let Some(id) = id {
                    let _ = connection.write(id, &bytes);
                    if stream & 1 == 1 {
                        let _ = connection.finish(id);
                    }
                }
            }
            Act::Read => {
                let _ = connection.offer_addresses(now, &[stranger(1), stranger(2)]);
                self.read += read_all(connection);
            }
            Act::Message(length) => {
                let options = DatagramOptions {
                    class: Class::ALL[usize::from(length) % 5],
                    early: false,
                    notify: true,
                    deadline: None,
                    flow: None,
                };
                let _ = connection.send_datagram(now, vec![7; usize::from(length % 1500)], options);
            }
            Act::Abandon(stream, true) => {
                let _ = connection.stop(StreamId::from_wire(stream.into()), 3);
            }
            Act::Abandon(stream, false) => {
                let _ = connection.reset(StreamId::from_wire(stream.into()), 4);
            }
            _ => connection.close(now, 5, b"enough"),
        }
    }

    fn check(&mut self) {
        let way = self.way;
        for frames in self.raw.hear(&self.pair) {
            let frames: Result<Vec<Frame<'_>>, _> = Frames::new(&frames).collect();
            let frames = frames.expect("our own frames parse");
            let last_word = frames.iter().any(|frame| matches!(frame, Frame::Close(_)));
            assert!(last_word || !self.over, "{frames:?} after the end");
        }
        self.raw.forget(&mut self.pair);
        let end = self.pair.receiver(way);
        assert!(end.endpoint.memory() < MEMORY, "{} bytes", end.endpoint.memory());
        let closes = end
            .events
            .iter()
            .filter(|event| matches!(event, Event::Closed(_)))
            .count();
        assert!(closes <= 1, "closed twice");
        self.over |= closes == 1;
        if self.over {
            assert!(
                matches!(end.events.last(), Some(Event::Closed(_))),
                "an event after the last: {:?}",
                end.events
            );
        }
        if let Some(CloseReason::Transport { code, by: By::Local }) = end.closed() {
            assert_ne!(*code, transport_core::code::INTERNAL_ERROR, "a peer made us fail");
        }
        self.received += end.take_datagrams().len() as u64;
        let Some(stats) = end
            .handle
            .and_then(|handle| end.endpoint.connection(handle))
            .map(|connection| connection.stats())
        else {
            return;
        };
        // One packet more than counted here: the one that ended the handshake.
        assert!(stats.received_packets <= self.sent + 1, "{stats:?}");
        assert!(stats.spurious <= stats.declared_lost && stats.declared_lost <= stats.sent_packets);
        assert_eq!(stats.stream_bytes_read, self.read);
        assert!(self.received <= stats.datagrams_received + stats.datagrams_refused);
    }
}

/// Low values name streams that may exist, high ones ask for a new stream.
fn stream_of(value: u8) -> Option<StreamId> {
    (value < 128).then(|| StreamId::from_wire(u64::from(value >> 1)))
}

fn direction(value: u8) -> Direction {
    if value & 2 == 0 {
        Direction::Bi
    } else {
        Direction::Uni
    }
}

fn read_all(connection: &mut Connection) -> u64 {
    let mut space = [0; 4096];
    let mut total = 0;
    for direction in Direction::ALL {
        while connection.accept(direction).is_some() {}
    }
    for id in 0..64 {
        while let Ok(read) = connection.read(StreamId::from_wire(id), &mut space) {
            total += read.bytes as u64;
            if read.fin || read.bytes == 0 {
                break;
            }
        }
    }
    total
}
