use super::*;

fn stream(pair: &mut Pair, class: Class, bytes: usize) -> StreamId {
    let id = pair.client.open(Direction::Uni).unwrap();
    pair.client.set_class(id, class);
    assert_eq!(pair.client.write(id, &vec![1; bytes]), Ok(bytes));
    id
}

fn wide() -> Pair {
    let window = 64 << 20;
    Pair::new(&Limits {
        initial_stream_window: window,
        initial_connection_window: window,
        send_buffer: window as usize,
        send_buffer_total: window as usize,
        send_ahead: window as usize,
        ..Limits::default()
    })
}

#[test]
fn classes_share_the_wire_by_weight() {
    let mut pair = wide();
    let ids =
        [Class::Interactive, Class::Bulk, Class::Background].map(|class| stream(&mut pair, class, 12 << 20));
    let mut sent = [0usize; 3];
    for _ in 0..10_000 {
        for frame in packet(&mut pair.client, pair.now, 1200).unwrap().0 {
            if let Frame::Stream { id, data, .. } = frame {
                sent[ids.iter().position(|&i| i == id).unwrap()] += data.len();
            }
        }
    }
    let total: usize = sent.iter().sum();
    for (sent, weight) in sent.into_iter().zip([8.0, 4.0, 1.0]) {
        let ratio = sent as f64 / total as f64 / (weight / 13.0);
        assert!((ratio - 1.0).abs() < 0.03, "{ratio}");
    }
}

#[test]
fn retransmissions_go_ahead_of_new_data_of_their_class() {
    let mut pair = wide();
    let first = stream(&mut pair, Class::Bulk, 100_000);
    let second = stream(&mut pair, Class::Bulk, 100_000);
    let tokens: Vec<_> = (0..20)
        .flat_map(|_| packet(&mut pair.client, pair.now, 1000).unwrap().1)
        .collect();
    let interactive = stream(&mut pair, Class::Interactive, 1000);
    pair.client.lost(tokens[0]);
    pair.client.lost(tokens[1]);
    let order: Vec<_> = (0..5)
        .map(
            |_| match &packet(&mut pair.client, pair.now, 1000).unwrap().0[0] {
                Frame::Stream { id, offset, .. } => (*id, *offset < 1500),
                other => panic!("{other:?}"),
            },
        )
        .collect();
    let again = order
        .iter()
        .filter(|(id, again)| *again && *id != interactive)
        .count();
    assert_eq!(again, 2, "{order:?}");
    let bulk: Vec<_> = order
        .iter()
        .filter(|(id, _)| *id == first || *id == second)
        .collect();
    assert!(bulk[0].1 && bulk[1].1, "{order:?}");
    assert!(order.contains(&(interactive, true)), "{order:?}");
}

#[test]
fn nothing_is_committed_without_take() {
    let mut pair = wide();
    let id = stream(&mut pair, Class::Bulk, 5000);
    let offered = pair.client.next(pair.now);
    assert_eq!(
        offered,
        Some(Next::Stream {
            id,
            offset: 0,
            available: 5000,
            fin: false
        })
    );
    assert_eq!(pair.client.next(pair.now), offered);
    assert!(pair.client.take(pair.now, Grant { bytes: 0 }).is_none());
    let chunk = pair.client.take(pair.now, Grant { bytes: 100 }).unwrap();
    assert_eq!((chunk.len(), chunk.fin), (100, false));
    assert!(
        pair.client.take(pair.now, Grant { bytes: 100 }).is_none(),
        "one take for each next"
    );
    assert!(matches!(
        pair.client.next(pair.now),
        Some(Next::Stream { offset: 100, .. })
    ));
    pair.client.reset(id, 0).unwrap();
    assert!(
        pair.client.take(pair.now, Grant { bytes: 100 }).is_none(),
        "the offer is void"
    );
}

#[test]
fn a_class_may_change_at_any_time() {
    let mut pair = wide();
    let id = stream(&mut pair, Class::Background, 10_000);
    let (_, tokens) = packet(&mut pair.client, pair.now, 1000).unwrap();
    for class in Class::ALL {
        pair.client.set_class(id, class);
        pair.client.lost(tokens[0]);
        let (frames, again) = packet(&mut pair.client, pair.now, 1000).unwrap();
        assert!(matches!(frames[0], Frame::Stream { offset: 0, .. }));
        for token in again {
            pair.client.lost(token);
        }
    }
    pair.settle();
    assert_eq!(read_all(&mut pair.server, id).0.len(), 10_000);
}

#[test]
fn the_same_calls_give_the_same_packets() {
    let run = || {
        let mut pair = wide();
        let now = pair.now;
        for i in 0..50 {
            stream(&mut pair, Class::ALL[i % 5], 1000 + 777 * i);
        }
        let mut held = Vec::new();
        let mut frames = Vec::new();
        for i in 0..2000 {
            let Some((sent, tokens)) = packet(&mut pair.client, now, 1200) else {
                break;
            };
            frames.extend(sent);
            held.extend(tokens);
            if i % 7 == 0 {
                let token = held.swap_remove(i * 31 % held.len());
                pair.client.lost(token);
            }
        }
        frames
    };
    assert_eq!(run(), run());
}
