//! A relay and two peers, each a process of its own, for `e2e/punch.sh`: `peers relay ADDRESS`, `peers answer RELAY`, `peers call RELAY PEER`.
//! Keys follow from fixed seeds, so that nothing but addresses has to be told.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Parser;
use transport_api::relay::{RelayConfig, RelayService};
use transport_api::tunnel::{APP, BindOptions, Client, PeerLink};
use transport_api::{
    AddressOptions, Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Connection, Endpoint,
    EndpointAddress, EndpointConfig, PathReason, RelayIdentity, RelayStatics, ServerOptions, Wait, now,
};

const PEERS: &[u8] = b"peers/1";
const RELAY: u8 = 1;
const ANSWERER: u8 = 2;
const CALLER: u8 = 3;

#[derive(Parser)]
#[command(about = "A relay, and two peers who meet by it")]
enum Cli {
    /// Serves bind tunnels.
    Relay {
        /// Where to listen, and to bind for clients.
        address: SocketAddr,
    },
    /// Says where it is found, and sends messages back.
    Answer {
        /// The relay.
        relay: SocketAddr,
    },
    /// Sends a message of 900 bytes, which fit any path, each 10 ms, and tells what became of them.
    Call {
        /// The relay.
        relay: SocketAddr,
        /// Where the other one is found.
        peer: SocketAddr,
        /// How many messages.
        #[arg(long, default_value_t = 1000)]
        messages: u32,
    },
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    match Cli::parse() {
        Cli::Relay { address } => serve(address),
        Cli::Answer { relay } => answer(relay),
        Cli::Call {
            relay,
            peer,
            messages,
        } => call(relay, peer, messages),
    }
}

fn server(number: u8, app: &[u8]) -> ServerOptions {
    let identity = RelayIdentity::from_seeds([number; 64]);
    ServerOptions::open(
        identity.relay_id(),
        RelayStatics::from_seeds([number; 96]),
        1,
        app,
    )
}

fn bundle(number: u8, at: SocketAddr) -> Outcome<Bundle> {
    let seconds = now().unix_ms / 1000;
    let draft = BundleDraft {
        epoch: 1,
        not_before: seconds - 60,
        not_after: seconds + 3600,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(at.ip()),
            port: at.port(),
            cover: 0,
        }],
    };
    let signed = RelayIdentity::from_seeds([number; 64])
        .sign_bundle(&draft, &RelayStatics::from_seeds([number; 96]))?;
    Ok(Bundle::parse(&signed)?)
}

fn serve(address: SocketAddr) -> Outcome<()> {
    let endpoint = Endpoint::bind(EndpointConfig::server(address, server(RELAY, APP)))?;
    let mut config = RelayConfig::default();
    config.bind.addresses = vec![address.ip()];
    let _service = RelayService::start(endpoint, config)?;
    loop {
        std::thread::park();
    }
}

fn link(number: u8, relay: SocketAddr) -> Outcome<PeerLink> {
    let mut config = EndpointConfig::server(([0; 4], 0).into(), server(number, PEERS));
    config.transport.addresses = AddressOptions {
        ask: true,
        direct: true,
        ..AddressOptions::default()
    };
    let endpoint = Endpoint::bind(config)?;
    let connecting = endpoint.connect(ConnectOptions::new(bundle(RELAY, relay)?, APP));
    let client = Client::start_thread(connecting.wait()?)?;
    let bound = client.bind_udp(&BindOptions::default()).wait()?;
    Ok(PeerLink::start_threads(&endpoint, &client, bound, &[])?)
}

fn answer(relay: SocketAddr) -> Outcome<()> {
    let link = link(ANSWERER, relay)?;
    println!("{}", link.public_addrs().first().ok_or("no address")?);
    loop {
        let connection = link.accept().wait()?;
        while let Ok(message) = connection.read_datagram().wait() {
            connection.send_datagram(message)?;
        }
    }
}

fn call(relay: SocketAddr, peer: SocketAddr, messages: u32) -> Outcome<()> {
    let link = link(CALLER, relay)?;
    let begun = now().instant;
    let options = ConnectOptions::new(bundle(ANSWERER, peer)?, PEERS);
    let connection = link.connect(options, peer).wait()?;
    let direct = watch(&connection, begun);
    let (mut arrived, mut gap, mut last) = (0, Duration::ZERO, None::<Instant>);
    let mut first = Duration::ZERO;
    for number in 0..messages {
        connection.send_datagram(vec![7; 900])?;
        let due = begun + Duration::from_millis(10) * (number + 1);
        while let Some(left) = due
            .checked_duration_since(now().instant)
            .filter(|left| !left.is_zero())
        {
            let Some(received) = connection.read_datagram().wait_timeout(left) else {
                break;
            };
            drop(received?);
            let at = now().instant;
            first = last.map_or(at.saturating_duration_since(begun), |_| first);
            gap = gap.max(last.map_or(Duration::ZERO, |last| at.saturating_duration_since(last)));
            (arrived, last) = (arrived + 1, Some(at));
        }
    }
    let way = connection.remote_address();
    connection.close(0, b"");
    let direct = direct.join().ok().flatten();
    println!(
        "first {} ms, direct {}, {arrived} of {messages} came back, longest gap {} ms, at last by {way}",
        first.as_millis(),
        direct.map_or("never".into(), |took| format!("{} ms", took.as_millis())),
        gap.as_millis()
    );
    Ok(())
}

/// When the first direct path was chosen.
fn watch(connection: &Connection, begun: Instant) -> std::thread::JoinHandle<Option<Duration>> {
    let mut changes = connection.path_changes();
    std::thread::spawn(move || {
        loop {
            let change = (&mut changes).wait().ok()?;
            if change.reason == PathReason::Direct {
                return Some(now().instant.saturating_duration_since(begun));
            }
        }
    })
}
