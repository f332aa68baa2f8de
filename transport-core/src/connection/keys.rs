//! When keys change. The keys themselves are `transport_crypto`'s.
//!
//! An update is ours to begin when the current key has sealed enough packets or is ten minutes old, and the peer has shown
//! three PTO ago that it followed the last one (RFC 9001 §6.5). The peer's update shows in a flipped phase bit; we follow at
//! once, and keep the old key for three PTO for what was overtaken on the way. It is too early when we have not acknowledged
//! anything of its last one (RFC 9001 §6.2): of time the two ends have different ideas, most of all after a change of path.
//!
//! All paths share the keys, each with numbers of its own (draft-ietf-quic-multipath §2.4): what is from before a change is told
//! path by path. On a path that carried nothing since, a packet of the other phase is from before while the keys of before are
//! there, and from the next phase afterwards: no end begins another change within three of its longest probe timeouts.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_crypto::{
    CidMasks, Direction, Exporter, Forged, Generation, OpenKeys, Resumption, SealKeys, Session,
};

use crate::config::TransportConfig;
use crate::error::{Breach, By, code};
use crate::packet::Sealed;
use crate::random::Random;

/// Packets that failed to open, over all keys, after which a connection ends, whatever the configuration.
const MAX_FAILED: u64 = 1 << 32;

/// When keys are replaced, and when they are worn out.
#[derive(Clone, Copy)]
pub(crate) struct KeyLimits {
    packets: u64,
    age: Duration,
    failed: u64,
}

impl KeyLimits {
    pub(crate) fn of(transport: &TransportConfig) -> Self {
        Self {
            packets: transport.key_update_packets,
            age: transport.key_update_interval,
            failed: transport.forgery_limit.min(MAX_FAILED),
        }
    }

    /// An age ± a fifth.
    fn age(&self, random: &mut Random) -> Duration {
        self.age
            .mul_f64(0.8 + 0.4 * (random.within(0, 1000) as f64 / 1000.0))
    }
}

/// What one path saw of the current phase; only paths that saw something are remembered.
#[derive(Clone, Copy, Debug)]
struct Lane {
    path: u32,
    /// Smallest number received: what is below and of the other phase is from before.
    first_received: Option<u64>,
    /// First number sealed, and whether the peer acknowledged one from there on.
    first_sealed: Option<u64>,
    followed: bool,
}

/// Keys of both directions, and the policy of their updates.
pub(crate) struct Keys {
    pub(crate) seal: SealKeys,
    pub(crate) open: OpenKeys,
    pub(crate) exporter: Exporter,
    pub(crate) resumption: Resumption,
    pub(crate) cids: Arc<CidMasks>,
    pub(crate) outgoing: Direction,
    limits: KeyLimits,
    /// The path that was asked about last, and the others.
    lane: Lane,
    lanes: Vec<Lane>,
    /// When the peer first acknowledged a packet sealed in the current phase.
    followed: Option<Instant>,
    /// The peer's last change was acknowledged, so that it may begin another one.
    reported: bool,
    /// Age at which the current keys are replaced, drawn anew with each update of ours.
    age: Duration,
    replace_at: Instant,
    wanted: bool,
    updates: u64,
}

impl Keys {
    pub(crate) fn new(
        session: Session,
        cids: Arc<CidMasks>,
        outgoing: Direction,
        limits: KeyLimits,
        now: Instant,
        random: &mut Random,
    ) -> Self {
        let age = limits.age(random);
        Self {
            seal: session.seal,
            open: session.open,
            exporter: session.exporter,
            resumption: session.resumption,
            cids,
            outgoing,
            limits,
            lane: Lane {
                first_received: Some(0),
                ..Lane::new(0)
            },
            lanes: Vec::new(),
            followed: None,
            reported: true,
            age,
            replace_at: now + age,
            wanted: false,
            updates: 0,
        }
    }

    /// Changes since the start.
    pub(crate) fn updates(&self) -> u64 {
        self.updates
    }

    /// Opens a packet in place; the frames, and the generation that did it.
    pub(crate) fn open<'d>(
        &mut self,
        sealed: Sealed<'d>,
        path: u32,
        number: u64,
    ) -> Result<(&'d mut [u8], Generation), Forged> {
        let which = self.generation(sealed.key_phase(), path, number);
        sealed
            .open(&mut self.open, which, path, number)
            .map(|frames| (frames, which))
    }

    fn generation(&self, phase: bool, path: u32, number: u64) -> Generation {
        let first = self.lanes().find(|lane| lane.path == path);
        let first = first.and_then(|lane| lane.first_received);
        if phase == self.open.phase() {
            Generation::Current
        } else if self.open.has_previous() && first.is_none_or(|first| number < first) {
            Generation::Previous
        } else {
            Generation::Next
        }
    }

    /// What a path saw; a packet train stays on one.
    fn lane(&mut self, path: u32) -> &mut Lane {
        if self.lane.path != path {
            if let Some(other) = self.lanes.iter_mut().find(|lane| lane.path == path) {
                std::mem::swap(&mut self.lane, other);
            } else {
                self.lanes
                    .push(std::mem::replace(&mut self.lane, Lane::new(path)));
            }
        }
        &mut self.lane
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.lane).chain(&self.lanes)
    }

    fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        std::iter::once(&mut self.lane).chain(&mut self.lanes)
    }

    /// The path is over.
    pub(crate) fn forget(&mut self, path: u32) {
        *self.lane(path) = Lane::new(path);
        if let Some(other) = self.lanes.pop() {
            self.lane = other;
        }
    }

    /// A packet opened with generation `which`. `Some` when keys changed because of it.
    pub(crate) fn opened(
        &mut self,
        which: Generation,
        path: u32,
        number: u64,
        now: Instant,
    ) -> Result<Option<By>, Breach> {
        match which {
            Generation::Previous => return Ok(None),
            Generation::Current => {
                let first = &mut self.lane(path).first_received;
                *first = Some(first.map_or(number, |first| first.min(number)));
                return Ok(None);
            }
            Generation::Next => {}
        }
        // Who follows an update of ours begins none.
        let follows = self.seal.phase() != self.open.phase();
        if !(follows || self.reported) {
            return Err(Breach::new(code::KEY_UPDATE_ERROR, 0));
        }
        self.open.update();
        self.lanes_mut().for_each(|lane| lane.first_received = None);
        self.lane(path).first_received = Some(number);
        self.reported = false;
        if self.seal.phase() == self.open.phase() {
            return Ok(Some(By::Local));
        }
        self.change_seal(now);
        Ok(Some(By::Peer))
    }

    /// The generation before the last change is no longer needed.
    pub(crate) fn discard_previous(&mut self) {
        self.open.drop_previous();
    }

    /// So many forgeries that the keys must no longer be used (RFC 9001 §6.6).
    pub(crate) fn is_worn_out(&self) -> bool {
        self.open.failed() >= self.limits.failed
    }

    /// The application wants new keys; whether it can have them soon.
    pub(crate) fn want_update(&mut self) -> bool {
        let possible = self.in_step();
        self.wanted |= possible;
        possible
    }

    /// Begins an update if one is due and allowed.
    pub(crate) fn update_if_due(&mut self, now: Instant, pto: Duration, random: &mut Random) -> bool {
        let worn = self.seal.update_due() || self.seal.sealed() >= self.limits.packets;
        let due = self.wanted || worn || now >= self.replace_at;
        let followed = self.followed.map(|at| now.saturating_duration_since(at));
        let spaced = self.updates == 0 || followed.is_some_and(|since| since >= pto * 3);
        if !(due && spaced && self.in_step()) {
            return false;
        }
        self.age = self.limits.age(random);
        self.change_seal(now);
        true
    }

    /// Both directions are in the same phase, and the peer is known to have opened something of it on each path that is used.
    fn in_step(&self) -> bool {
        let followed = |lane: &Lane| lane.followed || lane.first_sealed.is_none();
        self.seal.phase() == self.open.phase() && self.followed.is_some() && self.lanes().all(followed)
    }

    fn change_seal(&mut self, now: Instant) {
        self.seal.update();
        // Whoever began: the keys are new.
        self.replace_at = now + self.age;
        for lane in self.lanes_mut() {
            (lane.first_sealed, lane.followed) = (None, false);
        }
        self.followed = None;
        self.wanted = false;
        self.updates += 1;
    }

    /// A packet was sealed.
    pub(crate) fn sealed(&mut self, path: u32, number: u64) {
        self.lane(path).first_sealed.get_or_insert(number);
    }

    /// An ACK that names `largest` of a path leaves.
    pub(crate) fn acknowledging(&mut self, path: u32, largest: u64) {
        let first = self.lane(path).first_received;
        self.reported |= first.is_some_and(|first| largest >= first);
    }

    /// The peer acknowledged `largest` of a path.
    pub(crate) fn acknowledged(&mut self, path: u32, largest: u64, now: Instant) {
        let lane = self.lane(path);
        if lane.first_sealed.is_some_and(|first| largest >= first) {
            lane.followed = true;
            self.followed.get_or_insert(now);
        }
    }
}

impl Lane {
    const fn new(path: u32) -> Self {
        Self {
            path,
            first_received: None,
            first_sealed: None,
            followed: false,
        }
    }
}
