//! What the driver asks of the outside: receive, send, and be woken.

use std::io;
use std::time::{Duration, Instant};

use crate::engine::net::{Caps, UdpSocket};
use crate::engine::{Batch, Handle, Joined, Now, Route};

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The batch is gone: to the kernel, or lost as a network loses packets.
    Done,
    /// The kernel's buffer is full: keep the batch, sleep, try again.
    Blocked,
}

/// The sockets of one driver. Production is [`super::mio::MioIo`].
pub(crate) trait Io {
    /// Sees to it that a sleep that begins at `now` ends after `limit`, at most 250 µs later. Gives what the poller itself has to
    /// count; `None` when something will ring.
    fn set_alarm(&mut self, now: Instant, limit: Duration) -> io::Result<Option<Duration>>;

    /// What the poller found ready.
    fn on_ready(&mut self, event: &mio::event::Event);

    /// Hands at most one kernel batch of datagrams of the common socket to `each`. True: there may be more, ask again.
    fn receive(&mut self, each: &mut dyn FnMut(Joined<'_>)) -> io::Result<bool>;

    /// Whether `receive` has work without sleeping first.
    fn has_input(&self) -> bool;

    /// The same from the lanes.
    fn receive_lane(&mut self, now: Now, each: &mut dyn FnMut(Joined<'_>)) -> bool;

    /// Whether `receive_lane` has work without sleeping first.
    fn has_lane_input(&self) -> bool;

    /// Gives a connection a lane: a socket that hears its peer alone. Without one, the common socket hears it.
    fn open_lane(&mut self, now: Now, handle: Handle, route: Route);

    /// Takes it away; whether there was one.
    fn close_lane(&mut self, handle: Handle) -> bool;

    /// Whether a sleep ends when the common socket has something.
    fn listen(&mut self, on: bool) -> io::Result<()>;

    /// Sends one batch.
    fn send(&mut self, route: Route, batch: &mut Batch) -> Sent;

    /// From now on what leaves from an address of this machine leaves by the interface that has it.
    fn learn_interfaces(&mut self);

    /// What the kernel offers on the socket.
    fn caps(&self) -> Caps;

    /// Changes to another socket; unread datagrams of the old one are dropped.
    fn replace(&mut self, socket: UdpSocket) -> io::Result<()>;
}
