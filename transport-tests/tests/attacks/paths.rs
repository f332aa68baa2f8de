//! Addresses that are not what they seem, and paths on which the wrong packet is lost.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use transport_core::wire::frame::Frame;
use transport_core::{Direction, Event};
use transport_tests::house::root;
use transport_tests::house::source;
use transport_tests::misbehave::{Raw, encode, generous};
use transport_tests::oracle::memory::{Counting, cpu_ns};
use transport_tests::pair::{Options, Pair, Transfer, Way, client_address, stranger};

use crate::{ended, forget_what_is_sent, pair};

const LIMIT: Duration = Duration::from_secs(30);

/// Spoofed source in the first packet: a client takes part in the handshake from its own address, and sends its first packet
/// in a victim's name. What the relay then has to say goes where its answer arrived; the victim gets three times at most.
#[test]
fn a_first_packet_in_another_name_brings_that_place_no_flood() {
    let mut pair = Pair::idle(Options::new(1));
    let mut raw = Raw::shake_hands(&mut pair, 1, &generous());
    let victim = stranger(9);
    let mut received = 0;
    for round in 0..50u64 {
        let datagram = raw.seal(&encode(&[Frame::Ping]));
        received += datagram.len();
        pair.inject(Way::Up, victim, &datagram);
        if round == 0 {
            assert_eq!(pair.server.connection().remote(), client_address());
            let id = pair.server.connection().open(Direction::Uni).unwrap();
            let _ = pair.server.connection().write(id, &vec![1; 500_000]);
        }
        pair.run_for(Duration::from_millis(50));
        assert!(
            pair.sent_to(victim) <= 3 * received,
            "{} bytes for {received}",
            pair.sent_to(victim)
        );
    }
    assert_eq!(pair.server.connection().remote(), client_address());
    assert!(pair.sent_to(client_address()) > 10_000);
}

/// CVE-2025-29785 (quic-go): a path probe is lost in the wrong moment. After a move each of the next packets of either
/// direction is lost once, the challenges and the answers among them; the connection moves every time.
#[test]
fn whichever_packet_of_a_move_is_lost_the_connection_moves() {
    for way in [Way::Up, Way::Down] {
        for lost in 0..8 {
            let mut pair = Pair::connected(Options::new(lost));
            let mut both = [
                Transfer::open(&mut pair, Way::Up, 60_000),
                Transfer::open(&mut pair, Way::Down, 60_000),
            ];
            pair.address = ([10, 0, 3, 3], 1234).into();
            let left = Rc::new(Cell::new(lost));
            let hits = Rc::new(Cell::new(0));
            let (count, hit) = (left.clone(), hits.clone());
            pair.hook(move |passing| {
                if passing.way == way && hit.get() == 0 {
                    if count.get() == 0 {
                        passing.lose();
                        hit.set(1);
                    }
                    count.set(count.get().wrapping_sub(1));
                }
            });
            assert!(pair.exchange(&mut both, LIMIT), "{way:?} {lost}");
            assert_eq!(hits.get(), 1, "{way:?} {lost}: nothing was lost");
            assert_eq!(pair.server.connection().remote(), pair.address);
            assert!(pair.server.closed().is_none() && pair.client.closed().is_none());
        }
    }
}

/// CVE-2023-49295 (quic-go), CVE-2023-6193 (quiche): challenges without end while nothing is acknowledged. Four answers wait
/// at most; memory and the cost of a packet stay the same.
#[test]
fn a_hundred_thousand_challenges_hold_nothing() {
    let (mut pair, mut raw) = pair(2);
    forget_what_is_sent(&mut pair, &mut raw);
    let packet = |round: u64| {
        let challenges: Vec<Frame<'_>> = (0..100)
            .map(|index| Frame::PathChallenge((round * 100 + index).to_be_bytes()))
            .collect();
        encode(&challenges)
    };
    raw.say_bytes(&mut pair, &packet(0));
    let (held, mut halves) = (Counting::held(), [0; 2]);
    for (half, spent) in halves.iter_mut().enumerate() {
        let before = cpu_ns();
        for round in 0..500 {
            raw.say_bytes(&mut pair, &packet(500 * half as u64 + round));
        }
        *spent = cpu_ns() - before;
    }
    assert_eq!(ended(&pair), None);
    let grown = Counting::held() - held;
    assert!(grown < 64 << 10, "{grown} bytes more");
    assert!(halves[1] < 3 * halves[0], "{halves:?} ns");
    let stats = pair.server.connection().stats();
    assert!(stats.sent_bytes < 100_000, "{} bytes sent", stats.sent_bytes);
}

/// Answers to challenges that were never asked, from everywhere: nothing moves.
#[test]
fn answers_to_no_challenge_move_nothing() {
    let (mut pair, mut raw) = pair(3);
    for round in 0..1000u64 {
        let from = if round % 2 == 0 {
            client_address()
        } else {
            stranger(1 + round as u16 % 5)
        };
        let datagram = raw.seal(&encode(&[Frame::PathResponse(round.to_be_bytes())]));
        pair.inject(Way::Up, from, &datagram);
    }
    assert_eq!(ended(&pair), None);
    assert_eq!(pair.server.connection().remote(), client_address());
    let moved = |event: &Event| matches!(event, Event::PathChanged { .. });
    assert!(!pair.server.events.iter().any(moved));
}

/// CVE-2024-53259 (quic-go): a forged ICMP message lowers the path MTU. None is read: the socket's error queue is never
/// asked for, no raw socket is opened, and the kernel is told not to believe such messages for this socket.
#[test]
fn icmp_messages_are_not_read_and_not_believed() {
    let sources = source::all(&root());
    let rooms = [
        "transport-core/src",
        "transport-api/src/driver",
        "transport-api/src/endpoint",
    ];
    let mut probes = 0;
    for file in sources
        .iter()
        .filter(|file| rooms.iter().any(|room| file.path.starts_with(room)) && !file.is_test())
    {
        let file = file.product();
        for word in [
            "RECVERR",
            "MSG_ERRQUEUE",
            "IPPROTO_ICMP",
            "SOCK_RAW",
            "libc::IP_MTU,",
            "libc::IPV6_MTU,",
        ] {
            assert!(!file.code.contains(word), "{}: {word}", file.path);
        }
        probes += file.code.matches("PMTUDISC_PROBE").count();
    }
    assert_eq!(
        probes, 2,
        "both families ignore the kernel's estimate of the path MTU"
    );
}

/// Whatever is lost, the path MTU does not fall below the floor, and below what every connection begins with only when that does
/// not pass either.
#[test]
fn no_loss_lowers_the_path_mtu_below_its_floor() {
    let mut pair = Pair::connected(Options::new(4));
    pair.run_for(Duration::from_secs(5));
    assert!(pair.server.connection().stats().mtu > 1232);
    // An attacker on the way lets nothing large pass, then nothing at all, then everything.
    for (most, time, floor) in [(1300, 20, 1232), (700, 5, 1000), (0, 3, 1000), (1500, 30, 1000)] {
        let mut transfer = Transfer::open(&mut pair, Way::Down, 40_000);
        pair.hook(move |passing| {
            if passing.bytes.len() > most {
                passing.lose();
            }
        });
        pair.run_until(Duration::from_secs(time), |pair| transfer.drive(pair));
        assert!(pair.server.connection().stats().mtu >= floor, "{most}");
        assert!(pair.client.connection().stats().mtu >= floor, "{most}");
    }
    assert!(pair.transfer(Way::Down, 40_000, LIMIT));
}
