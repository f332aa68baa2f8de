//! What the peer must be told of paths, until it is known to have it.
#![forbid(unsafe_code)]

use crate::connection::content::Item;
use crate::wire::frame::{Frame, PathAbandon, PathStatus};

/// One frame, and whether it waits to be sent; otherwise it is under way.
#[derive(Clone, Copy, Debug)]
struct Signal {
    frame: Frame<'static>,
    item: Item,
    waiting: bool,
}

/// Frames about paths. Bounded: one status for each path that is alive, one end for each path that ended lately, one limit.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    signals: Vec<Signal>,
    next_status: u64,
}

/// Ends of paths that are not acknowledged; older ones are forgotten, as the peer finds out by itself.
const MAX_ENDS: usize = 8;

impl Signals {
    /// How this path should be used, from now on.
    pub(crate) fn status(&mut self, path: u32, available: bool) {
        let sequence = self.next_status;
        self.next_status += 1;
        self.forget_status(path);
        let frame = Frame::PathStatus(PathStatus {
            path,
            sequence,
            available,
        });
        self.add(frame, Item::PathStatus { path, sequence });
    }

    /// This path is over.
    pub(crate) fn abandon(&mut self, path: u32, code: u64) {
        self.forget_status(path);
        let is_end = |signal: &Signal| matches!(signal.item, Item::PathAbandon(_));
        if self.signals.iter().filter(|signal| is_end(signal)).count() >= MAX_ENDS
            && let Some(oldest) = self.signals.iter().position(is_end)
        {
            self.signals.remove(oldest);
        }
        self.add(
            Frame::PathAbandon(PathAbandon { path, code }),
            Item::PathAbandon(path),
        );
    }

    /// The peer may use path ids up to this one.
    pub(crate) fn max_path_id(&mut self, max: u32) {
        self.signals
            .retain(|signal| !matches!(signal.item, Item::MaxPathId(_)));
        self.add(Frame::MaxPathId { max }, Item::MaxPathId(max));
    }

    fn forget_status(&mut self, path: u32) {
        self.signals
            .retain(|signal| !matches!(signal.item, Item::PathStatus { path: other, .. } if other == path));
    }

    fn add(&mut self, frame: Frame<'static>, item: Item) {
        self.signals.push(Signal {
            frame,
            item,
            waiting: true,
        });
    }

    /// Whether a frame waits to be sent.
    pub(crate) fn has_pending(&self) -> bool {
        self.signals.iter().any(|signal| signal.waiting)
    }

    /// The next frame; call [`Signals::sent`] once it is in a packet.
    pub(crate) fn next(&self) -> Option<(Frame<'static>, Item)> {
        let next = self.signals.iter().find(|signal| signal.waiting)?;
        Some((next.frame, next.item))
    }

    /// It is in a packet.
    pub(crate) fn sent(&mut self, item: Item) {
        self.set_waiting(item, false);
    }

    /// The packet was lost. What was replaced meanwhile is not said again.
    pub(crate) fn again(&mut self, item: Item) {
        self.set_waiting(item, true);
    }

    fn set_waiting(&mut self, item: Item, waiting: bool) {
        if let Some(signal) = self.signals.iter_mut().find(|signal| signal.item == item) {
            signal.waiting = waiting;
        }
    }

    /// The peer has it.
    pub(crate) fn acked(&mut self, item: Item) {
        self.signals.retain(|signal| signal.item != item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(signals: &mut Signals) -> Vec<Item> {
        std::iter::from_fn(|| {
            let (_, item) = signals.next()?;
            signals.sent(item);
            Some(item)
        })
        .collect()
    }

    #[test]
    fn of_a_path_the_newest_status_is_told_until_it_arrived() {
        let mut signals = Signals::default();
        signals.status(1, true);
        let [old] = all(&mut signals)[..] else { panic!() };
        signals.status(1, false);
        signals.again(old);
        let [new] = all(&mut signals)[..] else {
            panic!("one status")
        };
        assert_eq!(new, Item::PathStatus { path: 1, sequence: 1 });
        signals.again(new);
        assert_eq!(all(&mut signals), [new]);
        signals.acked(new);
        signals.again(new);
        assert!(!signals.has_pending());
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut signals = Signals::default();
        for path in 0..1000 {
            signals.status(path % 4, path % 3 == 0);
            signals.abandon(path, 0);
            signals.max_path_id(path);
        }
        assert!(
            signals.signals.len() <= MAX_ENDS + 4 + 1,
            "{}",
            signals.signals.len()
        );
        assert!(all(&mut signals).contains(&Item::MaxPathId(999)));
    }
}
