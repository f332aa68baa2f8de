//! The driver: one thread per endpoint.

pub mod clock;
pub(crate) mod command;
pub(crate) mod shared;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::EndpointConfig;
use shared::EndpointShared;

pub(crate) fn start(_config: EndpointConfig) -> io::Result<Arc<EndpointShared>> {
    unreachable!()
}

pub(crate) fn rebind(_shared: &Arc<EndpointShared>, _addr: SocketAddr) -> io::Result<()> {
    unreachable!()
}
