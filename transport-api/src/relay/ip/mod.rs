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

use crate::ip::Network;
use crate::tun::Tun;

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
    /// Told all leases when they have changed, on the relay's thread: it must not block.
    pub on_leases: Box<dyn FnMut(Vec<Lease>) + Send>,
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
