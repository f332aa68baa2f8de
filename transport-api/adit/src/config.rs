//! relay.toml: what may stand in it, how the environment overrides it, and how mistakes are told.
//!
//! Precedence: default < file < environment `ADIT_SECTION_KEY` (lists by commas).

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde::Deserialize;
use transport_api::{
    Algorithm, ClientId, EndpointConfig,
    relay::{Network, TenantId},
};

use crate::{
    cli::{self, Access as AccessMode, Cc},
    exit::{Code, Context, Outcome, fail},
    keyring::Paths,
};

/// Workers of one address.
pub(crate) const MAX_WORKERS: usize = EndpointConfig::MAX_WORKERS;
/// Addresses of a bound port (`Proxy-Public-Address`).
const MAX_PUBLIC: usize = transport_api::masque::bind::address::MAX_ADDRESSES;
/// The fastest fixed rate, Mbit/s.
const MAX_MBIT: u64 = 100_000;

/// A relay's whole configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) listen: Listen,
    #[serde(default)]
    pub(crate) identity: Identity,
    #[serde(default)]
    pub(crate) access: Access,
    #[serde(default)]
    pub(crate) targets: Targets,
    #[serde(default)]
    pub(crate) limits: Limits,
    #[serde(default)]
    pub(crate) bind: Bind,
    #[serde(default)]
    pub(crate) drain: Drain,
    #[serde(default)]
    pub(crate) transport: Transport,
    #[serde(default)]
    pub(crate) tun: Tun,
    #[serde(default)]
    pub(crate) metrics: Metrics,
    #[serde(default)]
    pub(crate) status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    /// Addresses on which clients are served.
    pub(crate) udp: Vec<SocketAddr>,
    /// Threads, each with a socket, that serve an address together; 0: one for each core.
    pub(crate) workers: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Identity {
    /// The relay's key file, relative to the configuration.
    pub(crate) key: PathBuf,
    /// The signed bundle, relative to the configuration; its epoch is the one served.
    pub(crate) bundle: PathBuf,
    /// A running relay makes its next static keys at half of the bundle's validity, if it may write the files.
    pub(crate) rotate: bool,
}

impl Identity {
    /// Both files.
    pub(crate) fn paths(&self) -> Paths {
        Paths {
            key: self.key.clone(),
            bundle: self.bundle.clone(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Access {
    /// Everyone with the bundle, or the clients below.
    #[serde(deserialize_with = "access_mode")]
    pub(crate) mode: AccessMode,
    /// `client_id`s let in by `allowlist`.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) clients: Vec<ClientId>,
    /// `client_id`s kept out in either mode.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) revoked: Vec<ClientId>,
    /// Bearer tokens, each with its tenant.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) tokens: Vec<Word>,
    /// `user:password`, each with its tenant.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) users: Vec<Word>,
    /// Public keys of who issues access tokens, relative to the configuration.
    pub(crate) issuers: Vec<PathBuf>,
}

/// `TENANT:SHA256`: a secret word, of which only the hash is known here.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) tenant: TenantId,
    pub(crate) hash: [u8; 32],
}

impl std::str::FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "wanted TENANT:SHA256, with 64 lower-case hex digits".to_string();
        let (tenant, hash) = text.rsplit_once(':').ok_or_else(wanted)?;
        // Ids have the same form.
        let hash: ClientId = hash.parse().map_err(|_| wanted())?;
        Ok(Self {
            tenant: tenant.parse().map_err(|error| format!("{tenant:?}: {error}"))?,
            hash: *hash.as_bytes(),
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Drain {
    /// The bundle of the relay that goes on when this one drains, relative to the configuration.
    pub(crate) successor: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Targets {
    /// Networks allowed although private.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) allow: Vec<Network>,
    /// Networks denied although public; stronger than `allow`.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) deny: Vec<Network>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Clients at once.
    pub(crate) sessions: usize,
    /// Tunnels of one client at once.
    pub(crate) tunnels_per_session: usize,
    /// Each direction; 0: no limit.
    pub(crate) mbit_per_session: u64,
    /// A file that says what each tenant may use, relative to the configuration.
    pub(crate) tenants: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bind {
    /// Clients may have ports of this machine (CONNECT-UDP bind).
    pub(crate) enabled: bool,
    /// The addresses that clients are told they are reached at; empty: those by which this machine reaches the world.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) public: Vec<IpAddr>,
    /// Compression contexts of one port at once.
    pub(crate) max_contexts: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Transport {
    /// Congestion control of what the relay sends.
    #[serde(deserialize_with = "congestion_control")]
    pub(crate) cc: Cc,
    /// Send so many megabits a second to each client, whatever is lost, instead; 0: do not.
    pub(crate) fixed_mbit: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tun {
    /// Serve IP tunnels (CONNECT-IP) through a TUN device.
    pub(crate) enabled: bool,
    /// One network of IPv4, one of IPv6, or both; the relay takes the first address of each.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) pool: Vec<Network>,
    /// The device.
    pub(crate) name: String,
    /// What clients are told to send here, the pools aside.
    #[serde(deserialize_with = "parsed_list")]
    pub(crate) routes: Vec<Network>,
    /// Clients reach each other.
    pub(crate) between_clients: bool,
    /// Clients leave by this machine's addresses (masquerade, by nftables).
    pub(crate) nat: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metrics {
    /// Where Prometheus finds the counters; empty: nowhere.
    #[serde(deserialize_with = "optional_address")]
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Status {
    /// Where `adit status` asks, relative to the configuration; empty: nowhere; not set: a default by the relay's id.
    pub(crate) socket: Option<PathBuf>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            udp: vec![SocketAddr::from(([0u16; 8], 4433))],
            workers: 0,
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            key: "identity.key".into(),
            bundle: "relay.bundle".into(),
            rotate: true,
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            mode: AccessMode::Open,
            clients: Vec::new(),
            revoked: Vec::new(),
            tokens: Vec::new(),
            users: Vec::new(),
            issuers: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 100_000,
            tunnels_per_session: 128,
            mbit_per_session: 0,
            tenants: None,
        }
    }
}

impl Default for Bind {
    fn default() -> Self {
        Self {
            enabled: true,
            public: Vec::new(),
            max_contexts: 256,
        }
    }
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            cc: Cc::Bbr,
            fixed_mbit: 0,
        }
    }
}

impl Default for Tun {
    fn default() -> Self {
        Self {
            enabled: false,
            pool: ["10.77.0.0/16", "fd77::/48"]
                .iter()
                .filter_map(|pool| pool.parse().ok())
                .collect(),
            name: "adit0".into(),
            routes: Vec::new(),
            between_clients: false,
            nat: false,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
        }
    }
}

fn access_mode<'de, D: serde::Deserializer<'de>>(from: D) -> Result<AccessMode, D::Error> {
    match String::deserialize(from)?.as_str() {
        "open" => Ok(AccessMode::Open),
        "allowlist" => Ok(AccessMode::Allowlist),
        other => Err(serde::de::Error::custom(format!(
            "mode {other:?}: wanted \"open\" or \"allowlist\""
        ))),
    }
}

fn congestion_control<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Cc, D::Error> {
    let name = String::deserialize(from)?;
    Cc::from_str(&name, false).map_err(|_| {
        serde::de::Error::custom(format!("cc {name:?}: wanted \"bbr\", \"bbr-lossy\" or \"cubic\""))
    })
}

fn parsed_list<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let parse = |text: String| {
        text.parse()
            .map_err(|error| serde::de::Error::custom(format!("{text:?}: {error}")))
    };
    Vec::<String>::deserialize(from)?.into_iter().map(parse).collect()
}

fn optional_address<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| serde::de::Error::custom(format!("{text:?}: wanted an address and a port")))
}

impl Listen {
    /// How many workers an address gets.
    pub(crate) fn worker_count(&self) -> usize {
        match self.workers {
            0 => cores(),
            some => some,
        }
    }
}

/// Cores this process may use, as far as they can have workers.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_WORKERS))
}

impl Config {
    /// Reads the file, then the environment over it. Paths become relative to the file.
    pub(crate) fn load(path: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(path).or_fail(Code::Config, path.display())?;
        let shown = path.display().to_string();
        let mut config = Self::parse(&text, &shown, |name| std::env::var(name).ok())?;
        let folder = path.parent().unwrap_or(Path::new("."));
        config.identity.key = folder.join(&config.identity.key);
        config.identity.bundle = folder.join(&config.identity.bundle);
        let named = [&mut config.limits.tenants, &mut config.drain.successor];
        for path in named.into_iter().flatten().chain(&mut config.access.issuers) {
            *path = folder.join(&path);
        }
        if let Some(socket) = config
            .status
            .socket
            .as_mut()
            .filter(|path| !path.as_os_str().is_empty())
        {
            *socket = folder.join(&socket);
        }
        Ok(config)
    }

    fn parse(text: &str, shown: &str, environment: impl Fn(&str) -> Option<String>) -> Outcome<Self> {
        let config: Self = toml::from_str(text).or_else(|error| explain(shown, text, &error))?;
        let table: toml::Table = toml::from_str(text).or_else(|error| explain(shown, text, &error))?;
        let config = match overlay(table, environment)? {
            Some(table) => table
                .try_into()
                .or_fail(Code::Config, "environment over the configuration")?,
            None => config,
        };
        config.check(shown)?;
        Ok(config)
    }

    fn check(&self, shown: &str) -> Outcome {
        if self.listen.udp.is_empty() {
            return fail(
                Code::Config,
                format!("{shown}: [listen] udp is empty; name at least one address"),
            );
        }
        if self.listen.workers > MAX_WORKERS {
            return fail(
                Code::Config,
                format!("{shown}: [listen] workers: at most {MAX_WORKERS}"),
            );
        }
        if self.tun.enabled {
            self.check_tun(shown)?;
        }
        if self.bind.public.len() > MAX_PUBLIC {
            return fail(
                Code::Config,
                format!("{shown}: [bind] public: at most {MAX_PUBLIC} addresses"),
            );
        }
        if self.transport.fixed_mbit > MAX_MBIT {
            return fail(
                Code::Config,
                format!("{shown}: [transport] fixed_mbit: at most {MAX_MBIT}"),
            );
        }
        if self.limits.sessions == 0 || self.limits.tunnels_per_session == 0 {
            return fail(
                Code::Config,
                format!("{shown}: [limits] sessions and tunnels_per_session must be at least 1"),
            );
        }
        Ok(())
    }
}

impl Transport {
    /// How fast the relay sends.
    pub(crate) fn congestion(&self) -> Algorithm {
        match self.fixed_mbit {
            0 => self.cc.into(),
            mbit => cli::fixed(mbit),
        }
    }
}

impl Config {
    /// One loop carries the packets of a device, so it has one address and one worker.
    fn check_tun(&self, shown: &str) -> Outcome {
        let wrong = if self.tun.pool.is_empty() {
            "[tun] pool is empty; name a network of IPv4, of IPv6, or one of each"
        } else if self.listen.udp.len() > 1 {
            "[tun] enabled wants one address in [listen] udp; [::] takes IPv4 as well"
        } else if self.listen.workers > 1 {
            "[tun] enabled wants [listen] workers = 1, or 0"
        } else {
            return Ok(());
        };
        fail(Code::Config, format!("{shown}: {wrong}"))
    }
}

/// Every key with the shape of its value, as the environment may set it.
const KEYS: &[(&str, &str, Shape)] = &[
    ("listen", "udp", Shape::List),
    ("listen", "workers", Shape::Number),
    ("identity", "key", Shape::Text),
    ("identity", "bundle", Shape::Text),
    ("identity", "rotate", Shape::Truth),
    ("access", "mode", Shape::Text),
    ("access", "clients", Shape::List),
    ("access", "revoked", Shape::List),
    ("access", "tokens", Shape::List),
    ("access", "users", Shape::List),
    ("access", "issuers", Shape::List),
    ("drain", "successor", Shape::Text),
    ("targets", "allow", Shape::List),
    ("targets", "deny", Shape::List),
    ("limits", "sessions", Shape::Number),
    ("limits", "tunnels_per_session", Shape::Number),
    ("limits", "mbit_per_session", Shape::Number),
    ("limits", "tenants", Shape::Text),
    ("bind", "enabled", Shape::Truth),
    ("bind", "public", Shape::List),
    ("bind", "max_contexts", Shape::Number),
    ("transport", "cc", Shape::Text),
    ("transport", "fixed_mbit", Shape::Number),
    ("tun", "enabled", Shape::Truth),
    ("tun", "pool", Shape::List),
    ("tun", "name", Shape::Text),
    ("tun", "routes", Shape::List),
    ("tun", "between_clients", Shape::Truth),
    ("tun", "nat", Shape::Truth),
    ("metrics", "listen", Shape::Text),
    ("status", "socket", Shape::Text),
];

#[derive(Clone, Copy)]
enum Shape {
    Text,
    List,
    Number,
    Truth,
}

/// The table with what the environment sets; nothing when it sets nothing.
fn overlay(
    mut table: toml::Table,
    environment: impl Fn(&str) -> Option<String>,
) -> Outcome<Option<toml::Table>> {
    let mut changed = false;
    for (section, key, shape) in KEYS {
        let name = format!("ADIT_{}_{}", section.to_uppercase(), key.to_uppercase());
        let Some(text) = environment(&name) else { continue };
        let value = match shape {
            Shape::Text => toml::Value::String(text),
            Shape::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                toml::Value::Array(items.map(|item| toml::Value::String(item.into())).collect())
            }
            Shape::Number => {
                toml::Value::Integer(text.parse().or_fail(Code::Config, format!("{name}={text}"))?)
            }
            Shape::Truth => {
                toml::Value::Boolean(text.parse().or_fail(Code::Config, format!("{name}={text}"))?)
            }
        };
        let section = table
            .entry(*section)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert((*key).to_string(), value);
            changed = true;
        }
    }
    Ok(changed.then_some(table))
}

/// File, line, column, what is wrong, and the nearest known key.
fn explain<T>(shown: &str, text: &str, error: &toml::de::Error) -> Outcome<T> {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let message = error.message();
    let hint = unknown_key(message)
        .and_then(nearest)
        .map(|key| format!("; did you mean `{key}`?"));
    fail(
        Code::Config,
        format!("{shown}:{line}:{column}: {message}{}", hint.unwrap_or_default()),
    )
}

fn unknown_key(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

fn nearest(unknown: &str) -> Option<&'static str> {
    let known = KEYS.iter().flat_map(|(section, key, _)| [*section, *key]);
    let near = known
        .map(|key| (strsim::damerau_levenshtein(unknown, key), key))
        .min()?;
    (near.0 <= 3).then_some(near.1)
}

/// The commented relay.toml that `init relay` writes.
pub(crate) fn template(port: u16, access: AccessMode) -> String {
    let mode = match access {
        AccessMode::Open => "open",
        AccessMode::Allowlist => "allowlist",
    };
    format!(
        r#"# Relay configuration. Each key may also be set as ADIT_SECTION_KEY (lists by commas).
[listen]
udp = ["[::]:{port}"]
# workers = 0                 # threads that share the load of an address; 0: one for each core

[identity]                    # rotate = false: no new static keys at half of the bundle's validity
key = "identity.key"          # mode 0600; keep a copy, it is who this relay is
bundle = "relay.bundle"       # what clients need; hand it out

[access]                      # revoked = ["client_id"]: kept out in either mode
mode = "{mode}"                 # open | allowlist
clients = []
# tokens = ["TENANT:SHA256"]  # bearer tokens, users = the same of user:password, issuers = ["issuer.pub"] of access tokens

[targets]                     # everything public is allowed; nothing private, loopback, link-local, multicast or metadata is
allow = []
deny = []

[limits]
sessions = 100000
tunnels_per_session = 128
mbit_per_session = 0          # 0: no limit
# tenants = "tenants.toml"    # what each tenant may use

# [drain]
# successor = "other.bundle"  # on SIGTERM clients are told to go on there

[bind]                        # ports of this machine for clients, who are then reached from everywhere (CONNECT-UDP bind)
enabled = true
public = []                   # what the world calls this machine, behind 1:1 NAT; empty: its own addresses
max_contexts = 256            # peers of one port whose packets need no address

[transport]
cc = "bbr"                    # "bbr-lossy" for links that lose more than 2 % without a queue, or "cubic"

[tun]                         # IP tunnels (CONNECT-IP); needs CAP_NET_ADMIN
enabled = false
pool = ["10.77.0.0/16", "fd77::/48"]   # the relay takes the first address of each
name = "adit0"
routes = []                   # what else clients send here; ["0.0.0.0/0", "::/0"] is everything
between_clients = false       # true: clients reach each other
nat = false                   # true: clients leave by this machine's addresses (nftables)

[metrics]
listen = "127.0.0.1:9464"     # Prometheus text; "" turns it off

[status]                      # what `adit status` asks: a socket of mode 0600; "" turns it off
# socket = "/run/adit/status.sock"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Outcome<Config> {
        Config::parse(text, "relay.toml", |_| None)
    }

    #[test]
    fn the_template_is_valid_and_says_the_defaults() {
        let config = parse(&template(4433, AccessMode::Open)).unwrap();
        assert_eq!(config.listen.udp, Listen::default().udp);
        assert_eq!(config.listen.workers, Listen::default().workers);
        assert_eq!(config.limits.sessions, Limits::default().sessions);
        assert_eq!(config.metrics.listen, Metrics::default().listen);
        assert!(config.bind.enabled && config.bind.public.is_empty());
        assert_eq!(config.bind.max_contexts, Bind::default().max_contexts);
        assert_eq!((config.identity.rotate, config.status.socket), (true, None));
    }

    #[test]
    fn an_unknown_key_names_line_column_and_a_suggestion() {
        let failure = parse("[limits]\nsesions = 3\n").unwrap_err();
        assert!(
            failure.message.starts_with("relay.toml:2:1: unknown field"),
            "{failure}"
        );
        assert!(failure.message.ends_with("did you mean `sessions`?"), "{failure}");
        assert_eq!(failure.code, Code::Config);
    }

    #[test]
    fn bad_values_name_their_place() {
        for (text, wanted) in [
            ("[listen]\nudp = [\"here\"]\n", "relay.toml:2:"),
            (
                "[access]\nmode = \"closed\"\n",
                "wanted \"open\" or \"allowlist\"",
            ),
            ("[access]\nclients = [\"zz\"]\n", "relay.toml:2:"),
            ("[targets]\nallow = [\"10.0.0.0/99\"]\n", "relay.toml:2:"),
            ("[limits]\nsessions = -1\n", "relay.toml:2:"),
            ("[transport]\ncc = \"reno\"\n", "relay.toml:2:"),
            ("[listen]\nworkers = 65\n", "[listen] workers: at most 64"),
            ("[bind]\npublic = [\"relay\"]\n", "relay.toml:2:"),
            ("[limits\n", "relay.toml:1:"),
            ("[identity]\nrotate = \"yes\"\n", "relay.toml:2:"),
            ("[access]\nrevoked = [\"zz\"]\n", "relay.toml:2:"),
            ("[access]\ntokens = [\"acme\"]\n", "wanted TENANT:SHA256"),
            ("[access]\nusers = [\"a b:00\"]\n", "relay.toml:2:"),
            ("[drain]\nsucessor = \"x\"\n", "did you mean `successor`?"),
            ("[status]\nsocked = \"\"\n", "did you mean `socket`?"),
        ] {
            let failure = parse(text).unwrap_err();
            assert!(failure.message.contains(wanted), "{text}: {failure}");
            assert_eq!(failure.code, Code::Config);
        }
    }

    #[test]
    fn the_environment_is_stronger_than_the_file() {
        let set = |name: &str| match name {
            "ADIT_LIMITS_SESSIONS" => Some("7".to_string()),
            "ADIT_TARGETS_ALLOW" => Some("10.0.0.0/8, fd00::/8".to_string()),
            _ => None,
        };
        let config = Config::parse("[limits]\nsessions = 3\n", "relay.toml", set).unwrap();
        assert_eq!((config.limits.sessions, config.targets.allow.len()), (7, 2));
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        for (text, word) in [
            ("[tun]\nenabled = true\npool = []\n", "pool is empty"),
            (
                "[tun]\nenabled = true\n[listen]\nudp = [\"0.0.0.0:1\", \"[::]:2\"]\n",
                "one address",
            ),
            ("[tun]\nenabled = true\n[listen]\nworkers = 2\n", "workers = 1"),
            (
                "[tun]\nenabled = true\npool = [\"10.77.0.1/16\"]\n",
                "10.77.0.1/16",
            ),
        ] {
            let failure = parse(text).unwrap_err();
            assert!(
                failure.code == Code::Config && failure.message.contains(word),
                "{failure}"
            );
        }
    }
}
