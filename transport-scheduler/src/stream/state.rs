//! The states of the two halves (RFC 9000 §3), in its words where it has them.
//!
//! ```text
//!  sending                                         receiving
//!
//!  Send ──finish──▶ DataSent ──all acked──▶ gone   Recv ──fin──▶ SizeKnown ──all read──▶ gone
//!   │                  │                            │               │
//!   └──reset / stop────┤                            └──reset────────┤
//!                      ▼                                            ▼
//!                  ResetSent ──acked──▶ gone                   ResetRecvd ──told──▶ gone
//! ```
//!
//! `DataSent` begins when the application finishes, which may be before the last byte has left. A receiving half that the
//! application stopped is gone as soon as its final size is known.

/// State of a sending half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SendState {
    /// Takes writes.
    Send,
    /// All is written; the end is sent, or waits behind the last bytes.
    DataSent,
    /// Given up.
    ResetSent {
        /// The application's code, or the peer's if it asked us to stop.
        code: u64,
    },
}

/// State of a receiving half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RecvState {
    /// The end is not known.
    Recv,
    /// The end is known; bytes may be missing.
    SizeKnown {
        /// Where it ends.
        final_size: u64,
    },
    /// The peer gave up.
    ResetRecvd {
        /// Its code.
        code: u64,
        /// Where it ends.
        final_size: u64,
    },
}

impl RecvState {
    /// Where the stream ends, if that is known.
    pub(crate) fn final_size(self) -> Option<u64> {
        match self {
            Self::Recv => None,
            Self::SizeKnown { final_size } | Self::ResetRecvd { final_size, .. } => Some(final_size),
        }
    }
}
