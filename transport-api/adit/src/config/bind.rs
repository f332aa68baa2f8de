//! `[bind]`: ports of this machine for clients.

use std::net::IpAddr;

use serde::Deserialize;

use super::parsed_list;
use crate::exit::{Code, Outcome, fail};

/// Addresses of a bound port (`Proxy-Public-Address`).
const MAX_PUBLIC: usize = transport_api::masque::bind::address::MAX_ADDRESSES;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bind {
    /// Clients may have ports of this machine (CONNECT-UDP bind).
    pub(crate) enabled: bool,
    /// The addresses that clients are told they are reached at; empty: those by which this machine reaches the world.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) public: Vec<IpAddr>,
    /// Compression contexts of one port at once.
    pub(crate) max_contexts: usize,
}

impl Default for Bind {
    fn default() -> Self {
        Self {
            enabled: true,
            public: Vec::new(),
            max_contexts: 256,
        }
    }
}

impl Bind {
    pub(super) fn check(&self, shown: &str) -> Outcome {
        if self.public.len() > MAX_PUBLIC {
            return fail(
                Code::Config,
                format!("{shown}: [bind] public: at most {MAX_PUBLIC} addresses"),
            );
        }
        Ok(())
    }
}
