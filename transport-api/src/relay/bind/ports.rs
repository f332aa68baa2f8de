//! Who is bound at this relay: clients reach each other at their public addresses, and nothing else on this machine.
//!
//! Packets between them do not leave the process, so it does not matter what a translator in front of this machine would make
//! of them. They may change threads: a relay may have several services.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Waker};

use crate::tunnel::Datagram;
use crate::tunnel::bind::Desk;

/// Datagrams from neighbours that wait for a tunnel's turn.
const MAX_WAITING: usize = 256;

/// The bound ports of each address.
type Ports = BTreeMap<IpAddr, BTreeMap<u16, Arc<Door>>>;

/// Who is bound at a relay. Services that are given clones of one table are one relay: a client of any reaches those of all at their
/// public addresses, whatever the policy says.
#[derive(Clone, Default)]
pub struct Neighbours(Arc<RwLock<Ports>>);

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Neighbours")
    }
}

impl Neighbours {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Who is bound at this address.
    pub(super) fn find(&self, at: SocketAddr) -> Option<Arc<Door>> {
        let ports = self.0.read().unwrap_or_else(PoisonError::into_inner);
        ports.get(&at.ip())?.get(&at.port()).cloned()
    }

    pub(super) fn enter(&self, addresses: &[SocketAddr], door: &Arc<Door>) {
        let mut ports = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for at in addresses {
            let here = ports.entry(at.ip()).or_default();
            here.insert(at.port(), Arc::clone(door));
        }
    }

    pub(super) fn leave(&self, addresses: &[SocketAddr]) {
        let mut ports = self.0.write().unwrap_or_else(PoisonError::into_inner);
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
    Full,
}

/// Where neighbours hand packets in.
pub(super) struct Door {
    desk: Arc<Desk>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(SocketAddr, Datagram)>,
    waker: Option<Waker>,
}

impl Door {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self {
            desk,
            queue: Mutex::default(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a packet from a neighbour, which leaves when the tunnel has its turn.
    pub(super) fn deliver(&self, from: SocketAddr, packet: Datagram) -> Delivered {
        if self.desk.outgoing(from).is_none() {
            return Delivered::NoContext;
        }
        let mut queue = self.queue();
        if queue.waiting.len() >= MAX_WAITING {
            return Delivered::Full;
        }
        queue.waiting.push((from, packet));
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        Delivered::Queued
    }

    /// What was handed in, and by whom.
    pub(super) fn take(&self, cx: &Context<'_>) -> Vec<(SocketAddr, Datagram)> {
        let mut queue = self.queue();
        if queue
            .waker
            .as_ref()
            .is_none_or(|known| !known.will_wake(cx.waker()))
        {
            queue.waker = Some(cx.waker().clone());
        }
        std::mem::take(&mut queue.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded() {
        let (friend, stranger) = (
            "192.0.2.1:9".parse().expect("v4"),
            "192.0.2.1:10".parse().expect("v4"),
        );
        let door = Door::new(Arc::new(Desk::new(Some(friend), None, None)));
        let packet = |n: usize| Datagram::new(vec![n as u8], 0);
        assert_eq!(door.deliver(stranger, packet(0)), Delivered::NoContext);
        for turn in 0..2 {
            for n in 0..MAX_WAITING {
                assert_eq!(door.deliver(friend, packet(n)), Delivered::Queued, "{turn}");
            }
            assert_eq!(door.deliver(friend, packet(0)), Delivered::Full);
            let taken = door.take(&Context::from_waker(Waker::noop()));
            assert_eq!(taken.len(), MAX_WAITING);
            assert!(
                taken
                    .iter()
                    .enumerate()
                    .all(|(n, (from, packet))| *from == friend && **packet == [n as u8])
            );
        }
    }

    #[test]
    fn an_address_is_given_up_with_its_port() {
        let table = Neighbours::new();
        let both: [SocketAddr; 2] = [
            "192.0.2.1:9".parse().expect("v4"),
            "[2001:db8::1]:9".parse().expect("v6"),
        ];
        let door = Arc::new(Door::new(Arc::new(Desk::new(None, None, None))));
        table.enter(&both, &door);
        let clone = table.clone();
        assert!(both.iter().all(|at| clone.find(*at).is_some()));
        assert!(clone.find("192.0.2.1:10".parse().expect("v4")).is_none());
        clone.leave(&both);
        assert!(both.iter().all(|at| table.find(*at).is_none()));
        assert!(table.0.read().expect("nobody panicked").is_empty());
    }
}
