//! Streams and messages over a bad network: every byte arrives once, in order, and nobody holds more than agreed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use transport_core::{
    Algorithm, Class, Connection, DatagramOptions, Direction, Event, ReadError, StreamEvent, StreamId,
    TransportConfig, WriteError,
};
use transport_tests::pair::{Options, Pair, Transfer, Way, faults};
use transport_tests::sim::rng::Rng;

const LIMIT: Duration = Duration::from_mins(2);

fn bad(seed: u64) -> Pair {
    let mut pair = Pair::connected(Options::new(seed));
    pair.recording = false;
    pair.hook(faults(seed, 0.05, 0.2, 0.1));
    pair
}

#[test]
fn many_streams_both_ways_through_loss_disorder_and_copies() {
    for seed in 0..4 {
        let mut pair = bad(seed);
        let mut rng = Rng::new(seed, "sizes");
        let mut size = || match rng.below(4) {
            0 => rng.below(3),
            1 => rng.below(2000),
            2 => rng.below(20_000),
            _ => rng.below(120_000),
        };
        let mut all = Vec::new();
        for _ in 0..30 {
            for way in [Way::Up, Way::Down] {
                all.push(Transfer::open(&mut pair, way, size()));
                // A bidirectional stream is born with its opener's first bytes.
                let id = pair.sender(way).connection().open(Direction::Bi).unwrap();
                let back = if way == Way::Up { Way::Down } else { Way::Up };
                all.extend([
                    Transfer::along(way, id, 1 + size()),
                    Transfer::along(back, id, size()),
                ]);
            }
        }
        assert!(pair.exchange(&mut all, LIMIT), "seed {seed}");
        pair.run_for(Duration::from_secs(3));
        for way in [Way::Up, Way::Down] {
            assert_eq!(
                pair.sender(way).connection().stats().streams_open,
                0,
                "seed {seed}"
            );
        }
    }
}

/// What one side has left to do on a stream.
#[derive(Default)]
struct Half {
    wrote: bool,
    ended: bool,
    read_over: bool,
}

/// An application that writes, finishes, resets, reads and stops at random.
struct Whim {
    rng: Rng,
    streams: BTreeMap<StreamId, Half>,
    opened: u32,
}

impl Whim {
    fn new(seed: u64, way: Way) -> Self {
        Self {
            rng: Rng::new(seed, if way == Way::Up { "client" } else { "server" }),
            streams: BTreeMap::new(),
            opened: 0,
        }
    }

    fn act(&mut self, connection: &mut Connection) {
        for direction in [Direction::Bi, Direction::Uni] {
            while let Some(id) = connection.accept(direction) {
                let half = Half {
                    ended: direction == Direction::Uni,
                    ..Half::default()
                };
                self.streams.insert(id, half);
            }
            if self.opened < 80
                && self.rng.chance(0.3)
                && let Ok(id) = connection.open(direction)
            {
                self.opened += 1;
                self.streams.insert(
                    id,
                    Half {
                        read_over: direction == Direction::Uni,
                        ..Half::default()
                    },
                );
            }
        }
        for (id, half) in &mut self.streams {
            if !half.ended {
                Self::send(&mut self.rng, *id, half, connection);
            }
            if !half.read_over {
                Self::receive(&mut self.rng, *id, half, connection);
            }
        }
    }

    fn send(rng: &mut Rng, id: StreamId, half: &mut Half, connection: &mut Connection) {
        let result = match rng.below(12) {
            0 => connection.finish(id),
            1 if half.wrote => connection.reset(id, 500),
            _ => connection
                .write(id, &vec![9; rng.below(6000) as usize + 1])
                .map(|_| half.wrote = true),
        };
        match result {
            Ok(()) | Err(WriteError::Blocked) => {}
            // The peer stopped it, or it ended with the call before.
            Err(WriteError::Stopped(600) | WriteError::Finished | WriteError::Unknown) => half.ended = true,
            Err(error) => panic!("{id:?}: {error}"),
        }
    }

    fn receive(rng: &mut Rng, id: StreamId, half: &mut Half, connection: &mut Connection) {
        if rng.chance(0.03) {
            half.read_over = true;
            return match connection.stop(id, 600) {
                Ok(()) | Err(ReadError::Unknown | ReadError::Reset(500)) => {}
                Err(error) => panic!("{id:?}: {error}"),
            };
        }
        match connection.read(id, &mut [0; 3000]) {
            Ok(read) => half.read_over = read.fin,
            Err(ReadError::Blocked) => {}
            Err(ReadError::Unknown) if !half.wrote => {}
            Err(ReadError::Reset(500)) => half.read_over = true,
            Err(error) => panic!("{id:?}: {error}"),
        }
    }

    /// Ends what is left.
    fn wind_up(&mut self, connection: &mut Connection) -> bool {
        while let Some(id) = connection
            .accept(Direction::Bi)
            .or_else(|| connection.accept(Direction::Uni))
        {
            self.streams.insert(id, Half::default());
        }
        for (id, half) in &mut self.streams {
            if !half.ended {
                half.ended = !matches!(connection.finish(*id), Err(WriteError::Blocked));
            }
            while !half.read_over {
                match connection.read(*id, &mut [0; 3000]) {
                    Ok(read) => half.read_over = read.fin,
                    Err(ReadError::Blocked) => break,
                    Err(_) => half.read_over = true,
                }
            }
        }
        self.streams.values().all(|half| half.ended && half.read_over)
    }
}

#[test]
fn reset_stop_and_end_in_every_order_leave_nothing_open() {
    for seed in 0..8 {
        let mut pair = bad(seed);
        let mut whims = [Whim::new(seed, Way::Up), Whim::new(seed, Way::Down)];
        for _ in 0..1000 {
            pair.run_for(Duration::from_millis(3));
            whims[0].act(pair.client.connection());
            whims[1].act(pair.server.connection());
        }
        assert_eq!(
            (pair.client.closed(), pair.server.closed()),
            (None, None),
            "seed {seed}"
        );
        assert!(
            whims.iter().all(|whim| whim.opened >= 20),
            "seed {seed}: {} {}",
            whims[0].opened,
            whims[1].opened
        );
        let over = pair.run_until(LIMIT, |pair| {
            let client = whims[0].wind_up(pair.client.connection());
            let server = whims[1].wind_up(pair.server.connection());
            let open =
                pair.client.connection().stats().streams_open + pair.server.connection().stats().streams_open;
            client && server && open == 0
        });
        let open = (
            pair.client.connection().stats().streams_open,
            pair.server.connection().stats().streams_open,
        );
        assert!(over, "seed {seed}: {open:?} streams stay open");
        pair.hook(|_| {});
        assert!(
            pair.transfer(Way::Up, 100_000, LIMIT) && pair.transfer(Way::Down, 100_000, LIMIT),
            "seed {seed}"
        );
    }
}

#[test]
fn codes_of_reset_and_stop_arrive() {
    let mut pair = bad(20);
    let id = pair.client.connection().open(Direction::Bi).unwrap();
    pair.client.connection().write(id, &vec![1; 50_000]).unwrap();
    pair.run_for(Duration::from_secs(2));
    pair.client.connection().reset(id, 0x1234).unwrap();
    pair.client.connection().stop(id, 0x4321).unwrap();
    pair.run_for(Duration::from_secs(2));
    let told = |event: StreamEvent| pair.server.events.contains(&Event::Stream(event));
    assert!(told(StreamEvent::StreamReset { id, code: 0x1234 }));
    assert!(told(StreamEvent::StreamStopped { id, code: 0x4321 }));
    let server = pair.server.connection();
    assert_eq!(server.accept(Direction::Bi), Some(id));
    assert_eq!(server.read(id, &mut [0; 10]), Err(ReadError::Reset(0x1234)));
    assert!(matches!(
        server.write(id, &[1]),
        Err(WriteError::Stopped(0x4321) | WriteError::Unknown)
    ));
    pair.run_for(Duration::from_secs(2));
    assert_eq!(
        pair.client.connection().stats().streams_open + pair.server.connection().stats().streams_open,
        0
    );
}

#[test]
fn tiny_windows_make_slow_but_whole_transfers() {
    for seed in 30..33 {
        let tiny = |transport: &mut TransportConfig| {
            let limits = Arc::make_mut(&mut transport.limits);
            (limits.initial_stream_window, limits.max_stream_window) = (1000, 1000);
            (limits.initial_connection_window, limits.max_connection_window) = (2500, 2500);
            (limits.send_buffer, limits.max_send_buffer) = (3000, 3000);
        };
        let mut pair = Pair::connected(Options::new(seed).with(tiny));
        pair.recording = false;
        pair.hook(faults(seed, 0.03, 0.2, 0.05));
        let mut all: Vec<Transfer> = [Way::Up, Way::Down]
            .into_iter()
            .cycle()
            .take(8)
            .map(|way| Transfer::open(&mut pair, way, 15_000))
            .collect();
        assert!(pair.exchange(&mut all, LIMIT), "seed {seed}");
        let held = (
            pair.client.connection().memory(),
            pair.server.connection().memory(),
        );
        // A block of 8 KiB for each half of the eight streams, whatever the window.
        assert!(held.0.max(held.1) < 128 << 10, "{held:?} bytes");
    }
}

/// Streams of less than a block, read as their bytes come: what is kept for reuse must not grow with each of them.
#[test]
fn many_short_streams_leave_no_heap_of_spare_blocks() {
    let mut pair = Pair::connected(Options::new(40));
    pair.recording = false;
    let quiet = pair.client.connection().open(Direction::Bi).unwrap();
    pair.client
        .connection()
        .write(quiet, b"open all the while")
        .unwrap();
    for _ in 0..30 {
        let mut all: Vec<Transfer> = (0..8).map(|_| Transfer::open(&mut pair, Way::Up, 7900)).collect();
        assert!(pair.exchange(&mut all, LIMIT));
    }
    pair.run_for(Duration::from_secs(1));
    let held = (
        pair.client.connection().memory(),
        pair.server.connection().memory(),
    );
    assert!(
        held.0.max(held.1) < 256 << 10,
        "{held:?} bytes when one stream is open"
    );
}

#[test]
fn more_streams_than_allowed_wait_for_their_turn() {
    let few = |transport: &mut TransportConfig| {
        let limits = Arc::make_mut(&mut transport.limits);
        (limits.max_streams_uni, limits.max_streams_bi) = (3, 2);
    };
    let mut pair = Pair::connected(Options::new(34).with(few));
    pair.hook(faults(34, 0.05, 0.2, 0.1));
    let mut left = 60;
    let mut open: Vec<Transfer> = Vec::new();
    let over = pair.run_until(LIMIT, |pair| {
        while left > 0
            && let Ok(id) = pair.client.connection().open(Direction::Uni)
        {
            open.push(Transfer::along(Way::Up, id, 700));
            left -= 1;
        }
        open.retain_mut(|transfer| !transfer.drive(pair));
        assert!(
            open.len() <= 6,
            "more at once than allowed, even counting ends on their way"
        );
        left == 0 && open.is_empty()
    });
    assert!(over, "{left} never opened, {} never arrived", open.len());
}

#[test]
fn a_reader_that_does_not_read_holds_a_window_and_no_more() {
    let mut pair = Pair::connected(Options::new(35));
    pair.recording = false;
    let mut all: Vec<Transfer> = (0..6)
        .map(|_| Transfer::open(&mut pair, Way::Up, 1_000_000))
        .collect();
    pair.run_until(Duration::from_secs(20), |pair| {
        for transfer in &mut all {
            transfer.write_all(pair);
        }
        false
    });
    let window = TransportConfig::default().limits.initial_connection_window as usize;
    let held = pair.server.connection().memory();
    assert!(
        held > window / 2 && held < 2 * window,
        "{held} bytes for a window of {window}"
    );
    assert_eq!(pair.client.closed(), None);
    assert!(
        pair.exchange(&mut all, LIMIT),
        "it goes on when the reader comes back"
    );
    pair.run_for(Duration::from_secs(3));
    let (client, server) = (
        pair.client.connection().memory(),
        pair.server.connection().memory(),
    );
    // The sender keeps the room its log of packets once needed.
    assert!(
        client < 512 << 10 && server < 256 << 10,
        "{client} and {server} bytes when all is over"
    );
}

/// A line of 100 kB/s, so that messages wait.
fn slow_line(seed: u64) -> Pair {
    let mut options = Options::new(seed);
    options.client.algorithm = Algorithm::Fixed { bytes_per_s: 100_000 };
    let mut pair = Pair::connected(options);
    pair.run_for(Duration::from_secs(2));
    pair.server.events.clear();
    pair
}

fn message(number: u16) -> Vec<u8> {
    let mut message = vec![7; 1000];
    message[..2].copy_from_slice(&number.to_be_bytes());
    message
}

fn numbers(messages: &[Vec<u8>]) -> Vec<u16> {
    messages
        .iter()
        .map(|message| u16::from_be_bytes([message[0], message[1]]))
        .collect()
}

#[test]
fn messages_whose_time_has_passed_are_not_sent() {
    let mut pair = slow_line(36);
    let now = pair.now(Way::Up);
    let (short, long) = (Duration::from_millis(55), Duration::from_millis(400));
    for number in 0..40 {
        let deadline = now.instant + if number % 2 == 0 { short } else { long };
        let options = DatagramOptions {
            class: Class::Realtime,
            deadline: Some(deadline),
            early: false,
            notify: true,
            flow: None,
        };
        pair.client
            .connection()
            .send_datagram(now, message(number), options)
            .unwrap();
    }
    let sent_at = pair.elapsed();
    pair.run_for(Duration::from_secs(2));
    let arrived = numbers(&pair.server.take_datagrams());
    let stats = pair.client.connection().stats();
    assert_eq!(stats.datagrams_dropped, 0);
    assert_eq!(stats.datagrams_sent + stats.datagrams_expired, 40);
    assert_eq!(arrived.len() as u64, stats.datagrams_sent);
    let even = arrived.iter().filter(|number| *number % 2 == 0).count();
    assert!(
        (2..16).contains(&even),
        "{even} of the urgent ones in 55 ms at 100 kB/s: {arrived:?}"
    );
    assert!(
        arrived.starts_with(&[0, 2]),
        "the earliest deadline goes first: {arrived:?}"
    );
    let late = pair.record.iter().filter(|passing| {
        passing.way == Way::Up && passing.bytes.len() > 1000 && passing.at > sent_at + long
    });
    assert_eq!(late.count(), 0, "a message left after its time");
    let expired = pair
        .client
        .events
        .iter()
        .filter(|event| matches!(event, Event::Stream(StreamEvent::DatagramExpired { .. })))
        .count();
    assert_eq!(expired as u64, stats.datagrams_expired);
}

#[test]
fn of_too_many_messages_the_oldest_are_dropped() {
    let mut pair = slow_line(37);
    let now = pair.now(Way::Up);
    let options = DatagramOptions {
        class: Class::Interactive,
        deadline: None,
        early: false,
        notify: true,
        flow: None,
    };
    let mut ids = Vec::new();
    for number in 0..300 {
        ids.push(
            pair.client
                .connection()
                .send_datagram(now, message(number), options)
                .unwrap(),
        );
        assert!(pair.client.connection().datagram_queue().bytes <= 64 * 1024);
    }
    pair.run_for(Duration::from_secs(3));
    let arrived = numbers(&pair.server.take_datagrams());
    assert!(arrived.is_sorted());
    let dropped: Vec<_> = pair
        .client
        .events
        .iter()
        .filter_map(|event| {
            if let Event::Stream(StreamEvent::DatagramDropped { id, .. }) = event {
                Some(*id)
            } else {
                None
            }
        })
        .collect();
    assert!(dropped.len() >= 230, "{} dropped", dropped.len());
    assert_eq!(dropped, ids[..dropped.len()], "the oldest, in order");
    assert_eq!(arrived.first().copied(), Some(dropped.len() as u16));
    let stats = pair.client.connection().stats();
    assert_eq!(
        arrived.len() + dropped.len() + stats.datagrams_expired as usize,
        300
    );
}

#[test]
fn messages_arrive_whole_once_or_not_at_all() {
    let mut pair = bad(38);
    let mut arrived = Vec::new();
    for round in 0..60u16 {
        for number in round * 10..round * 10 + 10 {
            let now = pair.now(Way::Up);
            pair.client
                .connection()
                .send_datagram(now, message(number), DatagramOptions::default())
                .unwrap();
        }
        pair.run_for(Duration::from_millis(50));
        arrived.extend(pair.server.take_datagrams());
    }
    pair.run_for(Duration::from_secs(1));
    arrived.extend(pair.server.take_datagrams());
    assert!(
        arrived
            .iter()
            .all(|message| message.len() == 1000 && message[2..].iter().all(|byte| *byte == 7))
    );
    let mut seen = numbers(&arrived);
    seen.sort_unstable();
    let before = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), before, "a message arrived twice");
    let stats = pair.client.connection().stats();
    assert_eq!(
        stats.datagrams_sent + stats.datagrams_expired + stats.datagrams_dropped,
        600
    );
    let share = seen.len() as f64 / stats.datagrams_sent as f64;
    assert!(
        (0.85..1.0).contains(&share),
        "{} of {} at 5 % loss",
        seen.len(),
        stats.datagrams_sent
    );
}

/// A TCP of the plainest kind inside a tunnel fills a line of 1 MB/s, with a small message beside it every 20 ms: without flows the
/// small ones wait behind what TCP has queued, with them they do not, and TCP has the line all the same.
#[test]
fn a_small_flow_in_a_tunnel_is_fast_beside_one_that_fills_it() {
    let (mut bytes, mut worst) = ([0; 2], [Duration::ZERO; 2]);
    for (run, with_flows) in [false, true].into_iter().enumerate() {
        let mut options = Options::new(39);
        options.client.algorithm = Algorithm::Fixed {
            bytes_per_s: 1_000_000,
        };
        let mut pair = Pair::connected(options);
        pair.recording = false;
        pair.run_for(Duration::from_secs(2));
        pair.client.events.clear();
        // A window that grows by a packet each time it has arrived, and halves at most ten times a second when packets are dropped.
        let (mut window, mut open, mut halved, mut small) = (10.0_f64, 0_u64, pair.elapsed(), None);
        let begin = pair.elapsed();
        for turn in 0..4000 {
            let now = pair.now(Way::Up);
            let mut send = |number: u16, len: usize| {
                let options = DatagramOptions {
                    class: Class::Bulk,
                    flow: with_flows.then_some(number.into()),
                    notify: true,
                    ..DatagramOptions::default()
                };
                let mut data = message(number);
                data.truncate(len);
                let sent = pair.client.connection().send_datagram(now, data, options);
                sent.expect("there is a path");
            };
            while (open as f64) < window {
                send(1, 1000);
                open += 1;
            }
            if turn % 20 == 0 && small.is_none() {
                send(2, 100);
                small = Some(now.instant);
            }
            pair.run_for(Duration::from_millis(1));
            let (now, settled) = (
                pair.now(Way::Up).instant,
                pair.elapsed() > begin + Duration::from_secs(1),
            );
            for data in pair.server.take_datagrams() {
                if data.len() == 1000 {
                    (open, window) = (open - 1, window + 1.0 / window);
                    bytes[run] += if settled { 1000 } else { 0 };
                } else if let Some(since) = small.take().filter(|_| settled) {
                    worst[run] = worst[run].max(now - since);
                }
            }
            let dropped = pair.client.events.drain(..).filter(|event| {
                let dropped = |event: &StreamEvent| {
                    matches!(
                        event,
                        StreamEvent::DatagramDropped { .. } | StreamEvent::DatagramExpired { .. }
                    )
                };
                matches!(event, Event::Stream(event) if dropped(event))
            });
            let dropped = dropped.count() as u64;
            open = open.saturating_sub(dropped);
            if dropped > 0 && pair.elapsed() > halved + Duration::from_millis(100) {
                (window, halved) = ((window / 2.0).max(2.0), pair.elapsed());
            }
        }
    }
    println!("3 s of TCP: {bytes:?} bytes; the slowest small message: {worst:?}");
    assert!(
        bytes[1] > 2_600_000 && worst[1] < worst[0] / 2,
        "{bytes:?}, {worst:?}"
    );
}
