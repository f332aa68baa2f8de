//! Two endpoints and a link with a clock of its own: everything that happens is decided by the seed.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses its part"
)]

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use transport_core::{
    Access, Arrived, Batch, Bundle, BundleDraft, BundleEndpoint, ClientIdentity, Connect, Connection,
    Direction, Ecn, Endpoint, EndpointAddress, EndpointConfig, Event, Grant, Handle, Now, Output, ReadError,
    RelayIdentity, RelayStatics, Route, SeededEntropy, ServerConfig, StreamId, SuiteChoice, TransportConfig,
    WriteError,
};

pub const UNIX_MS: u64 = 1_790_000_000_000;
pub const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 4433);
pub const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 2], 50_000);
const APP: &[u8] = b"test/1";

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Keys of a relay, the same for every test.
pub fn relay() -> (Bundle, RelayStatics, RelayIdentity) {
    let mut entropy = SeededEntropy::new([7; 32]);
    let identity = RelayIdentity::generate(&mut entropy).unwrap();
    let statics = RelayStatics::generate(&mut entropy).unwrap();
    let draft = BundleDraft {
        epoch: 1,
        not_before: UNIX_MS / 1000 - 3600,
        not_after: UNIX_MS / 1000 + 86_400,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(SERVER.0.into()),
            port: SERVER.1,
            cover: 0,
        }],
    };
    let bundle = Bundle::parse(&identity.sign_bundle(&draft, &statics).unwrap()).unwrap();
    (bundle, statics, identity)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    Up,
    Down,
}

/// A datagram on the link.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Flying {
    pub at: Instant,
    order: u64,
    pub way: Way,
    /// Address of the client's end.
    pub client: SocketAddr,
    /// ECN bits of its IP header.
    pub ecn: u8,
    pub bytes: Vec<u8>,
}

/// What a test does to datagrams: 0, 1 or more go on.
pub type Meddler = Box<dyn FnMut(&Flying) -> Vec<Flying>>;

pub struct Net {
    pub start: Instant,
    pub elapsed: Duration,
    pub client: Endpoint,
    pub server: Endpoint,
    pub client_addr: SocketAddr,
    pub delay: Duration,
    pub meddle: Meddler,
    pub sent: BTreeMap<Way, (u64, u64)>,
    pub wire: Vec<(Way, Vec<u8>)>,
    pub keep_wire: bool,
    pub client_events: Vec<(Handle, Event)>,
    pub server_events: Vec<(Handle, Event)>,
    pub polls: u64,
    pub largest_batch: usize,
    batch: Batch,
    flying: BinaryHeap<Reverse<Flying>>,
    order: u64,
    deadlines: [Option<Instant>; 2],
    bundle: Bundle,
}

/// What differs from test to test.
pub struct Setup {
    pub client: TransportConfig,
    pub server: TransportConfig,
    pub access: Access,
    pub app: Vec<u8>,
    pub max_connections: usize,
    pub seed: u8,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            client: TransportConfig::default(),
            server: TransportConfig::default(),
            access: Access::Open,
            app: APP.to_vec(),
            max_connections: 1000,
            seed: 1,
        }
    }
}

impl Net {
    pub fn new(setup: Setup) -> Self {
        let (bundle, statics, identity) = relay();
        let server = ServerConfig {
            max_connections: setup.max_connections,
            ..ServerConfig::new(statics, identity.relay_id(), 1, setup.access, APP.to_vec())
        };
        let server = EndpointConfig {
            server: Some(server),
            transport: setup.server,
            observer: None,
        };
        let client = EndpointConfig {
            server: None,
            transport: setup.client,
            observer: None,
        };
        let entropy = |salt: u8| Box::new(SeededEntropy::new([setup.seed ^ salt; 32]));
        #[expect(
            clippy::disallowed_methods,
            reason = "an arbitrary origin; nothing depends on it"
        )]
        let start = Instant::now();
        Self {
            start,
            elapsed: Duration::ZERO,
            client: Endpoint::new(client, [setup.seed; 32], entropy(0x40)),
            server: Endpoint::new(server, [setup.seed ^ 0x20; 32], entropy(0x80)),
            client_addr: CLIENT.into(),
            delay: ms(10),
            meddle: Box::new(|datagram| vec![datagram.clone()]),
            sent: BTreeMap::new(),
            wire: Vec::new(),
            keep_wire: false,
            client_events: Vec::new(),
            server_events: Vec::new(),
            polls: 0,
            largest_batch: 0,
            batch: Batch::default(),
            flying: BinaryHeap::new(),
            order: 0,
            deadlines: [None; 2],
            bundle,
        }
    }

    pub fn now(&self) -> Now {
        Now {
            instant: self.start + self.elapsed,
            unix_ms: UNIX_MS + self.elapsed.as_millis() as u64,
        }
    }

    pub fn target(&self) -> Connect {
        Connect {
            bundle: self.bundle.clone(),
            identity: None,
            grant: Grant::default(),
            remote: SERVER.into(),
            local: None,
            width: None,
            app: APP.to_vec(),
            suite: SuiteChoice::Auto,
            resume: None,
            early: false,
        }
    }

    pub fn connect(&mut self) -> Handle {
        let (now, target) = (self.now(), self.target());
        self.client.connect(now, target).unwrap()
    }

    pub fn connect_as(&mut self, identity: &ClientIdentity) -> Handle {
        let now = self.now();
        let target = Connect {
            identity: Some(identity.clone()),
            ..self.target()
        };
        self.client.connect(now, target).unwrap()
    }

    /// Connects and waits for both ends; the handles.
    pub fn pair(&mut self) -> (Handle, Handle) {
        let client = self.connect();
        self.run_until(ms(5000), |net| {
            !net.server_events.is_empty() && !net.client_events.is_empty()
        });
        assert!(matches!(self.client_events[0], (handle, Event::Connected(_)) if handle == client));
        let (server, event) = self.server_events.remove(0);
        assert!(matches!(event, Event::Connected(_)), "{event:?}");
        self.client_events.clear();
        self.server_events.clear();
        (client, server)
    }

    /// As [`Net::pair`], with patience.
    pub fn pair_within(&mut self, limit: Duration) -> (Handle, Handle) {
        let client = self.connect();
        let stands = self.run_until(limit, |net| {
            !net.server_events.is_empty() && !net.client_events.is_empty()
        });
        assert!(stands, "{:?} {:?}", self.client.stats(), self.server.stats());
        let (server, _) = self.server_events[0];
        (client, server)
    }

    pub fn c(&mut self, handle: Handle) -> &mut Connection {
        self.client
            .connection(handle)
            .expect("the client's connection stands")
    }

    pub fn s(&mut self, handle: Handle) -> &mut Connection {
        self.server
            .connection(handle)
            .expect("the server's connection stands")
    }

    /// Puts a datagram on the link by hand.
    pub fn inject(&mut self, way: Way, client: SocketAddr, bytes: Vec<u8>, after: Duration) {
        self.order += 1;
        let at = self.now().instant + after;
        self.flying.push(Reverse(Flying {
            at,
            order: self.order,
            way,
            client,
            ecn: 0,
            bytes,
        }));
    }

    fn drain(&mut self, way: Way) -> bool {
        let mut moved = false;
        loop {
            let now = self.now();
            self.polls += 1;
            let endpoint = if way == Way::Up {
                &mut self.client
            } else {
                &mut self.server
            };
            match endpoint.poll(now, &mut self.batch) {
                Output::Transmit(route) => {
                    self.largest_batch = self.largest_batch.max(self.batch.count());
                    assert!(self.batch.is_finished());
                    let segments: Vec<Vec<u8>> = self.batch.segments().map(<[u8]>::to_vec).collect();
                    let ecn = self.batch.ecn() as u8;
                    for bytes in segments {
                        self.send(way, route, ecn, bytes);
                    }
                }
                Output::Event(handle, event) => {
                    let events = if way == Way::Up {
                        &mut self.client_events
                    } else {
                        &mut self.server_events
                    };
                    events.push((handle, event));
                }
                Output::Wait(at) => {
                    self.deadlines[way as usize] = at.map(|(at, _)| at);
                    return moved;
                }
            }
            moved = true;
        }
    }

    fn send(&mut self, way: Way, route: Route, ecn: u8, bytes: Vec<u8>) {
        self.order += 1;
        let count = self.sent.entry(way).or_default();
        *count = (count.0 + 1, count.1 + bytes.len() as u64);
        if self.keep_wire {
            self.wire.push((way, bytes.clone()));
        }
        let client = if way == Way::Up {
            self.client_addr
        } else {
            route.remote
        };
        let at = self.now().instant + self.delay;
        let flying = Flying {
            at,
            order: self.order,
            way,
            client,
            ecn,
            bytes,
        };
        for mut datagram in (self.meddle)(&flying) {
            self.order += 1;
            datagram.order = self.order;
            self.flying.push(Reverse(datagram));
        }
    }

    /// Carries what has arrived; true if anything happened.
    fn carry(&mut self) {
        let now = self.now();
        while self
            .flying
            .peek()
            .is_some_and(|Reverse(datagram)| datagram.at <= now.instant)
        {
            let Some(Reverse(mut datagram)) = self.flying.pop() else {
                return;
            };
            let ecn = Some(Ecn::from_bits(datagram.ecn));
            match datagram.way {
                Way::Up => {
                    let route = Route {
                        remote: datagram.client,
                        local: None,
                    };
                    let arrived = Arrived { route, ecn };
                    self.server.handle_datagram(now, arrived, &mut datagram.bytes);
                }
                Way::Down if datagram.client == self.client_addr => {
                    let route = Route {
                        remote: SERVER.into(),
                        local: None,
                    };
                    let arrived = Arrived { route, ecn };
                    self.client.handle_datagram(now, arrived, &mut datagram.bytes);
                }
                // A NAT has forgotten that address.
                Way::Down => {}
            }
        }
    }

    pub fn settle(&mut self) {
        while self.drain(Way::Up) | self.drain(Way::Down) {}
    }

    /// Lets things happen until `done` or until `limit` has passed; whether it was done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.elapsed + limit;
        let mut idle = 0;
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            self.settle();
            let next = self.flying.peek().map(|Reverse(datagram)| datagram.at);
            let next = [next, self.deadlines[0], self.deadlines[1]]
                .into_iter()
                .flatten()
                .min();
            let next = next.map_or(end, |at| {
                at.saturating_duration_since(self.start).max(self.elapsed)
            });
            idle = if next == self.elapsed { idle + 1 } else { 0 };
            assert!(idle < 10_000, "time stands still: {:?}", self.deadlines);
            if next >= end {
                self.elapsed = end;
                self.carry();
                self.settle();
                return done(self);
            }
            self.elapsed = next;
            self.carry();
            let now = self.now();
            if self.deadlines[0].is_some_and(|at| at <= now.instant) {
                self.client.handle_timeout(now);
            }
            if self.deadlines[1].is_some_and(|at| at <= now.instant) {
                self.server.handle_timeout(now);
            }
        }
    }

    pub fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Nothing was lost, sent twice or dropped, at either end.
    pub fn assert_quiet(&mut self, client: Handle, server: Handle) {
        for stats in [self.c(client).stats(), self.s(server).stats()] {
            assert_eq!(
                (stats.declared_lost, stats.spurious, stats.retransmitted_bytes),
                (0, 0, 0),
                "{stats:?}"
            );
            assert_eq!(stats.probe_timeouts, 0, "{stats:?}");
        }
        for drops in [self.client.stats().drops, self.server.stats().drops] {
            let drops: Vec<_> = drops.iter().filter(|(_, count)| *count > 0).collect();
            assert!(drops.is_empty(), "{drops:?}");
        }
    }
}

/// What a transfer over one stream has come to.
#[derive(Default)]
pub struct Transfer {
    pub sent: usize,
    pub finished: bool,
    pub received: usize,
    pub done: bool,
}

pub fn pattern(at: usize) -> u8 {
    (at * 31 + at / 251) as u8
}

impl Transfer {
    /// Writes what fits.
    pub fn write(&mut self, connection: &mut Connection, id: StreamId, total: usize) {
        while self.sent < total {
            let chunk: Vec<u8> = (self.sent..(self.sent + 16_384).min(total))
                .map(pattern)
                .collect();
            match connection.write(id, &chunk) {
                Ok(wrote) => self.sent += wrote,
                Err(WriteError::Blocked) => return,
                Err(error) => panic!("{error:?}"),
            }
        }
        if !self.finished {
            connection.finish(id).unwrap();
            self.finished = true;
        }
    }

    /// Reads and checks what came.
    pub fn read(&mut self, connection: &mut Connection, id: StreamId) {
        let mut buffer = [0; 16_384];
        while !self.done {
            match connection.read(id, &mut buffer) {
                Ok(read) => {
                    for (offset, byte) in buffer[..read.bytes].iter().enumerate() {
                        assert_eq!(
                            *byte,
                            pattern(self.received + offset),
                            "at {}",
                            self.received + offset
                        );
                    }
                    self.received += read.bytes;
                    self.done = read.fin;
                    if read.bytes == 0 && !read.fin {
                        return;
                    }
                }
                Err(ReadError::Blocked | ReadError::Unknown) => return,
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

/// Sends `total` bytes up on a stream and back down on it; how long it took.
pub fn echo(net: &mut Net, client: Handle, server: Handle, total: usize, limit: Duration) -> Duration {
    let begun = net.elapsed;
    let id = net.c(client).open(Direction::Bi).unwrap();
    let (mut up, mut down) = (Transfer::default(), Transfer::default());
    let done = net.run_until(limit, |net| {
        up.write(net.client.connection(client).unwrap(), id, total);
        let connection = net.server.connection(server).unwrap();
        let _ = connection.accept(Direction::Bi);
        up.read(connection, id);
        if up.received > 0 {
            down.write(connection, id, total);
        }
        down.read(net.client.connection(client).unwrap(), id);
        net.settle();
        up.done && down.done
    });
    assert!(done, "up {} of {total}, down {}", up.received, down.received);
    assert_eq!((up.received, down.received), (total, total));
    net.elapsed.saturating_sub(begun)
}

/// A little generator for what tests do to datagrams.
#[derive(Clone)]
pub struct Dice(Rc<RefCell<u64>>);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        )))
    }

    pub fn roll(&self, sides: u64) -> u64 {
        let mut state = self.0.borrow_mut();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % sides
    }
}
