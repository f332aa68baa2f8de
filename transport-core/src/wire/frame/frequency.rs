//! `ACK_FREQUENCY` (draft-ietf-quic-ack-frequency §4): how the receiver of packets is asked to acknowledge them.
//!
//! `sequence (i) ‖ threshold (i) ‖ delay µs (i) ‖ reordering (i)`

use super::{FrameFault, kind};
use crate::wire::cursor::{Reader, WriteError, Writer};
use crate::wire::varint;

/// No delay of an ACK is as long, in microseconds (RFC 9000 §18.2).
const DELAY_END: u64 = 1 << 24;

/// A request; of several, the one with the highest sequence number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckFrequency {
    /// Rises by one with each request of a sender.
    pub sequence: u64,
    /// Ack-eliciting packets that may come without an ACK being due.
    pub threshold: u64,
    /// The longest an ACK may be held back, in microseconds.
    pub delay_us: u64,
    /// Numbers a missing packet lies behind the largest before an ACK is due at once; 0 for never.
    pub reordering: u64,
}

impl AckFrequency {
    fn fields(&self) -> [u64; 4] {
        [self.sequence, self.threshold, self.delay_us, self.reordering]
    }

    pub(super) fn encoded_len(&self) -> usize {
        let fields = self.fields();
        varint::len(kind::ACK_FREQUENCY) + fields.iter().map(|value| varint::len(*value)).sum::<usize>()
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), WriteError> {
        if self.fields().iter().any(|value| *value > varint::MAX) {
            return Err(WriteError::ValueTooLarge);
        }
        out.varint(kind::ACK_FREQUENCY)?;
        self.fields().iter().try_for_each(|value| out.varint(*value))
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, FrameFault> {
        let frame = Self {
            sequence: input.varint()?,
            threshold: input.varint()?,
            delay_us: input.varint()?,
            reordering: input.varint()?,
        };
        if frame.delay_us >= DELAY_END {
            return Err(FrameFault::Invalid("delay of 2^24 µs or more"));
        }
        Ok(frame)
    }
}
