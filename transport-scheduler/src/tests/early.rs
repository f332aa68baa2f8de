//! What may be sent before the handshake is over, and under whose limits.

use super::*;

fn early_client(limits: &Limits) -> Pair {
    let mut pair = Pair::new(limits);
    pair.client.begin_early();
    pair
}

#[test]
fn only_what_is_marked_goes_early_and_the_rest_follows() {
    let limits = Limits::default();
    let Pair {
        now,
        mut client,
        mut server,
    } = early_client(&limits);
    let (held, marked) = (
        client.open(Direction::Bi).unwrap(),
        client.open(Direction::Bi).unwrap(),
    );
    client.write(held, b"held").unwrap();
    client.write(marked, b"marked").unwrap();
    assert!(!client.has_pending() && client.next(now).is_none());
    client.allow_early(marked);
    client.reset(held, 7).unwrap();
    for (data, early) in [(&b"later"[..], false), (b"now", true)] {
        let options = DatagramOptions {
            class: Class::Bulk,
            deadline: None,
            early,
            notify: false,
            flow: None,
        };
        client.send_datagram(now, data.to_vec(), options).unwrap();
    }
    let (frames, tokens) = packet(&mut client, now, 1200).unwrap();
    assert_eq!(
        frames,
        [
            Frame::Stream {
                id: marked,
                offset: 0,
                data: b"marked".to_vec(),
                fin: false
            },
            Frame::Datagram(b"now".to_vec()),
        ]
    );
    assert!(!client.has_pending());
    // Refused: the stream's bytes go again, the datagram does not.
    assert!(client.end_early(limits.announce(65_535)));
    for token in tokens {
        client.lost(token);
    }
    let (frames, _) = packet(&mut client, now, 1200).unwrap();
    assert_eq!(frames.len(), 3, "{frames:?}");
    assert!(
        frames
            .iter()
            .any(|frame| matches!(frame, Frame::Control(Control::ResetStream { id, .. }) if *id == held))
    );
    assert!(frames.contains(&Frame::Datagram(b"later".to_vec())));
    for frame in &frames {
        deliver(&mut server, now, frame).unwrap();
    }
    assert_eq!(read_all(&mut server, marked).0, b"marked");
}

#[test]
fn limits_may_shrink_as_far_as_nothing_more_was_used() {
    let roomy = small();
    let announced = roomy.announce(65_535);
    let begin = || {
        let mut client = early_client(&roomy).client;
        let id = client.open(Direction::Bi).unwrap();
        client.allow_early(id);
        client.write(id, &[1; 900]).unwrap();
        let now = start();
        while client.next(now).is_some() && client.take(now, Grant { bytes: 400 }).is_some() {}
        (client, id, now)
    };
    let (mut client, id, now) = begin();
    let narrow = PeerLimits {
        max_stream_data_bidi_remote: 900,
        max_data: 901,
        max_streams_bidi: 1,
        ..announced
    };
    assert!(client.end_early(narrow));
    client.write(id, &[2; 500]).unwrap();
    let (frames, _) = packet(&mut client, now, 1200).unwrap();
    assert_eq!(
        frames,
        [Frame::Control(Control::StreamDataBlocked { id, at: 900 })],
        "the old limit holds no more"
    );
    assert_eq!(client.open(Direction::Bi), Err(StreamsExhausted));
    for too_narrow in [
        PeerLimits {
            max_stream_data_bidi_remote: 899,
            ..announced
        },
        PeerLimits {
            max_data: 899,
            ..announced
        },
        PeerLimits {
            max_streams_bidi: 0,
            ..announced
        },
    ] {
        assert!(!begin().0.end_early(too_narrow), "{too_narrow:?}");
    }
}

#[test]
fn larger_limits_open_streams_that_stand() {
    let narrow = small();
    let mut pair = early_client(&narrow);
    let id = pair.client.open(Direction::Bi).unwrap();
    pair.client.write(id, &[1; 1400]).unwrap();
    let wide = Limits::default().announce(65_535);
    assert!(pair.client.end_early(wide));
    let (frames, _) = packet(&mut pair.client, pair.now, 2000).unwrap();
    assert!(
        matches!(&frames[..], [Frame::Stream { data, .. }] if data.len() == 1400),
        "{frames:?}"
    );
}
