//! Handshake messages are larger than a datagram: cut into fragments here, and put together again.
//!
//! A transmission has fragments of equal length, the last one shorter. A repeated one may have other lengths, and ends with
//! one more fragment, the exclusive-or of all others: it has the highest index, and offset zero. Fragments of different
//! transmissions of one message complete each other.
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

use std::ops::RangeInclusive;

use transport_crypto::{
    Direction, ENVELOPE_OVERHEAD, Entropy, EnvelopeError, EnvelopeHeader, EnvelopeKeys, EnvelopeType,
    TOKEN_LEN,
};

use crate::random::Random;

/// Name of a handshake, chosen by the client.
pub(super) type Hid = [u8; 8];
/// What a relay under load wants to see again.
pub(super) type Token = [u8; TOKEN_LEN];

/// Sizes of handshake datagrams, bytes: each of them shows that more than the floor passes.
pub(super) const SIZES: RangeInclusive<usize> = 1001..=1232;
/// The same where larger ones seem to vanish.
pub(super) const SMALL_SIZES: RangeInclusive<usize> = 900..=1000;
/// Room for chance in the length of each datagram, so that none has a length of its own.
const SPREAD: usize = 64;
/// The longest message that one datagram holds, token and chance included.
pub(super) const ONE_DATAGRAM: usize = *SIZES.end() - ENVELOPE_OVERHEAD - TOKEN_LEN - SPREAD;
/// The longest message of a handshake.
pub(super) const MAX_MESSAGE: usize = 4096;
/// Separate pieces of one message that are kept apart.
const MAX_PIECES: usize = 16;

/// One message on its way out.
pub(super) struct Flight<'a> {
    pub(super) keys: &'a EnvelopeKeys,
    pub(super) direction: Direction,
    pub(super) kind: EnvelopeType,
    pub(super) hid: Hid,
    pub(super) unix_ms: u64,
    pub(super) body: &'a [u8],
    pub(super) sizes: RangeInclusive<usize>,
    pub(super) parity: bool,
    /// Carried by every datagram.
    pub(super) token: Option<Token>,
}

impl Flight<'_> {
    /// Its datagrams, each of a random size.
    pub(super) fn seal(
        &self,
        random: &mut Random,
        entropy: &mut dyn Entropy,
    ) -> Result<Vec<Vec<u8>>, EnvelopeError> {
        let most = self.sizes.end().saturating_sub(self.overhead() + SPREAD).max(1);
        let pieces = self.body.len().div_ceil(most).max(1);
        let length = self.body.len().div_ceil(pieces).max(1);
        let with_parity = self.parity && pieces > 1;
        let count = pieces + usize::from(with_parity);
        let mut datagrams = Vec::with_capacity(count);
        for (index, fragment) in self.body.chunks(length).enumerate() {
            datagrams.push(self.seal_one(index, count, index * length, fragment, random, entropy)?);
        }
        if with_parity {
            let mut parity = vec![0; length];
            for fragment in self.body.chunks(length) {
                parity
                    .iter_mut()
                    .zip(fragment)
                    .for_each(|(sum, byte)| *sum ^= byte);
            }
            datagrams.push(self.seal_one(pieces, count, 0, &parity, random, entropy)?);
        }
        Ok(datagrams)
    }

    fn overhead(&self) -> usize {
        ENVELOPE_OVERHEAD + self.token.map_or(0, |token| token.len())
    }

    fn seal_one(
        &self,
        index: usize,
        count: usize,
        offset: usize,
        fragment: &[u8],
        random: &mut Random,
        entropy: &mut dyn Entropy,
    ) -> Result<Vec<u8>, EnvelopeError> {
        let header = EnvelopeHeader {
            kind: self.kind,
            hid: self.hid,
            unix_minutes: u32::try_from(self.unix_ms / 60_000).unwrap_or(u32::MAX),
            index: index as u8,
            count: count as u8,
            total_len: self.body.len() as u16,
            fragment_offset: offset as u16,
            fragment_len: fragment.len() as u16,
            token: self.token,
        };
        let low = (fragment.len() + self.overhead()).max(*self.sizes.start());
        let size = random.within(low as u64, (*self.sizes.end()).max(low) as u64) as usize;
        let mut datagram = Vec::with_capacity(size);
        self.keys
            .seal(self.direction, &header, fragment, size, entropy, &mut datagram)?;
        Ok(datagram)
    }
}

/// Whether a fragment is the exclusive-or of the others: only the first of those has offset zero.
pub(super) fn is_parity(header: &EnvelopeHeader) -> bool {
    header.index > 0 && header.fragment_offset == 0
}

/// A fragment contradicts those before it, or itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mismatch;

/// One message on its way in.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    /// What is there: disjoint, ascending, not touching.
    pieces: Vec<(usize, usize)>,
    /// Exclusive-or over that many equal fragments.
    parity: Option<(usize, Vec<u8>)>,
}

impl Body {
    /// A message of `total` bytes, at most [`MAX_MESSAGE`].
    pub(super) fn new(total: u16) -> Option<Self> {
        let total = usize::from(total);
        let possible = (1..=MAX_MESSAGE).contains(&total);
        possible.then(|| Self {
            bytes: vec![0; total],
            pieces: Vec::new(),
            parity: None,
        })
    }

    /// Allocated bytes, as if a parity fragment had come.
    pub(super) fn cost(total: u16) -> usize {
        usize::from(total) * 2 + MAX_PIECES * size_of::<(usize, usize)>()
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        let parity = self.parity.as_ref().map_or(0, |(_, bytes)| bytes.capacity());
        self.bytes.capacity() + parity + self.pieces.capacity() * size_of::<(usize, usize)>()
    }

    /// Adds a fragment. True when the message is complete.
    pub(super) fn add(&mut self, header: &EnvelopeHeader, fragment: &[u8]) -> Result<bool, Mismatch> {
        let offset = usize::from(header.fragment_offset);
        if usize::from(header.total_len) != self.bytes.len() || fragment.is_empty() {
            return Err(Mismatch);
        }
        if is_parity(header) {
            self.add_parity(header, fragment)?;
        } else {
            self.add_piece(offset, fragment)?;
        }
        self.recover();
        Ok(self.is_complete())
    }

    fn add_piece(&mut self, offset: usize, fragment: &[u8]) -> Result<(), Mismatch> {
        let end = offset + fragment.len();
        let place = self.bytes.get_mut(offset..end).ok_or(Mismatch)?;
        if self.pieces.iter().any(|(from, to)| *from <= offset && end <= *to) {
            return Ok(());
        }
        place.copy_from_slice(fragment);
        self.pieces.push((offset, end));
        self.pieces.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(self.pieces.len());
        for (from, to) in self.pieces.drain(..) {
            match merged.last_mut() {
                Some((_, last)) if from <= *last => *last = (*last).max(to),
                _ => merged.push((from, to)),
            }
        }
        self.pieces = merged;
        if self.pieces.len() > MAX_PIECES {
            Err(Mismatch)
        } else {
            Ok(())
        }
    }

    fn add_parity(&mut self, header: &EnvelopeHeader, fragment: &[u8]) -> Result<(), Mismatch> {
        let pieces = usize::from(header.index);
        let fits = header.index + 1 == header.count && fragment.len() == self.bytes.len().div_ceil(pieces);
        if !fits {
            return Err(Mismatch);
        }
        self.parity = Some((pieces, fragment.to_vec()));
        Ok(())
    }

    /// With all fragments but one, and the parity, the missing one is known.
    fn recover(&mut self) {
        let Some((_, parity)) = &self.parity else { return };
        let length = parity.len();
        let total = self.bytes.len();
        let there = |from: usize| {
            let to = (from + length).min(total);
            self.pieces
                .iter()
                .any(|(start, end)| *start <= from && to <= *end)
        };
        let mut missing = (0..total).step_by(length.max(1)).filter(|from| !there(*from));
        let (Some(from), None) = (missing.next(), missing.next()) else {
            return;
        };
        let mut fragment = parity.clone();
        for (_, other) in self
            .bytes
            .chunks(length.max(1))
            .enumerate()
            .filter(|(index, _)| index * length != from)
        {
            fragment
                .iter_mut()
                .zip(other)
                .for_each(|(sum, byte)| *sum ^= byte);
        }
        fragment.truncate(total - from);
        // Cannot fail: the piece lies inside the message.
        let _ = self.add_piece(from, &fragment);
    }

    fn is_complete(&self) -> bool {
        self.pieces == [(0, self.bytes.len())]
    }

    /// The message; of use once it is complete.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use transport_crypto::{Grant, SeededEntropy};

    use super::*;

    fn datagrams(body: &[u8], sizes: RangeInclusive<usize>, parity: bool) -> Vec<(EnvelopeHeader, Vec<u8>)> {
        let keys = EnvelopeKeys::new(&[1; 32], 1, &Grant::default());
        let direction = Direction::ClientToServer;
        let flight = Flight {
            keys: &keys,
            direction,
            kind: EnvelopeType::ClientHello,
            hid: [7; 8],
            unix_ms: 1_700_000_000_000,
            body,
            sizes: sizes.clone(),
            parity,
            token: None,
        };
        let sealed = flight
            .seal(&mut Random::new([2; 32]), &mut SeededEntropy::new([3; 32]))
            .unwrap();
        sealed
            .into_iter()
            .map(|mut datagram| {
                assert!(sizes.contains(&datagram.len()));
                assert!(keys.recognises(direction, &datagram));
                let (header, fragment) = keys.open(direction, &mut datagram).unwrap();
                (header, fragment.to_vec())
            })
            .collect()
    }

    fn message(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 % 251) as u8).collect()
    }

    #[test]
    fn a_message_in_any_order() {
        for (len, pieces) in [(1, 1), (1106, 1), (1107, 2), (2500, 3), (3700, 4), (4096, 4)] {
            let body = message(len);
            let mut parts = datagrams(&body, SIZES, false);
            assert_eq!(parts.len(), pieces);
            parts.reverse();
            let mut whole = Body::new(len as u16).unwrap();
            let done: Vec<bool> = parts
                .iter()
                .map(|(header, part)| whole.add(header, part).unwrap())
                .collect();
            assert_eq!(done.iter().filter(|done| **done).count(), 1);
            assert_eq!(whole.bytes(), body);
        }
    }

    #[test]
    fn parity_stands_in_for_any_one_fragment() {
        let body = message(3641);
        let parts = datagrams(&body, SIZES, true);
        assert_eq!(parts.len(), 5);
        for lost in 0..5 {
            let mut whole = Body::new(3641).unwrap();
            let mut done = false;
            for (_, (header, part)) in parts.iter().enumerate().filter(|(index, _)| *index != lost) {
                done = whole.add(header, part).unwrap();
            }
            assert!(done, "without {lost}");
            assert_eq!(whole.bytes(), body);
        }
    }

    #[test]
    fn transmissions_with_different_fragments_complete_each_other() {
        let body = message(3900);
        let large = datagrams(&body, SIZES, false);
        let small = datagrams(&body, SMALL_SIZES, true);
        assert_eq!((large.len(), small.len()), (4, 6));
        let mut whole = Body::new(3900).unwrap();
        for (header, part) in [&large[0], &large[3], &small[1], &small[2]] {
            assert_eq!(whole.add(header, part), Ok(false));
        }
        assert_eq!(whole.add(&small[3].0, &small[3].1), Ok(true));
        assert_eq!(whole.bytes(), body);
    }

    #[test]
    fn contradictions_are_refused() {
        let body = message(2500);
        let parts = datagrams(&body, SIZES, true);
        let (header, part) = &parts[1];
        let mut whole = Body::new(2400).unwrap();
        assert_eq!(whole.add(header, part), Err(Mismatch));
        let mut whole = Body::new(2500).unwrap();
        assert_eq!(whole.add(header, &[]), Err(Mismatch));
        let (parity, sum) = &parts[3];
        assert_eq!(whole.add(parity, &sum[1..]), Err(Mismatch));
        assert_eq!(
            whole.add(
                &EnvelopeHeader {
                    index: 2,
                    ..parity.clone()
                },
                sum
            ),
            Err(Mismatch)
        );
        for piece in 0..MAX_PIECES as u16 {
            let tiny = EnvelopeHeader {
                fragment_offset: piece * 10 + 1,
                ..header.clone()
            };
            assert_eq!(whole.add(&tiny, &[1]), Ok(false));
        }
        let tiny = EnvelopeHeader {
            fragment_offset: 999,
            ..header.clone()
        };
        assert_eq!(whole.add(&tiny, &[1]), Err(Mismatch));
        assert!(Body::new(0).is_none() && Body::new(4097).is_none());
    }
}
