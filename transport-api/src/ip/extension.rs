//! The chain of IPv6 extension headers (RFC 8200 §4), and where fragments say which they are.

use super::Malformed;
use super::bytes::u16_at;

/// Bytes of the fixed IPv6 header.
pub(crate) const V6_HEADER: usize = 40;

/// Extension headers of one packet; more are taken for an attack on whoever walks them.
const MOST: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Which piece of a packet this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it begins, in units of 8 bytes.
    pub(crate) offset: u16,
    /// Others follow.
    pub(crate) more: bool,
}

/// The end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The first header that is no extension, or that is said to follow where this piece begins.
    pub(crate) protocol: u8,
    /// Where it begins, from the start of the packet.
    pub(crate) end: usize,
    /// What the fragment header says, if there is one.
    pub(crate) piece: Piece,
}

/// Walks the chain of an IPv6 packet whose fixed header is there. The packet may be cut, but not inside the chain
/// (RFC 7112). ESP and "no next header" end it, as does a fragment that is not the first.
pub(crate) fn chain(packet: &[u8]) -> Result<Chain, Malformed> {
    let mut chain = Chain {
        protocol: *packet.get(6).ok_or(Malformed)?,
        end: V6_HEADER,
        piece: Piece::default(),
    };
    for _ in 0..=MOST {
        let kind = chain.protocol;
        let is_extension = matches!(
            kind,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
        );
        if !is_extension || chain.piece.offset > 0 {
            return Ok(chain);
        }
        // Hop-by-hop options stand first or nowhere (RFC 8200 §4.1).
        if kind == HOP_BY_HOP && chain.end != V6_HEADER {
            return Err(Malformed);
        }
        let header = packet.get(chain.end..).ok_or(Malformed)?;
        let [next, len, ..] = *header else {
            return Err(Malformed);
        };
        let len = match kind {
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        if len > header.len() {
            return Err(Malformed);
        }
        if kind == FRAGMENT {
            let field = u16_at(header, 2).ok_or(Malformed)?;
            chain.piece = Piece {
                offset: field >> 3,
                more: field & 1 == 1,
            };
        }
        chain.protocol = next;
        chain.end += len;
    }
    Err(Malformed)
}
