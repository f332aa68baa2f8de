//! A QUIC connection of quinn's between two clients of a relay, each over a UDP port that the relay binds for it:
//! `peer-bound server relay.bundle --meet DIR` and `peer-bound client relay.bundle --meet DIR`. The client prints what it measured.

mod socket;

use std::{
    error::Error,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, VarInt};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::json;
use socket::Socket;
use transport_api::{
    Bundle, ConnectOptions,
    relay::APP,
    tunnel::{BindOptions, BoundUdp, Client},
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long the two wait for each other, and for a tunnel that is wide enough.
const PATIENCE: Duration = Duration::from_secs(20);
/// What RFC 9000 §14 wants of every path.
const QUIC_NEEDS: usize = 1200;
const CHUNK: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum End {
    Server,
    Client,
}

#[derive(Parser)]
struct Options {
    #[arg(value_enum)]
    end: End,
    /// The relay's bundle.
    bundle: PathBuf,
    /// A directory that both see, with cert.pem and key.pem of a server called localhost.
    #[arg(long)]
    meet: PathBuf,
    /// Megabytes in each direction, one after the other.
    #[arg(long, default_value_t = 10)]
    megabytes: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&options))
}

async fn run(options: &Options) -> Result<()> {
    let (_endpoint, bound) = bind(&options.bundle).await?;
    let public = *bound.public_addrs().first().ok_or("the relay binds nothing")?;
    // Where we send to is of no importance to the tunnel's width, its family is.
    let width = wide_enough(&bound, public).await?;
    let socket = Arc::new(Socket::new(bound, public));
    match options.end {
        End::Server => {
            let endpoint = quic(&socket, Some(server_config(&options.meet)?))?;
            publish(&options.meet.join("server"), public)?;
            serve(&endpoint, options).await
        }
        End::Client => {
            let mut endpoint = quic(&socket, None)?;
            endpoint.set_default_client_config(client_config(&options.meet)?);
            let peer = learn(&options.meet.join("server")).await?;
            measure(&endpoint, peer, &socket, width, options).await
        }
    }
}

async fn bind(bundle: &Path) -> Result<(transport_api::Endpoint, BoundUdp)> {
    let bundle = Bundle::parse(&std::fs::read(bundle)?)?;
    let any = "0.0.0.0:0".parse()?;
    let endpoint = transport_api::Endpoint::bind(transport_api::EndpointConfig::client(any))?;
    let connection = endpoint.connect(ConnectOptions::new(bundle, APP)).await?;
    let client = Client::start_thread(connection)?;
    let bound = client.bind_udp(&BindOptions::default()).await?;
    Ok((endpoint, bound))
}

/// Paths begin narrow and are widened by probes; QUIC's first packets need room at once.
async fn wide_enough(bound: &BoundUdp, peer: SocketAddr) -> Result<usize> {
    let wait = async {
        let mut width = bound.max_payload(peer);
        while width < QUIC_NEEDS {
            width = bound.max_payload_changed(peer, width).await?;
        }
        Result::Ok(width)
    };
    tokio::time::timeout(PATIENCE, wait).await?
}

fn quic(socket: &Arc<Socket>, server: Option<ServerConfig>) -> Result<Endpoint> {
    Ok(Endpoint::new_with_abstract_socket(
        EndpointConfig::default(),
        server,
        Arc::clone(socket) as _,
        Arc::new(TokioRuntime),
    )?)
}

fn server_config(certs: &Path) -> Result<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(certs.join("cert.pem"))?];
    let key = PrivateKeyDer::from_pem_file(certs.join("key.pem"))?;
    Ok(ServerConfig::with_single_cert(chain, key)?)
}

fn client_config(certs: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs.join("cert.pem"))?)?;
    Ok(ClientConfig::with_root_certificates(Arc::new(roots))?)
}

fn publish(path: &Path, address: SocketAddr) -> Result<()> {
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, address.to_string())?;
    Ok(std::fs::rename(unfinished, path)?)
}

async fn learn(path: &Path) -> Result<SocketAddr> {
    let read = async {
        loop {
            match std::fs::read_to_string(path) {
                Ok(address) => return Ok(address.parse()?),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await?
}

/// Bytes that follow from their place, so that a copy, a gap and a swap all show.
fn pattern(at: usize, len: usize) -> Bytes {
    (at..at + len)
        .map(|place| (place ^ (place >> 8) ^ (place >> 16)) as u8)
        .collect()
}

async fn send(connection: &Connection, megabytes: usize) -> Result<()> {
    let mut stream = connection.open_uni().await?;
    let total = megabytes * 1_000_000;
    for at in (0..total).step_by(CHUNK) {
        stream.write_chunk(pattern(at, CHUNK.min(total - at))).await?;
    }
    stream.finish()?;
    stream.stopped().await?;
    Ok(())
}

async fn receive(connection: &Connection, megabytes: usize) -> Result<()> {
    let mut stream = connection.accept_uni().await?;
    let mut at = 0;
    while let Some(chunk) = stream.read_chunk(usize::MAX, true).await? {
        if chunk.bytes != pattern(at, chunk.bytes.len()) {
            return Err("what arrived is not what was sent".into());
        }
        at += chunk.bytes.len();
    }
    if at != megabytes * 1_000_000 {
        return Err(format!("{at} bytes arrived").into());
    }
    Ok(())
}

async fn serve(endpoint: &Endpoint, options: &Options) -> Result<()> {
    let incoming = tokio::time::timeout(PATIENCE, endpoint.accept()).await?;
    let connection = incoming.ok_or("the endpoint is closed")?.await?;
    receive(&connection, options.megabytes).await?;
    send(&connection, options.megabytes).await?;
    let reason = connection.closed().await;
    match reason {
        quinn::ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(7) => Ok(()),
        other => Err(format!("the connection ended otherwise: {other}").into()),
    }
}

async fn measure(
    endpoint: &Endpoint,
    peer: SocketAddr,
    socket: &Socket,
    width: usize,
    options: &Options,
) -> Result<()> {
    let begun = Instant::now();
    let connection = endpoint.connect(peer, "localhost")?.await?;
    let connected = Instant::now();
    send(&connection, options.megabytes).await?;
    let sent = Instant::now();
    receive(&connection, options.megabytes).await?;
    let received = Instant::now();
    let path = connection.stats().path;
    connection.close(VarInt::from_u32(7), b"done");
    // The server hears of it, or it sees our silence.
    tokio::time::timeout(PATIENCE, endpoint.wait_idle()).await?;
    let rate = |spent: Duration| options.megabytes as f64 * 8.0 / spent.as_secs_f64();
    let (too_large, dropped) = socket.lost();
    println!(
        "{}",
        json!({
            "megabytes": options.megabytes,
            "handshake_ms": (connected - begun).as_secs_f64() * 1e3,
            "up_mbit": rate(sent - connected),
            "down_mbit": rate(received - sent),
            "rtt_ms": path.rtt.as_secs_f64() * 1e3,
            "mtu": path.current_mtu,
            "tunnel_payload": width,
            "lost_packets": path.lost_packets,
            "sent_packets": path.sent_packets,
            "too_large": too_large,
            "dropped": dropped,
        })
    );
    Ok(())
}
