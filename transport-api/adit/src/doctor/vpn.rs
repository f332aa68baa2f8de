//! What IP tunnels want: a TUN device, the kernel's tables, forwarding, masquerade.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use transport_api::tun::{
    Tun, TunError, TunOptions,
    netlink::{Netlink, NetlinkError},
};

use super::{Finding, Verdict, sysctl};
use crate::config;

/// A device under a name of the kernel's choice, gone when this returns, and the tables of routes.
pub(super) fn device(needed: bool) -> Vec<Finding> {
    let options = TunOptions {
        offload: true,
        ..TunOptions::default()
    };
    let mut findings = match Tun::open(&options) {
        Ok(queues) => {
            let uso = queues.first().is_some_and(Tun::has_uso);
            vec![
                Finding::well("TUN device", "can be made, with offload"),
                Finding::when(
                    uso,
                    "TUN offload of UDP",
                    if uso { "yes" } else { "no" },
                    "long UDP packets are cut by the kernel first; Linux 6.2 and later leave them whole",
                ),
            ]
        }
        Err(error) => {
            let forbidden = matches!(error, TunError::NoPrivilege);
            vec![lacking("TUN device", &error, forbidden, needed)]
        }
    };
    findings.push(match Netlink::open().and_then(|mut kernel| kernel.rules(false)) {
        Ok(rules) => Finding::well("netlink", format!("{} rules for IPv4", rules.len())),
        Err(error) => {
            let forbidden = matches!(error, NetlinkError::NoPrivilege { .. });
            lacking("netlink", &error, forbidden, needed)
        }
    });
    findings
}

fn lacking(name: &'static str, error: &dyn std::fmt::Display, forbidden: bool, needed: bool) -> Finding {
    let mut finding = Finding::when(false, name, "no", error.to_string()).needed(needed);
    if forbidden && needed {
        finding.verdict = Verdict::Forbidden;
    }
    finding
}

/// Needed for the families that a relay routes for its clients; a strict filter is only told.
pub(super) fn forwarding(tun: Option<&config::Tun>) -> [Finding; 3] {
    let routes = |v4: bool| tun.is_some_and(|tun| tun.routes.iter().any(|route| route.is_ipv4() == v4));
    let one = |name, key: &str, v4| forwards(name, key, sysctl(key).as_deref(), routes(v4));
    [
        one("forwarding IPv4", "net.ipv4.ip_forward", true),
        one("forwarding IPv6", "net.ipv6.conf.all.forwarding", false),
        filter(sysctl("net.ipv4.conf.all.rp_filter").as_deref()),
    ]
}

fn forwards(name: &'static str, key: &str, value: Option<&str>, needed: bool) -> Finding {
    let on = value.is_some_and(|value| value != "0");
    Finding::when(
        on,
        name,
        if on { "on" } else { "off" },
        format!("clients of a relay's IP tunnels reach only the relay: sysctl -w {key}=1"),
    )
    .needed(needed)
}

fn filter(value: Option<&str>) -> Finding {
    let strict = value == Some("1");
    Finding::when(
        !strict,
        "reverse path filter",
        if strict { "strict" } else { "not strict" },
        "a client that sends everything through its tunnel may lose the relay's answers: sysctl -w net.ipv4.conf.all.rp_filter=2",
    )
}

/// Needed for `nat = true`.
pub(super) fn nft(tun: Option<&config::Tun>) -> Finding {
    let mut asked = Command::new("nft");
    asked.arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
    let version = asked.output().ok().filter(|said| said.status.success());
    let name = version.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    Finding::when(
        name.is_some(),
        "nft",
        name.unwrap_or_else(|| "not found".into()),
        "masquerade ([tun] nat = true) needs it: install nftables",
    )
    .needed(tun.is_some_and(|tun| tun.nat))
}

/// Who keeps this machine's resolvers: `connect --dns` does what that one wants.
pub(super) fn resolvers() -> Finding {
    const FILE: &str = "/etc/resolv.conf";
    let link = std::fs::read_link(FILE).ok();
    let exists = link.is_some() || Path::new(FILE).exists();
    Finding::when(
        exists,
        "resolv.conf",
        match link {
            Some(target) if target.to_string_lossy().contains("systemd/resolve") => "systemd-resolved".into(),
            Some(target) => format!("a link to {}", target.display()),
            None if exists => "a file".into(),
            None => "not there".to_owned(),
        },
        "connect --dns makes one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_is_needed_only_by_who_routes() {
        let off = |needed| forwards("f", "net.ipv4.ip_forward", Some("0"), needed);
        assert_eq!(off(false).verdict, Verdict::Lacking);
        assert_eq!(off(true).verdict, Verdict::Missing);
        assert!(off(true).detail.ends_with("sysctl -w net.ipv4.ip_forward=1"));
        // IPv6 may say 2 (RFC 4861 section 6.2.5: a router that still takes advertisements).
        assert!(forwards("f", "k", Some("2"), true).ok());
        assert_eq!(forwards("f", "k", None, true).verdict, Verdict::Missing);
    }

    #[test]
    fn only_a_strict_filter_is_told() {
        assert!(filter(Some("0")).ok() && filter(Some("2")).ok() && filter(None).ok());
        assert_eq!(filter(Some("1")).verdict, Verdict::Lacking);
    }

    #[test]
    fn a_privilege_that_is_not_needed_is_a_note() {
        let of = |forbidden, needed| lacking("t", &TunError::NoPrivilege, forbidden, needed).verdict;
        assert_eq!(of(true, true), Verdict::Forbidden);
        assert_eq!(of(true, false), Verdict::Lacking);
        assert_eq!(of(false, true), Verdict::Missing);
    }
}
