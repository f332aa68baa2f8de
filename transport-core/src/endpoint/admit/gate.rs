//! RETRY: a stranger gets a token, is forgotten, and comes back with it (the role of RFC 9000 §8.1.2).
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use transport_crypto::{
    CookieKeys, Direction, ENVELOPE_OVERHEAD, Entropy, EnvelopeClaims, EnvelopeHeader, EnvelopeType, RelayId,
    TOKEN_LEN,
};

use super::commons::lock;
use super::load::Load;
use super::pace::Pace;
use crate::config::Now;
use crate::endpoint::flight::Token;
use crate::endpoint::route::Domain;
use crate::random::Random;

/// Size of a RETRY, bytes; always less than what it answers.
const SIZES: std::ops::RangeInclusive<usize> = ENVELOPE_OVERHEAD + TOKEN_LEN..=200;
/// RETRYs: 40,000 in a second, and so many at once. A client among so many strangers gets one with one of its first flights.
const RETRY_INTERVAL: Duration = Duration::from_micros(25);
const RETRY_BURST: u32 = 256;

/// Who must show a token, and whether it is good.
pub(super) struct Gate {
    pub(super) load: Load,
    relay_id: RelayId,
    tokens: Arc<Mutex<Tokens>>,
    pub(super) retries_sent: u64,
}

/// What tokens are made with, and how many may be: the same for all workers, since a stranger may come back to another.
#[derive(Default)]
pub(super) struct Tokens {
    /// Made with the first RETRY.
    keys: Option<CookieKeys>,
    retries: Pace,
}

impl Gate {
    pub(super) fn new(relay_id: RelayId, tokens: Arc<Mutex<Tokens>>) -> Self {
        Self {
            load: Load::default(),
            relay_id,
            tokens,
            retries_sent: 0,
        }
    }

    /// The token of a fragment, if it is one of ours for this handshake and address.
    pub(super) fn proof(&self, now: Now, header: &EnvelopeHeader, remote: SocketAddr) -> Option<Token> {
        let token = header.token.as_ref()?;
        let mut tokens = lock(&self.tokens);
        let keys = tokens.keys.as_mut()?;
        let good = keys.check(now.unix_ms / 1000, &self.relay_id, &header.hid, remote, token);
        good.then_some(*token)
    }

    /// In cookie mode: whether an envelope can be turned away by what it claims: it has no token, and will not be asked for one. Of a flight only
    /// the first fragment is: one token serves them all.
    pub(super) fn turns_away(&self, now: Now, claims: EnvelopeClaims) -> bool {
        let asked = claims.index == 0 && lock(&self.tokens).retries.is_free(now.instant);
        !claims.token && !asked
    }

    /// The answer to a fragment without a good token, of `asked` bytes; none when enough were sent.
    #[expect(
        clippy::too_many_arguments,
        reason = "one datagram, all that is known about it, and what an answer is made of"
    )]
    pub(super) fn retry(
        &mut self,
        now: Now,
        header: &EnvelopeHeader,
        remote: SocketAddr,
        asked: usize,
        domain: &Domain,
        random: &mut Random,
        entropy: &mut dyn Entropy,
    ) -> Option<Vec<u8>> {
        let most = asked.saturating_sub(1).min(*SIZES.end());
        if most < *SIZES.start() {
            return None;
        }
        let token = {
            let mut tokens = lock(&self.tokens);
            if !tokens.retries.take(now.instant, RETRY_INTERVAL, RETRY_BURST) {
                return None;
            }
            if tokens.keys.is_none() {
                tokens.keys = CookieKeys::new(entropy).ok();
            }
            let unix_s = now.unix_ms / 1000;
            tokens
                .keys
                .as_mut()?
                .token(unix_s, &self.relay_id, &header.hid, remote)
        };
        let header = EnvelopeHeader {
            kind: EnvelopeType::Retry,
            hid: header.hid,
            unix_minutes: u32::try_from(now.unix_ms / 60_000).unwrap_or(u32::MAX),
            index: 0,
            count: 1,
            total_len: 0,
            fragment_offset: 0,
            fragment_len: 0,
            token: Some(token),
        };
        let size = random.within(*SIZES.start() as u64, most as u64) as usize;
        let mut datagram = Vec::with_capacity(size);
        domain
            .envelope
            .seal(
                Direction::ServerToClient,
                &header,
                &[],
                size,
                random,
                &mut datagram,
            )
            .ok()?;
        self.retries_sent += 1;
        Some(datagram)
    }
}
