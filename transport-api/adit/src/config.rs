//! relay.toml: what may stand in it, how the environment overrides it, and how mistakes are told.
//!
//! Precedence: default < file < environment `ADIT_SECTION_KEY` (lists by commas).

mod access;
mod bind;
mod keys;
mod template;
mod tenants;
mod tun;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde::Deserialize;
use transport_api::{Algorithm, EndpointConfig, relay::Network};

use access::Access;
pub(crate) use access::Word;
use bind::Bind;
pub(crate) use template::template;
pub(crate) use tenants::Tenants;
pub(crate) use tun::Tun;

use crate::{
    cli::{self, Cc},
    exit::{Code, Context, Outcome, fail},
    keyring::Paths,
};

/// Workers of one address.
pub(crate) const MAX_WORKERS: usize = EndpointConfig::MAX_WORKERS;
/// The longest look for packets before a thread sleeps.
const MAX_BUSY_POLL_US: u64 = EndpointConfig::MAX_BUSY_POLL.as_micros() as u64;
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
    /// How long a thread looks for packets before it sleeps, microseconds.
    pub(crate) busy_poll_us: u64,
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
pub(crate) struct Transport {
    /// Congestion control of what the relay sends.
    #[serde(deserialize_with = "congestion_control")]
    pub(crate) cc: Cc,
    /// Send so many megabits a second to each client, whatever is lost, instead; 0: do not.
    pub(crate) fixed_mbit: u64,
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
            busy_poll_us: 0,
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

impl Default for Transport {
    fn default() -> Self {
        Self {
            cc: Cc::Bbr,
            fixed_mbit: 0,
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
        let config: Self = toml::from_str(text).or_else(|error| keys::explain(shown, text, &error))?;
        let table: toml::Table = toml::from_str(text).or_else(|error| keys::explain(shown, text, &error))?;
        let config = match keys::overlay(table, environment)? {
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
        if self.listen.busy_poll_us > MAX_BUSY_POLL_US {
            return fail(
                Code::Config,
                format!("{shown}: [listen] busy_poll_us: at most {MAX_BUSY_POLL_US}"),
            );
        }
        self.tun.check(&self.listen, shown)?;
        self.bind.check(shown)?;
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

#[cfg(test)]
mod tests;
