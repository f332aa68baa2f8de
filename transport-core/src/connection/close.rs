//! The last words: CLOSE, its repetitions, and why.
#![forbid(unsafe_code)]

use crate::error::{Breach, By, CloseReason};
use crate::wire::frame::Close;

/// The longest reason of an application that is kept or sent, in bytes.
const MAX_REASON: usize = 1000;

/// What closing needs to remember.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    reason: Option<CloseReason>,
    frame_type: u64,
    /// CLOSE is to be sent.
    due: bool,
    /// Packets that arrived since, and how many make the next CLOSE due (RFC 9000 §10.2.1).
    arrived: u64,
    next_reply: u64,
    /// The application has been told.
    told: bool,
}

impl Closing {
    /// Our application closes.
    pub(crate) fn by_application(&mut self, code: u64, reason: &[u8]) {
        let reason = reason.get(..MAX_REASON).unwrap_or(reason).to_vec();
        self.begin(
            CloseReason::Application {
                code,
                reason,
                by: By::Local,
            },
            0,
            true,
        );
    }

    /// The peer broke a rule.
    pub(crate) fn by_breach(&mut self, breach: Breach) {
        self.begin(CloseReason::violation(breach.code), breach.frame_type, true);
    }

    /// The peer closed, or nobody is left to talk to.
    pub(crate) fn silently(&mut self, reason: CloseReason) {
        self.begin(reason, 0, false);
    }

    /// The first reason stands.
    fn begin(&mut self, reason: CloseReason, frame_type: u64, due: bool) {
        if self.reason.is_none() {
            (self.reason, self.frame_type, self.next_reply) = (Some(reason), frame_type, 1);
        }
        self.due = due;
    }

    /// A packet arrived while closing: every so often it is answered, ever more rarely.
    pub(crate) fn on_packet(&mut self) {
        self.arrived += 1;
        if self.arrived >= self.next_reply {
            self.next_reply = self.next_reply.saturating_mul(2);
            self.due = true;
        }
    }

    /// The frame to send now, if one is due; asking takes it.
    pub(crate) fn take_frame(&mut self) -> Option<Close<'_>> {
        if !std::mem::take(&mut self.due) {
            return None;
        }
        match self.reason.as_ref()? {
            CloseReason::Application { code, reason, .. } => Some(Close {
                code: *code,
                frame_type: None,
                reason,
            }),
            CloseReason::Transport { code, .. } | CloseReason::Refused { code } => Some(Close {
                code: *code,
                frame_type: Some(self.frame_type),
                reason: &[],
            }),
            CloseReason::Idle | CloseReason::HandshakeTimeout => None,
        }
    }

    /// Whether a frame is due.
    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    /// Why, once: for the application.
    pub(crate) fn take_news(&mut self) -> Option<CloseReason> {
        let news = self.reason.clone().filter(|_| !self.told);
        self.told |= news.is_some();
        news
    }

    /// Whether the application has been told.
    pub(crate) fn has_told(&self) -> bool {
        self.told
    }
}

/// What the peer's CLOSE means.
pub(crate) fn reason_of(close: &Close<'_>) -> CloseReason {
    match close.frame_type {
        Some(_) => CloseReason::Transport {
            code: close.code,
            by: By::Peer,
        },
        None => {
            let reason = close.reason.get(..MAX_REASON).unwrap_or(close.reason).to_vec();
            CloseReason::Application {
                code: close.code,
                reason,
                by: By::Peer,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_become_rarer() {
        let mut closing = Closing::default();
        closing.by_application(7, b"bye");
        let frame = Close {
            code: 7,
            frame_type: None,
            reason: b"bye",
        };
        assert_eq!(closing.take_frame(), Some(frame));
        let replies = (1..=1000).filter(|_| {
            closing.on_packet();
            closing.take_frame().is_some()
        });
        assert_eq!(replies.count(), 10);
    }

    #[test]
    fn the_first_reason_stands_and_is_told_once() {
        let mut closing = Closing::default();
        closing.by_breach(Breach::new(10, 8));
        closing.silently(CloseReason::Idle);
        assert_eq!(closing.take_frame(), None);
        assert_eq!(
            closing.take_news(),
            Some(CloseReason::Transport {
                code: 10,
                by: By::Local
            })
        );
        assert_eq!(closing.take_news(), None);
    }
}
