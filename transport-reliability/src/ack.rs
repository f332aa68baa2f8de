//! An ACK frame as recovery sees it, and the rules it must keep before anything is believed.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::time::{Duration, Instant};

use crate::congestion::{Moment, Packet, Progress};
use crate::sent::State;
use crate::{EcnCounts, Outcome, Recovery};

/// Ranges an ACK may carry.
const MAX_RANGES: usize = 256;

/// A run of packet numbers, both ends inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckRange {
    /// Smallest number.
    pub first: u64,
    /// Largest number.
    pub last: u64,
}

/// An ACK frame as parsed by the caller.
#[derive(Clone, Copy, Debug)]
pub struct AckInput<'a> {
    /// Largest acknowledged.
    pub largest: u64,
    /// How long the peer says it waited before it acknowledged the largest.
    pub delay: Duration,
    /// Descending and disjoint, at most 256; the first one ends at `largest`.
    pub ranges: &'a [AckRange],
    /// Codepoints of all packets the peer received on the path, if it counts them.
    pub ecn: Option<EcnCounts>,
}

/// Why an ACK ends the connection (RFC 9000 §13.1, §21.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckViolation {
    /// It acknowledges a number never sent.
    Unsent,
    /// It acknowledges a number skipped on purpose: the peer acknowledges what it has not received.
    Skipped,
    /// Its ranges are not descending and disjoint, or too many.
    Malformed,
}

impl AckInput<'_> {
    /// Checks the shape of the ranges alone.
    pub(crate) fn well_formed(&self) -> Result<(), AckViolation> {
        if self.ranges.len() > MAX_RANGES
            || self.ranges.first().is_none_or(|range| range.last != self.largest)
        {
            return Err(AckViolation::Malformed);
        }
        let mut below = u64::MAX;
        for range in self.ranges {
            // One missing number at least lies between two ranges.
            if range.first > range.last || range.last >= below {
                return Err(AckViolation::Malformed);
            }
            below = range.first.saturating_sub(1);
        }
        Ok(())
    }
}

impl<T> Recovery<T> {
    /// Settles what an ACK frame names (RFC 9002 §A.7). Nothing changes when it is a violation.
    ///
    /// Cost: the newly acknowledged and newly lost packets, and one step per 64 numbers that a range spans.
    pub fn on_ack(
        &mut self,
        now: Instant,
        ack: AckInput<'_>,
        out: &mut Outcome<T>,
    ) -> Result<(), AckViolation> {
        ack.well_formed()?;
        self.log.validate(ack.ranges)?;
        let before = self.largest_acked;
        self.largest_acked = before.max(Some(ack.largest));
        let mut tally = Tally::default();
        for range in ack.ranges {
            let mut from = range.first;
            while let Some(number) = self.log.next_tracked(from, range.last) {
                self.settle(now, number, before, &mut tally, out);
                from = number + 1;
            }
        }
        if tally.largest.is_none() && self.largest_acked == before {
            return Ok(());
        }
        let sample = self.sample_rtt(now, &ack, &tally);
        out.rtt_updated |= sample.is_some();
        let marked = if self.largest_acked > before {
            self.marking.on_ack(tally.ect, ack.ecn)
        } else {
            0
        };
        self.detect_lost(now, out);
        if let (Some(packet), true) = (tally.newest, marked > 0) {
            self.slow_down(now, packet, marked);
        }
        if let Some(largest) = tally.largest {
            let (bytes, app_limited, largest_sent) = (tally.bytes, self.app_limited, self.log.end() - 1);
            let progress = Progress {
                now,
                bytes,
                largest,
                largest_sent,
                in_flight: self.in_flight,
                app_limited,
                sample,
            };
            self.congestion.on_ack(progress, &self.rtt);
        }
        if tally.eliciting {
            self.probe.on_acked();
        }
        self.thresholds.decay(now, self.rtt.smoothed());
        self.log.retire(now, self.memory_of_losses());
        self.update_pacer();
        Ok(())
    }

    /// One newly acknowledged packet; `before` is the largest acknowledged before this ACK.
    fn settle(
        &mut self,
        now: Instant,
        number: u64,
        before: Option<u64>,
        tally: &mut Tally,
        out: &mut Outcome<T>,
    ) {
        let Some(entry) = self.log.acked(number) else {
            return;
        };
        if let State::Lost(loss) = entry.state {
            out.spurious += 1;
            self.spurious += 1;
            if let Some(event) = loss.event {
                self.congestion.on_spurious(event);
            }
            if number >= self.path_from {
                let distance = before.map_or(0, |before| before.saturating_sub(number));
                let window = self.window_packets();
                self.thresholds
                    .on_spurious(now, distance, loss.by_time, window, self.rtt.smoothed());
            }
        }
        if let Some(upto) = entry.reported {
            self.window.report_acked(number, upto);
        }
        self.in_flight = self.in_flight.saturating_sub(entry.flying());
        if number >= self.path_from {
            let (size, sent_at, stamp) = (u64::from(entry.size), entry.sent_at, entry.stamp);
            let packet = Packet {
                number,
                size,
                sent_at,
                stamp,
            };
            self.congestion.on_packet_acked(now, packet);
            tally.ect += u64::from(entry.ect);
            if number >= tally.newest.map_or(0, |newest| newest.number) {
                tally.newest = Some(packet);
            }
        }
        tally.eliciting |= entry.eliciting;
        if number >= tally.largest.unwrap_or(0) {
            tally.largest = Some(number);
            tally.largest_sent_at = Some(entry.sent_at);
        }
        if self.congestion.counts(number) {
            tally.bytes += entry.flying();
        }
        out.acked.extend(entry.content);
    }

    /// Routers marked `count` packets instead of dropping them (RFC 9002 §7.1). Which ones is not said; the newest
    /// acknowledged stands for them.
    fn slow_down(&mut self, now: Instant, packet: Packet, count: u64) {
        let (largest_sent, in_flight) = (self.log.end() - 1, self.in_flight);
        let bytes = count.saturating_mul(self.max_datagram());
        self.congestion
            .on_marked(Moment { now, in_flight }, packet, bytes, largest_sent);
    }

    /// A sample needs the largest acknowledged to be new, and something new to have elicited the ACK (§5.1).
    fn sample_rtt(&mut self, now: Instant, ack: &AckInput<'_>, tally: &Tally) -> Option<Duration> {
        let sent_at = tally
            .largest_sent_at
            .filter(|_| tally.eliciting && tally.largest == Some(ack.largest))?;
        if ack.largest < self.path_from {
            return None;
        }
        if !self.rtt.is_sampled() {
            self.first_sample_at = Some(now);
        }
        let sample = now.saturating_duration_since(sent_at);
        self.rtt.sample(sample, ack.delay.min(self.peer_max_ack_delay));
        Some(sample)
    }
}

/// What one ACK frame newly acknowledged.
#[derive(Default, Debug)]
struct Tally {
    largest: Option<u64>,
    largest_sent_at: Option<Instant>,
    eliciting: bool,
    /// Packets that had left with ECT(0).
    ect: u64,
    /// The packet with the largest number.
    newest: Option<Packet>,
    /// Bytes sent after the last congestion event.
    bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(largest: u64, ranges: &[(u64, u64)]) -> Result<(), AckViolation> {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|&(first, last)| AckRange { first, last })
            .collect();
        AckInput {
            largest,
            delay: Duration::ZERO,
            ranges: &ranges,
            ecn: None,
        }
        .well_formed()
    }

    #[test]
    fn shape_of_ranges() {
        let malformed = Err(AckViolation::Malformed);
        assert_eq!(verdict(9, &[(8, 9), (3, 6), (0, 1)]), Ok(()));
        assert_eq!(verdict(9, &[]), malformed);
        assert_eq!(
            verdict(8, &[(8, 9)]),
            malformed,
            "largest is not the first range's end"
        );
        assert_eq!(verdict(9, &[(9, 8)]), malformed);
        assert_eq!(verdict(9, &[(8, 9), (3, 7)]), malformed, "adjacent");
        assert_eq!(verdict(9, &[(8, 9), (3, 9)]), malformed, "overlapping");
        assert_eq!(
            verdict(9, &[(0, 9), (0, 0)]),
            malformed,
            "nothing lies below zero"
        );
        let mut many: Vec<_> = (0..257_u64).rev().map(|n| (4 * n, 4 * n)).collect();
        assert_eq!(verdict(1024, &many), malformed);
        assert_eq!(verdict(1020, &many.split_off(1)), Ok(()));
    }
}
