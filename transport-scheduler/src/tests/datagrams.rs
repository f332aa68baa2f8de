use super::*;

fn send(scheduler: &mut Scheduler, now: Instant, data: &[u8], class: Class) -> DatagramId {
    scheduler
        .send_datagram(
            now,
            data.to_vec(),
            DatagramOptions {
                class,
                deadline: None,
                early: false,
                notify: true,
                flow: None,
            },
        )
        .unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_datagram_goes_once_and_its_fate_is_told() {
    let mut pair = Pair::new(&Limits::default());
    let client = &mut pair.client;
    let ids: Vec<_> = (0..3)
        .map(|i| send(client, pair.now, &[i; 10], Class::Bulk))
        .collect();
    let (frames, tokens) = packet(client, pair.now, 1200).unwrap();
    assert_eq!(
        frames,
        (0..3).map(|i| Frame::Datagram(vec![i; 10])).collect::<Vec<_>>()
    );
    client.acked(tokens[0]);
    client.lost(tokens[1]);
    client.repeat(tokens[2]);
    assert_eq!(
        events(client),
        [
            Event::DatagramAcked { id: ids[0] },
            Event::DatagramLost { id: ids[1] }
        ]
    );
    assert!(!client.has_pending());
    assert_eq!(
        (client.stats().datagrams_sent, client.stats().datagrams_lost),
        (3, 1)
    );
}

#[test]
fn size_limits_are_the_peers_the_paths_and_the_queues() {
    let mut client = Scheduler::new(Side::Client, Limits::default());
    let now = start();
    let options = DatagramOptions {
        notify: true,
        ..DatagramOptions::default()
    };
    assert_eq!(
        client.send_datagram(now, vec![], options),
        Err(DatagramError::Disabled)
    );
    client.limits(Limits::default().announce(1300));
    assert_eq!(
        client.send_datagram(now, vec![0; 1301], options),
        Err(DatagramError::TooLarge { max: 1300 })
    );
    client.set_max_datagram(1200);
    assert_eq!(
        client.send_datagram(now, vec![0; 1201], options),
        Err(DatagramError::TooLarge { max: 1200 })
    );
    let wide = client.send_datagram(now, vec![0; 1200], options).unwrap();
    let narrow = client.send_datagram(now, vec![0; 1000], options).unwrap();
    // The path shrinks: what no longer fits must not block what does.
    client.set_max_datagram(1000);
    assert_eq!(client.next(now), Some(Next::Datagram { len: 1000 }));
    assert!(client.take(now, Grant { bytes: 999 }).is_none());
    assert_eq!(client.take(now, Grant { bytes: 1000 }).unwrap().len(), 1000);
    assert_eq!(
        events(&mut client),
        [Event::DatagramDropped {
            id: wide,
            why: DatagramDrop::TooLarge
        }]
    );
    assert!(narrow > wide && client.stats().datagrams_dropped == 1);
}

#[test]
fn empty_datagrams_are_sent() {
    let mut pair = Pair::new(&Limits::default());
    send(&mut pair.client, pair.now, b"", Class::Realtime);
    assert_eq!(
        packet(&mut pair.client, pair.now, 1200).unwrap().0,
        [Frame::Datagram(vec![])]
    );
}

#[test]
fn a_full_queue_drops_the_oldest_and_tells_when_it_has_drained() {
    let mut pair = Pair::new(&Limits {
        datagram_queue_bytes: 8 * 1024,
        ..Limits::default()
    });
    let client = &mut pair.client;
    let ids: Vec<_> = (0..20)
        .map(|_| send(client, pair.now, &[0; 1000], Class::Realtime))
        .collect();
    let state = client.datagram_queue();
    assert!(state.bytes <= 8 * 1024 && state.len == 7, "{state:?}");
    let dropped: Vec<_> = ids[..13]
        .iter()
        .map(|&id| Event::DatagramDropped {
            id,
            why: DatagramDrop::QueueFull,
        })
        .collect();
    assert_eq!(events(client), dropped);
    while packet(client, pair.now, 1200).is_some() {}
    assert_eq!(events(client), [Event::DatagramsWritable]);
    assert_eq!(client.stats().datagrams_sent, 7);
}

#[test]
fn late_datagrams_expire_even_while_nothing_may_be_sent() {
    let mut pair = Pair::new(&Limits::default());
    let (client, now) = (&mut pair.client, pair.now);
    let aged = send(client, now, b"aged", Class::Interactive);
    let options = DatagramOptions {
        class: Class::Realtime,
        deadline: Some(now + ms(20)),
        early: false,
        notify: true,
        flow: None,
    };
    let late = client.send_datagram(now, b"late".to_vec(), options).unwrap();
    assert_eq!(client.next_timeout(), Some(now + ms(20)));
    client.on_timeout(now + ms(20));
    assert_eq!(events(client), [Event::DatagramExpired { id: late }]);
    assert_eq!(client.datagram_queue().oldest_age, ms(20));
    assert_eq!(client.next_timeout(), Some(now + ms(100)));
    assert_eq!(client.next(now + ms(100)), None);
    assert_eq!(events(client), [Event::DatagramExpired { id: aged }]);
    assert_eq!(
        (
            client.next_timeout(),
            client.has_pending(),
            client.stats().datagrams_expired
        ),
        (None, false, 2)
    );
}

#[test]
fn realtime_datagrams_leave_by_deadline_before_bulk() {
    let mut pair = Pair::new(&Limits::default());
    let (client, now) = (&mut pair.client, pair.now);
    let id = client.open(Direction::Uni).unwrap();
    client.write(id, &[0; 100]).unwrap();
    for (name, deadline) in [(b"c", 90), (b"a", 30), (b"b", 60)] {
        let options = DatagramOptions {
            class: Class::Realtime,
            deadline: Some(now + ms(deadline)),
            early: false,
            notify: true,
            flow: None,
        };
        client.send_datagram(now, name.to_vec(), options).unwrap();
    }
    let (frames, _) = packet(client, now, 1200).unwrap();
    let expected = [b"a", b"b", b"c"].map(|name| Frame::Datagram(name.to_vec()));
    assert_eq!(frames[..3], expected);
    assert!(matches!(frames[3], Frame::Stream { .. }));
}

/// Whatever is queued when, a realtime datagram leaves before all that must leave later, none leaves after its time, each is
/// answered for once, and nobody starves: while bulk waits it gets its half of
/// any 100 ms, but for the packets of one bin.
#[test]
fn any_realtime_traffic_goes_by_deadline_and_starves_nobody() {
    arbtest::arbtest(|u| {
        let mut pair = Pair::new(&Limits {
            datagram_queue_bytes: 1 << 20,
            ..Limits::default()
        });
        let (client, mut now) = (&mut pair.client, pair.now);
        let bulk = client.open(Direction::Uni).unwrap();
        let mut left = client.write(bulk, &vec![0; 200_000]).unwrap();
        let mut waiting: Vec<(Instant, Instant, DatagramId)> = Vec::new();
        let (mut queued, mut told, mut tokens) = (0, 0, Vec::new());
        // Bytes of each in the last 100 ms, while both waited.
        let mut log: Vec<(Instant, i64)> = Vec::new();
        while !u.is_empty() {
            now += Duration::from_micros(u.int_in_range(0..=3000)?);
            for _ in 0..u.int_in_range(0..=3)? {
                let deadline = now + ms(u.int_in_range(0..=120)?);
                let options = DatagramOptions {
                    class: Class::Realtime,
                    deadline: Some(deadline),
                    early: false,
                    notify: true,
                    flow: None,
                };
                let data = vec![1; u.int_in_range(1..=1000)?];
                let id = client.send_datagram(now, data, options).unwrap();
                waiting.push((deadline, deadline.min(now + ms(100)), id));
                queued += 1;
            }
            waiting.retain(|(_, expires, _)| *expires > now);
            let Some((frames, mut carried)) = packet(client, now, 1200) else {
                continue;
            };
            for (frame, token) in frames.iter().zip(&carried) {
                match (frame, token.0) {
                    (Frame::Datagram(data), crate::token::Carried::Datagram(id, true)) => {
                        let at = waiting
                            .iter()
                            .position(|(.., known)| *known == id)
                            .expect("in time");
                        let (deadline, ..) = waiting.remove(at);
                        assert!(
                            waiting.iter().all(|(other, ..)| *other >= deadline),
                            "out of order"
                        );
                        if left > 0 {
                            log.push((now, (data.len() + 8) as i64));
                        }
                    }
                    (Frame::Stream { data, .. }, _) => {
                        left -= data.len();
                        log.push((now, -((data.len() + 8) as i64)));
                    }
                    _ => {}
                }
            }
            log.retain(|(at, _)| *at + ms(95) > now);
            let ahead: i64 = log.iter().map(|(_, bytes)| bytes).sum();
            assert!(left == 0 || ahead <= 8 * 1400, "{ahead} bytes beyond the half");
            tokens.append(&mut carried);
        }
        client.on_timeout(now + ms(1000));
        for token in tokens {
            client.acked(token);
        }
        for event in events(client) {
            told += u32::from(matches!(
                event,
                Event::DatagramAcked { .. } | Event::DatagramExpired { .. }
            ));
        }
        assert_eq!(told, queued);
        Ok(())
    })
    .budget_ms(800);
}

#[test]
fn datagrams_with_a_flow_fill_the_link_share_it_and_lose_what_stands() {
    let mut pair = Pair::new(&Limits {
        flow_queue_bytes: 1 << 20,
        ..Limits::default()
    });
    let (client, start) = (&mut pair.client, pair.now);
    let options = |flow| DatagramOptions {
        class: Class::Bulk,
        notify: true,
        flow: Some(flow),
        ..DatagramOptions::default()
    };
    // Two flows, each at the rate of the link, a packet a millisecond; and a message of a third now and then.
    let (mut sent, mut waits) = ([0_u32; 3], Vec::new());
    for at in 0..3000 {
        let now = start + ms(at);
        for flow in [0, 1] {
            client
                .send_datagram(now, vec![flow as u8; 1000], options(flow))
                .unwrap();
        }
        if at % 50 == 49 {
            client.send_datagram(now, vec![2; 100], options(2)).unwrap();
            waits.push(at);
        }
        let (frames, _) = packet(client, now, 1008).expect("the link is never idle");
        for frame in frames {
            let Frame::Datagram(data) = frame else {
                panic!("{frame:?}")
            };
            sent[usize::from(data[0])] += 1;
            if data[0] == 2 {
                assert!(at - waits.remove(0) <= 1, "the small flow waits");
            }
        }
    }
    // What is small goes alone: nothing else fits its packet.
    assert_eq!((sent[0] + sent[1] + sent[2], sent[2]), (3000, 60));
    assert!(sent[0].abs_diff(sent[1]) <= 2, "{sent:?}");
    let (stats, queue) = (client.stats(), client.datagram_queue());
    assert!(stats.datagrams_dropped_by_delay > 200, "{stats:?}");
    let full = stats.datagrams_dropped - stats.datagrams_dropped_by_delay;
    assert_eq!(
        stats.datagrams_sent + stats.datagrams_dropped + queue.len as u64,
        6060
    );
    assert!(queue.bytes <= Limits::default().flow_queue_bytes);
    let told =
        |wanted| move |event: &&Event| matches!(event, Event::DatagramDropped { why, .. } if *why == wanted);
    let events = events(client);
    assert_eq!(
        events.iter().filter(told(DatagramDrop::Delay)).count() as u64,
        stats.datagrams_dropped_by_delay
    );
    assert_eq!(
        events.iter().filter(told(DatagramDrop::QueueFull)).count() as u64,
        full
    );
    // They have a bound of their own.
    assert!(queue.bytes > Limits::default().datagram_queue_bytes);
    assert!(client.has_datagram_room(60_000, 1, false));
}

#[test]
fn a_datagram_with_a_flow_that_does_not_fit_the_packet_is_next_in_the_following_one() {
    let mut pair = Pair::new(&Limits::default());
    let (client, now) = (&mut pair.client, pair.now);
    for len in [900, 800, 100] {
        let options = DatagramOptions {
            class: Class::Interactive,
            flow: Some(9),
            ..DatagramOptions::default()
        };
        client.send_datagram(now, vec![0; len], options).unwrap();
    }
    let lengths = |frames: Vec<Frame>| {
        let length = |frame: &Frame| match frame {
            Frame::Datagram(data) => data.len(),
            other => panic!("{other:?}"),
        };
        frames.iter().map(length).collect::<Vec<_>>()
    };
    assert_eq!(lengths(packet(client, now, 1200).unwrap().0), [900]);
    assert_eq!(
        lengths(packet(client, now + ms(500), 1200).unwrap().0),
        [800, 100]
    );
    // The path narrows: what no longer fits goes, and nothing else.
    let options = DatagramOptions {
        flow: Some(1),
        notify: true,
        ..DatagramOptions::default()
    };
    let wide = client.send_datagram(now, vec![0; 1000], options).unwrap();
    client.send_datagram(now, vec![0; 500], options).unwrap();
    client.set_max_datagram(600);
    assert_eq!(client.next(now), Some(Next::Datagram { len: 500 }));
    let why = DatagramDrop::TooLarge;
    assert_eq!(events(client), [Event::DatagramDropped { id: wide, why }]);
}

#[test]
fn datagrams_with_a_flow_wait_for_the_end_of_the_handshake_and_for_a_second_at_most() {
    let mut pair = Pair::new(&Limits::default());
    let (client, now) = (&mut pair.client, pair.now);
    client.begin_early();
    let options = DatagramOptions {
        class: Class::Bulk,
        early: true,
        notify: true,
        flow: Some(1),
        ..DatagramOptions::default()
    };
    let old = client.send_datagram(now, vec![1; 10], options).unwrap();
    client.send_datagram(now + ms(900), vec![2; 10], options).unwrap();
    assert_eq!(client.next(now + ms(900)), None);
    assert_eq!(client.next_timeout(), Some(now + ms(1000)));
    client.on_timeout(now + ms(1000));
    assert_eq!(events(client), [Event::DatagramExpired { id: old }]);
    client.end_early(Limits::default().announce(1300));
    let (frames, _) = packet(client, now + ms(1001), 1200).unwrap();
    assert_eq!(frames, [Frame::Datagram(vec![2; 10])]);
    assert!(!client.has_pending() && client.next_timeout().is_none());
}
