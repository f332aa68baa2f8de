//! What routers say about the size of packets (ICMP, RFC 792, RFC 8201), which anybody could say.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::net::{IpAddr, SocketAddr};

use super::Endpoint;
use super::slab::Occupant;

/// Bytes of the headers before the UDP payload, without options.
fn overhead(remote: SocketAddr) -> u16 {
    match remote.ip().to_canonical() {
        IpAddr::V4(_) => 28,
        IpAddr::V6(_) => 48,
    }
}

impl Endpoint {
    /// A message said that packets to `remote` may have `mtu` bytes, IP header included, because one that begins with the UDP
    /// payload `quoted` was too big. It is a hint and no more (RFC 8899 §4.6.1): it counts only if it quotes 16 bytes of a
    /// large packet that a connection sent there lately, and names less than what is used but no less than the floor of
    /// 1,000 bytes of payload. Then probes ask whether the size in use still passes; it falls only when they are lost. Gives
    /// whether it counted. Walks all connections, so whoever calls it should not do so without a bound.
    pub fn handle_too_big(&mut self, remote: SocketAddr, mtu: u16, quoted: &[u8]) -> bool {
        let payload = mtu.saturating_sub(overhead(remote));
        let heeded = self
            .slab
            .iter_mut_from(0)
            .find_map(|(slot, occupant)| match occupant {
                Occupant::Live(connection, _) => {
                    connection.on_too_big(remote, payload, quoted).then_some(slot)
                }
                Occupant::Free | Occupant::Dial(_) => None,
            });
        if let Some(slot) = heeded {
            self.slab.mark(slot);
        }
        let stats = &mut self.watch.stats;
        match heeded {
            Some(_) => stats.size_hints += 1,
            None => stats.size_hints_ignored += 1,
        }
        heeded.is_some()
    }
}
