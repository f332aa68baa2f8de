//! Runs loss-simulation scenarios: `sim run FILE`, `sim all`, `sim matrix`.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use transport_tests::sim::{
    Options, Scenario,
    batch::{Finished, Plan, files, run_all},
    matrix,
    pages::Pages,
    scenario::Cipher,
};

#[derive(Parser)]
#[command(about = "Deterministic loss simulation of the transport")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one scenario file, or several.
    Run {
        /// The scenarios.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Run every scenario of the repository, or of another folder.
    All {
        /// Instead of the repository's.
        #[arg(long)]
        folder: Option<PathBuf>,
        /// Also those whose bounds are not reached yet (`scenarios/open`).
        #[arg(long)]
        open: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Run the matrix of wide-area links: rate, round trip, queue, loss, reordering.
    Matrix {
        /// Every n-th cell alone.
        #[arg(long, default_value_t = 1)]
        every: usize,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    /// Decides everything; the same seed gives the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many seeds from the first on; expectations are held against medians.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Packet suite instead of the scenario's.
    #[arg(long)]
    cipher: Option<Cipher>,
    /// Congestion control instead of the scenario's.
    #[arg(long)]
    cc: Option<String>,
    /// Print JSON: one object a line.
    #[arg(long)]
    json: bool,
    /// Write a page with plots, and CSV, for each scenario into this folder.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Scenarios at once; missing: as many as there are processors.
    #[arg(long)]
    threads: Option<usize>,
}

const FAILED: u8 = 7;
const BAD_FILE: u8 = 3;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run { files, common } => load(files, &common).map(|list| run_list(list, &common)),
        Command::All { folder, open, common } => {
            listed(folder, open).and_then(|found| load(found, &common)).map(|list| run_list(list, &common))
        }
        Command::Matrix { every, common } => {
            let cells = matrix::cells(common.cc.as_deref().unwrap_or("bbr")).into_iter().step_by(every.max(1));
            Ok(run_list(cells.map(|cell| (PathBuf::from(&cell.name), cell)).collect(), &common))
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(BAD_FILE)
        }
    }
}

fn listed(folder: Option<PathBuf>, open: bool) -> Result<Vec<PathBuf>, String> {
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios"));
    let mut found = files(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    found.retain(|file| open || !file.starts_with(folder.join("open")));
    Ok(found)
}

fn load(files: Vec<PathBuf>, common: &Common) -> Result<Vec<(PathBuf, Scenario)>, String> {
    let one = |file: PathBuf| {
        let mut scenario = Scenario::load(&file)?;
        if let Some(cc) = &common.cc {
            scenario.choose(cc).map_err(|error| format!("--cc: {error}"))?;
        }
        Ok((file, scenario))
    };
    files.into_iter().map(one).collect()
}

/// True if everything passed.
fn run_list(list: Vec<(PathBuf, Scenario)>, common: &Common) -> bool {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let plan = Plan {
        options: Options {
            seed: common.seed,
            cipher: common.cipher,
        },
        seeds: common.seeds,
        record: common.report.is_some(),
        threads: common.threads.unwrap_or(cores),
    };
    let mut pages = Pages::default();
    let mut passed = true;
    run_all(list, plan, |done| {
        passed &= done.report.passed();
        show(&done, common.json);
        if let Some(folder) = &common.report
            && let Err(error) = pages.add(folder, &done)
        {
            eprintln!("{}: {error}", folder.display());
            passed = false;
        }
    });
    if let Some(folder) = &common.report {
        let command: Vec<String> = std::env::args().skip(1).collect();
        match pages.finish(folder, &format!("sim {}", command.join(" "))) {
            Ok(()) => eprintln!("report: {}", folder.join("index.html").display()),
            Err(error) => {
                eprintln!("{}: {error}", folder.display());
                passed = false;
            }
        }
    }
    passed
}

fn show(done: &Finished, json: bool) {
    if json {
        println!("{}", done.report.json());
    } else {
        println!("{}", done.report.line());
    }
}
