//! NEW_TICKET: `type ‖ serial (64) ‖ lifetime in seconds (i) ‖ early bytes (i) ‖ ticket (180 bytes)`; the role of RFC 8446 §4.6.1.

use transport_crypto::TICKET_LEN;

use super::{FrameFault, kind};
use crate::wire::cursor::{Reader, WriteError, Writer};
use crate::wire::varint;

/// A ticket to come back with; only a relay sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewTicket<'a> {
    /// Its number, from which its secret is derived.
    pub serial: u64,
    /// Seconds it lasts.
    pub lifetime_s: u32,
    /// Bytes of early data it allows; zero for none.
    pub max_early: u32,
    /// What the relay sealed.
    pub ticket: &'a [u8; TICKET_LEN],
}

impl<'a> NewTicket<'a> {
    pub(super) fn encoded_len(&self) -> usize {
        let varints = [self.lifetime_s, self.max_early].map(|value| varint::len(value.into()));
        1 + 8 + varints.iter().sum::<usize>() + TICKET_LEN
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), WriteError> {
        out.varint(kind::NEW_TICKET)?;
        out.bytes(&self.serial.to_be_bytes())?;
        out.varint(self.lifetime_s.into())?;
        out.varint(self.max_early.into())?;
        out.bytes(self.ticket)
    }

    pub(super) fn decode(input: &mut Reader<'a>) -> Result<Self, FrameFault> {
        let serial = u64::from_be_bytes(input.array()?);
        let short =
            |value: u64| u32::try_from(value).map_err(|_| FrameFault::Invalid("ticket field above 2^32 - 1"));
        let (lifetime_s, max_early) = (short(input.varint()?)?, short(input.varint()?)?);
        let ticket = input.bytes(TICKET_LEN)?;
        Ok(Self {
            serial,
            lifetime_s,
            max_early,
            ticket: ticket.first_chunk().ok_or(FrameFault::Truncated)?,
        })
    }
}
