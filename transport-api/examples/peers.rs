//! Two peers behind a relay: they meet by its bind tunnels, and go on without it once a direct path is found:
//! `cargo run -p transport-api --example peers`.

mod common;

use std::error::Error;

use common::loopback;
use transport_api::relay::{RelayConfig, RelayService};
use transport_api::tunnel::{APP, BindOptions, Client, PeerLink};
use transport_api::{
    AddressOptions, Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Endpoint, EndpointAddress,
    EndpointConfig, OsEntropy, PathReason, RelayIdentity, RelayStatics, ServerOptions, Wait,
};

const PEERS: &[u8] = b"peers/1";

fn main() -> Result<(), Box<dyn Error>> {
    let (server, relay) = common::relay(APP, 0)?;
    let mut config = RelayConfig::default();
    // Where the relay has ports for its clients.
    config.bind.addresses = vec![loopback().ip()];
    let _relay = RelayService::start(server, config)?;

    let (alice, _) = peer(&relay)?;
    let (bob, bundle_of_bob) = peer(&relay)?;
    // What Alice must be given: Bob's bundle, and where his tunnel is.
    let at_bob = *bob.public_addrs().first().ok_or("no address at the relay")?;

    let answers = std::thread::spawn(move || {
        let connection = bob.accept().wait().ok()?;
        while let Ok(question) = connection.read_datagram().wait() {
            connection.send_datagram(question).ok()?;
        }
        Some(())
    });
    let connection = alice
        .connect(ConnectOptions::new(bundle_of_bob, PEERS), at_bob)
        .wait()?;
    eprintln!("by the relay: {}", ask(&connection)?);
    while connection.path_changes().wait()?.reason != PathReason::Direct {}
    eprintln!("directly:     {}", ask(&connection)?);
    connection.close(0, b"");
    let _ = answers.join();
    Ok(())
}

/// A client of the relay that others can reach, and its own bundle.
fn peer(relay: &Bundle) -> Result<(PeerLink, Bundle), Box<dyn Error>> {
    let identity = RelayIdentity::generate(&mut OsEntropy)?;
    let statics = RelayStatics::generate(&mut OsEntropy)?;
    let bundle = bundle(&identity, &statics)?;
    let server = ServerOptions::open(identity.relay_id(), statics, bundle.epoch(), PEERS);
    let mut config = EndpointConfig::server(loopback(), server);
    config.transport.addresses = AddressOptions {
        // The relay is asked for the address it sees, and the peer is told.
        ask: true,
        direct: true,
        // On the open Internet the default is right: public addresses alone.
        allow: |address| address.ip().is_loopback(),
        ..AddressOptions::default()
    };
    let endpoint = Endpoint::bind(config)?;
    let connection = endpoint.connect(ConnectOptions::new(relay.clone(), APP)).wait()?;
    let client = Client::start_thread(connection)?;
    let bound = client.bind_udp(&BindOptions::default()).wait()?;
    Ok((PeerLink::start_threads(&endpoint, &client, bound, &[])?, bundle))
}

/// Who a peer is. Where it is found is told beside it, and may change.
fn bundle(identity: &RelayIdentity, statics: &RelayStatics) -> Result<Bundle, Box<dyn Error>> {
    let now = transport_api::now().unix_ms / 1000;
    let draft = BundleDraft {
        epoch: 1,
        not_before: now - 60,
        not_after: now + 86_400,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(loopback().ip()),
            port: 1,
            cover: 0,
        }],
    };
    Ok(Bundle::parse(&identity.sign_bundle(&draft, statics)?)?)
}

fn ask(connection: &transport_api::Connection) -> Result<String, Box<dyn Error>> {
    let sent = transport_api::now().instant;
    connection.send_datagram(b"are you there?".to_vec())?;
    let answer = connection.read_datagram().wait()?;
    let took = transport_api::now().instant.saturating_duration_since(sent);
    let way = connection.remote_address();
    Ok(format!(
        "{:?} from {way} after {took:?}",
        answer.escape_ascii().to_string()
    ))
}
