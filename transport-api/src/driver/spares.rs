//! Vectors for datagrams, between the engine and those who forward: whichever way the datagrams go, both have some.

use std::time::{Duration, Instant};

use super::command::Mailbox;
use super::shared::lock;
use crate::engine::Spares;

/// How often vectors that nobody needs are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// When to look next; `None` while there are none.
#[derive(Debug, Default)]
pub(super) struct Stock(Option<Instant>);

impl Stock {
    /// Lets the engine's vectors and those in the mailbox meet.
    pub(super) fn turn(&mut self, now: Instant, engine: &mut Spares, mailbox: &Mailbox) {
        let mut left = lock(&mailbox.spares);
        engine.even_out(&mut left);
        if self.0.is_some_and(|due| due <= now) {
            engine.trim(&mut left);
            self.0 = None;
        }
        if self.0.is_none() && !(engine.is_empty() && left.is_empty()) {
            self.0 = Some(now + LOOK);
        }
    }

    /// When a turn is due, whatever else happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0
    }
}
