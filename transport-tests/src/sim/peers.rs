//! Two endpoints of the product behind NATs, who reach each other by a relay from the beginning: for tests of direct paths.
//!
//! The relay is a delay: what is sent to the other's address there arrives. What is sent anywhere else leaves through the NAT,
//! and is for the other end if the other's NAT says so.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use transport_core::{Connection, DatagramOptions, Event, Handle, Now, Route};

use super::{
    clock::Clock,
    nat::{Kind, Nat},
    node::{Node, Said},
};
use crate::pair::{Options, client_endpoint, relay_endpoint};

/// Where the relay sees the two ends' own connections to it.
const RELAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(11, 0, 0, 9)), 443);
/// How often those say something, so that the NATs do not forget.
const KEPT: Duration = Duration::from_secs(10);

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    /// The one that dials.
    Client,
    /// The one that answers.
    Server,
}

impl Who {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// One end.
pub struct Peer {
    /// Its endpoint.
    pub node: Node,
    /// Its connection.
    pub handle: Option<Handle>,
    /// What it was told, messages apart.
    pub events: Vec<Event>,
    /// Arrivals of messages.
    pub arrivals: Vec<Duration>,
    /// Its NAT.
    pub nat: Nat,
    inside: SocketAddr,
    kept_at: Duration,
    /// Its address at the relay.
    bound: SocketAddr,
}

/// A datagram that sets out.
#[derive(Clone, Debug)]
pub struct Passing {
    /// Who sends it.
    pub from: Who,
    /// When.
    pub at: Duration,
    /// Where to.
    pub to: SocketAddr,
    /// Its bytes of UDP payload.
    pub size: usize,
    /// It goes by the relay.
    pub relayed: bool,
    /// It does not arrive.
    pub lost: bool,
}

/// Whom a datagram is on its way to, from where, where to, and its bytes.
type UnderWay = (Who, SocketAddr, SocketAddr, Vec<u8>);

/// Both ends, what is between them, and the time.
pub struct Peers {
    /// The end that dials.
    pub client: Peer,
    /// The end that answers.
    pub server: Peer,
    /// All that set out.
    pub record: Vec<Passing>,
    /// Time to the other end by the relay, and without it.
    pub delays: [Duration; 2],
    clock: Clock,
    hook: Box<dyn FnMut(&mut Passing)>,
    under_way: BTreeMap<(Duration, u64), UnderWay>,
    sequence: u64,
}

impl Peers {
    /// Two ends behind NATs of these kinds, connected by the relay. 60 ms there and back by the relay, 20 ms without it.
    pub fn connected(options: &Options, client: Kind, server: Kind) -> Self {
        let peer = |node, kind, host: u8| Peer {
            node: Node::new(node),
            handle: None,
            events: Vec::new(),
            arrivals: Vec::new(),
            nat: Nat::new(kind, [11, 0, 0, host].into(), Duration::from_secs(30)),
            inside: ([192, 168, host, 2], 5000).into(),
            kept_at: Duration::ZERO,
            bound: (RELAY.ip(), 1000 + u16::from(host)).into(),
        };
        let mut peers = Self {
            client: peer(client_endpoint(options), client, 1),
            server: peer(relay_endpoint(options, 0), server, 2),
            record: Vec::new(),
            delays: [Duration::from_millis(30), Duration::from_millis(10)],
            clock: Clock::start(),
            hook: Box::new(|_| {}),
            under_way: BTreeMap::new(),
            sequence: 0,
        };
        let target = options.target(peers.server.bound);
        let now = peers.now();
        let dialed = peers.client.node.endpoint.connect(now, target);
        peers.client.handle = Some(dialed.expect("a good bundle"));
        let stands = |peers: &mut Self| {
            let mut both = [Who::Client, Who::Server].into_iter();
            both.all(|who| peers.peer(who).events.iter().any(is_connected))
        };
        assert!(
            peers.run_until(Duration::from_secs(10), stands),
            "the handshake does not complete"
        );
        peers.run_for(Duration::from_millis(500));
        peers
    }

    /// Decides what becomes of each datagram.
    pub fn hook(&mut self, hook: impl FnMut(&mut Passing) + 'static) {
        self.hook = Box::new(hook);
    }

    /// The present.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// One end.
    pub fn peer(&mut self, who: Who) -> &mut Peer {
        match who {
            Who::Client => &mut self.client,
            Who::Server => &mut self.server,
        }
    }

    /// Its connection.
    pub fn connection(&mut self, who: Who) -> &mut Connection {
        let peer = self.peer(who);
        let handle = peer.handle.expect("a handle");
        peer.node.endpoint.connection(handle).expect("a connection")
    }

    /// The address the relay sees an end at.
    pub fn seen(&mut self, who: Who) -> SocketAddr {
        let now = self.clock.elapsed();
        let peer = self.peer(who);
        peer.nat.outward(now, peer.inside, RELAY)
    }

    /// Both ends offer the addresses the relay sees them at.
    pub fn offer(&mut self) {
        for who in [Who::Server, Who::Client] {
            let seen = self.seen(who);
            let now = self.now();
            let offered = self.connection(who).offer_addresses(now, &[seen]);
            assert_eq!(offered, Ok(()), "{who:?}");
        }
    }

    /// Whether an end's data go without the relay.
    pub fn is_direct(&mut self, who: Who) -> bool {
        let bound = self.peer(who.other()).bound;
        self.connection(who).remote() != bound
    }

    /// Whether both ends' data do.
    pub fn are_direct(&mut self) -> bool {
        self.is_direct(Who::Client) && self.is_direct(Who::Server)
    }

    /// Sends a message of `len` bytes each `gap` in both directions, for `time`; the longest time in which none arrived, of either
    /// direction, and how many of them arrived in all.
    pub fn flow(&mut self, len: usize, gap: Duration, time: Duration) -> (Duration, usize) {
        let (from, end) = (self.elapsed(), self.elapsed() + time);
        for who in [Who::Client, Who::Server] {
            self.peer(who).arrivals.clear();
        }
        while self.elapsed() < end {
            for who in [Who::Client, Who::Server] {
                let now = self.now();
                let sent = self
                    .connection(who)
                    .send_datagram(now, vec![7; len], DatagramOptions::default());
                assert!(sent.is_ok(), "{sent:?}");
            }
            self.run_for(gap);
        }
        let longest = |peer: &Peer| {
            let times = || std::iter::once(&from).chain(&peer.arrivals);
            let gaps = times().skip(1).zip(times());
            let last = peer.arrivals.last().copied().unwrap_or(from);
            gaps.map(|(later, before)| later.saturating_sub(*before))
                .chain([end.saturating_sub(last)])
                .max()
        };
        let gap = longest(&self.client).max(longest(&self.server));
        let arrived = self.client.arrivals.len() + self.server.arrivals.len();
        (gap.unwrap_or_default(), arrived)
    }

    /// Runs for `time`.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Runs until `done`, at most for `limit`; whether it was done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.clock.elapsed() + limit;
        let (mut moment, mut steps) = (self.clock.elapsed(), 0);
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            self.settle();
            let arrival = self.under_way.first_key_value().map(|((at, _), _)| *at);
            let deadlines = [self.client.node.deadline(), self.server.node.deadline()];
            let next = deadlines.into_iter().flatten().chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.clock.advance(end);
                return done(self);
            };
            self.clock.advance(next.max(self.clock.elapsed()));
            steps = if self.clock.elapsed() > moment {
                0
            } else {
                steps + 1
            };
            assert!(steps < 10_000, "time stands still");
            moment = self.clock.elapsed();
            self.happen();
        }
    }

    fn happen(&mut self) {
        let (elapsed, now) = (self.clock.elapsed(), self.clock.now());
        // Each end's own connection to the relay keeps its mapping there.
        for who in [Who::Client, Who::Server] {
            let peer = self.peer(who);
            if elapsed >= peer.kept_at {
                peer.nat.outward(elapsed, peer.inside, RELAY);
                peer.kept_at = elapsed + KEPT;
            }
        }
        while let Some(first) = self
            .under_way
            .first_entry()
            .filter(|first| first.key().0 <= elapsed)
        {
            let (to, from, at, mut bytes) = first.remove();
            let peer = self.peer(to);
            let mine = at == peer.bound || peer.nat.inward(elapsed, from, at) == Some(peer.inside);
            if mine {
                let route = Route {
                    remote: from,
                    local: None,
                };
                peer.node.endpoint.handle_datagram(now, route, &mut bytes);
            }
        }
        for who in [Who::Client, Who::Server] {
            self.peer(who).node.tick(elapsed, now);
        }
    }

    fn settle(&mut self) {
        let clock = self.clock;
        let mut said = Vec::new();
        for _ in 0..10_000 {
            let mut moved = false;
            for who in [Who::Client, Who::Server] {
                self.peer(who).node.drain(&clock, &mut said);
                moved |= !said.is_empty();
                for one in said.drain(..) {
                    self.on_said(who, one);
                }
            }
            if !moved {
                return;
            }
        }
        panic!("an endpoint never waits");
    }

    fn on_said(&mut self, who: Who, said: Said) {
        let elapsed = self.clock.elapsed();
        match said {
            Said::Datagram(route, _, bytes) => self.send(who, route.remote, bytes),
            Said::Event(_, Event::DatagramReceived(_)) => self.peer(who).arrivals.push(elapsed),
            Said::Event(handle, event) => {
                let peer = self.peer(who);
                peer.handle.get_or_insert(handle);
                peer.events.push(event);
            }
        }
    }

    fn send(&mut self, who: Who, to: SocketAddr, bytes: Vec<u8>) {
        let at = self.clock.elapsed();
        let [by_relay, direct] = self.delays;
        let relayed = to == self.peer(who.other()).bound;
        let mut passing = Passing {
            from: who,
            at,
            to,
            size: bytes.len(),
            relayed,
            lost: false,
        };
        (self.hook)(&mut passing);
        self.record.push(passing.clone());
        let peer = self.peer(who);
        let (from, delay) = if relayed {
            (peer.bound, by_relay)
        } else {
            (peer.nat.outward(at, peer.inside, to), direct)
        };
        if !passing.lost {
            self.sequence += 1;
            let datagram = (who.other(), from, to, bytes);
            self.under_way.insert((at + delay, self.sequence), datagram);
        }
    }
}

fn is_connected(event: &Event) -> bool {
    matches!(event, Event::Connected(_))
}
