//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// A ones' complement sum of 16-bit words that is not finished. The order of what is added does not matter, except that a
/// piece behind an odd number of bytes is added with its bytes swapped (RFC 1071 §2).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// In the machine's byte order, below 2^33.
    total: u64,
    /// An odd number of bytes was added.
    odd: bool,
}

impl Sum {
    /// The sum of nothing.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes behind those that were added before.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let part = sum_words(bytes);
        let part = if self.odd {
            u64::from(fold(part).swap_bytes())
        } else {
            part
        };
        Self {
            total: carry(self.total + part),
            odd: self.odd ^ (bytes.len() % 2 == 1),
        }
    }

    /// Adds one word, wherever it stands.
    #[inline]
    pub fn word(self, word: u16) -> Self {
        Self {
            total: carry(self.total + u64::from(word.to_be())),
            odd: self.odd,
        }
    }

    /// Takes one word off that was added before.
    #[inline]
    pub fn without(self, word: u16) -> Self {
        self.word(!word)
    }

    /// Adds the pseudo-header of TCP, UDP or ICMPv6. `addresses` are source and destination as in the packet: 8 bytes of
    /// IPv4 (RFC 9293 §3.1) or 32 of IPv6 (RFC 8200 §8.1); the rest of both is the same words. `len` is that of the
    /// transport's header and payload, in bytes.
    #[inline]
    pub fn pseudo_header(self, addresses: &[u8], protocol: u8, len: u16) -> Self {
        Self {
            total: carry(self.total + sum_words(addresses)),
            odd: self.odd,
        }
        .word(u16::from(protocol))
        .word(len)
    }

    /// The sum in 16 bits; 0xffff over anything that holds its own checksum and is intact.
    #[inline]
    pub fn fold(self) -> u16 {
        u16::from_be(fold(self.total))
    }

    /// The checksum: the complement of the sum.
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// The checksum of `bytes`.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::new().bytes(bytes).checksum()
}

/// The checksum after a 16-bit field went from `old` to `new` (RFC 1624 equation 3).
#[inline]
pub fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::new().word(!checksum).without(old).word(new).checksum()
}

/// The checksum after a 32-bit field went from `old` to `new`.
#[inline]
pub fn update32(checksum: u16, old: u32, new: u32) -> u16 {
    let checksum = update16(checksum, (old >> 16) as u16, (new >> 16) as u16);
    update16(checksum, old as u16, new as u16)
}

/// Words of 32 bits, which add up to the same modulo 2^16 - 1, in sums of 64: no carry is lost in 16 GiB. Eight sums of
/// their own let the compiler use vectors.
#[inline]
fn sum_words(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut low = [0_u64; 4];
    let mut high = [0_u64; 4];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for ((word, low), high) in words.iter().zip(&mut low).zip(&mut high) {
            let word = u64::from_ne_bytes(*word);
            *low += word & 0xffff_ffff;
            *high += word >> 32;
        }
    }
    let mut total: u64 = low.iter().chain(&high).sum();
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let (pairs, last) = rest.as_chunks::<2>();
    for pair in pairs {
        total += u64::from(u16::from_ne_bytes(*pair));
    }
    for &byte in last {
        total += u64::from(u16::from_ne_bytes([byte, 0]));
    }
    carry(total)
}

/// The same modulo 2^16 - 1, below 2^33.
#[inline]
fn carry(total: u64) -> u64 {
    (total & 0xffff_ffff) + (total >> 32)
}

/// The same modulo 2^16 - 1 in 16 bits, and zero only for zero.
#[inline]
fn fold(total: u64) -> u16 {
    let total = carry(carry(total));
    let total = (total & 0xffff) + (total >> 16);
    let total = (total & 0xffff) + (total >> 16);
    ((total & 0xffff) + (total >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 §1, word by word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut total = 0_u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::new().bytes(&bytes).fold(), 0xddf2);
        assert_eq!(checksum(&bytes), 0x220d);
        assert_eq!((checksum(&[]), checksum(&[0xff; 9_000])), (0xffff, 0));
    }

    #[test]
    fn however_it_is_cut_the_sum_is_that_of_single_words() {
        arbtest::arbtest(|u| {
            let bytes: Vec<u8> = if u.ratio(1, 4)? {
                vec![0xff; u.int_in_range(0..=3000)?]
            } else {
                u.arbitrary()?
            };
            let start = u.int_in_range(0..=bytes.len())?;
            let cut = u.int_in_range(start..=bytes.len())?;
            let sum = Sum::new().bytes(&bytes[start..cut]).bytes(&bytes[cut..]);
            assert_eq!(sum.fold(), naive(&bytes[start..]));
            assert_eq!(
                sum.word(0x1234).without(0x1234).checksum() % 0xffff,
                sum.checksum() % 0xffff
            );
            Ok(())
        });
    }

    #[test]
    fn the_pseudo_header_is_that_of_both_versions() {
        arbtest::arbtest(|u| {
            let (addresses, protocol, len): ([u8; 32], u8, u16) = u.arbitrary()?;
            let v4 = &addresses[..8];
            let whole = [v4, &[0, protocol], &len.to_be_bytes()].concat();
            assert_eq!(Sum::new().pseudo_header(v4, protocol, len).fold(), naive(&whole));
            let whole = [
                &addresses[..],
                &u32::from(len).to_be_bytes(),
                &[0, 0, 0, protocol],
            ]
            .concat();
            let sum = Sum::new().pseudo_header(&addresses, protocol, len);
            assert_eq!(sum.fold(), naive(&whole));
            Ok(())
        });
    }

    #[test]
    fn an_update_is_a_new_computation() {
        // RFC 1624 §4, the case that equation 2 gets wrong.
        assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
        arbtest::arbtest(|u| {
            let mut bytes: [u8; 16] = u.arbitrary()?;
            bytes[15] |= 1;
            let (before, new): (u16, u32) = (checksum(&bytes), u.arbitrary()?);
            let old = u32::from_be_bytes(*bytes[4..].first_chunk().unwrap());
            bytes[4..8].copy_from_slice(&new.to_be_bytes());
            assert_eq!(update32(before, old, new), checksum(&bytes));
            let before = checksum(&bytes);
            let old = u16::from_be_bytes([bytes[8], bytes[9]]);
            bytes[8..10].copy_from_slice(&(new as u16).to_be_bytes());
            assert_eq!(update16(before, old, new as u16), checksum(&bytes));
            Ok(())
        });
    }
}
