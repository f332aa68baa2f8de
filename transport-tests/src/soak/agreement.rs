//! The simulator against real sockets: the same scenario, the same faults from the same seed, the same transfer.

use std::{io, time::Duration};

use serde::{Deserialize, Serialize};
use transport_api::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream, Wait, now};

use super::{
    member::loopback,
    peer::{self, Counted},
    stage::Stage,
};
use crate::{
    oracle::delivery,
    sim::{self, Options, Scenario, scenario::EventKind},
};

/// How far the two may be apart.
pub const TOLERANCE: f64 = 0.10;
/// A transfer takes less than this, or something is broken.
const LIMIT: Duration = Duration::from_mins(1);
const CHUNK: usize = 64 * 1024;

/// The five kinds of links compared: 10 Mbit/s, 30 ms.
const SCENARIOS: [(&str, &str, &str); 5] = [
    ("clean", "", ""),
    ("loss 1 %", "loss = { kind = \"iid\", p = 0.01 }", ""),
    (
        "burst loss",
        "loss = { kind = \"gilbert\", p = 0.003, r = 0.3 }",
        "",
    ),
    (
        "outage 2 s",
        "",
        "[[event]]\nat_ms = 300\nkind = \"outage\"\nfor_ms = 2000\n",
    ),
    (
        "jitter and reordering",
        "jitter_ms = 3.0\nreorder = { p = 0.01, extra_ms = 10.0 }",
        "",
    ),
];

/// One line of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are keys of the results")]
pub struct Line {
    pub scenario: String,
    pub bytes: u64,
    pub runs: u32,
    /// Medians, seconds from the first packet to the last byte.
    pub simulated_s: f64,
    pub real_s: f64,
    pub simulated_mbit: f64,
    pub real_mbit: f64,
    /// Real over simulated completion time.
    pub ratio: f64,
    pub ok: bool,
}

/// Names of the scenarios, in their order.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCENARIOS.iter().map(|(name, _, _)| *name)
}

fn scenario(index: usize, bytes: u64) -> Option<Scenario> {
    let (name, link, event) = SCENARIOS.get(index)?;
    let base = format!("rate_mbit = 10.0\ndelay_ms = 15.0\nqueue_packets = 50\n{link}\n");
    let text = format!(
        "name = \"{name}\"\nseconds = 60\n[link.up]\n{base}[link.down]\n{base}[[flow]]\nkind = \"bulk\"\nbytes = {bytes}\n{event}"
    );
    Scenario::parse(&text).ok()
}

/// Compares scenario `index`, medians of `runs` runs with seeds from `seed` on.
///
/// # Errors
/// What broke: a transfer that did not complete, or bytes that were not what was sent.
pub fn compare(index: usize, bytes: u64, runs: u32, seed: u64) -> Result<Line, String> {
    let scenario = scenario(index, bytes).ok_or("no such scenario")?;
    let (mut simulated, mut real) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let seed = seed.wrapping_add(u64::from(run));
        let report = sim::run(&scenario, Options { seed, cipher: None });
        let flow = report.flows.first().and_then(|flow| flow.completion_s);
        simulated.push(flow.ok_or("the simulated transfer did not complete")?);
        let took = carry(&scenario, bytes, seed).map_err(|error| error.to_string())?;
        real.push(took.as_secs_f64());
    }
    let (simulated_s, real_s) = (median(&mut simulated), median(&mut real));
    let mbit = |seconds: f64| bytes as f64 * 8.0 / seconds / 1e6;
    let ratio = real_s / simulated_s;
    Ok(Line {
        scenario: scenario.name,
        bytes,
        runs,
        simulated_s,
        real_s,
        simulated_mbit: mbit(simulated_s),
        real_mbit: mbit(real_s),
        ratio,
        ok: (ratio - 1.0).abs() <= TOLERANCE,
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    if values.len().is_multiple_of(2) {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    } else {
        at(middle)
    }
}

/// One transfer over real sockets: from the beginning of the handshake to the last byte at the other end.
fn carry(scenario: &Scenario, bytes: u64, seed: u64) -> io::Result<Duration> {
    let stage = Stage::set(Some(&scenario.link), seed, None)?;
    let endpoint = Endpoint::bind(EndpointConfig::client(loopback()))?;
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the transfer did not complete");
    let begun = now().instant;
    let connecting = endpoint.connect(stage.to_peer());
    std::thread::scope(|scope| {
        for event in scenario
            .event
            .iter()
            .filter(|event| event.kind == EventKind::Outage)
        {
            let at = Duration::from_secs_f64(event.at_ms / 1000.0);
            let time = Duration::from_secs_f64(event.for_ms.unwrap_or(1000.0) / 1000.0);
            let stage = &stage;
            scope.spawn(move || {
                let due = at.saturating_sub(now().instant.saturating_duration_since(begun));
                std::thread::park_timeout(due);
                for shim in stage.shims() {
                    shim.outage(time);
                }
            });
        }
        let connection = connecting
            .wait_timeout(LIMIT)
            .ok_or_else(late)?
            .map_err(io::Error::other)?;
        let counted = transfer(&connection, bytes)
            .wait_timeout(LIMIT)
            .ok_or_else(late)??;
        connection.close(0, b"");
        if counted.bytes != bytes || !counted.intact {
            return Err(io::Error::other(format!("{counted:?} of {bytes} bytes")));
        }
        let origin = begun.saturating_duration_since(stage.origin);
        Ok(counted.at.saturating_sub(origin))
    })
}

async fn transfer(connection: &Connection, bytes: u64) -> io::Result<Counted> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(io::Error::other)?;
    upload(&mut send, bytes).await?;
    answer(&mut recv).await
}

async fn upload(send: &mut SendStream, bytes: u64) -> io::Result<()> {
    send.write_all(&[peer::COUNT]).await.map_err(io::Error::other)?;
    let mut chunk = vec![0; CHUNK];
    let mut sent = 0;
    while sent < bytes {
        let size = (bytes - sent).min(CHUNK as u64) as usize;
        let piece = chunk.get_mut(..size).unwrap_or_default();
        delivery::fill(peer::LABEL, sent, piece);
        send.write_all(piece).await.map_err(io::Error::other)?;
        sent += size as u64;
    }
    send.finish().map_err(io::Error::other)
}

async fn answer(recv: &mut RecvStream) -> io::Result<Counted> {
    let answer = recv.read_to_end(64).await.map_err(io::Error::other)?;
    Counted::parse(&answer).ok_or_else(|| io::Error::other("no answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_parses_and_completes_in_the_simulator() {
        for index in 0..SCENARIOS.len() {
            let scenario = scenario(index, 100_000).unwrap();
            let report = sim::run(
                &scenario,
                Options {
                    seed: 1,
                    cipher: None,
                },
            );
            assert!(report.completed, "{}", scenario.name);
        }
    }

    #[test]
    fn medians() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
