//! What crosses the link: datagrams of the product and packets of cross traffic, in both directions.

use std::net::SocketAddr;

use transport_core::{
    Route,
    buffer::{Arrived, Ecn},
};

use super::{
    super::{
        cross::Sent,
        link::{Cargo, Link, Packet},
        scenario::{Direction, Side},
    },
    What, World,
};

impl World<'_> {
    pub(super) fn link(&mut self, direction: Direction) -> &mut Link {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    /// A datagram of the product sets out.
    pub(super) fn send(&mut self, direction: Direction, session: usize, address: SocketAddr, bytes: Vec<u8>, ecn: Ecn) {
        self.digest
            .add(self.clock.elapsed(), direction == Direction::Up, &bytes);
        let size = bytes.len() + self.headers;
        let cargo = Cargo::Datagram {
            session,
            address,
            bytes,
        };
        self.offer(direction, Packet::new(cargo, size, ecn));
    }

    fn offer(&mut self, direction: Direction, packet: Packet) {
        let now = self.clock.elapsed();
        if let Some(at) = self.link(direction).offer(now, packet) {
            self.schedule(at, What::Departure(direction));
        }
    }

    /// A packet leaves the bottleneck and is on its way, unless the wire loses it.
    pub(super) fn depart(&mut self, direction: Direction) {
        let now = self.clock.elapsed();
        let departure = self.link(direction).depart(now);
        if let Some(next) = departure.next {
            self.schedule(next, What::Departure(direction));
        }
        let Some((packet, [first, second])) = departure.packet else {
            return;
        };
        let further = match packet.cargo {
            Cargo::Datagram { session, .. } => self.sessions.get(session).map(|session| session.further),
            _ => None,
        };
        let further = further.unwrap_or_default();
        if let Some(at) = second {
            self.schedule(at + further, What::Arrival(direction, packet.clone()));
        }
        if let Some(at) = first {
            self.schedule(at + further, What::Arrival(direction, packet));
        }
    }

    /// A packet is there.
    pub(super) fn arrive(&mut self, direction: Direction, packet: Packet) {
        match packet.cargo {
            Cargo::Datagram {
                session,
                address,
                mut bytes,
            } => match direction {
                Direction::Up => {
                    let (now, arrived) = (self.clock.now(), from(address, packet.ecn));
                    self.server.endpoint.handle_datagram(now, arrived, &mut bytes);
                }
                Direction::Down => self.arrive_down(session, address, packet.ecn, &mut bytes),
            },
            Cargo::Tcp { flow, .. } | Cargo::Cbr { flow } => {
                let mut out = Vec::new();
                let now = self.clock.elapsed();
                if let Some(cross) = self.cross.get_mut(flow) {
                    cross.arrived(now, packet.cargo, &mut out);
                }
                self.send_cross(out);
            }
        }
    }

    fn arrive_down(&mut self, session: usize, to: SocketAddr, ecn: Ecn, datagram: &mut [u8]) {
        let (now, arrived) = (self.clock.now(), from(self.server_address(), ecn));
        let Some(session) = self.sessions.get_mut(session) else {
            return;
        };
        // A NAT that rebound has forgotten the old address.
        if session.address == to {
            session.client.endpoint.handle_datagram(now, arrived, datagram);
        }
    }

    /// Cross traffic does what is due.
    pub(super) fn tick_cross(&mut self) {
        let now = self.clock.elapsed();
        let mut out = Vec::new();
        for cross in &mut self.cross {
            if cross.deadline().is_some_and(|at| at <= now) {
                cross.tick(now, &mut out);
            }
        }
        self.send_cross(out);
    }

    fn send_cross(&mut self, out: Vec<Sent>) {
        for (side, packet) in out {
            let direction = match side {
                Side::Client => Direction::Up,
                Side::Server => Direction::Down,
            };
            self.offer(direction, packet);
        }
    }
}

fn from(remote: SocketAddr, ecn: Ecn) -> Arrived {
    Arrived {
        route: Route {
            remote,
            local: None,
        },
        ecn: Some(ecn),
    }
}
