//! One connection.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use transport_crypto::{ClientId, RelayId, Suite};
use transport_scheduler::{
    Class, DatagramError, DatagramId, DatagramOptions, Direction, QueueState, Read, ReadError, StreamId,
    StreamsExhausted, WriteError,
};

use crate::config::Now;
use crate::error::CloseReason;

mod stats;

pub use stats::ConnectionStats;

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// The relay with this identity.
    Relay(RelayId),
    /// An enrolled client.
    Client(ClientId),
    /// A client with a throw-away key.
    Anonymous,
}

/// What the handshake brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Who is at the other end.
    pub peer: Peer,
    /// The packet cipher.
    pub suite: Suite,
    /// From the first datagram of the handshake to the end of it, as this end saw it.
    pub handshake: Duration,
}

/// Something the application should know.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The connection stands; the first event.
    Connected(Info),
    /// About a stream, or a datagram that was sent.
    Stream(transport_scheduler::Event),
    /// A datagram message arrived.
    DatagramReceived(Vec<u8>),
    /// The peer moved to another address.
    PathChanged {
        /// Where it is now.
        remote: SocketAddr,
    },
    /// Datagram messages may have another length now.
    MtuChanged {
        /// The longest that fits, in bytes.
        max_datagram: usize,
    },
    /// The connection is over; the last event.
    Closed(CloseReason),
}

/// One connection. What is called here takes effect with the next [`crate::Endpoint::poll`].
pub struct Connection {}

#[allow(unused_variables, clippy::unused_self, missing_docs, clippy::needless_pass_by_ref_mut, reason = "bodies follow")]
impl Connection {
    pub fn open(&mut self, direction: Direction) -> Result<StreamId, StreamsExhausted> { unreachable!() }
    pub fn accept(&mut self, direction: Direction) -> Option<StreamId> { unreachable!() }
    pub fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, WriteError> { unreachable!() }
    pub fn writable(&self, id: StreamId) -> usize { unreachable!() }
    pub fn finish(&mut self, id: StreamId) -> Result<(), WriteError> { unreachable!() }
    pub fn reset(&mut self, id: StreamId, code: u64) -> Result<(), WriteError> { unreachable!() }
    pub fn read(&mut self, id: StreamId, out: &mut [u8]) -> Result<Read, ReadError> { unreachable!() }
    pub fn stop(&mut self, id: StreamId, code: u64) -> Result<(), ReadError> { unreachable!() }
    pub fn set_class(&mut self, id: StreamId, class: Class) { unreachable!() }
    pub fn send_datagram(&mut self, now: Now, data: Vec<u8>, options: DatagramOptions) -> Result<DatagramId, DatagramError> { unreachable!() }
    pub fn datagram_queue(&self) -> QueueState { unreachable!() }
    pub fn max_datagram(&self) -> usize { unreachable!() }
    pub fn close(&mut self, now: Now, code: u64, reason: &[u8]) { unreachable!() }
    /// Whether it was possible: not before the peer is known to have the keys, nor too soon after the last time.
    pub fn update_keys(&mut self) -> bool { unreachable!() }
    pub fn stats(&self) -> ConnectionStats { unreachable!() }
    pub fn export(&self, label: &[u8], out: &mut [u8]) { unreachable!() }
    pub fn remote(&self) -> SocketAddr { unreachable!() }
    pub fn is_closed(&self) -> bool { unreachable!() }
    pub fn peer(&self) -> Peer { unreachable!() }
    pub fn suite(&self) -> Suite { unreachable!() }
    pub fn memory(&self) -> usize { unreachable!() }
}
