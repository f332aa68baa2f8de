//! What an endpoint holds stays under what its limits allow.

/// Bytes that one connection may hold at most: both windows, its send buffers and its bookkeeping.
pub const CONNECTION_BOUND: usize = 96 << 20;

/// Whether `peak` bytes are within bounds for `connections` connections, both ends counted.
pub fn within_bounds(peak: usize, connections: usize) -> bool {
    peak <= connections.max(1) * CONNECTION_BOUND
}
