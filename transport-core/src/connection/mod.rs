//! One connection: keys, path and streams under one roof. Each component keeps its own state and gets its own inputs; how
//! they work together stands in `receive` (the way in), `transmit` (the way out) and `timeout`.
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

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_crypto::{Bundle, CidMasks, ClientId, Direction as Way, RelayId, Session, Suite};
use transport_reliability::Algorithm;
use transport_scheduler::{
    Blocks, Class, DatagramError, DatagramId, DatagramOptions, Direction, QueueState, Read, ReadError,
    Scheduler, Side, Spares, StreamId, StreamsExhausted, WriteError,
};

use crate::buffer::Route;
use crate::config::{Now, TransportConfig};
use crate::error::{Breach, CloseReason, code};
use crate::path::{PathId, PathReason, PathState};
use crate::random::Random;
use crate::timer::{Timer, Timers};
use crate::wire::{ConnectionId, TransportParameters};

mod agree;
mod alone;
mod close;
mod content;
mod control;
mod deliver;
mod dispatch;
mod early;
mod ids;
mod inbox;
mod keys;
mod multipath;
mod observe;
mod path;
mod punch;
mod receive;
mod rhythm;
mod roam;
mod state;
mod stats;
mod tickets;
mod timeout;
mod transmit;

pub(crate) use agree::announce;
pub(crate) use early::{Confirmation, EarlyPacket};
pub(crate) use ids::{CID_LIMIT, Change};
pub use path::mtu::FLOOR;
pub(crate) use path::set::MAX_PATHS;

pub use roam::{PathError, PathInfo};
pub use stats::ConnectionStats;
pub(crate) use tickets::Issued;
pub use tickets::Ticket;

use agree::{idle_timeout, max_path_id, mtu, observing, peer_limits, punch, recovery_config};
use close::Closing;
use control::Control;
use ids::Ids;
use inbox::Inbox;
use keys::{KeyLimits, Keys};
use observe::Observing;
use path::{Paths, set::Template};
use punch::Punch;
use rhythm::Rhythm;
use state::State;
use stats::Counters;
use tickets::Tickets;

/// The delay we promise for our ACKs, microseconds: what `transport_reliability` keeps.
pub(crate) const MAX_ACK_DELAY_US: u64 = 25_000;
/// The shortest delay a peer may ask us to keep, microseconds.
pub(crate) const MIN_ACK_DELAY_US: u64 = 1000;

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// The relay with this identity.
    Relay(RelayId),
    /// An enrolled client.
    Client(ClientId),
    /// A client with a throw-away key.
    Anonymous,
}

/// What the handshake brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Who is at the other end.
    pub peer: Peer,
    /// The packet cipher.
    pub suite: Suite,
    /// From the first datagram of the handshake to the end of it, as this end saw it.
    pub handshake: Duration,
    /// The client came back with a ticket.
    pub resumed: bool,
    /// Whether the relay took the data that came along with the first flight; `None`: there was none.
    pub early_accepted: Option<bool>,
}

/// Something the application should know.
#[derive(PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The connection stands; the first event.
    Connected(Info),
    /// About a stream, or a datagram message that was sent.
    Stream(transport_scheduler::Event),
    /// A datagram message arrived.
    DatagramReceived(Vec<u8>),
    /// The peer moved to another address.
    PathChanged {
        /// Where it is now.
        remote: SocketAddr,
    },
    /// A path was opened, works, is suspect, or is over.
    PathStateChanged {
        /// Which.
        path: PathId,
        /// How it stands now.
        state: PathState,
        /// Why.
        reason: PathReason,
    },
    /// The peer sees this end at another address than before, on one of the paths: the newest of what it said.
    AddressObserved {
        /// Which path.
        path: PathId,
        /// The address.
        address: SocketAddr,
    },
    /// Datagram messages may have another length now.
    MtuChanged {
        /// The longest that fits, in bytes.
        max_datagram: usize,
    },
    /// The relay gave a ticket to come back with. Each may be used once: keep it, and drop it when it is used.
    Ticket(Ticket),
    /// At a client: the relay's next bundle. Its signatures are good, it is the same relay's, valid now and of a higher
    /// epoch than any before; keep it and connect with it from now on.
    Bundle(Bundle),
    /// The connection is over; the last event.
    Closed(CloseReason),
}

/// What a finished handshake hands over to the connection it made.
pub(crate) struct Established {
    pub(crate) side: Side,
    pub(crate) info: Info,
    pub(crate) session: Session,
    pub(crate) cids: Arc<CidMasks>,
    pub(crate) route: Route,
    /// Ids that lead to us, and those that lead to the peer.
    pub(crate) ours: Vec<ConnectionId>,
    pub(crate) theirs: Vec<ConnectionId>,
    pub(crate) params: TransportParameters,
    /// A round trip the handshake measured.
    pub(crate) rtt: Option<Duration>,
    /// Tickets owed to a client once it is confirmed.
    pub(crate) tickets: u8,
    /// The client has shown that it has the keys.
    pub(crate) confirmed: bool,
    /// The epoch of the bundle the client used.
    pub(crate) epoch: u64,
    /// It took small datagrams.
    pub(crate) narrow: bool,
}

/// What stays as it is.
struct Settings {
    side: Side,
    info: Info,
    since: Instant,
    transport: Arc<TransportConfig>,
    /// The smaller of both idle timeouts; none for never.
    idle: Option<Duration>,
    /// The longest datagram message the peer takes.
    peer_max_datagram: usize,
}

/// Frames of the connection itself that wait to be sent.
struct Pending {
    handshake_done: bool,
    tickets: Tickets,
    control: Control,
    rhythm: Rhythm,
    /// What is told of addresses, and direct paths; nothing unless both ends want it.
    observing: Option<Box<Observing>>,
    punch: Option<Box<Punch>>,
}

/// One connection. What is called here takes effect with the next [`crate::Endpoint::poll`].
pub struct Connection {
    state: State,
    /// None before the relay has answered: only early data is said, and the dial seals it.
    keys: Option<Keys>,
    paths: Paths,
    scheduler: Scheduler,
    ids: Ids,
    timers: Timers,
    closing: Closing,
    inbox: Inbox,
    pending: Pending,
    counters: Counters,
    settings: Settings,
    random: Random,
}

impl Connection {
    pub(crate) fn new(now: Now, made: Established, transport: Arc<TransportConfig>, random: Random) -> Self {
        let mut connection = Self::bare(
            now,
            made.side,
            made.info,
            made.route,
            &made.params,
            transport,
            random,
        );
        connection.adopt(now, made);
        connection
    }

    /// A connection that has no keys.
    fn bare(
        now: Now,
        side: Side,
        info: Info,
        route: Route,
        params: &TransportParameters,
        transport: Arc<TransportConfig>,
        mut random: Random,
    ) -> Self {
        let template = Template {
            config: recovery_config(&transport, params, &mut random),
            mtu: mtu(&transport, params),
        };
        let paths = Paths::new(route, template);
        let mut scheduler = Scheduler::new(side, Arc::clone(&transport.limits));
        scheduler.limits(peer_limits(params));
        scheduler.set_max_datagram(paths.active.max_datagram());
        Self {
            state: State::Unconfirmed,
            keys: None,
            paths,
            scheduler,
            ids: Ids::new(&[], &[], 0),
            timers: Timers::default(),
            closing: Closing::default(),
            inbox: Inbox::new(transport.datagram_receive_bytes),
            pending: Pending {
                handshake_done: false,
                tickets: Tickets::default(),
                control: Control::new(0),
                rhythm: Rhythm::default(),
                observing: None,
                punch: None,
            },
            counters: Counters::default(),
            settings: Settings {
                side,
                info,
                since: now.instant,
                idle: idle_timeout(transport.idle_timeout, params.idle_timeout_ms),
                peer_max_datagram: usize::try_from(params.max_datagram).unwrap_or(usize::MAX),
                transport,
            },
            random,
        }
    }

    /// What the handshake brought: keys, ids and the peer's parameters. The scheduler has got its limits.
    fn adopt(&mut self, now: Now, made: Established) {
        let params = &made.params;
        let outgoing = match made.side {
            Side::Client => Way::ClientToServer,
            Side::Server => Way::ServerToClient,
        };
        self.ids = Ids::new(&made.ours, &made.theirs, params.cid_limit);
        self.paths.active.mtu = mtu(&self.settings.transport, params);
        self.paths.template.mtu = self.paths.active.mtu.clone();
        if made.narrow {
            self.paths.active.mtu.start_low();
            self.paths.active.recovery.set_max_datagram(FLOOR);
        }
        self.scheduler.set_max_datagram(self.paths.active.max_datagram());
        let delay = Duration::from_micros(params.max_ack_delay_us);
        self.paths.template.config.peer_max_ack_delay = delay;
        let theirs = u32::try_from(params.initial_max_path_id).unwrap_or(u32::MAX);
        self.paths
            .negotiate(max_path_id(&self.settings.transport), theirs);
        let (alive, peer_max) = self.paths.usable();
        self.ids.set_paths(alive, peer_max);
        self.pending.observing = observing(&self.settings.transport, params);
        let several = self.paths.is_multipath();
        self.pending.punch = punch(&self.settings.transport, params, made.side).filter(|_| several);
        self.paths.active.recovery.set_peer_max_ack_delay(delay);
        if let Some(sample) = made.rtt {
            self.paths.active.recovery.seed_rtt(sample);
        }
        self.measure();
        self.settings.info = made.info;
        self.settings.idle = idle_timeout(self.settings.transport.idle_timeout, params.idle_timeout_ms);
        self.settings.peer_max_datagram = usize::try_from(params.max_datagram).unwrap_or(usize::MAX);
        self.settings.since = now.instant;
        self.pending.tickets = Tickets::new(made.tickets, made.side, params);
        self.pending.control = Control::new(made.epoch);
        self.pending.rhythm = Rhythm::new(params.min_ack_delay_us);
        let least = self.pending.rhythm.least();
        self.paths.active.recovery.set_peer_min_ack_delay(least);
        let limits = KeyLimits::of(&self.settings.transport);
        self.keys = Some(Keys::new(
            made.session,
            made.cids,
            outgoing,
            limits,
            now.instant,
            &mut self.random,
        ));
        self.inbox.push(Event::Connected(made.info));
        self.start(now.instant, made.confirmed);
    }

    /// A client must speak at once, for the relay waits for its first packet; a relay says that it has come.
    fn start(&mut self, now: Instant, confirmed: bool) {
        match self.settings.side {
            Side::Client => self.paths.active.ping = true,
            Side::Server if confirmed => {
                self.state.confirm();
                self.welcome();
            }
            Side::Server => self.start_unproved(now),
        }
        self.restart_idle(now);
    }

    /// A relay's client is there.
    fn welcome(&mut self) {
        self.pending.handshake_done = true;
        self.pending.tickets.on_confirmed();
        self.ids.issue(&mut self.random);
    }

    // --- application face: streams and datagrams, as the scheduler has them ---

    /// Opens a stream.
    pub fn open(&mut self, direction: Direction) -> Result<StreamId, StreamsExhausted> {
        self.scheduler.open(direction)
    }

    /// The next stream the peer opened.
    pub fn accept(&mut self, direction: Direction) -> Option<StreamId> {
        self.scheduler.accept(direction)
    }

    /// Takes bytes to be sent; how many.
    pub fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        self.scheduler.write(id, data)
    }

    /// Takes bytes to be sent off the front of a queue, in whole blocks without a copy; how many.
    pub fn write_blocks(&mut self, id: StreamId, data: &mut Blocks) -> Result<usize, WriteError> {
        self.scheduler.write_blocks(id, data)
    }

    /// Bytes a write would take now.
    pub fn writable(&self, id: StreamId) -> usize {
        self.scheduler.writable(id)
    }

    /// Nothing will be written any more.
    pub fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        self.scheduler.finish(id)
    }

    /// Gives up sending, with a code for the peer's application.
    pub fn reset(&mut self, id: StreamId, code: u64) -> Result<(), WriteError> {
        self.scheduler.reset(id, code)
    }

    /// Bytes that arrived.
    pub fn read(&mut self, id: StreamId, out: &mut [u8]) -> Result<Read, ReadError> {
        self.scheduler.read(id, out)
    }

    /// Bytes that arrived, at most `max`, to the end of a queue, in whole blocks without a copy.
    pub fn read_blocks(&mut self, id: StreamId, out: &mut Blocks, max: usize) -> Result<Read, ReadError> {
        self.scheduler.read_blocks(id, out, max)
    }

    /// Takes the spent blocks out of a queue that will not be filled again.
    pub fn recycle(&mut self, spent: &mut Blocks) {
        self.scheduler.recycle(spent);
    }

    /// Gives up reading, with a code for the peer's application.
    pub fn stop(&mut self, id: StreamId, code: u64) -> Result<(), ReadError> {
        self.scheduler.stop(id, code)
    }

    /// Which streams go first.
    pub fn set_class(&mut self, id: StreamId, class: Class) {
        self.scheduler.set_class(id, class);
    }

    /// Queues a datagram message of at most [`Connection::max_datagram`] bytes; a full queue drops its oldest, or the oldest of the
    /// flow that has most.
    pub fn send_datagram(
        &mut self,
        now: Now,
        data: Vec<u8>,
        options: DatagramOptions,
    ) -> Result<DatagramId, DatagramError> {
        self.scheduler.send_datagram(now.instant, data, options)
    }

    /// Whether `count` datagram messages of `bytes` altogether, with flows or without, may be queued without any being dropped.
    pub fn has_datagram_room(&self, bytes: usize, count: usize, with_flow: bool) -> bool {
        self.scheduler.has_datagram_room(bytes, count, with_flow)
    }

    /// The datagram messages that wait, those with a flow included. Looks at each flow.
    pub fn datagram_queue(&self) -> QueueState {
        self.scheduler.datagram_queue()
    }

    /// The longest datagram message that fits the path now, in bytes; zero: the peer takes none.
    pub fn max_datagram(&self) -> usize {
        self.paths
            .active
            .max_datagram()
            .min(self.settings.peer_max_datagram)
    }

    // --- application face: the connection itself ---

    /// Ends the connection at once, with a code and at most 1000 bytes of reason for the peer's application.
    pub fn close(&mut self, now: Now, code: u64, reason: &[u8]) {
        if self.state.close() {
            self.closing.by_application(code, reason);
            self.begin_end(now.instant);
        }
    }

    /// Asks for new packet keys. False: not possible now, since the peer has not yet shown that it follows.
    pub fn update_keys(&mut self) -> bool {
        self.state == State::Confirmed && self.keys.as_mut().is_some_and(Keys::want_update)
    }

    /// Another congestion controller from now on, which starts from nothing.
    pub fn set_algorithm(&mut self, algorithm: Algorithm) {
        self.paths.template.config.algorithm = algorithm;
        for path in self.paths.iter_mut() {
            path.recovery.set_algorithm(algorithm);
        }
    }

    /// Fills `out` with a secret both ends have, different for each label (the role of RFC 8446 §7.5). False, and `out` as it was,
    /// before [`Event::Connected`].
    pub fn export(&self, label: &[u8], out: &mut [u8]) -> bool {
        let keys = self.keys.as_ref();
        keys.inspect(|keys| keys.exporter.export(label, out)).is_some()
    }

    /// Where the peer is, and the address of ours it speaks to, if known.
    pub fn route(&self) -> Route {
        self.paths.active.route
    }

    /// Where the peer is.
    pub fn remote(&self) -> SocketAddr {
        self.paths.active.route.remote
    }

    /// Whether it is closed, or about to be.
    pub fn is_closed(&self) -> bool {
        !self.state.is_open()
    }

    /// Who the peer is.
    pub fn peer(&self) -> Peer {
        self.settings.info.peer
    }

    /// The packet cipher; before [`Event::Connected`] the one of the ticket's connection.
    pub fn suite(&self) -> Suite {
        self.settings.info.suite
    }

    /// Counters and gauges.
    pub fn stats(&self) -> ConnectionStats {
        stats::collect(
            &self.counters,
            &self.paths,
            self.keys.as_ref(),
            &self.scheduler,
            self.pending.rhythm.requests(),
        )
    }

    /// Allocated bytes, roughly. Walks all streams.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.scheduler.memory()
            + self.pending.control.memory()
            + self.inbox.memory()
            + self
                .paths
                .iter()
                .map(|path| path.recovery.memory())
                .sum::<usize>()
    }

    /// Whether it came by a ticket.
    pub fn is_resumed(&self) -> bool {
        self.settings.info.resumed
    }

    /// Time since the handshake.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.settings.since)
    }

    // --- engine face ---

    /// At a relay: the newest epoch the client knows.
    pub(crate) fn client_epoch(&self) -> Option<u64> {
        let serves = self.settings.side == Side::Server && self.state.is_open();
        serves.then(|| self.pending.control.epoch())
    }

    /// At a relay: the client shall have this bundle of `epoch`. False when it has it, or knows a newer one.
    pub(crate) fn offer_bundle(&mut self, epoch: u64, bytes: Arc<[u8]>) -> bool {
        self.state.is_open() && self.pending.control.offer(epoch, bytes)
    }

    /// The peer may no longer be here.
    pub(crate) fn revoke(&mut self, now: Instant) {
        self.end_for(Breach::new(code::ACCESS_REVOKED, 0), now);
    }

    /// Lends vectors for datagrams while this connection is worked on.
    pub(crate) fn lend(&mut self, spares: &mut Option<Box<Spares>>) {
        self.scheduler.lend(spares.take());
    }

    /// Takes them back, with those of datagrams that were sent.
    pub(crate) fn take_back(&mut self, spares: &mut Option<Box<Spares>>) {
        *spares = self.scheduler.take_back();
    }

    /// The next thing the application should know.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        if self.closing.has_told() {
            return None;
        }
        if let Some(event) = self.inbox.pop() {
            return Some(event);
        }
        if let Some(event) = self.scheduler.poll_event() {
            return Some(Event::Stream(event));
        }
        if let Some(event) = self.take_observed() {
            return Some(event);
        }
        self.closing.take_news().map(Event::Closed)
    }

    /// Nothing is left to do; the connection may go.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Closed
    }

    /// The application knows that it ended.
    pub(crate) fn has_told(&self) -> bool {
        self.closing.has_told()
    }

    /// Ids that lead here.
    pub(crate) fn issued_ids(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.ids.issued()
    }

    /// What the endpoint has to change in its table.
    pub(crate) fn take_id_change(&mut self) -> Option<Change> {
        self.ids.take_change()
    }

    /// From now on only the end is waited for (RFC 9000 §10.2).
    fn begin_end(&mut self, now: Instant) {
        self.timers.clear_all();
        self.timers.set(Timer::CloseDone, now + self.paths.three_pto());
    }

    /// It ends here and now, without a word.
    fn end_silently(&mut self, reason: CloseReason) {
        self.closing.silently(reason);
        self.state.finish();
        self.timers.clear_all();
    }

    /// Something was heard, or asked after a silence: the idle period starts anew (RFC 9000 §10.1).
    fn restart_idle(&mut self, now: Instant) {
        if let Some(idle) = self.settings.idle {
            self.timers
                .set(Timer::Idle, now + idle.max(self.paths.three_pto()));
        }
        if let Some(quiet) = self.settings.transport.keep_alive {
            self.timers.set(Timer::KeepAlive, now + quiet);
        }
    }

    /// The active path carries datagrams of another size.
    fn adopt_mtu(&mut self) {
        self.scheduler.set_max_datagram(self.paths.active.max_datagram());
        self.inbox.push(Event::MtuChanged {
            max_datagram: self.max_datagram(),
        });
    }
}

#[cfg(test)]
mod tests;
