//! Field sections: QPACK (RFC 9204) with the static table only. The dynamic table is switched off in SETTINGS.

use super::code::{Code, Fault};
use super::huffman;
use super::static_table::{Found, STATIC_TABLE, find};

/// The largest field section read: sum of name, value and 32 bytes each (RFC 9114 §4.2.2).
pub const MAX_FIELD_SECTION: u64 = 32 * 1024;
const FIELD_OVERHEAD: usize = 32;

const UNREADABLE: Fault = Fault::Connection(Code::QPACK_DECOMPRESSION_FAILED);

/// One field line. Names are lower case on the wire; values that are not UTF-8 are read with replacement characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name, pseudo-header fields with their colon.
    pub name: String,
    /// Value.
    pub value: String,
}

impl Field {
    /// A field line.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// The value of the field `name` when it occurs exactly once.
pub fn single<'a>(fields: &'a [Field], name: &str) -> Option<&'a str> {
    let mut values = fields.iter().filter(|f| f.name == name);
    let first = values.next()?;
    values.next().is_none().then_some(first.value.as_str())
}

/// Appends the encoded field section.
pub fn encode<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
    // Required Insert Count 0, Base 0: no dynamic table.
    out.extend_from_slice(&[0, 0]);
    for (name, value) in fields {
        match find(name, value) {
            Found::Whole(index) => put_integer(out, 0b1100_0000, 6, index as u64),
            Found::Name(index) => {
                put_integer(out, 0b0101_0000, 4, index as u64);
                put_string(out, 0, 7, value);
            }
            Found::Nothing => {
                put_string(out, 0b0010_0000, 3, name);
                put_string(out, 0, 7, value);
            }
        }
    }
}

/// Decodes a field section of at most [`MAX_FIELD_SECTION`].
pub fn decode(mut input: &[u8]) -> Result<Vec<Field>, Fault> {
    let (insert_count, _) = take_integer(&mut input, 8)?;
    let _base = take_integer(&mut input, 7)?;
    if insert_count != 0 {
        return Err(UNREADABLE);
    }
    let mut fields = Vec::new();
    let mut room = MAX_FIELD_SECTION as usize;
    while let Some(&first) = input.first() {
        let field = take_line(&mut input, first, room)?;
        let size = field.name.len() + field.value.len() + FIELD_OVERHEAD;
        room = room
            .checked_sub(size)
            .ok_or(Fault::Stream(Code::EXCESSIVE_LOAD))?;
        fields.push(field);
    }
    Ok(fields)
}

/// One field line (RFC 9204 §4.5.2 to §4.5.6), by its first byte.
fn take_line(input: &mut &[u8], first: u8, room: usize) -> Result<Field, Fault> {
    if first & 0b1100_0000 == 0b1100_0000 {
        let (name, value) = static_line(take_integer(input, 6)?.0)?;
        return Ok(Field::new(name, value));
    }
    let name = if first & 0b1101_0000 == 0b0101_0000 {
        static_line(take_integer(input, 4)?.0)?.0.to_owned()
    } else if first & 0b1110_0000 == 0b0010_0000 {
        take_string(input, 3, room)?
    } else {
        // All other forms refer to the dynamic table.
        return Err(UNREADABLE);
    };
    Ok(Field {
        name,
        value: take_string(input, 7, room)?,
    })
}

fn static_line(index: u64) -> Result<(&'static str, &'static str), Fault> {
    usize::try_from(index)
        .ok()
        .and_then(|i| STATIC_TABLE.get(i))
        .copied()
        .ok_or(UNREADABLE)
}

/// A string literal whose length has a prefix of `bits`; the bit above says whether it is Huffman coded.
fn take_string(input: &mut &[u8], bits: u32, room: usize) -> Result<String, Fault> {
    let (len, flags) = take_integer(input, bits)?;
    let coded = flags >> bits & 1 == 1;
    let len = usize::try_from(len).map_err(|_| UNREADABLE)?;
    let (raw, rest) = input.split_at_checked(len).ok_or(UNREADABLE)?;
    *input = rest;
    if coded {
        let plain = huffman::decode(raw, room).ok_or(UNREADABLE)?;
        return Ok(String::from_utf8_lossy(&plain).into_owned());
    }
    if raw.len() > room {
        return Err(Fault::Stream(Code::EXCESSIVE_LOAD));
    }
    Ok(String::from_utf8_lossy(raw).into_owned())
}

fn put_string(out: &mut Vec<u8>, pattern: u8, bits: u32, text: &str) {
    put_integer(out, pattern, bits, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// A prefixed integer (RFC 7541 §5.1) and the byte it began with.
fn take_integer(input: &mut &[u8], bits: u32) -> Result<(u64, u8), Fault> {
    let (&first, mut rest) = input.split_first().ok_or(UNREADABLE)?;
    let mask = (1u64 << bits) - 1;
    let mut value = u64::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first().ok_or(UNREADABLE)?;
            rest = after;
            // Nothing here is longer than a field section; four bytes are more than enough.
            if shift > 21 {
                return Err(UNREADABLE);
            }
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *input = rest;
    Ok((value, first))
}

fn put_integer(out: &mut Vec<u8>, pattern: u8, bits: u32, value: u64) {
    let mask = (1u64 << bits) - 1;
    if value < mask {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(input: &[u8]) -> Vec<(String, String)> {
        decode(input)
            .expect("valid")
            .into_iter()
            .map(|f| (f.name, f.value))
            .collect()
    }

    fn round_trip(list: &[(&str, &str)]) {
        let mut out = Vec::new();
        encode(list.iter().copied(), &mut out);
        let expected: Vec<_> = list.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        assert_eq!(fields(&out), expected);
    }

    #[test]
    fn literals_and_references_round_trip() {
        round_trip(&[]);
        round_trip(&[
            (":status", "502"),
            ("proxy-status", "adit; error=dns_error"),
            ("x", ""),
            ("age", "0"),
        ]);
        let long = "v".repeat(5000);
        round_trip(&[("some-quite-long-name-of-a-field", long.as_str())]);
        round_trip(&STATIC_TABLE);
    }

    #[test]
    fn example_of_rfc_9204_b1() {
        let input = [
            0, 0, 0x51, 0x0b, 0x2f, 0x69, 0x6e, 0x64, 0x65, 0x78, 0x2e, 0x68, 0x74, 0x6d, 0x6c,
        ];
        assert_eq!(fields(&input), [(":path".to_owned(), "/index.html".to_owned())]);
    }

    #[test]
    fn huffman_literals_are_read() {
        let mut input = vec![0, 0, 0x50, 0x8c];
        input.extend([
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ]);
        assert_eq!(
            fields(&input),
            [(":authority".to_owned(), "www.example.com".to_owned())]
        );
    }

    #[test]
    fn the_dynamic_table_does_not_exist() {
        for input in [
            &[1, 0][..],
            &[0, 0, 0x80],
            &[0, 0, 0x10],
            &[0, 0, 0x00, 0],
            &[0, 0, 0x40, 0],
            &[0],
        ] {
            assert_eq!(decode(input), Err(UNREADABLE), "{input:x?}");
        }
    }

    #[test]
    fn bad_lengths_and_indices_are_refused() {
        assert_eq!(decode(&[0, 0, 0xff, 0x24]), Err(UNREADABLE), "index 99");
        assert_eq!(decode(&[0, 0, 0x51, 0x05, b'/']), Err(UNREADABLE), "short string");
        assert_eq!(
            decode(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Err(UNREADABLE),
            "long integer"
        );
        let bomb: Vec<u8> = [0, 0]
            .into_iter()
            .chain(std::iter::repeat_n(0xcf, 2000))
            .collect();
        assert_eq!(decode(&bomb), Err(Fault::Stream(Code::EXCESSIVE_LOAD)));
    }
}
