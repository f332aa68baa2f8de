//! Loss recovery, congestion control and pacing for one path: numbers and time, nothing else.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

mod number;
mod permit;

pub use number::PacketNumber;
pub use permit::Permit;

/// How a path starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// RTT assumed before the first sample; 333 ms (RFC 9002 §6.2.2).
    pub initial_rtt: Duration,
    /// Largest UDP payload in bytes.
    pub max_datagram: u16,
    /// Congestion control.
    pub algorithm: Algorithm,
    /// Decides the first packet number and the skipped ones.
    pub seed: u64,
    /// The peer's promise of how long it may delay an ACK.
    pub peer_max_ack_delay: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_rtt: Duration::from_millis(333),
            max_datagram: 1232,
            algorithm: Algorithm::Cubic,
            seed: 0,
            peer_max_ack_delay: Duration::from_millis(25),
        }
    }
}

/// The congestion controller of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// CUBIC (RFC 9438) with `HyStart++` (RFC 9406).
    Cubic,
    /// A constant rate, blind to loss: for links with a contract, and for tests.
    Fixed {
        /// Bytes of UDP payload a second.
        bytes_per_s: u64,
    },
}

/// One packet as it left.
#[derive(Debug)]
pub struct Sent<T> {
    /// From [`Recovery::next_number`].
    pub number: PacketNumber,
    /// Bytes of UDP payload.
    pub size: u16,
    /// Whether the peer must acknowledge it.
    pub eliciting: bool,
    /// Whether it counts against the congestion window.
    pub in_flight: bool,
    /// What its loss means.
    pub kind: SentKind,
    /// The caller's: comes back in [`Outcome`].
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

/// What became of packets. The caller's, reused; calls append, [`Outcome::clear`] empties.
#[derive(Debug)]
pub struct Outcome<T> {
    /// Contents of newly acknowledged packets.
    pub acked: Vec<T>,
    /// Contents of packets declared lost.
    pub lost: Vec<T>,
    /// Packets acknowledged after they had been declared lost.
    pub spurious: u32,
    /// Persistent congestion was established (RFC 9002 §7.6).
    pub persistent_congestion: bool,
    /// The RTT estimate took a sample.
    pub rtt_updated: bool,
}

impl<T> Default for Outcome<T> {
    fn default() -> Self {
        Self { acked: Vec::new(), lost: Vec::new(), spurious: 0, persistent_congestion: false, rtt_updated: false }
    }
}

impl<T> Outcome<T> {
    /// Empties it, keeping the capacity.
    pub fn clear(&mut self) {
        self.acked.clear();
        self.lost.clear();
        self.spurious = 0;
        self.persistent_congestion = false;
        self.rtt_updated = false;
    }
}

/// A run of packet numbers, both ends inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckRange {
    /// Smallest number.
    pub first: u64,
    /// Largest number.
    pub last: u64,
}

/// An ACK frame as core has parsed it.
#[derive(Clone, Copy, Debug)]
pub struct AckInput<'a> {
    /// Largest acknowledged.
    pub largest: u64,
    /// How long the peer says it waited.
    pub delay: Duration,
    /// Descending, disjoint; the first one ends at `largest`.
    pub ranges: &'a [AckRange],
}

/// Why an ACK ends the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckViolation {
    /// It acknowledges a number never sent.
    Unsent,
    /// It acknowledges a number skipped on purpose: the peer acknowledges what it has not received.
    Skipped,
    /// Its ranges are not descending and disjoint, or too many.
    Malformed,
}

/// Proof that a number is new to the replay window.
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
    /// Below the window.
    TooOld,
}

/// What to report in an ACK frame.
#[derive(Debug)]
pub struct Acks<'a>(std::marker::PhantomData<&'a ()>);

impl Acks<'_> {
    /// Largest received.
    pub fn largest(&self) -> u64 {
        unreachable!()
    }
    /// Time since the largest arrived.
    pub fn delay(&self, _now: Instant) -> Duration {
        unreachable!()
    }
    /// Descending, at most 64.
    pub fn ranges(&self) -> impl Iterator<Item = AckRange> {
        std::iter::empty()
    }
}

/// What a deadline is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// An ACK becomes due.
    AckDelay,
    /// A packet becomes lost by time.
    Loss,
    /// A probe timeout.
    Probe,
    /// The pacer lets the next quantum go.
    Pacing,
}

/// The estimate of the round-trip time.
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    latest: Duration,
    smoothed: Duration,
    variation: Duration,
    min: Duration,
}

impl Rtt {
    /// Latest sample.
    pub fn latest(&self) -> Duration {
        self.latest
    }
    /// Smoothed RTT.
    pub fn smoothed(&self) -> Duration {
        self.smoothed
    }
    /// Mean deviation.
    pub fn variation(&self) -> Duration {
        self.variation
    }
    /// Smallest sample.
    pub fn min(&self) -> Duration {
        self.min
    }
}

/// Counters and gauges of a path.
#[derive(Clone, Copy, Default, Debug)]
#[expect(missing_docs, reason = "documented with the body")]
pub struct Stats {
    pub sent_packets: u64,
    pub sent_bytes: u64,
    pub received_packets: u64,
    pub declared_lost: u64,
    pub spurious: u64,
    pub cwnd: u64,
    pub in_flight: u64,
    pub ssthresh: u64,
    pub pacing_bytes_per_s: u64,
    pub srtt: Duration,
    pub min_rtt: Duration,
    pub latest_rtt: Duration,
    pub rttvar: Duration,
    pub pto_count_total: u64,
}

/// Everything one path knows about what was sent, what arrived, and how much may follow.
#[derive(Debug)]
pub struct Recovery<T>(std::marker::PhantomData<T>);

#[expect(missing_docs, unused_variables, clippy::needless_pass_by_value, clippy::unused_self, reason = "provisional: the signatures come first")]
impl<T> Recovery<T> {
    pub fn new(config: Config) -> Self {
        unreachable!()
    }
    pub fn permit(&self, now: Instant) -> Permit {
        unreachable!()
    }
    pub fn next_number(&mut self) -> PacketNumber {
        unreachable!()
    }
    pub fn number_len(&self, number: PacketNumber) -> usize {
        unreachable!()
    }
    pub fn sent(&mut self, now: Instant, packet: Sent<T>) {
        unreachable!()
    }
    pub fn expand(&self, truncated: u32, len: usize) -> u64 {
        unreachable!()
    }
    pub fn check(&self, number: u64) -> Result<Fresh, Replay> {
        unreachable!()
    }
    pub fn received(&mut self, fresh: Fresh, now: Instant, eliciting: bool) {
        unreachable!()
    }
    pub fn largest_received(&self) -> Option<u64> {
        unreachable!()
    }
    pub fn acks_due(&self, now: Instant) -> Option<Acks<'_>> {
        unreachable!()
    }
    pub fn acks_available(&self) -> Option<Acks<'_>> {
        unreachable!()
    }
    pub fn acks_sent(&mut self, now: Instant) {
        unreachable!()
    }
    pub fn on_ack(&mut self, now: Instant, ack: AckInput<'_>, out: &mut Outcome<T>) -> Result<(), AckViolation> {
        unreachable!()
    }
    pub fn on_timeout(&mut self, now: Instant, out: &mut Outcome<T>) {
        unreachable!()
    }
    pub fn probes_due(&self) -> u8 {
        unreachable!()
    }
    pub fn oldest_unacked(&self) -> Option<&T> {
        unreachable!()
    }
    pub fn next_timeout(&self) -> Option<(Instant, Why)> {
        unreachable!()
    }
    pub fn app_limited(&mut self, now: Instant) {
        unreachable!()
    }
    pub fn set_max_datagram(&mut self, bytes: u16) {
        unreachable!()
    }
    pub fn set_peer_max_ack_delay(&mut self, delay: Duration) {
        unreachable!()
    }
    pub fn seed_rtt(&mut self, sample: Duration) {
        unreachable!()
    }
    pub fn pto(&self) -> Duration {
        unreachable!()
    }
    pub fn rtt(&self) -> Rtt {
        unreachable!()
    }
    pub fn pto_count(&self) -> u32 {
        unreachable!()
    }
    pub fn reset_path(&mut self, now: Instant) {
        unreachable!()
    }
    pub fn disarm_probe(&mut self, blocked: bool) {
        unreachable!()
    }
    pub fn stats(&self) -> Stats {
        unreachable!()
    }
    pub fn next_send(&self) -> Option<Instant> {
        unreachable!()
    }
}
