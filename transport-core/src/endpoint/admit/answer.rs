//! What a stranger is told: the answer of its handshake, again when it asks again, or that there is no place for it.
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

use transport_crypto::{Direction, EnvelopeType};

use super::Hall;
use super::half_open::HalfOpen;
use crate::config::Now;
use crate::endpoint::flight::{Flight, SIZES, SMALL_SIZES};
use crate::trace::{DropReason, Event, Tracer};
use crate::wire::Writer;

/// Size of a refusal, bytes.
const REFUSAL_SIZES: std::ops::RangeInclusive<usize> = 200..=400;

/// HSCLOSE instead of an answer.
pub(super) fn refuse(entry: &mut HalfOpen, code: u64) {
    let mut bytes = [0; 8];
    let mut writer = Writer::new(&mut bytes);
    // Cannot fail: our codes are short.
    let _ = writer.varint(code);
    let used = writer.len();
    entry.kind = EnvelopeType::HandshakeClose;
    entry.answer = bytes.get(..used).unwrap_or_default().into();
}

/// Sends the answer, or sends it again, as far as three times what the client sent goes.
pub(super) fn answer(
    entry: &mut HalfOpen,
    now: Now,
    hall: &mut Hall<'_>,
    tracer: &mut Tracer<'_>,
) -> Result<(), DropReason> {
    let domain = hall.routes.domain(entry.domain).ok_or(DropReason::Unknown)?;
    let flight = Flight {
        keys: &domain.envelope,
        direction: Direction::ServerToClient,
        kind: entry.kind,
        hid: entry.hid,
        unix_ms: now.unix_ms,
        body: &entry.answer,
        sizes: match entry.kind {
            EnvelopeType::HandshakeClose => REFUSAL_SIZES,
            _ if entry.is_narrow() => SMALL_SIZES,
            _ => SIZES,
        },
        parity: false,
        token: None,
    };
    let datagrams = flight
        .seal(hall.random, hall.entropy)
        .map_err(|_| DropReason::HelloInvalid)?;
    let size: usize = datagrams.iter().map(Vec::len).sum();
    if size > entry.allowance() {
        return Err(DropReason::Amplification);
    }
    entry.sent += size;
    entry.times_answered += 1;
    for datagram in datagrams {
        (hall.out)(entry.route, datagram);
    }
    tracer.tell_endpoint(&Event::HelloAnswered {
        again: entry.times_answered > 1,
    });
    Ok(())
}
