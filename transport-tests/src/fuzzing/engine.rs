//! What reaches the packet engine without keys: frames, parameters, whole datagrams; and scenarios of its simulator.

use std::cell::RefCell;

use transport_core::wire::frame::{
    AckFrequency, Close, Datagram, Frame, Frames, NumberedAddress, PathNewConnectionId, PunchMeNow, Stream,
};
use transport_core::wire::varint;
use transport_core::wire::{ConnectionId, Reader, TransportParameters};

use crate::misbehave::encode;
use crate::pair::{Options, Pair, Way, stranger};
use crate::sim::Scenario;

/// Frames of a packet: what parses can be written, and reads the same.
pub fn frames(data: &[u8]) {
    for frame in Frames::new(data).flatten() {
        let bytes = encode(&[frame]);
        assert_eq!(bytes.len(), frame.encoded_len());
        let mut again = Frames::new(&bytes);
        assert_eq!(again.next(), Some(Ok(frame)));
        assert_eq!(again.next(), None);
        if let Frame::PathAck(ack) = frame {
            check_ranges(ack.largest(), ack.ranges());
        }
    }
}

fn check_ranges(largest: u64, ranges: impl Iterator<Item = std::ops::RangeInclusive<u64>>) {
    let mut below = None;
    for range in ranges {
        assert!(range.start() <= range.end() && *range.end() <= largest);
        assert!(
            below.is_none_or(|below: u64| *range.end() + 1 < below),
            "ranges descend, with gaps"
        );
        below = Some(*range.start());
    }
    assert!(below.is_some());
}

/// Frames made of arbitrary fields survive writing and reading.
pub fn frame_fields(data: &[u8]) {
    let mut input = Reader::new(data);
    let mut field = || input.array().map_or(0, u64::from_be_bytes) & varint::MAX;
    let (id, code, third) = (field(), field(), field() >> 3);
    let rest = input.take_rest();
    let rest = &rest[..rest.len().min(1200)];
    let made = [
        Frame::Ping,
        Frame::ImmediateAck,
        Frame::HandshakeDone,
        Frame::ResetStream {
            id,
            code,
            final_size: third,
        },
        Frame::StopSending { id, code },
        Frame::MaxData { max: id },
        Frame::MaxStreamData { id, max: code },
        Frame::MaxStreams {
            uni: id & 1 == 1,
            max: third >> 2,
        },
        Frame::DataBlocked { at: code },
        Frame::StreamDataBlocked { id, at: code },
        Frame::StreamsBlocked {
            uni: code & 1 == 1,
            at: third >> 2,
        },
        Frame::AckFrequency(AckFrequency {
            sequence: id,
            threshold: code,
            delay_us: third & 0xff_ffff,
            reordering: code >> 1,
        }),
        Frame::PathChallenge(id.to_be_bytes()),
        Frame::PathResponse(code.to_be_bytes()),
        Frame::Stream(Stream {
            id,
            offset: third,
            data: rest,
            fin: code & 1 == 1,
        }),
        Frame::Datagram(Datagram { data: rest }),
        Frame::Close(Close {
            code,
            frame_type: (id & 1 == 1).then_some(third),
            reason: rest,
        }),
        Frame::PathNewConnectionId(PathNewConnectionId {
            path: id as u32,
            sequence: code,
            retire_prior_to: third.min(code),
            cid: ConnectionId([id as u8; 9]),
        }),
    ];
    survives(&made);
    survives(&frames_of_addresses(id, code, third));
}

fn survives(made: &[Frame<'_>]) {
    let bytes = encode(made);
    let read: Result<Vec<Frame<'_>>, _> = Frames::new(&bytes).collect();
    assert_eq!(read.as_deref(), Ok(made));
}

fn frames_of_addresses(id: u64, code: u64, third: u64) -> [Frame<'static>; 4] {
    let port = (id as u16).max(1);
    [
        Frame::ObservedAddress(NumberedAddress {
            sequence: id,
            address: stranger(port),
        }),
        Frame::AddAddress(NumberedAddress {
            sequence: code,
            address: (std::net::Ipv6Addr::from_bits(u128::from(id) << 66 | 1), port).into(),
        }),
        Frame::PunchMeNow(PunchMeNow {
            round: third,
            path: code as u32,
            address: stranger(port),
        }),
        Frame::RemoveAddress { sequence: third },
    ]
}

/// Transport parameters: what parses can be announced, and reads the same.
pub fn params(data: &[u8]) {
    let Ok(params) = TransportParameters::parse(data) else {
        return;
    };
    let mut bytes = Vec::new();
    params.encode(&mut bytes).expect("what was read can be written");
    assert_eq!(TransportParameters::parse(&bytes), Ok(params));
}

/// Datagrams from nowhere get silence and a count; each of the data is cut into several.
pub fn datagram_for_a_relay(data: &[u8]) {
    thread_local!(static PAIR: RefCell<Pair> = RefCell::new(Pair::idle(Options::new(0xF0))));
    PAIR.with_borrow_mut(|pair| {
        for datagram in data.chunks(100 + data.len() / 3).chain([data]) {
            let before = pair.server.endpoint.stats().drops.total();
            pair.inject(Way::Up, stranger(9), datagram);
            assert_eq!(pair.server.endpoint.stats().drops.total(), before + 1);
        }
        assert!(pair.record.is_empty(), "an answer to a stranger");
    });
}

/// Scenario files get a verdict, with a place.
pub fn scenario(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Err(fault) = Scenario::parse(text)
    {
        assert!(!fault.is_empty());
    }
}
