//! Checked reading and writing of byte slices.

use std::fmt;

use super::varint;

/// The input ended before the value did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Truncated;

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the input ends before the value does")
    }
}

impl std::error::Error for Truncated {}

/// Why something could not be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteError {
    /// It does not fit into what is left.
    NoRoom,
    /// An integer is above 2^62 − 1, or a list or text above its bound.
    ValueTooLarge,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoom => "no room left in the buffer",
            Self::ValueTooLarge => "a value is above what the format can carry",
        })
    }
}

impl std::error::Error for WriteError {}

/// Reads from the front of a slice; what it returns borrows that slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over all of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet read.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything was read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not yet read, without reading it.
    pub const fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Everything that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// A variable-length integer in any of its forms (RFC 9000 §16).
    pub fn varint(&mut self) -> Result<u64, Truncated> {
        let first = *self.rest.first().ok_or(Truncated)?;
        let value = match first >> 6 {
            0 => u64::from(self.u8()?),
            1 => u64::from(u16::from_be_bytes(self.array()?)) & 0x3fff,
            2 => u64::from(u32::from_be_bytes(self.array()?)) & 0x3fff_ffff,
            _ => u64::from_be_bytes(self.array()?) & varint::MAX,
        };
        Ok(value)
    }

    /// A variable-length integer that must stand in its shortest form; `None` says that it does not.
    pub fn minimal_varint(&mut self) -> Result<Option<u64>, Truncated> {
        let before = self.remaining();
        let value = self.varint()?;
        Ok((before - self.remaining() == varint::len(value)).then_some(value))
    }

    /// A variable-length integer that counts the bytes after it, and those bytes.
    pub fn prefixed(&mut self) -> Result<&'a [u8], Truncated> {
        let count = usize::try_from(self.varint()?).map_err(|_| Truncated)?;
        self.bytes(count)
    }
}

/// Writes to the front of a slice. A call that fails writes nothing.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// A writer that may fill all of `bytes`.
    pub const fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes written.
    pub const fn len(&self) -> usize {
        self.at
    }

    /// Whether nothing was written yet.
    pub const fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// Bytes that can still be written.
    pub const fn room(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    fn claim(&mut self, count: usize) -> Result<&mut [u8], WriteError> {
        let end = self.at.checked_add(count).ok_or(WriteError::NoRoom)?;
        let place = self.bytes.get_mut(self.at..end).ok_or(WriteError::NoRoom)?;
        self.at = end;
        Ok(place)
    }

    /// Appends `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.claim(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Appends one byte.
    pub fn u8(&mut self, byte: u8) -> Result<(), WriteError> {
        self.bytes(&[byte])
    }

    /// Appends `count` zero bytes.
    pub fn zeros(&mut self, count: usize) -> Result<(), WriteError> {
        self.claim(count)?.fill(0);
        Ok(())
    }

    /// Appends `value` in its shortest form (RFC 9000 §16).
    pub fn varint(&mut self, value: u64) -> Result<(), WriteError> {
        if value > varint::MAX {
            return Err(WriteError::ValueTooLarge);
        }
        match varint::len(value) {
            1 => self.u8(value as u8),
            2 => self.bytes(&(value as u16 | 0x4000).to_be_bytes()),
            4 => self.bytes(&(value as u32 | 0x8000_0000).to_be_bytes()),
            _ => self.bytes(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
        }
    }

    /// Appends the length of `bytes` as a variable-length integer, and `bytes`.
    pub fn prefixed(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let length = bytes.len() as u64;
        if varint::len(length).saturating_add(bytes.len()) > self.room() {
            return Err(WriteError::NoRoom);
        }
        self.varint(length)?;
        self.bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_read_or_write_changes_nothing() {
        let mut reader = Reader::new(&[3, 1, 2]);
        assert_eq!(reader.prefixed(), Err(Truncated));
        let mut reader = Reader::new(&[1, 2]);
        assert_eq!(reader.array::<3>(), Err(Truncated));
        assert_eq!(reader.peek(), &[1, 2]);

        let mut bytes = [9u8; 3];
        let mut writer = Writer::new(&mut bytes);
        assert_eq!(writer.prefixed(&[1, 2, 3]), Err(WriteError::NoRoom));
        assert_eq!(writer.len(), 0);
        writer.prefixed(&[1, 2]).unwrap();
        assert_eq!(writer.room(), 0);
        assert_eq!(bytes, [2, 1, 2]);
    }

    #[test]
    fn lengths_near_the_top_do_not_wrap() {
        let bytes = [0xff; 9];
        assert_eq!(Reader::new(&bytes).prefixed(), Err(Truncated));
        let mut small = [0u8; 4];
        assert_eq!(Writer::new(&mut small).zeros(usize::MAX), Err(WriteError::NoRoom));
    }
}
