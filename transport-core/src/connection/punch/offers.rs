//! The addresses of this end, and what the peer has been told of them. A server tells its client all of them, and which are none
//! any more; a client names its own with each attempt.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use crate::connection::content::Item;
use crate::path::PathId;
use crate::wire::frame::{Frame, NumberedAddress, PunchMeNow};

/// Addresses of one side.
pub(crate) const MAX_ADDRESSES: usize = 8;
/// Addresses taken back whose frame is not acknowledged; older ones are forgotten, as nothing comes from there.
const MAX_TAKEN_BACK: usize = 8;

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Telling {
    Waiting,
    UnderWay,
    Known,
}

#[derive(Clone, Copy, Debug)]
struct Offer {
    sequence: u64,
    address: SocketAddr,
    telling: Telling,
}

/// An attempt the addresses are named for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Round {
    pub(crate) number: u64,
    pub(crate) path: PathId,
}

/// This end's addresses.
#[derive(Debug)]
pub(crate) struct Offers {
    server: bool,
    next: u64,
    offers: Vec<Offer>,
    taken_back: Vec<(u64, Telling)>,
    /// At a client: what they are named for.
    round: Option<Round>,
}

impl Offers {
    pub(crate) fn new(server: bool) -> Self {
        Self {
            server,
            next: 0,
            offers: Vec::new(),
            taken_back: Vec::new(),
            round: None,
        }
    }

    /// These are the addresses from now on, the first [`MAX_ADDRESSES`] of them; whether one is new.
    pub(crate) fn replace(&mut self, addresses: &[SocketAddr]) -> bool {
        let mut wanted: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            if wanted.len() < MAX_ADDRESSES && !wanted.contains(address) {
                wanted.push(*address);
            }
        }
        let gone = self
            .offers
            .extract_if(.., |offer| !wanted.contains(&offer.address))
            .collect::<Vec<_>>();
        if self.server {
            self.taken_back
                .extend(gone.iter().map(|offer| (offer.sequence, Telling::Waiting)));
            let many = self.taken_back.len().saturating_sub(MAX_TAKEN_BACK);
            self.taken_back.drain(..many);
        }
        let before = self.next;
        for address in wanted {
            if !self.offers.iter().any(|offer| offer.address == address) {
                let (sequence, telling) = (self.next, Telling::Waiting);
                self.next += 1;
                self.offers.push(Offer {
                    sequence,
                    address,
                    telling,
                });
            }
        }
        self.next > before
    }

    /// At a client: all addresses are named for this attempt, or for none any more.
    pub(crate) fn name_for(&mut self, round: Option<Round>) {
        self.round = round;
        for offer in &mut self.offers {
            offer.telling = Telling::Waiting;
        }
    }

    /// The next frame; call [`Offers::sent`] once it is in a packet.
    pub(crate) fn next(&self) -> Option<(Frame<'static>, Item)> {
        if let Some((sequence, _)) = self
            .taken_back
            .iter()
            .find(|(_, telling)| *telling == Telling::Waiting)
        {
            let sequence = *sequence;
            return Some((Frame::RemoveAddress { sequence }, Item::RemoveAddress(sequence)));
        }
        let round = self.round.filter(|_| !self.server);
        let mut offers = self.offers.iter();
        let offer = offers.find(|offer| offer.telling == Telling::Waiting)?;
        let Offer {
            sequence, address, ..
        } = *offer;
        if self.server {
            let own = NumberedAddress { sequence, address };
            return Some((Frame::AddAddress(own), Item::AddAddress(sequence)));
        }
        let Round { number, path } = round?;
        let punch = PunchMeNow {
            round: number,
            path: path.get(),
            address,
        };
        let item = Item::PunchMeNow {
            round: number as u32,
            sequence,
        };
        Some((Frame::PunchMeNow(punch), item))
    }

    /// A frame is in a packet.
    pub(crate) fn sent(&mut self, item: Item) {
        self.set(item, Telling::UnderWay);
    }

    /// Its packet was lost. What is no longer true is not said again.
    pub(crate) fn again(&mut self, item: Item) {
        self.set(item, Telling::Waiting);
    }

    /// The peer has it.
    pub(crate) fn acked(&mut self, item: Item) {
        self.set(item, Telling::Known);
        self.taken_back.retain(|(_, telling)| *telling != Telling::Known);
    }

    fn set(&mut self, item: Item, to: Telling) {
        let (number, taken_back) = match item {
            Item::AddAddress(number) => (number, false),
            Item::RemoveAddress(number) => (number, true),
            Item::PunchMeNow { round, sequence }
                if self.round.is_some_and(|now| now.number as u32 == round) =>
            {
                (sequence, false)
            }
            _ => return,
        };
        // What is known stays known, though an older copy be lost.
        let own = self.offers.iter_mut().filter(|_| !taken_back);
        let own = own.map(|offer| (offer.sequence, &mut offer.telling));
        let others = self.taken_back.iter_mut().filter(|_| taken_back);
        let others = others.map(|(sequence, telling)| (*sequence, telling));
        for (_, telling) in own.chain(others).filter(|(sequence, _)| *sequence == number) {
            if *telling != Telling::Known {
                *telling = to;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(ports: std::ops::Range<u16>) -> Vec<SocketAddr> {
        ports.map(|port| ([192, 0, 2, 1], port).into()).collect()
    }

    fn all(offers: &mut Offers) -> Vec<Item> {
        std::iter::from_fn(|| {
            let (_, item) = offers.next()?;
            offers.sent(item);
            Some(item)
        })
        .collect()
    }

    #[test]
    fn a_server_tells_what_is_new_and_what_is_gone() {
        let mut offers = Offers::new(true);
        assert!(offers.replace(&addresses(1..4)));
        assert_eq!(
            all(&mut offers),
            [Item::AddAddress(0), Item::AddAddress(1), Item::AddAddress(2)]
        );
        offers.acked(Item::AddAddress(1));
        assert!(!offers.replace(&addresses(2..4)), "nothing new");
        offers.again(Item::AddAddress(0));
        offers.again(Item::AddAddress(1));
        assert_eq!(all(&mut offers), [Item::RemoveAddress(0)]);
        offers.again(Item::RemoveAddress(0));
        offers.again(Item::AddAddress(2));
        assert_eq!(all(&mut offers), [Item::RemoveAddress(0), Item::AddAddress(2)]);
        offers.acked(Item::RemoveAddress(0));
        offers.again(Item::RemoveAddress(0));
        assert_eq!(all(&mut offers), []);
        offers.replace(&addresses(2..2000));
        assert_eq!(offers.offers.len(), MAX_ADDRESSES);
        for round in 0..100 {
            offers.replace(&addresses(3000 + round..3004 + round));
        }
        assert!(offers.taken_back.len() <= MAX_TAKEN_BACK && all(&mut offers).len() <= 16);
    }

    #[test]
    fn a_client_names_its_own_for_the_newest_attempt() {
        let mut offers = Offers::new(false);
        offers.replace(&addresses(1..3));
        assert_eq!(all(&mut offers), [], "there is no attempt");
        let round = |number| {
            Some(Round {
                number,
                path: PathId(1),
            })
        };
        let item = |round, sequence| Item::PunchMeNow { round, sequence };
        offers.name_for(round(1));
        assert_eq!(all(&mut offers), [item(1, 0), item(1, 1)]);
        offers.again(item(1, 0));
        offers.name_for(round(2));
        offers.acked(item(1, 1));
        assert_eq!(all(&mut offers), [item(2, 0), item(2, 1)]);
        offers.again(item(1, 0));
        assert_eq!(all(&mut offers), []);
        offers.name_for(None);
        assert_eq!(all(&mut offers), []);
    }
}
