//! Streams before a peer that sends whatever it likes: every byte read is the byte that was sent at that place, windows
//! hold, memory is bounded.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use transport_scheduler::{
    Blocks, Class, DatagramOptions, Direction, Grant, Input, Limits, PeerLimits, ReadError, ReceiveError,
    Scheduler, Side, StreamId, Token,
};

use super::decode;
use crate::oracle::delivery;
use crate::sim::clock::Clock;

/// What may be held beyond windows and send buffers: blocks in which few bytes lie (three for each of 80 streams), spare ones.
const BOOKKEEPING: usize = (80 * 3 + 256) * 8192 + (256 << 10);

/// One step: of the peer, of the application, or of the engine.
#[derive(Arbitrary, Clone, Debug)]
enum Act {
    /// Bytes arrive.
    Data {
        id: u8,
        offset: u16,
        length: u16,
        fin: bool,
    },
    /// The same, at any place.
    Far { id: u64, offset: u64, fin: bool },
    /// The peer gives a stream up.
    Reset { id: u8, code: u8, size: u16 },
    /// The peer wants no more.
    Stop { id: u8 },
    /// The peer allows more.
    MaxData(u32),
    /// The same for a stream.
    MaxStreamData { id: u8, max: u32 },
    /// The peer allows more streams.
    MaxStreams { uni: bool, max: u8 },
    /// The peer says where it waits.
    Blocked { id: u8, at: u32 },
    /// Time goes on, milliseconds.
    Wait(u8),
    /// The application opens a stream.
    Open { uni: bool },
    /// It writes, perhaps the end.
    Write { id: u8, length: u16, fin: bool },
    /// It reads.
    Read { id: u8, length: u16 },
    /// It reads no more.
    Refuse { id: u8 },
    /// It gives up.
    Abandon { id: u8 },
    /// It changes what matters.
    Rank { id: u8, class: u8 },
    /// It sends a message.
    Message {
        length: u16,
        class: u8,
        deadline: Option<u8>,
    },
    /// A packet leaves.
    Send { room: u16 },
    /// A packet meets its fate.
    Fate { which: u8, acked: bool, again: bool },
    /// A probe says something again.
    Repeat { which: u8 },
}

/// The steps an input stands for.
pub fn show(data: &[u8]) -> String {
    format!("{:#?}", decode::<Act>(data))
}

/// Runs any program until the peer breaks a rule.
pub fn streams(data: &[u8]) {
    let mut world = World::new();
    for act in decode::<Act>(data) {
        if world.step(act).is_err() {
            return;
        }
        world.check();
    }
}

struct Violated;

struct World {
    scheduler: Scheduler,
    limits: Limits,
    now: Instant,
    /// Bytes read of each stream.
    read: BTreeMap<u64, u64>,
    /// Highest place the peer reached on each stream.
    reached: BTreeMap<u64, u64>,
    packets: Vec<Vec<Token>>,
    /// The last input came too early.
    refused: bool,
}

impl World {
    fn new() -> Self {
        let limits = Limits {
            initial_stream_window: 4096,
            initial_connection_window: 10_000,
            max_stream_window: 20_000,
            max_connection_window: 40_000,
            max_streams_bi: 4,
            max_streams_uni: 4,
            send_buffer: 3000,
            max_send_buffer: 3000,
            send_buffer_total: 9000,
            max_receive_segments: 6,
            datagram_queue_bytes: 4000,
            flow_queue_bytes: 4000,
            ..Limits::default()
        };
        let mut scheduler = Scheduler::new(Side::Server, limits.clone());
        scheduler.limits(PeerLimits {
            max_streams_bidi: 3,
            ..limits.announce(1000)
        });
        scheduler.set_max_datagram(1100);
        Self {
            scheduler,
            limits,
            now: Clock::start().now().instant,
            read: BTreeMap::new(),
            reached: BTreeMap::new(),
            packets: Vec::new(),
            refused: false,
        }
    }

    fn step(&mut self, act: Act) -> Result<(), Violated> {
        let stream = |id: u8| StreamId::from_wire(u64::from(id % 40));
        match act {
            Act::Data {
                id,
                offset,
                length,
                fin,
            } => self.data(stream(id), u64::from(offset % 30_000), length % 2000, fin),
            Act::Far { id, offset, fin } => self.data(StreamId::from_wire(id >> 2), offset >> 2, 1, fin),
            Act::Reset { id, code, size } => self.receive(Input::Reset {
                id: stream(id),
                code: code.into(),
                final_size: u64::from(size % 30_000),
            }),
            Act::Stop { id } => self.receive(Input::Stop {
                id: stream(id),
                code: 1,
            }),
            Act::MaxData(max) => self.receive(Input::MaxData(max.into())),
            Act::MaxStreamData { id, max } => self.receive(Input::MaxStreamData {
                id: stream(id),
                max: max.into(),
            }),
            Act::MaxStreams { uni, max } => self.receive(Input::MaxStreams {
                direction: way(uni),
                max: u64::from(max % 64),
            }),
            Act::Blocked { id, at } => self.blocked(id, at.into()),
            act => {
                self.ours(act);
                Ok(())
            }
        }
    }

    fn blocked(&mut self, id: u8, at: u64) -> Result<(), Violated> {
        self.receive(match id % 3 {
            0 => Input::DataBlocked { at },
            1 => Input::StreamDataBlocked {
                id: StreamId::from_wire(u64::from(id >> 2)),
                at,
            },
            _ => Input::StreamsBlocked {
                direction: way(id & 4 == 0),
                at,
            },
        })
    }

    fn data(&mut self, id: StreamId, offset: u64, length: u16, fin: bool) -> Result<(), Violated> {
        let mut data = vec![0; usize::from(length)];
        delivery::fill(id.get(), offset, &mut data);
        self.receive(Input::Stream {
            id,
            offset,
            data: &data,
            fin,
        })?;
        if self.refused {
            return Ok(());
        }
        let reached = self.reached.entry(id.get()).or_default();
        *reached = (*reached).max(offset + u64::from(length));
        Ok(())
    }

    fn receive(&mut self, input: Input<'_>) -> Result<(), Violated> {
        let before = self.scheduler.stats();
        let result = self.scheduler.receive(self.now, input);
        self.refused = matches!(result, Err(ReceiveError::Refused(_)));
        if self.refused {
            assert_eq!(
                self.scheduler.stats(),
                before,
                "refused, and yet something changed"
            );
        }
        match result {
            Err(ReceiveError::Violation(_)) => Err(Violated),
            _ => Ok(()),
        }
    }

    /// What this side does.
    fn ours(&mut self, act: Act) {
        let stream = |id: u8| StreamId::from_wire(u64::from(id % 40));
        let class = |class: u8| Class::ALL[usize::from(class) % 5];
        let scheduler = &mut self.scheduler;
        match act {
            Act::Wait(ms) => {
                self.now += Duration::from_millis(ms.into());
                scheduler.on_timeout(self.now);
            }
            Act::Open { uni } => drop(scheduler.open(way(uni))),
            Act::Write { id, length, fin } => {
                let writable = scheduler.writable(stream(id));
                if let Ok(taken) = scheduler.write(stream(id), &vec![9; usize::from(length % 4000)]) {
                    assert!(taken <= writable);
                }
                if fin {
                    let _ = scheduler.finish(stream(id));
                }
            }
            Act::Read { id, length } => self.read(stream(id), usize::from(length % 5000)),
            Act::Refuse { id } => drop(scheduler.stop(stream(id), 2)),
            Act::Abandon { id } => drop(scheduler.reset(stream(id), 3)),
            Act::Rank { id, class: rank } => scheduler.set_class(stream(id), class(rank)),
            Act::Message {
                length,
                class: rank,
                deadline,
            } => {
                let options = DatagramOptions {
                    class: class(rank),
                    early: false,
                    notify: true,
                    deadline: deadline.map(|ms| self.now + Duration::from_millis(ms.into())),
                    flow: (length % 2 == 1).then_some(length.into()),
                };
                let _ = scheduler.send_datagram(self.now, vec![8; usize::from(length % 1500)], options);
            }
            Act::Send { room } => self.send(usize::from(room % 1400)),
            Act::Fate { which, acked, again } => self.fate(which.into(), acked, again),
            Act::Repeat { which } => {
                if let Some(tokens) = self.packets.get(usize::from(which)) {
                    for token in tokens {
                        scheduler.repeat(*token);
                    }
                }
            }
            _ => {}
        }
    }

    fn read(&mut self, id: StreamId, length: usize) {
        for direction in Direction::ALL {
            while self.scheduler.accept(direction).is_some() {}
        }
        let mut space = vec![0; length];
        let at = self.read.entry(id.get()).or_default();
        let result = if length.is_multiple_of(2) {
            self.scheduler.read(id, &mut space)
        } else {
            let mut blocks = Blocks::default();
            let result = self.scheduler.read_blocks(id, &mut blocks, length);
            let moved = blocks.pull(&mut space);
            assert_eq!(moved, result.map_or(0, |read| read.bytes));
            self.scheduler.recycle(&mut blocks);
            result
        };
        match result {
            Ok(read) => {
                let fault = delivery::first_fault(id.get(), *at, &space[..read.bytes]);
                assert_eq!(fault, None, "stream {id}");
                *at += read.bytes as u64;
                let reached = self.reached.get(&id.get()).copied().unwrap_or(0);
                assert!(*at <= reached, "{id}: more read than came");
                assert!(
                    !read.fin || *at == reached,
                    "{id} ends at {at}, and {reached} came"
                );
            }
            Err(ReadError::Blocked | ReadError::Reset(_) | ReadError::Unknown | ReadError::Stopped) => {}
            Err(_) => {}
        }
    }

    fn send(&mut self, mut room: usize) {
        let mut tokens = Vec::new();
        while tokens.len() < 12 && self.scheduler.next(self.now).is_some() {
            let Some(chunk) = self.scheduler.take(self.now, Grant { bytes: room }) else {
                break;
            };
            assert!(chunk.len() <= room, "more than was granted");
            room = room.saturating_sub(chunk.len() + 8);
            tokens.push(chunk.token);
        }
        if self.packets.len() < 64 {
            self.packets.push(tokens);
        }
    }

    fn fate(&mut self, which: usize, acked: bool, again: bool) {
        if self.packets.is_empty() {
            return;
        }
        let which = which % self.packets.len();
        for token in &self.packets[which] {
            if acked {
                self.scheduler.acked(*token);
            } else {
                self.scheduler.lost(*token);
            }
        }
        if !again {
            self.packets.swap_remove(which);
        }
    }

    fn check(&mut self) {
        while self.scheduler.poll_event().is_some() {}
        let bound = self.limits.max_connection_window as usize + self.limits.send_buffer_total;
        let memory = self.scheduler.memory();
        assert!(memory <= bound + BOOKKEEPING, "{memory} bytes");
    }
}

fn way(uni: bool) -> Direction {
    if uni { Direction::Uni } else { Direction::Bi }
}
