//! Base64 (RFC 4648), decoded strictly: one text for each string of bytes.

/// The usual alphabet (§4), with padding.
pub(super) const STANDARD: Alphabet = Alphabet(*b"+/", true);
/// The alphabet for addresses (§5), without padding.
pub(super) const URL: Alphabet = Alphabet(*b"-_", false);

/// The last two digits, and whether there is padding.
#[derive(Clone, Copy)]
pub(super) struct Alphabet([u8; 2], bool);

impl Alphabet {
    fn value(self, digit: u8) -> Option<u32> {
        let [plus, slash] = self.0;
        Some(u32::from(match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            _ if digit == plus => 62,
            _ if digit == slash => 63,
            _ => return None,
        }))
    }

    fn digit(self, value: u32) -> char {
        let [plus, slash] = self.0;
        char::from(match (value & 63) as u8 {
            v @ 0..=25 => b'A' + v,
            v @ 26..=51 => b'a' + v - 26,
            v @ 52..=61 => b'0' + v - 52,
            62 => plus,
            _ => slash,
        })
    }
}

pub(super) fn encode(bytes: &[u8], alphabet: Alphabet) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            out.push(alphabet.digit(bits >> (18 - 6 * place)));
        }
        if alphabet.1 {
            out.extend(std::iter::repeat_n('=', 3 - group.len()));
        }
    }
    out
}

/// `None` for anything that [`encode`] does not give.
pub(super) fn decode(text: &str, alphabet: Alphabet) -> Option<Vec<u8>> {
    let digits = if alphabet.1 {
        let padding = text.len().checked_sub(text.trim_end_matches('=').len())?;
        (text.len().is_multiple_of(4) && padding <= 2).then(|| text.trim_end_matches('='))?
    } else {
        text
    };
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.as_bytes().chunks(4) {
        let mut bits = 0;
        for digit in group {
            bits = bits << 6 | alphabet.value(*digit)?;
        }
        let bytes = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        let [_, all @ ..] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        let (whole, rest) = all.split_at_checked(bytes)?;
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend_from_slice(whole);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes(), STANDARD), text);
            assert_eq!(decode(text, STANDARD).as_deref(), Some(bytes.as_bytes()));
            let bare = text.trim_end_matches('=');
            assert_eq!(decode(bare, URL).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(encode(&[0xfb, 0xff], URL), "-_8");
        for bad in [
            "Zg", "Zg=", "Zg===", "Z===", "Zh==", "Zm9=", "Zg==Zg==", "-_8=", " Zg=", "Zü==",
        ] {
            assert_eq!(decode(bad, STANDARD), None, "{bad}");
        }
        for bad in ["Z", "Zh", "Zg==", "+/8", "Zm9v\n"] {
            assert_eq!(decode(bad, URL), None, "{bad}");
        }
    }

    #[test]
    fn there_is_one_text_for_each_string_of_bytes() {
        arbtest::arbtest(|u| {
            let bytes: Vec<u8> = u.arbitrary()?;
            for alphabet in [STANDARD, URL] {
                assert_eq!(decode(&encode(&bytes, alphabet), alphabet), Some(bytes.clone()));
            }
            let text: String = u.arbitrary()?;
            for alphabet in [STANDARD, URL] {
                if let Some(bytes) = decode(&text, alphabet) {
                    assert_eq!(encode(&bytes, alphabet), text);
                }
            }
            Ok(())
        });
    }
}
