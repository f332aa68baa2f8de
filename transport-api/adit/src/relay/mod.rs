//! `adit relay`: serves until it is told to stop, and reads its configuration again on SIGHUP.

mod admission;
mod board;
mod figures;
mod rotation;
pub(crate) mod vpn;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use transport_api::{
    Access, Bundle, Endpoint, EndpointConfig, ServerOptions, Wait,
    relay::{APP, Neighbours, Quota, RelayConfig, RelayService, TargetPolicy},
};

use admission::Admission;
use board::Board;
use rotation::{Change, Rotation};

use crate::{
    cli,
    config::Config,
    exit::{Code, Context, Failure, Outcome, fail},
    files,
    keyring::{KeyRing, unix_now},
    metrics, output, privilege, secrets,
    signals::{Signal, Signals},
    state::State,
    status::{self, Socket},
};

/// Time that tunnels have to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);
/// Time for the last packets of a relay that stops.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often a draining relay is looked at.
const STEP: Duration = Duration::from_millis(20);
/// Says something before common NATs forget the client.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

pub(crate) fn run(path: &Path, key_log: Option<&Path>, as_json: bool) -> Outcome {
    let protection = secrets::protect();
    let config = Config::load(path)?;
    if config.tun.enabled {
        privilege::keep_network_alone()?;
    }
    let mut rotation = Rotation::new(&config.identity)?;
    rotation.tick(unix_now());
    crate::bundle::check(&rotation.ring().bundle, None)
        .or_fail(Code::Auth, config.identity.bundle.display())?;
    let relay_id = rotation.ring().relay_id();
    let signals = Signals::listen()?;
    let serving = Serving::start(&config, rotation, key_log)?;
    let board = Arc::new(Board::new(&serving, &config, protection));
    let _socket = open_socket(&config, &relay_id, &board)?;
    if let Some(address) = config.metrics.listen {
        let (endpoints, services) = (serving.endpoints.clone(), Arc::clone(&serving.services));
        let bound = metrics::serve(address, Arc::new(move || figures::render(&endpoints, &services)))?;
        tracing::info!(%bound, "metrics");
    }
    for endpoint in &serving.endpoints {
        output::tell(format_args!("READY {}", endpoint.local_addr()));
    }
    if as_json {
        let addresses: Vec<String> = serving
            .endpoints
            .iter()
            .map(|endpoint| endpoint.local_addr().to_string())
            .collect();
        output::json_line(&serde_json::json!({ "relay_id": relay_id.to_string(), "listen": addresses }));
    }
    serving.until_told(&signals, path, &board)
}

/// A path that was asked for must be had; the relay does without the default one.
fn open_socket(
    config: &Config,
    relay_id: &transport_api::RelayId,
    board: &Arc<Board>,
) -> Outcome<Option<Socket>> {
    let board = Arc::clone(board);
    let document = move |page| board.document(page);
    let Some(path) = &config.status.socket else {
        let path = status::default_path(relay_id);
        let opened = status::make_folder(&path).and_then(|()| status::serve(&path, document));
        return Ok(opened
            .inspect_err(|error| tracing::warn!(%error, path = %path.display(), "no status socket"))
            .ok());
    };
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    status::serve(path, document).map(Some).map_err(|error| Failure {
        code: match error.kind() {
            std::io::ErrorKind::AddrInUse => Code::Failed,
            std::io::ErrorKind::PermissionDenied => Code::Privilege,
            _ => Code::Config,
        },
        message: format!("[status] socket {}: {error}", path.display()),
    })
}

/// One endpoint and one service for each address.
struct Serving {
    vpn: Option<vpn::Vpn>,
    endpoints: Vec<Endpoint>,
    services: Arc<Vec<RelayService>>,
    rotation: Rotation,
    admission: Arc<Admission>,
    /// Read at the start and at each reload: a mistake in it shall not be found when the relay ends.
    successor: Option<Bundle>,
}

impl Serving {
    fn start(config: &Config, rotation: Rotation, key_log: Option<&Path>) -> Outcome<Self> {
        let (mut endpoints, mut services, mut device) = (Vec::new(), Vec::new(), None);
        let admission = Admission::new();
        admission.adopt(admission.plan(config)?)?;
        let successor = successor(config)?;
        // Clients reach each other wherever they came in.
        let neighbours = Neighbours::new();
        for address in &config.listen.udp {
            let endpoint = endpoint(*address, config, rotation.ring(), key_log)?;
            let mut relay = RelayConfig::default();
            (relay.policy, relay.quota) = (policy(config), quota(config)?);
            relay.bind.enabled = config.bind.enabled;
            relay.bind.neighbours = neighbours.clone();
            relay.bind.addresses.clone_from(&config.bind.public);
            relay.bind.limits.contexts = config.bind.max_contexts;
            (relay.hook, relay.tenants) = (admission.clone(), admission.quotas.clone());
            let (service, endpoint) = if config.tun.enabled {
                let (ip, vpn) = vpn::Vpn::open(&config.tun, &State::of(&rotation.ring().relay_id()))?;
                device = Some(vpn);
                RelayService::start_with_ip(move |at| Endpoint::bind_on(endpoint, at), relay, ip)
                    .map_err(|error| not_bound(*address, &error))?
            } else {
                let endpoint = Endpoint::bind(endpoint).map_err(|error| not_bound(*address, &error))?;
                let service = RelayService::start(endpoint.clone(), relay);
                (service.or_fail(Code::Failed, "relay thread")?, endpoint)
            };
            endpoints.push(endpoint);
            services.push(service);
        }
        Ok(Self {
            vpn: device,
            endpoints,
            services: Arc::new(services),
            rotation,
            admission,
            successor,
        })
    }

    fn until_told(mut self, signals: &Signals, path: &Path, board: &Board) -> Outcome {
        let outcome = self.serve(signals, path, board);
        self.wait_for_the_end();
        if let Some(vpn) = self.vpn.take() {
            vpn.close();
        }
        outcome
    }

    /// Clients hear of it from the relay's thread, and the device goes with it; it has been told to end.
    fn wait_for_the_end(&self) {
        for _ in 0..LAST_WORDS.as_millis() / STEP.as_millis() {
            if self.services.iter().all(RelayService::is_finished) {
                return;
            }
            std::thread::park_timeout(STEP);
        }
    }

    fn serve(&mut self, signals: &Signals, path: &Path, board: &Board) -> Outcome {
        loop {
            match signals.wait_for(self.rotation.pause(unix_now())) {
                None => {
                    let change = self.rotation.tick(unix_now());
                    self.adopt(change, board);
                }
                Some(Signal::Reload) => self.reload(path, board),
                Some(Signal::Drain) => {
                    tracing::info!("draining");
                    board.drains();
                    for service in self.services.iter() {
                        match &self.successor {
                            Some(successor) => service.drain_to(DRAIN, successor),
                            None => service.drain(DRAIN),
                        }
                    }
                    return self.ended(signals);
                }
                Some(Signal::Stop) => {
                    self.endpoints
                        .iter()
                        .for_each(|endpoint| endpoint.close(0x100, b"the relay stops"));
                    return fail(Code::Interrupted, "interrupted");
                }
            }
        }
    }

    /// Waits for the last tunnel; a second signal does not.
    fn ended(&self, signals: &Signals) -> Outcome {
        while !self.services.iter().all(RelayService::is_finished) {
            if signals
                .wait_for(STEP)
                .is_some_and(|signal| signal != Signal::Reload)
            {
                self.endpoints
                    .iter()
                    .for_each(|endpoint| endpoint.close(0x100, b"the relay stops"));
                return fail(Code::Interrupted, "interrupted while draining");
            }
        }
        Ok(())
    }

    /// A mistake in the new configuration, or in the keys, leaves the old ones in force.
    fn reload(&mut self, path: &Path, board: &Board) {
        let mut apply = || -> Outcome<Change> {
            let config = Config::load(path)?;
            let (policy, quota) = (policy(&config), quota(&config)?);
            let (admission, successor) = (self.admission.plan(&config)?, successor(&config)?);
            let change = self.rotation.reload(&config.identity, unix_now())?;
            for service in self.services.iter() {
                service.update(policy.clone(), quota);
            }
            self.admission.adopt(admission)?;
            self.successor = successor;
            self.replace_access(&config);
            board.limits(&config);
            Ok(change)
        };
        match apply() {
            Ok(change) => {
                self.adopt(change, board);
                tracing::info!("configuration read again");
            }
            Err(failure) => output::complain(&format!("configuration not changed: {failure}")),
        }
    }

    /// Ends the sessions of clients that may no longer be here, and says how many they were.
    fn replace_access(&self, config: &Config) {
        let revoked = || -> u64 {
            self.endpoints
                .iter()
                .map(|endpoint| endpoint.stats().revoked)
                .sum()
        };
        let before = revoked();
        for endpoint in &self.endpoints {
            endpoint.replace_access(access(config));
        }
        for endpoint in &self.endpoints {
            // Answered behind the change.
            let _ = endpoint.usage().wait_timeout(Duration::from_secs(1));
        }
        // Figures are published behind the answers.
        std::thread::park_timeout(STEP);
        let ended = revoked().saturating_sub(before);
        if ended > 0 {
            output::tell(format_args!(
                "ended {ended} sessions of clients that may no longer be here"
            ));
        }
    }

    /// Serves with the keys there are now.
    fn adopt(&self, change: Change, board: &Board) {
        if change == Change::None {
            return;
        }
        let ring = self.rotation.ring();
        for endpoint in &self.endpoints {
            // Tickets and connections go on; clients get the new bundle in-band.
            if let Err(error) = endpoint.replace_epochs(ring.epochs(), Some(ring.bundle.clone())) {
                output::complain(&format!("the relay goes on with its old keys: {error}"));
            }
        }
        board.keys(&self.rotation);
        tracing::info!(
            epoch = ring.bundle.epoch(),
            pairs = ring.epochs().len(),
            "keys in use"
        );
    }
}

fn endpoint(
    address: SocketAddr,
    config: &Config,
    ring: &KeyRing,
    key_log: Option<&Path>,
) -> Outcome<EndpointConfig> {
    let (statics, epoch) = (ring.keys.statics.clone(), ring.bundle.epoch());
    let mut server = ServerOptions::open(ring.relay_id(), statics, epoch, APP);
    (server.epochs, server.bundle) = (ring.epochs(), Some(ring.bundle.clone()));
    server.access = access(config);
    server.max_connections = config.limits.sessions;
    let mut endpoint = EndpointConfig::server(address, server);
    endpoint.transport.provider = crate::provider::best();
    // A device's packets and their connections live on one loop.
    endpoint.workers = if config.tun.enabled {
        1
    } else {
        config.listen.worker_count()
    };
    endpoint.busy_poll = Duration::from_micros(config.listen.busy_poll_us);
    endpoint.transport.keep_alive = Some(KEEP_ALIVE);
    endpoint.transport.congestion = config.transport.congestion();
    if config.transport.fixed_mbit > 0 {
        output::tell(format_args!(
            "[transport] fixed_mbit: loss and delay are ignored; on links that others use this takes them from these"
        ));
    }
    if let Some(path) = key_log {
        endpoint.key_log = Some(crate::key_log::open(path, &ring.relay_id())?);
    }
    Ok(endpoint)
}

fn not_bound(address: SocketAddr, error: &std::io::Error) -> Failure {
    let (code, what, hint) = match error.kind() {
        std::io::ErrorKind::AddrInUse => (Code::Failed, "udp", "; another program uses this port"),
        std::io::ErrorKind::PermissionDenied => (
            Code::Privilege,
            "udp",
            "; ports below 1024 need CAP_NET_BIND_SERVICE",
        ),
        // The relay's own words about its pools.
        std::io::ErrorKind::InvalidInput => (Code::Config, "[tun] pool", ""),
        _ => (Code::Failed, "udp", ""),
    };
    let message = match what {
        "udp" => format!("[listen] udp {address}: {error}{hint}"),
        other => format!("{other}: {error}"),
    };
    Failure { code, message }
}

fn access(config: &Config) -> Access {
    let (clients, revoked) = (&config.access.clients, &config.access.revoked);
    match config.access.mode {
        cli::Access::Open if revoked.is_empty() => Access::Open,
        cli::Access::Open => Access::Except(revoked.iter().copied().collect()),
        cli::Access::Allowlist => {
            let let_in = clients.iter().filter(|client| !revoked.contains(client));
            Access::AllowList(let_in.copied().collect())
        }
    }
}

/// The relay that clients are told of when this one drains.
fn successor(config: &Config) -> Outcome<Option<Bundle>> {
    let path = config.drain.successor.as_deref();
    path.map(files::read_bundle).transpose()
}

fn policy(config: &Config) -> TargetPolicy {
    TargetPolicy {
        allow: config.targets.allow.clone(),
        deny: config.targets.deny.clone(),
    }
}

fn quota(config: &Config) -> Outcome<Quota> {
    let limits = &config.limits;
    Ok(Quota {
        sessions: limits.sessions,
        tunnels_per_session: limits.tunnels_per_session,
        mbit_per_session: u32::try_from(limits.mbit_per_session)
            .or_fail(Code::Config, "[limits] mbit_per_session")?,
    })
}
