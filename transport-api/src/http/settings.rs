//! The SETTINGS frame (RFC 9114 §7.2.4; RFC 9204 §5, RFC 9220 §3, RFC 9297 §2.1.1).

use super::code::{Code, Fault};
use super::frame;
use super::varint;

const QPACK_MAX_TABLE_CAPACITY: u64 = 0x01;
const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
const QPACK_BLOCKED_STREAMS: u64 = 0x07;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
const H3_DATAGRAM: u64 = 0x33;
/// Settings of HTTP/2 that must not occur.
const RESERVED: [u64; 4] = [0x02, 0x03, 0x04, 0x05];
/// Settings read from one frame.
const MAX_SETTINGS: usize = 64;

/// What an endpoint says about itself at the beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `SETTINGS_ENABLE_CONNECT_PROTOCOL`: extended CONNECT may be used (servers say so).
    pub extended_connect: bool,
    /// `SETTINGS_H3_DATAGRAM`: HTTP datagrams are understood.
    pub datagrams: bool,
    /// `SETTINGS_MAX_FIELD_SECTION_SIZE`, bytes in the sense of RFC 9114 §4.2.2; `None`: no limit was named.
    pub max_field_section: Option<u64>,
}

impl Settings {
    /// Settings of a peer that sent an empty frame.
    pub const EMPTY: Self = Self {
        extended_connect: false,
        datagrams: false,
        max_field_section: None,
    };

    /// Appends the frame. QPACK's dynamic table is switched off.
    pub fn put(&self, out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(16);
        let mut set = |id, value| {
            varint::put(&mut payload, id);
            varint::put(&mut payload, value);
        };
        set(QPACK_MAX_TABLE_CAPACITY, 0);
        if let Some(max) = self.max_field_section {
            set(MAX_FIELD_SECTION_SIZE, max);
        }
        set(QPACK_BLOCKED_STREAMS, 0);
        if self.extended_connect {
            set(ENABLE_CONNECT_PROTOCOL, 1);
        }
        set(H3_DATAGRAM, u64::from(self.datagrams));
        frame::put(out, frame::kind::SETTINGS, &payload);
    }

    /// Reads the payload of the frame. Unknown settings are ignored, repeated and reserved ones are errors.
    pub fn parse(mut payload: &[u8]) -> Result<Self, Fault> {
        let mut settings = Self::EMPTY;
        let mut seen = Vec::new();
        while !payload.is_empty() {
            let pair = varint::take(payload).and_then(|(id, rest)| Some((id, varint::take(rest)?)));
            let Some((id, (value, rest))) = pair else {
                return Err(Fault::Connection(Code::FRAME_ERROR));
            };
            payload = rest;
            if seen.len() >= MAX_SETTINGS {
                return Err(Fault::Connection(Code::EXCESSIVE_LOAD));
            }
            if seen.contains(&id) || RESERVED.contains(&id) {
                return Err(Fault::Connection(Code::SETTINGS_ERROR));
            }
            seen.push(id);
            match id {
                MAX_FIELD_SECTION_SIZE => settings.max_field_section = Some(value),
                ENABLE_CONNECT_PROTOCOL => settings.extended_connect = boolean(value)?,
                H3_DATAGRAM => settings.datagrams = boolean(value)?,
                _ => {}
            }
        }
        Ok(settings)
    }
}

fn boolean(value: u64) -> Result<bool, Fault> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::Connection(Code::SETTINGS_ERROR)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_wire_image() {
        let server = Settings {
            extended_connect: true,
            datagrams: true,
            max_field_section: Some(16_384),
        };
        let mut out = Vec::new();
        server.put(&mut out);
        assert_eq!(
            out,
            [
                0x04, 13, 0x01, 0, 0x06, 0x80, 0, 0x40, 0, 0x07, 0, 0x08, 1, 0x33, 1
            ]
        );
        assert_eq!(Settings::parse(&out[2..]), Ok(server));
    }

    #[test]
    fn rules() {
        let code = |payload: &[u8]| Settings::parse(payload).expect_err("refused").code();
        assert_eq!(code(&[0x33, 2]), Code::SETTINGS_ERROR);
        assert_eq!(code(&[0x08, 2]), Code::SETTINGS_ERROR);
        assert_eq!(code(&[0x33, 1, 0x33, 1]), Code::SETTINGS_ERROR);
        assert_eq!(code(&[0x02, 0]), Code::SETTINGS_ERROR);
        assert_eq!(code(&[0x33]), Code::FRAME_ERROR);
        let many: Vec<u8> = (0..100u64).flat_map(|i| [0x41, i as u8, 0]).collect();
        assert_eq!(code(&many), Code::EXCESSIVE_LOAD);
        // A peer may offer a dynamic table and grease; neither concerns us.
        assert_eq!(
            Settings::parse(&[0x01, 0x50, 0x00, 0x21, 0x07][..]),
            Ok(Settings::EMPTY)
        );
    }
}
