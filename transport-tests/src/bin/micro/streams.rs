//! Choosing who speaks next, and putting what arrives in order.

use std::{hint::black_box, time::Instant};

use transport_scheduler::{
    Direction, Grant, Input, Limits, Next, PeerLimits, Scheduler, Side, StreamId, Token,
};

use crate::Bench;

const PACKET: [u8; 1400] = [0x5a; 1400];
/// Chunks of a round.
const BATCH: usize = 44;

struct Sender {
    scheduler: Scheduler,
    now: Instant,
    taken: Vec<(Token, StreamId, usize)>,
}

struct Receiver {
    scheduler: Scheduler,
    now: Instant,
    id: StreamId,
    offset: u64,
    out: Vec<u8>,
}

pub(crate) fn run(bench: &Bench) {
    for streams in [1, 100, 1000] {
        let mut sender = Sender::new(streams);
        bench.measure(
            &format!("next_take_{streams}_streams"),
            BATCH as u32,
            &mut sender,
            Sender::refill,
            |sender, ()| sender.take(),
        );
    }
    for (name, reverse) in [("assemble_in_order", false), ("assemble_out_of_order", true)] {
        let mut receiver = Receiver::new();
        bench.measure(
            name,
            BATCH as u32,
            &mut receiver,
            |receiver| receiver.arrive(reverse),
            |receiver, offsets| receiver.assemble(offsets),
        );
    }
}

impl Sender {
    /// Streams that always have something to say.
    fn new(streams: u64) -> Self {
        let mut scheduler = Scheduler::new(Side::Client, Limits::default());
        let plenty = 1 << 60;
        scheduler.limits(PeerLimits {
            max_data: plenty,
            max_stream_data_bidi_local: plenty,
            max_stream_data_bidi_remote: plenty,
            max_stream_data_uni: plenty,
            max_streams_bidi: 0,
            max_streams_uni: streams,
            max_datagram: 1200,
        });
        for _ in 0..streams {
            let id = scheduler.open(Direction::Uni).expect("the peer allows it");
            let data = vec![0x5a; 2 * BATCH * PACKET.len()];
            // The last of a thousand find less room, which is enough.
            let _ = scheduler.write(id, &data);
        }
        Self {
            scheduler,
            now: transport_api::now().instant,
            taken: Vec::with_capacity(BATCH),
        }
    }

    fn take(&mut self) {
        while self.taken.len() < BATCH {
            let next = self.scheduler.next(self.now);
            let grant = Grant { bytes: PACKET.len() };
            let Some(chunk) = self.scheduler.take(self.now, grant) else {
                return;
            };
            if let Some(Next::Stream { id, .. }) = next {
                self.taken.push((chunk.token, id, chunk.len()));
            }
        }
    }

    /// What was taken has arrived, and as much is written again.
    fn refill(&mut self) {
        for (token, id, length) in self.taken.drain(..) {
            self.scheduler.acked(token);
            let _ = self.scheduler.write(id, &PACKET[..length]);
        }
    }
}

impl Receiver {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::new(Side::Server, Limits::default()),
            now: transport_api::now().instant,
            id: StreamId::new(Side::Client, Direction::Uni, 0),
            offset: 0,
            out: vec![0; BATCH * PACKET.len()],
        }
    }

    /// The offsets of the next packets, after what flow control has to say was said.
    fn arrive(&mut self, reverse: bool) -> Vec<u64> {
        while self.scheduler.next(self.now).is_some() {
            self.scheduler.take(self.now, Grant { bytes: PACKET.len() });
        }
        let length = PACKET.len() as u64;
        let mut offsets: Vec<u64> = (0..BATCH as u64)
            .map(|index| self.offset + index * length)
            .collect();
        self.offset += BATCH as u64 * length;
        if reverse {
            offsets.reverse();
        }
        offsets
    }

    fn assemble(&mut self, offsets: &[u64]) {
        for &offset in offsets {
            let frame = Input::Stream {
                id: self.id,
                offset,
                data: &PACKET,
                fin: false,
            };
            self.scheduler
                .receive(self.now, frame)
                .expect("within the window");
        }
        let read = self.scheduler.read(self.id, &mut self.out).expect("all is there");
        black_box(read.bytes);
    }
}
