//! TCP and UDP sockets of a loop. Methods take `&self`; at most one task may wait for each direction of a socket.

use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Handle;
use super::io::{Registered, Way};

/// A listening TCP socket.
#[derive(Debug)]
pub struct TcpListener(Registered<mio::net::TcpListener>);

impl TcpListener {
    /// Binds and listens (`SO_REUSEADDR` is set).
    pub fn bind(handle: &Handle, addr: SocketAddr) -> io::Result<Self> {
        Ok(Self(Registered::new(handle, mio::net::TcpListener::bind(addr)?)?))
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().local_addr()
    }

    /// The next connection. Cancel-safe.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, from) = poll_fn(|cx| self.0.poll(Way::Read, cx, mio::net::TcpListener::accept)).await?;
        Ok((TcpStream::new(self.0.handle(), stream)?, from))
    }
}

/// A TCP connection; clones share it, so that one task may read while another writes.
#[derive(Clone, Debug)]
pub struct TcpStream(Rc<Registered<mio::net::TcpStream>>);

impl TcpStream {
    fn new(handle: &Handle, stream: mio::net::TcpStream) -> io::Result<Self> {
        // Both ends relay what they get at once; waiting for more would only add latency.
        stream.set_nodelay(true)?;
        Ok(Self(Rc::new(Registered::new(handle, stream)?)))
    }

    /// Connects. Dropping the future gives the attempt up.
    pub async fn connect(handle: &Handle, addr: SocketAddr) -> io::Result<Self> {
        Self::connected(handle, mio::net::TcpStream::connect(addr)?).await
    }

    /// Waits for the end of an attempt to connect that was begun without blocking, for instance from an address of its own.
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// What became of the attempt.
    pub async fn finish_connect(handle: &Handle, begun: std::net::TcpStream) -> io::Result<Self> {
        begun.set_nonblocking(true)?;
        Self::connected(handle, mio::net::TcpStream::from_std(begun)).await
    }

    async fn connected(handle: &Handle, stream: mio::net::TcpStream) -> io::Result<Self> {
        let stream = Registered::new(handle, stream)?;
        poll_fn(|cx| stream.poll(Way::Write, cx, connected)).await?;
        stream.get().set_nodelay(true)?;
        Ok(Self(Rc::new(stream)))
    }

    /// Reads; 0 is the end. Cancel-safe.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Writes a part of `data`. Cancel-safe.
    pub async fn write(&self, data: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_write(cx, data)).await
    }

    /// Writes all of `data`. When cancelled, an unknown part has been written.
    pub async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let n = self.write(data).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            data = data.get(n..).unwrap_or_default();
        }
        Ok(())
    }

    /// As [`TcpStream::read`], for hand-written futures.
    pub fn poll_read(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll(Way::Read, cx, |mut s| s.read(buffer))
    }

    /// As [`TcpStream::write`], for hand-written futures.
    pub fn poll_write(&self, cx: &Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll(Way::Write, cx, |mut s| s.write(data))
    }

    /// Shuts one or both directions down.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.get().shutdown(how)
    }

    /// The other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().peer_addr()
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().local_addr()
    }
}

/// Whether a non-blocking connect has come to its end.
fn connected(stream: &mio::net::TcpStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        Err(e) => Err(e),
    }
}

/// A UDP socket; clones share it.
#[derive(Clone, Debug)]
pub struct UdpSocket(Rc<Registered<mio::net::UdpSocket>>);

impl UdpSocket {
    /// Binds a socket.
    pub fn bind(handle: &Handle, addr: SocketAddr) -> io::Result<Self> {
        Self::new(handle, mio::net::UdpSocket::bind(addr)?)
    }

    /// Takes over a bound socket, for instance one with options of its own.
    pub fn from_std(handle: &Handle, socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::new(handle, mio::net::UdpSocket::from_std(socket))
    }

    fn new(handle: &Handle, socket: mio::net::UdpSocket) -> io::Result<Self> {
        Ok(Self(Rc::new(Registered::new(handle, socket)?)))
    }

    /// Fixes the peer: packets from elsewhere are discarded, ICMP errors are reported.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        self.0.get().connect(peer)
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().local_addr()
    }

    /// Sends without waiting; `WouldBlock` when the kernel's buffer is full.
    pub fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        self.0.get().send(data)
    }

    /// As [`UdpSocket::try_send`], on a socket without a fixed peer.
    pub fn try_send_to(&self, data: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.0.get().send_to(data, to)
    }

    /// Receives from the fixed peer. Cancel-safe.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_recv(cx, buffer)).await
    }

    /// Receives from anywhere. Cancel-safe.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.0.poll(Way::Read, cx, |s| s.recv_from(buffer))).await
    }

    /// As [`UdpSocket::recv`], for hand-written futures.
    pub fn poll_recv(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll(Way::Read, cx, |s| s.recv(buffer))
    }
}
