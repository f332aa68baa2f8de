//! Two endpoints of the product joined by an in-memory pipe, on virtual time: for tests of whole connections that want
//! their hands on every datagram. A [`Hook`] may see, drop, change, delay or duplicate each of them.

mod comeback;
mod setup;
mod transfer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use transport_core::{
    Batch, CloseReason, Connect, ConnectError, Connection, Endpoint, Event, Handle, Info, Now, Output, Route,
};

use crate::sim::clock::Clock;
use crate::sim::rng::Rng;

pub use setup::{APP, Options, RELAY, Relay, client_address, client_identity, server_address, stranger};
pub use transfer::{Transfer, drive_all};

pub(crate) use setup::{client_endpoint, relay_endpoint};

/// Polls or steps in a row without time going on, after which something spins.
const SPIN: usize = 100_000;

/// A way through the pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the client to the relay.
    Up,
    /// From the relay to the client.
    Down,
}

/// A datagram in the pipe, before it travels.
#[derive(Clone, Debug)]
pub struct Passing {
    /// Its way.
    pub way: Way,
    /// How many went this way before.
    pub index: u64,
    /// When it was sent.
    pub at: Duration,
    /// Who sent it.
    pub from: SocketAddr,
    /// Whom it is for.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How long each copy travels; without any it is lost.
    pub copies: Vec<Duration>,
}

impl Passing {
    /// It does not arrive.
    pub fn lose(&mut self) {
        self.copies.clear();
    }
}

/// Decides what becomes of each datagram.
pub type Hook = Box<dyn FnMut(&mut Passing)>;

/// Faults of the open Internet, by chance: loss, late arrival, and a second copy.
pub fn faults(seed: u64, loss: f64, reorder: f64, duplicate: f64) -> Hook {
    let mut rng = Rng::new(seed, "pipe");
    Box::new(move |passing| {
        let Some(first) = passing.copies.first_mut() else {
            return;
        };
        if rng.chance(reorder) {
            *first += Duration::from_micros(rng.below(15_000));
        }
        let second = *first + Duration::from_micros(rng.below(30_000));
        if rng.chance(duplicate) {
            passing.copies.push(second);
        }
        if rng.chance(loss) {
            passing.lose();
        }
    })
}

/// One endpoint, and what it said.
pub struct End {
    /// The product, unchanged.
    pub endpoint: Endpoint,
    /// Its connection of interest: the dial of the client, the first that came to the relay.
    pub handle: Option<Handle>,
    /// What it told its application, oldest first.
    pub events: Vec<Event>,
    batch: Batch,
    deadline: Option<Duration>,
    skew_ms: i64,
    sent: u64,
}

impl End {
    fn new(endpoint: Endpoint, skew_ms: i64) -> Self {
        Self {
            endpoint,
            handle: None,
            events: Vec::new(),
            batch: Batch::default(),
            deadline: None,
            skew_ms,
            sent: 0,
        }
    }

    fn now(&self, clock: &Clock) -> Now {
        let now = clock.now();
        Now {
            unix_ms: now.unix_ms.saturating_add_signed(self.skew_ms),
            ..now
        }
    }

    /// Its connection; panics when there is none.
    pub fn connection(&mut self) -> &mut Connection {
        let handle = self.handle.expect("a handle");
        self.endpoint
            .connection(handle)
            .expect("a connection that stands")
    }

    /// What the handshake brought, once it is over.
    pub fn info(&self) -> Option<Info> {
        self.events.iter().find_map(|event| {
            if let Event::Connected(info) = event {
                Some(*info)
            } else {
                None
            }
        })
    }

    /// Why its connection ended, if it did.
    pub fn closed(&self) -> Option<&CloseReason> {
        self.events.iter().find_map(|event| {
            if let Event::Closed(reason) = event {
                Some(reason)
            } else {
                None
            }
        })
    }

    /// Turns its wall clock by so many milliseconds.
    pub fn turn_clock(&mut self, ms: i64) {
        self.skew_ms += ms;
    }

    /// Messages that arrived; they are taken out of the events.
    pub fn take_datagrams(&mut self) -> Vec<Vec<u8>> {
        let (datagrams, rest) = std::mem::take(&mut self.events)
            .into_iter()
            .partition(|event| matches!(event, Event::DatagramReceived(_)));
        self.events = rest;
        let bytes = |event| {
            if let Event::DatagramReceived(bytes) = event {
                Some(bytes)
            } else {
                None
            }
        };
        Vec::into_iter(datagrams).filter_map(bytes).collect()
    }
}

/// Way, source, destination and bytes of a datagram that will arrive.
type UnderWay = (Way, SocketAddr, SocketAddr, Vec<u8>);

/// Both ends, the pipe, and the time.
pub struct Pair {
    /// The end that dials.
    pub client: End,
    /// The end that answers.
    pub server: End,
    /// Where the client is now; what is sent to where it was is lost.
    pub address: SocketAddr,
    /// Further addresses of the client's; it sends from one by naming its host, and each carries what is sent to it.
    pub links: Vec<SocketAddr>,
    /// Every datagram either end sent, while [`Pair::recording`].
    pub record: Vec<Passing>,
    /// Whether datagrams are recorded.
    pub recording: bool,
    clock: Clock,
    options: Options,
    hook: Hook,
    under_way: BTreeMap<(Duration, u64), UnderWay>,
    sequence: u64,
    restarts: u64,
    idle_steps: usize,
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("pair of seed {} at {:?}", self.options.seed, self.clock.elapsed());
        }
    }
}

impl Pair {
    /// A pair whose client has begun to dial.
    pub fn new(options: Options) -> Self {
        let mut pair = Self::idle(options);
        pair.dial().expect("a good bundle");
        pair
    }

    /// A pair whose client does nothing yet.
    pub fn idle(options: Options) -> Self {
        let client = client_endpoint(&options);
        let server = relay_endpoint(&options, 0);
        Self {
            client: End::new(client, options.skew_ms),
            server: End::new(server, 0),
            address: client_address(),
            links: Vec::new(),
            record: Vec::new(),
            recording: true,
            clock: Clock::start(),
            options,
            hook: Box::new(|_| {}),
            under_way: BTreeMap::new(),
            sequence: 0,
            restarts: 0,
            idle_steps: 0,
        }
    }

    /// A pair that is connected, with everything of the handshake delivered.
    pub fn connected(options: Options) -> Self {
        let mut pair = Self::new(options);
        assert!(
            pair.run_until(Duration::from_secs(10), Pair::is_connected),
            "the handshake does not complete"
        );
        pair.run_for(Duration::from_millis(200));
        pair
    }

    /// Begins a connection.
    pub fn dial(&mut self) -> Result<Handle, ConnectError> {
        let target = self.target();
        let now = self.client.now(&self.clock);
        let handle = self.client.endpoint.connect(now, target)?;
        self.client.handle = Some(handle);
        Ok(handle)
    }

    /// What the client dials.
    pub fn target(&self) -> Connect {
        self.options.target(server_address())
    }

    /// The relay's process ends and starts again: it has its keys, and nothing else.
    pub fn restart_server(&mut self) {
        self.restarts += 1;
        self.server = End::new(relay_endpoint(&self.options, self.restarts), 0);
    }

    /// Replaces what decides about datagrams.
    pub fn hook(&mut self, hook: impl FnMut(&mut Passing) + 'static) {
        self.hook = Box::new(hook);
    }

    /// Whether both ends have a connection.
    pub fn is_connected(&mut self) -> bool {
        self.client.info().is_some() && self.server.info().is_some()
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// The present, for calls of an application at `way`'s sending end.
    pub fn now(&self, way: Way) -> Now {
        match way {
            Way::Up => self.client.now(&self.clock),
            Way::Down => self.server.now(&self.clock),
        }
    }

    /// The end that sends this way.
    pub fn sender(&mut self, way: Way) -> &mut End {
        match way {
            Way::Up => &mut self.client,
            Way::Down => &mut self.server,
        }
    }

    /// The end that receives this way.
    pub fn receiver(&mut self, way: Way) -> &mut End {
        match way {
            Way::Up => &mut self.server,
            Way::Down => &mut self.client,
        }
    }

    /// Takes over the application's part: what a client and its relay exchange, the last to finish decides.
    pub fn exchange(&mut self, transfers: &mut [Transfer], limit: Duration) -> bool {
        self.run_until(limit, |pair| drive_all(transfers, pair))
    }

    /// Puts bytes of our own before one of the ends, at once, and lets both speak.
    pub fn inject(&mut self, way: Way, from: SocketAddr, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let clock = self.clock;
        let end = self.receiver(way);
        let now = end.now(&clock);
        end.endpoint.handle_datagram(
            now,
            Route {
                remote: from,
                local: None,
            },
            &mut bytes,
        );
        self.settle();
    }

    /// The same with several, in order.
    pub fn inject_all(&mut self, way: Way, from: SocketAddr, datagrams: &[Vec<u8>]) {
        for datagram in datagrams {
            self.inject(way, from, datagram);
        }
    }

    /// Time since `past`, which [`Pair::elapsed`] gave.
    pub fn since(&self, past: Duration) -> Duration {
        self.elapsed().saturating_sub(past)
    }

    /// Bytes sent down to `address` so far, as recorded.
    pub fn sent_to(&self, address: SocketAddr) -> usize {
        self.record
            .iter()
            .filter(|passing| passing.way == Way::Down && passing.to == address)
            .map(|passing| passing.bytes.len())
            .sum()
    }

    /// Lets both ends speak until they wait.
    pub fn settle(&mut self) {
        for _ in 0..SPIN {
            let up = self.drain(Way::Up);
            let down = self.drain(Way::Down);
            if !(up || down) {
                return;
            }
        }
        panic!("an endpoint never waits");
    }

    fn drain(&mut self, way: Way) -> bool {
        let clock = self.clock;
        let (address, links) = (self.address, self.links.clone());
        let from = |route: Route| match way {
            Way::Up => {
                let named = |link: &&SocketAddr| Some(link.ip()) == route.local;
                links.iter().find(named).copied().unwrap_or(address)
            }
            Way::Down => server_address(),
        };
        let end = self.sender(way);
        let now = end.now(&clock);
        let mut datagrams = Vec::new();
        let mut told = false;
        loop {
            end.batch.clear();
            match end.endpoint.poll(now, &mut end.batch) {
                Output::Transmit(route) => {
                    assert!(!end.batch.is_empty(), "a batch without datagrams");
                    datagrams.extend(
                        end.batch
                            .segments()
                            .map(|segment| (from(route), route.remote, segment.to_vec())),
                    );
                    assert!(datagrams.len() < SPIN, "an endpoint never stops sending");
                }
                Output::Event(handle, event) => {
                    if end.handle.is_none() && matches!(event, Event::Connected(_)) {
                        end.handle = Some(handle);
                    }
                    end.events.push(event);
                    told = true;
                }
                Output::Wait(at) => {
                    end.deadline = at.map(|(at, _)| clock.virtual_time(at));
                    break;
                }
            }
        }
        let said = told || !datagrams.is_empty();
        for (from, to, bytes) in datagrams {
            self.send(way, from, to, bytes);
        }
        said
    }

    fn send(&mut self, way: Way, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let (at, latency) = (self.clock.elapsed(), self.options.latency);
        let end = self.sender(way);
        let index = end.sent;
        end.sent += 1;
        let mut passing = Passing {
            way,
            index,
            at,
            from,
            to,
            bytes,
            copies: vec![latency],
        };
        if self.recording {
            self.record.push(passing.clone());
        }
        (self.hook)(&mut passing);
        for delay in &passing.copies {
            self.sequence += 1;
            let datagram = (way, passing.from, to, passing.bytes.clone());
            self.under_way.insert((at + *delay, self.sequence), datagram);
        }
    }

    /// Goes on to the next moment at which something happens. False: nothing ever will.
    pub fn step(&mut self) -> bool {
        self.settle();
        let arrival = self.under_way.first_key_value().map(|((at, _), _)| *at);
        let Some(next) = [arrival, self.client.deadline, self.server.deadline]
            .into_iter()
            .flatten()
            .min()
        else {
            return false;
        };
        self.idle_steps = if next > self.clock.elapsed() {
            0
        } else {
            self.idle_steps + 1
        };
        assert!(
            self.idle_steps < 10_000,
            "time stands still: deadlines in the past, and nothing happens"
        );
        self.clock.advance(next);
        self.happen();
        self.settle();
        true
    }

    fn happen(&mut self) {
        let elapsed = self.clock.elapsed();
        while let Some(first) = self
            .under_way
            .first_entry()
            .filter(|first| first.key().0 <= elapsed)
        {
            let (way, from, to, mut bytes) = first.remove();
            let there = match way {
                Way::Up => to == server_address(),
                Way::Down => to == self.address || self.links.contains(&to),
            };
            if !there {
                continue;
            }
            let local = (way == Way::Down).then(|| to.ip());
            let clock = self.clock;
            let end = self.receiver(way);
            let now = end.now(&clock);
            end.endpoint
                .handle_datagram(now, Route { remote: from, local }, &mut bytes);
        }
        let clock = self.clock;
        for end in [&mut self.client, &mut self.server] {
            if end.deadline.is_some_and(|at| at <= elapsed) {
                let now = end.now(&clock);
                end.endpoint.handle_timeout(now);
            }
        }
    }

    /// Runs for `time`.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Runs until `done`, at most for `limit`; whether it was done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.clock.elapsed() + limit;
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            self.settle();
            let arrival = self.under_way.first_key_value().map(|((at, _), _)| *at);
            let next = [arrival, self.client.deadline, self.server.deadline]
                .into_iter()
                .flatten()
                .min();
            if next.is_none_or(|next| next > end) {
                self.clock.advance(end);
                return done(self);
            }
            self.step();
        }
    }

    /// Sends `bytes` on a stream of its own and waits until all of them, and the end, were read.
    pub fn transfer(&mut self, way: Way, bytes: u64, limit: Duration) -> bool {
        let mut transfer = Transfer::open(self, way, bytes);
        self.run_until(limit, |pair| transfer.drive(pair))
    }
}
