//! Cutting IPv4 packets for a narrower link (RFC 791 §3.2 "An Example Fragmentation Procedure").

use super::bytes::set_u16;
use super::checksum::checksum;
use super::packet::{Packet, V4_HEADER, Version};

/// Why a packet cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncut {
    /// It may not be: DF is set, or it is IPv6. Its sender is told ([`super::icmp::Problem::TooBig`]).
    DontFragment,
    /// Its header and eight bytes more do not fit.
    TooNarrow,
    /// Its options are malformed.
    BadOptions,
}

const MORE: u16 = 0x2000;
/// An option that every fragment has (RFC 791 §3.1).
const COPIED: u8 = 0x80;

/// Gives `packet` in fragments of at most `mtu` bytes to `each`, as header and payload, in order; nothing but the header is
/// copied. A packet that fits is given as it is.
///
/// # Errors
/// It does not fit and cannot be cut; then `each` was not called.
pub fn fragment(packet: &Packet<'_>, mtu: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<(), Uncut> {
    let (header, payload) = packet
        .bytes()
        .split_at_checked(packet.header_len())
        .unwrap_or_default();
    if packet.len() <= mtu {
        each(header, payload);
        return Ok(());
    }
    if packet.dont_fragment() || packet.version() == Version::V6 {
        return Err(Uncut::DontFragment);
    }
    let mut first = Header::whole(header);
    let mut later = Header::later(header).ok_or(Uncut::BadOptions)?;
    // Each but the last holds a multiple of eight bytes.
    let room = |header: &Header| mtu.saturating_sub(header.len) & !7;
    let (in_first, in_later) = (room(&first), room(&later));
    if in_first == 0 || in_later == 0 {
        return Err(Uncut::TooNarrow);
    }
    let more = header.get(6).is_some_and(|flags| flags & 0x20 != 0);
    let mut at = packet.fragment_offset();
    let (mut rest, mut header, mut most) = (payload, &mut first, in_first);
    loop {
        // What is the last may use the room that is no multiple of eight.
        let here = if header.len + rest.len() <= mtu {
            rest.len()
        } else {
            most
        };
        let (data, after) = rest.split_at_checked(here).unwrap_or((rest, &[]));
        each(header.of(data.len(), at, more || !after.is_empty()), data);
        if after.is_empty() {
            return Ok(());
        }
        at += data.len();
        (rest, header, most) = (after, &mut later, in_later);
    }
}

/// A header of up to 60 bytes, of which lengths, offset and checksum are still to be written.
struct Header {
    bytes: [u8; 60],
    len: usize,
}

impl Header {
    fn whole(header: &[u8]) -> Self {
        let mut new = Self {
            bytes: [0; 60],
            len: 0,
        };
        new.push(header);
        new
    }

    /// That of the second and all later fragments: without the options that only the first has. `None` when the options
    /// cannot be told apart.
    fn later(header: &[u8]) -> Option<Self> {
        let (fixed, mut options) = header.split_at_checked(V4_HEADER)?;
        let mut new = Self::whole(fixed);
        while let Some((&kind, rest)) = options.split_first() {
            let len = match kind {
                0 => break,
                1 => 1,
                _ => usize::from(*rest.first()?),
            };
            if len == 0 || (kind > 1 && len < 2) {
                return None;
            }
            let (option, after) = options.split_at_checked(len)?;
            if kind & COPIED != 0 {
                new.push(option);
            }
            options = after;
        }
        // "End of options" is zero, which the rest of the word is already.
        new.len = new.len.next_multiple_of(4);
        if let Some(first) = new.bytes.first_mut() {
            *first = 0x40 | (new.len / 4) as u8;
        }
        Some(new)
    }

    fn push(&mut self, part: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + part.len()) {
            room.copy_from_slice(part);
            self.len += part.len();
        }
    }

    /// The header of a fragment with `payload` bytes that begin at `at` of the whole.
    fn of(&mut self, payload: usize, at: usize, more: bool) -> &[u8] {
        let header = self.bytes.get_mut(..self.len).unwrap_or_default();
        let reserved = header.get(6).map_or(0, |flags| u16::from(flags & 0x80) << 8);
        let flags = reserved | if more { MORE } else { 0 };
        set_u16(header, 2, (header.len() + payload) as u16);
        set_u16(header, 6, flags | (at / 8) as u16);
        set_u16(header, 10, 0);
        set_u16(header, 10, checksum(header));
        header
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn cut(packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, Uncut> {
        let mut pieces = Vec::new();
        fragment(&Packet::parse(packet).unwrap(), mtu, |header, payload| {
            pieces.push([header, payload].concat());
        })?;
        Ok(pieces)
    }

    /// Payload of pieces that follow one another, and whether the last is the last.
    fn joined(pieces: &[Vec<u8>], mut at: usize) -> (Vec<u8>, bool) {
        let mut whole = Vec::new();
        let mut more = true;
        for piece in pieces {
            let packet = Packet::parse(piece).unwrap();
            assert!(more, "nothing behind the last");
            assert_eq!(packet.fragment_offset(), at);
            let payload = &piece[packet.header_len()..];
            more = piece[6] & 0x20 != 0;
            at += payload.len();
            whole.extend_from_slice(payload);
        }
        (whole, !more)
    }

    #[test]
    fn pieces_are_full_and_in_order() {
        let data: Vec<u8> = (0..3000_u32).map(|i| i as u8).collect();
        let packet = sample::v4(17, 0, 77, &[], &data);
        let pieces = cut(&packet, 1280).unwrap();
        let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
        assert_eq!(lengths, [1276, 1276, 508]);
        assert_eq!(joined(&pieces, 0), (data, true));
        for piece in &pieces {
            assert_eq!((&piece[4..6], &piece[8..10]), (&packet[4..6], &packet[8..10]));
            assert_eq!(piece[12..20], packet[12..20]);
        }
        assert_eq!(cut(&packet, 3020).unwrap(), [packet]);
    }

    #[test]
    fn the_first_has_all_options_the_others_those_to_copy() {
        // Record route stays behind; the router alert and loose source routing go along.
        let options = [7, 3, 4, 0x94, 4, 0, 0, 1, 0x83, 3, 4, 0];
        let packet = sample::v4(17, 0, 77, &options, &[5; 100]);
        let pieces = cut(&packet, 80).unwrap();
        assert_eq!(pieces[0][20..32], options);
        assert_eq!(pieces[1][0], 0x47);
        assert_eq!(pieces[1][20..28], [0x94, 4, 0, 0, 0x83, 3, 4, 0]);
        assert_eq!(joined(&pieces, 0), (vec![5; 100], true));
    }

    #[test]
    fn what_may_not_or_cannot_be_cut() {
        let long = [0; 100];
        let result = |packet: &[u8], mtu| cut(packet, mtu).unwrap_err();
        assert_eq!(
            result(&sample::v4(17, 0x4000, 1, &[], &long), 80),
            Uncut::DontFragment
        );
        assert_eq!(
            result(&sample::udp(false, 1, [1, 2], &long), 80),
            Uncut::DontFragment
        );
        assert_eq!(result(&sample::v4(17, 0, 1, &[], &long), 27), Uncut::TooNarrow);
        assert!(cut(&sample::v4(17, 0, 1, &[], &long), 28).is_ok());
        for options in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 9, 0, 0], [1, 1, 1, 7]] {
            assert_eq!(
                result(&sample::v4(17, 0, 1, &options, &long), 80),
                Uncut::BadOptions
            );
        }
    }

    #[test]
    fn reassembled_it_is_the_original() {
        arbtest::arbtest(|u| {
            let mut options = Vec::new();
            for _ in 0..u.int_in_range(0..=3)? {
                match u.int_in_range(0..=2)? {
                    0 => options.push(1),
                    1 => options.extend_from_slice(&[0x94, 4, 0, 0]),
                    _ => options.extend_from_slice(&[7, 7, 4, 1, 2, 3, 4]),
                }
            }
            options.resize(options.len().next_multiple_of(4), 0);
            // It may be a piece already, which cuts of eight bytes are made of unless it is the last.
            let (offset, more): (u16, bool) = (u.int_in_range(0..=4000)?, u.arbitrary()?);
            let data = vec![
                u.arbitrary()?;
                u.int_in_range(0..=400)? * 8 + if more { 0 } else { u.int_in_range(0..=7)? }
            ];
            let field = offset | if more { MORE } else { 0 };
            let packet = sample::v4(17, field, u.arbitrary()?, &options, &data);
            let mtu = u.int_in_range(68..=1500)?;
            let pieces = cut(&packet, mtu).unwrap();
            assert!(pieces.iter().all(|piece| piece.len() <= mtu));
            assert_eq!(joined(&pieces, usize::from(offset) * 8), (data, !more));
            assert_eq!(pieces[0][20..20 + options.len()], options);
            Ok(())
        });
    }
}
