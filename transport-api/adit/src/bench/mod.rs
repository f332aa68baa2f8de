//! `adit bench`: what this transport does on this machine, as JSON that can be compared.
//!
//! Both ends speak `adit-bench/1`: the first bidirectional stream of a connection carries a [`protocol::Request`];
//! everything after it belongs to the workload. Payload is counted where it arrives.

mod client;
mod crew;
mod datagrams;
mod protocol;
mod report;
mod server;

pub(crate) use report::suite_name;

use std::time::Duration;

use crate::{cli, exit::Outcome};

pub(crate) fn run(end: cli::Bench, json: bool) -> Outcome {
    match end {
        cli::Bench::Server(options) => server::run(&options),
        cli::Bench::Client(options) => client::run(&options, json),
    }
}

/// Tasks of one end at most: a few for each connection.
const MAX_TASKS: usize = 400_000;
/// For the last packets to leave.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
/// Longer than a slow machine takes to open 100,000 connections, of which the first are silent all the time.
const IDLE_TIMEOUT: Duration = Duration::from_hours(1);
/// Datagrams that wait: more than two batches, so that none leaves half full because the next datagrams are not handed over yet.
const DATAGRAM_QUEUE: usize = 192 * 1024;
/// Bytes handed to a stream at once.
const CHUNK: usize = 64 * 1024;
