//! Packets of up to [`MIN_MTU`] bytes on a path whose datagrams are smaller, in two pieces (context
//! [`PIECE_CONTEXT`](super::PIECE_CONTEXT)): IPv6 promises 1,280 bytes, and RFC 9484 §10.1 would give the tunnel up.
//!
//! ```text
//! Piece { number (16), part (8) = 0 | 1, bytes (..) }
//! ```
//! Both pieces have the same number. Either may come first; what does not become whole is overwritten.

use super::MIN_MTU;

/// Bytes in front of a piece, after the context id.
pub const HEADER: usize = 3;
/// Packets whose other half is awaited, at most.
const WAITING: usize = 32;

/// The halves of one packet, as they go behind the context id. `None`: it is longer than a packet may be that must pass.
pub fn cut(number: u16, packet: &[u8]) -> Option<[Vec<u8>; 2]> {
    if packet.len() > MIN_MTU {
        return None;
    }
    let (front, back) = packet.split_at_checked(packet.len().div_ceil(2))?;
    Some([(0, front), (1, back)].map(|(part, bytes)| {
        let [high, low] = number.to_be_bytes();
        let mut piece = Vec::with_capacity(HEADER + bytes.len());
        piece.extend_from_slice(&[high, low, part]);
        piece.extend_from_slice(bytes);
        piece
    }))
}

#[derive(Debug)]
struct Half {
    number: u16,
    part: u8,
    bytes: Vec<u8>,
}

/// Puts pieces together. It holds 32 halves of at most [`MIN_MTU`] bytes.
#[derive(Debug, Default)]
pub struct Pieces {
    waiting: Vec<Option<Half>>,
}

impl Pieces {
    /// Takes a piece; the whole packet when its other half was here. What is no piece is dropped.
    pub fn join(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let (&[high, low, part], bytes) = piece.split_first_chunk::<HEADER>()?;
        if part > 1 || bytes.len() > MIN_MTU / 2 {
            return None;
        }
        let number = u16::from_be_bytes([high, low]);
        if self.waiting.is_empty() {
            self.waiting.resize_with(WAITING, || None);
        }
        let place = self.waiting.get_mut(usize::from(number) % WAITING)?;
        match place.take() {
            Some(other) if other.number == number && other.part != part => {
                let (front, back) = if part == 0 {
                    (bytes, other.bytes.as_slice())
                } else {
                    (other.bytes.as_slice(), bytes)
                };
                Some([front, back].concat())
            }
            _ => {
                let bytes = bytes.to_vec();
                *place = Some(Half { number, part, bytes });
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pieces_make_a_packet_in_any_order() {
        let packet: Vec<u8> = (0..1279).map(|i| i as u8).collect();
        for swap in [false, true] {
            let mut pieces = cut(7, &packet).expect("short enough");
            if swap {
                pieces.reverse();
            }
            let mut joiner = Pieces::default();
            assert_eq!(joiner.join(&pieces[0]), None);
            assert_eq!(joiner.join(&pieces[0]), None, "a copy is not the other half");
            assert_eq!(joiner.join(&pieces[1]), Some(packet.clone()));
        }
        assert!(cut(7, &[0; MIN_MTU + 1]).is_none());
    }

    #[test]
    fn halves_of_different_packets_do_not_meet() {
        let mut joiner = Pieces::default();
        let [a, _] = cut(1, &[1; 1000]).expect("short enough");
        let [_, b] = cut(1 + WAITING as u16, &[2; 1000]).expect("short enough");
        assert_eq!((joiner.join(&a), joiner.join(&b)), (None, None));
        for junk in [&[][..], &[0, 1], &[0, 1, 2, 3], &[0; HEADER + MIN_MTU / 2 + 1]] {
            assert_eq!(joiner.join(junk), None);
        }
    }
}
