//! A driver on a thread of its own, with a poller of its own.

use std::io;
use std::time::Duration;

use mio::{Events, Poll, Registry, Token, Waker};

use super::command::Alarm;
use crate::local::guest::{Guest, Turn};

const ALARM: Token = Token(0);
/// The first of the driver's tokens.
pub(super) const FIRST_TOKEN: usize = 1;

struct MioAlarm(Waker);

impl Alarm for MioAlarm {
    fn ring(&self) -> io::Result<()> {
        self.0.wake()
    }
}

/// One epoll instance.
pub(super) struct Poller {
    poll: Poll,
    events: Events,
}

impl Poller {
    /// Also gives what ends its sleep.
    pub(super) fn new() -> io::Result<(Self, Box<dyn Alarm>)> {
        let poll = Poll::new()?;
        let alarm = Box::new(MioAlarm(Waker::new(poll.registry(), ALARM)?));
        let events = Events::with_capacity(64);
        Ok((Self { poll, events }, alarm))
    }

    pub(super) fn registry(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone()
    }

    pub(super) fn wait(&mut self, guest: &mut impl Guest, limit: Option<Duration>) -> io::Result<()> {
        if let Err(error) = self.poll.poll(&mut self.events, limit)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in self.events.iter().filter(|event| event.token() != ALARM) {
            guest.on_ready(event);
        }
        Ok(())
    }

    /// Until the guest is over.
    pub(super) fn run(mut self, mut guest: impl Guest) -> io::Result<()> {
        while let Turn::Sleep(limit) = guest.turn()? {
            self.wait(&mut guest, limit)?;
        }
        Ok(())
    }
}
