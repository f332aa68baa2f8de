//! The outside by mio: one epoll instance with the socket, the alarm and a timer.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::command::Alarm;
use super::io::{Io, Sent};
use crate::engine::net::{Timer, UdpSocket};
use crate::engine::{Batch, RecvBatch, Route};

const SOCKET: Token = Token(0);
const ALARM: Token = Token(1);
const TIMER: Token = Token(2);

/// Kernel batches of up to this many GRO buffers.
const RECEIVE_SLOTS: usize = 8;

/// Sleeps shorter than this use the timer, because epoll counts in milliseconds and pacing does not.
const PRECISE: Duration = Duration::from_secs(1);

/// See [`Io`].
pub(crate) struct MioIo {
    poll: Poll,
    events: Events,
    socket: UdpSocket,
    timer: Timer,
    received: RecvBatch,
    readable: bool,
    /// The socket is registered for writing too, because a send was blocked.
    watching_writes: bool,
    failures: u64,
}

struct MioAlarm(Waker);

impl Alarm for MioAlarm {
    fn ring(&self) -> io::Result<()> {
        self.0.wake()
    }
}

impl MioIo {
    /// Registers everything; also returns what rings this instance.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<(Self, Box<dyn Alarm>)> {
        let poll = Poll::new()?;
        let alarm = Box::new(MioAlarm(Waker::new(poll.registry(), ALARM)?));
        let timer = Timer::new()?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), SOCKET, Interest::READABLE)?;
        let io = Self {
            poll,
            events: Events::with_capacity(8),
            socket,
            timer,
            received: RecvBatch::new(RECEIVE_SLOTS),
            readable: true,
            watching_writes: false,
            failures: 0,
        };
        Ok((io, alarm))
    }

    /// Write readiness is watched only while a send is blocked: otherwise each transmitted packet would wake us.
    fn watch_writes(&mut self, on: bool) -> io::Result<()> {
        if on == self.watching_writes {
            return Ok(());
        }
        let interest = if on { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        self.poll.registry().reregister(&mut SourceFd(&self.socket.as_raw_fd()), SOCKET, interest)?;
        self.watching_writes = on;
        Ok(())
    }

    fn complain(&mut self, what: &str, error: &io::Error) {
        self.failures += 1;
        if self.failures.is_power_of_two() {
            tracing::warn!(target: "adit::driver", %error, count = self.failures, "{what}");
        }
    }
}

impl Io for MioIo {
    fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let limit = match limit {
            Some(limit) if !limit.is_zero() && limit < PRECISE => {
                self.timer.arm(limit)?;
                None
            }
            other => other,
        };
        if let Err(error) = self.poll.poll(&mut self.events, limit)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &self.events {
            self.readable |= event.token() == SOCKET && event.is_readable();
        }
        Ok(())
    }

    fn receive(&mut self, each: &mut dyn FnMut(Route, &mut [u8])) -> io::Result<bool> {
        match self.socket.recv_batch(&mut self.received) {
            Ok(_) => {
                for (route, datagram) in self.received.datagrams() {
                    each(route, datagram);
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(false)
            }
            Err(error) => {
                // What ICMP said about an earlier packet, mostly; the next readiness tells more.
                self.complain("receive failed", &error);
                self.readable = false;
                Ok(false)
            }
        }
    }

    fn has_input(&self) -> bool {
        self.readable
    }

    fn send(&mut self, route: Route, batch: &mut Batch) -> Sent {
        match self.socket.send_batch(route, batch) {
            Ok(()) => {
                if let Err(error) = self.watch_writes(false) {
                    self.complain("cannot change interest", &error);
                }
                Sent::Done
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.watch_writes(true) {
                Ok(()) => Sent::Blocked,
                Err(error) => {
                    self.complain("cannot change interest", &error);
                    Sent::Done
                }
            },
            Err(error) => {
                // Unreachable networks and oversized probes are losses; recovery deals with them.
                self.complain("send failed", &error);
                Sent::Done
            }
        }
    }

    fn replace(&mut self, socket: UdpSocket) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), SOCKET, Interest::READABLE)?;
        let old = std::mem::replace(&mut self.socket, socket);
        self.poll.registry().deregister(&mut SourceFd(&old.as_raw_fd()))?;
        self.readable = true;
        self.watching_writes = false;
        Ok(())
    }
}
