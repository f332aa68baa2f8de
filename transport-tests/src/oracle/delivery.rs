//! Every byte that arrives is the byte that was sent at that place.

/// The byte at `offset` of stream `label`: both sides know it without a copy.
pub fn byte(label: u64, offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9) >> 11) as u8 ^ (label.wrapping_mul(0x85eb) >> 3) as u8
}

/// Fills `out` with the bytes of `label` from `offset`.
pub fn fill(label: u64, offset: u64, out: &mut [u8]) {
    for (at, slot) in (offset..).zip(out) {
        *slot = byte(label, at);
    }
}

/// The first place at which `data`, read at `offset` of `label`, is not what was sent.
pub fn first_fault(label: u64, offset: u64, data: &[u8]) -> Option<u64> {
    (offset..)
        .zip(data)
        .find(|(at, got)| **got != byte(label, *at))
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_or_foreign_byte_is_seen() {
        let mut data = [0; 300];
        fill(3, 1000, &mut data);
        assert_eq!(first_fault(3, 1000, &data), None);
        assert!(first_fault(3, 1001, &data).is_some());
        assert!(first_fault(4, 1000, &data).is_some());
        data[200] ^= 1;
        assert_eq!(first_fault(3, 1000, &data), Some(1200));
    }
}
