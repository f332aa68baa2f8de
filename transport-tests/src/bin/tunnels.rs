//! Opens many IP tunnels to a relay and holds them: `tunnels relay.bundle --count 1000 --seconds 20`. What a tunnel costs the
//! relay is then read off the relay.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use transport_api::local::{Handle, Loop};
use transport_api::relay::APP;
use transport_api::tunnel::{Client, IpEvent, IpRequest, IpTunnel};
use transport_api::{Bundle, ConnectOptions, Endpoint, EndpointConfig, resolve_endpoint};

#[derive(Parser)]
#[command(about = "Many idle IP tunnels to one relay")]
struct Cli {
    /// The relay's bundle.
    bundle: PathBuf,
    /// How many tunnels, each on a connection of its own.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// How long to hold them.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
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
    for _ in 0..cli.count {
        let mut options = ConnectOptions::new(bundle.clone(), APP);
        options.server = Some(server);
        let connection = endpoint.connect(options).await?;
        let client = Client::start(at, connection)?;
        let mut tunnel = client.connect_ip(&IpRequest::default()).await?;
        wait_for_addresses(&mut tunnel).await?;
        tunnels.push((client, tunnel));
    }
    println!("{} tunnels", tunnels.len());
    at.sleep(Duration::from_secs(cli.seconds)).await;
    Ok(())
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
