//! The command `adit`: relay, client, benchmark and demo of the transport.

mod bench;
mod bundle;
mod cli;
mod config;
mod connect;
mod demo;
mod doctor;
mod exit;
mod files;
mod init;
mod key_log;
mod keyring;
mod measure;
mod metrics;
mod output;
mod privilege;
mod provider;
mod relay;
mod secrets;
mod signals;
mod state;
mod status;
mod tickets;
mod token;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    cli::{Cli, Command},
    exit::Outcome,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli.log);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure.message);
            ExitCode::from(failure.code as u8)
        }
    }
}

fn run(cli: Cli) -> Outcome {
    let json = cli.json;
    match cli.command {
        Command::Demo(options) => demo::run(&options, json),
        Command::Init { who } => init::run(who, json),
        Command::Bundle { what } => bundle::run(what, json),
        Command::Relay { config, key_log } => relay::run(&config, key_log.as_deref(), json),
        Command::Connect(options) => connect::run(&options, json),
        Command::Token { what } => token::run(what, json),
        Command::Bench { end } => bench::run(end, json),
        Command::Version => output::version(json),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "adit", &mut script);
            output::raw(&script);
            Ok(())
        }
        Command::Status(options) => status::run(&options, json),
        Command::Doctor(options) => doctor::run(&options, json),
    }
}

fn start_log(level: &str) {
    let log = tracing_subscriber::fmt()
        // One of the words that the command line takes.
        .with_max_level(level.parse().unwrap_or(LevelFilter::WARN))
        .with_writer(std::io::stderr);
    // A second logger cannot exist in this process; if it did, the first would stay.
    let _ = log.try_init();
}
