//! One run from its beginning to its report.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;
use transport_api::now;

use super::{
    agreement,
    board::Board,
    director::{self, Play},
    gate, goals,
    page::Results,
    plan::{self, Profile},
    plant::Plant,
    progress::Progress,
    sample::Sampler,
    stage::Stage,
    state::State,
};
use crate::sim::scenario::Links;

/// Runs shorter than this carry load alone.
const MEASURED_FROM: f64 = 25.0;
/// Of a run's time, at most: the promises' throughput.
const FLOOD_SHARE: f64 = 0.05;
/// What drains, and says goodbye, at the end.
const DRAIN_S: f64 = 2.0;
/// Of a run's time, at least: load.
const MIN_LOAD: f64 = 0.5;
const STEP: Duration = Duration::from_millis(50);
/// A state is written this often, so that a crash costs little.
const SAVE_EVERY_S: f64 = 60.0;
const MAX_SAMPLES: f64 = 7200.0;

/// What a run is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to run.
    pub profile: Profile,
    /// All of it, measuring and draining included.
    pub time: Duration,
    /// Decides phases, faults and traffic.
    pub seed: u64,
    /// Where its files go.
    pub folder: PathBuf,
    /// Go on with the interrupted run in `folder`.
    pub resume: bool,
    /// A fault to plant.
    pub plant: Option<Plant>,
    /// What makes no progress for this long has failed.
    pub stall: Duration,
    /// The version under test.
    pub commit: String,
    /// No progress line.
    pub silent: bool,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// At its end.
    Done {
        /// Whether every gate passed.
        ok: bool,
        /// The results object.
        json: Value,
        /// The table for people.
        table: String,
    },
    /// It was interrupted; its state is in its folder.
    Interrupted,
}

/// Runs; `interrupted` is looked at all the time.
///
/// # Errors
/// What keeps a run from being one: sockets, files, a stage that does not stand.
pub fn run(options: &Options, interrupted: &AtomicBool) -> io::Result<Outcome> {
    std::fs::create_dir_all(&options.folder)?;
    let begun = now().instant;
    let mut state = if options.resume {
        State::load(&options.folder)?
    } else {
        fresh(options)
    };
    let mut progress = Progress::new(options.time.as_secs_f64(), options.silent);
    measure(options, &mut state, &mut progress, interrupted, begun)?;
    let load = if state.profile == Profile::Agreement || interrupted.load(Ordering::Acquire) {
        Ok(())
    } else {
        under_load(options, &mut state, &mut progress, interrupted, begun)
    };
    progress.finish();
    load?;
    state.save(&options.folder)?;
    if interrupted.load(Ordering::Acquire) {
        return Ok(Outcome::Interrupted);
    }
    finish(options, &state)
}

fn fresh(options: &Options) -> State {
    State {
        plant: options.plant,
        stall_s: options.stall.as_secs_f64(),
        ..State::new(options.profile, options.seed, options.commit.clone())
    }
}

fn seconds_since(begun: Instant) -> f64 {
    now().instant.saturating_duration_since(begun).as_secs_f64()
}

/// What comes before the load: promises and agreement. A run that goes on has them already.
fn measure(
    options: &Options,
    state: &mut State,
    progress: &mut Progress,
    interrupted: &AtomicBool,
    begun: Instant,
) -> io::Result<()> {
    let total = options.time.as_secs_f64();
    let comparing = state.profile == Profile::Agreement;
    if state.parts > 0 || (total < MEASURED_FROM && !comparing) {
        return Ok(());
    }
    if !comparing {
        progress.at(0.0, "the product's promises");
        state.goals = goals::measure((total * FLOOD_SHARE).clamp(1.5, 5.0))?;
    }
    let (bytes, runs) = match state.profile {
        Profile::Smoke => (512 * 1024, 1),
        Profile::Nightly | Profile::Agreement => (2 * 1024 * 1024, 5),
    };
    for (index, name) in agreement::names().enumerate() {
        if interrupted.load(Ordering::Acquire) {
            break;
        }
        progress.at(
            seconds_since(begun),
            &format!("simulator and real sockets: {name}"),
        );
        let line = agreement::compare(index, bytes, runs, state.seed).map_err(io::Error::other)?;
        state.agreement.push(line);
    }
    Ok(())
}

fn under_load(
    options: &Options,
    state: &mut State,
    progress: &mut Progress,
    interrupted: &AtomicBool,
    begun: Instant,
) -> io::Result<()> {
    if state.parts == 0 {
        let left = options.time.as_secs_f64() - seconds_since(begun) - DRAIN_S;
        // Where measuring took long, the run does.
        state.wanted_s = left.max(options.time.as_secs_f64() * MIN_LOAD);
    }
    let part = state.parts;
    state.parts += 1;
    let from = state.elapsed_s;
    let phases = plan::phases(state.profile, state.wanted_s, state.seed);
    let links = phases
        .first()
        .map_or_else(Links::default, |phase| phase.links.clone());
    let stage = Arc::new(Stage::set(Some(&links), state.seed, state.plant)?);
    let board = Board::resume(std::mem::take(&mut state.tally), std::mem::take(&mut state.marks));
    let play = Play {
        board: Arc::clone(&board),
        stage: Arc::clone(&stage),
        phases,
        from,
        stall: Duration::from_secs_f64(state.stall_s),
        plant: state.plant,
        seed: state.seed.wrapping_add(u64::from(part) << 32),
    };
    let clients = std::thread::Builder::new()
        .name("soak-clients".into())
        .spawn(move || director::play(play))?;
    let mut watch = Watch {
        sampler: Sampler::new(part, from, &board),
        every: sample_interval(state.wanted_s),
        from,
        load_begun: now().instant,
        saved: from,
    };
    let outcome = watch.until_the_end(options, state, (&board, &stage), progress, interrupted, &clients);
    board.end();
    let played = clients
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the clients' thread panicked")));
    state.tally = board.tally();
    state.marks = board.marks();
    outcome.and(played)
}

fn sample_interval(seconds: f64) -> f64 {
    if seconds < 20.0 {
        0.25
    } else {
        (seconds / MAX_SAMPLES).max(0.5)
    }
}

/// Looks on while the clients work.
struct Watch {
    sampler: Sampler,
    every: f64,
    from: f64,
    load_begun: Instant,
    saved: f64,
}

impl Watch {
    fn until_the_end(
        &mut self,
        options: &Options,
        state: &mut State,
        (board, stage): (&Board, &Stage),
        progress: &mut Progress,
        interrupted: &AtomicBool,
        clients: &JoinHandle<io::Result<()>>,
    ) -> io::Result<()> {
        let mut next = self.from + self.every;
        while !clients.is_finished() && !interrupted.load(Ordering::Acquire) {
            std::thread::park_timeout(STEP);
            let at = self.from + seconds_since(self.load_begun);
            if !board.stopping() {
                state.elapsed_s = at.min(state.wanted_s);
            }
            if at < next {
                continue;
            }
            next = at + self.every;
            let sample = self.sampler.take(at, board, stage);
            progress.at(
                options.time.as_secs_f64() - (state.wanted_s + DRAIN_S - at).max(0.0),
                &format!(
                    "{} · {:.1} up, {:.1} down Mbit/s · echo {:.0} ms · {} faults",
                    if board.stopping() {
                        "draining"
                    } else {
                        board.present().name
                    },
                    sample.up_mbit,
                    sample.down_mbit,
                    sample.echo_ms,
                    sample.faults
                ),
            );
            // While all ends, memory and descriptors say nothing about a slope.
            if !board.stopping() {
                state.samples.push(sample);
            }
            if at - self.saved > SAVE_EVERY_S {
                self.saved = at;
                let kept = State {
                    tally: board.tally(),
                    marks: board.marks(),
                    ..state.clone()
                };
                kept.save(&options.folder)?;
            }
        }
        Ok(())
    }
}

fn finish(options: &Options, state: &State) -> io::Result<Outcome> {
    let loaded = state.profile != Profile::Agreement;
    let mut gates = if loaded {
        gate::judge(&state.tally, &state.samples)
    } else {
        Vec::new()
    };
    // Single runs of random loss say little: only medians are held against the limit.
    if state.profile != Profile::Smoke && !state.agreement.is_empty() {
        gates.push(gate::agreement(&state.agreement));
    }
    let mut goals = state.goals.clone();
    if loaded {
        goals.extend(goals::of_the_run(&state.tally));
    }
    let results = Results { state, gates, goals };
    results.write(&options.folder)?;
    Ok(Outcome::Done {
        ok: results.ok(),
        json: results.json(),
        table: results.table(),
    })
}
