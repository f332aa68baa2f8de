//! `--forward-tcp` and `--forward-udp`: a local address that stands for a target behind the relay.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use transport_api::{
    local::{TcpListener, UdpSocket},
    now,
    tunnel::{UdpSender, UdpTunnel},
};

use super::{Link, pump};
use crate::{
    cli::Forward,
    exit::{Code, Context, Outcome},
};

/// Local UDP peers of one forward at most; beyond, the least recently used is forgotten.
const MAX_PEERS: usize = 256;
/// A local peer is forgotten after this much silence (RFC 9298 asks for at least two minutes).
const IDLE: Duration = Duration::from_secs(180);
/// Largest UDP payload.
const MAX_DATAGRAM: usize = 65_535;

/// Listens for TCP; every connection becomes a tunnel.
pub(crate) fn tcp(link: &Rc<Link>, forward: &Forward) -> Outcome {
    let listener = TcpListener::bind(&link.at, forward.local)
        .or_fail(Code::Failed, format!("--forward-tcp {}", forward.local))?;
    let (link, forward) = (Rc::clone(link), forward.clone());
    let at = link.at.clone();
    let serve = async move {
        while let Ok((local, _)) = listener.accept().await {
            let (link, forward) = (Rc::clone(&link), forward.clone());
            let at = link.at.clone();
            let one = async move {
                let Some(client) = link.client().await else { return };
                match client.connect_tcp(&forward.host, forward.port).await {
                    Ok(tunnel) => pump::carry(&link.at, local, tunnel).await,
                    Err(error) => tracing::warn!(target = %forward.host, %error, "forward"),
                }
            };
            if let Err(error) = at.spawn(one) {
                tracing::warn!(%error, "a forwarded connection was refused");
            }
        }
    };
    at.spawn(serve).or_fail(Code::Failed, "event loop")
}

/// Listens for UDP; every local peer gets a tunnel of its own.
pub(crate) fn udp(link: &Rc<Link>, forward: &Forward) -> Outcome {
    let socket = UdpSocket::bind(&link.at, forward.local)
        .or_fail(Code::Failed, format!("--forward-udp {}", forward.local))?;
    let at = link.at.clone();
    let peers = Peers {
        link: Rc::clone(link),
        socket,
        forward: forward.clone(),
        open: RefCell::default(),
    };
    at.spawn(Rc::new(peers).serve())
        .or_fail(Code::Failed, "event loop")
}

struct Peers {
    link: Rc<Link>,
    socket: UdpSocket,
    forward: Forward,
    open: RefCell<BTreeMap<SocketAddr, Peer>>,
}

struct Peer {
    tunnel: Option<UdpSender>,
    used: Instant,
    generation: u64,
}

impl Peers {
    async fn serve(self: Rc<Self>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut generation = 0;
        loop {
            // An ICMP error of a local program that is gone is not the socket's end.
            let Ok((read, from)) = self.socket.recv_from(&mut buffer).await else {
                continue;
            };
            let Some(data) = buffer.get(..read) else { continue };
            let now = now().instant;
            if let Some(peer) = self.open.borrow_mut().get_mut(&from) {
                peer.used = now;
                if let Some(tunnel) = &peer.tunnel {
                    // Too large or too fast: lost, as UDP is.
                    let _ = tunnel.send(data);
                }
                continue;
            }
            generation += 1;
            self.make_room();
            self.open.borrow_mut().insert(
                from,
                Peer {
                    tunnel: None,
                    used: now,
                    generation,
                },
            );
            let opened = Rc::clone(&self).peer(from, generation, data.to_vec());
            if self.link.at.spawn(opened).is_err() {
                self.open.borrow_mut().remove(&from);
            }
        }
    }

    fn make_room(&self) {
        let mut open = self.open.borrow_mut();
        if open.len() < MAX_PEERS {
            return;
        }
        let oldest = open
            .iter()
            .min_by_key(|(_, peer)| peer.used)
            .map(|(address, _)| *address);
        if let Some(oldest) = oldest {
            open.remove(&oldest);
        }
    }

    /// Opens the peer's tunnel, sends what it said first, then carries answers until silence or the tunnel's end.
    async fn peer(self: Rc<Self>, from: SocketAddr, generation: u64, first: Vec<u8>) {
        let result = async {
            let client = self.link.client().await?;
            match client.connect_udp(&self.forward.host, self.forward.port).await {
                Ok(tunnel) => Some(tunnel),
                Err(error) => {
                    tracing::warn!(target = %self.forward.host, %error, "forward");
                    None
                }
            }
        };
        if let Some(mut tunnel) = result.await {
            let _ = tunnel.send(&first);
            if self.set(from, generation, &tunnel) {
                self.answers(from, generation, &mut tunnel).await;
            }
        }
        let mut open = self.open.borrow_mut();
        if open.get(&from).is_some_and(|peer| peer.generation == generation) {
            open.remove(&from);
        }
    }

    fn set(&self, from: SocketAddr, generation: u64, tunnel: &UdpTunnel) -> bool {
        let mut open = self.open.borrow_mut();
        let peer = open.get_mut(&from).filter(|peer| peer.generation == generation);
        peer.map(|peer| peer.tunnel = Some(tunnel.sender())).is_some()
    }

    async fn answers(&self, from: SocketAddr, generation: u64, tunnel: &mut UdpTunnel) {
        loop {
            match self.link.at.timeout(IDLE, tunnel.recv()).await {
                Ok(Ok(data)) => {
                    let _ = self.socket.try_send_to(&data, from);
                }
                Ok(Err(_)) => return,
                Err(_) => {
                    let now = now().instant;
                    let open = self.open.borrow();
                    let idle = |peer: &Peer| peer.generation != generation || now - peer.used >= IDLE;
                    if open.get(&from).is_none_or(idle) {
                        return;
                    }
                }
            }
        }
    }
}
