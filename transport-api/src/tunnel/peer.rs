//! Peers: connections between two clients of relays, by their bind tunnels at first, and directly when the NATs before them allow it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::bind::{BindSender, BoundUdp};
use super::client::Client;
use crate::local::Handle;
use crate::{
    Addresses, AttachError, Carrier, CarrierInput, ConnectError, ConnectOptions, Connection, Endpoint, Wait,
};

/// Background work, which ends by itself.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why a peer cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerError {
    /// The endpoint takes no more carriers.
    Attach(AttachError),
    /// The peer did not answer, or refused.
    Connect(ConnectError),
    /// There was nobody to do the background work: a full loop, or no thread.
    Background(String),
    /// The endpoint is closed.
    EndpointClosed,
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach(error) => write!(f, "{error}"),
            Self::Connect(error) => write!(f, "{error}"),
            Self::Background(error) => write!(f, "no background work: {error}"),
            Self::EndpointClosed => f.write_str("the endpoint is closed"),
        }
    }
}

impl std::error::Error for PeerError {}

/// One client's way to others, and theirs to it: a bind tunnel, and the endpoint's own socket once a direct path is found. Clones are the
/// same one; the tunnel stays while one of them, or a connection made by it, is there.
///
/// A peer is known by a bundle of its own identity and the public address of its tunnel ([`BoundUdp::public_addrs`]), both given out of
/// band. Its endpoint answers under that identity ([`EndpointConfig::server`](crate::EndpointConfig::server)), so an endpoint may serve, connect, and
/// use its relay at the same time.
///
/// A direct path is looked for when both endpoints have [`AddressOptions::direct`](crate::AddressOptions::direct): each then offers the address its relay
/// sees it at, which takes [`AddressOptions::ask`](crate::AddressOptions::ask), and what was given as its own. Without that, or with
/// [`AddressOptions::force_relay`](crate::AddressOptions::force_relay), everything goes by the relay and neither learns where the other is. A connection that may be silent for
/// longer than its idle timeout wants [`TransportOptions::keep_alive`](crate::TransportOptions::keep_alive).
#[derive(Clone)]
pub struct PeerLink(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    /// Keeps the connection to the relay.
    relay: Client,
    input: CarrierInput,
    public: Vec<SocketAddr>,
    own: Vec<SocketAddr>,
    desk: Arc<Desk>,
}

impl fmt::Debug for PeerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerLink")
            .field("public", &self.0.public)
            .finish_non_exhaustive()
    }
}

impl PeerLink {
    /// Makes `bound`, a tunnel of `relay`'s, a way of `endpoint`'s to its peers, with two tasks on `local` that do the background work.
    /// `own` are addresses of the endpoint's socket that peers may reach by themselves, such as those of a network they share; each
    /// peer is told them.
    ///
    /// # Errors
    /// [`PeerError::Attach`], [`PeerError::Background`].
    pub fn start(
        local: &Handle,
        endpoint: &Endpoint,
        relay: &Client,
        bound: BoundUdp,
        own: &[SocketAddr],
    ) -> Result<Self, PeerError> {
        Self::build(endpoint, relay, bound, own, &|work| {
            local.spawn(work).map_err(|error| error.to_string())
        })
    }

    /// The same with two threads.
    ///
    /// # Errors
    /// As for [`PeerLink::start`].
    pub fn start_threads(
        endpoint: &Endpoint,
        relay: &Client,
        bound: BoundUdp,
        own: &[SocketAddr],
    ) -> Result<Self, PeerError> {
        Self::build(endpoint, relay, bound, own, &|work| {
            let thread = std::thread::Builder::new().name("adit-peer".into());
            let spawned = thread.spawn(move || work.wait());
            spawned.map(drop).map_err(|error| error.to_string())
        })
    }

    fn build(
        endpoint: &Endpoint,
        relay: &Client,
        bound: BoundUdp,
        own: &[SocketAddr],
        spawn: &dyn Fn(Work) -> Result<(), String>,
    ) -> Result<Self, PeerError> {
        let public = bound.public_addrs().to_vec();
        let outward = Arc::new(Outward::new(&bound));
        let input = endpoint.attach(outward).map_err(PeerError::Attach)?;
        let inner = Arc::new(Inner {
            endpoint: endpoint.clone(),
            relay: relay.clone(),
            public,
            own: own.to_vec(),
            input: input.clone(),
            desk: Arc::default(),
        });
        let desk = Arc::clone(&inner.desk);
        let pump = pump(bound, input, Arc::clone(&desk));
        spawn(Box::pin(pump)).map_err(PeerError::Background)?;
        spawn(Box::pin(Tending {
            desk,
            under_way: Vec::new(),
        }))
        .map_err(PeerError::Background)?;
        Ok(Self(inner))
    }

    /// Where peers find this end: what they are to be given, together with its bundle.
    pub fn public_addrs(&self) -> &[SocketAddr] {
        &self.0.public
    }

    /// Connects to the peer whose bundle `options` has, and whose tunnel is found at `public`. The connection is as good as any; which
    /// way it goes tells [`Connection::path_changes`].
    ///
    /// Cancel-safe: dropping the future gives the handshake up.
    ///
    /// # Errors
    /// [`PeerError::Connect`].
    pub async fn connect(
        &self,
        options: ConnectOptions,
        public: SocketAddr,
    ) -> Result<Connection, PeerError> {
        let options = ConnectOptions {
            server: Some(public),
            via: Some(self.0.input.local()),
            ..options
        };
        let connecting = self.0.endpoint.connect(options);
        let connection = connecting.await.map_err(PeerError::Connect)?;
        self.tend(&connection);
        Ok(connection)
    }

    /// The next connection of a peer's: any that the endpoint [accepts](Endpoint::accept), who it is says [`Connection::peer`].
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`PeerError::EndpointClosed`].
    pub async fn accept(&self) -> Result<Connection, PeerError> {
        let incoming = self.0.endpoint.accept().await;
        let connection = incoming.ok_or(PeerError::EndpointClosed)?.accept();
        self.tend(&connection);
        Ok(connection)
    }

    /// While the connection lasts its peer is told where this end may be reached.
    fn tend(&self, connection: &Connection) {
        self.0.desk.add(Box::pin(tend(self.clone(), connection)));
    }

    /// This end's addresses, now that the relay sees it at `observed`.
    fn addresses(&self, observed: Option<SocketAddr>) -> Vec<SocketAddr> {
        let own = self.0.own.iter().copied();
        let mut all: Vec<SocketAddr> = observed.into_iter().chain(own).collect();
        all.dedup();
        all
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.endpoint.detach(self.input.local());
        self.desk.stop();
    }
}

/// Tells the peer what the relay sees, and again when that changes, until the connection ends. Neither connection is kept open for it, the
/// way to the relay is.
fn tend(link: PeerLink, connection: &Connection) -> impl Future<Output = ()> + Send + use<> {
    let (peer, mut closed) = (connection.addresses(), connection.closed());
    async move {
        let relay: Addresses = link.0.relay.connection().addresses();
        let mut known = relay.observed();
        loop {
            if peer.offer(link.addresses(known)).await.is_err() {
                // There will be no direct path; the tunnel is needed all the same.
                closed.await;
                return;
            }
            let mut changed = relay.observed_changed(known);
            let observed = poll_fn(|cx| {
                if Pin::new(&mut closed).poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                Pin::new(&mut changed).poll(cx).map(Result::ok)
            });
            match observed.await {
                Some(address) => known = Some(address),
                None => break,
            }
        }
        // The relay may be gone while the direct path goes on.
        closed.await;
    }
}

/// Takes in what comes by the tunnel, until it ends or nobody needs it.
async fn pump(bound: BoundUdp, input: CarrierInput, desk: Arc<Desk>) {
    loop {
        let received = {
            let mut receive = pin!(bound.recv_from());
            poll_fn(|cx| {
                if desk.is_over(cx.waker()) {
                    return Poll::Ready(None);
                }
                receive.as_mut().poll(cx).map(Result::ok)
            })
            .await
        };
        let Some((datagram, from)) = received else {
            return;
        };
        input.deliver(from, datagram.to_vec());
    }
}

/// What a link tells its two tasks.
#[derive(Default)]
struct Desk(Mutex<Orders>);

#[derive(Default)]
struct Orders {
    /// Connections to be tended from now on.
    new: Vec<Work>,
    over: bool,
    pump: Option<Waker>,
    tending: Option<Waker>,
}

impl Desk {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection more.
    fn add(&self, work: Work) {
        let (waker, refused) = {
            let mut orders = self.orders();
            if orders.over {
                (None, Some(work))
            } else {
                orders.new.push(work);
                (orders.tending.take(), None)
            }
        };
        // It may hold the link itself.
        drop(refused);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nobody needs the tunnel any more.
    fn stop(&self) {
        let (wakers, left) = {
            let mut orders = self.orders();
            orders.over = true;
            (
                [orders.pump.take(), orders.tending.take()],
                std::mem::take(&mut orders.new),
            )
        };
        drop(left);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn is_over(&self, waker: &Waker) -> bool {
        let mut orders = self.orders();
        orders.pump = Some(waker.clone());
        orders.over
    }
}

/// The task that tends all connections: what wakes it is rare, so it looks at each of them.
struct Tending {
    desk: Arc<Desk>,
    under_way: Vec<Work>,
}

impl Future for Tending {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (new, over) = {
            let mut orders = self.desk.orders();
            orders.tending = Some(cx.waker().clone());
            (std::mem::take(&mut orders.new), orders.over)
        };
        self.under_way.extend(new);
        self.under_way
            .retain_mut(|work| work.as_mut().poll(cx).is_pending());
        // The last of them may have been the last to need the link.
        if over || self.desk.orders().over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        // The loop it lived on is over: what was not begun never will be.
        self.desk.stop();
    }
}

/// The tunnel, as the endpoint sends by it.
struct Outward {
    sender: BindSender,
    /// Stands for peers the relay knows nothing of, to whom the least fits.
    anybody: SocketAddr,
}

impl Outward {
    fn new(bound: &BoundUdp) -> Self {
        let v6 = bound.public_addrs().iter().find(|address| address.is_ipv6());
        let any = v6.or(bound.public_addrs().first());
        let anybody = any.map_or(SocketAddr::from(([0; 4], 0)), |address| {
            SocketAddr::new(address.ip(), 0)
        });
        Self {
            sender: bound.sender(),
            anybody,
        }
    }
}

impl Carrier for Outward {
    fn send(&self, to: SocketAddr, datagram: &[u8]) {
        // UDP promises nothing; paths find out what fits.
        let _ = self.sender.send_to(datagram, to);
    }

    fn max_payload(&self) -> usize {
        self.sender.max_payload(self.anybody)
    }
}
