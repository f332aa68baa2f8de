//! Opening a packet where it lies.
//!
//! 1. `clear_cids` says whose packets these are, without touching them. 2. `Sealed::unmask` clears the header. 3. The
//!    caller finds the full number and checks that it is fresh. 4. `Sealed::open` decrypts in place.

use transport_crypto::{
    CidMask9, CidMasks, Counter, Direction, Forged, Generation, OpenKeys, PacketMask, Sample,
};

use super::{xor, xor_flags_and_number};
use crate::buffer::MAX_SEGMENTS;
use crate::wire::header::{CID_LEN, ConnectionId, Flags, TAG_LEN, read_flags_and_number};

/// Bytes of the shortest packet: header with one byte of number, no frames, tag. No honest peer sends one without frames, but
/// that is a breach to be answered (RFC 9000 §12.4), not a forgery to be ignored.
pub const MIN_PACKET: usize = CID_LEN + 1 + 1 + TAG_LEN;

/// What masks are made from; `None` when the datagram is too short for a packet.
pub fn sample(datagram: &[u8]) -> Option<Sample> {
    if datagram.len() < MIN_PACKET {
        None
    } else {
        datagram.last_chunk().copied()
    }
}

/// The connection id of a datagram under `mask`; the datagram stays as it is, since it may turn out not to be a packet.
pub fn clear_cid(datagram: &[u8], mask: &CidMask9) -> Option<ConnectionId> {
    let mut cid = *datagram.first_chunk::<CID_LEN>()?;
    xor(&mut cid, mask);
    Some(ConnectionId(cid))
}

/// Puts the connection id of each datagram into `out`, in order, `None` for those too short for a packet; gives how many
/// there were, at most [`MAX_SEGMENTS`].
pub fn clear_cids<'d>(
    masks: &CidMasks,
    direction: Direction,
    datagrams: impl Iterator<Item = &'d [u8]> + Clone,
    out: &mut [Option<ConnectionId>; MAX_SEGMENTS],
) -> usize {
    let mut tags = [[0; TAG_LEN]; MAX_SEGMENTS];
    let count = samples(datagrams.clone(), &mut tags);
    let mut cid_masks = [[0; CID_LEN]; MAX_SEGMENTS];
    masks.masks(
        direction,
        tags.get(..count).unwrap_or_default(),
        cid_masks.get_mut(..count).unwrap_or_default(),
    );
    for (place, (datagram, mask)) in out.iter_mut().zip(datagrams.zip(&cid_masks)) {
        *place = sample(datagram).and_then(|_| clear_cid(datagram, mask));
    }
    count
}

/// What the masks of the first [`MAX_SEGMENTS`] datagrams are made from; how many there were. One too short has zeros: nothing
/// is made of its mask.
pub fn samples<'d>(datagrams: impl Iterator<Item = &'d [u8]>, out: &mut [Sample; MAX_SEGMENTS]) -> usize {
    let mut count = 0;
    for (place, datagram) in out.iter_mut().zip(datagrams) {
        *place = sample(datagram).unwrap_or_default();
        count += 1;
    }
    count
}

/// A packet with a clear header and a sealed body. Nothing in it is to be believed yet.
#[derive(Debug)]
pub struct Sealed<'d> {
    datagram: &'d mut [u8],
    cid: ConnectionId,
    flags: Flags,
    number: u32,
}

impl<'d> Sealed<'d> {
    /// Clears the header in place: `cid` is what [`clear_cids`] found, the rest is unmasked with a mask of `keys`. `None`
    /// when the datagram cannot be a packet.
    pub fn unmask(datagram: &'d mut [u8], cid: ConnectionId, keys: &OpenKeys) -> Option<Self> {
        let sample = sample(datagram)?;
        let mut mask = [[0; 5]];
        keys.masks(&[sample], &mut mask);
        let [mask] = mask;
        Self::unmask_with(datagram, cid, &mask)
    }

    /// The same with a mask computed before, for callers that unmask many at once.
    pub fn unmask_with(datagram: &'d mut [u8], cid: ConnectionId, mask: &PacketMask) -> Option<Self> {
        sample(datagram)?;
        let [first, ..] = mask;
        let flags = Flags(datagram.get(CID_LEN)? ^ first);
        if datagram.len() < CID_LEN + 1 + flags.number_len() + TAG_LEN {
            return None;
        }
        *datagram.first_chunk_mut()? = cid.0;
        xor_flags_and_number(datagram, flags, mask);
        let (flags, number) = read_flags_and_number(datagram.get(CID_LEN..)?).ok()?;
        Some(Self {
            datagram,
            cid,
            flags,
            number,
        })
    }

    /// Whose packet it is.
    pub const fn cid(&self) -> ConnectionId {
        self.cid
    }

    /// The phase bit of the key that sealed it.
    pub const fn key_phase(&self) -> bool {
        self.flags.key_phase()
    }

    /// The low bytes of its number ...
    pub const fn truncated(&self) -> u32 {
        self.number
    }

    /// ... and how many those are, 1 to 4 (RFC 9000 §A.3 tells the whole number from them).
    pub const fn number_len(&self) -> usize {
        self.flags.number_len()
    }

    /// Bytes of the datagram.
    pub const fn size(&self) -> usize {
        self.datagram.len()
    }

    /// Decrypts in place under the full `number` on `path`; the frames.
    pub fn open(
        self,
        keys: &mut OpenKeys,
        which: Generation,
        path: u32,
        number: u64,
    ) -> Result<&'d mut [u8], Forged> {
        let header_len = CID_LEN + 1 + self.number_len();
        let (header, body) = self.datagram.split_at_mut_checked(header_len).ok_or(Forged)?;
        let length = keys.open(which, Counter { lane: path, number }, header, body)?;
        body.get_mut(..length).ok_or(Forged)
    }
}
