//! One tunnel's account: what it may use, what it has used, and who is told. All figures of tunnels are counted here, those of
//! the relay and those of the tunnel at once.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::accounting::{Accounting, Counter};
use super::event::{AccountingEvent, Carried, DropCause, EventKind, TunnelDrops, TunnelEnd};
use super::grant::{Grant, TenantId, TunnelLimits};
use super::hook::Protocol;
use super::pump::End;
use super::quota::{Slot, Slots};
use super::rate::{Pace, SharedRate, Unit};
use super::service::Shared;
use super::tenants::{Countable, Taken, Tenant};
use crate::Peer;
use crate::driver::clock;
use crate::local::Handle;
use crate::masque::Target;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

/// A tenant, and the places there that a tunnel has.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) id: TenantId,
    pub(super) tenant: Arc<Tenant>,
    pub(super) _tunnel: Taken,
}

/// Whose tunnel it is.
pub(super) struct Holder {
    pub(super) session: u64,
    pub(super) number: u64,
    pub(super) peer: Peer,
    pub(super) protocol: Protocol,
    /// Only if it is to be told.
    pub(super) target: Option<Box<Target>>,
    pub(super) account: Option<Box<Account>>,
}

/// What was granted, and how fast it is used.
struct Limited {
    limits: TunnelLimits,
    bits: Pace,
    packets: Pace,
}

/// The account of one tunnel. What few tunnels have is made when it is needed.
pub(super) struct Ledger {
    shared: Arc<Shared>,
    holder: Holder,
    /// `None`: no limits.
    limited: Option<Box<Limited>>,
    rate: Option<Arc<SharedRate>>,
    session_pace: Rc<Pace>,
    contexts: OnceCell<Slots>,
    carried: Cell<Carried>,
    drops: RefCell<Option<Box<TunnelDrops>>>,
    opened: Cell<Option<Instant>>,
    over: Cell<Option<TunnelEnd>>,
    waiting: RefCell<Option<Waker>>,
}

/// A compression context that is open.
#[derive(Debug)]
pub(super) struct ContextSlot {
    shared: Arc<Shared>,
    _own: Slot,
    _tenant: Option<Taken>,
}

impl Drop for ContextSlot {
    fn drop(&mut self) {
        self.shared.accounting().bind_contexts_open.dec();
    }
}

impl Ledger {
    pub(super) fn new(shared: Arc<Shared>, holder: Holder, grant: &Grant, session_pace: Rc<Pace>) -> Self {
        let limited = (grant.limits != TunnelLimits::default()).then(|| {
            let now = clock::now().instant;
            Box::new(Limited {
                limits: grant.limits,
                bits: Pace::new(now),
                packets: Pace::new(now),
            })
        });
        Self {
            shared,
            holder,
            limited,
            rate: grant.rate.clone(),
            session_pace,
            contexts: OnceCell::new(),
            carried: Cell::default(),
            drops: RefCell::default(),
            opened: Cell::new(None),
            over: Cell::new(None),
            waiting: RefCell::new(None),
        }
    }

    fn limits(&self) -> Option<&TunnelLimits> {
        self.limited.as_ref().map(|limited| &limited.limits)
    }

    /// The tunnel's number.
    pub(super) fn number(&self) -> u64 {
        self.holder.number
    }

    fn accounting(&self) -> &Accounting {
        self.shared.accounting()
    }

    /// The client gets its 2xx.
    pub(super) fn open(&self) {
        let accounting = self.accounting();
        accounting.tunnels_open.inc();
        match self.holder.protocol {
            Protocol::Tcp => accounting.tcp_opened.inc(),
            Protocol::Udp => accounting.udp_opened.inc(),
            Protocol::Bind => accounting.bind_opened.inc(),
            Protocol::Ip => {
                accounting.ip_open.inc();
                accounting.ip_opened.inc();
            }
        }
        self.opened.set(Some(clock::now().instant));
        self.tell(EventKind::Opened);
    }

    /// The tunnel has ended; the first end counts.
    pub(super) fn close(&self, end: TunnelEnd) {
        if self.opened.get().is_none() {
            return;
        }
        let end = match end {
            // It did not end by itself.
            TunnelEnd::Client if self.shared.is_ending() => TunnelEnd::Relay,
            other => other,
        };
        self.tell(EventKind::Closed(end));
        self.opened.set(None);
        let accounting = self.accounting();
        accounting.tunnels_open.dec();
        if self.holder.protocol == Protocol::Ip {
            accounting.ip_open.dec();
        }
        self.end_counter(end).inc();
    }

    fn end_counter(&self, end: TunnelEnd) -> &Counter {
        let accounting = self.accounting();
        match end {
            TunnelEnd::Finished => &accounting.closed_finished,
            TunnelEnd::Client => &accounting.closed_by_client,
            TunnelEnd::Target => &accounting.closed_by_target,
            TunnelEnd::Fault => &accounting.closed_fault,
            TunnelEnd::Idle => &accounting.closed_idle,
            TunnelEnd::Lifetime | TunnelEnd::Bytes | TunnelEnd::Quota => &accounting.closed_by_limit,
            TunnelEnd::Relay => &accounting.closed_by_relay,
        }
    }

    fn tell(&self, kind: EventKind) {
        let (Some(accountant), Some(opened)) = (&self.shared.accountant, self.opened.get()) else {
            return;
        };
        accountant.on_event(&AccountingEvent {
            kind,
            tunnel: self.holder.number,
            session: self.holder.session,
            protocol: self.holder.protocol,
            tenant: self.holder.account.as_ref().map(|account| account.id),
            peer: &self.holder.peer,
            target: self.holder.target.as_deref(),
            open_for: clock::now().instant.saturating_duration_since(opened),
            carried: self.carried.get(),
            drops: self.drops.borrow().as_deref().copied().unwrap_or_default(),
        });
    }

    /// All rates that hold, with what they have let pass.
    fn rates(&self) -> impl Iterator<Item = (&Pace, Unit, u64)> {
        let tenant = self.holder.account.as_ref().map(|account| &account.tenant);
        let shared = [
            tenant.map(|tenant| &tenant.packets),
            tenant.map(|tenant| &tenant.bits),
            self.rate.as_deref(),
        ];
        let session = (&*self.session_pace, Unit::Bits, self.shared.session_bits());
        let own = self.limited.iter().flat_map(|own| {
            let (bits, packets) = (own.limits.bits_per_s, own.limits.packets_per_s);
            [
                (&own.bits, Unit::Bits, bits.map_or(0, at_least_one)),
                (&own.packets, Unit::Packets, packets.map_or(0, at_least_one)),
            ]
        });
        let shared = shared.into_iter().flatten().map(SharedRate::parts);
        shared
            .chain([session])
            .chain(own)
            .filter(|(_, _, per_s)| *per_s > 0)
    }

    /// Whether packets of this length altogether may pass; what may not is counted as dropped.
    pub(super) fn admit(&self, packets: u64, bytes: usize) -> bool {
        let mut now = None;
        let admitted = self.rates().all(|(pace, unit, per_s)| {
            let now = *now.get_or_insert_with(|| clock::now().instant);
            let amount = match unit {
                Unit::Bits => 8 * bytes as u64,
                Unit::Packets => packets,
            };
            pace.try_charge(now, unit, per_s, amount)
        });
        if !admitted {
            self.dropped(DropCause::Rate, packets);
        }
        admitted
    }

    /// Counts a piece of a stream, and waits as long as the rates demand after it.
    pub(super) async fn pay(&self, local: &Handle, way: Way, bytes: usize) {
        self.carried(way, 0, bytes as u64);
        let bits = self.rates().filter(|(_, unit, _)| *unit == Unit::Bits);
        let wait = bits
            .map(|(pace, unit, per_s)| pace.charge(clock::now().instant, unit, per_s, 8 * bytes as u64))
            .max()
            .unwrap_or_default();
        if !wait.is_zero() {
            local.sleep(wait).await;
        }
    }

    /// Counts what went through.
    pub(super) fn carried(&self, way: Way, packets: u64, bytes: u64) {
        let mut carried = self.carried.get();
        let (of_bytes, of_packets) = match way {
            Way::Up => (&mut carried.bytes_up, &mut carried.packets_up),
            Way::Down => (&mut carried.bytes_down, &mut carried.packets_down),
        };
        (*of_bytes, *of_packets) = (*of_bytes + bytes, *of_packets + packets);
        self.carried.set(carried);
        let (all_packets, all_bytes) = self.counters(way);
        all_bytes.add(bytes);
        if let Some(all) = all_packets {
            all.add(packets);
        }
        let spent = |max| carried.bytes_up + carried.bytes_down >= max;
        if self.limits().and_then(|limits| limits.bytes).is_some_and(spent) {
            self.end(TunnelEnd::Bytes);
        }
        if let Some(account) = &self.holder.account
            && !account.tenant.spend(bytes)
        {
            self.end(TunnelEnd::Quota);
        }
    }

    /// The relay's counters of packets and bytes.
    fn counters(&self, way: Way) -> (Option<&Counter>, &Counter) {
        let all = self.accounting();
        match (self.holder.protocol, way) {
            (Protocol::Tcp, Way::Up) => (None, &all.tcp_bytes_up),
            (Protocol::Tcp, Way::Down) => (None, &all.tcp_bytes_down),
            (Protocol::Udp | Protocol::Bind, Way::Up) => (Some(&all.udp_packets_up), &all.udp_bytes_up),
            (Protocol::Udp | Protocol::Bind, Way::Down) => (Some(&all.udp_packets_down), &all.udp_bytes_down),
            (Protocol::Ip, Way::Up) => (Some(&all.ip_packets_up), &all.ip_bytes_up),
            (Protocol::Ip, Way::Down) => (Some(&all.ip_packets_down), &all.ip_bytes_down),
        }
    }

    /// Counts packets that went nowhere.
    pub(super) fn dropped(&self, cause: DropCause, packets: u64) {
        if packets == 0 {
            return;
        }
        self.drops
            .borrow_mut()
            .get_or_insert_default()
            .add(cause, packets);
        let all = self.accounting();
        let bound = self.holder.protocol == Protocol::Bind;
        let counter = match cause {
            DropCause::Malformed if bound => &all.bind_dropped_unreadable,
            DropCause::Policy if bound => &all.bind_dropped_policy,
            DropCause::Refused => &all.dropped_refused,
            DropCause::NoContext => &all.bind_dropped_no_context,
            DropCause::UnknownContext => &all.bind_dropped_unknown,
            DropCause::TooLarge => &all.dropped_too_large,
            DropCause::QueueFull => &all.dropped_queue_full,
            DropCause::Rate => &all.dropped_rate,
            DropCause::Early => &all.dropped_early,
            DropCause::Malformed => &all.ip_dropped_malformed,
            DropCause::Source => &all.ip_dropped_source,
            DropCause::Policy => &all.ip_dropped_policy,
        };
        counter.add(packets);
    }

    /// Room for one more compression context of this tunnel.
    pub(super) fn take_context(&self) -> Option<ContextSlot> {
        let max = self.limits().and_then(|limits| limits.contexts);
        let contexts = self.contexts.get_or_init(Slots::default);
        let own = contexts.take(max.unwrap_or(usize::MAX))?;
        let tenant = match &self.holder.account {
            Some(account) => Some(account.tenant.take(Countable::Contexts)?),
            None => None,
        };
        self.accounting().bind_contexts_opened.inc();
        self.accounting().bind_contexts_open.inc();
        Some(ContextSlot {
            shared: Arc::clone(&self.shared),
            _own: own,
            _tenant: tenant,
        })
    }

    /// A context was refused.
    pub(super) fn refused_context(&self) {
        self.accounting().bind_contexts_refused.inc();
    }

    /// The tunnel is to end, which [`Ledger::run`] sees.
    fn end(&self, why: TunnelEnd) {
        if self.over.get().is_none() {
            self.over.set(Some(why));
        }
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Polls `tunnel` until it ends by itself or has used up what it was granted.
    pub(super) async fn run(
        &self,
        local: &Handle,
        mut tunnel: impl FnMut(&mut Context<'_>) -> Poll<End>,
    ) -> End {
        let mut over = pin!(self.over(local));
        poll_fn(|cx| match over.as_mut().poll(cx) {
            Poll::Ready(why) => Poll::Ready(End::Over(why)),
            Poll::Pending => tunnel(cx),
        })
        .await
    }

    /// Waits until the tunnel has used up what it was granted; says meanwhile what it has used, if that is wanted.
    async fn over(&self, local: &Handle) -> TunnelEnd {
        // Most tunnels have neither.
        let lifetime = self.limits().and_then(|limits| limits.lifetime);
        let mut lifetime = lifetime.map(|time| Box::pin(local.sleep(time)));
        let every = self.shared.interim.filter(|_| self.shared.accountant.is_some());
        let mut interim = every.map(|every| Box::new((every.max(LEAST_INTERIM), local.sleep(every))));
        poll_fn(|cx| {
            if let Some(why) = self.over.get() {
                return Poll::Ready(why);
            }
            if let Some(timer) = &mut lifetime
                && timer.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(TunnelEnd::Lifetime);
            }
            if let Some((every, timer)) = interim.as_deref_mut() {
                while Pin::new(&mut *timer).poll(cx).is_ready() {
                    self.tell(EventKind::Interim);
                    timer.reset(*every);
                }
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waiting = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// Interim records of one tunnel come no faster.
const LEAST_INTERIM: Duration = Duration::from_millis(10);

/// 0 stands for no limit below; whoever is granted 0 gets next to nothing.
fn at_least_one(per_s: u64) -> u64 {
    per_s.max(1)
}

impl Drop for Ledger {
    /// Whatever ended the task: a tunnel that was opened is closed.
    fn drop(&mut self) {
        self.close(TunnelEnd::Relay);
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({})", self.holder.number)
    }
}
