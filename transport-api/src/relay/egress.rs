//! The relay's own sockets: which address to use, and how to reach it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::grant::Egress;
use super::policy::{Allowed, Forbidden, TargetPolicy};
use super::resolve::Resolver;
use crate::engine::net::{self, SocketOptions};
use crate::local::{BatchSocket, Handle, TcpStream};
use crate::masque::proxy_status::{ProxyError, ProxyStatus};
use crate::masque::target::{Host, Target};

/// Time for a name to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one target that are tried.
const MAX_ATTEMPTS: usize = 4;
/// Bytes the kernel may hold for a UDP socket, each way.
const SOCKET_BUFFER: usize = 512 * 1024;

/// The addresses of `target` the policy allows; an error when there is none.
pub(super) async fn addresses(
    local: &Handle,
    resolver: &Resolver,
    policy: &TargetPolicy,
    target: &Target,
) -> Result<Vec<SocketAddr>, ProxyStatus> {
    let found = match target.host() {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, target.port())],
        Host::Name(name) => lookup(local, resolver, name, target.port()).await?,
    };
    let mut forbidden = None;
    let mut usable = Vec::with_capacity(MAX_ATTEMPTS);
    for address in found {
        match judge(policy, address.ip()) {
            Ok(()) if usable.len() < MAX_ATTEMPTS => usable.push(address),
            Ok(()) => break,
            Err(reason) => forbidden = Some(reason),
        }
    }
    match forbidden {
        Some(reason) if usable.is_empty() => {
            Err(ProxyStatus::new(ProxyError::DestinationIpProhibited).with_details(reason.to_string()))
        }
        _ if usable.is_empty() => {
            Err(ProxyStatus::new(ProxyError::DnsError).with_details("the name has no address"))
        }
        _ => Ok(usable),
    }
}

async fn lookup(
    local: &Handle,
    resolver: &Resolver,
    name: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, ProxyStatus> {
    match local.timeout(RESOLVE_TIMEOUT, resolver.resolve(name, port)).await {
        Err(_) => Err(ProxyStatus::new(ProxyError::DnsTimeout)),
        Ok(Err(_)) => {
            Err(ProxyStatus::new(ProxyError::ConnectionLimitReached)
                .with_details("too many names to resolve"))
        }
        Ok(Ok(Err(_))) => {
            Err(ProxyStatus::new(ProxyError::DnsError).with_details("the name does not resolve"))
        }
        Ok(Ok(Ok(found))) => Ok(found),
    }
}

/// The policy, and no way back to this machine unless it is on the allow list.
fn judge(policy: &TargetPolicy, ip: IpAddr) -> Result<(), Forbidden> {
    match policy.verdict(ip)? {
        Allowed::Public if is_own(ip) => Err(Forbidden::OwnAddress),
        Allowed::ByList | Allowed::Public => Ok(()),
    }
}

/// Only an address of this machine can be bound.
pub(super) fn is_own(ip: IpAddr) -> bool {
    std::net::UdpSocket::bind((ip, 0)).is_ok()
}

/// Connects to the first address that answers, within `limit` altogether.
pub(super) async fn connect_tcp(
    local: &Handle,
    addresses: &[SocketAddr],
    egress: &Egress,
    limit: Duration,
) -> Result<TcpStream, ProxyStatus> {
    let share = limit / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    let mut failure = ProxyStatus::new(ProxyError::DestinationUnavailable);
    for &address in addresses {
        match local.timeout(share, begin_tcp(local, address, egress)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = explain(&error),
            Err(_) => failure = ProxyStatus::new(ProxyError::ConnectionTimeout),
        }
    }
    Err(failure)
}

/// A socket connected to the first address there is a route to.
pub(super) fn connect_udp(
    local: &Handle,
    addresses: &[SocketAddr],
    egress: &Egress,
) -> Result<(BatchSocket, SocketAddr), ProxyStatus> {
    let mut failure = ProxyStatus::new(ProxyError::DestinationIpUnroutable);
    for &address in addresses {
        let socket = unfragmented(local, egress, address.is_ipv4());
        match socket.and_then(|socket| socket.connect(address).map(|()| socket)) {
            Ok(socket) => return Ok((socket, address)),
            Err(error) => failure = explain(&error),
        }
    }
    Err(failure)
}

/// A socket that sends packets whole or not at all (RFC 9298 §3.1), where the system can.
fn unfragmented(local: &Handle, egress: &Egress, v4: bool) -> io::Result<BatchSocket> {
    socket(local, egress, v4, egress.bind_address(v4))
}

/// A port of its own, for IPv4 and, if `v6`, IPv6 as well; as [`unfragmented`]. Whose address packets leave from is said with each.
pub(super) fn port(local: &Handle, egress: &Egress, v6: bool) -> io::Result<BatchSocket> {
    socket(local, egress, !v6, Egress::new().bind_address(!v6))
}

fn socket(local: &Handle, egress: &Egress, v4: bool, at: SocketAddr) -> io::Result<BatchSocket> {
    let options = SocketOptions {
        recv_buffer: SOCKET_BUFFER,
        send_buffer: SOCKET_BUFFER,
        ..SocketOptions::default()
    };
    let socket = BatchSocket::bind(local, at, &options)?;
    #[cfg(unix)]
    if !egress.is_any(v4) {
        socket.set_source(&source(egress, v4))?;
    }
    Ok(socket)
}

/// A TCP connection that leaves as `egress` says.
async fn begin_tcp(local: &Handle, address: SocketAddr, egress: &Egress) -> io::Result<TcpStream> {
    #[cfg(unix)]
    if !egress.is_any(address.is_ipv4()) {
        let begun = net::begin_tcp(address, &source(egress, address.is_ipv4()))?;
        return TcpStream::finish_connect(local, begun).await;
    }
    TcpStream::connect(local, address).await
}

#[cfg(unix)]
fn source(egress: &Egress, v4: bool) -> net::Source<'_> {
    net::Source {
        address: egress.source(v4),
        interface: egress.interface.as_deref(),
        mark: egress.mark,
    }
}

fn explain(error: &io::Error) -> ProxyStatus {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => ProxyError::ConnectionRefused,
        io::ErrorKind::TimedOut => ProxyError::ConnectionTimeout,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            ProxyError::DestinationIpUnroutable
        }
        _ => ProxyError::DestinationUnavailable,
    };
    ProxyStatus::new(kind)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// The longest IPv6 packets need not fit loopback's 65536 bytes; a usual socket would cut them.
    #[cfg(target_os = "linux")]
    #[test]
    fn packets_to_targets_are_not_cut() {
        let target = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let address = target.local_addr().unwrap();
        let usual = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let long = vec![1; 65_500];
        usual.send_to(&long, address).unwrap();
        let local = crate::local::Loop::new(4).unwrap();
        let (socket, _) = connect_udp(&local.handle(), &[address], &Egress::new()).unwrap();
        for (len, sent, too_long) in [(65_500, 0, 1), (60_000, 1, 1)] {
            let mut batch = crate::engine::Batch::default();
            batch.push(&long[..len]).unwrap();
            let route = crate::engine::Route {
                remote: address,
                local: None,
            };
            socket.try_send(route, &mut batch).unwrap();
            let stats = socket.send_stats();
            assert_eq!((stats.sent, stats.too_long), (sent, too_long));
        }
    }

    #[test]
    fn own_addresses_are_recognised() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(8, 8, 8, 8).into()));
    }
}
