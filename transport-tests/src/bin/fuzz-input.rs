//! Inputs of the fuzz targets on a stable compiler: `list`, `seeds FOLDER`, `replay TARGET FILE..`.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use transport_tests::fuzzing::{self, TARGETS, seeds};

#[derive(Parser)]
#[command(about = "Inputs of the fuzz targets, on a stable compiler")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Name every target.
    List,
    /// Write seeds for every target into FOLDER/TARGET.
    Seeds {
        /// Where to.
        folder: PathBuf,
    },
    /// Show inputs in words, and run them.
    Replay {
        /// The target.
        target: String,
        /// The inputs.
        files: Vec<PathBuf>,
    },
}

const BAD_INPUT: u8 = 3;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::List => {
            for target in TARGETS {
                println!("{}", target.name);
            }
            Ok(())
        }
        Command::Seeds { folder } => write_seeds(&folder),
        Command::Replay { target, files } => replay(&target, &files),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(BAD_INPUT)
        }
    }
}

fn write_seeds(folder: &Path) -> Result<(), String> {
    let fault = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).map_err(|error| fault(&folder, error))?;
        for seed in seeds::seeds(target.name) {
            let mut hasher = DefaultHasher::new();
            seed.hash(&mut hasher);
            let path = folder.join(format!("seed-{:016x}", hasher.finish()));
            std::fs::write(&path, seed).map_err(|error| fault(&path, error))?;
        }
    }
    Ok(())
}

fn replay(name: &str, files: &[PathBuf]) -> Result<(), String> {
    let Some(target) = fuzzing::target(name) else {
        return Err(format!("{name}: no such target; `list` names them"));
    };
    for file in files {
        let data = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        println!(
            "{} ({} bytes)\n{}",
            file.display(),
            data.len(),
            (target.show)(&data)
        );
        fuzzing::run(name, &data);
        println!("{}: ok", file.display());
    }
    Ok(())
}
