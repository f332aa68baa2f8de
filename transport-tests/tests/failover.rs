//! Several ways between both ends: they open, wait, take over from one another, and end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use transport_core::{Event, PathError, PathId, PathInfo, PathReason, PathState, Route, TransportConfig};
use transport_tests::pair::{
    Options, Pair, Transfer, Way, client_address, drive_all, faults, server_address, stranger,
};

const LIMIT: Duration = Duration::from_mins(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The client's second link.
fn second() -> SocketAddr {
    ([10, 1, 0, 2], 50_000).into()
}

fn by_second() -> Route {
    Route {
        remote: server_address(),
        local: Some(second().ip()),
    }
}

/// Which of the client's links carry nothing.
#[derive(Clone, Default)]
struct Cut(Rc<Cell<[bool; 2]>>);

impl Cut {
    /// Watches over a pair whose round trip is `rtt`, and drops what a cut link would carry.
    fn over(pair: &mut Pair) -> Self {
        let cut = Self::default();
        let mine = cut.clone();
        pair.hook(move |passing| {
            let client = if passing.way == Way::Up {
                passing.from
            } else {
                passing.to
            };
            let [first, other] = mine.0.get();
            if (client == client_address() && first) || (client == second() && other) {
                passing.lose();
            }
        });
        cut
    }

    fn first(&self, on: bool) {
        self.0.set([on, self.0.get()[1]]);
    }

    fn other(&self, on: bool) {
        self.0.set([self.0.get()[0], on]);
    }
}

fn options(seed: u64, rtt: u64) -> Options {
    let mut options = Options::new(seed);
    options.latency = ms(rtt) / 2;
    options
}

/// A pair with two links, connected by the first.
fn two_links(seed: u64, rtt: u64) -> Pair {
    let mut pair = Pair::connected(options(seed, rtt));
    pair.links = vec![second()];
    pair.recording = false;
    pair
}

fn add(pair: &mut Pair) -> PathId {
    let now = pair.now(Way::Up);
    pair.client
        .connection()
        .add_path(now, by_second())
        .expect("another path")
}

/// The same, with the second path waiting.
fn with_standby(seed: u64, rtt: u64) -> (Pair, PathId) {
    let mut pair = two_links(seed, rtt);
    let id = add(&mut pair);
    pair.run_for(ms(4 * rtt + 500));
    assert_eq!(
        info(&mut pair, Way::Up, id).map(|path| path.state),
        Some(PathState::Standby)
    );
    assert_eq!(
        info(&mut pair, Way::Down, id).map(|path| path.state),
        Some(PathState::Standby)
    );
    (pair, id)
}

fn info(pair: &mut Pair, way: Way, id: PathId) -> Option<PathInfo> {
    pair.sender(way).connection().paths().find(|path| path.id == id)
}

fn active(pair: &mut Pair, way: Way) -> PathInfo {
    pair.sender(way).connection().paths().next().expect("a path")
}

/// What the client was told of its paths.
fn told(pair: &Pair) -> Vec<(u32, PathState, PathReason)> {
    let change = |event: &Event| match event {
        Event::PathStateChanged { path, state, reason } => Some((path.get(), *state, *reason)),
        _ => None,
    };
    pair.client.events.iter().filter_map(change).collect()
}

/// The system gives the link another address, and the path goes on from there by itself.
#[test]
fn a_client_hears_that_its_path_begins_elsewhere() {
    let mut pair = Pair::connected(options(21, 20));
    let before = pair.address;
    let mut transfer = Transfer::open(&mut pair, Way::Down, 500_000);
    pair.run_until(LIMIT, |pair| {
        transfer.drive(pair);
        transfer.read > 100_000
    });
    assert_eq!(active(&mut pair, Way::Up).begins, Some(before.ip()));
    // A NAT gives it another port, and the machine another address.
    pair.address = (before.ip(), 777).into();
    pair.run_until(LIMIT, |pair| {
        transfer.drive(pair);
        transfer.read > 200_000
    });
    let moves = |pair: &Pair| {
        let changes = told(pair).into_iter();
        changes
            .filter(|(.., reason)| *reason == PathReason::AddressChanged)
            .collect::<Vec<_>>()
    };
    assert_eq!(moves(&pair), []);
    pair.address = ([10, 7, 7, 7], 777).into();
    assert!(pair.run_until(LIMIT, |pair| transfer.drive(pair)));
    assert_eq!(moves(&pair), [(0, PathState::Active, PathReason::AddressChanged)]);
    assert_eq!(active(&mut pair, Way::Up).begins, Some(pair.address.ip()));
    assert_eq!(active(&mut pair, Way::Up).route.local, None);
}

/// Bytes an application has each millisecond: 8 Mbit/s.
const STEADY: u64 = 1000;

/// Begins a transfer of an application that has its bytes one after the other.
fn steady(pair: &mut Pair, way: Way, total: u64) -> Transfer {
    let mut transfer = Transfer::open(pair, way, total);
    transfer.allowed = 0;
    transfer
}

/// A millisecond of it; whether it is over.
fn tick(pair: &mut Pair, transfer: &mut Transfer) -> bool {
    transfer.allowed += STEADY;
    let _ = transfer.drive(pair);
    pair.run_for(ms(1));
    transfer.drive(pair)
}

/// Runs it to its end; the longest time in which nothing new arrived.
fn longest_gap(pair: &mut Pair, transfer: &mut Transfer, mut each: impl FnMut(&mut Pair)) -> Duration {
    let (mut read, mut at, mut gap) = (transfer.read, pair.elapsed(), Duration::ZERO);
    let limit = pair.elapsed() + LIMIT;
    loop {
        each(pair);
        let over = tick(pair, transfer);
        if transfer.read > read {
            gap = gap.max(pair.since(at));
            (read, at) = (transfer.read, pair.elapsed());
        }
        if over {
            return gap;
        }
        assert!(
            pair.elapsed() < limit,
            "{} bytes arrived, then nothing: {:?}",
            transfer.read,
            told(pair)
        );
    }
}

#[test]
fn a_second_path_proves_itself_and_waits() {
    let (mut pair, id) = with_standby(1, 40);
    assert_eq!(
        told(&pair),
        [
            (1, PathState::Probing, PathReason::Opened),
            (1, PathState::Validated, PathReason::Proved),
            (1, PathState::Standby, PathReason::Proved)
        ]
    );
    assert_eq!(active(&mut pair, Way::Up).id, PathId::FIRST);
    let path = info(&mut pair, Way::Up, id).unwrap();
    assert!((ms(39)..ms(45)).contains(&path.rtt), "{path:?}");
    assert_eq!(path.mtu, 1472, "its width is known before it is needed");
    assert!(path.cwnd >= 10 * 1200, "{path:?}");
    // Data stay where they were.
    pair.recording = true;
    assert!(pair.transfer(Way::Up, 200_000, LIMIT) && pair.transfer(Way::Down, 200_000, LIMIT));
    let by_other = pair
        .record
        .iter()
        .filter(|passing| passing.from == second() || passing.to == second());
    assert!(by_other.count() < 6);
}

#[test]
fn a_path_in_waiting_is_asked_every_twelve_seconds_and_no_more() {
    let mut options = options(2, 40);
    options.client.keep_alive = Some(Duration::from_secs(10));
    let mut pair = Pair::connected(options);
    pair.links = vec![second()];
    let id = add(&mut pair);
    pair.run_for(Duration::from_secs(5));
    pair.record.clear();
    pair.run_for(Duration::from_mins(4));
    let asked = pair
        .record
        .iter()
        .filter(|passing| passing.from == second())
        .count();
    assert!((16..=24).contains(&asked), "{asked} questions in four minutes");
    assert_eq!(info(&mut pair, Way::Up, id).unwrap().state, PathState::Standby);
    assert_eq!(info(&mut pair, Way::Down, id).unwrap().state, PathState::Standby);
}

#[test]
fn a_migration_takes_both_ways_along_and_loses_nothing() {
    for rtt in [10, 40, 200] {
        let (mut pair, id) = with_standby(3, rtt);
        let mut both = [
            Transfer::open(&mut pair, Way::Up, 1_500_000),
            Transfer::open(&mut pair, Way::Down, 1_500_000),
        ];
        pair.run_until(LIMIT, |pair| {
            drive_all(&mut both, pair);
            both[0].read.min(both[1].read) > 300_000
        });
        let now = pair.now(Way::Up);
        pair.client.connection().migrate(now, id).unwrap();
        assert!(pair.exchange(&mut both, LIMIT), "rtt {rtt}");
        pair.run_for(ms(500));
        for way in [Way::Up, Way::Down] {
            assert_eq!(active(&mut pair, way).id, id, "{way:?}");
            let stats = pair.sender(way).connection().stats();
            assert_eq!(
                stats.retransmitted_bytes, 0,
                "rtt {rtt} {way:?}: nothing was lost"
            );
        }
        assert_eq!(pair.server.connection().remote(), second());
        assert_eq!(
            info(&mut pair, Way::Up, PathId::FIRST).unwrap().state,
            PathState::Standby
        );
        let moves = |event: &&Event| matches!(event, Event::PathChanged { .. });
        assert_eq!(pair.server.events.iter().filter(moves).count(), 1);
    }
}

/// The gap as the receiver sees it: from the last byte by the dead path to the first by the other.
#[test]
fn a_standby_takes_over_from_a_dead_path() {
    for way in [Way::Up, Way::Down] {
        // On long paths what was on its way is much more than a first window, and some of it arrives twice.
        for (rtt, most) in [(10, 50), (20, 50), (40, 130), (100, 380), (200, 640)] {
            let (mut pair, id) = with_standby(4, rtt);
            let cut = Cut::over(&mut pair);
            let mut transfer = steady(&mut pair, way, 2_500_000);
            while transfer.read < 700_000 {
                tick(&mut pair, &mut transfer);
            }
            cut.first(true);
            let gap = longest_gap(&mut pair, &mut transfer, |_| {});
            println!("{way:?}, {rtt} ms there and back: a gap of {gap:?}");
            assert!(gap <= ms(most), "{way:?}, rtt {rtt}: a gap of {gap:?}");
            pair.run_for(Duration::from_secs(1));
            assert_eq!(active(&mut pair, Way::Up).id, id);
            assert_eq!(active(&mut pair, Way::Down).id, id);
            // The dead path is given up at both ends, and in the end forgotten.
            pair.run_for(Duration::from_secs(10));
            assert_eq!(info(&mut pair, Way::Up, PathId::FIRST), None, "{:?}", told(&pair));
            assert_eq!(info(&mut pair, Way::Down, PathId::FIRST), None);
            assert!(pair.transfer(Way::Up, 50_000, LIMIT) && pair.transfer(Way::Down, 50_000, LIMIT));
        }
    }
}

/// What an application does that has another link but has opened no path over it: it opens one when the first is suspect.
#[test]
fn without_a_standby_another_path_is_there_within_a_second() {
    for way in [Way::Up, Way::Down] {
        for (rtt, most) in [(10, 1000), (20, 1000), (50, 1000), (100, 1000), (200, 1300)] {
            let mut pair = two_links(5, rtt);
            let cut = Cut::over(&mut pair);
            let mut transfer = steady(&mut pair, way, 2_500_000);
            while transfer.read < 700_000 {
                tick(&mut pair, &mut transfer);
            }
            cut.first(true);
            let mut opened = None;
            let gap = longest_gap(&mut pair, &mut transfer, |pair| {
                let suspect = |(_, state, _): &(u32, PathState, PathReason)| *state == PathState::Suspect;
                if opened.is_none() && told(pair).iter().any(suspect) {
                    opened = Some(add(pair));
                }
            });
            println!("{way:?}, {rtt} ms there and back: a gap of {gap:?}");
            assert!(gap < ms(most), "{way:?}, rtt {rtt}: a gap of {gap:?}");
            assert_eq!(active(&mut pair, Way::Up).id, opened.unwrap());
        }
    }
}

#[test]
fn a_change_of_network_asks_every_path_and_the_first_that_answers_carries_on() {
    let (mut pair, id) = with_standby(6, 40);
    let cut = Cut::over(&mut pair);
    let now = pair.now(Way::Up);
    // A false alarm costs two questions.
    pair.client.connection().network_changed(now);
    pair.run_for(ms(60));
    assert_eq!(active(&mut pair, Way::Up).id, PathId::FIRST);
    let states: Vec<PathState> = pair.client.connection().paths().map(|path| path.state).collect();
    assert_eq!(
        states,
        [PathState::Active, PathState::Standby],
        "{:?}",
        told(&pair)
    );
    // A true one moves the connection within a round trip, although nothing was under way.
    cut.first(true);
    let now = pair.now(Way::Up);
    pair.client.connection().network_changed(now);
    pair.run_for(ms(45));
    assert_eq!(active(&mut pair, Way::Up).id, id);
    assert!(pair.transfer(Way::Down, 100_000, LIMIT) && pair.transfer(Way::Up, 100_000, LIMIT));
}

/// A path that was only slow gets its data back, and is given more time before the next suspicion.
#[test]
fn a_path_that_was_only_slow_gets_its_data_back() {
    let (mut pair, _) = with_standby(7, 40);
    let slow = Rc::new(Cell::new(false));
    let mine = slow.clone();
    // The ACKs alone, or the server might miss the data before the client misses them.
    pair.hook(move |passing| {
        if mine.get() && passing.way == Way::Down && passing.to == client_address() {
            passing.copies.iter_mut().for_each(|delay| *delay += ms(60));
        }
    });
    let mut transfer = steady(&mut pair, Way::Up, 1_000_000);
    while transfer.read < 300_000 {
        tick(&mut pair, &mut transfer);
    }
    slow.set(true);
    for _ in 0..100 {
        tick(&mut pair, &mut transfer);
    }
    slow.set(false);
    while !tick(&mut pair, &mut transfer) {}
    let reasons: Vec<PathReason> = told(&pair).into_iter().map(|(_, _, reason)| reason).collect();
    let suspicion =
        |reason: &&PathReason| matches!(reason, PathReason::AckSilence | PathReason::ProbeTimeout);
    assert!(reasons.iter().any(|reason| suspicion(&reason)), "{reasons:?}");
    assert!(reasons.contains(&PathReason::Failover), "{reasons:?}");
    assert_eq!(active(&mut pair, Way::Up).id, PathId::FIRST, "{reasons:?}");
}

#[test]
fn both_ends_agree_when_either_link_dies_in_turn() {
    let (mut pair, _) = with_standby(8, 20);
    let cut = Cut::over(&mut pair);
    let mut both = [
        Transfer::open(&mut pair, Way::Up, 6_000_000),
        Transfer::open(&mut pair, Way::Down, 6_000_000),
    ];
    for round in 0..6 {
        let go = |both: &mut [Transfer], pair: &mut Pair| {
            drive_all(both, pair);
            false
        };
        pair.run_until(ms(700), |pair| go(&mut both, pair));
        cut.first(round % 2 == 0);
        cut.other(round % 2 == 1);
        pair.run_until(Duration::from_secs(3), |pair| go(&mut both, pair));
        // The dead one comes back as another path.
        let local = if round % 2 == 0 { None } else { Some(second().ip()) };
        cut.first(false);
        cut.other(false);
        let now = pair.now(Way::Up);
        let again = Route {
            remote: server_address(),
            local,
        };
        let added = pair.client.connection().add_path(now, again);
        // A path that answered again in time still has its id.
        assert!(matches!(added, Ok(_) | Err(PathError::Limit)), "{added:?}");
    }
    assert!(pair.exchange(&mut both, LIMIT));
    assert!(pair.client.connection().paths().count() <= 4);
}

#[test]
fn no_more_than_four_ids_are_alive_and_none_comes_back() {
    let mut pair = two_links(9, 10);
    let mut used = vec![0];
    for _ in 0..30 {
        let now = pair.now(Way::Up);
        match pair.client.connection().add_path(now, by_second()) {
            Ok(id) => {
                assert!(!used.contains(&id.get()), "{id:?} comes back");
                used.push(id.get());
                pair.run_for(ms(200));
            }
            Err(PathError::Limit | PathError::NoConnectionId) => {
                assert_eq!(pair.client.connection().paths().count(), 4);
                let old = pair.client.connection().paths().last().unwrap().id;
                let now = pair.now(Way::Up);
                pair.client.connection().abandon_path(now, old).unwrap();
                pair.run_for(Duration::from_secs(2));
                assert!(pair.client.connection().paths().count() < 4);
                let at_server: Vec<PathInfo> = pair.server.connection().paths().collect();
                assert!(at_server.len() < 4, "{at_server:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(used.len() > 10, "{used:?}");
    let now = pair.now(Way::Up);
    let error = pair.client.connection().abandon_path(now, PathId::FIRST);
    assert_eq!(error, Err(PathError::InUse));
    assert!(pair.transfer(Way::Up, 50_000, LIMIT));
}

#[test]
fn a_link_that_leads_nowhere_is_given_up_after_three_challenges() {
    let mut pair = two_links(10, 40);
    let cut = Cut::over(&mut pair);
    cut.other(true);
    pair.recording = true;
    pair.record.clear();
    let id = add(&mut pair);
    pair.run_for(Duration::from_secs(5));
    let asked = pair
        .record
        .iter()
        .filter(|passing| passing.from == second())
        .count();
    assert_eq!(asked, 3);
    assert_eq!(
        told(&pair),
        [
            (id.get(), PathState::Probing, PathReason::Opened),
            (id.get(), PathState::Abandoned, PathReason::Unproved)
        ]
    );
    assert_eq!(pair.client.connection().paths().count(), 1);
    let now = pair.now(Way::Up);
    assert_eq!(pair.client.connection().migrate(now, id), Err(PathError::Unknown));
}

/// Each datagram of an opening and a move is lost once, one run for each. The path before is given up at once: the relay may hear of
/// that before the new one has proved itself there.
#[test]
fn every_datagram_of_a_move_may_be_lost_once() {
    for way in [Way::Up, Way::Down] {
        for lost in 0..14 {
            let mut pair = two_links(11, 20);
            let seen = Rc::new(Cell::new(0));
            let count = seen.clone();
            pair.hook(move |passing| {
                if passing.way == way {
                    if count.get() == lost {
                        passing.lose();
                    }
                    count.set(count.get() + 1);
                }
            });
            let id = add(&mut pair);
            let waits = |pair: &mut Pair| {
                info(pair, Way::Up, id).is_some_and(|path| path.state == PathState::Standby)
            };
            assert!(
                pair.run_until(Duration::from_secs(3), waits),
                "{way:?} {lost}: {:?}",
                told(&pair)
            );
            let now = pair.now(Way::Up);
            pair.client.connection().migrate(now, id).unwrap();
            pair.client.connection().abandon_path(now, PathId::FIRST).unwrap();
            assert!(
                pair.transfer(Way::Up, 30_000, LIMIT) && pair.transfer(Way::Down, 30_000, LIMIT),
                "{way:?} {lost}: {:?}",
                pair.server.events
            );
            pair.run_for(Duration::from_secs(2));
            assert_eq!(active(&mut pair, Way::Down).id, id, "{way:?} {lost}");
            assert_eq!(info(&mut pair, Way::Down, PathId::FIRST), None);
            assert!(seen.get() > 14);
        }
    }
}

#[test]
fn paths_survive_loss_reordering_and_copies() {
    for seed in 0..6 {
        let mut options = options(seed, 40);
        for transport in [&mut options.client, &mut options.server] {
            transport.key_update_packets = 300;
        }
        let mut pair = Pair::connected(options);
        pair.links = vec![second()];
        pair.recording = false;
        pair.hook(faults(seed, 0.03, 0.2, 0.1));
        let mut both = [
            Transfer::open(&mut pair, Way::Up, 3_200_000),
            Transfer::open(&mut pair, Way::Down, 3_200_000),
        ];
        let mut next = 0;
        let over = pair.run_until(LIMIT, |pair| {
            if pair.elapsed() > ms(600 * next) {
                next += 1;
                let ready = |path: &PathInfo| path.state == PathState::Standby;
                let waiting = pair.client.connection().paths().find(ready).map(|path| path.id);
                let now = pair.now(Way::Up);
                let route = Route {
                    local: (next % 2 == 0).then(|| second().ip()),
                    ..by_second()
                };
                let connection = pair.client.connection();
                let Some(id) = waiting else {
                    let _ = connection.add_path(now, route);
                    return drive_all(&mut both, pair);
                };
                let left = connection.paths().next().map(|path| path.id).unwrap();
                connection.migrate(now, id).unwrap();
                if seed % 2 == 0 {
                    connection.abandon_path(now, left).unwrap();
                }
            }
            drive_all(&mut both, pair)
        });
        assert!(over, "seed {seed}: {:?}", told(&pair));
        assert!(pair.client.connection().stats().key_updates > 1);
    }
}

/// Whoever copies a client's packet and sends it from elsewhere, first or later, moves nothing.
#[test]
fn a_copy_from_elsewhere_moves_no_path() {
    for first in [true, false] {
        let mut pair = two_links(12, 40);
        let mut transfer = steady(&mut pair, Way::Up, 3_000_000);
        let (tap, copies) = (Rc::new(RefCell::new(VecDeque::new())), Cell::new(0));
        let out = tap.clone();
        pair.hook(move |passing| {
            if passing.way == Way::Up && passing.from == second() {
                out.borrow_mut().push_back(passing.bytes.clone());
            }
        });
        let id = add(&mut pair);
        // What the hook saw arrives 20 ms later; the copy arrives at once, or long after it.
        let mut late = VecDeque::new();
        let mut attack = |pair: &mut Pair| {
            let now = pair.elapsed();
            late.extend(tap.borrow_mut().drain(..).map(|bytes| (now, bytes)));
            while let Some((_, bytes)) = late.pop_front_if(|(at, _)| first || now >= *at + ms(30)) {
                copies.set(copies.get() + 1);
                pair.inject(Way::Up, stranger(7), &bytes);
            }
        };
        let over = pair.run_until(LIMIT, |pair| {
            attack(pair);
            let now = pair.now(Way::Up);
            // Not before it has proved itself.
            let _ = pair.client.connection().migrate(now, id);
            transfer.allowed = pair.elapsed().as_millis() as u64 * STEADY;
            transfer.drive(pair)
        });
        assert!(over, "{:?}", told(&pair));
        assert!(
            copies.get() >= if first { 3 } else { 100 },
            "{} copies",
            copies.get()
        );
        pair.run_for(Duration::from_secs(1));
        // Who overtakes every challenge can keep a new path from being proved, and no more: the first one carries on.
        let expected = if first { client_address() } else { second() };
        assert_eq!(pair.server.connection().remote(), expected);
        let strange = pair
            .server
            .connection()
            .paths()
            .any(|path| path.route.remote == stranger(7));
        assert!(!strange, "a path leads to a stranger");
    }
}

/// An address that does not prove itself gets three bytes for one, also as a new path.
#[test]
fn a_path_of_a_stranger_gets_little() {
    let mut pair = two_links(13, 40);
    pair.recording = true;
    pair.hook(|passing| {
        if passing.way == Way::Down && passing.to == second() {
            passing.lose();
        }
    });
    add(&mut pair);
    let mut transfer = Transfer::open(&mut pair, Way::Down, 300_000);
    assert!(pair.run_until(LIMIT, |pair| transfer.drive(pair)));
    pair.run_for(Duration::from_secs(3));
    let came: usize = pair
        .record
        .iter()
        .filter(|passing| passing.from == second())
        .map(|passing| passing.bytes.len())
        .sum();
    assert!(
        came > 0 && pair.sent_to(second()) <= 3 * came,
        "{} for {came}",
        pair.sent_to(second())
    );
}

/// A peer that knows of one path only: the client moves that one, with another connection id.
#[test]
fn a_peer_with_one_path_is_moved_within_it() {
    let mut options = options(14, 40);
    options.server.max_paths = 1;
    let mut pair = Pair::connected(options);
    pair.links = vec![second()];
    let now = pair.now(Way::Up);
    assert_eq!(
        pair.client.connection().add_path(now, by_second()),
        Err(PathError::Unsupported)
    );
    let mut both = [
        Transfer::open(&mut pair, Way::Up, 500_000),
        Transfer::open(&mut pair, Way::Down, 500_000),
    ];
    pair.run_until(LIMIT, |pair| {
        drive_all(&mut both, pair);
        both[0].read > 100_000
    });
    let now = pair.now(Way::Up);
    pair.client.connection().move_to(now, by_second()).unwrap();
    assert!(pair.exchange(&mut both, LIMIT));
    pair.run_for(ms(500));
    assert_eq!(pair.server.connection().remote(), second());
    assert_eq!(active(&mut pair, Way::Up).route, by_second());
    assert_eq!(active(&mut pair, Way::Up).id, PathId::FIRST);
}

#[test]
fn only_clients_that_stand_open_paths() {
    let mut pair = two_links(15, 40);
    let now = pair.now(Way::Down);
    assert_eq!(
        pair.server.connection().add_path(now, by_second()),
        Err(PathError::NotClient)
    );
    let now = pair.now(Way::Up);
    assert_eq!(pair.client.connection().migrate(now, PathId::FIRST), Ok(()));
    pair.client.connection().close(now, 0, b"");
    assert_eq!(
        pair.client.connection().add_path(now, by_second()),
        Err(PathError::NotConnected)
    );
    let one = |transport: &mut TransportConfig| transport.max_paths = 1;
    let mut pair = Pair::connected(Options::new(16).with(one));
    let now = pair.now(Way::Up);
    assert_eq!(
        pair.client.connection().add_path(now, by_second()),
        Err(PathError::Unsupported)
    );
}
