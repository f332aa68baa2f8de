//! IP tunnels at the relay (RFC 9484): addresses for clients, and the way of packets between clients and the device.
//!
//! `pool` knows who has which address. `gateway` is the router: every packet of a client is checked against what that client may
//! say, every packet of the device goes to the client whose address it names. `serve` is one request.

mod gateway;
mod pool;
mod serve;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::service::Shared;
use crate::driver::clock;
use crate::ip::Network;
use crate::local::{Handle, TunDevice, yield_now};
use crate::masque::lane::Lane;
use crate::tun::Tun;
use crate::tunnel::ip::{FrameReader, TunPort};
use crate::{Entropy, OsEntropy};

pub(super) use gateway::Gateway;
pub use pool::{Lease, MAX_LEASES, PoolError};
pub(super) use serve::serve;

/// What a relay offers to those who ask for IP.
pub struct IpService {
    /// One network of IPv4, one of IPv6, or both. The relay takes the first address of each; clients get the others.
    pub pools: Vec<Network>,
    /// What clients are told that the relay routes to, the pools themselves aside. Default routes are judged by the relay's
    /// [target policy](super::TargetPolicy) as well, networks named here are allowed as they are.
    pub routes: Vec<Network>,
    /// Whether clients reach each other.
    pub between_clients: bool,
    /// Where packets go and come from. Its addresses are the caller's business, as is what lies behind it.
    pub device: Tun,
    /// What clients had before.
    pub leases: Vec<Lease>,
    /// Told each lease that has changed, on the relay's thread: it must not block.
    pub on_lease: Box<dyn FnMut(Lease) + Send>,
}

impl fmt::Debug for IpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IpService")
            .field("pools", &self.pools)
            .field("routes", &self.routes)
            .field("between_clients", &self.between_clients)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// Frames read from the device before others have their turn.
const FRAMES: usize = 16;

/// Puts the router between the service's device and clients to come.
pub(super) fn attach<L: Lane>(
    at: &Handle,
    service: IpService,
    shared: &Arc<Shared>,
) -> io::Result<Rc<Gateway<L>>> {
    let device = TunDevice::new(at, service.device)?;
    let port = Rc::new(TunPort::new(device.clone()));
    let plan = gateway::Plan {
        pools: service.pools,
        routes: service.routes,
        between_clients: service.between_clients,
        leases: service.leases,
        on_lease: service.on_lease,
    };
    let mut seed = [0; 8];
    OsEntropy
        .fill(&mut seed)
        .map_err(|_| io::Error::other("the system gives no randomness"))?;
    let gateway = Gateway::new(plan, port, u64::from_ne_bytes(seed), Arc::clone(shared))
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let gateway = Rc::new(gateway);
    let work = read_device(FrameReader::new(device), Rc::clone(&gateway));
    at.spawn(work).map_err(io::Error::other)?;
    Ok(gateway)
}

/// Hands on what the device gives, until it breaks.
async fn read_device<L: Lane>(mut reader: FrameReader, gateway: Rc<Gateway<L>>) {
    loop {
        for _ in 0..FRAMES {
            match reader.next().await {
                Ok(frame) => {
                    if let Some(member) = gateway.take_from_device(clock::now().instant, frame) {
                        member.taken().await;
                    }
                }
                Err(error) => {
                    tracing::error!(target: "adit::relay", %error, "the TUN device is gone");
                    return;
                }
            }
        }
        yield_now().await;
    }
}
