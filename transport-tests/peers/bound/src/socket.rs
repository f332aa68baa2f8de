//! A bind tunnel as the socket that quinn asks for.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use transport_api::tunnel::{BindSendError, BoundUdp};

/// Datagrams one by one; the tunnel neither joins nor splits them.
pub struct Socket {
    bound: BoundUdp,
    address: SocketAddr,
    too_large: AtomicU64,
    dropped: AtomicU64,
}

impl Socket {
    /// `address` is where the relay listens for us.
    pub fn new(bound: BoundUdp, address: SocketAddr) -> Self {
        Self {
            bound,
            address,
            too_large: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Packets that were wider than the tunnel, and packets that it had no room for.
    pub fn lost(&self) -> (u64, u64) {
        (self.too_large.load(Relaxed), self.dropped.load(Relaxed))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.address)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(NeverFull)
    }

    /// Like a network, the tunnel loses what it cannot carry: probes of the width find out so, and congestion control.
    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        match self.bound.send_to(transmit.contents, transmit.destination) {
            Ok(()) => {}
            Err(BindSendError::TooLarge(_)) => drop(self.too_large.fetch_add(1, Relaxed)),
            Err(BindSendError::Dropped) => drop(self.dropped.fetch_add(1, Relaxed)),
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            match self.bound.poll_recv_from(cx) {
                Poll::Ready(Ok((datagram, from))) => {
                    let len = datagram.len().min(buffer.len());
                    buffer[..len].copy_from_slice(&datagram[..len]);
                    *meta = RecvMeta {
                        addr: from,
                        len,
                        stride: len,
                        ..RecvMeta::default()
                    };
                    count += 1;
                }
                Poll::Ready(Err(error)) if count == 0 => return Poll::Ready(Err(io::Error::other(error))),
                Poll::Pending if count == 0 => return Poll::Pending,
                _ => break,
            }
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Sending never waits.
#[derive(Debug)]
struct NeverFull;

impl UdpPoller for NeverFull {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
