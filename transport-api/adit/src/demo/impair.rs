//! A bad link in user space: a UDP forwarder on loopback that delays, loses, reorders and refuses large packets.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use transport_api::local::{Handle, UdpSocket};

/// What the link does to each direction.
#[derive(Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) one_way: Duration,
    /// Of 1000.
    pub(crate) lost: u64,
    /// Of 1000; these arrive `late` later.
    pub(crate) reordered: u64,
    pub(crate) late: Duration,
    /// Largest IP packet that passes.
    pub(crate) mtu: usize,
}

/// IPv4 and UDP headers.
const HEADERS: usize = 28;
const MAX_DATAGRAM: usize = 65_535;
/// Clients of the link at once; each rebind makes one.
const MAX_CLIENTS: usize = 16;

/// A link to one server. Lives as long as its loop.
pub(crate) struct Link {
    at: Handle,
    faults: Faults,
    front: UdpSocket,
    server: SocketAddr,
    upstream: RefCell<BTreeMap<SocketAddr, UdpSocket>>,
    random: Cell<u64>,
    lost: Cell<u64>,
}

impl Link {
    /// Starts forwarding to `server`.
    pub(crate) fn start(at: &Handle, server: SocketAddr, faults: Faults) -> std::io::Result<Rc<Self>> {
        let front = UdpSocket::bind(at, SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let link = Rc::new(Self {
            at: at.clone(),
            faults,
            front,
            server,
            upstream: RefCell::default(),
            random: Cell::new(0x9e37_79b9_7f4a_7c15),
            lost: Cell::new(0),
        });
        at.spawn(Rc::clone(&link).forward())
            .map_err(std::io::Error::other)?;
        Ok(link)
    }

    /// Where clients reach the server through this link.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.front.local_addr()
    }

    /// Addresses the client has had.
    pub(crate) fn clients(&self) -> usize {
        self.upstream.borrow().len()
    }

    /// Datagrams the link has lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.get()
    }

    async fn forward(self: Rc<Self>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let Ok((read, from)) = self.front.recv_from(&mut buffer).await else {
                continue;
            };
            let Some(data) = buffer.get(..read) else { continue };
            let Some(upstream) = self.upstream_of(from) else {
                continue;
            };
            self.carry(data, move |data| {
                let _ = upstream.try_send(data);
            });
        }
    }

    /// Each client address has a socket of its own, so that the server sees a rebind.
    fn upstream_of(self: &Rc<Self>, client: SocketAddr) -> Option<UdpSocket> {
        if let Some(socket) = self.upstream.borrow().get(&client) {
            return Some(socket.clone());
        }
        if self.upstream.borrow().len() >= MAX_CLIENTS {
            return None;
        }
        let socket = UdpSocket::bind(&self.at, SocketAddr::from(([127, 0, 0, 1], 0))).ok()?;
        socket.connect(self.server).ok()?;
        self.at
            .spawn(Rc::clone(self).backward(socket.clone(), client))
            .ok()?;
        self.upstream.borrow_mut().insert(client, socket.clone());
        Some(socket)
    }

    async fn backward(self: Rc<Self>, upstream: UdpSocket, client: SocketAddr) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let Ok(read) = upstream.recv(&mut buffer).await else {
                continue;
            };
            let Some(data) = buffer.get(..read) else { continue };
            let link = Rc::clone(&self);
            self.carry(data, move |data| {
                let _ = link.front.try_send_to(data, client);
            });
        }
    }

    fn carry(&self, data: &[u8], deliver: impl FnOnce(&[u8]) + 'static) {
        if data.len() + HEADERS > self.faults.mtu || self.chance(self.faults.lost) {
            self.lost.set(self.lost.get() + 1);
            return;
        }
        let late = if self.chance(self.faults.reordered) {
            self.faults.late
        } else {
            Duration::ZERO
        };
        let delay = self.faults.one_way + late;
        let (at, data) = (self.at.clone(), data.to_vec());
        let later = async move {
            at.sleep(delay).await;
            deliver(&data);
        };
        // A full loop loses it: a link may.
        let _ = self.at.spawn(later);
    }

    fn chance(&self, of_thousand: u64) -> bool {
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        state % 1000 < of_thousand
    }
}
