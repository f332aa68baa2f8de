//! What the engines cost, sockets apart: one stream from a client to its relay, in memory and on virtual time.
//! `cargo run --release -p transport-tests --example engine [-- MEGABYTES]`.

use std::time::{Duration, Instant};

use transport_core::{
    Batch, Direction, Endpoint, Handle, Joined, Now, Output, Route, StreamId, SuiteChoice, TransportConfig,
};
use transport_tests::pair::{Options, Pair, Way, client_address, server_address};

/// A round trip of the path, and what the application writes and reads at once.
const TURN: Duration = Duration::from_micros(100);
const CHUNK: usize = 64 * 1024;

/// Time spent by one end, and what it sent.
#[derive(Default)]
struct Bill {
    time: Duration,
    packets: u64,
    batches: u64,
}

fn measured<T>(bill: &mut Bill, work: impl FnOnce(&mut Bill) -> T) -> T {
    let begun = transport_api::now().instant;
    let result = work(bill);
    bill.time += transport_api::now().instant - begun;
    result
}

/// Everything an end has to send.
fn speak(
    endpoint: &mut Endpoint,
    now: Now,
    bill: &mut Bill,
    batches: &mut Vec<Batch>,
    spare: &mut Vec<Batch>,
) {
    loop {
        let mut batch = spare.pop().unwrap_or_default();
        batch.clear();
        match endpoint.poll(now, &mut batch) {
            Output::Transmit(_) => {
                bill.packets += batch.count() as u64;
                bill.batches += 1;
                batches.push(batch);
            }
            Output::Event(..) => spare.push(batch),
            Output::Wait(_) => return spare.push(batch),
        }
    }
}

fn hear(endpoint: &mut Endpoint, now: Now, from: Route, bytes: &mut [u8], stride: usize) {
    let arrived = from.into();
    endpoint.handle_joined(
        now,
        Joined {
            arrived,
            stride,
            bytes,
        },
        &mut |_, _, _| false,
    );
    // Deadlines pass with time, whether or not there was one.
    endpoint.handle_timeout(now);
}

struct Run {
    pair: Pair,
    now: Now,
    client: Handle,
    server: Handle,
    stream: StreamId,
    written: u64,
    read: u64,
    bills: [Bill; 2],
    spare: Vec<Batch>,
}

impl Run {
    fn new(suite: SuiteChoice) -> Self {
        let transport = TransportConfig {
            aes: true,
            ..TransportConfig::default()
        };
        let options = Options {
            suite,
            client: transport.clone(),
            server: transport,
            latency: TURN / 2,
            ..Options::new(1)
        };
        let mut pair = Pair::connected(options);
        let now = pair.now(Way::Up);
        let stream = pair
            .client
            .connection()
            .open(Direction::Uni)
            .expect("credit for a stream");
        let (client, server) = (
            pair.client.handle.expect("connected"),
            pair.server.handle.expect("connected"),
        );
        Self {
            pair,
            now,
            client,
            server,
            stream,
            written: 0,
            read: 0,
            bills: Default::default(),
            spare: Vec::new(),
        }
    }

    fn turn(&mut self, data: &[u8], buffer: &mut [u8], until: u64) {
        let Self {
            pair,
            now,
            client,
            server,
            stream,
            written,
            read,
            bills: [up, down],
            spare,
        } = self;
        now.instant += TURN / 2;
        let mut batches = Vec::new();
        let (sender, receiver) = (&mut pair.client.endpoint, &mut pair.server.endpoint);
        measured(up, |bill| {
            let connection = sender.connection(*client).expect("it stands");
            while *written < until
                && let Ok(taken) = connection.write(*stream, data)
            {
                *written += taken as u64;
            }
            speak(sender, *now, bill, &mut batches, spare);
        });
        now.instant += TURN / 2;
        deliver(receiver, *now, client_address(), &mut batches, down, spare);
        measured(down, |bill| {
            let connection = receiver.connection(*server).expect("it stands");
            while connection.accept(Direction::Uni).is_some() {}
            while let Ok(piece) = connection.read(*stream, buffer) {
                *read += piece.bytes as u64;
            }
            speak(receiver, *now, bill, &mut batches, spare);
        });
        deliver(sender, *now, server_address(), &mut batches, up, spare);
    }
}

/// The kernel's copy stands outside the bill.
fn deliver(
    endpoint: &mut Endpoint,
    now: Now,
    from: std::net::SocketAddr,
    batches: &mut Vec<Batch>,
    bill: &mut Bill,
    spare: &mut Vec<Batch>,
) {
    let from = Route {
        remote: from,
        local: None,
    };
    for batch in batches.drain(..) {
        let mut copy = batch.bytes().to_vec();
        measured(bill, |_| {
            hear(endpoint, now, from, &mut copy, batch.segment_size());
        });
        spare.push(batch);
    }
}

fn main() {
    let megabytes: u64 = std::env::args()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(500);
    let (data, mut buffer) = (vec![7; CHUNK], vec![0; CHUNK]);
    for suite in [SuiteChoice::Aes256Gcm, SuiteChoice::ChaCha20Poly1305] {
        let mut run = Run::new(suite);
        while run.read < 50_000_000 {
            run.turn(&data, &mut buffer, u64::MAX);
        }
        run.bills = Default::default();
        let (before, target) = (run.read, run.read + megabytes * 1_000_000);
        let begun: Instant = run.now.instant;
        while run.read < target {
            run.turn(&data, &mut buffer, u64::MAX);
        }
        let bytes = (run.read - before) as f64;
        let [up, down] = &run.bills;
        let per_packet = |bill: &Bill| bill.time.as_secs_f64() * 1e9 / up.packets as f64;
        let per_gigabyte = |bill: &Bill| bill.time.as_secs_f64() * 1e9 / bytes;
        eprintln!(
            "{suite:?}: sender {:.0} ns a packet, {:.3} s/GB; receiver {:.0} ns, {:.3} s/GB; {:.1} packets a batch, one ACK for {:.0}; {:.1} Gbit/s on virtual time",
            per_packet(up),
            per_gigabyte(up),
            per_packet(down),
            per_gigabyte(down),
            up.packets as f64 / up.batches as f64,
            up.packets as f64 / down.packets as f64,
            bytes * 8.0 / (run.now.instant - begun).as_secs_f64() / 1e9,
        );
    }
}
