//! A client on its way to a connection.
//!
//! The hello goes out in padded fragments, again after a second, then every two seconds; from the second time on with a
//! parity fragment, after two timeouts in smaller datagrams. A RETRY makes it go out once more, with the token it brought;
//! which of several is good cannot be told, so each new one is tried and the answer may belong to any of them. Whatever does not read as the relay's answer is ignored. A
//! refusal is only a hint, which anyone with the bundle could send: it is believed after one more timeout without an answer.
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

use std::time::{Duration, Instant};

use transport_crypto::{
    Auth, ClientEstablished, ClientHello, Direction, Entropy, EnvelopeHeader, EnvelopeType, Initiator,
    RelayId,
};

use super::flight::{Body, Flight, Hid, SIZES, SMALL_SIZES, Token};
use super::route::Domain;
use crate::buffer::Route;
use crate::config::{Connect, Now, SuiteChoice, TransportConfig};
use crate::connection::announce;
use crate::error::{CloseReason, ConnectError};
use crate::random::Random;
use crate::timer::{Timer, Why};
use crate::trace::DropReason;
use crate::wire::{ConnectionId, Reader};

/// Wait for an answer: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Transmissions in full size before smaller datagrams are tried.
const FULL_SIZE_SENDS: u32 = 2;
/// RETRYs answered at once until the next timeout: somebody may forge them, but not make us send without end.
const RETRIES_AT_ONCE: u32 = 4;
/// Tokens kept, for an answer that belongs to an earlier one.
const MAX_TOKENS: usize = 8;

/// A handshake under way.
pub(super) struct Dial {
    initiator: Initiator,
    pub(super) hid: Hid,
    pub(super) domain: usize,
    pub(super) route: Route,
    pub(super) relay_id: RelayId,
    pub(super) scid: ConnectionId,
    pub(super) app: Vec<u8>,
    body: Vec<u8>,
    answer: Option<Body>,
    /// What RETRYs brought, the newest last.
    tokens: Vec<Token>,
    /// RETRYs that may still be answered before the next timeout.
    retries_left: u32,
    /// The hello goes out because of a RETRY, not because of time.
    retrying: bool,
    /// When it went out, unless it went out twice with the same token: an answer could belong to either.
    sent: Option<Instant>,
    pub(super) started: Instant,
    pub(super) sends: u32,
    next_send: Instant,
    give_up: Instant,
    /// A refusal, and when it is believed.
    refused: Option<(u64, Instant)>,
}

/// What the relay said.
pub(super) enum Heard {
    /// Nothing yet that leads on.
    Nothing,
    /// The hello is to be sent again at once, with a token.
    Retry,
    /// The handshake is complete.
    Answer(Box<ClientEstablished>),
}

/// What time brought.
pub(super) enum Due {
    /// The hello is to be sent again.
    Send,
    /// It is over.
    Over(CloseReason),
}

impl Dial {
    /// Writes the hello; [`Dial::transmit`] sends it.
    pub(super) fn start(
        now: Now,
        target: Connect,
        domain: usize,
        relay_ms: u64,
        transport: &TransportConfig,
        random: &mut Random,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, ConnectError> {
        let Connect {
            bundle,
            identity,
            remote,
            app,
            suite,
            ..
        } = target;
        let (hid, scid) = (random.bytes(), random.cid());
        let mut params = Vec::new();
        announce(transport, &app)
            .encode(&mut params)
            .map_err(|_| ConnectError::LabelTooLong)?;
        let hello = ClientHello {
            has_aes: match suite {
                SuiteChoice::Auto => transport.aes,
                SuiteChoice::ChaCha20Poly1305 => false,
                SuiteChoice::Aes256Gcm => true,
            },
            time_ms: relay_ms,
            scid: scid.0,
            auth: identity.as_ref().map_or(Auth::Anonymous, Auth::Enrolled),
            params: &params,
        };
        let mut body = Vec::new();
        let initiator = Initiator::start(&bundle, hid, hello, entropy, &mut body)?;
        Ok(Self {
            initiator,
            hid,
            domain,
            route: Route { remote, local: None },
            relay_id: bundle.relay_id(),
            scid,
            app,
            body,
            answer: None,
            tokens: Vec::new(),
            retries_left: RETRIES_AT_ONCE,
            retrying: false,
            sent: None,
            started: now.instant,
            sends: 0,
            next_send: now.instant,
            give_up: now.instant + transport.handshake_timeout,
            refused: None,
        })
    }

    /// The datagrams of the next transmission.
    pub(super) fn transmit(
        &mut self,
        now: Now,
        domain: &Domain,
        random: &mut Random,
        entropy: &mut dyn Entropy,
    ) -> Vec<Vec<u8>> {
        if std::mem::take(&mut self.retrying) {
            self.sent = Some(now.instant);
        } else {
            self.sent = (self.sends == 0).then_some(now.instant);
            self.sends += 1;
            self.retries_left = RETRIES_AT_ONCE;
        }
        let wait = FIRST_WAIT
            .saturating_mul(1 << (self.sends - 1).min(8))
            .min(LONGEST_WAIT);
        self.next_send = now.instant + wait;
        let flight = Flight {
            keys: &domain.envelope,
            direction: Direction::ClientToServer,
            kind: EnvelopeType::ClientHello,
            hid: self.hid,
            unix_ms: domain.relay_time(now.unix_ms),
            body: &self.body,
            sizes: if self.sends <= FULL_SIZE_SENDS {
                SIZES
            } else {
                SMALL_SIZES
            },
            parity: self.sends > 1,
            token: self.tokens.last().copied(),
        };
        // Without randomness nothing is sent, and the next timeout tries again.
        flight.seal(random, entropy).unwrap_or_default()
    }

    /// A datagram that opened as an envelope for this handshake.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        header: &EnvelopeHeader,
        fragment: &[u8],
    ) -> Result<Heard, DropReason> {
        match header.kind {
            EnvelopeType::ServerHello => self.on_answer(header, fragment),
            EnvelopeType::HandshakeClose => {
                let code = Reader::new(fragment)
                    .varint()
                    .map_err(|_| DropReason::AnswerInvalid)?;
                self.refused.get_or_insert((code, now + FIRST_WAIT));
                Ok(Heard::Nothing)
            }
            EnvelopeType::Retry => self.on_retry(header.token.ok_or(DropReason::AnswerInvalid)?),
            EnvelopeType::ClientHello | EnvelopeType::Early => Err(DropReason::EnvelopeKind),
        }
    }

    fn on_answer(&mut self, header: &EnvelopeHeader, fragment: &[u8]) -> Result<Heard, DropReason> {
        let mut answer = match self.answer.take() {
            Some(answer) => answer,
            None => Body::new(header.total_len).ok_or(DropReason::FragmentMismatch)?,
        };
        // What contradicts itself, or does not read, is forgotten: the relay's own answer will come again.
        if !answer
            .add(header, fragment)
            .map_err(|_| DropReason::FragmentMismatch)?
        {
            self.answer = Some(answer);
            return Ok(Heard::Nothing);
        }
        let established = self
            .initiator
            .finish(answer.bytes(), &self.tokens)
            .map_err(|_| DropReason::AnswerInvalid)?;
        Ok(Heard::Answer(Box::new(established)))
    }

    /// A token; the hello goes out again with it, unless it is known or there were too many of them.
    fn on_retry(&mut self, token: Token) -> Result<Heard, DropReason> {
        if self.tokens.contains(&token) {
            return Ok(Heard::Nothing);
        }
        if self.retries_left == 0 {
            return Err(DropReason::Overload);
        }
        if self.tokens.len() >= MAX_TOKENS {
            self.tokens.remove(0);
        }
        self.tokens.push(token);
        self.retries_left -= 1;
        self.retrying = true;
        Ok(Heard::Retry)
    }

    /// How long the answer took, if it is known which hello it answers.
    pub(super) fn round_trip(&self, now: Instant, retry_echoed: bool) -> Option<Duration> {
        let sent = self.sent?;
        let certain = self.tokens.is_empty() || (self.tokens.len() == 1 && retry_echoed);
        certain.then(|| now.saturating_duration_since(sent))
    }

    /// The next deadline.
    pub(super) fn next_timeout(&self) -> (Instant, Why) {
        let over = self.refused.map_or(self.give_up, |(_, at)| at.min(self.give_up));
        if over <= self.next_send {
            (over, Why::Timer(Timer::HandshakeGiveUp))
        } else {
            (self.next_send, Why::Timer(Timer::HandshakeRetry))
        }
    }

    /// What is due.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        match self.refused {
            Some((code, at)) if at <= now => return Some(Due::Over(CloseReason::Refused { code })),
            _ => {}
        }
        if self.give_up <= now {
            return Some(Due::Over(CloseReason::HandshakeTimeout));
        }
        (self.next_send <= now).then_some(Due::Send)
    }

    /// Allocated bytes, roughly.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.body.capacity() + 8 * 1024
    }
}
