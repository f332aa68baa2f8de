//! One request: from its head to its tunnel, or to an answer that says why not.

use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::bind as bound;
use super::egress;
use super::event::DropCause;
use super::grant::{Grant, TenantId};
use super::hook::{Asked, Decision, Protocol, RequestMeta};
use super::ledger::{Account, Holder, Ledger};
use super::pump::{self, End};
use super::service::SessionContext;
use super::tenants::Countable;
use super::udp as udp_tunnel;
use crate::driver::clock;
use crate::http::{Code, Fault, Field, RequestHead, ResponseHead};
use crate::masque::ip::Routes;
use crate::masque::lane::{Lane, LaneError, LaneSend};
use crate::masque::proxy_status::{ProxyError, ProxyStatus};
use crate::masque::target::BindTarget;
use crate::masque::{IpScope, Target, bind, ip, is_true, udp};
use crate::tunnel::frames::{FrameReader, StreamError, write_all};
use crate::tunnel::session::RequestStream;

/// Time for the head of a request to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// When a tenant that has too many sessions or tunnels may ask again.
const RETRY: Duration = Duration::from_secs(4);

/// An answer other than 2xx.
struct Refusal {
    status: u16,
    proxy_status: Option<ProxyStatus>,
    fields: Vec<Field>,
}

impl Refusal {
    fn plain(status: u16, error: ProxyError, details: &str) -> Self {
        Self {
            status,
            proxy_status: Some(ProxyStatus::new(error).with_details(details)),
            fields: Vec::new(),
        }
    }
}

impl Refusal {
    /// The tenant has no more of something for now (RFC 6585 §4).
    fn beyond_quota(details: &str, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs().saturating_add(1);
        Self {
            fields: vec![Field::new("retry-after", seconds.to_string())],
            ..Self::plain(429, ProxyError::ConnectionLimitReached, details)
        }
    }
}

impl From<ProxyStatus> for Refusal {
    fn from(status: ProxyStatus) -> Self {
        let code = status.error.map_or(500, ProxyError::status);
        Self {
            status: code,
            proxy_status: Some(status),
            fields: Vec::new(),
        }
    }
}

/// What is left of a request. Each part is boxed, so that an open tunnel does not hold the room that its beginning needed.
type Rest<T> = Pin<Box<dyn Future<Output = T>>>;

/// Serves the request on one stream.
pub(super) fn serve<L: Lane>(
    context: Rc<SessionContext<L>>,
    stream: RequestStream<L>,
) -> impl Future<Output = ()> {
    let slot = context.take_tunnel();
    let begin = Box::pin(begin(context, Box::new(stream), slot.is_some()));
    async move {
        let tunnel = begin.await;
        if let Some(tunnel) = tunnel {
            tunnel.await;
        }
        drop(slot);
    }
}

/// Reads the head of a request; the tunnel, unless it was refused.
async fn begin<L: Lane>(
    context: Rc<SessionContext<L>>,
    mut stream: Box<RequestStream<L>>,
    has_slot: bool,
) -> Option<Rest<()>> {
    let head = match context
        .local()
        .timeout(HEAD_TIMEOUT, read_head(&mut stream.frames))
        .await
    {
        Ok(Ok(head)) => head,
        failed => {
            context.accounting().rejected_malformed.inc();
            let error = failed.unwrap_or(Err(Fault::Stream(Code::REQUEST_INCOMPLETE).into()));
            let code = match error {
                Err(StreamError::Fault(fault)) => {
                    context.session.fault(fault);
                    fault.code()
                }
                _ => Code::REQUEST_INCOMPLETE,
            };
            stream.send.reset(code.0);
            stream.frames.stop(code);
            return None;
        }
    };
    stream.frames.head_done();
    let admitted = if has_slot {
        plan(&context, &head, stream.frames.is_early()).and_then(|plan| admit(&context, plan))
    } else {
        Err(Refusal::plain(
            503,
            ProxyError::ConnectionLimitReached,
            "too many tunnels in this session",
        ))
    };
    match admitted {
        Ok(admitted) => Some(Box::pin(run(context, admitted, stream))),
        Err(refusal) => {
            refuse(&context, refusal, stream).await;
            None
        }
    }
}

async fn read_head<R: crate::masque::LaneRecv>(
    frames: &mut FrameReader<R>,
) -> Result<RequestHead, StreamError> {
    match frames.read_head().await? {
        Some(payload) => Ok(RequestHead::parse(&payload)?),
        None => Err(LaneError::Finished.into()),
    }
}

/// What is to be done, before any name is resolved.
struct Plan {
    wanted: Wanted,
    grant: Grant,
}

/// The same, with the account it is done on.
struct Admitted {
    wanted: Wanted,
    grant: Grant,
    ledger: Rc<Ledger>,
}

/// Numbers of tunnels.
static TUNNELS: AtomicU64 = AtomicU64::new(0);

impl Wanted {
    fn protocol(&self) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::Tcp,
            Self::Udp(_) => Protocol::Udp,
            Self::Bind(_) => Protocol::Bind,
            Self::Ip(..) => Protocol::Ip,
        }
    }

    fn target(&self) -> Option<&Target> {
        match self {
            Self::Tcp(target) | Self::Udp(target) | Self::Bind(BindTarget::Host(target)) => Some(target),
            Self::Bind(BindTarget::Any) | Self::Ip(..) => None,
        }
    }
}

enum Wanted {
    Tcp(Target),
    Udp(Target),
    Bind(BindTarget),
    /// What it may reach, and whether it puts pieces together.
    Ip(Routes, bool),
}

fn unsupported(status: u16, details: &str) -> Refusal {
    Refusal::plain(status, ProxyError::HttpRequestError, details)
}

fn plan<L: Lane>(context: &SessionContext<L>, head: &RequestHead, early: bool) -> Result<Plan, Refusal> {
    let meta = |protocol, target| {
        let mut meta = RequestMeta::new(protocol, target, head, &context.peer, context.session.lane());
        (meta.session, meta.early, meta.local) = (context.number, early, context.listens_on());
        meta
    };
    let bad_target = |_| unsupported(400, "not a host and a port");
    let path = head.path.as_deref().unwrap_or_default();
    match (head.method.as_str(), head.protocol.as_deref()) {
        ("CONNECT", None) => {
            let authority = head.authority.as_deref().unwrap_or_default();
            let target = Target::from_authority(authority).map_err(bad_target)?;
            let grant = ask(context, &meta(Protocol::Tcp, Asked::Host(&target)))?;
            Ok(Plan {
                wanted: Wanted::Tcp(target),
                grant,
            })
        }
        ("CONNECT", Some(udp::PROTOCOL)) if wants_bind(context, head) => {
            let mut templates = context.config().templates.iter();
            let matched = templates.find_map(|t| t.matches_bind(path));
            let target = matched.ok_or_else(|| unsupported(404, "no such template"))?;
            let target = target.map_err(bad_target)?;
            let asked = match &target {
                BindTarget::Host(target) => Asked::Host(target),
                BindTarget::Any => Asked::Anybody,
            };
            let grant = ask(context, &meta(Protocol::Bind, asked))?;
            Ok(Plan {
                wanted: Wanted::Bind(target),
                grant,
            })
        }
        ("CONNECT", Some(udp::PROTOCOL)) => {
            let matched = context.config().templates.iter().find_map(|t| t.matches(path));
            let target = matched.ok_or_else(|| unsupported(404, "no such template"))?;
            let target = target.map_err(bad_target)?;
            let grant = ask(context, &meta(Protocol::Udp, Asked::Host(&target)))?;
            Ok(Plan {
                wanted: Wanted::Udp(target),
                grant,
            })
        }
        ("CONNECT", Some(ip::PROTOCOL)) => {
            let scope = ip_scope(context, path)?;
            let grant = ask(context, &meta(Protocol::Ip, Asked::Ip(&scope)))?;
            plan_ip(context, head, &scope, grant)
        }
        ("CONNECT", Some(_)) => Err(unsupported(501, "this protocol is not served")),
        _ => Err(unsupported(405, "only CONNECT is served")),
    }
}

fn wants_bind<L: Lane>(context: &SessionContext<L>, head: &RequestHead) -> bool {
    context.config().bind.enabled && is_true(&head.fields, bind::FIELD)
}

const NO_IP: &str = "this relay has no IP tunnels";

fn ip_scope<L: Lane>(context: &SessionContext<L>, path: &str) -> Result<IpScope, Refusal> {
    if context.gateway().is_none() {
        return Err(unsupported(501, NO_IP));
    }
    let matched = context
        .config()
        .ip_templates
        .iter()
        .find_map(|t| t.matches_ip(path));
    let scope = matched.ok_or_else(|| unsupported(404, "no such template"))?;
    scope.map_err(|error| unsupported(400, &error.to_string()))
}

fn plan_ip<L: Lane>(
    context: &SessionContext<L>,
    head: &RequestHead,
    scope: &IpScope,
    grant: Grant,
) -> Result<Plan, Refusal> {
    let gateway = context.gateway().ok_or_else(|| unsupported(501, NO_IP))?;
    let routes = gateway
        .routes_for(scope)
        .ok_or_else(|| unsupported(501, "name an address or a network instead of a host"))?;
    if routes.ranges().is_empty() {
        return Err(ProxyStatus::new(ProxyError::DestinationIpUnroutable).into());
    }
    let pieces = is_true(&head.fields, ip::PIECES_FIELD);
    Ok(Plan {
        wanted: Wanted::Ip(routes, pieces),
        grant,
    })
}

/// The embedder's word.
fn ask<L: Lane>(context: &SessionContext<L>, meta: &RequestMeta<'_>) -> Result<Grant, Refusal> {
    match context.config().hook.on_request(meta) {
        Decision::Accept(grant) => Ok(grant),
        Decision::Reject {
            status,
            proxy_status,
            fields,
        } => {
            context.accounting().rejected_by_hook.inc();
            Err(Refusal {
                status,
                proxy_status,
                fields,
            })
        }
    }
}

/// Opens the account: there must be room in the tenant's quota.
fn admit<L: Lane>(context: &SessionContext<L>, plan: Plan) -> Result<Admitted, Refusal> {
    let Plan { wanted, grant } = plan;
    let account = grant.tenant.map(|tenant| account(context, tenant)).transpose()?;
    let target = wanted.target().filter(|_| context.config().account_targets);
    let holder = Holder {
        session: context.number,
        number: TUNNELS.fetch_add(1, Ordering::Relaxed),
        peer: context.peer,
        protocol: wanted.protocol(),
        target: target.cloned().map(Box::new),
        account: account.map(Box::new),
    };
    let ledger = Ledger::new(
        Arc::clone(context.shared()),
        holder,
        &grant,
        Rc::clone(&context.pace),
    );
    Ok(Admitted {
        wanted,
        grant,
        ledger: Rc::new(ledger),
    })
}

fn account<L: Lane>(context: &SessionContext<L>, id: TenantId) -> Result<Account, Refusal> {
    let tenant = context.tenant(id).ok_or_else(|| Refusal {
        status: 503,
        ..Refusal::beyond_quota("too many tenants", RETRY)
    })?;
    if let Some(left) = tenant.spent_for(clock::now().instant) {
        return Err(Refusal::beyond_quota("the tenant's bytes are spent", left));
    }
    if !context.enter(id, &tenant) {
        return Err(Refusal::beyond_quota("too many sessions of the tenant", RETRY));
    }
    let tunnel = tenant
        .take(Countable::Tunnels)
        .ok_or_else(|| Refusal::beyond_quota("too many tunnels of the tenant", RETRY))?;
    Ok(Account {
        id,
        tenant,
        _tunnel: tunnel,
    })
}

/// Resolves, connects, answers, carries.
fn run<L: Lane>(
    context: Rc<SessionContext<L>>,
    admitted: Admitted,
    stream: Box<RequestStream<L>>,
) -> impl Future<Output = ()> {
    let Admitted {
        wanted,
        grant,
        ledger,
    } = admitted;
    let account = Rc::clone(&ledger);
    let of = Rc::clone(&context);
    let tunnel: Rest<Served<L>> = match wanted {
        Wanted::Ip(routes, pieces) => Box::pin(serve_ip(of, grant, ledger, routes, pieces, stream)),
        Wanted::Tcp(target) => Box::pin(serve_tcp(of, grant, ledger, target, stream)),
        Wanted::Udp(target) => Box::pin(serve_udp(of, grant, ledger, target, stream)),
        Wanted::Bind(target) => Box::pin(serve_bind(of, grant, ledger, target, stream)),
    };
    async move {
        match tunnel.await {
            Ok(open) => account.close(open.await.reason()),
            Err((status, stream)) => Box::pin(refuse(&context, status.into(), stream)).await,
        }
    }
}

/// An open tunnel, or why there is none. What its beginning needed is gone by then.
type Served<L> = Result<Rest<End>, (ProxyStatus, Box<RequestStream<L>>)>;

/// The client went away before there was a tunnel.
fn gone<L: Lane>() -> Served<L> {
    Ok(Box::pin(ready(End::ByClient)))
}

fn serve_ip<L: Lane>(
    context: Rc<SessionContext<L>>,
    grant: Grant,
    ledger: Rc<Ledger>,
    routes: Routes,
    pieces: bool,
    mut stream: Box<RequestStream<L>>,
) -> impl Future<Output = Served<L>> {
    // Of what was granted, the ledger holds the rest.
    let policy = grant.policy;
    async move {
        let Some(gateway) = context.gateway().cloned() else {
            return Err((ProxyStatus::new(ProxyError::ProxyInternalError), stream));
        };
        let mut head = ResponseHead::new(200).with("capsule-protocol", "?1");
        if pieces {
            head = head.with(ip::PIECES_FIELD, "?1");
        }
        if accept(&ledger, &mut stream, &head, true).await.is_err() {
            return gone();
        }
        let carried = super::ip::serve(context, gateway, policy, ledger, *stream, routes, pieces);
        Ok(Box::pin(carried) as Rest<End>)
    }
}

async fn serve_tcp<L: Lane>(
    context: Rc<SessionContext<L>>,
    grant: Grant,
    ledger: Rc<Ledger>,
    target: Target,
    mut stream: Box<RequestStream<L>>,
) -> Served<L> {
    let connected = async {
        let addresses = resolve(&context, &grant, &target).await?;
        egress::connect_tcp(
            context.local(),
            &addresses,
            &grant.egress,
            context.config().connect_timeout,
        )
        .await
    };
    let target = match connected.await {
        Ok(target) => target,
        Err(status) => return Err((status, stream)),
    };
    let head = ResponseHead::new(200);
    if accept(&ledger, &mut stream, &head, false).await.is_err() {
        return gone();
    }
    Ok(Box::pin(async move {
        pump::tcp(&context, &ledger, *stream, target).await
    }))
}

async fn serve_udp<L: Lane>(
    context: Rc<SessionContext<L>>,
    grant: Grant,
    ledger: Rc<Ledger>,
    target: Target,
    mut stream: Box<RequestStream<L>>,
) -> Served<L> {
    let connected = resolve(&context, &grant, &target)
        .await
        .and_then(|addresses| egress::connect_udp(context.local(), &addresses, &grant.egress));
    let (socket, address) = match connected {
        Ok(connected) => connected,
        Err(status) => return Err((status, stream)),
    };
    let head = ResponseHead::new(200).with("capsule-protocol", "?1");
    if accept(&ledger, &mut stream, &head, true).await.is_err() {
        return gone();
    }
    let idle = grant.limits.idle.unwrap_or(context.config().udp_idle);
    Ok(Box::pin(async move {
        udp_tunnel::serve(&context, &ledger, *stream, socket, address, idle).await
    }))
}

/// The addresses of a target that the policy allows.
async fn resolve<L: Lane>(
    context: &SessionContext<L>,
    grant: &Grant,
    target: &Target,
) -> Result<Vec<SocketAddr>, ProxyStatus> {
    let policy = context.policy_for(grant);
    egress::addresses(context.local(), context.resolver(), &policy, target).await
}

/// Answers with 2xx: the tunnel is open, and what came before the answer is part of it.
async fn accept<L: Lane>(
    ledger: &Ledger,
    stream: &mut RequestStream<L>,
    head: &ResponseHead,
    takes_datagrams: bool,
) -> Result<(), LaneError> {
    ledger.open();
    ledger.dropped(DropCause::Early, stream.route.inbox.open(takes_datagrams));
    answer(&mut stream.send, head).await
}

async fn serve_bind<L: Lane>(
    context: Rc<SessionContext<L>>,
    grant: Grant,
    ledger: Rc<Ledger>,
    target: BindTarget,
    mut stream: Box<RequestStream<L>>,
) -> Served<L> {
    let addresses = match &target {
        BindTarget::Any => Vec::new(),
        BindTarget::Host(target) => match resolve(&context, &grant, target).await {
            Ok(addresses) => addresses,
            Err(status) => return Err((status, stream)),
        },
    };
    let bound = match (bound::Public::bind(&context, &grant.egress), target) {
        (Ok(bound), _) => bound,
        // The target can be reached all the same.
        (Err(_), BindTarget::Host(target)) => {
            return Box::pin(serve_udp(context, grant, ledger, target, stream)).await;
        }
        (Err(_), BindTarget::Any) => {
            let status = ProxyStatus::new(ProxyError::DestinationUnavailable);
            return Err((status.with_details("no address to be reached at"), stream));
        }
    };
    let mut head = ResponseHead::new(200)
        .with("capsule-protocol", "?1")
        .with(bind::FIELD, "?1");
    head.fields.push(bind::address::field(bound.1.addresses()));
    if accept(&ledger, &mut stream, &head, true).await.is_err() {
        return gone();
    }
    let reachable = |to: &&SocketAddr| bound.1.of_family(**to).is_some();
    let target = addresses.iter().find(reachable).or(addresses.first()).copied();
    Ok(Box::pin(async move {
        bound::serve(&context, &grant, &ledger, *stream, bound, target).await
    }))
}

async fn answer(send: &mut impl LaneSend, head: &ResponseHead) -> Result<(), LaneError> {
    let mut out = Vec::with_capacity(128);
    head.put(&mut out);
    write_all(send, &out).await
}

async fn refuse<L: Lane>(context: &SessionContext<L>, refusal: Refusal, mut stream: Box<RequestStream<L>>) {
    count_refusal(context, &refusal);
    let early = stream.route.inbox.discard();
    context.accounting().dropped_early.add(early);
    let mut head = ResponseHead {
        status: refusal.status,
        fields: refusal.fields,
    };
    if let Some(status) = &refusal.proxy_status {
        head.fields.push(status.field(&context.config().name));
    }
    // The client may be gone; the answer is then lost on nobody.
    if answer(&mut stream.send, &head).await.is_ok() {
        stream.send.finish();
    }
    stream.frames.stop(Code::NO_ERROR);
}

fn count_refusal<L: Lane>(context: &SessionContext<L>, refusal: &Refusal) {
    let accounting = context.accounting();
    let error = refusal.proxy_status.as_ref().and_then(|s| s.error);
    match error {
        Some(ProxyError::DestinationIpProhibited) => accounting.rejected_policy.inc(),
        Some(ProxyError::DnsError) => accounting.rejected_dns.inc(),
        Some(ProxyError::DnsTimeout | ProxyError::ConnectionTimeout) => accounting.rejected_timeout.inc(),
        Some(ProxyError::ConnectionLimitReached) => accounting.rejected_limit.inc(),
        Some(
            ProxyError::ConnectionRefused
            | ProxyError::DestinationUnavailable
            | ProxyError::DestinationIpUnroutable,
        ) => accounting.rejected_unreachable.inc(),
        Some(ProxyError::HttpRequestError) if refusal.status == 400 => accounting.rejected_malformed.inc(),
        Some(ProxyError::HttpRequestError) => accounting.rejected_unsupported.inc(),
        Some(ProxyError::HttpRequestDenied | ProxyError::ProxyInternalError) | None => {}
    }
}
