//! What a link does to packets.

use serde::{Deserialize, Serialize};

/// Impairments of one direction; missing keys mean none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Bottleneck rate in Mbit/s of IP packets; none: infinite.
    pub rate_mbit: Option<f64>,
    /// One-way propagation delay.
    pub delay_ms: f64,
    /// Extra delay, uniform in `[0, jitter_ms]`.
    pub jitter_ms: f64,
    /// Drop-tail bound in packets.
    pub queue_packets: Option<usize>,
    /// Drop-tail bound in bytes.
    pub queue_bytes: Option<usize>,
    /// Manages the queue by time instead of by length alone.
    pub aqm: Option<Aqm>,
    /// A token bucket before the queue.
    pub policer: Option<Policer>,
    /// Random loss.
    pub loss: Option<Loss>,
    /// Late delivery of some packets.
    pub reorder: Option<Reorder>,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that one random byte is replaced.
    pub corrupt: f64,
    /// Larger IP packets vanish.
    pub mtu: Option<usize>,
    /// Passes for a while, drops everything for a while, again and again.
    pub blackhole: Option<Blackhole>,
    /// The n-th datagrams (from 1) of this direction that vanish.
    pub drop: Vec<u64>,
}

/// Models of random loss.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Loss {
    /// Each packet on its own.
    Iid {
        /// Probability.
        p: f64,
    },
    /// Independent, but never more than `max_burst` in a row.
    Burst {
        /// Probability.
        p: f64,
        /// Longest run of drops.
        max_burst: u32,
    },
    /// Two states: good loses nothing, bad everything.
    Gilbert {
        /// Probability of turning bad, per packet.
        p: f64,
        /// Probability of recovering, per packet.
        r: f64,
    },
}

/// Some packets arrive later than those behind them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reorder {
    /// Probability.
    pub p: f64,
    /// How much later.
    pub extra_ms: f64,
}

/// A periodic outage.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Blackhole {
    /// Passing time.
    pub on_ms: f64,
    /// Dropping time.
    pub off_ms: f64,
}

/// Active queue management.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aqm {
    /// RFC 8289; marks what can be marked.
    Codel,
}

/// A token bucket without a queue.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Policer {
    /// Rate of IP packets that pass for ever.
    pub rate_mbit: f64,
    /// Bytes that pass at once after a pause.
    pub burst_bytes: f64,
}
