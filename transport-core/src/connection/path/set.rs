//! All paths of a connection: one of them active, few others, and the path ids that may still be used.
//!
//! A path id is used once. Either side announces the highest id it takes; that limit rises by one for each path that is gone, so
//! that never more than a handful are alive.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use transport_reliability::{Config, Stats};

use super::Path;
use super::mtu::Mtu;
use super::signals::Signals;
use crate::buffer::Route;
use crate::path::{PathId, PathState, Step};

/// Path ids alive at once, those that are not opened and those just abandoned included.
pub(crate) const MAX_PATHS: u32 = 4;
/// Ids above it are never allowed: the packet keys count nonces for so many paths.
const LAST_ID: u32 = 1000;

/// What every new path starts from.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) config: Config,
    pub(crate) mtu: Mtu,
}

/// Counters of paths that are gone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gone {
    pub(crate) declared_lost: u64,
    pub(crate) spurious: u64,
    pub(crate) probe_timeouts: u64,
}

/// The paths of a connection; there is always one.
#[derive(Debug)]
pub(crate) struct Paths {
    /// The one that carries the connection's data.
    pub(crate) active: Box<Path>,
    /// The others, fewer than [`MAX_PATHS`]. Boxed: they trade places with the active one.
    #[expect(
        clippy::vec_box,
        reason = "a path is large and trades places with the active one"
    )]
    pub(crate) others: Vec<Box<Path>>,
    pub(crate) template: Template,
    pub(crate) signals: Signals,
    pub(crate) gone: Gone,
    /// Path ids that may be used and are not over, ascending.
    alive: Vec<u32>,
    /// The highest id the peer takes; `None`: it knows of one path only.
    peer_max: Option<u32>,
    /// The number of the newest status by which the peer wanted data somewhere.
    wish: Option<u64>,
}

impl Paths {
    /// A connection begins on path 0.
    pub(crate) fn new(route: Route, template: Template) -> Self {
        let mut first = Path::new(PathId::FIRST, route, &template);
        first.state = PathState::Active;
        Self {
            active: Box::new(first),
            others: Vec::new(),
            template,
            signals: Signals::default(),
            gone: Gone::default(),
            alive: vec![0],
            peer_max: None,
            wish: None,
        }
    }

    /// What the two ends announced: ids up to this may be used. Neither limit below 1 allows a second path.
    pub(crate) fn negotiate(&mut self, ours: u32, theirs: u32) {
        if ours > 0 && theirs > 0 {
            self.alive = (0..=ours).collect();
            self.peer_max = Some(theirs);
        }
    }

    /// Whether there may be more than one path.
    pub(crate) fn is_multipath(&self) -> bool {
        self.peer_max.is_some()
    }

    /// Path ids that may be used and are not over, and the highest the peer takes.
    pub(crate) fn usable(&self) -> (&[u32], u32) {
        (&self.alive, self.peer_max.unwrap_or(0))
    }

    /// The highest id the peer may use.
    fn max(&self) -> u32 {
        self.alive.last().copied().unwrap_or(0)
    }

    /// The peer takes path ids up to this one. Limits do not fall.
    pub(crate) fn on_max_path_id(&mut self, max: u32) -> bool {
        let higher = self.peer_max.is_some_and(|known| max > known);
        if higher {
            self.peer_max = Some(max);
        }
        higher
    }

    /// Whether the peer's wish for data on a path is newer than all before.
    pub(crate) fn is_newest_wish(&mut self, sequence: u64) -> bool {
        let newest = self.wish.is_none_or(|wish| sequence > wish);
        if newest {
            self.wish = Some(sequence);
        }
        newest
    }

    /// What a path id of the peer's refers to.
    pub(crate) fn standing(&self, id: u32) -> Standing {
        if id > self.max() {
            Standing::Beyond
        } else if self.alive.contains(&id) {
            Standing::Alive
        } else {
            Standing::Over
        }
    }

    /// The lowest id no path was opened with, if the peer takes it.
    pub(crate) fn next_id(&self) -> Option<PathId> {
        let peer_max = self.peer_max?;
        let free = |id: &&u32| **id <= peer_max && self.get(PathId(**id)).is_none();
        self.alive.iter().find(free).copied().map(PathId)
    }

    /// One path.
    pub(crate) fn get(&self, id: PathId) -> Option<&Path> {
        self.iter().find(|path| path.id == id)
    }

    /// One path, to be changed.
    pub(crate) fn get_mut(&mut self, id: PathId) -> Option<&mut Path> {
        self.iter_mut().find(|path| path.id == id)
    }

    /// All paths, the active one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&*self.active).chain(self.others.iter().map(|path| &**path))
    }

    /// All paths, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Path> {
        std::iter::once(&mut *self.active).chain(self.others.iter_mut().map(|path| &mut **path))
    }

    /// The id at a place, the active path at 0; for walks that change paths.
    pub(crate) fn nth(&self, at: usize) -> Option<PathId> {
        self.iter().nth(at).map(|path| path.id)
    }

    /// A path more.
    pub(crate) fn admit(&mut self, path: Box<Path>) {
        self.others.push(path);
    }

    /// Data go to this path from now on. The state of the one before, and the new one's; `None` when it cannot be.
    pub(crate) fn choose(&mut self, id: PathId) -> Option<()> {
        let at = self.others.iter().position(|path| path.id == id)?;
        let chosen = self.others.get_mut(at)?;
        chosen.state = chosen.state.after(Step::Chosen)?;
        std::mem::swap(&mut self.active, chosen);
        if let Some(spared) = chosen.state.after(Step::Spared) {
            chosen.state = spared;
        }
        Some(())
    }

    /// A path that works better than a suspect one: of those that do, the one with the shortest round trip.
    pub(crate) fn best(&self) -> Option<PathId> {
        let ready = self.others.iter().filter(|path| path.state.is_ready());
        ready
            .min_by_key(|path| (path.recovery.rtt().smoothed(), path.id))
            .map(|path| path.id)
    }

    /// Whether another path than the active one works, or may yet.
    pub(crate) fn has_others(&self) -> bool {
        self.others.iter().any(|path| path.state != PathState::Abandoned)
    }

    /// The path that waits, works, and shall carry the data, as the peer wants.
    pub(crate) fn wanted(&self) -> Option<PathId> {
        let wanted = |path: &Path| path.wanted && path.state.is_usable();
        let found = self.others.iter().find(|path| wanted(path));
        found.map(|path| path.id)
    }

    /// Whether what arrived by another path is to be acknowledged by the active one.
    pub(crate) fn owes_acks(&self) -> bool {
        self.others.iter().any(|path| path.ack_elsewhere)
    }

    /// Another path than the active one with something to hand out.
    pub(crate) fn unsettled(&self) -> Option<PathId> {
        let unsettled = |path: &Path| !path.outcome.lost.is_empty();
        let found = self.others.iter().find(|path| unsettled(path));
        found.map(|path| path.id)
    }

    /// A path is gone, or an id will not be used: it is over, and another may be opened instead.
    pub(crate) fn retire(&mut self, id: PathId) {
        let before = self.alive.len();
        self.alive.retain(|alive| *alive != id.0);
        let next = self.max().max(id.0) + 1;
        if self.alive.len() < before && next <= LAST_ID {
            self.alive.push(next);
            self.signals.max_path_id(next);
        }
        if let Some(at) = self.others.iter().position(|path| path.id == id) {
            let Stats {
                declared_lost,
                spurious,
                pto_count_total,
                ..
            } = self.others.swap_remove(at).recovery.stats();
            self.gone.declared_lost += declared_lost;
            self.gone.spurious += spurious;
            self.gone.probe_timeouts += pto_count_total;
        }
    }

    /// Three of the longest probe timeouts: how long closing, draining and old keys last (RFC 9000 §10.2).
    pub(crate) fn three_pto(&self) -> Duration {
        self.max_pto() * 3
    }

    /// The longest probe timeout of a path in use.
    pub(crate) fn max_pto(&self) -> Duration {
        let others = self.others.iter().filter(|path| path.state.is_usable());
        others
            .map(|path| path.recovery.pto())
            .fold(self.active.recovery.pto(), Duration::max)
    }

    /// When something is to be done about a path, by itself.
    pub(crate) fn next_due(&self, keeps: bool) -> Option<Instant> {
        let spare = keeps || self.best().is_some();
        self.iter()
            .filter_map(|path| path.next_due(keeps, spare && path.id == self.active.id))
            .min()
    }
}

/// What a path id refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It may be used.
    Alive,
    /// It was used, and is over.
    Over,
    /// It was never allowed.
    Beyond,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> Paths {
        let route = Route {
            remote: ([10, 0, 0, 2], 2).into(),
            local: None,
        };
        let template = Template {
            config: Config::default(),
            mtu: Mtu::new(1472, true),
        };
        Paths::new(route, template)
    }

    #[test]
    fn ids_are_used_once_and_few_are_alive() {
        let mut paths = paths();
        assert_eq!(paths.next_id(), None, "the peer knows of one path only");
        paths.negotiate(MAX_PATHS - 1, 3);
        let mut used = vec![0];
        for _ in 0..2000 {
            let Some(id) = paths.next_id() else { break };
            assert!(!used.contains(&id.0), "{id:?} again");
            used.push(id.0);
            let template = paths.template.clone();
            let route = paths.active.route;
            paths.admit(Box::new(Path::new(id, route, &template)));
            assert!(
                paths.iter().count() <= MAX_PATHS as usize && paths.usable().0.len() <= MAX_PATHS as usize
            );
            if paths.next_id().is_none() {
                let oldest = paths.others[0].id;
                paths.retire(oldest);
                assert_eq!(paths.standing(oldest.0), Standing::Over);
                // The peer does the same at its end.
                let max = paths.max();
                paths.on_max_path_id(max);
            }
        }
        assert_eq!(used.last(), Some(&LAST_ID), "the keys count no more than so many");
        assert_eq!(paths.standing(LAST_ID + 1), Standing::Beyond);
    }

    #[test]
    fn limits_of_the_peer_do_not_fall() {
        let mut paths = paths();
        assert!(!paths.on_max_path_id(9), "nobody asked for several paths");
        paths.negotiate(3, 1);
        assert!(paths.on_max_path_id(2) && !paths.on_max_path_id(1));
        assert_eq!(paths.usable(), (&[0, 1, 2, 3][..], 2));
    }
}
