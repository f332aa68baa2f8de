//! What can go wrong, and by whose fault.

use std::{error::Error, fmt};

use crate::RelayId;

/// A packet or datagram did not authenticate. Nothing more is known, and nothing more is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

/// A sealing key refuses to be used (again).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExhausted {
    /// The counter is not above the last one of its lane: a nonce would repeat.
    CounterReused,
    /// The confidentiality limit of the suite is reached (RFC 9001 §6.6); update the key first.
    PacketLimit,
    /// Packet numbers end at 2^62 (RFC 9000 §12.3).
    NumberLimit,
    /// More lanes than a connection may ever have.
    TooManyLanes,
    /// The body is longer than the cipher takes.
    BodyTooLong,
}

/// The source of randomness failed; the operation that needed it did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntropyFailed;

/// An ML-KEM-768 encapsulation key with a coefficient outside the field (FIPS 203 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidKemKey;

/// Not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidId;

/// Bytes that are no stored ticket, or one of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTicket;

/// A handshake datagram could not be sealed: always a mistake or a failure on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// `size` is outside what an envelope may have, or too small for the fragment.
    Size,
    /// The header contradicts itself or the fragment.
    Header,
    /// No randomness for the nonce.
    EntropyFailed,
}

/// Whose fault a failed handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The other side, or somebody on the way, sent what must be refused.
    Peer,
    /// This side was configured or called wrongly, or its randomness failed.
    Local,
}

/// Why a handshake message was refused or could not be made. The wire never shows which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// Lengths or fields that no honest peer sends.
    Malformed(&'static str),
    /// A mode of the client's message, or a status of the server's, that does not exist.
    UnsupportedMode(u8),
    /// A key agreement other than X25519 + ML-KEM-768.
    UnsupportedKemSuite(u8),
    /// A way of client authentication this side does not speak.
    UnsupportedAuth(u8),
    /// The client used the bundle of another epoch.
    WrongEpoch {
        /// The epoch named in the message.
        offered: u64,
    },
    /// Authentication failed: damaged, forged, or made for other keys.
    Forged,
    /// An X25519 exchange with a low-order point (RFC 7748 §6.1).
    LowOrderPoint,
    /// An ML-KEM key that fails the modulus check.
    InvalidKemKey,
    /// A pre-shared key came out as zero or equal to the other one.
    DegenerateKey,
    /// The server answered an enrolled client without `ct_c`, or an anonymous one with it, or a full handshake as resumed.
    AuthMismatch,
    /// Suite 2 was chosen although the client did not offer it.
    SuiteNotOffered,
    /// The client has no use for this bundle's version.
    UnusableBundle,
    /// The relay cannot open the ticket, its time is over, or another client shows it.
    TicketRefused,
    /// The ticket is of another relay, or of another identity than the one at hand.
    TicketMismatch,
    /// The server's message echoes another address token than the one this side sent.
    RetryMismatch,
    /// The server accepted early data that was not offered.
    EarlyNotOffered,
    /// A part of the message exceeds its bound.
    TooLong(&'static str),
    /// The state is used up, or was called out of order.
    Misused,
    /// The source of randomness failed.
    EntropyFailed,
}

impl HandshakeFailure {
    /// Whose fault it is.
    pub fn fault(self) -> Fault {
        match self {
            Self::Malformed(_)
            | Self::UnsupportedMode(_)
            | Self::UnsupportedKemSuite(_)
            | Self::UnsupportedAuth(_)
            | Self::WrongEpoch { .. }
            | Self::Forged
            | Self::LowOrderPoint
            | Self::InvalidKemKey
            | Self::DegenerateKey
            | Self::TicketRefused
            | Self::RetryMismatch
            | Self::EarlyNotOffered
            | Self::AuthMismatch => Fault::Peer,
            Self::SuiteNotOffered
            | Self::UnusableBundle
            | Self::TicketMismatch
            | Self::TooLong(_)
            | Self::Misused
            | Self::EntropyFailed => Fault::Local,
        }
    }
}

/// Why a relay bundle is not accepted. `Display` says what the user can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// A field that no bundle has.
    Malformed(&'static str),
    /// The end is missing.
    Truncated,
    /// Bytes after the end.
    TrailingBytes,
    /// One of the two signatures, or both, do not verify.
    BadSignature,
    /// Made for protocol versions this program does not speak.
    UnsupportedVersion {
        /// Lowest version the relay speaks.
        min: u16,
        /// Highest version the relay speaks.
        max: u16,
    },
    /// Its time is over.
    Expired {
        /// Last second of validity, Unix seconds.
        not_after: u64,
    },
    /// Its time has not come.
    NotYetValid {
        /// First second of validity, Unix seconds.
        not_before: u64,
    },
    /// Correctly signed, but by another relay.
    WrongRelay {
        /// The relay that signed it.
        found: RelayId,
    },
    /// Older than a bundle already known of the same relay.
    EpochRegression {
        /// The newest epoch known.
        known: u64,
        /// The epoch of this bundle.
        found: u64,
    },
    /// The relay's ML-KEM key fails the modulus check (FIPS 203 §7.2).
    InvalidKemKey,
}

impl fmt::Display for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("authentication failed")
    }
}

impl fmt::Display for KeyExhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CounterReused => "packet counter used before with this key",
            Self::PacketLimit => "packet limit of the key reached",
            Self::NumberLimit => "packet numbers are used up",
            Self::TooManyLanes => "too many packet number spaces under one key",
            Self::BodyTooLong => "packet body too long for the cipher",
        })
    }
}

impl fmt::Display for EntropyFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no randomness available")
    }
}

impl fmt::Display for InvalidKemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ML-KEM-768 key fails the modulus check")
    }
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an identity is written as 64 hexadecimal digits")
    }
}

impl fmt::Display for InvalidTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a stored ticket of this version")
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "handshake datagram size out of range",
            Self::Header => "handshake fragment and header disagree",
            Self::EntropyFailed => "no randomness available",
        })
    }
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed handshake message: {what}"),
            Self::UnsupportedMode(mode) => write!(f, "unsupported handshake mode {mode}"),
            Self::UnsupportedKemSuite(suite) => write!(f, "unsupported key agreement {suite}"),
            Self::UnsupportedAuth(auth) => write!(f, "unsupported client authentication {auth}"),
            Self::WrongEpoch { offered } => write!(f, "made with the bundle of epoch {offered}"),
            Self::Forged => f.write_str("handshake authentication failed"),
            Self::LowOrderPoint => f.write_str("X25519 point of low order"),
            Self::InvalidKemKey => f.write_str("ML-KEM-768 key fails the modulus check"),
            Self::DegenerateKey => f.write_str("key encapsulation gave an unusable key"),
            Self::AuthMismatch => f.write_str("answer does not fit the client's authentication"),
            Self::TicketRefused => f.write_str("the ticket cannot be used"),
            Self::TicketMismatch => f.write_str("the ticket belongs to another relay or identity"),
            Self::RetryMismatch => f.write_str("answer echoes another address token"),
            Self::EarlyNotOffered => f.write_str("early data accepted but not offered"),
            Self::SuiteNotOffered => f.write_str("AES-256-GCM chosen but not offered"),
            Self::UnusableBundle => f.write_str("the bundle is for another protocol version"),
            Self::TooLong(what) => write!(f, "{what} too long for a handshake message"),
            Self::Misused => f.write_str("handshake state misused"),
            Self::EntropyFailed => f.write_str("no randomness available"),
        }
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "not a relay bundle ({what}); fetch it again"),
            Self::Truncated => f.write_str("the bundle is cut short; fetch it again"),
            Self::TrailingBytes => f.write_str("bytes follow the bundle; fetch it again"),
            Self::BadSignature => {
                f.write_str("the bundle's signatures do not verify; do not use it, ask the relay's operator")
            }
            Self::UnsupportedVersion { min, max } => {
                write!(
                    f,
                    "the relay speaks protocol versions {min} to {max}; this program speaks 1, update it"
                )
            }
            Self::Expired { not_after } => write!(
                f,
                "the bundle expired at Unix time {not_after}; fetch a new one (or correct this machine's clock)"
            ),
            Self::NotYetValid { not_before } => {
                write!(
                    f,
                    "the bundle is valid from Unix time {not_before} on; correct this machine's clock"
                )
            }
            Self::WrongRelay { found } => {
                write!(f, "the bundle belongs to relay {found}, not to the one expected")
            }
            Self::EpochRegression { known, found } => write!(
                f,
                "the bundle has epoch {found}, but epoch {known} of this relay is known; fetch a new one"
            ),
            Self::InvalidKemKey => f.write_str("the relay's ML-KEM key is invalid; ask its operator"),
        }
    }
}

impl Error for Forged {}
impl Error for KeyExhausted {}
impl Error for EntropyFailed {}
impl Error for InvalidKemKey {}
impl Error for InvalidId {}
impl Error for InvalidTicket {}
impl Error for EnvelopeError {}
impl Error for HandshakeFailure {}
impl Error for BundleError {}

impl From<EntropyFailed> for HandshakeFailure {
    fn from(_: EntropyFailed) -> Self {
        Self::EntropyFailed
    }
}

impl From<InvalidKemKey> for HandshakeFailure {
    fn from(_: InvalidKemKey) -> Self {
        Self::InvalidKemKey
    }
}
