//! Whether an envelope or a hello is new: its clock is near ours, and nothing like it came before.
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

use super::half_open::HelloHash;
use super::register::Register;
use crate::config::Now;
use crate::trace::DropReason;

/// How far a client's clock may be off, minutes.
const TOLERANCE: u64 = 10;
/// What the nonces and the hellos that came before may take, two generations each: a hello comes in four envelopes or so.
const NONCE_BYTES: usize = 8 << 20;
const HELLO_BYTES: usize = 4 << 20;

/// What came before, and how far back that is known.
pub(super) struct Freshness {
    started_ms: Option<u64>,
    nonces: Register<u64>,
    hellos: Register<HelloHash>,
}

impl Freshness {
    pub(super) fn new() -> Self {
        Self {
            started_ms: None,
            nonces: Register::new(Register::<u64>::capacity_within(NONCE_BYTES), 0),
            hellos: Register::new(Register::<HelloHash>::capacity_within(HELLO_BYTES), 0),
        }
    }

    /// Notes the nonce of an envelope, eight of the random bytes it begins with.
    pub(super) fn note_envelope(&mut self, now: Now, nonce: u64) -> Result<(), DropReason> {
        let new = self.nonces.insert(nonce, now.unix_ms);
        new.then_some(()).ok_or(DropReason::EnvelopeReplayed)
    }

    /// Whether the nonce is known; nothing is noted.
    pub(super) fn knows_envelope(&self, nonce: u64) -> bool {
        self.nonces.contains(&nonce)
    }

    /// Whether the hello is known; nothing is noted.
    pub(super) fn knows_hello(&self, hash: &HelloHash) -> bool {
        self.hellos.contains(hash)
    }

    /// How full the fuller of the two is, per cent: beyond that the oldest would be forgotten before their time.
    pub(super) fn filled(&self) -> u32 {
        self.nonces.filled().max(self.hellos.filled())
    }

    /// Notes the hash of a hello.
    pub(super) fn note_hello(&mut self, now: Now, hash: HelloHash) -> Result<(), DropReason> {
        let new = self.hellos.insert(hash, now.unix_ms);
        new.then_some(()).ok_or(DropReason::HelloReplayed)
    }

    /// Minutes of the sender near ours; just after a start only such that no copy from before is taken.
    pub(super) fn check_time(&mut self, now: Now, minutes: u64) -> Result<(), DropReason> {
        let present = now.unix_minutes();
        let started = *self.started_ms.get_or_insert(now.unix_ms) / 60_000;
        let tolerance = self
            .nonces
            .tolerance(now.unix_ms, TOLERANCE)
            .min(self.hellos.tolerance(now.unix_ms, TOLERANCE));
        let fresh_start = present.saturating_sub(started) < TOLERANCE;
        if minutes.abs_diff(present) > tolerance || (fresh_start && minutes + 1 < started) {
            return Err(DropReason::Stale);
        }
        Ok(())
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.nonces.memory() + self.hellos.memory()
    }
}

#[cfg(test)]
mod tests;
