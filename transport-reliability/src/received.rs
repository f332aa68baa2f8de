//! What arrived: one window of bits that is the replay filter and the source of ACK ranges at once.
//!
//! A number passes in two steps: [`Window::check`] before decryption yields a [`Fresh`], and only that proof,
//! after decryption, marks the number as received. A second bit a number says "still to be reported"; it is
//! cleared once the peer has acknowledged an ACK that reported it, so ranges do not pile up.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::num::NonZeroU64;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::ack::AckRange;
use crate::ack_policy::Arrival;

/// Numbers the window spans; a packet reordered further than this is dropped.
pub(crate) const WINDOW: u64 = 8192;
/// Words of a ring at first: most paths carry few packets.
const FIRST_WORDS: usize = 2;
/// Ranges an ACK reports at most, the newest ones.
pub(crate) const MAX_RANGES: usize = 64;

/// Proof that a number is new to the replay window; consumed by [`Recovery::received`](crate::Recovery::received).
#[derive(Debug)]
pub struct Fresh(u64);

impl Fresh {
    /// The number that was checked.
    pub fn number(&self) -> u64 {
        self.0
    }
}

/// Why a number is refused before decryption.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replay {
    /// Received before.
    Duplicate,
    /// Below the window: nobody knows any more, so it counts as received.
    TooOld,
}

/// A ring of bits addressed by packet number: a power of two of words, as few as span what arrived.
#[derive(Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn new() -> Self {
        Self(vec![0; FIRST_WORDS])
    }

    fn slot(&self, number: u64) -> usize {
        (number / 64) as usize & (self.0.len() - 1)
    }

    fn word(&self, number: u64) -> u64 {
        self.0.get(self.slot(number)).copied().unwrap_or(0)
    }

    fn word_mut(&mut self, number: u64) -> Option<&mut u64> {
        let slot = self.slot(number);
        self.0.get_mut(slot)
    }

    /// More words; what is known of `known` stays.
    fn grow(&mut self, words: usize, known: Range<u64>) {
        let mut larger = Self(vec![0; words]);
        for (at, run) in runs(known) {
            if let Some(word) = larger.word_mut(at) {
                *word |= self.word(at) & run;
            }
        }
        *self = larger;
    }

    fn get(&self, number: u64) -> bool {
        self.word(number) >> (number % 64) & 1 == 1
    }

    fn set(&mut self, number: u64) {
        if let Some(word) = self.word_mut(number) {
            *word |= 1 << (number % 64);
        }
    }

    /// A word at a time: how far a number jumps is the peer's choice, what it costs is not.
    fn clear(&mut self, numbers: Range<u64>) {
        for (at, run) in runs(numbers) {
            if let Some(word) = self.word_mut(at) {
                *word &= !run;
            }
        }
    }

    /// The largest number in `low..=high` whose bit equals `value`; a word at a time.
    fn last(&self, value: bool, low: u64, high: u64) -> Option<u64> {
        let mut at = high;
        loop {
            let word = if value { self.word(at) } else { !self.word(at) };
            let below = word & (u64::MAX >> (63 - at % 64));
            if below != 0 {
                let found = (at & !63) + u64::from(below.ilog2());
                return (found >= low).then_some(found);
            }
            at = (at & !63).checked_sub(1).filter(|&next| next >= low)?;
        }
    }
}

/// The first number of each word that `numbers` touch, and the bits of those it holds.
fn runs(numbers: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    let Range { mut start, end } = numbers;
    std::iter::from_fn(move || {
        let at = start;
        start = ((at | 63) + 1).min(end);
        let below = u64::MAX.checked_shr((64 - start.checked_sub(at).filter(|len| *len > 0)?) as u32)?;
        Some((at, below << (at % 64)))
    })
}

/// Numbers that arrived late, below what had been reported: an acknowledged ACK speaks for them only if it
/// was sent after they came.
#[derive(Clone, Copy, Debug)]
struct Late {
    lowest: u64,
    /// The packet of ours that first reported them.
    reported_in: Option<u64>,
}

/// The receive window of one path.
#[derive(Debug)]
pub(crate) struct Window {
    largest: Option<u64>,
    largest_at: Option<Instant>,
    /// The first number ever received.
    first: u64,
    /// The lowest number received that the window still spans.
    lowest: u64,
    seen: Bits,
    report: Bits,
    /// No number below needs reporting.
    floor: u64,
    /// Largest number when an ACK last went out.
    reported: Option<u64>,
    late: Option<Late>,
    /// A report old enough to be believed even if it is never acknowledged.
    horizon: Option<(Instant, u64)>,
    received: u64,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            largest: None,
            largest_at: None,
            first: 0,
            lowest: u64::MAX,
            seen: Bits::new(),
            report: Bits::new(),
            floor: 0,
            reported: None,
            late: None,
            horizon: None,
            received: 0,
        }
    }

    /// Allocated bytes.
    pub(crate) fn memory(&self) -> usize {
        (self.seen.0.len() + self.report.0.len()) * size_of::<u64>()
    }

    pub(crate) fn largest(&self) -> Option<u64> {
        self.largest
    }

    /// Packets accepted.
    pub(crate) fn received_packets(&self) -> u64 {
        self.received
    }

    /// Whether `number` may be decrypted.
    pub(crate) fn check(&self, number: u64) -> Result<Fresh, Replay> {
        match self.largest {
            Some(largest) if number <= largest => {
                if largest - number >= WINDOW {
                    Err(Replay::TooOld)
                } else if number >= self.lowest && self.seen.get(number) {
                    Err(Replay::Duplicate)
                } else {
                    Ok(Fresh(number))
                }
            }
            _ => Ok(Fresh(number)),
        }
    }

    /// Marks an authenticated number as received, to be reported.
    #[expect(clippy::needless_pass_by_value, reason = "a proof serves once")]
    pub(crate) fn insert(&mut self, fresh: Fresh, now: Instant) {
        let Fresh(number) = fresh;
        match self.largest {
            // The proof may have aged: two were taken out, and the window moved in between.
            Some(largest) if number <= largest && largest - number >= WINDOW => return,
            Some(largest) if number <= largest => {
                if number < self.lowest {
                    self.span(number, largest);
                }
            }
            _ => self.advance(number, now),
        }
        self.seen.set(number);
        self.report.set(number);
        self.received += 1;
        if number < self.floor || self.reported.is_some_and(|reported| number < reported) {
            let lowest = self.late.map_or(number, |late| late.lowest.min(number));
            self.late = Some(Late {
                lowest,
                reported_in: None,
            });
            self.floor = self.floor.min(number);
        }
    }

    /// Has room for all numbers from `low`, or from the window's end, to `high`.
    fn span(&mut self, low: u64, high: u64) {
        let low = low.max((high + 1).saturating_sub(WINDOW));
        let words = ((high - low) / 64 + 1).next_power_of_two() as usize;
        if words > self.seen.0.len() {
            let end = self.largest.map_or(low, |largest| largest + 1);
            let known = self.lowest.clamp(low, end.max(low))..end;
            self.seen.grow(words, known.clone());
            self.report.grow(words, known);
        }
        self.lowest = low;
    }

    /// Moves the window up to `number`, forgetting what falls out below.
    fn advance(&mut self, number: u64, now: Instant) {
        self.span(self.lowest.min(number), number);
        let from = match self.largest {
            Some(largest) if number - largest < WINDOW => largest + 1,
            Some(_) => {
                self.seen.0.fill(0);
                self.report.0.fill(0);
                number
            }
            None => number,
        };
        self.seen.clear(from..number + 1);
        self.report.clear(from..number + 1);
        self.floor = if self.largest.is_none() {
            self.first = number;
            number
        } else {
            self.floor.max((number + 1).saturating_sub(WINDOW))
        };
        self.largest = Some(number);
        self.largest_at = Some(now);
    }

    /// What `number`, just received, means to a peer that gives up a packet `reordering` numbers behind the largest
    /// (draft-ietf-quic-ack-frequency §6.2): news at once is what changes its mind, or would have.
    pub(crate) fn arrival(&self, number: u64, ordered: bool, reordering: u64) -> Arrival {
        let Some(reordering) = NonZeroU64::new(reordering) else {
            return Arrival::InOrder;
        };
        let told = self
            .reported
            .map_or(0, |told| (told + 1).saturating_sub(reordering.get()));
        if !ordered {
            let known = reordering.get() == 1 || number < told;
            return if known { Arrival::Late } else { Arrival::InOrder };
        }
        // Missing, given up by the time `number` is reported, and not so when the largest was last reported.
        let lowest = told.max(self.first);
        let missing = number
            .checked_sub(reordering.get())
            .filter(|&highest| highest >= lowest)
            .and_then(|highest| {
                self.seen
                    .last(false, lowest.max((number + 1).saturating_sub(WINDOW)), highest)
            });
        if missing.is_some() {
            Arrival::OpensGap
        } else {
            Arrival::InOrder
        }
    }

    /// What to report, if anything was received that still needs it.
    pub(crate) fn acks(&self) -> Option<Acks<'_>> {
        let (largest, largest_at) = (self.largest?, self.largest_at?);
        Some(Acks {
            window: self,
            largest,
            largest_at,
        })
    }

    /// An ACK left in packet `number` of ours. `patience` is how long until a report counts as heard anyway.
    pub(crate) fn reported(&mut self, number: u64, now: Instant, patience: Duration) -> Option<u64> {
        let largest = self.largest?;
        self.reported = Some(largest);
        if let Some(late) = &mut self.late {
            late.reported_in = late.reported_in.or(Some(number));
        }
        match self.horizon {
            Some((at, upto)) if now.saturating_duration_since(at) >= patience => {
                self.prune(upto, self.late);
                self.horizon = Some((now, largest));
            }
            Some(_) => {}
            None => self.horizon = Some((now, largest)),
        }
        Some(largest)
    }

    /// The peer acknowledged packet `number` of ours, which reported everything up to `upto` (RFC 9000 §13.2.4).
    pub(crate) fn report_acked(&mut self, number: u64, upto: u64) {
        let late = self
            .late
            .filter(|late| late.reported_in.is_none_or(|first| number < first));
        self.prune(upto, late);
        if late.is_none() {
            self.late = None;
        }
    }

    fn prune(&mut self, upto: u64, late: Option<Late>) {
        // The largest stays: every ACK names it.
        let top = self.largest.map_or(0, |largest| (upto + 1).min(largest));
        let floor = late.map_or(top, |late| late.lowest.min(top));
        let lowest = self
            .largest
            .map_or(0, |largest| (largest + 1).saturating_sub(WINDOW));
        self.report.clear(self.floor.max(lowest)..floor);
        self.floor = self.floor.max(floor);
    }
}

/// What an ACK frame reports; borrowed from the window.
#[derive(Clone, Copy, Debug)]
pub struct Acks<'a> {
    window: &'a Window,
    largest: u64,
    largest_at: Instant,
}

impl<'a> Acks<'a> {
    /// Largest number received.
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// Time since the largest arrived.
    pub fn delay(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.largest_at)
    }

    /// Descending runs of received numbers, the first one ending at the largest; at most 64.
    pub fn ranges(&self) -> impl Iterator<Item = AckRange> + use<'a> {
        let window = self.window;
        let mut next = Some(self.largest);
        std::iter::from_fn(move || {
            let last = window.report.last(true, window.floor, next?)?;
            let gap = window.report.last(false, window.floor, last);
            next = gap
                .and_then(|gap| gap.checked_sub(1))
                .filter(|&below| below >= window.floor);
            Some(AckRange {
                first: gap.map_or(window.floor, |gap| gap + 1),
                last,
            })
        })
        .take(MAX_RANGES)
    }
}

#[cfg(test)]
mod tests;
