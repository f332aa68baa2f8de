//! What the allocator hears of two endpoints at work. The link between them does not count.
#![expect(unsafe_code, reason = "a global allocator is unsafe to write")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{CLIENT, Net, SERVER, Setup, ms};
use transport_core::{
    Batch, Direction, Endpoint, Handle, Now, Output, ReadError, Route, StreamId, TransportConfig, WriteError,
};

/// What an application writes ahead of the other's reading: less than the blocks a connection keeps for reuse.
const AHEAD: usize = 1 << 20;

thread_local! {
    /// Calls for new or larger memory, and bytes held, by this thread.
    static COUNTED: Cell<(u64, i64)> = const { Cell::new((0, 0)) };
}

struct Counting;

fn note(calls: u64, bytes: i64) {
    // Where a thread ends, its counters may be gone already.
    let _ = COUNTED.try_with(|cell| {
        let (all, held) = cell.get();
        cell.set((all + calls, held + bytes));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`, and the memory is the system's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `realloc`, and the memory is the system's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls() -> u64 {
    COUNTED.with(|cell| cell.get().0)
}

/// Two connected endpoints, datagrams carried at once in memory that is there already.
struct Bench {
    client: Endpoint,
    server: Endpoint,
    batch: Batch,
    line: Vec<u8>,
    now: Now,
    packets: u64,
}

impl Bench {
    /// Everything `from` has to say, to the other.
    fn carry(&mut self, up: bool) -> bool {
        let mut moved = false;
        loop {
            let (from, to) = if up {
                (&mut self.client, &mut self.server)
            } else {
                (&mut self.server, &mut self.client)
            };
            match from.poll(self.now, &mut self.batch) {
                Output::Transmit(_) => {
                    let route = Route {
                        remote: if up { CLIENT.into() } else { SERVER.into() },
                        local: None,
                    };
                    for segment in self.batch.segments() {
                        self.packets += 1;
                        let place = &mut self.line[..segment.len()];
                        place.copy_from_slice(segment);
                        to.handle_datagram(self.now, route, place);
                    }
                }
                Output::Event(..) => {}
                Output::Wait(_) => return moved,
            }
            moved = true;
        }
    }

    fn step(&mut self) {
        while self.carry(true) | self.carry(false) {}
        self.now.instant += ms(1);
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
    }

    /// Up to `total` bytes from the client's stream to the server's application.
    fn stream(&mut self, ends: (Handle, Handle), id: StreamId, total: usize) {
        let chunk = [7; 16_384];
        let mut buffer = [0; 16_384];
        let (mut sent, mut received) = (0, 0);
        while received < total {
            while sent < total.min(received + AHEAD) {
                let bytes = &chunk[..chunk.len().min(total - sent)];
                match self.client.connection(ends.0).unwrap().write(id, bytes) {
                    Ok(bytes) => sent += bytes,
                    Err(WriteError::Blocked) => break,
                    Err(error) => panic!("{error:?}"),
                }
            }
            self.step();
            loop {
                match self.server.connection(ends.1).unwrap().read(id, &mut buffer) {
                    Ok(read) if read.bytes > 0 => received += read.bytes,
                    Ok(_) | Err(ReadError::Blocked) => break,
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    }
}

fn bench(net: Net) -> Bench {
    let now = net.now();
    Bench {
        client: net.client,
        server: net.server,
        batch: Batch::default(),
        line: vec![0; 2048],
        now,
        packets: 0,
    }
}

#[test]
fn a_bulk_stream_hardly_allocates() {
    let mut net = Net::new(Setup::default());
    let ends = net.pair();
    let id = net.c(ends.0).open(Direction::Uni).unwrap();
    let mut bench = bench(net);
    bench.stream(ends, id, 16 << 20);
    let (calls_before, packets_before) = (calls(), bench.packets);
    bench.stream(ends, id, 32 << 20);
    let (calls, packets) = (calls() - calls_before, bench.packets - packets_before);
    let each = calls as f64 / packets as f64;
    eprintln!("{calls} allocations for {packets} packets: {each:.4} each");
    assert!(packets > 20_000 && each <= 0.05, "{calls} for {packets}");
}

#[test]
fn what_a_half_open_handshake_holds() {
    for aes in [false, true] {
        let config = || TransportConfig {
            aes,
            ..TransportConfig::default()
        };
        let mut net = Net::new(Setup {
            client: config(),
            server: config(),
            ..Setup::default()
        });
        let identity =
            transport_core::ClientIdentity::generate(&mut transport_core::SeededEntropy::new([9; 32]))
                .unwrap();
        let mut held = Vec::new();
        for round in 0..64 {
            net.connect_as(&identity);
            let mut datagrams = Vec::new();
            let mut batch = Batch::default();
            let now = net.now();
            while let Output::Transmit(_) = net.client.poll(now, &mut batch) {
                datagrams.push(batch.bytes().to_vec());
            }
            // A hello is read when there is time for it.
            net.run(ms(1));
            let now = net.now();
            let before = COUNTED.with(|cell| cell.get().1);
            for datagram in &mut datagrams {
                let route = Route {
                    remote: ([10, 0, round, 2], 5).into(),
                    local: None,
                };
                net.server.handle_datagram(now, route, datagram);
            }
            while let Output::Transmit(_) = net.server.poll(now, &mut batch) {}
            held.push(COUNTED.with(|cell| cell.get().1) - before);
        }
        let each = held[8..].iter().sum::<i64>() / 56;
        eprintln!("aes {aes}: {each} bytes for each half-open handshake");
        assert_eq!(net.server.stats().half_open, 64);
        assert!(each <= 4096, "{each}");
    }
}
