//! A SOCKS5 server (RFC 1928): CONNECT and UDP ASSOCIATE, names resolved by the relay.

mod associate;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use transport_api::{
    local::{TcpListener, TcpStream},
    tunnel::{TunnelError, TunnelErrorKind},
};

use super::{Link, pump};
use crate::exit::{Code, Context, Outcome};
use associate::associate;

const VERSION: u8 = 5;
/// A client that says nothing is let go.
const GREETING_LIMIT: Duration = Duration::from_secs(10);

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
            link.note_refusal(&error);
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
