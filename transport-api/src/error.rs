//! Errors, one enum per operation. Each says whose fault it is and whether trying again can help.
//!
//! An error that names a closed connection is final for that connection.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::fmt;
use std::io;
use std::time::Duration;

use crate::engine::{BundleError, CloseReason};

/// Who can do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The calling program: a wrong argument, a handle used after its end, a local limit.
    Caller,
    /// The other endpoint: it refused, reset, stopped or broke the protocol.
    Peer,
    /// The path between: nothing came back.
    Network,
    /// This machine: sockets, memory, entropy.
    System,
}

/// Why a connection is not usable (any more).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionError {
    /// It ended; the reason is final.
    Closed(CloseReason),
    /// The endpoint's driver has ended, and every connection with it.
    EndpointClosed,
}

impl ConnectionError {
    /// Whose fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Closed(reason) => close_fault(reason),
            Self::EndpointClosed => Fault::Caller,
        }
    }

    /// Whether a *new* connection may succeed where this one ended.
    pub fn is_retryable(&self) -> bool {
        self.fault() == Fault::Network
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => write!(f, "connection closed: {reason}"),
            Self::EndpointClosed => f.write_str("the endpoint is closed"),
        }
    }
}

impl std::error::Error for ConnectionError {}

/// Why [`crate::Endpoint::connect`] did not give a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The relay bundle is not valid now.
    Bundle(BundleError),
    /// The bundle names no numeric address; resolve it first ([`crate::resolve_endpoint`]).
    NoAddress,
    /// This endpoint's socket cannot reach that address family.
    AddressFamily,
    /// Too many connects wait already.
    Busy,
    /// An option is not acceptable.
    InvalidOption(&'static str),
    /// The handshake ended without a connection.
    Handshake(CloseReason),
    /// The first message could not be made; the system gave no randomness, most likely.
    FirstMessage,
    /// The endpoint is closed.
    EndpointClosed,
    /// No carrier is attached with this address, or not any more.
    NoCarrier,
    /// The carrier takes fewer than 1,000 bytes at once.
    TooNarrow,
}

impl ConnectError {
    /// Whose fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Handshake(reason) => close_fault(reason),
            Self::FirstMessage => Fault::System,
            Self::TooNarrow => Fault::Network,
            Self::Bundle(_)
            | Self::NoAddress
            | Self::NoCarrier
            | Self::AddressFamily
            | Self::Busy
            | Self::InvalidOption(_)
            | Self::EndpointClosed => Fault::Caller,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy | Self::FirstMessage) || self.fault() == Fault::Network
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(error) => write!(f, "relay bundle: {error}"),
            Self::NoAddress => {
                f.write_str("the bundle names only host names; resolve one and pass it as the server address")
            }
            Self::AddressFamily => {
                f.write_str("this endpoint's socket cannot reach that address family; bind to the other one")
            }
            Self::Busy => f.write_str("too many connects are waiting; try again when some have ended"),
            Self::InvalidOption(what) => write!(f, "invalid option: {what}"),
            Self::Handshake(reason) => write!(f, "no connection: {reason}"),
            Self::FirstMessage => f.write_str("the first handshake message could not be made"),
            Self::EndpointClosed => f.write_str("the endpoint is closed"),
            Self::NoCarrier => f.write_str("no such carrier is attached"),
            Self::TooNarrow => f.write_str("fewer than 1,000 bytes fit a datagram of the carrier"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Why bytes could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The peer does not want more of this stream (its code).
    Stopped(u64),
    /// `finish` or `reset` came before.
    Finished,
    /// The connection ended.
    Connection(ConnectionError),
}

impl WriteError {
    /// Whose fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Stopped(_) => Fault::Peer,
            Self::Finished => Fault::Caller,
            Self::Connection(error) => error.fault(),
        }
    }

    /// Whether writing again on this stream may succeed: never. A new connection may.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Connection(error) if error.is_retryable())
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(code) => write!(f, "the peer stopped this stream (code {code})"),
            Self::Finished => f.write_str("this stream was finished or reset here"),
            Self::Connection(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WriteError {}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match &error {
            WriteError::Stopped(_) => io::ErrorKind::ConnectionReset,
            WriteError::Finished => io::ErrorKind::BrokenPipe,
            WriteError::Connection(inner) => connection_kind(inner),
        };
        Self::new(kind, error)
    }
}

/// Why bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The peer gave the stream up (its code); what was not read is lost.
    Reset(u64),
    /// `stop` came before.
    Stopped,
    /// The connection ended before the stream did.
    Connection(ConnectionError),
}

impl ReadError {
    /// Whose fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Reset(_) => Fault::Peer,
            Self::Stopped => Fault::Caller,
            Self::Connection(error) => error.fault(),
        }
    }

    /// Whether reading again on this stream may succeed: never. A new connection may.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Connection(error) if error.is_retryable())
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "the peer reset this stream (code {code})"),
            Self::Stopped => f.write_str("this stream was stopped here"),
            Self::Connection(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Reset(_) => io::ErrorKind::ConnectionReset,
            ReadError::Stopped => io::ErrorKind::NotConnected,
            ReadError::Connection(inner) => connection_kind(inner),
        };
        Self::new(kind, error)
    }
}

/// Why [`crate::RecvStream::read_to_end`] failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadToEndError {
    /// The stream is longer than the limit given.
    TooLong {
        /// The limit that was given, in bytes.
        limit: usize,
    },
    /// Reading failed.
    Read(ReadError),
}

impl ReadToEndError {
    /// Whose fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::TooLong { .. } => Fault::Peer,
            Self::Read(error) => error.fault(),
        }
    }

    /// Whether a new connection may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Read(error) if error.is_retryable())
    }
}

impl fmt::Display for ReadToEndError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => write!(f, "the stream is longer than {limit} bytes"),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadToEndError {}

/// Why a datagram was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendDatagramError {
    /// It does not fit a packet of this path.
    TooLarge {
        /// The largest payload that fits now, in bytes.
        max: usize,
    },
    /// The peer takes no datagrams.
    Disabled,
    /// The queue is full, and the policy is to refuse.
    Full,
    /// The connection ended.
    Connection(ConnectionError),
}

impl SendDatagramError {
    /// Whose fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::TooLarge { .. } => Fault::Caller,
            Self::Disabled => Fault::Peer,
            Self::Full => Fault::Network,
            Self::Connection(error) => error.fault(),
        }
    }

    /// Whether the same datagram may be taken later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full => true,
            Self::TooLarge { .. } | Self::Disabled => false,
            Self::Connection(error) => error.is_retryable(),
        }
    }
}

impl fmt::Display for SendDatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { max } => {
                write!(f, "the datagram is larger than the {max} bytes that fit a packet")
            }
            Self::Disabled => f.write_str("the peer takes no datagrams"),
            Self::Full => f.write_str("the datagram queue is full"),
            Self::Connection(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SendDatagramError {}

/// Why [`crate::Connection::finish_and_close`] could not prove that everything arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishError {
    /// The deadline came first; the connection was closed with this many finished streams unacknowledged.
    Deadline {
        /// Finished streams the peer had not acknowledged.
        unacknowledged: usize,
        /// The time that was given.
        after: Duration,
    },
    /// The connection ended before.
    Connection(ConnectionError),
}

impl FinishError {
    /// Whose fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Deadline { .. } => Fault::Network,
            Self::Connection(error) => error.fault(),
        }
    }

    /// Whether sending again over a new connection may succeed.
    pub fn is_retryable(&self) -> bool {
        self.fault() == Fault::Network
    }
}

impl fmt::Display for FinishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline {
                unacknowledged,
                after,
            } => {
                write!(
                    f,
                    "{unacknowledged} finished streams were not acknowledged within {after:?}"
                )
            }
            Self::Connection(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FinishError {}

fn connection_kind(error: &ConnectionError) -> io::ErrorKind {
    match error.fault() {
        Fault::Network => io::ErrorKind::TimedOut,
        Fault::Peer => io::ErrorKind::ConnectionAborted,
        Fault::Caller | Fault::System => io::ErrorKind::NotConnected,
    }
}

fn close_fault(reason: &CloseReason) -> Fault {
    use crate::engine::{By, code};
    match reason {
        CloseReason::Transport {
            code: code::NO_VIABLE_PATH,
            by: By::Local,
        } => Fault::Network,
        CloseReason::Application { by: By::Local, .. } | CloseReason::Transport { by: By::Local, .. } => {
            Fault::Caller
        }
        CloseReason::Idle | CloseReason::HandshakeTimeout => Fault::Network,
        _ => Fault::Peer,
    }
}
