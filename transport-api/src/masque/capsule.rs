//! Capsules (RFC 9297 §3.2): type, length, value, one after another on the data stream of a request.
//!
//! The parser never holds a value back: it says where one begins, hands its bytes on as they come, and says where it
//! ends. Skipping an unknown capsule is ignoring its events.

use crate::http::varint::{self, PairReader};

/// Capsule types.
pub mod kind {
    /// An HTTP datagram on the stream (RFC 9297 §3.5).
    pub const DATAGRAM: u64 = 0x00;
}

/// A piece of the capsule sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A capsule begins.
    Header {
        /// Capsule type.
        kind: u64,
        /// Bytes of the value.
        len: u64,
    },
    /// Bytes of the value, never empty.
    Chunk(&'a [u8]),
    /// The value is whole.
    End,
}

/// The stream ended inside a capsule: a malformed message (RFC 9297 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

/// Incremental parser; it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct CapsuleParser {
    header: PairReader,
    /// Bytes of the value still to come; `None` between capsules.
    value: Option<u64>,
}

impl CapsuleParser {
    /// A parser at the beginning of the data stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next piece; what it covers is taken off `input`. `None` when all of `input` is used up.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<Piece<'a>> {
        match self.value {
            None => {
                let (kind, len) = self.header.take(input)?;
                self.value = Some(len);
                Some(Piece::Header { kind, len })
            }
            Some(0) => {
                self.value = None;
                Some(Piece::End)
            }
            Some(left) if !input.is_empty() => {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let (chunk, rest) = input.split_at_checked(here)?;
                *input = rest;
                self.value = Some(left - here as u64);
                Some(Piece::Chunk(chunk))
            }
            Some(_) => None,
        }
    }

    /// The stream ended cleanly.
    pub fn finish(&self) -> Result<(), Truncated> {
        if self.value.is_some_and(|left| left > 0) || self.header.is_partial() {
            Err(Truncated)
        } else {
            Ok(())
        }
    }
}

/// Appends a whole capsule.
pub fn put(out: &mut Vec<u8>, kind: u64, value: &[u8]) {
    varint::put(out, kind);
    varint::put(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed = (Vec<(u64, Vec<u8>)>, Result<(), Truncated>);

    /// The sequence as (type, value), however it is cut.
    fn parse(pieces: &[&[u8]]) -> Parsed {
        let mut parser = CapsuleParser::new();
        let mut capsules: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut open = None;
        for piece in pieces {
            let mut input = *piece;
            while let Some(piece) = parser.next(&mut input) {
                match piece {
                    Piece::Header { kind, len } => assert!(open.replace((kind, len, Vec::new())).is_none()),
                    Piece::Chunk(bytes) => open.as_mut().expect("header first").2.extend_from_slice(bytes),
                    Piece::End => {
                        let (kind, len, value) = open.take().expect("header first");
                        assert_eq!(len, value.len() as u64);
                        capsules.push((kind, value));
                    }
                }
            }
            assert!(input.is_empty());
        }
        (capsules, parser.finish())
    }

    const PING: &[u8] = &[0x00, 0x05, 0x00, 0x70, 0x69, 0x6e, 0x67];
    const VECTORS: [&[u8]; 4] = [
        PING,
        &[0x40, 0x00, 0x40, 0x05, 0x00, 0x70, 0x69, 0x6e, 0x67],
        &[0x00, 0x01, 0x00],
        &[
            0x17, 0x08, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0x00, 0x05, 0x00, 0x70, 0x69, 0x6e,
            0x67,
        ],
    ];

    #[test]
    fn every_cut_gives_the_same_capsules() {
        for vector in VECTORS {
            let (whole, end) = parse(&[vector]);
            assert_eq!(end, Ok(()));
            let single: Vec<&[u8]> = vector.chunks(1).collect();
            assert_eq!(parse(&single).0, whole);
            for cut in 0..=vector.len() {
                assert_eq!(parse(&[&vector[..cut], &vector[cut..]]).0, whole);
            }
            let doubled = [vector, vector].concat();
            assert_eq!(parse(&[&doubled]).0, [whole.clone(), whole].concat());
        }
    }

    #[test]
    fn random_sequences_survive_random_cuts() {
        arbtest::arbtest(|u| {
            let sent: Vec<(u64, Vec<u8>)> = u.arbitrary()?;
            let mut wire = Vec::new();
            for (kind, value) in &sent {
                put(&mut wire, kind & varint::MAX, value);
            }
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(u.int_in_range(1..=rest.len())?);
                pieces.push(piece);
                rest = after;
            }
            let expected: Vec<_> = sent.into_iter().map(|(k, v)| (k & varint::MAX, v)).collect();
            let (got, end) = parse(&pieces);
            assert_eq!((got, end), (expected, Ok(())));
            Ok(())
        });
    }

    #[test]
    fn a_stream_that_ends_inside_a_capsule_is_truncated() {
        // X19, and every other place to stop.
        assert_eq!(
            parse(&[&[0x00, 0x0a, 0x00, 0x70, 0x69, 0x6e, 0x67]]).1,
            Err(Truncated)
        );
        for cut in 1..PING.len() {
            assert_eq!(parse(&[&PING[..cut]]).1, Err(Truncated), "{cut}");
        }
        assert_eq!(parse(&[]).1, Ok(()));
    }

    #[test]
    fn an_empty_capsule_has_header_and_end() {
        let mut parser = CapsuleParser::new();
        let mut input: &[u8] = &[0x00, 0x00];
        assert_eq!(parser.next(&mut input), Some(Piece::Header { kind: 0, len: 0 }));
        assert_eq!(parser.finish(), Ok(()));
        assert_eq!(parser.next(&mut input), Some(Piece::End));
        assert_eq!(parser.next(&mut input), None);
    }
}
