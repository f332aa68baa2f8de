//! The kernel's side of a tunnel: addresses and routes of the device, rules for what must not go its way, resolvers.
//!
//! Addresses and ordinary routes end with the device. Rules, the routes of our own table and resolv.conf do not: they are in the
//! journal before they are made, and undone when this is dropped.

use std::net::IpAddr;

use transport_api::{
    ip::Network,
    tun::netlink::{Address, MAIN_TABLE, Netlink, NetlinkError, Route, RouteKind, Rule},
};

use super::{Wishes, dns, journal::Journal, plan};
use crate::{
    exit::{Code, Failure, Outcome},
    output,
    relay::vpn::explain_netlink,
};

/// Marks the packets that carry the tunnel, names the table of what goes through it, and whose routes are ours.
pub(crate) const MARK: u32 = 0x0ad1;
const TABLE: u32 = 0x0ad1;
const PROTOCOL: u8 = 0xad;
/// Before the kernel's own rules (32766), behind what others have set first.
const PRIORITY_MAIN: u32 = 10_210;
const PRIORITY_TUNNEL: u32 = 10_211;
/// What the kill switch leaves when there is no tunnel: asked last.
const LAST: u32 = u32::MAX;

/// What the relay gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) addresses: Vec<Network>,
    pub(super) routes: Vec<Network>,
}

pub(super) struct System {
    kernel: Netlink,
    index: u32,
    wishes: Wishes,
    relay: IpAddr,
    addresses: Vec<Network>,
    /// Of the device, in the main table and in our own.
    routes: Vec<Route>,
    mtu: usize,
    policy: bool,
    journal: Journal,
}

impl System {
    /// Switches the device on; with a kill switch nothing passes beside it from here on.
    pub(super) fn new(name: &str, wishes: Wishes, relay: IpAddr, journal: Journal) -> Outcome<Self> {
        let explained = |error: NetlinkError| explain_netlink(&error, "--tun");
        let mut kernel = Netlink::open().map_err(explained)?;
        let link = kernel.link(name).map_err(explained)?.ok_or_else(|| Failure {
            code: Code::Failed,
            message: format!("--tun: the device {name} is gone"),
        })?;
        let mut system = Self {
            kernel,
            index: link.index,
            wishes,
            relay,
            addresses: Vec::new(),
            routes: Vec::new(),
            mtu: 0,
            policy: false,
            journal,
        };
        system.prepare().map_err(explained)?;
        if !system.wishes.dns.is_empty() {
            dns::set(name, &system.wishes.dns, &mut system.journal)?;
        }
        Ok(system)
    }

    fn prepare(&mut self) -> Result<(), NetlinkError> {
        self.kernel.set_link(self.index, Some(true), None)?;
        if self.wishes.kill_switch {
            self.use_policy()?;
            for v4 in [true, false] {
                let mut nowhere = Route::to((Network::all(v4).first(), 0));
                (nowhere.table, nowhere.protocol) = (TABLE, PROTOCOL);
                (nowhere.kind, nowhere.metric) = (RouteKind::Unreachable, Some(LAST));
                present(self.kernel.add_route(&nowhere))?;
            }
        }
        Ok(())
    }

    /// Makes the device what the relay says it is.
    pub(super) fn apply(&mut self, given: &Given, mtu: usize) -> Result<(), NetlinkError> {
        if mtu != self.mtu {
            let mtu_now = u32::try_from(mtu).unwrap_or(u32::MAX);
            self.kernel.set_link(self.index, None, Some(mtu_now))?;
            self.mtu = mtu;
        }
        self.apply_addresses(&given.addresses)?;
        self.apply_routes(given)
    }

    fn apply_addresses(&mut self, wanted: &[Network]) -> Result<(), NetlinkError> {
        for &gone in self.addresses.iter().filter(|own| !wanted.contains(own)) {
            absent(self.kernel.remove_address(self.index, prefix(gone)))?;
        }
        for &new in wanted.iter().filter(|new| !self.addresses.contains(new)) {
            let mut address = Address::new(prefix(new));
            (address.no_detection, address.no_prefix_route) = (!new.is_ipv4(), true);
            present(self.kernel.add_address(self.index, &address))?;
        }
        self.addresses = wanted.to_vec();
        Ok(())
    }

    fn apply_routes(&mut self, given: &Given) -> Result<(), NetlinkError> {
        let chosen = plan::chosen(&given.routes, &self.wishes.routes);
        let wanted: Vec<Route> = chosen
            .iter()
            .filter_map(|&network| self.route(network, &given.addresses))
            .collect();
        if wanted.iter().any(|route| route.table == TABLE) {
            self.use_policy()?;
        }
        for route in &wanted {
            if !self.routes.contains(route) {
                present(self.kernel.add_route(route))?;
            }
        }
        for gone in self.routes.iter().filter(|route| !wanted.contains(route)) {
            absent(self.kernel.remove_route(gone))?;
        }
        self.routes = wanted;
        Ok(())
    }

    /// `None` for a family in which this client has no address.
    fn route(&self, network: Network, addresses: &[Network]) -> Option<Route> {
        let own = addresses.iter().find(|own| own.is_ipv4() == network.is_ipv4())?;
        let mut route = Route::to(prefix(network));
        route.device = Some(self.index);
        route.source = Some(own.first());
        route.protocol = PROTOCOL;
        route.table = if plan::is_wide(&network, self.relay) {
            TABLE
        } else {
            MAIN_TABLE
        };
        Some(route)
    }

    /// Everything but the tunnel's own packets asks our table, after what the main one knows better than its default route.
    fn use_policy(&mut self) -> Result<(), NetlinkError> {
        if self.policy {
            return Ok(());
        }
        warn_of_strict_filter();
        self.journal.note_policy();
        for rule in rules() {
            present(self.kernel.add_rule(&rule))?;
        }
        self.policy = true;
        Ok(())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let failed = undo(&mut self.kernel, self.policy).err();
        if let Some(error) = failed {
            output::complain(&format!("--tun: {error}"));
            // The journal stays, and the next start tries again.
            return;
        }
        self.journal.finish();
    }
}

fn rules() -> Vec<Rule> {
    let both = |v6: bool| {
        let rule = |priority, table| Rule {
            v6,
            priority,
            mark: None,
            invert: false,
            table,
            suppress_prefix_length: None,
        };
        [
            Rule {
                suppress_prefix_length: Some(0),
                ..rule(PRIORITY_MAIN, MAIN_TABLE)
            },
            Rule {
                mark: Some((MARK, u32::MAX)),
                invert: true,
                ..rule(PRIORITY_TUNNEL, TABLE)
            },
        ]
    };
    [false, true].into_iter().flat_map(both).collect()
}

/// Takes back what does not end with the device.
pub(super) fn undo(kernel: &mut Netlink, policy: bool) -> Result<(), NetlinkError> {
    if policy {
        for rule in rules() {
            absent(kernel.remove_rule(&rule))?;
        }
        for route in kernel.routes(TABLE)? {
            absent(kernel.remove_route(&route))?;
        }
    }
    Ok(())
}

/// Replies to the tunnel's packets come unmarked; a strict reverse path filter takes them for forged.
fn warn_of_strict_filter() {
    let strict =
        std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").is_ok_and(|text| text.trim() == "1");
    if strict {
        output::tell(format_args!(
            "--tun: net.ipv4.conf.all.rp_filter is 1 (strict): the relay's answers may be dropped; `sysctl -w net.ipv4.conf.all.rp_filter=2`"
        ));
    }
}

fn prefix(network: Network) -> (IpAddr, u8) {
    (network.first(), network.prefix_len())
}

/// What was to be made is there.
fn present(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(NetlinkError::Exists { .. }) => Ok(()),
        other => other,
    }
}

/// What was to be removed is gone.
fn absent(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(NetlinkError::Missing { .. }) => Ok(()),
        other => other,
    }
}
