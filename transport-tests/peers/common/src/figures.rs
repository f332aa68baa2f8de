//! Counting, and the JSON line at the end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::options::Options;

/// What a receiver counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    pub bytes: u64,
    pub datagrams: u64,
    span: Option<(Instant, Instant)>,
}

/// Bytes of an encoded count.
pub const RECEIVED_LEN: usize = 24;

impl Received {
    /// Bytes that came just now.
    pub fn add(&mut self, bytes: u64) {
        let now = Instant::now();
        self.bytes += bytes;
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
    }

    /// Datagrams that came just now.
    pub fn add_datagrams(&mut self, datagrams: u64, bytes: u64) {
        self.datagrams += datagrams;
        self.add(bytes);
    }

    /// The count as it travels: bytes, datagrams, microseconds from the first to the last.
    pub fn encode(&self) -> [u8; RECEIVED_LEN] {
        let micros = self
            .span
            .map_or(0, |(first, last)| (last - first).as_micros() as u64);
        let mut out = [0; RECEIVED_LEN];
        for (slot, number) in out.chunks_exact_mut(8).zip([self.bytes, self.datagrams, micros]) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        out
    }
}

/// Kernel clock ticks a second: `USER_HZ`, 100 on every Linux that Rust supports.
const TICKS: f64 = 100.0;

/// Processor time of this process so far, in seconds: its own, and the kernel's for it. Zeros without /proc.
fn processor() -> [f64; 2] {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The 14th and 15th field, counted behind the name in brackets.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut times = fields.split_ascii_whitespace().skip(11);
    let mut seconds = || {
        let ticks: f64 = times.next()?.parse().ok()?;
        Some(ticks / TICKS)
    };
    [seconds().unwrap_or_default(), seconds().unwrap_or_default()]
}

/// Everything a client found out.
#[derive(Debug)]
pub struct Figures {
    /// Processor time when the work began.
    before: [f64; 2],
    /// Bytes, datagrams and microseconds as the receiver counted them.
    pub received: Option<[u64; 3]>,
    pub datagrams_sent: Option<u64>,
    pub handshakes: u64,
    pub handshakes_per_s: Option<f64>,
    pub failed: u64,
    /// Nanoseconds of each round trip or handshake.
    pub latencies: Vec<u64>,
}

impl Figures {
    /// Of work that begins now.
    #[expect(clippy::new_without_default, reason = "it reads a clock")]
    pub fn new() -> Self {
        Self {
            before: processor(),
            received: None,
            datagrams_sent: None,
            handshakes: 0,
            handshakes_per_s: None,
            failed: 0,
            latencies: Vec::new(),
        }
    }

    /// Takes over what the server answered.
    pub fn counted(&mut self, answer: &[u8]) -> crate::Result<()> {
        let number = |at: usize| answer.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        let all = (number(0), number(8), number(16));
        let (Some(bytes), Some(datagrams), Some(micros)) = all else {
            return Err("the server ended early".into());
        };
        self.received = Some([bytes, datagrams, micros]);
        Ok(())
    }

    /// Takes over the latencies of handshakes and how long all of them took.
    pub fn shook_hands(&mut self, latencies: Vec<u64>, failed: u64, took: Duration) {
        self.handshakes = latencies.len() as u64;
        self.handshakes_per_s = Some(self.handshakes as f64 / took.as_secs_f64());
        self.failed = failed;
        self.latencies = latencies;
    }

    /// Prints the line.
    pub fn print(mut self, options: &Options) {
        self.latencies.sort_unstable();
        println!("{}", self.json(options));
    }

    fn json(&self, options: &Options) -> Value {
        let quantile = |at: f64| {
            let last = self.latencies.len().checked_sub(1)?;
            let rank = (self.latencies.len() as f64 * at) as usize;
            Some(self.latencies[rank.min(last)] as f64 / 1000.0)
        };
        let gbit_per_s = self
            .received
            .filter(|[_, _, micros]| *micros > 0)
            .map(|[bytes, _, micros]| bytes as f64 * 8.0 / micros as f64 / 1000.0);
        let [user, system] = processor();
        json!({
            "workload": options.workload.name(),
            "seconds": options.seconds,
            "bytes": self.received.map(|[bytes, ..]| bytes),
            "gbit_per_s": gbit_per_s,
            "handshakes": self.handshakes,
            "handshakes_per_s": self.handshakes_per_s,
            "failed": self.failed,
            "datagrams_sent": self.datagrams_sent,
            "datagrams_delivered": self.datagrams_sent.and(self.received).map(|[_, datagrams, _]| datagrams),
            "latency_us": { "p50": quantile(0.5), "p99": quantile(0.99), "p999": quantile(0.999) },
            "cpu_user_s": user - self.before[0],
            "cpu_sys_s": system - self.before[1],
            "connections": options.connections,
        })
    }
}
