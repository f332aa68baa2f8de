//! The command line: names and options are contracts.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use transport_api::{Algorithm, ClientId, ip::Network, relay::TenantId};

use crate::{
    exit::{Code, Outcome, fail},
    output,
};

/// Encrypted post-quantum transport for relays and VPNs.
#[derive(Parser)]
#[command(
    name = "adit",
    version,
    after_help = "Examples:\n  adit demo\n  adit connect relay.bundle --socks 127.0.0.1:1080"
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print exactly one JSON object on stdout (or one a line where said).
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Level of the log on stderr.
    #[arg(long, global = true, default_value = "warn", value_parser = ["off", "error", "warn", "info", "debug", "trace"])]
    pub(crate) log: String,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show everything at work on this machine: relay, client, targets, faults. No root needed.
    #[command(after_help = "Examples:\n  adit demo\n  adit demo --quick --json\n  sudo adit demo --vpn")]
    Demo(Demo),
    /// Make keys and configuration for a relay or a client.
    #[command(
        after_help = "Examples:\n  adit init relay --dir /etc/adit --endpoint relay.example:4433\n  adit init client --dir ~/.adit"
    )]
    Init {
        /// For whom.
        #[command(subcommand)]
        who: Init,
    },
    /// Look at a relay bundle, or make the next one.
    #[command(
        after_help = "Examples:\n  adit bundle show relay.bundle\n  adit bundle verify relay.bundle --relay-id 3f…"
    )]
    Bundle {
        /// What to do with it.
        #[command(subcommand)]
        what: Bundle,
    },
    /// Serve as a relay until SIGTERM (drains) or SIGINT (stops); SIGHUP reloads.
    #[command(
        after_help = "Examples:\n  adit relay --config /etc/adit/relay.toml\n  adit relay --config relay.toml --log info"
    )]
    Relay {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Write the secrets of every connection here: whoever reads the file reads the traffic.
        #[arg(long, value_name = "FILE")]
        key_log: Option<PathBuf>,
    },
    /// Connect to a relay and offer it to local programs.
    #[command(
        after_help = "Examples:\n  adit connect relay.bundle --socks 127.0.0.1:1080\n  adit connect relay.bundle --forward-udp 127.0.0.1:5353=9.9.9.9:53\n  adit connect second.bundle --via first.bundle --socks 127.0.0.1:1080"
    )]
    Connect(Box<Connect>),
    /// Make and read access tokens, which a relay with `[access] issuers` asks for.
    Token {
        /// What to do.
        #[command(subcommand)]
        what: Token,
    },
    /// Measure.
    #[command(
        after_help = "Examples:\n  adit bench server --dir /tmp/b --listen 127.0.0.1:4433\n  adit bench client /tmp/b/relay.bundle --workload bulk --json\n  adit bench client /tmp/b/relay.bundle --workload mixed --seconds 10 --json"
    )]
    Bench {
        /// Which end.
        #[command(subcommand)]
        end: Bench,
    },
    /// The version and what it was built from.
    #[command(after_help = "Examples:\n  adit version\n  adit version --json")]
    Version,
    /// Sessions, paths, drops and limits of a running relay.
    #[command(after_help = "Examples:\n  adit status\n  adit status --config /etc/adit/relay.toml --json")]
    Status(Status),
    /// Check what this machine has and lacks, and say what to do. Changes nothing.
    #[command(after_help = "Examples:\n  adit doctor\n  adit doctor --config /etc/adit/relay.toml --json")]
    Doctor(Doctor),
    /// Print shell completions: bash, elvish, fish, powershell or zsh.
    #[command(
        after_help = "Examples:\n  adit completions bash > ~/.local/share/bash-completion/completions/adit\n  adit completions zsh > ~/.zfunc/_adit"
    )]
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
pub(crate) struct Status {
    /// The relay's configuration file, which says where its socket is.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// The relay's socket.
    #[arg(long, conflicts_with = "config")]
    pub(crate) socket: Option<PathBuf>,
    /// How many sessions to list, at most 1000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) sessions: u32,
    /// How many sessions to pass over first.
    #[arg(long, default_value_t = 0)]
    pub(crate) skip: u32,
}

#[derive(Args)]
pub(crate) struct Doctor {
    /// A relay's configuration: with IP tunnels enabled there, what they want is needed.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Demo {
    /// A short form, at most five seconds.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Real TUN devices between two network namespaces.
    #[arg(long)]
    pub(crate) vpn: bool,
    /// Write the result here as a report.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Which of its own processes this is.
    #[cfg(target_os = "linux")]
    #[arg(long, value_enum, hide = true, requires_all = ["vpn", "folder"])]
    pub(crate) inside: Option<Inside>,
    /// What those share.
    #[cfg(target_os = "linux")]
    #[arg(long, hide = true, requires = "inside")]
    pub(crate) folder: Option<PathBuf>,
}

/// In which namespace of `demo --vpn` a process is.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Inside {
    /// The first of all, where the client is as well.
    Client,
    /// The relay's.
    Relay,
}

#[derive(Subcommand)]
pub(crate) enum Init {
    /// identity.key, relay.toml (commented) and relay.bundle.
    Relay {
        /// Where to put them.
        #[arg(long)]
        dir: PathBuf,
        /// The address clients will use.
        #[arg(long, value_name = "HOST:PORT")]
        endpoint: String,
        /// Who may connect.
        #[arg(long, value_enum, default_value_t = Access::Open)]
        access: Access,
    },
    /// issuer.key, which signs access tokens, and issuer.pub, which relays verify them with.
    Issuer {
        /// Where to put them.
        #[arg(long)]
        dir: PathBuf,
    },
    /// client.key; prints client_id.
    Client {
        /// Where to put it.
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Access {
    /// Everyone who holds the bundle.
    Open,
    /// Clients named in relay.toml.
    Allowlist,
}

#[derive(Subcommand)]
pub(crate) enum Bundle {
    /// Print what is in it.
    Show {
        /// The bundle.
        file: PathBuf,
    },
    /// Check signatures, validity and the relay's id.
    Verify {
        /// The bundle.
        file: PathBuf,
        /// 64 lower-case hex digits.
        #[arg(long)]
        relay_id: String,
    },
    /// Make a relay's next static keys and their bundle; the old keys serve on until their bundle ends.
    #[command(
        after_help = "Examples:\n  adit bundle rotate --config /etc/adit/relay.toml && systemctl reload adit\n  adit bundle rotate --config relay.toml --json"
    )]
    Rotate {
        /// The relay's configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Also while two pairs are in use: the older one, and whoever knows only its bundle, is dropped.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Token {
    /// Sign a token and print it.
    #[command(
        after_help = "Examples:\n  adit token issue --key issuer.key --tenant acme --client CLIENT_ID --hours 720 > acme.token\n  adit token issue --key issuer.key --tenant guests --mbit 20 --json"
    )]
    Issue(Issue),
    /// What a token says, and whether it is an issuer's.
    #[command(
        after_help = "Examples:\n  adit token show acme.token\n  adit token show acme.token --issuer issuer.pub --json"
    )]
    Show {
        /// The file with the token.
        file: PathBuf,
        /// The public key of the issuer that it should be from.
        #[arg(long, value_name = "FILE")]
        issuer: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct Issue {
    /// The issuer's key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// On whose account its tunnels are.
    #[arg(long)]
    pub(crate) tenant: TenantId,
    /// The one client that may show it; without it, it is for the one session that shows it first.
    #[arg(long, value_name = "CLIENT_ID")]
    pub(crate) client: Option<ClientId>,
    /// Megabits per second for all its tunnels together; 0: no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) mbit: u32,
    /// For how long from now.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=744))]
    pub(crate) hours: u64,
}

#[derive(Args)]
pub(crate) struct Connect {
    /// The relay's bundle.
    pub(crate) bundle: PathBuf,
    /// This client's key; without it a throw-away anonymous key.
    #[arg(long)]
    pub(crate) identity: Option<PathBuf>,
    /// Go through this relay first, which then sees where this client is but not what it does there; the relay of BUNDLE sees the
    /// reverse. Up to three, the outermost first.
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) via: Vec<PathBuf>,
    /// This client's key for the relays of --via. Another one than --identity, or they can tell together who it is.
    #[arg(long, value_name = "FILE")]
    pub(crate) via_identity: Option<PathBuf>,
    /// What the relay asks for: a file with an access token, or with another value of `authorization` such as "Bearer …".
    #[arg(long, value_name = "FILE")]
    pub(crate) token: Option<PathBuf>,
    /// Do not go where the relay says that it goes on when it ends.
    #[arg(long)]
    pub(crate) stay: bool,
    /// Serve SOCKS5 (CONNECT and UDP ASSOCIATE) here.
    #[arg(long, value_name = "ADDR")]
    pub(crate) socks: Option<SocketAddr>,
    /// Carry UDP from a local address to a target behind the relay.
    #[arg(long, value_name = "LOCAL=HOST:PORT")]
    pub(crate) forward_udp: Vec<Forward>,
    /// Carry TCP from a local address to a target behind the relay.
    #[arg(long, value_name = "LOCAL=HOST:PORT")]
    pub(crate) forward_tcp: Vec<Forward>,
    /// An IP tunnel as a TUN device of this name: addresses and routes are the relay's. Needs CAP_NET_ADMIN.
    #[arg(long, value_name = "NAME")]
    pub(crate) tun: Option<String>,
    /// Of what the relay routes, send only this through the tunnel.
    #[arg(long, value_name = "NETWORK")]
    pub(crate) route: Vec<Network>,
    /// While this runs, nothing leaves beside the tunnel but to networks with routes of their own, also while it is down.
    #[arg(long)]
    pub(crate) kill_switch: bool,
    /// Ask this resolver while the tunnel is there.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<IpAddr>,
    /// Keep a second path from this address of this machine in waiting: it takes over within a moment when the first falls silent.
    /// Without it, other addresses are tried then.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) standby: Option<IpAddr>,
    /// Congestion control.
    #[arg(long, value_enum, default_value_t = Cc::Bbr)]
    pub(crate) cc: Cc,
    /// Send so many megabits a second, whatever is lost: for links that are this client's alone.
    #[arg(long, value_name = "MBIT", conflicts_with_all = ["cc", "via"], value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) fixed_rate: Option<u64>,
    /// With --tun alone, where all that goes through it is TCP or adapts like it: leave that to the inner connections.
    #[arg(long, conflicts_with_all = ["cc", "fixed_rate", "via"])]
    pub(crate) no_cc: bool,
    /// Write the secrets of every connection here: whoever reads the file reads the traffic.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_log: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) busy_poll: BusyPoll,
}

#[derive(Args, Clone, Copy)]
pub(crate) struct BusyPoll {
    /// Look for packets for so long before sleeping: less latency for more processor time.
    #[arg(long = "busy-poll", value_name = "MICROSECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1000))]
    us: u64,
}

impl BusyPoll {
    pub(crate) fn time(self) -> Duration {
        Duration::from_micros(self.us)
    }
}

/// `LOCAL=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) local: SocketAddr,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl std::str::FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (local, target) = text.split_once('=').ok_or("wanted LOCAL=HOST:PORT")?;
        let local = local
            .parse()
            .map_err(|_| format!("{local}: wanted an address and a port, such as 127.0.0.1:5353"))?;
        let (host, port) = host_port(target)?;
        Ok(Self { local, host, port })
    }
}

/// Splits `HOST:PORT`; brackets around an IPv6 address are taken off.
pub(crate) fn host_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("{text}: wanted HOST:PORT"))?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0);
    match port {
        Some(port) if !host.is_empty() => Ok((host.to_string(), port)),
        _ => Err(format!("{text}: wanted HOST:PORT with a port from 1 to 65535")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cc {
    /// Model based: BBRv3.
    Bbr,
    /// The same on links that lose more than two packets of a hundred without a queue.
    BbrLossy,
    /// Loss based.
    Cubic,
}

impl Connect {
    /// How fast this client sends; who switches off what protects the network is told what that means.
    pub(crate) fn congestion(&self) -> Outcome<Algorithm> {
        if let Some(mbit) = self.fixed_rate {
            output::tell(format_args!(
                "--fixed-rate {mbit}: loss and delay are ignored; on a link that others use this takes it from them"
            ));
            return Ok(fixed(mbit));
        }
        if self.no_cc {
            if self.tun.is_none()
                || self.socks.is_some()
                || !self.forward_udp.is_empty()
                || !self.forward_tcp.is_empty()
            {
                return fail(
                    Code::Usage,
                    "--no-cc goes with --tun and without --socks and --forward: their streams need it",
                );
            }
            output::tell(format_args!(
                "--no-cc: nothing but the connections inside the tunnel adapts to the network; UDP that does not will flood it"
            ));
            return Ok(fixed(UNBOUNDED));
        }
        Ok(self.cc.into())
    }
}

/// More than any link carries, Mbit/s.
const UNBOUNDED: u64 = 100_000;

/// A constant rate in Mbit/s.
pub(crate) fn fixed(mbit: u64) -> Algorithm {
    Algorithm::Fixed {
        bytes_per_s: mbit * 125_000,
    }
}

impl From<Cc> for Algorithm {
    fn from(cc: Cc) -> Self {
        match cc {
            Cc::Bbr => Self::Bbr,
            Cc::BbrLossy => Self::BbrLossy,
            Cc::Cubic => Self::Cubic,
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The other end of `bench client`: writes DIR/relay.bundle, prints READY.
    Server(BenchServer),
    /// Run a workload against a bench server.
    Client(BenchClient),
}

#[derive(Args)]
pub(crate) struct BenchServer {
    /// Where to put the bundle.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// A concrete address; it goes into the bundle.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Cryptographic primitives.
    #[arg(long, value_enum, default_value_t = Primitives::Auto)]
    pub(crate) provider: Primitives,
    /// Write the secrets of every connection here: whoever reads the file reads the traffic.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_log: Option<PathBuf>,
    /// Threads that share the load, each with a socket; 0: one for each core.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=64))]
    pub(crate) workers: u8,
    #[command(flatten)]
    pub(crate) busy_poll: BusyPoll,
}

#[derive(Args, Clone)]
pub(crate) struct BenchClient {
    /// The server's bundle.
    pub(crate) bundle: PathBuf,
    /// Where to reach it instead of the bundle's address: through a link emulator, say.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) server: Option<SocketAddr>,
    /// What to do.
    #[arg(long, value_enum)]
    pub(crate) workload: Workload,
    /// For how long, counted from when the connections stand.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// How many connections.
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: u32,
    /// Bulk and mixed: how many streams of bulk on each connection.
    #[arg(long, default_value_t = 1)]
    pub(crate) streams: u32,
    /// Bytes of a datagram (default 1200) or an echo (default 1024).
    #[arg(long)]
    pub(crate) size: Option<usize>,
    /// The server sends: bulk, datagrams, the bulk of mixed.
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Handshakes: come back with the ticket of the connection before; only such are measured.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Congestion control; with --reverse the server's too.
    #[arg(long, value_enum, default_value_t = Cc::Bbr)]
    pub(crate) cc: Cc,
    /// Packet suite.
    #[arg(long, value_enum, default_value_t = Cipher::Auto)]
    pub(crate) cipher: Cipher,
    /// Cryptographic primitives.
    #[arg(long, value_enum, default_value_t = Primitives::Auto)]
    pub(crate) provider: Primitives,
    /// Write the secrets of every connection here: whoever reads the file reads the traffic.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_log: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) busy_poll: BusyPoll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Bytes on streams.
    Bulk,
    /// Unreliable datagrams as fast as congestion control allows.
    Datagrams,
    /// Open, echo one byte, close.
    Handshakes,
    /// Open that many and hold them.
    Idle,
    /// Ping-pong on one stream.
    Echo,
    /// Echo alone for a second (`unloaded_latency_us`), then beside bulk and a datagram of 1200 bytes every millisecond,
    /// which comes back (`datagram_latency_us`).
    Mixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cipher {
    /// AES where both ends have its instructions.
    Auto,
    /// ChaCha20-Poly1305.
    Chacha20,
    /// AES-256-GCM.
    Aes256,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Primitives {
    /// AWS-LC where it was compiled in, as every other command takes it.
    Auto,
    /// Pure Rust.
    Rust,
    /// AWS-LC.
    AwsLc,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn forwards_parse() {
        let forward: Forward = "127.0.0.1:53=[2001:db8::1]:53".parse().unwrap();
        assert_eq!((forward.host.as_str(), forward.port), ("2001:db8::1", 53));
        assert!("127.0.0.1:53".parse::<Forward>().is_err());
        assert!("127.0.0.1:53=host:0".parse::<Forward>().is_err());
        assert!("53=host:53".parse::<Forward>().is_err());
    }
}
