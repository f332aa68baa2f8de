//! The driver: what moves an endpoint (or a worker of it), the one clock and the one entropy source. It runs on a thread of its
//! own, or as a guest of somebody's [loop](crate::local).
//!
//! A turn: **feed** (what handles asked for, what the socket brought, whose time has come) → **drain** the engine until
//! it says `Wait` (packets to the socket, events to the handles) → **wake** the tasks concerned. Then whoever runs it waits. As a
//! guest it lets the tasks concerned have their say between feed and drain.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod app;
pub(crate) mod carriers;
pub(crate) mod clock;
pub(crate) mod command;
mod effort;
pub(crate) mod entropy;
mod forward;
mod io;
mod lanes;
mod link;
mod mio;
mod roam;
pub(crate) mod shared;
mod spares;
mod strangers;
mod streams;
mod thread;
pub(crate) mod trace;
mod workers;

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::app::App;
use self::carriers::carried;
use self::command::{Alarm, Mailbox, Mark, Marked};
use self::effort::Effort;
use self::entropy::OsEntropy;
use self::forward::{Forward, Inbox};
use self::io::{Io, Sent};
use self::lanes::Newcomers;
use self::mio::MioIo;
use self::shared::{EndpointShared, EndpointState, lock};
use self::spares::Stock;
use self::strangers::Strangers;
use self::thread::Poller;
use self::workers::Part;
use crate::config::EndpointConfig;
use crate::engine::net::{SocketOptions, UdpSocket};
use crate::engine::{Batch, Endpoint, Entropy, Event, Handle, Now, Output, Peer, Route, ServerConfig};
use crate::local::guest::{Bell, Guest, Turn};
use crate::wait::Waiters;

/// Kernel batches received before packets are sent again, and datagrams after which no further one is: a flood must not
/// keep ACKs back. One batch of joined datagrams may bring more than a thousand; of a flood from everywhere it brings 32.
const RECEIVE_BATCHES: usize = 8;
const RECEIVE_DATAGRAMS: u32 = 256;

/// Drains after `settle` changed something: more would mean that something changes forever.
const MAX_DRAINS: usize = 8;

/// A lost wake-up would cost this much, not for ever.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// Binds, starts the thread, or those of all workers; the first is the one that leads.
pub(crate) fn start(config: EndpointConfig) -> Result<Vec<Arc<EndpointShared>>> {
    let mut drivers: Vec<(Poller, Driver<MioIo>)> = Vec::new();
    let busy = config.bounded_busy_poll();
    for part in parts(config)? {
        let (poller, alarm) = Poller::new(busy)?;
        let lead = drivers.first().map(|(_, first)| Arc::clone(&first.shared));
        let driver = make(part, lead, poller.registry()?, thread::FIRST_TOKEN, alarm)?;
        drivers.push((poller, driver));
    }
    let all: Vec<Arc<EndpointShared>> = drivers.iter().map(|(_, one)| Arc::clone(&one.shared)).collect();
    let inboxes: Vec<Arc<Inbox>> = all
        .iter()
        .map(|one| Arc::new(Inbox::new(Arc::clone(&one.mailbox))))
        .collect();
    for (number, (poller, mut driver)) in drivers.into_iter().enumerate() {
        driver.forward = Forward::new(&inboxes, number);
        let started = std::thread::Builder::new()
            .name("transport".into())
            .spawn(move || {
                if let Err(error) = poller.run(driver) {
                    tracing::error!(target: "adit::driver", %error, "the driver ends");
                }
            });
        if let Err(error) = started {
            workers::give_up(&all);
            return Err(error);
        }
    }
    Ok(all)
}

/// Binds, and moves into a loop.
pub(crate) fn start_on(config: EndpointConfig, on: &crate::local::Handle) -> Result<Arc<EndpointShared>> {
    if config.worker_count() > 1 {
        let error = "several workers need threads of their own: use `bind`";
        return Err(Error::new(ErrorKind::InvalidInput, error));
    }
    on.look_for(config.bounded_busy_poll());
    let part = parts(config)?.pop().ok_or(ErrorKind::InvalidInput)?;
    on.host(|room| {
        let mut driver = make(part, None, room.registry, room.first_token, Box::new(room.bell))?;
        driver.tasks_first = Some(false);
        let shared = Arc::clone(&driver.shared);
        Ok((driver, shared))
    })
}

impl Alarm for Bell {
    fn ring(&self) -> Result<()> {
        Bell::ring(self)
    }
}

fn parts(config: EndpointConfig) -> Result<Vec<Part>> {
    if let Some(server) = &config.server {
        ServerConfig::check(server.relay_id, &server.epochs, server.bundle.as_ref())
            .map_err(|error| Error::new(ErrorKind::InvalidInput, error))?;
    }
    let socket = bind(config.listen, config.socket_buffer, config.mark)?;
    workers::parts(config, socket, &mut OsEntropy)
}

/// A driver that does not run yet.
fn make(
    part: Part,
    lead: Option<Arc<EndpointShared>>,
    registry: ::mio::Registry,
    first_token: usize,
    alarm: Box<dyn Alarm>,
) -> Result<Driver<MioIo>> {
    let Part {
        mut config,
        socket,
        worker,
        number,
        workers,
    } = part;
    let (local, caps) = (socket.local_addr()?, socket.caps());
    let (socket_buffer, mark) = (config.socket_buffer, config.mark);
    let mut seed = [0; 32];
    OsEntropy
        .fill(&mut seed)
        .map_err(|_| Error::other("the operating system gives no randomness"))?;
    let io = MioIo::new(registry, first_token, socket)?;
    let options = config.transport.clone();
    let relay_id = config.server.as_ref().map(|server| server.relay_id);
    let key_log = config.key_log.take();
    let mut engine = Endpoint::new_worker(config.into_engine(), seed, Box::new(OsEntropy), worker);
    if let Some(log) = key_log {
        engine.set_key_log(log);
    }
    let shared = Arc::new(EndpointShared {
        lead,
        mailbox: Arc::new(Mailbox::new(alarm)),
        marked: Marked::default(),
        socket_buffer,
        mark,
        carriers: Arc::default(),
        state: Mutex::new(EndpointState {
            local,
            connects: std::collections::VecDeque::new(),
            incoming: std::collections::VecDeque::new(),
            incoming_waiters: Waiters::default(),
            idle_waiters: Waiters::default(),
            idle: true,
            close: None,
            refuse_new: None,
            changes: Vec::new(),
            queries: Vec::new(),
            relay_id,
            socket: None,
            unreferenced: false,
            closed: false,
            ended: false,
            stats: engine.stats(),
            caps,
        }),
    });
    let app = App::new(Arc::clone(&shared), options, (number, workers));
    Ok(Driver::new(io, engine, shared, app))
}

fn bind(addr: SocketAddr, buffer: usize, mark: Option<u32>) -> Result<UdpSocket> {
    let options = SocketOptions {
        recv_buffer: buffer,
        send_buffer: buffer,
        mark,
        ..SocketOptions::default()
    };
    UdpSocket::bind(addr, &options)
}

/// Hands the driver another socket.
pub(crate) fn rebind(shared: &Arc<EndpointShared>, addr: SocketAddr) -> Result<()> {
    let socket = bind(addr, shared.socket_buffer, shared.mark)?;
    {
        let mut state = lock(&shared.state);
        state.local = socket.local_addr()?;
        state.socket = Some(socket);
    }
    if shared.post() {
        Ok(())
    } else {
        Err(Error::other("the endpoint is closed"))
    }
}

struct Driver<I: Io> {
    io: I,
    engine: Endpoint,
    shared: Arc<EndpointShared>,
    app: App,
    batch: Batch,
    /// The kernel did not take `batch` yet.
    blocked: Option<Route>,
    marks: Vec<Mark>,
    /// When the engine wants to be called.
    deadline: Option<Instant>,
    /// What handshakes cost here.
    effort: Effort,
    strangers: Strangers,
    newcomers: Newcomers,
    forward: Forward,
    stock: Stock,
    /// The tasks concerned are on this thread and run before anything is sent: what they say leaves together with the
    /// acknowledgement that is due. Whether this was their turn; `None` where they are elsewhere.
    tasks_first: Option<bool>,
}

impl<I: Io> Driver<I> {
    fn new(io: I, engine: Endpoint, shared: Arc<EndpointShared>, app: App) -> Self {
        Self {
            io,
            engine,
            shared,
            app,
            batch: Batch::default(),
            blocked: None,
            marks: Vec::new(),
            deadline: None,
            effort: Effort::default(),
            strangers: Strangers::default(),
            newcomers: Newcomers::default(),
            forward: Forward::default(),
            stock: Stock::default(),
            tasks_first: None,
        }
    }

    /// The engine is not changed while a batch of it waits for the kernel. True when none does.
    fn flush_blocked(&mut self) -> bool {
        if let Some(route) = self.blocked
            && self.io.send(route, &mut self.batch) == Sent::Done
        {
            self.batch.clear();
            self.blocked = None;
        }
        self.blocked.is_none()
    }

    fn feed(&mut self) -> Result<()> {
        let now = clock::now();
        self.change_socket()?;
        let mut marks = std::mem::take(&mut self.marks);
        self.shared.mailbox.take(&mut marks);
        for mark in marks.drain(..) {
            match mark {
                Mark::Carried(port) => port.take(now, &mut self.engine),
                mark => self.app.feed(now, &mut self.engine, mark),
            }
        }
        self.marks = marks;
        self.know_interfaces();
        self.stock
            .turn(now.instant, self.engine.spares(), &self.shared.mailbox);
        self.forward.take(now, &mut self.engine);
        self.receive(now)?;
        while let Some(handle) = self.newcomers.next(now.instant) {
            self.open_lane(now, handle);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now.instant) {
            self.engine.handle_timeout(now);
        }
        Ok(())
    }

    fn change_socket(&mut self) -> Result<()> {
        let socket = lock(&self.shared.state).socket.take();
        socket.map_or(Ok(()), |socket| self.io.replace(socket))
    }

    fn receive(&mut self, now: Now) -> Result<()> {
        let Self {
            io, engine, forward, ..
        } = self;
        let mut datagrams = 0;
        for _ in 0..RECEIVE_BATCHES {
            let more = io.receive_lane(now, &mut |joined| {
                datagrams += forward.receive(now, engine, joined).0;
            });
            if !more || datagrams >= RECEIVE_DATAGRAMS {
                break;
            }
        }
        if datagrams > 0 {
            self.strangers.lanes_work(now.instant, datagrams);
        }
        if self.strangers.rest(now.instant).is_none() {
            self.receive_common(now)?;
        }
        Ok(())
    }

    fn receive_common(&mut self, now: Now) -> Result<()> {
        let Self {
            io, engine, forward, ..
        } = self;
        if !io.has_input() {
            return Ok(());
        }
        let begun = clock::instant();
        let (mut datagrams, mut ours) = (0, 0);
        for _ in 0..RECEIVE_BATCHES {
            let more = io.receive(&mut |joined| {
                let (all, named) = forward.receive(now, engine, joined);
                datagrams += all;
                ours += named;
            })?;
            if !more || datagrams >= RECEIVE_DATAGRAMS {
                break;
            }
        }
        self.strangers.spent(begun, clock::instant(), datagrams, ours);
        Ok(())
    }

    /// Tells the tasks of this thread what happened. True: they shall have a turn before the next one of this driver, which sends.
    fn defer(&mut self) -> bool {
        let Some(told) = self.tasks_first else {
            return false;
        };
        if !told {
            let now = clock::now();
            while let Some((handle, event)) = self.engine.poll_event(now) {
                self.tell(now, handle, event);
            }
        }
        let defer = !told && self.app.wake();
        self.tasks_first = Some(defer);
        defer
    }

    fn tell(&mut self, now: Now, handle: Handle, event: Event) {
        self.follow(now, handle, &event);
        self.app.on_event(now, &mut self.engine, handle, event);
        self.know_interfaces();
    }

    fn drain(&mut self) {
        for _ in 0..MAX_DRAINS {
            let now = clock::now();
            if !self.drain_once(now) || !self.app.settle(now, &mut self.engine) {
                return;
            }
        }
        // Not at rest: come back at once.
        self.deadline = Some(clock::instant());
    }

    /// Until the engine waits. False when the kernel takes no more.
    fn drain_once(&mut self, now: Now) -> bool {
        loop {
            match self.effort.poll(&mut self.engine, now, &mut self.batch) {
                Output::Transmit(route) => {
                    if let Some(local) = carried(route) {
                        self.carry(local, route.remote);
                    } else if self.io.send(route, &mut self.batch) == Sent::Blocked {
                        self.blocked = Some(route);
                        return false;
                    }
                    self.batch.clear();
                }
                Output::Event(handle, event) => self.tell(now, handle, event),
                Output::Wait(deadline) => {
                    self.deadline = deadline.map(|(at, _)| at);
                    return true;
                }
            }
        }
    }

    /// Sends the batch by a carrier. Nothing waits for that: a carrier that is gone, or full, loses packets as a network does.
    fn carry(&mut self, local: IpAddr, to: SocketAddr) {
        if let Some(attached) = self.shared.carriers.get(local)
            && let Some(width) = attached.carry(to, &self.batch)
        {
            self.engine.set_width(local, width);
        }
    }

    /// Before a path from another address of this machine says its first word.
    fn know_interfaces(&mut self) {
        if self.app.takes_interfaces() {
            self.io.learn_interfaces();
        }
    }

    /// Connections that came to us get lanes once they have lived for a while, where their peers are at present.
    fn follow(&mut self, now: Now, handle: Handle, event: &Event) {
        match event {
            Event::Connected(info) if !matches!(info.peer, Peer::Relay(_)) => {
                self.newcomers.add(now.instant, handle);
            }
            Event::PathChanged { .. } if self.io.close_lane(handle) => self.open_lane(now, handle),
            Event::Closed(_) => {
                self.io.close_lane(handle);
            }
            _ => {}
        }
    }

    fn open_lane(&mut self, now: Now, handle: Handle) {
        let connection = self.engine.connection(handle);
        let route = connection
            .filter(|connection| !connection.is_closed())
            .map(|connection| connection.route());
        if let Some(route) = route.filter(|route| carried(*route).is_none()) {
            self.io.open_lane(now, handle, route);
        }
    }

    /// Zero: do not sleep. From here on a handle that posts a mark rings.
    fn time_to_sleep(&mut self, now: Instant) -> Duration {
        if self.blocked.is_some() {
            // Write readiness comes with an event; if it is lost, ask again.
            return Duration::from_millis(10);
        }
        let rest = self.strangers.rest(now).filter(|_| self.io.has_input());
        let input = self.io.has_lane_input() || (self.io.has_input() && rest.is_none());
        if input || !self.shared.mailbox.try_sleep() {
            return Duration::ZERO;
        }
        let next = self
            .deadline
            .into_iter()
            .chain(self.app.deadline())
            .chain(self.stock.deadline())
            .chain(rest)
            .min();
        let until = next.map_or(LONGEST_SLEEP, |at| at.saturating_duration_since(now));
        until.min(LONGEST_SLEEP)
    }
}

impl<I: Io> Guest for Driver<I> {
    fn turn(&mut self) -> Result<Turn> {
        if self.flush_blocked() {
            self.feed()?;
        }
        if self.blocked.is_none() {
            if self.defer() {
                return Ok(Turn::Sleep(Some(Duration::ZERO)));
            }
            self.drain();
        }
        self.app.publish(&self.engine, self.io.caps());
        if self.app.is_over() && self.blocked.is_none() {
            return Ok(Turn::Over);
        }
        let now = clock::instant();
        let limit = self.time_to_sleep(now);
        // While it may not be read, the common socket shall not wake us with each datagram of a flood.
        let rests = self.io.has_input() && self.strangers.rest(now).is_some();
        self.io.listen(!rests)?;
        self.io.set_alarm(now, limit).map(Turn::Sleep)
    }

    fn on_ready(&mut self, event: &::mio::event::Event) {
        self.io.on_ready(event);
    }
}

impl<I: Io> Drop for Driver<I> {
    /// Also after a panic: handles learn that nobody answers.
    fn drop(&mut self) {
        self.app.end();
    }
}
