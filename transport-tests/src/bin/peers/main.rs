//! Two clients of one relay exchange datagrams, wherever each of them is: `peers far relay.bundle --meet DIR` sends back what
//! `peers near relay.bundle --meet DIR` sends and counts. They learn each other's address from files in DIR. With `--direct` they
//! speak over a connection that leaves the relay when it can. `e2e/peers.sh` puts them behind NATs.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod tally;
mod way;

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use transport_api::local::{Handle, Loop};
use transport_api::now;

use tally::Tally;
use way::{Here, Way};

/// Payload bytes of a datagram; fits before the path's width is known.
const SIZE: usize = 1000;
/// Datagrams on the way at a time: so many fit the queue of a connection that has just begun.
const WINDOW: usize = 32;
/// When nothing has come back for so long one more is sent all the same, so that the end of a silence shows.
const NUDGE: Duration = Duration::from_millis(20);
/// What has not come back by then is lost; who hears nothing for twice as long ends.
const LATE: Duration = Duration::from_secs(2);
/// How long the two wait for each other.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum End {
    /// Sends, and counts what comes back.
    Near,
    /// Sends back.
    Far,
}

#[derive(Parser)]
#[command(about = "Two clients exchange datagrams through their relay, or directly")]
struct Cli {
    #[arg(value_enum)]
    end: End,
    /// The relay's bundle.
    bundle: PathBuf,
    /// A directory that both see.
    #[arg(long)]
    meet: PathBuf,
    /// How many datagrams go there and back.
    #[arg(long, default_value_t = 100_000)]
    count: u32,
    /// Goes on for so long at least, so that a fast machine is still at it when its path is cut.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    /// Looks for a direct path; otherwise bare packets go by the tunnels. Both ends must be told the same.
    #[arg(long)]
    direct: bool,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let cli = Cli::parse();
    let mut main = Loop::new(64)?;
    let at = main.handle();
    main.run(run(&at, &cli))?
}

async fn run(at: &Handle, cli: &Cli) -> Outcome<()> {
    let begun = now().instant;
    let here = Here::new(at, cli).await?;
    say(&json!({ "event": "bound", "public": here.public.to_string(), "ready_ms": since(begun) }));
    let (mine, other) = match cli.end {
        End::Near => ("near", "far"),
        End::Far => ("far", "near"),
    };
    std::fs::write(cli.meet.join(mine).with_extension("bundle"), &here.bundle)?;
    publish(&cli.meet, mine, here.public)?;
    let peer = learn(at, &cli.meet, other).await?;
    let met = now().instant;
    let bundle = cli.meet.join(other).with_extension("bundle");
    let way = here.reach(at, cli, peer, &bundle).await?;
    match cli.end {
        End::Near => near(at, &way, met, cli).await?,
        End::Far => far(at, &way).await,
    }
    way.close(at).await;
    Ok(())
}

fn publish(meet: &Path, name: &str, public: SocketAddr) -> std::io::Result<()> {
    let unfinished = meet.join(format!("{name}.new"));
    std::fs::write(&unfinished, public.to_string())?;
    std::fs::rename(unfinished, meet.join(name))
}

async fn learn(at: &Handle, meet: &Path, name: &str) -> Outcome<SocketAddr> {
    let begun = now().instant;
    while now().instant < begun + PATIENCE {
        if let Ok(address) = std::fs::read_to_string(meet.join(name)) {
            return Ok(address.parse()?);
        }
        at.sleep(Duration::from_millis(5)).await;
    }
    Err("nobody came".into())
}

/// A number, and bytes that follow from it.
fn payload(number: u32) -> Vec<u8> {
    let mut payload = vec![number.to_le_bytes()[0]; SIZE];
    payload.splice(..4, number.to_be_bytes());
    payload
}

fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().copied().map(u32::from_be_bytes)
}

async fn near(at: &Handle, way: &Way, met: Instant, cli: &Cli) -> Outcome<()> {
    let begun = now().instant;
    let enough = begun + Duration::from_secs(cli.seconds);
    let mut tally = Tally::new(cli.count);
    let mut room = WINDOW;
    loop {
        while (tally.sent < cli.count || now().instant < enough) && tally.on_the_way < room {
            way.send(payload(tally.sent));
            tally.sent();
        }
        if tally.on_the_way == 0 {
            break;
        }
        let Ok(received) = at.timeout(NUDGE, way.recv()).await else {
            tally.advance(now().instant);
            room = WINDOW.max(tally.on_the_way + 1);
            continue;
        };
        room = WINDOW;
        let datagram = received?;
        let Some(number) = number(&datagram) else {
            continue;
        };
        if datagram != payload(number) {
            return Err("an echo is not what was sent".into());
        }
        if tally.returned == 0 {
            say(&json!({ "event": "first", "ms": since(met) }));
        }
        tally.back(number);
    }
    say(&tally.summary(begun, way.route()));
    Ok(())
}

async fn far(at: &Handle, way: &Way) {
    let mut limit = PATIENCE;
    let mut returned = 0u64;
    while let Ok(Ok(datagram)) = at.timeout(limit, way.recv()).await {
        way.send(datagram);
        returned += 1;
        limit = 2 * LATE;
    }
    say(&json!({ "event": "done", "route": way.route(), "returned": returned }));
}

fn since(begun: Instant) -> f64 {
    (now().instant - begun).as_secs_f64() * 1e3
}

fn say(event: &Value) {
    println!("{event}");
}
