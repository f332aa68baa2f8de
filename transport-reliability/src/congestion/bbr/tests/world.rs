//! One flow over one bottleneck, to a receiver that acknowledges every second packet. The whole of recovery runs on it,
//! without the rest of the stack.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::link::Link;
use crate::congestion::Congestion;
use crate::congestion::bbr::{Bbr, State};
use crate::{
    AckInput, AckRange, Algorithm, Config, EcnCounts, Outcome, Permit, Recovery, Sent, SentKind, start,
};

const ACK_DELAY: Duration = Duration::from_millis(25);

/// What the sender has to say.
#[derive(Clone, Copy, Debug)]
pub(super) enum App {
    Bulk,
    /// Bytes a second.
    Rate(u64),
    Paused,
}

/// A flow in its world.
pub(super) struct World {
    pub(super) recovery: Recovery<u64>,
    pub(super) now: Instant,
    pub(super) began: Instant,
    pub(super) link: Link,
    pub(super) app: App,
    pub(super) mds: u64,
    pub(super) sent: u64,
    pub(super) dropped: u64,
    /// Bytes that reached the receiver.
    pub(super) received: u64,
    /// Times persistent congestion was established, and spurious losses.
    pub(super) outages: u32,
    pub(super) spurious: u32,
    /// RTT samples, one an ACK.
    pub(super) rtts: Vec<Duration>,
    /// States as they were entered, with their round.
    pub(super) states: Vec<(Instant, State)>,
    /// What the receiver counted, if the link marks.
    marks: EcnCounts,
    /// What left with ECT(0), and what of it was marked on the way.
    ect: BTreeSet<u64>,
    marked: BTreeSet<u64>,
    out: Outcome<u64>,
    backlog: f64,
    app_at: Instant,
    arrivals: BTreeMap<(Instant, u64), u64>,
    held: Vec<u64>,
    unacked: Vec<u64>,
    ack_at: Option<Instant>,
}

impl World {
    /// A queue of `queue` bandwidth-delay products, sixteen packets at least.
    pub(super) fn new(rate: u64, rtt: Duration, mds: u16, queue: f64) -> Self {
        Self::with(Algorithm::Bbr, rate, rtt, mds, queue)
    }

    pub(super) fn with(algorithm: Algorithm, rate: u64, rtt: Duration, mds: u16, queue: f64) -> Self {
        let config = Config {
            max_datagram: mds,
            algorithm,
            seed: 11,
            ..Config::default()
        };
        let now = start();
        let mds = u64::from(mds);
        let bdp = rate as f64 * rtt.as_secs_f64();
        Self {
            recovery: Recovery::new(config),
            now,
            began: now,
            link: Link::new(rate, rtt, ((bdp * queue) as u64).max(16 * mds), now),
            app: App::Bulk,
            mds,
            sent: 0,
            dropped: 0,
            received: 0,
            outages: 0,
            spurious: 0,
            rtts: Vec::new(),
            states: vec![(now, State::Startup)],
            marks: EcnCounts::default(),
            ect: BTreeSet::new(),
            marked: BTreeSet::new(),
            out: Outcome::default(),
            backlog: 0.0,
            app_at: now,
            arrivals: BTreeMap::new(),
            held: Vec::new(),
            unacked: Vec::new(),
            ack_at: None,
        }
    }

    pub(super) fn bbr(&self) -> &Bbr {
        match &self.recovery.congestion.congestion {
            Congestion::Bbr(bbr) => bbr,
            _ => panic!("not BBR"),
        }
    }

    pub(super) fn bbr_mut(&mut self) -> &mut Bbr {
        match &mut self.recovery.congestion.congestion {
            Congestion::Bbr(bbr) => bbr,
            _ => panic!("not BBR"),
        }
    }

    pub(super) fn state(&self) -> State {
        self.bbr().state
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.recovery.in_flight
    }

    pub(super) fn bdp(&self) -> u64 {
        (self.link.rate as f64 * self.link.rtt.as_secs_f64()) as u64
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    /// Until the flow is in `state`.
    pub(super) fn reach(&mut self, state: State, limit: Duration) {
        let reached = self.run_until(limit, |world| world.state() == state);
        assert!(reached, "never in {state:?}: {}", self.trace());
    }

    /// Until it is in another state than now; which one.
    pub(super) fn leave(&mut self, limit: Duration) -> State {
        let state = self.state();
        let left = self.run_until(limit, |world| world.state() != state);
        assert!(left, "{state:?} for ever");
        self.state()
    }

    /// The last states, with their seconds.
    pub(super) fn trace(&self) -> String {
        let last = &self.states[self.states.len().saturating_sub(12)..];
        let show =
            |(at, state): &(Instant, State)| format!("{state:?}@{:.3}", (*at - self.began).as_secs_f64());
        last.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    /// The application changes its mind.
    pub(super) fn set_app(&mut self, app: App) {
        (self.app, self.backlog, self.app_at) = (app, 0.0, self.now);
    }

    /// Until `done`, for `limit` at most; whether it came to that.
    pub(super) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while self.now < end {
            if done(self) {
                return true;
            }
            self.step(end);
        }
        done(self)
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// One event, or none before `end`.
    fn step(&mut self, end: Instant) {
        self.transmit();
        let timeout = self.recovery.next_timeout().map(|(at, _)| at);
        let arrival = self.arrivals.first_key_value().map(|((at, _), _)| *at);
        let next = [timeout, arrival, self.ack_at, self.app_wake()];
        let next = next.into_iter().flatten().min().unwrap_or(end);
        self.now = next.min(end).max(self.now);
        if timeout.is_some_and(|at| at <= self.now) {
            self.recovery.on_timeout(self.now, &mut self.out);
            self.note_state();
        }
        self.receive();
    }

    fn app_wake(&self) -> Option<Instant> {
        match self.app {
            App::Rate(rate) if self.backlog < self.mds as f64 => {
                let missing = self.mds as f64 - self.backlog;
                Some(self.app_at + Duration::from_secs_f64(missing / rate as f64) + Duration::from_nanos(1))
            }
            _ => None,
        }
    }

    fn available(&mut self) -> u64 {
        match self.app {
            App::Bulk => u64::MAX,
            App::Paused => 0,
            App::Rate(rate) => {
                self.backlog += (self.now - self.app_at).as_secs_f64() * rate as f64;
                self.app_at = self.now;
                self.backlog as u64
            }
        }
    }

    fn transmit(&mut self) {
        loop {
            let (permit, available) = (self.recovery.permit(self.now), self.available());
            match permit {
                Permit::Full { .. } if available < self.mds => {
                    self.recovery.app_limited(self.now);
                    return;
                }
                Permit::Full { bytes } => {
                    let packets = (bytes as u64 / self.mds).max(1).min(available / self.mds);
                    for _ in 0..packets {
                        self.send();
                    }
                    self.backlog -= (packets * self.mds) as f64;
                }
                Permit::Retransmit => self.send(),
                Permit::AcksOnly | Permit::Nothing => return,
            }
        }
    }

    fn send(&mut self) {
        let number = self.recovery.next_number();
        let content = number.get();
        let ect = self.link.marks_above.is_some() && self.recovery.is_marking();
        let packet = Sent {
            number,
            size: self.mds as u16,
            eliciting: true,
            in_flight: true,
            kind: SentKind::Normal,
            ect,
            content,
        };
        self.recovery.sent(self.now, packet);
        self.sent += 1;
        let carried = self.link.carry(self.now, self.mds);
        if ect && carried.is_some() && self.link.marked {
            self.marked.insert(content);
        }
        if ect && carried.is_some() {
            self.ect.insert(content);
        }
        match carried {
            Some(_) if self.link.holds => self.held.push(content),
            Some(at) => {
                self.arrivals.insert((at, content), content);
            }
            None => self.dropped += 1,
        }
        self.note_state();
    }

    fn receive(&mut self) {
        while let Some(entry) = self.arrivals.first_entry() {
            let (at, _) = *entry.key();
            if at > self.now {
                break;
            }
            let number = entry.remove();
            self.received += self.mds;
            if self.ect.remove(&number) {
                let ce = self.marked.remove(&number);
                self.marks.ce += u64::from(ce);
                self.marks.ect0 += u64::from(!ce);
            }
            let gap = self.unacked.last().is_some_and(|last| number != last + 1);
            self.unacked.push(number);
            let due = if self.unacked.len() >= 2 || gap {
                at
            } else {
                at + ACK_DELAY
            };
            let due = self.link.slot.map_or(due, |slot| {
                let nanos = (due - self.began).as_nanos().div_ceil(slot.as_nanos()) * slot.as_nanos();
                self.began + Duration::from_nanos(nanos as u64)
            });
            self.ack_at = Some(self.ack_at.map_or(due, |before| before.min(due)));
            // Packets that arrive later must not ride along with this ACK.
            if self.link.slot.is_none() && due <= self.now {
                self.acknowledge();
            }
        }
        if self.ack_at.is_some_and(|at| at <= self.now) {
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        self.ack_at = None;
        let mut numbers = std::mem::take(&mut self.unacked);
        numbers.sort_unstable();
        let mut ranges: Vec<AckRange> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some(range) if range.last + 1 == number => range.last = number,
                _ => ranges.push(AckRange {
                    first: number,
                    last: number,
                }),
            }
        }
        for part in ranges.chunks_mut(200) {
            part.reverse();
            self.out.clear();
            let ack = AckInput {
                largest: part[0].last,
                delay: Duration::ZERO,
                ranges: part,
                ecn: Some(self.marks).filter(|marks| !marks.is_zero()),
            };
            self.recovery
                .on_ack(self.now, ack, &mut self.out)
                .expect("honest");
            self.outages += u32::from(self.out.persistent_congestion);
            self.spurious += self.out.spurious;
            if self.out.rtt_updated {
                self.rtts.push(self.recovery.rtt().latest());
            }
            self.note_state();
        }
    }

    /// What the link kept back arrives.
    pub(super) fn release(&mut self) {
        self.link.holds = false;
        for number in std::mem::take(&mut self.held) {
            self.arrivals.insert((self.now, number), number);
        }
    }

    fn note_state(&mut self) {
        let state = self.state();
        if self.states.last().is_none_or(|(_, last)| *last != state) {
            self.states.push((self.now, state));
        }
    }
}
