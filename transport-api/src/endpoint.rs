//! Endpoints: one UDP socket and its driver, or one of each for every worker.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use crate::config::{ConnectOptions, EndpointConfig};
use crate::connection::Connection;
use crate::driver;
use crate::driver::carriers::narrow;
use crate::driver::shared::{
    Change, ConnectReply, ConnectionShared, EndpointQuery, EndpointShared, MAX_WAITING, Reply, lock,
};
use crate::engine::net::Caps;
use crate::engine::{
    Access, Bundle, ClientId, Connect, EndpointStats, EpochsError, PATH_FLOOR, Peer, RelayEpoch,
    ServerConfig, TicketKeys, Usage,
};
use crate::error::ConnectError;
use crate::sessions::Sessions;

/// All workers, the one that leads first.
type Workers = Arc<[Arc<EndpointShared>]>;

/// Ends the drivers when the last handle is gone and no connection is left.
#[derive(Debug)]
struct Guard {
    lead: Arc<EndpointShared>,
    workers: Workers,
}

impl Drop for Guard {
    fn drop(&mut self) {
        for shared in &*self.workers {
            lock(&shared.state).unreferenced = true;
            shared.post();
        }
    }
}

/// One UDP socket with its connections. Clones are the same endpoint.
///
/// Dropping the last handle accepts nothing more; connections go on until they end.
#[derive(Clone, Debug)]
pub struct Endpoint {
    guard: Arc<Guard>,
}

impl Endpoint {
    /// Binds the socket and starts the driver thread, or one of each for every [worker](EndpointConfig::workers).
    pub fn bind(config: EndpointConfig) -> io::Result<Endpoint> {
        Self::led(driver::start(config)?.into())
    }

    /// Binds the socket; the driver lives on the loop `on` instead of a thread of its own, and rests while that does not run. What
    /// passes between its tasks and the network then changes no thread, which is what latency and throughput on few cores are
    /// mostly made of.
    ///
    /// Handles may be used from other threads as well. On the loop's own thread the blocking faces must not be: they would wait
    /// for themselves. When the loop is dropped, the endpoint ends.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when several workers are asked for: a loop is one thread. Others as for
    /// [`Endpoint::bind`].
    pub fn bind_on(config: EndpointConfig, on: &crate::local::Handle) -> io::Result<Endpoint> {
        Self::led([driver::start_on(config, on)?].into())
    }

    fn led(workers: Workers) -> io::Result<Endpoint> {
        let lead = workers.first().cloned().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Endpoint {
            guard: Arc::new(Guard { lead, workers }),
        })
    }

    /// The worker that leads: nearly always the only one.
    pub(crate) fn shared(&self) -> &Arc<EndpointShared> {
        &self.guard.lead
    }

    fn workers(&self) -> &Workers {
        &self.guard.workers
    }

    /// The address of the socket.
    pub fn local_addr(&self) -> SocketAddr {
        lock(&self.shared().state).local
    }

    /// Connects to a relay. The handshake starts at once, polled or not.
    ///
    /// Cancel-safe: dropping the future gives the handshake up.
    pub fn connect(&self, options: ConnectOptions) -> Connecting {
        self.begin(options, false)
    }

    /// As [`Endpoint::connect`], but with a [ticket](ConnectOptions::ticket) that allows it the connection is given out at
    /// once: what is marked with [`SendStream::allow_early`](crate::SendStream::allow_early) or
    /// [`DatagramOptions::early`](crate::DatagramOptions) then goes along with the first flight, everything else after the
    /// relay's answer. [`Connection::early_accepted`] waits for that. Without such a ticket it is an ordinary connect. A
    /// connection whose handshake fails ends with the reason of it.
    ///
    /// Early data can be read by a thief of the relay's ticket keys, for the day they last; what follows cannot.
    ///
    /// Cancel-safe: dropping the future gives the handshake up.
    pub fn connect_early(&self, options: ConnectOptions) -> Connecting {
        self.begin(options, true)
    }

    fn begin(&self, options: ConnectOptions, early: bool) -> Connecting {
        let reply = Reply::new();
        if let Err(error) = self.ask(options, early, &reply) {
            // A fresh reply takes its first value.
            let _ = reply.put(Err(error));
        }
        Connecting {
            shared: Arc::clone(self.shared()),
            reply: Some(reply),
        }
    }

    fn ask(
        &self,
        options: ConnectOptions,
        early: bool,
        reply: &Arc<ConnectReply>,
    ) -> Result<(), ConnectError> {
        if self.workers().len() > 1 {
            // What the relay answers might be heard by another worker.
            return Err(ConnectError::InvalidOption(
                "an endpoint with several workers does not connect",
            ));
        }
        let remote = options.address().ok_or(ConnectError::NoAddress)?;
        let width = options.via.map(|local| self.width_of(local)).transpose()?;
        let connect = Connect {
            local: options.via,
            width,
            bundle: options.bundle,
            identity: options.identity,
            grant: options.grant,
            remote,
            app: options.app,
            suite: options.suite,
            resume: options.ticket,
            early,
        };
        {
            let mut state = lock(&self.shared().state);
            if state.closed {
                return Err(ConnectError::EndpointClosed);
            }
            if width.is_none() && state.local.is_ipv4() && !remote.is_ipv4() {
                return Err(ConnectError::AddressFamily);
            }
            if state.connects.len() >= MAX_WAITING {
                return Err(ConnectError::Busy);
            }
            state.connects.push_back((Box::new(connect), Arc::clone(reply)));
        }
        self.shared().post();
        Ok(())
    }

    /// How much leaves by the carrier with this address.
    fn width_of(&self, local: IpAddr) -> Result<u16, ConnectError> {
        let carrier = self.shared().carriers.get(local).ok_or(ConnectError::NoCarrier)?;
        let width = narrow(carrier.width());
        if width < PATH_FLOOR {
            return Err(ConnectError::TooNarrow);
        }
        Ok(width)
    }

    /// Waits for the next connection a client has made. `None` once the endpoint is closed.
    ///
    /// Cancel-safe.
    pub fn accept(&self) -> Accept {
        Accept {
            shared: Arc::clone(self.shared()),
        }
    }

    /// Closes every connection with `code` and `reason`, and takes no more. The first call counts.
    pub fn close(&self, code: u64, reason: &[u8]) {
        for shared in &**self.workers() {
            {
                let mut state = lock(&shared.state);
                state.close.get_or_insert_with(|| (code, reason.to_vec()));
                state.closed = true;
            }
            shared.post();
        }
    }

    /// Waits until no connection is left and the last packets are on their way. Call it between `close` and the end of
    /// the program, or peers must find out by themselves.
    ///
    /// Cancel-safe.
    pub fn wait_idle(&self) -> WaitIdle {
        WaitIdle {
            workers: Arc::clone(self.workers()),
        }
    }

    /// Figures of this endpoint, at most about 10 ms old; those of several workers together.
    pub fn stats(&self) -> EndpointStats {
        let mut each = self.workers().iter().map(|one| lock(&one.state).stats.clone());
        let mut sum = each.next().unwrap_or_default();
        each.for_each(|stats| sum.add(&stats));
        sum
    }

    /// How many [workers](EndpointConfig::workers) there are.
    pub fn worker_count(&self) -> usize {
        self.workers().len()
    }

    /// What the kernel offers on this endpoint's socket, at most about 10 ms old: GSO may end at run time.
    pub fn socket_caps(&self) -> Caps {
        lock(&self.shared().state).caps
    }

    /// Whether new handshakes are refused; existing connections are not touched.
    pub fn refuse_new(&self, on: bool) {
        for shared in &**self.workers() {
            lock(&shared.state).refuse_new = Some(on);
            shared.post();
        }
    }

    /// Changes who gets a connection. Connections of those it shuts out end at once with
    /// [`code::ACCESS_REVOKED`](crate::code::ACCESS_REVOKED), at both ends, and so do half-open handshakes; resumption tickets
    /// are held against the new rule when they are used. Takes effect in a moment; other connections are not touched.
    pub fn replace_access(&self, access: Access) {
        self.change(&Change::Access(access));
    }

    /// Shuts these clients out, as [`Endpoint::replace_access`] with a rule without them would. Under [`Access::Open`] their
    /// enrolled identities are refused from now on; that they come back without one cannot be prevented there.
    pub fn revoke(&self, clients: &[ClientId]) {
        self.change(&Change::Revoke(clients.to_vec()));
    }

    /// As a relay: makes and opens tickets with these keys from now on. They do not change by themselves any more: relays that
    /// share them change them together, and have different [replay domains](crate::TicketOptions::replay_domain).
    pub fn install_ticket_keys(&self, keys: TicketKeys) {
        self.change(&Change::TicketKeys(Arc::new(Mutex::new(Some(keys)))));
    }

    /// As a relay: serves these epochs from now on, and no others; each until the end of its bundle. A relay that rotates
    /// lists the new epoch and the one before. `bundle`, the newest, is sent in-band to clients that come by an older epoch,
    /// and to those connected now (3,200 of them a second). Connections stay, whatever becomes of the epoch they came by.
    pub fn replace_epochs(&self, epochs: Vec<RelayEpoch>, bundle: Option<Bundle>) -> Result<(), EpochsError> {
        let relay_id = lock(&self.shared().state)
            .relay_id
            .ok_or(EpochsError::NotARelay)?;
        ServerConfig::check(relay_id, &epochs, bundle.as_ref())?;
        self.change(&Change::Epochs(epochs, bundle));
        Ok(())
    }

    fn change(&self, change: &Change) {
        for shared in &**self.workers() {
            {
                let mut state = lock(&shared.state);
                if state.ended {
                    continue;
                }
                state.changes.push(change.clone());
            }
            shared.post();
        }
    }

    /// A walk through the connections, for lists of who is there. The driver answers a page at a time.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(Arc::clone(self.workers()))
    }

    /// What is bounded at this endpoint, how full it is, and its bounds, those of several workers together; `None` once the
    /// endpoint has ended.
    ///
    /// Cancel-safe.
    pub fn usage(&self) -> impl Future<Output = Option<Vec<Usage>>> + Send + use<> {
        let ask = |shared: &Arc<EndpointShared>| {
            let reply = Reply::new();
            let asked = shared.ask(EndpointQuery::Usage(Arc::clone(&reply)));
            asked.then_some(reply)
        };
        let mut asked: Vec<_> = self.workers().iter().filter_map(ask).collect();
        let mut sum: Option<Vec<Usage>> = None;
        std::future::poll_fn(move |cx| {
            while let Some(reply) = asked.last() {
                let Some(answer) = reply.poll(cx.waker()) else {
                    return Poll::Pending;
                };
                asked.pop();
                for usage in answer.into_iter().flatten() {
                    let sum = sum.get_or_insert_default();
                    match sum.iter_mut().find(|one| one.name == usage.name) {
                        Some(one) => one.add(&usage),
                        None => sum.push(usage),
                    }
                }
            }
            Poll::Ready(sum.take())
        })
    }

    /// Moves to a new socket. Peers see what a NAT rebinding looks like and follow; nothing is lost but packets in
    /// flight. A relay with several workers stays where it is: [`io::ErrorKind::Unsupported`].
    pub fn rebind(&self, addr: SocketAddr) -> io::Result<()> {
        if self.workers().len() > 1 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        driver::rebind(self.shared(), addr)
    }
}

/// A client that has completed the handshake. Dropping it refuses the connection with code 0.
#[derive(Debug)]
pub struct Incoming {
    connection: Connection,
}

impl Incoming {
    fn new(shared: Arc<ConnectionShared>) -> Self {
        Self {
            connection: Connection::new(shared),
        }
    }

    /// Who it is, as the handshake proved it.
    pub fn peer(&self) -> Peer {
        self.connection.peer()
    }

    /// Where it is.
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Takes the connection.
    pub fn accept(self) -> Connection {
        self.connection
    }

    /// Closes it with `code`.
    pub fn refuse(self, code: u64) {
        self.connection.close(code, b"");
    }
}

/// Future of [`Endpoint::connect`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Connecting {
    shared: Arc<EndpointShared>,
    reply: Option<Arc<ConnectReply>>,
}

impl Future for Connecting {
    type Output = Result<Connection, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answer) = self.reply.as_ref().map(|reply| reply.poll(cx.waker())) else {
            return Poll::Ready(Err(ConnectError::EndpointClosed));
        };
        match answer {
            Some(answer) => {
                self.reply = None;
                Poll::Ready(answer.map(Connection::new))
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        let Some(reply) = self.reply.take() else { return };
        if let Some(Ok(connection)) = reply.abandon() {
            drop(Connection::new(connection));
        }
        // The driver looks for abandoned handshakes.
        self.shared.post();
    }
}

/// Future of [`Endpoint::accept`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Accept {
    shared: Arc<EndpointShared>,
}

impl Future for Accept {
    type Output = Option<Incoming>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = {
            let mut state = lock(&self.shared.state);
            match state.incoming.pop_front() {
                Some(shared) => shared,
                None if state.closed => return Poll::Ready(None),
                None => {
                    state.incoming_waiters.add(cx.waker());
                    return Poll::Pending;
                }
            }
        };
        Poll::Ready(Some(Incoming::new(shared)))
    }
}

/// Future of [`Endpoint::wait_idle`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct WaitIdle {
    workers: Workers,
}

impl Future for WaitIdle {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // All of them are asked, so that whoever becomes idle last is heard.
        let busy = self.workers.iter().filter(|shared| !is_idle(shared, cx)).count();
        if busy == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Whether a worker is; if not, it will wake the task.
fn is_idle(shared: &EndpointShared, cx: &Context<'_>) -> bool {
    // A mark in the mailbox is work the driver has not seen: it is not idle.
    if shared.mailbox.has_ended() {
        return true;
    }
    let mut state = lock(&shared.state);
    let idle = state.idle && state.connects.is_empty() && state.close.is_none();
    if !idle {
        state.idle_waiters.add(cx.waker());
    }
    idle
}
