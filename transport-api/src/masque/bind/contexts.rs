//! The contexts of one request: what each end registered, what is still in force, and what must be answered (draft §3).
//!
//! A pure state machine: capsules in, capsules out, no clock. Both ends run it; that they agree once nothing is under way, and
//! that an honest pair never faults, is checked exhaustively for small sizes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use super::capsules::{Assign, BindCapsule, put_capsule};
use super::{BindFault, Dialect, Role, datagram};
use crate::http::varint;
use crate::masque::udp::{MAX_UDP_PAYLOAD, UDP_CONTEXT};

mod ranges;

use ranges::Used;

/// Bounds of one request's contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Contexts open at once, of both ends together. What the peer registers beyond is refused.
    pub contexts: usize,
    /// Registrations of this end that may wait for an answer, and answers to the peer that may wait to be written. A peer that
    /// has the same limit never runs into the second.
    pub unanswered: usize,
}

impl Default for Limits {
    /// 256 contexts, 64 unanswered.
    fn default() -> Self {
        Self {
            contexts: 256,
            unanswered: 64,
        }
    }
}

/// What a capsule of the peer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The peer registered a context, which is in force.
    Opened {
        /// The registration.
        assign: Assign,
        /// The context of this end for the same tuple that is closed for it: both had registered one, and the client's stays.
        replaces: Option<u64>,
    },
    /// The peer's registration was refused: forbidden, one too many, or the client keeps strangers out.
    Refused {
        /// The registration.
        assign: Assign,
        /// As for [`Opened`](Self::Opened).
        replaces: Option<u64>,
    },
    /// The peer accepted a context of this end.
    Accepted(Assign),
    /// The peer closed, or refused, a context.
    Closed(Assign),
}

/// Why this end may not register a context now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The tuple has this context already.
    Exists(u64),
    /// As many contexts are open as may be.
    Limit,
    /// As many registrations wait for an answer, or capsules to be written, as may be. Later it may go.
    Busy,
    /// Only a client registers an uncompressed context, and none while this one is open.
    Uncompressed(Option<u64>),
    /// A proxy may not register contexts while the client has no uncompressed one.
    Firewalled,
    /// No UDP packet goes to port 0.
    NoPort,
    /// No ids are left.
    Exhausted,
}

/// The context that carries a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// The payload follows the context id.
    Compressed(u64),
    /// Address and port of the peer follow the context id.
    Uncompressed(u64),
}

impl Outgoing {
    /// Bytes in front of the payload of a packet to or from `peer`.
    pub const fn overhead(self, peer: SocketAddr) -> usize {
        match self {
            Self::Compressed(context) => datagram::overhead(context, None),
            Self::Uncompressed(context) => datagram::overhead(context, Some(peer)),
        }
    }

    /// Appends what stands in front of the payload of a packet to or from `peer`.
    pub fn put_header(self, out: &mut Vec<u8>, peer: SocketAddr) {
        match self {
            Self::Compressed(context) => varint::put(out, context),
            Self::Uncompressed(context) => datagram::put_header(out, context, peer),
        }
    }
}

/// What a context means for datagrams of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Context 0: plain CONNECT-UDP with the request's target.
    Udp,
    /// A packet from (for a proxy: to) this peer.
    Peer(SocketAddr),
    /// The payload names its peer.
    Uncompressed,
    /// It was closed: dropped silently.
    Closed,
    /// Nobody registered it yet: dropped, and counted.
    Unknown,
    /// Context 0 without a target: the stream is aborted.
    Abort,
}

/// A datagram of the peer, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A packet from, for a proxy to, the request's target.
    Udp(&'a [u8]),
    /// A packet from, for a proxy to, this peer. Whether it may go there is another question.
    Peer(SocketAddr, &'a [u8]),
    /// On a context that was closed: dropped silently.
    Closed,
    /// On a context nobody registered yet: dropped, and counted.
    Unknown,
    /// Not a payload of its context, or longer than a UDP packet: dropped, and counted.
    Unreadable,
}

/// The contexts of one request, as one end sees them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contexts {
    role: Role,
    dialect: Dialect,
    target_is_any: bool,
    preemptive: bool,
    limits: Limits,
    /// Open contexts of both ends.
    open: BTreeMap<u64, Option<SocketAddr>>,
    /// Which of them stands for a tuple: one at most.
    by_target: BTreeMap<SocketAddr, u64>,
    uncompressed: Option<u64>,
    /// Own registrations without an answer, open or not.
    unanswered: BTreeSet<u64>,
    /// The next id to allocate: every smaller one of this end was registered.
    next: u64,
    /// What the peer ever registered.
    used: Used,
    /// Capsules to write: at most `2 * contexts + 3 * unanswered`. Registrations of this end stop at the sum of both, each brings
    /// a context that may be closed once, and so does a registration of the peer with its answer.
    outbox: VecDeque<BindCapsule>,
    /// Answers to registrations in the outbox.
    answers: usize,
}

impl Contexts {
    /// No contexts yet. `target_is_any`: the request has no target, so context 0 is forbidden.
    ///
    /// A client uses its contexts before they are accepted if there is nothing better, a proxy does not.
    pub fn new(role: Role, dialect: Dialect, target_is_any: bool, limits: Limits) -> Self {
        Self {
            role,
            dialect,
            target_is_any,
            preemptive: role == Role::Client,
            limits,
            open: BTreeMap::new(),
            by_target: BTreeMap::new(),
            uncompressed: None,
            unanswered: BTreeSet::new(),
            next: match role {
                Role::Client => 2,
                Role::Proxy => 1,
            },
            used: Used::default(),
            outbox: VecDeque::new(),
            answers: 0,
        }
    }

    /// Whether contexts of this end may carry packets before the peer accepted them.
    pub fn set_preemptive(&mut self, preemptive: bool) {
        self.preemptive = preemptive;
    }

    /// Takes a capsule of the peer. `allow` is the policy's word on the target of a registration (`None`: an uncompressed one);
    /// it is asked once, and only about what the rules permit. What must be answered is queued.
    ///
    /// # Errors
    /// The peer broke a rule: the stream is to be aborted, and nothing more is to be asked of this.
    pub fn on_capsule(
        &mut self,
        capsule: BindCapsule,
        allow: impl FnOnce(Option<SocketAddr>) -> bool,
    ) -> Result<Option<Change>, BindFault> {
        match capsule {
            BindCapsule::Assign(Assign { context: 0, .. }) | BindCapsule::Close(0) => {
                Err(BindFault::ZeroContext)
            }
            BindCapsule::Assign(echo) if self.dialect == Dialect::Older && self.is_own(echo.context) => {
                self.on_echo(echo)
            }
            BindCapsule::Assign(assign) => self.on_assign(assign, allow).map(Some),
            BindCapsule::Ack(context) => self.on_ack(context),
            BindCapsule::Close(context) => {
                self.unanswered.remove(&context);
                Ok(self.forget(context).map(Change::Closed))
            }
        }
    }

    fn on_assign(
        &mut self,
        assign: Assign,
        allow: impl FnOnce(Option<SocketAddr>) -> bool,
    ) -> Result<Change, BindFault> {
        self.check(assign)?;
        if self.answers >= self.limits.unanswered {
            return Err(BindFault::Overrun);
        }
        match self.used.insert(assign.context) {
            Ok(true) => {}
            Ok(false) => return Err(BindFault::Reused),
            Err(_) => return Err(BindFault::Scattered),
        }
        // Both ends registered the tuple: the proxy's context goes, whichever end this is.
        let crossing = assign.target.and_then(|peer| self.by_target.get(&peer).copied());
        let replaces = crossing.filter(|_| self.role == Role::Proxy);
        if let Some(own) = replaces {
            self.close(own);
        }
        let kept = crossing.is_some() && replaces.is_none();
        if kept || !self.has_room_for(assign.target) || !allow(assign.target) {
            self.answer(BindCapsule::Close(assign.context));
            return Ok(Change::Refused { assign, replaces });
        }
        self.remember(assign);
        self.answer(match self.dialect {
            Dialect::Current => BindCapsule::Ack(assign.context),
            Dialect::Older => BindCapsule::Assign(assign),
        });
        Ok(Change::Opened { assign, replaces })
    }

    /// The rules whose breach is a fault. An id is looked up before its tuple: a repeated capsule is a repeated id.
    fn check(&self, assign: Assign) -> Result<(), BindFault> {
        if !self.role.peer().allocates(assign.context) {
            return Err(BindFault::Parity);
        }
        if self.used.contains(assign.context) {
            return Err(BindFault::Reused);
        }
        match assign.target {
            None if self.role == Role::Client || self.uncompressed.is_some() => Err(BindFault::Uncompressed),
            Some(peer)
                if self
                    .by_target
                    .get(&peer)
                    .is_some_and(|&known| !self.is_own(known)) =>
            {
                Err(BindFault::SameTuple)
            }
            _ => Ok(()),
        }
    }

    /// Whether a registration of the peer may be accepted. A client without an uncompressed context wants no peers it did not
    /// name itself; a proxy may have registered one before it knew.
    fn has_room_for(&self, target: Option<SocketAddr>) -> bool {
        let firewalled = self.role == Role::Client && self.uncompressed.is_none();
        self.open.len() < self.limits.contexts && !firewalled && target.is_none_or(|peer| peer.port() != 0)
    }

    fn on_ack(&mut self, context: u64) -> Result<Option<Change>, BindFault> {
        if !self.was_registered_here(context) {
            return Err(BindFault::NeverAssigned);
        }
        // One that was closed meanwhile, or accepted before, changes nothing.
        let awaited = self.unanswered.remove(&context);
        let accepted = self.open.get(&context).filter(|_| awaited);
        Ok(accepted.map(|&target| Change::Accepted(Assign { context, target })))
    }

    /// The older dialect's acknowledgement.
    fn on_echo(&mut self, echo: Assign) -> Result<Option<Change>, BindFault> {
        match self.open.get(&echo.context) {
            Some(&target) if target != echo.target => Err(BindFault::Malformed),
            _ => self.on_ack(echo.context),
        }
    }

    /// Registers a context for `target`, `None` for one whose payloads name their peers. The capsule is queued.
    ///
    /// # Errors
    /// Nothing changed.
    pub fn open(&mut self, target: Option<SocketAddr>) -> Result<u64, OpenError> {
        let target = target.map(tuple);
        self.may_open(target)?;
        let context = self.next;
        self.next += 2;
        let assign = Assign { context, target };
        self.remember(assign);
        // Peers of the older dialect may say nothing to a registration they accept.
        if self.dialect == Dialect::Current {
            self.unanswered.insert(context);
        }
        self.outbox.push_back(BindCapsule::Assign(assign));
        Ok(context)
    }

    fn may_open(&self, target: Option<SocketAddr>) -> Result<(), OpenError> {
        match target {
            None if self.role == Role::Proxy || self.uncompressed.is_some() => {
                return Err(OpenError::Uncompressed(self.uncompressed));
            }
            None => {}
            Some(peer) if peer.port() == 0 => return Err(OpenError::NoPort),
            Some(peer) => {
                if let Some(&context) = self.by_target.get(&peer) {
                    return Err(OpenError::Exists(context));
                }
                if self.role == Role::Proxy && self.uncompressed.is_none() {
                    return Err(OpenError::Firewalled);
                }
            }
        }
        if self.open.len() >= self.limits.contexts {
            return Err(OpenError::Limit);
        }
        let queued = self.limits.contexts.saturating_add(self.limits.unanswered);
        if self.unanswered.len() >= self.limits.unanswered || self.outbox.len() >= queued {
            return Err(OpenError::Busy);
        }
        if self.next > varint::MAX {
            return Err(OpenError::Exhausted);
        }
        Ok(())
    }

    /// Closes a context, whoever registered it; `false` when it is not open. The capsule is queued.
    pub fn close(&mut self, context: u64) -> bool {
        let closed = self.forget(context).is_some();
        if closed {
            self.outbox.push_back(BindCapsule::Close(context));
        }
        closed
    }

    /// The context that carries a packet to (for a proxy: from) `peer`. Of those that are accepted the compressed one, else the
    /// uncompressed one; of those that are not yet the older, if they may be used: its registration left first, and datagrams on
    /// the other could overtake theirs. `None`: no packet may pass.
    pub fn outgoing(&self, peer: SocketAddr) -> Option<Outgoing> {
        let compressed = self.by_target.get(&tuple(peer)).copied();
        let accepted = |context: &u64| !self.unanswered.contains(context);
        let choose = |compressed: Option<u64>, uncompressed: Option<u64>| {
            compressed
                .map(Outgoing::Compressed)
                .or(uncompressed.map(Outgoing::Uncompressed))
        };
        choose(compressed.filter(accepted), self.uncompressed.filter(accepted)).or_else(|| {
            let older = |context: &u64| self.uncompressed.is_none_or(|other| *context < other);
            choose(compressed.filter(older), self.uncompressed).filter(|_| self.preemptive)
        })
    }

    /// What a datagram of the peer on `context` means.
    pub fn incoming(&self, context: u64) -> Incoming {
        match self.open.get(&context) {
            Some(Some(peer)) => Incoming::Peer(*peer),
            Some(None) => Incoming::Uncompressed,
            None if context == UDP_CONTEXT && self.target_is_any => Incoming::Abort,
            None if context == UDP_CONTEXT => Incoming::Udp,
            None if self.was_registered_here(context) || self.was_registered_there(context) => {
                Incoming::Closed
            }
            None => Incoming::Unknown,
        }
    }

    /// Reads a datagram of the peer: its context, and `bytes` behind the id (see [`datagram::parse`]).
    ///
    /// # Errors
    /// Only what the draft or RFC 9298 aborts the stream for.
    pub fn receive<'a>(&self, context: u64, bytes: &'a [u8]) -> Result<Received<'a>, BindFault> {
        let fits = bytes.len() <= MAX_UDP_PAYLOAD;
        Ok(match self.incoming(context) {
            Incoming::Abort => return Err(BindFault::NoTarget),
            Incoming::Udp if !fits => return Err(BindFault::TooLong),
            Incoming::Udp => Received::Udp(bytes),
            Incoming::Peer(peer) if fits => Received::Peer(peer, bytes),
            Incoming::Peer(_) => Received::Unreadable,
            Incoming::Uncompressed => match datagram::split_peer(bytes) {
                Some((peer, payload)) => Received::Peer(peer, payload),
                None => Received::Unreadable,
            },
            Incoming::Closed => Received::Closed,
            Incoming::Unknown => Received::Unknown,
        })
    }

    /// Appends all capsules that wait to be written. It is for the caller to ask only when there is room: what waits here is
    /// bounded, what it takes is not.
    pub fn take_outgoing(&mut self, out: &mut Vec<u8>) {
        for capsule in self.outbox.drain(..) {
            put_capsule(out, self.dialect, capsule);
        }
        self.answers = 0;
    }

    /// Whether capsules wait to be written.
    pub fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The open contexts of both ends, by id.
    pub fn iter(&self) -> impl Iterator<Item = Assign> + '_ {
        self.open
            .iter()
            .map(|(&context, &target)| Assign { context, target })
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The uncompressed context. Without one the proxy lets nobody through but the peers that have contexts (draft §8.1).
    pub fn uncompressed(&self) -> Option<u64> {
        self.uncompressed
    }

    /// The compressed context of `peer`, accepted or not.
    pub fn compressed(&self, peer: SocketAddr) -> Option<u64> {
        self.by_target.get(&tuple(peer)).copied()
    }

    /// Whether this end registered, or would register, `context`.
    fn is_own(&self, context: u64) -> bool {
        self.role.allocates(context)
    }

    fn was_registered_here(&self, context: u64) -> bool {
        self.is_own(context) && context < self.next
    }

    fn was_registered_there(&self, context: u64) -> bool {
        self.role.peer().allocates(context) && self.used.contains(context)
    }

    fn remember(&mut self, assign: Assign) {
        self.open.insert(assign.context, assign.target);
        match assign.target {
            Some(peer) => {
                self.by_target.insert(peer, assign.context);
            }
            None => self.uncompressed = Some(assign.context),
        }
    }

    fn forget(&mut self, context: u64) -> Option<Assign> {
        let target = self.open.remove(&context)?;
        match target {
            Some(peer) => {
                self.by_target.remove(&peer);
            }
            None => self.uncompressed = None,
        }
        Some(Assign { context, target })
    }

    fn answer(&mut self, capsule: BindCapsule) {
        self.outbox.push_back(capsule);
        self.answers += 1;
    }
}

/// A tuple is address and port; a socket also knows scopes and flow labels, which no capsule carries.
fn tuple(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip(), peer.port())
}

#[cfg(test)]
mod tests;
