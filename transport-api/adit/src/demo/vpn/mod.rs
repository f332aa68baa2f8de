//! `adit demo --vpn`: a relay and a client in network namespaces of their own, with real TUN devices, the kernel's TCP through
//! them, and a client that moves.
//!
//! Nothing happens in this machine's own network. The command starts itself again as the first process of a new PID and network
//! namespace, the client's (`cell`); that one starts the relay in a third namespace (`relay`), joins the two by a veth
//! (`stage`), and carries traffic (`acts`). When the first process ends, however it ends, the kernel ends the others, and their
//! devices, addresses and routes with them.

mod acts;
mod cell;
mod player;
mod relay;
mod stage;

use std::path::Path;

use transport_api::{local::Loop, now};

use crate::{
    cli,
    exit::{Code, Context, Outcome, fail},
};

/// What each transfer carries, bytes.
const BYTES: u64 = 64 << 20;
const BYTES_QUICK: u64 = 16 << 20;

pub(super) fn run(options: &cli::Demo, json: bool) -> Outcome {
    match (options.inside, options.folder.as_deref()) {
        (None, None) => cell::run(options, json),
        (Some(cli::Inside::Client), Some(folder)) => perform(options, folder, json),
        (Some(cli::Inside::Relay), Some(folder)) => relay::run(folder),
        _ => fail(
            Code::Usage,
            "--inside and --folder belong to the demo's own processes",
        ),
    }
}

fn perform(options: &cli::Demo, folder: &Path, json: bool) -> Outcome {
    cell::end_with_parent(folder)?;
    let begin = now().instant;
    let mut checks = super::Checks::new(json);
    checks.progress("a relay and a client in namespaces of their own");
    let mut stage = stage::Stage::set(folder)?;
    let bytes = if options.quick { BYTES_QUICK } else { BYTES };
    let mut main = Loop::new(super::MAX_TASKS).or_fail(Code::Failed, "event loop")?;
    let at = main.handle();
    main.run(acts::play(&at, &mut checks, &mut stage, bytes))
        .or_fail(Code::Failed, "event loop")?;
    stage.clear(&mut checks)?;
    let seconds = (now().instant - begin).as_secs_f64();
    super::finish(&checks, seconds, options.report.as_deref(), json)
}
