//! The 17 bytes that open a connection's work, and the 24 that answer it.

use std::time::Duration;

use transport_api::{ReadError, RecvStream};

use crate::cli::{Cc, Workload};

/// The application label of both ends.
pub(crate) const APP: &[u8] = b"adit-bench/1";

/// What the client asks of the server, in fixed places, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) workload: Workload,
    pub(crate) reverse: bool,
    pub(crate) streams: u16,
    pub(crate) size: u32,
    pub(crate) run_for: Duration,
    /// Congestion control of a sending server.
    pub(crate) cc: Cc,
}

/// Bytes of a [`Request`] on the wire.
pub(crate) const REQUEST_LEN: usize = 17;
/// Bytes of a [`Received`] on the wire.
pub(crate) const RECEIVED_LEN: usize = 24;

impl Request {
    pub(crate) fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut out = [0; REQUEST_LEN];
        out[0] = self.workload as u8;
        out[1] = u8::from(self.reverse);
        out[2..4].copy_from_slice(&self.streams.to_be_bytes());
        out[4..8].copy_from_slice(&self.size.to_be_bytes());
        out[8..16].copy_from_slice(&(self.run_for.as_micros() as u64).to_be_bytes());
        out[16] = self.cc as u8;
        out
    }

    /// Nothing when the bytes are no request of this version.
    pub(crate) fn decode(bytes: [u8; REQUEST_LEN]) -> Option<Self> {
        let all = [
            Workload::Bulk,
            Workload::Datagrams,
            Workload::Handshakes,
            Workload::Idle,
            Workload::Echo,
            Workload::Mixed,
        ];
        let [_, reverse, s0, s1, z0, z1, z2, z3, time @ .., cc] = bytes;
        Some(Self {
            workload: all.into_iter().find(|workload| *workload as u8 == bytes[0])?,
            reverse: reverse == 1,
            streams: u16::from_be_bytes([s0, s1]),
            size: u32::from_be_bytes([z0, z1, z2, z3]),
            run_for: Duration::from_micros(u64::from_be_bytes(time)),
            cc: [Cc::Bbr, Cc::BbrLossy, Cc::Cubic]
                .into_iter()
                .find(|known| *known as u8 == cc)?,
        })
    }
}

/// What a receiver counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) bytes: u64,
    pub(crate) datagrams: u64,
    /// From the first byte to the last.
    pub(crate) micros: u64,
}

impl Received {
    pub(crate) fn encode(&self) -> [u8; RECEIVED_LEN] {
        let mut out = [0; RECEIVED_LEN];
        for (slot, number) in out
            .chunks_exact_mut(8)
            .zip([self.bytes, self.datagrams, self.micros])
        {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: [u8; RECEIVED_LEN]) -> Self {
        let number = |at: usize| {
            bytes[at..at + 8]
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        Self {
            bytes: number(0),
            datagrams: number(8),
            micros: number(16),
        }
    }
}

/// Reads exactly `N` bytes; nothing when the stream ended before.
pub(crate) async fn read_exact<const N: usize>(
    stream: &mut RecvStream,
) -> Result<Option<[u8; N]>, ReadError> {
    let mut out = [0; N];
    let mut have = 0;
    while have < N {
        match stream.read(&mut out[have..]).await? {
            Some(read) => have += read,
            None => return Ok(None),
        }
    }
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_come_back() {
        let request = Request {
            workload: Workload::Echo,
            reverse: true,
            streams: 300,
            size: 70_000,
            run_for: Duration::from_millis(1500),
            cc: Cc::Cubic,
        };
        assert_eq!(Request::decode(request.encode()), Some(request));
        let received = Received {
            bytes: 1 << 40,
            datagrams: 7,
            micros: 9,
        };
        assert_eq!(Received::decode(received.encode()), received);
        assert_eq!(Request::decode([99; REQUEST_LEN]), None);
    }
}
