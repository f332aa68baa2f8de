//! Early data: in the first flight, once, and only where it is safe.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use transport_core::{
    Class, ClientTicket, CloseReason, DatagramOptions, Direction, DropReason, Event, StreamId, TicketOptions,
    code,
};
use transport_tests::pair::{Options, Pair, Passing, Way, stranger};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(30);

/// A pair that was connected and is no more, and one of its tickets.
fn parted(options: Options) -> (Pair, ClientTicket) {
    let mut pair = Pair::connected(options);
    let ticket = pair.take_ticket().expect("a ticket");
    pair.hang_up();
    (pair, ticket)
}

fn parted_early(seed: u64) -> (Pair, ClientTicket) {
    parted(Options::new(seed).with_early())
}

fn drops(pair: &Pair, reason: DropReason) -> u64 {
    pair.server.endpoint.stats().drops.get(reason)
}

/// Whether both ends agree that the early data was taken.
fn accepted(pair: &Pair) -> Option<bool> {
    let [here, there] = [&pair.client, &pair.server].map(|end| end.info().expect("connected").early_accepted);
    assert_eq!(here, there);
    here
}

/// Requests in the first flight, and what of them the relay's application has read.
struct Requests {
    sent: Vec<(StreamId, Vec<u8>)>,
    read: BTreeMap<StreamId, (Vec<u8>, bool)>,
}

impl Requests {
    fn send(pair: &mut Pair, count: usize, bytes: usize) -> Self {
        let sent = (0..count).map(|at| {
            let request = vec![at as u8 + 1; bytes];
            (pair.ask(&request), request)
        });
        Self {
            sent: sent.collect(),
            read: BTreeMap::new(),
        }
    }

    /// Reads what there is; whether all of them were read to the end, and nothing else.
    fn all_read(&mut self, pair: &mut Pair) -> bool {
        for (id, _) in &self.sent {
            let (bytes, end) = pair.heard(*id);
            let (read, ended) = self.read.entry(*id).or_default();
            assert!(!*ended || (bytes.is_empty() && !end), "read again after the end");
            read.extend_from_slice(&bytes);
            *ended |= end;
        }
        self.sent.iter().all(|(id, request)| {
            let (read, ended) = &self.read[id];
            assert!(request.starts_with(read), "{id:?} has other bytes");
            *ended && read == request
        })
    }
}

#[test]
fn a_request_arrives_with_the_first_flight_and_is_answered_with_the_second() {
    let (mut pair, ticket) = parted_early(1);
    let began = pair.elapsed();
    pair.come_back(ticket, true);
    let id = pair.ask(b"request");
    pair.run_until(21 * MS, |pair| pair.server.handle.is_some());
    assert_eq!(pair.since(began), 20 * MS);
    assert_eq!(pair.heard(id), (b"request".to_vec(), true));
    let connection = pair.server.connection();
    assert!(connection.is_early(), "it may be a copy");
    assert_eq!(connection.accept(Direction::Bi), Some(id));
    connection.write(id, b"answer").expect("an open stream");
    assert!(pair.run_until(LONG, |pair| {
        let mut buffer = [0; 100];
        pair.client
            .connection()
            .read(id, &mut buffer)
            .is_ok_and(|read| read.bytes == 6)
    }));
    assert_eq!(
        pair.since(began),
        40 * MS,
        "answered one round trip after the first datagram"
    );
    pair.run_for(LONG / 3);
    assert!(!pair.server.connection().is_early());
    assert_eq!(accepted(&pair), Some(true));
    assert_eq!(pair.client.connection().stats().early_packets, 1);
    assert_eq!(pair.client.connection().stats().declared_lost, 0);
    assert!(pair.transfer(Way::Up, 100_000, LONG) && pair.transfer(Way::Down, 100_000, LONG));
    for end in [&pair.client, &pair.server] {
        let stats = end.endpoint.stats();
        assert_eq!(
            (stats.resumed, stats.early_accepted, stats.early_rejected),
            (1, 1, 0)
        );
    }
}

#[test]
fn only_what_is_marked_goes_early() {
    let (mut pair, ticket) = parted_early(2);
    pair.come_back(ticket, true);
    let now = pair.now(Way::Up);
    let connection = pair.client.connection();
    let held = connection.open(Direction::Bi).expect("a stream");
    connection.write(held, b"transfer money").expect("room");
    for (data, early) in [(b"pay", false), (b"ask", true)] {
        let options = DatagramOptions {
            class: Class::Bulk,
            deadline: None,
            early,
            notify: false,
            flow: None,
        };
        connection
            .send_datagram(now, data.to_vec(), options)
            .expect("room");
    }
    pair.run_for(30 * MS);
    assert!(pair.server.connection().is_early());
    assert_eq!(pair.server.take_datagrams(), [b"ask"]);
    assert!(pair.heard(held).0.is_empty());
    pair.run_for(40 * MS);
    assert_eq!(pair.heard(held).0, b"transfer money");
    assert_eq!(pair.server.take_datagrams(), [b"pay"]);
}

/// Forty files of 32 bytes, with names of 250 characters: nearly all of the requests fit the first flight.
#[test]
fn forty_requests_with_long_names() {
    let (mut pair, ticket) = parted_early(3);
    let began = pair.elapsed();
    pair.come_back(ticket, true);
    let mut requests = Requests::send(&mut pair, 40, 250);
    assert!(pair.run_until(LONG, |pair| requests.all_read(pair)));
    for (id, _) in &requests.sent {
        let connection = pair.server.connection();
        connection.write(*id, &[9; 32]).expect("room");
        connection.finish(*id).expect("open");
    }
    pair.run_for(Duration::from_secs(1));
    assert_eq!(accepted(&pair), Some(true));
    let stats = pair.client.connection().stats();
    let early: usize = pair
        .record
        .iter()
        .filter(|passing| passing.way == Way::Up && passing.at == began)
        .map(|passing| passing.bytes.len())
        .sum();
    // The hello is two datagrams, and not the connection's.
    let later = stats.sent_bytes as usize + 2 * 1232 - early;
    assert!(stats.early_packets >= 9, "{stats:?}");
    assert!(later <= 5000, "{later} bytes in 1-RTT");
}

/// Ways for early data to be refused; each is a change after the ticket was given.
#[test]
fn what_is_refused_arrives_all_the_same_and_once() {
    type Change = fn(&mut Pair);
    let fleet = || Options {
        fleet: Some([1; 32]),
        tickets: TicketOptions {
            replay_domain: 5,
            ..Options::new(0).with_early().tickets
        },
        ..Options::new(4)
    };
    let ways: [(&str, Change); 6] = [
        ("the clock", |pair| pair.set_skew(11_000)),
        ("another node", |pair| {
            pair.reconfigure(|options| options.tickets.replay_domain = 6);
        }),
        ("just restarted", Pair::restart_server),
        ("other limits", |pair| {
            pair.reconfigure(|options| options.server.max_datagram = 1000);
        }),
        ("smaller limits", |pair| {
            pair.reconfigure(|options| Arc::make_mut(&mut options.server.limits).max_streams_bi = 20);
        }),
        ("no early data any more", |pair| {
            pair.reconfigure(|options| options.tickets.early_bytes = 0);
        }),
    ];
    for (name, change) in ways {
        let (mut pair, ticket) = parted(fleet());
        // Past the time after a start in which early data is refused.
        pair.run_for(LONG);
        change(&mut pair);
        pair.come_back(ticket, true);
        let mut requests = Requests::send(&mut pair, 12, 500);
        assert!(pair.run_until(LONG, |pair| requests.all_read(pair)), "{name}");
        pair.run_for(Duration::from_secs(2));
        assert!(requests.all_read(&mut pair));
        assert_eq!(accepted(&pair), Some(false), "{name}");
        assert!(pair.client.info().expect("connected").resumed, "{name}");
        let stats = pair.client.connection().stats();
        assert!(
            stats.declared_lost >= 5 && stats.cwnd >= 12_320,
            "{name}: {stats:?}"
        );
        assert!(drops(&pair, DropReason::EarlyRejected) >= 5, "{name}");
        assert_eq!(pair.server.endpoint.stats().early_rejected, 1, "{name}");
    }
}

#[test]
fn limits_below_what_was_used_end_the_connection() {
    let (mut pair, ticket) = parted(Options {
        fleet: Some([1; 32]),
        ..Options::new(5).with_early()
    });
    pair.reconfigure(|options| Arc::make_mut(&mut options.server.limits).max_streams_bi = 3);
    pair.come_back(ticket, true);
    Requests::send(&mut pair, 4, 10);
    pair.run_for(LONG);
    let reason = pair.client.closed();
    assert!(
        matches!(reason, Some(CloseReason::Transport { code, .. }) if *code == code::PROTOCOL_VIOLATION),
        "{reason:?}"
    );
}

#[test]
fn a_ticket_used_twice_gets_early_data_once() {
    let (mut pair, ticket) = parted_early(6);
    let copy = ClientTicket::from_bytes(&ticket.to_bytes()).expect("what was written");
    for (ticket, expected) in [(ticket, true), (copy, false)] {
        pair.come_back(ticket, true);
        let mut requests = Requests::send(&mut pair, 3, 100);
        assert!(pair.run_until(LONG, |pair| requests.all_read(pair)));
        pair.run_for(Duration::from_secs(1));
        assert_eq!(accepted(&pair), Some(expected));
        pair.hang_up();
    }
}

#[test]
fn without_an_answer_to_the_ticket_early_data_follows_a_full_handshake() {
    let (mut pair, ticket) = parted_early(7);
    pair.restart_server();
    pair.come_back(ticket, true);
    let mut requests = Requests::send(&mut pair, 6, 300);
    assert!(pair.run_until(LONG, |pair| requests.all_read(pair)));
    pair.run_for(Duration::from_secs(2));
    assert!(requests.all_read(&mut pair));
    let info = pair.client.info().expect("connected");
    assert_eq!((info.resumed, info.early_accepted), (false, Some(false)));
    assert_eq!(pair.server.info().expect("connected").early_accepted, None);
}

/// The datagrams of the first flight, as somebody on the way saw them.
fn first_flight(pair: &Pair) -> Vec<Vec<u8>> {
    let up = pair.record.iter().filter(|passing| passing.way == Way::Up);
    let began = up.clone().next().expect("a flight").at;
    up.filter(|passing| passing.at == began)
        .map(|passing| passing.bytes.clone())
        .collect()
}

#[test]
fn a_replayed_flight_meets_silence_on_the_same_relay() {
    let (mut pair, ticket) = parted_early(8);
    pair.come_back(ticket, true);
    let mut requests = Requests::send(&mut pair, 5, 400);
    assert!(pair.run_until(LONG, |pair| requests.all_read(pair)));
    pair.run_for(Duration::from_secs(1));
    let flight = first_flight(&pair);
    assert!(flight.len() >= 4);
    let before = pair.server.endpoint.stats();
    for (again, from) in [pair.address, stranger(1), stranger(2)].into_iter().enumerate() {
        pair.inject_all(Way::Up, from, &flight);
        pair.run_for(3 * Duration::from_secs(1));
        let after = pair.server.endpoint.stats();
        assert_eq!(after.handshakes_completed, before.handshakes_completed);
        assert_eq!((after.early_accepted, after.connections), (1, 1));
        let replayed = after.drops.get(DropReason::EnvelopeReplayed);
        assert_eq!(replayed, (again as u64 + 1) * flight.len() as u64);
        assert!(requests.all_read(&mut pair), "and nothing is read again");
    }
    assert_eq!(pair.sent_to(stranger(1)) + pair.sent_to(stranger(2)), 0);
}

#[test]
fn a_replayed_flight_opens_nothing_on_another_relay_with_the_same_keys() {
    let fleet = |domain| Options {
        fleet: Some([1; 32]),
        tickets: TicketOptions {
            replay_domain: domain,
            ..Options::new(0).with_early().tickets
        },
        ..Options::new(9)
    };
    let (mut pair, ticket) = parted(fleet(5));
    pair.run_for(LONG);
    pair.come_back(ticket, true);
    let mut requests = Requests::send(&mut pair, 5, 400);
    assert!(pair.run_until(LONG, |pair| requests.all_read(pair)));
    pair.run_for(Duration::from_secs(1));
    assert_eq!(accepted(&pair), Some(true));
    let flight = first_flight(&pair);
    // The other relay has run for a while: it is not the caution after a start that refuses.
    let mut other = Pair::connected(fleet(6));
    other.run_for(pair.elapsed().saturating_sub(other.elapsed()));
    other.hang_up();
    let before = other.server.endpoint.stats();
    other.server.events.clear();
    other.inject_all(Way::Up, stranger(1), &flight);
    other.run_for(Duration::from_secs(2));
    let after = other.server.endpoint.stats();
    assert_eq!((after.early_accepted, after.early_rejected), (0, 1));
    assert_eq!(
        after.handshakes_answered,
        before.handshakes_answered + 1,
        "it resumes, at 1-RTT"
    );
    assert_eq!(
        (after.connections, after.half_open),
        (0, 1),
        "which the thief cannot finish"
    );
    assert!(other.server.events.is_empty());
    assert!(after.drops.get(DropReason::EarlyRejected) >= 2);
}

#[test]
fn any_datagram_or_two_of_the_flights_may_be_lost() {
    let flights = {
        let (mut pair, ticket) = parted_early(10);
        pair.come_back(ticket, true);
        let mut requests = Requests::send(&mut pair, 4, 600);
        assert!(pair.run_until(LONG, |pair| requests.all_read(pair)));
        first_flight(&pair).len() as u64
    };
    assert!((4..=6).contains(&flights), "{flights}");
    // Two of the datagrams up, or one up and one down, or two down.
    let places: Vec<(Way, u64)> = (0..flights + 2)
        .map(|at| (Way::Up, at))
        .chain((0..4).map(|at| (Way::Down, at)))
        .collect();
    for (at, first) in places.iter().enumerate() {
        for second in &places[at..] {
            let (mut pair, ticket) = parted_early(10);
            let (first, second) = (*first, *second);
            let base = Rc::new(RefCell::new(BTreeMap::new()));
            pair.hook(move |passing: &mut Passing| {
                let up = passing.way == Way::Up;
                let from = *base.borrow_mut().entry(up).or_insert(passing.index);
                let place = (passing.way, passing.index - from);
                if place == first || place == second {
                    passing.lose();
                }
            });
            pair.come_back(ticket, true);
            let mut requests = Requests::send(&mut pair, 4, 600);
            assert!(
                pair.run_until(LONG, |pair| requests.all_read(pair)),
                "{first:?} {second:?}"
            );
            pair.run_for(Duration::from_secs(3));
            assert!(requests.all_read(&mut pair));
            assert!(
                pair.client.info().expect("connected").resumed,
                "{first:?} {second:?}"
            );
        }
    }
}

/// picoquic's "ec2f": the early packets are lost, and so is all that acknowledges the handshake.
#[test]
fn lost_early_data_and_a_lost_confirmation() {
    let (mut pair, ticket) = parted_early(11);
    let began = pair.elapsed();
    let mut hello = 2;
    pair.hook(move |passing| {
        let up = passing.way == Way::Up;
        if up && passing.at == began && hello > 0 {
            hello -= 1;
        } else if (up && passing.at == began)
            || (passing.at > began + 45 * MS && passing.at < began + 2500 * MS)
        {
            passing.lose();
        }
    });
    pair.come_back(ticket, true);
    let mut requests = Requests::send(&mut pair, 4, 600);
    assert!(pair.run_until(LONG, |pair| requests.all_read(pair)));
    pair.run_for(Duration::from_secs(4));
    assert!(requests.all_read(&mut pair));
    assert_eq!(
        accepted(&pair),
        Some(true),
        "nothing of it came, but it would have been taken"
    );
}

#[test]
fn early_data_may_overtake_its_hello() {
    let (mut pair, ticket) = parted_early(12);
    let began = pair.elapsed();
    let mut count = 0;
    pair.hook(move |passing| {
        if passing.way == Way::Up && passing.at == began {
            count += 1;
            if count <= 2 {
                passing.copies = vec![60 * MS];
            }
        }
    });
    pair.come_back(ticket, true);
    let mut requests = Requests::send(&mut pair, 4, 600);
    pair.run_until(LONG, |pair| requests.all_read(pair));
    assert_eq!(pair.since(began), 60 * MS, "all was there when the hello came");
    pair.run_for(Duration::from_secs(1));
    assert_eq!(accepted(&pair), Some(true));
}

#[test]
fn an_early_client_that_never_shows_itself_gets_three_times_what_it_sent() {
    let (mut pair, ticket) = parted_early(13);
    pair.come_back(ticket, true);
    let id = pair.ask(b"much, please");
    let sent = Rc::new(RefCell::new([0, 0]));
    let tally = sent.clone();
    pair.hook(move |passing| {
        let down = passing.way == Way::Down;
        tally.borrow_mut()[usize::from(down)] += passing.bytes.len();
        if down {
            passing.lose();
        }
    });
    pair.run_for(100 * MS);
    // Only its first flight came.
    pair.hook(Passing::lose);
    let connection = pair.server.connection();
    connection.write(id, &vec![7; 100_000]).expect("room");
    let before = *sent.borrow();
    pair.recording = true;
    pair.run_for(Duration::from_secs(20));
    let more: usize = pair
        .record
        .iter()
        .filter(|passing| passing.way == Way::Down)
        .map(|passing| passing.bytes.len())
        .sum();
    assert!(more > 3000 && more <= 3 * before[0], "{more} for {}", before[0]);
    pair.run_for(Duration::from_secs(20));
    assert_eq!(pair.server.endpoint.stats().connections, 0, "and is forgotten");
    let reason = pair.server.closed();
    assert!(
        matches!(reason, Some(CloseReason::HandshakeTimeout | CloseReason::Idle)),
        "{reason:?}"
    );
}

#[test]
fn early_data_is_bounded_by_its_ticket_and_the_initial_window() {
    let (mut pair, ticket) = parted_early(14);
    assert_eq!(ticket.max_early, TicketOptions::MAX_EARLY);
    pair.come_back(ticket, true);
    let mut requests = Requests::send(&mut pair, 1, 60_000);
    pair.run_for(10 * MS);
    let early: usize = first_flight(&pair).iter().map(Vec::len).sum();
    assert!(early <= 12_320 + 2 * 1232, "{early}");
    assert!(pair.run_until(LONG, |pair| requests.all_read(pair)));
    pair.hang_up();

    let (mut pair, ticket) = parted(Options {
        tickets: TicketOptions {
            early_bytes: 1000,
            ..TicketOptions::default()
        },
        ..Options::new(15)
    });
    pair.come_back(ticket, true);
    let mut requests = Requests::send(&mut pair, 10, 300);
    pair.run_for(15 * MS);
    assert_eq!(
        first_flight(&pair).len(),
        3,
        "two of the hello, one with a thousand bytes"
    );
    assert!(pair.run_until(LONG, |pair| requests.all_read(pair)));
    assert_eq!(accepted(&pair), Some(true));
    assert_eq!(drops(&pair, DropReason::EarlyBuffer), 0);
}

#[test]
fn an_early_connection_can_be_given_up() {
    let (mut pair, ticket) = parted_early(16);
    pair.come_back(ticket, true);
    let now = pair.now(Way::Up);
    pair.ask(b"request");
    pair.client.connection().close(now, 7, b"enough");
    pair.run_for(Duration::from_secs(1));
    assert!(matches!(
        pair.client.closed(),
        Some(CloseReason::Application { code: 7, .. })
    ));
    let stats = pair.client.endpoint.stats();
    assert_eq!((stats.dialing, stats.connections), (0, 0));
    assert!(
        !pair
            .client
            .events
            .iter()
            .any(|event| matches!(event, Event::Connected(_)))
    );
}
