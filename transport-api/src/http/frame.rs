//! Frames (RFC 9114 §7): headers, and which frame may stand where.

use super::code::{Code, Fault};
use super::varint;

/// Frame types (RFC 9114 §11.2.1).
pub mod kind {
    /// Bytes of a message body, or of a tunnel.
    pub const DATA: u64 = 0x00;
    /// A field section.
    pub const HEADERS: u64 = 0x01;
    /// Push is not used.
    pub const CANCEL_PUSH: u64 = 0x03;
    /// Parameters of the connection.
    pub const SETTINGS: u64 = 0x04;
    /// Push is not used.
    pub const PUSH_PROMISE: u64 = 0x05;
    /// No further requests.
    pub const GOAWAY: u64 = 0x07;
    /// Push is not used.
    pub const MAX_PUSH_ID: u64 = 0x0d;
    /// Of ours: the bundle of the relay that goes on where this one ends. Who does not know it skips it (RFC 9114 §9).
    pub const SUCCESSOR: u64 = 0x0ad1_7001;
}

/// Types of HTTP/2 that must not occur (RFC 9114 §7.2.8).
const RESERVED: [u64; 4] = [0x02, 0x06, 0x08, 0x09];
/// Longest SETTINGS frame read, bytes.
pub const MAX_SETTINGS: u64 = 4096;
/// Longest HEADERS frame read, bytes.
pub const MAX_HEADERS: u64 = 16 * 1024;
/// Longest frame of an unknown type that is skipped, bytes.
const MAX_UNKNOWN: u64 = 1 << 20;
/// Longest bundle of a successor that is read, bytes; a longer one is skipped.
const MAX_SUCCESSOR: u64 = 8192;
/// Bytes the header of a DATA frame takes at most.
pub const DATA_HEADER: usize = 9;

/// A frame of the control stream; the numbers are payload bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlFrame {
    /// Its payload is read whole.
    Settings(usize),
    /// Its payload is read whole.
    GoAway(usize),
    /// Its payload is read whole.
    Successor(usize),
    /// Its payload is read and forgotten.
    Skip(u64),
}

/// A frame of a request stream; the numbers are payload bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFrame {
    /// Its payload is read whole.
    Headers(usize),
    /// Its payload is handed on as it comes.
    Data(u64),
    /// Its payload is read and forgotten.
    Skip(u64),
}

/// Decides about a frame of the peer's control stream; `settings_seen` is false for the first one.
pub fn on_control(kind: u64, len: u64, settings_seen: bool) -> Result<ControlFrame, Fault> {
    match kind {
        kind::SETTINGS if settings_seen => Err(Fault::Connection(Code::FRAME_UNEXPECTED)),
        kind::SETTINGS if len > MAX_SETTINGS => Err(Fault::Connection(Code::EXCESSIVE_LOAD)),
        kind::SETTINGS => Ok(ControlFrame::Settings(len as usize)),
        _ if !settings_seen => Err(Fault::Connection(Code::MISSING_SETTINGS)),
        kind::GOAWAY if len == 0 || len > 8 => Err(Fault::Connection(Code::FRAME_ERROR)),
        kind::GOAWAY => Ok(ControlFrame::GoAway(len as usize)),
        kind::SUCCESSOR if len <= MAX_SUCCESSOR => Ok(ControlFrame::Successor(len as usize)),
        kind::DATA | kind::HEADERS | kind::PUSH_PROMISE => Err(Fault::Connection(Code::FRAME_UNEXPECTED)),
        // Without push no identifier in these can be right or wrong; they carry nothing for us.
        kind::CANCEL_PUSH | kind::MAX_PUSH_ID if len > 8 => Err(Fault::Connection(Code::FRAME_ERROR)),
        _ => skip(kind, len).map(ControlFrame::Skip),
    }
}

/// Decides about a frame of a request stream; `head_seen` once the final header section has been read.
pub fn on_request(kind: u64, len: u64, head_seen: bool) -> Result<RequestFrame, Fault> {
    match kind {
        // In a tunnel only DATA may follow (RFC 9114 §4.4); there are no trailers.
        kind::HEADERS if head_seen => Err(Fault::Connection(Code::FRAME_UNEXPECTED)),
        kind::HEADERS if len > MAX_HEADERS => Err(Fault::Stream(Code::EXCESSIVE_LOAD)),
        kind::HEADERS => Ok(RequestFrame::Headers(len as usize)),
        kind::DATA if head_seen => Ok(RequestFrame::Data(len)),
        kind::DATA
        | kind::SETTINGS
        | kind::GOAWAY
        | kind::CANCEL_PUSH
        | kind::MAX_PUSH_ID
        | kind::PUSH_PROMISE => Err(Fault::Connection(Code::FRAME_UNEXPECTED)),
        _ => skip(kind, len).map(RequestFrame::Skip),
    }
}

fn skip(kind: u64, len: u64) -> Result<u64, Fault> {
    if RESERVED.contains(&kind) {
        Err(Fault::Connection(Code::FRAME_UNEXPECTED))
    } else if len > MAX_UNKNOWN {
        Err(Fault::Connection(Code::EXCESSIVE_LOAD))
    } else {
        Ok(len)
    }
}

/// Appends a whole frame.
pub fn put(out: &mut Vec<u8>, kind: u64, payload: &[u8]) {
    varint::put(out, kind);
    varint::put(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// The header of a DATA frame of `len` bytes, right-aligned in the array so that it can stand directly before the
/// payload; returns where it begins.
pub fn data_header(len: usize, space: &mut [u8; DATA_HEADER]) -> usize {
    let mut header = Vec::with_capacity(DATA_HEADER);
    varint::put(&mut header, kind::DATA);
    varint::put(&mut header, len as u64);
    let start = DATA_HEADER - header.len();
    if let Some(place) = space.get_mut(start..) {
        place.copy_from_slice(&header);
    }
    start
}

/// Reads the stream id of a GOAWAY payload.
pub fn goaway_id(payload: &[u8]) -> Result<u64, Fault> {
    match varint::take(payload) {
        Some((id, [])) => Ok(id),
        _ => Err(Fault::Connection(Code::FRAME_ERROR)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn connection<T>(code: Code) -> Result<T, Fault> {
        Err(Fault::Connection(code))
    }

    #[test]
    fn control_stream_table() {
        assert_eq!(
            on_control(kind::SETTINGS, 5, false),
            Ok(ControlFrame::Settings(5))
        );
        assert_eq!(
            on_control(kind::SETTINGS, 5, true),
            connection(Code::FRAME_UNEXPECTED)
        );
        assert_eq!(
            on_control(kind::SETTINGS, 5000, false),
            connection(Code::EXCESSIVE_LOAD)
        );
        assert_eq!(
            on_control(kind::GOAWAY, 1, false),
            connection(Code::MISSING_SETTINGS)
        );
        assert_eq!(on_control(0x21, 1, false), connection(Code::MISSING_SETTINGS));
        assert_eq!(on_control(kind::GOAWAY, 1, true), Ok(ControlFrame::GoAway(1)));
        assert_eq!(on_control(kind::GOAWAY, 9, true), connection(Code::FRAME_ERROR));
        assert_eq!(
            on_control(kind::DATA, 1, true),
            connection(Code::FRAME_UNEXPECTED)
        );
        assert_eq!(on_control(0x21, 100, true), Ok(ControlFrame::Skip(100)));
        assert_eq!(on_control(0x06, 0, true), connection(Code::FRAME_UNEXPECTED));
        assert_eq!(on_control(0x21, 1 << 40, true), connection(Code::EXCESSIVE_LOAD));
    }

    #[test]
    fn request_stream_table() {
        assert_eq!(
            on_request(kind::HEADERS, 101, false),
            Ok(RequestFrame::Headers(101))
        );
        assert_eq!(
            on_request(kind::HEADERS, 1 << 20, false),
            Err(Fault::Stream(Code::EXCESSIVE_LOAD))
        );
        assert_eq!(
            on_request(kind::HEADERS, 1, true),
            connection(Code::FRAME_UNEXPECTED)
        );
        assert_eq!(
            on_request(kind::DATA, 1, false),
            connection(Code::FRAME_UNEXPECTED)
        );
        assert_eq!(
            on_request(kind::DATA, varint::MAX, true),
            Ok(RequestFrame::Data(varint::MAX))
        );
        assert_eq!(
            on_request(kind::GOAWAY, 1, true),
            connection(Code::FRAME_UNEXPECTED)
        );
        assert_eq!(on_request(0x29 * 5 + 0x21, 3, false), Ok(RequestFrame::Skip(3)));
    }

    #[test]
    fn data_headers_end_where_the_payload_begins() {
        for len in [0usize, 63, 64, 16_383, 65_536, 1 << 31] {
            let mut space = [0xff; DATA_HEADER];
            let start = data_header(len, &mut space);
            let mut expected = vec![0];
            varint::put(&mut expected, len as u64);
            assert_eq!(space[start..], expected[..]);
        }
    }

    #[test]
    fn goaway_must_be_one_whole_integer() {
        assert_eq!(goaway_id(&[0x08]), Ok(8));
        assert!(goaway_id(&[0x40]).is_err());
        assert!(goaway_id(&[0x08, 0]).is_err());
    }
}
