//! What an endpoint and a connect are told.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use crate::driver::trace::Tracing;
use crate::engine::{
    Access, AddressOptions, Algorithm, Bundle, ClientIdentity, ClientTicket, DEFAULT_PROVIDER,
    EndpointAddress, EngineConfig, Grant, KeyLog, Limits, Observer, Provider, RelayEpoch, RelayId,
    RelayStatics, ServerConfig, SuiteChoice, TicketOptions, TransportConfig, Worker,
};
use crate::paths::Failover;

/// Datagrams a connection holds for the application to read; the oldest are dropped beyond (and counted).
pub(crate) const RECEIVE_QUEUE_LEN: usize = 4096;
/// The same in bytes.
pub(crate) const RECEIVE_QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// An endpoint: one UDP socket and one driver thread (as a relay perhaps several), any number of connections.
pub struct EndpointConfig {
    /// Where to listen (port 0: the system chooses).
    pub listen: SocketAddr,
    /// Answers handshakes as this relay; `None` for an endpoint that only connects.
    pub server: Option<ServerOptions>,
    /// Knobs of every connection.
    pub transport: TransportOptions,
    /// Sees every event of the engine, on the driver thread; it must not block. Events also go to `tracing`.
    pub observer: Option<Box<dyn Observer + Send>>,
    /// Kernel socket buffers in bytes (`SO_RCVBUF`, `SO_SNDBUF`); the system may give less.
    pub socket_buffer: usize,
    /// Marks datagrams (`SO_MARK`), so that routing rules can keep them out of a tunnel that they carry. Linux alone; needs
    /// `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// Is told the secrets of every connection, on the driver thread: whoever has them reads the traffic. See [`KeyLog`].
    pub key_log: Option<Box<dyn KeyLog + Send>>,
    /// Driver threads of a relay, each with a socket on the same port: as many cores as it may use, 1 to 64. A connection is
    /// always with one of them. With more than one the endpoint only answers, and cannot be rebound; observer and key log are
    /// called by all, one at a time. Without [`EndpointConfig::server`] there is always one.
    pub workers: usize,
    /// How long a driver without work asks the kernel again and again before it sleeps: what arrives meanwhile is answered
    /// sooner than a sleeping thread wakes, for the price of so much processor time at each pause. Others who want the
    /// processor get it in between. Zero, the default, sleeps at once; at most [`EndpointConfig::MAX_BUSY_POLL`]. On a
    /// [`Loop`](crate::local::Loop) it holds for everything that lives there.
    pub busy_poll: Duration,
}

impl EndpointConfig {
    /// The most [`EndpointConfig::workers`].
    pub const MAX_WORKERS: usize = Worker::MAX;
    /// The longest [`EndpointConfig::busy_poll`]; more counts as this.
    pub const MAX_BUSY_POLL: Duration = Duration::from_millis(1);

    /// An endpoint that only connects.
    pub fn client(listen: SocketAddr) -> Self {
        Self {
            listen,
            server: None,
            transport: TransportOptions::default(),
            observer: None,
            socket_buffer: 4 << 20,
            mark: None,
            key_log: None,
            workers: 1,
            busy_poll: Duration::ZERO,
        }
    }

    /// An endpoint that also answers handshakes.
    pub fn server(listen: SocketAddr, server: ServerOptions) -> Self {
        Self {
            server: Some(server),
            ..Self::client(listen)
        }
    }
}

impl EndpointConfig {
    /// Drivers that are to be started.
    pub(crate) fn worker_count(&self) -> usize {
        match self.server {
            Some(_) => self.workers.clamp(1, Worker::MAX),
            None => 1,
        }
    }

    pub(crate) fn bounded_busy_poll(&self) -> Duration {
        self.busy_poll.min(Self::MAX_BUSY_POLL)
    }

    pub(crate) fn into_engine(self) -> EngineConfig {
        EngineConfig {
            server: self.server.map(ServerOptions::into_engine),
            transport: self.transport.into_engine(),
            observer: Some(Box::new(Tracing { next: self.observer })),
        }
    }
}

impl std::fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointConfig")
            .field("listen", &self.listen)
            .field("server", &self.server.is_some())
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// Who this endpoint is when it answers.
#[derive(Clone)]
pub struct ServerOptions {
    /// Its identity, as clients know it from the bundle.
    pub relay_id: RelayId,
    /// The epochs whose bundles are answered: one, or the new one and the one before, which lives until its bundle ends.
    pub epochs: Vec<RelayEpoch>,
    /// The newest bundle; a client that came by an older one gets it in-band. Its keys must be among the epochs'.
    pub bundle: Option<Bundle>,
    /// Grants whose holders are answered; others meet silence.
    pub grants: Vec<Grant>,
    /// Which identities get a connection.
    pub access: Access,
    /// The application protocol, as both sides must name it.
    pub app: Vec<u8>,
    /// Connections at most, half-open ones included.
    pub max_connections: usize,
    /// Tickets, with which clients come back, and what those allow.
    pub tickets: TicketOptions,
}

impl ServerOptions {
    /// A relay with one epoch that does not end, open to everybody who has its bundle.
    pub fn open(relay_id: RelayId, statics: RelayStatics, epoch: u64, app: &[u8]) -> Self {
        let only = RelayEpoch {
            statics,
            epoch,
            not_after_s: u64::MAX,
        };
        Self {
            relay_id,
            epochs: vec![only],
            bundle: None,
            grants: vec![Grant::default()],
            access: Access::Open,
            app: app.to_vec(),
            max_connections: 4096,
            tickets: TicketOptions::default(),
        }
    }
}

impl ServerOptions {
    fn into_engine(self) -> ServerConfig {
        ServerConfig {
            relay_id: self.relay_id,
            epochs: self.epochs,
            bundle: self.bundle,
            grants: self.grants,
            access: self.access,
            app: self.app,
            max_connections: self.max_connections,
            tickets: self.tickets,
        }
    }
}

impl std::fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerOptions")
            .field("relay_id", &self.relay_id)
            .field(
                "epochs",
                &self.epochs.iter().map(|one| one.epoch).collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}

/// What happens to a datagram when the queue of its connection is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatagramPolicy {
    /// The oldest waiting datagram goes, and is counted; of those with a flow the oldest of the flow that has most. Best for
    /// tunnels and media.
    #[default]
    DropOldest,
    /// `send_datagram` refuses with [`crate::SendDatagramError::Full`].
    Refuse,
    /// As `Refuse`; the sender is expected to use [`crate::Connection::send_datagram_wait`].
    Wait,
}

/// Knobs of a connection. The defaults suit the open Internet.
#[derive(Clone, Debug)]
pub struct TransportOptions {
    /// Congestion control.
    pub congestion: Algorithm,
    /// Silence after which a connection ends (the smaller of both sides' counts).
    pub idle_timeout: Duration,
    /// Sends something after this much silence, so that neither the peer nor a NAT forgets the connection.
    pub keep_alive: Option<Duration>,
    /// Time a handshake may take.
    pub handshake_timeout: Duration,
    /// Flow-control windows and queue bounds.
    pub limits: Limits,
    /// What a full datagram queue does.
    pub datagram_policy: DatagramPolicy,
    /// Whether this machine claims AES instructions; `None`: look.
    pub has_aes: Option<bool>,
    /// The cryptographic primitives: pure Rust, or those of another package, such as `transport-crypto-aws-lc`.
    pub provider: &'static dyn Provider,
    /// Looks for datagrams larger than 1232 bytes on each path.
    pub mtu_search: bool,
    /// The largest UDP payload sent or taken, bytes; at least 1232. 1472 fits Ethernet.
    pub max_udp_payload: u16,
    /// Age at which packet keys are replaced, ± a fifth (RFC 9001 §6); the cipher's own bounds stand beside it.
    pub key_update_interval: Duration,
    /// Paths a connection may have at once, 1 to 4, one of them in use; 1: the first for good.
    pub max_paths: u32,
    /// What a client does by itself when the path in use falls silent and no other waits.
    pub failover: Failover,
    /// What is told and asked of addresses, and direct paths: [`crate::tunnel::PeerLink`] wants `ask` and `direct`.
    pub addresses: AddressOptions,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            congestion: Algorithm::default(),
            idle_timeout: Duration::from_secs(30),
            keep_alive: None,
            handshake_timeout: Duration::from_secs(30),
            limits: Limits::default(),
            datagram_policy: DatagramPolicy::default(),
            has_aes: None,
            provider: DEFAULT_PROVIDER,
            mtu_search: true,
            max_udp_payload: 1472,
            key_update_interval: Duration::from_mins(10),
            max_paths: 4,
            failover: Failover::Off,
            addresses: AddressOptions::default(),
        }
    }
}

impl TransportOptions {
    /// Whether this processor has AES and carry-less multiplication instructions: without them AES-256-GCM is slow and not
    /// constant-time, so the machine asks for ChaCha20-Poly1305.
    pub fn machine_has_aes() -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
        }
        #[cfg(target_arch = "aarch64")]
        {
            std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            false
        }
    }

    fn into_engine(self) -> TransportConfig {
        TransportConfig {
            algorithm: self.congestion,
            aes: self.has_aes.unwrap_or_else(Self::machine_has_aes),
            provider: self.provider,
            idle_timeout: self.idle_timeout,
            keep_alive: self.keep_alive,
            handshake_timeout: self.handshake_timeout,
            limits: Arc::new(self.limits),
            mtu_search: self.mtu_search,
            max_udp_payload: self.max_udp_payload,
            key_update_interval: self.key_update_interval,
            max_paths: self.max_paths,
            addresses: self.addresses,
            datagram_receive_bytes: RECEIVE_QUEUE_BYTES,
            ..TransportConfig::default()
        }
    }
}

/// One connect.
pub struct ConnectOptions {
    /// The relay's signed bundle.
    pub bundle: Bundle,
    /// Enrolled identity; `None`: an anonymous throw-away key.
    pub identity: Option<ClientIdentity>,
    /// The grant that makes the relay answer.
    pub grant: Grant,
    /// The application protocol, as both sides must name it.
    pub app: Vec<u8>,
    /// Use this address instead of the bundle's first numeric one.
    pub server: Option<SocketAddr>,
    /// Cipher preference.
    pub suite: SuiteChoice,
    /// A ticket of this relay, to come back with. One that does not fit (another relay or identity, too old) is not used; one
    /// that the relay does not take leads to a full handshake.
    pub ticket: Option<ClientTicket>,
    /// Leave by the [carrier](crate::Endpoint::attach) with this address instead of the socket; never by anything else, then.
    pub via: Option<IpAddr>,
}

impl ConnectOptions {
    /// Anonymous, zero grant, address from the bundle, cipher by what both machines do well.
    pub fn new(bundle: Bundle, app: &[u8]) -> Self {
        Self {
            bundle,
            identity: None,
            grant: Grant::default(),
            app: app.to_vec(),
            server: None,
            suite: SuiteChoice::default(),
            ticket: None,
            via: None,
        }
    }

    /// The address to connect to: the override, or the bundle's first numeric endpoint.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.server.or_else(|| {
            self.bundle
                .endpoints()
                .iter()
                .find_map(|endpoint| match endpoint.address {
                    EndpointAddress::Ip(ip) => Some(SocketAddr::new(ip, endpoint.port)),
                    EndpointAddress::Name(_) => None,
                })
        })
    }
}

impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// The addresses a bundle leads to, in its order, host names resolved by the system (this blocks on DNS; call it where
/// that is acceptable, never on the driver). The error is the last name's when nothing was found.
pub fn resolve_endpoint(bundle: &Bundle) -> std::io::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    let mut failure = std::io::Error::new(std::io::ErrorKind::NotFound, "the bundle names no endpoint");
    for endpoint in bundle.endpoints() {
        match &endpoint.address {
            EndpointAddress::Ip(ip) => found.push(SocketAddr::new(*ip, endpoint.port)),
            EndpointAddress::Name(name) => match (name.as_str(), endpoint.port).to_socket_addrs() {
                Ok(addresses) => found.extend(addresses),
                Err(error) => failure = error,
            },
        }
    }
    if found.is_empty() { Err(failure) } else { Ok(found) }
}
