//! A client on its way to a connection.
//!
//! The hello goes out in padded fragments, again after a second, then every two seconds; from the second time on with a
//! parity fragment, after two timeouts in smaller datagrams. With a ticket it goes out twice, then together with a full
//! one (`opening.rs`). A RETRY makes it go out once more, with the token it brought;
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

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transport_crypto::{ClientEstablished, Direction, Entropy, EnvelopeHeader, EnvelopeType, RelayId};

use super::flight::{Body, Flight, Hid, SIZES, SMALL_SIZES, Token};
use super::opening::{Attempt, EARLY_ROOM, Early, Opening, RESUME_SENDS, Words, open};
use super::route::Domain;
use crate::buffer::Route;
use crate::config::{Connect, Now, TransportConfig};
use crate::connection::EarlyPacket;
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
    /// The hello that is sent.
    attempt: Attempt,
    /// One with a ticket that was not answered in time; it may be yet.
    former: Option<Attempt>,
    /// For the full hello that follows one with a ticket.
    words: Option<Box<Words>>,
    pub(super) early: Option<Box<Early>>,
    pub(super) domain: usize,
    pub(super) route: Route,
    pub(super) relay_id: RelayId,
    /// The epoch of the bundle it was begun with.
    pub(super) epoch: u64,
    pub(super) scid: ConnectionId,
    pub(super) app: Vec<u8>,
    /// RETRYs that may still be answered before the next timeout.
    retries_left: u32,
    /// The hello goes out because of a RETRY, not because of time.
    retrying: bool,
    /// When it went out, unless it went out twice with the same token: an answer could belong to either.
    sent: Option<Instant>,
    pub(super) started: Instant,
    /// Of the present hello.
    pub(super) sends: u32,
    /// Bytes of payload that leave from here, where that is known.
    pub(super) width: Option<u16>,
    first_wait: Duration,
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
    /// The relay does not answer to the ticket.
    FallBack,
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
        transport: &Arc<TransportConfig>,
        random: &mut Random,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, ConnectError> {
        let scid = random.cid();
        let words = Words::new(&target, transport, scid)?;
        let Opening {
            attempt,
            words,
            early,
            first_wait,
        } = open(now, &target, words, relay_ms, transport, random, entropy)?;
        Ok(Self {
            attempt,
            former: None,
            words,
            early,
            domain,
            route: Route {
                remote: target.remote,
                local: target.local,
            },
            relay_id: target.bundle.relay_id(),
            epoch: target.bundle.epoch(),
            scid,
            app: target.app,
            retries_left: RETRIES_AT_ONCE,
            retrying: false,
            sent: None,
            started: now.instant,
            sends: 0,
            width: target.width,
            first_wait: first_wait.unwrap_or(FIRST_WAIT),
            next_send: now.instant,
            give_up: now.instant + transport.handshake_timeout,
            refused: None,
        })
    }

    /// Sizes of its datagrams, until smaller ones are tried. Where few bytes leave from here small ones go at once, which tell the
    /// relay as well: its answer shall come through.
    fn sizes(&self) -> RangeInclusive<usize> {
        match self.width {
            Some(width) if usize::from(width) < *SIZES.end() => SMALL_SIZES,
            _ => SIZES,
        }
    }

    /// Bytes of frames in an early packet: what one datagram holds beside number and tag.
    pub(super) fn early_room(&self) -> usize {
        EARLY_ROOM.saturating_sub(SIZES.end().saturating_sub(*self.sizes().end()))
    }

    /// The names of its hellos: of the one that is sent, and of one that may yet be answered.
    pub(super) fn hids(&self) -> impl Iterator<Item = Hid> + '_ {
        [Some(&self.attempt), self.former.as_ref()]
            .into_iter()
            .flatten()
            .map(|attempt| attempt.hid)
    }

    /// A full hello takes the place of the one with a ticket; its name. `None`: it could not be made now.
    pub(super) fn fall_back(
        &mut self,
        relay_ms: u64,
        random: &mut Random,
        entropy: &mut dyn Entropy,
    ) -> Option<Hid> {
        let attempt = self.words.as_ref()?.full(relay_ms, random, entropy).ok()?;
        let hid = attempt.hid;
        self.words = None;
        self.former = Some(std::mem::replace(&mut self.attempt, attempt));
        (self.sends, self.sent, self.first_wait) = (0, None, FIRST_WAIT);
        if let Some(early) = &mut self.early {
            early.seal = None;
        }
        Some(hid)
    }

    /// A packet of early data in its envelope.
    pub(super) fn seal_early(
        &mut self,
        now: Now,
        packet: &EarlyPacket,
        domain: &Domain,
        random: &mut Random,
        entropy: &mut dyn Entropy,
    ) -> Option<Vec<u8>> {
        let seal = self.early.as_mut()?.seal.as_mut()?;
        let number = u32::try_from(packet.number.get()).ok()?;
        let mut sealed = packet.frames.clone();
        seal.seal(number, &mut sealed).ok()?;
        let body = [&number.to_be_bytes()[..], &sealed].concat();
        let flight = Flight {
            keys: &domain.envelope,
            direction: Direction::ClientToServer,
            kind: EnvelopeType::Early,
            hid: self.attempt.hid,
            unix_ms: domain.relay_time(now.unix_ms),
            body: &body,
            sizes: self.sizes(),
            parity: false,
            token: self.attempt.tokens.last().copied(),
        };
        let datagrams = flight.seal(random, entropy).ok()?;
        // One packet is one datagram: `EARLY_ROOM` sees to it.
        let [datagram] = <[Vec<u8>; 1]>::try_from(datagrams).ok()?;
        Some(datagram)
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
        let wait = self
            .first_wait
            .saturating_mul(1 << (self.sends - 1).min(8))
            .min(LONGEST_WAIT);
        self.next_send = now.instant + wait;
        let flight = Flight {
            keys: &domain.envelope,
            direction: Direction::ClientToServer,
            kind: EnvelopeType::ClientHello,
            hid: self.attempt.hid,
            unix_ms: domain.relay_time(now.unix_ms),
            body: &self.attempt.body,
            sizes: if self.sends <= FULL_SIZE_SENDS {
                self.sizes()
            } else {
                SMALL_SIZES
            },
            // A relay that asks for tokens is one that loses much.
            parity: self.sends > 1 || !self.attempt.tokens.is_empty(),
            token: self.attempt.tokens.last().copied(),
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
            EnvelopeType::Retry => self.on_retry(header.hid, header.token.ok_or(DropReason::AnswerInvalid)?),
            EnvelopeType::ClientHello | EnvelopeType::Early => Err(DropReason::EnvelopeKind),
        }
    }

    fn on_answer(&mut self, header: &EnvelopeHeader, fragment: &[u8]) -> Result<Heard, DropReason> {
        let attempt = match &mut self.former {
            Some(former) if former.hid == header.hid => former,
            _ => &mut self.attempt,
        };
        let mut answer = match attempt.answer.take() {
            Some(answer) => answer,
            None => Body::new(header.total_len).ok_or(DropReason::FragmentMismatch)?,
        };
        // What contradicts itself, or does not read, is forgotten: the relay's own answer will come again.
        if !answer
            .add(header, fragment)
            .map_err(|_| DropReason::FragmentMismatch)?
        {
            attempt.answer = Some(answer);
            return Ok(Heard::Nothing);
        }
        let established = attempt
            .initiator
            .finish(answer.bytes(), &attempt.tokens)
            .map_err(|_| DropReason::AnswerInvalid)?;
        Ok(Heard::Answer(Box::new(established)))
    }

    /// A token; the hello goes out again with it, unless it is known or there were too many of them.
    fn on_retry(&mut self, hid: Hid, token: Token) -> Result<Heard, DropReason> {
        let tokens = &mut self.attempt.tokens;
        // A hello that is no longer sent needs no token.
        if tokens.contains(&token) || hid != self.attempt.hid {
            return Ok(Heard::Nothing);
        }
        if self.retries_left == 0 {
            return Err(DropReason::Overload);
        }
        if tokens.len() >= MAX_TOKENS {
            tokens.remove(0);
        }
        tokens.push(token);
        self.retries_left -= 1;
        self.retrying = true;
        Ok(Heard::Retry)
    }

    /// Whether it took small datagrams.
    pub(super) fn is_narrow(&self) -> bool {
        self.sends > FULL_SIZE_SENDS
    }

    /// How long the answer took, if it is known which hello it answers.
    pub(super) fn round_trip(&self, now: Instant, retry_echoed: bool) -> Option<Duration> {
        let sent = self.sent.filter(|_| self.former.is_none())?;
        let tokens = &self.attempt.tokens;
        let certain = tokens.is_empty() || (tokens.len() == 1 && retry_echoed);
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
        let due = self.next_send <= now;
        let unanswered = self.words.is_some() && self.sends >= RESUME_SENDS;
        due.then_some(if unanswered { Due::FallBack } else { Due::Send })
    }

    /// Allocated bytes, roughly.
    pub(super) fn memory(&self) -> usize {
        let early = self.early.as_ref().map_or(0, |early| early.connection.memory());
        size_of::<Self>() + self.attempt.body.capacity() + 8 * 1024 + early
    }
}
