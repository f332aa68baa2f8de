//! `[tun]`: IP tunnels through a device.

use serde::Deserialize;
use transport_api::relay::Network;

use super::{Listen, parsed_list};
use crate::exit::{Code, Outcome, fail};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tun {
    /// Serve IP tunnels (CONNECT-IP) through a TUN device.
    pub(crate) enabled: bool,
    /// One network of IPv4, one of IPv6, or both; the relay takes the first address of each.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) pool: Vec<Network>,
    /// The device.
    pub(crate) name: String,
    /// What clients are told to send here, the pools aside.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) routes: Vec<Network>,
    /// Clients reach each other.
    pub(crate) between_clients: bool,
    /// Clients leave by this machine's addresses (masquerade, by nftables).
    pub(crate) nat: bool,
}

impl Default for Tun {
    fn default() -> Self {
        Self {
            enabled: false,
            pool: ["10.77.0.0/16", "fd77::/48"]
                .iter()
                .filter_map(|pool| pool.parse().ok())
                .collect(),
            name: "adit0".into(),
            routes: Vec::new(),
            between_clients: false,
            nat: false,
        }
    }
}

impl Tun {
    /// One loop carries the packets of a device, so it has one address and one worker.
    pub(super) fn check(&self, listen: &Listen, shown: &str) -> Outcome {
        if !self.enabled {
            return Ok(());
        }
        let wrong = if self.pool.is_empty() {
            "[tun] pool is empty; name a network of IPv4, of IPv6, or one of each"
        } else if listen.udp.len() > 1 {
            "[tun] enabled wants one address in [listen] udp; [::] takes IPv4 as well"
        } else if listen.workers > 1 {
            "[tun] enabled wants [listen] workers = 1, or 0"
        } else {
            return Ok(());
        };
        fail(Code::Config, format!("{shown}: {wrong}"))
    }
}
