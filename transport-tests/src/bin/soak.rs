//! `soak`: a relay and its clients on real sockets through a bad link, for as long as asked; then a table of gates and a report.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use clap::Parser;
use serde_json::json;
use transport_tests::soak::{Options, Outcome, Plant, Profile, run, state::State};

#[derive(Parser)]
#[command(
    about = "Real relay and clients on loopback through an impairment shim, with gates and a report",
    after_help = "Examples:\n  soak --profile smoke --for 2m --seed 7 --out soak-out\n  soak --resume soak-out\n\n\
                  Exit code 0: every gate passed; 7: one failed; 130: interrupted, go on with --resume."
)]
struct Cli {
    /// What to run.
    #[arg(long, default_value = "smoke")]
    profile: Profile,
    /// All of it: 90s, 2m, 8h.
    #[arg(long = "for", default_value = "2m", value_parser = duration)]
    time: Duration,
    /// Decides phases, faults and traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where report.html, samples.csv, results.json and state.json go.
    #[arg(long, default_value = "soak-out")]
    out: PathBuf,
    /// Go on with the interrupted run in this folder; its profile, time and seed stand.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["profile", "time", "seed", "out"])]
    resume: Option<PathBuf>,
    /// Print one JSON object on stdout instead of the table.
    #[arg(long)]
    json: bool,
    /// What makes no progress for this long has failed.
    #[arg(long, default_value = "15s", value_parser = duration)]
    stall: Duration,
    /// Plant a fault, to see its gate fail.
    #[arg(long, hide = true)]
    plant: Option<Plant>,
}

const BROKEN: u8 = 1;
const BAD_FILE: u8 = 3;
const GATE_FAILED: u8 = 7;
const INTERRUPTED: u8 = 130;

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let number: f64 = number.parse().map_err(|_| "a time such as 90s, 2m or 8h")?;
    let seconds = match unit {
        "s" | "" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err("units are s, m and h".into()),
    };
    if seconds > 0.0 && seconds <= 30.0 * 86_400.0 {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("more than nothing, and at most 30 days".into())
    }
}

fn commit() -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(here)
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(commit) if git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty()) => {
            format!("{commit} with changes")
        }
        Some(commit) => commit,
        None => "unknown".into(),
    }
}

/// What the command line says, or the folder of the run that goes on.
fn options(cli: &Cli) -> Result<Options, String> {
    let mut options = Options {
        profile: cli.profile,
        time: cli.time,
        seed: cli.seed,
        folder: cli.out.clone(),
        resume: false,
        plant: cli.plant,
        stall: cli.stall,
        commit: commit(),
        silent: cli.json,
    };
    if let Some(folder) = &cli.resume {
        let state = State::load(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        options.resume = true;
        options.profile = state.profile;
        options.seed = state.seed;
        options.time = Duration::from_secs_f64((state.wanted_s - state.elapsed_s).max(0.0) + 2.0);
        options.folder.clone_from(folder);
        if state.commit != options.commit {
            eprintln!("begun with commit {}", state.commit);
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = match options(&cli) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(BAD_FILE);
        }
    };
    eprintln!(
        "soak {}: seed {}, commit {}, {:.0} s, into {}",
        options.profile.name(),
        options.seed,
        options.commit,
        options.time.as_secs_f64(),
        options.folder.display()
    );
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&interrupted)) {
            eprintln!("signals: {error}");
        }
    }
    match run(&options, &interrupted) {
        Ok(Outcome::Done { ok, json, table }) => {
            if cli.json {
                println!("{json}");
            } else {
                print!("{table}");
                println!("report: {}", options.folder.join("report.html").display());
            }
            ExitCode::from(if ok { 0 } else { GATE_FAILED })
        }
        Ok(Outcome::Interrupted) => {
            let folder = options.folder.display();
            if cli.json {
                println!(
                    "{}",
                    json!({ "ok": false, "interrupted": true, "resume": folder.to_string() })
                );
            }
            eprintln!("interrupted; go on with --resume {folder}");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::from(BROKEN)
        }
    }
}
