//! Error codes (RFC 9114 §8.1, RFC 9204 §6, RFC 9297 §5.2), used as application error codes of our transport.

use std::fmt;

/// An HTTP/3 error code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u64);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)+) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)+

            /// The name in the registry, if the code is one of those used here.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)+
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// A datagram that cannot belong to any stream.
    DATAGRAM_ERROR = 0x33, "H3_DATAGRAM_ERROR";
    /// Nothing went wrong.
    NO_ERROR = 0x100, "H3_NO_ERROR";
    /// The peer broke a rule that has no code of its own.
    GENERAL_PROTOCOL_ERROR = 0x101, "H3_GENERAL_PROTOCOL_ERROR";
    /// This side failed.
    INTERNAL_ERROR = 0x102, "H3_INTERNAL_ERROR";
    /// A stream that must not exist.
    STREAM_CREATION_ERROR = 0x103, "H3_STREAM_CREATION_ERROR";
    /// The control stream ended.
    CLOSED_CRITICAL_STREAM = 0x104, "H3_CLOSED_CRITICAL_STREAM";
    /// A frame where it is not allowed.
    FRAME_UNEXPECTED = 0x105, "H3_FRAME_UNEXPECTED";
    /// A frame of the wrong size or layout.
    FRAME_ERROR = 0x106, "H3_FRAME_ERROR";
    /// The peer demands more than it may.
    EXCESSIVE_LOAD = 0x107, "H3_EXCESSIVE_LOAD";
    /// An identifier used wrongly.
    ID_ERROR = 0x108, "H3_ID_ERROR";
    /// SETTINGS with forbidden content.
    SETTINGS_ERROR = 0x109, "H3_SETTINGS_ERROR";
    /// The control stream does not begin with SETTINGS.
    MISSING_SETTINGS = 0x10a, "H3_MISSING_SETTINGS";
    /// The request was not looked at.
    REQUEST_REJECTED = 0x10b, "H3_REQUEST_REJECTED";
    /// The request, or its answer, is no longer wanted.
    REQUEST_CANCELLED = 0x10c, "H3_REQUEST_CANCELLED";
    /// The stream ended before the request was whole.
    REQUEST_INCOMPLETE = 0x10d, "H3_REQUEST_INCOMPLETE";
    /// A malformed message.
    MESSAGE_ERROR = 0x10e, "H3_MESSAGE_ERROR";
    /// The TCP connection behind a CONNECT was reset.
    CONNECT_ERROR = 0x10f, "H3_CONNECT_ERROR";
    /// A field section that cannot be decoded.
    QPACK_DECOMPRESSION_FAILED = 0x200, "QPACK_DECOMPRESSION_FAILED";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the peer did wrong, and how much has to end because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Only this stream: reset it and stop reading it.
    Stream(Code),
    /// The whole connection.
    Connection(Code),
}

impl Fault {
    /// The code to tell the peer.
    pub fn code(self) -> Code {
        match self {
            Self::Stream(code) | Self::Connection(code) => code,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(code) => write!(f, "{code} on the stream"),
            Self::Connection(code) => write!(f, "{code} on the connection"),
        }
    }
}

impl std::error::Error for Fault {}
