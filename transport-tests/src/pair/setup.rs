//! What a pair is made of: a relay's keys, addresses, and options.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use transport_core::{
    Access, Bundle, BundleDraft, BundleEndpoint, ClientIdentity, Connect, Endpoint, EndpointAddress,
    EndpointConfig, Grant, RelayEpoch, RelayIdentity, RelayStatics, Secret, SeededEntropy, ServerConfig,
    SuiteChoice, TicketKeys, TicketOptions, TransportConfig,
};

use crate::sim::clock::EPOCH_UNIX_MS;
use crate::sim::rng::seed_bytes;

/// What both ends of a pair say their streams carry.
pub const APP: &[u8] = b"adit-pair/1";
/// The relay of most tests: its keys are made once.
pub static RELAY: LazyLock<Relay> = LazyLock::new(|| Relay::new(1));

/// Everything a relay is, but its state.
pub struct Relay {
    identity: RelayIdentity,
    statics: RelayStatics,
    /// What its clients know of it.
    pub bundle: Bundle,
}

impl Relay {
    /// A relay whose keys follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut entropy = SeededEntropy::new(seed_bytes(seed, "relay"));
        let identity = RelayIdentity::generate(&mut entropy).expect("a seeded stream does not fail");
        let statics = RelayStatics::generate(&mut entropy).expect("a seeded stream does not fail");
        let bundle = sign(&identity, &statics, 7, START_S - BEFORE_S..START_S + LASTING_S);
        Self {
            identity,
            statics,
            bundle,
        }
    }

    /// The epoch of its first bundle.
    pub fn first_epoch(&self) -> RelayEpoch {
        RelayEpoch::of(
            &self.bundle,
            RelayStatics::from_seeds(*self.statics.seeds().expose()),
        )
    }

    /// Other handshake keys of the same relay: epoch `number`, valid for `seconds` from the beginning of the pair.
    pub fn epoch(&self, number: u64, seconds: u64) -> (RelayEpoch, Bundle) {
        self.signed(number, START_S - BEFORE_S..START_S + seconds)
    }

    /// The same, valid from `from` seconds after the beginning of the pair.
    pub fn epoch_from(&self, number: u64, from: u64, seconds: u64) -> (RelayEpoch, Bundle) {
        self.signed(number, START_S + from..START_S + from + seconds)
    }

    fn signed(&self, number: u64, seconds: Range<u64>) -> (RelayEpoch, Bundle) {
        let mut entropy = SeededEntropy::new(seed_bytes(number, "statics"));
        let statics = RelayStatics::generate(&mut entropy).expect("a seeded stream does not fail");
        let bundle = sign(&self.identity, &statics, number, seconds);
        (RelayEpoch::of(&bundle, statics), bundle)
    }

    /// Its configuration, as it would be after any restart.
    pub fn config(&self, access: Access, app: &[u8]) -> ServerConfig {
        ServerConfig::new(
            self.statics.clone(),
            self.identity.relay_id(),
            self.bundle.epoch(),
            access,
            app.to_vec(),
        )
    }
}

/// The beginning of a pair; how long before it bundles become valid, and for how long the first is.
const START_S: u64 = EPOCH_UNIX_MS / 1000;
const BEFORE_S: u64 = 86_400;
const LASTING_S: u64 = 19 * 86_400;

fn sign(identity: &RelayIdentity, statics: &RelayStatics, epoch: u64, seconds: Range<u64>) -> Bundle {
    let address = EndpointAddress::Ip(server_address().ip());
    let endpoints = vec![BundleEndpoint {
        address,
        port: server_address().port(),
        cover: 0,
    }];
    let draft = BundleDraft {
        epoch,
        not_before: seconds.start,
        not_after: seconds.end,
        endpoints,
    };
    let signed = identity.sign_bundle(&draft, statics).expect("a valid draft");
    Bundle::parse(&signed).expect("signed a moment ago")
}

/// An enrolled client whose keys follow from `seed`.
pub fn client_identity(seed: u64) -> ClientIdentity {
    let mut entropy = SeededEntropy::new(seed_bytes(seed, "client identity"));
    ClientIdentity::generate(&mut entropy).expect("a seeded stream does not fail")
}

/// Where the relay is.
pub fn server_address() -> SocketAddr {
    ([10, 0, 0, 1], 4433).into()
}

/// Where the client is at first.
pub fn client_address() -> SocketAddr {
    ([10, 0, 0, 2], 50_000).into()
}

/// Where nobody of the pair is.
pub fn stranger(port: u16) -> SocketAddr {
    ([10, 66, 0, 1], port).into()
}

/// What a pair is made of. The default: a clear path of 40 ms there and back, an anonymous client, an open relay.
#[derive(Clone)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Knobs of the client.
    pub client: TransportConfig,
    /// Knobs of the relay.
    pub server: TransportConfig,
    /// The cipher the client asks for.
    pub suite: SuiteChoice,
    /// Who the client is.
    pub identity: Option<ClientIdentity>,
    /// Whom the relay lets in.
    pub access: Access,
    /// What the relay serves and hands out; `None`: its first epoch for ever, and no bundle.
    pub epochs: Option<(Vec<RelayEpoch>, Bundle)>,
    /// What the client believes about the relay.
    pub bundle: Bundle,
    /// The label the client names; the relay's is [`APP`].
    pub app: Vec<u8>,
    /// What the client's clock is ahead of the relay's, milliseconds.
    pub skew_ms: i64,
    /// Time a datagram travels.
    pub latency: Duration,
    /// The relay's tickets.
    pub tickets: TicketOptions,
    /// The ticket keys the relay shares with others.
    pub fleet: Option<[u8; 32]>,
}

impl Options {
    /// The default pair of `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            client: TransportConfig::default(),
            server: TransportConfig::default(),
            suite: SuiteChoice::Auto,
            identity: None,
            access: Access::Open,
            epochs: None,
            bundle: RELAY.bundle.clone(),
            app: APP.to_vec(),
            skew_ms: 0,
            latency: Duration::from_millis(20),
            tickets: TicketOptions::default(),
            fleet: None,
        }
    }

    /// What the client dials, and where.
    pub fn target(&self, remote: SocketAddr) -> Connect {
        Connect {
            bundle: self.bundle.clone(),
            identity: self.identity.clone(),
            grant: Grant::default(),
            remote,
            local: None,
            width: None,
            app: self.app.clone(),
            suite: self.suite,
            resume: None,
            early: false,
        }
    }

    /// With a relay that takes early data.
    #[must_use]
    pub fn with_early(mut self) -> Self {
        self.tickets.early_bytes = TicketOptions::MAX_EARLY;
        self
    }

    /// With ends that tell one another where they see them, and look for a direct path.
    #[must_use]
    pub fn outgoing(self) -> Self {
        self.with(|transport| {
            transport.addresses.ask = true;
            transport.addresses.direct = true;
        })
    }

    /// The same knobs at both ends.
    pub fn with(mut self, change: impl Fn(&mut TransportConfig)) -> Self {
        change(&mut self.client);
        change(&mut self.server);
        self
    }
}

/// The end that dials.
pub(crate) fn client_endpoint(options: &Options) -> Endpoint {
    let config = EndpointConfig {
        server: None,
        transport: options.client.clone(),
        observer: None,
    };
    let entropy = SeededEntropy::new(seed_bytes(options.seed, "pair client secrets"));
    Endpoint::new(config, seed_bytes(options.seed, "pair client"), Box::new(entropy))
}

/// The end that answers, after so many starts.
pub(crate) fn relay_endpoint(options: &Options, start: u64) -> Endpoint {
    let mut server = RELAY.config(options.access.clone(), APP);
    server.tickets = options.tickets;
    if let Some((epochs, bundle)) = options.epochs.clone() {
        (server.epochs, server.bundle) = (epochs, Some(bundle));
    }
    let config = EndpointConfig {
        server: Some(server),
        transport: options.server.clone(),
        observer: None,
    };
    let label = format!("pair server {start}");
    let entropy = SeededEntropy::new(seed_bytes(options.seed, &format!("secrets of {label}")));
    let mut endpoint = Endpoint::new(config, seed_bytes(options.seed, &label), Box::new(entropy));
    if let Some(secret) = options.fleet {
        let relay_id = RELAY.bundle.relay_id();
        endpoint.install_ticket_keys(TicketKeys::from_secret(relay_id, 1, &Secret::new(secret)));
    }
    endpoint
}
