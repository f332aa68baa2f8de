//! Whether what this host cuts arrives.
//!
//! A batch leaves in one call and is cut into packets by kernel or interface (GSO). Drivers have been seen that spoil all but the
//! first piece, and queues that drop them; either looks like loss, and would last. So packets remember whether they followed
//! another in their batch: when many followers in a row are lost, and leaders of their length arrive meanwhile, packets of this path
//! leave one by one from then on. A peer that lies about it slows down nobody but itself.
#![forbid(unsafe_code)]

use crate::connection::content::Content;

/// Followers lost in a row, and leaders that arrived among them: random loss of a half does that once in 10^5 times.
const LOST: u32 = 16;
const ARRIVED: u32 = 3;

/// What became of leaders and followers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trains {
    /// Followers lost since one arrived, and their length.
    lost: u32,
    length: u16,
    /// Leaders of that length that arrived since.
    arrived: u32,
    stopped: bool,
}

impl Trains {
    /// Whether packets may share a batch.
    pub(crate) fn allowed(&self) -> bool {
        !self.stopped
    }

    pub(crate) fn acked(&mut self, content: &Content) {
        if content.follows {
            (self.lost, self.arrived) = (0, 0);
        } else if self.lost > 0 && content.size == self.length {
            self.arrived += 1;
        }
    }

    /// Gives whether batches end with this one.
    pub(crate) fn lost(&mut self, content: &Content) -> bool {
        if !content.follows || self.stopped {
            return false;
        }
        (self.lost, self.length) = (self.lost + 1, content.size);
        self.stopped = self.lost >= LOST && self.arrived >= ARRIVED;
        self.stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(follows: bool, size: u16) -> Content {
        let mut content = Content::default();
        (content.size, content.follows) = (size, follows);
        content
    }

    #[test]
    fn leaders_that_arrive_alone_end_batches() {
        let mut trains = Trains::default();
        for _ in 0..4 {
            trains.acked(&packet(false, 1400));
            let ended = (0..5).any(|_| trains.lost(&packet(true, 1400)));
            assert_eq!(ended, !trains.allowed());
        }
        assert!(!trains.allowed());
    }

    #[test]
    fn losses_of_all_kinds_do_not() {
        let mut trains = Trains::default();
        // A dead path, and one too narrow for anything but small packets.
        for _ in 0..100 {
            trains.lost(&packet(false, 1400));
            trains.lost(&packet(true, 1400));
            trains.acked(&packet(false, 200));
        }
        assert!(trains.allowed());
        // Heavy loss.
        let mut trains = Trains::default();
        for round in 0..1000 {
            trains.acked(&packet(false, 1400));
            for place in 0..6 {
                if (round + place) % 5 == 0 {
                    trains.acked(&packet(true, 1400));
                } else {
                    trains.lost(&packet(true, 1400));
                }
            }
        }
        assert!(trains.allowed());
    }
}
