//! What happens beside the flows: events, cross traffic, and the times in which figures are taken.

use serde::Deserialize;

use super::Side;

/// Something that happens at a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, first.
    pub at_ms: f64,
    /// Again and again after that.
    #[serde(default)]
    pub every_ms: Option<f64>,
    /// What.
    pub kind: EventKind,
    /// For `rate`, `delay`, `loss`, `outage` and `freeze`: one direction alone; missing: both.
    #[serde(default)]
    pub link: Option<Direction>,
    /// For `rate`: from now on.
    #[serde(default)]
    pub rate_mbit: Option<f64>,
    /// For `delay`: one way, from now on.
    #[serde(default)]
    pub delay_ms: Option<f64>,
    /// For `loss`: its probability from now on, each packet on its own.
    #[serde(default)]
    pub p: Option<f64>,
    /// For `outage` and `freeze`: how long.
    #[serde(default)]
    pub for_ms: Option<f64>,
}

impl Event {
    /// What a plot says at its mark.
    pub fn describe(&self) -> String {
        let figure = match self.kind {
            EventKind::Rate => self.rate_mbit.map(|rate| format!(" {rate} Mbit/s")),
            EventKind::Delay => self.delay_ms.map(|delay| format!(" {delay} ms")),
            EventKind::Loss => self.p.map(|p| format!(" {} %", p * 100.0)),
            EventKind::Outage | EventKind::Freeze => self.for_ms.map(|length| format!(" {length} ms")),
            _ => None,
        };
        format!("{}{}", self.kind.name(), figure.unwrap_or_default())
    }
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The client's NAT gives it another port.
    RebindPort,
    /// The client's NAT gives it another address.
    RebindAddr,
    /// The bottleneck changes.
    Rate,
    /// The propagation delay changes.
    Delay,
    /// Random loss changes.
    Loss,
    /// Everything is lost for a while.
    Outage,
    /// Everything is held for a while, as by Wi-Fi that looks at other channels.
    Freeze,
    /// The client updates its keys.
    KeyUpdate,
    /// The client closes.
    Close,
}

impl EventKind {
    /// Its name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::RebindPort => "rebind-port",
            Self::RebindAddr => "rebind-addr",
            Self::Rate => "rate",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Outage => "outage",
            Self::Freeze => "freeze",
            Self::KeyUpdate => "key-update",
            Self::Close => "close",
        }
    }
}

/// One direction of the link.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

/// Traffic of others over the same bottleneck.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cross {
    /// Which model.
    pub kind: CrossKind,
    /// Who sends the data.
    #[serde(default)]
    pub from: Side,
    /// When it begins.
    #[serde(default)]
    pub start_ms: f64,
    /// Stops after this; missing: runs on.
    #[serde(default)]
    pub for_ms: Option<f64>,
    /// TCP: payload to transfer; missing: without end.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// `udp-cbr`: rate of IP packets.
    #[serde(default)]
    pub rate_mbit: f64,
    /// `udp-cbr`: bytes of each IP packet.
    #[serde(default = "ethernet")]
    pub size: usize,
}

fn ethernet() -> usize {
    1500
}

/// Models of cross traffic.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum CrossKind {
    /// RFC 5681 with SACK.
    TcpReno,
    /// RFC 9438 with SACK.
    TcpCubic,
    /// Packets at a constant rate.
    UdpCbr,
}

impl CrossKind {
    /// Its name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::TcpReno => "tcp-reno",
            Self::TcpCubic => "tcp-cubic",
            Self::UdpCbr => "udp-cbr",
        }
    }
}

/// A time whose figures the report gives apart.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// From here, in steps of 100 ms.
    pub from_ms: f64,
    /// To here.
    pub to_ms: f64,
}
