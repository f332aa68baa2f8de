//! Several endpoints that are one relay, each on a thread and a socket of its own: whose datagram is whose.
//!
//! The kernel hands a worker what comes from one address, so a connection stays where it began until its client moves. Then
//! another worker hears it, reads in the connection id where it belongs, and hands it over. Handshakes are answered by whoever
//! hears them; what must be known of them to all stands in `admit/commons.rs`.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::sync::Arc;

use transport_crypto::{Entropy, Secret, ServerIdKey};

use super::Endpoint;
use super::admit::Commons;
use crate::buffer::Arrived;
use crate::config::{EndpointConfig, Now};
use crate::seat::Seat;
use crate::trace::DropReason;

/// Whose a datagram is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// It names a connection or a handshake of this endpoint.
    Ours,
    /// It names none: somebody who wants to come in, or noise.
    Stranger,
    /// It names a connection of the worker of this number.
    OfWorker(u8),
}

/// A place among the workers of one relay.
pub struct Worker {
    seat: Option<Arc<Seat>>,
    commons: Commons,
}

impl Worker {
    /// More than any machine this was measured on has cores.
    pub const MAX: usize = 64;

    /// Places for `workers` workers, at least 1 and at most [`Worker::MAX`]. Worker `n` is the one at position `n`. `key` is for
    /// this team alone: with it one could read in a connection id which worker has it.
    pub fn team(workers: usize, key: &Secret<16>) -> Vec<Self> {
        let count = workers.clamp(1, Self::MAX) as u8;
        let key = Arc::new(ServerIdKey::new(key));
        let seat = |number| Arc::new(Seat::new(Arc::clone(&key), number, count));
        let shares = (0..count).zip(Commons::for_all(usize::from(count)));
        // Alone there is nobody to lead to, and ids are as those of a client.
        shares
            .map(|(number, commons)| Self {
                seat: (count > 1).then(|| seat(number)),
                commons,
            })
            .collect()
    }
}

impl Endpoint {
    /// An endpoint that is one worker of a relay. Its configuration must be that of the others. As a client it may be of no use: the
    /// answers it is sent may be heard by another worker.
    pub fn new_worker(
        config: EndpointConfig,
        seed: [u8; 32],
        entropy: Box<dyn Entropy + Send>,
        worker: Worker,
    ) -> Self {
        Self::seated(config, seed, entropy, worker.seat, worker.commons)
    }

    /// A datagram another worker heard ([`Whose::OfWorker`]). What its connection id leads to is here, or it is dropped: it is
    /// never handed on again.
    pub fn handle_forwarded(&mut self, now: Now, arrived: impl Into<Arrived>, datagram: &mut [u8]) {
        match self.routes.find(datagram) {
            Some((cid, target)) => self.on_known(now, arrived.into(), (cid, None), target, datagram),
            None => {
                let mut tracer = self.watch.tracer(now, None);
                tracer.dropped(DropReason::ForwardUnknown, datagram.len());
            }
        }
    }

    /// The worker a datagram of `len` bytes belongs to takes no more of them at the moment: it was dropped.
    pub fn forward_failed(&mut self, now: Now, len: usize) {
        self.watch.tracer(now, None).dropped(DropReason::ForwardFull, len);
    }

    pub(super) fn of_another(&mut self, worker: u8) -> Whose {
        self.watch.stats.forwarded += 1;
        Whose::OfWorker(worker)
    }
}
