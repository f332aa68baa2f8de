//! One request: from its head to its tunnel, or to an answer that says why not.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::bind as bound;
use super::egress;
use super::grant::Grant;
use super::hook::{Asked, Decision, Protocol, RequestMeta};
use super::pump::{self, End};
use super::service::SessionContext;
use super::udp as udp_tunnel;
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

/// Serves the request on one stream.
pub(super) async fn serve<L: Lane>(context: Rc<SessionContext<L>>, send: L::Send, recv: L::Recv) {
    let slot = context.take_tunnel();
    let mut send = send;
    let mut frames = FrameReader::new(recv);
    let head = match context
        .local()
        .timeout(HEAD_TIMEOUT, read_head(&mut frames))
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
            send.reset(code.0);
            frames.stop(code);
            return;
        }
    };
    frames.head_done();
    let planned = match slot {
        Some(_) => plan(&context, &head, frames.is_early()),
        None => Err(Refusal::plain(
            503,
            ProxyError::ConnectionLimitReached,
            "too many tunnels in this session",
        )),
    };
    match planned {
        Ok(plan) => {
            run(
                &context,
                plan,
                context
                    .session
                    .request_from(send, frames, head_takes_datagrams(&head)),
            )
            .await;
        }
        Err(refusal) => refuse(&context, refusal, send, frames).await,
    }
}

fn head_takes_datagrams(head: &RequestHead) -> bool {
    matches!(head.protocol.as_deref(), Some(udp::PROTOCOL | ip::PROTOCOL))
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
        (meta.early, meta.local) = (early, context.listens_on());
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

/// Resolves, connects, answers, carries.
async fn run<L: Lane>(context: &SessionContext<L>, plan: Plan, stream: RequestStream<L>) {
    let accounting = context.accounting();
    let end = match plan.wanted {
        Wanted::Ip(routes, pieces) => {
            accounting.ip_opened.inc();
            serve_ip(context, routes, pieces, &plan.grant, stream).await
        }
        Wanted::Tcp(target) => {
            let Some((addresses, stream)) = resolve(context, &plan.grant, &target, stream).await else {
                return;
            };
            accounting.tcp_opened.inc();
            serve_tcp(context, &addresses, &plan.grant, stream).await
        }
        Wanted::Udp(target) => {
            let Some((addresses, stream)) = resolve(context, &plan.grant, &target, stream).await else {
                return;
            };
            accounting.udp_opened.inc();
            serve_udp(context, &addresses, &plan.grant, stream).await
        }
        Wanted::Bind(BindTarget::Host(target)) => {
            let Some((addresses, stream)) = resolve(context, &plan.grant, &target, stream).await else {
                return;
            };
            serve_bind(context, &addresses, &plan.grant, stream).await
        }
        Wanted::Bind(BindTarget::Any) => serve_bind(context, &[], &plan.grant, stream).await,
    };
    let Some(end) = end else { return };
    let counter = match end {
        End::Finished => &accounting.closed_finished,
        End::ByTarget => &accounting.closed_by_target,
        End::ByClient => &accounting.closed_by_client,
        End::Fault(_) => &accounting.closed_fault,
        End::Idle => &accounting.closed_idle,
    };
    counter.inc();
}

/// The addresses of a target that the policy allows, or an answer that says why there are none.
async fn resolve<L: Lane>(
    context: &SessionContext<L>,
    grant: &Grant,
    target: &Target,
    stream: RequestStream<L>,
) -> Option<(Vec<SocketAddr>, RequestStream<L>)> {
    let policy = context.policy_for(grant);
    match egress::addresses(context.local(), context.resolver(), &policy, target).await {
        Ok(addresses) => Some((addresses, stream)),
        Err(status) => {
            refuse(context, status.into(), stream.send, stream.frames).await;
            None
        }
    }
}

async fn serve_ip<L: Lane>(
    context: &SessionContext<L>,
    routes: Routes,
    pieces: bool,
    grant: &Grant,
    mut stream: RequestStream<L>,
) -> Option<End> {
    let gateway = context.gateway()?;
    let _open = context.count_ip_tunnel();
    let mut head = ResponseHead::new(200).with("capsule-protocol", "?1");
    if pieces {
        head = head.with(ip::PIECES_FIELD, "?1");
    }
    if answer(&mut stream.send, &head).await.is_err() {
        return Some(End::ByClient);
    }
    Some(super::ip::serve(context, gateway, grant, stream, routes, pieces).await)
}

async fn serve_tcp<L: Lane>(
    context: &SessionContext<L>,
    addresses: &[SocketAddr],
    grant: &Grant,
    mut stream: RequestStream<L>,
) -> Option<End> {
    let limit = context.config().connect_timeout;
    match egress::connect_tcp(context.local(), addresses, &grant.egress, limit).await {
        Ok(target) => {
            let _open = context.count_tunnel();
            if answer(&mut stream.send, &ResponseHead::new(200)).await.is_err() {
                return Some(End::ByClient);
            }
            Some(pump::tcp(context, stream, target).await)
        }
        Err(status) => {
            refuse(context, status.into(), stream.send, stream.frames).await;
            None
        }
    }
}

async fn serve_udp<L: Lane>(
    context: &SessionContext<L>,
    addresses: &[SocketAddr],
    grant: &Grant,
    mut stream: RequestStream<L>,
) -> Option<End> {
    match egress::connect_udp(context.local(), addresses, &grant.egress) {
        Ok((socket, address)) => {
            let _open = context.count_tunnel();
            let head = ResponseHead::new(200).with("capsule-protocol", "?1");
            if answer(&mut stream.send, &head).await.is_err() {
                return Some(End::ByClient);
            }
            let idle = grant.limits.idle.unwrap_or(context.config().udp_idle);
            Some(udp_tunnel::serve(context, stream, socket, address, idle).await)
        }
        Err(status) => {
            refuse(context, status.into(), stream.send, stream.frames).await;
            None
        }
    }
}

/// `addresses`: of the target, if there is one.
async fn serve_bind<L: Lane>(
    context: &SessionContext<L>,
    addresses: &[SocketAddr],
    grant: &Grant,
    mut stream: RequestStream<L>,
) -> Option<End> {
    let accounting = context.accounting();
    let bound = match bound::Public::bind(context, &grant.egress) {
        Ok(bound) => bound,
        // The target can be reached all the same.
        Err(_) if !addresses.is_empty() => {
            accounting.udp_opened.inc();
            return serve_udp(context, addresses, grant, stream).await;
        }
        Err(_) => {
            let status = ProxyStatus::new(ProxyError::DestinationUnavailable);
            let status = status.with_details("no address to be reached at");
            refuse(context, status.into(), stream.send, stream.frames).await;
            return None;
        }
    };
    accounting.bind_opened.inc();
    let _open = context.count_tunnel();
    let mut head = ResponseHead::new(200)
        .with("capsule-protocol", "?1")
        .with(bind::FIELD, "?1");
    head.fields.push(bind::address::field(bound.1.addresses()));
    if answer(&mut stream.send, &head).await.is_err() {
        return Some(End::ByClient);
    }
    let reachable = |to: &&SocketAddr| bound.1.of_family(**to).is_some();
    let target = addresses.iter().find(reachable).or(addresses.first()).copied();
    Some(bound::serve(context, grant, stream, bound, target).await)
}

async fn answer(send: &mut impl LaneSend, head: &ResponseHead) -> Result<(), LaneError> {
    let mut out = Vec::with_capacity(128);
    head.put(&mut out);
    write_all(send, &out).await
}

async fn refuse<L: Lane>(
    context: &SessionContext<L>,
    refusal: Refusal,
    mut send: L::Send,
    mut frames: FrameReader<L::Recv>,
) {
    count_refusal(context, &refusal);
    let mut head = ResponseHead {
        status: refusal.status,
        fields: refusal.fields,
    };
    if let Some(status) = &refusal.proxy_status {
        head.fields.push(status.field(&context.config().name));
    }
    // The client may be gone; the answer is then lost on nobody.
    if answer(&mut send, &head).await.is_ok() {
        send.finish();
    }
    frames.stop(Code::NO_ERROR);
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
