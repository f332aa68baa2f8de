//! The public randomness of an endpoint: ids, jitter, what is skipped. One seed, one sequence. Secrets come from
//! [`transport_crypto::Entropy`] instead.
#![forbid(unsafe_code)]

use std::sync::Arc;

use transport_crypto::{Entropy, EntropyFailed, SeededEntropy};

use crate::seat::Seat;
use crate::wire::ConnectionId;

/// A `ChaCha20` key stream, so that connection ids cannot be guessed from one another.
pub(crate) struct Random {
    stream: SeededEntropy,
    spare: u64,
    left: u8,
    /// Connection ids say that they lead to this worker.
    seat: Option<Arc<Seat>>,
}

impl Random {
    /// The sequence of `seed`.
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            stream: SeededEntropy::new(seed),
            spare: 0,
            left: 0,
            seat: None,
        }
    }

    /// The same for one worker among several: the ids made from here on lead to it.
    pub(crate) fn seated(mut self, seat: Option<Arc<Seat>>) -> Self {
        self.seat = seat;
        self
    }

    /// A sequence of its own, for a part that lives by itself.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.bytes()).seated(self.seat.clone())
    }

    /// Uniform bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        // The stream is 256 GiB long; should it ever end, ids repeat and are refused, which is safe.
        let _ = self.stream.fill(&mut bytes);
        bytes
    }

    /// One uniform byte; asked for with every packet, so eight are drawn at once.
    pub(crate) fn byte(&mut self) -> u8 {
        if self.left == 0 {
            (self.spare, self.left) = (self.u64(), 8);
        }
        let [byte, ..] = self.spare.to_le_bytes();
        (self.spare, self.left) = (self.spare >> 8, self.left - 1);
        byte
    }

    /// A uniform number.
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// A number in `low..=high`, as good as uniform for small ranges.
    pub(crate) fn within(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        low + if span == 0 { 0 } else { self.u64() % span }
    }

    /// A connection id.
    pub(crate) fn cid(&mut self) -> ConnectionId {
        match self.seat.clone() {
            Some(seat) => seat.cid(self.byte()),
            None => ConnectionId(self.bytes()),
        }
    }
}
/// For what is random in plain sight, such as the nonces of answers to strangers.
impl Entropy for Random {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFailed> {
        self.stream.fill(out)
    }
}
