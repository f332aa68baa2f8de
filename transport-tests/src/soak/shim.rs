//! The impairment shim: a UDP forwarder on loopback, in a thread of its own, that does to datagrams what the simulator's
//! links do. It runs the very same [`Link`], on real time, so that both can be compared.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker, unix::SourceFd};
use transport_api::now;
use transport_core::{
    Batch, Ecn, RecvBatch, Route,
    net::{SocketOptions, Timer, UdpSocket},
};

use crate::sim::{
    link::Link,
    rng::Rng,
    scenario::{self, Links},
};

/// Clients at once; the one silent for longest makes room.
const MAX_CLIENTS: usize = 64;
/// Datagrams on the way at once; more are dropped, as a router would.
const MAX_ON_THE_WAY: usize = 65_536;
/// Sockets of forgotten mappings swallow what still comes for them for this long.
const FORGOTTEN: Duration = Duration::from_secs(3);
const SLOTS: usize = 16;
/// Receives of one socket before the others have their turn.
const RECEIVES: usize = 8;
const FRONT: Token = Token(0);
const TIMER: Token = Token(1);
const WAKE: Token = Token(2);
const FIRST_CLIENT: usize = 3;

/// What one direction has done since the shim began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Passed on (duplicates count again).
    pub delivered: u64,
    /// Lost, for whatever reason.
    pub dropped: u64,
    /// Longest wait in the queue since the last look, milliseconds.
    pub queue_ms: f64,
}

/// Wishes of the owner, and figures for it.
#[derive(Default)]
struct Control {
    links: Option<Links>,
    outage: Option<Duration>,
    rebind: bool,
    stop: bool,
    figures: [Figures; 2],
    ports: u64,
}

/// A bad link to one server. Stops when dropped.
pub struct Shim {
    address: SocketAddr,
    control: Arc<Mutex<Control>>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Shim {
    /// Starts forwarding to `server`; the faults are drawn from `seed` as the simulator draws them.
    pub fn start(server: SocketAddr, links: Links, seed: u64) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let control = Arc::new(Mutex::new(Control::default()));
        let mut forwarder = Forwarder::new(poll, server, links, seed, Arc::clone(&control))?;
        let address = forwarder.front.local_addr()?;
        let thread = std::thread::Builder::new()
            .name("soak-shim".into())
            .spawn(move || {
                if let Err(error) = forwarder.run() {
                    eprintln!("the shim stopped: {error}");
                }
            })?;
        Ok(Self {
            address,
            control,
            waker,
            thread: Some(thread),
        })
    }

    /// Where clients reach the server through this link.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn wish(&self, wish: impl FnOnce(&mut Control)) {
        wish(&mut lock(&self.control));
        // It fails only when the thread is gone.
        let _ = self.waker.wake();
    }

    /// Another link from now on; what is on the way arrives as it would have.
    pub fn set_links(&self, links: Links) {
        self.wish(|control| control.links = Some(links));
    }

    /// Nothing passes for a while.
    pub fn outage(&self, time: Duration) {
        self.wish(|control| control.outage = Some(time));
    }

    /// The NAT forgets: the server sees every client at another port, and the old ones lead nowhere.
    pub fn rebind(&self) {
        self.wish(|control| control.rebind = true);
    }

    /// Both directions since the beginning: towards the server, and back.
    pub fn figures(&self) -> [Figures; 2] {
        let mut control = lock(&self.control);
        let figures = control.figures;
        for one in &mut control.figures {
            one.queue_ms = 0.0;
        }
        figures
    }

    /// Ports the server has seen clients at.
    pub fn ports(&self) -> u64 {
        lock(&self.control).ports
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.wish(|control| control.stop = true);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

fn lock(control: &Mutex<Control>) -> MutexGuard<'_, Control> {
    control.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client's mapping: the socket at which the server sees it.
struct Mapping {
    client: SocketAddr,
    socket: UdpSocket,
    used: Duration,
}

/// A datagram on the way.
#[derive(PartialEq, Eq)]
struct OnTheWay {
    at: Duration,
    order: u64,
    place: Place,
    datagram: Vec<u8>,
}

impl Ord for OnTheWay {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for OnTheWay {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Which way, whose, and with which mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    up: bool,
    client: SocketAddr,
    ecn: Ecn,
}

/// One direction: the link, and what links before it did.
struct Direction {
    link: Link,
    before: Figures,
    seen: usize,
}

impl Direction {
    fn new(config: scenario::Link, rng: Rng) -> Self {
        Self {
            link: Link::new(config, rng, false),
            before: Figures::default(),
            seen: 0,
        }
    }

    fn replace(&mut self, config: scenario::Link, rng: Rng) {
        self.before = self.figures();
        self.link = Link::new(config, rng, false);
        self.seen = 0;
    }

    fn figures(&self) -> Figures {
        let counters = self.link.counters();
        Figures {
            delivered: self.before.delivered + counters.delivered,
            dropped: self.before.dropped + counters.dropped,
            queue_ms: 0.0,
        }
    }

    /// The longest wait since the last call.
    fn queue_ms(&mut self) -> f64 {
        let delays = self.link.queue_delays_us();
        let fresh = delays.get(self.seen..).unwrap_or_default();
        let longest = fresh.iter().max().copied().unwrap_or(0);
        self.seen = delays.len();
        f64::from(longest) / 1000.0
    }
}

struct Forwarder {
    poll: Poll,
    timer: Timer,
    front: UdpSocket,
    server: SocketAddr,
    mappings: BTreeMap<usize, Mapping>,
    by_client: BTreeMap<SocketAddr, usize>,
    forgotten: VecDeque<(Duration, UdpSocket)>,
    next_token: usize,
    up: Direction,
    down: Direction,
    seed: u64,
    generation: u64,
    way: BinaryHeap<Reverse<OnTheWay>>,
    order: u64,
    begun: Instant,
    received: RecvBatch,
    batch: Batch,
    control: Arc<Mutex<Control>>,
}

impl Forwarder {
    fn new(
        poll: Poll,
        server: SocketAddr,
        links: Links,
        seed: u64,
        control: Arc<Mutex<Control>>,
    ) -> io::Result<Self> {
        let front = bind()?;
        let timer = Timer::new()?;
        let registry = poll.registry();
        registry.register(&mut SourceFd(&front.as_raw_fd()), FRONT, Interest::READABLE)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Self {
            poll,
            timer,
            front,
            server,
            mappings: BTreeMap::new(),
            by_client: BTreeMap::new(),
            forgotten: VecDeque::new(),
            next_token: FIRST_CLIENT,
            up: Direction::new(links.up, Rng::new(seed, "up")),
            down: Direction::new(links.down, Rng::new(seed, "down")),
            seed,
            generation: 0,
            way: BinaryHeap::new(),
            order: 0,
            begun: now().instant,
            received: RecvBatch::new(SLOTS),
            batch: Batch::default(),
            control,
        })
    }

    fn elapsed(&self) -> Duration {
        now().instant.saturating_duration_since(self.begun)
    }

    /// Receives, delivers what is due, sleeps until the next is (a timerfd: nanoseconds).
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        let mut ready: Vec<usize> = Vec::new();
        while self.obey()? {
            let more = self.receive(&ready);
            self.deliver()?;
            self.publish();
            let timeout = if more {
                Some(Duration::ZERO)
            } else {
                if let Some(Reverse(next)) = self.way.peek() {
                    self.timer.arm(next.at.saturating_sub(self.elapsed()))?;
                }
                None
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other?,
            }
            if !more {
                ready.clear();
            }
            ready.extend(events.iter().map(|event| event.token().0));
            ready.sort_unstable();
            ready.dedup();
        }
        Ok(())
    }

    /// Does what the owner wishes; false when it is over.
    fn obey(&mut self) -> io::Result<bool> {
        let (links, outage, rebind, stop) = {
            let mut control = lock(&self.control);
            (
                control.links.take(),
                control.outage.take(),
                std::mem::take(&mut control.rebind),
                control.stop,
            )
        };
        if let Some(links) = links {
            self.generation += 1;
            let seed = self
                .seed
                .wrapping_add(self.generation.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            self.up.replace(links.up, Rng::new(seed, "up"));
            self.down.replace(links.down, Rng::new(seed, "down"));
        }
        if let Some(time) = outage {
            let until = self.elapsed() + time;
            self.up.link.outage(until);
            self.down.link.outage(until);
        }
        if rebind {
            for token in self.mappings.keys().copied().collect::<Vec<_>>() {
                self.forget(token)?;
            }
        }
        Ok(!stop)
    }

    fn publish(&mut self) {
        let queues = [self.up.queue_ms(), self.down.queue_ms()];
        let figures = [self.up.figures(), self.down.figures()];
        let ports = self.next_token - FIRST_CLIENT;
        let mut control = lock(&self.control);
        for (slot, (figures, queue)) in control.figures.iter_mut().zip(figures.into_iter().zip(queues)) {
            *slot = Figures {
                queue_ms: slot.queue_ms.max(queue),
                ..figures
            };
        }
        control.ports = ports as u64;
    }

    /// Reads what the sockets named have; true when there may be more.
    fn receive(&mut self, ready: &[usize]) -> bool {
        let mut more = false;
        for token in ready {
            for turn in 0..RECEIVES {
                let mut batch = std::mem::replace(&mut self.received, RecvBatch::with_slot_size(1, 1));
                let got = match self.mappings.get_mut(token) {
                    Some(mapping) => mapping.socket.recv_batch(&mut batch),
                    None if *token == FRONT.0 => self.front.recv_batch(&mut batch),
                    None => Err(io::ErrorKind::WouldBlock.into()),
                };
                if got.is_ok() {
                    self.carry_all(*token, &mut batch);
                }
                self.received = batch;
                if got.is_err() {
                    break;
                }
                more |= turn + 1 == RECEIVES;
            }
        }
        more
    }

    fn carry_all(&mut self, token: usize, batch: &mut RecvBatch) {
        let elapsed = self.elapsed();
        let owner = self.mappings.get_mut(&token).map(|mapping| {
            mapping.used = elapsed;
            mapping.client
        });
        for (arrived, datagram) in batch.datagrams() {
            let place = Place {
                up: owner.is_none(),
                client: owner.unwrap_or(arrived.route.remote),
                ecn: arrived.ecn.unwrap_or_default(),
            };
            self.carry(elapsed, place, datagram);
        }
    }

    fn carry(&mut self, elapsed: Duration, place: Place, datagram: &mut [u8]) {
        let link = if place.up {
            &mut self.up.link
        } else {
            &mut self.down.link
        };
        for at in link.send(elapsed, datagram).into_iter().flatten() {
            if self.way.len() >= MAX_ON_THE_WAY {
                return;
            }
            self.order += 1;
            self.way.push(Reverse(OnTheWay {
                at,
                order: self.order,
                place,
                datagram: datagram.to_vec(),
            }));
        }
    }

    /// Sends what is due; datagrams of one length to one place leave together.
    fn deliver(&mut self) -> io::Result<()> {
        let elapsed = self.elapsed();
        self.forgotten.retain(|(until, _)| *until > elapsed);
        let mut towards = None;
        while self.way.peek().is_some_and(|Reverse(next)| next.at <= elapsed) {
            let Some(Reverse(next)) = self.way.pop() else {
                break;
            };
            let place = next.place;
            if towards != Some(place) {
                self.flush(towards.replace(place))?;
            }
            if self.batch.push(&next.datagram).is_err() {
                self.flush(towards)?;
                // An empty batch takes any datagram that was received.
                let _ = self.batch.push(&next.datagram);
            }
        }
        self.flush(towards)
    }

    fn flush(&mut self, towards: Option<Place>) -> io::Result<()> {
        let Some(Place { up, client, ecn }) = towards else {
            return Ok(());
        };
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(0));
        batch.set_ecn(ecn);
        let remote = if up { self.server } else { client };
        let route = Route { remote, local: None };
        let sent = if up {
            let token = self.mapping_of(client)?;
            match self.mappings.get_mut(&token) {
                Some(mapping) => mapping.socket.send_batch(route, &mut batch),
                None => Ok(()),
            }
        } else {
            self.front.send_batch(route, &mut batch)
        };
        batch.clear();
        self.batch = batch;
        match sent {
            // A full buffer loses it: a link may.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Each client has a socket of its own towards the server, so that the server sees a rebind.
    fn mapping_of(&mut self, client: SocketAddr) -> io::Result<usize> {
        if let Some(token) = self.by_client.get(&client) {
            return Ok(*token);
        }
        if self.mappings.len() >= MAX_CLIENTS {
            let oldest = self.mappings.iter().min_by_key(|(_, mapping)| mapping.used);
            if let Some(token) = oldest.map(|(token, _)| *token) {
                self.forget(token)?;
            }
        }
        let socket = bind()?;
        let token = self.next_token;
        self.next_token += 1;
        self.poll.registry().register(
            &mut SourceFd(&socket.as_raw_fd()),
            Token(token),
            Interest::READABLE,
        )?;
        self.by_client.insert(client, token);
        let used = self.elapsed();
        self.mappings.insert(token, Mapping { client, socket, used });
        Ok(token)
    }

    fn forget(&mut self, token: usize) -> io::Result<()> {
        let Some(mapping) = self.mappings.remove(&token) else {
            return Ok(());
        };
        self.by_client.remove(&mapping.client);
        self.poll
            .registry()
            .deregister(&mut SourceFd(&mapping.socket.as_raw_fd()))?;
        self.forgotten
            .push_back((self.elapsed() + FORGOTTEN, mapping.socket));
        Ok(())
    }
}

fn bind() -> io::Result<UdpSocket> {
    UdpSocket::bind(
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        &SocketOptions::default(),
    )
}
