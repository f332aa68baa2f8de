//! CONNECT-UDP payloads (RFC 9298 §5): a context id, and for context 0 the bytes of one UDP packet.

use super::capsule::{self, CapsuleParser, Piece};
use super::payloads::PayloadReader;
use crate::http::varint;

/// The token of extended CONNECT.
pub const PROTOCOL: &str = "connect-udp";
/// The context of unmodified UDP payloads.
pub const UDP_CONTEXT: u64 = 0;
/// The longest UDP payload that may be proxied, bytes.
pub const MAX_UDP_PAYLOAD: usize = 65_527;

/// What the peer did wrong; the stream is aborted with `H3_MESSAGE_ERROR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpFault {
    /// No whole context id.
    NoContext,
    /// More than [`MAX_UDP_PAYLOAD`] bytes on context 0.
    TooLong,
    /// The stream ended inside a capsule.
    Truncated,
}

/// One proxied payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Context 0: send or deliver it as one UDP packet.
    Udp(&'a [u8]),
    /// A context nobody registered: dropped silently.
    UnknownContext(u64),
}

/// Reads the payload of an HTTP datagram.
pub fn parse(payload: &[u8]) -> Result<Payload<'_>, UdpFault> {
    match varint::take(payload) {
        None => Err(UdpFault::NoContext),
        Some((UDP_CONTEXT, bytes)) if bytes.len() > MAX_UDP_PAYLOAD => Err(UdpFault::TooLong),
        Some((UDP_CONTEXT, bytes)) => Ok(Payload::Udp(bytes)),
        Some((context, _)) => Ok(Payload::UnknownContext(context)),
    }
}

/// Bytes in front of a UDP payload in a native datagram of the request with this quarter stream id.
pub const fn overhead(quarter_stream_id: u64) -> usize {
    varint::len(quarter_stream_id) + 1
}

/// The native datagram for one UDP payload, in `spare`, whose content goes.
pub fn datagram(mut spare: Vec<u8>, quarter_stream_id: u64, payload: &[u8]) -> Vec<u8> {
    spare.clear();
    spare.reserve_exact(overhead(quarter_stream_id) + payload.len());
    varint::put(&mut spare, quarter_stream_id);
    varint::put(&mut spare, UDP_CONTEXT);
    spare.extend_from_slice(payload);
    spare
}

/// Reads UDP payloads out of the DATAGRAM capsules on a data stream. It holds at most one payload, and none that
/// could not be sent anyhow.
#[derive(Debug)]
pub struct UdpCapsules {
    parser: CapsuleParser,
    payloads: PayloadReader,
}

impl UdpCapsules {
    /// Payloads longer than `limit` are discarded without being held (RFC 9297 §3.5).
    pub fn new(limit: usize) -> Self {
        Self {
            parser: CapsuleParser::new(),
            payloads: PayloadReader::new(limit.min(MAX_UDP_PAYLOAD), false),
        }
    }

    /// The next payload in `input`, which is taken off it; `None` when `input` is used up.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, UdpFault> {
        while let Some(piece) = self.parser.next(input) {
            match piece {
                Piece::Header {
                    kind: capsule::kind::DATAGRAM,
                    len,
                } => self.payloads.begin(len),
                Piece::Header { .. } => {}
                Piece::Chunk(chunk) => drop(self.payloads.chunk(chunk)?),
                Piece::End => {
                    if let Some((_, payload)) = self.payloads.end()? {
                        return Ok(Some(payload));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The stream ended cleanly.
    pub fn finish(&self) -> Result<(), UdpFault> {
        self.parser.finish().map_err(|_| UdpFault::Truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pieces: &[&[u8]], limit: usize) -> Result<Vec<Vec<u8>>, UdpFault> {
        let mut reader = UdpCapsules::new(limit);
        let mut out = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(payload) = reader.next(&mut input)? {
                out.push(payload);
            }
        }
        reader.finish()?;
        Ok(out)
    }

    /// All three ways to deliver a vector: whole, byte by byte, cut anywhere.
    fn every_way(wire: &[u8]) -> Result<Vec<Vec<u8>>, UdpFault> {
        let whole = run(&[wire], MAX_UDP_PAYLOAD);
        assert_eq!(run(&wire.chunks(1).collect::<Vec<_>>(), MAX_UDP_PAYLOAD), whole);
        for cut in 0..wire.len().min(64) {
            assert_eq!(
                run(&[&wire[..cut], &wire[cut..]], MAX_UDP_PAYLOAD),
                whole,
                "cut at {cut}"
            );
        }
        whole
    }

    fn ping() -> Vec<Vec<u8>> {
        vec![b"ping".to_vec()]
    }

    #[test]
    fn valid_capsules() {
        assert_eq!(every_way(&[0, 5, 0, b'p', b'i', b'n', b'g']), Ok(ping()), "V1");
        assert_eq!(
            every_way(&[0x40, 0x00, 0x40, 0x05, 0, b'p', b'i', b'n', b'g']),
            Ok(ping()),
            "V3"
        );
        assert_eq!(
            every_way(&[0, 6, 0x40, 0, b'p', b'i', b'n', b'g']),
            Ok(ping()),
            "V4"
        );
        assert_eq!(every_way(&[0, 1, 0]), Ok(vec![Vec::new()]), "V5");
        let mut grease = vec![0x17, 8, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8];
        grease.extend([0, 5, 0, b'p', b'i', b'n', b'g']);
        assert_eq!(every_way(&grease), Ok(ping()), "V6");
        let mut largest = vec![0x00, 0x80, 0x00, 0xff, 0xf8, 0x00];
        largest.resize(6 + MAX_UDP_PAYLOAD, 7);
        assert_eq!(every_way(&largest), Ok(vec![vec![7; MAX_UDP_PAYLOAD]]), "V23");
        assert_eq!(
            every_way(&[0, 3, 2, 1, 1, 0, 2, 0, 9]),
            Ok(vec![vec![9]]),
            "unknown context is skipped"
        );
    }

    #[test]
    fn invalid_capsules() {
        // X14: refused from the header alone, nothing is held.
        assert_eq!(
            run(&[&[0x00, 0x80, 0x00, 0xff, 0xf9, 0x00]], MAX_UDP_PAYLOAD),
            Err(UdpFault::TooLong)
        );
        assert_eq!(
            every_way(&[0x00, 0x0a, 0x00, b'p', b'i', b'n', b'g']),
            Err(UdpFault::Truncated),
            "X19"
        );
        assert_eq!(every_way(&[0, 0]), Err(UdpFault::NoContext), "X20");
        assert_eq!(every_way(&[0, 1, 0x40]), Err(UdpFault::NoContext), "X20");
    }

    #[test]
    fn payloads_beyond_the_limit_are_skipped() {
        let wire = [0, 5, 0, 1, 2, 3, 4, 0, 2, 0, 9];
        assert_eq!(run(&[&wire], 3), Ok(vec![vec![9]]));
    }

    #[test]
    fn native_payloads() {
        assert_eq!(
            datagram(vec![7; 3], 11, b"ping"),
            [0x0b, 0x00, 0x70, 0x69, 0x6e, 0x67],
            "V2"
        );
        assert_eq!(parse(&[0, 1]), Ok(Payload::Udp(&[1])));
        assert_eq!(parse(&[0x40, 0, 1]), Ok(Payload::Udp(&[1])));
        assert_eq!(parse(&[9, 1]), Ok(Payload::UnknownContext(9)));
        assert_eq!(parse(&[]), Err(UdpFault::NoContext));
        assert_eq!(parse(&[0x40]), Err(UdpFault::NoContext));
        assert_eq!(parse(&vec![0; MAX_UDP_PAYLOAD + 2]), Err(UdpFault::TooLong));
        assert_eq!(overhead(63), 2);
        assert_eq!(overhead(64), 3);
    }

    #[test]
    fn no_input_panics() {
        arbtest::arbtest(|u| {
            let wire: Vec<u8> = u.arbitrary()?;
            let _ = every_way(&wire);
            let _ = parse(&wire);
            Ok(())
        });
    }
}
