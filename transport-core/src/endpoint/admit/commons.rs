//! What the workers of a relay share, because an attacker chooses which of them hears a copy: what came before, the keys of
//! tokens and tickets, what of tickets was used up, and how many are here. Nothing of it is touched for packets of connections.
//!
//! A relay with one worker has the same, and nobody to share it with: its locks are always free.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::freshness::Freshness;
use super::gate::Tokens;
use super::tickets::Store;

/// One worker's share in everything.
#[derive(Clone)]
pub(in crate::endpoint) struct Commons {
    pub(super) freshness: Arc<Mutex<Freshness>>,
    pub(super) tokens: Arc<Mutex<Tokens>>,
    pub(super) tickets: Arc<Store>,
    crowd: Arc<[AtomicUsize]>,
    /// Which worker it is.
    number: usize,
}

impl Commons {
    /// The shares of `workers` workers, in their order; at least one.
    pub(in crate::endpoint) fn for_all(workers: usize) -> Vec<Self> {
        let first = Self {
            freshness: Arc::new(Mutex::new(Freshness::new())),
            tokens: Arc::default(),
            tickets: Arc::default(),
            crowd: (0..workers.max(1)).map(|_| AtomicUsize::new(0)).collect(),
            number: 0,
        };
        let share = |number| Self {
            number,
            ..first.clone()
        };
        (0..workers.max(1)).map(share).collect()
    }

    /// So many are with this worker, half-open handshakes included.
    pub(super) fn note_present(&self, count: usize) {
        if let Some(place) = self.crowd.get(self.number) {
            place.store(count, Ordering::Relaxed);
        }
    }

    /// How many are with the others, give or take those that come or go at this moment.
    pub(super) fn elsewhere(&self) -> usize {
        let others = self.crowd.iter().enumerate().filter(|(at, _)| *at != self.number);
        others.map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }
}

impl Default for Commons {
    fn default() -> Self {
        Self {
            freshness: Arc::new(Mutex::new(Freshness::new())),
            tokens: Arc::default(),
            tickets: Arc::default(),
            crowd: [AtomicUsize::new(0)].into_iter().collect(),
            number: 0,
        }
    }
}

/// A worker that panicked leaves nothing half done that another could stumble over.
pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
