//! `adit demo`: a relay, a client and their targets on loopback, carrying real traffic through real sockets;
//! first over a clear link, then over a bad one with a rebind and a key update in mid-transfer.

mod checks;
mod impair;
mod scene;
mod targets;
mod traffic;
#[cfg(target_os = "linux")]
mod vpn;

use std::{path::Path, time::Duration};

use serde_json::json;
use transport_api::{local::Loop, now};

use crate::{
    cli,
    exit::{Code, Context, Outcome, fail},
    output,
};

pub(crate) use checks::{Check, Checks};
use scene::play;

/// How fast datagrams are sent: nothing else slows a sender that does not listen.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) burst: u32,
    pub(crate) every: Duration,
}

const FAST: Pace = Pace {
    burst: 12,
    every: Duration::from_millis(1),
};
/// 2 Mbit/s.
const SLOW: Pace = Pace {
    burst: 1,
    every: Duration::from_millis(4),
};

/// How much each part of the demo carries.
#[derive(Clone, Copy)]
pub(crate) struct Amounts {
    pub(crate) stream_bytes: u64,
    pub(crate) datagrams: u32,
    pub(crate) pace: Pace,
    pub(crate) download_bytes: u64,
}

const CLEAR: Amounts = Amounts {
    stream_bytes: 64 << 20,
    datagrams: 20_000,
    pace: FAST,
    download_bytes: 32 << 20,
};
const CLEAR_QUICK: Amounts = Amounts {
    stream_bytes: 8 << 20,
    datagrams: 2_000,
    pace: FAST,
    download_bytes: 4 << 20,
};
const BAD: Amounts = Amounts {
    stream_bytes: 2 << 20,
    datagrams: 1_000,
    pace: SLOW,
    download_bytes: 1 << 20,
};
const BAD_QUICK: Amounts = Amounts {
    stream_bytes: 128 << 10,
    datagrams: 400,
    pace: SLOW,
    download_bytes: 64 << 10,
};

const MAX_TASKS: usize = 65_536;

pub(crate) fn run(options: &cli::Demo, json: bool) -> Outcome {
    if options.vpn {
        return run_vpn(options, json);
    }
    let begin = now().instant;
    let mut main = Loop::new(MAX_TASKS).or_fail(Code::Failed, "event loop")?;
    let at = main.handle();
    let mut checks = Checks::new(json);
    let (clear, bad) = if options.quick {
        (CLEAR_QUICK, BAD_QUICK)
    } else {
        (CLEAR, BAD)
    };
    main.run(play(&at, &mut checks, clear, bad))
        .or_fail(Code::Failed, "event loop")??;
    let seconds = (now().instant - begin).as_secs_f64();
    finish(&checks, seconds, options.report.as_deref(), json)
}

#[cfg(target_os = "linux")]
fn run_vpn(options: &cli::Demo, json: bool) -> Outcome {
    vpn::run(options, json)
}

#[cfg(not(target_os = "linux"))]
fn run_vpn(_: &cli::Demo, _: bool) -> Outcome {
    fail(Code::Usage, "demo --vpn needs Linux; run adit demo")
}

fn finish(checks: &Checks, seconds: f64, report: Option<&Path>, as_json: bool) -> Outcome {
    let ok = checks.all_passed();
    let result = json!({ "ok": ok, "seconds": seconds, "checks": checks.json() });
    if let Some(folder) = report {
        std::fs::create_dir_all(folder).or_fail(Code::Config, folder.display())?;
        let path = folder.join("demo.json");
        std::fs::write(&path, format!("{result:#}\n")).or_fail(Code::Config, path.display())?;
    }
    if as_json {
        output::json_line(&result);
    } else {
        output::line(format_args!(
            "{} checks in {seconds:.1} s: {}",
            checks.len(),
            if ok { "all passed" } else { "FAILED" }
        ));
    }
    if ok {
        Ok(())
    } else {
        fail(
            Code::Gate,
            format!("the demo failed: {}", checks.failed().join(", ")),
        )
    }
}
