//! Runs loss-simulation scenarios: `sim run FILE` and `sim all`.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use transport_tests::sim::{Options, Report, Scenario, run, scenario::Cipher};

#[derive(Parser)]
#[command(about = "Deterministic loss simulation of the transport")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one scenario file.
    Run {
        /// The scenario.
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Run every scenario of the repository.
    All {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    /// Decides everything; the same seed gives the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Packet suite instead of the scenario's.
    #[arg(long)]
    cipher: Option<Cipher>,
    /// Print JSON: one object, or one a line for `all`.
    #[arg(long)]
    json: bool,
}

const FAILED: u8 = 7;
const BAD_FILE: u8 = 3;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { file, common } => run_files(&[file], &common),
        Command::All { common } => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
            let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
                .collect();
            files.sort();
            run_files(&files, &common)
        }
    }
}

fn run_files(files: &[PathBuf], common: &Common) -> ExitCode {
    let mut passed = true;
    for file in files {
        let scenario = match Scenario::load(file) {
            Ok(scenario) => scenario,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(BAD_FILE);
            }
        };
        let report = run(
            &scenario,
            Options {
                seed: common.seed,
                cipher: common.cipher,
            },
        );
        passed &= report.passed();
        show(&report, common.json);
    }
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

fn show(report: &Report, json: bool) {
    match serde_json::to_string(report) {
        Ok(text) if json => println!("{text}"),
        _ => println!("{}", report.line()),
    }
}
