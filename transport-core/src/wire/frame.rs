//! Frames: what a packet carries once it is open. Numbers as in QUIC where QUIC has the frame.
//!
//! Decoding borrows the payload and allocates nothing; integer bounds that do not depend on connection state are
//! checked here, so that whoever dispatches a frame may trust its arithmetic.

use std::fmt;

use super::cursor::{Reader, Truncated, WriteError, Writer};
use super::varint;

pub mod ack;
pub mod address;
pub mod close;
pub mod control;
pub mod datagram;
pub mod flow;
pub mod frequency;
pub mod ids;
pub mod path;
pub mod stream;
pub mod ticket;

pub use ack::{MAX_ACK_RANGES, PathAck};
pub use address::{NumberedAddress, PunchMeNow};
pub use close::Close;
pub use control::{ControlData, ControlKind, MAX_CONTROL_DATA};
pub use datagram::Datagram;
pub use frequency::AckFrequency;
pub use ids::{PathNewConnectionId, PathRetireConnectionId};
pub use path::{PathAbandon, PathStatus};
pub use stream::{Extent, Stream};
pub use ticket::NewTicket;

/// Frame type numbers, one table for the whole crate.
pub mod kind {
    #![allow(missing_docs, reason = "the names are the frames' names")]
    pub const PADDING: u64 = 0x00;
    pub const PING: u64 = 0x01;
    pub const RESET_STREAM: u64 = 0x04;
    pub const STOP_SENDING: u64 = 0x05;
    /// RFC 9000 §19.7 has NEW_TOKEN here.
    pub const NEW_TICKET: u64 = 0x07;
    pub const STREAM: u64 = 0x08;
    pub const STREAM_LAST: u64 = 0x0f;
    pub const MAX_DATA: u64 = 0x10;
    pub const MAX_STREAM_DATA: u64 = 0x11;
    pub const MAX_STREAMS_BIDI: u64 = 0x12;
    pub const MAX_STREAMS_UNI: u64 = 0x13;
    pub const DATA_BLOCKED: u64 = 0x14;
    pub const STREAM_DATA_BLOCKED: u64 = 0x15;
    pub const STREAMS_BLOCKED_BIDI: u64 = 0x16;
    pub const STREAMS_BLOCKED_UNI: u64 = 0x17;
    pub const PATH_CHALLENGE: u64 = 0x1a;
    pub const PATH_RESPONSE: u64 = 0x1b;
    pub const CLOSE_TRANSPORT: u64 = 0x1c;
    pub const CLOSE_APPLICATION: u64 = 0x1d;
    pub const HANDSHAKE_DONE: u64 = 0x1e;
    /// draft-ietf-quic-ack-frequency §5.
    pub const IMMEDIATE_ACK: u64 = 0x1f;
    pub const DATAGRAM: u64 = 0x30;
    pub const DATAGRAM_LEN: u64 = 0x31;
    pub const PATH_ACK: u64 = 0x3e;
    pub const PATH_ACK_ECN: u64 = 0x3f;
    /// draft-ietf-quic-ack-frequency §4.
    pub const ACK_FREQUENCY: u64 = 0xaf;
    /// Pieces of data too large for a packet; no QUIC counterpart.
    pub const CONTROL_DATA: u64 = 0x3c00;
    /// From here on draft-ietf-quic-multipath §4.
    pub const PATH_ABANDON: u64 = 0x3e75;
    pub const PATH_STATUS_BACKUP: u64 = 0x3e76;
    pub const PATH_STATUS_AVAILABLE: u64 = 0x3e77;
    pub const PATH_NEW_CONNECTION_ID: u64 = 0x3e78;
    pub const PATH_RETIRE_CONNECTION_ID: u64 = 0x3e79;
    pub const MAX_PATH_ID: u64 = 0x3e7a;
    pub const PATHS_BLOCKED: u64 = 0x3e7b;
    pub const PATH_CIDS_BLOCKED: u64 = 0x3e7c;
    /// From here on draft-seemann-quic-nat-traversal §4.
    pub const ADD_ADDRESS_V4: u64 = 0x003d_7e90;
    pub const ADD_ADDRESS_V6: u64 = 0x003d_7e91;
    pub const PUNCH_ME_NOW_V4: u64 = 0x003d_7e92;
    pub const PUNCH_ME_NOW_V6: u64 = 0x003d_7e93;
    pub const REMOVE_ADDRESS: u64 = 0x003d_7e94;
    /// draft-ietf-quic-address-discovery §4.
    pub const OBSERVED_ADDRESS_V4: u64 = 0x009f_81a6;
    pub const OBSERVED_ADDRESS_V6: u64 = 0x009f_81a7;
}

/// One frame. Stream ids are the plain 62-bit integers of RFC 9000 §2.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// A run of `len` PADDING frames (RFC 9000 §19.1), reported once.
    Padding {
        /// Bytes in the run, at least 1.
        len: usize,
    },
    /// RFC 9000 §19.2.
    Ping,
    /// RFC 9000 §19.4: the sender gives up the stream.
    ResetStream {
        /// Stream id.
        id: u64,
        /// The application's code.
        code: u64,
        /// Bytes the sender has counted against flow control.
        final_size: u64,
    },
    /// RFC 9000 §19.5: the receiver wants no more of the stream.
    StopSending {
        /// Stream id.
        id: u64,
        /// The application's code.
        code: u64,
    },
    /// A ticket to come back with; only a server sends it.
    NewTicket(NewTicket<'a>),
    /// RFC 9000 §19.8.
    Stream(Stream<'a>),
    /// RFC 9000 §19.9.
    MaxData {
        /// Bytes of all streams together the peer may send.
        max: u64,
    },
    /// RFC 9000 §19.10.
    MaxStreamData {
        /// Stream id.
        id: u64,
        /// Bytes the peer may send on it.
        max: u64,
    },
    /// RFC 9000 §19.11.
    MaxStreams {
        /// Unidirectional instead of bidirectional.
        uni: bool,
        /// Streams the peer may open in all, at most 2^60.
        max: u64,
    },
    /// RFC 9000 §19.12.
    DataBlocked {
        /// The connection limit that blocks.
        at: u64,
    },
    /// RFC 9000 §19.13.
    StreamDataBlocked {
        /// Stream id.
        id: u64,
        /// The stream limit that blocks.
        at: u64,
    },
    /// RFC 9000 §19.14.
    StreamsBlocked {
        /// Unidirectional instead of bidirectional.
        uni: bool,
        /// The count limit that blocks, at most 2^60.
        at: u64,
    },
    /// RFC 9000 §19.17.
    PathChallenge([u8; 8]),
    /// RFC 9000 §19.18.
    PathResponse([u8; 8]),
    /// RFC 9000 §19.19.
    Close(Close<'a>),
    /// RFC 9000 §19.20; only a server sends it.
    HandshakeDone,
    /// RFC 9221 §4.
    Datagram(Datagram<'a>),
    /// draft-ietf-quic-multipath §4.1, with the delay in microseconds.
    PathAck(PathAck<'a>),
    /// draft-ietf-quic-ack-frequency §4.
    AckFrequency(AckFrequency),
    /// draft-ietf-quic-ack-frequency §5: the packet is to be acknowledged at once.
    ImmediateAck,
    /// draft-ietf-quic-multipath §4.6, without length and reset token: ids have nine bytes here.
    PathNewConnectionId(PathNewConnectionId),
    /// draft-ietf-quic-multipath §4.7.
    PathRetireConnectionId(PathRetireConnectionId),
    /// draft-ietf-quic-multipath §4.2.
    PathAbandon(PathAbandon),
    /// draft-ietf-quic-multipath §4.3: PATH_STATUS_AVAILABLE or PATH_STATUS_BACKUP.
    PathStatus(PathStatus),
    /// draft-ietf-quic-multipath §4.6: the highest path id the peer may use.
    MaxPathId {
        /// The id.
        max: u32,
    },
    /// draft-ietf-quic-multipath §4.7: the sender would open a path, but for this limit.
    PathsBlocked {
        /// The limit.
        at: u32,
    },
    /// draft-ietf-quic-multipath §4.7: the sender would open a path, but has no connection id for it.
    PathCidsBlocked {
        /// The path.
        path: u32,
        /// The number of the connection id it waits for.
        sequence: u64,
    },
    /// A piece of a bundle, a binding answer or a rekey message.
    ControlData(ControlData<'a>),
    /// draft-ietf-quic-address-discovery §4: where packets of the path this frame comes by come from, as the sender sees it.
    ObservedAddress(NumberedAddress),
    /// draft-seemann-quic-nat-traversal §4.1: an address a server may be reached at; only a server sends it.
    AddAddress(NumberedAddress),
    /// draft-seemann-quic-nat-traversal §4.2, with the path in the place of the server's address; only a client sends it.
    PunchMeNow(PunchMeNow),
    /// draft-seemann-quic-nat-traversal §4.3: an address of before is none any more; only a server sends it.
    RemoveAddress {
        /// Its number.
        sequence: u64,
    },
}

/// What is wrong with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameFault {
    /// It does not end within the packet.
    Truncated,
    /// No frame has this type.
    UnknownType,
    /// The type is not in its shortest form (RFC 9000 §12.4).
    LongType,
    /// A field breaks its rule.
    Invalid(&'static str),
}

impl From<Truncated> for FrameFault {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

/// A frame that cannot be accepted: `FRAME_ENCODING_ERROR`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameError {
    /// The type found, 0 when even that was cut off.
    pub frame_type: u64,
    /// What is wrong.
    pub fault: FrameFault,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            FrameFault::Truncated => "ends outside the packet",
            FrameFault::UnknownType => "has an unknown type",
            FrameFault::LongType => "has a type not in its shortest form",
            FrameFault::Invalid(what) => what,
        };
        write!(f, "frame {:#x}: {what}", self.frame_type)
    }
}

impl std::error::Error for FrameError {}

impl<'a> Frame<'a> {
    /// The type number this frame is written with. STREAM and DATAGRAM are written with a length.
    pub fn frame_type(&self) -> u64 {
        match self {
            Self::Padding { .. } => kind::PADDING,
            Self::Ping => kind::PING,
            Self::ResetStream { .. } => kind::RESET_STREAM,
            Self::StopSending { .. } => kind::STOP_SENDING,
            Self::NewTicket(_) => kind::NEW_TICKET,
            Self::Stream(stream) => stream.frame_type(),
            Self::MaxData { .. } => kind::MAX_DATA,
            Self::MaxStreamData { .. } => kind::MAX_STREAM_DATA,
            Self::MaxStreams { uni, .. } => kind::MAX_STREAMS_BIDI | u64::from(*uni),
            Self::DataBlocked { .. } => kind::DATA_BLOCKED,
            Self::StreamDataBlocked { .. } => kind::STREAM_DATA_BLOCKED,
            Self::StreamsBlocked { uni, .. } => kind::STREAMS_BLOCKED_BIDI | u64::from(*uni),
            Self::PathChallenge(_) => kind::PATH_CHALLENGE,
            Self::PathResponse(_) => kind::PATH_RESPONSE,
            Self::Close(close) => close.frame_type(),
            Self::HandshakeDone => kind::HANDSHAKE_DONE,
            Self::Datagram(_) => kind::DATAGRAM_LEN,
            Self::PathAck(ack) => ack.frame_type(),
            Self::AckFrequency(_) => kind::ACK_FREQUENCY,
            Self::ImmediateAck => kind::IMMEDIATE_ACK,
            Self::PathNewConnectionId(_) => kind::PATH_NEW_CONNECTION_ID,
            Self::PathRetireConnectionId(_) => kind::PATH_RETIRE_CONNECTION_ID,
            Self::PathAbandon(_) => kind::PATH_ABANDON,
            Self::PathStatus(status) if status.available => kind::PATH_STATUS_AVAILABLE,
            Self::PathStatus(_) => kind::PATH_STATUS_BACKUP,
            Self::MaxPathId { .. } => kind::MAX_PATH_ID,
            Self::PathsBlocked { .. } => kind::PATHS_BLOCKED,
            Self::PathCidsBlocked { .. } => kind::PATH_CIDS_BLOCKED,
            Self::ControlData(_) => kind::CONTROL_DATA,
            Self::ObservedAddress(seen) => address::typed(kind::OBSERVED_ADDRESS_V4, seen.address),
            Self::AddAddress(own) => address::typed(kind::ADD_ADDRESS_V4, own.address),
            Self::PunchMeNow(punch) => address::typed(kind::PUNCH_ME_NOW_V4, punch.address),
            Self::RemoveAddress { .. } => kind::REMOVE_ADDRESS,
        }
    }

    /// Whether the packet must be acknowledged for this frame (RFC 9002 §2).
    pub fn is_ack_eliciting(&self) -> bool {
        !matches!(self, Self::Padding { .. } | Self::PathAck(_) | Self::Close(_))
    }

    /// Whether a packet of only such frames says nothing about a change of address (RFC 9000 §9.1).
    pub fn is_probing(&self) -> bool {
        matches!(
            self,
            Self::Padding { .. }
                | Self::PathChallenge(_)
                | Self::PathResponse(_)
                | Self::PathNewConnectionId(_)
                | Self::ObservedAddress(_)
        )
    }

    /// Whether this side of a connection may send the frame at all.
    pub fn is_allowed_from(&self, server: bool) -> bool {
        match self {
            Self::HandshakeDone | Self::NewTicket(_) | Self::AddAddress(_) | Self::RemoveAddress { .. } => {
                server
            }
            Self::PunchMeNow(_) => !server,
            // A client has no bundle to give.
            Self::ControlData(data) => server || data.kind != ControlKind::Bundle,
            _ => true,
        }
    }

    /// Whether it may come along with the first flight (cf. RFC 9000 §12.5).
    pub fn is_allowed_early(&self) -> bool {
        matches!(
            self,
            Self::Padding { .. } | Self::Ping | Self::Stream(_) | Self::Datagram(_)
        )
    }

    /// Bytes [`Frame::encode`] takes.
    pub fn encoded_len(&self) -> usize {
        let fields: &[u64] = match self {
            Self::Padding { len } => return *len,
            Self::Ping | Self::HandshakeDone | Self::ImmediateAck => &[],
            Self::NewTicket(ticket) => return ticket.encoded_len(),
            Self::Stream(stream) => return stream.encoded_len(),
            Self::Close(close) => return close.encoded_len(),
            Self::Datagram(datagram) => return datagram.encoded_len(),
            Self::PathAck(ack) => return ack.encoded_len(),
            Self::AckFrequency(frame) => return frame.encoded_len(),
            Self::PathNewConnectionId(frame) => return frame.encoded_len(),
            Self::PathRetireConnectionId(frame) => return frame.encoded_len(),
            Self::ControlData(frame) => return frame.encoded_len(),
            Self::ObservedAddress(frame) | Self::AddAddress(frame) => {
                return frame.encoded_len(self.frame_type());
            }
            Self::PunchMeNow(frame) => return frame.encoded_len(self.frame_type()),
            Self::PathChallenge(_) | Self::PathResponse(_) => return 9,
            Self::ResetStream { id, code, final_size } => &[*id, *code, *final_size],
            Self::StopSending { id, code: second }
            | Self::MaxStreamData { id, max: second }
            | Self::StreamDataBlocked { id, at: second } => &[*id, *second],
            Self::MaxData { max: value }
            | Self::MaxStreams { max: value, .. }
            | Self::DataBlocked { at: value }
            | Self::StreamsBlocked { at: value, .. }
            | Self::RemoveAddress { sequence: value } => &[*value],
            Self::PathAbandon(PathAbandon { path, code: second })
            | Self::PathStatus(PathStatus {
                path,
                sequence: second,
                ..
            })
            | Self::PathCidsBlocked {
                path,
                sequence: second,
            } => &[u64::from(*path), *second],
            Self::MaxPathId { max: path } | Self::PathsBlocked { at: path } => &[u64::from(*path)],
        };
        varint::len(self.frame_type()) + fields.iter().map(|value| varint::len(*value)).sum::<usize>()
    }

    /// Writes the frame whole, or nothing.
    ///
    /// # Errors
    /// [`WriteError::NoRoom`] when it does not fit, [`WriteError::ValueTooLarge`] when a field cannot be carried.
    pub fn encode(&self, out: &mut Writer<'_>) -> Result<(), WriteError> {
        if self.encoded_len() > out.room() {
            return Err(WriteError::NoRoom);
        }
        match self {
            Self::Padding { len } => out.zeros(*len),
            Self::Ping | Self::HandshakeDone | Self::ImmediateAck => out.varint(self.frame_type()),
            Self::NewTicket(ticket) => ticket.encode(out),
            Self::Stream(stream) => stream.encode(out),
            Self::Close(close) => close.encode(out),
            Self::Datagram(datagram) => datagram.encode(out),
            Self::PathAck(ack) => ack.encode(out),
            Self::AckFrequency(frame) => frame.encode(out),
            Self::PathNewConnectionId(frame) => frame.encode(out),
            Self::PathRetireConnectionId(frame) => frame.encode(out),
            Self::ControlData(frame) => frame.encode(out),
            Self::ObservedAddress(frame) | Self::AddAddress(frame) => frame.encode(self.frame_type(), out),
            Self::PunchMeNow(frame) => frame.encode(self.frame_type(), out),
            Self::PathChallenge(data) | Self::PathResponse(data) => {
                out.varint(self.frame_type())?;
                out.bytes(data)
            }
            Self::ResetStream { id, code, final_size } => {
                flow::encode(out, self.frame_type(), &[*id, *code, *final_size])
            }
            Self::StopSending { id, code: second }
            | Self::MaxStreamData { id, max: second }
            | Self::StreamDataBlocked { id, at: second } => {
                flow::encode(out, self.frame_type(), &[*id, *second])
            }
            Self::MaxData { max: value }
            | Self::MaxStreams { max: value, .. }
            | Self::DataBlocked { at: value }
            | Self::StreamsBlocked { at: value, .. }
            | Self::RemoveAddress { sequence: value } => flow::encode(out, self.frame_type(), &[*value]),
            Self::PathAbandon(PathAbandon { path, code: second })
            | Self::PathStatus(PathStatus {
                path,
                sequence: second,
                ..
            })
            | Self::PathCidsBlocked {
                path,
                sequence: second,
            } => flow::encode(out, self.frame_type(), &[u64::from(*path), *second]),
            Self::MaxPathId { max: path } | Self::PathsBlocked { at: path } => {
                flow::encode(out, self.frame_type(), &[u64::from(*path)])
            }
        }
    }

    fn decode(frame_type: u64, input: &mut Reader<'a>) -> Result<Self, FrameFault> {
        Ok(match frame_type {
            kind::PADDING => {
                let run = input.peek().iter().take_while(|byte| **byte == 0).count();
                input.bytes(run)?;
                Self::Padding {
                    len: run.saturating_add(1),
                }
            }
            kind::PING => Self::Ping,
            kind::RESET_STREAM..=kind::STOP_SENDING | kind::MAX_DATA..=kind::STREAMS_BLOCKED_UNI => {
                flow::decode(frame_type, input)?
            }
            kind::NEW_TICKET => Self::NewTicket(NewTicket::decode(input)?),
            kind::STREAM..=kind::STREAM_LAST => Self::Stream(Stream::decode(frame_type, input)?),
            kind::PATH_CHALLENGE => Self::PathChallenge(input.array()?),
            kind::PATH_RESPONSE => Self::PathResponse(input.array()?),
            kind::CLOSE_TRANSPORT..=kind::CLOSE_APPLICATION => Self::Close(Close::decode(frame_type, input)?),
            kind::HANDSHAKE_DONE => Self::HandshakeDone,
            kind::DATAGRAM => Self::Datagram(Datagram {
                data: input.take_rest(),
            }),
            kind::DATAGRAM_LEN => Self::Datagram(Datagram {
                data: input.prefixed()?,
            }),
            kind::PATH_ACK..=kind::PATH_ACK_ECN => Self::PathAck(PathAck::decode(frame_type, input)?),
            kind::ACK_FREQUENCY => Self::AckFrequency(AckFrequency::decode(input)?),
            kind::IMMEDIATE_ACK => Self::ImmediateAck,
            kind::PATH_NEW_CONNECTION_ID => Self::PathNewConnectionId(PathNewConnectionId::decode(input)?),
            kind::PATH_RETIRE_CONNECTION_ID => {
                Self::PathRetireConnectionId(PathRetireConnectionId::decode(input)?)
            }
            kind::PATH_ABANDON..=kind::PATH_STATUS_AVAILABLE
            | kind::MAX_PATH_ID..=kind::PATH_CIDS_BLOCKED => path::decode(frame_type, input)?,
            kind::CONTROL_DATA => Self::ControlData(ControlData::decode(input)?),
            kind::ADD_ADDRESS_V4..=kind::REMOVE_ADDRESS
            | kind::OBSERVED_ADDRESS_V4..=kind::OBSERVED_ADDRESS_V6 => address::decode(frame_type, input)?,
            _ => return Err(FrameFault::UnknownType),
        })
    }
}

/// The frames of one opened packet, in order. After an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    input: Reader<'a>,
}

impl<'a> Frames<'a> {
    /// The frames in `payload`. An empty payload has none, which the caller must judge (RFC 9000 §12.4).
    pub const fn new(payload: &'a [u8]) -> Self {
        Self {
            input: Reader::new(payload),
        }
    }

    fn read(&mut self) -> Result<Frame<'a>, FrameError> {
        let frame_type = match self.input.minimal_varint() {
            Ok(Some(frame_type)) => frame_type,
            Ok(None) => {
                return Err(FrameError {
                    frame_type: 0,
                    fault: FrameFault::LongType,
                });
            }
            Err(Truncated) => {
                return Err(FrameError {
                    frame_type: 0,
                    fault: FrameFault::Truncated,
                });
            }
        };
        Frame::decode(frame_type, &mut self.input).map_err(|fault| FrameError { frame_type, fault })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.input.is_empty() {
            return None;
        }
        let frame = self.read();
        if frame.is_err() {
            self.input.take_rest();
        }
        Some(frame)
    }
}

/// Path ids are 32 bits wide, since they are the lane of the packet counter.
fn path_id(input: &mut Reader<'_>) -> Result<u32, FrameFault> {
    u32::try_from(input.varint()?).map_err(|_| FrameFault::Invalid("path id above 2^32 - 1"))
}

#[cfg(test)]
mod tests;
