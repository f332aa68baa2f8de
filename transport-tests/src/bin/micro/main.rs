//! What single steps cost: `cargo run --release -p transport-tests --bin micro [-- FILTER] [--json]`. Nanoseconds of one
//! operation, median and least of many rounds: what else runs on the machine only adds, so the least is the code's.

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod packets;
mod recovery;
mod streams;
mod wire;

use std::time::Duration;

use clap::Parser;

/// Rounds of each, however long one takes ...
const ROUNDS: usize = 50;
/// ... and more of them until this has passed.
const LEAST_TIME: Duration = Duration::from_millis(250);

#[derive(Parser)]
#[command(about = "Nanoseconds of single steps.")]
struct Options {
    /// Only what has this in its name.
    filter: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
struct Bench(Options);

impl Bench {
    /// Rounds of `run`, each of `count` operations on `state`; `prepare` is not measured, nor is dropping what it made.
    fn measure<S, I>(
        &self,
        name: &str,
        count: u32,
        state: &mut S,
        mut prepare: impl FnMut(&mut S) -> I,
        mut run: impl FnMut(&mut S, &mut I),
    ) {
        if self
            .0
            .filter
            .as_ref()
            .is_some_and(|filter| !name.contains(filter.as_str()))
        {
            return;
        }
        let begin = transport_api::now().instant;
        let mut rounds = Vec::new();
        while rounds.len() < ROUNDS || transport_api::now().instant - begin < LEAST_TIME {
            let mut input = prepare(state);
            let start = transport_api::now().instant;
            run(state, &mut input);
            let took = transport_api::now().instant - start;
            rounds.push(took.as_nanos() as f64 / f64::from(count));
        }
        rounds.sort_by(f64::total_cmp);
        let (median, least) = (rounds[rounds.len() / 2], rounds[0]);
        if self.0.json {
            let line = serde_json::json!({ "name": name, "median_ns": median, "min_ns": least });
            println!("{line}");
        } else {
            println!("{name:<34}{median:>12.1} ns{least:>12.1} ns");
        }
    }
}

fn main() {
    let bench = Bench(Options::parse());
    if !bench.0.json {
        println!("{:<34}{:>15}{:>15}", "operation", "median", "least");
    }
    wire::run(&bench);
    packets::run(&bench);
    recovery::run(&bench);
    streams::run(&bench);
}
