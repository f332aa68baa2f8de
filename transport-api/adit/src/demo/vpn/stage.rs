//! The scene: files, a veth between the two namespaces, relay and client.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use transport_api::tun::netlink::{Address, Netlink, NetlinkError};

use super::player::{Player, program};
use crate::{
    demo::{Check, Checks},
    exit::{Code, Context, Outcome, fail},
    files,
    init::bundle_endpoint,
    keyring::RelayKeys,
    relay::vpn::explain_netlink,
};

/// The network between the two (RFC 2544: for tests), and who is where in it.
const LENGTH: u8 = 24;
pub(super) const RELAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
pub(super) const CLIENT_MOVED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);
const PORT: u16 = 4433;
/// Each end of the veth, and each TUN device: namespaces keep them apart.
pub(super) const VETH: &str = "under0";
pub(super) const TUN: &str = "adit0";

const CONFIG: &str = r#"
[listen]
udp = ["0.0.0.0:4433"]
workers = 1
[tun]
enabled = true
pool = ["10.77.0.0/16", "fd77::/48"]
[metrics]
listen = ""
[status]
socket = "status.sock"
"#;

/// Relay and client, connected. Lives in the client's namespace.
pub(super) struct Stage {
    folder: PathBuf,
    kernel: Netlink,
    rules: usize,
    client: Player,
    /// What the client told when it was connected.
    pub(super) connected: Value,
    _relay: Player,
}

impl Stage {
    pub(super) fn set(folder: &Path) -> Outcome<Self> {
        let keys = RelayKeys::generate()?;
        let bundle = folder.join("relay.bundle");
        keys.create(&folder.join("identity.key"))?;
        let signed = keys.bundle(bundle_endpoint(&RELAY.to_string(), PORT))?;
        files::create(&bundle, 0o600, &signed)?;
        files::create(&folder.join("relay.toml"), 0o600, CONFIG.as_bytes())?;
        let relay = start_relay(folder)?;
        let mut kernel = Netlink::open().map_err(|error| explain_netlink(&error, "demo"))?;
        let rules = rules(&mut kernel)?;
        let mut command = Command::new(program()?);
        command.args(["connect", "--json", "--tun", TUN]).arg(&bundle);
        let mut client = Player::start("client", &mut command, folder)?;
        let told = client.expect("\"event\":\"connected\"")?;
        Ok(Self {
            folder: folder.to_owned(),
            kernel,
            rules,
            client,
            connected: serde_json::from_str(&told).or_fail(Code::Failed, "client")?,
            _relay: relay,
        })
    }

    /// Takes the client's address away and gives it another.
    pub(super) fn move_client(&mut self) -> Result<(), NetlinkError> {
        let Some(link) = self.kernel.link(VETH)? else {
            return Ok(());
        };
        self.kernel
            .remove_address(link.index, (IpAddr::V4(CLIENT), LENGTH))?;
        self.kernel
            .add_address(link.index, &Address::new((IpAddr::V4(CLIENT_MOVED), LENGTH)))
    }

    /// What `adit status` says of the relay.
    pub(super) fn relay_status(&self) -> Outcome<Value> {
        let done = Command::new(program()?)
            .args(["status", "--json", "--socket"])
            .arg(self.folder.join("status.sock"))
            .output()
            .or_fail(Code::Failed, "status")?;
        serde_json::from_slice(&done.stdout).or_fail(Code::Failed, String::from_utf8_lossy(&done.stderr))
    }

    /// Ends the client; nothing of it may stay.
    pub(super) fn clear(self, checks: &mut Checks) -> Outcome {
        let Self {
            mut kernel,
            rules: before,
            client,
            ..
        } = self;
        let code = client.interrupt();
        let device = kernel
            .link(TUN)
            .map_err(|error| explain_netlink(&error, "demo"))?;
        let left = rules(&mut kernel)?.saturating_sub(before) + usize::from(device.is_some());
        checks.add(Check {
            name: "the client left nothing behind".into(),
            ok: left == 0 && code.is_some(),
            value: left as f64,
            unit: "left",
            detail: match code {
                Some(code) => format!("devices and rules, after Ctrl-C; exit code {code}"),
                None => "it did not end by itself".into(),
            },
        });
        Ok(())
    }
}

/// The relay in a namespace of its own, and the cable to it.
fn start_relay(folder: &Path) -> Outcome<Player> {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--"])
        .arg(program()?)
        .args(["demo", "--vpn", "--inside", "relay", "--folder"])
        .arg(folder);
    let mut relay = Player::start("relay", &mut command, folder)?;
    relay.expect(super::relay::HERE)?;
    lay_cable(relay.pid())?;
    configure(CLIENT)?;
    relay.say("go")?;
    relay.expect("READY")?;
    Ok(relay)
}

/// A veth from here to the namespace of that process.
fn lay_cable(to: u32) -> Outcome {
    let done = Command::new("ip")
        .args(["link", "add", VETH, "type", "veth", "peer", "name", VETH, "netns"])
        .arg(to.to_string())
        .output()
        .or_fail(Code::Failed, "ip")?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    fail(Code::Failed, format!("a veth between the namespaces: ip: {said}"))
}

/// This namespace's end of the cable.
pub(super) fn configure(own: Ipv4Addr) -> Outcome {
    let work = || -> Result<(), NetlinkError> {
        let mut kernel = Netlink::open()?;
        for name in ["lo", VETH] {
            if let Some(link) = kernel.link(name)? {
                kernel.set_link(link.index, Some(true), None)?;
                if name == VETH {
                    kernel.add_address(link.index, &Address::new((IpAddr::V4(own), LENGTH)))?;
                }
            }
        }
        Ok(())
    };
    work().map_err(|error| explain_netlink(&error, "demo"))
}

fn rules(kernel: &mut Netlink) -> Outcome<usize> {
    let mut count = || Ok(kernel.rules(false)?.len() + kernel.rules(true)?.len());
    count().map_err(|error: NetlinkError| explain_netlink(&error, "demo"))
}
