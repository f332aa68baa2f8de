//! A long-lived client of the relay: one connection that is to outlive everything the run does to it.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use transport_api::{
    Bundle, Connection, Endpoint, EndpointConfig, PathState,
    local::Handle,
    now,
    tunnel::{Client, TcpTunnel, UdpTunnel},
};

use super::{board::Board, plant::Plant, stage::Stage};

/// Time for one handshake, outages included.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(50);
const LOOK_AT_PATHS: Duration = Duration::from_millis(5);
/// The old path stays this long after a move: what is under way on it arrives.
const OVERLAP: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_millis(250);

/// What all tasks of the clients' loop need.
pub(super) struct Crew {
    /// Their loop.
    pub(super) at: Handle,
    /// Where they write down what happened.
    pub(super) board: Arc<Board>,
    /// What they talk to.
    pub(super) stage: Arc<Stage>,
    /// What makes no progress for this long has failed.
    pub(super) stall: Duration,
    /// A fault the clients have.
    pub(super) plant: Option<Plant>,
    /// Decides what they do.
    pub(super) seed: u64,
}

impl Crew {
    /// Waits for `future`, but not longer than progress may take.
    pub(super) async fn patient<T, E: std::fmt::Display>(
        &self,
        what: &str,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, String> {
        match self.at.timeout(self.stall, future).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(format!("{what}: {error}")),
            Err(_) => Err(format!("{what}: nothing for {:.0} s", self.stall.as_secs_f64())),
        }
    }

    /// Milliseconds since the stage was set.
    pub(super) fn ms(&self) -> f64 {
        now()
            .instant
            .saturating_duration_since(self.stage.origin)
            .as_secs_f64()
            * 1000.0
    }

    /// Starts a task; a full loop is a fault of the harness.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        if self.at.spawn(task).is_err() {
            self.board.fault("the clients' loop is full".into());
        }
    }
}

/// A long-lived client.
pub(super) struct Member {
    /// What it shares with the others.
    pub(super) crew: Rc<Crew>,
    /// Its number.
    pub(super) index: u64,
    endpoint: Endpoint,
    moves: Cell<u8>,
    bundle: RefCell<Bundle>,
    client: RefCell<Option<Client>>,
    connecting: Cell<bool>,
    /// Time of the last echo, milliseconds of the stage.
    pub(super) last_echo: Cell<f64>,
    /// While somebody watches: the longest silence of the echo.
    pub(super) silence: Cell<Option<f64>>,
}

impl Member {
    /// A client with its own socket.
    pub(super) fn new(crew: &Rc<Crew>, index: u64) -> std::io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            crew: Rc::clone(crew),
            index,
            // Other paths begin at other addresses: the socket is bound to none in particular.
            endpoint: Endpoint::bind(EndpointConfig::client(anywhere()))?,
            moves: Cell::new(0),
            bundle: RefCell::new(crew.stage.bundle()),
            client: RefCell::new(None),
            connecting: Cell::new(false),
            last_echo: Cell::new(0.0),
            silence: Cell::new(None),
        }))
    }

    /// Moves to another address, make before break: a second path proves itself, then everything goes there, then the first is given
    /// up.
    pub(super) async fn migrate(&self) -> Result<(), String> {
        let crew = &self.crew;
        let connection = self.connection().ok_or("no connection")?;
        let old = connection.paths().first().map(|path| path.id);
        // Every second address is new to the connection.
        self.moves.set(self.moves.get() % 200 + 1);
        let local = IpAddr::from([127, 0, 1 + self.index as u8, self.moves.get()]);
        let opened = crew.patient("a second path", connection.add_path(local)).await?;
        let begun = crew.ms();
        let ready = |state| matches!(state, PathState::Validated | PathState::Standby);
        while !connection
            .paths()
            .iter()
            .any(|path| path.id == opened && ready(path.state))
        {
            if crew.ms() - begun > crew.stall.as_secs_f64() * 1000.0 || crew.board.over() {
                return Err("a second path did not prove itself".into());
            }
            crew.at.sleep(LOOK_AT_PATHS).await;
        }
        crew.patient("migration", connection.migrate(opened)).await?;
        crew.at.sleep(OVERLAP).await;
        if let Some(old) = old {
            crew.patient("giving up a path", connection.abandon_path(old))
                .await?;
        }
        Ok(())
    }

    /// Moves to another socket at once: the old one is gone, with what was on its way there.
    pub(super) fn rebind(&self) {
        if let Err(error) = self.endpoint.rebind(anywhere()) {
            self.crew
                .board
                .fault(format!("client {}: another socket: {error}", self.index));
        }
    }

    /// The connection, if it stands.
    pub(super) fn connection(&self) -> Option<Connection> {
        self.client
            .borrow()
            .as_ref()
            .map(|client| client.connection().clone())
    }

    /// The client, connecting first where that is needed.
    pub(super) async fn client(self: &Rc<Self>) -> Option<Client> {
        loop {
            if let Some(client) = self.client.borrow().as_ref() {
                return Some(client.clone());
            }
            if self.crew.board.stopping() {
                return None;
            }
            if self.connecting.replace(true) {
                self.crew.at.sleep(RETRY).await;
                continue;
            }
            let outcome = self.connect().await;
            self.connecting.set(false);
            if let Err(error) = outcome {
                self.crew
                    .board
                    .fault(format!("client {}: connect: {error}", self.index));
                self.crew.at.sleep(RETRY).await;
            }
        }
    }

    async fn connect(self: &Rc<Self>) -> Result<(), String> {
        let options = self.crew.stage.to_relay(self.bundle.borrow().clone());
        let connecting = self.endpoint.connect(options);
        let connection = match self.crew.at.timeout(CONNECT_LIMIT, connecting).await {
            Ok(result) => result.map_err(|error| error.to_string())?,
            Err(_) => return Err("no answer".into()),
        };
        let client = Client::start(&self.crew.at, connection.clone()).map_err(|error| error.to_string())?;
        *self.client.borrow_mut() = Some(client);
        self.crew.spawn(watch_end(Rc::clone(self), connection.closed()));
        self.crew.spawn(watch_bundles(Rc::clone(self), connection));
        Ok(())
    }

    /// Opens a tunnel to the TCP target.
    pub(super) async fn tcp(self: &Rc<Self>) -> Result<TcpTunnel, String> {
        let client = self.client().await.ok_or("the run is ending")?;
        let target = self.crew.stage.targets.tcp;
        let host = target.ip().to_string();
        let opening = client.connect_tcp(&host, target.port());
        self.opened(self.crew.patient("CONNECT", opening).await)
    }

    /// Opens a tunnel to the UDP target.
    pub(super) async fn udp(self: &Rc<Self>) -> Result<UdpTunnel, String> {
        let client = self.client().await.ok_or("the run is ending")?;
        let target = self.crew.stage.targets.udp;
        let host = target.ip().to_string();
        let opening = client.connect_udp(&host, target.port());
        self.opened(self.crew.patient("CONNECT-UDP", opening).await)
    }

    fn opened<T>(&self, tunnel: Result<T, String>) -> Result<T, String> {
        self.crew.board.note(|tally| match &tunnel {
            Ok(_) => tally.tunnels_opened += 1,
            Err(_) => tally.tunnels_refused += 1,
        });
        tunnel
    }

    /// Says goodbye.
    pub(super) async fn close(&self) {
        let client = self.client.borrow_mut().take();
        if let Some(client) = client {
            client.connection().close(0, b"");
        }
        let idle = self.endpoint.wait_idle();
        // What cannot be sent within this time need not be.
        let _ = self.crew.at.timeout(Duration::from_millis(300), idle).await;
    }

    /// An echo came back.
    pub(super) fn echoed(&self, latency_ms: f64) {
        let at = self.crew.ms();
        if let Some(longest) = self.silence.get() {
            self.silence.set(Some(longest.max(at - self.last_echo.get())));
        }
        self.last_echo.set(at);
        self.crew.board.echo(latency_ms);
    }
}

/// No address in particular.
fn anywhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
}

/// Where sockets of the run are.
pub(super) fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

async fn watch_end(member: Rc<Member>, closed: transport_api::Closed) {
    let reason = closed.await;
    let gone = member.client.borrow_mut().take();
    // A member that said goodbye has taken its client out before.
    if gone.is_some() && !member.crew.board.over() {
        member.crew.board.note(|tally| tally.connections_lost += 1);
        member
            .crew
            .board
            .fault(format!("client {}: the connection ended: {reason}", member.index));
    }
}

async fn watch_bundles(member: Rc<Member>, connection: Connection) {
    let updates = || connection.bundle_updates();
    let mut next = updates();
    drop(connection.tickets());
    loop {
        match next.await {
            Ok(bundle) => {
                *member.bundle.borrow_mut() = bundle;
                member.crew.board.note(|tally| tally.bundles_taken += 1);
            }
            Err(_) => return,
        }
        next = updates();
    }
}

/// Looks at the connections now and then, for the plots.
pub(super) async fn watch_gauges(crew: Rc<Crew>, members: Vec<Rc<Member>>) {
    let mut lost_before = vec![(0u64, 0u64); members.len()];
    let mut lost = 0;
    while !crew.board.over() {
        let (mut srtt, mut cwnd) = (0, 0);
        for (member, before) in members.iter().zip(&mut lost_before) {
            let Some(connection) = member.connection() else {
                continue;
            };
            let stats = connection.stats();
            srtt = srtt.max(stats.srtt.as_micros() as u64);
            cwnd += stats.cwnd;
            if before.0 != connection.id() {
                *before = (connection.id(), 0);
            }
            lost += stats.declared_lost.saturating_sub(before.1);
            before.1 = stats.declared_lost;
        }
        let gauges = &crew.board.gauges;
        gauges.srtt_us.store(srtt, Ordering::Relaxed);
        gauges.cwnd.store(cwnd, Ordering::Relaxed);
        gauges.lost.store(lost, Ordering::Relaxed);
        crew.at.sleep(LOOK).await;
    }
}
