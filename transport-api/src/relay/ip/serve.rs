//! One CONNECT-IP request, from its answer to its end.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::super::ledger::Ledger;
use super::super::policy::TargetPolicy;
use super::super::pump::End;
use super::super::service::SessionContext;
use super::gateway::{Gateway, Member};
use super::pool::Holder;
use crate::driver::clock;
use crate::ip::Network;
use crate::masque::ip::{AddressRequest, AssignedAddress, Routes, put_assign, put_routes};
use crate::masque::lane::Lane;
use crate::tunnel::ip::{IpItem, IpSender, IpStream};
use crate::tunnel::session::RequestStream;

/// Packets of one client carried before others have their turn.
const BATCH: usize = 256;

/// Carries packets until the client closes or breaks the rules. `policy`: its own, instead of the relay's. The future holds what an
/// idle tunnel needs, and once.
pub(in crate::relay) fn serve<L: Lane>(
    context: Rc<SessionContext<L>>,
    gateway: Rc<Gateway<L>>,
    policy: Option<Arc<TargetPolicy>>,
    ledger: Rc<Ledger>,
    stream: RequestStream<L>,
    routes: Routes,
    pieces: bool,
) -> impl Future<Output = End> {
    let holder = match context.peer {
        crate::Peer::Client(id) => Holder::Known(id),
        _ => Holder::Anonymous(ledger.number()),
    };
    let sender = IpSender::new(&stream.route, pieces);
    let mut stream = IpStream::new(stream, pieces);
    let mut told = Vec::new();
    put_routes(&mut told, &routes);
    stream.tell(&told);
    let mut tunnel = Tunnel {
        gateway,
        ledger: Rc::clone(&ledger),
        member: Member::new(holder, sender, routes, policy, Rc::clone(&ledger)),
        stream,
        assigned: Vec::new(),
    };
    async move { ledger.run(context.local(), |cx| tunnel.poll(cx)).await }
}

struct Tunnel<L: Lane> {
    gateway: Rc<Gateway<L>>,
    ledger: Rc<Ledger>,
    member: Rc<Member<L>>,
    stream: IpStream<L>,
    /// Everything the client was given, since each answer repeats it.
    assigned: Vec<AssignedAddress>,
}

impl<L: Lane> Drop for Tunnel<L> {
    fn drop(&mut self) {
        self.gateway.leave(&self.member);
    }
}

impl<L: Lane> Tunnel<L> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let now = clock::now().instant;
        for _ in 0..BATCH {
            let item = match self.stream.poll_recv(cx) {
                Poll::Ready(item) => item,
                Poll::Pending => {
                    self.end_turn();
                    return Poll::Pending;
                }
            };
            match item {
                Ok(Some(IpItem::Packet(mut packet))) => {
                    if self.ledger.admit(1, packet.len()) {
                        self.gateway.take_from_client(now, &self.member, &mut packet);
                    }
                    self.gateway.spend(packet);
                }
                Ok(Some(IpItem::Requested(wishes))) => self.assign(&wishes),
                // A client that routes to networks of its own, or gives us addresses, is not what this relay serves.
                Ok(Some(IpItem::Assigned(_) | IpItem::Routes(_))) => {}
                Ok(None) => return Poll::Ready(End::Finished),
                Err(error) => return Poll::Ready(error.into()),
            }
        }
        self.end_turn();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn end_turn(&self) {
        self.gateway.flush();
        self.gateway.give_spares(&self.member);
    }

    /// Answers each wish, and repeats what was given before (RFC 9484 §4.7.1).
    fn assign(&mut self, wishes: &[AddressRequest]) {
        let mut denied = Vec::new();
        for wish in wishes {
            let v4 = wish.prefix.is_ipv4();
            let wanted: IpAddr = wish.prefix.first();
            match self.gateway.assign(&self.member, v4, Some(wanted)) {
                Some(address) => {
                    self.assigned.retain(|given| given.prefix.first() != address);
                    // One of a family, and no more.
                    self.assigned.reserve_exact(1);
                    self.assigned.push(AssignedAddress {
                        request_id: wish.request_id,
                        prefix: Network::single(address),
                    });
                }
                None => denied.push(AssignedAddress::denied(wish.request_id, v4)),
            }
        }
        let mut told = Vec::new();
        put_assign(&mut told, &[self.assigned.as_slice(), &denied].concat());
        self.stream.tell(&told);
    }
}
