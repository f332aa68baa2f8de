//! Figures of a connection.
#![forbid(unsafe_code)]

use std::time::Duration;

use transport_reliability::{Algorithm, EcnState, Stats};
use transport_scheduler::{QueueState, Scheduler};

use super::keys::Keys;
use super::path::Paths;

/// Counters since the start, and gauges of the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnectionStats {
    /// Packets sent, those of control included.
    pub sent_packets: u64,
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Of those, packets that went along with the first flight.
    pub early_packets: u64,
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
    /// Datagram messages dropped before they were sent: queue full or standing, or too long for the path.
    pub datagrams_dropped: u64,
    /// Of those, the ones dropped so that the sender of their flow slows down, whose queue stood for too long (RFC 8289).
    pub datagrams_dropped_by_delay: u64,
    /// Of those, the ones that no longer fitted after the path narrowed.
    pub datagrams_too_large: u64,
    /// Datagram messages whose time passed before they were sent.
    pub datagrams_expired: u64,
    /// Datagram messages lost on the way.
    pub datagrams_lost: u64,
    /// Datagram messages that wait to be sent, and how long the oldest has.
    pub datagram_queue: QueueState,
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
    /// The congestion controller at work.
    pub algorithm: Algorithm,
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
    /// Whether the path carries ECN marks.
    pub ecn: EcnState,
    /// Packets that arrived marked with CE, and those the peer says did.
    pub received_ce: u64,
    /// See `received_ce`.
    pub reported_ce: u64,
    /// Requests for another rhythm of ACKs made, and the peer's.
    pub ack_frequency_sent: u64,
    /// See `ack_frequency_sent`.
    pub ack_frequency_received: u64,
    /// Numbers a packet may stay behind before it counts as lost; 3 until the path reorders.
    pub reordering_packets: u64,
    /// Key updates, whoever began.
    pub key_updates: u64,
    /// Changes of the peer's address.
    pub path_changes: u64,
    /// Paths on which packets leave one by one, because of batches only the first ones arrived.
    pub batches_stopped: u64,
}

/// What no component counts by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent_packets: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) early_packets: u64,
    pub(crate) received_packets: u64,
    pub(crate) received_bytes: u64,
    pub(crate) datagrams_received: u64,
    pub(crate) datagrams_refused: u64,
    pub(crate) path_changes: u64,
    pub(crate) received_ce: u64,
    pub(crate) batches_stopped: u64,
}

/// One view of all components.
pub(crate) fn collect(
    counters: &Counters,
    paths: &Paths,
    keys: Option<&Keys>,
    scheduler: &Scheduler,
    requests: (u64, u64),
) -> ConnectionStats {
    let (recovery, streams) = (paths.active.recovery.stats(), scheduler.stats());
    let sum =
        |count: fn(&Stats) -> u64| -> u64 { paths.iter().map(|path| count(&path.recovery.stats())).sum() };
    ConnectionStats {
        sent_packets: counters.sent_packets,
        sent_bytes: counters.sent_bytes,
        early_packets: counters.early_packets,
        received_packets: counters.received_packets,
        received_bytes: counters.received_bytes,
        declared_lost: paths.gone.declared_lost + sum(|stats| stats.declared_lost),
        spurious: paths.gone.spurious + sum(|stats| stats.spurious),
        probe_timeouts: paths.gone.probe_timeouts + sum(|stats| stats.pto_count_total),
        retransmitted_bytes: streams.retransmitted_bytes,
        stream_bytes_sent: streams.sent_bytes,
        stream_bytes_read: streams.read_bytes,
        streams_open: streams.streams_open,
        datagrams_sent: streams.datagrams_sent,
        datagrams_received: counters.datagrams_received,
        datagrams_dropped: streams.datagrams_dropped,
        datagrams_dropped_by_delay: streams.datagrams_dropped_by_delay,
        datagrams_too_large: streams.datagrams_too_large,
        datagrams_expired: streams.datagrams_expired,
        datagrams_lost: streams.datagrams_lost,
        datagram_queue: scheduler.datagram_queue(),
        datagrams_refused: counters.datagrams_refused,
        srtt: recovery.srtt,
        min_rtt: recovery.min_rtt,
        latest_rtt: recovery.latest_rtt,
        rttvar: recovery.rttvar,
        algorithm: recovery.algorithm,
        cwnd: recovery.cwnd,
        in_flight: recovery.in_flight,
        ssthresh: recovery.ssthresh,
        pacing_bytes_per_s: recovery.pacing_bytes_per_s,
        mtu: paths.active.mtu.current(),
        key_updates: keys.map_or(0, Keys::updates),
        path_changes: counters.path_changes,
        ecn: recovery.ecn,
        received_ce: counters.received_ce,
        batches_stopped: counters.batches_stopped,
        reported_ce: recovery.ce_reported,
        ack_frequency_sent: requests.0,
        ack_frequency_received: requests.1,
        reordering_packets: recovery.reordering_packets,
    }
}
