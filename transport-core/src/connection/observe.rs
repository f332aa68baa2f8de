//! From which addresses packets come, as the other end sees them (draft-ietf-quic-address-discovery): OBSERVED_ADDRESS travels by the
//! path it is about, when that path works, and again when its other end has moved.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use super::content::Item;
use super::path::Path;
use super::receive::Arrival;
use super::state::State;
use super::transmit::Draft;
use super::{Connection, Event, MAX_PATHS};
use crate::error::{Breach, code};
use crate::path::PathId;
use crate::trace::{self, Tracer};
use crate::wire::frame::{Frame, NumberedAddress, kind};

/// What one end is told, and tells.
#[derive(Debug)]
pub(crate) struct Observing {
    tells: bool,
    asks: bool,
    next: u64,
    /// What the peer was told last of each path.
    told: Vec<Told>,
    /// What it said of ours, the newest last.
    heard: Vec<(PathId, NumberedAddress)>,
    /// The application has not been told yet.
    news: bool,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    path: PathId,
    seen: NumberedAddress,
    /// It was lost.
    again: bool,
}

impl Observing {
    /// `None` when neither end is interested.
    pub(crate) fn new(tells: bool, asks: bool) -> Option<Box<Self>> {
        (tells || asks).then(|| {
            Box::new(Self {
                tells,
                asks,
                next: 0,
                told: Vec::new(),
                heard: Vec::new(),
                news: false,
            })
        })
    }

    /// What is to be told of a path whose other end is at `address`.
    fn due(&self, path: PathId, address: SocketAddr) -> Option<NumberedAddress> {
        let told = self.told.iter().find(|told| told.path == path);
        match told.filter(|told| told.seen.address == address) {
            Some(told) => told.again.then_some(told.seen),
            None => self.tells.then_some(NumberedAddress {
                sequence: self.next,
                address,
            }),
        }
    }

    fn sent(&mut self, path: PathId, seen: NumberedAddress) {
        self.told.retain(|told| told.path != path);
        if self.told.len() >= MAX_PATHS as usize {
            self.told.remove(0);
        }
        self.told.push(Told {
            path,
            seen,
            again: false,
        });
        self.next = self.next.max(seen.sequence + 1);
    }

    /// It was lost.
    pub(crate) fn again(&mut self, path: PathId, sequence: u64) {
        let same = |told: &&mut Told| told.path == path && told.seen.sequence == sequence;
        if let Some(told) = self.told.iter_mut().find(same) {
            told.again = true;
        }
    }

    /// Whether it is newer than what was said of this path before, and another address.
    fn hear(&mut self, path: PathId, seen: NumberedAddress) -> bool {
        let before = self.heard.iter().position(|(known, _)| *known == path);
        let before = before.map(|at| self.heard.remove(at).1);
        let newer = before.is_none_or(|before| before.sequence < seen.sequence);
        if before.is_none() && self.heard.len() >= MAX_PATHS as usize {
            self.heard.remove(0);
        }
        let kept = before.filter(|_| !newer).unwrap_or(seen);
        self.heard.push((path, kept));
        newer && before.is_none_or(|before| before.address != seen.address)
    }
}

impl Connection {
    /// The address this end's packets come from, as the peer sees it on the path in use, or on another if it said nothing of that one.
    pub fn observed_address(&self) -> Option<SocketAddr> {
        let heard = &self.pending.observing.as_ref()?.heard;
        let active = heard.iter().find(|(path, _)| *path == self.paths.active.id);
        let found = active.or(heard.last());
        found.map(|(_, seen)| seen.address)
    }

    pub(super) fn on_observed_address(
        &mut self,
        arrival: &Arrival,
        seen: NumberedAddress,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), Breach> {
        let unasked = Breach::new(code::PROTOCOL_VIOLATION, kind::OBSERVED_ADDRESS_V4);
        let observing = self.pending.observing.as_mut().filter(|observing| observing.asks);
        let observing = observing.ok_or(unasked)?;
        if observing.hear(arrival.path, seen) {
            observing.news = true;
            let (path, address) = (arrival.path, seen.address);
            tracer.tell(|connection| trace::Event::AddressObserved {
                connection,
                path,
                address,
            });
        }
        Ok(())
    }

    /// However often the peer saw another address, the application hears of the newest.
    pub(super) fn take_observed(&mut self) -> Option<Event> {
        let observing = self.pending.observing.as_mut()?;
        if !std::mem::take(&mut observing.news) {
            return None;
        }
        let (path, seen) = *observing.heard.last()?;
        Some(Event::AddressObserved {
            path,
            address: seen.address,
        })
    }

    fn observation_due(&self, id: PathId) -> Option<NumberedAddress> {
        let observing = self.pending.observing.as_ref()?;
        let works = |path: &&Path| path.state.is_usable() && self.state == State::Confirmed;
        let path = self.paths.get(id).filter(works)?;
        observing.due(id, path.route.remote)
    }

    /// Whether the peer is to be told something of this path.
    pub(super) fn owes_observation(&self, id: PathId) -> bool {
        self.observation_due(id).is_some()
    }

    pub(super) fn write_observed(&mut self, draft: &mut Draft<'_>) {
        let path = draft.path;
        if let Some(seen) = self.observation_due(path)
            && let Some(observing) = &mut self.pending.observing
            && draft.put(
                &Frame::ObservedAddress(seen),
                Some(Item::Observed {
                    path,
                    sequence: seen.sequence,
                }),
            )
        {
            observing.sent(path, seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sequence: u64, port: u16) -> NumberedAddress {
        NumberedAddress {
            sequence,
            address: ([192, 0, 2, 1], port).into(),
        }
    }

    #[test]
    fn each_path_is_told_of_once_and_again_when_it_moves_or_is_lost() {
        let mut observing = Observing::new(true, false).unwrap();
        let mut tell = |path: u32, port: u16| {
            let due = observing.due(PathId(path), seen(0, port).address)?;
            observing.sent(PathId(path), due);
            Some(due.sequence)
        };
        assert_eq!(
            [tell(0, 1), tell(0, 1), tell(1, 1), tell(0, 2)],
            [Some(0), None, Some(1), Some(2)]
        );
        observing.again(PathId(0), 0);
        assert_eq!(observing.due(PathId(0), seen(0, 2).address), None, "that is old");
        observing.again(PathId(0), 2);
        assert_eq!(observing.due(PathId(0), seen(0, 2).address), Some(seen(2, 2)));
        for path in 0..1000 {
            observing.sent(PathId(path), seen(3, 3));
        }
        assert!(observing.told.len() <= MAX_PATHS as usize);
    }

    #[test]
    fn of_a_path_the_newest_counts() {
        let mut observing = Observing::new(false, true).unwrap();
        assert!(observing.hear(PathId(0), seen(3, 1)));
        assert!(!observing.hear(PathId(0), seen(2, 2)), "it was overtaken");
        assert!(!observing.hear(PathId(0), seen(4, 1)), "nothing new");
        assert!(observing.hear(PathId(0), seen(5, 2)));
        for path in 1..1000 {
            observing.hear(PathId(path), seen(6, 1));
        }
        assert!(observing.heard.len() <= MAX_PATHS as usize);
        assert!(Observing::new(false, false).is_none());
    }
}
