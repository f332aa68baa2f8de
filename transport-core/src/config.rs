//! What an endpoint and its connections are told.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use transport_crypto::{Bundle, ClientId, ClientIdentity, ClientTicket, Grant, RelayId, RelayStatics};
use transport_reliability::Algorithm;
use transport_scheduler::Limits;

use crate::trace::Observer;

/// The present moment, as the driver or the simulator sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// For everything that lasts.
    pub instant: Instant,
    /// For what is compared across machines: milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Now {
    /// Minutes since the Unix epoch.
    pub(crate) fn unix_minutes(self) -> u64 {
        self.unix_ms / 60_000
    }
}

/// An endpoint: one place datagrams come from and go to, any number of connections.
pub struct EndpointConfig {
    /// Answers handshakes as this relay; `None` for an endpoint that only connects.
    pub server: Option<ServerConfig>,
    /// Knobs of every connection.
    pub transport: TransportConfig,
    /// Sees everything that happens.
    pub observer: Option<Box<dyn Observer + Send>>,
}

/// Who this endpoint is when it answers.
pub struct ServerConfig {
    /// The handshake keys of one epoch.
    pub statics: RelayStatics,
    /// The identity clients know from the bundle.
    pub relay_id: RelayId,
    /// The epoch the bundle gives the keys.
    pub epoch: u64,
    /// Whose datagrams are answered; at most [`ServerConfig::MAX_GRANTS`], more are ignored.
    pub grants: Vec<Grant>,
    /// Which identities get a connection.
    pub access: Access,
    /// What the streams carry; the client must name the same.
    pub app: Vec<u8>,
    /// Connections at most, half-open ones included.
    pub max_connections: usize,
    /// Tickets, with which clients come back, and what those allow.
    pub tickets: TicketOptions,
}

/// The tickets a relay gives: how many, how long they last, whether data may come along with the first flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TicketOptions {
    /// Given to a client when it is confirmed, at most [`TicketOptions::MAX_COUNT`]; one more with each address it proves later.
    /// Zero: none at all, and tickets are not taken either.
    pub count: u8,
    /// Time a ticket lasts; at most [`TicketOptions::MAX_LIFETIME`].
    pub lifetime: Duration,
    /// Bytes of packets a client may send along with its first flight, at most [`TicketOptions::MAX_EARLY`]. Zero: never. The
    /// relay's application then gets data that may be a copy of an earlier flight, once for each relay that has the same
    /// ticket keys and `replay_domain`; what that means stands with [`crate::Connection::is_early`].
    pub early_bytes: u32,
    /// Names the one relay that takes early data on its tickets. Relays that share ticket keys must have different ones. Zero: a
    /// random one is chosen at the start.
    pub replay_domain: u32,
}

impl TicketOptions {
    /// The most tickets given at once.
    pub const MAX_COUNT: u8 = 4;
    /// Tickets do not outlive the keys they are sealed with: a day.
    pub const MAX_LIFETIME: Duration = Duration::from_hours(24);
    /// The most early data of one flight, bytes: what the relay would hold for a hello that is not complete.
    pub const MAX_EARLY: u32 = 16_384;
}

impl Default for TicketOptions {
    fn default() -> Self {
        Self {
            count: 2,
            lifetime: Self::MAX_LIFETIME,
            early_bytes: 0,
            replay_domain: 0,
        }
    }
}

impl ServerConfig {
    /// Trial decryption costs one AES block a grant and datagram, so their number is small.
    pub const MAX_GRANTS: usize = 4;

    /// A relay with the zero grant (everyone who has the bundle) and room for 100,000 connections.
    pub fn new(statics: RelayStatics, relay_id: RelayId, epoch: u64, access: Access, app: Vec<u8>) -> Self {
        Self {
            statics,
            relay_id,
            epoch,
            grants: vec![Grant::default()],
            access,
            app,
            max_connections: 100_000,
            tickets: TicketOptions::default(),
        }
    }
}

/// Which identities a relay serves. Others meet silence.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everyone, anonymous clients included.
    Open,
    /// Enrolled clients of this list.
    AllowList(BTreeSet<ClientId>),
}

/// Which packet cipher a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SuiteChoice {
    /// AES-256-GCM if both ends have AES instructions, else `ChaCha20-Poly1305`.
    #[default]
    Auto,
    /// `ChaCha20-Poly1305`.
    ChaCha20Poly1305,
    /// AES-256-GCM if the relay has AES instructions.
    Aes256Gcm,
}

/// Whom to connect to, and as whom.
pub struct Connect {
    /// The relay's bundle.
    pub bundle: Bundle,
    /// Enrolled identity; `None`: an anonymous throw-away key.
    pub identity: Option<ClientIdentity>,
    /// The grant that makes the relay answer.
    pub grant: Grant,
    /// Where the relay is.
    pub remote: SocketAddr,
    /// What the streams carry; the relay must say the same. At most 64 bytes.
    pub app: Vec<u8>,
    /// Cipher preference.
    pub suite: SuiteChoice,
    /// A ticket of this relay, to come back with. One that does not fit (another relay or identity, too old) is not used.
    pub resume: Option<ClientTicket>,
    /// With a ticket that allows it: the connection can be used at once, and what is marked as safe to be repeated
    /// ([`crate::Connection::allow_early`]) goes along with the first flight.
    pub early: bool,
}

/// Knobs of a connection. The defaults suit the open Internet.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Congestion control.
    pub algorithm: Algorithm,
    /// This machine has AES instructions. Told, not probed, so that the same seed gives the same bytes everywhere.
    pub aes: bool,
    /// Silence after which a connection ends; the smaller of both sides' counts, but at least three PTO. Zero: never.
    pub idle_timeout: Duration,
    /// Says something after this much silence, so that neither the peer nor a NAT forgets the connection.
    pub keep_alive: Option<Duration>,
    /// Time a handshake may take.
    pub handshake_timeout: Duration,
    /// Flow control windows and queue bounds.
    pub limits: Limits,
    /// The largest UDP payload sent or taken, bytes; at least 1232.
    pub max_udp_payload: u16,
    /// Looks for a larger path MTU than the base of 1232.
    pub mtu_search: bool,
    /// The largest datagram message taken, bytes; zero: none.
    pub max_datagram: u16,
    /// Bytes of received datagram messages kept for the application; what arrives beyond is dropped.
    pub datagram_receive_bytes: usize,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Cubic,
            aes: false,
            idle_timeout: Duration::from_secs(30),
            keep_alive: None,
            handshake_timeout: Duration::from_secs(30),
            limits: Limits::default(),
            max_udp_payload: 1472,
            mtu_search: true,
            max_datagram: u16::MAX,
            datagram_receive_bytes: 1 << 20,
        }
    }
}
