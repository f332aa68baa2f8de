//! Makes the endpoints of a world: keys from the seed, knobs from the scenario.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use transport_core::{
    Access, ClientTicket, Connect, Endpoint, EndpointConfig, Grant, Handle, Now, RelayIdentity, RelayStatics,
    ServerConfig, Suite, SuiteChoice, TicketOptions, TransportConfig,
};
use transport_crypto::{Bundle, BundleDraft, BundleEndpoint, EndpointAddress, SeededEntropy};

use super::{
    clock::EPOCH_UNIX_MS,
    rng::seed_bytes,
    scenario::{Cipher, Resume, Scenario},
    world::Options,
};

/// The label both ends of a simulated connection agree on.
const APP: &[u8] = b"adit-sim/1";

/// Keys and knobs of one world.
pub struct Setup {
    seed: u64,
    suite: Suite,
    bundle: Bundle,
    identity: RelayIdentity,
    statics_seeds: [u8; 96],
    resume: Resume,
    client: TransportConfig,
    server: TransportConfig,
}

impl Setup {
    /// Draws keys from the seed and reads the scenario's knobs.
    pub fn new(scenario: &Scenario, options: Options) -> Self {
        let mut entropy = SeededEntropy::new(seed_bytes(options.seed, "keys"));
        let identity = RelayIdentity::generate(&mut entropy).expect("a seeded stream does not fail");
        let statics = RelayStatics::generate(&mut entropy).expect("a seeded stream does not fail");
        let start = EPOCH_UNIX_MS / 1000;
        let draft = BundleDraft {
            epoch: 1,
            not_before: start - 3600,
            not_after: start + 30 * 86_400,
            endpoints: vec![BundleEndpoint {
                address: EndpointAddress::Ip([10, 0, 0, 1].into()),
                port: 4433,
                cover: 0,
            }],
        };
        let signed = identity
            .sign_bundle(&draft, &statics)
            .expect("the draft is valid");
        let suite = match options.cipher.unwrap_or(scenario.cipher) {
            Cipher::Chacha20 => Suite::ChaCha20Poly1305,
            Cipher::Aes256 => Suite::Aes256Gcm,
        };
        Self {
            resume: scenario.resume,
            seed: options.seed,
            suite,
            bundle: Bundle::parse(&signed).expect("we signed it"),
            identity,
            statics_seeds: *statics.seeds().expose(),
            client: transport(scenario, suite),
            server: transport(scenario, suite),
        }
    }

    /// The listening end.
    pub fn server(&self) -> Endpoint {
        let mut server = ServerConfig::new(
            RelayStatics::from_seeds(self.statics_seeds),
            self.identity.relay_id(),
            self.bundle.epoch(),
            Access::Open,
            APP.to_vec(),
        );
        if self.resume == Resume::Early {
            server.tickets.early_bytes = TicketOptions::MAX_EARLY;
        }
        let config = EndpointConfig {
            server: Some(server),
            transport: self.server.clone(),
            observer: None,
        };
        Endpoint::new(
            config,
            seed_bytes(self.seed, "server ids"),
            Box::new(Box::new(self.entropy("server"))),
        )
    }

    /// A dialling end, with its first connection under way.
    pub fn client(
        &self,
        index: u64,
        remote: SocketAddr,
        ticket: Option<ClientTicket>,
        now: Now,
    ) -> (Endpoint, Handle) {
        let config = EndpointConfig {
            server: None,
            transport: self.client.clone(),
            observer: None,
        };
        let mut seed = seed_bytes(self.seed, "client ids");
        seed[24..].copy_from_slice(&index.to_le_bytes());
        let mut secrets = seed_bytes(self.seed, "client secrets");
        secrets[24..].copy_from_slice(&index.to_le_bytes());
        let mut endpoint = Endpoint::new(config, seed, Box::new(SeededEntropy::new(secrets)));
        let target = Connect {
            bundle: self.bundle.clone(),
            identity: None,
            grant: Grant::default(),
            remote,
            local: None,
            width: None,
            app: APP.to_vec(),
            suite: SuiteChoice::Auto,
            resume: ticket,
            early: self.resume == Resume::Early,
        };
        let handle = endpoint
            .connect(now, target)
            .expect("a fresh bundle and a free slot");
        (endpoint, handle)
    }

    /// The packet suite of this world.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    fn entropy(&self, label: &str) -> SeededEntropy {
        SeededEntropy::new(seed_bytes(self.seed, label))
    }
}

fn transport(scenario: &Scenario, suite: Suite) -> TransportConfig {
    let knobs = &scenario.transport;
    let mut config = TransportConfig {
        aes: suite == Suite::Aes256Gcm,
        ..TransportConfig::default()
    };
    let limits = Arc::make_mut(&mut config.limits);
    limits.initial_stream_window = knobs
        .initial_stream_window
        .unwrap_or(limits.initial_stream_window);
    limits.initial_connection_window = knobs
        .initial_connection_window
        .unwrap_or(limits.initial_connection_window);
    limits.max_streams_bi = knobs.max_streams_bidi.unwrap_or(limits.max_streams_bi);
    if let Some(idle) = knobs.idle_timeout_ms {
        config.idle_timeout = Duration::from_secs_f64(idle / 1000.0);
    }
    if let Some(limit) = knobs.handshake_timeout_ms {
        config.handshake_timeout = Duration::from_secs_f64(limit / 1000.0);
    }
    config
}
