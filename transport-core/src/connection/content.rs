//! What a packet carried, as far as somebody must hear whether it arrived.
#![forbid(unsafe_code)]

use transport_scheduler::Token;

use super::control::Piece;
use crate::path::PathId;

/// One thing a packet carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    /// Stream bytes, a frame that steers streams, or a datagram message.
    Scheduled(Token),
    /// HANDSHAKE_DONE.
    HandshakeDone,
    /// NEW_TICKET, by serial number.
    Ticket(u64),
    /// One of our connection ids.
    NewCid {
        /// Its path.
        path: u32,
        /// Its number there.
        sequence: u64,
    },
    /// The retirement of one of the peer's connection ids.
    RetireCid {
        /// Its path.
        path: u32,
        /// Its number there.
        sequence: u64,
    },
    /// How a path should be used.
    PathStatus {
        /// The path.
        path: u32,
        /// The number of the status.
        sequence: u64,
    },
    /// The end of a path.
    PathAbandon(u32),
    /// The highest path id the peer may use.
    MaxPathId(u32),
    /// A piece of a message of the connection itself.
    Control(Piece),
    /// A request for another rhythm of ACKs, by sequence number.
    AckFrequency(u64),
    /// A search for a larger path MTU; its size is the packet's.
    MtuProbe,
    /// Where packets of a path come from.
    Observed {
        /// The path.
        path: PathId,
        /// The number of the observation.
        sequence: u64,
    },
    /// An address of ours, by number.
    AddAddress(u64),
    /// One that is none any more.
    RemoveAddress(u64),
    /// An address of ours, named for an attempt at a direct path.
    PunchMeNow {
        /// The attempt.
        round: u32,
        /// The number of the address.
        sequence: u64,
    },
    /// A packet as large as data, on a path that is to carry them.
    Trial {
        /// Which trial.
        number: u8,
        /// Its bytes.
        size: u16,
    },
}

/// The items of one packet: a packet with [`Content::MAX`] of them is full.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// Bytes of the datagram.
    pub(crate) size: u16,
    /// It went where its path does not lead yet, so what becomes of it says nothing about how wide the path is.
    pub(crate) elsewhere: bool,
    /// It stood behind another packet in its batch.
    pub(crate) follows: bool,
    /// Nearly every packet carries one or two things; more of them are worth an allocation.
    few: [Option<Item>; 2],
    more: Vec<Item>,
}

impl Content {
    /// The most items of one packet.
    pub(crate) const MAX: usize = 12;

    /// Adds an item.
    pub(crate) fn push(&mut self, item: Item) {
        match self.few.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(item),
            None => self.more.push(item),
        }
    }

    /// Whether no further item may be added.
    pub(crate) fn is_full(&self) -> bool {
        self.few.len() + self.more.len() >= Self::MAX
    }

    /// The items, in the order they were added.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item> + '_ {
        self.few.iter().flatten().chain(&self.more).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_in_order_and_are_bounded() {
        let mut content = Content::default();
        for sequence in 0..Content::MAX as u64 {
            assert!(!content.is_full());
            content.push(Item::Ticket(sequence));
        }
        assert!(content.is_full());
        let items: Vec<Item> = content.items().collect();
        assert_eq!(items, (0..12).map(Item::Ticket).collect::<Vec<_>>());
        assert!(
            size_of::<Content>() <= 96,
            "a packet in flight is remembered in {} bytes",
            size_of::<Content>()
        );
    }
}
