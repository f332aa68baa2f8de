//! Where a bound client is reached.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::super::egress;
use super::super::grant::Egress;
use super::super::service::SessionContext;
use crate::local::BatchSocket;
use crate::masque::bind::address::MAX_ADDRESSES;
use crate::masque::lane::Lane;

/// A port, and the addresses it is known by.
#[derive(Debug)]
pub(in crate::relay) struct Public {
    addresses: Vec<SocketAddr>,
    /// What packets to each family leave from, if it is an address of this machine: IPv4, IPv6.
    sources: [Option<IpAddr>; 2],
}

impl Public {
    /// Binds a port for a client; one socket serves both families.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrNotAvailable`] when this machine has no address to be reached at; otherwise what the system says.
    pub(in crate::relay) fn bind<L: Lane>(
        context: &SessionContext<L>,
        way_out: &Egress,
    ) -> io::Result<(BatchSocket, Self)> {
        let ips = candidates(&context.config().bind.addresses, way_out);
        let v6 = ips.iter().any(IpAddr::is_ipv6);
        let socket = match egress::port(context.local(), way_out, v6) {
            // A machine without IPv6, whatever is configured.
            Err(_) if v6 => egress::port(context.local(), way_out, false)?,
            socket => socket?,
        };
        let local = socket.local_addr()?;
        let usable = |ip: &&IpAddr| ip.is_ipv4() || local.is_ipv6();
        let addresses: Vec<_> = ips
            .iter()
            .filter(usable)
            .take(MAX_ADDRESSES)
            .map(|ip| SocketAddr::new(*ip, local.port()))
            .collect();
        if addresses.is_empty() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let source = |v4: bool| {
            let first = addresses.iter().map(SocketAddr::ip).find(|ip| ip.is_ipv4() == v4);
            first.filter(|ip| egress::is_own(*ip))
        };
        let sources = [source(true), source(false)];
        Ok((socket, Self { addresses, sources }))
    }

    pub(in crate::relay) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What packets leave from, IPv4 and IPv6; `None`: the system chooses.
    pub(super) fn sources(&self) -> [Option<IpAddr>; 2] {
        self.sources
    }

    /// The client's own address among those of a family.
    pub(in crate::relay) fn of_family(&self, peer: SocketAddr) -> Option<SocketAddr> {
        let same = |own: &&SocketAddr| own.is_ipv4() == peer.is_ipv4();
        self.addresses.iter().find(same).copied()
    }
}

/// What was granted, else what was configured, else by which the world is reached.
fn candidates(configured: &[IpAddr], way_out: &Egress) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for v4 in [true, false] {
        let listed = configured.iter().filter(|ip| ip.is_ipv4() == v4);
        match way_out.source(v4) {
            Some(source) => found.push(source),
            None if configured.is_empty() => found.extend(towards_the_world(v4)),
            None => found.extend(listed),
        }
    }
    found
}

/// The address by which packets to the world leave. None are sent for it.
fn towards_the_world(v4: bool) -> Option<IpAddr> {
    // Addresses for documentation: routed as all the world is, and nobody's.
    let (any, far): (IpAddr, IpAddr) = if v4 {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    } else {
        let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        (Ipv6Addr::UNSPECIFIED.into(), far.into())
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}
