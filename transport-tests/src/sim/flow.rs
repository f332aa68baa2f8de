//! A flow's progress, as both ends of the world see it.

use std::time::Duration;

use super::scenario::{self, Kind};

/// Bytes over time, in steps of [`History::STEP`].
#[derive(Clone, Debug, Default)]
pub struct History {
    steps: Vec<u64>,
    total: u64,
}

impl History {
    /// How finely it remembers.
    pub const STEP: Duration = Duration::from_millis(100);

    /// Adds bytes that arrived at `at`.
    pub fn add(&mut self, at: Duration, bytes: u64) {
        let step = (at.as_nanos() / Self::STEP.as_nanos()) as usize;
        if self.steps.len() <= step {
            self.steps.resize(step + 1, 0);
        }
        self.steps[step] += bytes;
        self.total += bytes;
    }

    /// All bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes from `from` to before `to`, both rounded down to steps.
    pub fn between(&self, from: Duration, to: Duration) -> u64 {
        let step = |at: Duration| ((at.as_nanos() / Self::STEP.as_nanos()) as usize).min(self.steps.len());
        self.steps[step(from)..step(to).max(step(from))].iter().sum()
    }

    /// Mean rate from `from` to `to`, Mbit/s.
    pub fn mbit(&self, from: Duration, to: Duration) -> f64 {
        let seconds = to.saturating_sub(from).as_secs_f64();
        if seconds > 0.0 {
            self.between(from, to) as f64 * 8.0 / seconds / 1e6
        } else {
            0.0
        }
    }

    /// Bytes of each step.
    pub fn steps(&self) -> &[u64] {
        &self.steps
    }
}

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
    /// The same over time.
    pub history: History,
    /// Bulk with `for_ms`: bytes the sender has decided on.
    pub cut: Option<u64>,
    /// When the last byte arrived.
    pub completion: Option<Duration>,
    /// One-way datagram latency, or request completion, in microseconds.
    pub latencies_us: Vec<u32>,
    /// Datagrams whose time passed before they were sent.
    pub expired: u64,
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
            history: History::default(),
            cut: None,
            delivered: 0,
            completion: None,
            latencies_us: Vec::new(),
            expired: 0,
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

    /// Notes payload that arrived intact.
    pub fn payload(&mut self, now: Duration, bytes: u64) {
        self.received += bytes;
        self.history.add(now, bytes);
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
