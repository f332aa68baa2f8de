//! Chains of relays on loopback: what passes, what each relay sees, and what is refused.

mod common;

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{LOOPBACK, PATIENCE, checksum, eventually, instant, pattern, tcp_echo};
use transport_api::local::Loop;
use transport_api::relay::{Asked, Decision, OnRequest, RelayConfig, RelayService, RequestMeta};
use transport_api::tunnel::{
    APP, Chain, ChainError, ChainErrorKind, Client, MAX_HOPS, TunnelErrorKind, connect_through,
};
use transport_api::{
    Bundle, BundleDraft, BundleEndpoint, ConnectError, ConnectOptions, ConnectionError, Endpoint,
    EndpointAddress, EndpointConfig, RelayIdentity, RelayStatics, ServerOptions, TransportOptions, Wait,
};

/// Where requests wanted to go.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl OnRequest for Seen {
    fn on_request(&self, request: &RequestMeta<'_>) -> Decision {
        if let Asked::Host(target) = request.target {
            self.0.lock().expect("no panic").push(target.to_string());
        }
        Decision::accept()
    }
}

struct Relay {
    service: RelayService,
    endpoint: Endpoint,
    bundle: Bundle,
    seen: Arc<Seen>,
}

fn bundle(number: u8, address: EndpointAddress, port: u16) -> Bundle {
    let now = transport_api::now().unix_ms / 1000;
    let draft = BundleDraft {
        epoch: 1,
        not_before: now - 60,
        not_after: now + 3600,
        endpoints: vec![BundleEndpoint {
            address,
            port,
            cover: 0,
        }],
    };
    let identity = RelayIdentity::from_seeds([number; 64]);
    let bytes = identity
        .sign_bundle(&draft, &RelayStatics::from_seeds([number; 96]))
        .expect("a bundle");
    Bundle::parse(&bytes).expect("our own bundle")
}

impl Relay {
    fn start(number: u8, change: impl FnOnce(&mut RelayConfig)) -> Self {
        let identity = RelayIdentity::from_seeds([number; 64]);
        let statics = RelayStatics::from_seeds([number; 96]);
        let options = ServerOptions::open(identity.relay_id(), statics, 1, APP);
        let endpoint = Endpoint::bind(EndpointConfig::server(LOOPBACK, options)).expect("a socket");
        let at = endpoint.local_addr();
        let seen = Arc::<Seen>::default();
        let mut config = RelayConfig {
            hook: Arc::<Seen>::clone(&seen),
            ..RelayConfig::default()
        };
        config.policy.allow = vec!["127.0.0.1".parse().expect("a network")];
        change(&mut config);
        Self {
            service: RelayService::start(endpoint.clone(), config).expect("a relay"),
            endpoint,
            bundle: bundle(number, EndpointAddress::Ip(at.ip()), at.port()),
            seen,
        }
    }

    fn way(&self) -> ConnectOptions {
        ConnectOptions::new(self.bundle.clone(), APP)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.0.lock().expect("no panic").clone()
    }

    /// Where its clients are.
    fn clients(&self) -> Vec<SocketAddr> {
        let mut sessions = self.endpoint.sessions();
        let page = sessions
            .next_page()
            .wait_timeout(PATIENCE)
            .expect("in time")
            .unwrap_or_default();
        page.iter().map(|session| session.remote).collect()
    }
}

fn relays(count: u8) -> Vec<Relay> {
    (1..=count).map(|number| Relay::start(number, |_| {})).collect()
}

fn ways(relays: &[Relay]) -> Vec<ConnectOptions> {
    relays.iter().map(Relay::way).collect()
}

/// A client that no relay could be taken for.
fn client() -> Endpoint {
    let transport = TransportOptions {
        handshake_timeout: Duration::from_secs(3),
        ..TransportOptions::default()
    };
    Endpoint::bind(EndpointConfig {
        transport,
        ..EndpointConfig::client("127.0.0.2:0".parse().expect("an address"))
    })
    .expect("a socket")
}

fn chain(endpoint: &Endpoint, relays: Vec<ConnectOptions>) -> Result<Chain, ChainError> {
    Chain::start_threads(endpoint, relays)
        .wait_timeout(PATIENCE)
        .expect("in time")
}

/// Bytes there and back by TCP, and a packet by UDP, through the relay of `client`.
fn use_it(client: &Client, bytes: usize) {
    let echo = tcp_echo();
    let tunnel = client
        .connect_tcp(&echo.ip().to_string(), echo.port())
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a tunnel");
    let (mut send, mut recv) = tunnel.split();
    let data = pattern(bytes);
    let expected = checksum(0, &data);
    let writer = thread::spawn(move || {
        send.write_all(&data).wait().expect("taken");
        send.finish();
        send
    });
    let mut back = Vec::new();
    let mut piece = vec![0; 65_536];
    while let Some(n) = recv
        .read(&mut piece)
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a stream")
    {
        back.extend_from_slice(&piece[..n]);
    }
    drop(writer.join());
    assert_eq!((back.len(), checksum(0, &back)), (bytes, expected));

    let echo = UdpSocket::bind(LOOPBACK).expect("bind");
    let at = echo.local_addr().expect("address");
    let tunnel = client
        .connect_udp(&at.ip().to_string(), at.port())
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a tunnel");
    tunnel.send(b"packet").expect("sent");
    let mut buffer = [0; 100];
    let (n, from) = echo.recv_from(&mut buffer).expect("it arrives");
    echo.send_to(&buffer[..n], from).expect("sent");
    let back = tunnel
        .recv()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("an open tunnel");
    assert_eq!(&*back, b"packet");
}

#[test]
fn no_relay_of_two_sees_both_ends() {
    let relays = relays(2);
    let endpoint = client();
    let chain = chain(&endpoint, ways(&relays)).expect("a chain");
    let ids: Vec<_> = relays.iter().map(|relay| relay.bundle.relay_id()).collect();
    assert_eq!(chain.relays(), ids);
    let client = Client::start_thread(chain.connection().clone()).expect("a thread");
    use_it(&client, 2_000_000);
    // The first sees the client, and of its targets the second relay alone.
    let second = relays[1].endpoint.local_addr();
    assert_eq!(relays[0].seen(), [second.to_string()]);
    assert_eq!(relays[0].clients(), [endpoint.local_addr()]);
    // The second sees the targets, and instead of the client the first relay.
    assert_eq!(relays[1].seen().len(), 2);
    let clients = relays[1].clients();
    assert_eq!(clients.len(), 1);
    assert_eq!(clients[0].ip(), LOOPBACK.ip(), "not {}", endpoint.local_addr());
    assert_eq!(relays[0].service.snapshot().tunnels_open, 1);
    assert_eq!(chain.broken(), None);
}

#[test]
fn as_deep_as_it_may_be_on_a_loop_and_not_deeper() {
    let relays = relays(5);
    let mut main = Loop::new(100).expect("a loop");
    let at = main.handle();
    let work = async {
        // The driver lives on the same loop as all pumps.
        let endpoint = Endpoint::bind_on(EndpointConfig::client(LOOPBACK), &at).expect("a socket");
        let begin = instant();
        let chain = Chain::start(&at, &endpoint, ways(&relays[..MAX_HOPS]))
            .await
            .expect("a chain");
        let built = instant() - begin;
        let client = Client::start(&at, chain.connection().clone()).expect("room");
        let sink = TcpListener::bind(LOOPBACK).expect("bind");
        let target = sink.local_addr().expect("address");
        let reader = thread::spawn(move || {
            let mut data = Vec::new();
            sink.accept()
                .expect("a stream")
                .0
                .read_to_end(&mut data)
                .expect("all of it");
            checksum(data.len() as u64, &data)
        });
        let tunnel = client
            .connect_tcp("127.0.0.1", target.port())
            .await
            .expect("a tunnel");
        let (mut send, _recv) = tunnel.split();
        let data = pattern(1_000_000);
        let begin = instant();
        send.write_all(&data).await.expect("taken");
        send.finish();
        while !reader.is_finished() {
            at.sleep(Duration::from_millis(1)).await;
        }
        println!(
            "{MAX_HOPS} relays: built in {built:?}, 1 MB in {:?}, payload {}",
            (instant() - begin),
            chain.connection().max_datagram_size()
        );
        assert_eq!(
            reader.join().expect("no panic"),
            checksum(data.len() as u64, &data)
        );
        let error = Chain::start(&at, &endpoint, ways(&relays))
            .await
            .expect_err("too long");
        assert_eq!(
            (error.kind.clone(), error.hops),
            (ChainErrorKind::Length, 5),
            "{error}"
        );
    };
    main.run(async { at.timeout(PATIENCE, work).await })
        .expect("a loop")
        .expect("in time");
}

#[test]
fn a_loop_is_refused_before_anything_is_sent() {
    let relays = relays(2);
    let endpoint = client();
    let twice = vec![relays[0].way(), relays[1].way(), relays[0].way()];
    let error = chain(&endpoint, twice).expect_err("a loop");
    assert_eq!((error.hop, error.kind.clone()), (2, ChainErrorKind::Loop));
    assert!(error.to_string().contains("relay 3 of 3"), "{error}");
    assert!(relays[0].clients().is_empty() && relays[1].clients().is_empty());
    assert_eq!(endpoint.stats().handshakes_completed, 0);
    // By hand as well.
    let connection = endpoint
        .connect(relays[0].way())
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a relay");
    let client = Client::start_thread(connection).expect("a thread");
    let again = connect_through(&endpoint, &client, relays[0].way()).wait_timeout(PATIENCE);
    assert_eq!(again.expect("in time").err(), Some(ChainErrorKind::Loop));
    assert!(relays[0].seen().is_empty());
}

#[test]
fn errors_say_at_which_relay() {
    let relays = relays(2);
    let endpoint = client();
    // Nobody there.
    let nobody = UdpSocket::bind(LOOPBACK).expect("bind");
    let silent = bundle(
        9,
        EndpointAddress::Ip(LOOPBACK.ip()),
        nobody.local_addr().expect("address").port(),
    );
    let options = vec![relays[0].way(), ConnectOptions::new(silent, APP), relays[1].way()];
    let error = chain(&endpoint, options).expect_err("silence");
    assert_eq!((error.hop, error.hops), (1, 3));
    assert!(
        matches!(error.kind, ChainErrorKind::Connect(ConnectError::Handshake(_))),
        "{error:?}"
    );
    assert!(error.kind.is_silence());
    assert!(error.to_string().starts_with("relay 2 of 3 ("), "{error}");
    // The relay before does not go there.
    let private = bundle(
        9,
        "10.1.2.3".parse().map(EndpointAddress::Ip).expect("an address"),
        443,
    );
    let options = vec![relays[0].way(), ConnectOptions::new(private, APP)];
    let error = chain(&endpoint, options).expect_err("forbidden");
    let ChainErrorKind::Tunnel(refusal) = &error.kind else {
        panic!("{error:?}");
    };
    assert_eq!(
        (error.hop, refusal.kind()),
        (1, TunnelErrorKind::Policy),
        "{error}"
    );
    assert!(relays[1].clients().is_empty());
    assert_eq!(
        chain(&endpoint, Vec::new()).expect_err("nothing").kind,
        ChainErrorKind::Length
    );
}

#[test]
fn a_relay_with_a_name_alone_is_resolved_by_the_one_before() {
    let relays = relays(2);
    let endpoint = client();
    let name = EndpointAddress::Name("localhost".into());
    let named = bundle(2, name, relays[1].endpoint.local_addr().port());
    let chain = chain(&endpoint, vec![relays[0].way(), ConnectOptions::new(named, APP)]).expect("a chain");
    let client = Client::start_thread(chain.connection().clone()).expect("a thread");
    use_it(&client, 10_000);
    let port = relays[1].endpoint.local_addr().port();
    assert_eq!(relays[0].seen(), [format!("localhost:{port}")]);
}

#[test]
fn the_end_of_an_outer_relay_ends_the_chain_and_is_told() {
    let relays = relays(3);
    let endpoint = client();
    let chain = chain(&endpoint, ways(&relays)).expect("a chain");
    relays[0].endpoint.close(0x100, b"gone");
    let begin = instant();
    let ended = chain
        .connection()
        .closed()
        .wait_timeout(PATIENCE)
        .expect("in time");
    assert!(
        matches!(ended, ConnectionError::Closed(_)) && ended.is_retryable(),
        "{ended:?}"
    );
    assert!((instant() - begin) < Duration::from_secs(3));
    let broken = chain.broken().expect("a reason");
    assert_eq!(broken.hop, 1, "the way from the first to the second: {broken}");
}

#[test]
fn who_closes_the_inner_connection_closes_them_all_politely() {
    let relays = relays(3);
    let endpoint = client();
    let chain = chain(&endpoint, ways(&relays)).expect("a chain");
    // A relay knows its client by the first packet.
    eventually("the last one knows", || relays[2].clients().len() == 1);
    chain.connection().close(0x100, b"");
    endpoint.wait_idle().wait_timeout(PATIENCE).expect("in time");
    assert_eq!(chain.broken(), None);
    // The last relay heard of it, although its words came through two others.
    eventually("nobody is left", || {
        relays.iter().all(|relay| relay.clients().is_empty())
    });
}
