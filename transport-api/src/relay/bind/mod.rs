//! CONNECT-UDP bind (draft-ietf-masque-connect-udp-listen): a port of this machine for a client.
//!
//! `address` chooses where a client is reached, `judge` whom it may reach, `ports` is who else is bound here, and `tunnel` carries
//! packets. The rules of contexts are in `masque::bind`.

mod address;
mod judge;
mod ports;
mod tunnel;

use std::net::IpAddr;

pub(super) use address::Public;
pub use ports::Neighbours;
pub(super) use tunnel::serve;

use crate::masque::bind::{Dialect, Limits};

/// How a relay serves bind.
#[derive(Clone, Debug)]
pub struct BindConfig {
    /// Whether it does; otherwise requests with a target are plain CONNECT-UDP, and others are refused.
    pub enabled: bool,
    /// Where clients are told they are reached, at most eight: what the world calls this machine, if it stands behind a translator
    /// that gives each of its addresses another one with the same ports. Empty: the addresses by which it reaches the world itself.
    pub addresses: Vec<IpAddr>,
    /// Contexts of a tunnel at once, and answers that a client does not take.
    pub limits: Limits,
    /// Who else is bound.
    pub neighbours: Neighbours,
    /// Which revision of the draft clients speak.
    pub dialect: Dialect,
}

impl Default for BindConfig {
    /// Served, at the machine's own addresses.
    fn default() -> Self {
        Self {
            enabled: true,
            addresses: Vec::new(),
            limits: Limits::default(),
            neighbours: Neighbours::new(),
            dialect: Dialect::Current,
        }
    }
}
