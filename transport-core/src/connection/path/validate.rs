//! Proof of addresses: PATH_CHALLENGE and PATH_RESPONSE (RFC 9000 §8.2, §9).
//!
//! When the newest packet comes from a new address, that address becomes the candidate: it is asked for a proof while
//! everything else still goes to the old one. Only an answer *from the candidate itself* makes it the path, so whoever
//! replays a packet from elsewhere gains nothing. Until then it gets at most three times what came from it.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::buffer::Route;
use crate::wire::ConnectionId;

/// Challenges sent to one address.
const ATTEMPTS: usize = 3;
/// Answers that wait to be sent.
const MAX_RESPONSES: usize = 4;
/// Bytes that may be sent for one received, before the address is proved (RFC 9000 §8.1).
pub(crate) const AMPLIFICATION: usize = 3;
/// What a challenge is padded to, so that the path is known to carry it.
pub(crate) const PADDED: usize = 1200;
/// The same for the last attempt, in case such a size does not pass, and for answers to what was no larger.
pub(crate) const PADDED_LITTLE: usize = 900;

/// An address that must prove itself.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) route: Route,
    challenges: [Option<[u8; 8]>; ATTEMPTS],
    next_at: Option<Instant>,
    expires_at: Option<Instant>,
    received: usize,
    sent: usize,
    /// It took the last attempt, which is a small one.
    pub(crate) narrow: bool,
    /// Packets there carry this connection id instead of the path's.
    pub(crate) cid: Option<ConnectionId>,
}

impl Candidate {
    /// Heard from with a datagram of `size` bytes.
    pub(crate) fn new(route: Route, size: usize, now: Instant) -> Self {
        Self {
            route,
            challenges: [None; ATTEMPTS],
            next_at: Some(now),
            expires_at: None,
            received: size,
            sent: 0,
            narrow: false,
            cid: None,
        }
    }

    /// An address we want to know about by ourselves: the peer's own, so that nobody else is hit by what goes there.
    pub(crate) fn of_ours(route: Route, now: Instant) -> Self {
        Self::new(route, usize::MAX, now)
    }

    /// When the newest challenge counts as unanswered.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }

    /// Heard from again.
    pub(crate) fn received(&mut self, size: usize) {
        self.received = self.received.saturating_add(size);
    }

    /// Bytes that may still be sent there.
    pub(crate) fn allowance(&self) -> usize {
        self.received
            .saturating_mul(AMPLIFICATION)
            .saturating_sub(self.sent)
    }

    /// Of the bytes that came from there, those nothing was sent for.
    pub(crate) fn unspent(&self) -> usize {
        self.allowance() / AMPLIFICATION
    }

    /// Bytes were sent there.
    pub(crate) fn sent(&mut self, size: usize) {
        self.sent = self.sent.saturating_add(size);
    }

    /// Whether a challenge is to be sent now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next_at.is_some_and(|at| at <= now)
    }

    /// Whether the next challenge is the last one.
    pub(crate) fn is_last(&self) -> bool {
        self.challenges.iter().take(ATTEMPTS - 1).all(Option::is_some)
    }

    /// A challenge left; it is waited for as long as a probe would be.
    pub(crate) fn challenged(&mut self, data: [u8; 8], now: Instant, pto: Duration) {
        let attempt = self.challenges.iter().take_while(|slot| slot.is_some()).count();
        if let Some(slot) = self.challenges.get_mut(attempt) {
            *slot = Some(data);
        }
        self.narrow = attempt + 1 >= ATTEMPTS;
        self.next_at = None;
        self.expires_at = Some(now + pto * (1 << attempt.min(ATTEMPTS)));
    }

    /// Nothing came in time. False: that was the last attempt.
    pub(crate) fn timed_out(&mut self, now: Instant) -> bool {
        self.expires_at = None;
        let again = self.challenges.iter().any(Option::is_none);
        if again {
            self.next_at = Some(now);
        }
        again
    }

    /// Whether an answer from `route` proves this address.
    pub(crate) fn is_proved_by(&self, data: [u8; 8], route: Route) -> bool {
        route.remote == self.route.remote && self.challenges.contains(&Some(data))
    }
}

/// An answer that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Response {
    pub(crate) route: Route,
    pub(crate) data: [u8; 8],
    /// The challenge came in a small datagram: an answer in a larger one might not arrive.
    pub(crate) narrow: bool,
}

/// Answers to the peer's challenges; of too many the newest count.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    waiting: VecDeque<Response>,
    /// When the last one went although there was no room in the congestion window.
    beyond: Option<Instant>,
}

impl Responses {
    /// The peer asks `route` for a proof, in a datagram of `size` bytes.
    pub(crate) fn push(&mut self, route: Route, data: [u8; 8], size: usize) {
        if self.waiting.len() >= MAX_RESPONSES {
            self.waiting.pop_front();
        }
        let narrow = size < PADDED;
        self.waiting.push_back(Response { route, data, narrow });
    }

    /// The next answer. While the window is `crowded` only one in `pto`: were it none, a peer that has moved would wait for the
    /// answer and this end for the acknowledgements that go where it was, for ever.
    pub(crate) fn pop(&mut self, crowded: bool, now: Instant, pto: Duration) -> Option<Response> {
        let since = self.beyond.map(|at| now.saturating_duration_since(at));
        if crowded && since.is_some_and(|since| since < pto) {
            return None;
        }
        let next = self.waiting.pop_front();
        if crowded && next.is_some() {
            self.beyond = Some(now);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(port: u16) -> Route {
        Route {
            remote: ([10, 0, 0, 2], port).into(),
            local: None,
        }
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn three_attempts_and_three_times_the_bytes() {
        let (now, pto) = (Instant::now(), Duration::from_millis(100));
        let mut candidate = Candidate::new(route(1), 100, now);
        assert!(candidate.is_due(now));
        assert_eq!(candidate.allowance(), 300);
        candidate.sent(250);
        assert_eq!(candidate.allowance(), 50);
        candidate.sent(250);
        assert_eq!(candidate.allowance(), 0);
        for (attempt, factor) in [(0u8, 1), (1, 2), (2, 4)] {
            candidate.challenged([attempt; 8], now, pto);
            assert_eq!(candidate.expires_at(), Some(now + pto * factor));
            assert!(!candidate.is_due(now));
            assert_eq!(candidate.timed_out(now), attempt < 2);
            assert_eq!(
                (candidate.is_last(), candidate.narrow),
                (attempt >= 1, attempt == 2)
            );
        }
        assert!(candidate.is_proved_by([0; 8], route(1)));
        assert!(
            !candidate.is_proved_by([0; 8], route(2)),
            "an answer from elsewhere proves nothing"
        );
        assert!(!candidate.is_proved_by([9; 8], route(1)));
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing depends on it"
    )]
    fn of_many_challenges_the_newest_are_answered_and_of_those_one_a_while_beyond_the_window() {
        let (now, pto) = (Instant::now(), Duration::from_millis(100));
        let mut responses = Responses::default();
        let mut left = |crowded, now| -> Vec<u8> {
            (0..9u8).for_each(|data| responses.push(route(1), [data; 8], 1200));
            std::iter::from_fn(|| responses.pop(crowded, now, pto))
                .map(|response| response.data[0])
                .collect()
        };
        assert_eq!(left(false, now), [5, 6, 7, 8]);
        assert_eq!(left(true, now), [5]);
        assert_eq!(left(true, now + pto / 2), []);
        assert_eq!(left(true, now + pto), [5]);
        assert_eq!(left(false, now + pto), [5, 6, 7, 8]);
    }
}
