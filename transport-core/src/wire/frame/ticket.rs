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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{Frame, Frames};

    #[test]
    fn golden() {
        let ticket = [0x55; TICKET_LEN];
        let frame = Frame::NewTicket(NewTicket {
            serial: 0x0102_0304_0506_0708,
            lifetime_s: 86_400,
            max_early: 16_384,
            ticket: &ticket,
        });
        let head = b"\x07\x01\x02\x03\x04\x05\x06\x07\x08\x80\x01\x51\x80\x80\x00\x40\x00";
        let golden = [&head[..], &ticket].concat();
        let mut bytes = vec![0; frame.encoded_len()];
        frame.encode(&mut Writer::new(&mut bytes)).unwrap();
        assert_eq!(bytes, golden);
        assert_eq!(Frames::new(&golden).collect::<Vec<_>>(), [Ok(frame)]);
        assert!(frame.is_ack_eliciting() && !frame.is_probing() && !frame.is_allowed_early());
        assert!(frame.is_allowed_from(true) && !frame.is_allowed_from(false));
        for len in 1..golden.len() {
            let cut = Frames::new(&golden[..len]).next().unwrap();
            assert_eq!(cut.unwrap_err().fault, FrameFault::Truncated, "{len}");
        }
        let mut long = golden;
        long[9..13].copy_from_slice(&[0xc0, 0, 0, 1]);
        assert!(
            Frames::new(&long).any(|frame| frame.is_err()),
            "a lifetime beyond 32 bits"
        );
    }
}
