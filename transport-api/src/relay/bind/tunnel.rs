//! One bound port: packets between its client and anybody.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::super::buffers::{Buffers, Downward, Outgoing};
use super::super::grant::Grant;
use super::super::pump::End;
use super::super::service::SessionContext;
use super::super::udp::{BATCH, Idle, Moved, max_payload};
use super::Public;
use super::judge::Judge;
use super::ports::{Delivered, Door};
use crate::driver::clock;
use crate::local::BatchSocket;
use crate::masque::bind::{Change, Contexts, Role};
use crate::masque::lane::Lane;
use crate::tunnel::bind::{BindEvent, BindStream, Desk};
use crate::tunnel::session::RequestStream;
use crate::tunnel::{BindSender, Outlet};

/// Carries packets until the client closes or breaks the rules, or nothing was carried for long. `target` is what context 0 stands
/// for.
pub(in crate::relay) async fn serve<L: Lane>(
    context: &SessionContext<L>,
    grant: &Grant,
    stream: RequestStream<L>,
    (socket, public): (BatchSocket, Public),
    target: Option<SocketAddr>,
) -> End {
    let config = &context.config().bind;
    let mut limits = config.limits;
    if let Some(contexts) = grant.limits.contexts {
        limits.contexts = contexts;
    }
    let contexts = Contexts::new(Role::Proxy, config.dialect, target.is_none(), limits);
    let desk = Arc::new(Desk::new(target, Some(contexts), None));
    let outlet = Outlet::new(&stream.route);
    let sender = BindSender::new(outlet, Arc::clone(&desk), public.addresses());
    let door = Rc::new(Door::new(sender.clone()));
    context.ports().enter(public.addresses(), &door);
    let mut tunnel = Tunnel {
        context,
        sender,
        stream: BindStream::new(stream, Role::Proxy, config.dialect, max_payload(false), desk),
        socket,
        judge: Judge::new(context.policy_for(grant), public.addresses()),
        public,
        door,
        idle: Idle::new(
            context.local(),
            grant.limits.idle.unwrap_or(context.config().udp_idle),
        ),
        open: 0,
    };
    let end = poll_fn(|cx| tunnel.poll(cx)).await;
    tunnel.stream.close();
    end
}

struct Tunnel<'a, L: Lane> {
    context: &'a SessionContext<L>,
    sender: BindSender<L>,
    stream: BindStream<L>,
    socket: BatchSocket,
    judge: Judge,
    public: Public,
    door: Rc<Door<L>>,
    idle: Idle,
    /// Contexts that are counted as open.
    open: u64,
}

impl<L: Lane> Drop for Tunnel<'_, L> {
    fn drop(&mut self) {
        self.context.ports().leave(self.public.addresses());
        self.context.accounting().bind_contexts_open.sub(self.open);
    }
}

impl<L: Lane> Tunnel<'_, L> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let context = self.context;
        let buffers = &mut *context.buffers();
        let up = match self.up(cx, buffers) {
            Ok(moved) => moved,
            Err(end) => return Poll::Ready(end),
        };
        let moved = [up, self.down(cx, buffers), self.from_neighbours(cx, buffers)];
        if moved != [Moved::Nothing; 3] {
            self.idle.note();
        }
        if moved.contains(&Moved::More) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.idle.poll(cx).map(|()| End::Idle)
    }

    /// From the client.
    fn up(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Result<Moved, End> {
        let context = self.context;
        let accounting = context.accounting();
        let now = clock::now().instant;
        let sources = self.public.sources();
        let mut out = Outgoing::new(&self.socket, &mut buffers.sending, accounting).from(sources);
        for carried in 0..BATCH {
            let judge = &mut self.judge;
            let sender = &self.sender;
            let allow = |peer: Option<SocketAddr>| {
                peer.is_none_or(|peer| {
                    let neighbour = context.ports().find(peer).is_some();
                    sender.reaches(peer) && (neighbour || judge.allows(now, peer))
                })
            };
            let event = match self.stream.poll_recv(cx, allow) {
                Poll::Pending if carried == 0 => return Ok(Moved::Nothing),
                Poll::Pending => return Ok(Moved::Some),
                Poll::Ready(Ok(Some(event))) => event,
                Poll::Ready(Ok(None)) => return Err(End::Finished),
                Poll::Ready(Err(error)) => return Err(error.into()),
            };
            match event {
                BindEvent::Packet { peer, payload } if payload.len() <= max_payload(peer.is_ipv4()) => {
                    if !context.try_pay(payload.len()) {
                        accounting.dropped_rate.inc();
                    } else if let Some(neighbour) = context.ports().find(peer) {
                        deliver(context, &neighbour, self.public.of_family(peer), &payload);
                    } else if self.sender.reaches(peer) && self.judge.allows(now, peer) {
                        out.push(peer, &payload);
                    } else {
                        accounting.bind_dropped_policy.inc();
                    }
                }
                BindEvent::Packet { .. } => accounting.dropped_too_large.inc(),
                BindEvent::Changed(change) => self.open = note(context, &change, self.open),
                BindEvent::Unknown => accounting.bind_dropped_unknown.inc(),
                BindEvent::Unreadable => accounting.bind_dropped_unreadable.inc(),
                BindEvent::WrapUp => {}
            }
        }
        Ok(Moved::More)
    }

    /// From the network.
    fn down(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Moved {
        match self.socket.poll_recv(cx, &mut buffers.received) {
            Poll::Pending => return Moved::Nothing,
            Poll::Ready(Ok(_)) => {}
            // Sockets without a fixed peer have no errors that last; there is nothing to be told to the client.
            Poll::Ready(Err(_)) => return Moved::Some,
        }
        let (context, sender) = (self.context, &self.sender);
        let accounting = context.accounting();
        let mut down = Downward::new(sender.outlet(), &mut buffers.down, accounting);
        // Packets come in runs.
        let mut last = None;
        for (arrived, packet) in buffers.received.datagrams() {
            let peer = arrived.route.remote;
            let way = match last {
                Some((known, way)) if known == peer => way,
                _ => sender.desk().outgoing(peer).filter(|_| sender.reaches(peer)),
            };
            last = Some((peer, way));
            match way {
                None => accounting.bind_dropped_no_context.inc(),
                Some(way) if packet.len() > sender.room(way, peer) => accounting.dropped_too_large.inc(),
                Some(_) if !context.try_pay(packet.len()) => accounting.dropped_rate.inc(),
                Some(way) => down.push(sender.datagram(way, peer, packet), packet.len()),
            }
        }
        drop(down);
        if buffers.received.is_drained() {
            Moved::Some
        } else {
            Moved::More
        }
    }

    /// From others who are bound here.
    fn from_neighbours(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Moved {
        let waiting = self.door.take(cx);
        if waiting.is_empty() {
            return Moved::Nothing;
        }
        let accounting = self.context.accounting();
        let mut down = Downward::new(self.sender.outlet(), &mut buffers.down, accounting);
        for (datagram, payload) in waiting {
            if self.context.try_pay(payload) {
                down.push(datagram, payload);
            } else {
                accounting.dropped_rate.inc();
            }
        }
        Moved::Some
    }
}

fn deliver<L: Lane>(
    context: &SessionContext<L>,
    neighbour: &Door<L>,
    from: Option<SocketAddr>,
    packet: &[u8],
) {
    let accounting = context.accounting();
    let delivered = from.map_or(Delivered::NoContext, |from| neighbour.deliver(from, packet));
    match delivered {
        Delivered::Queued => {
            accounting.udp_packets_up.inc();
            accounting.udp_bytes_up.add(packet.len() as u64);
        }
        Delivered::NoContext => accounting.bind_dropped_no_context.inc(),
        Delivered::TooLarge => accounting.dropped_too_large.inc(),
        Delivered::Full => accounting.dropped_queue_full.inc(),
    }
}

/// Counts what happened to contexts; how many are open now.
fn note<L: Lane>(context: &SessionContext<L>, change: &Change, open: u64) -> u64 {
    let accounting = context.accounting();
    match change {
        Change::Opened { .. } => {
            accounting.bind_contexts_opened.inc();
            accounting.bind_contexts_open.inc();
            open + 1
        }
        Change::Refused { .. } => {
            accounting.bind_contexts_refused.inc();
            open
        }
        Change::Closed(_) => {
            accounting.bind_contexts_open.dec();
            open.saturating_sub(1)
        }
        Change::Accepted(_) => open,
    }
}
