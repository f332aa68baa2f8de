//! A UDP socket of a loop that moves many datagrams a call.

use std::cell::{Ref, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, event};

use super::Handle;
use super::io::{Registered, Way};
use crate::engine::net::{self, SendStats, SocketOptions, UdpSocket, set_source};
use crate::engine::{Batch, RecvBatch, Route};

/// One task may wait for it.
#[derive(Debug)]
pub(crate) struct BatchSocket(Registered<Source>);

#[derive(Debug)]
struct Source(RefCell<UdpSocket>);

impl BatchSocket {
    /// Binds a socket ([`UdpSocket::bind`]).
    pub(crate) fn bind(handle: &Handle, at: SocketAddr, options: &SocketOptions) -> io::Result<Self> {
        let socket = UdpSocket::bind(at, options)?;
        Ok(Self(Registered::new(handle, Source(RefCell::new(socket)))?))
    }

    /// Where what it sends leaves this machine ([`set_source`]).
    pub(crate) fn set_source(&self, source: &net::Source<'_>) -> io::Result<()> {
        set_source(&*self.socket(), source)
    }

    /// Fixes the peer: packets from elsewhere are discarded, ICMP errors are counted.
    pub(crate) fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        self.socket().connect(peer)
    }

    /// This end.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }

    /// What became of what was sent.
    pub(crate) fn send_stats(&self) -> SendStats {
        self.socket().send_stats()
    }

    /// Sends without waiting ([`UdpSocket::send_batch`]).
    pub(crate) fn try_send(&self, route: Route, batch: &mut Batch) -> io::Result<()> {
        self.0.get().0.borrow_mut().send_batch(route, batch)
    }

    /// Sends a datagram without content.
    pub(crate) fn try_send_empty(&self, to: SocketAddr) -> io::Result<()> {
        self.socket().send_empty(to)
    }

    /// Receives what is there ([`UdpSocket::recv_batch`]). The task is woken for more, also when this was ready, if it was all.
    pub(crate) fn poll_recv(&self, cx: &Context<'_>, batch: &mut RecvBatch) -> Poll<io::Result<usize>> {
        let received = self
            .0
            .poll(Way::Read, cx, |source| source.0.borrow_mut().recv_batch(batch));
        if received.is_ready() && batch.is_drained() {
            // What arrives from now on opens the gate again; a call in between would find nothing.
            self.0.rest(Way::Read, cx);
        }
        received
    }

    fn socket(&self) -> Ref<'_, UdpSocket> {
        self.0.get().0.borrow()
    }
}

impl Source {
    fn fd(&self) -> std::os::fd::RawFd {
        self.0.borrow().as_raw_fd()
    }
}

impl event::Source for Source {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.fd()).deregister(registry)
    }
}
