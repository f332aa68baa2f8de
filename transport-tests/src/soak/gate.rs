//! The gates: what must hold at the end of a run, each with its figure, its limit and how it was computed.

use serde::Serialize;

use super::{
    agreement::{Line, TOLERANCE},
    board::{KindTally, Sample, Tally},
};

/// Memory may grow by this over a whole run, however long, on the line through its samples.
const MEMORY_GROWTH_KIB: f64 = 16.0 * 1024.0;
/// Open descriptors likewise.
const DESCRIPTOR_GROWTH: f64 = 12.0;
/// The beginning of each part, in which buffers and pools grow to their size.
const WARM_UP: f64 = 0.3;
/// Fewer samples say nothing about a slope.
const MIN_SAMPLES: usize = 8;
/// Of the packets that random faults should have let through; queues take some as well.
const PACKETS_SHARE: f64 = 0.6;
/// A client that comes back has its first byte by then, milliseconds.
const RECONNECT_MS: f64 = 1000.0;
/// Pairs of samples looked at for a slope.
const MAX_POINTS: usize = 400;

/// One gate.
#[derive(Clone, Debug, Serialize)]
pub struct Gate {
    /// Its name.
    pub name: &'static str,
    /// Whether it passed.
    pub ok: bool,
    /// What was found.
    pub value: String,
    /// What was wanted.
    pub limit: String,
}

/// All gates over what a run wrote down.
pub fn judge(tally: &Tally, samples: &[Sample]) -> Vec<Gate> {
    vec![
        delivery(tally),
        order(tally),
        integrity(tally),
        rekey(tally),
        slope("memory slope", samples, MEMORY_GROWTH_KIB, "KiB", |s| {
            s.rss_kib as f64
        }),
        slope("descriptor slope", samples, DESCRIPTOR_GROWTH, "", |s| {
            s.descriptors as f64
        }),
        latency(tally),
        reconnect(tally),
    ]
}

fn delivery(tally: &Tally) -> Gate {
    let missing = tally.transfers_failed
        + tally.messages_lost
        + tally.connections_lost
        + tally.tunnels_refused
        + tally.connects_failed;
    let worst = tally
        .kinds
        .values()
        .filter(|kind| kind.packets_expected >= 50.0)
        .map(|kind| kind.packets_back as f64 / kind.packets_expected)
        .fold(1.0f64, f64::min);
    let carried = tally.transfers_done > 0 && tally.messages_back > 0 && tally.packets_back > 0;
    Gate {
        name: "delivery",
        ok: missing == 0
            && carried
            && worst >= PACKETS_SHARE
            && tally.transfers_done == tally.transfers_begun,
        value: format!(
            "{} of {} transfers, {} of {} messages, {} connections lost, {} tunnels and {} clients refused; packets ≥ {:.0} %",
            tally.transfers_done,
            tally.transfers_begun,
            tally.messages_back,
            tally.messages_sent,
            tally.connections_lost,
            tally.tunnels_refused,
            tally.connects_failed,
            worst * 100.0
        ),
        limit: format!(
            "all; packets ≥ {:.0} % of what the link lets through",
            PACKETS_SHARE * 100.0
        ),
    }
}

fn order(tally: &Tally) -> Gate {
    Gate {
        name: "order",
        ok: tally.order_broken == 0 && tally.messages_back > 0,
        value: format!(
            "{} of {} messages out of place",
            tally.order_broken, tally.messages_back
        ),
        limit: "0".into(),
    }
}

fn integrity(tally: &Tally) -> Gate {
    let wrong = tally.checksums_wrong + tally.bytes_wrong + tally.packets_twice;
    Gate {
        name: "integrity",
        ok: wrong == 0 && tally.checksums > 0,
        value: format!(
            "{} of {} checksums, {} messages or packets wrong, {} packets twice",
            tally.checksums_wrong, tally.checksums, tally.bytes_wrong, tally.packets_twice
        ),
        limit: "0".into(),
    }
}

fn rekey(tally: &Tally) -> Gate {
    let keys = tally.keys_wished > 0 && tally.keys_changed == tally.keys_wished;
    let bundles = tally.bundles_taken >= tally.bundles_wished;
    Gate {
        name: "rekey",
        ok: keys && bundles,
        value: format!(
            "{} of {} key updates, {} of {} bundles of {} relay rotations",
            tally.keys_changed, tally.keys_wished, tally.bundles_taken, tally.bundles_wished, tally.rotations
        ),
        limit: "all, at least one".into(),
    }
}

/// The growth that the line through the samples shows over the whole run; the worst of its parts counts.
fn slope(
    name: &'static str,
    samples: &[Sample],
    most: f64,
    unit: &str,
    figure: impl Fn(&Sample) -> f64,
) -> Gate {
    let whole = samples.last().map_or(0.0, |last| last.t);
    let parts = samples.chunk_by(|a, b| a.part == b.part);
    let slopes: Vec<f64> = parts
        .filter_map(|part| {
            let skip = (part.len() as f64 * WARM_UP) as usize;
            let points: Vec<(f64, f64)> = part
                .iter()
                .skip(skip)
                .map(|sample| (sample.t, figure(sample)))
                .collect();
            theil_sen(&points)
        })
        .collect();
    let Some(worst) = slopes.iter().copied().reduce(f64::max) else {
        return Gate {
            name,
            ok: false,
            value: "too few samples".into(),
            limit: format!("{MIN_SAMPLES} samples"),
        };
    };
    let growth = worst * whole;
    let peak = samples.iter().map(&figure).fold(0.0, f64::max);
    Gate {
        name,
        ok: growth <= most,
        value: format!("{worst:+.2} {unit}/s, {growth:+.0} {unit} over the run, peak {peak:.0} {unit}"),
        limit: format!("≤ {most:.0} {unit} over the run"),
    }
}

/// The median of the slopes of all pairs: a few wild samples do not move it.
fn theil_sen(points: &[(f64, f64)]) -> Option<f64> {
    if points.len() < MIN_SAMPLES {
        return None;
    }
    let step = points.len().div_ceil(MAX_POINTS);
    let points: Vec<(f64, f64)> = points.iter().copied().step_by(step).collect();
    let mut slopes = Vec::new();
    for (index, (t, y)) in points.iter().enumerate() {
        for (later, further) in points.iter().skip(index + 1) {
            if later > t {
                slopes.push((further - y) / (later - t));
            }
        }
    }
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied()
}

/// The kind of link that came nearest to its limit, or went furthest over it.
fn latency(tally: &Tally) -> Gate {
    let judged = |kind: &&KindTally| kind.lossy && kind.echo_limit_ms > 0.0 && kind.echo_ms.count() >= 50;
    let worst = tally
        .kinds
        .iter()
        .filter(|(_, kind)| judged(kind))
        .filter_map(|(name, kind)| {
            let p95 = kind.echo_ms.quantile(0.95)?;
            Some((name, p95, kind.echo_limit_ms))
        })
        .max_by(|a, b| (a.1 / a.2).total_cmp(&(b.1 / b.2)));
    match worst {
        Some((name, p95, limit)) => Gate {
            name: "latency under loss",
            ok: p95 <= limit,
            value: format!("p95 {p95:.0} ms in “{name}”"),
            limit: format!("≤ {limit:.0} ms there"),
        },
        None => Gate {
            name: "latency under loss",
            ok: false,
            value: "no phase with loss".into(),
            limit: "a phase with loss".into(),
        },
    }
}

fn reconnect(tally: &Tally) -> Gate {
    let p95 = tally.reconnect_ms.quantile(0.95);
    Gate {
        name: "reconnect time",
        ok: p95.is_some_and(|ms| ms <= RECONNECT_MS),
        value: p95.map_or_else(
            || "nobody came back".into(),
            |ms| {
                format!(
                    "p95 {ms:.0} ms, {} clients came back, {} of {} with data in the first flight",
                    tally.connects_resumed, tally.early_taken, tally.early_sent
                )
            },
        ),
        limit: format!("p95 ≤ {RECONNECT_MS:.0} ms to the first byte"),
    }
}

/// Medians of real sockets against those of the simulator.
pub fn agreement(lines: &[Line]) -> Gate {
    let worst = lines
        .iter()
        .max_by(|a, b| (a.ratio - 1.0).abs().total_cmp(&(b.ratio - 1.0).abs()));
    Gate {
        name: "agreement",
        ok: lines.iter().all(|line| line.ok),
        value: worst.map_or_else(String::new, |line| {
            format!("{:+.1} % in “{}”", (line.ratio - 1.0) * 100.0, line.scenario)
        }),
        limit: format!("within {:.0} %", TOLERANCE * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rss: impl Fn(f64) -> u64) -> Vec<Sample> {
        let at = |index: u32| f64::from(index) * 0.5;
        (0..60)
            .map(|index| Sample {
                t: at(index),
                rss_kib: rss(at(index)),
                descriptors: 40,
                ..Sample::default()
            })
            .collect()
    }

    fn memory(rss: impl Fn(f64) -> u64) -> bool {
        slope("memory slope", &samples(rss), MEMORY_GROWTH_KIB, "KiB", |s| {
            s.rss_kib as f64
        })
        .ok
    }

    #[test]
    fn growth_fails_and_a_warm_up_or_a_wild_sample_does_not() {
        assert!(memory(|_| 50_000));
        assert!(memory(|t| if t < 8.0 {
            20_000 + (t * 4000.0) as u64
        } else {
            52_000
        }));
        assert!(memory(|t| if (15.0..16.0).contains(&t) {
            400_000
        } else {
            50_000
        }));
        assert!(!memory(|t| 50_000 + (t * 1000.0) as u64));
    }

    #[test]
    fn a_run_that_carried_nothing_passes_nothing() {
        let gates = judge(&Tally::default(), &[]);
        assert!(gates.iter().all(|gate| !gate.ok), "{gates:?}");
    }

    #[test]
    fn slopes_are_not_drawn_across_a_restart() {
        let mut all = samples(|_| 50_000);
        let more = samples(|_| 90_000);
        all.extend(more.into_iter().map(|sample| Sample {
            t: sample.t + 30.0,
            part: 1,
            ..sample
        }));
        assert!(
            slope("memory slope", &all, MEMORY_GROWTH_KIB, "KiB", |s| s.rss_kib
                as f64)
            .ok
        );
    }
}
