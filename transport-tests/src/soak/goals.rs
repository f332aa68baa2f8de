//! What the product promises, measured on this machine and in this process: figures, not gates.

use std::{io, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use transport_api::{
    Connection, Endpoint, EndpointConfig, Wait,
    local::{Handle, Loop, TcpStream},
    now,
    tunnel::{Client, TcpTunnel},
};

use super::{
    board::Tally,
    member::loopback,
    sample::{cpu_seconds, rss_kib},
    stage::Stage,
    target::{Kind, MESSAGE, header},
};

const HANDSHAKES: usize = 15;
const ECHOES: usize = 300;
const CONNECTIONS: usize = 1000;
/// Handshakes at once: a relay under load asks for proof of address beyond that.
const AT_ONCE: usize = 16;
const CHUNK: usize = 256 * 1024;
const MAX_TASKS: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(20);

/// One promise with what was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Goal {
    /// What is promised.
    pub name: String,
    /// What was found; none: not measured in this run.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: String,
    /// The promise.
    pub target: String,
    /// Whether it holds here.
    pub met: Option<bool>,
    /// How it was measured.
    pub how: String,
}

fn goal(name: &str, value: Option<f64>, unit: &str, (target, limit): (&str, f64), how: String) -> Goal {
    let at_least = target.starts_with('≥');
    Goal {
        name: name.into(),
        value,
        unit: unit.into(),
        target: target.into(),
        met: value.map(|value| if at_least { value >= limit } else { value <= limit }),
        how,
    }
}

/// What needs an undisturbed relay: throughput, added latency, handshakes, memory. Takes about `seconds` and what a thousand
/// handshakes take.
pub fn measure(seconds: f64) -> io::Result<Vec<Goal>> {
    let stage = Arc::new(Stage::set(None, 0, None)?);
    let mut local = Loop::new(MAX_TASKS)?;
    let at = local.handle();
    let shown = |error: String| io::Error::other(error);
    let quiet = local.run(undisturbed(&at, &stage, seconds))?.map_err(shown)?;
    drop(local);
    let memory = memory(&stage)?;
    Ok(quiet.into_iter().chain([memory]).collect())
}

async fn undisturbed(at: &Handle, stage: &Stage, seconds: f64) -> Result<Vec<Goal>, String> {
    let endpoint = bind()?;
    let mut cold = Vec::new();
    for _ in 0..HANDSHAKES {
        let connection = connect(at, &endpoint, stage).await?;
        cold.push(connection.handshake_duration().as_secs_f64() * 1000.0);
        connection.close(0, b"");
    }
    let connection = connect(at, &endpoint, stage).await?;
    let client = Client::start(at, connection.clone()).map_err(|error| error.to_string())?;
    let (gbit, per_core) = throughput(&client, stage, seconds).await?;
    let added = added_latency(at, &client, stage).await?;
    connection.close(0, b"");
    Ok(vec![
        goal(
            "throughput of a tunnel",
            Some(gbit),
            "Gbit/s",
            ("≥ 1 Gbit/s on one core", 1.0),
            format!(
                "download through CONNECT, no link between; client, relay and target share this machine: {per_core:.2} Gbit for \
                 each processor-second of all three"
            ),
        ),
        goal(
            "added latency",
            Some(added),
            "ms",
            ("< 10 ms", 10.0),
            format!("median of {ECHOES} echoes through the relay, less that of the target alone"),
        ),
        goal(
            "cold handshake",
            Some(median(&mut cold)),
            "ms",
            ("< 100 ms", 100.0),
            format!("median of {HANDSHAKES}, no ticket, no link between"),
        ),
    ])
}

fn bind() -> Result<Endpoint, String> {
    Endpoint::bind(EndpointConfig::client(loopback())).map_err(|error| error.to_string())
}

async fn connect(at: &Handle, endpoint: &Endpoint, stage: &Stage) -> Result<Connection, String> {
    let connecting = endpoint.connect(stage.to_relay(stage.bundle()));
    match at.timeout(PATIENCE, connecting).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("no answer from the relay".into()),
    }
}

async fn open(client: &Client, stage: &Stage, kind: Kind) -> Result<TcpTunnel, String> {
    let target = stage.targets.tcp;
    let tunnel = client.connect_tcp(&target.ip().to_string(), target.port()).await;
    let mut tunnel = tunnel.map_err(|error| error.to_string())?;
    let request = header(kind, 0, 0);
    tunnel
        .write_all(&request)
        .await
        .map_err(|error| error.to_string())?;
    Ok(tunnel)
}

/// Gbit/s, and Gbit for each second of processor time.
async fn throughput(client: &Client, stage: &Stage, seconds: f64) -> Result<(f64, f64), String> {
    let mut tunnel = open(client, stage, Kind::Flood).await?;
    let mut buffer = vec![0; CHUNK];
    let (mut begun, mut cpu) = (now().instant, cpu_seconds());
    let (mut bytes, mut warm) = (0u64, false);
    loop {
        let read = tunnel
            .read(&mut buffer)
            .await
            .map_err(|error| error.to_string())?;
        bytes += read.ok_or("the target ended")? as u64;
        let elapsed = (now().instant - begun).as_secs_f64();
        if !warm && elapsed > seconds * 0.25 {
            (begun, cpu, bytes, warm) = (now().instant, cpu_seconds(), 0, true);
        } else if warm && elapsed > seconds * 0.75 {
            let gbit = bytes as f64 * 8.0 / 1e9;
            return Ok((gbit / elapsed, gbit / (cpu_seconds() - cpu).max(0.01)));
        }
    }
}

async fn added_latency(at: &Handle, client: &Client, stage: &Stage) -> Result<f64, String> {
    let mut tunnel = open(client, stage, Kind::Echo).await?;
    let direct = TcpStream::connect(at, stage.targets.tcp)
        .await
        .map_err(|error| error.to_string())?;
    direct
        .write_all(&header(Kind::Echo, 0, 0))
        .await
        .map_err(|error| error.to_string())?;
    let message = [0x17; MESSAGE];
    let mut back = [0; MESSAGE];
    let (mut through, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ECHOES {
        let begun = now().instant;
        tunnel
            .write_all(&message)
            .await
            .map_err(|error| error.to_string())?;
        let mut had = 0;
        while had < MESSAGE {
            let read = tunnel.read(&mut back).await.map_err(|error| error.to_string())?;
            had += read.ok_or("the target ended")?;
        }
        through.push((now().instant - begun).as_secs_f64() * 1000.0);
        let begun = now().instant;
        direct
            .write_all(&message)
            .await
            .map_err(|error| error.to_string())?;
        let mut had = 0;
        while had < MESSAGE {
            had += direct.read(&mut back).await.map_err(|error| error.to_string())?;
        }
        beside.push((now().instant - begun).as_secs_f64() * 1000.0);
    }
    Ok((median(&mut through) - median(&mut beside)).max(0.0))
}

/// A thousand connections that do nothing, both ends of each in this process.
fn memory(stage: &Stage) -> io::Result<Goal> {
    let endpoint = Endpoint::bind(EndpointConfig::client(loopback()))?;
    let before = rss_kib();
    let mut all: Vec<Connection> = Vec::with_capacity(CONNECTIONS);
    while all.len() < CONNECTIONS {
        let more = AT_ONCE.min(CONNECTIONS - all.len());
        let waiting: Vec<_> = (0..more)
            .map(|_| endpoint.connect(stage.to_relay(stage.bundle())))
            .collect();
        for connecting in waiting {
            let connection = connecting.wait_timeout(PATIENCE).ok_or(io::ErrorKind::TimedOut)?;
            all.push(connection.map_err(io::Error::other)?);
        }
    }
    let grown = rss_kib().saturating_sub(before) as f64 / 1024.0;
    endpoint.close(0, b"");
    endpoint.wait_idle().wait_timeout(PATIENCE);
    drop(all);
    Ok(goal(
        "memory of 1,000 tunnels",
        Some(grown),
        "MB",
        ("< 50 MB", 50.0),
        format!("growth of this process with {CONNECTIONS} idle connections, client and relay together"),
    ))
}

/// What the load itself shows.
pub fn of_the_run(tally: &Tally) -> Vec<Goal> {
    let quiet = tally.migration_gap_ms.count();
    let narrow = tally.settling_ms.count();
    vec![
        goal(
            "reconnect",
            tally.reconnect_ms.quantile(0.5).map(|ms| ms / 1000.0),
            "s",
            ("< 1 s", 1.0),
            format!(
                "median of {} clients that came back with a ticket, to the first byte through a tunnel, over all links",
                tally.reconnect_ms.count()
            ),
        ),
        goal(
            "migration",
            tally.migration_gap_ms.max_ms_if_any(),
            "ms",
            ("≤ 50 ms without loss", 50.0),
            format!(
                "longest silence of an echo every 10 ms, beyond that interval, in {quiet} moves to a second path on the clear link under \
                 bulk load; {} messages lost. When the old port is gone at once: {:.0} ms in the middle",
                tally.messages_lost,
                tally.rebind_gap_ms.quantile(0.5).unwrap_or(f64::NAN)
            ),
        ),
        goal(
            "a path that gets narrower",
            tally.settling_ms.max_ms_if_any().map(|ms| ms / 1000.0),
            "s",
            ("≤ 3 s to notice", 3.0),
            format!(
                "longest of {narrow} echoes in the first 4 s after the path MTU fell to 1280 without a word"
            ),
        ),
    ]
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
