//! The rules of the draft once more, written for reading: one list of all that was ever registered, searched from end to end.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::super::ranges::MAX_RUNS;
use crate::masque::bind::{
    Assign, BindCapsule, BindFault, Change, Dialect, Incoming, Limits, OpenError, Outgoing, Role,
};

#[derive(Clone, Debug)]
struct Registration {
    context: u64,
    target: Option<SocketAddr>,
    open: bool,
    /// The other end answered it.
    answered: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub role: Role,
    pub dialect: Dialect,
    pub any: bool,
    pub limits: Limits,
    all: Vec<Registration>,
    /// What waits to be written, and whether it answers a registration.
    pub queue: Vec<(BindCapsule, bool)>,
}

fn even(context: u64) -> bool {
    context.is_multiple_of(2)
}

impl Model {
    pub(super) fn new(role: Role, dialect: Dialect, any: bool, limits: Limits) -> Self {
        Self {
            role,
            dialect,
            any,
            limits,
            all: Vec::new(),
            queue: Vec::new(),
        }
    }

    fn is_client(&self) -> bool {
        self.role == Role::Client
    }

    fn mine(&self, context: u64) -> bool {
        even(context) == self.is_client() && context > 0
    }

    fn find(&self, context: u64) -> Option<usize> {
        self.all.iter().position(|one| one.context == context)
    }

    fn opened(&self, target: Option<SocketAddr>) -> Option<usize> {
        self.all.iter().position(|one| one.open && one.target == target)
    }

    pub(super) fn count(&self) -> usize {
        self.all.iter().filter(|one| one.open).count()
    }

    fn waiting(&self) -> usize {
        self.all.iter().filter(|one| !one.answered).count()
    }

    fn answers(&self) -> usize {
        self.queue.iter().filter(|(_, answer)| *answer).count()
    }

    /// Every rule that an ASSIGN breaks.
    fn broken(&self, assign: Assign) -> Vec<BindFault> {
        let Assign { context, target } = assign;
        let mut broken = Vec::new();
        if context == 0 {
            broken.push(BindFault::ZeroContext);
        }
        if even(context) == self.is_client() {
            broken.push(BindFault::Parity);
        }
        if self.find(context).is_some() {
            broken.push(BindFault::Reused);
        }
        let open = self.opened(target);
        if target.is_none() && (self.is_client() || open.is_some()) {
            broken.push(BindFault::Uncompressed);
        }
        if target.is_some() && open.is_some_and(|at| !self.mine(self.all[at].context)) {
            broken.push(BindFault::SameTuple);
        }
        if self.answers() >= self.limits.unanswered {
            broken.push(BindFault::Overrun);
        }
        let mut theirs: BTreeSet<u64> = self.all.iter().map(|one| one.context).collect();
        theirs.insert(context);
        let theirs: Vec<u64> = theirs.into_iter().filter(|&id| !self.mine(id)).collect();
        let gaps = theirs.windows(2).filter(|two| two[1] - two[0] > 2).count();
        if gaps >= MAX_RUNS {
            broken.push(BindFault::Scattered);
        }
        broken
    }

    /// What must come of a capsule: a fault out of the list, or the change.
    pub(super) fn on_capsule(
        &mut self,
        capsule: BindCapsule,
        allowed: bool,
    ) -> Result<Option<Change>, Vec<BindFault>> {
        match capsule {
            BindCapsule::Close(0) => Err(vec![BindFault::ZeroContext]),
            BindCapsule::Close(context) => {
                let Some(at) = self.find(context) else {
                    return Ok(None);
                };
                self.all[at].answered = true;
                let was_open = std::mem::replace(&mut self.all[at].open, false);
                Ok(was_open.then(|| Change::Closed(self.assign(at))))
            }
            BindCapsule::Ack(context) => self.on_ack(context),
            BindCapsule::Assign(Assign { context, target })
                if self.dialect == Dialect::Older && self.mine(context) =>
            {
                match self.find(context) {
                    Some(at) if self.all[at].open && self.all[at].target != target => {
                        Err(vec![BindFault::Malformed])
                    }
                    _ => self.on_ack(context),
                }
            }
            BindCapsule::Assign(assign) => {
                let broken = self.broken(assign);
                if broken.is_empty() {
                    Ok(Some(self.on_assign(assign, allowed)))
                } else {
                    Err(broken)
                }
            }
        }
    }

    fn on_ack(&mut self, context: u64) -> Result<Option<Change>, Vec<BindFault>> {
        let Some(at) = self.find(context).filter(|_| self.mine(context)) else {
            return Err(vec![BindFault::NeverAssigned]);
        };
        let first = !std::mem::replace(&mut self.all[at].answered, true);
        Ok((first && self.all[at].open).then(|| Change::Accepted(self.assign(at))))
    }

    fn on_assign(&mut self, assign: Assign, allowed: bool) -> Change {
        let Assign { context, target } = assign;
        let crossing = target.and_then(|peer| self.opened(Some(peer)));
        let mut replaces = None;
        if let Some(at) = crossing.filter(|_| !self.is_client()) {
            replaces = Some(self.all[at].context);
            self.close(self.all[at].context);
        }
        let accepted = allowed
            && (crossing.is_none() || replaces.is_some())
            && self.count() < self.limits.contexts
            && target.is_none_or(|peer| peer.port() > 0)
            && (!self.is_client() || self.opened(None).is_some());
        self.all.push(Registration {
            context,
            target,
            open: accepted,
            answered: true,
        });
        if !accepted {
            self.queue.push((BindCapsule::Close(context), true));
            return Change::Refused { assign, replaces };
        }
        let answer = match self.dialect {
            Dialect::Current => BindCapsule::Ack(context),
            Dialect::Older => BindCapsule::Assign(assign),
        };
        self.queue.push((answer, true));
        Change::Opened { assign, replaces }
    }

    pub(super) fn open(&mut self, target: Option<SocketAddr>) -> Result<u64, OpenError> {
        let uncompressed = self.opened(None).map(|at| self.all[at].context);
        if target.is_none() && (!self.is_client() || uncompressed.is_some()) {
            return Err(OpenError::Uncompressed(uncompressed));
        }
        if target.is_some_and(|peer| peer.port() == 0) {
            return Err(OpenError::NoPort);
        }
        if let Some(at) = self.opened(target) {
            return Err(OpenError::Exists(self.all[at].context));
        }
        if !self.is_client() && uncompressed.is_none() {
            return Err(OpenError::Firewalled);
        }
        if self.count() >= self.limits.contexts {
            return Err(OpenError::Limit);
        }
        let Limits { contexts, unanswered } = self.limits;
        if self.waiting() >= unanswered || self.queue.len() >= contexts + unanswered {
            return Err(OpenError::Busy);
        }
        let mine = self.all.iter().filter(|one| self.mine(one.context)).count() as u64;
        let context = 2 * mine + if self.is_client() { 2 } else { 1 };
        self.all.push(Registration {
            context,
            target,
            open: true,
            answered: self.dialect == Dialect::Older,
        });
        self.queue
            .push((BindCapsule::Assign(Assign { context, target }), false));
        Ok(context)
    }

    pub(super) fn close(&mut self, context: u64) -> bool {
        let Some(at) = self.find(context).filter(|&at| self.all[at].open) else {
            return false;
        };
        self.all[at].open = false;
        self.queue.push((BindCapsule::Close(context), false));
        true
    }

    pub(super) fn incoming(&self, context: u64) -> Incoming {
        match self.find(context).map(|at| &self.all[at]) {
            _ if context == 0 && self.any => Incoming::Abort,
            _ if context == 0 => Incoming::Udp,
            None => Incoming::Unknown,
            Some(one) if !one.open => Incoming::Closed,
            Some(one) => one.target.map_or(Incoming::Uncompressed, Incoming::Peer),
        }
    }

    pub(super) fn outgoing(&self, peer: SocketAddr) -> Option<Outgoing> {
        // From the best to the worst: accepted before not, and then compressed before not.
        for answered in [true, false] {
            for target in [Some(peer), None] {
                let found = self.opened(target).map(|at| &self.all[at]);
                if let Some(one) =
                    found.filter(|one| one.answered == answered && (answered || self.is_client()))
                {
                    return Some(match target {
                        Some(_) => Outgoing::Compressed(one.context),
                        None => Outgoing::Uncompressed(one.context),
                    });
                }
            }
        }
        None
    }

    fn assign(&self, at: usize) -> Assign {
        Assign {
            context: self.all[at].context,
            target: self.all[at].target,
        }
    }
}
