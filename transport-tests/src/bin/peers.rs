//! Two clients of one relay exchange datagrams over bind tunnels, wherever each of them is: `peers far relay.bundle --meet DIR`
//! sends back what `peers near relay.bundle --meet DIR` sends and counts. They learn each other's address from files in DIR.
//! `e2e/peers.sh` puts them behind NATs.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use transport_api::local::{Handle, Loop};
use transport_api::relay::APP;
use transport_api::tunnel::{BindOptions, BoundUdp, Client};
use transport_api::{Bundle, ConnectOptions, Endpoint, EndpointConfig, now, resolve_endpoint};

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
#[command(about = "Two clients exchange datagrams through their relay")]
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
    // The endpoint and the client live as long as the tunnel is used.
    let (_endpoint, _client, bound) = bind(at, &cli.bundle).await?;
    let public = *bound.public_addrs().first().ok_or("the relay binds nothing")?;
    say(&json!({ "event": "bound", "public": public.to_string(), "ready_ms": since(begun) }));
    let (mine, other) = match cli.end {
        End::Near => ("near", "far"),
        End::Far => ("far", "near"),
    };
    publish(&cli.meet, mine, public)?;
    let peer = learn(at, &cli.meet, other).await?;
    match cli.end {
        End::Near => near(at, &bound, peer, cli.count).await,
        End::Far => far(at, &bound).await,
    }
}

async fn bind(at: &Handle, bundle: &Path) -> Outcome<(Endpoint, Client, BoundUdp)> {
    let bundle = Bundle::parse(&std::fs::read(bundle)?)?;
    let server = *resolve_endpoint(&bundle)?
        .first()
        .ok_or("the bundle names no address")?;
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let endpoint = Endpoint::bind_on(EndpointConfig::client(any.parse()?), at)?;
    let mut options = ConnectOptions::new(bundle, APP);
    options.server = Some(server);
    let client = Client::start(at, endpoint.connect(options).await?)?;
    let bound = client.bind_udp(&BindOptions::default()).await?;
    Ok((endpoint, client, bound))
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

/// What was sent and what came back.
struct Tally {
    /// When each was sent, the oldest first; `None` once it is back.
    awaited: VecDeque<Option<Instant>>,
    /// The number of the oldest.
    oldest: u32,
    on_the_way: usize,
    sent: u32,
    returned: u32,
    trips_us: Vec<u32>,
    last: Instant,
    longest_gap: Duration,
}

impl Tally {
    fn new(count: u32) -> Self {
        Self {
            awaited: VecDeque::with_capacity(WINDOW),
            oldest: 0,
            on_the_way: 0,
            sent: 0,
            returned: 0,
            trips_us: Vec::with_capacity(count as usize),
            last: now().instant,
            longest_gap: Duration::ZERO,
        }
    }

    fn sent(&mut self) {
        self.awaited.push_back(Some(now().instant));
        self.on_the_way += 1;
        self.sent += 1;
    }

    /// Forgets those at the head that are back, or lost.
    fn advance(&mut self, at: Instant) {
        while let Some(oldest) = self.awaited.front()
            && oldest.is_none_or(|sent| at >= sent + LATE)
        {
            self.on_the_way -= usize::from(oldest.is_some());
            self.awaited.pop_front();
            self.oldest += 1;
        }
    }

    fn back(&mut self, number: u32) {
        let at = now().instant;
        let index = number.wrapping_sub(self.oldest) as usize;
        // Once only; one that was given up does not count.
        if let Some(sent) = self.awaited.get_mut(index).and_then(Option::take) {
            self.trips_us
                .push((at - sent).as_micros().try_into().unwrap_or(u32::MAX));
            self.on_the_way -= 1;
            self.returned += 1;
            self.longest_gap = self.longest_gap.max(at - self.last);
            self.last = at;
        }
        self.advance(at);
    }
}

async fn near(at: &Handle, bound: &BoundUdp, peer: SocketAddr, count: u32) -> Outcome<()> {
    let begun = now().instant;
    let mut tally = Tally::new(count);
    let mut room = WINDOW;
    loop {
        while tally.sent < count && tally.on_the_way < room {
            // One that is dropped here is missed like any other.
            let _ = bound.send_to(&payload(tally.sent), peer);
            tally.sent();
        }
        if tally.on_the_way == 0 {
            break;
        }
        let Ok(received) = at.timeout(NUDGE, bound.recv_from()).await else {
            tally.advance(now().instant);
            room = WINDOW.max(tally.on_the_way + 1);
            continue;
        };
        room = WINDOW;
        let (datagram, from) = received?;
        let Some(number) = number(&datagram).filter(|_| from == peer) else {
            continue;
        };
        if datagram[..] != payload(number)[..] {
            return Err("an echo is not what was sent".into());
        }
        if tally.returned == 0 {
            say(&json!({ "event": "first", "ms": since(begun) }));
        }
        tally.back(number);
    }
    say(&summary(tally, begun));
    Ok(())
}

fn summary(mut tally: Tally, begun: Instant) -> Value {
    tally.trips_us.sort_unstable();
    let quantile = |of: usize| {
        let at = tally.trips_us.len().saturating_sub(1) * of / 100;
        tally.trips_us.get(at).map(|us| f64::from(*us) / 1e3)
    };
    json!({
        "event": "done",
        "sent": tally.sent,
        "returned": tally.returned,
        "lost": tally.sent - tally.returned,
        "seconds": (now().instant - begun).as_secs_f64(),
        "rtt_ms": { "p50": quantile(50), "p99": quantile(99) },
        "longest_gap_ms": tally.longest_gap.as_millis() as u64,
    })
}

async fn far(at: &Handle, bound: &BoundUdp) -> Outcome<()> {
    let mut limit = PATIENCE;
    let mut returned = 0u64;
    while let Ok(received) = at.timeout(limit, bound.recv_from()).await {
        let (datagram, from) = received?;
        let _ = bound.send_to(&datagram, from);
        returned += 1;
        limit = 2 * LATE;
    }
    say(&json!({ "event": "done", "returned": returned }));
    Ok(())
}

fn since(begun: Instant) -> f64 {
    (now().instant - begun).as_secs_f64() * 1e3
}

fn say(event: &Value) {
    println!("{event}");
}
