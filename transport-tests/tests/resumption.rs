//! Tickets: given, kept, used once; and what happens where one is not good.

use std::collections::BTreeSet;
use std::time::Duration;

use transport_core::{Access, ClientTicket, CloseReason, DropReason, Event, SuiteChoice, TicketOptions};
use transport_tests::pair::{Options, Pair, Relay, Way, client_identity};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(20);

fn tickets(pair: &mut Pair) -> Vec<ClientTicket> {
    std::iter::from_fn(|| pair.take_ticket()).collect()
}

/// A pair that was connected and is no more, and the tickets that are left of it.
fn parted(options: Options) -> (Pair, Vec<ClientTicket>) {
    let mut pair = Pair::connected(options);
    let tickets = tickets(&mut pair);
    assert_eq!(tickets.len(), 2);
    pair.hang_up();
    (pair, tickets)
}

fn drops(pair: &Pair, reason: DropReason) -> u64 {
    pair.server.endpoint.stats().drops.get(reason)
}

/// Whether both ends say that the ticket was used, and the time it took.
fn comes_back(pair: &mut Pair, ticket: ClientTicket) -> (bool, Duration) {
    let began = pair.elapsed();
    pair.come_back(ticket, false);
    assert!(pair.run_until(LONG, Pair::is_connected), "no handshake");
    let took = pair.client.info().expect("connected").handshake;
    let [here, there] = [&pair.client, &pair.server].map(|end| end.info().expect("connected").resumed);
    assert_eq!(here, there);
    assert!(pair.transfer(Way::Up, 5000, LONG) && pair.transfer(Way::Down, 10_000, LONG));
    assert!(pair.since(began) < LONG);
    (here, took)
}

#[test]
fn two_tickets_come_at_confirmation_and_each_resumes() {
    for (suite, identity) in [
        (SuiteChoice::ChaCha20Poly1305, None),
        (SuiteChoice::Auto, Some(client_identity(3))),
    ] {
        let options = Options {
            suite,
            identity: identity.clone(),
            ..Options::new(1)
        };
        let (mut pair, tickets) = parted(options);
        assert_ne!(tickets[0].ticket, tickets[1].ticket);
        assert_eq!(pair.server.endpoint.stats().tickets_issued, 2);
        for (count, ticket) in tickets.into_iter().enumerate() {
            let stored = ClientTicket::from_bytes(&ticket.to_bytes()).expect("what was written");
            let (resumed, took) = comes_back(&mut pair, stored);
            assert!(resumed);
            assert_eq!(took, 40 * MS, "one round trip");
            let hello = pair
                .record
                .iter()
                .filter(|passing| passing.way == Way::Up && passing.index < 100);
            assert!(hello.count() >= 2);
            let peer = pair.server.info().expect("connected").peer;
            assert_eq!(
                peer,
                identity
                    .as_ref()
                    .map_or(transport_core::Peer::Anonymous, |identity| {
                        transport_core::Peer::Client(identity.client_id())
                    })
            );
            for end in [&pair.client, &pair.server] {
                assert_eq!(end.endpoint.stats().resumed, count as u64 + 1);
                assert_eq!(end.info().expect("connected").early_accepted, None);
            }
            pair.hang_up();
        }
    }
}

#[test]
fn a_ticket_makes_the_hello_smaller() {
    let first_flight = |pair: &Pair| {
        let began = pair.record.first().expect("a hello").at;
        pair.record
            .iter()
            .filter(|passing| passing.way == Way::Up && passing.at == began)
            .count()
    };
    let identity = Some(client_identity(5));
    let (mut pair, mut tickets) = parted(Options {
        identity,
        ..Options::new(2)
    });
    assert_eq!(first_flight(&pair), 4);
    assert!(comes_back(&mut pair, tickets.remove(0)).0);
    assert_eq!(
        first_flight(&pair),
        2,
        "neither ciphertext to the relay's key nor the client's own"
    );
}

#[test]
fn lost_tickets_come_again_and_new_places_bring_another() {
    let mut pair = Pair::new(Options::new(3));
    // Everything the relay says after its answer, two datagrams, is lost for half a second.
    let mut said = 0;
    pair.hook(move |passing| {
        said += u32::from(passing.way == Way::Down);
        if said > 2 && passing.way == Way::Down && passing.at < 500 * MS {
            passing.lose();
        }
    });
    assert!(pair.run_until(LONG, Pair::is_connected));
    pair.run_for(450 * MS);
    assert_eq!(tickets(&mut pair).len(), 0);
    pair.run_for(Duration::from_secs(3));
    let mut got = tickets(&mut pair);
    assert_eq!((got.len(), pair.server.endpoint.stats().tickets_issued), (2, 2));
    pair.address.set_port(50_001);
    assert!(pair.transfer(Way::Up, 5000, LONG));
    pair.run_for(Duration::from_secs(1));
    got.extend(tickets(&mut pair));
    assert_eq!((got.len(), pair.server.endpoint.stats().tickets_issued), (3, 3));
    let different: BTreeSet<Vec<u8>> = got.iter().map(|ticket| ticket.ticket.to_vec()).collect();
    assert_eq!(different.len(), 3);
}

#[test]
fn a_ticket_that_cannot_fit_is_not_even_sent() {
    let day = Duration::from_hours(24);
    // Too old.
    let (mut pair, mut old) = parted(Options::new(4));
    pair.run_for(day);
    assert_eq!(comes_back(&mut pair, old.remove(0)), (false, 40 * MS));
    // Another relay's.
    let (mut pair, mut ours) = parted(Options::new(5));
    let mut foreign = ours.remove(0).to_bytes().to_vec();
    foreign[1] ^= 1;
    let foreign = ClientTicket::from_bytes(&foreign).expect("a ticket");
    assert_ne!(foreign.relay_id, Relay::new(1).bundle.relay_id());
    assert_eq!(comes_back(&mut pair, foreign), (false, 40 * MS));
    // Another identity's, an anonymous one's.
    let identity = Some(client_identity(6));
    let (_, mut anonymous) = parted(Options::new(6));
    for ticket in [
        parted(Options {
            identity: Some(client_identity(7)),
            ..Options::new(6)
        })
        .1
        .remove(0),
        anonymous.remove(0),
    ] {
        let mut pair = Pair::connected(Options {
            identity: identity.clone(),
            ..Options::new(6)
        });
        pair.hang_up();
        assert_eq!(comes_back(&mut pair, ticket), (false, 40 * MS));
    }
}

#[test]
fn a_relay_that_lost_its_keys_is_silent_and_a_full_handshake_follows() {
    let (mut pair, mut tickets) = parted(Options::new(7));
    pair.restart_server();
    let (resumed, took) = comes_back(&mut pair, tickets.remove(0));
    assert!(!resumed);
    // Two hellos with the ticket, at 0 and 250 ms; the full one at 750 ms.
    assert_eq!(took, 790 * MS);
    assert_eq!(drops(&pair, DropReason::TicketInvalid), 1, "the second was known");
}

#[test]
fn an_answer_to_the_ticket_counts_though_a_full_hello_is_on_its_way() {
    // The ticket knows a short way; the new one is long.
    let (mut pair, mut tickets) = parted(Options::new(8));
    pair.hook(|passing| passing.copies.iter_mut().for_each(|delay| *delay = 450 * MS));
    let (resumed, took) = comes_back(&mut pair, tickets.remove(0));
    assert_eq!((resumed, took), (true, 900 * MS));
    assert_eq!(pair.client.endpoint.stats().dialing, 0);
}

#[test]
fn a_relay_without_tickets_gives_none_and_takes_none() {
    let (mut pair, mut tickets) = parted(Options::new(9));
    pair.reconfigure(|options| options.tickets.count = 0);
    assert!(!comes_back(&mut pair, tickets.remove(0)).0);
    pair.run_for(LONG);
    assert!(pair.take_ticket().is_none());
    assert_eq!(drops(&pair, DropReason::TicketInvalid), 1);
}

#[test]
fn ticket_keys_change_and_open_tickets_of_the_time_before() {
    let hours = |hours| Duration::from_hours(hours);
    let (mut pair, mut tickets) = parted(Options::new(10));
    pair.run_for(hours(13));
    assert!(comes_back(&mut pair, tickets.remove(0)).0);
}

#[test]
fn fleets_share_keys() {
    let options = Options {
        fleet: Some([7; 32]),
        ..Options::new(11)
    };
    let (mut pair, mut tickets) = parted(options);
    pair.restart_server();
    assert!(comes_back(&mut pair, tickets.remove(0)).0);
    pair.hang_up();
    pair.reconfigure(|options| options.fleet = Some([8; 32]));
    assert!(!comes_back(&mut pair, tickets.remove(0)).0);
}

#[test]
fn tickets_of_the_revoked_are_dead() {
    let identity = client_identity(12);
    let options = Options {
        identity: Some(identity.clone()),
        access: Access::AllowList([identity.client_id()].into()),
        ..Options::new(12)
    };
    let (mut pair, mut tickets) = parted(options);
    pair.come_back(tickets.remove(0), false);
    assert!(pair.run_until(LONG, Pair::is_connected));
    pair.hang_up();
    let now = pair.now(Way::Down);
    pair.server
        .endpoint
        .replace_access(now, Access::AllowList(BTreeSet::new()));
    pair.come_back(tickets.remove(0), true);
    pair.run_for(Duration::from_secs(40));
    assert_eq!(pair.client.closed(), Some(&CloseReason::HandshakeTimeout));
    // The ticket, and the full hello that followed.
    assert_eq!(drops(&pair, DropReason::AccessDenied), 2);
    assert_eq!(pair.sent_to(pair.address), 0, "silence");
}

#[test]
fn the_connection_of_a_ticket_that_is_lost_in_flight_is_a_full_one() {
    let (mut pair, mut tickets) = parted(Options::new(13));
    // The relay ends between the two flights, and its answer is lost.
    let until = pair.elapsed() + 500 * MS;
    pair.hook(move |passing| {
        if passing.way == Way::Down && passing.at < until {
            passing.lose();
        }
    });
    pair.come_back(tickets.remove(0), false);
    pair.run_for(25 * MS);
    assert_eq!(pair.server.endpoint.stats().half_open, 1);
    pair.restart_server();
    assert!(pair.run_until(LONG, Pair::is_connected));
    assert!(pair.transfer(Way::Up, 5000, LONG));
}

#[test]
fn nothing_is_shown_of_a_ticket() {
    let mut pair = Pair::connected(Options::new(14));
    let event = pair
        .client
        .events
        .iter()
        .find(|event| matches!(event, Event::Ticket(_)));
    assert_eq!(format!("{:?}", event.expect("a ticket")), "Ticket(Ticket { .. })");
    let limits = TicketOptions::default();
    assert_eq!((limits.count, limits.early_bytes), (2, 0));
    assert_eq!(pair.take_ticket().expect("a ticket").max_early, 0);
}
