//! The loop: drain both ends, carry datagrams, let the applications act, move the clock to what is next.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use transport_core::{Algorithm, ClientTicket, Connection, Event, Handle, Ticket};

use super::{
    app::App,
    clock::Clock,
    cross::Cross,
    flow::Flow,
    link::{Cargo, IP_UDP_HEADERS, IPV6_EXTRA, Link, Packet},
    node::{Node, Said},
    record::WireDigest,
    report::Report,
    rng::Rng,
    scenario::{self, Cipher, Direction, Resume, Scenario, Side},
    setup::Setup,
    trace::Trace,
};

mod events;
mod summary;
mod traffic;
mod windows;

/// What a run is given beside its scenario.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Overrides the scenario's packet suite.
    pub cipher: Option<Cipher>,
}

/// One connection of the scenario: its client, and its handle at the server once it stands.
struct Session {
    connection: u32,
    algorithm: Option<Algorithm>,
    further: Duration,
    client: Node,
    handle: Handle,
    client_app: App,
    server_app: App,
    server_handle: Option<Handle>,
    address: SocketAddr,
    connected: bool,
    tickets: Vec<ClientTicket>,
}

impl Session {
    fn carries(&self, flow: &Flow) -> bool {
        flow.spec.connection == self.connection
    }
}

struct Scheduled {
    at: Duration,
    order: u64,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

enum What {
    /// The last bit of a packet leaves a bottleneck.
    Departure(Direction),
    /// A packet arrives at the end of a direction.
    Arrival(Direction, Packet),
    Event(usize),
}

impl What {
    /// Whether an end may have something to say after it.
    fn stirs(&self) -> bool {
        match self {
            Self::Departure(_) => false,
            Self::Arrival(_, packet) => matches!(packet.cargo, Cargo::Datagram { .. }),
            Self::Event(_) => true,
        }
    }
}

struct World<'a> {
    scenario: &'a Scenario,
    setup: Setup,
    clock: Clock,
    up: Link,
    down: Link,
    server: Node,
    sessions: Vec<Session>,
    flows: Vec<Flow>,
    cross: Vec<Cross>,
    trace: Option<Trace>,
    /// An end may have something to say.
    stirred: bool,
    headers: usize,
    addresses: BTreeMap<SocketAddr, usize>,
    handles: BTreeMap<Handle, usize>,
    agenda: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    next_port: u16,
    round: u32,
    handshakes: u64,
    digest: WireDigest,
    peak_memory: usize,
    faults: Vec<String>,
}

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario, options: Options) -> Report {
    let mut world = World::new(scenario, options);
    world.run();
    world.report(options.seed)
}

/// Runs a scenario to its end and keeps what happened over time. The bytes are the same as those of [`run`].
pub fn run_recorded(scenario: &Scenario, options: Options) -> (Report, Trace) {
    let mut world = World::new(scenario, options);
    world.trace = Some(Trace::default());
    world.run();
    let trace = world.trace();
    (world.report(options.seed), trace)
}

/// Both ends of a connection use what its flows name.
fn choose(algorithm: Option<Algorithm>, connection: Option<&mut Connection>) {
    if let (Some(algorithm), Some(connection)) = (algorithm, connection) {
        connection.set_algorithm(algorithm);
    }
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, options: Options) -> Self {
        let setup = Setup::new(scenario, options);
        let ipv6 = scenario.transport.ipv6;
        let link =
            |config: &scenario::Link, label| Link::new(config.clone(), Rng::new(options.seed, label), ipv6);
        let cross = scenario.cross.iter().enumerate();
        let mut world = Self {
            up: link(&scenario.link.up, "up"),
            down: link(&scenario.link.down, "down"),
            server: Node::new(setup.server()),
            setup,
            scenario,
            clock: Clock::start(),
            sessions: Vec::new(),
            flows: Vec::new(),
            cross: cross.map(|(index, spec)| Cross::new(spec, index)).collect(),
            trace: None,
            stirred: true,
            headers: IP_UDP_HEADERS + if ipv6 { IPV6_EXTRA } else { 0 },
            addresses: BTreeMap::new(),
            handles: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            order: 0,
            next_port: 40_000,
            round: 0,
            handshakes: 0,
            digest: WireDigest::default(),
            peak_memory: 0,
            faults: Vec::new(),
        };
        for (index, event) in scenario.event.iter().enumerate() {
            world.schedule(ms(event.at_ms), What::Event(index));
        }
        world
    }

    /// Opens one session for each connection the flows name; those of the round before say goodbye.
    fn start_round(&mut self) {
        let now = self.clock.now();
        for session in &mut self.sessions {
            if let Some(connection) = session.client.endpoint.connection(session.handle) {
                connection.close(now, 0, b"");
            }
        }
        let first = self.sessions.len();
        let origin = self.clock.elapsed();
        for spec in &self.scenario.flow {
            let session = self
                .sessions
                .iter()
                .skip(first)
                .position(|session| session.connection == spec.connection);
            let session = session.map_or_else(|| self.open_session(spec.connection), |offset| first + offset);
            let index = self.flows.len() as u32;
            self.flows.push(Flow::new(spec.clone(), session, index, origin));
        }
        self.round += 1;
    }

    fn open_session(&mut self, connection: u32) -> usize {
        let index = self.sessions.len();
        let address = self.new_address(None);
        let ticket = self.take_ticket();
        let flows = self.scenario.flow.iter();
        let algorithm = flows
            .filter(|flow| flow.connection == connection)
            .find_map(scenario::Flow::algorithm);
        let (mut endpoint, handle) =
            self.setup
                .client(index as u64, self.server_address(), ticket, self.clock.now());
        // With early data it can be used at once.
        let connected = endpoint.connection(handle).is_some();
        self.addresses.insert(address, index);
        self.sessions.push(Session {
            connection,
            algorithm,
            further: self.further(connection),
            client: Node::new(endpoint),
            handle,
            client_app: App::new(Side::Client, index),
            server_app: App::new(Side::Server, index),
            server_handle: None,
            address,
            connected,
            tickets: Vec::new(),
        });
        index
    }

    /// How much further away a connection is than the link.
    fn further(&self, connection: u32) -> Duration {
        let flows = self.scenario.flow.iter();
        let own = flows.filter(|flow| flow.connection == connection);
        ms(own.map(|flow| flow.extra_delay_ms).fold(0.0, f64::max))
    }

    fn take_ticket(&mut self) -> Option<ClientTicket> {
        if self.scenario.resume == Resume::Never {
            return None;
        }
        self.sessions.iter_mut().find_map(|session| session.tickets.pop())
    }

    fn new_address(&mut self, move_host: Option<SocketAddr>) -> SocketAddr {
        self.next_port += 1;
        let host = move_host.map_or(2, |old| match old.ip() {
            IpAddr::V4(ip) => ip.octets()[3].wrapping_add(1).max(2),
            IpAddr::V6(ip) => (ip.segments()[7] as u8).wrapping_add(1).max(2),
        });
        SocketAddr::new(self.host(host), self.next_port)
    }

    fn host(&self, last: u8) -> IpAddr {
        if self.scenario.transport.ipv6 {
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)))
        } else {
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
        }
    }

    fn server_address(&self) -> SocketAddr {
        SocketAddr::new(self.host(1), 4433)
    }

    fn schedule(&mut self, at: Duration, what: What) {
        self.order += 1;
        self.agenda.push(Reverse(Scheduled {
            at,
            order: self.order,
            what,
        }));
    }

    fn run(&mut self) {
        let end = Duration::from_secs_f64(self.scenario.seconds);
        self.start_round();
        loop {
            if std::mem::take(&mut self.stirred) {
                self.settle();
            }
            self.sample();
            if self.finished() {
                if self.round >= self.scenario.repeat_handshakes {
                    return;
                }
                self.start_round();
                self.stirred = true;
                continue;
            }
            let Some(next) = self.next_time().filter(|at| *at < end) else {
                self.clock.advance(end);
                return;
            };
            self.clock.advance(next);
            self.happen();
        }
    }

    /// Every flow with an end has reached it, and none without one is still to run.
    fn finished(&self) -> bool {
        !self.flows.is_empty()
            && self
                .flows
                .iter()
                .all(|flow| flow.has_end() && flow.completion.is_some())
    }

    fn next_time(&self) -> Option<Duration> {
        let agenda = self.agenda.peek().map(|Reverse(scheduled)| scheduled.at);
        let cross = self.cross.iter().filter_map(Cross::deadline).min();
        let mut next = [agenda, cross, self.server.deadline()]
            .into_iter()
            .flatten()
            .min();
        for session in &self.sessions {
            let due = session
                .connected
                .then(|| session.client_app.next_due(&self.flows))
                .flatten();
            let server_due = session
                .server_handle
                .and_then(|_| session.server_app.next_due(&self.flows));
            let times = [session.client.deadline(), due, server_due].into_iter().flatten();
            next = next
                .into_iter()
                .chain(times.filter(|at| *at > self.clock.elapsed()))
                .min();
        }
        next.map(|at| at.max(self.clock.elapsed()))
    }

    /// All that is due at the present moment.
    fn happen(&mut self) {
        let (elapsed, now) = (self.clock.elapsed(), self.clock.now());
        while self
            .agenda
            .peek()
            .is_some_and(|Reverse(scheduled)| scheduled.at <= elapsed)
        {
            let Some(Reverse(scheduled)) = self.agenda.pop() else {
                break;
            };
            self.stirred |= scheduled.what.stirs();
            match scheduled.what {
                What::Departure(direction) => self.depart(direction),
                What::Arrival(direction, packet) => self.arrive(direction, packet),
                What::Event(index) => self.event(index),
            }
        }
        self.tick_cross();
        // Without a deadline, a flow that is due woke the world.
        self.stirred |= self.node_due(elapsed) || self.flow_due(elapsed);
        self.server.tick(elapsed, now);
        for session in &mut self.sessions {
            session.client.tick(elapsed, now);
        }
    }

    fn node_due(&self, elapsed: Duration) -> bool {
        let clients = self.sessions.iter().map(|session| &session.client);
        clients
            .chain([&self.server])
            .any(|node| node.deadline().is_some_and(|at| at <= elapsed))
    }

    fn flow_due(&self, elapsed: Duration) -> bool {
        let apps = self
            .sessions
            .iter()
            .flat_map(|session| [&session.client_app, &session.server_app]);
        let mut due = apps.filter_map(|app| app.next_due(&self.flows));
        due.any(|at| at <= elapsed)
    }

    /// Drains and drives until nothing moves at this moment.
    fn settle(&mut self) {
        let mut said = Vec::new();
        loop {
            let mut moved = false;
            for index in 0..self.sessions.len() {
                self.sessions[index].client.drain(&self.clock, &mut said);
                moved |= !said.is_empty();
                for one in said.drain(..) {
                    self.client_said(index, one);
                }
            }
            self.server.drain(&self.clock, &mut said);
            moved |= !said.is_empty();
            for one in said.drain(..) {
                self.server_said(one);
            }
            moved |= self.drive();
            if !moved {
                break;
            }
        }
        let clients: usize = self
            .sessions
            .iter()
            .map(|session| session.client.endpoint.memory())
            .sum();
        self.peak_memory = self.peak_memory.max(clients + self.server.endpoint.memory());
    }

    fn drive(&mut self) -> bool {
        let (moment, now) = (self.clock.now(), self.clock.elapsed());
        let mut moved = false;
        for session in &mut self.sessions {
            if session.connected
                && let Some(connection) = session.client.endpoint.connection(session.handle)
            {
                moved |= session.client_app.drive(moment, now, connection, &mut self.flows);
            }
            if let Some(connection) = session
                .server_handle
                .and_then(|handle| self.server.endpoint.connection(handle))
            {
                moved |= session.server_app.drive(moment, now, connection, &mut self.flows);
            }
        }
        moved
    }

    fn client_said(&mut self, index: usize, said: Said) {
        let session = &mut self.sessions[index];
        match said {
            Said::Datagram(_, ecn, datagram) => {
                let address = session.address;
                self.send(Direction::Up, index, address, datagram, ecn);
            }
            Said::Event(_, Event::Connected(_)) => {
                session.connected = true;
                choose(
                    session.algorithm,
                    session.client.endpoint.connection(session.handle),
                );
                self.handshakes += 1;
            }
            Said::Event(_, Event::DatagramReceived(payload)) => {
                session
                    .client_app
                    .datagram(self.clock.elapsed(), &payload, &mut self.flows);
            }
            Said::Event(_, Event::Stream(event)) => session.client_app.told(&event, &mut self.flows),
            Said::Event(_, Event::Ticket(Ticket(ticket))) => session.tickets.push(*ticket),
            Said::Event(_, Event::Closed(reason)) => {
                session.connected = false;
                let unfinished = |flow: &Flow| flow.session == index && flow.completion.is_none();
                if self.flows.iter().any(unfinished) {
                    self.faults.push(format!("client {index} closed: {reason:?}"));
                }
            }
            Said::Event(..) => {}
        }
    }

    fn server_said(&mut self, said: Said) {
        match said {
            Said::Datagram(route, ecn, datagram) => match self.addresses.get(&route.remote) {
                Some(&session) => self.send(Direction::Down, session, route.remote, datagram, ecn),
                None => self.digest.add(self.clock.elapsed(), false, &datagram),
            },
            Said::Event(handle, Event::Connected(_)) => {
                let remote = self
                    .server
                    .endpoint
                    .connection(handle)
                    .map(|connection| connection.remote());
                let Some(&session) = remote.and_then(|remote| self.addresses.get(&remote)) else {
                    return;
                };
                self.handles.insert(handle, session);
                self.sessions[session].server_handle = Some(handle);
                choose(
                    self.sessions[session].algorithm,
                    self.server.endpoint.connection(handle),
                );
            }
            Said::Event(handle, event) => {
                let Some(&session) = self.handles.get(&handle) else {
                    return;
                };
                let app = &mut self.sessions[session].server_app;
                match event {
                    Event::DatagramReceived(payload) => {
                        app.datagram(self.clock.elapsed(), &payload, &mut self.flows);
                    }
                    Event::Stream(event) => app.told(&event, &mut self.flows),
                    Event::Closed(_) => self.sessions[session].server_handle = None,
                    _ => {}
                }
            }
        }
    }
}

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms.max(0.0) / 1000.0)
}
