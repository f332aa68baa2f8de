//! Strangers at the door of a relay. What fails at any step gets silence.
//!
//! 1. The envelope opens (the hint has been checked before).
//! 2. Its clock is near ours.
//! 3. It has not come before.
//! 4. Its fragments make a hello.
//! 5. That hello has not come before, or is answered as before.
//! 6. It reads: one KEM decapsulation.
//! 7. Its sender may have a connection.
//! 8. An answer, and a half-open entry.
//! 9. The first packet that opens makes the connection.
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

use std::time::Instant;

use transport_crypto::{Direction, Entropy, EnvelopeType, Generation, Responder};

use super::route::{Domain, Routes};
use crate::buffer::Route;
use crate::config::{Access, Now, ServerConfig, TransportConfig};
use crate::packet::Sealed;
use crate::random::Random;
use crate::trace::{DropReason, Tracer};
use crate::wire::ConnectionId;

mod answer;
mod freshness;
mod half_open;
mod hello;
mod reassembly;
mod register;

use freshness::Freshness;
pub(super) use half_open::HalfOpen;
use half_open::{HalfOpens, Waiting};
use reassembly::Reassembly;

/// Our connection ids in the answer.
const IDS_IN_ANSWER: usize = 2;

/// What the door needs from the house for one call.
pub(super) struct Hall<'a> {
    pub(super) routes: &'a mut Routes,
    pub(super) transport: &'a TransportConfig,
    pub(super) random: &'a mut Random,
    pub(super) entropy: &'a mut dyn Entropy,
    pub(super) out: &'a mut dyn FnMut(Route, Vec<u8>),
    /// Connections that stand.
    pub(super) connections: usize,
}

/// A client's first packet, opened.
pub(super) struct First<'d> {
    pub(super) entry: Box<HalfOpen>,
    pub(super) waiting: Waiting,
    pub(super) number: u64,
    pub(super) frames: &'d [u8],
}

/// The door.
pub(super) struct Admission {
    responder: Responder,
    access: Access,
    app: Vec<u8>,
    max_connections: usize,
    pub(super) refuse_new: bool,
    pub(super) answered: u64,
    freshness: Freshness,
    reassembly: Reassembly,
    half_open: HalfOpens,
}

impl Admission {
    /// Opens the door of a relay; its domains are entered into `routes`.
    pub(super) fn new(config: ServerConfig, routes: &mut Routes) -> Self {
        let ServerConfig {
            statics,
            relay_id,
            epoch,
            grants,
            access,
            app,
            max_connections,
            ..
        } = config;
        for grant in grants.iter().take(ServerConfig::MAX_GRANTS) {
            routes.enter(Domain::new(
                relay_id,
                epoch,
                statics.kh(),
                grant,
                Direction::ClientToServer,
            ));
        }
        Self {
            responder: Responder::new(statics, relay_id, epoch),
            access,
            app,
            max_connections,
            refuse_new: false,
            answered: 0,
            freshness: Freshness::new(),
            reassembly: Reassembly::default(),
            half_open: HalfOpens::default(),
        }
    }

    pub(super) fn replace_access(&mut self, access: Access) {
        self.access = access;
    }

    /// Handshakes that were answered and are not yet connections.
    pub(super) fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.freshness.memory() + self.reassembly.memory() + self.half_open.memory()
    }

    /// A datagram that looks like an envelope of domain `index`.
    pub(super) fn handle_envelope(
        &mut self,
        now: Now,
        route: Route,
        index: usize,
        datagram: &mut [u8],
        hall: &mut Hall<'_>,
        tracer: &mut Tracer<'_>,
    ) {
        let size = datagram.len();
        if let Err(reason) = self.admit(now, route, index, datagram, hall, tracer) {
            tracer.dropped(reason, size);
        }
    }

    fn admit(
        &mut self,
        now: Now,
        route: Route,
        index: usize,
        datagram: &mut [u8],
        hall: &mut Hall<'_>,
        tracer: &mut Tracer<'_>,
    ) -> Result<(), DropReason> {
        self.expire(now.instant, hall.routes);
        let nonce = nonce_key(datagram);
        let size = datagram.len();
        let domain = hall.routes.domain(index).ok_or(DropReason::Unknown)?;
        let (header, fragment) = domain
            .envelope
            .open(domain.incoming, datagram)
            .map_err(|_| DropReason::EnvelopeForged)?;
        if header.kind != EnvelopeType::ClientHello {
            return Err(DropReason::EnvelopeKind);
        }
        self.freshness.check_time(now, u64::from(header.unix_minutes))?;
        self.freshness.note_envelope(now, nonce)?;
        match self
            .reassembly
            .add(now.instant, route.remote, &header, fragment, size)?
        {
            None => Ok(()),
            Some(complete) => self.on_hello(now, route, index, &header, &complete, hall, tracer),
        }
    }

    /// A packet for a half-open handshake: if it opens, the client has the keys and becomes a connection.
    pub(super) fn handle_first<'d>(
        &mut self,
        id: u64,
        cid: ConnectionId,
        datagram: &'d mut [u8],
    ) -> Result<First<'d>, DropReason> {
        let waiting = self
            .half_open
            .get_mut(id)
            .and_then(|entry| entry.waiting.as_mut())
            .ok_or(DropReason::Unknown)?;
        let keys = &mut waiting.session.open;
        let sealed = Sealed::unmask(datagram, cid, keys).ok_or(DropReason::Forged)?;
        // Nothing was received, so the truncated number is the number (RFC 9000 §A.3).
        let number = u64::from(sealed.truncated());
        let frames = sealed
            .open(keys, Generation::Current, 0, number)
            .map_err(|_| DropReason::Forged)?;
        let mut entry = self.half_open.remove(id).ok_or(DropReason::Unknown)?;
        let waiting = entry.waiting.take().ok_or(DropReason::Unknown)?;
        Ok(First {
            entry,
            waiting,
            number,
            frames,
        })
    }

    /// Lets go what has waited too long.
    pub(super) fn expire(&mut self, now: Instant, routes: &mut Routes) {
        self.reassembly.expire(now);
        while let Some(entry) = self.half_open.expire(now) {
            forget(&entry, routes);
        }
    }
}

/// Nothing leads to it any more.
fn forget(entry: &HalfOpen, routes: &mut Routes) {
    let ids = entry.waiting.iter().flat_map(|waiting| &waiting.ours);
    ids.for_each(|cid| routes.remove(cid));
}

/// Envelopes are told apart by eight of the random bytes they begin with.
fn nonce_key(datagram: &[u8]) -> u64 {
    datagram
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
