//! What sank others before: bugs of the field that no attacker is needed for.

use std::time::Duration;

use transport_core::{CloseReason, DatagramOptions, DropReason, Event, StreamEvent};
use transport_tests::pair::{Options, Pair, Passing, Transfer, Way, stranger};

const LIMIT: Duration = Duration::from_mins(2);

fn of_way(pair: &Pair, way: Way) -> usize {
    pair.record.iter().filter(|passing| passing.way == way).count()
}

/// Keep-alives that answer each other: with both ends keeping alive, a packet that does is not itself kept alive.
#[test]
fn two_ends_that_keep_alive_do_not_play_ping_pong() {
    let mut pair = Pair::connected(
        Options::new(1).with(|transport| transport.keep_alive = Some(Duration::from_secs(5))),
    );
    pair.run_for(Duration::from_secs(20));
    pair.record.clear();
    pair.run_for(Duration::from_secs(100));
    let both = of_way(&pair, Way::Up) + of_way(&pair, Way::Down);
    // One question and one answer every five seconds, from either side at worst.
    assert!((20..=80).contains(&both), "{both} packets in 100 s of silence");
}

/// Replay across a migration: everything sent before the client moved comes again after it, from both of its addresses and
/// from elsewhere. The connection stays where it is, and nothing is told twice.
#[test]
fn packets_from_before_a_move_change_nothing_after_it() {
    let mut pair = Pair::connected(Options::new(2));
    assert!(pair.transfer(Way::Up, 50_000, LIMIT) && pair.transfer(Way::Down, 50_000, LIMIT));
    let old = pair.address;
    let captured: Vec<Passing> = pair.record.clone();
    pair.address = ([10, 0, 9, 9], 77).into();
    assert!(pair.transfer(Way::Up, 50_000, LIMIT));
    pair.run_for(Duration::from_secs(3));
    assert_eq!(pair.server.connection().remote(), pair.address);
    let told = (pair.client.events.len(), pair.server.events.len());
    pair.record.clear();
    for passing in captured.iter().filter(|passing| passing.way == Way::Up) {
        for from in [old, pair.address, stranger(4)] {
            pair.inject(Way::Up, from, &passing.bytes);
        }
    }
    assert_eq!(of_way(&pair, Way::Down), 0, "an answer to a copy");
    assert_eq!((pair.client.events.len(), pair.server.events.len()), told);
    assert_eq!(pair.server.connection().remote(), pair.address);
    assert!(pair.server.endpoint.stats().drops.get(DropReason::Replay) > 20);
    assert!(pair.transfer(Way::Down, 50_000, LIMIT));
}

/// Clocks that jump: whatever the wall clock does while a connection stands, hours ahead or back, at either end, nothing that
/// lasts is measured by it.
#[test]
fn clocks_that_jump_forward_and_back_do_not_disturb_a_connection() {
    const HOUR: i64 = 3_600_000;
    let mut pair = Pair::connected(Options::new(3));
    for jump in [HOUR, -HOUR, -48 * HOUR, 96 * HOUR, -48 * HOUR] {
        for way in [Way::Up, Way::Down] {
            pair.sender(way).turn_clock(jump);
            assert!(pair.transfer(Way::Up, 20_000, LIMIT), "{way:?} {jump}");
            assert!(pair.transfer(Way::Down, 20_000, LIMIT), "{way:?} {jump}");
            pair.run_for(Duration::from_secs(1));
        }
    }
    let drops = [&pair.client, &pair.server].map(|end| end.endpoint.stats().drops.total());
    assert_eq!(drops, [0, 0]);
}

/// A link that carries one way only: what still arrives keeps neither end for ever.
#[test]
fn a_link_that_carries_one_way_only_ends_at_both_ends() {
    for dead in [Way::Up, Way::Down] {
        let mut pair = Pair::connected(Options::new(4));
        let mut both = [
            Transfer::open(&mut pair, Way::Up, 1 << 20),
            Transfer::open(&mut pair, Way::Down, 1 << 20),
        ];
        pair.run_until(Duration::from_millis(100), |pair| {
            both.iter_mut().all(|transfer| transfer.drive(pair))
        });
        pair.hook(move |passing| {
            if passing.way == dead {
                passing.lose();
            }
        });
        pair.run_for(Duration::from_mins(5));
        assert_eq!(pair.client.closed(), Some(&CloseReason::Idle), "{dead:?}");
        assert_eq!(pair.server.closed(), Some(&CloseReason::Idle), "{dead:?}");
        assert_eq!(pair.server.endpoint.stats().connections, 0);
    }
}

/// One direction's losses must not slow the other: an upload takes hardly longer beside a download that loses a tenth.
#[test]
fn losses_of_one_direction_do_not_shrink_the_window_of_the_other() {
    let alone = {
        let mut pair = Pair::connected(Options::new(5));
        let from = pair.elapsed();
        assert!(pair.transfer(Way::Up, 3 << 20, LIMIT));
        pair.since(from)
    };
    let mut pair = Pair::connected(Options::new(5));
    pair.recording = false;
    let mut count = 0u32;
    pair.hook(move |passing| {
        count += u32::from(passing.way == Way::Down && passing.bytes.len() > 1000);
        if passing.way == Way::Down && passing.bytes.len() > 1000 && count.is_multiple_of(10) {
            passing.lose();
        }
    });
    let mut down = Transfer::open(&mut pair, Way::Down, 2 << 20);
    let mut up = Transfer::open(&mut pair, Way::Up, 3 << 20);
    let from = pair.elapsed();
    assert!(pair.run_until(LIMIT, |pair| {
        down.drive(pair);
        up.drive(pair)
    }));
    let beside = pair.since(from);
    assert!(
        pair.server.connection().stats().declared_lost > 5,
        "the download loses"
    );
    assert_eq!(pair.client.connection().stats().declared_lost, 0);
    assert!(beside < alone * 2, "{beside:?} beside, {alone:?} alone");
}

/// A waiter that is never woken after the MTU fell: messages that no longer fit leave the queue with a word, writers go on.
#[test]
fn nobody_waits_for_ever_when_the_path_narrows() {
    let mut pair = Pair::connected(Options::new(6));
    pair.run_for(Duration::from_secs(5));
    let wide = pair.client.connection().max_datagram();
    assert!(wide > 1300, "{wide}");
    pair.hook(|passing| {
        if passing.bytes.len() > 1250 {
            passing.lose();
        }
    });
    let mut transfer = Transfer::open(&mut pair, Way::Up, 200_000);
    let mut queued = 0;
    let over = pair.run_until(LIMIT, |pair| {
        let now = pair.now(Way::Up);
        let client = pair.client.connection();
        if queued < 200 && client.datagram_queue().len == 0 {
            let longest = client.max_datagram();
            queued += u32::from(client.send_datagram(now, vec![1; longest], told()).is_ok());
        }
        transfer.drive(pair) && queued >= 200
    });
    assert!(over, "{queued} messages, and somebody still waits");
    pair.run_for(Duration::from_secs(5));
    assert!(
        pair.client.connection().max_datagram() < wide,
        "the path narrowed"
    );
    assert_eq!(pair.client.connection().datagram_queue().len, 0);
    let told = |event: &&Event| {
        matches!(
            event,
            Event::Stream(
                StreamEvent::DatagramAcked { .. }
                    | StreamEvent::DatagramLost { .. }
                    | StreamEvent::DatagramExpired { .. }
                    | StreamEvent::DatagramDropped { .. }
            )
        )
    };
    let told = pair.client.events.iter().filter(told).count();
    assert_eq!(told, 200, "each message's fate is told");
}

/// Somebody wants to know what becomes of it.
fn told() -> DatagramOptions {
    DatagramOptions {
        notify: true,
        ..DatagramOptions::default()
    }
}
