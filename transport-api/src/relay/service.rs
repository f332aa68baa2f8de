//! The relay's thread: it accepts connections, keeps their sessions, and drains them when asked.
//!
//! A relay that serves IP has its driver on the same thread: packets change none between the network and the device.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use super::accounting::{Accounting, Snapshot};
use super::bind::BindConfig;
use super::buffers::Buffers;
use super::event::Accountant;
use super::grant::{Grant, TenantId};
use super::hook::{AcceptAll, OnRequest};
use super::ip::{self, Gateway, IpService};
use super::policy::TargetPolicy;
use super::quota::{Quota, Slot, Slots};
use super::rate::Pace;
use super::request;
use super::resolve::{Names, Resolver, SystemNames};
use super::tenants::{Countable, Quotas, Taken, Tenant, TenantQuota, TooManyTenants};
use crate::driver::clock;
use crate::http::Code;
use crate::local::{Handle, Loop};
use crate::masque::Template;
use crate::masque::lane::Lane;
use crate::tunnel::session::{Role, Session};
use crate::{Bundle, Connection, Endpoint, Peer};

/// Tasks of the relay's loop: a few per session, one per request.
const MAX_TASKS: usize = 1 << 20;
/// How often a draining relay looks whether the last tunnel has ended.
const DRAIN_STEP: Duration = Duration::from_millis(20);
/// How long clients have at least to hear of a successor.
const MOVE_TIME: Duration = Duration::from_millis(500);

/// What a relay serves, and how.
#[derive(Clone)]
pub struct RelayConfig {
    /// Its name in `Proxy-Status`, a token.
    pub name: String,
    /// Templates of CONNECT-UDP; only path and query count.
    pub templates: Vec<Template>,
    /// Templates of CONNECT-IP, where IP is served; only path and query count.
    pub ip_templates: Vec<Template>,
    /// Which targets are allowed.
    pub policy: TargetPolicy,
    /// Limits of sessions.
    pub quota: Quota,
    /// CONNECT-UDP bind.
    pub bind: BindConfig,
    /// Time for a TCP connection to the target.
    pub connect_timeout: Duration,
    /// A UDP tunnel without packets ends after this time; RFC 9298 §3.1 wants 2 minutes at least.
    pub udp_idle: Duration,
    /// Knows the addresses of targets' names.
    pub names: Arc<dyn Names>,
    /// Decides about requests.
    pub hook: Arc<dyn OnRequest>,
    /// What tenants may use; relays that are given clones of one table share it.
    pub tenants: Quotas,
    /// Hears of tunnels.
    pub accountant: Option<Arc<dyn Accountant>>,
    /// How often it hears of a tunnel that is open; `None`: only of openings and ends.
    pub account_every: Option<Duration>,
    /// Whether it hears where tunnels lead.
    pub account_targets: bool,
}

impl Default for RelayConfig {
    /// The usual relay: the well-known template, public targets, default limits.
    fn default() -> Self {
        Self {
            name: "adit".into(),
            templates: vec![Template::relay()],
            ip_templates: vec![Template::relay_ip()],
            policy: TargetPolicy::default(),
            quota: Quota::default(),
            bind: BindConfig::default(),
            connect_timeout: Duration::from_secs(10),
            udp_idle: Duration::from_mins(2),
            names: Arc::new(SystemNames),
            hook: Arc::new(AcceptAll),
            tenants: Quotas::new(),
            accountant: None,
            account_every: None,
            account_targets: false,
        }
    }
}

impl fmt::Debug for RelayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayConfig")
            .field("policy", &self.policy)
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}

/// What the service's handle and its thread share.
pub(super) struct Shared {
    accounting: Accounting,
    pub(super) accountant: Option<Arc<dyn Accountant>>,
    /// How often the accountant hears of a tunnel.
    pub(super) interim: Option<Duration>,
    tenants: Quotas,
    /// Bits per second of each session; 0: no limit.
    session_bits: AtomicU64,
    /// Sessions are being closed.
    ending: AtomicBool,
    live: Mutex<Live>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("tenants", &self.tenants)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Live {
    policy: Arc<TargetPolicy>,
    quota: Quota,
    drain: Option<Duration>,
    successor: Option<Arc<[u8]>>,
    waiting: Option<Waker>,
}

impl Shared {
    pub(super) fn new(config: &RelayConfig) -> Self {
        let live = Live {
            policy: Arc::new(config.policy.clone()),
            quota: config.quota,
            drain: None,
            successor: None,
            waiting: None,
        };
        Self {
            accounting: Accounting::default(),
            accountant: config.accountant.clone(),
            interim: config.account_every,
            tenants: config.tenants.clone(),
            session_bits: AtomicU64::new(config.quota.session_bits()),
            ending: AtomicBool::new(false),
            live: Mutex::new(live),
        }
    }

    pub(super) fn session_bits(&self) -> u64 {
        self.session_bits.load(Ordering::Relaxed)
    }

    pub(super) fn tenants(&self) -> &Quotas {
        &self.tenants
    }

    /// Draining will tell clients of this relay.
    pub(super) fn name_successor(&self, successor: &Bundle) {
        self.live().successor = Some(successor.bytes().into());
    }

    /// Whether what ends now is ended by the relay.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.accounting.snapshot()
    }

    pub(super) fn accounting(&self) -> &Accounting {
        &self.accounting
    }

    /// The policy that is in force now.
    pub(super) fn policy(&self) -> Arc<TargetPolicy> {
        Arc::clone(&self.live().policy)
    }
}

/// A running relay. Dropping it lets the relay run on until its endpoint is closed.
#[derive(Debug)]
pub struct RelayService {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl RelayService {
    /// Serves the connections of `endpoint` until it is closed.
    pub fn start(endpoint: Endpoint, config: RelayConfig) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(&config));
        let resolver = Resolver::asking(Arc::clone(&config.names))?;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("adit-relay".into())
            .spawn(move || {
                let mut local = Loop::new(MAX_TASKS)?;
                let relay = Rc::new(Relay::new(local.handle(), config, resolver, theirs));
                local.run(accept(&endpoint, &relay))
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Serves IP as well. `bind` makes the endpoint on the relay's own loop ([`Endpoint::bind_on`]).
    ///
    /// # Errors
    /// What `bind` says, [`io::ErrorKind::InvalidInput`] for pools or leases that contradict themselves, and what the device or a
    /// new thread may fail with.
    pub fn start_with_ip(
        bind: impl FnOnce(&Handle) -> io::Result<Endpoint> + Send + 'static,
        config: RelayConfig,
        ip: IpService,
    ) -> io::Result<(Self, Endpoint)> {
        let shared = Arc::new(Shared::new(&config));
        let resolver = Resolver::asking(Arc::clone(&config.names))?;
        let theirs = Arc::clone(&shared);
        let (tell, told) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("adit-relay".into())
            .spawn(move || {
                let mut local = Loop::new(MAX_TASKS)?;
                let at = local.handle();
                let made = bind(&at).and_then(|endpoint| {
                    let port = ip::attach(&at, ip, &theirs)?;
                    Ok((endpoint, port))
                });
                let (endpoint, gateway) = match made {
                    Ok(made) => made,
                    Err(error) => return tell.send(Err(error)).map_err(io::Error::other),
                };
                let mut relay = Relay::new(at, config, resolver, theirs);
                relay.gateway = Some(gateway);
                tell.send(Ok(endpoint.clone())).map_err(io::Error::other)?;
                local.run(accept(&endpoint, &Rc::new(relay)))
            })?;
        let endpoint = told.recv().map_err(io::Error::other)??;
        let service = Self {
            shared,
            thread: Some(thread),
        };
        Ok((service, endpoint))
    }

    /// Figures now.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Other wishes for new requests and sessions; a changed rate applies at once. The policy holds for the packets of open IP tunnels as
    /// well, and within ten seconds for those of bound ports, unless they were granted one of their own.
    pub fn update(&self, policy: TargetPolicy, quota: Quota) {
        let mut live = self.shared.live();
        live.policy = Arc::new(policy);
        live.quota = quota;
        self.shared
            .session_bits
            .store(quota.session_bits(), Ordering::Relaxed);
    }

    /// What a tenant may use from now on, running tunnels included ([`Quotas::set`]).
    ///
    /// # Errors
    /// When too many tenants have quotas.
    pub fn set_quota(&self, tenant: TenantId, quota: TenantQuota) -> Result<(), TooManyTenants> {
        self.shared.tenants().set(tenant, quota)
    }

    /// What tenants may use, and use.
    pub fn tenants(&self) -> &Quotas {
        self.shared.tenants()
    }

    /// Takes no new connections and requests; closes the endpoint when the last tunnel has ended, or after `deadline`.
    pub fn drain(&self, deadline: Duration) {
        self.end_within(deadline);
    }

    /// As [`RelayService::drain`], and tells the clients that `successor` goes on. Those that understand connect there
    /// ([`Client::moved`](crate::tunnel::Client::moved)); it should be ready to take them.
    pub fn drain_to(&self, deadline: Duration, successor: &Bundle) {
        self.shared.name_successor(successor);
        self.end_within(deadline);
    }

    /// A shorter deadline overtakes a longer one.
    fn end_within(&self, deadline: Duration) {
        let waiting = {
            let mut live = self.shared.live();
            live.drain = Some(live.drain.map_or(deadline, |before| before.min(deadline)));
            live.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Closes the endpoint now, with all that is open.
    pub fn stop(&self) {
        self.end_within(Duration::ZERO);
    }

    /// Whether the relay has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the relay's end.
    pub fn join(mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the relay's thread panicked")),
            None => Ok(()),
        }
    }
}

/// The relay on its thread.
pub(super) struct Relay<L: Lane> {
    local: Handle,
    config: RelayConfig,
    resolver: Resolver,
    shared: Arc<Shared>,
    sessions: RefCell<BTreeMap<u64, Session<L>>>,
    slots: Slots,
    buffers: RefCell<Buffers>,
    /// Routes packets, where IP is served.
    pub(super) gateway: Option<Rc<Gateway<L>>>,
    /// The endpoint's address, as soon as there is one.
    listens_on: Cell<Option<SocketAddr>>,
}

impl<L: Lane> Relay<L> {
    pub(super) fn new(local: Handle, config: RelayConfig, resolver: Resolver, shared: Arc<Shared>) -> Self {
        Self {
            local,
            config,
            resolver,
            shared,
            sessions: RefCell::default(),
            slots: Slots::default(),
            buffers: RefCell::new(Buffers::new()),
            gateway: None,
            listens_on: Cell::new(None),
        }
    }

    /// Serves one connection to its end. False when there are too many.
    pub(super) fn serve(self: &Rc<Self>, id: u64, lane: L, peer: Peer) -> bool {
        let max = self.shared.live().quota.sessions;
        let Some(slot) = self.slots.take(max) else {
            self.shared.accounting.sessions_refused.inc();
            return false;
        };
        let session = Session::new(lane, Role::Server);
        self.sessions.borrow_mut().insert(id, session.clone());
        let relay = Rc::clone(self);
        let task = async move {
            relay.shared.accounting.sessions_accepted.inc();
            relay.shared.accounting.sessions_open.inc();
            let context = Rc::new(SessionContext::new(Rc::clone(&relay), session, peer));
            context.run().await;
            relay.sessions.borrow_mut().remove(&id);
            relay.shared.accounting.sessions_open.dec();
            relay
                .shared
                .accounting
                .dropped_no_request
                .add(context.session.drops().no_request);
            relay
                .shared
                .accounting
                .dropped_queue_full
                .add(context.session.drops().queue_full);
            drop(slot);
        };
        if self.local.spawn(task).is_err() {
            self.sessions.borrow_mut().remove(&id);
            return false;
        }
        true
    }

    /// GOAWAY to all, then the end of each: when the tunnels have ended, or after `deadline`, or the shorter one that
    /// was named meanwhile.
    pub(super) async fn drain(&self, deadline: Duration) {
        let successor = self.shared.live().successor.clone();
        // A frame that was lost is repeated within this time, before the connection goes.
        let least = successor.as_ref().map_or(Duration::ZERO, |_| MOVE_TIME);
        for session in self.sessions.borrow().values() {
            if let Some(bundle) = &successor {
                session.name_successor(Arc::clone(bundle));
            }
            session.go_away();
        }
        let began = clock::now().instant;
        loop {
            // One step at least, so that GOAWAY is written before the connections close.
            self.local.sleep(DRAIN_STEP).await;
            let limit = self
                .shared
                .live()
                .drain
                .map_or(deadline, |latest| latest.min(deadline));
            let lasts = clock::now().instant.saturating_duration_since(began);
            let over = lasts >= limit;
            // An IP tunnel never ends by itself; its client finds the relay again.
            let accounting = &self.shared.accounting;
            let quiet = accounting.tunnels_open.get() == accounting.ip_open.get();
            if over || quiet && lasts >= least {
                break;
            }
        }
        self.shared.ending.store(true, Ordering::Relaxed);
        for session in self.sessions.borrow().values() {
            session.lane().close(Code::NO_ERROR.0, "the relay shuts down");
        }
    }
}

/// Accepts connections until the endpoint is closed or the relay is drained.
async fn accept(endpoint: &Endpoint, relay: &Rc<Relay<Connection>>) {
    relay.listens_on.set(Some(endpoint.local_addr()));
    let deadline = loop {
        let next = {
            let mut accept = pin!(endpoint.accept());
            poll_fn(|cx| {
                let mut live = relay.shared.live();
                if let Some(deadline) = live.drain {
                    return Poll::Ready(Err(deadline));
                }
                live.waiting = Some(cx.waker().clone());
                drop(live);
                accept.as_mut().poll(cx).map(Ok)
            })
            .await
        };
        match next {
            Ok(Some(incoming)) => {
                let peer = incoming.peer();
                let connection = incoming.accept();
                if !relay.serve(connection.id(), connection.clone(), peer) {
                    connection.close(Code::EXCESSIVE_LOAD.0, b"too many sessions");
                }
            }
            Ok(None) => {
                // A driver on this loop ends with it, and has its peers to tell first.
                endpoint.wait_idle().await;
                return;
            }
            Err(deadline) => break deadline,
        }
    };
    endpoint.refuse_new(true);
    relay.drain(deadline).await;
    endpoint.close(Code::NO_ERROR.0, b"the relay shuts down");
    endpoint.wait_idle().await;
}

/// One session with what its tunnels share.
pub(super) struct SessionContext<L: Lane> {
    relay: Rc<Relay<L>>,
    pub(super) session: Session<L>,
    pub(super) peer: Peer,
    /// No other session of this process has it.
    pub(super) number: u64,
    tunnels: Slots,
    /// Tenants that this session counts for, to its end.
    tenants: RefCell<BTreeMap<TenantId, Taken>>,
    /// What all its tunnels together have let pass.
    pub(super) pace: Rc<Pace>,
}

/// Numbers of sessions.
static SESSIONS: AtomicU64 = AtomicU64::new(0);
/// Tenants of one session.
const MAX_SESSION_TENANTS: usize = 16;

impl<L: Lane> SessionContext<L> {
    fn new(relay: Rc<Relay<L>>, session: Session<L>, peer: Peer) -> Self {
        Self {
            relay,
            session,
            peer,
            number: SESSIONS.fetch_add(1, Ordering::Relaxed),
            tunnels: Slots::default(),
            tenants: RefCell::default(),
            pace: Rc::new(Pace::new(clock::now().instant)),
        }
    }

    /// Serves requests until the session ends.
    async fn run(self: &Rc<Self>) {
        let mut own = pin!(self.session.run());
        let mut requests = pin!(async {
            while let Ok(stream) = self.session.accept_request().await {
                let task = request::serve(Rc::clone(self), stream);
                if self.local().spawn(task).is_err() {
                    self.accounting().rejected_limit.inc();
                }
            }
        });
        let mut accepting = true;
        poll_fn(|cx| {
            if accepting && requests.as_mut().poll(cx).is_ready() {
                accepting = false;
            }
            own.as_mut().poll(cx).map(drop)
        })
        .await;
    }

    pub(super) fn local(&self) -> &Handle {
        &self.relay.local
    }

    pub(super) fn config(&self) -> &RelayConfig {
        &self.relay.config
    }

    pub(super) fn resolver(&self) -> &Resolver {
        &self.relay.resolver
    }

    pub(super) fn accounting(&self) -> &Accounting {
        &self.relay.shared.accounting
    }

    /// For the time of one poll.
    pub(super) fn buffers(&self) -> RefMut<'_, Buffers> {
        self.relay.buffers.borrow_mut()
    }

    pub(super) fn gateway(&self) -> Option<&Rc<Gateway<L>>> {
        self.relay.gateway.as_ref()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.relay.shared
    }

    /// The endpoint's address.
    pub(super) fn listens_on(&self) -> Option<SocketAddr> {
        self.relay.listens_on.get()
    }

    /// The policy that targets of a request are judged by.
    pub(super) fn policy_for(&self, grant: &Grant) -> Arc<TargetPolicy> {
        grant.policy.clone().unwrap_or_else(|| self.relay.shared.policy())
    }

    /// Room for one more tunnel of this session.
    pub(super) fn take_tunnel(&self) -> Option<Slot> {
        let max = self.relay.shared.live().quota.tunnels_per_session;
        self.tunnels.take(max)
    }

    /// The entry of a tenant; `None` when there are too many.
    pub(super) fn tenant(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.relay.shared.tenants().tenant(id)
    }

    /// Counts this session for a tenant, if it is not yet. False when the tenant or this session has too many.
    pub(super) fn enter(&self, id: TenantId, tenant: &Arc<Tenant>) -> bool {
        let mut entered = self.tenants.borrow_mut();
        if entered.contains_key(&id) {
            return true;
        }
        if entered.len() >= MAX_SESSION_TENANTS {
            return false;
        }
        let taken = tenant.take(Countable::Sessions);
        taken.map(|taken| entered.insert(id, taken)).is_some()
    }
}
