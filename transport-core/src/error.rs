//! Why a connection ends, and the only table from that to codes on the wire.
#![forbid(unsafe_code)]

use std::fmt;

use transport_crypto::{BundleError, HandshakeFailure};
use transport_reliability::AckViolation;
use transport_scheduler::Violation;

/// Codes of CLOSE (transport form) and of a refused handshake. Numbers as in RFC 9000 §20.1 where it has the word.
pub mod code {
    /// Nothing was wrong.
    pub const NO_ERROR: u64 = 0x00;
    /// This side failed.
    pub const INTERNAL_ERROR: u64 = 0x01;
    /// The relay takes no more connections.
    pub const CONNECTION_REFUSED: u64 = 0x02;
    /// More bytes than allowed.
    pub const FLOW_CONTROL_ERROR: u64 = 0x03;
    /// More streams than allowed.
    pub const STREAM_LIMIT_ERROR: u64 = 0x04;
    /// A frame for a stream that cannot have it.
    pub const STREAM_STATE_ERROR: u64 = 0x05;
    /// The end of a stream moved.
    pub const FINAL_SIZE_ERROR: u64 = 0x06;
    /// A frame that does not parse.
    pub const FRAME_ENCODING_ERROR: u64 = 0x07;
    /// Too many connection ids.
    pub const CONNECTION_ID_LIMIT_ERROR: u64 = 0x09;
    /// Anything else that no honest peer does.
    pub const PROTOCOL_VIOLATION: u64 = 0x0a;
    /// Keys updated too fast.
    pub const KEY_UPDATE_ERROR: u64 = 0x0e;
    /// Every path is over.
    pub const NO_VIABLE_PATH: u64 = 0x10;
    /// A key has done all it may.
    pub const AEAD_LIMIT_REACHED: u64 = 0x0f;
    /// Streams opened and cancelled too fast.
    pub const EXCESSIVE_RESETS: u64 = 0x0107;
    /// The relay no longer serves this client (TLS's `access_denied`).
    pub const ACCESS_REVOKED: u64 = 0x0131;
    /// The two ends name different applications (RFC 7301's `no_application_protocol`).
    pub const NO_APPLICATION_PROTOCOL: u64 = 0x0178;
}

/// Which end did it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// This one.
    Local,
    /// The other one.
    Peer,
}

/// Why a connection is over. It is the last a connection says.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// An application closed it.
    Application {
        /// The application's code.
        code: u64,
        /// What it said, for people; not necessarily text.
        reason: Vec<u8>,
        /// Whose application.
        by: By,
    },
    /// Nothing was heard for the idle timeout.
    Idle,
    /// A rule of the protocol was broken, or an end failed.
    Transport {
        /// One of [`code`].
        code: u64,
        /// Who noticed.
        by: By,
    },
    /// The relay did not answer in time.
    HandshakeTimeout,
    /// The relay said that it will not answer.
    Refused {
        /// One of [`code`].
        code: u64,
    },
}

impl CloseReason {
    /// The peer broke a rule.
    pub(crate) const fn violation(code: u64) -> Self {
        Self::Transport { code, by: By::Local }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |by: &By| if *by == By::Local { "this side" } else { "the peer" };
        match self {
            Self::Application { code, reason, by: who } => {
                write!(f, "closed by {}'s application with code {code}", by(who))?;
                if reason.is_empty() { Ok(()) } else { write!(f, ": {}", reason.escape_ascii()) }
            }
            Self::Idle => f.write_str("nothing was heard for the idle timeout"),
            Self::Transport { code, by: who } => write!(f, "closed by {} with {} ({code:#x})", by(who), name(*code)),
            Self::HandshakeTimeout => f.write_str(
                "the relay did not answer: wrong address, bundle, grant or identity, a clock off by more than ten minutes, \
                 or UDP blocked on the way",
            ),
            Self::Refused { code } => write!(f, "the relay refused the connection: {} ({code:#x})", name(*code)),
        }
    }
}

impl std::error::Error for CloseReason {}

fn name(value: u64) -> &'static str {
    match value {
        code::NO_ERROR => "no error",
        code::INTERNAL_ERROR => "internal error",
        code::CONNECTION_REFUSED => "no more connections are taken",
        code::FLOW_CONTROL_ERROR => "flow control error",
        code::STREAM_LIMIT_ERROR => "stream limit error",
        code::STREAM_STATE_ERROR => "stream state error",
        code::FINAL_SIZE_ERROR => "final size error",
        code::FRAME_ENCODING_ERROR => "frame encoding error",
        code::CONNECTION_ID_LIMIT_ERROR => "connection id limit error",
        code::PROTOCOL_VIOLATION => "protocol violation",
        code::KEY_UPDATE_ERROR => "key update error",
        code::NO_VIABLE_PATH => "every path is over",
        code::AEAD_LIMIT_REACHED => "packet limit of the keys",
        code::EXCESSIVE_RESETS => "streams cancelled too fast",
        code::ACCESS_REVOKED => "this client is no longer served",
        code::NO_APPLICATION_PROTOCOL => "another application protocol",
        _ => "unknown error",
    }
}

/// What the peer did wrong, from whichever component noticed. Carries the frame type it was about, for the CLOSE frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Breach {
    /// One of [`code`].
    pub(crate) code: u64,
    /// The frame it was about; zero when none in particular.
    pub(crate) frame_type: u64,
}

impl Breach {
    pub(crate) const fn new(code: u64, frame_type: u64) -> Self {
        Self { code, frame_type }
    }
}

/// The code of a rule of streams.
pub(crate) fn of_violation(violation: Violation) -> u64 {
    match violation {
        Violation::FlowControl => code::FLOW_CONTROL_ERROR,
        Violation::StreamLimit => code::STREAM_LIMIT_ERROR,
        Violation::StreamState => code::STREAM_STATE_ERROR,
        Violation::FinalSize => code::FINAL_SIZE_ERROR,
        Violation::ExcessiveResets => code::EXCESSIVE_RESETS,
        _ => code::PROTOCOL_VIOLATION,
    }
}

/// The code of a false acknowledgement.
pub(crate) fn of_ack(violation: AckViolation) -> u64 {
    match violation {
        AckViolation::Malformed => code::FRAME_ENCODING_ERROR,
        AckViolation::Unsent | AckViolation::Skipped => code::PROTOCOL_VIOLATION,
    }
}

/// Why a connect was not begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The bundle cannot be used now.
    Bundle(BundleError),
    /// No room for another connection.
    TooManyConnections,
    /// Connections to more relays at once than an endpoint keeps keys for.
    TooManyRelays,
    /// The application label is longer than 64 bytes.
    LabelTooLong,
    /// The first message could not be made.
    Handshake(HandshakeFailure),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(error) => error.fmt(f),
            Self::TooManyConnections => f.write_str("no room for another connection"),
            Self::TooManyRelays => f.write_str("connected to too many relays at once"),
            Self::LabelTooLong => f.write_str("the application label is longer than 64 bytes"),
            Self::Handshake(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<HandshakeFailure> for ConnectError {
    fn from(failure: HandshakeFailure) -> Self {
        Self::Handshake(failure)
    }
}
