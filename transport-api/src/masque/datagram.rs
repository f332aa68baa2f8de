//! HTTP/3 datagrams (RFC 9297 §2.1): a quarter stream id and a payload.

use crate::http::varint;
use crate::http::{Code, Fault};

/// The largest quarter stream id, 2^60 - 1.
pub const MAX_QUARTER_STREAM_ID: u64 = (1 << 60) - 1;

/// Takes a datagram apart; the payload may be empty.
pub fn split(datagram: &[u8]) -> Result<(u64, &[u8]), Fault> {
    match varint::take(datagram) {
        Some((quarter, payload)) if quarter <= MAX_QUARTER_STREAM_ID => Ok((quarter, payload)),
        _ => Err(Fault::Connection(Code::DATAGRAM_ERROR)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        // V2: "ping" for stream 44.
        assert_eq!(
            split(&[0x0b, 0x00, 0x70, 0x69, 0x6e, 0x67]),
            Ok((11, &[0, 0x70, 0x69, 0x6e, 0x67][..]))
        );
        assert_eq!(split(&[0x0b]), Ok((11, &[][..])));
        // X1: one beyond the largest id, and the largest itself.
        let fault = Err(Fault::Connection(Code::DATAGRAM_ERROR));
        assert_eq!(split(&[0xd0, 0, 0, 0, 0, 0, 0, 0, 0]), fault);
        let largest = [0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
        assert_eq!(split(&largest), Ok((MAX_QUARTER_STREAM_ID, &[0][..])));
        // X2: too short for an id.
        assert_eq!(split(&[]), fault);
        assert_eq!(split(&[0x40]), fault);
    }
}
