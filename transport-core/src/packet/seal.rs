//! Encrypting a built packet, and masking all headers of a batch before it leaves.

use std::fmt;

use transport_crypto::{CidMasks, Counter, Direction, KeyExhausted, SealKeys};

use super::{Builder, mask_header};
use crate::buffer::{Batch, MAX_SEGMENTS};
use crate::wire::header::TAG_LEN;

/// Why a packet was not sealed. The batch is as it was before the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SealError {
    /// It has no frames; a receiver would close the connection (RFC 9000 §12.4).
    Empty,
    /// The key may not seal any more, or the number was used.
    Key(KeyExhausted),
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a packet without frames"),
            Self::Key(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SealError {}

impl Builder<'_> {
    /// Encrypts the packet in place with the nonce of its number on `path` and makes it a segment of the batch, its header
    /// still clear: [`mask_batch`] comes before the batch leaves. Gives the bytes of the datagram.
    pub fn seal(mut self, keys: &mut SealKeys, path: u32) -> Result<usize, SealError> {
        if self.is_empty() {
            return Err(SealError::Empty);
        }
        let sealed = self.sealed.take();
        sealed
            .unwrap_or_else(|| self.encrypt(keys, path, &[]))
            .map_err(SealError::Key)?;
        let size = self.size();
        self.batch.commit(size);
        Ok(size)
    }

    /// Encrypts the packet where it stands; its last bytes are those of `tail`.
    pub(super) fn encrypt(
        &mut self,
        keys: &mut SealKeys,
        path: u32,
        tail: &[u8],
    ) -> Result<(), KeyExhausted> {
        let size = self.size();
        let space = self
            .batch
            .reserve(self.limit)
            .and_then(|space| space.get_mut(..size));
        let (header, sealed) = space
            .and_then(|space| space.split_at_mut_checked(self.header_len))
            .ok_or(KeyExhausted::BodyTooLong)?;
        let at = Counter {
            lane: path,
            number: self.number,
        };
        keys.seal_from(at, header, sealed, tail)
    }
}

/// Masks the headers of all packets sealed into `batch` since the last call. They must all be from the connection of
/// `keys`; `direction` is the one they travel.
pub fn mask_batch(batch: &mut Batch, keys: &SealKeys, cids: &CidMasks, direction: Direction) {
    let mut samples = [[0; TAG_LEN]; MAX_SEGMENTS];
    let mut count = 0;
    for (packet, sample) in batch.unfinished().zip(&mut samples) {
        if let Some(tag) = packet.last_chunk() {
            *sample = *tag;
        }
        count += 1;
    }
    let mut packet_masks = [[0; 5]; MAX_SEGMENTS];
    let mut cid_masks = [[0; 9]; MAX_SEGMENTS];
    let samples = samples.get(..count).unwrap_or_default();
    keys.masks(samples, packet_masks.get_mut(..count).unwrap_or_default());
    cids.masks(direction, samples, cid_masks.get_mut(..count).unwrap_or_default());
    for (packet, (cid, mask)) in batch.unfinished().zip(cid_masks.iter().zip(&packet_masks)) {
        mask_header(packet, cid, mask);
    }
    batch.finish();
}
