//! What a client opens with: a full handshake, or a ticket and perhaps early data.
//!
//! A ticket that does not fit (another relay or identity, too old) is not used. A relay that cannot open a ticket is silent, as
//! towards every stranger, so after [`RESUME_SENDS`] unanswered hellos with a ticket a full one goes out with the next, under
//! another name; the first answer to either counts. What is not answered is never replaced by anything weaker than a full handshake, and the
//! ephemeral ML-KEM runs in both.
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

use std::sync::Arc;
use std::time::Duration;

use transport_crypto::{
    Auth, Bundle, ClientHello, ClientIdentity, ClientTicket, EARLY_OVERHEAD, EarlySeal, Entropy,
    HandshakeFailure, Initiator, provider::Provider,
};

use super::flight::{Body, Hid, ONE_DATAGRAM, Token};
use crate::buffer::Route;
use crate::config::{Connect, Now, SuiteChoice, TransportConfig};
use crate::connection::{Connection, Peer, announce};
use crate::error::ConnectError;
use crate::random::Random;
use crate::wire::{ConnectionId, TransportParameters};

/// Hellos with a ticket before one is accompanied by a full one.
pub(super) const RESUME_SENDS: u32 = 2;
/// Wait for the first answer to a ticket: three round trips of the connection it came on, within these.
const FIRST_WAIT: std::ops::RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(1);
/// Bytes of frames in an early packet: what one datagram holds beside number and tag.
pub(super) const EARLY_ROOM: usize = ONE_DATAGRAM - 4 - EARLY_OVERHEAD;

/// A hello, and what came in answer to it.
pub(super) struct Attempt {
    pub(super) initiator: Initiator,
    pub(super) hid: Hid,
    pub(super) body: Vec<u8>,
    pub(super) answer: Option<Body>,
    /// What RETRYs brought, the newest last.
    pub(super) tokens: Vec<Token>,
}

impl Attempt {
    fn new(initiator: Initiator, hid: Hid, body: Vec<u8>) -> Self {
        Self {
            initiator,
            hid,
            body,
            answer: None,
            tokens: Vec::new(),
        }
    }
}

/// What every hello of a dial says.
pub(super) struct Words {
    bundle: Bundle,
    identity: Option<ClientIdentity>,
    params: Vec<u8>,
    has_aes: bool,
    provider: &'static dyn Provider,
    scid: ConnectionId,
}

/// A connection that can be used before the relay has answered.
pub(super) struct Early {
    pub(super) connection: Box<Connection>,
    /// `None` once a full hello has followed.
    pub(super) seal: Option<EarlySeal>,
    /// Bytes of frames the ticket still allows.
    pub(super) left: usize,
    /// What the relay announced the last time.
    pub(super) remembered: TransportParameters,
}

/// The first hello of a dial.
pub(super) struct Opening {
    pub(super) attempt: Attempt,
    /// For a full hello, should the relay not answer to the ticket.
    pub(super) words: Option<Box<Words>>,
    pub(super) early: Option<Box<Early>>,
    /// How long to wait for the first answer to a ticket.
    pub(super) first_wait: Option<Duration>,
}

impl Words {
    pub(super) fn new(
        target: &Connect,
        transport: &TransportConfig,
        scid: ConnectionId,
    ) -> Result<Self, ConnectError> {
        let mut params = Vec::new();
        announce(transport, &target.app)
            .encode(&mut params)
            .map_err(|_| ConnectError::LabelTooLong)?;
        Ok(Self {
            bundle: target.bundle.clone(),
            identity: target.identity.clone(),
            params,
            has_aes: match target.suite {
                SuiteChoice::Auto => transport.aes,
                SuiteChoice::ChaCha20Poly1305 => false,
                SuiteChoice::Aes256Gcm => true,
            },
            provider: transport.provider,
            scid,
        })
    }

    fn hello(&self, relay_ms: u64) -> ClientHello<'_> {
        ClientHello {
            has_aes: self.has_aes,
            time_ms: relay_ms,
            scid: self.scid.0,
            auth: self.identity.as_ref().map_or(Auth::Anonymous, Auth::Enrolled),
            params: &self.params,
        }
    }

    /// A full hello.
    pub(super) fn full(
        &self,
        relay_ms: u64,
        random: &mut Random,
        entropy: &mut dyn Entropy,
    ) -> Result<Attempt, HandshakeFailure> {
        let (hid, mut body) = (random.bytes(), Vec::new());
        let (bundle, hello) = (&self.bundle, self.hello(relay_ms));
        let initiator = Initiator::start_with(self.provider, bundle, hid, hello, entropy, &mut body)?;
        Ok(Attempt::new(initiator, hid, body))
    }

    fn resume(
        &self,
        ticket: &ClientTicket,
        early: bool,
        relay_ms: u64,
        random: &mut Random,
        entropy: &mut dyn Entropy,
    ) -> Result<(Attempt, Option<EarlySeal>), HandshakeFailure> {
        let (hid, mut body) = (random.bytes(), Vec::new());
        let (bundle, hello, with) = (&self.bundle, self.hello(relay_ms), (ticket, early));
        let (initiator, seal) =
            Initiator::resume_with(self.provider, bundle, with, hid, hello, entropy, &mut body)?;
        Ok((Attempt::new(initiator, hid, body), seal))
    }

    /// Whether a ticket is good for this relay and identity, now.
    fn fits(&self, ticket: &ClientTicket, now: Now) -> bool {
        let same_client = match &self.identity {
            Some(identity) => ticket.enrolled() && ticket.client_id == identity.client_id(),
            None => !ticket.enrolled(),
        };
        same_client && ticket.relay_id == self.bundle.relay_id() && ticket.is_fresh(now.unix_ms / 1000)
    }
}

/// The first hello: with the ticket if it fits, else a full one.
pub(super) fn open(
    now: Now,
    target: &Connect,
    words: Words,
    relay_ms: u64,
    transport: &Arc<TransportConfig>,
    random: &mut Random,
    entropy: &mut dyn Entropy,
) -> Result<Opening, ConnectError> {
    let full = |words: Words, random: &mut Random, entropy: &mut dyn Entropy| {
        Ok(Opening {
            attempt: words.full(relay_ms, random, entropy)?,
            words: None,
            early: None,
            first_wait: None,
        })
    };
    let Some(ticket) = target.resume.as_ref().filter(|ticket| words.fits(ticket, now)) else {
        return full(words, random, entropy);
    };
    let remembered = remembered(target, ticket);
    let Ok((attempt, seal)) = words.resume(ticket, remembered.is_some(), relay_ms, random, entropy) else {
        return full(words, random, entropy);
    };
    let early = seal.zip(remembered).map(|(seal, remembered)| {
        let route = Route {
            remote: target.remote,
            local: target.local,
        };
        let peer = Peer::Relay(ticket.relay_id);
        let connection = Connection::early(
            now,
            peer,
            ticket.suite,
            route,
            &remembered,
            transport.clone(),
            random.fork(),
        );
        Box::new(Early {
            connection: Box::new(connection),
            seal: Some(seal),
            left: ticket.max_early as usize,
            remembered,
        })
    });
    let rtt = Duration::from_micros(ticket.rtt_us.into());
    Ok(Opening {
        attempt,
        words: Some(Box::new(words)),
        early,
        first_wait: (!rtt.is_zero()).then(|| (rtt * 3).clamp(*FIRST_WAIT.start(), *FIRST_WAIT.end())),
    })
}

/// What early data is sent under, if any may be.
fn remembered(target: &Connect, ticket: &ClientTicket) -> Option<TransportParameters> {
    let params = TransportParameters::parse(&ticket.params).ok()?;
    let wanted = target.early && ticket.max_early > 0 && params.app == target.app;
    wanted.then_some(params)
}
