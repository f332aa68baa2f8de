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
    Algorithm, Bundle, ClientIdentity, CloseReason, ConnectError, ConnectOptions, Connection,
    ConnectionError, Endpoint, EndpointConfig, Failover, KeyLog, PathId, PathState,
    http::Field,
    local::Handle,
    relay::APP,
    tunnel::{Client, IpBridge, Successor},
};

use super::keeper::Keeper;
use super::place::{self, Place, Places};
use super::tun::{MARK, Vpn, Wishes};
use crate::{
    exit::{Code, Context, Failure, Outcome, fail},
    output,
    state::State,
};

/// Who is called, and as whom.
pub(crate) struct Target {
    pub(crate) bundle: Bundle,
    pub(crate) identity: Option<ClientIdentity>,
    /// Where the relay's newest bundle is remembered; nowhere for tests and demos.
    pub(crate) state: Option<State>,
    pub(crate) congestion: Algorithm,
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
    target: Target,
    places: Places,
    shown: Shown,
    endpoint: Endpoint,
    vpn: Option<Rc<Vpn>>,
    current: RefCell<Option<Client>>,
    ever: Cell<bool>,
}

/// Between two attempts to reach the relay again: this, doubled each time, up to the limit.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LIMIT: Duration = Duration::from_secs(5);
/// A local program waits for the relay this long before it is refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// A relay that has not answered by now does not.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Keeps the bindings of common NATs alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

impl Link {
    /// Prepares the socket; nothing is sent yet.
    pub(crate) fn start(at: &Handle, mut target: Target, shown: Shown) -> Outcome<Rc<Self>> {
        let server = super::addresses(&target.bundle)?[0];
        let mut config = EndpointConfig::client(super::any_address(server));
        config.transport.provider = crate::provider::best();
        config.transport.congestion = target.congestion;
        config.transport.keep_alive = Some(KEEP_ALIVE);
        config.transport.handshake_timeout = ANSWER_LIMIT;
        config.transport.failover = Failover::Auto;
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
        let home = Place::new(
            target.bundle.clone(),
            server,
            target.state.clone(),
            target.identity.as_ref(),
        )?;
        let (current, ever) = (RefCell::new(None), Cell::new(false));
        Ok(Rc::new(Self {
            at: at.clone(),
            places: Places::new(home),
            target,
            shown,
            endpoint,
            vpn,
            current,
            ever,
        }))
    }

    /// Connects, or fails with the exit code of the reason; then stays connected by itself.
    pub(crate) async fn connect_first(self: &Rc<Self>) -> Outcome {
        let connection = match self.attempt().await {
            Ok(connection) => connection,
            Err(error) => {
                self.event("failed", json!({ "reason": error.to_string() }));
                return Err(self.explain(&error));
            }
        };
        let bridge = self.serve(&connection).await?;
        self.at
            .spawn(Rc::clone(self).stay(connection, bridge))
            .or_fail(Code::Failed, "event loop")
    }

    /// Makes a client of a connection, with its IP tunnel where one is wanted.
    async fn serve(&self, connection: &Connection) -> Outcome<Option<IpBridge>> {
        let (client, work) = Client::new(connection.clone(), self.places.now().template.clone());
        let token = self.target.token.as_deref();
        let client = client.with_fields(
            token
                .map(|token| Field::new("authorization", token))
                .into_iter()
                .collect(),
        );
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

    async fn attempt(&self) -> Result<Connection, ConnectError> {
        let place = self.places.now();
        let bundle = place.bundle.borrow().clone();
        let mut options = ConnectOptions::new(bundle.clone(), APP);
        options.identity = self.target.identity.clone();
        options.server = Some(place.server);
        options.ticket = place.keeper.as_ref().and_then(Keeper::take_ticket);
        let connection = self.endpoint.connect(options).await?;
        place.remember(&bundle);
        Ok(connection)
    }

    /// Takes the relay's next bundles as they come, until the connection ends.
    async fn follow_bundles(self: Rc<Self>, connection: Connection) {
        let place = self.places.now();
        while let Ok(bundle) = connection.bundle_updates().await {
            if bundle.epoch() > place.bundle.borrow().epoch() {
                tracing::info!(epoch = bundle.epoch(), "the relay's next bundle");
                if let Some(keeper) = &place.keeper {
                    keeper.put_bundle(bundle.clone());
                }
                *place.bundle.borrow_mut() = bundle;
            }
        }
    }

    /// Keeps the relay's tickets as they come, until the connection ends.
    async fn follow_tickets(self: Rc<Self>, connection: Connection) {
        let place = self.places.now();
        while let (Some(keeper), Ok(ticket)) = (&place.keeper, connection.tickets().await) {
            keeper.put_ticket(ticket);
        }
    }

    /// Opens the path that waits for its turn; the relay must first have given connection ids for it.
    async fn keep_standby(self: Rc<Self>, connection: Connection) {
        let Some(local) = self.target.standby else { return };
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

    /// Tells when the connection goes by another path, until it ends.
    async fn follow_paths(self: Rc<Self>, connection: Connection) {
        let mut used = PathId::FIRST;
        while let Ok(change) = connection.path_changes().await {
            tracing::info!(
                path = change.path.get(),
                state = change.state.name(),
                reason = change.reason.name(),
                "path"
            );
            if change.state != PathState::Active || change.path == used {
                continue;
            }
            used = change.path;
            let path = connection.paths().into_iter().find(|path| path.id == used);
            self.event(
                "migrated",
                json!({
                    "path": used.get(),
                    "reason": change.reason.name(),
                    "local": path.and_then(|path| path.route.local).map(|local| local.to_string()),
                    "rtt_ms": path.map(|path| path.rtt.as_secs_f64() * 1000.0),
                    "path_mtu": path.map(|path| path.mtu),
                }),
            );
        }
    }

    /// Stays with this connection and every one after it.
    async fn stay(self: Rc<Self>, mut connection: Connection, mut bridge: Option<IpBridge>) {
        loop {
            let bundles = self.at.spawn(Rc::clone(&self).follow_bundles(connection.clone()));
            let tickets = self.at.spawn(Rc::clone(&self).follow_tickets(connection.clone()));
            let paths = self.at.spawn(Rc::clone(&self).follow_paths(connection.clone()));
            let standby = self.at.spawn(Rc::clone(&self).keep_standby(connection.clone()));
            let packets = match (self.vpn.clone(), bridge.take()) {
                (Some(vpn), Some(bridge)) => self.at.spawn(vpn.run(bridge, connection.clone())),
                _ => Ok(()),
            };
            if let Err(error) = bundles.and(tickets).and(paths).and(standby).and(packets) {
                tracing::warn!(%error, "the event loop is full");
            }
            self.say_connected(&connection).await;
            let closed = self.until_left(&connection).await;
            self.current.borrow_mut().take();
            if let Some(reason) = closed {
                self.event("closed", json!({ "reason": reason.to_string() }));
            }
            (connection, bridge) = self.again().await;
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
        if !self.target.follow {
            tracing::info!(%relay_id, "the relay names a successor; --stay");
            return false;
        }
        let (identity, state) = (self.target.identity.as_ref(), State::of(&relay_id));
        let state = self.target.state.as_ref().map(|_| state);
        let home = self.places.now().server;
        let found = place::find(&self.at, successor, home, state.as_ref()).await;
        let found = found.and_then(|(bundle, server)| match &self.vpn {
            Some(vpn) if vpn.covers(server.ip()) => fail(
                Code::Failed,
                "the successor's address lies in a route of the tunnel",
            ),
            _ => Place::new(bundle, server, state, identity),
        });
        match found {
            Ok(place) => {
                self.places.move_to(place);
                self.event("moved", json!({ "relay_id": relay_id.to_string() }));
                true
            }
            Err(failure) => {
                tracing::warn!(%failure, %relay_id, "the relay names a successor that cannot be followed");
                false
            }
        }
    }

    async fn again(&self) -> (Connection, Option<IpBridge>) {
        let mut pause = RETRY_FIRST;
        loop {
            let reason = match self.attempt().await {
                Ok(connection) => match self.serve(&connection).await {
                    Ok(bridge) => return (connection, bridge),
                    Err(failure) => {
                        connection.close(0x100, b"");
                        failure.message
                    }
                },
                Err(error) => error.to_string(),
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

    /// Says goodbye to the relay.
    pub(crate) async fn close(&self) {
        self.endpoint.close(0x100, b"");
        // The relay hears of it, or it will see our silence.
        let _ = self
            .at
            .timeout(Duration::from_secs(1), self.endpoint.wait_idle())
            .await;
    }

    async fn say_connected(&self, connection: &Connection) {
        // On the loop that the driver lives on, the figures are there only for who waits for them.
        let stats = connection.current_stats().await;
        let name = if self.ever.replace(true) {
            "reconnected"
        } else {
            "connected"
        };
        self.event(
            name,
            json!({
                "relay_id": self.places.now().bundle.borrow().relay_id().to_string(),
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

    fn event(&self, name: &str, mut rest: Value) {
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
            self.places.now().server,
            detail.unwrap_or_default()
        ));
    }

    /// A relay is silent to whoever it does not serve, so silence has many causes.
    fn explain(&self, error: &ConnectError) -> Failure {
        let server = self.places.now().server;
        let who = match &self.target.identity {
            Some(identity) => format!("client_id {}", identity.client_id()),
            None => "an anonymous client".to_string(),
        };
        match error {
            ConnectError::Bundle(_) => Failure {
                code: Code::Auth,
                message: error.to_string(),
            },
            error if is_silence(error) => Failure {
                code: Code::Unreachable,
                message: format!(
                    "{server} does not answer. A relay is silent to everyone it does not serve; check the address, that the relay \
                     runs and UDP passes, that this machine's clock is right, that the bundle is the relay's newest, and \
                     that the relay lets in {who}"
                ),
            },
            error => Failure {
                code: Code::Auth,
                message: format!("{server}: {error}"),
            },
        }
    }
}

/// Whether nobody answered at all.
pub(crate) fn is_silence(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Handshake(CloseReason::HandshakeTimeout))
}
