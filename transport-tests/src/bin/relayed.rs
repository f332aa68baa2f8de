//! How many datagrams a relay carries: `relayed relay.bundle --seconds 5`. One client, one tunnel, and a target of this program's
//! own on loopback, which the relay must allow. Compare with `adit bench client … --workload datagrams`, on the same cores.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use transport_api::local::{Handle, Loop};
use transport_api::relay::APP;
use transport_api::tunnel::{BindOptions, Client};
use transport_api::{
    Bundle, ConnectOptions, Connection, DatagramOptions, Endpoint, EndpointConfig, now, resolve_endpoint,
};
use transport_core::net::{SocketOptions, UdpSocket};
use transport_core::{Batch, RecvBatch, Route};

#[derive(Parser)]
#[command(about = "Datagrams through a relay, to a target of this program's own")]
struct Cli {
    /// The relay's bundle.
    bundle: PathBuf,
    /// How long to send.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Bytes of a UDP payload.
    #[arg(long, default_value_t = 1200)]
    size: usize,
    /// By a bound port, in a compressed context, instead of plain CONNECT-UDP.
    #[arg(long)]
    bind: bool,
    /// From the target to the client, at so many Mbit/s.
    #[arg(long)]
    reverse: Option<u64>,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Packets that came.
type Count = Arc<AtomicU64>;

fn main() -> Outcome<()> {
    let cli = Cli::parse();
    let bundle = Bundle::parse(&std::fs::read(&cli.bundle)?)?;
    let mut main = Loop::new(16)?;
    let at = main.handle();
    main.run(measure(&at, &cli, &bundle))?
}

async fn measure(at: &Handle, cli: &Cli, bundle: &Bundle) -> Outcome<()> {
    let server = *resolve_endpoint(bundle)?
        .first()
        .ok_or("the bundle names no address")?;
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let endpoint = Endpoint::bind_on(EndpointConfig::client(any.parse()?), at)?;
    let mut options = ConnectOptions::new(bundle.clone(), APP);
    options.server = Some(server);
    let connection = endpoint.connect(options).await?;
    let client = Client::start(at, connection.clone())?;
    let socket = UdpSocket::bind("127.0.0.1:0".parse()?, &SocketOptions::default())?;
    let target = socket.local_addr()?;
    let received = Count::default();
    let header = open(at, &client, target, cli, &received).await?;
    let length = Duration::from_secs_f64(cli.seconds);
    let count = match cli.reverse {
        None => up(at, &connection, socket, &header, cli.size, length).await,
        Some(mbit) => {
            // Who is spoken to speaks.
            send(&connection, &header, 1).await;
            let size = cli.size;
            let flood = thread::spawn(move || flood(socket, size, length, mbit));
            at.sleep(length + Duration::from_millis(500)).await;
            drop(flood.join());
            received.load(Ordering::Relaxed)
        }
    };
    let rate = count as f64 / cli.seconds;
    let gbit = rate * cli.size as f64 * 8.0 / 1e9;
    println!("{count} packets, {rate:.0} a second, {gbit:.3} Gbit/s");
    Ok(())
}

/// Opens the tunnel and tells what stands in front of each packet: sent as datagrams of the connection, they wait for room where a
/// tunnel would drop them, so that what is measured is the relay.
async fn open(
    at: &Handle,
    client: &Client,
    target: SocketAddr,
    cli: &Cli,
    received: &Count,
) -> Outcome<Vec<u8>> {
    let (size, count) = (cli.size, Arc::clone(received));
    let note = move |packet: &[u8]| count.fetch_add(u64::from(packet.len() == size), Ordering::Relaxed);
    // The first request has quarter stream id 0.
    if !cli.bind {
        let host = target.ip().to_string();
        let tunnel = client.connect_udp(&host, target.port()).await?;
        at.spawn(async move {
            while let Ok(packet) = tunnel.recv().await {
                note(&packet);
            }
        })?;
        return Ok(vec![0, 0]);
    }
    let tunnel = client.bind_udp(&BindOptions::default()).await?;
    tunnel.compress(target)?;
    let (before, deadline) = (tunnel.max_payload(target), now().instant + Duration::from_secs(5));
    let receiving = tunnel.clone();
    at.spawn(async move {
        while let Ok((packet, _)) = receiving.recv_from().await {
            note(&packet);
        }
    })?;
    while tunnel.max_payload(target) == before && now().instant < deadline {
        at.sleep(Duration::from_millis(1)).await;
    }
    // The second context of the client: the first is the uncompressed one.
    Ok(vec![0, 4])
}

async fn send(connection: &Connection, header: &[u8], size: usize) -> bool {
    let mut datagram = Vec::with_capacity(header.len() + size);
    datagram.extend_from_slice(header);
    datagram.resize(header.len() + size, 0x5a);
    let sent = connection.send_datagram_wait(datagram, DatagramOptions::default());
    sent.await.is_ok()
}

async fn up(
    at: &Handle,
    connection: &Connection,
    socket: UdpSocket,
    header: &[u8],
    size: usize,
    length: Duration,
) -> u64 {
    let count = Count::default();
    let counted = Arc::clone(&count);
    thread::spawn(move || receive(socket, size, &counted));
    let until = now().instant + length;
    while now().instant < until && send(connection, header, size).await {}
    at.sleep(Duration::from_millis(300)).await;
    count.load(Ordering::Relaxed)
}

/// Counts packets of `size` bytes, for ever.
fn receive(mut socket: UdpSocket, size: usize, count: &AtomicU64) {
    let mut slots = RecvBatch::new(32);
    loop {
        match socket.recv_batch(&mut slots) {
            Ok(_) => {
                let whole = slots.datagrams().filter(|(_, bytes)| bytes.len() == size).count();
                count.fetch_add(whole as u64, Ordering::Relaxed);
            }
            Err(_) => thread::park_timeout(Duration::from_micros(200)),
        }
    }
}

/// Sends to whoever spoke first.
fn flood(mut socket: UdpSocket, size: usize, length: Duration, mbit: u64) {
    let mut slots = RecvBatch::new(1);
    let remote = loop {
        match socket.recv_batch(&mut slots) {
            Ok(_) => {
                if let Some((arrived, _)) = slots.datagrams().next() {
                    break arrived.route.remote;
                }
            }
            Err(_) => thread::park_timeout(Duration::from_millis(1)),
        }
    };
    let route = Route { remote, local: None };
    let mut batch = Batch::default();
    while batch.count() < 16 && batch.push(&vec![0x5a; size]).is_ok() {}
    let begin: Instant = now().instant;
    let per_batch = Duration::from_secs_f64((16 * size * 8) as f64 / (mbit as f64 * 1e6));
    let mut sent = 0u32;
    while now().instant < begin + length {
        let mut copy = Batch::default();
        for segment in batch.segments() {
            let _ = copy.push(segment);
        }
        let _ = socket.send_batch(route, &mut copy);
        sent += 1;
        let due = begin + per_batch * sent;
        thread::park_timeout(due.saturating_duration_since(now().instant));
    }
}
