//! CONNECT-UDP: packets between a client and one target (RFC 9298), many a turn.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::buffers::{Buffers, Downward, Outgoing};
use super::event::DropCause;
use super::ledger::Ledger;
use super::pump::End;
use super::service::SessionContext;
use crate::driver::clock;
use crate::local::{BatchSocket, Handle, Sleep};
use crate::masque::lane::Lane;
use crate::tunnel::session::RequestStream;
use crate::tunnel::{UdpSender, UdpStream};

/// Packets of a client carried before other tunnels have their turn.
pub(super) const BATCH: usize = 64;
/// UDP payloads that fit an unfragmented packet on Ethernet; larger ones are dropped (RFC 9298 §3.1).
pub(super) fn max_payload(v4: bool) -> usize {
    if v4 { 1500 - 20 - 8 } else { 1500 - 40 - 8 }
}

/// Ends a tunnel that carries nothing for long. The clock is read once a turn.
pub(super) struct Idle {
    limit: Duration,
    timer: Sleep,
    last: Instant,
}

impl Idle {
    pub(super) fn new(local: &Handle, limit: Duration) -> Self {
        Self {
            limit,
            timer: local.sleep(limit),
            last: clock::now().instant,
        }
    }

    /// Something was carried.
    pub(super) fn note(&mut self) {
        self.last = clock::now().instant;
    }

    /// Ready when nothing was carried for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(Pin::new(&mut self.timer).poll(cx));
            let quiet = clock::now().instant.saturating_duration_since(self.last);
            if quiet >= self.limit {
                return Poll::Ready(());
            }
            self.timer.reset(self.limit.saturating_sub(quiet));
        }
    }
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Nothing,
    Some,
    /// There may be more to do at once.
    More,
}

/// Carries UDP both ways until the client closes, the socket dies, or nothing was carried for `idle`.
pub(super) async fn serve<L: Lane>(
    context: &SessionContext<L>,
    ledger: &Ledger,
    stream: RequestStream<L>,
    socket: BatchSocket,
    target: SocketAddr,
    idle: Duration,
) -> End {
    let max_payload = max_payload(target.is_ipv4());
    let mut tunnel = Tunnel {
        context,
        ledger,
        sender: UdpSender::new(&stream.route),
        stream: UdpStream::new(stream, max_payload),
        socket,
        target,
        max_payload,
        idle: Idle::new(context.local(), idle),
    };
    let end = ledger.run(context.local(), |cx| tunnel.poll(cx)).await;
    tunnel.stream.close();
    end
}

struct Tunnel<'a, L: Lane> {
    context: &'a SessionContext<L>,
    ledger: &'a Ledger,
    sender: UdpSender<L>,
    stream: UdpStream<L>,
    socket: BatchSocket,
    target: SocketAddr,
    max_payload: usize,
    idle: Idle,
}

impl<L: Lane> Tunnel<'_, L> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let context = self.context;
        let buffers = &mut *context.buffers();
        let turn = self
            .up(cx, buffers)
            .and_then(|up| Ok([up, self.down(cx, buffers)?]));
        self.sender.outlet().give_spares(&mut buffers.spares);
        let moved = match turn {
            Ok(moved) => moved,
            Err(end) => return Poll::Ready(end),
        };
        // A target that does not listen ends the tunnel (RFC 9298 §3.1).
        if self.socket.send_stats().unreachable > 0 {
            return Poll::Ready(End::ByTarget);
        }
        if moved != [Moved::Nothing; 2] {
            self.idle.note();
        }
        if moved.contains(&Moved::More) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.idle.poll(cx).map(|()| End::Idle)
    }

    /// Client to target.
    fn up(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Result<Moved, End> {
        let ledger = self.ledger;
        let mut out = Outgoing::new(&self.socket, &mut buffers.sending, ledger);
        for carried in 0..BATCH {
            let packet = match self.stream.poll_recv(cx) {
                Poll::Pending if carried == 0 => return Ok(Moved::Nothing),
                Poll::Pending => return Ok(Moved::Some),
                Poll::Ready(Ok(Some(packet))) => packet,
                Poll::Ready(Ok(None)) => return Err(End::Finished),
                Poll::Ready(Err(error)) => return Err(error.into()),
            };
            if packet.len() > self.max_payload {
                ledger.dropped(DropCause::TooLarge, 1);
            } else if ledger.admit(1, packet.len()) {
                out.push(self.target, &packet);
            }
            buffers.spares.push(packet.into_spent());
        }
        Ok(Moved::More)
    }

    /// Target to client.
    fn down(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Result<Moved, End> {
        match self.socket.poll_recv(cx, &mut buffers.received) {
            Poll::Pending => return Ok(Moved::Nothing),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(_)) => return Err(End::ByTarget),
        }
        let (ledger, sender) = (self.ledger, &self.sender);
        let max = sender.max_payload();
        sender
            .outlet()
            .fill_spares(buffers.received.datagrams().count(), &mut buffers.spares);
        let mut down = Downward::new(sender.outlet(), &mut buffers.down, ledger);
        for (_, packet) in buffers.received.datagrams() {
            if packet.len() > max {
                ledger.dropped(DropCause::TooLarge, 1);
            } else if ledger.admit(1, packet.len()) {
                let spare = buffers.spares.pop().unwrap_or_default();
                down.push(sender.datagram(spare, packet), packet.len());
            }
        }
        drop(down);
        Ok(if buffers.received.is_drained() {
            Moved::Some
        } else {
            Moved::More
        })
    }
}
