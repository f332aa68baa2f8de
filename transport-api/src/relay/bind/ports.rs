//! Who is bound at this relay: clients reach each other at their public addresses, and nothing else on this machine.
//!
//! Packets between them do not leave the process, so it does not matter what a translator in front of this machine would make
//! of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::masque::lane::Lane;
use crate::tunnel::BindSender;

/// Datagrams from neighbours that wait for a tunnel's turn.
const MAX_WAITING: usize = 256;

/// The ports of one address.
type Here<L> = BTreeMap<u16, Rc<Door<L>>>;

/// All bound ports of a relay.
pub(in crate::relay) struct Ports<L: Lane>(RefCell<BTreeMap<IpAddr, Here<L>>>);

impl<L: Lane> Default for Ports<L> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<L: Lane> Ports<L> {
    /// Who is bound at this address.
    pub(super) fn find(&self, at: SocketAddr) -> Option<Rc<Door<L>>> {
        let ports = self.0.borrow();
        ports.get(&at.ip())?.get(&at.port()).cloned()
    }

    pub(super) fn enter(&self, addresses: &[SocketAddr], door: &Rc<Door<L>>) {
        let mut ports = self.0.borrow_mut();
        for at in addresses {
            let here = ports.entry(at.ip()).or_default();
            here.insert(at.port(), Rc::clone(door));
        }
    }

    pub(super) fn leave(&self, addresses: &[SocketAddr]) {
        let mut ports = self.0.borrow_mut();
        for at in addresses {
            if let Some(here) = ports.get_mut(&at.ip()) {
                here.remove(&at.port());
                if here.is_empty() {
                    ports.remove(&at.ip());
                }
            }
        }
    }
}

/// What became of a packet for a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    Queued,
    /// It keeps strangers out.
    NoContext,
    TooLarge,
    Full,
}

/// Where neighbours hand packets in.
pub(super) struct Door<L: Lane> {
    sender: BindSender<L>,
    waiting: RefCell<Vec<(Vec<u8>, usize)>>,
    waker: RefCell<Option<Waker>>,
}

impl<L: Lane> Door<L> {
    pub(super) fn new(sender: BindSender<L>) -> Self {
        Self {
            sender,
            waiting: RefCell::default(),
            waker: RefCell::default(),
        }
    }

    /// Takes a packet from a neighbour, in `spare`; it leaves when the tunnel has its turn.
    pub(super) fn deliver(&self, from: SocketAddr, spare: Vec<u8>, packet: &[u8]) -> Delivered {
        let Some(way) = self.sender.desk().outgoing(from) else {
            return Delivered::NoContext;
        };
        if packet.len() > self.sender.room(way, from) {
            return Delivered::TooLarge;
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= MAX_WAITING {
            return Delivered::Full;
        }
        waiting.push((self.sender.datagram(spare, way, from, packet), packet.len()));
        drop(waiting);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
        Delivered::Queued
    }

    /// What was handed in, with the bytes of each packet.
    pub(super) fn take(&self, cx: &Context<'_>) -> Vec<(Vec<u8>, usize)> {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        std::mem::take(&mut *self.waiting.borrow_mut())
    }
}
