//! The Huffman code of RFC 7541 Appendix B. It is canonical: within one length, codes rise with the symbol; so the
//! lengths alone define it. We only decode: what we send is too short for compression to matter.

/// Code lengths in bits of symbols 0..=255; the end-of-string symbol has 30.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const LONGEST: usize = 30;
/// A string is padded with the beginning of the end-of-string code, at most this many one-bits.
const MAX_PADDING: u32 = 7;

/// Per code length: the first code, and where its symbols begin in `SYMBOLS`.
struct Level {
    first_code: u32,
    first_symbol: usize,
    count: u32,
}

#[cfg_attr(
    not(test),
    expect(clippy::indexing_slicing, reason = "evaluated by the compiler")
)]
const SYMBOLS: [u8; 256] = {
    let mut out = [0u8; 256];
    let (mut at, mut bits) = (0, 1);
    while bits <= LONGEST {
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == bits {
                out[at] = symbol as u8;
                at += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    out
};

#[cfg_attr(
    not(test),
    expect(clippy::indexing_slicing, reason = "evaluated by the compiler")
)]
const LEVELS: [Level; LONGEST + 1] = {
    let mut levels = [const {
        Level {
            first_code: 0,
            first_symbol: 0,
            count: 0,
        }
    }; LONGEST + 1];
    let (mut code, mut at, mut bits) = (0u32, 0, 1);
    while bits <= LONGEST {
        let (mut count, mut symbol) = (0u32, 0);
        while symbol < 256 {
            if LENGTHS[symbol] as usize == bits {
                count += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        levels[bits] = Level {
            first_code: code,
            first_symbol: at,
            count,
        };
        code += count;
        at += count as usize;
        bits += 1;
    }
    levels
};

/// Decodes a string; `None` when it is not valid or longer than `limit` bytes.
pub(super) fn decode(input: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity((input.len() * 8 / 5).min(limit));
    let (mut code, mut bits) = (0u32, 0u32);
    for byte in input {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            bits += 1;
            // Beyond the longest code stands only the end-of-string symbol, which must not be sent.
            let level = LEVELS.get(bits as usize)?;
            let offset = code.wrapping_sub(level.first_code);
            if offset < level.count {
                if out.len() >= limit {
                    return None;
                }
                out.push(*SYMBOLS.get(level.first_symbol + offset as usize)?);
                (code, bits) = (0, 0);
            }
        }
    }
    (bits <= MAX_PADDING && code == (1 << bits) - 1).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(symbol: u8) -> (u32, usize) {
        let bits = LENGTHS[symbol as usize] as usize;
        let level = &LEVELS[bits];
        let place = SYMBOLS[level.first_symbol..]
            .iter()
            .position(|&s| s == symbol)
            .expect("in the table");
        (level.first_code + place as u32, bits)
    }

    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for &symbol in text {
            let (code, len) = code_of(symbol);
            bits.extend((0..len).rev().map(|i| code >> i & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8)
            .map(|c| c.iter().fold(0, |b, &bit| b << 1 | u8::from(bit)))
            .collect()
    }

    #[test]
    fn the_code_is_complete_and_as_published() {
        // Kraft: the 256 symbols and the end of string fill the code space exactly.
        let used: u64 = LENGTHS.iter().map(|&l| 1u64 << (LONGEST - l as usize)).sum();
        assert_eq!(used + 1, 1 << LONGEST);
        for (symbol, code) in [
            (b'0', (0x0, 5)),
            (b' ', (0x14, 6)),
            (b':', (0x5c, 7)),
            (b'&', (0xf8, 8)),
            (b'~', (0x1ffd, 13)),
            (b'\\', (0x7fff0, 19)),
            (0x80, (0xfffe6, 20)),
            (0xa1, (0x1f_ffdd, 21)),
            (0xc6, (0x3f_ffe8, 22)),
            (0xef, (0x7f_fff4, 23)),
            (0xed, (0xff_fff5, 24)),
            (0xeb, (0x1ff_ffef, 25)),
            (0xff, (0x3ff_ffee, 26)),
            (0xfe, (0x7ff_fff0, 27)),
            (0xf9, (0xfff_fffe, 28)),
            (22, (0x3fff_fffe, 30)),
        ] {
            assert_eq!(code_of(symbol), code, "{symbol}");
        }
    }

    #[test]
    fn samples_of_rfc_7541() {
        let www = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decode(&www, 100).as_deref(), Some(&b"www.example.com"[..]));
        assert_eq!(decode(&www, 14), None, "limit");
        assert_eq!(
            decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], 100).as_deref(),
            Some(&b"no-cache"[..])
        );
    }

    #[test]
    fn every_symbol_round_trips() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all), 256), Some(all));
    }

    #[test]
    fn bad_padding_is_refused() {
        assert_eq!(decode(&[0xff], 9), None, "eight bits of padding");
        assert_eq!(decode(&[0x00], 9), None, "padding of zeros");
        assert_eq!(decode(&[0xff; 4], 9), None, "end of string");
        assert_eq!(decode(&[], 9), Some(Vec::new()));
    }
}
