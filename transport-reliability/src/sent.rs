//! What was sent and not yet settled: a ring indexed by packet number that keeps the caller's `T` and gives it back.
//!
//! Settled numbers leave at the front. Lost ones stay for a while without their content, so that a late ACK
//! shows the loss to have been spurious. Two bit rings make every walk skip what is settled, 64 numbers a step.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ack::{AckRange, AckViolation};
use crate::congestion::Stamp;
use crate::number::PacketNumber;

/// Numbers the log may span before nothing more may be sent.
pub(crate) const MAX_SPAN: usize = 1 << 17;
/// Skipped numbers remembered after they have left the ring.
const OLD_SKIPS: usize = 64;
const FIRST_BITS: usize = 256;
/// Room for so many entries is given back when none is left: a flow has more under way.
const FEW: usize = 8;

/// One packet as it left.
#[derive(Debug)]
pub struct Sent<T> {
    /// From [`Recovery::next_number`](crate::Recovery::next_number).
    pub number: PacketNumber,
    /// Bytes of UDP payload.
    pub size: u16,
    /// Whether the peer must acknowledge it; an eliciting packet is always in flight.
    pub eliciting: bool,
    /// Whether it counts against the congestion window. A packet that neither elicits nor is in flight
    /// (ACK only) is never reported as acknowledged or lost, and its content is dropped at once.
    pub in_flight: bool,
    /// What its loss means.
    pub kind: SentKind,
    /// Whether it left with ECT(0).
    pub ect: bool,
    /// The caller's: comes back in [`Outcome`](crate::Outcome).
    pub content: T,
}

/// What the loss of a packet means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SentKind {
    /// A sign of congestion.
    Normal,
    /// Too large for the path, perhaps; not a sign of congestion (RFC 9000 §14.4).
    MtuProbe,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Neither acknowledged nor lost.
    Open,
    /// Declared lost.
    Lost(Loss),
    Acked,
}

/// How a packet was declared lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Loss {
    pub(crate) at: Instant,
    /// The congestion event it belongs to, if any.
    pub(crate) event: Option<u32>,
    /// By the time threshold, not by the packet threshold.
    pub(crate) by_time: bool,
}

/// What the log knows about one number.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) state: State,
    pub(crate) sent_at: Instant,
    pub(crate) size: u16,
    pub(crate) eliciting: bool,
    pub(crate) in_flight: bool,
    pub(crate) kind: SentKind,
    pub(crate) ect: bool,
    /// Largest received number its ACK frame reported.
    pub(crate) reported: Option<u64>,
    /// What congestion control wants to know again when it is settled.
    pub(crate) stamp: Stamp,
    pub(crate) content: Option<T>,
}

impl<T> Entry<T> {
    /// Bytes to take out of flight when it is settled.
    pub(crate) fn flying(&self) -> u64 {
        if self.in_flight { u64::from(self.size) } else { 0 }
    }
}

/// Bits addressed by packet number; the length is a power of two not smaller than the ring's.
#[derive(Debug)]
struct BitRing(Vec<u64>);

impl BitRing {
    fn new(bits: usize) -> Self {
        Self(vec![0; bits / 64])
    }

    fn word(&self, number: u64) -> u64 {
        self.0
            .get((number / 64) as usize & (self.0.len() - 1))
            .copied()
            .unwrap_or(0)
    }

    fn put(&mut self, number: u64, value: bool) {
        let at = (number / 64) as usize & (self.0.len() - 1);
        if let Some(word) = self.0.get_mut(at) {
            *word = (*word & !(1 << (number % 64))) | (u64::from(value) << (number % 64));
        }
    }
}

/// A number without an entry: skipped, or sent and awaited by nobody.
const NOBODY: u32 = u32::MAX;
/// Places are counted modulo this; there are never that many entries.
const PLACES: u32 = (1 << 31) - 1;

/// The sent packets of one path, by number.
#[derive(Debug)]
pub(crate) struct SentLog<T> {
    /// Every number from `base` on, four bytes each: the place of its entry, counted on without end. A peer that
    /// acknowledges nothing keeps all numbers here, and packets that carry ACKs alone shall not cost an entry each then.
    numbers: VecDeque<u32>,
    /// Packets somebody waits for, in order.
    entries: VecDeque<Entry<T>>,
    /// The place of the first entry.
    place: u32,
    /// The first of `numbers`.
    base: u64,
    /// First number ever given out.
    first: u64,
    open: BitRing,
    lost: BitRing,
    skips: VecDeque<u64>,
    /// No open number lies below.
    open_from: u64,
    open_eliciting: usize,
}

impl<T> SentLog<T> {
    /// `first` is the first number that will be sent.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            numbers: VecDeque::new(),
            entries: VecDeque::new(),
            place: 0,
            base: first,
            first,
            open: BitRing::new(FIRST_BITS),
            lost: BitRing::new(FIRST_BITS),
            skips: VecDeque::new(),
            open_from: first,
            open_eliciting: 0,
        }
    }

    /// One above the largest number sent.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.numbers.len() as u64
    }

    pub(crate) fn is_full(&self) -> bool {
        self.numbers.len() >= MAX_SPAN
    }

    /// Open packets that elicit an ACK.
    pub(crate) fn open_eliciting(&self) -> usize {
        self.open_eliciting
    }

    /// Remembers a packet and the conditions under which it was sent; numbers left out before it count as skipped. Numbers
    /// must rise.
    pub(crate) fn push(&mut self, now: Instant, packet: Sent<T>, stamp: Stamp) {
        let number = packet.number.get();
        debug_assert!(number >= self.end(), "packet numbers rise");
        while self.end() < number {
            self.skips.push_back(self.end());
            self.append(NOBODY);
        }
        if !packet.eliciting && !packet.in_flight {
            self.append(NOBODY);
            self.open.put(number, false);
            return self.pop_settled();
        }
        self.open_eliciting += usize::from(packet.eliciting);
        self.append((self.place + self.entries.len() as u32) % PLACES);
        if self.entries.capacity() == 0 {
            // Most paths never have more: the collection itself would begin with four.
            self.entries.reserve_exact(2);
        }
        self.entries.push_back(Entry {
            state: State::Open,
            sent_at: now,
            size: packet.size,
            eliciting: packet.eliciting,
            in_flight: true,
            kind: packet.kind,
            ect: packet.ect,
            reported: None,
            stamp,
            content: Some(packet.content),
        });
        self.open.put(number, true);
        self.pop_settled();
    }

    fn append(&mut self, place: u32) {
        if self.numbers.len() == self.open.0.len() * 64 {
            self.grow_bits();
        }
        self.numbers.push_back(place);
    }

    fn grow_bits(&mut self) {
        let bits = self.open.0.len() * 128;
        let (mut open, mut lost) = (BitRing::new(bits), BitRing::new(bits));
        for number in self.base..self.end() {
            let state = self.entry(number).map(|entry| entry.state);
            open.put(number, state == Some(State::Open));
            lost.put(number, matches!(state, Some(State::Lost(_))));
        }
        (self.open, self.lost) = (open, lost);
    }

    /// Allocated bytes, without what the contents hold.
    pub(crate) fn memory(&self) -> usize {
        self.numbers.capacity() * size_of::<u32>()
            + self.entries.capacity() * size_of::<Entry<T>>()
            + (self.open.0.len() + self.lost.0.len() + self.skips.capacity()) * size_of::<u64>()
    }

    /// Whether every number in `ranges` was really sent.
    pub(crate) fn validate(&self, ranges: &[AckRange]) -> Result<(), AckViolation> {
        for range in ranges {
            if range.last >= self.end() || range.first < self.first {
                return Err(AckViolation::Unsent);
            }
            let at = self.skips.partition_point(|&skip| skip < range.first);
            if self.skips.get(at).is_some_and(|&skip| skip <= range.last) {
                return Err(AckViolation::Skipped);
            }
        }
        Ok(())
    }

    /// The first open or lost number in `from..=upto`.
    pub(crate) fn next_tracked(&self, from: u64, upto: u64) -> Option<u64> {
        self.scan(from, upto.saturating_add(1), |at| {
            self.open.word(at) | self.lost.word(at)
        })
    }

    /// The first open number in `from..below`.
    pub(crate) fn next_open(&self, from: u64, below: u64) -> Option<u64> {
        self.scan(from.max(self.open_from), below, |at| self.open.word(at))
    }

    fn scan(&self, from: u64, below: u64, word: impl Fn(u64) -> u64) -> Option<u64> {
        let (mut at, below) = (from.max(self.base), below.min(self.end()));
        while at < below {
            let bits = word(at) & (u64::MAX << (at % 64));
            if bits != 0 {
                let found = (at & !63) + u64::from(bits.trailing_zeros());
                return (found < below).then_some(found);
            }
            at = (at & !63) + 64;
        }
        None
    }

    /// What is known of a number; `None` when nobody waits for it.
    pub(crate) fn entry(&self, number: u64) -> Option<&Entry<T>> {
        self.entries.get(self.index(number)?)
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry<T>> {
        let index = self.index(number)?;
        self.entries.get_mut(index)
    }

    fn index(&self, number: u64) -> Option<usize> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        let place = self.numbers.get(at).filter(|place| **place != NOBODY)?;
        Some(((place + PLACES - self.place) % PLACES) as usize)
    }

    /// The oldest open packet's content that elicits an ACK and is not an MTU probe.
    pub(crate) fn oldest(&self) -> Option<&T> {
        self.unacked().next()
    }

    /// The contents of all open packets that elicit an ACK and are not MTU probes, oldest first.
    pub(crate) fn unacked(&self) -> impl Iterator<Item = &T> {
        let mut from = self.open_from;
        std::iter::from_fn(move || {
            while let Some(number) = self.next_open(from, self.end()) {
                from = number + 1;
                let entry = self.entry(number)?;
                if entry.eliciting && entry.kind == SentKind::Normal {
                    return entry.content.as_ref();
                }
            }
            None
        })
    }

    /// Notes that `number` carried an ACK frame up to `largest`.
    pub(crate) fn set_reported(&mut self, number: u64, largest: u64) {
        if let Some(entry) = self.entry_mut(number) {
            entry.reported = Some(largest);
        }
    }

    /// Settles a tracked number as acknowledged; its entry as it was, content included if it was open.
    pub(crate) fn acked(&mut self, number: u64) -> Option<Entry<T>> {
        let entry = self.entry_mut(number)?;
        let content = entry.content.take();
        let before = Entry {
            state: std::mem::replace(&mut entry.state, State::Acked),
            sent_at: entry.sent_at,
            size: entry.size,
            eliciting: entry.eliciting,
            in_flight: std::mem::replace(&mut entry.in_flight, false),
            kind: entry.kind,
            ect: entry.ect,
            reported: entry.reported,
            stamp: entry.stamp,
            content,
        };
        self.close(number, before.state == State::Open && before.eliciting);
        self.lost.put(number, false);
        Some(before)
    }

    /// Turns an open number into a lost one; gives its content back.
    pub(crate) fn declare_lost(&mut self, number: u64, loss: Loss) -> Option<T> {
        let entry = self.entry_mut(number)?;
        if entry.state != State::Open {
            return None;
        }
        entry.state = State::Lost(loss);
        entry.in_flight = false;
        let (content, eliciting) = (entry.content.take(), entry.eliciting);
        self.close(number, eliciting);
        self.lost.put(number, true);
        content
    }

    fn close(&mut self, number: u64, eliciting: bool) {
        self.open.put(number, false);
        self.open_eliciting -= usize::from(eliciting);
        if number == self.open_from {
            self.open_from = self.next_open(number, self.end()).unwrap_or(self.end());
        }
    }

    /// Whether a loss at `number` does not continue a run of losses that ended at `last`.
    pub(crate) fn begins_range(&self, last: Option<u64>, number: u64) -> bool {
        last.is_none_or(|last| last < self.base || self.any_acked(last + 1, number))
    }

    /// Whether anything in `from..below` was acknowledged.
    pub(crate) fn any_acked(&self, from: u64, below: u64) -> bool {
        (from..below).any(|number| {
            self.entry(number)
                .is_some_and(|entry| entry.state == State::Acked)
        })
    }

    /// Lets settled numbers go at the front, and lost ones that were lost longer than `keep` ago.
    pub(crate) fn retire(&mut self, now: Instant, keep: Duration) {
        self.pop_settled();
        while let Some(State::Lost(loss)) = self.entries.front().map(|front| front.state) {
            // A full log prefers room for new packets over knowledge about old ones.
            let crowded = self.numbers.len() >= MAX_SPAN / 2;
            if !crowded && now.saturating_duration_since(loss.at) < keep {
                break;
            }
            self.pop_front();
            self.pop_settled();
        }
        if self.entries.is_empty() && self.entries.capacity() <= FEW {
            self.entries = VecDeque::new();
        }
    }

    /// Whether nothing is under way, and room for it is not kept.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.entries.capacity() == 0
    }

    /// Afterwards the first number, if there is one, is that of the first entry.
    fn pop_settled(&mut self) {
        while let Some(first) = self.numbers.front() {
            let awaited = *first != NOBODY;
            if awaited
                && self
                    .entries
                    .front()
                    .is_some_and(|front| front.state != State::Acked)
            {
                break;
            }
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        self.lost.put(self.base, false);
        if self.numbers.pop_front().is_some_and(|place| place != NOBODY) {
            self.entries.pop_front();
            self.place = (self.place + 1) % PLACES;
        }
        self.base += 1;
        self.open_from = self.open_from.max(self.base);
        while self.skips.len() > OLD_SKIPS && self.skips.front().is_some_and(|&skip| skip < self.base) {
            self.skips.pop_front();
        }
    }

    /// The path changed: what is open no longer counts against its window, and tells nothing about it.
    pub(crate) fn ground(&mut self) {
        for entry in &mut self.entries {
            entry.in_flight = false;
            if let State::Lost(loss) = &mut entry.state {
                loss.event = None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
