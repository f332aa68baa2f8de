//! Floods of strangers: when a relay asks for tokens, what it then remembers, and who still gets through.

use std::net::SocketAddr;
use std::time::Duration;

use transport_core::{DatagramOptions, DropReason, Event, Route, TransportConfig};
use transport_crypto::{ENVELOPE_OVERHEAD, EnvelopeHeader, EnvelopeType};
use transport_tests::misbehave::{Envelopes, generous, hello};
use transport_tests::pair::{Options, Pair, Passing, Way, client_address, faults, server_address, stranger};
use transport_tests::sim::rng::Rng;

const LIMIT: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

fn anywhere(number: u64) -> SocketAddr {
    let [.., a, b, c] = number.to_be_bytes();
    SocketAddr::from(([100, a, b, c], 1024 + c as u16))
}

/// Each from a neighbourhood of its own.
fn neighbour(number: u64) -> SocketAddr {
    SocketAddr::from(([101, (number >> 8) as u8, number as u8, 1], 9))
}

fn drops(pair: &Pair, reason: DropReason) -> u64 {
    pair.server.endpoint.stats().drops.get(reason)
}

/// The first of several fragments of a hello that never comes whole.
fn fragment(envelopes: &mut Envelopes, number: u64, token: Option<[u8; 20]>) -> Vec<u8> {
    let header = EnvelopeHeader {
        count: 4,
        token,
        ..Envelopes::header(number.to_be_bytes(), 3700)
    };
    envelopes.seal(&header, &[7; 1000], 1232)
}

/// Fills the table of hellos in the making until tokens are asked for.
fn until_cookie_mode(pair: &mut Pair, envelopes: &mut Envelopes) {
    for number in 0..2000 {
        if pair.server.endpoint.stats().cookie_mode {
            pair.record.clear();
            return;
        }
        let datagram = fragment(envelopes, 1 << 40 | number, None);
        pair.inject(Way::Up, anywhere(number << 4), &datagram);
    }
    panic!("half-full tables do not turn it on");
}

fn under_load(seed: u64) -> (Pair, Envelopes) {
    let (mut pair, mut envelopes) = (Pair::idle(Options::new(seed)), Envelopes::new(seed));
    until_cookie_mode(&mut pair, &mut envelopes);
    (pair, envelopes)
}

fn whole(number: u64) -> ([u8; 8], Vec<u8>) {
    let mut params = Vec::new();
    generous().encode(&mut params).unwrap();
    let hid = number.to_be_bytes();
    (hid, hello(number, hid, &params).1)
}

#[test]
fn half_full_tables_turn_cookie_mode_on_and_calm_turns_it_off() {
    let (mut pair, mut envelopes) = under_load(1);
    let half = pair.server.endpoint.stats().reassembling;
    assert!((500..=1025).contains(&half), "{half}");
    pair.run_for(9 * 1000 * MS);
    pair.inject(Way::Up, stranger(1), &fragment(&mut envelopes, 1, None));
    assert!(pair.server.endpoint.stats().cookie_mode);
    // The table is empty after ten seconds; then five must be calm.
    for second in 10..=20 {
        pair.run_for(1000 * MS);
        pair.inject(Way::Up, stranger(1), &fragment(&mut envelopes, second, None));
        let stats = pair.server.endpoint.stats();
        assert_eq!(stats.cookie_mode, second < 14, "second {second}");
    }
    let stats = pair.server.endpoint.stats();
    assert!(stats.retries_sent >= 6 && stats.reassembling >= 4, "{stats:?}");
}

/// More hellos than a third of a core answers turn it on, and a flood that it keeps out keeps it on.
#[test]
fn demand_turns_cookie_mode_on_and_keeps_it_on() {
    let (mut pair, mut envelopes) = (Pair::idle(Options::new(2)), Envelopes::new(2));
    pair.server.endpoint.set_handshake_cost(4 * MS);
    // 1 ms for each fragment: 200 a second are 20 %, 400 are 40 %.
    let mut flood = |pair: &mut Pair, each: u64, seconds: u64| {
        for number in 0..each * seconds {
            let at = pair.elapsed().as_nanos() as u64;
            let datagram = fragment(&mut envelopes, at ^ number << 50, None);
            pair.inject(Way::Up, anywhere(at >> 16), &datagram);
            pair.run_for(Duration::from_secs(1) / each as u32);
        }
        pair.server.endpoint.stats().cookie_mode
    };
    assert!(!flood(&mut pair, 25, 3), "a trickle");
    assert!(flood(&mut pair, 400, 1));
    assert!(
        flood(&mut pair, 200, 12),
        "20 % is not calm, though nothing is answered"
    );
    assert_eq!(pair.server.endpoint.stats().reassembling, 0);
    assert!(!flood(&mut pair, 25, 7));
}

#[test]
fn a_flood_in_cookie_mode_leaves_no_trace() {
    const FRAGMENTS: u64 = 20_000;
    let (mut pair, mut envelopes) = under_load(3);
    pair.recording = false;
    let (memory, known) = (
        pair.server.endpoint.memory(),
        pair.server.endpoint.stats().reassembling,
    );
    let flood: Vec<Vec<u8>> = (0..FRAGMENTS)
        .map(|number| fragment(&mut envelopes, number, None))
        .collect();
    let before = drops(&pair, DropReason::RetryRequired);
    for round in 0..2 {
        for (number, datagram) in (0..).zip(&flood) {
            pair.inject(Way::Up, anywhere(number), datagram);
        }
        // The second time the same bytes: nothing is remembered that would tell them from new ones.
        let wanted = before + FRAGMENTS * (round + 1);
        assert_eq!(drops(&pair, DropReason::RetryRequired), wanted);
    }
    assert_eq!(pair.server.endpoint.memory(), memory, "an entry somewhere");
    assert_eq!(pair.server.endpoint.stats().reassembling, known);
    let stats = pair.server.endpoint.stats();
    assert!(
        stats.retries_sent <= 256,
        "all at one instant: {}",
        stats.retries_sent
    );
    // The window of clocks is as wide as ever.
    let mut skewed = Pair::idle(Options {
        skew_ms: 9 * 60_000,
        ..Options::new(3)
    });
    std::mem::swap(&mut skewed.server, &mut pair.server);
    skewed.dial().unwrap();
    assert!(skewed.run_until(LIMIT, Pair::is_connected));
}

/// Nonces that were noted before cookie mode are known in it: a probe with a captured flight meets silence.
#[test]
fn what_was_captured_before_is_silence_in_cookie_mode() {
    let mut pair = Pair::connected(Options::new(4));
    let captured: Vec<_> = pair
        .record
        .iter()
        .filter(|passing| passing.way == Way::Up)
        .cloned()
        .collect();
    let mut envelopes = Envelopes::new(4);
    until_cookie_mode(&mut pair, &mut envelopes);
    let retries = pair.server.endpoint.stats().retries_sent;
    for passing in &captured {
        for from in [stranger(9), client_address()] {
            pair.inject(Way::Up, from, &passing.bytes);
        }
    }
    let mut rng = Rng::new(4, "junk");
    for length in 0..1500 {
        let junk: Vec<u8> = (0..length).map(|_| rng.u64() as u8).collect();
        pair.inject(Way::Up, stranger(9), &junk);
    }
    assert!(
        !pair.record.iter().any(|passing| passing.to == stranger(9)),
        "an answer to a probe"
    );
    assert_eq!(pair.server.endpoint.stats().retries_sent, retries);
    assert!(drops(&pair, DropReason::EnvelopeReplayed) >= 6);
}

#[test]
fn a_retry_is_smaller_than_what_it_answers_and_at_most_200_bytes() {
    let (mut pair, mut envelopes) = under_load(5);
    let mut sizes = std::collections::BTreeSet::new();
    for size in ENVELOPE_OVERHEAD + 8..1000 {
        let header = EnvelopeHeader {
            count: 4,
            ..Envelopes::header((size as u64).to_be_bytes(), 3700)
        };
        let datagram = envelopes.seal(&header, &[1; 8], size);
        let seen = pair.record.len();
        pair.inject(Way::Up, stranger(3), &datagram);
        pair.run_for(MS);
        let sent: Vec<usize> = pair.record[seen..]
            .iter()
            .map(|passing| passing.bytes.len())
            .collect();
        assert!(
            sent.len() <= 1 && sent.iter().all(|sent| *sent < size && *sent <= 200),
            "{size}: {sent:?}"
        );
        assert_eq!(sent.is_empty(), size <= 82, "{size}");
        sizes.extend(sent);
    }
    assert!(sizes.len() > 90, "sizes vary: {}", sizes.len());
}

#[test]
fn tokens_of_others_of_another_time_and_of_another_place_are_answered_by_a_new_one() {
    let (mut pair, mut envelopes) = under_load(6);
    let (hid, body) = whole(1);
    let seen = pair.record.len();
    let first = fragment(&mut envelopes, 1, None);
    pair.inject(Way::Up, stranger(1), &first);
    let token = envelopes.tokens_for(&pair, seen, stranger(1))[0];
    let answered = |pair: &Pair| pair.server.endpoint.stats().handshakes_answered;
    let mut invalid = 0;
    let pieces = body.len().div_ceil(1100);
    let mut forged = token;
    forged[19] ^= 1;
    for (from, hid, token) in [
        (stranger(2), hid, token),
        (stranger(1), 2u64.to_be_bytes(), token),
        (stranger(1), hid, forged),
        (stranger(1), hid, [0; 20]),
        (stranger(1), hid, [255; 20]),
    ] {
        let seen = pair.record.len();
        for datagram in envelopes.fragments_with(hid, &body, 1100, Some(token)) {
            pair.inject(Way::Up, from, &datagram);
            invalid += 1;
        }
        assert!(!envelopes.tokens_for(&pair, seen, from).contains(&token));
        assert_eq!(
            envelopes.tokens_for(&pair, seen, from).len(),
            pieces,
            "each gets a new one"
        );
    }
    assert_eq!(
        (drops(&pair, DropReason::TokenInvalid), answered(&pair)),
        (invalid, 0)
    );
    // Too old.
    for _ in 0..31 {
        pair.run_for(4000 * MS);
        pair.server.endpoint.set_handshake_cost(20 * MS);
        for number in 0..80 {
            let datagram = fragment(&mut envelopes, 1 << 30 | number, None);
            pair.inject(Way::Up, anywhere(number << 8), &datagram);
        }
    }
    if pair.server.endpoint.stats().cookie_mode {
        for datagram in envelopes.fragments_with(hid, &body, 1100, Some(token)) {
            pair.inject(Way::Up, stranger(1), &datagram);
        }
        assert_eq!(
            (drops(&pair, DropReason::TokenInvalid), answered(&pair)),
            (invalid + pieces as u64, 0)
        );
    }
    // A fresh one opens.
    until_cookie_mode(&mut pair, &mut envelopes);
    assert!(envelopes.knock(&mut pair, stranger(1), hid, &body).is_some());
    assert_eq!(answered(&pair), 1);
}

#[test]
fn clients_get_through_cookie_mode_over_bad_paths() {
    for seed in 0..40 {
        let (mut pair, _) = under_load(100 + seed);
        let retries = pair.server.endpoint.stats().retries_sent;
        pair.hook(faults(seed, 0.25, 0.3, 0.3));
        pair.dial().unwrap();
        assert!(pair.run_until(LIMIT, Pair::is_connected), "seed {seed}");
        assert!(pair.server.endpoint.stats().retries_sent > retries, "seed {seed}");
    }
}

/// One round trip more, its echo verified, and the round trip is measured from the hello that was answered.
#[test]
fn a_retry_costs_one_round_trip() {
    let (mut pair, _) = under_load(7);
    let begun = pair.elapsed();
    pair.dial().unwrap();
    assert!(pair.run_until(LIMIT, Pair::is_connected));
    let took = pair.since(begun);
    assert!(
        (100 * MS..115 * MS).contains(&took),
        "{took:?}: two and a half times 40 ms"
    );
    assert!((80 * MS..90 * MS).contains(&pair.client.info().unwrap().handshake));
    let srtt = pair.client.connection().stats().srtt;
    assert!((39 * MS..45 * MS).contains(&srtt), "{srtt:?}");
}

/// RETRYs made by somebody who holds the bundle and sees the client's handshake id.
#[test]
fn forged_retries_do_not_keep_a_client_out_or_make_it_send_without_end() {
    for load in [false, true] {
        let (mut pair, mut envelopes) = under_load(8);
        if !load {
            pair = Pair::idle(Options::new(8));
        }
        pair.dial().unwrap();
        pair.settle();
        let first = pair
            .record
            .iter()
            .find(|passing| passing.way == Way::Up)
            .unwrap()
            .bytes
            .clone();
        let hid = envelopes.open_up(&first).unwrap().hid;
        let before = pair.record.len();
        let flight = pair
            .record
            .iter()
            .filter(|passing| passing.way == Way::Up)
            .count();
        let wrong = pair.client.endpoint.stats().drops.get(DropReason::WrongAddress);
        for number in 0..50u8 {
            let forged = envelopes.retry(hid, Some([number; 20]));
            pair.inject(Way::Down, stranger(1), &forged);
            if number < 2 {
                pair.inject(Way::Down, server_address(), &forged);
                pair.inject(Way::Down, server_address(), &forged);
            }
        }
        let stats = pair.client.endpoint.stats();
        assert_eq!(stats.drops.get(DropReason::WrongAddress), wrong + 50);
        let nobody = envelopes.retry([9; 8], Some([1; 20]));
        pair.inject(Way::Down, server_address(), &nobody);
        let empty = envelopes.retry(hid, None);
        pair.inject(Way::Down, server_address(), &empty);
        assert_eq!(
            pair.client.endpoint.stats().drops.get(DropReason::AnswerInvalid),
            2
        );
        assert_eq!(
            pair.record.len(),
            before + 2 * (flight + 1),
            "two new tokens, two flights with parity"
        );
        let begun = pair.elapsed();
        assert!(pair.run_until(LIMIT, Pair::is_connected), "under load: {load}");
        assert!(pair.since(begun) < 200 * MS, "{:?}", pair.since(begun));
    }
}

#[test]
fn retries_without_end_are_answered_four_times_until_the_next_timeout() {
    let (mut pair, mut envelopes) = (Pair::idle(Options::new(9)), Envelopes::new(9));
    pair.hook(Passing::lose);
    pair.dial().unwrap();
    pair.settle();
    let hid = envelopes.open_up(&pair.record[0].bytes).unwrap().hid;
    for round in 1..=3u8 {
        let sent = pair.record.len();
        for number in 0..100 {
            let forged = envelopes.retry(hid, Some([round.wrapping_mul(number); 20]));
            pair.inject(Way::Down, server_address(), &forged);
        }
        let flights = pair.record.len() - sent;
        assert!((12..=24).contains(&flights), "{flights} datagrams");
        pair.run_for(2001 * MS);
    }
    assert!(pair.client.endpoint.stats().drops.get(DropReason::Overload) > 200);
    assert!(pair.client.endpoint.memory() < 40_000, "tokens are bounded");
}

/// CVE-2024-45311: a token, copies of the hello, a refusal, and being let in again must not confuse each other.
#[test]
fn retry_then_copies_then_refusal_then_another_try() {
    let (mut pair, mut envelopes) = under_load(10);
    let (hid, body) = whole(5);
    let from = stranger(7);
    let token = envelopes.knock(&mut pair, from, hid, &body);
    let answered = |pair: &Pair| pair.server.endpoint.stats().handshakes_answered;
    assert_eq!(answered(&pair), 1);
    for _ in 0..5 {
        for datagram in envelopes.fragments_with(hid, &body, 1100, token) {
            pair.inject(Way::Up, from, &datagram);
        }
        envelopes.knock(&mut pair, from, hid, &body);
    }
    assert_eq!(
        (answered(&pair), pair.server.endpoint.stats().half_open),
        (1, 1),
        "copies are answered as before"
    );
    let elsewhere = stranger(8);
    envelopes.knock(&mut pair, elsewhere, hid, &body);
    assert_eq!(
        drops(&pair, DropReason::HelloReplayed),
        1,
        "with a token, but from elsewhere"
    );
    pair.server.endpoint.refuse_new(true);
    let (other, refused) = whole(6);
    let token = envelopes.knock(&mut pair, from, other, &refused);
    assert!(token.is_some() && answered(&pair) == 1);
    pair.server.endpoint.refuse_new(false);
    for datagram in envelopes.fragments_with(other, &refused, 1100, token) {
        pair.inject(Way::Up, from, &datagram);
    }
    assert_eq!(answered(&pair), 1, "who was refused stays refused");
    pair.dial().unwrap();
    assert!(pair.run_until(LIMIT, Pair::is_connected));
    assert_eq!(
        pair.server
            .events
            .iter()
            .filter(|event| matches!(event, Event::Connected(_)))
            .count(),
        1
    );
}

/// In every state: nobody unknown gets more than three times what came from there.
#[test]
fn amplification_stays_below_three_in_every_state() {
    for load in [false, true] {
        let (mut pair, mut envelopes) = (Pair::idle(Options::new(11)), Envelopes::new(11));
        if load {
            until_cookie_mode(&mut pair, &mut envelopes);
        }
        let mut sent = std::collections::BTreeMap::new();
        for client in 0..20u64 {
            let (hid, body) = whole(client);
            let from = neighbour(client);
            pair.server.endpoint.refuse_new(client % 5 == 4);
            let mut token = None;
            for round in 0..6 {
                let seen = pair.record.len();
                for datagram in envelopes.fragments_with(hid, &body, 600 + round * 100, token) {
                    *sent.entry(from).or_insert(0) += datagram.len();
                    pair.inject(Way::Up, from, &datagram);
                    assert!(
                        pair.sent_to(from) <= 3 * sent[&from],
                        "client {client}, round {round}"
                    );
                }
                token = token.or(envelopes.tokens_for(&pair, seen, from).pop());
                pair.run_for(5 * MS);
            }
        }
        pair.run_for(LIMIT);
        for (from, sent) in sent {
            assert!(pair.sent_to(from) <= 3 * sent && pair.sent_to(from) > 0);
        }
    }
}

/// A burst of hellos at one instant: what the connection that stands has to say goes first, and at most four are read.
#[test]
fn a_burst_of_hellos_does_not_stall_a_connection() {
    let mut pair = Pair::connected(Options::new(12));
    let mut envelopes = Envelopes::new(12);
    let answered = pair.server.endpoint.stats().handshakes_answered;
    let hellos: Vec<_> = (0..300).map(whole).collect();
    // All have tokens, so that cookie mode does not keep them out.
    until_cookie_mode(&mut pair, &mut envelopes);
    let mut flights = Vec::new();
    for (number, (hid, body)) in (0..).zip(&hellos) {
        let seen = pair.record.len();
        let first = fragment(&mut envelopes, u64::from_be_bytes(*hid), None);
        pair.inject(Way::Up, neighbour(number), &first);
        let token = envelopes.tokens_for(&pair, seen, neighbour(number)).pop();
        assert!(token.is_some());
        flights.push((
            neighbour(number),
            envelopes.fragments_with(*hid, body, 1100, token),
        ));
        pair.run_for(MS);
    }
    let now = pair.now(Way::Down);
    for (remote, flight) in &mut flights {
        let route = Route {
            remote: *remote,
            local: None,
        };
        for datagram in flight {
            pair.server.endpoint.handle_datagram(now, route, datagram);
        }
    }
    let stats = pair.server.endpoint.stats();
    assert_eq!(
        (stats.handshakes_answered, stats.hellos_waiting),
        (answered, 256),
        "nothing is read on arrival"
    );
    assert_eq!(stats.drops.get(DropReason::Overload), 44);
    pair.record.clear();
    pair.server
        .connection()
        .send_datagram(now, vec![5; 100], DatagramOptions::default())
        .unwrap();
    pair.settle();
    assert_eq!(pair.server.endpoint.stats().handshakes_answered, answered + 4);
    assert_eq!(pair.record[0].to, client_address(), "the connection goes first");
    pair.run_for(Duration::from_micros(999));
    assert_eq!(pair.server.endpoint.stats().handshakes_answered, answered + 5);
    pair.run_for(200 * MS);
    assert_eq!(pair.server.endpoint.stats().handshakes_answered, answered + 256);
    assert_eq!(pair.server.endpoint.stats().hellos_waiting, 0);
    assert!(pair.transfer(Way::Up, 100_000, LIMIT));
}

/// Without tokens, the queue is one more table that turns cookie mode on when it is half full.
#[test]
fn hellos_that_wait_turn_cookie_mode_on() {
    let (mut pair, mut envelopes) = (Pair::idle(Options::new(16)), Envelopes::new(16));
    let now = pair.now(Way::Down);
    for number in 0..160 {
        let (hid, body) = whole(number);
        let route = Route {
            remote: neighbour(number),
            local: None,
        };
        for mut datagram in envelopes.fragments(hid, &body, 1100) {
            pair.server.endpoint.handle_datagram(now, route, &mut datagram);
        }
    }
    let stats = pair.server.endpoint.stats();
    assert!(
        stats.cookie_mode && (129..=132).contains(&stats.hellos_waiting),
        "{stats:?}"
    );
    assert!(stats.drops.get(DropReason::RetryRequired) >= 80);
}

/// Hellos from one neighbourhood, 64 in a second, are a limit only when others wait (the queue's tests): thousands may live
/// behind one address.
#[test]
fn a_neighbourhood_that_is_alone_may_have_more_than_its_share() {
    let (mut pair, mut envelopes) = (Pair::idle(Options::new(13)), Envelopes::new(13));
    pair.server.endpoint.set_handshake_cost(Duration::from_micros(20));
    for number in 0..100 {
        let (hid, body) = whole(number);
        let from = SocketAddr::from(([101, 7, 7, number as u8], 5));
        envelopes.knock(&mut pair, from, hid, &body);
        pair.run_for(5 * MS);
    }
    assert_eq!(pair.server.endpoint.stats().handshakes_answered, 100);
    assert_eq!(drops(&pair, DropReason::Overload), 0);
    pair.dial().unwrap();
    assert!(
        pair.run_until(1000 * MS, Pair::is_connected),
        "others are not concerned"
    );
}

/// An attacker with a core of its own makes valid hellos without pause (QFAM, arXiv 2412.08936): from addresses it does
/// not have, then from addresses that answer RETRY. What a hello costs is set so high that a test can make enough of them.
#[test]
fn honest_handshakes_succeed_while_a_core_makes_valid_hellos() {
    const COST: Duration = Duration::from_millis(10);
    const HONEST: usize = 40;
    let hellos: Vec<_> = (1000..1000 + 3000).map(whole).collect();
    let mut rng = Rng::new(14, "arrivals");
    let keep = |transport: &mut TransportConfig| transport.keep_alive = Some(Duration::from_secs(5));
    for owns_addresses in [false, true] {
        let (mut pair, mut envelopes) = (Pair::connected(Options::new(14).with(keep)), Envelopes::new(14));
        pair.server.endpoint.set_handshake_cost(COST);
        let first = pair.client.handle;
        let mut succeeded = std::collections::BTreeSet::new();
        for (number, (hid, body)) in (0..).zip(&hellos) {
            let from = neighbour(number);
            if owns_addresses {
                envelopes.knock(&mut pair, from, *hid, body);
            } else {
                for datagram in envelopes.fragments(*hid, body, 1100) {
                    pair.inject(Way::Up, from, &datagram);
                }
            }
            if number % 25 == 24 && number / 25 < HONEST as u64 {
                pair.dial().unwrap();
            }
            // Measured costs vary; were they equal, clients would keep their place in the relay's rhythm for ever.
            let measured = COST * (80 + rng.below(40) as u32) / 100;
            pair.server.endpoint.set_handshake_cost(measured);
            pair.run_for(COST * (rng.below(200) as u32) / 100);
            pair.record.clear();
            count_connected(&mut pair, &mut succeeded);
        }
        assert!(pair.server.endpoint.stats().cookie_mode);
        // Those that began last have had twenty of their thirty seconds.
        assert!(
            succeeded.len() * 100 >= HONEST * 95,
            "{} of {HONEST}, {owns_addresses}",
            succeeded.len()
        );
        pair.client.handle = first;
        assert!(
            pair.transfer(Way::Up, 50_000, LIMIT),
            "the first connection stands"
        );
    }
}

fn count_connected(pair: &mut Pair, succeeded: &mut std::collections::BTreeSet<usize>) {
    let connected = pair
        .client
        .events
        .iter()
        .filter(|event| matches!(event, Event::Connected(_)))
        .count();
    succeeded.extend(1..connected);
}

#[test]
fn kinds_a_relay_does_not_take_are_silence_under_load_too() {
    let (mut pair, mut envelopes) = under_load(15);
    for kind in [
        EnvelopeType::Retry,
        EnvelopeType::ServerHello,
        EnvelopeType::HandshakeClose,
    ] {
        let header = EnvelopeHeader {
            kind,
            ..Envelopes::header([3; 8], 100)
        };
        let datagram = envelopes.seal(&header, &[0; 100], 1232);
        pair.inject(Way::Up, stranger(4), &datagram);
    }
    assert_eq!(drops(&pair, DropReason::EnvelopeKind), 3);
    assert!(pair.record.is_empty());
}
