//! What each side allows.

use std::time::Duration;

/// What we allow, ourselves and the peer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes a stream may carry before it is read, at first.
    pub initial_stream_window: u64,
    /// Bytes all streams together may carry before they are read, at first.
    pub initial_connection_window: u64,
    /// Where the window of a stream stops growing, bytes.
    pub max_stream_window: u64,
    /// Where the window of the connection stops growing, bytes.
    pub max_connection_window: u64,
    /// Bidirectional streams the peer may have open at once.
    pub max_streams_bi: u64,
    /// Unidirectional streams the peer may have open at once.
    pub max_streams_uni: u64,
    /// Bytes written to one stream and not yet acknowledged, at least.
    pub send_buffer: usize,
    /// The same, at most: on long fat paths the buffer grows to twice the congestion window, or it would be the limit.
    pub max_send_buffer: usize,
    /// The same, over all streams.
    pub send_buffer_total: usize,
    /// Bytes of one stream that wait to be sent for the first time, at least one. More would leave the cache before they are sealed, and
    /// would have been written before anybody knew what matters by then.
    pub send_ahead: usize,
    /// Disjoint pieces a stream may be received in; over it a packet is refused.
    pub max_receive_segments: usize,
    /// Bytes of datagrams waiting, a constant cost for each included.
    pub datagram_queue_bytes: usize,
    /// How long a datagram may wait.
    pub datagram_max_age: Duration,
    /// Bytes of datagrams waiting that name a flow, a constant cost for each included. Neither of the two bounds above is theirs.
    pub flow_queue_bytes: usize,
    /// How long a realtime message may wait when nothing else is said.
    pub realtime_deadline: Duration,
    /// Streams the peer may cancel in a round-trip time, beyond those it may have open at once.
    pub max_resets_per_rtt: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            initial_stream_window: 256 * 1024,
            initial_connection_window: 768 * 1024,
            max_stream_window: 24 << 20,
            max_connection_window: 32 << 20,
            max_streams_bi: 256,
            max_streams_uni: 256,
            send_buffer: 4 << 20,
            max_send_buffer: 24 << 20,
            send_buffer_total: 32 << 20,
            send_ahead: 512 * 1024,
            max_receive_segments: 1024,
            datagram_queue_bytes: 64 * 1024,
            datagram_max_age: Duration::from_millis(100),
            // What CoDel lets stand, 5 ms, and a round of it above, at several gigabits a second: a bound that is met before CoDel
            // drops dozens where it would drop one. On slower links CoDel keeps the queues far shorter.
            flow_queue_bytes: 4 << 20,
            realtime_deadline: Duration::from_millis(150),
            max_resets_per_rtt: 100,
        }
    }
}

impl Limits {
    /// What to tell the peer of these at the start.
    #[must_use]
    pub fn announce(&self, max_datagram: u64) -> PeerLimits {
        PeerLimits {
            max_data: self.initial_connection_window,
            max_stream_data_bidi_local: self.initial_stream_window,
            max_stream_data_bidi_remote: self.initial_stream_window,
            max_stream_data_uni: self.initial_stream_window,
            max_streams_bidi: self.max_streams_bi,
            max_streams_uni: self.max_streams_uni,
            max_datagram,
        }
    }
}

/// What the peer allowed in its parameters (RFC 9000 §18.2, from its point of view: `local` streams are those it opens).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerLimits {
    /// Bytes over all streams.
    pub max_data: u64,
    /// Bytes on each bidirectional stream it opens.
    pub max_stream_data_bidi_local: u64,
    /// Bytes on each bidirectional stream we open.
    pub max_stream_data_bidi_remote: u64,
    /// Bytes on each unidirectional stream we open.
    pub max_stream_data_uni: u64,
    /// Bidirectional streams we may open.
    pub max_streams_bidi: u64,
    /// Unidirectional streams we may open.
    pub max_streams_uni: u64,
    /// Largest datagram payload it takes, bytes; zero: none.
    pub max_datagram: u64,
}
