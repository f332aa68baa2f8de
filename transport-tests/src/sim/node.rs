//! One end of the world: an endpoint of the product and the time at which it wants to be called.

use std::time::Duration;

use transport_core::{Batch, Endpoint, Now, Output, Route, buffer::Ecn};

use super::clock::Clock;

/// An endpoint with its outgoing batch.
pub struct Node {
    /// The product, unchanged.
    pub endpoint: Endpoint,
    batch: Batch,
    deadline: Option<Duration>,
}

/// What an endpoint said when it was drained.
pub enum Said {
    /// A datagram for the link.
    Datagram(Route, Ecn, Vec<u8>),
    /// Something for the application.
    Event(transport_core::Handle, transport_core::Event),
}

impl Node {
    /// Wraps an endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            batch: Batch::default(),
            deadline: None,
        }
    }

    /// Polls until the endpoint waits; what it said is in order.
    pub fn drain(&mut self, clock: &Clock, said: &mut Vec<Said>) {
        loop {
            self.batch.clear();
            match self.endpoint.poll(clock.now(), &mut self.batch) {
                Output::Transmit(route) => {
                    let ecn = self.batch.ecn();
                    said.extend(
                        self.batch
                            .segments()
                            .map(|segment| Said::Datagram(route, ecn, segment.to_vec())),
                    );
                }
                Output::Event(handle, event) => said.push(Said::Event(handle, event)),
                Output::Wait(at) => {
                    self.deadline = at.map(|(at, _)| clock.virtual_time(at));
                    return;
                }
            }
        }
    }

    /// When the endpoint wants to be called again.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Calls it if its time has come.
    pub fn tick(&mut self, elapsed: Duration, now: Now) {
        if self.deadline.is_some_and(|at| at <= elapsed) {
            self.endpoint.handle_timeout(now);
        }
    }
}
