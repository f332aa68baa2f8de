//! The road between the two ends: where it leads, how wide it is, and what is under way on it.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use transport_reliability::{Outcome, PacketNumber, Recovery};

use super::content::Content;
use crate::buffer::Route;
use crate::path::{PathId, PathState};
use crate::wire::MAX_HEADER_LEN;
use crate::wire::TAG_LEN;

pub(crate) mod holes;
pub(crate) mod mtu;
pub(crate) mod set;
pub(crate) mod shown;
pub(crate) mod signals;
mod trains;
pub(crate) mod validate;

pub(crate) use set::Paths;

use mtu::Mtu;
use set::Template;
use shown::Shown;
use trains::Trains;
use validate::{AMPLIFICATION, Candidate, Responses};

/// What a DATAGRAM frame costs when it fills a packet alone: header, tag, frame type.
const DATAGRAM_OVERHEAD: usize = MAX_HEADER_LEN + TAG_LEN + 1;
/// What an address that is not proved may get so little of that nothing is sent at all, bytes.
const SMALLEST: usize = 64;
/// ACK-only packets in a row before one of them asks for an ACK itself, so that ACK state is let go.
const ACKS_PER_PING: u32 = 16;
/// Time without a question after which the next packet breaks a silence.
const QUIET: Duration = Duration::from_secs(1);

/// Silence on a path in waiting after which it is asked whether it is still there.
const STANDBY_QUIET: Duration = Duration::from_secs(12);
/// Packets in a row, each within a round trip of the one before, that make more of them expected.
const FLOW: u32 = 10;
/// The least time a flow may pause before it is asked after.
const FLOW_PAUSE: Duration = Duration::from_millis(30);
/// The least time an ACK may take before a path is suspect: on the shortest paths only what the peer's machine is busy with shows
/// in less.
const LEAST_PATIENCE: Duration = Duration::from_millis(25);
/// False alarms after which patience grows no more.
const MAX_ALARMS: u32 = 3;

/// One path: its own packet numbers, loss recovery, congestion control and path MTU.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) id: PathId,
    pub(crate) state: PathState,
    pub(crate) recovery: Recovery<Content>,
    /// Reused for every ACK while packets are under way.
    pub(crate) outcome: Outcome<Content>,
    pub(crate) route: Route,
    pub(crate) mtu: Mtu,
    pub(crate) shown: Shown,
    pub(crate) trains: Trains,
    pub(crate) candidate: Option<Box<Candidate>>,
    pub(crate) responses: Responses,
    /// PING is to be sent.
    pub(crate) ping: bool,
    /// The peer wants data here as soon as the address is proved.
    pub(crate) wanted: bool,
    /// What arrived here is to be acknowledged by the active path as well, once: this one may not carry it.
    pub(crate) ack_elsewhere: bool,
    /// Where the peer's newest packet arrived: its beginning, when the system chooses it.
    pub(crate) begins: Option<IpAddr>,
    /// It leads to the peer without a detour, through NATs that forget.
    pub(crate) direct: bool,
    /// The peer uses it no more, and gave this error code.
    pub(crate) abandoned_by_peer: Option<u64>,
    /// The number of the peer's newest status.
    pub(crate) told: Option<u64>,
    pub(crate) watch: Watch,
    /// A number that was taken but not used: the next packet's.
    spare: Option<PacketNumber>,
    acks_alone: u32,
    last_eliciting: Option<Instant>,
    /// Something that asks for an answer left since the peer was last heard.
    asked: bool,
    /// Bytes that may still go to an address that is not proved (RFC 9000 §8.1); `None` once it is.
    allowance: Option<usize>,
}

/// What tells a dead path from a quiet one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    /// At least two packets have asked for an ACK, and none came, since then.
    pressed: Option<Instant>,
    /// Packets that came close after one another, and when the last did.
    flow: u32,
    flowed: Option<Instant>,
    /// It is suspect since then, when packets from this number on had not been sent.
    pub(crate) suspect: Option<(Instant, u64)>,
    /// When it is let go.
    pub(crate) gone_at: Option<Instant>,
    /// Suspicions in a row that were wrong: each makes the next come later.
    pub(crate) alarms: u32,
    /// It was left because it was suspect.
    pub(crate) left: bool,
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
    pub(crate) fn new(id: PathId, route: Route, template: &Template) -> Self {
        Self {
            id,
            state: PathState::Probing,
            recovery: Recovery::new(template.config.clone()),
            outcome: Outcome::default(),
            route,
            mtu: template.mtu.clone(),
            shown: Shown::default(),
            trains: Trains::default(),
            candidate: None,
            responses: Responses::default(),
            ping: false,
            wanted: false,
            ack_elsewhere: false,
            begins: None,
            direct: false,
            abandoned_by_peer: None,
            told: None,
            watch: Watch::default(),
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

    /// The peer's newest packet arrived at `local`. Whether others arrived elsewhere before.
    pub(crate) fn arrived_at(&mut self, local: Option<IpAddr>) -> bool {
        let Some(local) = local else { return false };
        self.begins.replace(local).is_some_and(|before| before != local)
    }

    /// The candidate proved itself and becomes the path. Whether the host changed, or only the port.
    pub(crate) fn switch(&mut self, now: Instant) -> Option<bool> {
        let Candidate { route, narrow, .. } = *self.candidate.take()?;
        let elsewhere = matches!((route.local, self.route.local), (Some(new), Some(old)) if new != old);
        let moved = elsewhere || route.remote.ip() != self.route.remote.ip();
        self.route = route;
        if moved {
            // Another place: nothing measured so far says anything about it (RFC 9000 §9.4).
            self.recovery.reset_path(now);
            self.trains = Trains::default();
            self.mtu.reset();
            if narrow {
                self.mtu.start_low();
            }
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
            self.note_pressed(now);
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

    // --- dead or quiet? ---

    /// Something that asks for an ACK left.
    fn note_pressed(&mut self, now: Instant) {
        if self.watch.pressed.is_none() && self.recovery.open_eliciting() > 1 {
            self.watch.pressed = Some(now);
        }
    }

    /// An ACK said something new.
    pub(crate) fn note_progress(&mut self, now: Instant) {
        self.watch.pressed = (self.recovery.open_eliciting() > 1).then_some(now);
    }

    /// A packet that asks for an ACK arrived. Gives whether another did at this very moment.
    pub(crate) fn note_flow(&mut self, now: Instant) -> bool {
        let again = self.watch.flowed == Some(now);
        let pause = || self.pause();
        let close = self
            .watch
            .flowed
            .is_some_and(|at| again || now.saturating_duration_since(at) <= pause());
        self.watch.flow = if close {
            self.watch.flow.saturating_add(1)
        } else {
            0
        };
        self.watch.flowed = Some(now);
        again
    }

    /// When a flow of packets should have gone on.
    fn pause(&self) -> Duration {
        (self.recovery.rtt().smoothed() * 3 / 2).max(FLOW_PAUSE)
    }

    /// How long an ACK may take while another path could take over: `max(1.5 srtt, srtt + 4 rttvar, 25 ms)`, twice that after each false
    /// alarm, and never more than a probe timeout.
    fn patience(&self) -> Duration {
        let rtt = self.recovery.rtt();
        let usual = (rtt.smoothed() * 3 / 2).max(rtt.smoothed() + rtt.variation() * 4);
        (usual.max(LEAST_PATIENCE) * (1 << self.watch.alarms.min(MAX_ALARMS))).min(self.recovery.pto())
    }

    /// When acknowledgements are missed.
    fn missed_at(&self) -> Option<Instant> {
        let since = self.watch.pressed.filter(|_| self.state == PathState::Active)?;
        Some(since + self.patience())
    }

    /// Whether acknowledgements are missed.
    pub(crate) fn is_missing_acks(&self, now: Instant) -> bool {
        self.missed_at().is_some_and(|at| at <= now)
    }

    /// When the peer, who was sending, is to be asked whether it is still there.
    fn asked_at(&self) -> Option<Instant> {
        let since = self.watch.flowed.filter(|_| {
            self.watch.flow >= FLOW
                && self.state == PathState::Active
                && !self.ping
                && self.recovery.open_eliciting() == 0
        })?;
        Some(since + self.pause())
    }

    /// When a path in waiting, or one that NATs would forget, is to be asked whether it is still there.
    fn kept_at(&self) -> Option<Instant> {
        let kept = self.state.is_ready() || (self.direct && self.state == PathState::Active);
        let waits = kept && !self.ping && self.recovery.open_eliciting() == 0;
        waits.then(|| self.last_eliciting.map(|at| at + STANDBY_QUIET))?
    }

    /// Asks what is to be asked. `keeps`: this end keeps paths in waiting alive, and asks after flows that stop.
    pub(crate) fn ask(&mut self, keeps: bool, now: Instant) {
        if keeps && self.kept_at().is_some_and(|at| at <= now) {
            self.ping = true;
        }
        if keeps && self.asked_at().is_some_and(|at| at <= now) {
            (self.ping, self.watch.flow) = (true, 0);
        }
    }

    /// When something is to be done by itself. `spared`: another path could take over.
    pub(crate) fn next_due(&self, keeps: bool, spared: bool) -> Option<Instant> {
        let challenge = self.candidate.as_deref().and_then(Candidate::expires_at);
        let missed = self.missed_at().filter(|_| spared);
        let asked = self.asked_at().filter(|_| keeps);
        let kept = self.kept_at().filter(|_| keeps);
        [challenge, missed, asked, kept, self.watch.gone_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The first number a packet sent from now on could have.
    pub(crate) fn upcoming(&mut self) -> u64 {
        let number = self.take_number();
        self.give_back(number);
        number.get()
    }
}
