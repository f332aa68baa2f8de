//! One packet, built in place or opened in place.
//!
//! A packet changes type as it is worked on: `Builder` → segment of a batch → masked; datagram → [`Sealed`] → frames.
//! Masks are computed for many packets at once, since a call for one costs almost as much as a call for sixty.
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

pub mod build;
pub mod open;
pub mod seal;

pub use build::Builder;
pub use open::{MIN_PACKET, Sealed, clear_cid, clear_cids, sample, samples};
pub use seal::{SealError, mask_batch};

use transport_crypto::{CidMask9, PacketMask};

use crate::wire::header::{CID_LEN, Flags};

/// Bytes a packet adds to its frames at most: header with a four-byte number, and tag.
pub const MAX_OVERHEAD: usize = crate::wire::MAX_HEADER_LEN + crate::wire::TAG_LEN;

/// Puts masks on a clear header.
fn mask_header(packet: &mut [u8], cid: &CidMask9, mask: &PacketMask) {
    if let Some(place) = packet.first_chunk_mut::<CID_LEN>() {
        xor(place, cid);
    }
    if let Some(flags) = packet.get(CID_LEN).copied().map(Flags) {
        xor_flags_and_number(packet, flags, mask);
    }
}

/// Masks, or unmasks, what stands behind the connection id; `flags` are the clear ones.
fn xor_flags_and_number(packet: &mut [u8], flags: Flags, mask: &PacketMask) {
    if let Some(place) = packet.get_mut(CID_LEN..CID_LEN + 1 + flags.number_len()) {
        xor(place, mask);
    }
}

fn xor(place: &mut [u8], mask: &[u8]) {
    place.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

#[cfg(test)]
mod tests;
