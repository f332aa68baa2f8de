//! How far a connection is. All transitions stand here.
//!
//! ```text
//! Unconfirmed ──confirm──▶ Confirmed ──┬─close─▶ Closing ──peer closes──▶ Draining ──┐
//!      └───────────────────────────────┼─peer closes────────────────────▶ Draining ──┼─3 PTO─▶ Closed
//!                                      └─idle, keys used up─────────────────────────────────▶ Closed
//! ```
//! A relay is confirmed from the start: its connection is built on the client's first valid packet. A client is by
//! HANDSHAKE_DONE.
#![forbid(unsafe_code)]

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Keys exist; the peer is not known to have them.
    Unconfirmed,
    /// The peer has the keys.
    Confirmed,
    /// We closed; CLOSE is repeated to whoever still speaks (RFC 9000 §10.2.1).
    Closing,
    /// The peer closed; nothing is said any more (RFC 9000 §10.2.2).
    Draining,
    /// Nothing is left to do.
    Closed,
}

impl State {
    /// Neither closing nor closed.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Unconfirmed | Self::Confirmed)
    }

    /// The peer has the keys. False when that was known, or matters no more.
    pub(crate) fn confirm(&mut self) -> bool {
        let first = *self == Self::Unconfirmed;
        if first {
            *self = Self::Confirmed;
        }
        first
    }

    /// We close. False when the connection is not open.
    pub(crate) fn close(&mut self) -> bool {
        let open = self.is_open();
        if open {
            *self = Self::Closing;
        }
        open
    }

    /// The peer closed. True the first time.
    pub(crate) fn drain(&mut self) -> bool {
        let first = self.is_open() || *self == Self::Closing;
        if first {
            *self = Self::Draining;
        }
        first
    }

    /// It is over.
    pub(crate) fn finish(&mut self) {
        *self = Self::Closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_back() {
        let mut state = State::Unconfirmed;
        assert!(state.confirm() && !state.confirm());
        assert!(state.close() && !state.close() && !state.confirm());
        assert_eq!(state, State::Closing);
        assert!(state.drain() && !state.drain() && !state.close());
        state.finish();
        assert!(!state.drain() && !state.close() && !state.is_open());
        assert_eq!(state, State::Closed);
    }
}
