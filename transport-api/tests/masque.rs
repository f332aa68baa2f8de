//! Tunnels through a relay over real sockets: TCP and UDP both ways, refusals, limits, and the end.

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use common::{LOOPBACK, PATIENCE, bundle, checksum, identity, pattern, statics, tcp_echo};
use transport_api::relay::{RelayConfig, RelayService};
use transport_api::tunnel::{APP, Client, TunnelErrorKind};
use transport_api::{ConnectOptions, Endpoint, EndpointConfig, ServerOptions, Wait};

struct World {
    relay: RelayService,
    client: Client,
    _endpoint: Endpoint,
}

fn world(change: impl FnOnce(&mut RelayConfig)) -> World {
    let options = ServerOptions::open(identity().relay_id(), statics(), 1, APP);
    let server = Endpoint::bind(EndpointConfig::server(LOOPBACK, options)).expect("server socket");
    let address = server.local_addr();
    let mut config = RelayConfig::default();
    config.policy.allow = vec!["127.0.0.1".parse().expect("network")];
    change(&mut config);
    let relay = RelayService::start(server, config).expect("relay");
    let endpoint = Endpoint::bind(EndpointConfig::client(LOOPBACK)).expect("client socket");
    let connecting = endpoint.connect(ConnectOptions::new(bundle(address), APP));
    let connection = connecting
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a connection");
    World {
        relay,
        client: Client::start_thread(connection).expect("thread"),
        _endpoint: endpoint,
    }
}

/// Sends `len` bytes of the pattern to whoever connects.
fn tcp_source(len: usize) -> SocketAddr {
    let listener = TcpListener::bind(LOOPBACK).expect("bind");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.write_all(&pattern(len)).expect("write");
        }
    });
    address
}

fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind(LOOPBACK).expect("bind");
    let address = socket.local_addr().expect("address");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..n], from).expect("send");
        }
    });
    address
}

#[test]
fn tcp_echo_with_half_close() {
    let world = world(|_| {});
    let echo = tcp_echo();
    let tunnel = world.client.connect_tcp("127.0.0.1", echo.port());
    let (mut up, mut down) = tunnel
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a tunnel")
        .split();
    let sent = pattern(500_000);
    let copy = sent.clone();
    let writer = thread::spawn(move || {
        up.write_all(&copy).wait().expect("write");
        up.finish();
    });
    let (mut got, mut buffer) = (Vec::new(), vec![0; 65_536]);
    while let Some(n) = down
        .read(&mut buffer)
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("read")
    {
        got.extend_from_slice(&buffer[..n]);
    }
    writer.join().expect("writer");
    assert!(got == sent);
}

#[test]
fn a_download_arrives_whole_and_not_slowly() {
    const LEN: usize = 32 << 20;
    let world = world(|_| {});
    let source = tcp_source(LEN);
    let tunnel = world.client.connect_tcp("127.0.0.1", source.port());
    let (up, mut down) = tunnel
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a tunnel")
        .split();
    let start = transport_api::now().instant;
    let (mut len, mut sum, mut buffer) = (0, 0, vec![0; 65_536]);
    while let Some(n) = down
        .read(&mut buffer)
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("read")
    {
        len += n;
        sum = checksum(sum, &buffer[..n]);
    }
    assert_eq!((len, sum), (LEN, checksum(0, &pattern(LEN))));
    let took = transport_api::now().instant - start;
    // What a loaded machine without optimisation can do at the least; it finds work done byte by byte.
    assert!(took < Duration::from_secs(20), "{took:?}");
    println_rate(LEN, took);
    drop(up);
}

fn println_rate(len: usize, took: Duration) {
    let rate = len as f64 * 8.0 / took.as_secs_f64() / 1e6;
    eprintln!("{rate:.0} Mbit/s");
}

#[test]
fn udp_echo_through_the_relay() {
    let world = world(|_| {});
    let tunnel = world.client.connect_udp("127.0.0.1", udp_echo().port());
    let tunnel = tunnel.wait_timeout(PATIENCE).expect("in time").expect("a tunnel");
    assert!(tunnel.max_payload() > 1000);
    for len in [0, 1, 500, tunnel.max_payload()] {
        tunnel.send(&pattern(len)).expect("send");
        let packet = tunnel
            .recv()
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("echo");
        assert_eq!(&*packet, pattern(len));
    }
}

#[test]
fn refusals_say_why() {
    let world = world(|_| {});
    let free = TcpListener::bind(LOOPBACK)
        .expect("bind")
        .local_addr()
        .expect("address")
        .port();
    let cases = [
        ("127.0.0.2", 80, 403, TunnelErrorKind::Policy),
        ("no-such-name.invalid", 80, 502, TunnelErrorKind::Dns),
        ("127.0.0.1", free, 503, TunnelErrorKind::Refused),
    ];
    for (host, port, status, kind) in cases {
        let failure = world
            .client
            .connect_tcp(host, port)
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect_err(host);
        assert_eq!(
            (failure.kind(), failure.refusal().map(|r| r.status)),
            (kind, Some(status)),
            "{failure}"
        );
    }
}

#[test]
fn tunnels_are_limited() {
    let world = world(|config| config.quota.tunnels_per_session = 1);
    let echo = tcp_echo().port();
    let first = world
        .client
        .connect_tcp("127.0.0.1", echo)
        .wait_timeout(PATIENCE)
        .expect("in time");
    let failure = world
        .client
        .connect_tcp("127.0.0.1", echo)
        .wait_timeout(PATIENCE)
        .expect("in time");
    assert_eq!(failure.expect_err("one only").kind(), TunnelErrorKind::Limit);
    drop(first.expect("a tunnel"));
}

#[test]
fn a_drained_relay_ends() {
    let world = world(|_| {});
    let tunnel = world.client.connect_tcp("127.0.0.1", tcp_echo().port());
    let tunnel = tunnel.wait_timeout(PATIENCE).expect("in time").expect("a tunnel");
    assert_eq!(world.relay.snapshot().tunnels_open, 1);
    world.relay.drain(Duration::from_millis(300));
    world.relay.join().expect("the relay ends");
    drop(tunnel);
}
