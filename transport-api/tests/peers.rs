//! Two clients of one relay, each with a bind tunnel: they reach each other by it, and then without it. No NATs here; those are in
//! `transport-tests/tests/punch.rs`.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{LOOPBACK, PATIENCE, bundle, identity, pattern, statics};
use transport_api::local::Loop;
use transport_api::relay::{RelayConfig, RelayService};
use transport_api::tunnel::{APP, BindOptions, Client, PeerError, PeerLink};
use transport_api::{
    AddressOptions, Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Connection, Endpoint,
    EndpointAddress, EndpointConfig, PathChange, PathReason, PathState, RelayIdentity, RelayStatics,
    ServerOptions, Wait,
};

const PEER_APP: &[u8] = b"peers/1";

struct Relay {
    service: RelayService,
    bundle: Bundle,
}

fn relay() -> Relay {
    let options = ServerOptions::open(identity().relay_id(), statics(), 1, APP);
    let server = Endpoint::bind(EndpointConfig::server(LOOPBACK, options)).expect("server socket");
    let bundle = bundle(server.local_addr());
    let mut config = RelayConfig::default();
    config.bind.addresses = vec!["127.0.0.1".parse().expect("address")];
    Relay {
        service: RelayService::start(server, config).expect("relay"),
        bundle,
    }
}

/// One client: it answers under an identity of its own, and has a tunnel.
struct Peer {
    endpoint: Endpoint,
    link: PeerLink,
    bundle: Bundle,
}

fn own_bundle(number: u8) -> Bundle {
    let now = transport_api::now().unix_ms / 1000;
    let draft = BundleDraft {
        epoch: 1,
        not_before: now - 60,
        not_after: now + 3600,
        // Where it is found is told with the bundle, and changes.
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Name("peer".into()),
            port: 1,
            cover: 0,
        }],
    };
    let statics = RelayStatics::from_seeds([number; 96]);
    let signed = RelayIdentity::from_seeds([number; 64]).sign_bundle(&draft, &statics);
    Bundle::parse(&signed.expect("a bundle")).expect("our own bundle")
}

fn connect(endpoint: &Endpoint, relay: &Relay) -> Client {
    let connecting = endpoint.connect(ConnectOptions::new(relay.bundle.clone(), APP));
    let connection = connecting.wait_timeout(PATIENCE).expect("in time");
    Client::start_thread(connection.expect("a connection")).expect("thread")
}

impl Peer {
    fn new(relay: &Relay, number: u8, force_relay: bool) -> Self {
        let (identity, statics) = (
            RelayIdentity::from_seeds([number; 64]),
            RelayStatics::from_seeds([number; 96]),
        );
        let options = ServerOptions::open(identity.relay_id(), statics, 1, PEER_APP);
        let mut config = EndpointConfig::server(LOOPBACK, options);
        config.transport.addresses = AddressOptions {
            ask: true,
            direct: true,
            force_relay,
            allow: |address| address.ip().is_loopback(),
            ..AddressOptions::default()
        };
        let endpoint = Endpoint::bind(config).expect("a socket");
        let client = connect(&endpoint, relay);
        let bound = client.bind_udp(&BindOptions::default()).wait_timeout(PATIENCE);
        let bound = bound.expect("in time").expect("bound");
        Self {
            link: PeerLink::start_threads(&endpoint, &client, bound, &[]).expect("a link"),
            endpoint,
            bundle: own_bundle(number),
        }
    }

    fn public(&self) -> SocketAddr {
        self.link.public_addrs()[0]
    }

    /// Both ends of a connection to `other`.
    fn meet(&self, other: &Self) -> (Connection, Connection) {
        let options = ConnectOptions::new(other.bundle.clone(), PEER_APP);
        let mine = self.link.connect(options, other.public());
        let mine = mine
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("a connection");
        let theirs = other.link.accept().wait_timeout(PATIENCE);
        (mine, theirs.expect("in time").expect("a peer"))
    }
}

/// Sends messages of each length one way until one arrived.
fn exchange(from: &Connection, to: &Connection, len: usize) {
    let message = pattern(len);
    for _ in 0..50 {
        from.send_datagram(message.clone()).expect("sent");
        if let Some(received) = to.read_datagram().wait_timeout(Duration::from_millis(200)) {
            assert_eq!(received.expect("a message"), message);
            return;
        }
    }
    panic!("nothing arrives");
}

fn until(connection: &Connection, wanted: impl Fn(&PathChange) -> bool) -> PathChange {
    for _ in 0..64 {
        let change = connection.path_changes().wait_timeout(PATIENCE);
        let change = change.expect("in time").expect("it stands");
        if wanted(&change) {
            return change;
        }
    }
    panic!("never");
}

fn is_active(change: &PathChange) -> bool {
    change.state == PathState::Active
}

#[test]
fn peers_meet_by_the_relay_and_find_the_direct_path() {
    let relay = relay();
    let (a, b) = (Peer::new(&relay, 11, false), Peer::new(&relay, 12, false));
    let (mine, theirs) = a.meet(&b);
    exchange(&mine, &theirs, 1000);
    let chosen = until(&mine, is_active);
    assert_eq!(chosen.reason, PathReason::Direct);
    assert_eq!(until(&theirs, is_active).reason, PathReason::Peer);
    assert_eq!(mine.remote_address(), b.endpoint.local_addr());
    assert_eq!(theirs.remote_address(), a.endpoint.local_addr());
    let paths = mine.paths();
    assert!(paths[0].direct && paths[0].id == chosen.path);
    assert!(
        paths[1..]
            .iter()
            .any(|path| !path.direct && path.state == PathState::Standby),
        "the way by the relay waits: {paths:?}"
    );
    for len in [1, 100, 1000] {
        exchange(&mine, &theirs, len);
        exchange(&theirs, &mine, len);
    }
    // The relay's service ends; the peers do not notice.
    drop(relay.service);
    exchange(&mine, &theirs, 1000);
    exchange(&theirs, &mine, 1000);
}

#[test]
fn who_must_be_relayed_shows_nobody_where_it_is() {
    let relay = relay();
    let (a, b) = (Peer::new(&relay, 13, true), Peer::new(&relay, 14, false));
    let (mine, theirs) = a.meet(&b);
    // Ten times what a direct path takes here.
    let end = transport_api::now().instant + Duration::from_secs(1);
    while transport_api::now().instant < end {
        exchange(&mine, &theirs, 1000);
        exchange(&theirs, &mine, 1000);
    }
    assert_eq!(mine.remote_address(), b.public());
    assert_eq!(theirs.remote_address(), a.public());
    assert_eq!((mine.paths().len(), theirs.paths().len()), (1, 1));
}

#[test]
fn a_tunnel_lasts_as_long_as_somebody_needs_it() {
    let relay = relay();
    let (a, b) = (Peer::new(&relay, 15, true), Peer::new(&relay, 16, true));
    let (mine, theirs) = a.meet(&b);
    let (public, tunnels) = (a.public(), |relay: &Relay| relay.service.snapshot().tunnels_open);
    assert_eq!(tunnels(&relay), 2);
    drop(a);
    exchange(&mine, &theirs, 500);
    assert_eq!(theirs.remote_address(), public);
    drop(mine);
    let deadline = transport_api::now().instant + PATIENCE;
    while tunnels(&relay) > 1 {
        assert!(
            transport_api::now().instant < deadline,
            "{} tunnels",
            tunnels(&relay)
        );
        std::thread::yield_now();
    }
    drop(theirs);
}

#[test]
fn links_live_on_a_loop_as_well() {
    let relay = relay();
    let b = Peer::new(&relay, 17, false);
    let (bundle, public, link) = (b.bundle.clone(), b.public(), b.link.clone());
    let answers = std::thread::spawn(move || {
        let theirs = link.accept().wait().expect("a peer");
        // Until the other end is done with it.
        theirs.closed().wait();
        link.accept().wait().err()
    });
    let mut local = Loop::new(100).expect("a loop");
    let handle = local.handle();
    let run = local.run(async {
        let mut config = EndpointConfig::client(LOOPBACK);
        config.transport.addresses = AddressOptions {
            ask: true,
            direct: true,
            allow: |_| true,
            ..AddressOptions::default()
        };
        let endpoint = Endpoint::bind_on(config, &handle).expect("a socket");
        let connecting = endpoint.connect(ConnectOptions::new(relay.bundle.clone(), APP));
        let client = Client::start(&handle, connecting.await.expect("a connection")).expect("room");
        let bound = client.bind_udp(&BindOptions::default()).await.expect("bound");
        let link = PeerLink::start(&handle, &endpoint, &client, bound, &[]).expect("a link");
        let mine = link
            .connect(ConnectOptions::new(bundle, PEER_APP), public)
            .await
            .expect("a connection");
        loop {
            let change = mine.path_changes().await.expect("it stands");
            if change.reason == PathReason::Direct {
                return mine.remote_address();
            }
        }
    });
    assert_eq!(run.expect("a loop that runs"), b.endpoint.local_addr());
    b.endpoint.close(0, b"");
    let over = answers.join().expect("no panic");
    assert_eq!(over, Some(PeerError::EndpointClosed));
}
