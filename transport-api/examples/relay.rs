//! A relay inside your own program, with a policy of its own, and a client that opens tunnels through it:
//! `cargo run -p transport-api --example relay`.

mod common;

use std::error::Error;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use common::{loopback, relay};
use transport_api::masque::{ProxyError, ProxyStatus, Target};
use transport_api::relay::{
    Asked, Decision, Grant, OnRequest, RelayConfig, RelayService, RequestMeta, TargetPolicy,
};
use transport_api::tunnel::{APP, Client};
use transport_api::{ConnectOptions, Endpoint, EndpointConfig, Wait};

/// What this relay is for: a few ports anywhere, and services of its own.
struct Ports {
    open: [u16; 3],
    own: Vec<Target>,
}

impl OnRequest for Ports {
    fn on_request(&self, request: &RequestMeta<'_>) -> Decision {
        let Asked::Host(target) = request.target else {
            return Decision::accept();
        };
        if self.own.contains(target) {
            // The relay's policy forbids this machine's addresses; these targets are judged by a wider one.
            return Decision::Accept(Grant::new().with_policy(TargetPolicy {
                allow: "127.0.0.0/8".parse().into_iter().collect(),
                ..TargetPolicy::default()
            }));
        }
        if self.open.contains(&target.port()) {
            return Decision::accept();
        }
        let why = ProxyStatus::new(ProxyError::HttpRequestDenied).with_details("this port is closed here");
        Decision::reject(403, why)
    }
}

/// Two services for the tunnels to reach; each answers once with what it gets.
fn services() -> std::io::Result<(SocketAddr, SocketAddr)> {
    let (tcp, udp) = (TcpListener::bind(loopback())?, UdpSocket::bind(loopback())?);
    let addresses = (tcp.local_addr()?, udp.local_addr()?);
    std::thread::spawn(move || {
        tcp.accept()
            .and_then(|(stream, _)| std::io::copy(&mut &stream, &mut &stream))
    });
    std::thread::spawn(move || {
        let mut packet = [0; 1500];
        let (len, from) = udp.recv_from(&mut packet)?;
        udp.send_to(packet.get(..len).unwrap_or_default(), from)
    });
    Ok(addresses)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (tcp, udp) = services()?;

    // The relay: an endpoint whose connections speak `APP`, and a thread that serves their requests.
    let (server, bundle) = relay(APP, 0)?;
    let hook = Ports {
        open: [53, 80, 443],
        own: vec![tcp.into(), udp.into()],
    };
    let config = RelayConfig {
        name: "example".into(),
        hook: Arc::new(hook),
        ..RelayConfig::default()
    };
    let service = RelayService::start(server, config)?;

    // The client: any number of tunnels through one connection.
    let endpoint = Endpoint::bind(EndpointConfig::client(loopback()))?;
    let connection = endpoint.connect(ConnectOptions::new(bundle, APP)).wait()?;
    let client = Client::start_thread(connection)?;
    tunnels(&client, tcp.port(), udp.port())?;

    // No tunnels from here on. The relay ends with the last one, or after five seconds.
    service.drain(Duration::from_secs(5));
    client.connection().closed().wait();
    for (name, value) in service.snapshot().entries().filter(|(_, value)| *value > 0) {
        eprintln!("{name} {value}");
    }
    Ok(service.join()?)
}

fn tunnels(client: &Client, tcp: u16, udp: u16) -> Result<(), Box<dyn Error>> {
    let mut stream = client.connect_tcp("127.0.0.1", tcp).wait()?;
    stream.write_all(b"bytes through the relay").wait()?;
    stream.finish();
    let (mut echo, mut buffer) = (Vec::new(), [0; 1024]);
    while let Some(n) = stream.read(&mut buffer).wait()? {
        echo.extend_from_slice(buffer.get(..n).unwrap_or_default());
    }
    eprintln!("TCP: {}", String::from_utf8_lossy(&echo));

    let packets = client.connect_udp("127.0.0.1", udp).wait()?;
    packets.send(b"a packet through the relay")?;
    // A packet may be lost, here as anywhere.
    match packets.recv().wait_timeout(Duration::from_secs(2)) {
        Some(packet) => eprintln!("UDP: {}", String::from_utf8_lossy(&packet?)),
        None => eprintln!("UDP: no answer"),
    }

    // The first is refused by the hook; the second passes it, but the relay's policy protects its own machine.
    for (host, port) in [("mail.example", 25), ("127.0.0.1", 80)] {
        match client.connect_tcp(host, port).wait() {
            Ok(_) => eprintln!("{host} port {port}: open"),
            Err(error) => eprintln!("{host} port {port}: {error}"),
        }
    }
    Ok(())
}
