//! Between the engine and the handles: one table of connections, one match over the engine's events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::command::{Mark, Marked};
use super::link::Link;
use super::roam;
use super::shared::{
    Change, ConnectReply, ConnectionShared, ConnectionState, DatagramOutcome, DatagramState, EndpointQuery,
    EndpointShared, MAX_WAITING, Page, lock,
};
use super::streams::Outbox;
use crate::config::TransportOptions;
use crate::engine::net::Caps;
use crate::engine::{CloseReason, Connection, Endpoint, Event, Handle, Info, Now, StartError, StreamEvent};
use crate::error::{ConnectError, ConnectionError};
use crate::paths::PathChange;
use crate::sessions::SessionInfo;

/// Connections told of at once: well under a millisecond.
const PAGE: usize = 256;

/// The driver's side of all handles.
pub(crate) struct App {
    shared: Arc<EndpointShared>,
    options: TransportOptions,
    /// Boxed, for the leaves of such a tree are half empty.
    links: BTreeMap<u64, Box<Link>>,
    by_handle: BTreeMap<Handle, u64>,
    /// Those that wait for a queue or the clock: each turn looks at them, and at no idle one.
    waiting: BTreeSet<u64>,
    /// Handshakes we started.
    connecting: Vec<(Handle, Arc<ConnectReply>)>,
    next_id: u64,
    /// Ids of other workers lie between.
    id_step: u64,
    closed: bool,
    pub(crate) out: Outbox,
}

impl App {
    /// Of worker `number` of `workers`.
    pub(crate) fn new(
        shared: Arc<EndpointShared>,
        options: TransportOptions,
        (number, workers): (usize, usize),
    ) -> Self {
        let out = Outbox {
            carriers: Arc::clone(&shared.carriers),
            ..Outbox::default()
        };
        Self {
            shared,
            options,
            links: BTreeMap::new(),
            by_handle: BTreeMap::new(),
            waiting: BTreeSet::new(),
            connecting: Vec::new(),
            next_id: number as u64,
            id_step: workers as u64,
            closed: false,
            out,
        }
    }

    /// Whether the socket must know this machine's interfaces now; asking takes it.
    pub(crate) fn takes_interfaces(&mut self) -> bool {
        std::mem::take(&mut self.out.interfaces)
    }

    /// No connection, and nobody who could make one.
    pub(crate) fn is_over(&self) -> bool {
        self.is_empty() && {
            let state = lock(&self.shared.state);
            state.unreferenced && state.connects.is_empty()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty() && self.connecting.is_empty()
    }

    // ---- handles → engine ------------------------------------------------------------------------------------------

    /// Does what one mark says.
    pub(crate) fn feed(&mut self, now: Now, engine: &mut Endpoint, mark: Mark) {
        match mark {
            Mark::Endpoint => {
                self.shared.marked.clear();
                self.feed_endpoint(now, engine);
            }
            Mark::Connection(shared) => {
                shared.marked.clear();
                self.with(engine, shared.id, |link, engine, out| link.feed(now, engine, out));
            }
            Mark::Send(shared) => {
                shared.marked.clear();
                let id = shared.id;
                self.with(engine, shared.connection, |link, engine, out| {
                    link.streams.pump_send(engine, id, out);
                });
            }
            Mark::Recv(shared) => {
                shared.marked.clear();
                let id = shared.id;
                self.with(engine, shared.connection, |link, engine, out| {
                    link.streams.pump_recv(engine, id, out);
                });
            }
            // The driver looks by itself.
            Mark::Forwarded | Mark::Carried(_) => {}
        }
    }

    fn with(
        &mut self,
        engine: &mut Endpoint,
        id: u64,
        act: impl FnOnce(&mut Link, &mut Connection, &mut Outbox),
    ) {
        if let Some(link) = self.links.get_mut(&id)
            && let Some(engine) = engine.connection(link.handle)
        {
            act(link, engine, &mut self.out);
            if link.is_waiting() {
                self.waiting.insert(id);
            }
        }
    }

    fn feed_endpoint(&mut self, now: Now, engine: &mut Endpoint) {
        let (connects, refuse_new, changes, queries, close, unreferenced) = {
            let mut state = lock(&self.shared.state);
            (
                std::mem::take(&mut state.connects),
                state.refuse_new.take(),
                std::mem::take(&mut state.changes),
                std::mem::take(&mut state.queries),
                state.close.take(),
                state.unreferenced,
            )
        };
        if let Some(on) = refuse_new {
            engine.refuse_new(on || self.closed);
        }
        for change in changes {
            apply(now, engine, change);
        }
        for query in queries {
            self.answer(now, engine, query);
        }
        for (target, reply) in connects {
            if target
                .local
                .is_some_and(|local| self.shared.carriers.get(local).is_none())
            {
                // It was detached meanwhile.
                drop(reply.put(Err(ConnectError::NoCarrier)));
                continue;
            }
            match engine.connect(now, *target) {
                Ok(handle) => self.begin(now, engine, handle, reply),
                Err(error) => drop(reply.put(Err(start_error(error)))),
            }
        }
        self.give_up_abandoned(now, engine);
        if unreferenced || close.is_some() {
            self.stop_accepting(now, engine);
        }
        if let Some((code, reason)) = close {
            engine.close_all(now, code, &reason);
        }
    }

    /// A handshake is under way. Where a ticket allows early data its connection can be used at once.
    fn begin(&mut self, now: Now, engine: &mut Endpoint, handle: Handle, reply: Arc<ConnectReply>) {
        let Some(connection) = engine.connection(handle) else {
            return self.connecting.push((handle, reply));
        };
        let shared = self.share(connection);
        if reply.put(Ok(Arc::clone(&shared))).is_ok() {
            self.seat(handle, shared, connection);
        } else {
            engine.cancel(now, handle);
        }
    }

    fn answer(&self, now: Now, engine: &Endpoint, query: EndpointQuery) {
        // An abandoned answer is nobody's.
        match query {
            EndpointQuery::Usage(reply) => drop(reply.put(Some(engine.usage()))),
            EndpointQuery::Sessions(from, reply) => {
                let page = engine.sessions(now, from, PAGE);
                let sessions = page.sessions.into_iter().filter_map(|info| {
                    // One that was refused before anybody saw it has no number.
                    let id = *self.by_handle.get(&info.handle)?;
                    Some(SessionInfo::new(id, &info))
                });
                let page = Page {
                    sessions: sessions.collect(),
                    next: page.next,
                };
                drop(reply.put(Some(page)));
            }
        }
    }

    /// Handshakes whose `Connecting` was dropped.
    fn give_up_abandoned(&mut self, now: Now, engine: &mut Endpoint) {
        self.connecting.retain(|(handle, reply)| {
            if !reply.is_abandoned() {
                return true;
            }
            engine.cancel(now, *handle);
            false
        });
    }

    fn stop_accepting(&mut self, now: Now, engine: &mut Endpoint) {
        self.closed = true;
        engine.refuse_new(true);
        let unaccepted = {
            let mut state = lock(&self.shared.state);
            state.closed = true;
            state.incoming_waiters.take_into(&mut self.out.wakers);
            std::mem::take(&mut state.incoming)
        };
        for shared in unaccepted {
            if Arc::ptr_eq(&shared.mailbox, &self.shared.mailbox) {
                self.with(engine, shared.id, |_, engine, _| engine.close(now, 0, b""));
            } else {
                // Another worker has it.
                lock(&shared.state)
                    .orders()
                    .close
                    .get_or_insert_with(|| (0, Vec::new()));
                shared.post();
            }
        }
    }

    // ---- engine → handles ------------------------------------------------------------------------------------------

    /// Tells the handles concerned.
    pub(crate) fn on_event(&mut self, now: Now, engine: &mut Endpoint, handle: Handle, event: Event) {
        match event {
            Event::Connected(info) => self.on_connected(now, engine, handle, info),
            Event::Closed(reason) => self.on_closed(engine, handle, reason),
            Event::DatagramReceived(data) => {
                if let Some(link) = link_of(&self.by_handle, &mut self.links, handle) {
                    link.receive_datagram(data, &mut self.out);
                }
            }
            Event::Ticket(ticket) => {
                if let Some(link) = link_of(&self.by_handle, &mut self.links, handle) {
                    link.receive_ticket(ticket, &mut self.out);
                }
            }
            Event::Bundle(bundle) => {
                if let Some(link) = link_of(&self.by_handle, &mut self.links, handle) {
                    link.receive_bundle(bundle, &mut self.out);
                }
            }
            other => {
                let Some(link) = link_of(&self.by_handle, &mut self.links, handle) else {
                    return;
                };
                let Some(engine) = engine.connection(handle) else {
                    return;
                };
                match other {
                    Event::Stream(event) => on_stream_event(now, link, engine, event, &mut self.out),
                    Event::PathStateChanged { path, state, reason } => {
                        link.publish_size(engine, &mut self.out);
                        let change = PathChange { path, state, reason };
                        roam::on_change(now, change, &self.options.failover, link, engine, &mut self.out);
                    }
                    Event::AddressObserved { .. } => link.observe(engine, &mut self.out),
                    // The path changed, or its size.
                    _ => link.publish_size(engine, &mut self.out),
                }
                if link.is_waiting() {
                    self.waiting.insert(link.shared.id);
                }
            }
        }
    }

    fn on_connected(&mut self, now: Now, engine: &mut Endpoint, handle: Handle, info: Info) {
        let Some(connection) = engine.connection(handle) else {
            return;
        };
        if let Some(link) = link_of(&self.by_handle, &mut self.links, handle) {
            // It was used before.
            link.publish_size(connection, &mut self.out);
            return link.connected(info, &mut self.out);
        }
        let asked = self.connecting.iter().position(|(known, _)| *known == handle);
        let reply = asked.map(|index| self.connecting.swap_remove(index).1);
        let shared = self.share(connection);
        lock(&shared.state).info = Some(info);
        let taken = match reply {
            Some(reply) => reply.put(Ok(Arc::clone(&shared))).is_ok(),
            None => self.offer(Arc::clone(&shared)),
        };
        if !taken {
            connection.close(now, 0, b"");
            return;
        }
        self.seat(handle, shared, connection);
    }

    fn seat(&mut self, handle: Handle, shared: Arc<ConnectionShared>, connection: &Connection) {
        let id = shared.id;
        let link = Link::new(handle, shared);
        link.publish_size(connection, &mut self.out);
        self.by_handle.insert(handle, id);
        self.links.insert(id, Box::new(link));
    }

    fn share(&mut self, connection: &Connection) -> Arc<ConnectionShared> {
        self.next_id += self.id_step;
        Arc::new(ConnectionShared {
            id: self.next_id,
            driver: std::thread::current().id(),
            peer: connection.peer(),
            suite: connection.suite(),
            policy: self.options.datagram_policy,
            queue_bytes: self.options.limits.datagram_queue_bytes,
            flow_queue_bytes: self.options.limits.flow_queue_bytes,
            mailbox: Arc::clone(&self.shared.mailbox),
            marked: Marked::default(),
            remote: Mutex::new(connection.remote()),
            max_datagram: AtomicUsize::new(connection.max_datagram()),
            state: Mutex::new(ConnectionState::default()),
            datagrams: Mutex::new(DatagramState::default()),
        })
    }

    /// To whoever accepts. False: the queue is full, or nobody will.
    fn offer(&mut self, shared: Arc<ConnectionShared>) -> bool {
        let mut state = lock(&self.shared.lead().state);
        if state.closed || state.unreferenced || state.incoming.len() >= MAX_WAITING {
            return false;
        }
        state.incoming.push_back(shared);
        state.incoming_waiters.take_into(&mut self.out.wakers);
        true
    }

    fn on_closed(&mut self, engine: &mut Endpoint, handle: Handle, reason: CloseReason) {
        if let Some(index) = self.connecting.iter().position(|(known, _)| *known == handle) {
            let (_, reply) = self.connecting.swap_remove(index);
            // Nobody need wait for it.
            let _ = reply.put(Err(ConnectError::Handshake(reason)));
            return;
        }
        let Some(link) = self
            .by_handle
            .remove(&handle)
            .and_then(|id| self.links.remove(&id))
        else {
            return;
        };
        link.end(
            engine.connection(handle),
            &ConnectionError::Closed(reason),
            &mut self.out,
        );
    }

    // ---- after a drain ---------------------------------------------------------------------------------------------

    /// Lets those go on who wait for the queue or the clock. True: drain again.
    pub(crate) fn settle(&mut self, now: Now, engine: &mut Endpoint) -> bool {
        let mut changed = false;
        let (links, out) = (&mut self.links, &mut self.out);
        self.waiting.retain(|id| {
            let Some(link) = links.get_mut(id).filter(|link| link.is_waiting()) else {
                return false;
            };
            if let Some(engine) = engine.connection(link.handle) {
                changed |= link.settle(now, engine, out);
            }
            true
        });
        changed
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().filter_map(|id| self.links.get(id));
        waiting.filter_map(|link| link.deadline()).min()
    }

    /// Publishes figures and wakes everybody who was told something.
    pub(crate) fn publish(&mut self, engine: &Endpoint, caps: Caps) {
        {
            let mut state = lock(&self.shared.state);
            state.stats = engine.stats();
            state.caps = caps;
            state.idle = self.links.is_empty() && self.connecting.is_empty();
            if state.idle && state.connects.is_empty() && state.close.is_none() {
                state.idle_waiters.take_into(&mut self.out.wakers);
            }
        }
        self.wake();
    }

    /// Wakes everybody who was told something. False: nobody was.
    pub(crate) fn wake(&mut self) -> bool {
        let any = !self.out.wakers.is_empty();
        for waker in self.out.wakers.drain(..) {
            waker.wake();
        }
        any
    }

    /// The driver ends, in order or not: nobody may wait for it any longer.
    pub(crate) fn end(&mut self) {
        self.shared.mailbox.end();
        self.shared.carriers.end();
        let (connects, queries) = {
            let mut state = lock(&self.shared.state);
            state.closed = true;
            state.ended = true;
            state.idle = true;
            state.changes.clear();
            state.incoming.clear();
            state.close = None;
            state.incoming_waiters.take_into(&mut self.out.wakers);
            state.idle_waiters.take_into(&mut self.out.wakers);
            (
                std::mem::take(&mut state.connects),
                std::mem::take(&mut state.queries),
            )
        };
        for query in queries {
            match query {
                EndpointQuery::Sessions(_, reply) => drop(reply.put(None)),
                EndpointQuery::Usage(reply) => drop(reply.put(None)),
            }
        }
        let replies = connects.into_iter().map(|(_, reply)| reply);
        for reply in replies.chain(self.connecting.drain(..).map(|(_, reply)| reply)) {
            // Nobody need wait for it.
            let _ = reply.put(Err(ConnectError::EndpointClosed));
        }
        for link in std::mem::take(&mut self.links).into_values() {
            link.end(None, &ConnectionError::EndpointClosed, &mut self.out);
        }
        self.wake();
    }
}

fn apply(now: Now, engine: &mut Endpoint, change: Change) {
    match change {
        Change::Access(access) => engine.replace_access(now, access),
        Change::Revoke(clients) => engine.revoke(now, &clients),
        Change::AddressLost(local) => engine.lose_address(now, local),
        Change::TicketKeys(keys) => {
            if let Some(keys) = lock(&keys).take() {
                engine.install_ticket_keys(keys);
            }
        }
        Change::Epochs(epochs, bundle) => {
            // Checked when it was asked for.
            if let Err(error) = engine.replace_epochs(now, epochs, bundle) {
                tracing::error!(target: "adit::driver", %error, "the epochs stay as they are");
            }
        }
    }
}

fn link_of<'a>(
    by_handle: &BTreeMap<Handle, u64>,
    links: &'a mut BTreeMap<u64, Box<Link>>,
    handle: Handle,
) -> Option<&'a mut Link> {
    by_handle
        .get(&handle)
        .and_then(|id| links.get_mut(id))
        .map(|link| &mut **link)
}

fn on_stream_event(now: Now, link: &mut Link, engine: &mut Connection, event: StreamEvent, out: &mut Outbox) {
    match event {
        StreamEvent::StreamOpened { .. } => link.accept_streams(engine, out),
        StreamEvent::Readable { id } => link.streams.pump_recv(engine, id, out),
        StreamEvent::Writable { id } => link.streams.pump_send(engine, id, out),
        StreamEvent::StreamFinished { id } => link.streams.acknowledged(id, out),
        StreamEvent::StreamStopped { id, code } => link.streams.stopped(id, code, out),
        StreamEvent::StreamReset { id, code } => link.streams.reset(id, code, out),
        StreamEvent::StreamsAvailable { direction } => link.open_waiting(engine, direction),
        StreamEvent::DatagramsWritable => {
            link.send_datagrams(now, engine, out);
        }
        StreamEvent::DatagramAcked { id } => link.datagram_settled(id, DatagramOutcome::Acked, out),
        StreamEvent::DatagramLost { id } => link.datagram_settled(id, DatagramOutcome::Lost, out),
        StreamEvent::DatagramExpired { id } => link.datagram_settled(id, DatagramOutcome::Expired, out),
        StreamEvent::DatagramDropped { id, why } => {
            link.datagram_settled(id, DatagramOutcome::Dropped(why), out);
        }
        _ => {}
    }
}

fn start_error(error: StartError) -> ConnectError {
    match error {
        StartError::Bundle(error) => ConnectError::Bundle(error),
        StartError::TooManyConnections | StartError::TooManyRelays => ConnectError::Busy,
        StartError::LabelTooLong => {
            ConnectError::InvalidOption("the application label is longer than 64 bytes")
        }
        _ => ConnectError::FirstMessage,
    }
}
