//! The figures of a run under their contracted keys.

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use transport_api::{Algorithm, Caps, Connection, ConnectionStats, Suite};

use super::protocol::Received;
use crate::measure::Usage;

/// The name of a suite in JSON.
pub(crate) fn suite_name(suite: Suite) -> &'static str {
    match suite {
        Suite::ChaCha20Poly1305 => "chacha20-poly1305",
        Suite::Aes256Gcm => "aes-256-gcm",
    }
}

/// The name of a congestion controller in JSON, as on the command line.
fn cc_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Cubic => "cubic",
        Algorithm::Bbr => "bbr",
        Algorithm::BbrLossy => "bbr-lossy",
        Algorithm::Fixed { .. } => "fixed",
    }
}

/// Packet counters summed over connections, and the newest one's path.
#[derive(Clone, Default)]
pub(crate) struct Packets {
    sent_packets: u64,
    declared_lost: u64,
    spurious: u64,
    retransmitted_bytes: u64,
    last: Option<(ConnectionStats, Suite)>,
}

impl Packets {
    pub(crate) fn add(&mut self, stats: &ConnectionStats, suite: Suite) {
        self.sent_packets += stats.sent_packets;
        self.declared_lost += stats.declared_lost;
        self.spurious += stats.spurious;
        self.retransmitted_bytes += stats.retransmitted_bytes;
        self.last = Some((*stats, suite));
    }
}

/// What a server has done for all its connections.
#[derive(Clone, Default)]
pub(crate) struct Totals {
    opened: u64,
    received: Received,
    packets: Packets,
    peak_connections: u64,
    open_now: u64,
    rss_before: u64,
    /// Since the last rise of the peak, once it was asked for: the question is dear.
    rss_at_peak: Option<u64>,
}

impl Totals {
    pub(crate) fn opened(&mut self) {
        if self.opened == 0 {
            self.rss_before = Usage::now().rss_bytes;
        }
        self.opened += 1;
        self.open_now += 1;
        if self.open_now > self.peak_connections {
            self.peak_connections = self.open_now;
            self.rss_at_peak = None;
        }
    }

    pub(crate) fn received(&mut self, received: Received) {
        self.received.bytes += received.bytes;
        self.received.datagrams += received.datagrams;
        self.received.micros = self.received.micros.max(received.micros);
    }

    pub(crate) fn ended(&mut self, connection: &Connection) {
        if self.open_now == self.peak_connections {
            self.rss_at_peak.get_or_insert_with(|| Usage::now().rss_bytes);
        }
        self.open_now -= 1;
        self.packets.add(&connection.stats(), connection.suite());
    }

    pub(crate) fn server_json(&self) -> Value {
        let each = self
            .rss_at_peak
            .unwrap_or(0)
            .saturating_sub(self.rss_before)
            .checked_div(self.peak_connections);
        Figures {
            received: self.received,
            handshakes: self.opened,
            packets: self.packets.clone(),
            connections: self.peak_connections,
            rss_per_connection: each,
            ..Figures::default()
        }
        .json()
    }
}

/// Everything a run measured.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) workload: Option<&'static str>,
    pub(crate) seconds: Option<f64>,
    pub(crate) received: Received,
    pub(crate) handshakes: u64,
    pub(crate) handshakes_per_s: Option<f64>,
    pub(crate) failed: Option<u64>,
    pub(crate) resumed: Option<u64>,
    pub(crate) datagrams_sent: Option<u64>,
    pub(crate) datagrams_delivered: Option<u64>,
    /// Of handshakes, or of echoes; with load where there is one.
    pub(crate) latency: Option<Histogram<u64>>,
    /// Of echoes before the load.
    pub(crate) unloaded_latency: Option<Histogram<u64>>,
    /// Of datagrams there and back.
    pub(crate) datagram_latency: Option<Histogram<u64>>,
    pub(crate) packets: Packets,
    pub(crate) usage_before: Usage,
    pub(crate) rss_per_connection: Option<u64>,
    pub(crate) connections: u64,
    pub(crate) offload: Option<Caps>,
}

impl Figures {
    /// Payload as the receiver got it, over the receiver's time.
    pub(crate) fn gbit_per_s(&self) -> Option<f64> {
        let micros = self.received.micros;
        (micros > 0).then(|| self.received.bytes as f64 * 8.0 / micros as f64 / 1000.0)
    }

    pub(crate) fn json(&self) -> Value {
        let usage = Usage::now();
        let stats = self.packets.last.as_ref().map(|(stats, _)| stats);
        let micros = |duration: std::time::Duration| duration.as_secs_f64() * 1e6;
        json!({
            "workload": self.workload,
            "seconds": self.seconds,
            "bytes": self.received.bytes,
            "gbit_per_s": self.gbit_per_s(),
            "handshakes": self.handshakes,
            "handshakes_per_s": self.handshakes_per_s,
            "failed": self.failed,
            "resumed": self.resumed,
            "datagrams_sent": self.datagrams_sent,
            "datagrams_delivered": self.datagrams_delivered,
            "sent_packets": self.packets.sent_packets,
            "declared_lost": self.packets.declared_lost,
            "spurious": self.packets.spurious,
            "retransmitted_bytes": self.packets.retransmitted_bytes,
            "latency_us": quantiles(self.latency.as_ref()),
            "unloaded_latency_us": quantiles(self.unloaded_latency.as_ref()),
            "datagram_latency_us": quantiles(self.datagram_latency.as_ref()),
            "rtt_us": { "min": stats.map(|s| micros(s.min_rtt)), "smoothed": stats.map(|s| micros(s.srtt)) },
            "path_mtu": stats.map(|s| s.mtu),
            "cwnd_bytes": stats.map(|s| s.cwnd),
            "cc": stats.map(|s| cc_name(s.algorithm)),
            "cipher": self.packets.last.as_ref().map(|(_, suite)| suite_name(*suite)),
            "gso": self.offload.map(|offload| offload.gso),
            "gro": self.offload.map(|offload| offload.gro),
            "cpu_user_s": usage.cpu_user_s - self.usage_before.cpu_user_s,
            "cpu_sys_s": usage.cpu_sys_s - self.usage_before.cpu_sys_s,
            "max_rss_bytes": usage.max_rss_bytes,
            "rss_per_connection_bytes": self.rss_per_connection,
            "connections": self.connections,
        })
    }
}

/// Nanoseconds up to a minute with three digits.
pub(crate) fn latency() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are constant"))
}

/// In microseconds; nulls where nothing was measured.
fn quantiles(times: Option<&Histogram<u64>>) -> Value {
    let times = times.filter(|times| !times.is_empty());
    let at = |quantile: f64| times.map(|times| times.value_at_quantile(quantile) as f64 / 1000.0);
    json!({ "p50": at(0.5), "p99": at(0.99), "p999": at(0.999) })
}
