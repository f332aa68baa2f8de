//! A driver on a thread of its own, with a poller of its own.

use std::io;
use std::time::Duration;

use mio::{Registry, Token, Waker};

use super::command::Alarm;
use crate::local::guest::{Guest, Turn};
use crate::local::selector::Selector;

const ALARM: Token = Token(0);
/// Readiness events taken from the kernel at once.
const EVENTS: usize = 64;
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
    selector: Selector,
    busy: Duration,
}

impl Poller {
    /// One that looks for events for `busy` before it sleeps. Also gives what ends its sleep.
    pub(super) fn new(busy: Duration) -> io::Result<(Self, Box<dyn Alarm>)> {
        let selector = Selector::new(EVENTS)?;
        let alarm = Box::new(MioAlarm(Waker::new(selector.registry(), ALARM)?));
        Ok((Self { selector, busy }, alarm))
    }

    pub(super) fn registry(&self) -> io::Result<Registry> {
        self.selector.registry().try_clone()
    }

    pub(super) fn wait(&mut self, guest: &mut impl Guest, limit: Option<Duration>) -> io::Result<()> {
        let ready = self.selector.select(limit, self.busy)?;
        for event in ready.filter(|event| event.token() != ALARM) {
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
