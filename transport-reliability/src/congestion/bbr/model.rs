//! The model of the path (§2.9, §5.5): what it carries, how long it takes, and what it punished lately.

use std::time::{Duration, Instant};

use super::rs::RateSample;

/// No limit is known.
pub(super) const INFINITE: u64 = u64::MAX;
/// What a round with losses may take away at most, in tenths.
const BETA_TENTHS: u64 = 7;
/// What a round that was only marked may leave at least, in hundredths.
const BETA_ECN_HUNDREDTHS: u64 = 85;
/// `BBR.ExtraAckedFilterLen`.
const EXTRA_ACKED_ROUNDS: usize = 10;

/// Seven tenths.
pub(super) fn beta(value: u64) -> u64 {
    (u128::from(value) * u128::from(BETA_TENTHS) / 10) as u64
}

/// So many thousandths, without overflow.
pub(super) fn per_mille(value: u64, thousandths: u64) -> u64 {
    value / 1000 * thousandths + value % 1000 * thousandths / 1000
}

fn beta_ecn(value: u64) -> u64 {
    (u128::from(value) * u128::from(BETA_ECN_HUNDREDTHS) / 100) as u64
}

/// Packet-timed round trips (§5.5.1).
#[derive(Default, Debug)]
pub(super) struct Rounds {
    pub(super) count: u64,
    /// The ACK at hand began a round.
    pub(super) start: bool,
    until: u64,
}

impl Rounds {
    /// A new round begins without the old one being counted.
    pub(super) fn restart(&mut self, delivered: u64) {
        self.until = delivered;
    }

    /// Whether the ACK at hand ends a round.
    pub(super) fn update(&mut self, prior_delivered: u64, delivered: u64) -> bool {
        self.start = prior_delivered >= self.until;
        if self.start {
            self.restart(delivered);
            self.count += 1;
        }
        self.start
    }
}

/// The largest delivery rate of this probing cycle and of the one before (§5.5.5, §5.5.6).
#[derive(Default, Debug)]
pub(super) struct MaxBw(pub(super) [u64; 2]);

impl MaxBw {
    pub(super) fn get(&self) -> u64 {
        self.0[0].max(self.0[1])
    }

    pub(super) fn update(&mut self, sample: &RateSample) {
        let counts = sample.delivery_rate >= self.get() || !sample.app_limited;
        if sample.delivery_rate > 0 && counts {
            self.0[0] = self.0[0].max(sample.delivery_rate);
        }
    }

    /// A cycle ended. One without any sample is not remembered in place of one with samples.
    pub(super) fn advance(&mut self) {
        if self.0[0] > 0 {
            self.0 = [0, self.0[0]];
        }
    }
}

/// How much more than expected ACKs deliver at once: the windowed maximum of each round (§5.5.9).
#[derive(Default, Debug)]
pub(super) struct Aggregation {
    since: Option<Instant>,
    delivered: u64,
    rounds: [u64; EXTRA_ACKED_ROUNDS],
    round: u64,
}

impl Aggregation {
    /// Sending begins again: silence is not aggregation.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = Some(now);
        self.delivered = 0;
    }

    /// `short` remembers a single round only, as in Startup.
    pub(super) fn update(&mut self, now: Instant, acked: u64, bw: u64, cwnd: u64, round: u64, short: bool) {
        let since = *self.since.get_or_insert(now);
        let mut expected = volume(bw, now.saturating_duration_since(since));
        if self.delivered <= expected {
            self.restart(now);
            expected = 0;
        }
        self.delivered += acked;
        let extra = self.delivered.saturating_sub(expected).min(cwnd);
        let passed = round - self.round;
        for step in 1..=passed.min(EXTRA_ACKED_ROUNDS as u64) {
            *self.slot(self.round + step) = 0;
        }
        if short && passed > 0 {
            self.rounds = [0; EXTRA_ACKED_ROUNDS];
        }
        self.round = round;
        let slot = self.slot(round);
        *slot = (*slot).max(extra);
    }

    fn slot(&mut self, round: u64) -> &mut u64 {
        &mut self.rounds[(round % EXTRA_ACKED_ROUNDS as u64) as usize]
    }

    pub(super) fn extra(&self) -> u64 {
        self.rounds.iter().copied().max().unwrap_or(0)
    }
}

/// Bytes that `rate` delivers in `time`.
pub(super) fn volume(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_nanos() / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(INFINITE)
}

/// Upper bounds learnt from losses, and the signals they are learnt from (§5.5.10).
#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) bw_shortterm: u64,
    pub(super) inflight_shortterm: u64,
    pub(super) inflight_longterm: u64,
    /// Largest of the round: delivery rate, and bytes delivered in a round trip.
    pub(super) bw_latest: u64,
    pub(super) inflight_latest: u64,
    pub(super) loss_in_round: bool,
    /// Nothing was lost in the round, only marked.
    marks_only: bool,
    pub(super) loss_round_start: bool,
    loss_round_until: u64,
    /// The round began when ProbeRTT held the window down.
    held_down: bool,
}

impl Bounds {
    pub(super) fn new() -> Self {
        Self {
            bw_shortterm: INFINITE,
            inflight_shortterm: INFINITE,
            inflight_longterm: INFINITE,
            bw_latest: 0,
            inflight_latest: 0,
            loss_in_round: false,
            marks_only: false,
            loss_round_start: false,
            loss_round_until: 0,
            held_down: false,
        }
    }

    /// Notes a loss; the first one of a round begins a loss round.
    pub(super) fn note_loss(&mut self, delivered: u64) {
        self.marks_only = false;
        self.begin_loss_round(delivered);
    }

    /// Notes a mark.
    pub(super) fn note_mark(&mut self, delivered: u64) {
        self.marks_only |= !self.loss_in_round;
        self.begin_loss_round(delivered);
    }

    fn begin_loss_round(&mut self, delivered: u64) {
        if !std::mem::replace(&mut self.loss_in_round, true) {
            self.loss_round_until = delivered;
        }
    }

    /// Near the start of an ACK.
    pub(super) fn update_latest(&mut self, sample: &RateSample, delivered: u64) {
        self.bw_latest = self.bw_latest.max(sample.delivery_rate);
        self.inflight_latest = self.inflight_latest.max(sample.delivered);
        self.loss_round_start = sample.prior_delivered >= self.loss_round_until;
        if self.loss_round_start {
            self.loss_round_until = delivered;
        }
    }

    /// Near the end of an ACK.
    pub(super) fn advance_latest(&mut self, sample: &RateSample) {
        if self.loss_round_start {
            self.bw_latest = sample.delivery_rate;
            self.inflight_latest = sample.delivered;
        }
    }

    pub(super) fn reset_signals(&mut self) {
        self.loss_in_round = false;
        self.bw_latest = 0;
        self.inflight_latest = 0;
    }

    /// ProbeRTT ended: what the round now beginning delivers was sent with a small window.
    pub(super) fn begin_held_down(&mut self, delivered: u64) {
        self.loss_round_until = delivered;
        self.held_down = true;
    }

    /// Whether the round that ends now began so.
    pub(super) fn was_held_down(&mut self) -> bool {
        std::mem::take(&mut self.held_down)
    }

    pub(super) fn reset_shortterm(&mut self) {
        self.bw_shortterm = INFINITE;
        self.inflight_shortterm = INFINITE;
    }

    /// A round had losses while nothing was probed for: go down to what was delivered, not below β. `sent` is the share of
    /// the bandwidth that was sent.
    pub(super) fn cut_shortterm(&mut self, max_bw: u64, cwnd: u64, sent: f64) {
        let bw = if self.bw_shortterm == INFINITE {
            max_bw
        } else {
            self.bw_shortterm
        };
        let inflight = if self.inflight_shortterm == INFINITE {
            cwnd
        } else {
            self.inflight_shortterm
        };
        let beta = if self.marks_only { beta_ecn } else { beta };
        let delivered = (self.bw_latest as f64 / sent) as u64;
        self.bw_shortterm = delivered.min(bw).max(beta(bw));
        self.inflight_shortterm = self.inflight_latest.max(beta(inflight));
    }

    /// What is left of `inflight_longterm` when room for others is kept: 85 %, and a datagram at least.
    pub(super) fn with_headroom(&self, max_datagram: u64, least: u64) -> u64 {
        if self.inflight_longterm == INFINITE {
            return INFINITE;
        }
        let headroom =
            (self.inflight_longterm / 100 * 15 + self.inflight_longterm % 100 * 15 / 100).max(max_datagram);
        self.inflight_longterm.saturating_sub(headroom).max(least)
    }
}
