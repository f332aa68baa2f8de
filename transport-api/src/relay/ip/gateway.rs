//! The router between clients and the device. Nothing passes that is not checked here.
//!
//! From a client: well-formed → its own source (BCP 38) → a destination its routes and the policy allow → another client, or the
//! device. From the device: to the client that has the destination, if its routes cover who speaks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::super::accounting::Accounting;
use super::super::event::DropCause;
use super::super::ledger::{Ledger, Way};
use super::super::policy::TargetPolicy;
use super::super::service::Shared;
use super::pool::{Holder, Lease, Pool, PoolError};
use crate::ip::icmp::{self, Problem};
use crate::ip::{AddressKind, Network, Packet, decrement_ttl, mss};
use crate::masque::ip::{IpScope, RouteRange, Routes, ScopeTarget};
use crate::masque::lane::Lane;
use crate::tun::offload::Segments;
use crate::tunnel::Datagram;
use crate::tunnel::ip::{Device, ErrorLimit, IpSender, Outbound, mtu};

/// One client's tunnel, as the router sees it.
#[derive(Debug)]
pub(super) struct Member<L: Lane> {
    pub(super) holder: Holder,
    ledger: Rc<Ledger>,
    /// Its own, instead of the relay's.
    policy: Option<Arc<TargetPolicy>>,
    sender: IpSender<L>,
    /// What it may reach: the relay's routes within what it asked for.
    routes: Routes,
    addresses: RefCell<Vec<IpAddr>>,
    errors: RefCell<ErrorLimit>,
}

type ToldLease = Box<dyn FnMut(Lease)>;

/// The router.
pub(in crate::relay) struct Gateway<L: Lane> {
    pool: RefCell<Pool>,
    routes: Routes,
    /// Networks that the operator named as routes.
    named: Vec<Network>,
    between_clients: bool,
    members: RefCell<HashMap<IpAddr, Rc<Member<L>>>>,
    device: Rc<dyn Device>,
    outbound: RefCell<Outbound>,
    on_lease: RefCell<ToldLease>,
    shared: Arc<Shared>,
}

/// What the router is made of.
pub(in crate::relay) struct Plan {
    pub(in crate::relay) pools: Vec<Network>,
    pub(in crate::relay) routes: Vec<Network>,
    pub(in crate::relay) between_clients: bool,
    pub(in crate::relay) leases: Vec<Lease>,
    pub(in crate::relay) on_lease: ToldLease,
}

impl<L: Lane> Member<L> {
    pub(super) fn new(
        holder: Holder,
        sender: IpSender<L>,
        routes: Routes,
        policy: Option<Arc<TargetPolicy>>,
        ledger: Rc<Ledger>,
    ) -> Rc<Self> {
        Rc::new(Self {
            holder,
            ledger,
            policy,
            sender,
            routes,
            addresses: RefCell::default(),
            errors: RefCell::default(),
        })
    }

    /// Waits until its connection has taken over what it was given.
    pub(super) async fn taken(&self) {
        poll_fn(|cx| self.sender.lane().poll_flow_taken(cx)).await;
    }
}

impl<L: Lane> Gateway<L> {
    pub(in crate::relay) fn new(
        plan: Plan,
        device: Rc<dyn Device>,
        seed: u64,
        shared: Arc<Shared>,
    ) -> Result<Self, PoolError> {
        let pool = Pool::new(&plan.pools, &plan.leases)?;
        let routes = Routes::of(&[plan.pools.as_slice(), &plan.routes].concat());
        let named = plan.routes.into_iter().filter(|route| route.prefix_len() > 0);
        Ok(Self {
            pool: RefCell::new(pool),
            routes,
            named: named.collect(),
            between_clients: plan.between_clients,
            members: RefCell::default(),
            device,
            outbound: RefCell::new(Outbound::new(seed)),
            on_lease: RefCell::new(plan.on_lease),
            shared,
        })
    }

    /// What a request for `scope` is told about; nothing when the relay routes nowhere of it. Names are not resolved: `None`.
    pub(in crate::relay) fn routes_for(&self, scope: &IpScope) -> Option<Routes> {
        let within = match &scope.target {
            ScopeTarget::Any if scope.protocol.is_none() => return Some(self.routes.clone()),
            ScopeTarget::Any => None,
            ScopeTarget::Network(network) => Some(*network),
            ScopeTarget::Name(_) => return None,
        };
        let ranges = self.routes.ranges().iter().filter_map(|range| {
            let (start, end) = match within {
                Some(network) => (
                    range.start().max(network.first()),
                    range.end().min(network.last()),
                ),
                None => (range.start(), range.end()),
            };
            let same_family = within.is_none_or(|network| network.is_ipv4() == range.start().is_ipv4());
            same_family
                .then(|| RouteRange::new(start, end, scope.protocol.unwrap_or(0)))
                .flatten()
        });
        Routes::checked(ranges.collect()).ok()
    }

    /// Gives a member an address of a family; packets for it go its way from now on, and no longer to an older tunnel of the
    /// same client. `None` when there is none.
    pub(super) fn assign(&self, member: &Rc<Member<L>>, v4: bool, wish: Option<IpAddr>) -> Option<IpAddr> {
        let taken = self.pool.borrow_mut().take(member.holder, v4, wish);
        let Some(address) = taken else {
            self.accounting().ip_pool_exhausted.inc();
            return None;
        };
        let before = self.members.borrow_mut().insert(address, Rc::clone(member));
        if let Some(before) = before.filter(|before| !Rc::ptr_eq(before, member)) {
            before.addresses.borrow_mut().retain(|other| *other != address);
        }
        let mut addresses = member.addresses.borrow_mut();
        if !addresses.contains(&address) {
            addresses.reserve_exact(1);
            addresses.push(address);
        }
        drop(addresses);
        self.tell_leases();
        Some(address)
    }

    /// The tunnel is over.
    pub(super) fn leave(&self, member: &Rc<Member<L>>) {
        let mut members = self.members.borrow_mut();
        let addresses = member.addresses.take();
        for address in &addresses {
            members.remove(address);
        }
        drop(members);
        // A newer tunnel of the same client may hold what this one had.
        let moved = addresses.is_empty() && matches!(member.holder, Holder::Known(_));
        if !moved {
            self.pool.borrow_mut().leave(member.holder);
            self.tell_leases();
        }
    }

    fn tell_leases(&self) {
        let changes = self.pool.borrow_mut().changes();
        changes.into_iter().for_each(&mut *self.on_lease.borrow_mut());
    }

    /// A packet out of a client's tunnel.
    pub(super) fn take_from_client(&self, now: Instant, member: &Member<L>, bytes: &mut [u8]) {
        let Ok(packet) = Packet::parse(bytes) else {
            member.ledger.dropped(DropCause::Malformed, 1);
            return;
        };
        match self.judge(member, &packet) {
            Verdict::ToDevice => {
                if packet.is_tcp_syn() {
                    mss::clamp(bytes, member.sender.mtu());
                }
                member.ledger.carried(Way::Up, 1, bytes.len() as u64);
                self.device.put(bytes);
            }
            Verdict::ToClient(other) => self.forward(now, member, &other, bytes),
            Verdict::Drop => member.ledger.dropped(DropCause::Policy, 1),
            Verdict::Refuse(problem) => {
                let cause = match problem {
                    Problem::SourcePolicy => DropCause::Source,
                    _ => DropCause::Policy,
                };
                member.ledger.dropped(cause, 1);
                self.answer(now, member, &packet, problem);
            }
        }
    }

    /// Takes what a packet from a client was in, for packets to clients.
    pub(super) fn spend(&self, packet: Datagram) {
        self.outbound.borrow_mut().spend(packet);
    }

    /// Gives back what is left of that, at the end of a member's turn.
    pub(super) fn give_spares(&self, member: &Member<L>) {
        self.outbound.borrow_mut().give_spares(&member.sender);
    }

    /// The packets of one batch have all been handed in.
    pub(super) fn flush(&self) {
        self.device.flush();
        self.accounting()
            .ip_dropped_device
            .add(self.device.take_dropped());
    }

    fn judge(&self, member: &Member<L>, packet: &Packet<'_>) -> Verdict<L> {
        let (source, destination) = (packet.source(), packet.destination());
        if !member.addresses.borrow().contains(&source) {
            // Link-local chatter of the client's system is no attack.
            return match packet.source_kind() {
                AddressKind::Unicast => Verdict::Refuse(Problem::SourcePolicy),
                _ => Verdict::Drop,
            };
        }
        if packet.destination_kind() != AddressKind::Unicast {
            return Verdict::Drop;
        }
        let pool = self.pool.borrow();
        if pool.gateway(destination.is_ipv4()) == Some(destination) {
            return Verdict::ToDevice;
        }
        if !member.routes.admit(destination, packet.protocol()) {
            return Verdict::Refuse(Problem::NoRoute);
        }
        if pool.contains(destination) {
            return match self.members.borrow().get(&destination) {
                _ if !self.between_clients => Verdict::Refuse(Problem::Prohibited),
                Some(other) => Verdict::ToClient(Rc::clone(other)),
                None => Verdict::Refuse(Problem::AddressUnreachable),
            };
        }
        let allowed = match &member.policy {
            Some(policy) => self.is_allowed(policy, destination),
            None => self.is_allowed(&self.shared.policy(), destination),
        };
        if allowed {
            Verdict::ToDevice
        } else {
            Verdict::Refuse(Problem::Prohibited)
        }
    }

    /// A network that the operator named as a route is meant; what only a default route covers is judged like any target.
    fn is_allowed(&self, policy: &TargetPolicy, destination: IpAddr) -> bool {
        let in_any = |networks: &[Network]| networks.iter().any(|network| network.contains(destination));
        !in_any(&policy.deny) && (in_any(&self.named) || policy.check(destination).is_ok())
    }

    /// From one client to another: this relay is a router between them (RFC 9484 §7).
    fn forward(&self, now: Instant, from: &Member<L>, to: &Member<L>, bytes: &mut [u8]) {
        if decrement_ttl(bytes).is_err() {
            if let Ok(packet) = Packet::parse(bytes) {
                self.answer(now, from, &packet, Problem::TimeExceeded);
            }
            return;
        }
        mss::clamp(bytes, from.sender.mtu().min(to.sender.mtu()));
        let Ok(packet) = Packet::parse(bytes) else { return };
        let flow = packet.flow_hash(0);
        match to.sender.send(flow, bytes) {
            Ok(()) => from.ledger.carried(Way::Up, 1, bytes.len() as u64),
            Err(crate::tunnel::IpSendError::TooLarge(max)) => {
                from.ledger.dropped(DropCause::TooLarge, 1);
                self.answer(now, from, &packet, Problem::TooBig { mtu: mtu(max) });
            }
            Err(crate::tunnel::IpSendError::Dropped) => from.ledger.dropped(DropCause::QueueFull, 1),
        }
    }

    /// Tells a client why its packet goes no further.
    fn answer(&self, now: Instant, member: &Member<L>, packet: &Packet<'_>, problem: Problem) {
        let Some(router) = self.pool.borrow().gateway(packet.source().is_ipv4()) else {
            return;
        };
        let mut answer = Vec::new();
        if member.errors.borrow_mut().allow(now) && icmp::error(packet, problem, router, &mut answer) {
            // Whether it arrives is nobody's promise.
            let _ = member.sender.send(0, &answer);
            self.accounting().ip_errors_sent.inc();
        }
    }

    /// A frame that the device gave.
    ///
    /// Whoever got packets, to be waited for before more is read.
    pub(super) fn take_from_device(&self, now: Instant, frame: &mut [u8]) -> Option<Rc<Member<L>>> {
        let accounting = self.accounting();
        let Ok(mut segments) = Segments::new(frame) else {
            accounting.ip_dropped_malformed.inc();
            return None;
        };
        let Ok(packet) = Packet::parse(segments.packet()) else {
            accounting.ip_dropped_malformed.inc();
            return None;
        };
        let destination = packet.destination();
        let Some(member) = self.members.borrow().get(&destination).cloned() else {
            self.no_client(now, &packet);
            return None;
        };
        if !self.may_enter(&member, &packet) {
            member.ledger.dropped(DropCause::Policy, 1);
            return None;
        }
        if !member
            .ledger
            .admit(segments.count() as u64, segments.packet().len())
        {
            return None;
        }
        let mut outbound = self.outbound.borrow_mut();
        let sent = outbound.send(now, &member.sender, &packet, &mut segments, &*self.device);
        drop(outbound);
        let ledger = &member.ledger;
        ledger.carried(Way::Down, sent.packets, sent.bytes);
        ledger.dropped(DropCause::QueueFull, sent.queue_full);
        ledger.dropped(DropCause::TooLarge, sent.too_large);
        Some(member)
    }

    /// An address of the pool that nobody has now.
    fn no_client(&self, now: Instant, packet: &Packet<'_>) {
        self.accounting().ip_dropped_no_client.inc();
        if self.pool.borrow().contains(packet.destination()) {
            let mut outbound = self.outbound.borrow_mut();
            outbound.answer(now, packet, Problem::AddressUnreachable, &*self.device);
        }
    }

    /// Whether a client may hear of this: from whom it may speak to, or an error of a router about its own packet
    /// (RFC 9484 §4.8, §11).
    fn may_enter(&self, member: &Member<L>, packet: &Packet<'_>) -> bool {
        let source = packet.source();
        if packet.source_kind() != AddressKind::Unicast {
            return false;
        }
        if member.routes.admit(source, packet.protocol())
            || self.pool.borrow().gateway(source.is_ipv4()) == Some(source)
        {
            return true;
        }
        icmp::quoted(packet).is_some_and(|quoted| {
            quoted.source == packet.destination() && member.routes.admit(quoted.destination, quoted.protocol)
        })
    }

    fn accounting(&self) -> &Accounting {
        self.shared.accounting()
    }
}

/// What is to be done with a client's packet.
enum Verdict<L: Lane> {
    ToDevice,
    ToClient(Rc<Member<L>>),
    /// Nobody is told.
    Drop,
    Refuse(Problem),
}
