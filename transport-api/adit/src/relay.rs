//! `adit relay`: serves until it is told to stop, and reads its configuration again on SIGHUP.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::ConstCounter, family::Family, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use transport_api::{
    Access, Endpoint, EndpointConfig, ServerOptions,
    relay::{APP, Quota, RelayConfig, RelayService, TargetPolicy},
};

use crate::{
    cli,
    config::Config,
    exit::{Code, Context, Failure, Outcome, fail},
    files,
    init::RelayKeys,
    metrics, output,
    signals::{Signal, Signals},
};

/// Time that tunnels have to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);
/// How often a draining relay is looked at.
const STEP: Duration = Duration::from_millis(20);
/// Says something before common NATs forget the client.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

pub(crate) fn run(path: &Path, as_json: bool) -> Outcome {
    let config = Config::load(path)?;
    let keys = RelayKeys::read(&config.identity.key)?;
    let bundle = files::read_bundle(&config.identity.bundle)?;
    let relay_id = keys.identity.relay_id();
    if bundle.relay_id() != relay_id {
        let shown = config.identity.bundle.display();
        return fail(
            Code::Config,
            format!(
                "{shown}: is of relay {}, the key of {relay_id}",
                bundle.relay_id()
            ),
        );
    }
    crate::bundle::check(&bundle, None).or_fail(Code::Auth, config.identity.bundle.display())?;
    let signals = Signals::listen()?;
    let serving = Serving::start(&config, &keys, bundle.epoch())?;
    if let Some(address) = config.metrics.listen {
        let (endpoints, services) = (serving.endpoints.clone(), Arc::clone(&serving.services));
        let bound = metrics::serve(address, Arc::new(move || render(&endpoints, &services)))?;
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
    serving.until_told(&signals, path)
}

/// One endpoint and one service for each address.
struct Serving {
    endpoints: Vec<Endpoint>,
    services: Arc<Vec<RelayService>>,
}

impl Serving {
    fn start(config: &Config, keys: &RelayKeys, epoch: u64) -> Outcome<Self> {
        let (mut endpoints, mut services) = (Vec::new(), Vec::new());
        for address in &config.listen.udp {
            let endpoint = bind(*address, config, keys, epoch)?;
            let mut relay = RelayConfig::default();
            (relay.policy, relay.quota) = (policy(config), quota(config)?);
            let service =
                RelayService::start(endpoint.clone(), relay).or_fail(Code::Failed, "relay thread")?;
            endpoints.push(endpoint);
            services.push(service);
        }
        Ok(Self {
            endpoints,
            services: Arc::new(services),
        })
    }

    fn until_told(self, signals: &Signals, path: &Path) -> Outcome {
        loop {
            match signals.wait() {
                Signal::Reload => self.reload(path),
                Signal::Drain => {
                    tracing::info!("draining");
                    self.services.iter().for_each(|service| service.drain(DRAIN));
                    return self.ended(signals);
                }
                Signal::Stop => {
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

    /// A mistake in the new configuration leaves the old one in force.
    fn reload(&self, path: &Path) {
        let apply = || -> Outcome {
            let config = Config::load(path)?;
            let (policy, quota) = (policy(&config), quota(&config)?);
            for service in self.services.iter() {
                service.update(policy.clone(), quota);
            }
            for endpoint in &self.endpoints {
                endpoint.replace_access(access(&config));
            }
            Ok(())
        };
        match apply() {
            Ok(()) => tracing::info!("configuration read again"),
            Err(failure) => output::complain(&format!("configuration not changed: {failure}")),
        }
    }
}

fn bind(address: SocketAddr, config: &Config, keys: &RelayKeys, epoch: u64) -> Outcome<Endpoint> {
    let mut server = ServerOptions::open(keys.identity.relay_id(), keys.statics_again(), epoch, APP);
    server.access = access(config);
    server.max_connections = config.limits.sessions;
    let mut endpoint = EndpointConfig::server(address, server);
    endpoint.transport.keep_alive = Some(KEEP_ALIVE);
    Endpoint::bind(endpoint).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; another program uses this port",
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
            _ => "",
        };
        let code = if error.kind() == std::io::ErrorKind::PermissionDenied {
            Code::Privilege
        } else {
            Code::Failed
        };
        Failure {
            code,
            message: format!("[listen] udp {address}: {error}{hint}"),
        }
    })
}

fn access(config: &Config) -> Access {
    match config.access.mode {
        cli::Access::Open => Access::Open,
        cli::Access::Allowlist => Access::AllowList(config.access.clients.iter().copied().collect()),
    }
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

/// The present figures as OpenMetrics text.
fn render(endpoints: &[Endpoint], services: &[RelayService]) -> String {
    let mut registry = Registry::with_prefix("adit");
    let snapshots: Vec<_> = services.iter().map(RelayService::snapshot).collect();
    let names = snapshots
        .first()
        .into_iter()
        .flat_map(|first| first.entries().map(|(name, _)| name));
    for name in names {
        let of =
            |snapshot: &transport_api::relay::Snapshot| snapshot.entries().find(|(other, _)| *other == name);
        let sum: u64 = snapshots.iter().filter_map(of).map(|(_, value)| value).sum();
        let help = name.replace('_', " ");
        if name.ends_with("_open") {
            registry.register(
                name,
                help,
                ConstGauge::<i64>::new(i64::try_from(sum).unwrap_or(i64::MAX)),
            );
        } else {
            registry.register(name, help, ConstCounter::<u64>::new(sum));
        }
    }
    let drops = Family::<Reason, prometheus_client::metrics::counter::Counter>::default();
    let (mut received, mut handshakes) = (0, 0);
    for stats in endpoints.iter().map(Endpoint::stats) {
        received += stats.received_bytes;
        handshakes += stats.handshakes_completed;
        for (reason, count) in stats.drops.iter() {
            drops
                .get_or_create(&Reason {
                    reason: reason.name().into(),
                })
                .inc_by(count);
        }
    }
    registry.register("drops", "Datagrams dropped, by reason", drops);
    registry.register_with_unit(
        "received",
        "UDP payload received",
        Unit::Bytes,
        ConstCounter::<u64>::new(received),
    );
    registry.register(
        "handshakes",
        "Handshakes completed",
        ConstCounter::<u64>::new(handshakes),
    );
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = encode(&mut text, &registry);
    text
}
