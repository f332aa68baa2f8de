//! Traffic that is not ours on the same bottleneck: simulated TCP, and packets at a constant rate.

use std::time::Duration;

use transport_core::buffer::Ecn;

use super::{
    flow::History,
    link::{Cargo, Packet},
    scenario::{self, CrossKind, Side},
};
use tcp::{Receiver, Segment, Sender};

mod cubic;
pub mod tcp;

/// IP and TCP headers with timestamps.
const TCP_HEADERS: usize = 52;

/// One flow of cross traffic, both ends of it.
pub struct Cross {
    /// What the scenario says.
    pub spec: scenario::Cross,
    /// Payload that arrived in order, over time.
    pub history: History,
    /// When the last byte arrived, if there is a last one.
    pub completion: Option<Duration>,
    index: usize,
    start: Duration,
    end: Option<Duration>,
    ends: Ends,
}

enum Ends {
    Tcp { sender: Box<Sender>, receiver: Receiver },
    Cbr { next: Duration, interval: Duration },
}

/// A packet with the side that sends it.
pub type Sent = (Side, Packet);

impl Cross {
    /// A flow that has not begun.
    pub fn new(spec: &scenario::Cross, index: usize) -> Self {
        let start = Duration::from_secs_f64(spec.start_ms.max(0.0) / 1000.0);
        let tcp = |cubic| Ends::Tcp {
            sender: Box::new(Sender::new(
                cubic,
                spec.bytes.map(|bytes| bytes.div_ceil(tcp::MSS)),
            )),
            receiver: Receiver::default(),
        };
        let ends = match spec.kind {
            CrossKind::TcpReno => tcp(false),
            CrossKind::TcpCubic => tcp(true),
            CrossKind::UdpCbr => Ends::Cbr {
                next: start,
                interval: Duration::from_secs_f64(spec.size as f64 * 8.0 / (spec.rate_mbit * 1e6)),
            },
        };
        Self {
            spec: spec.clone(),
            history: History::default(),
            completion: None,
            index,
            start,
            end: spec.for_ms.map(|ms| start + Duration::from_secs_f64(ms / 1000.0)),
            ends,
        }
    }

    /// When it wants to act.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.ends {
            Ends::Tcp { sender, receiver } => {
                let begin = (!sender.started() && self.completion.is_none()).then_some(self.start);
                [begin, sender.deadline(), receiver.deadline()]
                    .into_iter()
                    .flatten()
                    .min()
            }
            Ends::Cbr { next, .. } => (!self.over(*next)).then_some(*next),
        }
    }

    fn over(&self, now: Duration) -> bool {
        self.end.is_some_and(|end| now >= end)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Sent>) {
        let over = self.over(now);
        let mut segments = Vec::new();
        let mut acks = Vec::new();
        match &mut self.ends {
            Ends::Tcp { sender, receiver } => {
                if over {
                    sender.stop();
                }
                if now >= self.start {
                    sender.tick(now, &mut segments);
                }
                acks.extend(receiver.tick(now));
            }
            Ends::Cbr { next, interval } => {
                while *next <= now && !over {
                    *next += *interval;
                    let cargo = Cargo::Cbr { flow: self.index };
                    out.push((self.spec.from, Packet::new(cargo, self.spec.size, Ecn::NotEct)));
                }
            }
        }
        self.wrap(segments, acks, out);
    }

    /// A packet of this flow has arrived, sent by the side that sends data or by the other one.
    pub fn arrived(&mut self, now: Duration, cargo: Cargo, out: &mut Vec<Sent>) {
        let mut segments = Vec::new();
        let mut acks = Vec::new();
        match (&mut self.ends, cargo) {
            (Ends::Tcp { sender, receiver }, Cargo::Tcp { segment, .. }) => match segment {
                Segment::Data { .. } => {
                    let (in_order, ack) = receiver.data(now, &segment);
                    self.history.add(now, in_order * tcp::MSS);
                    acks.extend(ack);
                    if self.spec.bytes.is_some_and(|bytes| self.history.total() >= bytes) {
                        self.completion.get_or_insert(now);
                    }
                }
                Segment::Ack(ack) => sender.ack(now, &ack, &mut segments),
            },
            (Ends::Cbr { .. }, Cargo::Cbr { .. }) => {
                self.history.add(
                    now,
                    self.spec.size.saturating_sub(super::link::IP_UDP_HEADERS) as u64,
                );
            }
            _ => {}
        }
        self.wrap(segments, acks, out);
    }

    fn wrap(&self, segments: Vec<Segment>, acks: Vec<Segment>, out: &mut Vec<Sent>) {
        let packet = |segment, size| {
            let flow = self.index;
            Packet::new(Cargo::Tcp { flow, segment }, size, Ecn::NotEct)
        };
        let full = tcp::MSS as usize + TCP_HEADERS;
        out.extend(
            segments
                .into_iter()
                .map(|segment| (self.spec.from, packet(segment, full))),
        );
        let back = self.spec.from.other();
        out.extend(acks.into_iter().map(|ack| (back, packet(ack, TCP_HEADERS))));
    }

    /// Segments sent, and of those, again.
    pub fn sent(&self) -> (u64, u64) {
        match &self.ends {
            Ends::Tcp { sender, .. } => sender.sent(),
            Ends::Cbr { .. } => (0, 0),
        }
    }

    /// The congestion window in bytes, where there is one.
    pub fn window(&self) -> Option<u64> {
        match &self.ends {
            Ends::Tcp { sender, .. } => Some((sender.window() * tcp::MSS as f64) as u64),
            Ends::Cbr { .. } => None,
        }
    }

    /// When it began.
    pub fn start(&self) -> Duration {
        self.start
    }
}
