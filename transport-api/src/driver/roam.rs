//! The driver's part in paths: what handles ask for, and what it does by itself when a path falls silent.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::carriers::{carried, is_carrier, narrow};
use super::link::Link;
use super::shared::{MAX_PATH_CHANGES, PathOrder, lock};
use super::streams::Outbox;
use crate::engine::net::{Interface, interfaces};
use crate::engine::{Connection, Now, PATH_FLOOR, PathError, PathId, PathReason, PathState, Route};
use crate::paths::{Failover, PathChange};

/// Does what a handle asks for.
pub(super) fn obey(
    now: Now,
    order: PathOrder,
    engine: &mut Connection,
    out: &mut Outbox,
) -> Result<PathId, PathError> {
    match order {
        PathOrder::Add(local) => {
            out.interfaces = true;
            open(now, local, engine, out)
        }
        PathOrder::Migrate(path) => engine.migrate(now, path).map(|()| path),
        PathOrder::Abandon(path) => engine.abandon_path(now, path).map(|()| path),
    }
}

fn open(now: Now, local: IpAddr, engine: &mut Connection, out: &Outbox) -> Result<PathId, PathError> {
    let width = match out.carriers.get(local) {
        Some(carrier) if narrow(carrier.width()) < PATH_FLOOR => return Err(PathError::TooNarrow),
        None if is_carrier(local) => return Err(PathError::NoAddress),
        carrier => carrier.map(|carrier| narrow(carrier.width())),
    };
    let route = Route {
        remote: engine.remote(),
        local: Some(local),
    };
    let opened = match engine.add_path(now, route) {
        Err(PathError::Unsupported) => engine.move_to(now, route).map(|()| PathId::FIRST),
        result => result,
    };
    if let Some(width) = width {
        engine.set_width(local, width);
    }
    opened
}

/// A path changed: the handles are told, and if the one in use is silent, others are tried.
pub(super) fn on_change(
    now: Now,
    change: PathChange,
    failover: &Failover,
    link: &Link,
    engine: &mut Connection,
    out: &mut Outbox,
) {
    {
        let mut state = lock(&link.shared.state);
        let news = state.news();
        if news.changes.len() >= MAX_PATH_CHANGES {
            news.changes.pop_front();
        }
        news.changes.push_back(change);
        news.path_waiters.take_into(&mut out.wakers);
    }
    if change.state == PathState::Suspect && *failover != Failover::Off {
        try_others(now, change.reason, failover, engine, out);
    }
}

/// The path in use is silent and nothing else waits or is being tried: every other address of this machine is.
fn try_others(now: Now, reason: PathReason, failover: &Failover, engine: &mut Connection, out: &mut Outbox) {
    let helps = |state| {
        matches!(
            state,
            PathState::Probing | PathState::Validated | PathState::Standby
        )
    };
    let active = engine.paths().next().map(|path| path.state);
    if active != Some(PathState::Suspect) || engine.paths().any(|path| helps(path.state)) {
        return;
    }
    if !matches!(failover, Failover::Among(_)) && carried(engine.route()).is_some() {
        // Who goes through somebody else has a reason not to show up directly.
        return;
    }
    let remote = engine.remote();
    let used: Vec<Option<IpAddr>> = engine
        .paths()
        .filter(|path| path.state != PathState::Abandoned)
        .map(|path| path.route.local)
        .collect();
    let own = source_of(remote);
    for local in candidates(failover, remote) {
        // A path without an address of its own begins where the system would go now.
        if used.contains(&Some(local)) || (own == Some(local) && used.contains(&None)) {
            continue;
        }
        out.interfaces = true;
        if let Err(error) = open(now, local, engine, out) {
            tracing::info!(target: "adit::driver", %local, %error, reason = reason.name(), "no other path");
        }
    }
}

/// The addresses a path to `remote` could begin at.
fn candidates(failover: &Failover, remote: SocketAddr) -> Vec<IpAddr> {
    let all = match failover {
        Failover::Off => Vec::new(),
        Failover::Among(addresses) => addresses.clone(),
        Failover::Auto | Failover::AutoExcept(_) => match interfaces() {
            Ok(all) => all
                .iter()
                .filter(|one| leads_out(one) && *failover != Failover::AutoExcept(one.name.clone()))
                .map(|one| one.address)
                .collect(),
            Err(error) => {
                tracing::warn!(target: "adit::driver", %error, "the system does not tell its addresses");
                Vec::new()
            }
        },
    };
    all.into_iter()
        .filter(|address| address.is_ipv4() == remote.is_ipv4())
        .collect()
}

fn leads_out(one: &Interface) -> bool {
    let near = match one.address {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    one.up && !one.loopback && !near
}

/// The address the system would send from, were it asked now. Nothing is sent.
fn source_of(remote: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if remote.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
