//! A flooder for measurements: `flood send` offers a relay as much as the kernel carries; `flood honest` counts how many
//! honest clients get through meanwhile. `e2e/flood.sh` puts them into namespaces.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]
#![expect(clippy::disallowed_methods, reason = "a measurement on real time")]

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;
use transport_api::{Bundle, ConnectOptions, Endpoint, EndpointConfig, Wait, now};
use transport_core::net::{SocketOptions, UdpSocket};
use transport_core::wire::TransportParameters;
use transport_core::{Batch, Grant, Route, SeededEntropy};
use transport_crypto::{
    Auth, ClientHello, Direction, ENVELOPE_OVERHEAD, EnvelopeHeader, EnvelopeKeys, EnvelopeType, Initiator,
};
use transport_tests::sim::rng::{Rng, seed_bytes};

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(about = "Floods a relay, and measures who gets through")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints `READY` on stderr, half a second later sends as fast as the kernel takes it, and prints what was sent.
    Send {
        /// The relay's bundle.
        #[arg(long)]
        bundle: PathBuf,
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        /// What.
        #[arg(long)]
        mode: Mode,
        /// For how long.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Send from the addresses of this /10 (they must be local here); else from one.
        #[arg(long)]
        sources: Option<Ipv4Addr>,
        /// Hellos made in advance.
        #[arg(long, default_value_t = 4000)]
        hellos: u64,
        /// At most so many datagrams a second; else as many as go.
        #[arg(long)]
        rate: Option<f64>,
    },
    /// Begin handshakes at a steady pace; prints how many completed.
    Honest {
        /// The relay's bundle.
        #[arg(long)]
        bundle: PathBuf,
        /// The application protocol.
        #[arg(long, default_value = "adit-bench/1")]
        app: String,
        /// How many.
        #[arg(long, default_value_t = 100)]
        count: u32,
        /// Time between two beginnings, milliseconds.
        #[arg(long, default_value_t = 50)]
        interval_ms: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Bytes without meaning.
    Random,
    /// First flights, each sent before.
    Replay,
    /// First flights nobody has sent before.
    Hello,
}

/// Datagrams of one length: what one system call sends.
type Flight = Vec<Vec<u8>>;

/// A length that holds a quarter of a hello.
const SIZE: usize = 1232;
/// Flights of the two modes that need few.
const POOL: u64 = 64;
/// Between `READY` and the first datagram: for whoever wants to be connected before.
const HEAD_START: Duration = Duration::from_millis(500);
/// An honest client gives up after this.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Outcome<()> {
    match Cli::parse().command {
        Command::Send {
            bundle,
            to,
            mode,
            seconds,
            sources,
            hellos,
            rate,
        } => {
            let bundle = read(&bundle)?;
            let pool = match mode {
                Mode::Random => noise(),
                Mode::Replay => first_flights(&bundle, POOL)?,
                Mode::Hello => first_flights(&bundle, hellos)?,
            };
            // What is to be a replay has come before.
            let warm_up = if mode == Mode::Replay { pool.len() } else { 0 };
            let time = Duration::from_secs_f64(seconds);
            eprintln!("READY");
            std::thread::sleep(HEAD_START);
            send(&pool, to, sources, time, warm_up, rate)
        }
        Command::Honest {
            bundle,
            app,
            count,
            interval_ms,
        } => honest(&read(&bundle)?, &app, count, Duration::from_millis(interval_ms)),
    }
}

fn read(path: &Path) -> Outcome<Bundle> {
    Ok(Bundle::parse(&std::fs::read(path)?)?)
}

fn noise() -> Vec<Flight> {
    let mut rng = Rng::new(1, "noise");
    let mut datagram = |length: usize| -> Vec<u8> {
        std::iter::repeat_with(|| rng.u64().to_le_bytes())
            .flatten()
            .take(length)
            .collect()
    };
    (0..POOL)
        .map(|flight| (0..16).map(|_| datagram(64 + flight as usize * 18)).collect())
        .collect()
}

/// Hellos as an honest client writes them, each of its own client.
fn first_flights(bundle: &Bundle, count: u64) -> Outcome<Vec<Flight>> {
    let keys = EnvelopeKeys::new(bundle.kh(), bundle.epoch(), &Grant::default());
    let seed = now().unix_ms;
    let mut entropy = SeededEntropy::new(seed_bytes(seed, "flood"));
    let mut params = Vec::new();
    let parameters = TransportParameters {
        app: b"adit-bench/1".to_vec(),
        ..TransportParameters::default()
    };
    parameters.encode(&mut params).map_err(|_| "parameters")?;
    let mut flights = Vec::new();
    for client in 0..count {
        let hid = (seed << 24 | client).to_be_bytes();
        let hello = ClientHello {
            has_aes: true,
            time_ms: now().unix_ms,
            scid: [client as u8; 9],
            auth: Auth::Anonymous,
            params: &params,
        };
        let mut body = Vec::new();
        Initiator::start(bundle, hid, hello, &mut entropy, &mut body)?;
        let length = SIZE - ENVELOPE_OVERHEAD;
        let pieces = body.len().div_ceil(length);
        let mut flight = Vec::new();
        for (index, part) in body.chunks(length).enumerate() {
            let header = EnvelopeHeader {
                kind: EnvelopeType::ClientHello,
                hid,
                unix_minutes: (now().unix_ms / 60_000) as u32,
                index: index as u8,
                count: pieces as u8,
                total_len: body.len() as u16,
                fragment_offset: (index * length) as u16,
                fragment_len: part.len() as u16,
                token: None,
            };
            let mut datagram = Vec::new();
            keys.seal(
                Direction::ClientToServer,
                &header,
                part,
                SIZE,
                &mut entropy,
                &mut datagram,
            )?;
            flight.push(datagram);
        }
        flights.push(flight);
    }
    Ok(flights)
}

/// One address of 4,194,304; neighbours in time are of different neighbourhoods.
fn source(base: Ipv4Addr, number: u64) -> IpAddr {
    let host = (number.wrapping_mul(2_654_435_761) as u32) >> 10;
    Ipv4Addr::from_bits(base.to_bits() | host).into()
}

fn send(
    pool: &[Flight],
    to: SocketAddr,
    sources: Option<Ipv4Addr>,
    time: Duration,
    warm_up: usize,
    rate: Option<f64>,
) -> Outcome<()> {
    // Without GSO: the far end of a veth pair would get sixty datagrams for the price of one, as no network delivers them.
    let options = SocketOptions {
        gso: false,
        gro: false,
        ..SocketOptions::default()
    };
    let mut socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0).into(), &options)?;
    let mut batch = Batch::default();
    let begun = now().instant;
    let (mut number, mut blocked) = (0u64, 0u64);
    let mut datagrams = 0u64;
    loop {
        let elapsed = now().instant.saturating_duration_since(begun);
        let flight = &pool[number as usize % pool.len()];
        if (number as usize) < warm_up {
            std::thread::sleep(Duration::from_millis(5));
        } else if elapsed >= time {
            break;
        } else if rate.is_some_and(|rate| datagrams as f64 > rate * elapsed.as_secs_f64()) {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        batch.clear();
        for datagram in flight {
            batch.push(datagram).map_err(|_| "a flight of several lengths")?;
        }
        let route = Route {
            remote: to,
            local: sources.map(|base| source(base, number)),
        };
        match socket.send_batch(route, &mut batch) {
            Ok(()) => datagrams += flight.len() as u64,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => blocked += 1,
            Err(error) => return Err(error.into()),
        }
        number += 1;
    }
    let (stats, seconds) = (socket.send_stats(), (now().instant - begun).as_secs_f64());
    let report = json!({
        "datagrams": stats.sent, "refused": stats.refused, "blocked": blocked,
        "seconds": seconds, "per_second": (stats.sent as f64 / seconds).round(),
        "distinct_flights": pool.len(),
    });
    println!("{report}");
    Ok(())
}

fn honest(bundle: &Bundle, app: &str, count: u32, interval: Duration) -> Outcome<()> {
    let endpoint = Endpoint::bind(EndpointConfig::client((Ipv4Addr::UNSPECIFIED, 0).into()))?;
    let mut waiting = Vec::new();
    for _ in 0..count {
        let connecting = endpoint.connect(ConnectOptions::new(bundle.clone(), app.as_bytes()));
        waiting.push(std::thread::spawn(move || {
            let begun = now().instant;
            let connected = matches!(connecting.wait_timeout(PATIENCE), Some(Ok(_)));
            let took = now().instant.saturating_duration_since(begun);
            connected.then_some(took.as_secs_f64())
        }));
        std::thread::sleep(interval);
    }
    let mut times: Vec<f64> = waiting
        .into_iter()
        .filter_map(|client| client.join().ok().flatten())
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied();
    let report = json!({
        "begun": count, "completed": times.len(), "share": times.len() as f64 / f64::from(count),
        "seconds_median": at(0.5), "seconds_p90": at(0.9), "seconds_max": times.last(),
    });
    println!("{report}");
    Ok(())
}
