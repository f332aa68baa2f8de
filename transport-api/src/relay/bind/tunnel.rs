//! One bound port: packets between its client and anybody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::super::buffers::{Buffers, Downward, Outgoing};
use super::super::event::DropCause;
use super::super::grant::Grant;
use super::super::ledger::{self, ContextSlot, Ledger};
use super::super::pump::End;
use super::super::service::SessionContext;
use super::super::udp::{BATCH, Idle, Moved, max_payload};
use super::Public;
use super::judge::Judge;
use super::ports::{Delivered, Door, Neighbours};
use crate::driver::clock;
use crate::local::BatchSocket;
use crate::masque::bind::{Change, Contexts, Outgoing as Way, Role};
use crate::masque::lane::Lane;
use crate::tunnel::bind::{BindEvent, BindStream, Desk};
use crate::tunnel::session::RequestStream;
use crate::tunnel::{BindSender, Datagram, Outlet};

/// Carries packets until the client closes or breaks the rules, or nothing was carried for long. `target` is what context 0 stands
/// for.
pub(in crate::relay) async fn serve<L: Lane>(
    context: &SessionContext<L>,
    grant: &Grant,
    ledger: &Ledger,
    stream: RequestStream<L>,
    (socket, public): (BatchSocket, Public),
    target: Option<SocketAddr>,
) -> End {
    let config = &context.config().bind;
    let contexts = Contexts::new(Role::Proxy, config.dialect, target.is_none(), config.limits);
    let desk = Arc::new(Desk::new(target, Some(contexts), None));
    let outlet = Outlet::new(&stream.route);
    let sender = BindSender::new(outlet, Arc::clone(&desk), public.addresses());
    let door = Arc::new(Door::new(Arc::clone(&desk)));
    config.neighbours.enter(public.addresses(), &door);
    let mut tunnel = Tunnel {
        context,
        grant,
        ledger,
        neighbours: &config.neighbours,
        sender,
        stream: BindStream::new(stream, Role::Proxy, config.dialect, max_payload(true), desk),
        socket,
        judge: Judge::new(public.addresses()),
        public,
        door,
        idle: Idle::new(
            context.local(),
            grant.limits.idle.unwrap_or(context.config().udp_idle),
        ),
        slots: BTreeMap::new(),
    };
    let end = ledger.run(context.local(), |cx| tunnel.poll(cx)).await;
    tunnel.stream.close();
    end
}

struct Tunnel<'a, L: Lane> {
    context: &'a SessionContext<L>,
    grant: &'a Grant,
    ledger: &'a Ledger,
    neighbours: &'a Neighbours,
    sender: BindSender<L>,
    stream: BindStream<L>,
    socket: BatchSocket,
    judge: Judge,
    public: Public,
    door: Arc<Door>,
    idle: Idle,
    /// The places of open contexts.
    slots: BTreeMap<u64, ContextSlot>,
}

impl<L: Lane> Drop for Tunnel<'_, L> {
    fn drop(&mut self) {
        self.neighbours.leave(self.public.addresses());
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
        let moved = [up, self.down(cx, buffers), self.neighbours(cx, buffers)];
        self.sender.outlet().give_spares(&mut buffers.spares);
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
        let (neighbours, ledger, context, grant) = (self.neighbours, self.ledger, self.context, self.grant);
        let policy = || context.policy_for(grant);
        let now = clock::now().instant;
        let sources = self.public.sources();
        let mut out = Outgoing::new(&self.socket, &mut buffers.sending, ledger).from(sources);
        for carried in 0..BATCH {
            let (judge, sender, mut slot) = (&mut self.judge, &self.sender, None);
            let allow = |peer: Option<SocketAddr>| {
                let allowed = peer.is_none_or(|peer| {
                    let neighbour = neighbours.find(peer).is_some();
                    sender.reaches(peer) && (neighbour || judge.allows(now, peer, policy))
                });
                slot = allowed.then(|| ledger.take_context()).flatten();
                slot.is_some()
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
                    if let Some(neighbour) = neighbours.find(peer) {
                        deliver(ledger, &neighbour, self.public.of_family(peer), payload);
                        continue;
                    }
                    if !self.sender.reaches(peer) || !self.judge.allows(now, peer, policy) {
                        ledger.dropped(DropCause::Policy, 1);
                    } else if ledger.admit(1, payload.len()) {
                        out.push(peer, &payload);
                    }
                    buffers.spares.push(payload.into_spent());
                }
                BindEvent::Packet { .. } => ledger.dropped(DropCause::TooLarge, 1),
                BindEvent::Changed(Change::Opened { assign, .. }) => {
                    self.slots.extend(slot.map(|slot| (assign.context, slot)));
                }
                BindEvent::Changed(Change::Closed(assign)) => drop(self.slots.remove(&assign.context)),
                BindEvent::Changed(Change::Refused { .. }) => ledger.refused_context(),
                BindEvent::Changed(Change::Accepted(_)) | BindEvent::WrapUp => {}
                BindEvent::Unknown => ledger.dropped(DropCause::UnknownContext, 1),
                BindEvent::Unreadable => ledger.dropped(DropCause::Malformed, 1),
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
        let sender = &self.sender;
        sender
            .outlet()
            .fill_spares(buffers.received.datagrams().count(), &mut buffers.spares);
        let mut down = ToClient::new(sender, self.ledger, &mut buffers.down, &mut buffers.spares);
        // Packets come in runs.
        let mut last = None;
        for (arrived, packet) in buffers.received.datagrams() {
            let peer = arrived.route.remote;
            let way = match last {
                Some((known, way)) if known == peer => way,
                _ => sender.desk().outgoing(peer).filter(|_| sender.reaches(peer)),
            };
            last = Some((peer, way));
            down.push(way, peer, packet);
        }
        drop(down);
        if buffers.received.is_drained() {
            Moved::Some
        } else {
            Moved::More
        }
    }

    /// From others who are bound here.
    fn neighbours(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Moved {
        let waiting = self.door.take(cx);
        if waiting.is_empty() {
            return Moved::Nothing;
        }
        let sender = &self.sender;
        let mut down = ToClient::new(sender, self.ledger, &mut buffers.down, &mut buffers.spares);
        for (peer, packet) in waiting {
            down.push(sender.desk().outgoing(peer), peer, &packet);
            down.spares.push(packet.into_spent());
        }
        Moved::Some
    }
}

/// Packets to the client.
struct ToClient<'a, L: Lane> {
    down: Downward<'a, L>,
    ledger: &'a Ledger,
    sender: &'a BindSender<L>,
    spares: &'a mut Vec<Vec<u8>>,
}

impl<'a, L: Lane> ToClient<'a, L> {
    fn new(
        sender: &'a BindSender<L>,
        ledger: &'a Ledger,
        datagrams: &'a mut Vec<Vec<u8>>,
        spares: &'a mut Vec<Vec<u8>>,
    ) -> Self {
        Self {
            down: Downward::new(sender.outlet(), datagrams, ledger),
            ledger,
            sender,
            spares,
        }
    }

    /// One of `peer`, on the context that is there for it.
    fn push(&mut self, way: Option<Way>, peer: SocketAddr, packet: &[u8]) {
        let (ledger, sender) = (self.ledger, self.sender);
        match way {
            None => ledger.dropped(DropCause::NoContext, 1),
            Some(way) if packet.len() > sender.room(way, peer) => ledger.dropped(DropCause::TooLarge, 1),
            Some(_) if !ledger.admit(1, packet.len()) => {}
            Some(way) => {
                let spare = self.spares.pop().unwrap_or_default();
                self.down
                    .push(sender.datagram(spare, way, peer, packet), packet.len());
            }
        }
    }
}

/// One packet to another client.
fn deliver(ledger: &Ledger, neighbour: &Door, from: Option<SocketAddr>, packet: Datagram) {
    let len = packet.len();
    if !ledger.admit(1, len) {
        return;
    }
    match from.map_or(Delivered::NoContext, |from| neighbour.deliver(from, packet)) {
        Delivered::Queued => ledger.carried(ledger::Way::Up, 1, len as u64),
        Delivered::NoContext => ledger.dropped(DropCause::NoContext, 1),
        Delivered::Full => ledger.dropped(DropCause::QueueFull, 1),
    }
}
