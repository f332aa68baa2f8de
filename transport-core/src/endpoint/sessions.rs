//! What an operator asks for: who is connected, and how full everything is.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use transport_crypto::Suite;

use super::slab::Occupant;
use super::{Endpoint, MAX_SLOTS, MAX_WAITING};
use crate::config::Now;
use crate::connection::{ConnectionStats, Peer};
use crate::handle::Handle;

/// Places looked at for one page, so that a page of few connections among many free places takes no longer than a full one.
const MAX_LOOKS: usize = 4096;

/// One connection, for a list of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// Its handle.
    pub handle: Handle,
    /// Who is at the other end.
    pub peer: Peer,
    /// Where the peer is now.
    pub remote: SocketAddr,
    /// Time since the handshake.
    pub age: Duration,
    /// The packet cipher.
    pub suite: Suite,
    /// It came by a ticket.
    pub resumed: bool,
    /// Counters and gauges.
    pub stats: ConnectionStats,
}

/// Names that are not summed up like others.
const CONNECTIONS: &str = "connections";
pub(super) const DOMAINS: &str = "domains";

/// Some connections of an endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionPage {
    /// In the order of their places.
    pub sessions: Vec<SessionInfo>,
    /// Where the next page begins; `None` behind the last.
    pub next: Option<u32>,
}

/// One bounded thing of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// A stable name, for reports.
    pub name: &'static str,
    /// What is in use.
    pub used: u64,
    /// What it may be at most.
    pub limit: u64,
}

impl Usage {
    pub(super) fn new(name: &'static str, used: usize, limit: usize) -> Self {
        Self {
            name,
            used: used as u64,
            limit: limit as u64,
        }
    }

    /// Adds what another [worker](crate::Worker) of the same relay uses, and what it may. Connections are counted together, and
    /// all have the same domains.
    pub fn add(&mut self, other: &Self) {
        if self.name != DOMAINS {
            self.used += other.used;
        }
        if self.name != DOMAINS && self.name != CONNECTIONS {
            self.limit += other.limit;
        }
    }
}

impl Endpoint {
    /// At most `most` connections from place `from` on (zero: the first), closing ones left out. What comes or goes between
    /// two pages may be missed; nobody is told twice.
    pub fn sessions(&self, now: Now, from: u32, most: usize) -> SessionPage {
        let mut page = SessionPage::default();
        for (looked, (slot, occupant)) in self.slab.iter_from(from).enumerate() {
            if looked >= MAX_LOOKS || page.sessions.len() >= most.max(1) {
                page.next = Some(slot);
                break;
            }
            if let Occupant::Live(connection, _) = occupant
                && !connection.is_closed()
            {
                page.sessions.push(SessionInfo {
                    handle: self.slab.handle(slot),
                    peer: connection.peer(),
                    remote: connection.remote(),
                    age: connection.age(now.instant),
                    suite: connection.suite(),
                    resumed: connection.is_resumed(),
                    stats: connection.stats(),
                });
            }
        }
        page
    }

    /// What is bounded here, how full it is, and by what it is bounded.
    pub fn usage(&self) -> Vec<Usage> {
        let most = self
            .admission
            .as_ref()
            .map_or(MAX_SLOTS, |admission| admission.max_connections());
        let mut usage = vec![
            Usage::new(CONNECTIONS, self.slab.len(), most),
            Usage::new("handshake_datagrams_waiting", self.waiting.len(), MAX_WAITING),
            self.routes.usage(),
        ];
        if let Some(admission) = &self.admission {
            usage.extend(admission.usage());
        }
        usage
    }
}
