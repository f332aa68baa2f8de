//! A relay and a client on loopback.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use transport_api::{
    Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Connection, Endpoint, EndpointAddress,
    EndpointConfig, RelayIdentity, RelayStatics, ServerOptions, TransportOptions, Wait,
};

/// Long enough for a loaded machine; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_mins(1);
pub const APP: &[u8] = b"test/1";
pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub fn statics() -> RelayStatics {
    RelayStatics::from_seeds([8; 96])
}

pub fn identity() -> RelayIdentity {
    RelayIdentity::from_seeds([7; 64])
}

pub fn server_options() -> ServerOptions {
    ServerOptions::open(identity().relay_id(), statics(), 1, APP)
}

pub fn bundle(server: SocketAddr) -> Bundle {
    let now = transport_api::now().unix_ms / 1000;
    let draft = BundleDraft {
        epoch: 1,
        not_before: now - 60,
        not_after: now + 3600,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(server.ip()),
            port: server.port(),
            cover: 0,
        }],
    };
    let bytes = identity().sign_bundle(&draft, &statics()).expect("a bundle");
    Bundle::parse(&bytes).expect("our own bundle")
}

/// Endpoints before and connections after the handshake.
pub struct Pair {
    pub server: Endpoint,
    pub client: Endpoint,
    /// At the server.
    pub at_server: Connection,
    /// At the client.
    pub at_client: Connection,
}

pub fn pair() -> Pair {
    pair_with(TransportOptions::default(), TransportOptions::default())
}

pub fn pair_with(server: TransportOptions, client: TransportOptions) -> Pair {
    let server = Endpoint::bind(EndpointConfig {
        transport: server,
        ..EndpointConfig::server(LOOPBACK, server_options())
    })
    .expect("server socket");
    let client = Endpoint::bind(EndpointConfig {
        transport: client,
        ..EndpointConfig::client(LOOPBACK)
    })
    .expect("client socket");
    let connecting = client.connect(ConnectOptions::new(bundle(server.local_addr()), APP));
    let at_client = connecting
        .wait_timeout(PATIENCE)
        .expect("handshake in time")
        .expect("a connection");
    let incoming = server
        .accept()
        .wait_timeout(PATIENCE)
        .expect("incoming in time")
        .expect("an incoming");
    Pair {
        server,
        client,
        at_server: incoming.accept(),
        at_client,
    }
}

pub fn instant() -> Instant {
    transport_api::now().instant
}

#[expect(
    clippy::disallowed_methods,
    reason = "real sockets take real time, and nothing here is told when something happened elsewhere"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = instant();
    while !holds() {
        assert!(instant() - begin < PATIENCE, "{what}");
        pause(Duration::from_millis(2));
    }
}

/// A TCP server that says back what it hears.
pub fn tcp_echo() -> SocketAddr {
    let listener = TcpListener::bind(LOOPBACK).expect("bind");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut reader, mut writer) = (&stream, &stream);
                drop(std::io::copy(&mut reader, &mut writer));
                drop(stream.shutdown(std::net::Shutdown::Write));
            });
        }
    });
    address
}

/// Bytes anybody can check: a position decides each.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

/// FNV-1a, order matters.
pub fn checksum(mut state: u64, data: &[u8]) -> u64 {
    for byte in data {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state
}
