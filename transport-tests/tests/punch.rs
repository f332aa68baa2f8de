//! Direct paths through NATs, between two ends that reach each other by a relay.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use transport_core::wire::frame::{Frame, NumberedAddress, PunchMeNow};
use transport_core::{By, CloseReason, DatagramOptions, Event, PathError, PathId, PathReason, PathState};
use transport_tests::misbehave::{Raw, outgoing};
use transport_tests::pair::{Options, Pair, Way};
use transport_tests::sim::nat::Kind;
use transport_tests::sim::peers::{Passing, Peers, Who};

const CLIENT: Who = Who::Client;
const SERVER: Who = Who::Server;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn options(seed: u64) -> Options {
    Options::new(seed).with(|transport| {
        transport.addresses.direct = true;
        transport.idle_timeout = Duration::from_mins(2);
    })
}

/// Two ends that have found their direct path.
fn direct(seed: u64) -> Peers {
    let mut peers = Peers::connected(&options(seed), Kind::PortRestricted, Kind::PortRestricted);
    peers.offer();
    assert!(peers.run_until(Duration::from_secs(3), Peers::are_direct));
    peers.run_for(ms(500));
    peers
}

/// How an end's paths changed, and why.
fn told(peers: &mut Peers, who: Who) -> Vec<(u32, PathState, PathReason)> {
    let change = |event: &Event| match event {
        Event::PathStateChanged { path, state, reason } => Some((path.get(), *state, *reason)),
        _ => None,
    };
    peers.peer(who).events.iter().filter_map(change).collect()
}

/// Packets and bytes that went to each address but the relay's.
fn sent(peers: &Peers) -> BTreeMap<SocketAddr, (usize, usize)> {
    let mut sent = BTreeMap::new();
    for passing in peers.record.iter().filter(|passing| !passing.relayed) {
        let (packets, bytes) = sent.entry(passing.to).or_insert((0, 0));
        *packets += 1;
        *bytes += passing.size;
    }
    sent
}

#[test]
fn every_pair_of_nats_is_direct_where_theory_allows_it() {
    let mut table = String::from("client \\ server");
    for kind in Kind::ALL {
        let _ = write!(table, " | {:>18}", kind.name());
    }
    for client in Kind::ALL {
        let _ = write!(table, "\n{:>18}", client.name());
        for server in Kind::ALL {
            let mut peers = Peers::connected(&options(1), client, server);
            let from = peers.elapsed();
            peers.offer();
            let found = peers.run_until(Duration::from_secs(20), Peers::are_direct);
            assert_eq!(found, client.meets(server), "{client:?} {server:?}");
            let took = peers.elapsed().saturating_sub(from);
            let result = if found {
                assert!(took < ms(500), "{client:?} {server:?}: {took:?}");
                format!("{} ms", took.as_millis())
            } else {
                "relayed".to_string()
            };
            let _ = write!(table, " | {result:>18}");
            let (gap, arrived) = peers.flow(1000, ms(10), Duration::from_secs(5));
            assert!(
                arrived >= 990 && gap < ms(50),
                "{client:?} {server:?}: {arrived}, {gap:?}"
            );
            assert_eq!(peers.are_direct(), found);
        }
    }
    println!("{table}");
}

#[test]
fn a_lossy_network_is_punched_as_well() {
    let mut found = 0;
    for seed in 0..20 {
        let mut peers = Peers::connected(&options(seed), Kind::PortRestricted, Kind::AddressRestricted);
        let mut rng = transport_tests::sim::rng::Rng::new(seed, "loss");
        peers.hook(move |passing: &mut Passing| passing.lost = rng.chance(0.1));
        peers.offer();
        found += u32::from(peers.run_until(Duration::from_secs(15), Peers::are_direct));
    }
    assert!(found >= 19, "{found} of 20");
}

#[test]
fn a_direct_path_that_is_cut_costs_less_than_a_second_and_is_found_again() {
    for seed in 0..4 {
        for gap in [2, 20, 100] {
            let mut peers = direct(seed);
            let cut = peers.elapsed() + Duration::from_secs(1);
            let until = cut + Duration::from_secs(4);
            peers.hook(move |passing: &mut Passing| {
                passing.lost = !passing.relayed && (cut..until).contains(&passing.at);
            });
            let (longest, _) = peers.flow(1000, ms(gap), Duration::from_secs(3));
            assert!(longest < ms(1000), "{longest:?}, a message each {gap} ms");
            assert!(!peers.is_direct(CLIENT) && !peers.is_direct(SERVER));
            let (longest, _) = peers.flow(1000, ms(gap), Duration::from_secs(20));
            assert!(longest < ms(250), "{longest:?}");
            assert!(
                peers.are_direct(),
                "it is not tried again: {:?}",
                told(&mut peers, CLIENT)
            );
        }
    }
}

#[test]
fn silence_does_not_close_the_holes_and_the_relayed_path_is_kept() {
    let mut peers = direct(5);
    peers.run_for(Duration::from_mins(10));
    assert!(peers.are_direct());
    let (gap, arrived) = peers.flow(1000, ms(10), Duration::from_secs(2));
    assert!(arrived >= 390 && gap < ms(50), "{arrived}, {gap:?}");
    let relayed = peers
        .connection(CLIENT)
        .paths()
        .find(|path| path.id == PathId::FIRST);
    assert_eq!(relayed.map(|path| path.state), Some(PathState::Standby));
}

#[test]
fn a_nat_that_forgets_costs_less_than_a_second() {
    for who in [CLIENT, SERVER] {
        let mut peers = direct(6);
        peers.flow(1000, ms(10), Duration::from_secs(1));
        peers.peer(who).nat.restart();
        let (gap, _) = peers.flow(1000, ms(10), Duration::from_secs(3));
        assert!(gap < ms(1000), "{who:?}: {gap:?}");
        // The relay sees other addresses now, and whoever asked it tells the peer.
        peers.offer();
        peers.flow(1000, ms(10), Duration::from_secs(30));
        assert!(peers.are_direct(), "{who:?}: {:?}", told(&mut peers, CLIENT));
    }
}

/// What a path for small packets alone carries.
fn small_only(from: Option<Who>) -> impl FnMut(&mut Passing) {
    move |passing| {
        let meant = from.is_none_or(|from| passing.from == from);
        passing.lost = !passing.relayed && meant && passing.size > 600;
    }
}

#[test]
fn a_path_that_takes_questions_but_no_data_is_never_chosen() {
    for from in [None, Some(CLIENT), Some(SERVER)] {
        let mut peers = Peers::connected(&options(7), Kind::FullCone, Kind::FullCone);
        peers.hook(small_only(from));
        peers.offer();
        let (gap, arrived) = peers.flow(1000, ms(10), Duration::from_secs(20));
        assert!(gap < ms(1000) && arrived > 3800, "{from:?}: {gap:?}, {arrived}");
        assert!(!peers.is_direct(CLIENT) && !peers.is_direct(SERVER), "{from:?}");
        let server = told(&mut peers, SERVER);
        assert!(
            server
                .iter()
                .all(|(path, state, _)| *path == 0 || *state != PathState::Active),
            "{from:?}: {server:?}"
        );
        if from != Some(SERVER) {
            assert!(
                !told(&mut peers, CLIENT)
                    .iter()
                    .any(|(.., reason)| *reason == PathReason::Direct)
            );
        }
    }
}

#[test]
fn a_path_that_comes_to_take_small_packets_alone_is_left() {
    for (seed, from) in [(8, None), (9, Some(CLIENT)), (10, Some(SERVER))] {
        // Small messages among the large ones, so that something is always acknowledged.
        let mut peers = direct(seed);
        peers.flow(1000, ms(5), Duration::from_secs(1));
        peers.hook(small_only(from));
        let mut gap = Duration::ZERO;
        let begun = peers.elapsed();
        while peers.elapsed() < begun + Duration::from_secs(2) {
            for len in [50, 50, 50, 1000] {
                for who in [CLIENT, SERVER] {
                    let now = peers.now();
                    let _ =
                        peers
                            .connection(who)
                            .send_datagram(now, vec![7; len], DatagramOptions::default());
                }
                // One packet each.
                peers.run_for(ms(2));
            }
            if peers.is_direct(CLIENT) || peers.is_direct(SERVER) {
                gap = peers.elapsed().saturating_sub(begun);
            }
        }
        assert!(gap < ms(1000), "{from:?}: on the bad path for {gap:?}");
        let told = [CLIENT, SERVER].map(|who| told(&mut peers, who));
        let starved = told
            .iter()
            .flatten()
            .any(|(.., reason)| *reason == PathReason::Starved);
        assert!(starved, "nothing else would notice: {told:?}");
    }
}

#[test]
fn who_must_be_relayed_neither_tries_nor_answers() {
    for who in [CLIENT, SERVER] {
        let mut options = options(11);
        match who {
            CLIENT => options.client.addresses.force_relay = true,
            SERVER => options.server.addresses.force_relay = true,
        }
        let mut peers = Peers::connected(&options, Kind::FullCone, Kind::FullCone);
        for who in [CLIENT, SERVER] {
            let (now, seen) = (peers.now(), peers.seen(who));
            let refused = peers.connection(who).offer_addresses(now, &[seen]);
            assert_eq!(refused, Err(PathError::NoDirect));
        }
        peers.run_for(Duration::from_mins(1));
        assert!(peers.record.iter().all(|passing| passing.relayed), "{who:?}");
    }
}

/// One end names addresses of people who have nothing to do with it, others every second.
fn hostile(who: Who) -> (Peers, usize) {
    let mut peers = Peers::connected(&options(12), Kind::FullCone, Kind::FullCone);
    peers.offer();
    peers.record.clear();
    let mut named = 0;
    for round in 0..100u8 {
        let victims: Vec<SocketAddr> = (0..10).map(|host| ([12, 0, round, host], 53).into()).collect();
        named += victims.len();
        let now = peers.now();
        let _ = peers.connection(who).offer_addresses(now, &victims);
        peers.run_for(Duration::from_secs(1));
    }
    (peers, named)
}

#[test]
fn whoever_names_a_thousand_addresses_gets_few_packets_to_any() {
    for who in [CLIENT, SERVER] {
        let (peers, named) = hostile(who);
        assert_eq!(named, 1000);
        let victims: BTreeMap<_, _> = sent(&peers)
            .into_iter()
            .filter(|(to, _)| to.ip().to_string().starts_with("12."))
            .collect();
        for (victim, (packets, bytes)) in &victims {
            assert!(
                *packets <= 4 && *bytes <= 1600,
                "{victim}: {packets} packets, {bytes} bytes"
            );
        }
        assert!(
            victims.len() <= 200,
            "{who:?}: {} of {named} addresses",
            victims.len()
        );
    }
}

#[test]
fn addresses_no_peer_may_name_get_nothing() {
    let forbidden: Vec<SocketAddr> = [
        "127.0.0.1:53",
        "[::1]:53",
        "169.254.169.254:80",
        "224.0.0.251:5353",
    ]
    .iter()
    .chain(&["192.168.0.1:80", "[fe80::1]:80", "[::ffff:127.0.0.1]:80"])
    .map(|text| text.parse().unwrap())
    .collect();
    for who in [CLIENT, SERVER] {
        let mut peers = Peers::connected(&options(13), Kind::FullCone, Kind::FullCone);
        let now = peers.now();
        peers.connection(who).offer_addresses(now, &forbidden).unwrap();
        let (now, own) = (peers.now(), peers.seen(who.other()));
        peers
            .connection(who.other())
            .offer_addresses(now, &[own])
            .unwrap();
        peers.run_for(Duration::from_mins(1));
        let to: Vec<SocketAddr> = sent(&peers).into_keys().collect();
        assert!(
            forbidden.iter().all(|address| !to.contains(address)),
            "{who:?}: {to:?}"
        );
    }
}

/// An end that agreed to look for a direct path, and a peer that breaks the rules of it.
#[test]
fn rules_of_addresses_have_their_codes() {
    let address = |port| ([11, 0, 0, 1], port).into();
    let add = |sequence, port| {
        Frame::AddAddress(NumberedAddress {
            sequence,
            address: address(port),
        })
    };
    let punch = |path| {
        Frame::PunchMeNow(PunchMeNow {
            round: 1,
            path,
            address: address(1),
        })
    };
    let cases = [
        (Way::Up, vec![punch(0)], Some(0x0a)),
        (Way::Up, vec![punch(4)], Some(0x0a)),
        (Way::Up, vec![punch(3), punch(3)], None),
        (Way::Up, vec![add(0, 1)], Some(0x0a)),
        (Way::Up, vec![Frame::RemoveAddress { sequence: 0 }], Some(0x0a)),
        (Way::Down, vec![punch(1)], Some(0x0a)),
        (Way::Down, vec![add(0, 1), add(0, 2)], Some(0x0a)),
        (Way::Down, vec![add(0, 1), add(0, 1), add(1, 1)], None),
        (Way::Down, vec![Frame::RemoveAddress { sequence: 1 << 40 }], None),
    ];
    for (seed, (way, frames, code)) in cases.into_iter().enumerate() {
        let seed = seed as u64;
        let options = Options::new(seed).outgoing();
        let (mut pair, mut raw) = if way == Way::Up {
            let mut pair = Pair::idle(options);
            let raw = Raw::join_saying(&mut pair, seed, &outgoing());
            (pair, raw)
        } else {
            let mut pair = Pair::new(options);
            let mut raw = Raw::stand_in(&mut pair, seed, &outgoing());
            raw.say(&mut pair, &[Frame::HandshakeDone]);
            (pair, raw)
        };
        raw.say(&mut pair, &frames);
        let by_rule = code.map(|code| CloseReason::Transport { code, by: By::Local });
        assert_eq!(
            pair.receiver(way).closed(),
            by_rule.as_ref(),
            "{way:?} {frames:?}"
        );
    }
}

#[test]
fn an_end_hears_where_it_is_seen_and_when_that_changes() {
    let mut options = options(14);
    options.client.addresses.ask = true;
    let mut peers = Peers::connected(&options, Kind::FullCone, Kind::FullCone);
    let by_relay = peers.connection(CLIENT).observed_address();
    assert!(by_relay.is_some());
    assert_eq!(
        peers.connection(SERVER).observed_address(),
        None,
        "it did not ask"
    );
    peers.offer();
    assert!(peers.run_until(Duration::from_secs(3), Peers::are_direct));
    peers.run_for(ms(200));
    let seen = peers.connection(CLIENT).observed_address();
    assert_eq!(seen, Some(peers.seen(CLIENT)), "the NAT shows one address to all");
    let told = |event: &Event| match event {
        Event::AddressObserved { address, .. } => Some(*address),
        _ => None,
    };
    let told: Vec<SocketAddr> = peers.client.events.iter().filter_map(told).collect();
    assert_eq!(told.first().copied(), by_relay);
    assert_eq!(told.last().copied(), seen);
}
