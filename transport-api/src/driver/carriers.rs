//! Carriers: what brings datagrams out of this process and into it without being a socket of the system, such as a tunnel.
//!
//! To the engine a carrier is one more address of this machine, of the prefix that no network carries (`100::/64`, RFC 6666): routes that
//! begin there lead through it. What it brings waits in a bounded queue of its own, and rings the driver.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::command::{Mailbox, Mark};
use super::shared::lock;
use crate::engine::{Batch, Endpoint, Now, Route};

/// Carriers of one endpoint at once.
const MAX_CARRIERS: usize = 64;
/// What may wait of one: some bursts of a fast tunnel.
const MAX_DATAGRAMS: usize = 1024;
const MAX_BYTES: usize = 1 << 20;

/// The discard-only prefix (RFC 6666).
const PREFIX: [u16; 4] = [0x100, 0, 0, 0];

/// Carries datagrams for an [`Endpoint`](crate::Endpoint), as UDP would: any of them may be lost.
pub trait Carrier: Send + Sync {
    /// Sends `datagram` to `to`, or drops it. Called on the driver's thread without any lock of ours, so it must not block; it may use
    /// connections of the same endpoint.
    fn send(&self, to: SocketAddr, datagram: &[u8]);

    /// The longest datagram that can be sent now, in bytes; longer ones are dropped. Asked before each batch, so it must be quick. Paths
    /// follow it down at once, and up by probes. Below 1,000 no connection can begin.
    fn max_payload(&self) -> usize;
}

/// What became of a carrier's datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CarrierFigures {
    /// Taken from [`CarrierInput::deliver`].
    pub received: u64,
    /// Dropped on the way in: 1,024 datagrams or 1 MiB waited already.
    pub dropped_full: u64,
    /// Dropped on the way in: the carrier is detached, or the endpoint over.
    pub dropped_detached: u64,
    /// Given to [`Carrier::send`].
    pub sent: u64,
    /// Dropped on the way out: longer than [`Carrier::max_payload`].
    pub dropped_too_long: u64,
}

/// Why a carrier cannot be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachError {
    /// The endpoint has several workers, and what comes in would reach one alone.
    Workers,
    /// It has 64 carriers.
    TooMany,
    /// It is over.
    EndpointClosed,
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workers => "an endpoint with several workers takes no carriers",
            Self::TooMany => "the endpoint has as many carriers as it takes",
            Self::EndpointClosed => "the endpoint is closed",
        })
    }
}

impl std::error::Error for AttachError {}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    bytes: usize,
    detached: bool,
}

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    dropped_full: AtomicU64,
    dropped_detached: AtomicU64,
    sent: AtomicU64,
    dropped_too_long: AtomicU64,
}

/// The two ends of one carrier, as the driver and its input share them.
#[derive(Debug)]
pub(crate) struct Port {
    local: IpAddr,
    mailbox: Arc<Mailbox>,
    queue: Mutex<Queue>,
    counts: Counts,
}

impl Port {
    /// False: dropped.
    fn push(self: &Arc<Self>, from: SocketAddr, datagram: Vec<u8>) -> bool {
        let first = {
            let mut queue = lock(&self.queue);
            if queue.detached {
                self.counts.dropped_detached.fetch_add(1, Relaxed);
                return false;
            }
            if queue.waiting.len() >= MAX_DATAGRAMS || queue.bytes + datagram.len() > MAX_BYTES {
                self.counts.dropped_full.fetch_add(1, Relaxed);
                return false;
            }
            self.counts.received.fetch_add(1, Relaxed);
            queue.bytes += datagram.len();
            queue.waiting.push_back((from, datagram));
            queue.waiting.len() == 1
        };
        // Whoever finds it empty rings; those who come after are found along with it.
        !first || self.mailbox.post(Mark::Carried(Arc::clone(self)))
    }

    /// Driver: takes what waits, at most what fits the queue at once.
    pub(super) fn take(&self, now: Now, engine: &mut Endpoint) {
        let waiting = {
            let mut queue = lock(&self.queue);
            queue.bytes = 0;
            std::mem::take(&mut queue.waiting)
        };
        for (from, mut datagram) in waiting {
            let remote = SocketAddr::new(from.ip().to_canonical(), from.port());
            let route = Route {
                remote,
                local: Some(self.local),
            };
            engine.handle_datagram(now, route, &mut datagram);
        }
    }

    fn detach(&self) {
        let waiting = {
            let mut queue = lock(&self.queue);
            queue.detached = true;
            std::mem::take(&mut queue.waiting)
        };
        self.counts
            .dropped_detached
            .fetch_add(waiting.len() as u64, Relaxed);
    }
}

/// Where a carrier brings what it hears. Clones are the same one.
#[derive(Clone, Debug)]
pub struct CarrierInput(Arc<Port>);

impl CarrierInput {
    /// The address that stands for the carrier: for [`ConnectOptions::via`](crate::ConnectOptions::via),
    /// [`Connection::add_path`](crate::Connection::add_path) and [`Endpoint::detach`](crate::Endpoint::detach).
    pub fn local(&self) -> IpAddr {
        self.0.local
    }

    /// A datagram came from `from`. Never waits; false: it was dropped, and counted.
    #[expect(
        clippy::must_use_candidate,
        reason = "UDP promises nothing, and drops are counted"
    )]
    pub fn deliver(&self, from: SocketAddr, datagram: Vec<u8>) -> bool {
        self.0.push(from, datagram)
    }

    /// What became of the carrier's datagrams until now.
    pub fn figures(&self) -> CarrierFigures {
        let counts = &self.0.counts;
        CarrierFigures {
            received: counts.received.load(Relaxed),
            dropped_full: counts.dropped_full.load(Relaxed),
            dropped_detached: counts.dropped_detached.load(Relaxed),
            sent: counts.sent.load(Relaxed),
            dropped_too_long: counts.dropped_too_long.load(Relaxed),
        }
    }
}

/// One carrier and what is known of it.
pub(crate) struct Attached {
    carrier: Arc<dyn Carrier>,
    port: Arc<Port>,
    /// What the engine was told of its width; 0: nothing yet.
    told: AtomicUsize,
}

impl Attached {
    /// Bytes of payload that leave by it now.
    pub(crate) fn width(&self) -> usize {
        self.carrier.max_payload()
    }

    /// Sends each datagram of a batch. Gives the width when the engine should know it.
    pub(super) fn carry(&self, to: SocketAddr, batch: &Batch) -> Option<u16> {
        let width = self.width();
        let counts = &self.port.counts;
        let (mut sent, mut too_long) = (0, 0);
        for datagram in batch.segments() {
            if datagram.len() > width {
                too_long += 1;
            } else {
                self.carrier.send(to, datagram);
                sent += 1;
            }
        }
        counts.sent.fetch_add(sent, Relaxed);
        counts.dropped_too_long.fetch_add(too_long, Relaxed);
        // Paths that others opened are known by what they send.
        let news = self.told.swap(width, Relaxed) != width || too_long > 0;
        news.then(|| narrow(width))
    }
}

/// As the engine counts.
pub(crate) fn narrow(width: usize) -> u16 {
    u16::try_from(width).unwrap_or(u16::MAX)
}

#[derive(Default)]
struct Table {
    attached: BTreeMap<IpAddr, Arc<Attached>>,
    /// Addresses are not given twice: a packet that is under way must not find the next carrier.
    given: u64,
    closed: bool,
}

/// All carriers of an endpoint.
#[derive(Default)]
pub(crate) struct Carriers(Mutex<Table>);

impl fmt::Debug for Carriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(lock(&self.0).attached.keys()).finish()
    }
}

impl Carriers {
    pub(crate) fn attach(
        &self,
        carrier: Arc<dyn Carrier>,
        mailbox: &Arc<Mailbox>,
    ) -> Result<CarrierInput, AttachError> {
        let mut table = lock(&self.0);
        if table.closed {
            return Err(AttachError::EndpointClosed);
        }
        if table.attached.len() >= MAX_CARRIERS {
            return Err(AttachError::TooMany);
        }
        table.given += 1;
        let port = Arc::new(Port {
            local: address(table.given),
            mailbox: Arc::clone(mailbox),
            queue: Mutex::default(),
            counts: Counts::default(),
        });
        let attached = Attached {
            carrier,
            port: Arc::clone(&port),
            told: AtomicUsize::new(0),
        };
        table.attached.insert(port.local, Arc::new(attached));
        Ok(CarrierInput(port))
    }

    pub(crate) fn get(&self, local: IpAddr) -> Option<Arc<Attached>> {
        lock(&self.0).attached.get(&local).cloned()
    }

    /// False: it was not attached.
    pub(crate) fn detach(&self, local: IpAddr) -> bool {
        // What a carrier does when it goes is done without the lock.
        let attached = lock(&self.0).attached.remove(&local);
        if let Some(attached) = &attached {
            attached.port.detach();
        }
        attached.is_some()
    }

    /// The endpoint is over.
    pub(super) fn end(&self) {
        let all = {
            let mut table = lock(&self.0);
            table.closed = true;
            std::mem::take(&mut table.attached)
        };
        for one in all.values() {
            one.port.detach();
        }
    }
}

/// The address of the carrier with this number.
fn address(number: u64) -> IpAddr {
    let [a, b, c, d] = PREFIX.map(u128::from);
    let prefix = a << 112 | b << 96 | c << 80 | d << 64;
    Ipv6Addr::from_bits(prefix | u128::from(number)).into()
}

/// The carrier's address at which a route begins, if one does.
pub(super) fn carried(route: Route) -> Option<IpAddr> {
    route.local.filter(|local| is_carrier(*local))
}

/// Whether an address stands for a carrier.
pub(crate) fn is_carrier(local: IpAddr) -> bool {
    matches!(local, IpAddr::V6(ip) if ip.segments().starts_with(&PREFIX))
}
