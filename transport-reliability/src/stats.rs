//! What a path tells about itself.

use std::time::Duration;

use crate::{Algorithm, EcnState};

/// Counters and gauges of a path.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// The congestion controller at work.
    pub algorithm: Algorithm,
    /// What is known of the path's treatment of ECN.
    pub ecn: EcnState,
    /// Packets the peer says came marked with CE.
    pub ce_reported: u64,
    /// Numbers a packet may lag behind before it counts as lost.
    pub reordering_packets: u64,
    /// Packets sent, ACK-only ones included.
    pub sent_packets: u64,
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Packets accepted by the replay window.
    pub received_packets: u64,
    /// Packets declared lost, MTU probes included.
    pub declared_lost: u64,
    /// Of those, packets acknowledged after all.
    pub spurious: u64,
    /// Congestion window in bytes.
    pub cwnd: u64,
    /// Bytes in flight.
    pub in_flight: u64,
    /// Slow-start threshold in bytes; `u64::MAX` before the first congestion event.
    pub ssthresh: u64,
    /// Pacing rate; zero while unpaced.
    pub pacing_bytes_per_s: u64,
    /// Smoothed RTT.
    pub srtt: Duration,
    /// Smallest RTT.
    pub min_rtt: Duration,
    /// Latest RTT.
    pub latest_rtt: Duration,
    /// Mean deviation of the RTT.
    pub rttvar: Duration,
    /// Probe timeouts ever.
    pub pto_count_total: u64,
}
