//! The only clock read in the workspace.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::engine::Now;

/// Both clocks, read together: `instant` moves protocol time, `unix_ms` is for bundles and handshakes only.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock read: everything else is given `Now`"
)]
pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        instant: Instant::now(),
        unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
    }
}
