//! What may be said now: one ordered value.

/// How much a path may send at this instant. Ordered: every value allows what the smaller ones allow.
///
/// ACKs are never congestion controlled (RFC 9002 §7), so only an exhausted sent log forbids them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Permit {
    /// Not even an acknowledgement: the log of unacknowledged numbers is full.
    Nothing,
    /// Packets that carry acknowledgements only: the window or the pacer holds the rest back.
    AcksOnly,
    /// One ack-eliciting packet beyond the window: a probe (RFC 9002 §6.2.4), or the first packet after
    /// entering recovery (§7.3.2).
    Retransmit,
    /// Anything, up to `bytes` of UDP payload, a whole send quantum when the pacer has one.
    Full {
        /// The smaller of the room in the congestion window and of what the pacer holds.
        bytes: usize,
    },
}

impl Permit {
    /// Bytes of UDP payload that may carry new data; zero below [`Permit::Full`].
    pub fn bytes(self) -> usize {
        match self {
            Permit::Full { bytes } => bytes,
            Permit::Nothing | Permit::AcksOnly | Permit::Retransmit => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_ordered_by_what_they_allow() {
        let full = Permit::Full { bytes: 1 };
        assert!(Permit::Nothing < Permit::AcksOnly);
        assert!(Permit::AcksOnly < Permit::Retransmit);
        assert!(Permit::Retransmit < full && full < Permit::Full { bytes: 2 });
        assert_eq!(full.bytes(), 1);
        assert_eq!(Permit::Retransmit.bytes(), 0);
    }
}
