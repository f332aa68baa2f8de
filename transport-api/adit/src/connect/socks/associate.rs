//! UDP ASSOCIATE (RFC 1928 §7): a program's datagrams, by one bound port of the relay's.
//!
//! To everybody the program is at that port, whoever it spoke to first. A bound port knows addresses only: targets given as names,
//! which the relay resolves, have a tunnel each, as all targets have where the relay offers no bind.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    task::{Poll, Waker},
    time::Instant,
};

use transport_api::{
    local::{TcpStream, UdpSocket},
    now,
    tunnel::{
        BindOptions, BindSendError, BindSender, BoundUdp, TunnelError, TunnelErrorKind, UdpSender, UdpTunnel,
    },
};

use super::super::Link;
use super::{Reply, put_address, reply};

/// Targets with tunnels of their own at most; beyond, the least recently used is closed.
const MAX_TARGETS: usize = 64;
/// Datagrams that wait for the bound port.
const MAX_WAITING: usize = 16;
const MAX_DATAGRAM: usize = 65_535;

/// One UDP ASSOCIATE: lives as long as its TCP connection.
struct Association {
    link: Rc<Link>,
    socket: UdpSocket,
    /// The program's UDP address: the first that speaks from the host that asked.
    program: RefCell<Option<SocketAddr>>,
    asked_from: IpAddr,
    bound: RefCell<Bound>,
    targets: RefCell<BTreeMap<(String, u16), Used>>,
    over: Over,
}

/// The port of the relay's that stands for the program's.
enum Bound {
    /// Nothing was sent to an address yet.
    Unasked,
    /// What was sent meanwhile waits.
    Opening(Vec<(SocketAddr, Vec<u8>)>),
    Open(BindSender),
    /// The relay has none: each target has a tunnel.
    Refused,
}

/// Where a datagram goes.
#[derive(Debug, PartialEq, Eq)]
enum To {
    Address(SocketAddr),
    Name(String, u16),
}

struct Used {
    at: Instant,
    tunnel: Option<UdpSender>,
}

pub(super) async fn associate(link: &Rc<Link>, local: TcpStream) {
    let (Ok(here), Ok(there)) = (local.local_addr(), local.peer_addr()) else {
        return;
    };
    let Ok(socket) = UdpSocket::bind(&link.at, SocketAddr::new(here.ip(), 0)) else {
        return reply(&local, Reply::GeneralFailure, None).await;
    };
    let bound = socket.local_addr().ok();
    let association = Rc::new(Association {
        link: Rc::clone(link),
        socket,
        program: RefCell::new(None),
        asked_from: there.ip(),
        bound: RefCell::new(Bound::Unasked),
        targets: RefCell::default(),
        over: Over::default(),
    });
    reply(&local, Reply::Succeeded, bound).await;
    let serving = Rc::clone(&association).serve();
    let ended = async {
        // RFC 1928 §7: the association ends when the TCP connection does.
        while matches!(local.read(&mut [0; 64]).await, Ok(read) if read > 0) {}
    };
    race(serving, ended).await;
    association.over.set();
    association.targets.borrow_mut().clear();
}

/// Runs both until one is done.
async fn race(first: impl Future<Output = ()>, second: impl Future<Output = ()>) {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    std::future::poll_fn(|cx| {
        if first.as_mut().poll(cx).is_ready() {
            return std::task::Poll::Ready(());
        }
        second.as_mut().poll(cx)
    })
    .await;
}

impl Association {
    async fn serve(self: Rc<Self>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let Ok((read, from)) = self.socket.recv_from(&mut buffer).await else {
                continue;
            };
            if from.ip() != self.asked_from || *self.program.borrow_mut().get_or_insert(from) != from {
                continue;
            }
            match buffer.get(..read).and_then(parse_datagram) {
                Some((To::Address(peer), payload)) => self.send_to(peer, payload),
                Some((To::Name(name, port), payload)) => self.send((name, port), payload),
                None => {}
            }
        }
    }

    /// By the bound port, if the relay has one that reaches there.
    fn send_to(self: &Rc<Self>, peer: SocketAddr, payload: &[u8]) {
        let unsupported = match &mut *self.bound.borrow_mut() {
            Bound::Open(sender) => sender.send_to(payload, peer) == Err(BindSendError::Unsupported),
            Bound::Opening(waiting) => {
                if waiting.len() < MAX_WAITING {
                    waiting.push((peer, payload.to_vec()));
                }
                false
            }
            unasked @ Bound::Unasked => {
                *unasked = Bound::Opening(vec![(peer, payload.to_vec())]);
                let carry = Rc::clone(self).bind();
                self.link.at.spawn(carry).is_err()
            }
            Bound::Refused => true,
        };
        if unsupported {
            self.send((peer.ip().to_string(), peer.port()), payload);
        }
    }

    /// Binds a port, and carries what comes to it until the association or the tunnel ends.
    async fn bind(self: Rc<Self>) {
        let carried = async {
            let Some(client) = self.link.client().await else {
                return Bound::Unasked;
            };
            match client.bind_udp(&BindOptions::default()).await {
                Ok(bound) => self.carry(&bound).await,
                Err(error) if is_passing(&error) => Bound::Unasked,
                Err(error) => {
                    tracing::info!(%error, "no bound port, a tunnel for each target");
                    Bound::Refused
                }
            }
        };
        // The port is closed with the association, so that nobody speaks to a program that does not listen.
        let next = until(carried, &self.over).await.unwrap_or(Bound::Unasked);
        let refused = matches!(next, Bound::Refused);
        let before = self.bound.replace(next);
        if let (true, Bound::Opening(waiting)) = (refused, before) {
            for (peer, payload) in waiting {
                self.send_to(peer, &payload);
            }
        }
    }

    async fn carry(&self, bound: &BoundUdp) -> Bound {
        let waiting = match self.bound.replace(Bound::Open(bound.sender())) {
            Bound::Opening(waiting) => waiting,
            _ => Vec::new(),
        };
        for (peer, payload) in waiting {
            // Too large or not reached from there: lost, as UDP is.
            let _ = bound.send_to(&payload, peer);
        }
        let mut header = Vec::new();
        loop {
            let (payload, peer) = match bound.recv_from().await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "the bound port is closed");
                    return Bound::Unasked;
                }
            };
            header.clear();
            header.extend_from_slice(&[0, 0, 0]);
            put_address(&mut header, peer);
            header.extend_from_slice(&payload);
            if let Some(program) = *self.program.borrow() {
                let _ = self.socket.try_send_to(&header, program);
            }
        }
    }

    /// By a tunnel for this target alone.
    fn send(self: &Rc<Self>, key: (String, u16), payload: &[u8]) {
        let now = now().instant;
        let mut targets = self.targets.borrow_mut();
        if let Some(used) = targets.get_mut(&key) {
            used.at = now;
            if let Some(tunnel) = &used.tunnel {
                // Too large or too fast: lost, as UDP is.
                let _ = tunnel.send(payload);
            }
            return;
        }
        if targets.len() >= MAX_TARGETS {
            let oldest = targets
                .iter()
                .min_by_key(|(_, used)| used.at)
                .map(|(key, _)| key.clone());
            oldest.and_then(|key| targets.remove(&key));
        }
        targets.insert(
            key.clone(),
            Used {
                at: now,
                tunnel: None,
            },
        );
        let open = Rc::clone(self).target(key.clone(), payload.to_vec());
        if self.link.at.spawn(open).is_err() {
            targets.remove(&key);
        }
    }

    /// Opens the tunnel to a target and carries its answers.
    async fn target(self: Rc<Self>, key: (String, u16), first: Vec<u8>) {
        let Some(client) = self.link.client().await else {
            return;
        };
        match client.connect_udp(&key.0, key.1).await {
            Ok(mut tunnel) => {
                let _ = tunnel.send(&first);
                match self.targets.borrow_mut().get_mut(&key) {
                    Some(used) => used.tunnel = Some(tunnel.sender()),
                    None => return,
                }
                self.answers(&key, &mut tunnel).await;
            }
            Err(error) => {
                self.link.note_refusal(&error);
                tracing::info!(host = %key.0, port = key.1, %error, "SOCKS UDP");
            }
        }
        self.targets.borrow_mut().remove(&key);
    }

    async fn answers(&self, key: &(String, u16), tunnel: &mut UdpTunnel) {
        let mut header = vec![0, 0, 0];
        match key.0.parse() {
            Ok(ip) => put_address(&mut header, SocketAddr::new(ip, key.1)),
            Err(_) => put_name(&mut header, &key.0, key.1),
        }
        while let Ok(payload) = tunnel.recv().await {
            // Removed by the limit or with the association: this tunnel is done.
            if !self.targets.borrow().contains_key(key) {
                return;
            }
            let Some(program) = *self.program.borrow() else {
                continue;
            };
            let _ = self
                .socket
                .try_send_to(&[&header[..], &payload].concat(), program);
        }
    }
}

/// The header of RFC 1928 §7; fragments are not supported and dropped, as it allows.
fn parse_datagram(datagram: &[u8]) -> Option<(To, &[u8])> {
    let [_, _, 0, kind, rest @ ..] = datagram else {
        return None;
    };
    let (host, rest) = match kind {
        1 => rest
            .split_first_chunk::<4>()
            .map(|(ip, rest)| (Ok(IpAddr::from(*ip)), rest))?,
        4 => rest
            .split_first_chunk::<16>()
            .map(|(ip, rest)| (Ok(IpAddr::from(*ip)), rest))?,
        3 => {
            let (length, rest) = rest.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(*length))?;
            (Err(String::from_utf8(name.to_vec()).ok()?), rest)
        }
        _ => return None,
    };
    let (port, payload) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    let to = match host {
        Ok(ip) => To::Address(SocketAddr::new(ip.to_canonical(), port)),
        // Some programs write addresses as names.
        Err(name) => match name.parse::<IpAddr>() {
            Ok(ip) => To::Address(SocketAddr::new(ip.to_canonical(), port)),
            Err(_) => To::Name(name, port),
        },
    };
    Some((to, payload))
}

fn put_name(out: &mut Vec<u8>, name: &str, port: u16) {
    out.push(3);
    // Names came with a one-byte length.
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&port.to_be_bytes());
}

/// Whether the next datagram may find the relay in a better mood.
fn is_passing(error: &TunnelError) -> bool {
    matches!(
        error.kind(),
        TunnelErrorKind::Transport
            | TunnelErrorKind::Draining
            | TunnelErrorKind::Timeout
            | TunnelErrorKind::Limit
    )
}

/// The end of an association.
#[derive(Default)]
struct Over {
    set: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Over {
    fn set(&self) {
        self.set.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

/// What `future` gives, or nothing when it is over before. One task may wait.
async fn until<T>(future: impl Future<Output = T>, over: &Over) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        if over.set.get() {
            return Poll::Ready(None);
        }
        *over.waiting.borrow_mut() = Some(cx.waker().clone());
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn address(text: &str) -> To {
        To::Address(text.parse().expect(text))
    }

    #[test]
    fn datagram_headers_of_all_kinds() {
        let v4 = [0, 0, 0, 1, 192, 0, 2, 1, 0, 53, 9, 9];
        assert_eq!(parse_datagram(&v4), Some((address("192.0.2.1:53"), &[9, 9][..])));
        let name = [0, 0, 0, 3, 2, b'a', b'b', 1, 0];
        assert_eq!(parse_datagram(&name), Some((To::Name("ab".into(), 256), &[][..])));
        let mut v6 = vec![0, 0, 0, 4];
        v6.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        v6.extend_from_slice(&[0, 1]);
        assert_eq!(parse_datagram(&v6), Some((address("[::1]:1"), &[][..])));
    }

    #[test]
    fn fragments_and_truncated_headers_are_dropped() {
        let whole = [0, 0, 0, 1, 192, 0, 2, 1, 0, 53];
        for length in 0..whole.len() {
            assert_eq!(parse_datagram(&whole[..length]), None, "{length}");
        }
        assert_eq!(parse_datagram(&[0, 0, 1, 1, 192, 0, 2, 1, 0, 53]), None);
        assert_eq!(parse_datagram(&[0, 0, 0, 3, 200, b'a']), None);
    }
}
