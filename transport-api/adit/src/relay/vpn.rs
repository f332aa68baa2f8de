//! `[tun]`: the relay's device, its addresses, the masquerade, and the leases that outlive the process.

use std::{
    collections::BTreeMap,
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::sync_channel},
    thread::JoinHandle,
};

use transport_api::{
    ip::Network,
    relay::{IpService, Lease},
    tun::{
        Tun, TunError, TunOptions,
        netlink::{Address, Netlink, NetlinkError},
    },
};

use crate::{
    config,
    exit::{Code, Context, Failure, Outcome},
    files, output,
    state::State,
};

/// The device takes what Ethernet takes; who sends more than a client's path carries is told so.
const MTU: u32 = 1500;

/// What `[tun]` made, and undoes.
pub(super) struct Vpn {
    masquerade: Option<Masquerade>,
    leases: Option<Writer>,
}

impl Vpn {
    /// Makes the device. The service is the router's; the rest is kept as long as the relay runs.
    pub(super) fn open(config: &config::Tun, state: &State) -> Outcome<(IpService, Self)> {
        let file = state.file("leases.json");
        let kept = read(&file)?;
        let device = open_device(config)?;
        let masquerade = config.nat.then(|| Masquerade::start(config)).transpose()?;
        warn_of_no_forwarding(config);
        let leases = kept
            .iter()
            .map(|(client, addresses)| {
                let client = client.parse().or_fail(Code::Config, file.display())?;
                Ok(Lease {
                    client,
                    addresses: addresses.clone(),
                })
            })
            .collect::<Outcome<Vec<_>>>()?;
        let (writer, on_lease) = Writer::start(file, kept)?;
        let service = IpService {
            pools: config.pool.clone(),
            routes: config.routes.clone(),
            between_clients: config.between_clients,
            device,
            leases,
            on_lease: Box::new(on_lease),
        };
        let vpn = Self {
            masquerade,
            leases: Some(writer),
        };
        Ok((service, vpn))
    }

    /// After the relay's end: what it told last is on the disk.
    pub(super) fn close(mut self) {
        drop(self.masquerade.take());
        if let Some(writer) = self.leases.take() {
            writer.finish();
        }
    }
}

/// What went wrong with a device, for people who type commands.
pub(crate) fn explain(error: &TunError, what: &str) -> Failure {
    let code = match error {
        TunError::NoPrivilege => Code::Privilege,
        TunError::BadName { .. } => Code::Usage,
        _ => Code::Failed,
    };
    let message = format!("{what}: {error}");
    Failure { code, message }
}

/// The same for what is asked of the kernel beside it.
pub(crate) fn explain_netlink(error: &NetlinkError, what: &str) -> Failure {
    let code = match error {
        NetlinkError::NoPrivilege { .. } => Code::Privilege,
        _ => Code::Failed,
    };
    let message = format!("{what}: {error}");
    Failure { code, message }
}

fn open_device(config: &config::Tun) -> Outcome<Tun> {
    let options = TunOptions {
        name: Some(config.name.clone()),
        queues: 1,
        offload: true,
    };
    let mut queues = Tun::open(&options).map_err(|error| match error {
        TunError::BadName { .. } => Failure {
            code: Code::Config,
            message: format!("[tun] name: {error}"),
        },
        error => explain(&error, "[tun]"),
    })?;
    let device = queues.pop().ok_or_else(|| Failure {
        code: Code::Failed,
        message: "[tun]: the kernel gave no queue".into(),
    })?;
    configure(config, device.name()).map_err(|error| explain_netlink(&error, "[tun]"))?;
    Ok(device)
}

/// Up, with the first address of each pool.
fn configure(config: &config::Tun, name: &str) -> Result<(), NetlinkError> {
    let mut kernel = Netlink::open()?;
    let link = kernel.link(name)?.ok_or_else(|| NetlinkError::Missing {
        doing: format!("finding {name}"),
    })?;
    kernel.set_link(link.index, None, Some(MTU))?;
    for pool in &config.pool {
        if let Some(own) = pool.nth(1) {
            let mut address = Address::new((own, pool.prefix_len()));
            address.no_detection = own.is_ipv6();
            kernel.add_address(link.index, &address)?;
        }
    }
    kernel.set_link(link.index, Some(true), None)
}

/// Clients reach more than this machine only if it forwards.
fn warn_of_no_forwarding(config: &config::Tun) {
    for (v4, file) in [
        (true, "/proc/sys/net/ipv4/ip_forward"),
        (false, "/proc/sys/net/ipv6/conf/all/forwarding"),
    ] {
        let wanted = config.routes.iter().any(|route| route.is_ipv4() == v4);
        let off = std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "0");
        if wanted && off {
            let name = file.trim_start_matches("/proc/sys/").replace('/', ".");
            output::tell(format_args!(
                "[tun] routes: this machine does not forward; clients reach nothing behind it until `sysctl -w {name}=1`"
            ));
        }
    }
}

/// A table of nftables that is ours alone; it goes with this value, and with the next start if this process is killed.
struct Masquerade {
    table: String,
}

impl Masquerade {
    fn start(config: &config::Tun) -> Outcome<Self> {
        let table = format!(
            "adit_{}",
            config.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
        );
        let name = &config.name;
        let masquerade = |pool: &Network| {
            let family = if pool.is_ipv4() { "ip" } else { "ip6" };
            format!("add rule inet {table} out {family} saddr {pool} oifname != {name:?} masquerade\n")
        };
        let chain = "type nat hook postrouting priority srcnat;";
        let rules = format!(
            "add table inet {table}\ndelete table inet {table}\nadd table inet {table}\n\
             add chain inet {table} out {{ {chain} }}\n{}",
            config.pool.iter().map(masquerade).collect::<String>()
        );
        nft(&rules)?;
        Ok(Self { table })
    }
}

impl Drop for Masquerade {
    fn drop(&mut self) {
        if let Err(failure) = nft(&format!("delete table inet {}\n", self.table)) {
            output::complain(&failure.message);
        }
    }
}

fn nft(rules: &str) -> Outcome {
    let what = "[tun] nat: nft";
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .or_fail(
            Code::Failed,
            format!("{what} (install nftables, or set nat = false)"),
        )?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes()).or_fail(Code::Failed, what)?;
    }
    let done = child.wait_with_output().or_fail(Code::Failed, what)?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let denied = said.contains("Operation not permitted");
    Err(Failure {
        code: if denied { Code::Privilege } else { Code::Failed },
        message: format!("{what}: {}", said.trim()),
    })
}

/// What clients have, by their names.
type Leases = BTreeMap<String, Vec<IpAddr>>;

fn read(file: &Path) -> Outcome<Leases> {
    let what = format!("{}: the relay's leases", file.display());
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Leases::new()),
        text => serde_json::from_str(&text.or_fail(Code::Config, &what)?).or_fail(Code::Config, &what),
    }
}

/// Writes leases beside the relay's thread; each writing says all there is to say.
struct Writer(JoinHandle<()>);

impl Writer {
    /// The writer, and what is told each lease that changes. It ends when that is dropped.
    fn start(file: PathBuf, leases: Leases) -> Outcome<(Self, impl FnMut(Lease) + Send + use<>)> {
        let (ring, rung) = sync_channel(1);
        let leases = Arc::new(Mutex::new(leases));
        let told = Arc::clone(&leases);
        let work = move || {
            while let Ok(()) = rung.recv() {
                let now = lock(&leases).clone();
                if let Err(error) = write(&file, &now) {
                    tracing::warn!(%error, file = %file.display(), "the leases were not kept");
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("adit-leases".into())
            .spawn(work)
            .or_fail(Code::Failed, "thread")?;
        let tell = move |lease: Lease| {
            let client = lease.client.to_string();
            if lease.addresses.is_empty() {
                lock(&told).remove(&client);
            } else {
                lock(&told).insert(client, lease.addresses);
            }
            // A full channel rings already.
            let _ = ring.try_send(());
        };
        Ok((Self(thread), tell))
    }

    fn finish(self) {
        // A writer that panicked has said so.
        let _ = self.0.join();
    }
}

fn lock(leases: &Mutex<Leases>) -> MutexGuard<'_, Leases> {
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(file: &Path, leases: &Leases) -> std::io::Result<()> {
    std::fs::create_dir_all(files::folder_of(file))?;
    files::replace(file, 0o600, serde_json::to_string_pretty(leases)?.as_bytes())
}
