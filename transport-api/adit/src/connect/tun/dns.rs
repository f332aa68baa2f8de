//! The resolvers of this machine while a tunnel is there.

use std::{fmt::Write as _, fs, net::IpAddr, process::Command};

use super::journal::Journal;
use crate::exit::{Code, Context, Outcome, fail};

pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Makes `servers` the resolvers. With systemd-resolved they belong to the device and go with it; otherwise resolv.conf is
/// written, and what was in it put back at the end.
pub(super) fn set(device: &str, servers: &[IpAddr], journal: &mut Journal) -> Outcome {
    if is_resolved() {
        return set_resolved(device, servers);
    }
    let before = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let mut text = format!("# by adit connect --tun {device}; what was here comes back when it ends\n");
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    journal.note_resolv_conf(before);
    restore(&text).or_fail(Code::Privilege, format!("--dns: {RESOLV_CONF}"))
}

/// In place: the file may be mounted where it stands, which no other file can replace.
pub(super) fn restore(text: &str) -> std::io::Result<()> {
    fs::write(RESOLV_CONF, text)
}

fn is_resolved() -> bool {
    fs::read_link(RESOLV_CONF).is_ok_and(|target| target.to_string_lossy().contains("systemd/resolve"))
}

fn set_resolved(device: &str, servers: &[IpAddr]) -> Outcome {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let mut dns = vec!["dns", device];
    dns.extend(servers.iter().map(String::as_str));
    for arguments in [dns, vec!["domain", device, "~."]] {
        let done = Command::new("resolvectl")
            .args(&arguments)
            .output()
            .or_fail(Code::Failed, "--dns: resolvectl")?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            return fail(
                Code::Failed,
                format!("--dns: resolvectl {}: {said}", arguments.join(" ")),
            );
        }
    }
    Ok(())
}
