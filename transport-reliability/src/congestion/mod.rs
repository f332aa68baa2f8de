//! How much may be in flight: congestion events and rounds here, windows and rates in the algorithms.

mod bbr;
mod cubic;
mod hystart;

use std::time::{Duration, Instant};

use crate::rtt::Rtt;
use crate::{Algorithm, sent};
use bbr::Bbr;
pub(crate) use bbr::{Moment, Packet, Stamp};
use cubic::Cubic;

/// No window beyond what the sent log can follow twice over.
const MAX_WINDOW_PACKETS: u64 = sent::MAX_SPAN as u64 / 2;
/// Before a Fixed path knows its RTT, and the least it assumes.
const FIXED_SPAN: Duration = Duration::from_millis(100);

/// `min(10·MDS, max(14720, 2·MDS))` (RFC 9002 §7.2).
pub(crate) fn initial_window(max_datagram: u64) -> u64 {
    (10 * max_datagram).min(14_720.max(2 * max_datagram))
}

/// One ACK frame's worth of progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) now: Instant,
    /// Bytes newly acknowledged that were sent after the last congestion event.
    pub(crate) bytes: u64,
    /// Largest number newly acknowledged, and the largest sent.
    pub(crate) largest: u64,
    pub(crate) largest_sent: u64,
    /// Bytes in flight, after what this ACK took out of it.
    pub(crate) in_flight: u64,
    /// The sender ran out of data before it ran out of permit.
    pub(crate) app_limited: bool,
    /// A fresh sample came with it.
    pub(crate) sample: Option<Duration>,
}

/// ACKs a controller lives well with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rhythm {
    /// One for each such part of the window.
    pub(crate) windows: u64,
    /// And for each such part of the round-trip time.
    pub(crate) rtts: u32,
}

/// One enum, not a trait: every algorithm is known, and a call is a jump.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one a path; a box would cost a jump an ACK"
)]
enum Congestion {
    Cubic(Cubic),
    Bbr(Bbr),
    Fixed { bytes_per_s: u64 },
}

/// The packets lost to one reduction of the window.
#[derive(Default, Debug)]
struct Event {
    id: u32,
    lost: u32,
    late: u32,
}

/// The congestion controller of one path.
#[derive(Debug)]
pub(crate) struct Controller {
    congestion: Congestion,
    max_datagram: u64,
    seed: u64,
    /// Losses up to this number belong to the last event: one reduction a round trip.
    recovery_until: Option<u64>,
    /// What was sent before this number is none of its business.
    from: u64,
    event: Event,
    /// The round ends when something sent after this number is acknowledged.
    round_until: Option<u64>,
    usage: Usage,
}

/// How much of the window was used in this round and the one before (RFC 9002 §7.8).
#[derive(Default, Debug)]
struct Usage {
    most: [u64; 2],
    filled: [bool; 2],
}

impl Usage {
    fn round(&mut self) {
        self.most = [0, self.most[0]];
        self.filled = [false, self.filled[0]];
    }

    fn note(&mut self, in_flight: u64, filled: bool) {
        self.most[0] = self.most[0].max(in_flight);
        self.filled[0] |= filled;
    }

    fn most(&self) -> u64 {
        self.most[0].max(self.most[1])
    }

    fn filled(&self) -> bool {
        self.filled[0] || self.filled[1]
    }
}

impl Controller {
    /// `seed` decides when BBR probes.
    pub(crate) fn new(algorithm: Algorithm, max_datagram: u64, seed: u64) -> Self {
        let congestion = match algorithm {
            Algorithm::Cubic => Congestion::Cubic(Cubic::new(max_datagram)),
            Algorithm::Bbr => Congestion::Bbr(Bbr::new(max_datagram, seed, false)),
            Algorithm::BbrLossy => Congestion::Bbr(Bbr::new(max_datagram, seed, true)),
            Algorithm::Fixed { bytes_per_s } => Congestion::Fixed { bytes_per_s },
        };
        Self {
            congestion,
            max_datagram,
            seed,
            recovery_until: None,
            from: 0,
            event: Event::default(),
            round_until: None,
            usage: Usage::default(),
        }
    }

    /// Another path, or another algorithm: a new controller that does not mistake old events for its own.
    pub(crate) fn restart(&mut self, algorithm: Algorithm, from: u64) {
        let id = self.event.id.wrapping_add(1);
        *self = Self::new(algorithm, self.max_datagram, self.seed.wrapping_add(1));
        self.event.id = id;
        // What was sent before says nothing about what comes now.
        self.recovery_until = from.checked_sub(1);
        self.from = from;
    }

    /// Congestion window in bytes.
    pub(crate) fn window(&self, rtt: &Rtt) -> u64 {
        let window = match &self.congestion {
            Congestion::Cubic(cubic) => cubic.window(),
            Congestion::Bbr(bbr) => bbr.window(),
            Congestion::Fixed { bytes_per_s } => {
                let span = if rtt.is_sampled() {
                    FIXED_SPAN.max(rtt.smoothed() * 2)
                } else {
                    FIXED_SPAN
                };
                (*bytes_per_s as f64 * span.as_secs_f64()) as u64
            }
        };
        window.clamp(2 * self.max_datagram, MAX_WINDOW_PACKETS * self.max_datagram)
    }

    /// Whether marks of the network change anything.
    pub(crate) fn heeds_marks(&self) -> bool {
        !matches!(self.congestion, Congestion::Fixed { .. })
    }

    /// Slow-start threshold in bytes; `u64::MAX` before the first event.
    pub(crate) fn ssthresh(&self) -> u64 {
        match &self.congestion {
            Congestion::Cubic(cubic) => cubic.ssthresh(),
            Congestion::Bbr(_) | Congestion::Fixed { .. } => u64::MAX,
        }
    }

    /// Pacing rate in bytes a second; `None` while it would be a guess.
    pub(crate) fn rate(&self, rtt: &Rtt) -> Option<u64> {
        match &self.congestion {
            Congestion::Cubic(cubic) => {
                let gain = if cubic.in_slow_start() { 2.0 } else { 1.25 };
                let rate = gain * self.window(rtt) as f64 / rtt.smoothed().as_secs_f64();
                rtt.is_sampled().then_some(rate as u64)
            }
            Congestion::Bbr(bbr) => Some(bbr.rate(rtt)),
            Congestion::Fixed { bytes_per_s } => Some(*bytes_per_s),
        }
    }

    pub(crate) fn set_max_datagram(&mut self, bytes: u64) {
        self.max_datagram = bytes;
        match &mut self.congestion {
            Congestion::Cubic(cubic) => cubic.set_max_datagram(bytes),
            Congestion::Bbr(bbr) => bbr.set_max_datagram(bytes),
            Congestion::Fixed { .. } => {}
        }
    }

    /// A packet of `size` leaves; `moment` counts it as in flight. What it is to remember comes back.
    pub(crate) fn on_sent(&mut self, moment: Moment, size: u64, rtt: &Rtt) -> Stamp {
        if let Congestion::Bbr(bbr) = &mut self.congestion {
            return bbr.on_sent(moment, size, rtt);
        }
        let filled = moment.in_flight + self.max_datagram > self.window(rtt);
        self.usage.note(moment.in_flight, filled);
        Stamp::default()
    }

    /// The data ran out before the permit did.
    pub(crate) fn on_app_limited(&mut self, in_flight: u64) {
        if let Congestion::Bbr(bbr) = &mut self.congestion {
            bbr.on_app_limited(in_flight);
        }
    }

    /// A packet of this path was newly acknowledged, late or not; [`on_ack`](Self::on_ack) follows.
    pub(crate) fn on_packet_acked(&mut self, now: Instant, packet: Packet) {
        if let (Congestion::Bbr(bbr), true) = (&mut self.congestion, packet.number >= self.from) {
            bbr.on_acked(now, packet);
        }
    }

    /// A packet was lost to congestion, and [`on_lost`](Self::on_lost) told of it. `new_range`: it does not
    /// continue a run of losses.
    pub(crate) fn on_packet_lost(&mut self, moment: Moment, packet: Packet, new_range: bool) {
        if let (Congestion::Bbr(bbr), true) = (&mut self.congestion, packet.number >= self.from) {
            bbr.on_lost(moment, &packet, new_range);
        }
    }

    /// Packets of `bytes` in all were marked instead of dropped; `packet` stands for them. As a loss, it counts once a
    /// round trip.
    pub(crate) fn on_marked(&mut self, moment: Moment, packet: Packet, bytes: u64, largest_sent: u64) {
        if packet.number < self.from {
            return;
        }
        match &mut self.congestion {
            Congestion::Bbr(bbr) => bbr.on_marked(moment, &packet, bytes),
            Congestion::Cubic(cubic) if self.recovery_until.is_none_or(|until| packet.number > until) => {
                cubic.on_marked();
                self.begin_event(largest_sent);
                // No late ACK shows a mark to have been wrong.
                self.event.lost = 1;
            }
            Congestion::Cubic(_) | Congestion::Fixed { .. } => {}
        }
    }

    /// How often ACKs shall come; none: as they do by themselves.
    pub(crate) fn rhythm(&self) -> Option<Rhythm> {
        match &self.congestion {
            Congestion::Cubic(cubic) => (!cubic.in_slow_start()).then_some(Rhythm { windows: 4, rtts: 4 }),
            Congestion::Bbr(bbr) => bbr.rhythm(),
            Congestion::Fixed { .. } => None,
        }
    }

    fn begin_event(&mut self, largest_sent: u64) {
        self.recovery_until = Some(largest_sent);
        self.event = Event {
            id: self.event.id.wrapping_add(1),
            lost: 0,
            late: 0,
        };
    }

    /// Whether the acknowledgement of `number` may grow the window: it was sent after the last reduction.
    pub(crate) fn counts(&self, number: u64) -> bool {
        self.recovery_until.is_none_or(|until| number > until)
    }

    /// An ACK frame made progress.
    pub(crate) fn on_ack(&mut self, progress: Progress, rtt: &Rtt) {
        if let Congestion::Bbr(bbr) = &mut self.congestion {
            if self.recovery_until.is_none_or(|until| progress.largest > until) {
                bbr.on_recovery_end();
            }
            let (now, in_flight) = (progress.now, progress.in_flight);
            bbr.on_ack(Moment { now, in_flight }, rtt);
            return;
        }
        let used = self.is_used(progress.app_limited, rtt);
        let ended = self.round_until.is_none_or(|until| progress.largest > until);
        if ended {
            self.round_until = Some(progress.largest_sent);
            self.usage.round();
        }
        if let Congestion::Cubic(cubic) = &mut self.congestion {
            if ended {
                cubic.on_round();
            }
            if let Some(sample) = progress.sample {
                cubic.on_rtt(sample);
            }
            // The ACK that shows the loss does not also grow the window.
            let bytes = if self.recovery_until.is_none_or(|until| progress.largest > until) {
                progress.bytes
            } else {
                0
            };
            cubic.on_ack(progress.now, bytes, used, rtt.smoothed());
        }
    }

    /// Whether the window, not the application, was the limit (RFC 9002 §7.8).
    fn is_used(&self, app_limited: bool, rtt: &Rtt) -> bool {
        let in_slow_start = matches!(&self.congestion, Congestion::Cubic(cubic) if cubic.in_slow_start());
        !app_limited || self.usage.filled() || (in_slow_start && 2 * self.usage.most() >= self.window(rtt))
    }

    /// A packet was lost to congestion; the event it belongs to, and whether the event is new.
    pub(crate) fn on_lost(&mut self, number: u64, largest_sent: u64) -> (u32, bool) {
        let fresh = self.counts(number);
        if fresh {
            self.begin_event(largest_sent);
            match &mut self.congestion {
                Congestion::Cubic(cubic) => cubic.on_congestion(),
                Congestion::Bbr(bbr) => bbr.on_recovery_start(),
                Congestion::Fixed { .. } => {}
            }
        }
        self.event.lost += 1;
        (self.event.id, fresh)
    }

    /// A packet of `event` was acknowledged after all; undoes the reduction once none is missing.
    pub(crate) fn on_spurious(&mut self, event: u32) {
        if event != self.event.id {
            return;
        }
        self.event.late += 1;
        if self.event.late != self.event.lost {
            return;
        }
        let undone = match &mut self.congestion {
            Congestion::Cubic(cubic) => cubic.undo(),
            Congestion::Bbr(bbr) => {
                bbr.on_spurious_event();
                true
            }
            Congestion::Fixed { .. } => false,
        };
        if undone {
            self.recovery_until = None;
        }
    }

    /// RFC 9002 §7.6.2: the window collapses to its minimum.
    pub(crate) fn on_persistent_congestion(&mut self, in_flight: u64) {
        match &mut self.congestion {
            Congestion::Cubic(cubic) => cubic.on_persistent_congestion(),
            Congestion::Bbr(bbr) => bbr.on_persistent_congestion(in_flight),
            Congestion::Fixed { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
