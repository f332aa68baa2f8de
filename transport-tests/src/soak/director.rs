//! Plays the plan: sets the links of each phase, makes things happen, heals the network, and waits for what is under way.

use std::{rc::Rc, sync::Arc, time::Duration};

use transport_api::local::Loop;

use super::{
    board::{Board, Present},
    churn,
    member::{Crew, Member, watch_gauges},
    plan::{Happening, Phase},
    plant::Plant,
    stage::Stage,
    work::{self, ECHO_EVERY},
};
use crate::sim::scenario::{Link, Links};

/// Long-lived clients.
const MEMBERS: u64 = 2;
const MAX_TASKS: usize = 4096;
const STEP: Duration = Duration::from_millis(20);
/// How long the echo is watched after a move.
const WATCH: Duration = Duration::from_millis(700);
/// Keys that were to change have changed by then.
const REKEY_LIMIT: Duration = Duration::from_secs(8);
const BUNDLE_LIMIT: Duration = Duration::from_secs(8);

/// What the clients' thread is given.
pub(super) struct Play {
    /// What it writes on.
    pub(super) board: Arc<Board>,
    /// What it talks to.
    pub(super) stage: Arc<Stage>,
    /// What it goes through.
    pub(super) phases: Vec<Phase>,
    /// Where in the plan it begins, seconds of load.
    pub(super) from: f64,
    /// What makes no progress for this long has failed.
    pub(super) stall: Duration,
    /// A fault the clients have.
    pub(super) plant: Option<Plant>,
    /// Decides what they do.
    pub(super) seed: u64,
}

/// Runs the clients to the end of the plan, or until the board says that it is over. Blocks.
pub(super) fn play(play: Play) -> std::io::Result<()> {
    let mut local = Loop::new(MAX_TASKS)?;
    let crew = Rc::new(Crew {
        at: local.handle(),
        board: play.board,
        stage: play.stage,
        stall: play.stall,
        plant: play.plant,
        seed: play.seed,
    });
    let members = (0..MEMBERS)
        .map(|index| Member::new(&crew, index))
        .collect::<std::io::Result<Vec<_>>>()?;
    local.run(direct(&crew, &members, &play.phases, play.from))
}

/// A link without faults: what is under way when the plan ends arrives over it.
fn healed() -> Links {
    let link = Link {
        rate_mbit: Some(100.0),
        delay_ms: 5.0,
        queue_bytes: Some(1 << 20),
        ..Link::default()
    };
    Links {
        up: link.clone(),
        down: link,
    }
}

async fn direct(crew: &Rc<Crew>, members: &[Rc<Member>], phases: &[Phase], from: f64) {
    let begun = crew.ms();
    let load = move |crew: &Crew| from + (crew.ms() - begun) / 1000.0;
    let mut first = true;
    for phase in phases.iter().filter(|phase| phase.to > from) {
        if crew.board.over() {
            break;
        }
        enter(crew, phase);
        if std::mem::take(&mut first) {
            start(crew, members);
        }
        for (at, happening) in phase.events.iter().filter(|(at, _)| *at >= from) {
            while load(crew) < *at && !crew.board.over() {
                crew.at.sleep(STEP).await;
            }
            crew.board.mark(load(crew), name(*happening));
            happen(crew, members, *happening, phase);
        }
        while load(crew) < phase.to && !crew.board.over() {
            crew.at.sleep(STEP).await;
        }
        let seconds = load(crew) - phase.from.max(from);
        crew.board.note(|tally| tally.kind(phase.name).seconds += seconds);
    }
    finish(crew, members).await;
}

fn start(crew: &Rc<Crew>, members: &[Rc<Member>]) {
    for member in members {
        work::start(member);
    }
    crew.spawn(churn::run(Rc::clone(crew)));
    crew.spawn(watch_gauges(Rc::clone(crew), members.to_vec()));
}

fn enter(crew: &Rc<Crew>, phase: &Phase) {
    for shim in crew.stage.shims() {
        shim.set_links(phase.links.clone());
    }
    let settling = phase.settles_s > 0.0;
    crew.board.set_present(Present {
        settling,
        ..present(phase)
    });
    if settling {
        crew.spawn(settle(Rc::clone(crew), phase.settles_s, present(phase)));
    }
    crew.board.note(|tally| {
        let kind = tally.kind(phase.name);
        kind.echo_limit_ms = kind.echo_limit_ms.max(phase.echo_limit_ms.unwrap_or(0.0));
        kind.lossy = phase.lossy;
        kind.detail.clone_from(&phase.detail);
    });
}

async fn settle(crew: Rc<Crew>, seconds: f64, after: Present) {
    crew.at.sleep(Duration::from_secs_f64(seconds)).await;
    let present = crew.board.present();
    if present.name == after.name && present.settling {
        crew.board.set_present(after);
    }
}

fn present(phase: &Phase) -> Present {
    Present {
        name: phase.name,
        from: phase.from,
        survives: phase.survives,
        settling: false,
        quiet: phase.name == "clear",
    }
}

/// Begins something; what it leads to is awaited beside the plan.
fn happen(crew: &Rc<Crew>, members: &[Rc<Member>], happening: Happening, phase: &Phase) {
    match happening {
        Happening::KeyUpdate => {
            for member in members {
                crew.spawn(update_keys(Rc::clone(member)));
            }
        }
        Happening::RelayRotation => crew.spawn(rotate(Rc::clone(crew), members.len() as u64)),
        Happening::NatRebind => {
            for shim in crew.stage.shims() {
                shim.rebind();
            }
            crew.board.note(|tally| tally.nat_rebinds += 1);
            watch(members);
        }
        Happening::Rebind => {
            for member in members {
                member.rebind();
            }
            crew.board.note(|tally| tally.rebinds += 1);
            watch(members);
        }
        Happening::Migration => {
            crew.board.note(|tally| tally.migrations += 1);
            for member in members {
                crew.spawn(migrate(Rc::clone(member)));
            }
        }
        Happening::Outage(time) => {
            for shim in crew.stage.shims() {
                shim.outage(time);
            }
            crew.board.note(|tally| tally.outages += 1);
            crew.board.set_present(Present {
                survives: 0.0,
                ..present(phase)
            });
            crew.spawn(outlast(Rc::clone(crew), members.to_vec(), time, present(phase)));
        }
    }
}

async fn update_keys(member: Rc<Member>) {
    let crew = &member.crew;
    let Some(connection) = member.connection() else {
        return;
    };
    crew.board.note(|tally| tally.keys_wished += 1);
    let before = connection.stats().key_updates;
    if crew.plant != Some(Plant::NoRekey) {
        connection.update_keys();
    }
    let begun = crew.ms();
    while crew.ms() - begun < REKEY_LIMIT.as_secs_f64() * 1000.0 {
        if connection.stats().key_updates > before {
            return crew.board.note(|tally| tally.keys_changed += 1);
        }
        if crew.board.over() {
            break;
        }
        crew.at.sleep(STEP).await;
    }
    crew.board
        .fault(format!("client {}: its keys did not change", member.index));
}

async fn rotate(crew: Rc<Crew>, members: u64) {
    let before = crew.board.note(|tally| {
        tally.rotations += 1;
        tally.bundles_wished += members;
        tally.bundles_taken
    });
    if let Err(error) = crew.stage.rotate() {
        return crew.board.fault(format!("the relay's rotation: {error}"));
    }
    let begun = crew.ms();
    while crew.ms() - begun < BUNDLE_LIMIT.as_secs_f64() * 1000.0 && !crew.board.over() {
        if crew.board.note(|tally| tally.bundles_taken) >= before + members {
            return;
        }
        crew.at.sleep(STEP).await;
    }
    crew.board
        .fault("a client did not get the relay's new bundle".into());
}

/// Moves, and notes how long the echo was silent.
async fn migrate(member: Rc<Member>) {
    let quiet = member.crew.board.present().quiet;
    member.silence.set(Some(0.0));
    let outcome = member.migrate().await;
    let gap = silence(&member).await;
    let board = &member.crew.board;
    match outcome {
        Ok(()) => board.note(|tally| {
            let gaps = if quiet {
                &mut tally.migration_gap_ms
            } else {
                &mut tally.migration_gap_bad_ms
            };
            gaps.add(gap);
        }),
        Err(_) if board.over() => {}
        Err(error) => board.fault(format!("client {}: {error}", member.index)),
    }
}

/// Notes how long the echo is silent when the old port is gone.
fn watch(members: &[Rc<Member>]) {
    for member in members {
        let member = Rc::clone(member);
        let crew = Rc::clone(&member.crew);
        crew.spawn(async move {
            member.silence.set(Some(0.0));
            let gap = silence(&member).await;
            member.crew.board.note(|tally| tally.rebind_gap_ms.add(gap));
        });
    }
}

/// The longest silence from when it was asked for until a moment from now, beyond the echo's interval; milliseconds.
async fn silence(member: &Member) -> f64 {
    let crew = &member.crew;
    crew.at.sleep(WATCH).await;
    let still = crew.ms() - member.last_echo.get();
    let longest = member.silence.take().unwrap_or(0.0).max(still);
    (longest - ECHO_EVERY.as_secs_f64() * 1000.0).max(0.0)
}

/// After an outage: how long until the next echo.
async fn outlast(crew: Rc<Crew>, members: Vec<Rc<Member>>, time: Duration, after: Present) {
    crew.at.sleep(time).await;
    let end = crew.ms();
    if crew.board.present().name == after.name {
        crew.board.set_present(after);
    }
    for member in members {
        while member.last_echo.get() < end && crew.ms() - end < 10_000.0 && !crew.board.over() {
            crew.at.sleep(STEP).await;
        }
        let took = (member.last_echo.get().max(end) - end).max(0.0);
        crew.board.note(|tally| tally.outage_end_ms.add(took));
    }
}

/// The network heals, nothing new begins; what is under way has as long as progress may take.
async fn finish(crew: &Rc<Crew>, members: &[Rc<Member>]) {
    for shim in crew.stage.shims() {
        shim.set_links(healed());
    }
    crew.board.stop();
    let limit = crew.ms() + (crew.stall.as_secs_f64() + 2.0) * 1000.0;
    let looking = 1;
    // The task that looks at the connections ends with the run.
    while crew.at.tasks() > looking + sessions(members) * TASKS_OF_A_SESSION
        && crew.ms() < limit
        && !crew.board.over()
    {
        crew.at.sleep(STEP).await;
    }
    crew.board.end();
    for member in members {
        member.close().await;
    }
    crew.at.sleep(STEP).await;
}

/// HTTP work, and the two that watch for bundles and the end.
const TASKS_OF_A_SESSION: usize = 3;

fn sessions(members: &[Rc<Member>]) -> usize {
    members
        .iter()
        .filter(|member| member.connection().is_some())
        .count()
}

/// For marks in plots.
fn name(happening: Happening) -> String {
    match happening {
        Happening::KeyUpdate => "key update".into(),
        Happening::RelayRotation => "relay keys".into(),
        Happening::NatRebind => "NAT rebind".into(),
        Happening::Rebind => "new socket".into(),
        Happening::Migration => "new path".into(),
        Happening::Outage(time) => format!("outage {:.1} s", time.as_secs_f64()),
    }
}
