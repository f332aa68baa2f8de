//! Variable-length integers (RFC 9000 §16): two length bits, then 6, 14, 30 or 62 bits, most significant first.

/// The largest value a variable-length integer can carry: 2^62 − 1.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes the shortest encoding of `value` takes (1, 2, 4 or 8). Values above [`MAX`] cannot be encoded; they count as 8.
#[must_use]
pub const fn len(value: u64) -> usize {
    if value < 1 << 6 {
        1
    } else if value < 1 << 14 {
        2
    } else if value < 1 << 30 {
        4
    } else {
        8
    }
}

#[cfg(test)]
mod tests {
    use super::super::cursor::{Reader, WriteError, Writer};
    use super::*;

    /// RFC 9000 appendix A.1.
    #[test]
    fn rfc_samples() {
        let samples: [(&[u8], u64); 5] = [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (bytes, value) in samples {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn minimal_form_is_told_apart() {
        assert_eq!(Reader::new(&[0x25]).minimal_varint(), Ok(Some(37)));
        assert_eq!(Reader::new(&[0x40, 0x25]).minimal_varint(), Ok(None));
        assert_eq!(
            Reader::new(&[0x80, 0, 0x40, 0]).minimal_varint(),
            Ok(Some(16_384))
        );
    }

    #[test]
    fn round_trip_and_truncation() {
        arbtest::arbtest(|u| {
            let value = u.arbitrary::<u64>()? >> u.int_in_range(2..=63)?;
            let mut bytes = [0u8; 8];
            let mut writer = Writer::new(&mut bytes);
            writer.varint(value).unwrap();
            let used = writer.len();
            assert_eq!(used, len(value));
            assert_eq!(Reader::new(&bytes[..used]).minimal_varint(), Ok(Some(value)));
            for cut in 0..used {
                assert!(Reader::new(&bytes[..cut]).varint().is_err());
                assert_eq!(
                    Writer::new(&mut [0u8; 8][..cut]).varint(value),
                    Err(WriteError::NoRoom)
                );
            }
            Ok(())
        });
    }

    #[test]
    fn too_large_is_refused() {
        let mut bytes = [0u8; 8];
        assert_eq!(
            Writer::new(&mut bytes).varint(MAX + 1),
            Err(WriteError::ValueTooLarge)
        );
        assert_eq!(Writer::new(&mut bytes).varint(MAX), Ok(()));
        assert_eq!(Reader::new(&bytes).varint(), Ok(MAX));
    }
}
