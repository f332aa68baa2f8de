//! quinn as its documentation has it: tokio on one thread, GSO and GRO by its own socket.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use clap::Parser;
use peers_common::{
    CONNECTION_WINDOW, IDLE_TIMEOUT, MAX_PAYLOAD, NAME, Result, SOCKET_BUFFER, STREAM_WINDOW,
    drive::{Dialer, Input, Link, Output, measure, serve},
    options::{End, Options, ready},
    tls,
};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use socket2::{Domain, Socket, Type};

/// Chunks read, or datagrams sent, in one go.
const BATCH: usize = 32;

fn main() -> Result<()> {
    let options = Options::parse();
    tls::warm_up()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match options.end {
            End::Server => server(&options).await,
            End::Client => client(&options).await,
        }
    })
}

fn transport() -> Result<Arc<TransportConfig>> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_PAYLOAD as u16);
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::try_from(STREAM_WINDOW)?)
        .receive_window(VarInt::try_from(CONNECTION_WINDOW)?)
        .send_window(STREAM_WINDOW)
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into()?))
        .datagram_receive_buffer_size(Some(SOCKET_BUFFER))
        .mtu_discovery_config(Some(mtu));
    Ok(Arc::new(transport))
}

fn endpoint(address: SocketAddr, server: Option<ServerConfig>) -> Result<Endpoint> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&address.into())?;
    let runtime = Arc::new(TokioRuntime);
    Ok(Endpoint::new(
        EndpointConfig::default(),
        server,
        socket.into(),
        runtime,
    )?)
}

async fn server(options: &Options) -> Result<()> {
    let crypto = QuicServerConfig::try_from(tls::server(options)?)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport()?);
    let endpoint = endpoint(options.address, Some(config))?;
    ready(options);
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            // A connection that fails shows at the client.
            let _ = async {
                let connection = incoming.await?;
                let (output, input) = connection.accept_bi().await?;
                let link = Peer(connection);
                serve(&link, Sending(output), Receiving::new(input)).await?;
                link.0.closed().await;
                Result::Ok(())
            }
            .await;
        });
    }
    Ok(())
}

async fn client(options: &Options) -> Result<()> {
    let crypto = QuicClientConfig::try_from(tls::client(options)?)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport()?);
    let mut endpoint = endpoint(options.any(), None)?;
    endpoint.set_default_client_config(config);
    measure(&Caller(endpoint.clone(), options.address), options).await?;
    endpoint.close(VarInt::from_u32(0), b"");
    // The server hears of it, or it sees our silence.
    let _ = tokio::time::timeout(peers_common::QUIET, endpoint.wait_idle()).await;
    Ok(())
}

#[derive(Clone)]
struct Caller(Endpoint, SocketAddr);

impl Dialer for Caller {
    type Link = Peer;

    async fn connect(&self) -> Result<Peer> {
        Ok(Peer(self.0.connect(self.1, NAME)?.await?))
    }
}

struct Peer(Connection);

impl Link for Peer {
    type Output = Sending;
    type Input = Receiving;

    async fn open(&self) -> Result<(Sending, Receiving)> {
        let (output, input) = self.0.open_bi().await?;
        Ok((Sending(output), Receiving::new(input)))
    }

    async fn send_datagrams(&self, datagram: &Bytes) -> Result<u64> {
        for _ in 0..BATCH {
            self.0.send_datagram_wait(datagram.clone()).await?;
        }
        Ok(BATCH as u64)
    }

    async fn take_datagrams(&self) -> Result<(u64, u64)> {
        Ok((1, self.0.read_datagram().await?.len() as u64))
    }

    fn close(&self) {
        self.0.close(VarInt::from_u32(0), b"");
    }
}

struct Sending(SendStream);

impl Output for Sending {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        Ok(self.0.write_chunk(data).await?)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(self.0.finish()?)
    }
}

struct Receiving {
    stream: RecvStream,
    chunks: Vec<Bytes>,
}

impl Receiving {
    fn new(stream: RecvStream) -> Self {
        let chunks = vec![Bytes::new(); BATCH];
        Self { stream, chunks }
    }
}

impl Input for Receiving {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let chunk = self.stream.read_chunk(usize::MAX, true).await?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    async fn count(&mut self) -> Result<Option<u64>> {
        let Some(count) = self.stream.read_chunks(&mut self.chunks).await? else {
            return Ok(None);
        };
        let taken = self.chunks[..count].iter_mut().map(std::mem::take);
        Ok(Some(taken.map(|chunk| chunk.len() as u64).sum()))
    }
}
