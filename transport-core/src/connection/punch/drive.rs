//! Attempts at a direct path begin, come to a choice, and end; and the direct path is left.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::offers::Round;
use super::{HASTE, Hunger, Punch};
use crate::buffer::Route;
use crate::connection::Connection;
use crate::connection::content::Content;
use crate::connection::multipath::{SILENT, UNWANTED};
use crate::connection::path::Path;
use crate::connection::path::holes::{Holes, Verdict};
use crate::connection::state::State;
use crate::path::{PathId, PathReason, PathState, Step};
use crate::trace::{self, Tracer};

impl Connection {
    // --- time ---

    /// Does what is due: begins an attempt, chooses, judges, gives up.
    pub(in crate::connection) fn advance_punch(&mut self, now: Instant, tracer: &mut Tracer<'_>) {
        let due =
            |punch: &&mut Box<Punch>| punch.holes.is_none() && punch.plan.due_at.is_some_and(|at| at <= now);
        if let Some(punch) = self.pending.punch.as_mut().filter(due) {
            punch.plan.due_at = None;
            self.begin_attempt(now, tracer);
        }
        while let Some(punch) = &mut self.pending.punch
            && let Some(holes) = &mut punch.holes
        {
            let (id, client) = (holes.path(), punch.client);
            if let Some((route, rtt)) = holes.choose(client, now) {
                self.aim(id, route, rtt, now);
                return;
            }
            match holes.verdict(now) {
                Verdict::Passed { narrow } => return self.on_passed(id, narrow, now, tracer),
                // A client may have another address to try.
                Verdict::Failed if client => {}
                Verdict::Failed => return self.end_attempt(id, now, tracer),
                Verdict::Open if holes.is_over(now) => return self.end_attempt(id, now, tracer),
                Verdict::Open => return,
            }
        }
    }

    /// At a client, whose attempt is due.
    fn begin_attempt(&mut self, now: Instant, tracer: &mut Tracer<'_>) {
        if self.pending.punch.as_ref().and_then(|punch| punch.direct()) == Some(self.paths.active.id) {
            return;
        }
        if self.state != State::Confirmed {
            return self.retry_soon(now);
        }
        self.clear_for_attempt(now, tracer);
        let Some(punch) = self.pending.punch.as_ref() else {
            return;
        };
        let Some(&(_, first)) = punch.peers.known.first() else {
            return;
        };
        let free = self
            .paths
            .next_id()
            .filter(|id| self.ids.current(id.get()).is_some());
        let Some(id) = free else {
            return self.retry_soon(now);
        };
        let path = self.newcomer(
            id,
            Route {
                remote: first,
                local: None,
            },
        );
        self.open_path(path, PathReason::Opened);
        // The peer hears of it half a round trip later: both shall speak at once.
        let begins_at = now + self.paths.active.recovery.rtt().smoothed() / 2;
        let Some(punch) = &mut self.pending.punch else {
            return;
        };
        let mut holes = Holes::new(id, begins_at);
        for (_, address) in &punch.peers.known {
            holes.aim(*address, now);
        }
        punch.round += 1;
        let number = punch.round;
        punch.own.name_for(Some(Round { number, path: id }));
        punch.plan.began_at = Some(now);
        punch.holes = Some(holes);
        tracer.tell(|connection| trace::Event::PunchBegun {
            connection,
            round: number,
            path: id,
        });
    }

    /// A direct path that was left is not waited for: the next attempt asks all addresses anew.
    fn clear_for_attempt(&mut self, now: Instant, tracer: &mut Tracer<'_>) {
        let punch = self.pending.punch.as_mut();
        if let Some((old, _)) = punch.and_then(|punch| punch.direct.take()) {
            self.give_up(old, UNWANTED, PathReason::Replaced, now, tracer);
        }
    }

    fn retry_soon(&mut self, now: Instant) {
        if let Some(punch) = &mut self.pending.punch {
            punch.plan.due_at = Some(now + HASTE);
        }
    }

    /// The network may be another one: what failed before may work now.
    pub(in crate::connection) fn hasten_punch(&mut self, now: Instant) {
        if let Some(punch) = self.pending.punch.as_mut().filter(|punch| punch.client) {
            punch.plan.failures = 0;
            punch.plan.hasten(HASTE, now);
        }
    }

    /// An address was chosen: it is tried with packets of full size.
    fn aim(&mut self, id: PathId, route: Route, rtt: Duration, now: Instant) {
        if let Some(path) = self.paths.get_mut(id) {
            path.route = route;
            path.prove();
            path.recovery.reset_path(now);
            path.recovery.seed_rtt(rtt);
        }
    }

    /// The path takes data. A client sends them there at once; a server does when its client wants them there.
    fn on_passed(&mut self, id: PathId, narrow: bool, now: Instant, tracer: &mut Tracer<'_>) {
        let Some(punch) = &mut self.pending.punch else {
            return;
        };
        let client = punch.client;
        punch.holes = None;
        punch.own.name_for(None);
        (punch.direct, punch.hunger) = (Some((id, now)), Hunger::default());
        if let Some(path) = self.paths.get_mut(id) {
            path.direct = true;
            if narrow {
                path.mtu.start_low();
            }
            path.recovery.set_max_datagram(path.mtu.current());
        }
        self.step(id, Step::Proved, PathReason::Proved);
        if client {
            self.choose(id, PathReason::Direct, now, tracer);
        } else {
            self.follow(now, tracer);
            self.reconsider(now, tracer);
        }
    }

    /// An attempt came to nothing.
    pub(super) fn end_attempt(&mut self, id: PathId, now: Instant, tracer: &mut Tracer<'_>) {
        let round = self.pending.punch.as_ref().map_or(0, |punch| punch.round);
        self.give_up(id, SILENT, PathReason::Unproved, now, tracer);
        tracer.tell(|connection| trace::Event::PunchFailed { connection, round });
    }

    // --- the direct path ---

    /// Another path took over from the direct one, or it from another: who looks on hears of it, and a client tries again later.
    pub(in crate::connection) fn note_direct(
        &mut self,
        left: PathId,
        reason: PathReason,
        now: Instant,
        tracer: &mut Tracer<'_>,
    ) {
        let Some(punch) = &mut self.pending.punch else {
            return;
        };
        let Path {
            id, route, recovery, ..
        } = &*self.paths.active;
        let (path, remote, rtt) = (*id, route.remote, recovery.rtt().smoothed());
        if punch.direct() == Some(path) {
            punch.plan.due_at = None;
            tracer.tell(|connection| trace::Event::DirectChosen {
                connection,
                path,
                remote,
                rtt,
            });
        } else if punch.direct() == Some(left) {
            let since = punch.direct.map(|(_, since)| since);
            punch.put_off(since, now);
            tracer.tell(|connection| trace::Event::DirectLeft {
                connection,
                path: left,
                reason,
            });
        }
    }

    /// What became of packets of the direct path: it must carry data, not only what is small.
    pub(in crate::connection) fn note_food(
        &mut self,
        id: PathId,
        acked: &[Content],
        lost: &[Content],
        now: Instant,
    ) {
        let Some(punch) = self
            .pending
            .punch
            .as_mut()
            .filter(|punch| punch.direct() == Some(id))
        else {
            return;
        };
        for content in lost {
            punch.hunger.lost(content, now);
        }
        for content in acked {
            punch.hunger.acked(content);
        }
    }

    /// A direct path that starves the data is left, and is over.
    pub(in crate::connection) fn leave_starving(
        &mut self,
        id: PathId,
        now: Instant,
        tracer: &mut Tracer<'_>,
    ) {
        let starves = |punch: &Punch| punch.direct() == Some(id) && punch.hunger.starves(now);
        let active = id == self.paths.active.id && self.paths.active.state != PathState::Abandoned;
        if active
            && self.pending.punch.as_deref().is_some_and(starves)
            && self.take_over(PathReason::Starved, now, tracer)
        {
            self.give_up(id, SILENT, PathReason::Starved, now, tracer);
        }
    }
}
