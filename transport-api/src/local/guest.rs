//! Who lives on a loop beside its tasks: a driver, with sources and deadlines of its own.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::Registry;
use mio::event::Event;

use super::task::Remote;

/// Tokens from here on are guests', so many each.
pub(super) const FIRST_TOKEN: usize = 1 << 48;
const TOKENS: usize = 1 << 32;

/// How a turn of a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It may be slept: for so long at most, or until something rings.
    Sleep(Option<Duration>),
    /// It has nothing more to do, ever.
    Over,
}

/// Shares a thread and a poller with others.
pub(crate) trait Guest {
    /// Does what there is to do, without waiting.
    fn turn(&mut self) -> io::Result<Turn>;
    /// One of its sources is ready.
    fn on_ready(&mut self, event: &Event);
}

/// Ends the sleep of a loop from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Arc<Remote>);

impl Bell {
    pub(crate) fn ring(&self) -> io::Result<()> {
        self.0.ring()
    }
}

/// What a guest needs to move in.
pub(crate) struct Room {
    pub(crate) registry: Registry,
    pub(crate) first_token: usize,
    pub(crate) bell: Bell,
}

struct Tenant {
    first_token: usize,
    guest: Box<dyn Guest>,
}

/// All guests of a loop.
pub(super) struct Guests {
    tenants: RefCell<Vec<Tenant>>,
    admitted: Cell<usize>,
}

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guests")
            .field("admitted", &self.admitted.get())
            .finish_non_exhaustive()
    }
}

impl Guests {
    pub(super) fn new() -> Self {
        Self {
            tenants: RefCell::default(),
            admitted: Cell::new(0),
        }
    }

    /// Tokens are never used twice: an event that is under way must not find the next tenant.
    pub(super) fn room(&self, registry: &Registry, remote: &Arc<Remote>) -> io::Result<Room> {
        let number = self.admitted.get();
        self.admitted.set(number + 1);
        Ok(Room {
            registry: registry.try_clone()?,
            first_token: FIRST_TOKEN + number * TOKENS,
            bell: Bell(Arc::clone(remote)),
        })
    }

    pub(super) fn admit(&self, first_token: usize, guest: Box<dyn Guest>) {
        self.tenants.borrow_mut().push(Tenant { first_token, guest });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tenants.borrow().is_empty()
    }

    /// Everybody's turn; how long may be slept at most. Nothing is borrowed meanwhile: a turn calls wakers.
    pub(super) fn turn(&self) -> Option<Duration> {
        let mut limit = None;
        let mut tenants = self.tenants.take();
        tenants.retain_mut(|tenant| match tenant.guest.turn() {
            Ok(Turn::Sleep(at_most)) => {
                limit = limit.into_iter().chain(at_most).min();
                true
            }
            Ok(Turn::Over) => false,
            Err(error) => {
                tracing::error!(target: "adit::local", %error, "a guest of the loop ends");
                false
            }
        });
        let admitted = self.tenants.replace(tenants);
        self.tenants.borrow_mut().extend(admitted);
        limit
    }

    pub(super) fn dispatch(&self, event: &Event) {
        let of = |tenant: &&mut Tenant| {
            event
                .token()
                .0
                .checked_sub(tenant.first_token)
                .is_some_and(|token| token < TOKENS)
        };
        if let Some(tenant) = self.tenants.borrow_mut().iter_mut().find(of) {
            tenant.guest.on_ready(event);
        }
    }

    pub(super) fn clear(&self) {
        drop(self.tenants.take());
    }
}
