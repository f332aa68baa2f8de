//! Runs gathered by network, workload and variant, and the figures of each run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A figure of a workload: its key, its unit in a table, and whether more is better.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub key: &'static str,
    pub title: &'static str,
    pub more_is_better: bool,
}

const fn metric(key: &'static str, title: &'static str, more_is_better: bool) -> Metric {
    Metric {
        key,
        title,
        more_is_better,
    }
}

const FOREIGN: Metric = metric("foreign_percent", "others on the machine, % of a core", false);
const TRANSFER: [Metric; 5] = [
    metric("gbit_per_s", "Gbit/s", true),
    metric("sender_cpu_s_per_gb", "sender CPU-s/GB", false),
    metric("receiver_cpu_s_per_gb", "receiver CPU-s/GB", false),
    metric("lost_percent", "lost, %", false),
    FOREIGN,
];
const HANDSHAKES: [Metric; 6] = [
    metric("handshakes_per_s", "handshakes/s", true),
    metric("client_ms", "client CPU ms", false),
    metric("server_ms", "server CPU ms", false),
    metric("p50_us", "p50 µs, 16 at a time", false),
    metric("failed", "failed", false),
    FOREIGN,
];
const ECHO: [Metric; 4] = [
    metric("p50_us", "p50 µs", false),
    metric("p99_us", "p99 µs", false),
    metric("p999_us", "p99.9 µs", false),
    FOREIGN,
];
const IDLE: [Metric; 2] = [
    metric("kib_per_connection", "KiB a connection at the server", false),
    FOREIGN,
];

/// The figures of a workload; the first one counts.
pub fn metrics(workload: &str) -> &'static [Metric] {
    match workload {
        "handshakes" => &HANDSHAKES,
        "echo" => &ECHO,
        "idle" => &IDLE,
        _ => &TRANSFER,
    }
}

/// All runs of one variant.
#[derive(Clone, Debug)]
pub struct Cell {
    pub net: String,
    pub workload: String,
    pub variant: String,
    /// Of each round that did not fail: figures by key.
    pub rounds: BTreeMap<u64, BTreeMap<&'static str, f64>>,
    pub failed: u64,
}

impl Cell {
    /// In the order of first appearance.
    pub fn gather(runs: &[Value]) -> Vec<Self> {
        let mut cells: Vec<Self> = Vec::new();
        for run in runs {
            let word = |key: &str| run[key].as_str().unwrap_or_default().to_owned();
            let (net, workload, variant) = (word("net"), word("workload"), word("variant"));
            let known = cells
                .iter()
                .position(|cell| cell.net == net && cell.workload == workload && cell.variant == variant);
            let at = known.unwrap_or_else(|| {
                cells.push(Self {
                    net,
                    workload,
                    variant,
                    rounds: BTreeMap::new(),
                    failed: 0,
                });
                cells.len() - 1
            });
            if run["client"].is_null() {
                cells[at].failed += 1;
            } else {
                let round = run["round"].as_u64().unwrap_or_default();
                cells[at].rounds.insert(round, figures(run));
            }
        }
        cells
    }

    /// Every value of a figure, rising.
    pub fn values(&self, key: &str) -> Vec<f64> {
        let mut values: Vec<f64> = self
            .rounds
            .values()
            .filter_map(|round| round.get(key))
            .copied()
            .collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The program without its cipher.
    pub fn program(&self) -> &str {
        self.variant
            .rsplit_once('-')
            .map_or(&*self.variant, |(program, _)| program)
    }

    pub fn cipher(&self) -> &str {
        self.variant.rsplit_once('-').map_or("", |(_, cipher)| cipher)
    }

    pub fn json(&self) -> Value {
        let figures: BTreeMap<&str, Value> = metrics(&self.workload)
            .iter()
            .map(|metric| (metric.key, summary(&self.values(metric.key))))
            .collect();
        json!({
            "net": self.net, "workload": self.workload, "variant": self.variant,
            "failed": self.failed, "figures": figures, "rounds": self.rounds,
        })
    }
}

/// Median, least and largest.
pub fn summary(values: &[f64]) -> Value {
    match (values.first(), values.last()) {
        (Some(min), Some(max)) => json!({ "median": median(values), "min": min, "max": max }),
        _ => Value::Null,
    }
}

/// Of values that rise; not a number when there is none.
pub fn median(values: &[f64]) -> f64 {
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even.is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

fn figures(run: &Value) -> BTreeMap<&'static str, f64> {
    let client = &run["client"];
    let number = |value: &Value| value.as_f64();
    let per = |total: &Value, count: &Value, scale: f64| {
        let count = count.as_f64().filter(|count| *count > 0.0)?;
        Some(total.as_f64()? / count * scale)
    };
    let lost = || {
        let sent = number(&client["datagrams_sent"])?;
        let delivered = number(&client["datagrams_delivered"])?;
        (sent > 0.0).then(|| (1.0 - delivered / sent) * 100.0)
    };
    let memory = || {
        let grown = number(&run["rss_kib"])? - number(&run["rss_before_kib"])?;
        Some(grown / number(&client["connections"])?)
    };
    let foreign = || {
        let ours = number(&run["client_cpu_s"])? + number(&run["server_cpu_s"])?;
        Some(((number(&run["busy_s"])? - ours) / number(&run["took_s"])? * 100.0).max(0.0))
    };
    // What the server used is measured from outside, between the same moments.
    let client_cpu = json!(
        number(&client["cpu_user_s"])
            .zip(number(&client["cpu_sys_s"]))
            .map(|(user, system)| user + system)
    );
    let latency = &client["latency_us"];
    let all = [
        ("gbit_per_s", number(&client["gbit_per_s"])),
        ("sender_cpu_s_per_gb", per(&client_cpu, &client["bytes"], 1e9)),
        (
            "receiver_cpu_s_per_gb",
            per(&run["server_cpu_s"], &client["bytes"], 1e9),
        ),
        ("lost_percent", lost()),
        ("handshakes_per_s", number(&client["handshakes_per_s"])),
        ("client_ms", per(&client_cpu, &client["handshakes"], 1e3)),
        ("server_ms", per(&run["server_cpu_s"], &client["handshakes"], 1e3)),
        ("failed", number(&client["failed"])),
        ("p50_us", number(&latency["p50"])),
        ("p99_us", number(&latency["p99"])),
        ("p999_us", number(&latency["p999"])),
        ("kib_per_connection", memory()),
        ("foreign_percent", foreign()),
    ];
    all.into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}
