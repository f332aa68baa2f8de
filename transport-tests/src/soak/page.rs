//! What a run leaves behind: `report.html`, `samples.csv`, `results.json`, and a table on the screen.

use std::{fmt::Write as _, fs, io, path::Path};

use serde_json::{Value, json};

use super::{
    agreement::{self, TOLERANCE},
    board::{Sample, Tally},
    gate::Gate,
    goals::Goal,
    state::State,
};
use crate::report::{Page, Plot, Series};

/// A finished run.
#[derive(Debug)]
pub struct Results<'a> {
    /// All it knows.
    pub state: &'a State,
    /// Its gates.
    pub gates: Vec<Gate>,
    /// What the product promises.
    pub goals: Vec<Goal>,
}

impl Results<'_> {
    /// Whether every gate passed.
    pub fn ok(&self) -> bool {
        self.gates.iter().all(|gate| gate.ok)
    }

    /// Writes all files into `folder`.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join("report.html"), self.html())?;
        fs::write(folder.join("samples.csv"), csv(&self.state.samples))?;
        fs::write(folder.join("results.json"), format!("{:#}\n", self.json()))
    }

    /// One object, with the same figures as the page.
    pub fn json(&self) -> Value {
        let tally = &self.state.tally;
        json!({
            "ok": self.ok(),
            "profile": self.state.profile,
            "seed": self.state.seed,
            "commit": self.state.commit,
            "seconds": self.state.elapsed_s,
            "parts": self.state.parts,
            "plant": self.state.plant,
            "gates": self.gates,
            "goals": self.goals,
            "agreement": self.state.agreement,
            "kinds": tally.kinds.iter().map(|(name, kind)| (name.clone(), json!({
                "seconds": kind.seconds,
                "up_mbit": mbit(kind.up_bytes, kind.seconds),
                "down_mbit": mbit(kind.down_bytes, kind.seconds),
                "echo_ms": { "p50": kind.echo_ms.quantile(0.5), "p95": kind.echo_ms.quantile(0.95), "max": kind.echo_ms.max_ms() },
                "echo_limit_ms": kind.echo_limit_ms,
                "packets_sent": kind.packets_sent,
                "packets_back": kind.packets_back,
            }))).collect::<serde_json::Map<_, _>>(),
            "transfers": tally.transfers_done,
            "up_bytes": tally.up_bytes,
            "down_bytes": tally.down_bytes,
            "messages": tally.messages_back,
            "packets_sent": tally.packets_sent,
            "packets_back": tally.packets_back,
            "tunnels": tally.tunnels_opened,
            "connects": tally.connects,
            "resumed": tally.connects_resumed,
            "early_taken": tally.early_taken,
            "key_updates": tally.keys_changed,
            "rotations": tally.rotations,
            "migrations": tally.migrations,
            "nat_rebinds": tally.nat_rebinds,
            "rebinds": tally.rebinds,
            "outages": tally.outages,
            "faults": tally.faults,
            "notes": tally.notes,
        })
    }

    /// The gates and promises as lines of text.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let width = self.gates.iter().map(|gate| gate.name.len()).max().unwrap_or(0);
        for gate in &self.gates {
            let verdict = if gate.ok { "pass" } else { "FAIL" };
            let _ = writeln!(
                out,
                "{verdict}  {:width$}  {} (wanted: {})",
                gate.name, gate.value, gate.limit
            );
        }
        for goal in &self.goals {
            let _ = writeln!(
                out,
                "      {}: {} (promised: {}) {}",
                goal.name,
                shown(goal),
                goal.target,
                verdict(goal)
            );
        }
        for line in &self.state.agreement {
            let _ = writeln!(
                out,
                "      {}: simulated {:.2} s, real {:.2} s, {:+.1} %",
                line.scenario,
                line.simulated_s,
                line.real_s,
                (line.ratio - 1.0) * 100.0
            );
        }
        for note in self.state.tally.notes.iter().take(10) {
            let _ = writeln!(out, "      fault: {note}");
        }
        out
    }

    fn html(&self) -> String {
        let state = self.state;
        let verdict = if self.ok() {
            "Every gate passed.".to_owned()
        } else {
            let failed: Vec<&str> = self
                .gates
                .iter()
                .filter(|gate| !gate.ok)
                .map(|gate| gate.name)
                .collect();
            format!("FAILED: {}.", failed.join(", "))
        };
        let mut page = Page::new(format!("Adit soak: {}", state.profile.name()))
            .text(&format!(
                "{verdict} {:.0} s of load in {} part(s), seed {}, commit {}. Real relay and clients on loopback sockets; an \
                 impairment shim between them runs the links of the simulator.",
                state.elapsed_s, state.parts, state.seed, state.commit
            ));
        if let Some(plant) = state.plant {
            page = page.text(&format!(
                "A fault was planted ({plant:?}): the gate “{}” has to fail.",
                plant.gate()
            ));
        }
        if !self.gates.is_empty() {
            page = page.heading("Gates").table(
                &["gate", "result", "found", "wanted"],
                self.gates.iter().map(|gate| {
                    let result = if gate.ok { "pass" } else { "FAIL" };
                    [gate.name, result, &gate.value, &gate.limit].map(str::to_owned)
                }),
            );
        }
        page = promises(page, &self.goals);
        page = agreement_table(page, &state.agreement);
        page = carried(page, &state.tally);
        if !state.samples.is_empty() {
            page = page
                .heading("Over time")
                .text("Marks are what the run did to the connection. All plots begin with the load; the CSV beside this page holds every sample.");
            for plot in plots(state) {
                page = page.plot(&plot);
            }
        }
        if !state.tally.notes.is_empty() {
            page = page
                .heading("Faults")
                .text(&format!("{} in all; the first:", state.tally.faults))
                .code(&state.tally.notes.join("\n"));
        }
        page.finish()
    }
}

fn mbit(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        bytes as f64 * 8.0 / seconds / 1e6
    } else {
        0.0
    }
}

fn shown(goal: &Goal) -> String {
    goal.value.map_or_else(
        || "not measured".into(),
        |value| format!("{value:.2} {}", goal.unit),
    )
}

fn verdict(goal: &Goal) -> &'static str {
    match goal.met {
        None => "",
        Some(true) => "met",
        Some(false) => "missed here",
    }
}

fn promises(page: Page, goals: &[Goal]) -> Page {
    if goals.is_empty() {
        return page;
    }
    page.heading("Promises of the product")
        .text("Measured, not gates: they depend on the machine and on what else runs on it.")
        .table(
            &["promise", "target", "found", "", "how"],
            goals.iter().map(|goal| {
                [
                    goal.name.clone(),
                    goal.target.clone(),
                    shown(goal),
                    verdict(goal).into(),
                    goal.how.clone(),
                ]
            }),
        )
}

fn agreement_table(page: Page, lines: &[agreement::Line]) -> Page {
    if lines.is_empty() {
        return page;
    }
    let runs = lines.iter().map(|line| line.runs).min().unwrap_or(0);
    page.heading("Simulator and real sockets")
        .text(&format!(
            "One transfer over 10 Mbit/s with a round trip of 30 ms, by the simulator and over real sockets through the shim, \
             median of {runs} run(s) with the same seeds; from the beginning of the handshake to the last byte. Wanted: within {:.0} %.",
            TOLERANCE * 100.0
        ))
        .table(
            &["scenario", "bytes", "simulated s", "real s", "simulated Mbit/s", "real Mbit/s", "real / simulated", ""],
            lines.iter().map(|line| {
                [
                    line.scenario.clone(),
                    line.bytes.to_string(),
                    format!("{:.2}", line.simulated_s),
                    format!("{:.2}", line.real_s),
                    format!("{:.2}", line.simulated_mbit),
                    format!("{:.2}", line.real_mbit),
                    format!("{:.3}", line.ratio),
                    if line.ok { "pass" } else { "apart" }.into(),
                ]
            }),
        )
}

fn carried(page: Page, tally: &Tally) -> Page {
    if tally.kinds.is_empty() {
        return page;
    }
    let ms = |value: Option<f64>| value.map_or_else(|| "–".into(), |ms| format!("{ms:.0}"));
    page.heading("What was carried")
        .text(&format!(
            "{} transfers ({} MB up, {} MB down), {} messages in order, {} of {} packets, {} tunnels; {} short-lived clients, {} of \
             them with a ticket and {} with data in their first flight; {} key updates, {} rotations of the relay's keys, {} NAT \
             rebinds, {} new sockets, {} moves to a second path, {} outages.",
            tally.transfers_done,
            tally.up_bytes / 1_000_000,
            tally.down_bytes / 1_000_000,
            tally.messages_back,
            tally.packets_back,
            tally.packets_sent,
            tally.tunnels_opened,
            tally.connects,
            tally.connects_resumed,
            tally.early_taken,
            tally.keys_changed,
            tally.rotations,
            tally.nat_rebinds,
            tally.rebinds,
            tally.migrations,
            tally.outages
        ))
        .table(
            &["link", "seconds", "up Mbit/s", "down Mbit/s", "echo p50 ms", "p95 ms", "limit ms", "packets back", "figures"],
            tally.kinds.iter().filter(|(name, _)| !name.is_empty()).map(|(name, kind)| {
                [
                    name.clone(),
                    format!("{:.0}", kind.seconds),
                    format!("{:.1}", mbit(kind.up_bytes, kind.seconds)),
                    format!("{:.1}", mbit(kind.down_bytes, kind.seconds)),
                    ms(kind.echo_ms.quantile(0.5)),
                    ms(kind.echo_ms.quantile(0.95)),
                    ms(Some(kind.echo_limit_ms).filter(|limit| *limit > 0.0)),
                    format!("{} of {}", kind.packets_back, kind.packets_sent),
                    kind.detail.clone(),
                ]
            }),
        )
}

type Column = (&'static str, fn(&Sample) -> f64);

/// Title, unit, lines, and whether what happened is marked (otherwise: where the link changes).
type Drawing = (&'static str, &'static str, &'static [Column], bool);

const DRAWINGS: [Drawing; 7] = [
    (
        "Goodput of the transfers",
        "Mbit/s",
        &[("up", |s| s.up_mbit), ("down", |s| s.down_mbit)],
        false,
    ),
    (
        "Echo",
        "ms",
        &[
            ("median", |s| positive(s.echo_ms)),
            ("longest", |s| positive(s.echo_max_ms)),
            ("smoothed round trip", |s| positive(s.srtt_ms)),
        ],
        true,
    ),
    (
        "Longest wait in the link's queue",
        "ms",
        &[("up", |s| s.queue_up_ms), ("down", |s| s.queue_down_ms)],
        false,
    ),
    (
        "Congestion windows of the clients",
        "KiB",
        &[("cwnd", |s| s.cwnd_kib)],
        true,
    ),
    (
        "Packets lost so far",
        "packets",
        &[
            ("by the links", |s| s.shim_dropped as f64),
            ("declared lost by clients", |s| s.lost as f64),
        ],
        false,
    ),
    (
        "Resident memory",
        "MiB",
        &[("rss", |s| s.rss_kib as f64 / 1024.0)],
        false,
    ),
    (
        "Descriptors, threads, tunnels",
        "",
        &[
            ("descriptors", |s| s.descriptors as f64),
            ("threads", |s| s.threads as f64),
            ("tunnels", |s| s.tunnels as f64),
        ],
        false,
    ),
];

fn plots(state: &State) -> Vec<Plot> {
    let samples = &state.samples;
    let line = |(name, column): &Column| {
        let points = samples.iter().map(|sample| (sample.t, column(sample))).collect();
        Series::new(*name, points)
    };
    let plot = |(title, unit, columns, marked): &Drawing| Plot {
        title: (*title).into(),
        x_label: "seconds of load".into(),
        y_label: (*unit).into(),
        series: columns.iter().map(line).collect(),
        marks: if *marked { marks(state) } else { phases(samples) },
    };
    DRAWINGS.iter().map(plot).collect()
}

fn positive(value: f64) -> f64 {
    if value > 0.0 { value } else { f64::NAN }
}

/// More marks than this are a curtain, not a help.
const MAX_MARKS: usize = 30;

fn marks(state: &State) -> Vec<(f64, String)> {
    let step = state.marks.len().div_ceil(MAX_MARKS).max(1);
    let marks = state.marks.iter().step_by(step);
    marks.map(|mark| (mark.t, mark.what.clone())).collect()
}

/// Where the link changes.
fn phases(samples: &[Sample]) -> Vec<(f64, String)> {
    let mut found: Vec<(f64, String)> = Vec::new();
    for sample in samples.iter().filter(|sample| !sample.phase.is_empty()) {
        if found.last().is_none_or(|(_, name)| *name != sample.phase) {
            found.push((sample.t, sample.phase.clone()));
        }
    }
    let step = found.len().div_ceil(MAX_MARKS).max(1);
    found.into_iter().step_by(step).collect()
}

/// Every sample, one a line.
fn csv(samples: &[Sample]) -> String {
    let mut out = String::from(
        "t,part,phase,rss_kib,descriptors,threads,up_mbit,down_mbit,echo_ms,echo_max_ms,packets_share,srtt_ms,cwnd_kib,lost,\
         shim_dropped,queue_up_ms,queue_down_ms,tunnels,transfers,faults\n",
    );
    for s in samples {
        let _ = writeln!(
            out,
            "{:.2},{},{},{},{},{},{:.3},{:.3},{:.2},{:.2},{:.3},{:.2},{:.1},{},{},{:.2},{:.2},{},{},{}",
            s.t,
            s.part,
            s.phase,
            s.rss_kib,
            s.descriptors,
            s.threads,
            s.up_mbit,
            s.down_mbit,
            s.echo_ms,
            s.echo_max_ms,
            s.packets_share,
            s.srtt_ms,
            s.cwnd_kib,
            s.lost,
            s.shim_dropped,
            s.queue_up_ms,
            s.queue_down_ms,
            s.tunnels,
            s.transfers,
            s.faults
        );
    }
    out
}
