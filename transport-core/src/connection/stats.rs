//! Figures of a connection.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Counters since the start, and gauges of the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnectionStats {
    /// Packets sent, those of control included.
    pub sent_packets: u64,
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Packets that opened.
    pub received_packets: u64,
    /// Bytes of UDP payload of packets that opened.
    pub received_bytes: u64,
    /// Packets declared lost.
    pub declared_lost: u64,
    /// Of those, acknowledged after all.
    pub spurious: u64,
    /// Probe timeouts.
    pub probe_timeouts: u64,
    /// Stream bytes sent again.
    pub retransmitted_bytes: u64,
    /// Stream bytes sent for the first time.
    pub stream_bytes_sent: u64,
    /// Stream bytes the application read.
    pub stream_bytes_read: u64,
    /// Streams open.
    pub streams_open: usize,
    /// Datagram messages sent.
    pub datagrams_sent: u64,
    /// Datagram messages given to the application.
    pub datagrams_received: u64,
    /// Datagram messages dropped before they were sent: queue full, or too long for the path.
    pub datagrams_dropped: u64,
    /// Datagram messages whose time passed before they were sent.
    pub datagrams_expired: u64,
    /// Datagram messages lost on the way.
    pub datagrams_lost: u64,
    /// Received datagram messages the application did not take in time.
    pub datagrams_refused: u64,
    /// Smoothed round-trip time.
    pub srtt: Duration,
    /// Smallest round-trip time.
    pub min_rtt: Duration,
    /// Latest round-trip time.
    pub latest_rtt: Duration,
    /// Mean deviation of the round-trip time.
    pub rttvar: Duration,
    /// Congestion window, bytes.
    pub cwnd: u64,
    /// Bytes sent and neither acknowledged nor lost.
    pub in_flight: u64,
    /// Slow start threshold, bytes.
    pub ssthresh: u64,
    /// Pacing rate, bytes a second.
    pub pacing_bytes_per_s: u64,
    /// Largest UDP payload sent, bytes.
    pub mtu: u16,
    /// Key updates, whoever began.
    pub key_updates: u64,
    /// Changes of the peer's address.
    pub path_changes: u64,
}
