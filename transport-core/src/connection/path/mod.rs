//! The road between the two ends: where it leads, how wide it is, and what is under way on it.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use transport_reliability::{Config, Outcome, PacketNumber, Recovery};

use super::content::Content;
use crate::buffer::Route;
use crate::wire::MAX_HEADER_LEN;
use crate::wire::TAG_LEN;

pub(crate) mod mtu;
pub(crate) mod validate;

use mtu::Mtu;
use validate::{AMPLIFICATION, Candidate, Responses};

/// What a DATAGRAM frame costs when it fills a packet alone: header, tag, frame type.
const DATAGRAM_OVERHEAD: usize = MAX_HEADER_LEN + TAG_LEN + 1;
/// What an address that is not proved may get so little of that nothing is sent at all, bytes.
const SMALLEST: usize = 64;
/// ACK-only packets in a row before one of them asks for an ACK itself, so that ACK state is let go.
const ACKS_PER_PING: u32 = 16;
/// Time without a question after which the next packet breaks a silence.
const QUIET: Duration = Duration::from_secs(1);

/// The paths of a connection; there is always one.
#[derive(Debug)]
pub(crate) struct Paths {
    /// The one that carries the connection's data.
    pub(crate) active: Box<Path>,
}

impl Paths {
    /// A connection begins on one path.
    pub(crate) fn new(first: Path) -> Self {
        Self {
            active: Box::new(first),
        }
    }
}

/// One path.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) recovery: Recovery<Content>,
    /// Reused for every ACK.
    pub(crate) outcome: Outcome<Content>,
    pub(crate) route: Route,
    pub(crate) mtu: Mtu,
    pub(crate) candidate: Option<Candidate>,
    pub(crate) responses: Responses,
    /// A number that was taken but not used: the next packet's.
    spare: Option<PacketNumber>,
    acks_alone: u32,
    last_eliciting: Option<Instant>,
    /// Something that asks for an answer left since the peer was last heard.
    asked: bool,
    /// Bytes that may still go to an address that is not proved (RFC 9000 §8.1); `None` once it is.
    allowance: Option<usize>,
}

/// What a packet from some address means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// The address we send to.
    Active,
    /// The address that is to prove itself.
    Candidate,
    /// An address not heard from before.
    New,
}

impl Path {
    pub(crate) fn new(route: Route, config: Config, mtu: Mtu) -> Self {
        Self {
            recovery: Recovery::new(config),
            outcome: Outcome::default(),
            route,
            mtu,
            candidate: None,
            responses: Responses::default(),
            spare: None,
            acks_alone: 0,
            last_eliciting: None,
            asked: false,
            allowance: None,
        }
    }

    /// Bytes of the longest datagram message that fits one packet.
    pub(crate) fn max_datagram(&self) -> usize {
        usize::from(self.mtu.current()).saturating_sub(DATAGRAM_OVERHEAD)
    }

    /// The number for the next packet. What is not sealed must be given back.
    pub(crate) fn take_number(&mut self) -> PacketNumber {
        self.spare.take().unwrap_or_else(|| self.recovery.next_number())
    }

    /// The number was not used.
    pub(crate) fn give_back(&mut self, number: PacketNumber) {
        self.spare = Some(number);
    }

    /// Where `route` stands.
    pub(crate) fn origin(&self, route: Route) -> Origin {
        if route.remote == self.route.remote {
            Origin::Active
        } else if self
            .candidate
            .as_ref()
            .is_some_and(|candidate| candidate.route.remote == route.remote)
        {
            Origin::Candidate
        } else {
            Origin::New
        }
    }

    /// The candidate proved itself and becomes the path. Whether the host changed, or only the port.
    pub(crate) fn switch(&mut self, now: Instant) -> Option<bool> {
        let route = self.candidate.take()?.route;
        let moved = route.remote.ip() != self.route.remote.ip();
        self.route = route;
        if moved {
            // Another place: nothing measured so far says anything about it (RFC 9000 §9.4).
            self.recovery.reset_path(now);
            self.mtu.reset();
            self.recovery.set_max_datagram(self.mtu.current());
        }
        Some(moved)
    }

    /// Until the address is proved, it gets three bytes for each that came from it.
    pub(crate) fn limit(&mut self) {
        self.allowance = Some(0);
        self.recovery.disarm_probe(true);
    }

    /// So many bytes came from an address that is not proved.
    pub(crate) fn earn(&mut self, size: usize) {
        if let Some(left) = &mut self.allowance {
            *left = left.saturating_add(size.saturating_mul(AMPLIFICATION));
            self.recovery.disarm_probe(*left < SMALLEST);
        }
    }

    /// The address is proved.
    pub(crate) fn prove(&mut self) {
        self.allowance = None;
        self.recovery.disarm_probe(false);
    }

    /// The largest datagram that may go to the address now.
    pub(crate) fn allowance(&self) -> usize {
        self.allowance
            .map_or(usize::MAX, |left| if left < SMALLEST { 0 } else { left })
    }

    /// A packet of `size` bytes left: whether it asked for an ACK.
    pub(crate) fn note_sent(&mut self, now: Instant, size: usize, eliciting: bool) {
        if let Some(left) = &mut self.allowance {
            *left = left.saturating_sub(size);
            self.recovery.disarm_probe(*left < SMALLEST);
        }
        if eliciting {
            (self.acks_alone, self.last_eliciting) = (0, Some(now));
        } else {
            self.acks_alone = self.acks_alone.saturating_add(1);
        }
    }

    /// Whether nothing that asks for an answer left for a while: what leaves now stands by itself on the wire.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        self.last_eliciting
            .is_none_or(|at| now.saturating_duration_since(at) > QUIET)
    }

    /// Whether what just left is the first question since the peer was heard.
    pub(crate) fn first_question(&mut self) -> bool {
        !std::mem::replace(&mut self.asked, true)
    }

    /// The peer was heard.
    pub(crate) fn note_heard(&mut self) {
        self.asked = false;
    }

    /// Whether a packet that would only acknowledge should ask for an ACK: after many of them, once a round trip at most.
    pub(crate) fn wants_ping(&self, now: Instant) -> bool {
        let rtt = self.recovery.rtt().smoothed();
        let rested = self
            .last_eliciting
            .is_none_or(|at| now.saturating_duration_since(at) > rtt);
        self.acks_alone >= ACKS_PER_PING && rested
    }

    /// Three PTO: how long closing, draining and old keys last (RFC 9000 §10.2).
    pub(crate) fn three_pto(&self) -> Duration {
        self.recovery.pto() * 3
    }
}
