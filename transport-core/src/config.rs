//! What an endpoint and its connections are told.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_crypto::provider::{DEFAULT as DEFAULT_PROVIDER, Provider};
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

/// The handshake keys of one epoch of a relay, and how long they serve.
#[derive(Clone)]
pub struct RelayEpoch {
    /// The keys.
    pub statics: RelayStatics,
    /// The number the bundle gives them.
    pub epoch: u64,
    /// The last second they answer anybody, Unix seconds: that of the bundle.
    pub not_after_s: u64,
}

impl RelayEpoch {
    /// The epoch `bundle` announces; `statics` are the secret half of the keys in it.
    pub fn of(bundle: &Bundle, statics: RelayStatics) -> Self {
        Self {
            statics,
            epoch: bundle.epoch(),
            not_after_s: bundle.not_after(),
        }
    }
}

/// Who this endpoint is when it answers.
pub struct ServerConfig {
    /// The identity clients know from the bundle.
    pub relay_id: RelayId,
    /// The epochs whose holders are answered; of more than [`ServerConfig::MAX_EPOCHS`] the newest.
    pub epochs: Vec<RelayEpoch>,
    /// The newest bundle: sent in-band to clients that came by an older one. See [`ServerConfig::check`].
    pub bundle: Option<Bundle>,
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
    /// Trial decryption costs one AES block for each grant, epoch and datagram, so their number is small.
    pub const MAX_GRANTS: usize = 4;
    /// The epoch in use and the one before, which lives until its bundle ends.
    pub const MAX_EPOCHS: usize = 2;

    /// A relay with one epoch that does not end, the zero grant (everyone who has the bundle) and room for 100,000
    /// connections.
    pub fn new(statics: RelayStatics, relay_id: RelayId, epoch: u64, access: Access, app: Vec<u8>) -> Self {
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
            access,
            app,
            max_connections: 100_000,
            tickets: TicketOptions::default(),
        }
    }

    /// Whether a relay `relay_id` can serve these epochs and hand out this bundle.
    pub fn check(
        relay_id: RelayId,
        epochs: &[RelayEpoch],
        bundle: Option<&Bundle>,
    ) -> Result<(), EpochsError> {
        if epochs.is_empty() || epochs.len() > Self::MAX_EPOCHS {
            return Err(EpochsError::Count);
        }
        let repeats = |(at, one): (usize, &RelayEpoch)| {
            epochs.iter().skip(at + 1).any(|other| other.epoch == one.epoch)
        };
        if epochs.iter().enumerate().any(repeats) {
            return Err(EpochsError::Repeated);
        }
        let Some(bundle) = bundle else { return Ok(()) };
        if bundle.relay_id() != relay_id {
            return Err(EpochsError::WrongRelay);
        }
        let served = |one: &RelayEpoch| one.epoch == bundle.epoch() && one.statics.kh() == bundle.kh();
        if epochs.iter().any(served) {
            Ok(())
        } else {
            Err(EpochsError::NotServed)
        }
    }
}

/// Why epochs cannot be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EpochsError {
    /// This endpoint answers nobody.
    NotARelay,
    /// None, or more than [`ServerConfig::MAX_EPOCHS`].
    Count,
    /// Two epochs of the same number.
    Repeated,
    /// The bundle is another relay's.
    WrongRelay,
    /// The bundle names keys that are not among the epochs: whoever took it would be locked out.
    NotServed,
}

impl fmt::Display for EpochsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotARelay => "this endpoint is no relay",
            Self::Count => "a relay serves one or two epochs",
            Self::Repeated => "two epochs have the same number",
            Self::WrongRelay => "the bundle belongs to another relay",
            Self::NotServed => "the bundle's keys are not among those served",
        })
    }
}

impl std::error::Error for EpochsError {}

/// Which identities a relay serves. Others meet silence.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everyone, anonymous clients included.
    Open,
    /// Enrolled clients of this list.
    AllowList(BTreeSet<ClientId>),
    /// Everyone but these enrolled clients. Anonymous clients have no name to be refused by.
    Except(BTreeSet<ClientId>),
}

impl Access {
    /// Whether an enrolled client, or an anonymous one (`None`), may have a connection.
    pub fn allows(&self, client: Option<&ClientId>) -> bool {
        match self {
            Self::Open => true,
            Self::AllowList(list) => client.is_some_and(|id| list.contains(id)),
            Self::Except(list) => client.is_none_or(|id| !list.contains(id)),
        }
    }

    /// From now on none of `clients` may have a connection.
    pub fn revoke(&mut self, clients: &[ClientId]) {
        match self {
            Self::Open => *self = Self::Except(clients.iter().copied().collect()),
            Self::AllowList(list) => list.retain(|id| !clients.contains(id)),
            Self::Except(list) => list.extend(clients),
        }
    }
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
    /// The address of this machine it begins at; `None` leaves that to the system.
    pub local: Option<IpAddr>,
    /// Bytes of UDP payload that can leave from there, where that is known; at least 1,000. See [`crate::Endpoint::set_width`].
    pub width: Option<u16>,
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

/// What is told and asked of addresses, and whether a direct path is looked for. Nothing of it happens unless both ends want it.
#[derive(Clone, Copy, Debug)]
pub struct AddressOptions {
    /// A peer that asks is told from which address its packets come.
    pub tell: bool,
    /// The peer is asked for that: [`crate::Event::AddressObserved`].
    pub ask: bool,
    /// A connection by a detour looks for a direct path through NATs; see [`crate::Connection::offer_addresses`]. Needs two paths at
    /// least.
    pub direct: bool,
    /// No direct path is looked for, whatever `direct` says, and no peer's attempt is answered: neither end learns the other's address.
    pub force_relay: bool,
    /// Which addresses may get a few packets because the peer named them. The default is [`crate::is_public`]; between peers that may
    /// share a private network, [`crate::is_host`]. What lets loopback, link-local or multicast addresses pass makes this end a tool
    /// against what listens there.
    pub allow: fn(SocketAddr) -> bool,
}

impl Default for AddressOptions {
    fn default() -> Self {
        Self {
            tell: true,
            ask: false,
            direct: false,
            force_relay: false,
            allow: crate::reach::is_public,
        }
    }
}

/// Knobs of a connection. The defaults suit the open Internet.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Congestion control.
    pub algorithm: Algorithm,
    /// This machine has AES instructions. Told, not probed, so that the same seed gives the same bytes everywhere.
    pub aes: bool,
    /// The cryptographic primitives. What must be the same twice, such as a simulation, leaves this as it is.
    pub provider: &'static dyn Provider,
    /// Silence after which a connection ends; the smaller of both sides' counts, but at least three PTO. Zero: never.
    pub idle_timeout: Duration,
    /// Says something after this much silence, so that neither the peer nor a NAT forgets the connection.
    pub keep_alive: Option<Duration>,
    /// Time a handshake may take.
    pub handshake_timeout: Duration,
    /// Flow control windows and queue bounds, which all connections share.
    pub limits: Arc<Limits>,
    /// The largest UDP payload sent or taken, bytes; at least 1232.
    pub max_udp_payload: u16,
    /// Looks for a larger path MTU than the base of 1232.
    pub mtu_search: bool,
    /// Path ids alive at once, 1 to 4: one path carries the data, the others wait or come to their end. 1: the connection has one
    /// path for good, and the peer is told that there are no others. Both ends need at least 2.
    pub max_paths: u32,
    /// Addresses told and asked, and direct paths.
    pub addresses: AddressOptions,
    /// The largest datagram message taken, bytes; zero: none.
    pub max_datagram: u16,
    /// Bytes of received datagram messages kept for the application; what arrives beyond is dropped.
    pub datagram_receive_bytes: usize,
    /// Packets after which a packet key is replaced; the cipher's own bound (2^24, or 2^22 with AES-256-GCM) stands when it
    /// is smaller.
    pub key_update_packets: u64,
    /// Age at which a packet key is replaced, ± a fifth, so that nobody counts on it. Never sooner than three PTO after the
    /// last change.
    pub key_update_interval: Duration,
    /// Packets that failed to open, over all keys of a connection, after which it ends (RFC 9001 §6.6); at most 2^32 count.
    pub forgery_limit: u64,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            aes: false,
            provider: DEFAULT_PROVIDER,
            idle_timeout: Duration::from_secs(30),
            keep_alive: None,
            handshake_timeout: Duration::from_secs(30),
            limits: Arc::default(),
            max_udp_payload: 1472,
            mtu_search: true,
            max_paths: 4,
            addresses: AddressOptions::default(),
            max_datagram: u16::MAX,
            datagram_receive_bytes: 1 << 20,
            key_update_packets: u64::MAX,
            key_update_interval: Duration::from_mins(10),
            forgery_limit: 1 << 32,
        }
    }
}
