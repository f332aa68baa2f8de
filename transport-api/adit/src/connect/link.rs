//! The connection to the relay: made, remade when it breaks, and told about.

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use serde_json::{Value, json};
use transport_api::{
    Algorithm, CloseReason, ConnectError, Connection, ConnectionError, Endpoint, EndpointConfig, Failover,
    KeyLog,
    http::Field,
    local::{Handle, LoopFull},
    tunnel::{Chain, ChainError, ChainErrorKind, Client, IpBridge, Successor, TunnelError, TunnelErrorKind},
};

use super::hop::{Hop, Party};
use super::paths;
use super::place::{self, Places};
use super::tun::{MARK, Vpn, Wishes};
use crate::{
    exit::{Code, Context, Failure, Outcome, fail},
    output,
};

/// What is wanted of a link.
pub(crate) struct Target {
    /// The relays on the way, the outermost first; the last one is the one that is used.
    pub(crate) relays: Vec<Party>,
    /// Where the outermost is reached.
    pub(crate) server: SocketAddr,
    pub(crate) congestion: Algorithm,
    pub(crate) busy_poll: Duration,
    /// Where a second path begins that waits for its turn.
    pub(crate) standby: Option<IpAddr>,
    /// The IP tunnel that is wanted.
    pub(crate) tun: Option<Wishes>,
    /// Goes along with every request.
    pub(crate) token: Option<String>,
    /// Whether to go where the relay says that it goes on.
    pub(crate) follow: bool,
    /// Taken by the endpoint.
    pub(crate) key_log: Option<Box<dyn KeyLog + Send>>,
}

/// How events are shown.
pub(crate) struct Shown {
    pub(crate) json: bool,
    /// Not at all.
    pub(crate) quiet: bool,
    /// The SOCKS address, told with `connected`.
    pub(crate) socks: Option<SocketAddr>,
}

/// The relay, as listeners see it: sometimes there, always remade.
pub(crate) struct Link {
    pub(crate) at: Handle,
    /// The relays before the last one.
    outer: Vec<Rc<Hop>>,
    places: Places,
    standby: Option<IpAddr>,
    token: Option<String>,
    follow: bool,
    shown: Shown,
    endpoint: Endpoint,
    vpn: Option<Rc<Vpn>>,
    current: RefCell<Option<Client>>,
    /// Made already, for when the present one ends.
    next: RefCell<Option<Chain>>,
    ever: Cell<bool>,
    /// It was said that the relay asks for credentials.
    asked: Cell<bool>,
    /// Nothing is made anew any more.
    leaving: Cell<bool>,
}

/// Between two attempts to reach the relay again: this, doubled each time, up to the limit.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LIMIT: Duration = Duration::from_secs(5);
/// A local program waits for the relay this long before it is refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// A relay that has not answered by now does not.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// What may wait in an outer connection of a chain, bytes: some of the bursts the inner one sends at once. With less the inner one loses
/// packets at hundreds of megabits a second.
const CHAIN_QUEUE: usize = 256 << 10;
/// Goodbyes take so long at most, for each of chain and endpoint.
const GOODBYE: Duration = Duration::from_secs(1);
/// Keeps the bindings of common NATs alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

impl Link {
    /// Prepares the socket; nothing is sent yet.
    pub(crate) fn start(at: &Handle, mut target: Target, shown: Shown) -> Outcome<Rc<Self>> {
        let server = target.server;
        let mut config = EndpointConfig::client(super::any_address(server));
        config.transport.provider = crate::provider::best();
        config.busy_poll = target.busy_poll;
        config.transport.congestion = target.congestion;
        config.transport.keep_alive = Some(KEEP_ALIVE);
        config.transport.handshake_timeout = ANSWER_LIMIT;
        config.transport.failover = Failover::Auto;
        if target.relays.len() > 1 {
            config.transport.limits.datagram_queue_bytes = CHAIN_QUEUE;
        }
        config.key_log = target.key_log.take();
        let vpn = match &target.tun {
            Some(wishes) => Some(Vpn::open(at, wishes, server)?),
            None => None,
        };
        let endpoint = match &vpn {
            None => Endpoint::bind(config),
            Some(vpn) => {
                // What carries the tunnel must not go through it, and no packet shall change threads on its way.
                config.mark = Some(MARK);
                config.transport.failover = Failover::AutoExcept(vpn.name());
                Endpoint::bind_on(config, at)
            }
        };
        let endpoint = endpoint.or_fail(Code::Failed, "socket")?;
        let servers = std::iter::once(Some(server)).chain(std::iter::repeat(None));
        let hops = target.relays.into_iter().zip(servers);
        let mut outer: Vec<Rc<Hop>> = hops
            .map(|(party, server)| Hop::new(party, server))
            .collect::<Outcome<_>>()?;
        let Some(last) = outer.pop() else {
            return fail(Code::Usage, "no relay is given");
        };
        let (current, ever, leaving) = (RefCell::new(None), Cell::new(false), Cell::new(false));
        Ok(Rc::new(Self {
            at: at.clone(),
            outer,
            places: Places::new(last),
            standby: target.standby,
            token: target.token,
            follow: target.follow,
            shown,
            endpoint,
            vpn,
            current,
            next: RefCell::new(None),
            ever,
            asked: Cell::new(false),
            leaving,
        }))
    }

    /// Connects, or fails with the exit code of the reason; then stays connected by itself.
    pub(crate) async fn connect_first(self: &Rc<Self>) -> Outcome {
        let chain = match self.attempt().await {
            Ok(chain) => chain,
            Err(error) => {
                self.event("failed", json!({ "reason": reason(&error) }));
                return Err(self.explain(&error));
            }
        };
        let bridge = self.serve(chain.connection()).await?;
        self.at
            .spawn(Rc::clone(self).stay(chain, bridge))
            .or_fail(Code::Failed, "event loop")
    }

    /// Makes a client of a connection, with its IP tunnel where one is wanted.
    async fn serve(&self, connection: &Connection) -> Outcome<Option<IpBridge>> {
        let (client, work) = Client::new(connection.clone(), self.places.now().template()?);
        let fields = self
            .token
            .as_deref()
            .map(|token| Field::new("authorization", token));
        let client = client.with_fields(fields.into_iter().collect());
        let work = async move {
            let end = work.await;
            tracing::info!(%end, "session");
        };
        self.at.spawn(work).or_fail(Code::Failed, "event loop")?;
        let bridge = match &self.vpn {
            Some(vpn) => Some(vpn.join(&client).await?),
            None => None,
        };
        *self.current.borrow_mut() = Some(client);
        Ok(bridge)
    }

    /// The way to the relay as it is now.
    fn hops(&self) -> Vec<Rc<Hop>> {
        self.outer.iter().cloned().chain([self.places.now()]).collect()
    }

    pub(super) async fn attempt(&self) -> Result<Chain, ChainError> {
        let hops = self.hops();
        let relays = hops.iter().map(|hop| hop.options()).collect();
        let chain = Chain::start(&self.at, &self.endpoint, relays).await?;
        for hop in &hops {
            hop.remember();
        }
        Ok(chain)
    }

    /// Opens the path that waits for its turn; the relay must first have given connection ids for it.
    async fn keep_standby(self: Rc<Self>, connection: Connection) {
        let Some(local) = self.standby else { return };
        let mut pause = RETRY_FIRST;
        while let Err(error) = connection.add_path(local).await {
            if connection.close_reason().is_some() {
                return;
            }
            tracing::debug!(%error, %local, "no standby yet");
            self.at.sleep(pause).await;
            pause = (pause * 2).min(RETRY_LIMIT);
        }
    }

    /// Does what goes on beside a chain until it ends.
    fn attend(self: &Rc<Self>, chain: &Chain) -> Result<(), LoopFull> {
        let connections = chain.outer().iter().chain([chain.connection()]);
        for (hop, connection) in self.hops().into_iter().zip(connections.clone()) {
            self.at
                .spawn(Rc::clone(&hop).follow_bundles(connection.clone()))?;
            self.at.spawn(hop.follow_tickets(connection.clone()))?;
        }
        // The network is under the outermost one alone.
        for (hop, connection) in connections.clone().enumerate() {
            let (link, last) = (Rc::clone(self), chain.connection().clone());
            self.at
                .spawn(paths::follow(link, connection.clone(), last, hop == 0))?;
        }
        for connection in connections.take(1) {
            self.at.spawn(Rc::clone(self).keep_standby(connection.clone()))?;
        }
        Ok(())
    }

    /// Stays with this chain and every one after it.
    async fn stay(self: Rc<Self>, mut chain: Chain, mut bridge: Option<IpBridge>) {
        loop {
            let connection = chain.connection().clone();
            let packets = match (self.vpn.clone(), bridge.take()) {
                (Some(vpn), Some(bridge)) => self.at.spawn(vpn.run(bridge, connection.clone())),
                _ => Ok(()),
            };
            if let Err(error) = self.attend(&chain).and(packets) {
                tracing::warn!(%error, "the event loop is full");
            }
            self.say_connected(&connection).await;
            let ended = self.until_left(&connection).await;
            self.current.borrow_mut().take();
            if let Some(ended) = ended {
                // Where a chain broke says more than that it did.
                let reason = chain
                    .broken()
                    .map_or(ended.to_string(), |broken| broken.to_string());
                let carried = self.vpn.as_ref().map(|vpn| vpn.carried());
                self.event("closed", json!({ "reason": reason, "ip": carried }));
            }
            if self.leaving.get() {
                return;
            }
            (chain, bridge) = self.again().await;
        }
    }

    /// Waits until the connection ends, and says why, or until there is a better place. What is open then stays on the old
    /// connection to its end; an IP tunnel can only be in one place, so it waits for the relay to end it.
    async fn until_left(&self, connection: &Connection) -> Option<ConnectionError> {
        let client = self.current.borrow().clone();
        let mut closed = pin!(connection.closed());
        let mut moved = pin!(async {
            if let Some(client) = client
                && let Ok(successor) = client.until_moved().await
                && self.follow(&successor).await
                && self.vpn.is_none()
            {
                return;
            }
            pending::<()>().await;
        });
        poll_fn(|cx| match moved.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => closed.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Goes on with the relay that the present one names, from the next connection on.
    async fn follow(&self, successor: &Successor) -> bool {
        let relay_id = successor.relay_id();
        if !self.follow {
            tracing::info!(%relay_id, "the relay names a successor; --stay");
            return false;
        }
        match self.find(successor).await {
            Ok(hop) => {
                self.places.move_to(hop);
                self.event("moved", json!({ "relay_id": relay_id.to_string() }));
                true
            }
            Err(failure) => {
                tracing::warn!(%failure, %relay_id, "the relay names a successor that cannot be followed");
                false
            }
        }
    }

    /// The successor as a relay to connect to. The last of a chain is found by the relay before it.
    async fn find(&self, successor: &Successor) -> Outcome<Rc<Hop>> {
        let party = self.places.now().succeeded_by(successor)?;
        let ids: Vec<_> = self.outer.iter().map(|hop| hop.relay_id()).collect();
        Chain::check(&[ids, vec![successor.relay_id()]].concat()).or_fail(Code::Failed, "the successor")?;
        let server = match self.places.now().server() {
            None => None,
            Some(home) => Some(place::reach(&self.at, &party.bundle, home).await?),
        };
        match (&self.vpn, server) {
            (Some(vpn), Some(server)) if vpn.covers(server.ip()) => fail(
                Code::Failed,
                "the successor's address lies in a route of the tunnel",
            ),
            _ => Hop::new(party, server),
        }
    }

    /// Goes on with another connection instead of one that nobody answers.
    pub(super) fn replace(&self, silent: &Connection, by: Chain) {
        *self.next.borrow_mut() = Some(by);
        silent.close(0x100, b"");
    }

    async fn again(&self) -> (Chain, Option<IpBridge>) {
        let mut pause = RETRY_FIRST;
        loop {
            let made = match self.next.take() {
                Some(chain) => Ok(chain),
                None => self.attempt().await,
            };
            let reason = match made {
                Ok(chain) => match self.serve(chain.connection()).await {
                    Ok(bridge) => return (chain, bridge),
                    Err(failure) => {
                        chain.connection().close(0x100, b"");
                        failure.message
                    }
                },
                Err(error) => reason(&error),
            };
            self.event("failed", json!({ "reason": reason }));
            self.places.try_other();
            self.at.sleep(pause).await;
            pause = (pause * 2).min(RETRY_LIMIT);
        }
    }

    /// The relay, waiting for it while it is being reached again.
    pub(crate) async fn client(&self) -> Option<Client> {
        let step = Duration::from_millis(20);
        for _ in 0..PATIENCE.as_millis() / step.as_millis() {
            if let Some(client) = self.current.borrow().clone() {
                return Some(client);
            }
            self.at.sleep(step).await;
        }
        None
    }

    /// The connection, waiting for it while it is being made.
    pub(crate) async fn wait_connection(&self) -> Option<Connection> {
        self.client().await.map(|client| client.lane().clone())
    }

    /// The connection that stands now.
    pub(crate) fn connection(&self) -> Option<Connection> {
        self.current.borrow().as_ref().map(|client| client.lane().clone())
    }

    /// The client's socket; the demo rebinds it.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Says once what a program that is refused has no words for.
    pub(crate) fn note_refusal(&self, error: &TunnelError) {
        if error.kind() == TunnelErrorKind::Authentication && !self.asked.replace(true) {
            let what = match self.token {
                Some(_) => "the relay does not take this token",
                None => "the relay asks for credentials: --token FILE",
            };
            output::tell(format_args!("{what} ({error})"));
        }
    }

    /// Says goodbye to the relay.
    pub(crate) async fn close(&self) {
        self.leaving.set(true);
        // What the last relay hears comes through the others, which end after it.
        if let Some(connection) = self.connection().filter(|_| !self.outer.is_empty()) {
            connection.close(0x100, b"");
            let _ = self.at.timeout(GOODBYE, self.endpoint.wait_idle()).await;
        }
        self.endpoint.close(0x100, b"");
        // The relay hears of it, or it will see our silence.
        let _ = self.at.timeout(GOODBYE, self.endpoint.wait_idle()).await;
    }

    async fn say_connected(&self, connection: &Connection) {
        // On the loop that the driver lives on, the figures are there only for who waits for them.
        let stats = connection.current_stats().await;
        let name = if self.ever.replace(true) {
            "reconnected"
        } else {
            "connected"
        };
        let via: Vec<_> = self.outer.iter().map(|hop| hop.relay_id().to_string()).collect();
        self.event(
            name,
            json!({
                "relay_id": self.places.now().relay_id().to_string(),
                "via": via,
                "handshake_ms": connection.handshake_duration().as_secs_f64() * 1000.0,
                "resumed": connection.resumed(),
                "rtt_ms": stats.srtt.as_secs_f64() * 1000.0,
                "path_mtu": stats.mtu,
                "carrier": "udp",
                "socks": self.shown.socks.map(|address| address.to_string()),
                "tun": self.vpn.as_ref().map(|vpn| vpn.name()),
                "ip": self.vpn.as_ref().map(|vpn| vpn.describe()),
            }),
        );
    }

    pub(super) fn event(&self, name: &str, mut rest: Value) {
        if self.shown.quiet {
            return;
        }
        if self.shown.json {
            if let Some(fields) = rest.as_object_mut() {
                fields.insert("event".into(), name.into());
            }
            output::json_line(&rest);
        }
        let detail = ["reason", "handshake_ms"]
            .into_iter()
            .find_map(|key| rest.get(key).map(|value| format!(" ({key} {value})")));
        output::tell(format_args!(
            "{name} {}{}",
            self.places.now().place(),
            detail.unwrap_or_default()
        ));
    }

    /// A relay is silent to whoever it does not serve, so silence has many causes.
    fn explain(&self, error: &ChainError) -> Failure {
        let hops = self.hops();
        let Some(hop) = hops.get(error.hop) else {
            return Failure {
                code: Code::Usage,
                message: error.to_string(),
            };
        };
        let place = match error.hops {
            1 => hop.place(),
            hops => format!(
                "relay {} of {hops} ({}) at {}",
                error.hop + 1,
                hop.relay_id(),
                hop.place()
            ),
        };
        let (code, message) = match &error.kind {
            ChainErrorKind::Loop | ChainErrorKind::Length => (Code::Usage, error.to_string()),
            ChainErrorKind::Connect(error @ ConnectError::Bundle(_)) => (Code::Auth, error.to_string()),
            ChainErrorKind::Connect(error) if is_silence(error) => (
                Code::Unreachable,
                format!(
                    "{place} does not answer. A relay is silent to everyone it does not serve; check the address, that the \
                     relay runs and UDP passes, that this machine's clock is right, that the bundle is the relay's newest, \
                     and that the relay lets in {}",
                    hop.client()
                ),
            ),
            ChainErrorKind::Connect(error) => (Code::Auth, format!("{place}: {error}")),
            ChainErrorKind::Tunnel(tunnel) => {
                let forbidden = matches!(
                    tunnel.kind(),
                    TunnelErrorKind::Policy | TunnelErrorKind::Authentication
                );
                let code = if forbidden { Code::Auth } else { Code::Unreachable };
                (
                    code,
                    format!("{place}: no way there by the relay before it: {tunnel}"),
                )
            }
            _ => (Code::Failed, error.to_string()),
        };
        Failure { code, message }
    }
}

/// Why there is no connection. One relay is no chain.
fn reason(error: &ChainError) -> String {
    match &error.kind {
        ChainErrorKind::Connect(only) if error.hops == 1 => only.to_string(),
        _ => error.to_string(),
    }
}

/// Whether nobody answered at all.
pub(crate) fn is_silence(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Handshake(CloseReason::HandshakeTimeout))
}
