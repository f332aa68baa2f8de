use super::*;

fn violation(violation: Violation) -> Result<(), ReceiveError> {
    Err(ReceiveError::Violation(violation))
}

#[test]
fn bytes_beyond_a_limit_are_a_violation() {
    let (mut server, now) = server(&small());
    let other = StreamId::new(Side::Client, Direction::Bi, 1);
    let data = [0; 1001];
    let mut send = |id, offset, len: usize| {
        server.receive(
            now,
            Input::Stream {
                id,
                offset,
                data: &data[..len],
                fin: false,
            },
        )
    };
    assert_eq!(send(PEER_BI, 0, 1000), Ok(()));
    assert_eq!(send(PEER_BI, 1000, 1), violation(Violation::FlowControl));
    assert_eq!(send(PEER_BI, 0, 1001), violation(Violation::FlowControl));
    assert_eq!(send(PEER_BI, (1 << 62) - 1, 1), violation(Violation::FlowControl));
    assert_eq!(send(other, 0, 500), Ok(()));
    assert_eq!(
        send(other, 500, 1),
        violation(Violation::FlowControl),
        "the connection's limit"
    );
    assert_eq!(send(other, 0, 500), Ok(()), "a repetition uses nothing");
    let reset = |final_size| Input::Reset {
        id: other,
        code: 0,
        final_size,
    };
    assert_eq!(server.receive(now, reset(501)), violation(Violation::FlowControl));
    assert_eq!(server.receive(now, reset(500)), Ok(()));
}

#[test]
fn the_final_size_never_changes() {
    let id = PEER_BI;
    let data = |offset, len: usize, fin| Input::Stream {
        id,
        offset,
        data: &[0; 50][..len],
        fin,
    };
    let reset = |final_size| Input::Reset {
        id,
        code: 0,
        final_size,
    };
    let wrong = violation(Violation::FinalSize);
    // After a FIN at 10.
    for (input, result) in [
        (data(5, 6, false), wrong),
        (data(5, 6, true), wrong),
        (data(5, 4, true), wrong),
        (data(5, 5, true), Ok(())),
        (data(5, 5, false), Ok(())),
        (data(10, 0, true), Ok(())),
        (reset(9), wrong),
        (reset(11), wrong),
        (reset(10), Ok(())),
    ] {
        let (mut server, now) = server(&small());
        server.receive(now, data(10, 0, true)).unwrap();
        assert_eq!(server.receive(now, input), result, "{input:?}");
    }
    // A FIN or reset below what has come.
    for (input, result) in [(data(0, 9, true), wrong), (reset(9), wrong), (reset(10), Ok(()))] {
        let (mut server, now) = server(&small());
        server.receive(now, data(0, 10, false)).unwrap();
        assert_eq!(server.receive(now, input), result, "{input:?}");
    }
    // After a reset at 10.
    for (input, result) in [
        (data(0, 11, false), wrong),
        (data(0, 9, true), wrong),
        (reset(11), wrong),
        (reset(10), Ok(())),
    ] {
        let (mut server, now) = server(&small());
        server.receive(now, reset(10)).unwrap();
        assert_eq!(server.receive(now, input), result, "{input:?}");
    }
}

#[test]
fn frames_for_streams_that_cannot_take_them() {
    let (mut server, now) = server(&small());
    let own_uni = server.open(Direction::Uni).unwrap();
    let own_bi = StreamId::new(Side::Server, Direction::Bi, 0);
    let their_uni = StreamId::new(Side::Client, Direction::Uni, 0);
    let data = |id| Input::Stream {
        id,
        offset: 0,
        data: b"x",
        fin: false,
    };
    let state = violation(Violation::StreamState);
    assert_eq!(server.receive(now, data(own_uni)), state);
    assert_eq!(
        server.receive(
            now,
            Input::Reset {
                id: own_uni,
                code: 0,
                final_size: 0
            }
        ),
        state
    );
    assert_eq!(
        server.receive(now, Input::StreamDataBlocked { id: own_uni, at: 0 }),
        state
    );
    assert_eq!(
        server.receive(
            now,
            Input::Stop {
                id: their_uni,
                code: 0
            }
        ),
        state
    );
    assert_eq!(
        server.receive(
            now,
            Input::MaxStreamData {
                id: their_uni,
                max: 9
            }
        ),
        state
    );
    assert_eq!(server.receive(now, data(own_bi)), state, "not opened yet");
    server.open(Direction::Bi).unwrap();
    assert_eq!(server.receive(now, data(own_bi)), Ok(()));
    assert_eq!(server.receive(now, Input::Stop { id: own_uni, code: 0 }), Ok(()));
}

#[test]
fn streams_beyond_the_limit_are_a_violation_until_one_closes() {
    let (mut server, now) = server(&small());
    let uni = |index| StreamId::new(Side::Client, Direction::Uni, index);
    let end = |index| Input::Stream {
        id: uni(index),
        offset: 0,
        data: b"",
        fin: true,
    };
    assert_eq!(server.receive(now, end(4)), violation(Violation::StreamLimit));
    assert_eq!(server.receive(now, end(3)), Ok(()));
    assert!(read_all(&mut server, uni(3)).1);
    let limit = Frame::Control(Control::MaxStreams {
        direction: Direction::Uni,
        max: 5,
    });
    assert_eq!(packet(&mut server, now, 1200).unwrap().0, [limit]);
    assert_eq!(server.receive(now, end(4)), Ok(()));
    assert_eq!(server.receive(now, end(5)), violation(Violation::StreamLimit));
    assert_eq!(
        server.receive(now, end(3)),
        Ok(()),
        "late frames of a closed stream are ignored"
    );
    let absurd = Input::MaxStreams {
        direction: Direction::Uni,
        max: (1 << 60) + 1,
    };
    assert_eq!(server.receive(now, absurd), violation(Violation::StreamLimit));
}

#[test]
fn a_flood_of_resets_ends_the_connection_but_the_credit_may_be_cancelled_at_once() {
    let limits = Limits {
        max_streams_uni: 100,
        max_streams_bi: 0,
        ..Limits::default()
    };
    let (mut server, now) = server(&limits);
    let mut outcome = Ok(());
    let mut cancelled = 0;
    for index in 0..10_000 {
        let id = StreamId::new(Side::Client, Direction::Uni, index);
        outcome = server.receive(
            now,
            Input::Reset {
                id,
                code: 0,
                final_size: 0,
            },
        );
        if outcome.is_err() {
            break;
        }
        assert_eq!(
            server.receive(
                now,
                Input::Reset {
                    id,
                    code: 0,
                    final_size: 0
                }
            ),
            Ok(()),
            "a repetition is not counted"
        );
        assert_eq!(server.read(id, &mut []), Err(ReadError::Reset(0)));
        cancelled += 1;
    }
    assert_eq!((outcome, cancelled), (violation(Violation::ExcessiveResets), 200));
}

#[test]
fn too_many_pieces_are_refused_and_nothing_changes() {
    let limits = Limits {
        max_receive_segments: 3,
        ..Limits::default()
    };
    let (mut server, now) = server(&limits);
    let id = PEER_BI;
    let mut send = |offset, data: &[u8]| {
        server.receive(
            now,
            Input::Stream {
                id,
                offset,
                data,
                fin: false,
            },
        )
    };
    for offset in [1, 3, 5] {
        assert_eq!(send(offset, b"x"), Ok(()));
    }
    assert_eq!(send(7, b"x"), Err(ReceiveError::Refused(Refused::SegmentsFull)));
    assert_eq!(send(6, b"x"), Ok(()), "what joins a piece makes none");
    assert_eq!(send(0, b"x"), Ok(()), "what fills the first hole is always taken");
    assert_eq!(send(8, b"x"), Ok(()));
    assert_eq!(send(2, b"xxxxxx"), Ok(()));
    assert_eq!(read_all(&mut server, id), (vec![b'x'; 9], false));
}

#[test]
fn limits_rise_when_a_quarter_is_read_and_the_latest_is_repeated() {
    let mut pair = Pair::new(&Limits {
        max_stream_window: 1000,
        max_connection_window: 1500,
        ..small()
    });
    let id = pair.client.open(Direction::Uni).unwrap();
    pair.client.write(id, &[1; 3000]).unwrap();
    carry(&mut pair.client, &mut pair.server, pair.now);
    assert_eq!(pair.server.read(id, &mut [0; 249]).unwrap().bytes, 249);
    assert!(packet(&mut pair.server, pair.now, 1200).is_none());
    assert_eq!(pair.server.read(id, &mut [0; 1]).unwrap().bytes, 1);
    let limit = |max| Frame::Control(Control::MaxStreamData { id, max });
    let (frames, first) = packet(&mut pair.server, pair.now, 1200).unwrap();
    assert_eq!(frames, [limit(1250)]);
    assert_eq!(pair.server.read(id, &mut [0; 500]).unwrap().bytes, 500);
    let connection = Frame::Control(Control::MaxData { max: 2250 });
    let (frames, second) = packet(&mut pair.server, pair.now, 1200).unwrap();
    assert_eq!(frames, [connection.clone(), limit(1750)]);
    // The old limit is not worth repeating, the latest is.
    pair.server.lost(first[0]);
    assert!(packet(&mut pair.server, pair.now, 1200).is_none());
    for token in second {
        pair.server.lost(token);
    }
    assert_eq!(
        packet(&mut pair.server, pair.now, 1200).unwrap().0,
        [connection, limit(1750)]
    );
}

#[test]
fn a_sender_at_a_limit_says_so_once_and_goes_on_when_it_rises() {
    let mut pair = Pair::new(&small());
    let ids: Vec<_> = (0..2)
        .map(|_| pair.client.open(Direction::Uni).unwrap())
        .collect();
    for &id in &ids {
        assert_eq!(pair.client.write(id, &[1; 2000]), Ok(2000));
    }
    let frames: Vec<_> = std::iter::from_fn(|| packet(&mut pair.client, pair.now, 1200))
        .flat_map(|p| p.0)
        .collect();
    let sent: usize = frames
        .iter()
        .map(|f| {
            if let Frame::Stream { data, .. } = f {
                data.len()
            } else {
                0
            }
        })
        .sum();
    assert_eq!(sent, 1500);
    let controls: Vec<_> = frames
        .into_iter()
        .filter(|f| matches!(f, Frame::Control(_)))
        .collect();
    let stream = Frame::Control(Control::StreamDataBlocked { id: ids[0], at: 1000 });
    let connection = Frame::Control(Control::DataBlocked { at: 1500 });
    assert!(
        controls.contains(&connection) && controls.len() <= 2,
        "{controls:?}"
    );
    assert!(
        controls.iter().all(|c| *c == stream || *c == connection),
        "{controls:?}"
    );
    assert!(!pair.client.has_pending());
    // A byte more for the connection is one byte more on the wire, whoever has parked.
    pair.client.receive(pair.now, Input::MaxData(1501)).unwrap();
    pair.client.receive(pair.now, Input::MaxData(1400)).unwrap();
    assert!(pair.client.has_pending());
    let (frames, _) = packet(&mut pair.client, pair.now, 1200).unwrap();
    assert!(
        frames
            .iter()
            .any(|f| matches!(f, Frame::Stream { data, .. } if data.len() == 1)),
        "{frames:?}"
    );
    assert!(
        !frames
            .iter()
            .any(|f| matches!(f, Frame::Stream { data, .. } if data.len() != 1)),
        "{frames:?}"
    );
}

#[test]
fn a_reset_of_a_parked_stream_does_not_strand_the_others() {
    let mut pair = Pair::new(&small());
    let ids: Vec<_> = (0..4)
        .map(|_| pair.client.open(Direction::Uni).unwrap())
        .collect();
    for &id in &ids {
        assert_eq!(pair.client.write(id, &[1; 1000]), Ok(1000));
    }
    while packet(&mut pair.client, pair.now, 1200).is_some() {}
    pair.client.receive(pair.now, Input::MaxData(1501)).unwrap();
    // Whichever was let out of the park is gone before it can use the byte.
    ids[..3].iter().for_each(|&id| pair.client.reset(id, 0).unwrap());
    let frames = packet(&mut pair.client, pair.now, 1200).unwrap().0;
    assert!(
        frames
            .iter()
            .any(|f| matches!(f, Frame::Stream { id, data, .. } if *id == ids[3] && data.len() == 1))
    );
}

#[test]
fn a_stopped_stream_does_not_hold_the_connections_credit() {
    let (mut server, now) = server(&small());
    let uni = |index| StreamId::new(Side::Client, Direction::Uni, index);
    let mut credit = 1500;
    for index in 0..40 {
        let id = uni(index);
        server
            .receive(
                now,
                Input::Stream {
                    id,
                    offset: 100,
                    data: &[0; 300],
                    fin: false,
                },
            )
            .unwrap();
        server.stop(id, 0).unwrap();
        server
            .receive(
                now,
                Input::Stream {
                    id,
                    offset: 400,
                    data: &[0; 300],
                    fin: false,
                },
            )
            .unwrap();
        server
            .receive(
                now,
                Input::Reset {
                    id,
                    code: 0,
                    final_size: 750,
                },
            )
            .unwrap();
        while let Some((frames, _)) = packet(&mut server, now, 1200) {
            for frame in frames {
                if let Frame::Control(Control::MaxData { max }) = frame {
                    credit = max;
                }
            }
        }
        assert!(credit >= (index + 1) * 750 + 750, "{credit} after {index}");
    }
    assert_eq!(server.stats().streams_open, 0);
}

/// A slow reader over a long path must never be refused or closed for what a legal sender sends.
#[test]
fn thin_data_on_many_streams_stays_within_memory() {
    let limits = Limits {
        max_streams_uni: 1000,
        ..Limits::default()
    };
    let (mut server, now) = server(&limits);
    for index in 0..1000 {
        let id = StreamId::new(Side::Client, Direction::Uni, index);
        for offset in (0..700).rev().step_by(7) {
            server
                .receive(
                    now,
                    Input::Stream {
                        id,
                        offset,
                        data: &[1],
                        fin: false,
                    },
                )
                .unwrap();
        }
    }
    // Twice the window, and for each stream its record and a hundred pieces.
    let window = limits.initial_connection_window as usize;
    let records =
        1000 * (size_of::<Stream>() + size_of::<RecvHalf>() + 100 * 2 * size_of::<std::ops::Range<u64>>());
    assert!(server.memory() < 2 * window + records, "{}", server.memory());
}
