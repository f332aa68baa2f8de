//! The only reads of the clocks in the workspace.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::engine::Now;

/// Both clocks, read together: `instant` moves protocol time, `unix_ms` is for bundles and handshakes only.
#[expect(clippy::disallowed_methods, reason = "one of the two clock reads")]
pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        instant: instant(),
        unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
    }
}

/// The clock of the protocol alone, at half the price: for what is done with every packet.
#[expect(
    clippy::disallowed_methods,
    reason = "the other clock read: everything else is given an instant or `Now`"
)]
pub fn instant() -> Instant {
    Instant::now()
}
