//! s2n-quic as its documentation has it: tokio on one thread, TLS by s2n-tls; by rustls for ChaCha20, which no policy of
//! s2n-tls prefers.

use std::{
    net::SocketAddr,
    task::{Context, Poll},
};

use bytes::Bytes;
use clap::Parser;
use peers_common::{
    ALPN, CONNECTION_WINDOW, IDLE_TIMEOUT, MAX_PAYLOAD, NAME, Result, SOCKET_BUFFER, STREAM_WINDOW,
    drive::{Dialer, Input, Link, Output, measure, serve},
    options::{Cipher, End, Options, ready},
    tls,
};
use s2n_quic::{
    Client, Connection, Server,
    client::Connect,
    connection::{Handle, StreamAcceptor},
    provider::{
        datagram::default as datagram,
        io::tokio as io,
        limits::Limits,
        tls::{Provider, rustls, s2n_tls as own},
    },
    stream::{BidirectionalStream, ReceiveStream, SendStream},
};

/// Chunks read, or datagrams sent, in one go.
const BATCH: usize = 32;
/// Headers of IPv4 and UDP, which this peer counts in its MTU.
const HEADERS: u16 = 28;

fn main() -> Result<()> {
    let options = Options::parse();
    tls::warm_up()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match (options.end, options.cipher) {
            (End::Server, Cipher::Chacha | Cipher::Aes256) => {
                server(&options, rustls_server(&options)?).await
            }
            (End::Server, _) => server(&options, own_server(&options)?).await,
            (End::Client, Cipher::Chacha | Cipher::Aes256) => {
                client(&options, rustls_client(&options)?).await
            }
            (End::Client, _) => client(&options, own_client(&options)?).await,
        }
    })
}

/// The only door for a configuration with a cipher of our choice.
fn rustls_server(options: &Options) -> Result<rustls::Server> {
    Ok(tls::server(options)?.into())
}

fn rustls_client(options: &Options) -> Result<rustls::Client> {
    Ok(tls::client(options)?.into())
}

fn own_server(options: &Options) -> Result<own::Server> {
    let (certificate, key) = (options.certificate(), options.key());
    let mut builder = own::Server::builder()
        .with_application_protocols([ALPN])?
        .with_certificate(certificate.as_path(), key.as_path())?;
    hybrid(builder.config_mut(), options)?;
    Ok(builder.build()?)
}

fn own_client(options: &Options) -> Result<own::Client> {
    let mut builder = own::Client::builder()
        .with_application_protocols([ALPN])?
        .with_certificate(options.certificate().as_path())?;
    hybrid(builder.config_mut(), options)?;
    Ok(builder.build()?)
}

/// The default policy exchanges keys without ML-KEM.
fn hybrid(config: &mut s2n_tls::config::Builder, options: &Options) -> Result<()> {
    if options.hybrid {
        let policy = s2n_tls::security::Policy::from_version("default_pq")?;
        config.set_security_policy(&policy)?;
    }
    Ok(())
}

fn limits() -> Result<Limits> {
    Ok(Limits::new()
        .with_data_window(CONNECTION_WINDOW)?
        .with_bidirectional_local_data_window(STREAM_WINDOW)?
        .with_bidirectional_remote_data_window(STREAM_WINDOW)?
        .with_max_send_buffer_size(STREAM_WINDOW as u32)?
        .with_max_idle_timeout(IDLE_TIMEOUT)?)
}

fn socket(address: SocketAddr) -> Result<io::Provider> {
    let builder = io::Builder::default()
        .with_receive_address(address)?
        .with_send_buffer_size(SOCKET_BUFFER)?
        .with_recv_buffer_size(SOCKET_BUFFER)?
        .with_max_mtu(MAX_PAYLOAD as u16 + HEADERS)?
        // Until it has found the MTU by itself, it drops datagrams of 1,200 bytes without a word.
        .with_initial_mtu(MAX_PAYLOAD as u16 + HEADERS)?;
    Ok(builder.build()?)
}

fn datagrams() -> Result<datagram::Endpoint> {
    let builder = datagram::Endpoint::builder()
        .with_send_capacity(1024)?
        .with_recv_capacity(4096)?;
    builder
        .build()
        .map_err(|error| format!("datagrams: {error:?}").into())
}

async fn server<T: Provider>(options: &Options, tls: T) -> Result<()> {
    let mut server = Server::builder()
        .with_tls(tls)
        .map_err(|_| "TLS")?
        .with_io(socket(options.address)?)?
        .with_limits(limits()?)?
        .with_datagram(datagrams()?)?
        .start()?;
    ready(options);
    while let Some(connection) = server.accept().await {
        tokio::spawn(async move {
            let (handle, acceptor) = connection.split();
            // A connection that fails shows at the client.
            let _ = accepted(&Peer(handle), acceptor).await;
        });
    }
    Ok(())
}

async fn accepted(link: &Peer, mut acceptor: StreamAcceptor) -> Result<()> {
    let Some(stream) = acceptor.accept_bidirectional_stream().await? else {
        return Ok(());
    };
    let (output, input) = halves(stream);
    serve(link, output, input).await?;
    // Until the client has closed: a connection ends when nobody holds it.
    while acceptor.accept_bidirectional_stream().await?.is_some() {}
    Ok(())
}

async fn client<T: Provider>(options: &Options, tls: T) -> Result<()> {
    let client = Client::builder()
        .with_tls(tls)
        .map_err(|_| "TLS")?
        .with_io(socket(options.any())?)?
        .with_limits(limits()?)?
        .with_datagram(datagrams()?)?
        .start()?;
    measure(&Caller(client.clone(), options.address), options).await?;
    // What closes the connections leaves.
    tokio::time::sleep(peers_common::QUIET).await;
    Ok(())
}

#[derive(Clone)]
struct Caller(Client, SocketAddr);

impl Dialer for Caller {
    type Link = Peer;

    async fn connect(&self) -> Result<Peer> {
        let connection: Connection = self
            .0
            .connect(Connect::new(self.1).with_server_name(NAME))
            .await?;
        Ok(Peer(connection.split().0))
    }
}

struct Peer(Handle);

impl Peer {
    /// Fills the queue under one lock; waits when nothing fits.
    fn fill(&self, body: &Bytes, context: &mut Context<'_>) -> Poll<Result<u64>> {
        let filled = self.0.datagram_mut(|sender: &mut datagram::Sender| {
            for sent in 0..BATCH as u64 {
                match sender.poll_send_datagram(&mut body.clone(), context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(format!("{error:?}").into())),
                    Poll::Pending if sent > 0 => return Poll::Ready(Ok(sent)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(BATCH as u64))
        });
        filled.unwrap_or_else(|error| Poll::Ready(Err(error.to_string().into())))
    }

    /// Empties the queue under one lock; waits when it is empty.
    fn drain(&self, context: &mut Context<'_>) -> Poll<Result<(u64, u64)>> {
        let drained = self.0.datagram_mut(|receiver: &mut datagram::Receiver| {
            let (mut datagrams, mut bytes) = (0, 0);
            while let Some(datagram) = receiver.recv_datagram() {
                datagrams += 1;
                bytes += datagram.len() as u64;
            }
            if datagrams > 0 {
                return Poll::Ready(Ok((datagrams, bytes)));
            }
            match receiver.poll_recv_datagram(context) {
                Poll::Ready(Ok(datagram)) => Poll::Ready(Ok((1, datagram.len() as u64))),
                Poll::Ready(Err(error)) => Poll::Ready(Err(format!("{error:?}").into())),
                Poll::Pending => Poll::Pending,
            }
        });
        drained.unwrap_or_else(|error| Poll::Ready(Err(error.to_string().into())))
    }
}

impl Link for Peer {
    type Output = Sending;
    type Input = Receiving;

    async fn open(&self) -> Result<(Sending, Receiving)> {
        let mut handle = self.0.clone();
        Ok(halves(handle.open_bidirectional_stream().await?))
    }

    async fn send_datagrams(&self, datagram: &Bytes) -> Result<u64> {
        std::future::poll_fn(|context| self.fill(datagram, context)).await
    }

    async fn take_datagrams(&self) -> Result<(u64, u64)> {
        std::future::poll_fn(|context| self.drain(context)).await
    }

    fn close(&self) {
        self.0.close(0_u32.into());
    }
}

fn halves(stream: BidirectionalStream) -> (Sending, Receiving) {
    let (input, output) = stream.split();
    let chunks = vec![Bytes::new(); BATCH];
    let receiving = Receiving {
        stream: input,
        chunks,
        open: true,
    };
    (Sending(output), receiving)
}

struct Sending(SendStream);

impl Output for Sending {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        Ok(self.0.send(data).await?)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(self.0.finish()?)
    }
}

struct Receiving {
    stream: ReceiveStream,
    chunks: Vec<Bytes>,
    open: bool,
}

impl Input for Receiving {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        Ok(self.stream.receive().await?)
    }

    async fn count(&mut self) -> Result<Option<u64>> {
        if !self.open {
            return Ok(None);
        }
        let (count, open) = self.stream.receive_vectored(&mut self.chunks).await?;
        self.open = open;
        let taken = self.chunks[..count].iter_mut().map(std::mem::take);
        Ok(Some(taken.map(|chunk| chunk.len() as u64).sum()))
    }
}
