//! Losses without a queue: on radio links packets are lost that no router dropped.
//!
//! A round trip is calm if the queue was empty at some time of it: its smallest RTT is near the smallest known. The draft cuts the bounds of the short term after any
//! loss (§5.5.10.3); when a calm round loses no more than the draft tolerates of a probe, nobody is there to make room
//! for, and nothing is cut. A drop-tail queue that overflows holds half a BDP and more for the next round trip: not calm.
//!
//! The lossy variant goes further: it learns what calm rounds lose, and tolerates twice that, for a few packets more or less are
//! chance, up to 10 %; for three seconds not after a queue lost more than that, unless it was a probe that filled it.

use std::time::{Duration, Instant};

use super::model::per_mille;

/// `BBR.LossThresh`, per mille.
pub(super) const TOLERATED: u64 = 20;
/// What the lossy variant tolerates at most.
pub(super) const MOST: u64 = 100;
/// Calm rounds in a row before what they lose is believed.
const ROUNDS: u32 = 2;
/// How long a queue that lost too much is remembered.
const WARY: Duration = Duration::from_secs(3);
/// A queue shorter than this, or than a tenth of the RTT, is none.
const NO_QUEUE: Duration = Duration::from_millis(2);

/// What the losses of round trips say.
#[derive(Debug)]
pub(super) struct Calm {
    /// Learns from calm rounds.
    lossy: bool,
    /// Of the round at hand.
    lost: u64,
    marked: bool,
    delivered_before: u64,
    smallest_rtt: Option<Duration>,
    /// Bytes lost in calm rounds, and all of them; older rounds count less.
    usual: (u64, u64),
    rounds: u32,
    /// The last round was calm.
    last: bool,
    wary_until: Option<Instant>,
}

impl Calm {
    pub(super) fn new(lossy: bool) -> Self {
        Self {
            lossy,
            lost: 0,
            marked: false,
            delivered_before: 0,
            smallest_rtt: None,
            usual: (0, 0),
            rounds: 0,
            last: false,
            wary_until: None,
        }
    }

    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    pub(super) fn on_mark(&mut self) {
        self.marked = true;
    }

    pub(super) fn on_rtt(&mut self, rtt: Duration) {
        self.smallest_rtt = Some(self.smallest_rtt.map_or(rtt, |smallest| smallest.min(rtt)));
    }

    /// Bytes of so many that may be lost: the tolerated share, and one standard deviation of what chance adds when single packets
    /// are lost. With 400 packets in flight every thirtieth round of a path that loses 1 % would be above 2 %.
    pub(super) fn bearable(&self, of: u64, max_datagram: u64) -> u64 {
        let share = per_mille(of, self.tolerated());
        share + share.saturating_mul(max_datagram).isqrt()
    }

    /// Share of the bytes that may be lost, per mille.
    pub(super) fn tolerated(&self) -> u64 {
        if self.lossy && self.rounds >= ROUNDS && self.wary_until.is_none() {
            let (lost, all) = self.usual;
            (lost.saturating_mul(2000) / all.max(1)).clamp(TOLERATED, MOST)
        } else {
            TOLERATED
        }
    }

    /// Whether nobody had a queue in the last round trip.
    pub(super) fn last(&self) -> bool {
        self.last
    }

    /// A round trip ended; `probed`: its losses are those of a probe. Whether what it lost is no sign of congestion.
    pub(super) fn round(
        &mut self,
        now: Instant,
        delivered: u64,
        min_rtt: Option<Duration>,
        max_datagram: u64,
        probed: bool,
    ) -> bool {
        let lost = std::mem::take(&mut self.lost);
        let all = (delivered - self.delivered_before + lost).max(1);
        self.delivered_before = delivered;
        let smallest = self.smallest_rtt.take();
        let calm = min_rtt
            .zip(smallest)
            .is_some_and(|(min, smallest)| smallest <= min + (min / 10).max(NO_QUEUE));
        let bearable = lost <= self.bearable(all, max_datagram);
        self.last = calm;
        if self.wary_until.is_some_and(|until| now >= until) {
            self.wary_until = None;
        }
        if calm {
            self.rounds = self.rounds.saturating_add(1);
            let (before, total) = self.usual;
            self.usual = (before - before / 8 + lost, total - total / 8 + all);
        } else if !bearable && !probed {
            self.wary_until = Some(now + WARY);
        }
        let marked = std::mem::take(&mut self.marked);
        calm && bearable && !marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start;

    const MS: Duration = Duration::from_millis(1);

    /// Rounds of 1000 bytes delivered, with so many lost and the queue's delay; the verdict of the last.
    fn rounds(calm: &mut Calm, count: u64, lost: u64, queue: Duration, from: u64) -> bool {
        let mut verdict = false;
        for round in 1..=count {
            calm.on_rtt(100 * MS + queue);
            calm.on_lost(lost);
            let at = start_of(from + round);
            verdict = calm.round(at, 1000 * (from + round), Some(100 * MS), 1, false);
        }
        verdict
    }

    fn start_of(round: u64) -> Instant {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(start) + 100 * MS * round as u32
    }

    #[test]
    fn a_few_losses_without_a_queue_are_no_congestion() {
        let mut calm = Calm::new(false);
        assert!(rounds(&mut calm, 1, 20, 10 * MS, 0));
        assert!(rounds(&mut calm, 1, 24, 10 * MS, 1), "two per cent, and chance");
        assert!(!rounds(&mut calm, 1, 26, 10 * MS, 1), "two per cent are the most");
        assert!(!rounds(&mut calm, 1, 1, 11 * MS, 2), "a queue");
        assert_eq!(calm.tolerated(), TOLERATED);
        rounds(&mut calm, 100, 60, MS, 3);
        assert_eq!(calm.tolerated(), TOLERATED, "learns nothing unless told to");
    }

    #[test]
    fn the_lossy_variant_learns_what_is_usual_and_forgets_it_when_a_queue_loses_more() {
        let mut calm = Calm::new(true);
        rounds(&mut calm, 60, 50, MS, 0);
        assert!((90..=100).contains(&calm.tolerated()), "{}", calm.tolerated());
        assert!(
            !rounds(&mut calm, 1, 50, 40 * MS, 60),
            "a queue, though it loses no more than usual"
        );
        assert!(calm.tolerated() > TOLERATED);
        rounds(&mut calm, 1, 150, 40 * MS, 61);
        assert_eq!(calm.tolerated(), TOLERATED);
        rounds(&mut calm, 25, 50, MS, 62);
        assert_eq!(calm.tolerated(), TOLERATED, "for three seconds");
        rounds(&mut calm, 15, 50, MS, 87);
        assert!(calm.tolerated() > 80);
        rounds(&mut calm, 60, 400, MS, 102);
        assert_eq!(calm.tolerated(), MOST);
    }
}
