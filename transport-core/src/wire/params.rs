//! Transport parameters: `id (i) ‖ length (i) ‖ value`, repeated to the end (cf. RFC 9000 §18).
//!
//! Ids and lengths stand in their shortest form. Bit 0 of an id marks it critical: whoever does not know it must not go
//! on. An unknown id without that bit is skipped. No id comes twice.

use std::fmt;

use super::cursor::{Reader, Truncated, WriteError, Writer};
use super::frame::flow::MAX_STREAM_COUNT;
use super::varint;

/// The most parameters one message may hold, known or not.
pub const MAX_PARAMETERS: usize = 64;
/// The longest application label, in bytes.
pub const MAX_APP_LABEL: usize = 64;
/// The longest encoding [`TransportParameters::encode`] makes, in bytes.
pub const MAX_ENCODED: usize = 14 * 10 + 2 + MAX_APP_LABEL;
/// The smallest `max_udp` a peer may announce, in bytes: the floor of the path MTU.
pub const MIN_UDP_PAYLOAD: u64 = 1000;

mod id {
    pub(super) const IDLE_TIMEOUT: u64 = 0x02;
    pub(super) const MAX_UDP: u64 = 0x04;
    pub(super) const MAX_DATA: u64 = 0x06;
    pub(super) const MAX_STREAM_DATA_BIDI_LOCAL: u64 = 0x08;
    pub(super) const MAX_STREAM_DATA_BIDI_REMOTE: u64 = 0x0a;
    pub(super) const MAX_STREAM_DATA_UNI: u64 = 0x0c;
    pub(super) const MAX_STREAMS_BIDI: u64 = 0x0e;
    pub(super) const MAX_STREAMS_UNI: u64 = 0x10;
    pub(super) const MAX_ACK_DELAY: u64 = 0x12;
    pub(super) const MIN_ACK_DELAY: u64 = 0x14;
    pub(super) const CID_LIMIT: u64 = 0x16;
    pub(super) const MAX_DATAGRAM: u64 = 0x18;
    pub(super) const ADDRESSES: u64 = 0x1a;
    /// draft-ietf-quic-multipath §2.1, under its number.
    pub(super) const INITIAL_MAX_PATH_ID: u64 = 0x3e;
    /// Critical.
    pub(super) const APP: u64 = 0x1b;
}

/// Bits of [`TransportParameters::addresses`].
pub mod addresses {
    /// Tells the peer from which address its packets come, if it wants to know (draft-ietf-quic-address-discovery §3).
    pub const TELLS: u64 = 1;
    /// Wants to know that of its own.
    pub const ASKS: u64 = 2;
    /// Takes part in making a direct path through NATs (draft-seemann-quic-nat-traversal §4).
    pub const PUNCHES: u64 = 4;
}

/// What one side tells the other in the handshake. [`Default`] is what an absent parameter means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransportParameters {
    /// Silence after which the connection is gone, in milliseconds; 0 for never.
    pub idle_timeout_ms: u64,
    /// The largest UDP payload the sender takes, in bytes; at least [`MIN_UDP_PAYLOAD`].
    pub max_udp: u64,
    /// Bytes the peer may send on all streams together.
    pub max_data: u64,
    /// Bytes the peer may send on a bidirectional stream the sender of this parameter opens.
    pub max_stream_data_bidi_local: u64,
    /// Bytes the peer may send on a bidirectional stream it opens itself.
    pub max_stream_data_bidi_remote: u64,
    /// Bytes the peer may send on a unidirectional stream.
    pub max_stream_data_uni: u64,
    /// Bidirectional streams the peer may open, at most 2^60.
    pub max_streams_bidi: u64,
    /// Unidirectional streams the peer may open, at most 2^60.
    pub max_streams_uni: u64,
    /// The longest an acknowledgement is held back on purpose, in microseconds; below 2^24.
    pub max_ack_delay_us: u64,
    /// The shortest such delay the peer may ask for, in microseconds; at most `max_ack_delay_us`.
    pub min_ack_delay_us: u64,
    /// Connection ids of the peer the sender keeps for each path; at least 2.
    pub cid_limit: u64,
    /// The longest DATAGRAM message taken, in bytes; 0 for none.
    pub max_datagram: u64,
    /// The highest path id the peer may use, below 2^32; 0 for the first path alone.
    pub initial_max_path_id: u64,
    /// What the sender does with addresses: bits of [`addresses`], others are ignored.
    pub addresses: u64,
    /// What the streams carry (the role of ALPN, RFC 7301); at most [`MAX_APP_LABEL`] bytes, empty when absent.
    pub app: Vec<u8>,
}

impl Default for TransportParameters {
    fn default() -> Self {
        Self {
            idle_timeout_ms: 0,
            max_udp: 65_527,
            max_data: 0,
            max_stream_data_bidi_local: 0,
            max_stream_data_bidi_remote: 0,
            max_stream_data_uni: 0,
            max_streams_bidi: 0,
            max_streams_uni: 0,
            max_ack_delay_us: 25_000,
            min_ack_delay_us: 0,
            cid_limit: 2,
            max_datagram: 0,
            initial_max_path_id: 0,
            addresses: 0,
            app: Vec::new(),
        }
    }
}

/// Why transport parameters cannot be accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParamError {
    /// They end in the middle of a parameter.
    Truncated,
    /// An integer is not in its shortest form.
    NotMinimal,
    /// More than [`MAX_PARAMETERS`].
    TooMany,
    /// The id came twice.
    Duplicate(u64),
    /// The id is critical and means nothing here.
    UnknownCritical(u64),
    /// The value breaks its rule.
    Invalid(u64),
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("transport parameters are cut off"),
            Self::NotMinimal => {
                f.write_str("an integer in the transport parameters is not in its shortest form")
            }
            Self::TooMany => write!(f, "more than {MAX_PARAMETERS} transport parameters"),
            Self::Duplicate(id) => write!(f, "transport parameter {id:#x} comes twice"),
            Self::UnknownCritical(id) => write!(f, "transport parameter {id:#x} is critical and unknown"),
            Self::Invalid(id) => write!(f, "transport parameter {id:#x} has an invalid value"),
        }
    }
}

impl std::error::Error for ParamError {}

impl From<Truncated> for ParamError {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

impl TransportParameters {
    /// Reads all of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParamError> {
        let mut params = Self::default();
        let mut seen = [0u64; MAX_PARAMETERS];
        let mut count = 0;
        let mut input = Reader::new(bytes);
        while !input.is_empty() {
            let id = minimal(&mut input)?;
            let length = minimal(&mut input)?;
            let value = input.bytes(usize::try_from(length).map_err(|_| ParamError::Truncated)?)?;
            if seen.iter().take(count).any(|earlier| *earlier == id) {
                return Err(ParamError::Duplicate(id));
            }
            *seen.get_mut(count).ok_or(ParamError::TooMany)? = id;
            count += 1;
            params.set(id, value)?;
        }
        if params.min_ack_delay_us > params.max_ack_delay_us {
            return Err(ParamError::Invalid(id::MIN_ACK_DELAY));
        }
        Ok(params)
    }

    /// Whether everything `other` allows its peer is allowed here as well (RFC 9000 §7.4.1).
    pub fn allows_all_of(&self, other: &Self) -> bool {
        let limits = |params: &Self| {
            [
                params.max_data,
                params.max_stream_data_bidi_local,
                params.max_stream_data_bidi_remote,
                params.max_stream_data_uni,
                params.max_streams_bidi,
                params.max_streams_uni,
                params.max_datagram,
            ]
        };
        limits(self)
            .iter()
            .zip(limits(other))
            .all(|(now, before)| *now >= before)
    }

    fn set(&mut self, id: u64, value: &[u8]) -> Result<(), ParamError> {
        if id == id::APP {
            if value.is_empty() || value.len() > MAX_APP_LABEL {
                return Err(ParamError::Invalid(id));
            }
            self.app = value.to_vec();
            return Ok(());
        }
        let Some((field, allowed)) = self.field(id) else {
            return if id & 1 == 1 {
                Err(ParamError::UnknownCritical(id))
            } else {
                Ok(())
            };
        };
        let mut input = Reader::new(value);
        let number = minimal(&mut input)?;
        if !input.is_empty() || !allowed.contains(&number) {
            return Err(ParamError::Invalid(id));
        }
        *field = number;
        Ok(())
    }

    /// The integer a parameter sets, and the values it may take.
    fn field(&mut self, id: u64) -> Option<(&mut u64, std::ops::RangeInclusive<u64>)> {
        const ANY: std::ops::RangeInclusive<u64> = 0..=varint::MAX;
        const STREAMS: std::ops::RangeInclusive<u64> = 0..=MAX_STREAM_COUNT;
        const DELAY: std::ops::RangeInclusive<u64> = 0..=(1 << 24) - 1;
        Some(match id {
            id::IDLE_TIMEOUT => (&mut self.idle_timeout_ms, ANY),
            id::MAX_UDP => (&mut self.max_udp, MIN_UDP_PAYLOAD..=varint::MAX),
            id::MAX_DATA => (&mut self.max_data, ANY),
            id::MAX_STREAM_DATA_BIDI_LOCAL => (&mut self.max_stream_data_bidi_local, ANY),
            id::MAX_STREAM_DATA_BIDI_REMOTE => (&mut self.max_stream_data_bidi_remote, ANY),
            id::MAX_STREAM_DATA_UNI => (&mut self.max_stream_data_uni, ANY),
            id::MAX_STREAMS_BIDI => (&mut self.max_streams_bidi, STREAMS),
            id::MAX_STREAMS_UNI => (&mut self.max_streams_uni, STREAMS),
            id::MAX_ACK_DELAY => (&mut self.max_ack_delay_us, DELAY),
            id::MIN_ACK_DELAY => (&mut self.min_ack_delay_us, DELAY),
            id::CID_LIMIT => (&mut self.cid_limit, 2..=varint::MAX),
            id::MAX_DATAGRAM => (&mut self.max_datagram, ANY),
            id::ADDRESSES => (&mut self.addresses, ANY),
            id::INITIAL_MAX_PATH_ID => (&mut self.initial_max_path_id, 0..=u64::from(u32::MAX)),
            _ => return None,
        })
    }

    /// Appends all parameters to `out`, at most [`MAX_ENCODED`] bytes; `app` only when it is not empty.
    ///
    /// # Errors
    /// [`WriteError::ValueTooLarge`] when a value could not be carried; `out` is then as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        let mut scratch = [0u8; MAX_ENCODED];
        let mut writer = Writer::new(&mut scratch);
        for (id, value) in [
            (id::IDLE_TIMEOUT, self.idle_timeout_ms),
            (id::MAX_UDP, self.max_udp),
            (id::MAX_DATA, self.max_data),
            (id::MAX_STREAM_DATA_BIDI_LOCAL, self.max_stream_data_bidi_local),
            (id::MAX_STREAM_DATA_BIDI_REMOTE, self.max_stream_data_bidi_remote),
            (id::MAX_STREAM_DATA_UNI, self.max_stream_data_uni),
            (id::MAX_STREAMS_BIDI, self.max_streams_bidi),
            (id::MAX_STREAMS_UNI, self.max_streams_uni),
            (id::MAX_ACK_DELAY, self.max_ack_delay_us),
            (id::MIN_ACK_DELAY, self.min_ack_delay_us),
            (id::CID_LIMIT, self.cid_limit),
            (id::MAX_DATAGRAM, self.max_datagram),
            (id::INITIAL_MAX_PATH_ID, self.initial_max_path_id),
            (id::ADDRESSES, self.addresses),
        ] {
            writer.varint(id)?;
            writer.varint(varint::len(value) as u64)?;
            writer.varint(value)?;
        }
        if !self.app.is_empty() {
            if self.app.len() > MAX_APP_LABEL {
                return Err(WriteError::ValueTooLarge);
            }
            writer.varint(id::APP)?;
            writer.prefixed(&self.app)?;
        }
        let used = writer.len();
        out.extend_from_slice(scratch.get(..used).unwrap_or_default());
        Ok(())
    }
}

fn minimal(input: &mut Reader<'_>) -> Result<u64, ParamError> {
    input.minimal_varint()?.ok_or(ParamError::NotMinimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> TransportParameters {
        TransportParameters {
            idle_timeout_ms: 30_000,
            max_udp: 1472,
            max_data: 768 << 10,
            max_stream_data_bidi_local: 256 << 10,
            max_stream_data_bidi_remote: 256 << 10,
            max_stream_data_uni: 256 << 10,
            max_streams_bidi: 100,
            max_streams_uni: 3,
            max_ack_delay_us: 25_000,
            min_ack_delay_us: 1000,
            cid_limit: 4,
            max_datagram: 65_535,
            initial_max_path_id: 3,
            addresses: 3,
            app: b"h3-nq".to_vec(),
        }
    }

    #[test]
    fn golden() {
        let mut bytes = Vec::new();
        sample().encode(&mut bytes).unwrap();
        let golden: [&[u8]; 15] = [
            b"\x02\x04\x80\x00\x75\x30",
            b"\x04\x02\x45\xc0",
            b"\x06\x04\x80\x0c\x00\x00",
            b"\x08\x04\x80\x04\x00\x00",
            b"\x0a\x04\x80\x04\x00\x00",
            b"\x0c\x04\x80\x04\x00\x00",
            b"\x0e\x02\x40\x64",
            b"\x10\x01\x03",
            b"\x12\x04\x80\x00\x61\xa8",
            b"\x14\x02\x43\xe8",
            b"\x16\x01\x04",
            b"\x18\x04\x80\x00\xff\xff",
            b"\x3e\x01\x03",
            b"\x1a\x01\x03",
            b"\x1b\x05h3-nq",
        ];
        assert_eq!(bytes, golden.concat());
        assert_eq!(TransportParameters::parse(&bytes), Ok(sample()));
    }

    #[test]
    fn nothing_means_the_defaults_and_they_round_trip() {
        assert_eq!(
            TransportParameters::parse(&[]),
            Ok(TransportParameters::default())
        );
        let mut bytes = vec![7];
        TransportParameters::default().encode(&mut bytes).unwrap();
        assert_eq!(
            TransportParameters::parse(&bytes[1..]),
            Ok(TransportParameters::default())
        );
    }

    #[test]
    fn each_rule_is_enforced() {
        use ParamError as E;
        let cases: [(&[u8], ParamError); 14] = [
            (&[0x02], E::Truncated),
            (&[0x02, 2, 0x40], E::Truncated),
            (&[0x02, 0], E::Truncated),
            (&[0x40, 0x02, 1, 0], E::NotMinimal),
            (&[0x02, 0x40, 1, 0], E::NotMinimal),
            (&[0x02, 2, 0x40, 0x01], E::NotMinimal),
            (&[0x02, 1, 5, 0x02, 1, 5], E::Duplicate(2)),
            (&[0x3c, 0, 0x3c, 0], E::Duplicate(0x3c)),
            (&[0x3f, 0], E::UnknownCritical(0x3f)),
            (&[0x02, 2, 1, 1], E::Invalid(2)),
            (&[0x16, 1, 1], E::Invalid(0x16)),
            (&[0x1b, 0], E::Invalid(0x1b)),
            (&[0x12, 1, 5, 0x14, 1, 6], E::Invalid(0x14)),
            (&[0x3e, 8, 0xc0, 0, 0, 1, 0, 0, 0, 0], E::Invalid(0x3e)),
        ];
        for (bytes, error) in cases {
            assert_eq!(TransportParameters::parse(bytes), Err(error), "{bytes:02x?}");
        }
        assert_eq!(
            TransportParameters::parse(&[0x3c, 2, 9, 9]),
            Ok(TransportParameters::default())
        );
    }

    #[test]
    fn a_flood_of_unknown_parameters_is_refused() {
        let flood = |count: u16| -> Vec<u8> {
            (0..count)
                .flat_map(|n| [0x40 | (n >> 7) as u8 | 1, (n << 1) as u8, 0])
                .collect()
        };
        assert!(TransportParameters::parse(&flood(64)).is_ok());
        assert_eq!(TransportParameters::parse(&flood(65)), Err(ParamError::TooMany));
    }

    #[test]
    fn every_cut_is_an_error_or_a_shorter_list() {
        let mut bytes = Vec::new();
        sample().encode(&mut bytes).unwrap();
        let whole = (0..bytes.len())
            .filter(|cut| TransportParameters::parse(&bytes[..*cut]).is_ok())
            .count();
        // Cuts between parameters; the one after max_ack_delay alone is also a valid list.
        assert_eq!(whole, 15);
    }

    #[test]
    fn values_that_cannot_be_carried_leave_the_output_alone() {
        let mut out = vec![1];
        let params = TransportParameters {
            max_data: varint::MAX + 1,
            ..sample()
        };
        assert_eq!(params.encode(&mut out), Err(WriteError::ValueTooLarge));
        let params = TransportParameters {
            app: vec![b'a'; 65],
            ..sample()
        };
        assert_eq!(params.encode(&mut out), Err(WriteError::ValueTooLarge));
        assert_eq!(out, [1]);
        let huge = TransportParameters {
            max_data: varint::MAX,
            max_udp: varint::MAX,
            app: vec![b'a'; 64],
            ..sample()
        };
        assert_eq!(huge.encode(&mut out), Ok(()));
    }

    #[test]
    fn any_bytes_parse_or_fail() {
        arbtest::arbtest(|u| {
            let bytes: Vec<u8> = u.arbitrary()?;
            if let Ok(params) = TransportParameters::parse(&bytes) {
                let mut again = Vec::new();
                params.encode(&mut again).unwrap();
                assert_eq!(TransportParameters::parse(&again), Ok(params));
            }
            Ok(())
        });
    }
}
