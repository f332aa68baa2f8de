//! Opens many tunnels to a relay and holds them: `tunnels relay.bundle --count 1000 --seconds 20`, IP tunnels each on a connection of
//! its own, or `--kind udp|bind --each 100`. What a tunnel costs the relay is then read off the relay.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use transport_api::local::{Handle, Loop};
use transport_api::relay::APP;
use transport_api::tunnel::{BindOptions, BoundUdp, Client, IpEvent, IpRequest, IpTunnel, UdpTunnel};
use transport_api::{Bundle, ConnectOptions, Endpoint, EndpointConfig, resolve_endpoint};

#[derive(Parser)]
#[command(about = "Many idle tunnels to one relay")]
struct Cli {
    /// The relay's bundle.
    bundle: PathBuf,
    /// How many tunnels.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// What they carry.
    #[arg(long, value_enum, default_value_t = Kind::Ip)]
    kind: Kind,
    /// How many of them share a connection.
    #[arg(long, default_value_t = 1)]
    each: usize,
    /// How long to hold them.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Ip,
    Udp,
    Bind,
}

/// One of them, held.
#[expect(dead_code, reason = "held until the end, not looked at")]
enum Tunnel {
    Ip(Box<IpTunnel>),
    Udp(UdpTunnel),
    Bind(BoundUdp),
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let cli = Cli::parse();
    let bundle = Bundle::parse(&std::fs::read(&cli.bundle)?)?;
    let mut main = Loop::new(cli.count * 4 + 16)?;
    let at = main.handle();
    main.run(hold(&at, &cli, &bundle))?
}

async fn hold(at: &Handle, cli: &Cli, bundle: &Bundle) -> Outcome<()> {
    let server = *resolve_endpoint(bundle)?
        .first()
        .ok_or("the bundle names no address")?;
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let mut config = EndpointConfig::client(any.parse()?);
    config.transport.keep_alive = Some(Duration::from_secs(15));
    let endpoint = Endpoint::bind_on(config, at)?;
    let mut tunnels = Vec::with_capacity(cli.count);
    let mut clients = Vec::new();
    while tunnels.len() < cli.count {
        let mut options = ConnectOptions::new(bundle.clone(), APP);
        options.server = Some(server);
        let connection = endpoint.connect(options).await?;
        let client = Client::start(at, connection)?;
        for _ in 0..cli.each.min(cli.count - tunnels.len()) {
            tunnels.push(open(&client, cli.kind).await?);
        }
        clients.push(client);
    }
    println!("{} tunnels", tunnels.len());
    at.sleep(Duration::from_secs(cli.seconds)).await;
    Ok(())
}

async fn open(client: &Client, kind: Kind) -> Outcome<Tunnel> {
    Ok(match kind {
        Kind::Ip => {
            let mut tunnel = client.connect_ip(&IpRequest::default()).await?;
            wait_for_addresses(&mut tunnel).await?;
            Tunnel::Ip(Box::new(tunnel))
        }
        // Nobody need listen there.
        Kind::Udp => Tunnel::Udp(client.connect_udp("127.0.0.1", 9).await?),
        Kind::Bind => Tunnel::Bind(client.bind_udp(&BindOptions::default()).await?),
    })
}

async fn wait_for_addresses(tunnel: &mut IpTunnel) -> Outcome<()> {
    loop {
        match tunnel.recv().await? {
            IpEvent::Addresses(addresses) if addresses.is_empty() => {
                return Err("the relay's pool is full".into());
            }
            IpEvent::Addresses(_) => return Ok(()),
            _ => {}
        }
    }
}
