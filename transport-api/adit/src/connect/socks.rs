//! A SOCKS5 server (RFC 1928): CONNECT and UDP ASSOCIATE, names resolved by the relay.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use transport_api::{
    local::{TcpListener, TcpStream, UdpSocket},
    now,
    tunnel::{TunnelError, TunnelErrorKind, UdpSender, UdpTunnel},
};

use super::{Link, pump};
use crate::exit::{Code, Context, Outcome};

const VERSION: u8 = 5;
/// A client that says nothing is let go.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// Targets of one association at most; beyond, the least recently used is closed.
const MAX_TARGETS: usize = 64;
const MAX_DATAGRAM: usize = 65_535;

/// Replies of RFC 1928 §6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Succeeded = 0,
    GeneralFailure = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    Refused = 5,
    TtlExpired = 6,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

/// Listens and serves every client in a task of its own.
pub(crate) fn serve(link: &Rc<Link>, address: SocketAddr) -> Outcome {
    let listener =
        TcpListener::bind(&link.at, address).or_fail(Code::Failed, format!("--socks {address}"))?;
    listen(link, listener)
}

/// Serves on a listener that is bound already.
pub(crate) fn listen(link: &Rc<Link>, listener: TcpListener) -> Outcome {
    let link = Rc::clone(link);
    let at = link.at.clone();
    let serve = async move {
        while let Ok((local, _)) = listener.accept().await {
            let link = Rc::clone(&link);
            let at = link.at.clone();
            let one = async move {
                if let Ok(Some(request)) = link.at.timeout(GREETING_LIMIT, greet(&local)).await {
                    act(&link, local, request).await;
                }
            };
            if let Err(error) = at.spawn(one) {
                tracing::warn!(%error, "a SOCKS client was refused");
            }
        }
    };
    at.spawn(serve).or_fail(Code::Failed, "event loop")
}

/// What a client asks for.
struct Request {
    command: u8,
    target: Option<(String, u16)>,
}

/// Method negotiation and the request; nothing when the peer does not speak SOCKS5.
async fn greet(local: &TcpStream) -> Option<Request> {
    let [version, methods] = read_exact(local).await?;
    if version != VERSION {
        return None;
    }
    let offered = read_vec(local, usize::from(methods)).await?;
    if !offered.contains(&0) {
        local.write_all(&[VERSION, 0xff]).await.ok()?;
        return None;
    }
    local.write_all(&[VERSION, 0]).await.ok()?;
    let [version, command, _, kind] = read_exact(local).await?;
    if version != VERSION {
        return None;
    }
    let target = read_target(local, kind).await?;
    Some(Request { command, target })
}

async fn read_target(local: &TcpStream, kind: u8) -> Option<Option<(String, u16)>> {
    let host = match kind {
        1 => Ipv4Addr::from(read_exact::<4>(local).await?).to_string(),
        3 => {
            let [length] = read_exact(local).await?;
            String::from_utf8(read_vec(local, usize::from(length)).await?).ok()?
        }
        4 => Ipv6Addr::from(read_exact::<16>(local).await?).to_string(),
        _ => return Some(None),
    };
    let port = u16::from_be_bytes(read_exact(local).await?);
    Some(Some((host, port)))
}

async fn act(link: &Rc<Link>, local: TcpStream, request: Request) {
    let Some((host, port)) = request.target else {
        return reply(&local, Reply::AddressNotSupported, None).await;
    };
    match request.command {
        1 => connect(link, local, &host, port).await,
        3 => associate(link, local).await,
        _ => reply(&local, Reply::CommandNotSupported, None).await,
    }
}

async fn reply(local: &TcpStream, code: Reply, bound: Option<SocketAddr>) {
    let mut out = vec![VERSION, code as u8, 0];
    put_address(&mut out, bound.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0))));
    // A client that has gone needs no answer.
    let _ = local.write_all(&out).await;
}

async fn connect(link: &Rc<Link>, local: TcpStream, host: &str, port: u16) {
    let Some(client) = link.client().await else {
        return reply(&local, Reply::GeneralFailure, None).await;
    };
    match client.connect_tcp(host, port).await {
        Ok(tunnel) => {
            reply(&local, Reply::Succeeded, None).await;
            pump::carry(&link.at, local, tunnel).await;
        }
        Err(error) => {
            tracing::info!(host, port, %error, "SOCKS CONNECT");
            reply(&local, code_of(&error), None).await;
        }
    }
}

fn code_of(error: &TunnelError) -> Reply {
    match error.kind() {
        TunnelErrorKind::Policy | TunnelErrorKind::Authentication => Reply::NotAllowed,
        TunnelErrorKind::Dns => Reply::HostUnreachable,
        TunnelErrorKind::Refused => Reply::Refused,
        TunnelErrorKind::Timeout => Reply::TtlExpired,
        _ => Reply::GeneralFailure,
    }
}

/// One UDP ASSOCIATE: lives as long as its TCP connection.
struct Association {
    link: Rc<Link>,
    socket: UdpSocket,
    /// The program's UDP address: the first that speaks from the host that asked.
    program: RefCell<Option<SocketAddr>>,
    asked_from: IpAddr,
    targets: RefCell<BTreeMap<(String, u16), Used>>,
}

struct Used {
    at: Instant,
    tunnel: Option<UdpSender>,
}

async fn associate(link: &Rc<Link>, local: TcpStream) {
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
        targets: RefCell::default(),
    });
    reply(&local, Reply::Succeeded, bound).await;
    let serving = Rc::clone(&association).serve();
    let ended = async {
        // RFC 1928 §7: the association ends when the TCP connection does.
        while matches!(local.read(&mut [0; 64]).await, Ok(read) if read > 0) {}
    };
    race(serving, ended).await;
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
            let Some((host, port, payload)) = buffer.get(..read).and_then(parse_datagram) else {
                continue;
            };
            self.send(host, port, payload);
        }
    }

    fn send(self: &Rc<Self>, host: String, port: u16, payload: &[u8]) {
        let now = now().instant;
        let key = (host, port);
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
            Err(error) => tracing::info!(host = %key.0, port = key.1, %error, "SOCKS UDP"),
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
fn parse_datagram(datagram: &[u8]) -> Option<(String, u16, &[u8])> {
    let [_, _, 0, kind, rest @ ..] = datagram else {
        return None;
    };
    let (host, rest) = match kind {
        1 => rest
            .split_first_chunk::<4>()
            .map(|(ip, rest)| (Ipv4Addr::from(*ip).to_string(), rest))?,
        4 => rest
            .split_first_chunk::<16>()
            .map(|(ip, rest)| (Ipv6Addr::from(*ip).to_string(), rest))?,
        3 => {
            let (length, rest) = rest.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(*length))?;
            (String::from_utf8(name.to_vec()).ok()?, rest)
        }
        _ => return None,
    };
    let (port, payload) = rest.split_first_chunk::<2>()?;
    Some((host, u16::from_be_bytes(*port), payload))
}

fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(1);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

fn put_name(out: &mut Vec<u8>, name: &str, port: u16) {
    out.push(3);
    // Names came with a one-byte length.
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&port.to_be_bytes());
}

async fn read_exact<const N: usize>(local: &TcpStream) -> Option<[u8; N]> {
    read_vec(local, N).await?.try_into().ok()
}

/// `length` is at most 255: it came in one byte.
async fn read_vec(local: &TcpStream, length: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; length];
    let mut have = 0;
    while have < length {
        match local.read(out.get_mut(have..)?).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => have += read,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagram_headers_of_all_kinds() {
        let v4 = [0, 0, 0, 1, 192, 0, 2, 1, 0, 53, 9, 9];
        assert_eq!(parse_datagram(&v4), Some(("192.0.2.1".into(), 53, &[9, 9][..])));
        let name = [0, 0, 0, 3, 2, b'a', b'b', 1, 0];
        assert_eq!(parse_datagram(&name), Some(("ab".into(), 256, &[][..])));
        let mut v6 = vec![0, 0, 0, 4];
        v6.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        v6.extend_from_slice(&[0, 1]);
        assert_eq!(parse_datagram(&v6), Some(("::1".into(), 1, &[][..])));
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
