//! Scenario files: what the link does, what flows over it, what is expected.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use transport_core::Algorithm;

mod beside;
mod link;

pub use beside::{Cross, CrossKind, Direction, Event, EventKind, Window};
pub use link::{Aqm, Blackhole, Link, Loss, Policer, Reorder};

/// One scenario as its TOML file says it. Unknown keys are errors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name for reports.
    pub name: String,
    /// Virtual seconds after which the run ends, finished or not.
    pub seconds: f64,
    /// Both directions of the link.
    #[serde(default)]
    pub link: Links,
    /// What is carried.
    #[serde(default)]
    pub flow: Vec<Flow>,
    /// What happens meanwhile.
    #[serde(default)]
    pub event: Vec<Event>,
    /// Traffic of others on the same link.
    #[serde(default)]
    pub cross: Vec<Cross>,
    /// Times whose figures the report gives apart.
    #[serde(default)]
    pub window: Vec<Window>,
    /// Bounds on keys of the report.
    #[serde(default)]
    pub expect: BTreeMap<String, Bound>,
    /// Knobs of the transport under test.
    #[serde(default)]
    pub transport: Transport,
    /// Open this many connections one after another, each with all flows.
    #[serde(default = "one")]
    pub repeat_handshakes: u32,
    /// Packet suite; the simulator's default is chacha20.
    #[serde(default)]
    pub cipher: Cipher,
    /// How connections after the first come back.
    #[serde(default)]
    pub resume: Resume,
}

fn one() -> u32 {
    1
}

/// How a client comes back.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Resume {
    /// With a full handshake.
    #[default]
    Never,
    /// With a ticket of a connection before.
    Ticket,
    /// With a ticket, and with all requests in the first flight.
    Early,
}

/// The two directions: `up` is client to server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// Client to server.
    #[serde(default)]
    pub up: Link,
    /// Server to client.
    #[serde(default)]
    pub down: Link,
}

/// What a flow carries.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Bytes on one stream.
    Bulk,
    /// Unreliable datagrams at an offered rate.
    Datagrams,
    /// Streams that ask and are answered.
    Requests,
}

/// Who sends.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The side that dialled.
    #[default]
    Client,
    /// The side that listens.
    Server,
}

impl Side {
    /// The peer.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// One flow.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// What it carries.
    pub kind: Kind,
    /// Who sends (requests: who asks).
    #[serde(default)]
    pub from: Side,
    /// Flows with the same number share one connection.
    #[serde(default)]
    pub connection: u32,
    /// Bulk: payload bytes; with `for_ms`, missing means without end.
    #[serde(default)]
    pub bytes: u64,
    /// Datagrams: offered rate in Mbit/s of payload.
    #[serde(default)]
    pub rate_mbit: f64,
    /// Datagrams: payload bytes of each.
    #[serde(default = "thousand")]
    pub size: usize,
    /// Datagrams: dropped unsent after this.
    #[serde(default)]
    pub deadline_ms: Option<f64>,
    /// Requests: how many.
    #[serde(default)]
    pub count: u32,
    /// Requests: bytes asked with.
    #[serde(default)]
    pub request_bytes: u64,
    /// Requests: bytes answered with.
    #[serde(default)]
    pub response_bytes: u64,
    /// Requests: at most this many at once.
    #[serde(default = "hundred")]
    pub concurrency: u32,
    /// When it starts.
    #[serde(default)]
    pub start_ms: f64,
    /// Datagrams and bulk: stops offering after this.
    #[serde(default)]
    pub for_ms: Option<f64>,
    /// Congestion control of the flow's connection.
    #[serde(default)]
    pub cc: Option<String>,
    /// The flow's connection is so much further away, one way, behind the shared bottleneck.
    #[serde(default)]
    pub extra_delay_ms: f64,
    /// Message class.
    #[serde(default)]
    pub class: Option<Class>,
}

impl Flow {
    /// Payload bytes of a bulk flow, if its time does not cut it.
    pub fn total(&self) -> u64 {
        if self.bytes == 0 { 1 << 60 } else { self.bytes }
    }

    /// What `cc` names; none: the product's default.
    pub fn algorithm(&self) -> Option<Algorithm> {
        match self.cc.as_deref()? {
            "bbr" => Some(Algorithm::Bbr),
            "bbr-lossy" => Some(Algorithm::BbrLossy),
            "cubic" => Some(Algorithm::Cubic),
            _ => None,
        }
    }
}

fn thousand() -> usize {
    1000
}

fn hundred() -> u32 {
    100
}

/// Message classes by their scenario names.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of the scheduler's classes")]
pub enum Class {
    Control,
    Realtime,
    Interactive,
    Bulk,
    Background,
}

/// Packet suites by their scenario names.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Cipher {
    /// ChaCha20-Poly1305.
    #[default]
    Chacha20,
    /// AES-256-GCM.
    Aes256,
}

/// Knobs of the transport under test; missing keys keep the product's defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transport {
    /// Receive window of a stream at the start.
    pub initial_stream_window: Option<u64>,
    /// Receive window of the connection at the start.
    pub initial_connection_window: Option<u64>,
    /// Bidirectional streams the server lets the client open at the start.
    pub max_streams_bidi: Option<u64>,
    /// Give up on a silent peer after this.
    pub idle_timeout_ms: Option<f64>,
    /// Give up on a handshake after this.
    pub handshake_timeout_ms: Option<f64>,
    /// Addresses of the world are IPv6.
    pub ipv6: bool,
}

/// Bounds on one number of the report.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bound {
    /// At least.
    pub min: Option<f64>,
    /// At most.
    pub max: Option<f64>,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong, with file, line and column.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads a scenario from its text.
    ///
    /// # Errors
    /// What is wrong, with line and column.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Lets every flow use this congestion control.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn choose(&mut self, cc: &str) -> Result<(), String> {
        for flow in &mut self.flow {
            flow.cc = Some(cc.into());
        }
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        if !(self.seconds > 0.0 && self.seconds <= 86_400.0) {
            return Err("seconds: must be above 0 and at most 86400".into());
        }
        for (index, flow) in self.flow.iter().enumerate() {
            let fault = match flow.kind {
                Kind::Bulk if flow.bytes == 0 && flow.for_ms.is_none() => "bulk needs bytes or for_ms",
                Kind::Datagrams if flow.rate_mbit <= 0.0 => "datagrams need rate_mbit",
                Kind::Datagrams if !(20..=1400).contains(&flow.size) => "size must be 20 to 1400",
                Kind::Requests if flow.count == 0 || flow.concurrency == 0 => {
                    "requests need count and concurrency"
                }
                _ => continue,
            };
            return Err(format!("flow {index}: {fault}"));
        }
        for (index, flow) in self.flow.iter().enumerate() {
            if flow.cc.is_some() && flow.algorithm().is_none() {
                return Err(format!("flow {index}: cc: wanted \"bbr\", \"bbr-lossy\" or \"cubic\""));
            }
        }
        self.check_beside()
    }

    fn check_beside(&self) -> Result<(), String> {
        for (index, cross) in self.cross.iter().enumerate() {
            if cross.kind == CrossKind::UdpCbr && (cross.rate_mbit <= 0.0 || cross.size < 28) {
                return Err(format!("cross {index}: udp-cbr needs rate_mbit, and size of 28 or more"));
            }
        }
        for (index, window) in self.window.iter().enumerate() {
            if !(window.from_ms >= 0.0 && window.from_ms < window.to_ms) {
                return Err(format!("window {index}: from_ms must be below to_ms"));
            }
        }
        for (index, event) in self.event.iter().enumerate() {
            let missing = match event.kind {
                EventKind::Rate if event.rate_mbit.is_none_or(|rate| rate <= 0.0) => "rate_mbit above 0",
                EventKind::Delay if event.delay_ms.is_none() => "delay_ms",
                EventKind::Loss if event.p.is_none() => "p",
                EventKind::Outage | EventKind::Freeze if event.for_ms.is_none() => "for_ms",
                _ if event.every_ms.is_some_and(|every| every <= 0.0) => "every_ms above 0",
                _ => continue,
            };
            return Err(format!("event {index}: {} needs {missing}", event.kind.name()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_name_line_and_column() {
        let error = Scenario::parse("name = \"x\"\nseconds = 1\n[link.up]\nrate_mbits = 3\n").unwrap_err();
        assert!(error.contains("line 4, column 1"), "{error}");
    }

    #[test]
    fn a_flow_without_its_amount_is_refused() {
        let error = Scenario::parse("name = \"x\"\nseconds = 1\n[[flow]]\nkind = \"bulk\"\n").unwrap_err();
        assert!(error.contains("flow 0: bulk needs bytes or for_ms"), "{error}");
    }

    #[test]
    fn what_an_event_or_cross_traffic_lacks_is_named() {
        let parse = |rest: &str| Scenario::parse(&format!("name = \"x\"\nseconds = 1\n{rest}")).unwrap_err();
        assert!(parse("[[event]]\nat_ms = 1\nkind = \"rate\"\n").contains("event 0: rate needs rate_mbit"));
        assert!(parse("[[cross]]\nkind = \"udp-cbr\"\n").contains("cross 0: udp-cbr needs rate_mbit"));
        assert!(parse("[[window]]\nfrom_ms = 2\nto_ms = 1\n").contains("window 0"));
        assert!(parse("[[cross]]\nkind = \"tcp-vegas\"\n").contains("line 4"));
    }

    #[test]
    fn loss_models_parse() {
        let text =
            "name = \"x\"\nseconds = 1\n[link.up]\nloss = { kind = \"burst\", p = 0.3, max_burst = 3 }\n";
        let scenario = Scenario::parse(text).unwrap();
        assert!(matches!(
            scenario.link.up.loss,
            Some(Loss::Burst { max_burst: 3, .. })
        ));
    }
}
