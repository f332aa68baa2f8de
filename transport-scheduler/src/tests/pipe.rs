//! Random programs on two schedulers whose packets are lost, repeated, reordered and refused: every byte arrives once, in
//! order, or the stream says why not; and in the end nothing is left.

use std::collections::BTreeMap;

use arbitrary::Unstructured;

use super::*;
use crate::stream::store::BLOCK;

fn byte(sender: usize, id: u64, offset: u64) -> u8 {
    (offset.wrapping_mul(31) ^ (offset >> 8) ^ id.wrapping_mul(97) ^ sender as u64) as u8
}

/// One half of a stream: what its sender wrote and its reader saw.
#[derive(Debug, Default)]
struct Half {
    written: u64,
    finished: bool,
    reset: bool,
    stopped: bool,
    read: u64,
    ended: bool,
    /// What the writer and the reader have in hand, where they deal in blocks: every other stream.
    outgoing: Blocks,
    incoming: Blocks,
}

fn in_blocks(id: u64) -> bool {
    id & 4 == 0
}

struct World {
    now: Instant,
    nodes: [Scheduler; 2],
    /// Packets on their way, by sender.
    wires: [Vec<(Vec<Frame>, Vec<Token>)>; 2],
    halves: BTreeMap<(usize, u64), Half>,
    accepted: [u64; 2],
    /// Lengths of writes, reads and packets are multiplied by this.
    scale: usize,
}

impl World {
    /// With buffers of less than a block, or `wide` of several.
    fn new(wide: bool) -> Self {
        let scale = if wide { 32 } else { 1 };
        let limits = Limits {
            max_receive_segments: 5,
            initial_stream_window: 1000 * scale as u64,
            initial_connection_window: 1500 * scale as u64,
            max_stream_window: 4000 * scale as u64,
            max_connection_window: 8000 * scale as u64,
            send_buffer: 2500 * scale,
            send_buffer_total: 6000 * scale,
            max_send_buffer: 2500 * scale,
            max_resets_per_rtt: 10_000,
            ..small()
        };
        let Pair { now, client, server } = Pair::new(&limits);
        Self {
            now,
            nodes: [client, server],
            wires: Default::default(),
            halves: BTreeMap::new(),
            accepted: [0; 2],
            scale,
        }
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let who = usize::from(u.arbitrary::<bool>()?);
        self.now += Duration::from_micros(u.int_in_range(0..=20_000)?);
        match u.int_in_range(0..=15)? {
            0 => self.open(
                who,
                if u.arbitrary()? {
                    Direction::Bi
                } else {
                    Direction::Uni
                },
            ),
            1..=3 => {
                if let Some(id) = self.pick(u, who)? {
                    self.write(who, id, u.int_in_range(0..=3000 * self.scale as u64)?);
                }
            }
            4 => {
                if let Some(id) = self.pick(u, who)? {
                    self.finish(who, id);
                }
            }
            5 => {
                if let Some(id) = self.pick(u, who)?.filter(|_| u.ratio(1, 3).unwrap_or(false)) {
                    let done = self.nodes[who].reset(StreamId::from_wire(id), 7).is_ok();
                    self.half(who, id).reset |= done;
                }
            }
            6 => {
                if let Some(id) = self.pick(u, 1 - who)?.filter(|_| u.ratio(1, 3).unwrap_or(false)) {
                    let done = self.nodes[who].stop(StreamId::from_wire(id), 8).is_ok();
                    self.half(1 - who, id).stopped |= done;
                }
            }
            7..=8 => {
                if let Some(id) = self.pick(u, 1 - who)? {
                    self.read(who, id, u.int_in_range(0..=2000 * self.scale)?);
                }
            }
            9 => {
                if let Some(id) = self.pick(u, who)? {
                    self.nodes[who].set_class(StreamId::from_wire(id), *u.choose(&Class::ALL)?);
                }
            }
            10..=12 => self.transmit(who, u.int_in_range(50..=1400 * self.scale)?),
            _ => {
                if !self.wires[who].is_empty() {
                    let at = u.choose_index(self.wires[who].len())?;
                    self.arrive(who, at, u.int_in_range(0..=9)?);
                }
            }
        }
        Ok(())
    }

    fn half(&mut self, sender: usize, id: u64) -> &mut Half {
        self.halves.get_mut(&(sender, id)).unwrap()
    }

    fn pick(&self, u: &mut Unstructured<'_>, sender: usize) -> arbitrary::Result<Option<u64>> {
        let ids: Vec<_> = self
            .halves
            .keys()
            .filter(|key| key.0 == sender)
            .map(|key| key.1)
            .collect();
        if ids.is_empty() {
            Ok(None)
        } else {
            u.choose(&ids).map(|id| Some(*id))
        }
    }

    fn open(&mut self, who: usize, direction: Direction) {
        if let Ok(id) = self.nodes[who].open(direction) {
            self.halves.insert((who, id.get()), Half::default());
            if direction == Direction::Bi {
                self.halves.insert((1 - who, id.get()), Half::default());
            }
        }
    }

    fn write(&mut self, who: usize, id: u64, len: u64) {
        let start = self.half(who, id).written;
        let stream = StreamId::from_wire(id);
        let writable = self.nodes[who].writable(stream);
        let half = self.halves.get_mut(&(who, id)).unwrap();
        // What was refused in blocks stays in hand, and goes first.
        let held = half.outgoing.len() as u64;
        let data: Vec<u8> = (start + held..start + held.max(len))
            .map(|at| byte(who, id, at))
            .collect();
        let (wanted, result) = if in_blocks(id) {
            half.outgoing.push(&data);
            let wanted = half.outgoing.len();
            let result = self.nodes[who].write_blocks(stream, &mut half.outgoing);
            assert_eq!(half.outgoing.len(), wanted - result.unwrap_or(0));
            (wanted, result)
        } else {
            (data.len(), self.nodes[who].write(stream, &data))
        };
        // With wide buffers a block that does not fit waits.
        let patience = if in_blocks(id) && self.scale > 1 { BLOCK } else { 1 };
        match result {
            Ok(taken) => {
                assert!(taken <= wanted.min(writable) && taken + patience > wanted.min(writable));
                half.written += taken as u64;
            }
            Err(WriteError::Stopped(code)) => {
                assert_eq!(code, 8);
                assert!(half.stopped);
            }
            Err(WriteError::Blocked) => assert!(writable < patience && wanted > 0),
            Err(WriteError::Finished | WriteError::Unknown) => {}
        }
    }

    fn finish(&mut self, who: usize, id: u64) {
        let done = self.nodes[who].finish(StreamId::from_wire(id)).is_ok();
        self.half(who, id).finished |= done;
    }

    fn read(&mut self, reader: usize, id: u64, len: usize) -> bool {
        let sender = 1 - reader;
        let mut out = vec![0; len];
        let half = self.halves.get_mut(&(sender, id)).unwrap();
        let node = &mut self.nodes[reader];
        let result = if in_blocks(id) {
            let result = node.read_blocks(StreamId::from_wire(id), &mut half.incoming, len);
            let got = half.incoming.pull(&mut out);
            assert_eq!(got, result.map_or(0, |read| read.bytes));
            result
        } else {
            node.read(StreamId::from_wire(id), &mut out)
        };
        match result {
            Ok(Read { bytes, fin }) => {
                for (i, got) in out[..bytes].iter().enumerate() {
                    assert_eq!(
                        *got,
                        byte(sender, id, half.read + i as u64),
                        "byte {} of {id}",
                        half.read
                    );
                }
                half.read += bytes as u64;
                assert!(half.read <= half.written && !half.ended);
                if fin {
                    assert!(half.finished && half.read == half.written);
                    half.ended = true;
                }
                bytes > 0 || fin
            }
            Err(ReadError::Reset(code)) => {
                assert!(code == 7 && half.reset || code == 8 && half.stopped);
                assert!(!half.ended);
                half.ended = true;
                false
            }
            Err(ReadError::Blocked) => {
                assert!(!half.ended);
                false
            }
            Err(ReadError::Unknown | ReadError::Stopped) => false,
        }
    }

    fn transmit(&mut self, who: usize, size: usize) {
        let packet = packet(&mut self.nodes[who], self.now, size);
        self.wires[who].extend(packet);
    }

    /// A packet of `sender` meets its fate.
    fn arrive(&mut self, sender: usize, at: usize, fate: u8) {
        let (frames, tokens) = self.wires[sender].remove(at);
        let delivered = fate > 2 && {
            let to = &mut self.nodes[1 - sender];
            let mut taken = frames.iter().all(|frame| match deliver(to, self.now, frame) {
                Ok(()) => true,
                Err(ReceiveError::Refused(_)) => false,
                Err(ReceiveError::Violation(violation)) => panic!("{violation} by {frame:?}"),
            });
            if fate == 3 {
                // It came, but the sender believes otherwise.
                taken = false;
            }
            if fate == 4 {
                // It comes again, later; its tokens are then handed back a second time.
                self.wires[sender].push((frames, tokens.clone()));
            }
            taken
        };
        for token in tokens {
            if delivered {
                self.nodes[sender].acked(token);
            } else {
                self.nodes[sender].lost(token);
            }
        }
    }

    fn accept(&mut self) {
        for (node, accepted) in self.nodes.iter_mut().zip(&mut self.accepted) {
            for direction in Direction::ALL {
                *accepted += std::iter::from_fn(|| node.accept(direction)).count() as u64;
            }
            while node.poll_event().is_some() {}
        }
    }

    /// Everything is finished and delivered; then nothing may be left.
    fn wind_up(&mut self) {
        for _ in 0..2000 {
            let keys: Vec<_> = self.halves.keys().copied().collect();
            for &(sender, id) in &keys {
                let half = self.half(sender, id);
                if !(half.finished || half.reset) {
                    self.finish(sender, id);
                }
            }
            for who in 0..2 {
                for _ in 0..20 {
                    self.transmit(who, 1200);
                }
                while !self.wires[who].is_empty() {
                    self.arrive(who, 0, 9);
                }
            }
            for &(sender, id) in &keys {
                while self.read(1 - sender, id, 700) {}
            }
            self.accept();
            if self
                .nodes
                .iter()
                .all(|node| node.stats().streams_open == 0 && !node.has_pending())
            {
                return self.check_end();
            }
        }
        panic!(
            "never quiet: {:?} {:?}",
            self.halves,
            self.nodes.each_ref().map(Scheduler::stats)
        );
    }

    fn check_end(&self) {
        for (key, half) in &self.halves {
            assert!(half.ended || half.stopped, "{key:?} never ended: {half:?}");
            if !half.reset && !half.stopped {
                assert!(half.finished && half.read == half.written, "{key:?}: {half:?}");
            }
        }
        for (node, peer) in [(0, 1), (1, 0)].map(|(a, b)| (&self.nodes[a], &self.nodes[b])) {
            // Both ends count the same bytes, and all of them were given back.
            assert_eq!(node.credit.used(), peer.received);
            assert_eq!(node.window.consumed(), node.received);
            assert_eq!(
                (node.buffered, node.fair.has_parked(), node.steering.is_empty()),
                (0, false, true)
            );
            assert!(node.memory() < 8192, "{}", node.memory());
        }
    }
}

#[test]
fn any_program_over_any_pipe_delivers_exactly() {
    arbtest::arbtest(|u| {
        let mut world = World::new(u.arbitrary()?);
        while !u.is_empty() {
            world.step(u)?;
        }
        world.wind_up();
        Ok(())
    })
    .size_max(20_000)
    .budget_ms(3000);
}
