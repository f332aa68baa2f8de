use super::*;

#[test]
fn a_request_and_its_answer_leave_nothing_behind() {
    let mut pair = Pair::new(&Limits::default());
    let mut baseline = None;
    for round in 0..50u64 {
        let id = pair.client.open(Direction::Bi).unwrap();
        assert_eq!(id.index(), round);
        assert_eq!(pair.client.write(id, b"question"), Ok(8));
        pair.client.finish(id).unwrap();
        pair.settle();
        assert_eq!(
            events(&mut pair.server),
            [Event::StreamOpened { id }, Event::Readable { id }]
        );
        assert_eq!(pair.server.accept(Direction::Bi), Some(id));
        assert_eq!(read_all(&mut pair.server, id), (b"question".to_vec(), true));
        assert_eq!(pair.server.read(id, &mut [0]), Err(ReadError::Unknown));
        pair.server.write(id, &vec![7; 50_000]).unwrap();
        pair.server.finish(id).unwrap();
        pair.settle();
        assert_eq!(read_all(&mut pair.client, id), (vec![7; 50_000], true));
        assert_eq!(
            events(&mut pair.client),
            [Event::StreamFinished { id }, Event::Readable { id }]
        );
        assert_eq!(events(&mut pair.server), [Event::StreamFinished { id }]);
        assert_eq!(
            (pair.client.stats().streams_open, pair.server.stats().streams_open),
            (0, 0)
        );
        assert_eq!(pair.client.write(id, b"x"), Err(WriteError::Unknown));
        let memory = pair.client.memory() + pair.server.memory();
        assert_eq!(*baseline.get_or_insert(memory), memory, "memory did not return");
        assert!(memory < 4096, "{memory}");
    }
}

#[test]
fn an_empty_stream_is_one_fin() {
    let mut pair = Pair::new(&Limits::default());
    let id = pair.client.open(Direction::Uni).unwrap();
    assert!(
        !pair.client.has_pending(),
        "an open stream that says nothing is not on the wire"
    );
    pair.client.finish(id).unwrap();
    let (frames, tokens) = packet(&mut pair.client, pair.now, 1200).unwrap();
    assert_eq!(
        frames,
        [Frame::Stream {
            id,
            offset: 0,
            data: vec![],
            fin: true
        }]
    );
    pair.client.lost(tokens[0]);
    let (again, tokens) = packet(&mut pair.client, pair.now, 1200).unwrap();
    assert_eq!(again, frames);
    deliver(&mut pair.server, pair.now, &again[0]).unwrap();
    assert_eq!(
        pair.server.read(id, &mut [0; 9]),
        Ok(Read { bytes: 0, fin: true })
    );
    pair.client.acked(tokens[0]);
    assert_eq!(events(&mut pair.client), [Event::StreamFinished { id }]);
}

#[test]
fn a_fin_after_the_data_was_sent_goes_alone() {
    let mut pair = Pair::new(&Limits::default());
    let id = pair.client.open(Direction::Uni).unwrap();
    pair.client.write(id, b"abc").unwrap();
    pair.settle();
    pair.client.finish(id).unwrap();
    let (frames, _) = packet(&mut pair.client, pair.now, 1200).unwrap();
    assert_eq!(
        frames,
        [Frame::Stream {
            id,
            offset: 3,
            data: vec![],
            fin: true
        }]
    );
}

#[test]
fn what_is_lost_goes_again_and_only_that() {
    let mut pair = Pair::new(&Limits::default());
    let id = pair.client.open(Direction::Uni).unwrap();
    let data: Vec<u8> = (0..5000).map(|i| i as u8).collect();
    pair.client.write(id, &data).unwrap();
    pair.client.finish(id).unwrap();
    let packets: Vec<_> = std::iter::from_fn(|| packet(&mut pair.client, pair.now, 1000)).collect();
    assert_eq!(packets.len(), 5);
    for (i, (frames, tokens)) in packets.into_iter().enumerate() {
        if i == 1 || i == 4 {
            pair.client.lost(tokens[0]);
            // Twice does no harm, nor does a lost token after its bytes arrived otherwise.
            pair.client.lost(tokens[0]);
        } else {
            deliver(&mut pair.server, pair.now, &frames[0]).unwrap();
            pair.client.acked(tokens[0]);
            pair.client.lost(tokens[0]);
        }
    }
    let again: Vec<_> = std::iter::from_fn(|| packet(&mut pair.client, pair.now, 1000)).collect();
    let spans = again.iter().map(|(frames, _)| match &frames[0] {
        Frame::Stream {
            offset, data, fin, ..
        } => (*offset, data.len(), *fin),
        other => panic!("{other:?}"),
    });
    let spans: Vec<_> = spans.collect();
    assert_eq!(spans, [(1000, 1000, false), (4000, 1000, true)]);
    assert_eq!(pair.client.stats().retransmitted_bytes, 2000);
    for (frames, tokens) in again {
        deliver(&mut pair.server, pair.now, &frames[0]).unwrap();
        pair.client.acked(tokens[0]);
    }
    assert_eq!(read_all(&mut pair.server, id), (data, true));
    assert_eq!(pair.client.stats().streams_open, 0);
}

#[test]
fn a_reset_drops_data_tells_the_peer_and_gives_back_its_credit() {
    let mut pair = Pair::new(&small());
    let id = pair.client.open(Direction::Bi).unwrap();
    pair.client.write(id, &[1; 900]).unwrap();
    pair.settle();
    pair.client.reset(id, 42).unwrap();
    assert_eq!(pair.client.write(id, b"x"), Err(WriteError::Finished));
    assert_eq!(pair.client.reset(id, 43), Err(WriteError::Finished));
    pair.settle();
    assert!(events(&mut pair.server).contains(&Event::StreamReset { id, code: 42 }));
    assert_eq!(pair.server.read(id, &mut [0; 10]), Err(ReadError::Reset(42)));
    assert_eq!(pair.server.read(id, &mut [0; 10]), Err(ReadError::Unknown));
    // 900 of 1500 bytes were never read, yet they count as consumed: more than that is free again.
    let other = pair.client.open(Direction::Uni).unwrap();
    pair.client.write(other, &[2; 1000]).unwrap();
    pair.settle();
    assert_eq!(read_all(&mut pair.server, other).0.len(), 1000);
}

#[test]
fn a_lost_reset_goes_again_until_it_is_acknowledged() {
    let mut pair = Pair::new(&Limits::default());
    let id = pair.client.open(Direction::Uni).unwrap();
    pair.client.write(id, &[1; 100]).unwrap();
    pair.client.reset(id, 9).unwrap();
    let reset = Frame::Control(Control::ResetStream {
        id,
        code: 9,
        final_size: 0,
    });
    for _ in 0..3 {
        let (frames, tokens) = packet(&mut pair.client, pair.now, 1200).unwrap();
        assert_eq!(frames, std::slice::from_ref(&reset));
        assert!(packet(&mut pair.client, pair.now, 1200).is_none());
        pair.client.lost(tokens[0]);
    }
    let (_, tokens) = packet(&mut pair.client, pair.now, 1200).unwrap();
    pair.client.acked(tokens[0]);
    assert_eq!(
        (pair.client.stats().streams_open, pair.client.has_pending()),
        (0, false)
    );
}

#[test]
fn stop_makes_the_sender_reset_with_the_same_code() {
    let mut pair = Pair::new(&Limits::default());
    let id = pair.client.open(Direction::Uni).unwrap();
    pair.client.write(id, &[1; 100]).unwrap();
    pair.settle();
    pair.server.stop(id, 5).unwrap();
    assert_eq!(pair.server.stop(id, 5), Err(ReadError::Stopped));
    assert_eq!(pair.server.read(id, &mut [0]), Err(ReadError::Stopped));
    pair.client.write(id, &[1; 100]).unwrap();
    pair.settle();
    assert_eq!(events(&mut pair.client), [Event::StreamStopped { id, code: 5 }]);
    assert_eq!(
        (pair.client.stats().streams_open, pair.server.stats().streams_open),
        (0, 0)
    );
    // A stream still open for reading says so to a writer.
    let id = pair.client.open(Direction::Bi).unwrap();
    pair.client.write(id, b"x").unwrap();
    pair.settle();
    pair.server.stop(id, 6).unwrap();
    deliver(
        &mut pair.client,
        pair.now,
        &Frame::Control(Control::StopSending { id, code: 6 }),
    )
    .unwrap();
    assert_eq!(pair.client.write(id, b"x"), Err(WriteError::Stopped(6)));
    assert_eq!(pair.client.finish(id), Err(WriteError::Stopped(6)));
}

#[test]
fn a_reset_after_everything_arrived_takes_nothing_away() {
    let (mut server, now) = server(&Limits::default());
    let id = PEER_BI;
    server
        .receive(
            now,
            Input::Stream {
                id,
                offset: 0,
                data: b"all",
                fin: true,
            },
        )
        .unwrap();
    server
        .receive(
            now,
            Input::Reset {
                id,
                code: 1,
                final_size: 3,
            },
        )
        .unwrap();
    assert_eq!(read_all(&mut server, id), (b"all".to_vec(), true));
}

#[test]
fn lower_streams_open_with_a_higher_one_and_are_accepted_in_order() {
    let (mut server, now) = server(&Limits::default());
    let ids: Vec<_> = (0..4)
        .map(|i| StreamId::new(Side::Client, Direction::Uni, i))
        .collect();
    server
        .receive(
            now,
            Input::Stream {
                id: ids[3],
                offset: 0,
                data: b"x",
                fin: false,
            },
        )
        .unwrap();
    assert_eq!(server.stats().streams_open, 4);
    let accepted: Vec<_> = std::iter::from_fn(|| server.accept(Direction::Uni)).collect();
    assert_eq!(accepted, ids);
    assert_eq!(server.accept(Direction::Bi), None);
}

#[test]
fn readable_is_told_once_until_read() {
    let (mut server, now) = server(&Limits::default());
    let id = PEER_BI;
    let send = |server: &mut Scheduler, offset: u64, data: &[u8], fin| {
        server
            .receive(
                now,
                Input::Stream {
                    id,
                    offset,
                    data,
                    fin,
                },
            )
            .unwrap();
        events(server)
    };
    assert_eq!(
        send(&mut server, 0, b"a", false),
        [Event::StreamOpened { id }, Event::Readable { id }]
    );
    assert_eq!(send(&mut server, 1, b"b", false), []);
    assert_eq!(server.read(id, &mut [0; 9]), Ok(Read { bytes: 2, fin: false }));
    assert_eq!(server.read(id, &mut [0; 9]), Err(ReadError::Blocked));
    assert_eq!(send(&mut server, 3, b"d", false), []);
    assert_eq!(send(&mut server, 2, b"c", false), [Event::Readable { id }]);
    assert_eq!(server.read(id, &mut []), Ok(Read { bytes: 0, fin: false }));
    assert_eq!(server.read(id, &mut [0; 9]), Ok(Read { bytes: 2, fin: false }));
    assert_eq!(send(&mut server, 4, b"", true), [Event::Readable { id }]);
    assert_eq!(server.read(id, &mut [0; 9]), Ok(Read { bytes: 0, fin: true }));
}

#[test]
fn writable_comes_only_after_a_blocked_write() {
    let limits = Limits {
        send_buffer: 8000,
        ..Limits::default()
    };
    let mut pair = Pair::new(&limits);
    let id = pair.client.open(Direction::Uni).unwrap();
    assert_eq!(pair.client.writable(id), 8000);
    assert_eq!(pair.client.write(id, &[1; 10_000]), Ok(8000));
    assert_eq!(pair.client.write(id, &[]), Ok(0));
    pair.settle();
    assert_eq!(events(&mut pair.client), []);
    assert_eq!(pair.client.write(id, &[1; 8000]), Ok(8000));
    assert_eq!(pair.client.write(id, &[1; 1]), Err(WriteError::Blocked));
    pair.settle();
    assert_eq!(events(&mut pair.client), [Event::Writable { id }]);
}

#[test]
fn what_waits_to_be_sent_is_bounded_and_its_writer_woken_when_it_is_sent() {
    let limits = Limits {
        send_ahead: 8000,
        ..Limits::default()
    };
    let mut pair = Pair::new(&limits);
    let id = pair.client.open(Direction::Uni).unwrap();
    assert_eq!(pair.client.write(id, &[1; 10_000]), Ok(8000));
    assert_eq!(pair.client.write(id, &[1; 1]), Err(WriteError::Blocked));
    let (now, grant) = (pair.now, Grant { bytes: 900 });
    assert!(pair.client.next(now).is_some() && pair.client.take(now, grant).is_some());
    assert_eq!(events(&mut pair.client), [], "not for every packet");
    assert!(pair.client.next(now).is_some() && pair.client.take(now, grant).is_some());
    assert_eq!(
        events(&mut pair.client),
        [Event::Writable { id }],
        "before anything arrived"
    );
    assert_eq!(pair.client.writable(id), 1800);
}

#[test]
fn the_send_buffer_grows_to_two_windows_and_shrinks_again() {
    let limits = Limits {
        send_buffer: 8000,
        max_send_buffer: 20_000,
        ..Limits::default()
    };
    let mut pair = Pair::new(&limits);
    let id = pair.client.open(Direction::Uni).unwrap();
    let rtt = Duration::from_millis(600);
    for (cwnd, room) in [(1000, 8000), (6000, 12_000), (15_000, 20_000), (u64::MAX, 20_000)] {
        pair.client.set_path(rtt, cwnd);
        assert_eq!(pair.client.writable(id), room, "{cwnd}");
    }
    assert_eq!(pair.client.write(id, &vec![1; 30_000]), Ok(20_000));
    pair.client.set_path(rtt, 1000);
    assert_eq!(pair.client.writable(id), 0);
    assert_eq!(pair.client.write(id, &[1; 1]), Err(WriteError::Blocked));
    pair.settle();
    assert_eq!(events(&mut pair.client), [Event::Writable { id }]);
    assert_eq!(pair.client.writable(id), 8000);
}

#[test]
fn all_send_buffers_together_are_bounded_and_every_writer_is_woken() {
    let limits = Limits {
        send_buffer: 4000,
        send_buffer_total: 6000,
        ..Limits::default()
    };
    let mut pair = Pair::new(&limits);
    let ids: Vec<_> = (0..4)
        .map(|_| pair.client.open(Direction::Uni).unwrap())
        .collect();
    assert_eq!(pair.client.write(ids[0], &[1; 9000]), Ok(4000));
    assert_eq!(pair.client.write(ids[0], &[1; 9000]), Err(WriteError::Blocked));
    assert_eq!(pair.client.write(ids[1], &[1; 9000]), Ok(2000));
    for &id in &ids {
        assert_eq!(pair.client.write(id, &[1; 9000]), Err(WriteError::Blocked));
    }
    pair.settle();
    let mut woken = events(&mut pair.client);
    woken.sort_by_key(|event| match event {
        Event::Writable { id } => id.get(),
        other => panic!("{other:?}"),
    });
    assert_eq!(
        woken,
        ids.iter().map(|&id| Event::Writable { id }).collect::<Vec<_>>()
    );
}

#[test]
fn open_waits_for_the_peer_and_is_told() {
    let mut pair = Pair::new(&small());
    let ids: Vec<_> = (0..4)
        .map(|_| pair.client.open(Direction::Uni).unwrap())
        .collect();
    assert_eq!(pair.client.open(Direction::Uni), Err(StreamsExhausted));
    assert_eq!(pair.client.open(Direction::Uni), Err(StreamsExhausted));
    let (frames, _) = packet(&mut pair.client, pair.now, 1200).unwrap();
    assert_eq!(
        frames,
        [Frame::Control(Control::StreamsBlocked {
            direction: Direction::Uni,
            at: 4
        })]
    );
    pair.client.finish(ids[0]).unwrap();
    pair.settle();
    assert_eq!(read_all(&mut pair.server, ids[0]), (vec![], true));
    pair.settle();
    assert!(events(&mut pair.client).contains(&Event::StreamsAvailable {
        direction: Direction::Uni
    }));
    assert!(pair.client.open(Direction::Uni).is_ok());
    assert!(pair.client.open(Direction::Bi).is_ok());
}

#[test]
fn two_thousand_short_files_through_few_streams() {
    let mut pair = Pair::new(&Limits {
        max_streams_bi: 100,
        ..Limits::default()
    });
    let (mut opened, mut answered) = (0, 0);
    while answered < 1999 {
        while opened < 1999 {
            let Ok(id) = pair.client.open(Direction::Bi) else {
                break;
            };
            pair.client.write(id, b"GET").unwrap();
            pair.client.finish(id).unwrap();
            opened += 1;
        }
        pair.settle();
        while let Some(id) = pair.server.accept(Direction::Bi) {
            assert_eq!(read_all(&mut pair.server, id), (b"GET".to_vec(), true));
            pair.server.write(id, &[3; 32]).unwrap();
            pair.server.finish(id).unwrap();
        }
        pair.settle();
        for event in events(&mut pair.client) {
            if let Event::Readable { id } = event {
                assert_eq!(read_all(&mut pair.client, id), (vec![3; 32], true));
                answered += 1;
            }
        }
        pair.settle();
    }
    assert_eq!(
        (pair.client.stats().streams_open, pair.server.stats().streams_open),
        (0, 0)
    );
}

#[test]
fn what_arrives_after_all_is_not_sent_again() {
    let mut pair = Pair::new(&Limits::default());
    let client = &mut pair.client;
    let id = client.open(Direction::Uni).unwrap();
    client.write(id, &[1; 3000]).unwrap();
    client.finish(id).unwrap();
    let tokens: Vec<_> = std::iter::from_fn(|| packet(client, pair.now, 1000))
        .flat_map(|packet| packet.1)
        .collect();
    for &token in &tokens {
        client.repeat(token);
    }
    client.acked(tokens[0]);
    client.acked(tokens[2]);
    let next = Next::Stream {
        id,
        offset: 1000,
        available: 1000,
        fin: false,
    };
    assert_eq!(client.next(pair.now), Some(next));
    client.acked(tokens[1]);
    assert_eq!((client.has_pending(), client.next(pair.now)), (false, None));
    assert_eq!(events(client), [Event::StreamFinished { id }]);
    assert_eq!(client.stats().retransmitted_bytes, 0);
    // The end alone, too, and a stream that goes on.
    for bytes in [0, 10] {
        let id = client.open(Direction::Uni).unwrap();
        client.write(id, &vec![1; bytes]).unwrap();
        if bytes == 0 {
            client.finish(id).unwrap();
        }
        let (_, tokens) = packet(client, pair.now, 1000).unwrap();
        client.lost(tokens[0]);
        client.acked(tokens[0]);
        assert_eq!(
            (client.has_pending(), client.stats().streams_open),
            (false, bytes.min(1))
        );
    }
}

/// Found by fuzzing: the repeat of a reset that had arrived was announced and never said, so no probe left in its place.
#[test]
fn a_reset_that_was_acknowledged_is_not_pending_again() {
    let mut pair = Pair::new(&Limits::default());
    let id = pair.client.open(Direction::Bi).unwrap();
    pair.client.reset(id, 7).unwrap();
    let (_, first) = packet(&mut pair.client, pair.now, 1200).unwrap();
    pair.client.repeat(first[0]);
    let (_, second) = packet(&mut pair.client, pair.now, 1200).unwrap();
    pair.client.acked(first[0]);
    pair.client.repeat(second[0]);
    assert!(!pair.client.has_pending());
}
