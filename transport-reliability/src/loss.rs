//! When a packet counts as lost (RFC 9002 §6.1), how much reordering is forgiven, and persistent congestion (§7.6).

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::time::{Duration, Instant};

use crate::congestion::{Moment, Packet};
use crate::rtt::{GRANULARITY, Rtt};
use crate::sent::{Loss, SentKind, SentLog};
use crate::{Outcome, Recovery};

/// `kPacketThreshold`.
const PACKETS: u64 = 3;
/// The packet threshold never adapts beyond this.
const MAX_PACKETS: u64 = 300;
/// `kTimeThreshold`, in eighths of an RTT.
const EIGHTHS: u32 = 9;
/// Twice the RTT.
const MAX_EIGHTHS: u32 = 16;
/// Round trips without a spurious loss after which the thresholds take one step back.
const CALM_ROUNDS: u32 = 16;
/// `kPersistentCongestionThreshold`.
const PERSISTENT: u32 = 3;

/// How far and how long a packet may stay behind before it is lost; widened by spurious losses.
#[derive(Debug)]
pub(crate) struct Thresholds {
    packets: u64,
    eighths: u32,
    calm_since: Option<Instant>,
    widened_time_at: Option<Instant>,
}

impl Thresholds {
    pub(crate) fn new() -> Self {
        Self {
            packets: PACKETS,
            eighths: EIGHTHS,
            calm_since: None,
            widened_time_at: None,
        }
    }

    /// Numbers a packet may lag behind the largest acknowledged.
    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }

    /// Age at which a packet older than the largest acknowledged is lost.
    pub(crate) fn delay(&self, rtt: &Rtt) -> Duration {
        (rtt.smoothed().max(rtt.latest()) * self.eighths / 8).max(GRANULARITY)
    }

    /// A packet declared lost arrived after all, `distance` numbers late.
    pub(crate) fn on_spurious(
        &mut self,
        now: Instant,
        distance: u64,
        by_time: bool,
        window: u64,
        srtt: Duration,
    ) {
        self.calm_since = Some(now);
        let wanted = distance.saturating_add(1).min(window / 2).min(MAX_PACKETS);
        self.packets = self.packets.max(wanted);
        // One event of many packets is one lesson.
        let again = self
            .widened_time_at
            .is_none_or(|at| now.saturating_duration_since(at) > srtt);
        if by_time && again {
            self.widened_time_at = Some(now);
            self.eighths = (self.eighths + 1).min(MAX_EIGHTHS);
        }
    }

    /// Calm for long enough: forgive half as many packets beyond the standard, and an eighth less time.
    pub(crate) fn decay(&mut self, now: Instant, srtt: Duration) {
        if self
            .calm_since
            .is_some_and(|since| now.saturating_duration_since(since) >= srtt * CALM_ROUNDS)
        {
            self.packets = PACKETS + (self.packets - PACKETS) / 2;
            self.eighths = (self.eighths - 1).max(EIGHTHS);
            let standard = self.packets == PACKETS && self.eighths == EIGHTHS;
            self.calm_since = (!standard).then_some(now);
        }
    }
}

/// The longest time over which every packet was lost, ends ack-eliciting.
#[derive(Default, Debug)]
struct Outage {
    start: Option<(Instant, u64)>,
    longest: Duration,
}

impl Outage {
    fn extend<T>(&mut self, log: &SentLog<T>, number: u64, sent_at: Instant) {
        match self.start {
            Some((start, previous)) if !log.any_acked(previous + 1, number) => {
                self.longest = self.longest.max(sent_at.saturating_duration_since(start));
                self.start = Some((start, number));
            }
            _ => self.start = Some((sent_at, number)),
        }
    }
}

impl<T> Recovery<T> {
    /// Declares lost what both thresholds allow, and sets the loss timer for the first that is not yet.
    ///
    /// Packets are in order of number and of time, so the first survivor ends the walk.
    pub(crate) fn detect_lost(&mut self, now: Instant, out: &mut Outcome<T>) {
        self.loss_at = None;
        let Some(largest) = self.largest_acked else {
            return;
        };
        let delay = self.thresholds.delay(&self.rtt);
        let mut outage = Outage::default();
        let mut from = 0;
        while let Some(number) = self.log.next_open(from, largest) {
            let Some(entry) = self.log.entry(number) else {
                break;
            };
            let (sent_at, by_packets) = (entry.sent_at, largest - number >= self.thresholds.packets());
            if !by_packets && now < sent_at + delay {
                self.loss_at = Some(sent_at + delay);
                break;
            }
            if entry.eliciting && entry.kind == SentKind::Normal && self.known_path(number, sent_at) {
                outage.extend(&self.log, number, sent_at);
            }
            self.lose(now, number, !by_packets, out);
            from = number + 1;
        }
        let persistent = (self.rtt.timeout() + self.peer_max_ack_delay) * PERSISTENT;
        if outage.longest > persistent {
            self.congestion.on_persistent_congestion(self.in_flight);
            self.rtt.forget_min();
            out.persistent_congestion = true;
        }
    }

    /// Whether a packet can tell of persistent congestion: sent on this path, after its first RTT sample.
    fn known_path(&self, number: u64, sent_at: Instant) -> bool {
        number >= self.path_from
            && self.rtt.is_sampled()
            && self.first_sample_at.is_none_or(|first| sent_at > first)
    }

    fn lose(&mut self, now: Instant, number: u64, by_time: bool, out: &mut Outcome<T>) {
        let Some(entry) = self.log.entry(number) else {
            return;
        };
        let (flying, kind, ect) = (entry.flying(), entry.kind, entry.ect);
        let packet = Packet {
            number,
            size: flying,
            sent_at: entry.sent_at,
            stamp: entry.stamp,
        };
        self.in_flight = self.in_flight.saturating_sub(flying);
        let congestion = flying > 0 && kind == SentKind::Normal;
        let event = congestion.then(|| {
            let (event, fresh) = self.congestion.on_lost(number, self.log.end() - 1);
            self.fast_retransmit |= fresh;
            let new_range = self.log.begins_range(self.last_lost.replace(number), number);
            let in_flight = self.in_flight;
            self.congestion
                .on_packet_lost(Moment { now, in_flight }, packet, new_range);
            event
        });
        if ect {
            self.marking.on_lost();
        }
        self.declared_lost += 1;
        out.lost.extend(self.log.declare_lost(
            number,
            Loss {
                at: now,
                event,
                by_time,
            },
        ));
    }

    pub(crate) fn abandon_one(&mut self, now: Instant, number: u64, out: &mut Outcome<T>) {
        let flying = self.log.entry(number).map_or(0, crate::sent::Entry::flying);
        self.in_flight = self.in_flight.saturating_sub(flying);
        self.declared_lost += 1;
        let loss = Loss {
            at: now,
            event: None,
            by_time: false,
        };
        out.lost.extend(self.log.declare_lost(number, loss));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start;

    const MS: Duration = Duration::from_millis(1);

    fn rtt(sample: Duration) -> Rtt {
        let mut rtt = Rtt::new(333 * MS);
        rtt.sample(sample, Duration::ZERO);
        rtt
    }

    #[test]
    fn standard_thresholds() {
        let thresholds = Thresholds::new();
        assert_eq!(thresholds.packets(), 3);
        assert_eq!(thresholds.delay(&rtt(80 * MS)), 90 * MS);
        assert_eq!(thresholds.delay(&rtt(MS / 100)), MS, "never finer than a timer");
    }

    #[test]
    fn spurious_losses_widen_and_calm_narrows() {
        let (mut thresholds, now, srtt) = (Thresholds::new(), start(), 80 * MS);
        thresholds.on_spurious(now, 40, false, 1000, srtt);
        assert_eq!(
            (thresholds.packets(), thresholds.delay(&rtt(srtt))),
            (41, 90 * MS)
        );
        thresholds.on_spurious(now, 10, true, 1000, srtt);
        thresholds.on_spurious(now, 10, true, 1000, srtt);
        assert_eq!(
            (thresholds.packets(), thresholds.delay(&rtt(srtt))),
            (41, 100 * MS),
            "one lesson a round"
        );
        for late in 1..20 {
            thresholds.on_spurious(now + srtt * 2 * late, u64::MAX, true, 10_000, srtt);
        }
        assert_eq!(
            (thresholds.packets(), thresholds.delay(&rtt(srtt))),
            (300, 160 * MS)
        );
        let mut at = now + srtt * 38;
        thresholds.decay(at + srtt * 15, srtt);
        assert_eq!(thresholds.packets(), 300);
        at += srtt * 16;
        thresholds.decay(at, srtt);
        assert_eq!(
            (thresholds.packets(), thresholds.delay(&rtt(srtt))),
            (151, 150 * MS)
        );
        for _ in 0..10 {
            at += srtt * 16;
            thresholds.decay(at, srtt);
        }
        assert_eq!((thresholds.packets(), thresholds.delay(&rtt(srtt))), (3, 90 * MS));
    }

    #[test]
    fn half_the_window_bounds_the_packet_threshold() {
        let mut thresholds = Thresholds::new();
        thresholds.on_spurious(start(), 100, false, 20, MS);
        assert_eq!(thresholds.packets(), 10);
        let mut thresholds = Thresholds::new();
        thresholds.on_spurious(start(), 100, false, 2, MS);
        assert_eq!(thresholds.packets(), 3, "never below the standard");
    }
}
