//! The header of a protected packet.
//!
//! ```text
//!  0  9    connection id of the receiver
//!  9  1    flags: 7 key phase | 6..5 packet number length − 1 | 4..0 random
//! 10  1-4  low bytes of the packet number, most significant first
//! ```
//! On the wire all of it is masked; here it is clear. The random bits mean nothing and are never judged.

use std::fmt;

use super::cursor::{Reader, Truncated, WriteError, Writer};

/// Bytes of a connection id.
pub const CID_LEN: usize = 9;
/// Bytes of the authentication tag at the end of every packet.
pub const TAG_LEN: usize = 16;
/// Bytes of the longest header: connection id, flags, four bytes of packet number.
pub const MAX_HEADER_LEN: usize = CID_LEN + 1 + 4;

const KEY_PHASE: u8 = 0x80;
const GREASE: u8 = 0x1f;

/// A connection id: nine bytes its receiver chose (cf. RFC 9000 §5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub [u8; CID_LEN]);

impl ConnectionId {
    /// The bytes.
    pub const fn bytes(&self) -> &[u8; CID_LEN] {
        &self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({self})")
    }
}

/// The flags byte, clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(pub u8);

impl Flags {
    /// Which key generation sealed the packet (RFC 9001 §6).
    pub const fn key_phase(self) -> bool {
        self.0 & KEY_PHASE != 0
    }

    /// Bytes of packet number after the flags, 1 to 4.
    pub const fn number_len(self) -> usize {
        ((self.0 >> 5) & 3) as usize + 1
    }
}

/// What stands before the sealed body, as a sender makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Receiver's connection id.
    pub cid: ConnectionId,
    /// Bit of the key that seals the packet.
    pub key_phase: bool,
    /// Full packet number; only the low bytes travel.
    pub number: u64,
    /// Bytes of the number that travel, 1 to 4; other values are taken as 4 (RFC 9000 §A.2 says how many are needed).
    pub number_len: usize,
    /// Random bits; the low five are used.
    pub grease: u8,
}

impl Header {
    fn number_bytes(&self) -> usize {
        if (1..=4).contains(&self.number_len) {
            self.number_len
        } else {
            4
        }
    }

    /// Bytes this header takes.
    pub fn encoded_len(&self) -> usize {
        CID_LEN + 1 + self.number_bytes()
    }

    /// Writes the header, clear.
    pub fn encode(&self, out: &mut Writer<'_>) -> Result<(), WriteError> {
        if self.encoded_len() > out.room() {
            return Err(WriteError::NoRoom);
        }
        let length = self.number_bytes();
        let phase = if self.key_phase { KEY_PHASE } else { 0 };
        out.bytes(&self.cid.0)?;
        out.u8(phase | ((length as u8 - 1) << 5) | (self.grease & GREASE))?;
        let number = (self.number as u32).to_be_bytes();
        out.bytes(number.get(4 - length..).unwrap_or_default())
    }
}

/// Flags and truncated packet number as a receiver finds them behind the connection id.
///
/// # Errors
/// [`Truncated`] when the number does not end within `bytes`.
pub fn read_flags_and_number(bytes: &[u8]) -> Result<(Flags, u32), Truncated> {
    let mut reader = Reader::new(bytes);
    let flags = Flags(reader.u8()?);
    let number = reader.bytes(flags.number_len())?;
    Ok((
        flags,
        number.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(number: u64, number_len: usize) -> Header {
        Header {
            cid: ConnectionId(*b"nine byte"),
            key_phase: true,
            number,
            number_len,
            grease: 0xff,
        }
    }

    #[test]
    fn golden() {
        let mut bytes = [0u8; MAX_HEADER_LEN];
        let mut writer = Writer::new(&mut bytes);
        header(0x1_2345_6789, 3).encode(&mut writer).unwrap();
        assert_eq!(writer.len(), 13);
        assert_eq!(&bytes[..13], b"nine byte\xdf\x45\x67\x89");
    }

    #[test]
    fn round_trip_and_truncation() {
        arbtest::arbtest(|u| {
            let made = Header {
                cid: ConnectionId(u.arbitrary()?),
                key_phase: u.arbitrary()?,
                number: u.arbitrary::<u64>()? >> 2,
                number_len: u.int_in_range(1..=4)?,
                grease: u.arbitrary()?,
            };
            let mut bytes = [0u8; MAX_HEADER_LEN];
            let mut writer = Writer::new(&mut bytes);
            made.encode(&mut writer).unwrap();
            let used = writer.len();
            assert_eq!(used, made.encoded_len());
            let (flags, number) = read_flags_and_number(&bytes[CID_LEN..used]).unwrap();
            assert_eq!(flags.key_phase(), made.key_phase);
            assert_eq!(flags.number_len(), made.number_len);
            assert_eq!(
                u64::from(number),
                made.number & (u64::MAX >> (64 - 8 * made.number_len))
            );
            for cut in CID_LEN..used {
                assert_eq!(read_flags_and_number(&bytes[CID_LEN..cut]), Err(Truncated));
            }
            Ok(())
        });
    }

    #[test]
    fn no_room_writes_nothing() {
        let mut bytes = [0u8; 12];
        let mut writer = Writer::new(&mut bytes);
        assert_eq!(header(1, 3).encode(&mut writer), Err(WriteError::NoRoom));
        assert_eq!(writer.len(), 0);
        assert_eq!(header(1, 0).encoded_len(), MAX_HEADER_LEN);
    }
}
