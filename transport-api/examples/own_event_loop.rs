//! The engine without this crate's driver: a plain loop over `std::net::UdpSocket` in one thread, for those who have an
//! event loop of their own. `cargo run -p transport-api --example own_event_loop`.
//!
//! The contract: after any call that changes something, `poll` until it says `Wait`; then wait for a datagram or the time.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use transport_api::OsEntropy;
use transport_core::{
    Access, Batch, Bundle, BundleDraft, BundleEndpoint, Connect, Direction, Endpoint, EndpointAddress,
    EndpointConfig, Entropy, Event, Grant, Handle, Output, RelayIdentity, RelayStatics, Route, ServerConfig,
    StreamEvent, SuiteChoice, TransportConfig,
};

const APP: &[u8] = b"loop/1";

/// One endpoint and its socket.
struct Node {
    socket: UdpSocket,
    engine: Endpoint,
    batch: Batch,
    wake_at: Option<Instant>,
}

impl Node {
    fn new(server: Option<ServerConfig>) -> Result<Self, Box<dyn Error>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut seed = [0; 32];
        OsEntropy.fill(&mut seed)?;
        let config = EndpointConfig {
            server,
            transport: TransportConfig::default(),
            observer: None,
        };
        let engine = Endpoint::new(config, seed, Box::new(OsEntropy));
        Ok(Self {
            socket,
            engine,
            batch: Batch::default(),
            wake_at: None,
        })
    }

    /// Sends what there is to send; gives back what happened.
    fn drain(&mut self) -> std::io::Result<Vec<(Handle, Event)>> {
        let mut events = Vec::new();
        loop {
            match self.engine.poll(transport_api::now(), &mut self.batch) {
                Output::Transmit(route) => {
                    for datagram in self.batch.segments() {
                        self.socket.send_to(datagram, route.remote)?;
                    }
                    self.batch.clear();
                }
                Output::Event(handle, event) => events.push((handle, event)),
                Output::Wait(until) => {
                    self.wake_at = until.map(|(at, _)| at);
                    return Ok(events);
                }
            }
        }
    }

    /// Waits a little for a datagram, and hands over what came and what is due.
    fn feed(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 2048];
        self.socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        match self.socket.recv_from(&mut buffer) {
            Ok((len, remote)) => {
                let datagram = buffer.get_mut(..len).unwrap_or_default();
                self.engine
                    .handle_datagram(transport_api::now(), Route { remote, local: None }, datagram);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(error) => return Err(error),
        }
        let now = transport_api::now();
        if self.wake_at.is_some_and(|at| at <= now.instant) {
            self.engine.handle_timeout(now);
        }
        Ok(())
    }
}

fn relay() -> Result<(Node, Bundle), Box<dyn Error>> {
    let identity = RelayIdentity::generate(&mut OsEntropy)?;
    let statics = RelayStatics::generate(&mut OsEntropy)?;
    let server = ServerConfig::new(
        statics.clone(),
        identity.relay_id(),
        1,
        Access::Open,
        APP.to_vec(),
    );
    let node = Node::new(Some(server))?;
    let (address, now): (SocketAddr, u64) = (node.socket.local_addr()?, transport_api::now().unix_ms / 1000);
    let draft = BundleDraft {
        epoch: 1,
        not_before: now - 60,
        not_after: now + 3600,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(address.ip()),
            port: address.port(),
            cover: 0,
        }],
    };
    Ok((node, Bundle::parse(&identity.sign_bundle(&draft, &statics)?)?))
}

/// The server's side: gives every byte back.
fn on_server_event(node: &mut Node, handle: Handle, event: &Event) {
    let Some(connection) = node.engine.connection(handle) else {
        return;
    };
    if let Event::Stream(StreamEvent::StreamOpened { .. }) = event {
        while connection.accept(Direction::Bi).is_some() {}
    }
    if let Event::Stream(StreamEvent::Readable { id }) = event {
        let mut buffer = [0; 1024];
        while let Ok(read) = connection.read(*id, &mut buffer) {
            // A real program keeps what is not taken until `Writable`.
            let _ = connection.write(*id, buffer.get(..read.bytes).unwrap_or_default());
            if read.fin {
                let _ = connection.finish(*id);
                break;
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut server, bundle) = relay()?;
    let mut client = Node::new(None)?;
    let target = Connect {
        bundle,
        identity: None,
        grant: Grant::default(),
        remote: server.socket.local_addr()?,
        local: None,
        width: None,
        app: APP.to_vec(),
        suite: SuiteChoice::Auto,
        resume: None,
        early: false,
    };
    client.engine.connect(transport_api::now(), target)?;
    let mut answer = Vec::new();
    loop {
        for (handle, event) in server.drain()? {
            on_server_event(&mut server, handle, &event);
        }
        server.drain()?;
        for (handle, event) in client.drain()? {
            let Some(connection) = client.engine.connection(handle) else {
                continue;
            };
            match event {
                Event::Connected(_) => {
                    let stream = connection.open(Direction::Bi)?;
                    connection.write(stream, b"round and round")?;
                    connection.finish(stream)?;
                }
                Event::Stream(StreamEvent::Readable { id }) => {
                    let mut buffer = [0; 1024];
                    while let Ok(read) = connection.read(id, &mut buffer) {
                        answer.extend_from_slice(buffer.get(..read.bytes).unwrap_or_default());
                        if read.fin {
                            eprintln!("{}", String::from_utf8_lossy(&answer));
                            return Ok(());
                        }
                    }
                }
                Event::Closed(reason) => return Err(reason.into()),
                _ => {}
            }
        }
        client.drain()?;
        server.feed()?;
        client.feed()?;
    }
}
