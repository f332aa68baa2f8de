//! A flow's progress, as both ends of the world see it.

use std::time::Duration;

use super::scenario::{self, Kind};

/// One flow of one round.
pub struct Flow {
    /// What the scenario says.
    pub spec: scenario::Flow,
    /// Which session carries it.
    pub session: usize,
    /// Its place in the world; names it on the wire.
    pub index: u32,
    /// Virtual time at which it starts.
    pub start: Duration,
    /// Payload offered so far (bulk: bytes, datagrams: count, requests: asked).
    pub offered: u64,
    /// Payload bytes that arrived intact.
    pub received: u64,
    /// Requests that were answered in full, or datagrams that arrived.
    pub delivered: u64,
    /// When the last byte arrived.
    pub completion: Option<Duration>,
    /// One-way datagram latency, or request completion, in microseconds.
    pub latencies_us: Vec<u32>,
    /// Next time a datagram is due.
    pub next_datagram: Duration,
}

impl Flow {
    /// A flow that has not begun; `origin` is when its round began.
    pub fn new(spec: scenario::Flow, session: usize, index: u32, origin: Duration) -> Self {
        let start = origin + Duration::from_secs_f64(spec.start_ms / 1000.0);
        Self {
            spec,
            session,
            index,
            start,
            offered: 0,
            received: 0,
            delivered: 0,
            completion: None,
            latencies_us: Vec::new(),
            next_datagram: start,
        }
    }

    /// Whether this flow can end by itself, and so counts for `completed`.
    pub fn has_end(&self) -> bool {
        self.spec.kind != Kind::Datagrams
    }

    /// Between two datagrams at the offered rate.
    pub fn interval(&self) -> Duration {
        Duration::from_secs_f64(self.spec.size as f64 * 8.0 / (self.spec.rate_mbit * 1e6))
    }

    /// Whether the flow no longer offers anything at `now`.
    pub fn over(&self, now: Duration) -> bool {
        self.spec
            .for_ms
            .is_some_and(|ms| now >= self.start + Duration::from_secs_f64(ms / 1000.0))
    }

    /// Notes a request or datagram that arrived `latency` after it was offered.
    pub fn arrived(&mut self, latency: Duration) {
        self.delivered += 1;
        self.latencies_us
            .push(latency.as_micros().min(u128::from(u32::MAX)) as u32);
    }

    /// The report's name of the kind.
    pub fn kind_name(&self) -> &'static str {
        match self.spec.kind {
            Kind::Bulk => "bulk",
            Kind::Datagrams => "datagrams",
            Kind::Requests => "requests",
        }
    }
}
