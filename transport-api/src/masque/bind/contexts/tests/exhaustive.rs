//! Two real machines in every order in which their ends may act and their capsules arrive.
//!
//! Capsules arrive in order, each direction with any delay. Datagrams may arrive whenever they like, or never: so it is enough
//! that in no state an end sends on a context that stands for another peer, and in no state an end reads a context as
//! something else than it was registered for, since ids are registered once.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use super::super::{Contexts, Incoming, Limits, Outgoing};
use super::random::peers;
use crate::masque::bind::{Assign, BindCapsule, BindCapsules, BindItem, Dialect, Role};

const CLIENT: usize = 0;
const PROXY: usize = 1;
/// More than any id that so few steps reach.
const IDS: u64 = 16;

/// What is explored.
#[derive(Clone, Copy)]
struct World {
    dialect: Dialect,
    limits: Limits,
    /// Tuples that may be registered.
    targets: usize,
    /// Registrations and closes of client and proxy.
    steps: [u8; 2],
    /// Whether capsules leave an end when it likes, instead of at once.
    lazy: bool,
}

#[derive(Clone, Hash)]
struct State {
    ends: [Contexts; 2],
    /// Under way to each end.
    wires: [VecDeque<BindCapsule>; 2],
    left: [u8; 2],
    /// What each id was registered for.
    meaning: BTreeMap<u64, Option<SocketAddr>>,
    /// What an end closed because it wanted to.
    chosen: BTreeSet<u64>,
}

impl State {
    fn new(world: &World) -> Self {
        let end = |role| Contexts::new(role, world.dialect, true, world.limits);
        Self {
            ends: [end(Role::Client), end(Role::Proxy)],
            wires: [VecDeque::new(), VecDeque::new()],
            left: world.steps,
            meaning: BTreeMap::new(),
            chosen: BTreeSet::new(),
        }
    }

    fn fingerprint(&self) -> (u64, u64) {
        let hash = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            self.hash(&mut hasher);
            hasher.finish()
        };
        (hash(1), hash(2))
    }

    /// Writes and reads what an end has to say.
    fn flush(&mut self, from: usize, dialect: Dialect) {
        let mut wire = Vec::new();
        self.ends[from].take_outgoing(&mut wire);
        let to = 1 - from;
        let mut reader = BindCapsules::new([Role::Client, Role::Proxy][to], dialect, true, 0);
        let mut input = wire.as_slice();
        while let Some(item) = reader.next(&mut input).expect("our own capsules") {
            let BindItem::Capsule(capsule) = item else {
                panic!("{item:?}")
            };
            self.wires[to].push_back(capsule);
        }
    }

    fn next(&self, world: &World) -> Vec<Self> {
        let mut next = Vec::new();
        for end in [CLIENT, PROXY] {
            if self.left[end] > 0 {
                self.act(end, world, &mut next);
            }
            if let (true, waiting) = (world.lazy, &self.ends[end])
                && waiting.has_outgoing()
            {
                let mut after = self.clone();
                after.flush(end, world.dialect);
                next.push(after);
            }
            if !self.wires[end].is_empty() {
                let mut after = self.clone();
                let capsule = after.wires[end].pop_front().expect("one waits");
                after.ends[end]
                    .on_capsule(capsule, |_| true)
                    .expect("no honest pair faults");
                next.push(after);
            }
        }
        if !world.lazy {
            for state in &mut next {
                state.flush(CLIENT, world.dialect);
                state.flush(PROXY, world.dialect);
            }
        }
        next
    }

    /// All that an end may want.
    fn act(&self, end: usize, world: &World, next: &mut Vec<Self>) {
        let targets = peers().into_iter().take(world.targets).map(Some);
        for target in targets.chain([None]) {
            let mut after = self.clone();
            if let Ok(context) = after.ends[end].open(target) {
                assert!(after.meaning.insert(context, target).is_none(), "{context} again");
                after.left[end] -= 1;
                next.push(after);
            }
        }
        for Assign { context, .. } in self.ends[end].iter() {
            let mut after = self.clone();
            assert!(after.ends[end].close(context));
            after.chosen.insert(context);
            after.left[end] -= 1;
            next.push(after);
        }
    }

    fn check(&self, world: &World) {
        for end in &self.ends {
            let Limits { contexts, unanswered } = world.limits;
            assert!(end.len() <= contexts && end.unanswered.len() <= unanswered);
            assert!(end.outbox.len() <= 2 * contexts + 3 * unanswered);
            for peer in peers().into_iter().take(world.targets) {
                match end.outgoing(peer) {
                    Some(Outgoing::Compressed(id)) => assert_eq!(self.meaning.get(&id), Some(&Some(peer))),
                    Some(Outgoing::Uncompressed(id)) => assert_eq!(self.meaning.get(&id), Some(&None)),
                    None => {}
                }
            }
            for id in 1..IDS {
                match end.incoming(id) {
                    Incoming::Peer(peer) => assert_eq!(self.meaning.get(&id), Some(&Some(peer))),
                    Incoming::Uncompressed => assert_eq!(self.meaning.get(&id), Some(&None)),
                    Incoming::Closed => assert!(self.meaning.contains_key(&id)),
                    Incoming::Unknown => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let [client, proxy] = &self.ends;
        let quiet = |end: usize| self.wires[end].is_empty() && !self.ends[end].has_outgoing();
        if quiet(CLIENT) && quiet(PROXY) {
            assert!(client.iter().eq(proxy.iter()), "{client:?} {proxy:?}");
            assert!(client.unanswered.is_empty() && proxy.unanswered.is_empty());
            if world.limits == Limits::default() {
                self.check_reasons();
            }
        }
    }

    /// Nothing is under way: what is not open was closed for a reason, and never the client's for the proxy's sake.
    fn check_reasons(&self) {
        let open: BTreeSet<u64> = self.ends[CLIENT].iter().map(|assign| assign.context).collect();
        let firewalled = self
            .meaning
            .iter()
            .any(|(id, target)| target.is_none() && self.chosen.contains(id));
        for (&id, &target) in &self.meaning {
            if open.contains(&id) || self.chosen.contains(&id) {
                continue;
            }
            let crossed = self
                .meaning
                .iter()
                .any(|(&other, &named)| named == target && Role::Client.allocates(other));
            assert!(
                Role::Proxy.allocates(id) && (crossed || firewalled),
                "{id} {self:?}"
            );
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} of {:?}, under way {:?}",
            self.chosen, self.meaning, self.wires
        )
    }
}

/// Every state that can be reached; how many there are.
fn explore(world: World) -> usize {
    let mut seen = HashSet::new();
    let first = State::new(&world);
    seen.insert(first.fingerprint());
    let mut open = vec![first];
    while let Some(state) = open.pop() {
        state.check(&world);
        for next in state.next(&world) {
            if seen.insert(next.fingerprint()) {
                open.push(next);
            }
        }
    }
    seen.len()
}

const AMPLE: World = World {
    dialect: Dialect::Current,
    limits: Limits {
        contexts: 256,
        unanswered: 64,
    },
    targets: 2,
    steps: [4, 3],
    lazy: false,
};

#[test]
fn every_order_of_a_few_steps() {
    let states = explore(AMPLE);
    assert!(states > 1_000, "{states}");
}

#[test]
fn every_order_of_more_steps_about_one_tuple() {
    let states = explore(World {
        targets: 1,
        steps: [5, 5],
        ..AMPLE
    });
    assert!(states > 1_000, "{states}");
}

#[test]
fn every_order_in_the_older_dialect() {
    let states = explore(World {
        dialect: Dialect::Older,
        ..AMPLE
    });
    assert!(states > 1_000, "{states}");
}

/// Capsules wait, and every limit is hit.
#[test]
fn every_order_with_tight_limits() {
    for (contexts, unanswered) in [(1, 1), (2, 1), (2, 2), (3, 1)] {
        let states = explore(World {
            limits: Limits { contexts, unanswered },
            steps: [3, 2],
            lazy: true,
            ..AMPLE
        });
        assert!(states > 100, "{states}");
    }
}
