//! The bytes of netlink: messages with a header of 16 bytes, in them attributes with one of 4, all aligned to 4 bytes and in
//! the order of bytes of this machine (`linux/netlink.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Flags of a request.
pub(super) const ACK: u16 = 0x4;
pub(super) const EXCLUSIVE: u16 = 0x200;
pub(super) const CREATE: u16 = 0x400;
pub(super) const DUMP: u16 = 0x300;
const REQUEST: u16 = 0x1;

/// Linux's numbers of the families.
pub(super) const UNSPEC: u8 = 0;
pub(super) const INET: u8 = 2;
pub(super) const INET6: u8 = 10;

const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// What is left of an attribute's type without the flags "nested" and "network byte order".
const TYPE_MASK: u16 = 0x3fff;

/// What the kernel sent is not netlink, or not what its message says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed(pub(super) &'static str);

/// A message on its way to the kernel.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    pub(super) fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        Self { bytes }
    }

    /// A piece of the header of the message's own kind.
    pub(super) fn fixed(mut self, piece: &[u8]) -> Self {
        self.bytes.extend(piece);
        self
    }

    /// `payload` is a number, a name or an address, or a few attributes: far below the 64 KiB an attribute may have.
    pub(super) fn attribute(mut self, kind: u16, payload: &[u8]) -> Self {
        push_attribute(&mut self.bytes, kind, payload);
        self
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    pub(super) fn number_if(self, kind: u16, value: Option<u32>) -> Self {
        match value {
            Some(value) => self.number(kind, value),
            None => self,
        }
    }

    pub(super) fn address(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    /// The message, which the kernel answers under this number.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = (self.bytes.len() as u32).to_ne_bytes();
        let header = length.into_iter().zip(0..4);
        let header = header.chain(sequence.to_ne_bytes().into_iter().zip(8..12));
        for (byte, at) in header {
            if let Some(place) = self.bytes.get_mut(at) {
                *place = byte;
            }
        }
        self.bytes
    }
}

pub(super) fn push_attribute(bytes: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    debug_assert!(payload.len() <= usize::from(u16::MAX) - ATTRIBUTE_HEADER);
    bytes.extend(((ATTRIBUTE_HEADER + payload.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(aligned(bytes.len()), 0);
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A message of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// Header of the kind, then attributes.
    pub(super) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The header of the kind, and the attributes behind it.
    pub(super) fn split<const FIXED: usize>(&self) -> Result<(&'a [u8; FIXED], Attributes<'a>), Malformed> {
        let (fixed, rest) = self
            .payload
            .split_first_chunk()
            .ok_or(Malformed("a message is shorter than its header"))?;
        Ok((fixed, Attributes { rest }))
    }
}

/// The messages of a datagram.
#[derive(Debug)]
pub(super) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(super) fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    /// After an error there is nothing more.
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        let Some((header, _)) = rest.split_first_chunk::<HEADER>() else {
            return Some(Err(Malformed("a datagram ends within a header")));
        };
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(payload) = rest.get(HEADER..length) else {
            return Some(Err(Malformed("a message says a wrong length")));
        };
        self.rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(Ok(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        }))
    }
}

/// The attributes of a message, or of an attribute that holds some.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Attributes<'a> {
    /// Type and value. After an error there is nothing more.
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        // Less than a header is padding.
        let (header, _) = rest.split_first_chunk::<ATTRIBUTE_HEADER>()?;
        let [l0, l1, k0, k1] = *header;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = rest.get(ATTRIBUTE_HEADER..length) else {
            return Some(Err(Malformed("an attribute says a wrong length")));
        };
        self.rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(Ok((u16::from_ne_bytes([k0, k1]) & TYPE_MASK, value)))
    }
}

pub(super) fn number(value: &[u8]) -> Result<u32, Malformed> {
    let bytes = value
        .first_chunk()
        .ok_or(Malformed("an attribute is too short for a number"))?;
    Ok(u32::from_ne_bytes(*bytes))
}

/// An address of the family its length tells.
pub(super) fn address(value: &[u8]) -> Result<IpAddr, Malformed> {
    let v4 = <[u8; 4]>::try_from(value).map(Ipv4Addr::from).map(IpAddr::V4);
    let v6 = || <[u8; 16]>::try_from(value).map(Ipv6Addr::from).map(IpAddr::V6);
    v4.or_else(|_| v6())
        .map_err(|_| Malformed("an address has neither 4 nor 16 bytes"))
}

/// Text up to its zero byte, and no more of it than anybody reads.
pub(super) fn text(value: &[u8]) -> String {
    const LONGEST: usize = 256;
    let value = value.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value.get(..LONGEST).unwrap_or(value)).into_owned()
}

pub(super) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { INET } else { INET6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back() {
        let bytes = Request::new(24, ACK | CREATE)
            .fixed(&[1, 2, 3, 4])
            .number(15, 0xdead_beef)
            .attribute(3, b"tun0\0")
            .address(1, "10.1.2.3".parse().unwrap())
            .address(5, "2001:db8::1".parse().unwrap())
            .number_if(6, None)
            .finish(77);
        let messages: Vec<_> = Messages::new(&bytes).map(Result::unwrap).collect();
        let [message] = messages[..] else {
            panic!("one message, not {}", messages.len())
        };
        assert_eq!((message.kind, message.sequence), (24, 77));
        assert_eq!(message.flags, REQUEST | ACK | CREATE);
        let (fixed, attributes) = message.split::<4>().unwrap();
        assert_eq!(fixed, &[1, 2, 3, 4]);
        let found: Vec<_> = attributes.map(Result::unwrap).collect();
        assert_eq!(found.len(), 4);
        assert_eq!((found[0].0, number(found[0].1)), (15, Ok(0xdead_beef)));
        assert_eq!((found[1].0, text(found[1].1)), (3, "tun0".to_owned()));
        assert_eq!(address(found[2].1), Ok("10.1.2.3".parse().unwrap()));
        assert_eq!(address(found[3].1), Ok("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn lengths_that_cannot_be_are_errors_and_the_end() {
        let mut bytes = Request::new(1, 0).number(2, 3).finish(1);
        bytes[16] = 9;
        let message = Messages::new(&bytes).next().unwrap().unwrap();
        let (_, mut attributes) = message.split::<0>().unwrap();
        assert!(attributes.next().unwrap().is_err());
        assert!(attributes.next().is_none());
        assert!(message.split::<9>().is_err());
        for length in [0, 15, 25] {
            bytes[0] = length;
            let mut messages = Messages::new(&bytes);
            assert!(messages.next().unwrap().is_err(), "{length}");
            assert!(messages.next().is_none());
        }
        assert!(Messages::new(&bytes[..15]).next().unwrap().is_err());
    }
}
