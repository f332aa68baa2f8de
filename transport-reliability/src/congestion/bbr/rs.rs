//! Delivery-rate samples (draft-ietf-ccwg-bbr-06 §4.1): how fast the network delivered, seen from each packet.

use std::time::{Duration, Instant};

/// Nanoseconds.
const UNIT: u128 = 256;

/// What a packet remembers of its sending (`P` in the draft). Times are kept as ages at the sending, in units of
/// 256 ns: thirty-two bytes instead of fifty-six, good for eighteen minutes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Stamp {
    /// `P.delivered`, `P.lost`.
    delivered: u64,
    lost: u64,
    /// Age of `P.delivered_time` and of `P.first_send_time`.
    delivered_age: u32,
    first_sent_age: u32,
    /// `P.tx_in_flight`, the packet itself included.
    in_flight: u32,
    /// How much later it left than the pacer would have had it.
    lag: u16,
    app_limited: bool,
}

impl Stamp {
    /// The packet left so much too late, and others like it follow faster than the rate: the time that counts for how fast they
    /// were sent is the pacer's, or a sender that catches up would overestimate the path.
    pub(crate) fn lagging(mut self, lag: Duration) -> Self {
        if lag.is_zero() {
            return self;
        }
        self.lag = u16::try_from(lag.as_nanos() / UNIT).unwrap_or(u16::MAX);
        self.first_sent_age = self.first_sent_age.saturating_sub(u32::from(self.lag));
        self
    }

    fn departed_at(&self, sent_at: Instant) -> Instant {
        sent_at.checked_sub(span(u32::from(self.lag))).unwrap_or(sent_at)
    }
}

/// A packet newly acknowledged or lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) sent_at: Instant,
    pub(crate) stamp: Stamp,
}

/// What one ACK says about the path (`RS` in the draft).
#[derive(Clone, Copy, Debug)]
pub(super) struct RateSample {
    /// Of the packet sent last among those acknowledged.
    pub(super) rtt: Duration,
    /// Bytes a second; zero when there is no reliable sample.
    pub(super) delivery_rate: u64,
    /// Bytes delivered since that packet left.
    pub(super) delivered: u64,
    pub(super) newly_acked: u64,
    pub(super) prior_delivered: u64,
    pub(super) app_limited: bool,
    pub(super) in_flight_then: u64,
    /// Bytes declared lost since that packet left.
    pub(super) lost: u64,
}

/// What a lost packet says: the conditions it was sent under.
#[derive(Clone, Copy, Debug)]
pub(super) struct LossSample {
    pub(super) size: u64,
    pub(super) in_flight_then: u64,
    /// Bytes declared lost since it left, itself included.
    pub(super) lost: u64,
    pub(super) app_limited: bool,
}

/// The connection's half of the estimator (`C` in the draft).
#[derive(Default, Debug)]
pub(super) struct Sampler {
    delivered: u64,
    delivered_at: Option<Instant>,
    first_sent_at: Option<Instant>,
    lost: u64,
    /// Until this much is delivered the samples are the application's doing; zero when it keeps up.
    app_limited: u64,
    newly_acked: u64,
    newest: Option<Packet>,
    /// The ages of the last stamp, and of when: the packets of a batch share them.
    ages: Option<(Instant, u32, u32)>,
}

impl Sampler {
    /// `C.delivered`.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn is_app_limited(&self) -> bool {
        self.app_limited != 0
    }

    /// Everything in flight now, and what was delivered before, says nothing about the network's limits.
    pub(super) fn mark_app_limited(&mut self, in_flight: u64) {
        self.app_limited = (self.delivered + in_flight).max(1);
    }

    /// A packet of `size` leaves; `in_flight` includes it.
    pub(super) fn on_sent(&mut self, now: Instant, size: u64, in_flight: u64) -> Stamp {
        let idle = in_flight <= size;
        if idle || self.first_sent_at.is_none() {
            self.first_sent_at = Some(now);
            self.ages = None;
        }
        if idle || self.delivered_at.is_none() {
            self.delivered_at = Some(now);
            self.ages = None;
        }
        let (_, delivered_age, first_sent_age) = match self.ages {
            Some(ages) if ages.0 == now => ages,
            _ => (now, age(now, self.delivered_at), age(now, self.first_sent_at)),
        };
        self.ages = Some((now, delivered_age, first_sent_age));
        Stamp {
            delivered: self.delivered,
            lost: self.lost,
            delivered_age,
            first_sent_age,
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
            lag: 0,
            app_limited: self.is_app_limited(),
        }
    }

    /// A packet was newly acknowledged; late ones count as delivered as well.
    pub(super) fn on_acked(&mut self, now: Instant, packet: Packet) {
        self.delivered += packet.size;
        self.newly_acked += packet.size;
        self.delivered_at = Some(now);
        self.ages = None;
        let newer = self
            .newest
            .is_none_or(|newest| (packet.sent_at, packet.number) > (newest.sent_at, newest.number));
        if newer {
            self.newest = Some(packet);
            self.first_sent_at = Some(packet.stamp.departed_at(packet.sent_at));
        }
    }

    /// A packet was declared lost.
    pub(super) fn on_lost(&mut self, packet: &Packet) -> LossSample {
        self.lost += packet.size;
        LossSample {
            size: packet.size,
            in_flight_then: u64::from(packet.stamp.in_flight),
            lost: self.lost.saturating_sub(packet.stamp.lost),
            app_limited: packet.stamp.app_limited,
        }
    }

    /// Packets of `bytes` arrived marked, which counts like a loss of `packet`.
    pub(super) fn on_marked(&mut self, packet: &Packet, bytes: u64) -> LossSample {
        let marked = Packet {
            size: bytes,
            ..*packet
        };
        self.on_lost(&marked)
    }

    /// All packets of an ACK were seen: its sample, unless none of them was new.
    pub(super) fn generate(&mut self, now: Instant, min_rtt: Option<Duration>) -> Option<RateSample> {
        if self.delivered > self.app_limited {
            self.app_limited = 0;
        }
        let newly_acked = std::mem::take(&mut self.newly_acked);
        let Packet { sent_at, stamp, .. } = self.newest.take()?;
        let rtt = now
            .saturating_duration_since(sent_at)
            .max(Duration::from_micros(1));
        let interval = span(stamp.first_sent_age).max(rtt + span(stamp.delivered_age));
        let delivered = self.delivered.saturating_sub(stamp.delivered);
        // Shorter than a round trip: what was acknowledged was not delivered in that time.
        let reliable = min_rtt.is_none_or(|min| interval >= min);
        Some(RateSample {
            rtt,
            delivery_rate: if reliable { rate(delivered, interval) } else { 0 },
            delivered,
            newly_acked,
            prior_delivered: stamp.delivered,
            app_limited: stamp.app_limited,
            in_flight_then: u64::from(stamp.in_flight),
            lost: self.lost.saturating_sub(stamp.lost),
        })
    }
}

/// Bytes a second.
fn rate(bytes: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos().max(1);
    u64::try_from(u128::from(bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// Rounded up, so that no rate is overestimated.
fn age(now: Instant, then: Option<Instant>) -> u32 {
    let nanos = then.map_or(0, |then| now.saturating_duration_since(then).as_nanos());
    u32::try_from(nanos.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

fn span(age: u32) -> Duration {
    Duration::from_nanos(u64::from(age) * UNIT as u64)
}
