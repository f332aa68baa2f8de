//! A path that is being made through NATs: the addresses it might lead to, what was asked of each, and the trial of the chosen one.
//!
//! Both ends ask at the same time, so that each NAT has seen a packet go out before one comes in. An address the peer named is
//! asked four times unless something comes from it; what then comes, sealed as it is, may come from another address than any that
//! was named, and makes that one worth asking. Small packets prove little: the chosen address must take packets of full size
//! before data go there.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::mtu::{BASE, FLOOR};
use super::validate::AMPLIFICATION;
use crate::buffer::Route;
use crate::path::PathId;

/// Addresses of one attempt: those that were named, and a few that were seen.
pub(crate) const MAX_TARGETS: usize = 10;
/// When an address is asked, from its first time on. What comes from it begins the row anew, once.
const SCHEDULE: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(140),
];
/// Time an attempt may take until an address is chosen.
pub(crate) const ROUND: Duration = Duration::from_secs(4);
/// After the first answer, others that may be shorter are waited for: half of its time, within these.
const LEAST_GRACE: Duration = Duration::from_millis(10);
const MOST_GRACE: Duration = Duration::from_millis(100);
/// Times a size is tried, the first wait at least, and the sizes: what data need at first, and what they need at all.
const TRIALS: u8 = 3;
const LEAST_TRIAL: Duration = Duration::from_millis(100);
const SIZES: [u16; 2] = [BASE, FLOOR];

/// A question that left.
#[derive(Clone, Copy, Debug)]
struct Asked {
    data: [u8; 8],
    at: Instant,
}

/// An address the path might lead to.
#[derive(Clone, Debug)]
struct Target {
    route: Route,
    asked: [Option<Asked>; SCHEDULE.len()],
    /// Places of the schedule that are done, and when it began.
    done: usize,
    begins_at: Instant,
    /// A sealed packet came from there: it gets three bytes for one, and is asked as often again.
    heard: bool,
    received: usize,
    sent: usize,
    rtt: Option<Duration>,
    /// It failed its trial.
    failed: bool,
}

impl Target {
    fn new(route: Route, begins_at: Instant) -> Self {
        Self {
            route,
            asked: [None; SCHEDULE.len()],
            done: 0,
            begins_at,
            heard: false,
            received: 0,
            sent: 0,
            rtt: None,
            failed: false,
        }
    }

    fn next_at(&self) -> Option<Instant> {
        let offset = SCHEDULE.get(self.done).filter(|_| self.rtt.is_none())?;
        Some(self.begins_at + *offset)
    }

    fn allowance(&self) -> usize {
        self.received
            .saturating_mul(AMPLIFICATION)
            .saturating_sub(self.sent)
    }
}

/// How a trial stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Not all is known.
    Open,
    /// Data may go there, in packets of the floor alone if it is narrow.
    Passed {
        /// Packets of the base size do not come through.
        narrow: bool,
    },
    /// They may not.
    Failed,
}

/// Packets as large as data, to the chosen address.
#[derive(Clone, Debug)]
struct Trial {
    number: u8,
    at: usize,
    attempts: u8,
    /// Sizes to be sent in this attempt, and those that arrived in any.
    waiting: [bool; SIZES.len()],
    arrived: [bool; SIZES.len()],
    /// When the attempt is over; `None` before it has begun.
    next_at: Option<Instant>,
    pause: Duration,
}

/// One attempt.
#[derive(Clone, Debug)]
pub(crate) struct Holes {
    path: PathId,
    targets: Vec<Target>,
    begins_at: Instant,
    ends_at: Instant,
    /// When the first address was proved.
    proved_at: Option<Instant>,
    /// At a server: the client's packets that mean it come from there.
    wished: Option<SocketAddr>,
    trial: Option<Trial>,
    trials: u8,
}

impl Holes {
    /// An attempt whose questions leave from `begins_at` on.
    pub(crate) fn new(path: PathId, begins_at: Instant) -> Self {
        Self {
            path,
            targets: Vec::new(),
            begins_at,
            ends_at: begins_at + ROUND,
            proved_at: None,
            wished: None,
            trial: None,
            trials: 0,
        }
    }

    /// The path that is being made.
    pub(crate) fn path(&self) -> PathId {
        self.path
    }

    fn target(&mut self, remote: SocketAddr) -> Option<&mut Target> {
        self.targets
            .iter_mut()
            .find(|target| target.route.remote == remote)
    }

    // --- whom to ask ---

    /// The peer named this address. False: it is known, or there are enough.
    pub(crate) fn aim(&mut self, remote: SocketAddr, now: Instant) -> bool {
        let route = Route { remote, local: None };
        self.add(route, self.begins_at.max(now))
    }

    fn add(&mut self, route: Route, begins_at: Instant) -> bool {
        let known = self.target(route.remote).is_some();
        let fits = !known && self.targets.len() < MAX_TARGETS;
        if fits {
            self.targets.push(Target::new(route, begins_at));
        }
        fits
    }

    /// A packet of the path came from there, with `size` bytes.
    pub(crate) fn hear(&mut self, route: Route, size: usize, now: Instant) {
        self.add(route, now);
        let Some(target) = self.target(route.remote) else {
            return;
        };
        target.received = target.received.saturating_add(size);
        target.route.local = route.local.or(target.route.local);
        if !std::mem::replace(&mut target.heard, true) {
            (target.done, target.begins_at) = (0, now);
        }
    }

    /// The peer took the address back.
    pub(crate) fn forget(&mut self, remote: SocketAddr) {
        self.targets
            .retain(|target| target.route.remote != remote || target.heard);
    }

    /// Where a question is due, and of how many bytes at most.
    pub(crate) fn question_due(&self, now: Instant) -> Option<(Route, usize)> {
        if self.trial.is_some() {
            return None;
        }
        let due = |target: &&Target| target.next_at().is_some_and(|at| at <= now);
        let target = self.targets.iter().find(due)?;
        let most = if target.heard {
            target.allowance()
        } else {
            usize::MAX
        };
        Some((target.route, most))
    }

    /// A question left, or could not, with `size` bytes.
    pub(crate) fn asked(&mut self, remote: SocketAddr, data: [u8; 8], size: usize, now: Instant) {
        let Some(target) = self.target(remote) else { return };
        if let Some(slot) = target.asked.get_mut(target.done) {
            *slot = Some(Asked { data, at: now });
        }
        target.done += 1;
        if target.heard {
            target.sent = target.sent.saturating_add(size);
        }
    }

    /// Bytes an answer to this address may have.
    pub(crate) fn allowance(&self, remote: SocketAddr) -> usize {
        let mut targets = self.targets.iter();
        let found = targets.find(|target| target.route.remote == remote);
        found.map_or(0, Target::allowance)
    }

    /// An answer left.
    pub(crate) fn answered(&mut self, remote: SocketAddr, size: usize) {
        if let Some(target) = self.target(remote) {
            target.sent = target.sent.saturating_add(size);
        }
    }

    /// An answer came from there; whether it proves the address.
    pub(crate) fn prove(&mut self, remote: SocketAddr, data: [u8; 8], now: Instant) -> bool {
        let Some(target) = self.target(remote).filter(|target| target.rtt.is_none()) else {
            return false;
        };
        let Some(asked) = target.asked.iter().flatten().find(|asked| asked.data == data) else {
            return false;
        };
        target.rtt = Some(now.saturating_duration_since(asked.at));
        self.proved_at.get_or_insert(now);
        true
    }

    // --- which one ---

    /// The client means this address of its own.
    pub(crate) fn wish(&mut self, remote: SocketAddr) {
        self.wished = Some(remote);
    }

    /// The address to try, once it is time to choose. `client`: the shortest proved way; a server follows its client.
    pub(crate) fn choose(&mut self, client: bool, now: Instant) -> Option<(Route, Duration)> {
        let ready = client && self.choose_at().is_some_and(|at| at <= now);
        let wished = self.wished.filter(|_| !client);
        let tried = self.trial.as_ref().and_then(|trial| self.targets.get(trial.at));
        let same = tried.is_some_and(|target| Some(target.route.remote) == wished);
        if same || (client && self.trial.is_some()) {
            return None;
        }
        let open = |target: &Target| !target.failed && (ready || Some(target.route.remote) == wished);
        let proved = self.targets.iter().enumerate();
        let (rtt, at, route) = proved
            .filter(|(_, target)| open(target))
            .filter_map(|(at, target)| Some((target.rtt?, at, target.route)))
            .min_by_key(|(rtt, at, _)| (*rtt, *at))?;
        self.trials = self.trials.wrapping_add(1);
        self.trial = Some(Trial {
            number: self.trials,
            at,
            attempts: 0,
            waiting: [false; SIZES.len()],
            arrived: [false; SIZES.len()],
            next_at: Some(now),
            pause: (rtt * 2).max(LEAST_TRIAL),
        });
        Some((route, rtt))
    }

    /// When a client chooses: a little after the first proof.
    fn choose_at(&self) -> Option<Instant> {
        let first = self.targets.iter().filter_map(|target| target.rtt).min()?;
        Some(self.proved_at? + (first / 2).clamp(LEAST_GRACE, MOST_GRACE))
    }

    // --- the trial ---

    /// Whether an address was chosen: the path leads there.
    pub(crate) fn is_chosen(&self) -> bool {
        self.trial.is_some()
    }

    /// A packet of a trial that is due: which trial, and its size.
    pub(crate) fn trial_due(&mut self, now: Instant) -> Option<(u8, u16)> {
        let trial = self.trial.as_mut()?;
        if trial.next_at.is_some_and(|at| at <= now) && trial.attempts < TRIALS {
            trial.waiting = trial.arrived.map(|arrived| !arrived);
            trial.attempts += 1;
            trial.next_at = Some(now + trial.pause);
            trial.pause *= 2;
        }
        let at = trial.waiting.iter().position(|waiting| *waiting)?;
        *trial.waiting.get_mut(at)? = false;
        Some((trial.number, *SIZES.get(at)?))
    }

    /// A packet of a trial arrived.
    pub(crate) fn trial_arrived(&mut self, number: u8, size: u16) {
        let trial = self.trial.as_mut().filter(|trial| trial.number == number);
        let at = SIZES.iter().position(|known| *known == size);
        if let Some(slot) = trial.zip(at).and_then(|(trial, at)| trial.arrived.get_mut(at)) {
            *slot = true;
        }
    }

    /// What the trial showed so far. A failed one is over, and its address out of the question.
    pub(crate) fn verdict(&mut self, now: Instant) -> Verdict {
        let Some(trial) = &self.trial else {
            return Verdict::Open;
        };
        let over = trial.attempts >= TRIALS && trial.next_at.is_some_and(|at| at <= now);
        match trial.arrived {
            [true, true] => Verdict::Passed { narrow: false },
            [_, true] if over => Verdict::Passed { narrow: true },
            _ if over => {
                if let Some(target) = self.targets.get_mut(trial.at) {
                    target.failed = true;
                }
                self.trial = None;
                Verdict::Failed
            }
            _ => Verdict::Open,
        }
    }

    // --- time ---

    /// Whether the attempt is over without a result.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.trial.is_none() && self.ends_at <= now
    }

    /// When something is to be done.
    pub(crate) fn next_at(&self, client: bool) -> Instant {
        if let Some(trial) = &self.trial {
            return trial.next_at.unwrap_or(self.ends_at);
        }
        let asks = self.targets.iter().filter_map(Target::next_at).min();
        let choose = self.choose_at().filter(|_| client && self.has_open());
        [asks, choose, Some(self.ends_at)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.ends_at)
    }

    fn has_open(&self) -> bool {
        let open = |target: &Target| !target.failed && target.rtt.is_some();
        self.targets.iter().any(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn route(port: u16) -> Route {
        Route {
            remote: address(port),
            local: None,
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    /// Asks whatever is due until `until`; when each question left, and where to.
    fn ask(holes: &mut Holes, from: Instant, until: Duration) -> Vec<(Duration, u16)> {
        let mut asked = Vec::new();
        for step in 0..=until.as_millis() as u64 {
            let now = from + ms(step);
            while let Some((route, _)) = holes.question_due(now) {
                asked.push((ms(step), route.remote.port()));
                holes.asked(route.remote, [asked.len() as u8; 8], 200, now);
            }
        }
        asked
    }

    #[test]
    fn a_named_address_is_asked_four_times_and_again_when_it_speaks() {
        let now = start();
        let mut holes = Holes::new(PathId(1), now + ms(30));
        assert!(holes.aim(address(1), now) && !holes.aim(address(1), now));
        let times = [30, 50, 90, 170].map(|at| (ms(at), 1));
        assert_eq!(ask(&mut holes, now, ROUND), times);
        let later = now + ms(1000);
        holes.hear(route(1), 300, later);
        assert_eq!(ask(&mut holes, later, ROUND).len(), 4);
        holes.hear(route(1), 300, later + ms(500));
        assert_eq!(ask(&mut holes, later, ROUND), []);
        assert!(holes.is_over(now + ms(30) + ROUND));
    }

    #[test]
    fn addresses_are_bounded_and_those_not_named_get_three_bytes_for_one() {
        let now = start();
        let mut holes = Holes::new(PathId(1), now);
        for port in 1..=1000 {
            holes.aim(address(port), now);
            holes.hear(route(port), 100, now);
        }
        assert_eq!(holes.targets.len(), MAX_TARGETS);
        let (first, most) = holes.question_due(now).unwrap();
        assert_eq!((first, most), (route(1), 300));
        holes.asked(address(1), [1; 8], 250, now);
        assert_eq!(holes.allowance(address(1)), 50);
        assert_eq!(holes.allowance(address(999)), 0);
    }

    #[test]
    fn the_shortest_way_is_chosen_a_little_after_the_first_answer() {
        let now = start();
        let mut holes = Holes::new(PathId(1), now);
        holes.aim(address(1), now);
        holes.aim(address(2), now);
        for port in [1, 2] {
            holes.asked(address(port), [port as u8; 8], 200, now);
        }
        assert!(
            !holes.prove(address(2), [1; 8], now + ms(40)),
            "an answer from elsewhere proves nothing"
        );
        assert!(holes.prove(address(1), [1; 8], now + ms(40)));
        assert_eq!(holes.choose(true, now + ms(40)), None);
        assert_eq!(holes.next_at(true), now + ms(20).min(ms(20)));
        holes.asked(address(2), [3; 8], 200, now + ms(20));
        assert!(holes.prove(address(2), [3; 8], now + ms(50)));
        assert_eq!(holes.choose(true, now + ms(60)), Some((route(2), ms(30))));
        assert_eq!(holes.choose(true, now + ms(60)), None, "it is being tried");
    }

    /// A trial of the one address there is.
    fn tried(passes: impl Fn(u16) -> bool) -> (Verdict, Duration) {
        let now = start();
        let mut holes = Holes::new(PathId(1), now);
        holes.aim(address(1), now);
        holes.asked(address(1), [1; 8], 200, now);
        holes.prove(address(1), [1; 8], now + ms(40));
        holes.choose(true, now + ms(60)).expect("a choice");
        for step in 60..10_000 {
            while let Some((number, size)) = holes.trial_due(now + ms(step)) {
                holes.trial_arrived(number.wrapping_add(1), size);
                if passes(size) {
                    holes.trial_arrived(number, size);
                }
            }
            let verdict = holes.verdict(now + ms(step));
            if verdict != Verdict::Open {
                assert_eq!(holes.choose(true, now + ms(step)), None, "it had its chance");
                return (verdict, ms(step));
            }
        }
        panic!("no verdict");
    }

    #[test]
    fn what_takes_small_packets_alone_does_not_pass() {
        assert_eq!(tried(|_| true), (Verdict::Passed { narrow: false }, ms(60)));
        let (verdict, took) = tried(|size| size <= FLOOR);
        assert_eq!(verdict, Verdict::Passed { narrow: true });
        assert!(took < ms(1000), "{took:?}");
        assert_eq!(tried(|size| size < 600).0, Verdict::Failed);
        assert_eq!(tried(|size| size == BASE).0, Verdict::Failed);
    }

    #[test]
    fn a_server_follows_its_client_to_what_is_proved() {
        let now = start();
        let mut holes = Holes::new(PathId(1), now);
        holes.hear(route(1), 300, now);
        holes.hear(route(2), 300, now);
        holes.wish(address(2));
        assert_eq!(holes.choose(false, now), None);
        for port in [1, 2] {
            holes.asked(address(port), [port as u8; 8], 200, now);
            holes.prove(address(port), [port as u8; 8], now + ms(10 * u64::from(port)));
        }
        assert_eq!(holes.choose(false, now + ms(20)), Some((route(2), ms(20))));
        assert_eq!(holes.choose(false, now + ms(20)), None);
        holes.wish(address(1));
        assert_eq!(holes.choose(false, now + ms(30)), Some((route(1), ms(10))));
    }
}
