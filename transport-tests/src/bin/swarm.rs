//! Runs random programs on random links: `swarm --seeds 1000`. What fails is printed with the command that runs it again, made
//! shorter and written to a file.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]
#![expect(clippy::disallowed_methods, reason = "what is printed is real time")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;
use transport_tests::program::swarm::Program;

#[derive(Parser)]
#[command(about = "Random programs of calls on random links, from seeds")]
struct Cli {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// This one alone, with all it says.
    #[arg(long, conflicts_with_all = ["seeds", "from", "file"])]
    seed: Option<u64>,
    /// A program that was kept.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    file: Option<PathBuf>,
    /// Where programs that fail go.
    #[arg(long, default_value = ".")]
    out: PathBuf,
}

const FAILED: u8 = 7;
const BAD_FILE: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match (&cli.file, cli.seed) {
        (Some(file), _) => run_file(file),
        (None, Some(seed)) => verdict(Program::new(seed).run()),
        (None, None) => run_all(&cli),
    }
}

fn run_file(file: &PathBuf) -> ExitCode {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
    match text.and_then(|text| serde_json::from_str::<Program>(&text).map_err(|error| error.to_string())) {
        Ok(program) => verdict(program.run()),
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            ExitCode::from(BAD_FILE)
        }
    }
}

fn verdict(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => {
            println!("pass");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            println!("FAIL  {fault}");
            ExitCode::from(FAILED)
        }
    }
}

fn run_all(cli: &Cli) -> ExitCode {
    // What fails says so below, once, and with the command.
    std::panic::set_hook(Box::new(|_| {}));
    let (next, failed, begun) = (AtomicU64::new(cli.from), AtomicU64::new(0), Instant::now());
    let end = cli.from.saturating_add(cli.seeds);
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < end) {
            let program = Program::new(seed);
            if let Err(fault) = program.run() {
                failed.fetch_add(1, Ordering::Relaxed);
                report(cli, seed, &program, &fault);
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner();
    println!(
        "{} programs, seeds {} to {}, {failed} failed, {:.1} s",
        cli.seeds,
        cli.from,
        end.saturating_sub(1),
        begun.elapsed().as_secs_f64()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

fn report(cli: &Cli, seed: u64, program: &Program, fault: &str) {
    let shorter = program.shrink();
    let file = cli.out.join(format!("swarm-{seed}.json"));
    let first = fault.lines().next().unwrap_or_default();
    println!("FAIL  seed {seed}: {first}");
    println!("      cargo run --release -p transport-tests --bin swarm -- --seed {seed}");
    let text = serde_json::to_string_pretty(&shorter).unwrap_or_default();
    match std::fs::write(&file, text) {
        Ok(()) => println!(
            "      {} of {} calls: {}",
            shorter.calls.len(),
            program.calls.len(),
            file.display()
        ),
        Err(error) => eprintln!("{}: {error}", file.display()),
    }
}
