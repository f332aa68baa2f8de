//! Loss recovery, congestion control and pacing for one path: numbers and time, nothing else.
//!
//! [`Recovery<T>`] knows what was sent on one path, what arrived, and how much may follow. It sees no frame, no
//! key, no byte and no clock; `T` is the caller's, kept while a packet is unsettled and given back once.
//!
//! Out: [`permit`](Recovery::permit) → [`next_number`](Recovery::next_number) → [`sent`](Recovery::sent), for
//! as many packets as the permit covers, then [`app_limited`](Recovery::app_limited) if the data ended first.
//! In: [`check`](Recovery::check) → decryption → [`received`](Recovery::received). Time:
//! [`next_timeout`](Recovery::next_timeout) → [`on_timeout`](Recovery::on_timeout).
//!
//! Laws, each a test:
//! * every content comes back at most once, in `acked` or in `lost`; packets that are ACK only do not come back;
//! * bytes in flight are exactly the sizes of the packets neither acknowledged nor lost;
//! * a probe timeout never declares a loss; a spurious loss is noticed, and undone if the whole event was;
//! * an acknowledgement of a number never sent, or skipped on purpose, changes nothing and is a violation;
//! * no received number passes twice.
#![forbid(unsafe_code)]

mod ack;
mod ack_policy;
mod config;
mod congestion;
mod ecn;
mod frequency;
mod loss;
mod number;
mod pacer;
mod permit;
mod probe;
mod received;
mod rtt;
mod sent;
mod stats;

use std::time::{Duration, Instant};

pub use ack::{AckInput, AckRange, AckViolation};
pub use config::{Algorithm, Config, Outcome, Why};
pub use ecn::{EcnCounts, EcnState};
pub use frequency::AckFrequency;
pub use number::PacketNumber;
pub use permit::Permit;
pub use received::{Acks, Fresh, Replay};
pub use rtt::Rtt;
pub use sent::{Sent, SentKind};
pub use stats::Stats;

use ack_policy::AckPolicy;
use congestion::{Controller, Moment, Stamp, initial_window};
use ecn::Marking;
use frequency::Asking;
use loss::Thresholds;
use number::NumberSource;
use pacer::Pacer;
use probe::Probe;
use received::Window;
use sent::SentLog;

/// Everything one path knows about what was sent, what arrived, and how much may follow.
#[derive(Debug)]
pub struct Recovery<T> {
    config: Config,
    peer_max_ack_delay: Duration,
    // Sending.
    numbers: NumberSource,
    log: SentLog<T>,
    in_flight: u64,
    largest_acked: Option<u64>,
    // Receiving.
    window: Window,
    acks: AckPolicy,
    /// Codepoints of what was received.
    marks: EcnCounts,
    /// The packet that is to carry the ACK just written, and what it reports.
    reporting: Option<(u64, u64)>,
    // Time.
    rtt: Rtt,
    first_sample_at: Option<Instant>,
    thresholds: Thresholds,
    asking: Asking,
    marking: Marking,
    loss_at: Option<Instant>,
    /// The last number lost to congestion.
    last_lost: Option<u64>,
    probe: Probe,
    // How much.
    congestion: Controller,
    pacer: Pacer,
    app_limited: bool,
    /// One packet may exceed the window: recovery has just begun (RFC 9002 §7.3.2).
    fast_retransmit: bool,
    /// First number sent on the present path.
    path_from: u64,
    sent_packets: u64,
    sent_bytes: u64,
    declared_lost: u64,
    spurious: u64,
}

impl<T> Recovery<T> {
    /// A path nothing was sent on.
    pub fn new(config: Config) -> Self {
        let max_datagram = u64::from(config.max_datagram.max(1));
        let numbers = NumberSource::new(config.seed, initial_window(max_datagram) / max_datagram);
        let mut this = Self {
            peer_max_ack_delay: config.peer_max_ack_delay,
            log: SentLog::new(numbers.upcoming()),
            in_flight: 0,
            largest_acked: None,
            window: Window::new(),
            acks: AckPolicy::new(),
            marks: EcnCounts::default(),
            reporting: None,
            rtt: Rtt::new(config.initial_rtt),
            first_sample_at: None,
            thresholds: Thresholds::new(),
            asking: Asking::new(),
            marking: Marking::default(),
            loss_at: None,
            last_lost: None,
            probe: Probe::new(),
            congestion: Controller::new(config.algorithm, max_datagram, config.seed),
            pacer: Pacer::new(),
            app_limited: false,
            fast_retransmit: false,
            path_from: numbers.upcoming(),
            numbers,
            sent_packets: 0,
            sent_bytes: 0,
            declared_lost: 0,
            spurious: 0,
            config,
        };
        this.update_pacer();
        this
    }

    // --- sending ---

    /// What may be sent now. Covers a whole batch: ask once, then send up to `bytes`.
    pub fn permit(&self, now: Instant) -> Permit {
        if self.log.is_full() {
            return Permit::Nothing;
        }
        let room = self.room();
        let bytes = room.min(self.pacer.budget(now));
        if room >= self.max_datagram() && bytes > 0 {
            return Permit::Full {
                bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            };
        }
        let urgent = self.probe.due() > 0 || (self.fast_retransmit && room < self.max_datagram());
        if urgent {
            Permit::Retransmit
        } else {
            Permit::AcksOnly
        }
    }

    /// The number of the next packet; now and then one is left out, to catch a peer that acknowledges blindly.
    ///
    /// A number taken but never passed to [`sent`](Self::sent) counts as left out.
    pub fn next_number(&mut self) -> PacketNumber {
        let (max_datagram, window) = (self.max_datagram(), self.congestion_window());
        let packets = || (initial_window(max_datagram) / max_datagram, window / max_datagram);
        self.numbers.take(packets)
    }

    /// Bytes `number` needs on the wire, 1 to 4 (RFC 9000 §A.2).
    pub fn number_len(&self, number: PacketNumber) -> usize {
        number::wire_len(number.get(), self.largest_acked)
    }

    /// A packet left. Charges window and pacer.
    pub fn sent(&mut self, now: Instant, packet: Sent<T>) {
        let (number, size) = (packet.number.get(), u64::from(packet.size));
        let (eliciting, in_flight) = (packet.eliciting, packet.in_flight || packet.eliciting);
        if packet.ect {
            self.marking.on_sent();
        }
        self.sent_packets += 1;
        self.sent_bytes += size;
        let mut stamp = Stamp::default();
        if in_flight {
            self.in_flight += size;
            self.app_limited = false;
            self.fast_retransmit = false;
            let in_flight = self.in_flight;
            stamp = self
                .congestion
                .on_sent(Moment { now, in_flight }, size, &self.rtt)
                .lagging(self.pacer.lag(now));
        }
        self.log.push(now, packet, stamp);
        if let Some((_, largest)) = self.reporting.take_if(|(at, _)| *at == number) {
            self.log.set_reported(number, largest);
        }
        if eliciting {
            self.probe.on_sent(now);
        }
        if in_flight {
            if self.in_flight == size {
                // After idleness the rate is another one.
                self.update_pacer();
            }
            self.pacer.on_sent(now, size);
            if self.room() < self.max_datagram() {
                self.pacer.on_idle();
            }
        }
    }

    /// The data ran out before the permit did: the window must not grow for what went unused.
    pub fn app_limited(&mut self, _now: Instant) {
        self.app_limited = true;
        self.congestion.on_app_limited(self.in_flight);
        self.pacer.on_idle();
    }

    /// When the pacer opens again, if it is shut.
    pub fn next_send(&self) -> Option<Instant> {
        self.pacer.next_send()
    }

    // --- receiving ---

    /// The full number behind `len` truncated bytes (RFC 9000 §A.3).
    pub fn expand(&self, truncated: u32, len: usize) -> u64 {
        number::expand(truncated, len, self.window.largest())
    }

    /// Whether `number` is new; ask before decryption. The proof is consumed by [`received`](Self::received).
    pub fn check(&self, number: u64) -> Result<Fresh, Replay> {
        self.window.check(number)
    }

    /// An authenticated packet arrived.
    pub fn received(&mut self, fresh: Fresh, now: Instant, eliciting: bool) {
        let number = fresh.number();
        let ordered = self.window.largest().is_none_or(|largest| number > largest);
        self.window.insert(fresh, now);
        let arrival = self.window.arrival(number, ordered, self.acks.reordering());
        self.acks
            .on_received(now, eliciting, arrival, self.rtt.smoothed());
    }

    /// Largest number received.
    pub fn largest_received(&self) -> Option<u64> {
        self.window.largest()
    }

    /// The ranges to send, once an ACK must go.
    pub fn acks_due(&self, now: Instant) -> Option<Acks<'_>> {
        self.acks.due().filter(|&due| due <= now)?;
        self.window.acks()
    }

    /// The ranges to send, if an ACK would say anything new: it may ride along.
    pub fn acks_available(&self) -> Option<Acks<'_>> {
        self.window.acks().filter(|_| self.acks.unreported())
    }

    /// All ranges known, whether they were sent or not: for an ACK that goes by another path than this one, because what went by
    /// this one may not have arrived. [`acks_sent`](Self::acks_sent) does not follow.
    pub fn acks_known(&self) -> Option<Acks<'_>> {
        self.window.acks()
    }

    /// The ranges went out, in the packet whose number was taken last.
    pub fn acks_sent(&mut self, now: Instant) {
        self.acks.on_sent();
        let number = self.numbers.upcoming().saturating_sub(1);
        let Some(largest) = self.window.reported(number, now, self.pto() * 3) else {
            return;
        };
        if number < self.log.end() {
            self.log.set_reported(number, largest);
        } else {
            self.reporting = Some((number, largest));
        }
    }

    /// The peer asks for another rhythm of ACKs. It gets one that is no slower than we promise anybody: 25 ms.
    pub fn set_ack_frequency(&mut self, wanted: AckFrequency) {
        self.acks.set_frequency(wanted);
    }

    /// A packet came with a codepoint; call it once for each that [`received`](Self::received) took.
    pub fn received_mark(&mut self, now: Instant, one: EcnCounts) {
        self.marks.add(one);
        if self.acks.on_mark(one.ce > 0) {
            self.acknowledge_immediately(now);
        }
    }

    /// The codepoints of what was received, for the next ACK; none if there were none.
    pub fn marks_received(&self) -> Option<EcnCounts> {
        Some(self.marks).filter(|marks| !marks.is_zero())
    }

    /// Whether the next packets shall carry ECT(0), and say so in [`Sent::ect`]. Who does not slow down for a mark must not ask
    /// for any (RFC 9484 §10.1).
    pub fn is_marking(&self) -> bool {
        self.marking.is_on() && self.congestion.heeds_marks()
    }

    /// An ACK is wanted at once (a CE mark, `IMMEDIATE_ACK`).
    pub fn acknowledge_immediately(&mut self, now: Instant) {
        // Without anything received there is nothing an ACK could say.
        if self.window.largest().is_some() {
            self.acks.immediately(now);
        }
    }

    // --- time ---

    /// A deadline passed: declares losses by time, or makes probes due; never both.
    pub fn on_timeout(&mut self, now: Instant, out: &mut Outcome<T>) {
        if self.loss_at.is_some_and(|at| at <= now) {
            self.detect_lost(now, out);
            self.update_pacer();
        } else if self.probe_at().is_some_and(|at| at <= now) {
            self.probe.fire(now);
            self.marking.on_probe_timeout();
        }
        self.log.retire(now, self.memory_of_losses());
        self.pacer.on_timeout(now);
    }

    /// The next deadline and what it is for; past ones are due now.
    pub fn next_timeout(&self) -> Option<(Instant, Why)> {
        let ack = self
            .acks
            .due()
            .filter(|_| !self.log.is_full())
            .map(|at| (at, Why::AckDelay));
        let loss = self
            .loss_at
            .map(|at| (at, Why::Loss))
            .or(self.probe_at().map(|at| (at, Why::Probe)));
        // Reported even to a sender that had run dry: data may have come since, and been refused.
        let pacing = self
            .pacer
            .next_send()
            .filter(|_| self.room() >= self.max_datagram());
        let pacing = pacing.map(|at| (at, Why::Pacing));
        [ack, loss, pacing]
            .into_iter()
            .flatten()
            .min_by_key(|&(at, _)| at)
    }

    /// Probes still to send; the permit is then [`Permit::Retransmit`] at least.
    pub fn probes_due(&self) -> u8 {
        self.probe.due()
    }

    /// Whether the peer has ever acknowledged a packet.
    pub fn is_acked(&self) -> bool {
        self.largest_acked.is_some()
    }

    /// Content to repeat in a probe when there is nothing new to say: the oldest one not settled.
    pub fn oldest_unacked(&self) -> Option<&T> {
        self.log.oldest()
    }

    /// Contents of all packets neither acknowledged nor lost that ask for an ACK, MTU probes apart, oldest first.
    pub fn unacked(&self) -> impl Iterator<Item = &T> {
        self.log.unacked()
    }

    /// Packets that ask for an ACK and are neither acknowledged nor lost.
    pub fn open_eliciting(&self) -> usize {
        self.log.open_eliciting()
    }

    /// Whether so little was under way that no room is kept for it, now that nothing is.
    pub fn is_at_rest(&self) -> bool {
        self.log.is_at_rest()
    }

    /// `srtt + max(4·rttvar, 1 ms) + max_ack_delay`, without backoff (RFC 9002 §6.2.1).
    pub fn pto(&self) -> Duration {
        self.rtt.timeout() + self.peer_max_ack_delay
    }

    /// Probe timeouts since the last progress.
    pub fn pto_count(&self) -> u32 {
        self.probe.count()
    }

    /// While the anti-amplification limit holds everything back, no probe is armed (RFC 9002 §6.2.2.1).
    pub fn disarm_probe(&mut self, blocked: bool) {
        self.probe.set_blocked(blocked);
    }

    // --- the path ---

    /// The estimate of the round-trip time.
    pub fn rtt(&self) -> Rtt {
        self.rtt
    }

    /// A sample taken elsewhere (the handshake); ignored once the path has its own.
    pub fn seed_rtt(&mut self, sample: Duration) {
        if !self.rtt.is_sampled() {
            self.rtt.sample(sample, Duration::ZERO);
            self.update_pacer();
        }
    }

    /// The path takes UDP payloads of another size.
    pub fn set_max_datagram(&mut self, bytes: u16) {
        self.config.max_datagram = bytes.max(1);
        self.congestion.set_max_datagram(self.max_datagram());
        self.update_pacer();
    }

    /// Another congestion controller, which starts from nothing; what is in flight already tells it nothing.
    pub fn set_algorithm(&mut self, algorithm: Algorithm) {
        self.config.algorithm = algorithm;
        self.congestion.restart(algorithm, self.log.end());
        self.fast_retransmit = false;
        self.update_pacer();
    }

    /// The peer's promise arrived with its parameters.
    pub fn set_peer_max_ack_delay(&mut self, delay: Duration) {
        self.peer_max_ack_delay = delay;
    }

    /// The address changed: RTT and congestion state start over, numbers and the replay window go on
    /// (RFC 9000 §9.4). What is still open is settled as before, but tells nothing about the new path.
    pub fn reset_path(&mut self, _now: Instant) {
        self.path_from = self.log.end();
        self.log.ground();
        self.in_flight = 0;
        self.rtt = Rtt::new(self.config.initial_rtt);
        self.first_sample_at = None;
        self.thresholds = Thresholds::new();
        self.marking.restart();
        self.probe.reset();
        self.congestion.restart(self.config.algorithm, self.path_from);
        self.pacer = Pacer::new();
        self.fast_retransmit = false;
        self.update_pacer();
    }

    /// The peer never took what is still open (a refused early flight, RFC 9001 §4.6.2): all of it counts as lost, which is
    /// no sign of congestion.
    pub fn abandon(&mut self, now: Instant, out: &mut Outcome<T>) {
        let mut from = 0;
        while let Some(number) = self.log.next_open(from, self.log.end()) {
            self.abandon_one(now, number, out);
            from = number + 1;
        }
        self.loss_at = None;
        self.probe.reset();
        self.pacer = Pacer::new();
        self.update_pacer();
    }

    /// Bytes that may be in flight.
    pub fn congestion_window(&self) -> u64 {
        self.congestion.window(&self.rtt)
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        Stats {
            algorithm: self.config.algorithm,
            ecn: self.marking.state(),
            ce_reported: self.marking.reported().ce,
            reordering_packets: self.thresholds.packets(),
            sent_packets: self.sent_packets,
            sent_bytes: self.sent_bytes,
            received_packets: self.window.received_packets(),
            declared_lost: self.declared_lost,
            spurious: self.spurious,
            cwnd: self.congestion_window(),
            in_flight: self.in_flight,
            ssthresh: self.congestion.ssthresh(),
            pacing_bytes_per_s: self.pacer.rate(),
            srtt: self.rtt.smoothed(),
            min_rtt: self.rtt.min(),
            latest_rtt: self.rtt.latest(),
            rttvar: self.rtt.variation(),
            pto_count_total: self.probe.total(),
        }
    }

    /// Allocated bytes, without what the contents hold.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.log.memory() + self.window.memory()
    }

    // --- helpers ---

    fn max_datagram(&self) -> u64 {
        u64::from(self.config.max_datagram.max(1))
    }

    fn room(&self) -> u64 {
        self.congestion_window().saturating_sub(self.in_flight)
    }

    fn window_packets(&self) -> u64 {
        self.congestion_window() / self.max_datagram()
    }

    /// The loss timer goes first: a packet about to be lost needs no probe (RFC 9002 §6.2.1).
    fn probe_at(&self) -> Option<Instant> {
        if self.loss_at.is_some() || self.log.open_eliciting() == 0 || self.log.is_full() {
            return None;
        }
        self.probe.deadline(self.pto())
    }

    /// How long a lost packet is remembered, for its late ACK.
    fn memory_of_losses(&self) -> Duration {
        (self.pto() * 2).max(self.rtt.smoothed())
    }

    fn update_pacer(&mut self) {
        let rate = self.congestion.rate(&self.rtt);
        self.pacer.set_rate(rate, self.max_datagram());
    }
}

#[cfg(test)]
mod tests;

/// Where the time of a test starts.
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other origin; tests only add to it"
)]
fn start() -> Instant {
    Instant::now()
}
