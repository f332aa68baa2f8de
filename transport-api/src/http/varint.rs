//! Variable-length integers (RFC 9000 §16). Non-minimal encodings are accepted, minimal ones are sent.

/// The largest value, 2^62 - 1.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes `value` takes in minimal form.
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends `value` (at most [`MAX`]; larger values are cut to it) in minimal form.
pub fn put(out: &mut Vec<u8>, value: u64) {
    let value = value.min(MAX);
    match len(value) {
        1 => out.push(value as u8),
        2 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        4 => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// The value at the beginning of `input`, and what follows it; `None` when more bytes are needed.
pub fn take(input: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, _) = input.split_first()?;
    let (bytes, rest) = input.split_at_checked(encoded_len(first))?;
    let value = bytes
        .iter()
        .fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    // The two length bits stand on top of what was read.
    Some((value & (u64::MAX >> (64 - 8 * bytes.len() + 2)), rest))
}

/// Bytes of the integer that begins with `first`.
fn encoded_len(first: u8) -> usize {
    1 << (first >> 6)
}

/// Collects two integers, type and length, that open an HTTP/3 frame or a capsule, from pieces of any size.
#[derive(Clone, Copy, Debug, Default)]
pub struct PairReader {
    bytes: [u8; 16],
    filled: u8,
}

impl PairReader {
    /// Bytes still needed at the least; never more than belong to the pair.
    pub fn missing(&self) -> usize {
        let have = self.have();
        let Some(&first) = have.first() else { return 2 };
        let kind = encoded_len(first);
        let needed = match have.get(kind) {
            Some(&second) => kind + encoded_len(second),
            None => kind + 1,
        };
        needed - have.len()
    }

    fn have(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.filled)).unwrap_or_default()
    }

    /// Whether some bytes of a pair have been read, but not all.
    pub fn is_partial(&self) -> bool {
        self.filled > 0
    }

    /// Takes from `input` what belongs to the pair; the pair once it is whole, and then it starts over.
    pub fn take(&mut self, input: &mut &[u8]) -> Option<(u64, u64)> {
        loop {
            let missing = self.missing();
            if missing == 0 {
                let (kind, rest) = take(self.have())?;
                let (length, _) = take(rest)?;
                self.filled = 0;
                return Some((kind, length));
            }
            let (now, later) = input.split_at_checked(missing.min(input.len()))?;
            if now.is_empty() {
                return None;
            }
            let place = self.bytes.get_mut(usize::from(self.filled)..)?;
            place.get_mut(..now.len())?.copy_from_slice(now);
            self.filled += now.len() as u8;
            *input = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_rfc_9000() {
        let samples: [(u64, &[u8]); 4] = [
            (
                151_288_809_941_952_652,
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
            ),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (15_293, &[0x7b, 0xbd]),
            (37, &[0x25]),
        ];
        for (value, bytes) in samples {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(take(bytes), Some((value, &[][..])));
        }
        assert_eq!(take(&[0x40, 0x25]), Some((37, &[][..])), "non-minimal");
        assert_eq!(take(&[0x40]), None);
        assert_eq!(take(&[]), None);
    }

    #[test]
    fn edges_round_trip() {
        for value in [0, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, MAX] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), len(value));
            assert_eq!(take(&out), Some((value, &[][..])));
        }
    }

    #[test]
    fn a_pair_from_single_bytes_takes_nothing_else() {
        for bytes in [
            &[0x00, 0x05][..],
            &[0x40, 0x04, 0x40, 0x05],
            &[0xc0, 0, 0, 0, 0, 0, 0, 9, 0x80, 0, 0, 7],
        ] {
            let mut reader = PairReader::default();
            let mut whole = bytes.to_vec();
            whole.push(0xee);
            let mut at_once: &[u8] = &whole;
            let pair = reader.take(&mut at_once);
            assert!(pair.is_some());
            assert_eq!(at_once, [0xee]);
            assert!(!reader.is_partial());
            for (i, byte) in bytes.iter().enumerate() {
                let mut one = std::slice::from_ref(byte);
                assert!(reader.missing() >= 1);
                let got = reader.take(&mut one);
                assert_eq!(got, if i + 1 == bytes.len() { pair } else { None });
            }
        }
    }
}
