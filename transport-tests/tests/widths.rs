//! Paths of every width: found upwards and downwards, for handshakes and for data, and never lost for a mere outage.

use std::time::Duration;

use transport_core::{Class, DatagramDrop, DatagramOptions, Direction, Event, StreamEvent};
use transport_tests::pair::{Options, Pair, Passing, Transfer, Way, drive_all, faults};

const LIMIT: Duration = Duration::from_mins(1);
const V4: usize = 28;
const V6: usize = 48;

/// A way through which IP packets of more than `mtu` bytes do not come; `overhead`: of IP and UDP.
fn narrow(mtu: usize, overhead: usize) -> impl FnMut(&mut Passing) {
    move |passing| {
        if passing.bytes.len() + overhead > mtu {
            passing.lose();
        }
    }
}

/// The same, one way.
fn narrow_one(way: Way, most: usize) -> impl FnMut(&mut Passing) {
    move |passing| {
        if passing.way == way && passing.bytes.len() > most {
            passing.lose();
        }
    }
}

fn mtus(pair: &mut Pair) -> [usize; 2] {
    [&mut pair.client, &mut pair.server].map(|end| usize::from(end.connection().stats().mtu))
}

/// From the first datagram through a path of this width; what both ends found.
fn through(seed: u64, mtu: usize, overhead: usize) -> [usize; 2] {
    let mut pair = Pair::new(Options::new(seed));
    pair.hook(narrow(mtu, overhead));
    assert!(pair.run_until(LIMIT, Pair::is_connected), "no handshake at {mtu}");
    for way in [Way::Up, Way::Down] {
        assert!(pair.transfer(way, 300_000, LIMIT), "nothing passes at {mtu}");
    }
    pair.run_for(Duration::from_secs(10));
    mtus(&mut pair)
}

#[test]
fn every_mtu_from_1028_up_carries_handshake_and_data() {
    for (seed, mtu) in (0..).zip([
        1028, 1060, 1100, 1180, 1200, 1259, 1260, 1280, 1300, 1400, 1420, 1500,
    ]) {
        for found in through(seed, mtu, V4) {
            let most = mtu - V4;
            assert!(found <= most && most - found < 100, "{found} of {most}");
        }
    }
    for (seed, mtu) in (100..).zip([1048, 1100, 1200, 1279, 1280, 1400, 1480, 1500]) {
        for found in through(seed, mtu, V6) {
            let most = mtu - V6;
            assert!(found <= most && most - found < 100, "{found} of {most} over IPv6");
        }
    }
}

#[test]
fn links_of_well_known_sizes_are_used_to_the_last_byte() {
    for (mtu, overhead) in [
        (1100, V4),
        (1100, V6),
        (1200, V4),
        (1200, V6),
        (1280, V4),
        (1280, V6),
        (1500, V4),
        (1480, V4),
    ] {
        assert_eq!(through(7, mtu, overhead), [mtu - overhead; 2], "{mtu}");
    }
}

#[test]
fn ways_of_different_widths_do_not_harm_each_other() {
    for (seed, way) in [(1, Way::Up), (2, Way::Down)] {
        let mut pair = Pair::new(Options::new(seed));
        pair.hook(narrow_one(way, 1072));
        assert!(pair.run_until(LIMIT, Pair::is_connected));
        assert!(pair.transfer(Way::Up, 300_000, LIMIT) && pair.transfer(Way::Down, 300_000, LIMIT));
        pair.run_for(Duration::from_secs(10));
        let expected = match way {
            Way::Up => [1072, 1472],
            Way::Down => [1472, 1072],
        };
        assert_eq!(mtus(&mut pair), expected);
    }
}

#[test]
fn a_path_that_narrows_below_the_base_in_mid_transfer_goes_on() {
    for width in [1300, 1200, 1100, 1000] {
        let mut pair = Pair::connected(Options::new(3));
        let mut both = [
            Transfer::open(&mut pair, Way::Up, 1_000_000),
            Transfer::open(&mut pair, Way::Down, 1_000_000),
        ];
        pair.run_until(LIMIT, |pair| {
            drive_all(&mut both, pair);
            both[0].read > 400_000 && both[1].read > 400_000
        });
        assert_eq!(mtus(&mut pair), [1472; 2]);
        pair.hook(narrow(width, 0));
        let from = pair.elapsed();
        assert!(pair.exchange(&mut both, LIMIT), "starved at {width}");
        let took = pair.since(from);
        assert!(took < Duration::from_secs(12), "{took:?} at {width}");
        // The last packets may have passed by being small, before the probes said why.
        pair.run_for(Duration::from_secs(3));
        for found in mtus(&mut pair) {
            assert!(found <= width, "{found} at {width}");
        }
        let told =
            |event: &&Event| matches!(event, Event::MtuChanged { max_datagram } if *max_datagram < 1201);
        assert!(
            width > 1232 || pair.client.events.iter().any(|event| told(&event)),
            "{width}"
        );
    }
}

#[test]
fn one_round_trip_without_anything_keeps_the_size() {
    let mut pair = Pair::connected(Options::new(4));
    let mut both = [
        Transfer::open(&mut pair, Way::Up, 3_000_000),
        Transfer::open(&mut pair, Way::Down, 3_000_000),
    ];
    pair.run_until(LIMIT, |pair| {
        drive_all(&mut both, pair);
        both[0].read > 500_000
    });
    assert_eq!(mtus(&mut pair), [1472; 2]);
    for _ in 0..3 {
        let round_trip = pair.client.connection().stats().srtt;
        pair.hook(Passing::lose);
        pair.run_for(round_trip);
        pair.hook(|_| {});
        pair.run_for(Duration::from_millis(200));
        drive_all(&mut both, &mut pair);
    }
    assert!(pair.exchange(&mut both, LIMIT));
    for end in [&pair.client, &pair.server] {
        let smaller = end
            .events
            .iter()
            .filter(|event| matches!(event, Event::MtuChanged { max_datagram } if *max_datagram < 1400));
        assert_eq!(smaller.count(), 0, "an outage is no narrow path");
    }
}

#[test]
fn loss_by_chance_keeps_the_size() {
    for (seed, loss) in [(5, 0.02), (6, 0.10)] {
        let mut pair = Pair::connected(Options::new(seed));
        assert!(pair.transfer(Way::Up, 100_000, LIMIT));
        pair.hook(faults(seed, loss, 0.05, 0.0));
        assert!(pair.transfer(Way::Up, 2_000_000, LIMIT));
        assert_eq!(mtus(&mut pair)[0], 1472, "at {loss}");
    }
}

/// Keep-alives, acknowledgements and small messages pass; nothing of full size does.
#[test]
fn a_path_that_passes_small_packets_only_is_noticed() {
    let mut pair = Pair::connected(Options::new(8));
    assert!(pair.transfer(Way::Up, 300_000, LIMIT));
    pair.hook(narrow(1000, 0));
    let now = pair.now(Way::Up);
    let client = pair.client.connection();
    let id = client.open(Direction::Uni).expect("a stream");
    client.write(id, &vec![1; 200_000]).expect("room");
    client.finish(id).expect("open");
    let small = DatagramOptions {
        class: Class::Interactive,
        ..DatagramOptions::default()
    };
    client.send_datagram(now, vec![1; 20], small).expect("room");
    let noticed = pair.run_until(Duration::from_secs(8), |pair| {
        let told =
            |event: &Event| matches!(event, Event::MtuChanged { max_datagram } if *max_datagram < 1000);
        pair.client.events.iter().any(told)
    });
    assert!(noticed, "{:?}", pair.client.connection().stats());
}

#[test]
fn a_message_that_no_longer_fits_is_dropped_and_told_and_the_others_go() {
    let mut pair = Pair::connected(Options::new(9));
    assert!(pair.transfer(Way::Up, 300_000, LIMIT));
    let longest = pair.client.connection().max_datagram();
    pair.hook(narrow(1100, 0));
    let mut transfer = Transfer::open(&mut pair, Way::Up, 500_000);
    let mut sent = 0;
    let options = DatagramOptions {
        notify: true,
        ..DatagramOptions::default()
    };
    let over = pair.run_until(LIMIT, |pair| {
        let now = pair.now(Way::Up);
        let client = pair.client.connection();
        if client.datagram_queue().len < 2 {
            sent += u64::from(client.send_datagram(now, vec![1; longest], options).is_ok());
            client.send_datagram(now, vec![2; 500], options).expect("room");
            sent += 1;
        }
        transfer.drive(pair)
    });
    assert!(over, "messages too long for the path block the others");
    pair.run_for(Duration::from_secs(5));
    let stats = pair.client.connection().stats();
    let told = |why: Option<DatagramDrop>| {
        let mut told = 0;
        for event in &pair.client.events {
            told += u64::from(match event {
                Event::Stream(StreamEvent::DatagramDropped { why: this, .. }) => {
                    why.is_none_or(|why| why == *this)
                }
                Event::Stream(
                    StreamEvent::DatagramAcked { .. }
                    | StreamEvent::DatagramLost { .. }
                    | StreamEvent::DatagramExpired { .. },
                ) => why.is_none(),
                _ => false,
            });
        }
        told
    };
    assert_eq!(told(None), sent, "each message's fate is told once");
    assert_eq!(told(Some(DatagramDrop::TooLarge)), stats.datagrams_too_large);
}

#[test]
fn an_address_behind_a_narrow_path_is_proved_by_a_small_challenge() {
    let mut pair = Pair::connected(Options::new(10));
    assert!(pair.transfer(Way::Up, 100_000, LIMIT));
    let new = ([192, 168, 7, 7], 999).into();
    pair.address = new;
    pair.hook(narrow(1000, 0));
    assert!(pair.transfer(Way::Down, 200_000, LIMIT));
    assert_eq!(pair.server.connection().remote(), new);
    let heard = pair
        .record
        .iter()
        .filter(|passing| passing.from == new && passing.bytes.len() <= 1000);
    let heard: usize = heard.map(|passing| passing.bytes.len()).sum();
    assert!(heard > 0 && pair.server.connection().stats().path_changes == 1);
}

/// The large packets the client sent lately, as a router would quote them.
fn quotes(pair: &Pair) -> Vec<Vec<u8>> {
    let large = pair
        .record
        .iter()
        .filter(|passing| passing.way == Way::Up && passing.bytes.len() > 1000);
    large.map(|passing| passing.bytes[..28].to_vec()).collect()
}

#[test]
fn forged_claims_of_a_small_path_change_nothing() {
    let mut pair = Pair::connected(Options::new(11));
    assert!(pair.transfer(Way::Up, 300_000, LIMIT));
    let server = pair.client.connection().remote();
    let newest = quotes(&pair).pop().expect("a large packet");
    let endpoint = &mut pair.client.endpoint;
    for mtu in [0, 28, 68, 576, 1027, 1500, 1501, u16::MAX] {
        assert!(!endpoint.handle_too_big(server, mtu, &newest), "{mtu}");
    }
    for bytes in [vec![], vec![0; 28], newest[..15].to_vec(), newest[1..].to_vec()] {
        assert!(
            !endpoint.handle_too_big(server, 1280, &bytes),
            "not a packet of ours"
        );
    }
    assert!(
        !endpoint.handle_too_big(([10, 9, 9, 9], 1).into(), 1280, &newest),
        "not to there"
    );
    assert_eq!(
        (endpoint.stats().size_hints, endpoint.stats().size_hints_ignored),
        (0, 13)
    );
    // One that has seen a packet of ours gets no more than probes.
    for _ in 0..5 {
        let newest = quotes(&pair);
        let heeded = newest
            .iter()
            .rev()
            .any(|quote| pair.client.endpoint.handle_too_big(server, 1100, quote));
        assert!(heeded);
        assert!(pair.transfer(Way::Up, 100_000, LIMIT));
        // The answer to the question.
        pair.run_for(Duration::from_millis(200));
        assert_eq!(mtus(&mut pair)[0], 1472);
    }
    let smaller =
        |event: &&Event| matches!(event, Event::MtuChanged { max_datagram } if *max_datagram < 1400);
    assert_eq!(pair.client.events.iter().filter(smaller).count(), 0);
}

#[test]
fn the_fall_is_quick_and_the_size_right_with_a_true_claim_or_without() {
    let mut took = [Duration::ZERO; 2];
    for (told, took) in [false, true].into_iter().zip(&mut took) {
        let mut pair = Pair::connected(Options::new(12));
        assert!(pair.transfer(Way::Up, 300_000, LIMIT));
        let server = pair.client.connection().remote();
        pair.hook(narrow(1400, V4));
        let from = pair.elapsed();
        let mut transfer = Transfer::open(&mut pair, Way::Up, 2_000_000);
        let found = pair.run_until(LIMIT, |pair| {
            if told {
                let lost: Vec<_> = quotes(pair).split_off(quotes(pair).len().saturating_sub(8));
                for quote in lost {
                    pair.client.endpoint.handle_too_big(server, 1400, &quote);
                }
            }
            transfer.drive(pair);
            mtus(pair)[0] == 1372
        });
        assert!(found, "{:?}", mtus(&mut pair));
        *took = pair.since(from);
    }
    // Losses of large packets among small ones are as quick a sign; a claim may cost the exchange of a question at most.
    let slower = took[1].saturating_sub(took[0]);
    assert!(
        took[0] < Duration::from_secs(1) && slower < Duration::from_millis(20),
        "{took:?}"
    );
}
