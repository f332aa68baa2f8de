//! The engine's events as `tracing` events.

use crate::engine::trace::Event;
use crate::engine::{Now, Observer};

/// Passes every event to `tracing` (target `adit::engine`) and to the user's observer.
pub(crate) struct Tracing {
    pub(crate) next: Option<Box<dyn Observer + Send>>,
}

impl Observer for Tracing {
    fn on_event(&mut self, now: Now, event: &Event<'_>) {
        tracing::trace!(target: "adit::engine", ?event);
        if let Some(next) = &mut self.next {
            next.on_event(now, event);
        }
    }
}
