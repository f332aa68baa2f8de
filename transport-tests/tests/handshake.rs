//! The handshake against loss, damage, copies, strangers and wrong clocks. What is not right meets silence.

use std::collections::BTreeSet;
use std::time::Duration;

use transport_core::{
    Access, Bundle, CloseReason, ConnectError, DropReason, Endpoint, EndpointConfig, Entropy, EntropyFailed,
    Peer, Suite, SuiteChoice, TransportConfig,
};
use transport_crypto::{ENVELOPE_OVERHEAD, HandshakeFailure};
use transport_tests::misbehave::{Envelopes, hello};
use transport_tests::pair::{
    Options, Pair, Passing, RELAY, Relay, Way, client_address, client_identity, stranger,
};

const LIMIT: Duration = Duration::from_secs(20);

/// Datagrams of an undisturbed handshake, up to both ends' confirmation.
fn undisturbed(options: Options) -> Vec<Passing> {
    let mut pair = Pair::new(options);
    assert!(pair.run_until(LIMIT, Pair::is_connected));
    pair.run_for(Duration::from_millis(100));
    pair.record.clone()
}

fn of_way(record: &[Passing], way: Way) -> Vec<Vec<u8>> {
    record
        .iter()
        .filter(|passing| passing.way == way)
        .map(|passing| passing.bytes.clone())
        .collect()
}

fn enrolled(seed: u64) -> Options {
    let identity = client_identity(seed);
    Options {
        access: Access::AllowList(BTreeSet::from([identity.client_id()])),
        identity: Some(identity),
        ..Options::new(seed)
    }
}

#[test]
fn completes_with_both_suites_anonymous_and_enrolled() {
    for (suite, expected) in [
        (SuiteChoice::ChaCha20Poly1305, Suite::ChaCha20Poly1305),
        (SuiteChoice::Aes256Gcm, Suite::Aes256Gcm),
    ] {
        for options in [Options::new(1), enrolled(2)] {
            let client_id = options
                .identity
                .as_ref()
                .map(transport_core::ClientIdentity::client_id);
            let options = Options { suite, ..options }.with(|transport| transport.aes = true);
            let mut pair = Pair::connected(options);
            let (client, server) = (pair.client.info().unwrap(), pair.server.info().unwrap());
            assert_eq!((client.suite, server.suite), (expected, expected));
            assert_eq!(client.peer, Peer::Relay(RELAY.bundle.relay_id()));
            assert_eq!(server.peer, client_id.map_or(Peer::Anonymous, Peer::Client));
            assert_eq!(client.handshake, Duration::from_millis(40), "one round trip");
            assert!(pair.transfer(Way::Up, 50_000, LIMIT) && pair.transfer(Way::Down, 50_000, LIMIT));
            assert_eq!(
                pair.client.endpoint.stats().drops.total() + pair.server.endpoint.stats().drops.total(),
                0
            );
        }
    }
}

/// Every byte of every datagram of the hello, flipped: silence each time, one drop each time; the honest ones then work.
#[test]
fn a_damaged_byte_anywhere_in_the_hello_is_silence() {
    for options in [Options::new(3), enrolled(4)] {
        let mut pair = Pair::new(options);
        pair.hook(Passing::lose);
        pair.settle();
        let honest = of_way(&pair.record, Way::Up);
        assert!(honest.len() >= 3);
        for (index, datagram) in honest.iter().enumerate() {
            for at in 0..datagram.len() {
                let mut damaged = datagram.clone();
                damaged[at] ^= 1 << (at % 8);
                pair.inject(Way::Up, client_address(), &damaged);
                assert_eq!(pair.sent_to(client_address()), 0, "datagram {index}, byte {at}");
            }
        }
        let stats = pair.server.endpoint.stats();
        let damaged: usize = honest.iter().map(Vec::len).sum();
        assert_eq!(
            stats.drops.get(DropReason::Unknown) + stats.drops.get(DropReason::EnvelopeForged),
            damaged as u64
        );
        assert_eq!((stats.half_open, stats.connections), (0, 0));
        pair.hook(|_| {});
        pair.inject_all(Way::Up, client_address(), &honest);
        assert!(
            pair.run_until(Duration::from_secs(1), Pair::is_connected),
            "what was damaged left no trace"
        );
    }
}

/// The same for the relay's answer, and for the first packets under the new keys in both directions.
#[test]
fn a_damaged_byte_anywhere_in_the_answer_is_ignored() {
    for options in [Options::new(5), enrolled(6)] {
        let mut pair = Pair::new(options);
        pair.hook(|passing| {
            if passing.way == Way::Down {
                passing.lose();
            }
        });
        pair.run_for(Duration::from_millis(500));
        let honest = of_way(&pair.record, Way::Down);
        assert!(honest.len() >= 2);
        let said = pair.record.len();
        for datagram in &honest {
            for at in 0..datagram.len() {
                let mut damaged = datagram.clone();
                damaged[at] ^= 0x80 >> (at % 8);
                pair.inject(Way::Down, transport_tests::pair::server_address(), &damaged);
            }
        }
        assert!(pair.client.events.is_empty());
        assert_eq!(pair.record.len(), said, "the client answers damage");
        let damaged: usize = honest.iter().map(Vec::len).sum();
        assert_eq!(pair.client.endpoint.stats().drops.total(), damaged as u64);
        pair.inject_all(Way::Down, transport_tests::pair::server_address(), &honest);
        assert!(pair.client.info().is_some());
        let first = pair.record.last().cloned().expect("the client's first packet");
        assert_eq!(first.way, Way::Up);
        for at in 0..first.bytes.len() {
            let mut damaged = first.bytes.clone();
            damaged[at] ^= 1 << (at % 7);
            pair.inject(Way::Up, client_address(), &damaged);
            assert!(
                pair.server.info().is_none(),
                "a connection from a damaged packet: byte {at}"
            );
        }
        pair.hook(|_| {});
        assert!(pair.run_until(LIMIT, Pair::is_connected));
    }
}

/// Whole handshakes in which one datagram after the other is damaged on its way, at a place that differs each time.
#[test]
fn handshakes_repair_damage() {
    let positions = undisturbed(Options::new(7)).len() as u64;
    for seed in 0..4 {
        for position in 0..positions {
            let mut pair = Pair::new(Options::new(seed));
            let mut seen = 0;
            pair.hook(move |passing| {
                if seen == position {
                    let at = (seed * 311 + position * 97) as usize % passing.bytes.len();
                    passing.bytes[at] ^= 0x10;
                }
                seen += 1;
            });
            assert!(
                pair.run_until(LIMIT, Pair::is_connected),
                "seed {seed}, datagram {position}"
            );
            assert!(
                pair.transfer(Way::Up, 3000, LIMIT) && pair.transfer(Way::Down, 3000, LIMIT),
                "seed {seed}, datagram {position}"
            );
        }
    }
}

#[test]
fn any_one_datagram_may_be_lost_and_any_two_in_a_row() {
    for options in [Options::new(8), enrolled(9)] {
        let positions = undisturbed(options.clone()).len() as u64;
        assert!(positions >= 6);
        for position in 0..positions {
            for length in 1..=2 {
                let mut pair = Pair::new(options.clone());
                let mut seen = 0;
                pair.hook(move |passing| {
                    if (position..position + length).contains(&seen) {
                        passing.lose();
                    }
                    seen += 1;
                });
                assert!(
                    pair.run_until(Duration::from_secs(4), Pair::is_connected),
                    "{length} lost from {position} on"
                );
                assert!(
                    pair.transfer(Way::Up, 3000, LIMIT),
                    "{length} lost from {position} on"
                );
            }
        }
    }
}

#[test]
fn whole_flights_may_be_lost() {
    for (way, count) in [
        (Way::Up, 3),
        (Way::Up, 8),
        (Way::Down, 2),
        (Way::Down, 4),
        (Way::Down, 6),
    ] {
        let mut pair = Pair::new(Options::new(10));
        pair.hook(move |passing| {
            if passing.way == way && passing.index < count {
                passing.lose();
            }
        });
        assert!(pair.run_until(LIMIT, Pair::is_connected), "{count} {way:?}");
        assert!(pair.transfer(Way::Down, 3000, LIMIT));
    }
}

#[test]
fn copies_and_disorder_change_nothing() {
    for seed in 0..20 {
        let options = if seed % 2 == 0 {
            Options::new(seed)
        } else {
            enrolled(seed)
        };
        let mut pair = Pair::new(options);
        pair.hook(move |passing| {
            // Late by an amount that turns the order around, and each one three times.
            let turn = (7 * passing.index + seed) % 5;
            passing.copies = (0..3)
                .map(|copy| Duration::from_millis(5 + 6 * (4 - turn) + 11 * copy))
                .collect();
        });
        assert!(
            pair.run_until(Duration::from_millis(900), Pair::is_connected),
            "no need to send again: seed {seed}"
        );
        pair.hook(|_| {});
        assert!(pair.transfer(Way::Up, 5000, LIMIT));
        let stats = pair.server.endpoint.stats();
        assert_eq!(
            (
                stats.handshakes_answered,
                stats.handshakes_completed,
                stats.connections
            ),
            (1, 1, 1)
        );
    }
}

#[test]
fn a_replayed_hello_is_not_answered() {
    let mut pair = Pair::connected(Options::new(11));
    let hello: Vec<Vec<u8>> = of_way(&pair.record, Way::Up).into_iter().take(3).collect();
    pair.record.clear();
    for (later, from) in [
        (0, client_address()),
        (1, stranger(1)),
        (60, client_address()),
        (600, stranger(2)),
        (1300, client_address()),
        (4000, client_address()),
    ] {
        pair.run_for(Duration::from_secs(later));
        pair.record.clear();
        pair.inject_all(Way::Up, from, &hello);
        assert!(
            pair.record.iter().all(|passing| passing.way == Way::Up),
            "an answer after {later} s to {from}"
        );
        assert_eq!(pair.server.endpoint.stats().handshakes_answered, 1);
    }
}

/// Whoever holds the bundle can open a captured hello's envelopes and seal it anew. From the same address it gets the same
/// answer at most, from another nothing.
#[test]
fn a_hello_in_new_envelopes_gets_the_old_answer_or_nothing() {
    let mut pair = Pair::idle(Options::new(12));
    let (_, body) = hello(12, *b"original", b"");
    let mut params = Vec::new();
    transport_tests::misbehave::generous()
        .encode(&mut params)
        .unwrap();
    let (_, good) = hello(13, *b"original", &params);
    let mut envelopes = Envelopes::new(12);
    let send = |pair: &mut Pair, envelopes: &mut Envelopes, from, body: &[u8]| {
        pair.record.clear();
        let datagrams = envelopes.fragments(*b"original", body, 1232 - ENVELOPE_OVERHEAD);
        pair.inject_all(Way::Up, from, &datagrams);
        pair.sent_to(from)
    };
    // Without an application label it is refused with a word, which is an answer too.
    assert!(send(&mut pair, &mut envelopes, client_address(), &body) < 500);
    let first = send(&mut pair, &mut envelopes, client_address(), &good);
    assert!(first > 1200);
    assert_eq!(pair.server.endpoint.stats().handshakes_answered, 1);
    assert_eq!(
        send(&mut pair, &mut envelopes, stranger(1), &good),
        0,
        "to another address"
    );
    send(&mut pair, &mut envelopes, client_address(), &good);
    assert_eq!(
        pair.server.endpoint.stats().handshakes_answered,
        1,
        "no second handshake for one hello"
    );
    pair.run_for(Duration::from_mins(1));
    assert_eq!(
        send(&mut pair, &mut envelopes, client_address(), &good),
        0,
        "long after"
    );
    assert_eq!(pair.server.endpoint.stats().handshakes_answered, 1);
}

#[test]
fn never_more_than_three_times_what_came() {
    for seed in 0..4 {
        let mut pair = Pair::new(if seed % 2 == 0 {
            Options::new(seed)
        } else {
            enrolled(seed)
        });
        // The client never hears the relay, and asks again and again.
        pair.hook(|passing| {
            if passing.way == Way::Down {
                passing.lose();
            }
        });
        for _ in 0..60 {
            pair.run_for(Duration::from_millis(500));
            let up: usize = of_way(&pair.record, Way::Up).iter().map(Vec::len).sum();
            assert!(pair.sent_to(client_address()) <= 3 * up);
        }
        assert!(pair.sent_to(client_address()) > 0);
        assert_eq!(pair.client.closed(), Some(&CloseReason::HandshakeTimeout));
    }
    // The smallest datagrams a client could send for a hello.
    let mut pair = Pair::idle(Options::new(14));
    let mut params = Vec::new();
    transport_tests::misbehave::generous()
        .encode(&mut params)
        .unwrap();
    let (_, body) = hello(14, *b"thriftys", &params);
    let mut received = 0;
    let mut envelopes = Envelopes::new(14);
    for round in 0..8 {
        for (index, part) in body.chunks(300).enumerate() {
            let mut header = Envelopes::header(*b"thriftys", body.len());
            (header.index, header.count, header.fragment_offset) = (index as u8, 9, (index * 300) as u16);
            let datagram = envelopes.seal(&header, part, part.len() + ENVELOPE_OVERHEAD);
            received += datagram.len();
            pair.inject(Way::Up, client_address(), &datagram);
            assert!(pair.sent_to(client_address()) <= 3 * received, "round {round}");
        }
        pair.run_for(Duration::from_secs(2));
    }
}

#[test]
fn the_uninvited_meet_silence() {
    let listed = enrolled(15).access;
    let cases = [
        (
            "an anonymous client",
            Options {
                access: listed.clone(),
                ..Options::new(15)
            },
        ),
        (
            "another client",
            Options {
                access: listed,
                identity: Some(client_identity(99)),
                ..Options::new(16)
            },
        ),
        (
            "another relay's bundle",
            Options {
                bundle: Relay::new(2).bundle,
                ..Options::new(17)
            },
        ),
    ];
    for (who, options) in cases {
        let mut pair = Pair::new(options);
        pair.run_for(Duration::from_secs(40));
        assert!(of_way(&pair.record, Way::Down).is_empty(), "{who} got an answer");
        assert_eq!(
            pair.client.closed(),
            Some(&CloseReason::HandshakeTimeout),
            "{who}"
        );
        let stats = pair.server.endpoint.stats();
        assert!(
            stats.drops.total() > 0 && stats.half_open == 0 && stats.connections == 0,
            "{who}"
        );
    }
}

#[test]
fn another_application_is_told_so() {
    let mut pair = Pair::new(Options {
        app: b"something-else/1".to_vec(),
        ..Options::new(18)
    });
    pair.run_for(Duration::from_secs(5));
    let Some(CloseReason::Refused { code }) = pair.client.closed() else {
        panic!("{:?}", pair.client.closed())
    };
    assert_eq!(*code, 0x178);
    let said = pair.client.closed().unwrap().to_string();
    assert!(said.contains("application protocol"), "{said}");
    assert_eq!(pair.server.endpoint.stats().connections, 0);
}

#[test]
fn no_two_handshakes_share_a_key() {
    let mut secrets = BTreeSet::new();
    for seed in [19, 20] {
        let mut pair = Pair::connected(Options {
            identity: Some(client_identity(1)),
            ..Options::new(seed)
        });
        for round in 0..3 {
            if round > 0 {
                // The same endpoints again.
                pair.server.handle = None;
                pair.server.events.clear();
                pair.client.events.clear();
                pair.dial().unwrap();
                assert!(pair.run_until(LIMIT, Pair::is_connected));
            }
            let mut secret = [[0; 32]; 3];
            pair.client.connection().export(b"EXPORTER test", &mut secret[0]);
            pair.server.connection().export(b"EXPORTER test", &mut secret[1]);
            pair.client.connection().export(b"EXPORTER other", &mut secret[2]);
            assert_eq!(secret[0], secret[1]);
            assert!(secrets.insert(secret[0]) && secrets.insert(secret[2]));
        }
    }
}

#[test]
fn clocks_may_differ_by_nine_minutes_and_not_by_eleven() {
    for (minutes, fine) in [(-11, false), (-9, true), (9, true), (11, false)] {
        let mut pair = Pair::new(Options {
            skew_ms: minutes * 60_000,
            ..Options::new(21)
        });
        // Just started, a relay takes nothing from before; so it has been running for a while.
        if minutes < 0 {
            pair = Pair::idle(Options {
                skew_ms: minutes * 60_000,
                ..Options::new(22)
            });
            pair.inject(
                Way::Up,
                stranger(1),
                &Envelopes::new(22).fragments(*b"wake up!", &[0; 40], 40)[0],
            );
            pair.run_for(Duration::from_mins(20));
            pair.record.clear();
            pair.dial().unwrap();
        }
        let connected = pair.run_until(Duration::from_secs(29), Pair::is_connected);
        assert_eq!(connected, fine, "{minutes} minutes");
        assert_eq!(
            of_way(&pair.record, Way::Down).is_empty(),
            !fine,
            "{minutes} minutes"
        );
    }
}

#[test]
fn a_relay_that_starts_again_takes_new_clients_and_no_old_hellos() {
    let mut pair = Pair::connected(Options::new(23));
    pair.run_for(Duration::from_mins(5));
    let hello: Vec<Vec<u8>> = of_way(&pair.record, Way::Up).into_iter().take(3).collect();
    pair.restart_server();
    pair.record.clear();
    pair.inject_all(Way::Up, client_address(), &hello);
    assert_eq!(pair.sent_to(client_address()), 0, "a hello from before the start");
    pair.client.events.clear();
    pair.dial().unwrap();
    assert!(pair.run_until(LIMIT, Pair::is_connected));
    assert!(pair.transfer(Way::Up, 10_000, LIMIT));
}

struct Broken {
    good: u32,
}

impl Entropy for Broken {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFailed> {
        self.good = self.good.checked_sub(1).ok_or(EntropyFailed)?;
        out.fill(self.good as u8);
        Ok(())
    }
}

#[test]
fn without_entropy_there_is_an_error_and_no_weak_hello() {
    let pair = Pair::idle(Options::new(24));
    let mut errors = 0;
    for good in 0..10 {
        let config = EndpointConfig {
            server: None,
            transport: TransportConfig::default(),
            observer: None,
        };
        let mut client = Endpoint::new(config, [1; 32], Box::new(Broken { good }));
        let handle = match client.connect(pair.now(Way::Up), pair.target()) {
            Ok(handle) => handle,
            Err(error) => {
                assert_eq!(
                    error,
                    ConnectError::Handshake(HandshakeFailure::EntropyFailed),
                    "{error}"
                );
                errors += 1;
                assert_eq!(client.stats().dialing, 0);
                continue;
            }
        };
        client.cancel(pair.now(Way::Up), handle);
    }
    assert!((1..10).contains(&errors), "{errors}");
}

#[test]
fn a_bundle_out_of_its_time_is_refused_at_once() {
    let days = |days: i64| days * 86_400_000;
    for skew_ms in [days(-3), days(40)] {
        let mut pair = Pair::idle(Options {
            skew_ms,
            ..Options::new(25)
        });
        let error = pair.dial().unwrap_err();
        assert!(matches!(error, ConnectError::Bundle(_)), "{error}");
        assert!(pair.record.is_empty());
    }
    let changed = RELAY
        .bundle
        .bytes()
        .iter()
        .enumerate()
        .map(|(at, byte)| if at == 100 { byte ^ 1 } else { *byte });
    assert!(Bundle::parse(&changed.collect::<Vec<u8>>()).is_err());
}
