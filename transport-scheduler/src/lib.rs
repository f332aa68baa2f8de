//! Decides who speaks next, and keeps each speaker's bytes in order.
#![forbid(unsafe_code)]

mod control;
mod event;
mod face;
mod id;
mod limits;
mod token;
mod violation;

use std::time::{Duration, Instant};

pub use control::{Control, Input};
pub use event::Event;
pub use face::{Chunk, DatagramOptions, Grant, Next, QueueState, Read, Stats};
pub use id::{Class, DatagramId, Direction, Side, StreamId};
pub use limits::{Limits, PeerLimits};
pub use token::Token;
pub use violation::{DatagramError, ReadError, ReceiveError, Refused, StreamsExhausted, Violation, WriteError};

/// All streams and datagrams of one connection.
pub struct Scheduler {}

#[allow(unused_variables, clippy::unused_self, reason = "bodies follow")]
#[allow(missing_docs, clippy::needless_pass_by_value, clippy::needless_pass_by_ref_mut, reason = "bodies follow")]
impl Scheduler {
    pub fn new(side: Side, limits: Limits) -> Self { Self {} }
    pub fn next(&mut self, now: Instant) -> Option<Next> { unreachable!() }
    pub fn take(&mut self, now: Instant, grant: Grant) -> Option<Chunk<'_>> { unreachable!() }
    pub fn acked(&mut self, token: Token) { unreachable!() }
    pub fn lost(&mut self, token: Token) { unreachable!() }
    /// Sends the content again although it is not lost (a probe); a datagram is not repeated.
    pub fn repeat(&mut self, token: Token) { unreachable!() }
    pub fn receive(&mut self, now: Instant, input: Input<'_>) -> Result<(), ReceiveError> { unreachable!() }
    pub fn limits(&mut self, peer: PeerLimits) { unreachable!() }
    /// The largest datagram payload that fits a packet of the path now, bytes.
    pub fn set_max_datagram(&mut self, bytes: usize) { unreachable!() }
    pub fn poll_event(&mut self) -> Option<Event> { unreachable!() }
    pub fn set_srtt(&mut self, srtt: Duration) { unreachable!() }
    pub fn next_timeout(&self) -> Option<Instant> { unreachable!() }
    pub fn on_timeout(&mut self, now: Instant) { unreachable!() }
    pub fn has_pending(&self) -> bool { unreachable!() }
    pub fn open(&mut self, direction: Direction) -> Result<StreamId, StreamsExhausted> { unreachable!() }
    pub fn accept(&mut self, direction: Direction) -> Option<StreamId> { unreachable!() }
    pub fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, WriteError> { unreachable!() }
    pub fn writable(&self, id: StreamId) -> usize { unreachable!() }
    pub fn finish(&mut self, id: StreamId) -> Result<(), WriteError> { unreachable!() }
    pub fn reset(&mut self, id: StreamId, code: u64) -> Result<(), WriteError> { unreachable!() }
    pub fn read(&mut self, id: StreamId, out: &mut [u8]) -> Result<Read, ReadError> { unreachable!() }
    pub fn stop(&mut self, id: StreamId, code: u64) -> Result<(), ReadError> { unreachable!() }
    pub fn set_class(&mut self, id: StreamId, class: Class) { unreachable!() }
    pub fn send_datagram(&mut self, now: Instant, data: Vec<u8>, options: DatagramOptions) -> Result<DatagramId, DatagramError> { unreachable!() }
    pub fn datagram_queue(&self) -> QueueState { unreachable!() }
    pub fn memory(&self) -> usize { unreachable!() }
    pub fn stats(&self) -> Stats { unreachable!() }
}
