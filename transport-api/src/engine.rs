//! Words of the engine, by their seam names, until `transport_core` brings them.
#![allow(
    missing_docs,
    dead_code,
    unused_variables,
    clippy::all,
    clippy::pedantic,
    reason = "replaced by re-exports of transport_core"
)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    pub unix_ms: u64,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);
impl StreamId {
    pub fn get(self) -> u64 {
        self.0
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Bi,
    Uni,
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    Control,
    Realtime,
    #[default]
    Interactive,
    Bulk,
    Background,
}
#[derive(Clone, Copy, Debug, Default)]
pub struct DatagramOptions {
    pub class: Class,
    pub deadline: Option<Instant>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    ChaCha20Poly1305 = 1,
    Aes256Gcm = 2,
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SuiteChoice {
    #[default]
    Auto,
    ChaCha20Poly1305,
    Aes256Gcm,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(pub [u8; 32]);
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub [u8; 32]);
#[derive(Clone, Copy, Default)]
pub struct Grant(pub [u8; 32]);
pub struct RelayStatics(());
pub struct ClientIdentity(());
#[derive(Clone)]
pub struct Bundle(Vec<BundleEndpoint>);
impl Bundle {
    pub fn endpoints(&self) -> &[BundleEndpoint] {
        &self.0
    }
}
#[derive(Clone, Debug)]
pub enum EndpointAddress {
    Ip(IpAddr),
    Name(String),
}
#[derive(Clone, Debug)]
pub struct BundleEndpoint {
    pub address: EndpointAddress,
    pub port: u16,
    pub cover: u8,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    Malformed(&'static str),
}
impl std::fmt::Display for BundleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Local,
    Peer,
}
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    Application { code: u64, reason: Vec<u8>, by: By },
    Idle,
    HandshakeTimeout,
    Refused { code: u64 },
    Transport { code: u64, by: By },
}
impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Relay(RelayId),
    Client(ClientId),
    Anonymous,
}
pub enum Access {
    Open,
    AllowList(BTreeSet<ClientId>),
}
#[derive(Clone, Copy, Debug, Default)]
pub enum Algorithm {
    #[default]
    Cubic,
    Fixed {
        bytes_per_s: u64,
    },
}
#[derive(Clone, Debug, Default)]
pub struct Limits {}
#[derive(Clone, Debug, Default)]
pub struct ConnectionStats {}
#[derive(Clone, Debug, Default)]
pub struct EndpointStats {}
pub struct Connect {
    pub bundle: Bundle,
    pub identity: Option<ClientIdentity>,
    pub grant: Grant,
    pub remote: SocketAddr,
    pub app: Vec<u8>,
    pub suite: SuiteChoice,
}
pub trait Observer {}
pub mod net {
    pub struct UdpSocket;
}
