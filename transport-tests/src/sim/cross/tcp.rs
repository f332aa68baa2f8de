//! A compact TCP: Reno (RFC 5681) or CUBIC, SACK with a scoreboard by order of sending, RTO, delayed acknowledgements.
//!
//! Sequence numbers count full segments; the connection exists from the start, and there is always data. Losses are found by
//! order of transmission (three later ones delivered), so that a lost retransmission is found as RACK (RFC 8985) finds it.
//! Not modelled: the handshake, receive windows, pacing, ECN, PRR, undo of spurious recoveries, segmentation offload.

use std::{collections::BTreeMap, time::Duration};

use super::cubic::{Cubic, SlowStart};

/// Payload of a segment: 1500 bytes less IP, TCP and timestamps.
pub const MSS: u64 = 1448;
/// RFC 6928.
const INITIAL_WINDOW: f64 = 10.0;
/// Linux's bounds; RFC 6298 has a second below.
const MIN_RTO: Duration = Duration::from_millis(200);
const MAX_RTO: Duration = Duration::from_mins(1);
const DELAYED_ACK: Duration = Duration::from_millis(40);
/// Later transmissions delivered before one counts as lost.
const DUPTHRESH: u64 = 3;
const SACK_BLOCKS: usize = 3;

/// What travels.
#[derive(Clone, Debug, PartialEq)]
pub enum Segment {
    /// One full segment.
    Data {
        /// Its number.
        seq: u64,
        /// When this copy was sent: the timestamp option.
        sent: Duration,
    },
    /// An acknowledgement.
    Ack(Ack),
}

/// What a receiver says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ack {
    /// All below has arrived.
    pub next: u64,
    /// Ranges above that have arrived, ends excluded, the newest first.
    pub sack: Vec<(u64, u64)>,
    /// The timestamp echoed.
    pub echo: Duration,
}

struct Outstanding {
    order: u64,
    sent: Duration,
    sacked: bool,
    lost: bool,
}

/// The sending end.
pub struct Sender {
    limit: Option<u64>,
    next: u64,
    una: u64,
    board: BTreeMap<u64, Outstanding>,
    pipe: u64,
    lost: u64,
    order: u64,
    delivered_order: u64,
    window: f64,
    threshold: f64,
    /// Recovery ends when this is acknowledged.
    recover: Option<u64>,
    cubic: Option<Cubic>,
    slow_start: SlowStart,
    srtt: Option<Duration>,
    rttvar: Duration,
    rto_at: Option<Duration>,
    backoff: u32,
    sent: u64,
    again: u64,
}

impl Sender {
    /// Sends `limit` segments, or until it is stopped.
    pub fn new(cubic: bool, limit: Option<u64>) -> Self {
        Self {
            limit,
            next: 0,
            una: 0,
            board: BTreeMap::new(),
            pipe: 0,
            lost: 0,
            order: 0,
            delivered_order: 0,
            window: INITIAL_WINDOW,
            threshold: f64::INFINITY,
            recover: None,
            cubic: cubic.then(Cubic::default),
            slow_start: SlowStart::default(),
            srtt: None,
            rttvar: Duration::ZERO,
            rto_at: None,
            backoff: 0,
            sent: 0,
            again: 0,
        }
    }

    /// Whether anything was sent yet.
    pub fn started(&self) -> bool {
        self.sent > 0
    }

    /// No new data from now on.
    pub fn stop(&mut self) {
        self.limit = Some(self.limit.unwrap_or(u64::MAX).min(self.next));
    }

    /// The retransmission timer.
    pub fn deadline(&self) -> Option<Duration> {
        self.rto_at
    }

    /// Segments sent, and of those, again.
    pub fn sent(&self) -> (u64, u64) {
        (self.sent, self.again)
    }

    /// Congestion window in segments.
    pub fn window(&self) -> f64 {
        self.window
    }

    /// Fires the timer if it is due, and sends what may be sent.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Segment>) {
        if self.rto_at.is_some_and(|at| at <= now) {
            self.timeout(now);
        }
        self.transmit(now, out);
    }

    /// RFC 6298 §5.4–5.6 and RFC 5681 §3.1: everything outstanding counts as lost.
    fn timeout(&mut self, now: Duration) {
        self.threshold = (self.pipe as f64 * self.beta()).max(2.0);
        if let Some(cubic) = &mut self.cubic {
            cubic.congestion(self.window);
        }
        self.window = 1.0;
        self.backoff += 1;
        self.recover = None;
        for segment in self.board.values_mut().filter(|segment| !segment.sacked) {
            segment.lost = true;
        }
        self.pipe = 0;
        self.lost = self.board.values().filter(|segment| segment.lost).count() as u64;
        self.rto_at = Some(now + self.rto());
    }

    fn beta(&self) -> f64 {
        if self.cubic.is_some() { Cubic::BETA } else { 0.5 }
    }

    /// An acknowledgement arrived.
    pub fn ack(&mut self, now: Duration, ack: &Ack, out: &mut Vec<Segment>) {
        let mut newly = self.cumulative(ack.next);
        for (from, to) in &ack.sack {
            newly += self.selective(*from, *to);
        }
        if newly > 0 {
            self.sample(now.saturating_sub(ack.echo));
            self.backoff = 0;
            self.rto_at = (!self.board.is_empty()).then(|| now + self.rto());
        }
        self.detect(now);
        if self.recover.is_some_and(|recover| self.una >= recover) {
            self.recover = None;
        }
        if newly > 0 && self.recover.is_none() {
            self.grow(now, newly as f64);
        }
        self.transmit(now, out);
    }

    fn cumulative(&mut self, next: u64) -> u64 {
        let mut newly = 0;
        while let Some(first) = self.board.first_entry().filter(|first| *first.key() < next) {
            let segment = first.remove();
            newly += u64::from(!segment.sacked);
            self.leaves(&segment);
        }
        self.una = self.una.max(next);
        newly
    }

    fn selective(&mut self, from: u64, to: u64) -> u64 {
        let mut newly = 0;
        let mut delivered = self.delivered_order;
        for (_, segment) in self
            .board
            .range_mut(from..to)
            .filter(|(_, segment)| !segment.sacked)
        {
            newly += 1;
            delivered = delivered.max(segment.order);
            if segment.lost {
                self.lost -= 1;
            } else {
                self.pipe -= 1;
            }
            (segment.sacked, segment.lost) = (true, false);
        }
        self.delivered_order = delivered;
        newly
    }

    fn leaves(&mut self, segment: &Outstanding) {
        if !segment.sacked {
            self.delivered_order = self.delivered_order.max(segment.order);
        }
        if segment.lost {
            self.lost -= 1;
        } else if !segment.sacked {
            self.pipe -= 1;
        }
    }

    /// Marks what three later transmissions have overtaken, and answers the loss once a round trip.
    fn detect(&mut self, now: Duration) {
        let mut found = 0;
        for segment in self.board.values_mut() {
            if !segment.sacked && !segment.lost && segment.order + DUPTHRESH <= self.delivered_order {
                segment.lost = true;
                found += 1;
            }
        }
        self.pipe -= found;
        self.lost += found;
        if found == 0 || self.recover.is_some() {
            return;
        }
        self.recover = Some(self.next);
        let window = self.window;
        self.threshold = (window * self.beta()).max(2.0);
        self.window = self.threshold;
        if let Some(cubic) = &mut self.cubic {
            cubic.congestion(window);
            cubic.begin(now, self.window);
        }
    }

    fn grow(&mut self, now: Duration, newly: f64) {
        let rtt = self.srtt.unwrap_or(MIN_RTO);
        if self.window < self.threshold {
            self.window += newly;
            let ends = self.cubic.is_some() && self.slow_start.ends(self.una, self.next);
            if ends {
                self.threshold = self.window;
            }
            return;
        }
        self.window += match &mut self.cubic {
            Some(cubic) => cubic.growth(now, self.window, rtt, newly),
            None => newly / self.window,
        };
    }

    fn transmit(&mut self, now: Duration, out: &mut Vec<Segment>) {
        while (self.pipe as f64) < self.window.floor().max(1.0) {
            let seq = if self.lost > 0 {
                let first = self.board.iter().find(|(_, segment)| segment.lost);
                let Some((seq, _)) = first else { return };
                self.again += 1;
                self.lost -= 1;
                *seq
            } else if self.limit.is_none_or(|limit| self.next < limit) {
                self.next += 1;
                self.next - 1
            } else {
                return;
            };
            self.order += 1;
            self.sent += 1;
            self.pipe += 1;
            let copy = Outstanding {
                order: self.order,
                sent: now,
                sacked: false,
                lost: false,
            };
            out.push(Segment::Data { seq, sent: copy.sent });
            self.board.insert(seq, copy);
            if self.rto_at.is_none() {
                self.rto_at = Some(now + self.rto());
            }
        }
    }

    /// RFC 6298 §2, and the round-trip samples of slow start.
    fn sample(&mut self, rtt: Duration) {
        self.slow_start.sample(rtt);
        let Some(srtt) = self.srtt else {
            (self.srtt, self.rttvar) = (Some(rtt), rtt / 2);
            return;
        };
        self.rttvar = (self.rttvar * 3 + srtt.abs_diff(rtt)) / 4;
        self.srtt = Some((srtt * 7 + rtt) / 8);
    }

    fn rto(&self) -> Duration {
        let base = self.srtt.map_or(Duration::from_secs(1), |srtt| {
            srtt + (self.rttvar * 4).max(MIN_RTO)
        });
        (base * 2u32.pow(self.backoff.min(8))).min(MAX_RTO)
    }
}

/// The receiving end.
#[derive(Default)]
pub struct Receiver {
    next: u64,
    /// Ranges above `next`, ends excluded.
    above: BTreeMap<u64, u64>,
    newest: Option<u64>,
    owed: Option<(Duration, Duration)>,
}

impl Receiver {
    /// A segment arrived. Answers how many more are in order now, and an acknowledgement if one is due.
    pub fn data(&mut self, now: Duration, segment: &Segment) -> (u64, Option<Segment>) {
        let Segment::Data { seq, sent } = *segment else {
            return (0, None);
        };
        let before = self.next;
        let in_order = seq == self.next && self.above.is_empty();
        if seq == self.next {
            self.next += 1;
            if let Some(end) = self.above.remove(&self.next) {
                self.next = end;
            }
        } else if seq > self.next {
            self.insert(seq);
        }
        // RFC 5681 §4.2: every second segment at once, and everything out of order.
        let second = self.owed.is_some();
        if in_order && !second {
            self.owed = Some((now + DELAYED_ACK, sent));
            return (self.next - before, None);
        }
        let echo = self.owed.take().map_or(sent, |(_, first)| first);
        (self.next - before, Some(self.report(echo)))
    }

    fn insert(&mut self, seq: u64) {
        self.newest = Some(seq);
        let below = self
            .above
            .range(..=seq)
            .next_back()
            .map(|(from, to)| (*from, *to));
        if below.is_some_and(|(_, to)| seq < to) {
            return;
        }
        let from = below.filter(|(_, to)| *to == seq).map_or(seq, |(from, _)| from);
        let to = self.above.remove(&(seq + 1)).unwrap_or(seq + 1);
        self.above.insert(from, to);
    }

    fn report(&self, echo: Duration) -> Segment {
        let holds = |(from, to): &(u64, u64)| self.newest.is_some_and(|seq| (*from..*to).contains(&seq));
        let ranges = || self.above.iter().map(|(from, to)| (*from, *to));
        let newest = ranges().filter(holds);
        let others = ranges().rev().filter(|range| !holds(range));
        Segment::Ack(Ack {
            next: self.next,
            sack: newest.chain(others).take(SACK_BLOCKS).collect(),
            echo,
        })
    }

    /// The delayed acknowledgement.
    pub fn deadline(&self) -> Option<Duration> {
        self.owed.map(|(at, _)| at)
    }

    /// Fires it if it is due.
    pub fn tick(&mut self, now: Duration) -> Option<Segment> {
        let (_, echo) = self.owed.take_if(|(at, _)| *at <= now)?;
        Some(self.report(echo))
    }
}

#[cfg(test)]
mod tests;
