//! How a path starts, and what its calls hand back.

use std::time::Duration;

/// How a path starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// RTT assumed before the first sample; 333 ms (RFC 9002 §6.2.2).
    pub initial_rtt: Duration,
    /// Largest UDP payload in bytes.
    pub max_datagram: u16,
    /// Congestion control.
    pub algorithm: Algorithm,
    /// Decides the first packet number, the skipped ones, and when BBR probes.
    pub seed: u64,
    /// The peer's promise of how long it may delay an ACK.
    pub peer_max_ack_delay: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_rtt: Duration::from_millis(333),
            max_datagram: 1232,
            algorithm: Algorithm::default(),
            seed: 0,
            peer_max_ack_delay: Duration::from_millis(25),
        }
    }
}

/// The congestion controller of a path.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Algorithm {
    /// CUBIC (RFC 9438) with `HyStart++` (RFC 9406).
    Cubic,
    /// BBRv3 (draft-ietf-ccwg-bbr-06).
    #[default]
    Bbr,
    /// BBRv3 that learns what a radio link loses without a queue and tolerates it, up to 10 %. Plain BBRv3 yields above 2 %.
    BbrLossy,
    /// A constant rate, blind to loss: for links with a contract, and for tests.
    Fixed {
        /// Bytes of UDP payload a second.
        bytes_per_s: u64,
    },
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
        Self {
            acked: Vec::new(),
            lost: Vec::new(),
            spurious: 0,
            persistent_congestion: false,
            rtt_updated: false,
        }
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
