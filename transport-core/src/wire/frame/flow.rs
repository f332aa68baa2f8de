//! Frames that are only integers: RESET_STREAM, STOP_SENDING, MAX_*, *_BLOCKED (RFC 9000 §19.4-5, §19.9-14).

use super::{Frame, FrameFault, kind};
use crate::wire::cursor::{Reader, WriteError, Writer};

/// A stream count above this would give stream ids no integer can carry (RFC 9000 §19.11).
pub const MAX_STREAM_COUNT: u64 = 1 << 60;

pub(super) fn encode(out: &mut Writer<'_>, frame_type: u64, fields: &[u64]) -> Result<(), WriteError> {
    if fields.iter().any(|value| *value > crate::wire::varint::MAX) {
        return Err(WriteError::ValueTooLarge);
    }
    out.varint(frame_type)?;
    fields.iter().try_for_each(|value| out.varint(*value))
}

fn count(input: &mut Reader<'_>) -> Result<u64, FrameFault> {
    let count = input.varint()?;
    if count > MAX_STREAM_COUNT {
        return Err(FrameFault::Invalid("stream count above 2^60"));
    }
    Ok(count)
}

pub(super) fn decode<'a>(frame_type: u64, input: &mut Reader<'a>) -> Result<Frame<'a>, FrameFault> {
    Ok(match frame_type {
        kind::RESET_STREAM => Frame::ResetStream {
            id: input.varint()?,
            code: input.varint()?,
            final_size: input.varint()?,
        },
        kind::STOP_SENDING => Frame::StopSending {
            id: input.varint()?,
            code: input.varint()?,
        },
        kind::MAX_DATA => Frame::MaxData { max: input.varint()? },
        kind::MAX_STREAM_DATA => Frame::MaxStreamData {
            id: input.varint()?,
            max: input.varint()?,
        },
        kind::MAX_STREAMS_BIDI => Frame::MaxStreams {
            uni: false,
            max: count(input)?,
        },
        kind::MAX_STREAMS_UNI => Frame::MaxStreams {
            uni: true,
            max: count(input)?,
        },
        kind::DATA_BLOCKED => Frame::DataBlocked { at: input.varint()? },
        kind::STREAM_DATA_BLOCKED => Frame::StreamDataBlocked {
            id: input.varint()?,
            at: input.varint()?,
        },
        kind::STREAMS_BLOCKED_BIDI => Frame::StreamsBlocked {
            uni: false,
            at: count(input)?,
        },
        kind::STREAMS_BLOCKED_UNI => Frame::StreamsBlocked {
            uni: true,
            at: count(input)?,
        },
        _ => return Err(FrameFault::UnknownType),
    })
}
