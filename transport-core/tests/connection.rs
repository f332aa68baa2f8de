//! Two endpoints that talk: delivery, loss, keys, ends.
mod common;

use common::{Dice, Net, Setup, Transfer, Way, echo, ms};
use transport_core::{
    By, Class, CloseReason, DatagramError, DatagramOptions, Direction, Event, Output, StreamEvent,
    TransportConfig,
};

fn with(change: impl Fn(&mut TransportConfig)) -> Setup {
    let mut setup = Setup::default();
    change(&mut setup.client);
    change(&mut setup.server);
    setup
}

#[test]
fn a_mebibyte_each_way_on_a_perfect_link_is_quiet() {
    let mut net = Net::new(Setup::default());
    let (a, b) = net.pair();
    let took = echo(&mut net, a, b, 1 << 20, ms(5000));
    assert!(took < ms(600), "{took:?}");
    net.run(ms(1000));
    net.assert_quiet(a, b);
    assert!(
        net.largest_batch >= 8,
        "a batch holds {} packets",
        net.largest_batch
    );
    assert_eq!(net.c(a).stats().mtu, 1472);
}

#[test]
fn every_byte_arrives_through_loss_and_disorder() {
    for seed in 0..6 {
        let mut net = Net::new(Setup {
            seed,
            ..Setup::default()
        });
        let (a, b) = net.pair();
        let dice = Dice::new(u64::from(seed) + 77);
        net.meddle = Box::new(move |datagram| match dice.roll(20) {
            0 | 1 => vec![],
            2 => vec![datagram.clone(), datagram.clone()],
            3 => {
                let mut late = datagram.clone();
                late.at += ms(7);
                vec![late]
            }
            4 => {
                let mut damaged = datagram.clone();
                let at = dice.roll(damaged.bytes.len() as u64) as usize;
                damaged.bytes[at] ^= 4;
                vec![damaged]
            }
            _ => vec![datagram.clone()],
        });
        echo(&mut net, a, b, 1 << 20, ms(60_000));
        assert!(net.c(a).stats().declared_lost > 10);
    }
}

#[test]
fn many_streams_at_once() {
    let mut net = Net::new(Setup::default());
    let (a, b) = net.pair();
    let mut ids: Vec<_> = (0..100)
        .map(|_| (net.c(a).open(Direction::Uni).unwrap(), Transfer::default()))
        .collect();
    let done = net.run_until(ms(10_000), |net| {
        for (id, transfer) in &mut ids {
            transfer.write(net.client.connection(a).unwrap(), *id, 5000);
            let server = net.server.connection(b).unwrap();
            let _ = server.accept(Direction::Uni);
            transfer.read(server, *id);
        }
        net.settle();
        ids.iter().all(|(_, transfer)| transfer.done)
    });
    assert!(done);
    net.assert_quiet(a, b);
    net.run(ms(100));
    let finished =
        |(_, event): &&(_, Event)| matches!(event, Event::Stream(StreamEvent::StreamFinished { .. }));
    assert_eq!(net.client_events.iter().filter(finished).count(), 100);
}

#[test]
fn datagrams_arrive_up_to_the_longest() {
    let mut net = Net::new(with(|config| config.mtu_search = false));
    let (a, b) = net.pair();
    let longest = net.c(a).max_datagram();
    assert!(longest >= 1200, "{longest}");
    let now = net.now();
    let options = DatagramOptions {
        notify: true,
        ..DatagramOptions::default()
    };
    for len in [0, 1, 500, 1200, longest] {
        net.c(a)
            .send_datagram(now, vec![len as u8; len], options)
            .unwrap();
    }
    let too_long = net
        .c(a)
        .send_datagram(now, vec![0; longest + 1], DatagramOptions::default());
    assert!(
        matches!(too_long, Err(DatagramError::TooLarge { .. })),
        "{too_long:?}"
    );
    net.run(ms(200));
    let arrived = net.server_events.iter().filter_map(|(_, event)| match event {
        Event::DatagramReceived(data) => Some(data.len()),
        _ => None,
    });
    assert_eq!(arrived.collect::<Vec<_>>(), [0, 1, 500, 1200, longest]);
    let acked = |(_, event): &&(_, Event)| matches!(event, Event::Stream(StreamEvent::DatagramAcked { .. }));
    assert_eq!(net.client_events.iter().filter(acked).count(), 5);
    net.assert_quiet(a, b);
}

#[test]
fn lost_datagrams_stay_lost() {
    let mut net = Net::new(Setup::default());
    let (a, _) = net.pair();
    net.run(ms(500));
    let dice = Dice::new(3);
    net.meddle = Box::new(move |datagram| {
        if dice.roll(10) == 0 {
            vec![]
        } else {
            vec![datagram.clone()]
        }
    });
    for _ in 0..1000 {
        let now = net.now();
        let options = DatagramOptions {
            class: Class::Interactive,
            ..DatagramOptions::default()
        };
        net.c(a).send_datagram(now, vec![1; 1000], options).unwrap();
        net.run(ms(20));
    }
    net.run(ms(1000));
    let stats = net.c(a).stats();
    let arrived = net
        .server_events
        .iter()
        .filter(|(_, event)| matches!(event, Event::DatagramReceived(_)))
        .count() as u64;
    assert!(stats.datagrams_lost > 30, "{stats:?}");
    assert_eq!(stats.datagrams_sent, 1000);
    // A message whose acknowledgement came late counts as lost and has arrived all the same.
    assert!(
        arrived + stats.datagrams_lost >= 1000 && arrived < 1000,
        "{arrived} {stats:?}"
    );
}

/// Nothing else need happen: the connection is silent, and its next deadline half a minute away.
#[test]
fn what_expires_while_a_packet_is_sought_for_is_told_before_the_wait() {
    let mut net = Net::new(Setup::default());
    let (a, _) = net.pair();
    net.run(ms(1000));
    let now = net.now();
    let options = DatagramOptions {
        deadline: Some(now.instant),
        notify: true,
        ..DatagramOptions::default()
    };
    let sent = net.c(a).send_datagram(now, vec![1; 100], options).unwrap();
    let mut batch = transport_core::Batch::default();
    let mut told = Vec::new();
    while let Output::Event(_, event) = net.client.poll(now, &mut batch) {
        told.push(event);
    }
    let expired = Event::Stream(StreamEvent::DatagramExpired { id: sent });
    assert!(told.contains(&expired), "{told:?}");
}

#[test]
fn an_application_that_does_not_read_messages_is_not_drowned() {
    let mut net = Net::new(with(|config| {
        config.datagram_receive_bytes = 20_000;
        config.algorithm = transport_core::Algorithm::Fixed { bytes_per_s: 1 << 30 };
    }));
    let (a, b) = net.pair();
    net.run(ms(100));
    let mut held = Vec::new();
    net.meddle = Box::new(|datagram| vec![datagram.clone()]);
    for _ in 0..40 {
        let now = net.now();
        net.c(a)
            .send_datagram(now, vec![2; 1000], DatagramOptions::default())
            .unwrap();
    }
    // All of them arrive between two polls of the server.
    let client = net.client_addr;
    let mut batch = transport_core::Batch::default();
    loop {
        let now = net.now();
        match net.client.poll(now, &mut batch) {
            Output::Transmit(_) => held.extend(batch.segments().map(<[u8]>::to_vec)),
            Output::Event(..) => {}
            Output::Wait(_) => break,
        }
    }
    let now = net.now();
    for mut datagram in held {
        let route = transport_core::Route {
            remote: client,
            local: None,
        };
        net.server.handle_datagram(now, route, &mut datagram);
    }
    let stats = net.s(b).stats();
    assert!(
        stats.datagrams_refused > 0 && stats.datagrams_received <= 18,
        "{stats:?}"
    );
}

#[test]
fn keys_change_in_the_midst_of_a_transfer() {
    let mut net = Net::new(Setup::default());
    let (a, b) = net.pair();
    net.run(ms(300));
    let dice = Dice::new(9);
    net.meddle = Box::new(move |datagram| {
        if dice.roll(50) == 0 {
            vec![]
        } else {
            vec![datagram.clone()]
        }
    });
    for round in 1..=6u64 {
        let asked = if round % 2 == 0 {
            net.c(a).update_keys()
        } else {
            net.s(b).update_keys()
        };
        assert!(asked, "round {round}");
        echo(&mut net, a, b, 400_000, ms(20_000));
        net.run(ms(2000));
        assert_eq!(
            (net.c(a).stats().key_updates, net.s(b).stats().key_updates),
            (round, round)
        );
    }
    assert_eq!(
        net.server.stats().drops.get(transport_core::DropReason::Forged),
        0
    );
}

#[test]
fn keys_grow_old_after_ten_minutes() {
    let mut net = Net::new(with(|config| {
        config.keep_alive = Some(ms(10_000));
        config.mtu_search = false;
    }));
    let (a, b) = net.pair();
    net.run(ms(3_600_000));
    let updates = net.c(a).stats().key_updates;
    assert!((5..=16).contains(&updates), "{updates} in an hour");
    assert!(net.s(b).stats().key_updates.abs_diff(updates) <= 1);
    net.assert_quiet(a, b);
}

#[test]
fn an_application_closes_with_its_own_words() {
    let mut net = Net::new(Setup::default());
    let (a, b) = net.pair();
    let id = net.c(a).open(Direction::Uni).unwrap();
    net.c(a).write(id, b"last words").unwrap();
    net.c(a).finish(id).unwrap();
    net.run(ms(50));
    let now = net.now();
    net.c(a).close(now, 42, b"enough");
    net.run_until(ms(100), |net| {
        !net.server_events.is_empty() && {
            net.server_events
                .iter()
                .any(|(_, event)| matches!(event, Event::Closed(_)))
        }
    });
    let closed = |by| {
        Event::Closed(CloseReason::Application {
            code: 42,
            reason: b"enough".to_vec(),
            by,
        })
    };
    assert_eq!(net.server_events.last(), Some(&(b, closed(By::Peer))));
    assert_eq!(net.client_events.last(), Some(&(a, closed(By::Local))));
    net.run(ms(5000));
    assert!(net.client.connection(a).is_none() && net.server.connection(b).is_none());
    assert_eq!(
        (net.client.stats().connections, net.server.stats().connections),
        (0, 0)
    );
    assert!(net.server.memory() < 200_000, "{}", net.server.memory());
}

#[test]
fn what_arrived_before_the_end_can_be_read_after_it() {
    let mut net = Net::new(Setup::default());
    let (a, b) = net.pair();
    let id = net.c(a).open(Direction::Uni).unwrap();
    net.c(a).write(id, b"tail").unwrap();
    net.c(a).finish(id).unwrap();
    net.run(ms(15));
    let now = net.now();
    net.c(a).close(now, 0, b"");
    net.run_until(ms(100), |net| {
        net.server_events
            .iter()
            .any(|(_, event)| matches!(event, Event::Closed(_)))
    });
    let mut buffer = [0; 10];
    assert_eq!(net.s(b).accept(Direction::Uni), Some(id));
    let read = net.s(b).read(id, &mut buffer).unwrap();
    assert_eq!((&buffer[..read.bytes], read.fin), (&b"tail"[..], true));
}

#[test]
fn a_lost_close_is_repeated_when_the_peer_speaks() {
    let mut net = Net::new(Setup::default());
    let (a, b) = net.pair();
    net.run(ms(300));
    let now = net.now();
    let mut lose = 1;
    net.meddle = Box::new(move |datagram| {
        if datagram.way == Way::Up && lose > 0 {
            lose -= 1;
            return vec![];
        }
        vec![datagram.clone()]
    });
    net.c(a).close(now, 1, b"");
    net.run(ms(5));
    let id = net.s(b).open(Direction::Uni).unwrap();
    net.s(b).write(id, b"are you there?").unwrap();
    net.run(ms(100));
    assert!(matches!(
        net.server_events.last(),
        Some((_, Event::Closed(CloseReason::Application { code: 1, .. })))
    ));
}

#[test]
fn silence_ends_a_connection_at_the_smaller_of_both_timeouts() {
    let mut setup = Setup::default();
    setup.client.idle_timeout = ms(5000);
    setup.client.mtu_search = false;
    setup.server.mtu_search = false;
    let mut net = Net::new(setup);
    let (a, b) = net.pair();
    net.run(ms(4000));
    net.client_events
        .retain(|(_, event)| !matches!(event, Event::Ticket(_)));
    assert!(
        net.client_events.is_empty() && net.server_events.is_empty(),
        "{:?}",
        net.client_events
    );
    net.run(ms(1500));
    assert_eq!(net.client_events, [(a, Event::Closed(CloseReason::Idle))]);
    assert_eq!(net.server_events, [(b, Event::Closed(CloseReason::Idle))]);
    assert_eq!(net.server.stats().connections, 0);
}

#[test]
fn keep_alive_holds_it() {
    let mut setup = with(|config| config.idle_timeout = ms(5000));
    setup.client.keep_alive = Some(ms(2000));
    let mut net = Net::new(setup);
    let (a, b) = net.pair();
    net.run(ms(60_000));
    net.assert_quiet(a, b);
    let sent = net.c(a).stats().sent_packets;
    assert!(sent < 100, "{sent} packets in a minute of silence");
}

#[test]
fn a_peer_that_vanishes_is_noticed() {
    let mut net = Net::new(with(|config| config.idle_timeout = ms(5000)));
    let (a, _) = net.pair();
    net.meddle = Box::new(|_| vec![]);
    let id = net.c(a).open(Direction::Uni).unwrap();
    net.c(a).write(id, &[1; 3000]).unwrap();
    net.run(ms(12_000));
    assert!(matches!(
        net.client_events.last(),
        Some((_, Event::Closed(CloseReason::Idle)))
    ));
}

#[test]
fn one_way_transfer_keeps_acknowledgement_state_small() {
    // The receiver of a long download sends almost nothing but ACKs; now and then one asks for an answer.
    let mut net = Net::new(Setup::default());
    let (a, b) = net.pair();
    let id = net.s(b).open(Direction::Uni).unwrap();
    let mut transfer = Transfer::default();
    let done = net.run_until(ms(20_000), |net| {
        transfer.write(net.server.connection(b).unwrap(), id, 8 << 20);
        let client = net.client.connection(a).unwrap();
        let _ = client.accept(Direction::Uni);
        transfer.read(client, id);
        net.settle();
        transfer.done
    });
    assert!(done);
    net.assert_quiet(a, b);
    let stats = net.c(a).stats();
    assert!(stats.in_flight < 10_000, "{stats:?}");
}

#[test]
fn a_client_without_mtu_search_and_one_with_a_narrow_path() {
    for (width, found) in [(1300usize, 1280u16), (1472, 1472), (1240, 1232)] {
        let mut net = Net::new(Setup::default());
        net.meddle = Box::new(move |datagram| {
            if datagram.bytes.len() > width {
                vec![]
            } else {
                vec![datagram.clone()]
            }
        });
        let (a, b) = net.pair();
        echo(&mut net, a, b, 200_000, ms(10_000));
        net.run(ms(20_000));
        assert_eq!(
            (net.c(a).stats().mtu, net.s(b).stats().mtu),
            (found, found),
            "{width}"
        );
        assert_eq!(net.c(a).stats().retransmitted_bytes, 0, "probes alone were lost");
    }
}

#[test]
fn a_path_that_narrows_is_noticed_and_a_blackout_is_not_a_narrow_path() {
    let mut net = Net::new(Setup::default());
    let (a, b) = net.pair();
    echo(&mut net, a, b, 100_000, ms(5000));
    assert_eq!(net.c(a).stats().mtu, 1472);
    net.meddle = Box::new(|_| vec![]);
    let id = net.c(a).open(Direction::Uni).unwrap();
    let mut transfer = Transfer::default();
    transfer.write(net.c(a), id, 200_000);
    net.run(ms(300));
    net.meddle = Box::new(|datagram| vec![datagram.clone()]);
    net.run(ms(3000));
    assert_eq!(net.c(a).stats().mtu, 1472, "after a blackout");
    net.meddle = Box::new(|datagram| {
        if datagram.bytes.len() > 1300 {
            vec![]
        } else {
            vec![datagram.clone()]
        }
    });
    echo(&mut net, a, b, 200_000, ms(60_000));
    assert!(net.c(a).stats().mtu <= 1300, "{}", net.c(a).stats().mtu);
}
