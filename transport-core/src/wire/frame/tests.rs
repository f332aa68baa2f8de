use std::ops::RangeInclusive;

use super::*;
use crate::wire::ConnectionId;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0xaa; frame.encoded_len()];
    let mut out = Writer::new(&mut bytes);
    frame.encode(&mut out).unwrap();
    assert_eq!(out.room(), 0, "{frame:?}");
    bytes
}

fn ack_bytes(
    path: u32,
    delay_us: u64,
    ranges: &[RangeInclusive<u64>],
    room: usize,
) -> Result<(Vec<u8>, usize), WriteError> {
    let mut bytes = vec![0xaa; room];
    let mut out = Writer::new(&mut bytes);
    let count = ack::encode(&mut out, path, delay_us, ranges.iter().cloned(), None)?;
    let used = out.len();
    Ok((bytes[..used].to_vec(), count))
}

/// 2001:db8::5.
const DOCUMENTATION: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);

/// Frames and the bytes they must be, now and in every later version.
fn golden() -> Vec<(Frame<'static>, &'static str)> {
    let cid = ConnectionId(*b"\x01\x02\x03\x04\x05\x06\x07\x08\x09");
    let transport = Close {
        code: 7,
        frame_type: Some(0x3e),
        reason: b"bad ack",
    };
    vec![
        (Frame::Padding { len: 3 }, "000000"),
        (Frame::Ping, "01"),
        (
            Frame::ResetStream {
                id: 4,
                code: 300,
                final_size: 70_000,
            },
            "04 04 412c 80011170",
        ),
        (Frame::StopSending { id: 5, code: 1 }, "05 05 01"),
        (
            Frame::Stream(Stream {
                id: 8,
                offset: 0,
                data: b"hi",
                fin: false,
            }),
            "0a 08 02 6869",
        ),
        (
            Frame::Stream(Stream {
                id: 8,
                offset: 64,
                data: b"",
                fin: true,
            }),
            "0f 08 4040 00",
        ),
        (Frame::ImmediateAck, "1f"),
        (
            Frame::AckFrequency(AckFrequency {
                sequence: 1,
                threshold: 9,
                delay_us: 25_000,
                reordering: 300,
            }),
            "40af 01 09 800061a8 412c",
        ),
        (Frame::MaxData { max: 1 << 30 }, "10 c000000040000000"),
        (Frame::MaxStreamData { id: 2, max: 16_384 }, "11 02 80004000"),
        (Frame::MaxStreams { uni: false, max: 100 }, "12 4064"),
        (Frame::MaxStreams { uni: true, max: 3 }, "13 03"),
        (Frame::DataBlocked { at: 9 }, "14 09"),
        (Frame::StreamDataBlocked { id: 1, at: 9 }, "15 01 09"),
        (Frame::StreamsBlocked { uni: false, at: 0 }, "16 00"),
        (Frame::StreamsBlocked { uni: true, at: 1 }, "17 01"),
        (Frame::PathChallenge(*b"12345678"), "1a 3132333435363738"),
        (
            Frame::PathAbandon(PathAbandon { path: 1, code: 0x3e }),
            "7e75 01 3e",
        ),
        (
            Frame::PathStatus(PathStatus {
                path: 2,
                sequence: 64,
                available: false,
            }),
            "7e76 02 4040",
        ),
        (
            Frame::PathStatus(PathStatus {
                path: 0,
                sequence: 1,
                available: true,
            }),
            "7e77 00 01",
        ),
        (Frame::MaxPathId { max: 4 }, "7e7a 04"),
        (Frame::PathsBlocked { at: 3 }, "7e7b 03"),
        (Frame::PathCidsBlocked { path: 3, sequence: 1 }, "7e7c 03 01"),
        (Frame::PathResponse(*b"12345678"), "1b 3132333435363738"),
        (Frame::Close(transport), "1c 07 3e 07 62616420616 36b"),
        (
            Frame::Close(Close {
                code: 256,
                frame_type: None,
                reason: b"",
            }),
            "1d 4100 00",
        ),
        (Frame::HandshakeDone, "1e"),
        (Frame::Datagram(Datagram { data: b"abc" }), "31 03 616263"),
        (
            Frame::PathNewConnectionId(PathNewConnectionId {
                path: 0,
                sequence: 2,
                retire_prior_to: 1,
                cid,
            }),
            "7e78 00 02 01 010203040506070809",
        ),
        (
            Frame::PathRetireConnectionId(PathRetireConnectionId { path: 1, sequence: 2 }),
            "7e79 01 02",
        ),
        (
            Frame::ControlData(ControlData {
                kind: ControlKind::Bundle,
                message: 3,
                total: 6600,
                offset: 64,
                data: b"xy",
            }),
            "7c00 01 03 59c8 4040 02 7879",
        ),
        (
            Frame::ObservedAddress(NumberedAddress {
                sequence: 3,
                address: ([192, 0, 2, 1], 4433).into(),
            }),
            "809f81a6 03 c0000201 1151",
        ),
        (
            Frame::ObservedAddress(NumberedAddress {
                sequence: 64,
                address: (DOCUMENTATION, 1).into(),
            }),
            "809f81a7 4040 20010db8000000000000000000000005 0001",
        ),
        (
            Frame::AddAddress(NumberedAddress {
                sequence: 0,
                address: ([192, 0, 2, 1], 65_535).into(),
            }),
            "803d7e90 00 c0000201 ffff",
        ),
        (
            Frame::AddAddress(NumberedAddress {
                sequence: 1,
                address: (DOCUMENTATION, 443).into(),
            }),
            "803d7e91 01 20010db8000000000000000000000005 01bb",
        ),
        (
            Frame::PunchMeNow(PunchMeNow {
                round: 2,
                path: 1,
                address: ([192, 0, 2, 1], 4433).into(),
            }),
            "803d7e92 02 01 c0000201 1151",
        ),
        (
            Frame::PunchMeNow(PunchMeNow {
                round: 70,
                path: 3,
                address: (DOCUMENTATION, 443).into(),
            }),
            "803d7e93 4046 03 20010db8000000000000000000000005 01bb",
        ),
        (Frame::RemoveAddress { sequence: 64 }, "803d7e94 4040"),
    ]
}

#[test]
fn golden_samples() {
    for (frame, text) in golden() {
        let bytes = hex(text);
        assert_eq!(encoded(&frame), bytes, "{frame:?}");
        assert_eq!(Frames::new(&bytes).collect::<Vec<_>>(), [Ok(frame)]);
    }
}

#[test]
fn golden_ack() {
    let ranges = [990..=1000, 980..=980, 0..=900];
    let (bytes, count) = ack_bytes(2, 70_000, &ranges, 100).unwrap();
    assert_eq!(bytes, hex("3e 02 43e8 80011170 02 0a 08 00 404e 4384"));
    assert_eq!(count, 3);
    let Some(Ok(Frame::PathAck(ack))) = Frames::new(&bytes).next() else {
        panic!("not an ack")
    };
    assert_eq!((ack.path(), ack.largest(), ack.delay_us()), (2, 1000, 70_000));
    assert_eq!(ack.ranges().collect::<Vec<_>>(), ranges);
    assert_eq!(encoded(&Frame::PathAck(ack)), bytes);
}

#[test]
fn forms_without_a_length_reach_to_the_end() {
    let open_stream = hex("0c 08 4040 616263 01");
    let stream = Stream {
        id: 8,
        offset: 64,
        data: b"abc\x01",
        fin: false,
    };
    assert_eq!(
        Frames::new(&open_stream).collect::<Vec<_>>(),
        [Ok(Frame::Stream(stream))]
    );
    let open_datagram = hex("01 30 0000");
    let expected = [Ok(Frame::Ping), Ok(Frame::Datagram(Datagram { data: &[0, 0] }))];
    assert_eq!(Frames::new(&open_datagram).collect::<Vec<_>>(), expected);
}

#[test]
fn cut_anywhere_is_truncated_and_no_room_writes_nothing() {
    let (ack, _) = ack_bytes(0, 1, &[10..=70, 0..=3], 100).unwrap();
    let all = golden()
        .into_iter()
        .skip(1)
        .map(|(frame, _)| encoded(&frame))
        .chain([ack]);
    for bytes in all {
        let frame = Frames::new(&bytes).next().unwrap().unwrap();
        for cut in 1..bytes.len() {
            let found: Vec<_> = Frames::new(&bytes[..cut]).collect();
            assert_eq!(found.len(), 1, "{frame:?} cut at {cut}");
            assert_eq!(
                found[0].unwrap_err().fault,
                FrameFault::Truncated,
                "{frame:?} cut at {cut}"
            );
        }
        for room in 0..bytes.len() {
            let mut space = vec![0xaa; room];
            let mut out = Writer::new(&mut space);
            assert_eq!(frame.encode(&mut out), Err(WriteError::NoRoom));
            assert!(out.is_empty());
        }
    }
}

fn fault(text: &str) -> FrameFault {
    let bytes = hex(text);
    let mut frames = Frames::new(&bytes);
    let error = frames
        .find_map(Result::err)
        .unwrap_or_else(|| panic!("{text} was accepted"));
    assert_eq!(frames.next(), None, "nothing may follow an error");
    error.fault
}

#[test]
fn broken_rules_are_refused() {
    for (text, expected) in [
        ("02", FrameFault::UnknownType),
        ("06 00 00", FrameFault::UnknownType),
        ("18", FrameFault::UnknownType),
        ("7e7d", FrameFault::UnknownType),
        ("803d7e95", FrameFault::UnknownType),
        ("809f81a8", FrameFault::UnknownType),
        ("4001", FrameFault::LongType),
        ("80003e78 00", FrameFault::LongType),
    ] {
        assert_eq!(fault(text), expected, "{text}");
    }
    for text in [
        // Stream counts above 2^60, stream ends above 2^62 − 1.
        "12 d000000000000001",
        "17 d000000000000001",
        "0e 00 ffffffffffffffff 01 00",
        // Acknowledges below zero: first range, gap, range.
        "3e 00 05 00 00 06",
        "3e 00 05 00 01 00 04 00",
        "3e 00 05 00 01 00 00 04",
        // 257 ranges, a path id of 33 bits, a retirement before the issue.
        "3e 00 4fff 00 4100 00",
        "3e c000000100000000 00 00 00 00",
        "7e78 00 01 02 010203040506070809",
        // A delay of 2^24 µs.
        "40af 00 01 81000000 03",
        // Pieces: unknown kind, too large, empty, past the end.
        "7c00 00 00 01 00 01 00",
        "7c00 01 00 6001 00 01 00",
        "7c00 01 00 01 00 00",
        "7c00 01 00 02 01 02 0000",
        // Port 0, an IPv4 address in the form of IPv6, a path id of 33 bits.
        "803d7e90 00 c0000201 0000",
        "809f81a7 00 00000000000000000000ffffc0000201 0001",
        "803d7e92 00 c000000100000000 c0000201 0001",
    ] {
        assert!(matches!(fault(text), FrameFault::Invalid(_)), "{text}");
    }
}

#[test]
fn two_hundred_and_fifty_six_ranges_are_the_most() {
    let ranges: Vec<_> = (0..300u64).rev().map(|n| n * 3..=n * 3 + 1).collect();
    let (bytes, count) = ack_bytes(0, 0, &ranges, 2000).unwrap();
    assert_eq!(count, MAX_ACK_RANGES);
    let Some(Ok(Frame::PathAck(ack))) = Frames::new(&bytes).next() else {
        panic!("not an ack")
    };
    assert_eq!(ack.ranges().collect::<Vec<_>>(), &ranges[..256]);
}

#[test]
fn ranges_out_of_order_are_not_written() {
    for ranges in [
        vec![],
        vec![5..=6, 4..=4],
        vec![5..=6, 5..=6],
        vec![5..=6, 7..=9],
        vec![RangeInclusive::new(6, 5)],
    ] {
        assert_eq!(
            ack_bytes(0, 0, &ranges, 100),
            Err(WriteError::ValueTooLarge),
            "{ranges:?}"
        );
    }
    assert_eq!(ack_bytes(0, 0, &[5..=6], 6), Err(WriteError::NoRoom));
    assert_eq!(ack_bytes(0, 0, &[5..=6], 7).unwrap().0, hex("3e 00 06 00 00 01"));
}

#[test]
fn marks_follow_the_ranges() {
    let mut bytes = [0; 20];
    let mut out = Writer::new(&mut bytes);
    let ranges = [8..=9, 1..=3];
    assert_eq!(
        ack::encode(&mut out, 0, 5, ranges.iter().cloned(), Some([70, 0, 2])),
        Ok(2)
    );
    let used = out.len();
    assert_eq!(bytes[..used], hex("3f 00 09 05 01 01 03 02 4046 00 02"));
    let Some(Ok(frame @ Frame::PathAck(ack))) = Frames::new(&bytes[..used]).next() else {
        panic!("not an ack")
    };
    assert_eq!(
        (ack.marks(), frame.frame_type()),
        (Some([70, 0, 2]), kind::PATH_ACK_ECN)
    );
    assert_eq!(encoded(&frame), bytes[..used]);
    for cut in 1..used {
        assert!(Frames::new(&bytes[..cut]).next().unwrap().is_err(), "{cut}");
    }
    let mut narrow = [0; 11];
    let marks = Some([70, 0, 2]);
    let fitting = ack::encode(&mut Writer::new(&mut narrow), 0, 5, ranges.iter().cloned(), marks);
    assert_eq!(fitting, Ok(1), "ranges give way to marks");
}

#[test]
fn acks_round_trip_and_shrink_to_the_room() {
    arbtest::arbtest(|u| {
        let mut top = u.int_in_range(0..=varint::MAX)?;
        let mut ranges = Vec::new();
        while let Some(first) = top.checked_sub(u.int_in_range(0..=2000)?) {
            ranges.push(first..=top);
            match first.checked_sub(u.int_in_range(2..=20_000)?) {
                Some(next) if ranges.len() < 100 => top = next,
                _ => break,
            }
        }
        if ranges.is_empty() {
            return Ok(());
        }
        let (path, delay) = (u.arbitrary()?, u.int_in_range(0..=varint::MAX)?);
        let room = u.int_in_range(0..=600)?;
        let Ok((bytes, count)) = ack_bytes(path, delay, &ranges, room) else {
            assert!(room < 40);
            return Ok(());
        };
        assert!(
            count == ranges.len() || bytes.len() + 16 > room,
            "ranges left out with room left"
        );
        let Some(Ok(Frame::PathAck(ack))) = Frames::new(&bytes).next() else {
            panic!("not an ack")
        };
        assert_eq!((ack.path(), ack.delay_us()), (path, delay));
        assert_eq!(ack.ranges().collect::<Vec<_>>(), &ranges[..count]);
        Ok(())
    });
}

#[test]
fn what_fits_is_exact() {
    arbtest::arbtest(|u| {
        let room: usize = u.int_in_range(0..=1500)?;
        let (id, offset) = (
            u.arbitrary::<u64>()? >> 2,
            u.arbitrary::<u64>()? >> u.int_in_range(3..=63)?,
        );
        let fin = u.arbitrary()?;
        let Some(most) = stream::fit(room, id, offset) else {
            assert!(room < 17);
            return Ok(());
        };
        let length = u.int_in_range(0..=most)?;
        let data: Vec<u8> = (1..=length).map(|n| n as u8).collect();
        let mut bytes = vec![0xaa; room];
        let mut out = Writer::new(&mut bytes);
        let extent = stream::begin(&mut out, id, offset, fin, length).unwrap();
        out.bytes(&data).unwrap();
        let used = out.len();
        if extent == Extent::ToEnd {
            assert_eq!(used, room);
        }
        let frames: Vec<_> = Frames::new(&bytes[..used]).map(Result::unwrap).collect();
        assert_eq!(
            frames.last(),
            Some(&Frame::Stream(Stream {
                id,
                offset,
                data: &data,
                fin
            }))
        );
        assert!(frames.len() == 1 || extent == Extent::ToEnd && matches!(frames[0], Frame::Padding { .. }));
        // One byte more does not fit.
        let mut bytes = vec![0xaa; room];
        let mut out = Writer::new(&mut bytes);
        assert_eq!(
            stream::begin(&mut out, id, offset, fin, most + 1),
            Err(WriteError::NoRoom)
        );
        assert!(out.is_empty());
        Ok(())
    });
}

#[test]
fn datagrams_fit_to_the_last_byte() {
    for room in [1usize, 2, 3, 64, 65, 66, 67, 1200] {
        let most = datagram::fit(room).unwrap();
        for length in most.saturating_sub(4)..=most {
            let data = vec![7; length];
            let mut bytes = vec![0xaa; room];
            let mut out = Writer::new(&mut bytes);
            let extent = datagram::begin(&mut out, length).unwrap();
            out.bytes(&data).unwrap();
            let used = out.len();
            assert!(extent == Extent::Delimited || used == room);
            let last = Frames::new(&bytes[..used]).last();
            assert_eq!(
                last,
                Some(Ok(Frame::Datagram(Datagram { data: &data }))),
                "{room} {length}"
            );
        }
        let mut bytes = vec![0xaa; room];
        assert_eq!(
            datagram::begin(&mut Writer::new(&mut bytes), most + 1),
            Err(WriteError::NoRoom)
        );
    }
    assert_eq!(datagram::fit(0), None);
}

#[test]
fn pieces_and_reasons_fit() {
    for room in 5..200 {
        let data = vec![1; 8192];
        if let Some(most) = ControlData::fit(room, 70, 8192, 100) {
            let frame = ControlData {
                kind: ControlKind::Rekey,
                message: 70,
                total: 8192,
                offset: 100,
                data: &data[..most],
            };
            assert!(Frame::ControlData(frame).encoded_len() <= room);
        }
        let close = Close {
            code: 1,
            frame_type: Some(0),
            reason: &data,
        }
        .fitted(room);
        let length = Frame::Close(close).encoded_len();
        assert!(length <= room && length + 2 > room, "{room}: {length}");
        assert_eq!(
            Close {
                code: 1,
                frame_type: None,
                reason: b""
            }
            .fitted(room)
            .reason,
            b""
        );
    }
    assert_eq!(
        Close {
            code: 1,
            frame_type: None,
            reason: b"why"
        }
        .fitted(1000)
        .reason,
        b"why"
    );
    assert_eq!(ControlData::fit(8, 0, 8192, 100), None);
}

#[test]
fn values_no_integer_can_carry_are_not_written() {
    let huge = varint::MAX + 1;
    let cid = ConnectionId([0; 9]);
    for frame in [
        Frame::MaxData { max: huge },
        Frame::ResetStream {
            id: 0,
            code: 0,
            final_size: huge,
        },
        Frame::Stream(Stream {
            id: 0,
            offset: varint::MAX,
            data: b"x",
            fin: false,
        }),
        Frame::Close(Close {
            code: huge,
            frame_type: None,
            reason: b"",
        }),
        Frame::PathNewConnectionId(PathNewConnectionId {
            path: 0,
            sequence: 0,
            retire_prior_to: 1,
            cid,
        }),
        Frame::PathRetireConnectionId(PathRetireConnectionId {
            path: 0,
            sequence: huge,
        }),
        Frame::AddAddress(NumberedAddress {
            sequence: huge,
            address: ([192, 0, 2, 1], 1).into(),
        }),
        Frame::PunchMeNow(PunchMeNow {
            round: huge,
            path: 0,
            address: ([192, 0, 2, 1], 1).into(),
        }),
        Frame::RemoveAddress { sequence: huge },
        Frame::ControlData(ControlData {
            kind: ControlKind::Bind,
            message: 0,
            total: 8193,
            offset: 0,
            data: b"x",
        }),
    ] {
        let mut bytes = [0; 64];
        let mut out = Writer::new(&mut bytes);
        assert_eq!(
            frame.encode(&mut out),
            Err(WriteError::ValueTooLarge),
            "{frame:?}"
        );
        assert!(out.is_empty(), "{frame:?}");
    }
}

#[test]
fn any_bytes_decode_or_fail_and_decoded_frames_survive_another_trip() {
    arbtest::arbtest(|u| {
        let bytes: Vec<u8> = u.arbitrary()?;
        for frame in Frames::new(&bytes).map_while(Result::ok) {
            if let Frame::PathAck(ack) = frame {
                assert!(ack.ranges().count() <= MAX_ACK_RANGES);
            }
            let again = encoded(&frame);
            assert_eq!(Frames::new(&again).collect::<Vec<_>>(), [Ok(frame)]);
        }
        Ok(())
    });
}

#[test]
fn who_must_be_acknowledged_and_who_may_speak() {
    for (frame, _) in golden() {
        let silent = matches!(frame, Frame::Padding { .. } | Frame::Close(_));
        assert_eq!(frame.is_ack_eliciting(), !silent, "{frame:?}");
        let a_clients = matches!(frame, Frame::PunchMeNow(_));
        assert_eq!(frame.is_allowed_from(true), !a_clients, "{frame:?}");
        let a_relays = match frame {
            Frame::HandshakeDone
            | Frame::NewTicket(_)
            | Frame::AddAddress(_)
            | Frame::RemoveAddress { .. } => true,
            Frame::ControlData(data) => data.kind == ControlKind::Bundle,
            _ => false,
        };
        assert_eq!(frame.is_allowed_from(false), !a_relays, "{frame:?}");
    }
    let (ack, _) = ack_bytes(0, 0, &[0..=0], 100).unwrap();
    assert!(!Frames::new(&ack).next().unwrap().unwrap().is_ack_eliciting());
}
