//! The endpoint: where datagrams come in and go out.
#![forbid(unsafe_code)]

use std::time::Instant;

use transport_crypto::Entropy;

use crate::buffer::{Batch, Route};
use crate::config::{Access, Connect, EndpointConfig, Now};
use crate::connection::{Connection, Event};
use crate::error::ConnectError;
use crate::timer::Why;
use crate::trace::Drops;

/// Names a connection at its endpoint, also after it is gone: a handle is never given out twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle {
    slot: u32,
    generation: u32,
}

/// What an endpoint wants done.
#[derive(Debug)]
pub enum Output {
    /// Send the batch this way, then poll again.
    Transmit(Route),
    /// Tell the application, then poll again.
    Event(Handle, Event),
    /// Nothing more; call [`Endpoint::handle_timeout`] at the moment named, if any, unless something else happens before.
    Wait(Option<(Instant, Why)>),
}

/// Figures of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Connections that stand, closing ones included.
    pub connections: usize,
    /// Handshakes answered whose client has not yet shown that it has the keys.
    pub half_open: usize,
    /// Handshakes begun as a client that are not over.
    pub dialing: usize,
    /// Handshakes answered since the start.
    pub handshakes_answered: u64,
    /// Connections since the start.
    pub handshakes_completed: u64,
    /// Datagrams received.
    pub received_datagrams: u64,
    /// Bytes of UDP payload received.
    pub received_bytes: u64,
    /// What was dropped, by reason.
    pub drops: Drops,
}

/// Connections over one socket, and the door for new ones.
pub struct Endpoint {}

#[allow(unused_variables, clippy::unused_self, missing_docs, clippy::needless_pass_by_ref_mut, clippy::needless_pass_by_value, reason = "bodies follow")]
impl Endpoint {
    pub fn new(config: EndpointConfig, seed: [u8; 32], entropy: Box<dyn Entropy + Send>) -> Self { unreachable!() }
    pub fn connect(&mut self, now: Now, target: Connect) -> Result<Handle, ConnectError> { unreachable!() }
    pub fn cancel(&mut self, now: Now, handle: Handle) { unreachable!() }
    pub fn handle_datagram(&mut self, now: Now, route: Route, datagram: &mut [u8]) { unreachable!() }
    pub fn handle_timeout(&mut self, now: Now) { unreachable!() }
    pub fn poll(&mut self, now: Now, batch: &mut Batch) -> Output { unreachable!() }
    pub fn connection(&mut self, handle: Handle) -> Option<&mut Connection> { unreachable!() }
    pub fn close_all(&mut self, now: Now, code: u64, reason: &[u8]) { unreachable!() }
    pub fn refuse_new(&mut self, on: bool) { unreachable!() }
    pub fn replace_access(&mut self, access: Access) { unreachable!() }
    pub fn stats(&self) -> EndpointStats { unreachable!() }
    pub fn memory(&self) -> usize { unreachable!() }
}
