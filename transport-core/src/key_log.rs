//! What an endpoint tells whoever was explicitly asked to record keys.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use transport_crypto::TrafficSecrets;

use crate::config::Now;

/// Is told the secrets of every connection, so that a recording of it can be read later. It undoes what this transport is
/// for: only for finding faults, by whoever runs the endpoint. Called in the midst of work: it must not block for long.
pub trait KeyLog {
    /// A connection's keys were made. Secrets of early data are not told.
    fn connection(&mut self, now: Now, entry: &KeyLogEntry<'_>);
}

/// The keys of one connection.
pub struct KeyLogEntry<'a> {
    /// This end dialled.
    pub client: bool,
    /// Where the other end is.
    pub remote: SocketAddr,
    /// What the packet keys are derived from.
    pub secrets: &'a TrafficSecrets,
}
