//! Which peers get contexts of their own without being asked for: those that several packets go to within a short time.
//!
//! It is decided early, since a context makes room for larger packets, and what finds out how large they may be should not see
//! that change later (draft §10). Who is sent to counts, not who sends: strangers cannot buy contexts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::masque::bind::Contexts;

/// So many packets within the window make a peer busy.
const PACKETS: u32 = 4;
const WINDOW: Duration = Duration::from_secs(1);
/// Peers that are counted.
const MAX_COUNTED: usize = 256;
/// After a refusal nothing is asked for so long.
const BACK_OFF: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    packets: u32,
}

/// The policy of one tunnel.
#[derive(Debug)]
pub(crate) struct Busy {
    /// Contexts at once, whosever.
    limit: usize,
    counted: BTreeMap<SocketAddr, Count>,
    /// Peers that were given a context here, and when they were last sent to.
    given: BTreeMap<SocketAddr, Instant>,
    resting_until: Option<Instant>,
}

impl Busy {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            counted: BTreeMap::new(),
            given: BTreeMap::new(),
            resting_until: None,
        }
    }

    /// A packet goes to `peer`. True when contexts were opened or closed for it.
    pub(super) fn note(&mut self, now: Instant, peer: SocketAddr, contexts: &mut Contexts) -> bool {
        if let Some(last) = self.given.get_mut(&peer) {
            *last = now;
            return false;
        }
        if contexts.compressed(peer).is_some()
            || !self.is_busy(now, peer)
            || self.resting_until.is_some_and(|until| now < until)
        {
            return false;
        }
        let made_room = contexts.len() >= self.limit && self.make_room(now, contexts);
        let opened = contexts.open(Some(peer)).is_ok();
        if opened {
            self.counted.remove(&peer);
            self.given.insert(peer, now);
        }
        opened || made_room
    }

    fn is_busy(&mut self, now: Instant, peer: SocketAddr) -> bool {
        if self.counted.len() >= MAX_COUNTED && !self.counted.contains_key(&peer) {
            self.counted.retain(|_, count| now < count.since + WINDOW);
            if self.counted.len() >= MAX_COUNTED {
                self.counted.clear();
            }
        }
        let count = self.counted.entry(peer).or_insert(Count {
            since: now,
            packets: 0,
        });
        if now >= count.since + WINDOW {
            *count = Count {
                since: now,
                packets: 0,
            };
        }
        count.packets += 1;
        count.packets >= PACKETS
    }

    /// Closes the context that was used least recently, unless even that one is in use.
    fn make_room(&mut self, now: Instant, contexts: &mut Contexts) -> bool {
        let oldest = self.given.iter().min_by_key(|(_, last)| **last);
        let Some((&peer, _)) = oldest.filter(|(_, last)| now >= **last + WINDOW) else {
            return false;
        };
        self.given.remove(&peer);
        contexts
            .compressed(peer)
            .is_some_and(|context| contexts.close(context))
    }

    /// The peer's context is somebody else's business from now on.
    pub(super) fn forget(&mut self, peer: SocketAddr) {
        self.given.remove(&peer);
        self.counted.remove(&peer);
    }

    /// The relay closed, or refused, a context.
    pub(super) fn closed(&mut self, now: Instant, peer: Option<SocketAddr>) {
        if peer.is_some_and(|peer| self.given.remove(&peer).is_some()) {
            self.resting_until = Some(now + BACK_OFF);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::masque::bind::{BindCapsule, Dialect, Limits, Role};

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn contexts(limit: usize) -> Contexts {
        let limits = Limits {
            contexts: limit,
            ..Limits::default()
        };
        Contexts::new(Role::Client, Dialect::Current, true, limits)
    }

    fn compressed(contexts: &Contexts) -> Vec<u16> {
        let mut ports: Vec<_> = contexts
            .iter()
            .filter_map(|open| open.target.map(|peer| peer.port()))
            .collect();
        ports.sort_unstable();
        ports
    }

    #[test]
    fn a_few_packets_in_a_short_time_are_enough() {
        let (mut busy, mut contexts) = (Busy::new(8), contexts(8));
        let start = crate::local::now();
        for _ in 1..PACKETS {
            assert!(!busy.note(start, peer(1), &mut contexts));
        }
        assert!(!busy.note(start + WINDOW, peer(1), &mut contexts), "too slow");
        for _ in 2..PACKETS {
            assert!(!busy.note(start + WINDOW, peer(1), &mut contexts));
        }
        assert!(busy.note(start + WINDOW, peer(1), &mut contexts));
        assert_eq!(compressed(&contexts), [1]);
    }

    #[test]
    fn the_least_recently_used_makes_room_unless_it_is_in_use() {
        let (mut busy, mut contexts) = (Busy::new(2), contexts(2));
        let start = crate::local::now();
        let mut send = |at: Instant, port: u16, contexts: &mut Contexts| {
            for _ in 0..PACKETS {
                busy.note(at, peer(port), contexts);
            }
        };
        send(start, 1, &mut contexts);
        send(start, 2, &mut contexts);
        send(start, 3, &mut contexts);
        assert_eq!(compressed(&contexts), [1, 2], "both are in use");
        send(start + WINDOW, 1, &mut contexts);
        send(start + WINDOW, 3, &mut contexts);
        assert_eq!(compressed(&contexts), [1, 3]);
    }

    #[test]
    fn a_refusal_is_heeded() {
        let (mut busy, mut contexts) = (Busy::new(8), contexts(8));
        let start = crate::local::now();
        for _ in 0..PACKETS {
            busy.note(start, peer(1), &mut contexts);
        }
        let context = contexts.compressed(peer(1)).expect("opened");
        let refused = contexts
            .on_capsule(BindCapsule::Close(context), |_| true)
            .expect("legal");
        assert!(refused.is_some());
        busy.closed(start, Some(peer(1)));
        for second in 1..20 {
            for _ in 0..PACKETS {
                busy.note(start + WINDOW * second, peer(1), &mut contexts);
            }
            assert_eq!(compressed(&contexts).is_empty(), second < 10, "{second}");
        }
    }

    #[test]
    fn many_peers_are_not_remembered() {
        let (mut busy, mut contexts) = (Busy::new(8), contexts(8));
        let now = crate::local::now();
        for port in 1..2000 {
            busy.note(now, peer(port), &mut contexts);
            assert!(busy.counted.len() <= MAX_COUNTED);
        }
    }
}
