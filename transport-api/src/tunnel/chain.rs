//! Chains: the connection to one relay travels through a UDP tunnel of the relay before it, so that the first knows the client but not
//! its targets, and the last the targets but not the client.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::client::Client;
use super::error::{TunnelError, TunnelErrorKind};
use super::udp::{UdpSender, UdpTunnel};
use crate::local::Handle;
use crate::{
    AttachError, Carrier, CarrierInput, ConnectError, ConnectOptions, Connection, Endpoint, EndpointAddress,
    Peer, RelayId, Wait,
};

/// Relays of a chain at most, the last one included: each takes 31 bytes or more of every packet, and after four of them a path of 1,280
/// bytes is as narrow as a connection can bear.
pub const MAX_HOPS: usize = 4;

/// How long an outer connection waits for the last words of the one inside.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What must be driven in the background for one hop of a chain, until it ends by itself.
pub type ChainWork = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why a chain cannot be built, or broke, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainError {
    /// Which relay could not be reached, or whose tunnel ended: 0 is the outermost.
    pub hop: usize,
    /// Relays of the chain.
    pub hops: usize,
    /// That relay; `None` when there is none.
    pub relay: Option<RelayId>,
    /// What happened.
    pub kind: ChainErrorKind,
}

/// What went wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainErrorKind {
    /// It has no relays, or more than [`MAX_HOPS`].
    Length,
    /// The relay occurs twice. Nothing was sent.
    Loop,
    /// The bundle leads nowhere.
    NoAddress,
    /// The relay did not answer, or refused.
    Connect(ConnectError),
    /// The relay before gave no tunnel to it, or the tunnel ended.
    Tunnel(TunnelError),
    /// The endpoint takes no more carriers.
    Attach(AttachError),
    /// There was nobody to do the background work: a full loop, or no thread.
    Background(String),
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == ChainErrorKind::Length {
            return write!(f, "a chain has 1 to {MAX_HOPS} relays, not {}", self.hops);
        }
        write!(f, "relay {} of {}", self.hop + 1, self.hops)?;
        if let Some(relay) = self.relay {
            write!(f, " ({relay})")?;
        }
        match &self.kind {
            ChainErrorKind::Length => Ok(()),
            ChainErrorKind::Loop => f.write_str(": it stands in the chain twice"),
            ChainErrorKind::NoAddress => f.write_str(": its bundle names no address"),
            ChainErrorKind::Connect(error) => write!(f, ": {error}"),
            ChainErrorKind::Tunnel(error) => write!(f, ": no way there by the relay before it: {error}"),
            ChainErrorKind::Attach(error) => write!(f, ": {error}"),
            ChainErrorKind::Background(error) => write!(f, ": no background work: {error}"),
        }
    }
}

impl std::error::Error for ChainError {}

/// A connection to a relay through others. It is as good as any connection; what is peculiar to it is told here.
///
/// Outer connections end when the one inside them does, and one inside with the tunnel that carries it. Each runs a congestion control of its
/// own: the innermost sees the outer ones' queues as the network's.
#[derive(Clone, Debug)]
pub struct Chain {
    /// To the last relay, and to those before it.
    connection: Connection,
    outer: Vec<Connection>,
    relays: Vec<RelayId>,
    broken: Broken,
}

/// The first hop whose tunnel ended, and why.
type Broken = Arc<Mutex<Option<ChainError>>>;

impl Chain {
    /// Connects to each relay through those before it, the outermost first, with background work on `local`.
    ///
    /// A relay whose bundle names no numeric address is resolved by the relay before it. Every relay counts once ([`MAX_HOPS`] at most), and
    /// what each is asked for, identity and ticket included, stands in its own options.
    ///
    /// Cancel-safe: dropping the future gives up all of it.
    pub async fn start(
        local: &Handle,
        endpoint: &Endpoint,
        relays: Vec<ConnectOptions>,
    ) -> Result<Self, ChainError> {
        let spawn = |work: ChainWork| local.spawn(work).map_err(|error| error.to_string());
        Self::build(endpoint, relays, &spawn).await
    }

    /// The same with a thread for each piece of background work, two a hop.
    pub async fn start_threads(endpoint: &Endpoint, relays: Vec<ConnectOptions>) -> Result<Self, ChainError> {
        let spawn = |work: ChainWork| {
            let thread = std::thread::Builder::new().name("adit-chain".into());
            thread
                .spawn(move || work.wait())
                .map(drop)
                .map_err(|error| error.to_string())
        };
        Self::build(endpoint, relays, &spawn).await
    }

    async fn build(
        endpoint: &Endpoint,
        options: Vec<ConnectOptions>,
        spawn: &dyn Fn(ChainWork) -> Result<(), String>,
    ) -> Result<Self, ChainError> {
        let relays: Vec<RelayId> = options.iter().map(|one| one.bundle.relay_id()).collect();
        Self::check(&relays)?;
        let broken = Broken::default();
        let at = |hop: usize| {
            let (relay, hops) = (relays.get(hop).copied(), relays.len());
            move |kind| ChainError {
                hop,
                hops,
                relay,
                kind,
            }
        };
        let (mut reached, mut outer_ones) = (None::<Connection>, Vec::new());
        for (hop, options) in options.into_iter().enumerate() {
            let failed = at(hop);
            let connection = match reached.take() {
                None => endpoint
                    .connect(options)
                    .await
                    .map_err(|error| failed(ChainErrorKind::Connect(error)))?,
                Some(outer) => {
                    outer_ones.push(outer.clone());
                    let client = client_of(outer, spawn).map_err(&failed)?;
                    let (connection, leg) = connect_through(endpoint, &client, options)
                        .await
                        .map_err(&failed)?;
                    let broken = Arc::clone(&broken);
                    let work = async move {
                        if let Some(error) = leg.await {
                            let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
                            broken.get_or_insert(failed(ChainErrorKind::Tunnel(error)));
                        }
                        // Its last words are still to leave; it fails only if there is nobody to hear them any more.
                        let _ = client.connection().finish_and_close(LAST_WORDS).await;
                    };
                    spawn(Box::pin(work)).map_err(|error| at(hop)(ChainErrorKind::Background(error)))?;
                    connection
                }
            };
            reached = Some(connection);
        }
        let connection = reached.ok_or_else(|| at(0)(ChainErrorKind::Length))?;
        Ok(Self {
            connection,
            outer: outer_ones,
            relays,
            broken,
        })
    }

    /// What is wrong with a chain of these relays, as [`Chain::start`] says before anything is sent.
    ///
    /// # Errors
    /// [`ChainErrorKind::Length`] and [`ChainErrorKind::Loop`].
    pub fn check(relays: &[RelayId]) -> Result<(), ChainError> {
        let wrong = |hop: usize, kind| ChainError {
            hop,
            hops: relays.len(),
            relay: relays.get(hop).copied(),
            kind,
        };
        if !(1..=MAX_HOPS).contains(&relays.len()) {
            return Err(wrong(0, ChainErrorKind::Length));
        }
        let again =
            |(hop, relay): &(usize, &RelayId)| relays.iter().take(*hop).any(|before| before == *relay);
        match relays.iter().enumerate().find(again) {
            Some((hop, _)) => Err(wrong(hop, ChainErrorKind::Loop)),
            None => Ok(()),
        }
    }

    /// The connection to the last relay.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connections to the relays before the last one, the outermost first: for their paths, tickets and bundles. They end with the
    /// last one, whoever holds them.
    pub fn outer(&self) -> &[Connection] {
        &self.outer
    }

    /// All relays, the outermost first.
    pub fn relays(&self) -> &[RelayId] {
        &self.relays
    }

    /// Which tunnel between relays ended first, and why, if one did while it was needed: the reason behind the connection's own.
    pub fn broken(&self) -> Option<ChainError> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn client_of(
    outer: Connection,
    spawn: &dyn Fn(ChainWork) -> Result<(), String>,
) -> Result<Client, ChainErrorKind> {
    let (client, work) = Client::new(outer, crate::masque::Template::relay());
    spawn(Box::pin(async move { drop(work.await) })).map_err(ChainErrorKind::Background)?;
    Ok(client)
}

/// Connects to a relay through another one, whose `client` must belong to this very endpoint or to another that lives on. Also gives the
/// background work, which must be polled until it ends, as it does with the connection or the tunnel that carries it; then it says why
/// the tunnel ended, if that was first. Dropping it ends the connection.
///
/// Cancel-safe: dropping the future gives the handshake and the tunnel up.
///
/// # Errors
/// [`ChainErrorKind::Loop`] when both are the same relay, before anything is sent; what the first relay or the second refused.
pub async fn connect_through(
    endpoint: &Endpoint,
    client: &Client,
    mut options: ConnectOptions,
) -> Result<
    (
        Connection,
        impl Future<Output = Option<TunnelError>> + Send + use<>,
    ),
    ChainErrorKind,
> {
    if client.connection().peer() == Peer::Relay(options.bundle.relay_id()) {
        return Err(ChainErrorKind::Loop);
    }
    let (host, port) = target(&options).ok_or(ChainErrorKind::NoAddress)?;
    let tunnel = client
        .connect_udp(&host, port)
        .await
        .map_err(ChainErrorKind::Tunnel)?;
    let leg = Leg::attach(endpoint, tunnel, (&host, port)).map_err(ChainErrorKind::Attach)?;
    options.via = Some(leg.input.local());
    options.server = Some(leg.from);
    let connection = {
        let (mut pump, mut connecting) = (pin!(leg.pump()), endpoint.connect(options));
        poll_fn(|cx| match pump.as_mut().poll(cx) {
            Poll::Ready(error) => Poll::Ready(Err(ChainErrorKind::Tunnel(error))),
            Poll::Pending => Pin::new(&mut connecting)
                .poll(cx)
                .map_err(ChainErrorKind::Connect),
        })
        .await?
    };
    let mut closed = connection.closed();
    let work = async move {
        let mut pump = pin!(leg.pump());
        poll_fn(|cx| match pump.as_mut().poll(cx) {
            Poll::Ready(error) => Poll::Ready(Some(error)),
            Poll::Pending => Pin::new(&mut closed).poll(cx).map(|_| None),
        })
        .await
    };
    Ok((connection, work))
}

/// What the relay before is asked for: an address, or the name of a relay that has only that.
fn target(options: &ConnectOptions) -> Option<(String, u16)> {
    if let Some(address) = options.address() {
        return Some((address.ip().to_string(), address.port()));
    }
    options
        .bundle
        .endpoints()
        .iter()
        .find_map(|endpoint| match &endpoint.address {
            EndpointAddress::Name(name) => Some((name.clone(), endpoint.port)),
            EndpointAddress::Ip(_) => None,
        })
}

/// The way from one relay to the next. Dropping it detaches it.
struct Leg {
    endpoint: Endpoint,
    tunnel: UdpTunnel,
    input: CarrierInput,
    /// The next relay, as the engine knows it.
    from: SocketAddr,
}

impl Leg {
    fn attach(
        endpoint: &Endpoint,
        tunnel: UdpTunnel,
        (host, port): (&str, u16),
    ) -> Result<Self, AttachError> {
        let input = endpoint.attach(Arc::new(Outward(tunnel.sender())))?;
        // What a name leads to only the relay before knows.
        let ip = host.parse().unwrap_or(input.local());
        Ok(Self {
            endpoint: endpoint.clone(),
            tunnel,
            input,
            from: SocketAddr::new(ip, port),
        })
    }

    /// Takes in what comes, until the tunnel ends.
    async fn pump(&self) -> TunnelError {
        loop {
            match self.tunnel.recv().await {
                Ok(datagram) => self.input.deliver(self.from, datagram.to_vec()),
                Err(error) => return error,
            };
        }
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.endpoint.detach(self.input.local());
    }
}

/// A tunnel leads to one place, whatever the engine calls that.
struct Outward(UdpSender);

impl Carrier for Outward {
    fn send(&self, _to: SocketAddr, datagram: &[u8]) {
        // What is dropped is counted where it is.
        let _ = self.0.send(datagram);
    }

    fn max_payload(&self) -> usize {
        self.0.max_payload()
    }
}

impl ChainErrorKind {
    /// Whether nobody answered, which has many causes.
    pub fn is_silence(&self) -> bool {
        use crate::CloseReason;
        match self {
            Self::Connect(ConnectError::Handshake(reason)) => *reason == CloseReason::HandshakeTimeout,
            Self::Tunnel(error) => {
                matches!(error.kind(), TunnelErrorKind::Refused | TunnelErrorKind::Timeout)
            }
            _ => false,
        }
    }
}
