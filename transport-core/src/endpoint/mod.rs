//! The endpoint: where datagrams come in and go out, and how connections come and go.
//!
//! In: `route` says whose datagram it is; a stranger's goes to `admit` (as a relay) or to the `dial` it answers (as a
//! client). Out: [`Endpoint::poll`] asks one connection after another. Time: `deadlines` knows who is next.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_crypto::{Direction, Entropy, TicketKeys, TrafficSecrets};
use transport_scheduler::Spares;

use crate::buffer::{Batch, Route};
use crate::config::{Connect, EndpointConfig, Now, TransportConfig};
use crate::connection::{Change, Connection, Event};
use crate::error::{By, CloseReason, ConnectError};
use crate::handle::Handle;
use crate::key_log::{KeyLog, KeyLogEntry};
use crate::random::Random;
use crate::seat::Seat;
use crate::timer::{Why, earlier};
use crate::trace::{self, Observer, Tracer};

mod admit;
mod arrive;
mod client;
mod deadlines;
mod dial;
mod early;
mod flight;
mod hint;
mod opening;
mod relay;
mod rotation;
mod route;
mod sessions;
mod slab;
mod stats;
mod width;
mod worker;

pub use sessions::{SessionInfo, SessionPage, Usage};
pub use stats::{EndpointStats, EpochStats};
pub use worker::{Whose, Worker};

use admit::{Admission, Commons};
use deadlines::Deadlines;
use dial::{Dial, Due};
use early::on_time;
use flight::Hid;
use rotation::Rotation;
use route::{Domain, Routes, Target};
use slab::{Occupant, Slab};

/// Handshake datagrams that wait to be sent; what comes beyond is dropped and repeated later.
const MAX_WAITING: usize = 8192;
/// The longest datagram that may be ours.
const MAX_DATAGRAM: usize = 9000;
/// Connections and dials at most, whatever the configuration.
const MAX_SLOTS: usize = 1 << 20;

/// What an endpoint wants done.
#[derive(Debug)]
pub enum Output {
    /// Send the batch this way, then poll again.
    Transmit(Route),
    /// Tell the application, then poll again.
    Event(Handle, Event),
    /// Nothing more; call [`Endpoint::handle_timeout`] at the moment named, if any, unless something else happens before.
    Wait(Option<(Instant, Why)>),
}

/// Whoever watches, and what was counted for them.
struct Watch {
    observer: Option<Box<dyn Observer + Send>>,
    key_log: Option<Box<dyn KeyLog + Send>>,
    stats: EndpointStats,
}

impl Watch {
    /// The secrets are made only if there is a key log.
    fn log_keys(
        &mut self,
        now: Now,
        client: bool,
        remote: SocketAddr,
        secrets: impl FnOnce() -> TrafficSecrets,
    ) {
        if let Some(log) = &mut self.key_log {
            let secrets = &secrets();
            log.connection(
                now,
                &KeyLogEntry {
                    client,
                    remote,
                    secrets,
                },
            );
        }
    }

    fn tracer(&mut self, now: Now, connection: Option<Handle>) -> Tracer<'_> {
        Tracer {
            now,
            connection,
            observer: self.observer.as_deref_mut(),
            drops: &mut self.stats.drops,
        }
    }
}

/// Connections over one socket, and the door for new ones.
pub struct Endpoint {
    transport: Arc<TransportConfig>,
    admission: Option<Box<Admission>>,
    routes: Routes,
    /// By the name of the hello that is sent, and by those of hellos that were given up but may be answered yet.
    dials: BTreeMap<Hid, u32>,
    former: BTreeMap<Hid, u32>,
    slab: Slab,
    deadlines: Deadlines,
    rotation: Rotation,
    /// Handshake datagrams, each for its own address.
    waiting: VecDeque<(Route, Vec<u8>)>,
    /// The ends of dials; connections tell theirs themselves.
    notices: VecDeque<(Handle, Event)>,
    watch: Watch,
    /// Lent to the connection whose turn it is.
    spares: Option<Box<Spares>>,
    random: Random,
    entropy: Box<dyn Entropy + Send>,
}

impl Endpoint {
    /// An endpoint. `seed` decides everything that is random but not secret; secrets come from `entropy`.
    pub fn new(config: EndpointConfig, seed: [u8; 32], entropy: Box<dyn Entropy + Send>) -> Self {
        Self::seated(config, seed, entropy, None, Commons::default())
    }

    fn seated(
        config: EndpointConfig,
        seed: [u8; 32],
        entropy: Box<dyn Entropy + Send>,
        seat: Option<Arc<Seat>>,
        commons: Commons,
    ) -> Self {
        let EndpointConfig {
            server,
            transport,
            observer,
        } = config;
        let mut random = Random::new(seed).seated(seat.clone());
        let mut routes = Routes::default();
        routes.seat = seat;
        let provider = transport.provider;
        let admission = server.map(|server| {
            Box::new(Admission::new(
                server,
                provider,
                &mut routes,
                random.u64(),
                commons,
            ))
        });
        Self {
            transport: Arc::new(transport),
            admission,
            routes,
            dials: BTreeMap::new(),
            former: BTreeMap::new(),
            slab: Slab::default(),
            deadlines: Deadlines::default(),
            rotation: Rotation::default(),
            waiting: VecDeque::new(),
            notices: VecDeque::new(),
            watch: Watch {
                observer,
                key_log: None,
                stats: EndpointStats::default(),
            },
            spares: None,
            random,
            entropy,
        }
    }

    // --- the application's calls ---

    /// Tells `log` the secrets of every connection from now on. See [`KeyLog`] for what that means.
    pub fn set_key_log(&mut self, log: Box<dyn KeyLog + Send>) {
        self.watch.key_log = Some(log);
    }

    /// Begins a connection. [`Event::Connected`] or [`Event::Closed`] follows. Until then there is no [`Connection`], unless a
    /// ticket allows [early data](Connect::early).
    pub fn connect(&mut self, now: Now, target: Connect) -> Result<Handle, ConnectError> {
        target
            .bundle
            .check_time(now.unix_ms / 1000)
            .map_err(ConnectError::Bundle)?;
        if self.slab.len() >= MAX_SLOTS {
            return Err(ConnectError::TooManyConnections);
        }
        let bundle = &target.bundle;
        let way = Direction::ServerToClient;
        let (provider, relay) = (self.transport.provider, bundle.relay_id());
        let domain = Domain::new(provider, relay, bundle.epoch(), bundle.kh(), &target.grant, way);
        let index = self.routes.enter(domain).ok_or(ConnectError::TooManyRelays)?;
        let relay_ms = self
            .routes
            .domain(index)
            .map_or(now.unix_ms, |domain| domain.relay_time(now.unix_ms));
        let (transport, random, entropy) = (&self.transport, &mut self.random, &mut *self.entropy);
        let dial = match Dial::start(now, target, index, relay_ms, transport, random, entropy) {
            Ok(dial) => dial,
            Err(error) => {
                self.routes.leave(index);
                return Err(error);
            }
        };
        let scid = dial.scid;
        let hid = dial.hids().next().unwrap_or_default();
        let handle = self.slab.insert(Occupant::Dial(Box::new(dial)));
        self.dials.insert(hid, handle.slot);
        self.routes.insert(scid, Target::Connection(handle.slot));
        self.send_hello(now, handle.slot);
        Ok(handle)
    }

    /// Gives up a connection that does not stand yet. [`Event::Closed`] follows.
    pub fn cancel(&mut self, now: Now, handle: Handle) {
        let dialing = self.slab.find(handle).filter(|slot| self.dial(*slot).is_some());
        if let Some(slot) = dialing {
            self.end_dial(
                now,
                slot,
                CloseReason::Application {
                    code: 0,
                    reason: Vec::new(),
                    by: By::Local,
                },
            );
        }
    }

    /// A connection that stands, or one that may be used [`early`](Connect::early), for the calls of its application; poll the
    /// endpoint afterwards. A closed one stays until the poll after its [`Event::Closed`].
    pub fn connection(&mut self, handle: Handle) -> Option<&mut Connection> {
        let slot = self.slab.find(handle)?;
        self.slab.mark(slot);
        self.slab.connection(slot)
    }

    /// Closes all connections and gives up all dials.
    pub fn close_all(&mut self, now: Now, code: u64, reason: &[u8]) {
        let used = |(slot, occupant): (u32, &Occupant)| (!matches!(occupant, Occupant::Free)).then_some(slot);
        let slots: Vec<u32> = self.slab.iter().filter_map(used).collect();
        for slot in slots {
            let handle = self.slab.handle(slot);
            match self.connection(handle) {
                Some(connection) => connection.close(now, code, reason),
                None => self.cancel(now, handle),
            }
        }
    }

    /// What answering one hello takes on this machine, as whoever drives the endpoint has measured it. Handshakes get at
    /// most half of a core by this figure, and from 30 % on strangers must prove their address. Until told: 250 µs.
    pub fn set_handshake_cost(&mut self, cost: Duration) {
        if let Some(admission) = &mut self.admission {
            admission.set_cost(cost);
        }
    }

    /// Hellos that wait to be read: while there are some, [`Endpoint::poll`] may take as long as one handshake.
    pub fn hellos_waiting(&self) -> usize {
        self.admission
            .as_ref()
            .map_or(0, |admission| admission.hellos_waiting())
    }

    /// Tickets are made and opened with these keys from now on. They do not change by themselves: relays that share them
    /// change them together. Their [replay domains](crate::TicketOptions::replay_domain) must differ.
    pub fn install_ticket_keys(&mut self, keys: TicketKeys) {
        if let Some(admission) = &mut self.admission {
            admission.tickets.install(keys);
        }
    }

    /// Whether new clients are told to stay out.
    pub fn refuse_new(&mut self, on: bool) {
        if let Some(admission) = &mut self.admission {
            admission.refuse_new = on;
        }
    }

    /// Allocated bytes, roughly. Walks all connections.
    pub fn memory(&self) -> usize {
        let connections: usize = self
            .slab
            .iter()
            .map(|(_, occupant)| occupant_memory(occupant))
            .sum();
        let waiting: usize = self.waiting.iter().map(|(_, datagram)| datagram.capacity()).sum();
        connections
            + waiting
            + self.spares.as_ref().map_or(0, |spares| spares.memory())
            + self.routes.memory()
            + self.admission.as_ref().map_or(0, |admission| admission.memory())
    }

    /// Vectors whose datagrams have left, for those that arrive. Whoever needs some for datagrams to send, or has some of received
    /// ones to spare, takes them out or puts them in.
    pub fn spares(&mut self) -> &mut Spares {
        self.spares.get_or_insert_default()
    }

    // --- time ---

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(slot) = self.deadlines.expire(now.instant) {
            self.on_deadline(now, slot);
        }
        if let Some(admission) = &mut self.admission {
            admission.expire(now, &mut self.routes, &mut self.watch.tracer(now, None));
        }
        self.rotate(now);
    }

    fn on_deadline(&mut self, now: Now, slot: u32) {
        let handle = self.slab.handle(slot);
        let Some(place) = self.slab.get_mut(slot) else {
            return;
        };
        place.armed = None;
        match &mut place.occupant {
            Occupant::Free => {}
            Occupant::Dial(dial) => match on_time(dial, now, &mut self.watch.tracer(now, Some(handle))) {
                Some(Due::Send) => self.send_hello(now, slot),
                Some(Due::FallBack) => self.fall_back(now, slot),
                Some(Due::Over(reason)) => self.end_dial(now, slot, reason),
                None => {}
            },
            Occupant::Live(connection, _) => {
                connection.handle_timeout(now, &mut self.watch.tracer(now, Some(handle)));
            }
        }
        self.slab.mark(slot);
    }

    // --- out ---

    /// What is to be done next. The batch is filled for [`Output::Transmit`]; its former content is discarded.
    pub fn poll(&mut self, now: Now, batch: &mut Batch) -> Output {
        batch.clear();
        if let Some((handle, event)) = self.notices.pop_front() {
            return Output::Event(handle, event);
        }
        loop {
            while let Some((route, datagram)) = self.waiting.pop_front() {
                if batch.push(&datagram).is_ok() {
                    return Output::Transmit(route);
                }
            }
            while let Some(slot) = self.slab.first() {
                if let Some(output) = self.poll_slot(now, slot, batch) {
                    return output;
                }
                self.slab.done();
            }
            if !self.answer_stranger(now) {
                break;
            }
        }
        let hello = self.admission.as_ref().and_then(|admission| {
            admission.note_present(self.slab.len());
            admission.due()
        });
        let door = earlier(hello.map(|at| (at, Why::Hello)), self.next_rotation(now));
        Output::Wait(earlier(self.deadlines.earliest(), door))
    }

    /// What [`poll`](Self::poll) would tell of connections that have nothing to say but acknowledgements, and nothing is sent yet: for who
    /// lets the application answer first, so that both leave together. `None`: `poll` has the rest.
    pub fn poll_event(&mut self, now: Now) -> Option<(Handle, Event)> {
        if let Some(notice) = self.notices.pop_front() {
            return Some(notice);
        }
        for _ in 0..self.slab.ready() {
            let slot = self.slab.first()?;
            let silent = self
                .slab
                .connection(slot)
                .is_some_and(|connection| !connection.has_data());
            if silent && let Some(event) = self.event_of(now, slot) {
                return Some((self.slab.handle(slot), event));
            }
            self.slab.rotate();
        }
        None
    }

    fn event_of(&mut self, now: Now, slot: u32) -> Option<Event> {
        let handle = self.slab.handle(slot);
        let Occupant::Live(connection, _) = &mut self.slab.get_mut(slot)?.occupant else {
            return None;
        };
        news(connection, &mut self.watch.tracer(now, Some(handle)))
    }

    /// `None`: nothing more for now.
    fn poll_slot(&mut self, now: Now, slot: u32, batch: &mut Batch) -> Option<Output> {
        let handle = self.slab.handle(slot);
        self.issue_tickets(now, slot);
        let place = self.slab.get_mut(slot)?;
        let next = match &mut place.occupant {
            Occupant::Free => return None,
            Occupant::Dial(_) => return self.poll_dial(now, slot, batch),
            Occupant::Live(connection, _) => {
                let mut tracer = self.watch.tracer(now, Some(handle));
                if let Some(event) = news(connection, &mut tracer) {
                    return Some(Output::Event(handle, event));
                }
                connection.lend(&mut self.spares);
                let transmit = connection.poll_transmit(now, batch, &mut tracer);
                connection.take_back(&mut self.spares);
                if let Some(route) = transmit {
                    self.slab.rotate();
                    return Some(Output::Transmit(route));
                }
                // Who looks for something to send finds what has expired.
                if let Some(event) = news(connection, &mut tracer) {
                    return Some(Output::Event(handle, event));
                }
                adopt_changes(&mut self.routes, slot, connection);
                if connection.is_over() && connection.has_told() {
                    self.bury(slot);
                    return None;
                }
                connection.next_timeout(now.instant)
            }
        };
        let place = self.slab.get_mut(slot)?;
        self.deadlines.set(slot, &mut place.armed, next);
        None
    }

    /// A connection is over and has said so: nothing leads to it any more.
    fn bury(&mut self, slot: u32) {
        if let Some(place) = self.slab.get_mut(slot) {
            self.deadlines.set(slot, &mut place.armed, None);
        }
        if let Occupant::Live(connection, domain) = self.slab.remove(slot) {
            connection.issued_ids().for_each(|cid| self.routes.remove(&cid));
            if let Some(domain) = domain {
                self.routes.leave(domain);
            }
        }
    }
}

/// The next thing the application should know.
fn news(connection: &mut Connection, tracer: &mut Tracer<'_>) -> Option<Event> {
    let event = connection.poll_event()?;
    tell(&event, tracer);
    Some(event)
}

/// What the application is told of how a connection stands, observers are told too.
fn tell(event: &Event, tracer: &mut Tracer<'_>) {
    match event {
        Event::Closed(reason) => tracer.tell(|connection| trace::Event::Closed { connection, reason }),
        Event::PathStateChanged { path, state, reason } => {
            let (path, state, reason) = (*path, *state, *reason);
            tracer.tell(|connection| trace::Event::PathStateChanged {
                connection,
                path,
                state,
                reason,
            });
        }
        _ => {}
    }
}

fn adopt_changes(routes: &mut Routes, slot: u32, connection: &mut Connection) {
    while let Some(change) = connection.take_id_change() {
        match change {
            Change::Add(cid) => routes.insert(cid, Target::Connection(slot)),
            Change::Remove(cid) => routes.remove(&cid),
        }
    }
}

fn enqueue(waiting: &mut VecDeque<(Route, Vec<u8>)>, route: Route, datagram: Vec<u8>) {
    if waiting.len() < MAX_WAITING {
        waiting.push_back((route, datagram));
    }
}

fn occupant_memory(occupant: &Occupant) -> usize {
    match occupant {
        Occupant::Free => 0,
        Occupant::Dial(dial) => dial.memory(),
        Occupant::Live(connection, _) => connection.memory(),
    }
}
