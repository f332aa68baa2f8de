//! The relay under test and what stands around it: targets behind it, shims before it, keys that rotate.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use transport_api::{
    Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Endpoint, EndpointAddress, EndpointConfig,
    OsEntropy, RelayEpoch, RelayIdentity, RelayStatics, ServerOptions, TicketOptions, now, relay,
    relay::{RelayConfig, RelayService},
};

use super::{
    peer::{self, Peer},
    plant::Plant,
    shim::Shim,
    target::Targets,
};
use crate::sim::scenario::Links;

/// An hour: bundles of a run live as long as anybody looks at them.
const MARGIN_S: u64 = 3600;
const VALID_S: u64 = 30 * 86_400;

/// The relay's keys of the moment.
struct Keys {
    identity: RelayIdentity,
    present: RelayEpoch,
    bundle: Bundle,
}

/// Relay, peer, targets and, when asked for, a bad link before each of the two servers.
pub(super) struct Stage {
    /// Serves tunnels.
    pub(super) relay: Endpoint,
    /// Serves streams of this harness.
    pub(super) peer: Peer,
    /// What the tunnels lead to.
    pub(super) targets: Targets,
    /// Before the relay.
    pub(super) relay_shim: Option<Shim>,
    /// Before the peer.
    pub(super) peer_shim: Option<Shim>,
    /// When the stage was set: the clock that both ends have in common.
    pub(super) origin: Instant,
    first_bundle: Bundle,
    service: Option<RelayService>,
    keys: Mutex<Keys>,
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn sign(identity: &RelayIdentity, statics: &RelayStatics, epoch: u64) -> io::Result<Bundle> {
    let seconds = now().unix_ms / 1000;
    let draft = BundleDraft {
        epoch,
        not_before: seconds - MARGIN_S,
        not_after: seconds + VALID_S,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(Ipv4Addr::LOCALHOST.into()),
            port: 4433,
            cover: 0,
        }],
    };
    let signed = identity
        .sign_bundle(&draft, statics)
        .map_err(|error| io::Error::other(error.to_string()))?;
    Bundle::parse(&signed).map_err(|error| io::Error::other(error.to_string()))
}

fn statics() -> io::Result<RelayStatics> {
    RelayStatics::generate(&mut OsEntropy).map_err(|_| io::Error::other("no randomness"))
}

impl Stage {
    /// Starts everything. `links`: what the shims do; none: no shims.
    pub(super) fn set(links: Option<&Links>, seed: u64, plant: Option<Plant>) -> io::Result<Self> {
        let identity =
            RelayIdentity::generate(&mut OsEntropy).map_err(|_| io::Error::other("no randomness"))?;
        let statics = statics()?;
        let bundle = sign(&identity, &statics, 1)?;
        let present = RelayEpoch::of(&bundle, statics);
        let server = |app: &[u8], early_bytes: u32| {
            let mut options = ServerOptions::open(identity.relay_id(), present.statics.clone(), 1, app);
            options.epochs = vec![present.clone()];
            options.tickets = TicketOptions {
                early_bytes,
                ..TicketOptions::default()
            };
            Endpoint::bind(EndpointConfig::server(loopback(), options))
        };
        let origin = now().instant;
        let relay = server(relay::APP, 0)?;
        let peer = Peer::start(server(peer::APP, TicketOptions::MAX_EARLY)?, origin)?;
        let mut config = RelayConfig::default();
        // The targets are on this machine; a relay denies that unless told.
        let here = "127.0.0.0/8".parse();
        config.policy.allow = vec![here.map_err(io::Error::other)?];
        let service = RelayService::start(relay.clone(), config)?;
        let shim = |server: &Endpoint, seed: u64| {
            links
                .map(|links| Shim::start(server.local_addr(), links.clone(), seed))
                .transpose()
        };
        Ok(Self {
            relay_shim: shim(&relay, seed)?,
            peer_shim: shim(&peer.endpoint, seed)?,
            targets: Targets::start(plant)?,
            relay,
            peer,
            origin,
            first_bundle: bundle.clone(),
            service: Some(service),
            keys: Mutex::new(Keys {
                identity,
                present,
                bundle,
            }),
        })
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The relay's newest bundle.
    pub(super) fn bundle(&self) -> Bundle {
        self.keys().bundle.clone()
    }

    /// Both shims, when there are any.
    pub(super) fn shims(&self) -> impl Iterator<Item = &Shim> {
        [&self.relay_shim, &self.peer_shim].into_iter().flatten()
    }

    /// A connect to the relay by `bundle`, through its shim.
    pub(super) fn to_relay(&self, bundle: Bundle) -> ConnectOptions {
        let direct = self.relay.local_addr();
        ConnectOptions {
            server: Some(self.relay_shim.as_ref().map_or(direct, Shim::address)),
            ..ConnectOptions::new(bundle, relay::APP)
        }
    }

    /// A connect to the peer, through its shim.
    pub(super) fn to_peer(&self) -> ConnectOptions {
        let direct = self.peer.endpoint.local_addr();
        ConnectOptions {
            server: Some(self.peer_shim.as_ref().map_or(direct, Shim::address)),
            ..ConnectOptions::new(self.first_bundle.clone(), peer::APP)
        }
    }

    /// The relay makes the keys of the next epoch; those of the last go on beside them.
    pub(super) fn rotate(&self) -> io::Result<Bundle> {
        let statics = statics()?;
        let mut keys = self.keys();
        let bundle = sign(&keys.identity, &statics, keys.bundle.epoch() + 1)?;
        let next = RelayEpoch::of(&bundle, statics);
        let epochs = vec![next.clone(), keys.present.clone()];
        self.relay
            .replace_epochs(epochs, Some(bundle.clone()))
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
        keys.present = next;
        keys.bundle = bundle.clone();
        Ok(bundle)
    }

    /// Tunnels the relay has now.
    pub(super) fn tunnels_open(&self) -> u64 {
        self.service
            .as_ref()
            .map_or(0, |service| service.snapshot().tunnels_open)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            service.stop();
            if let Err(error) = service.join() {
                eprintln!("the relay: {error}");
            }
        }
    }
}
