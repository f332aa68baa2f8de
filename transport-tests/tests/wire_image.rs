//! What an observer on the path sees: nothing but noise of varying lengths.
//!
//! Fixed seeds, so that what passed once passes again; the limits are in `oracle::uniform`.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use transport_core::SuiteChoice;
use transport_tests::oracle::uniform::{Image, Place};
use transport_tests::pair::{Options, Pair, Transfer, Way, client_identity};

const LIMIT: Duration = Duration::from_mins(1);
/// Bytes looked at from either end of a datagram.
const PLACES: usize = 64;
/// Packets of each cipher.
const PACKETS: usize = 100_000;
/// What either end sends in one connection, bytes.
const PART: u64 = 12_000_000;

fn connected(seed: u64, suite: SuiteChoice) -> Pair {
    let options = Options::new(seed).with(|config| config.aes = suite == SuiteChoice::Aes256Gcm);
    Pair::connected(Options { suite, ..options })
}

/// At least [`PACKETS`] packets of both directions: bulk one way, acknowledgements the other.
fn packets(suite: SuiteChoice, mut see: impl FnMut(Way, &[u8])) {
    let mut seen = 0;
    for seed in 0.. {
        let mut pair = connected(seed, suite);
        pair.record.clear();
        let mut transfers: Vec<Transfer> = [Way::Up, Way::Down]
            .map(|way| Transfer::open(&mut pair, way, PART))
            .into();
        assert!(pair.exchange(&mut transfers, LIMIT));
        for passing in pair.record.drain(..) {
            see(passing.way, &passing.bytes);
            seen += 1;
        }
        if seen >= PACKETS {
            return;
        }
    }
}

fn look(suite: SuiteChoice) {
    let mut image = Image::new(PLACES);
    let mut ways = [Image::new(PLACES), Image::new(PLACES)];
    let mut beginnings = HashSet::new();
    packets(suite, |way, bytes| {
        image.add(bytes);
        ways[usize::from(way == Way::Down)].add(bytes);
        let beginning: [u8; 8] = *bytes.first_chunk().expect("eight bytes");
        assert!(
            beginnings.insert(beginning),
            "a beginning, or a connection id, came twice"
        );
    });
    assert_eq!(image.faults(), Vec::<String>::new());
    for image in ways {
        assert_eq!(image.faults(), Vec::<String>::new());
    }
}

#[test]
fn packets_of_chacha_are_noise_at_every_offset() {
    look(SuiteChoice::ChaCha20Poly1305);
}

#[test]
fn packets_of_aes_are_noise_at_every_offset() {
    look(SuiteChoice::Aes256Gcm);
}

/// A connection that says next to nothing: the same short packets again and again.
#[test]
fn keep_alives_are_noise_at_every_offset() {
    let options = Options::new(9).with(|config| config.keep_alive = Some(Duration::from_secs(5)));
    let mut pair = Pair::connected(options);
    pair.record.clear();
    pair.run_for(Duration::from_mins(500));
    let mut image = Image::new(24);
    pair.record.iter().for_each(|passing| image.add(&passing.bytes));
    assert!(pair.record.len() > 10_000, "{}", pair.record.len());
    assert_eq!(image.faults(), Vec::<String>::new());
}

/// The datagrams of a handshake: those before the first packet of either end.
fn handshakes(count: u64, mut see: impl FnMut(Way, &[u8])) {
    for seed in 0..count {
        let mut options = Options::new(seed).with(|config| config.aes = seed % 2 == 0);
        options.identity = (seed % 3 == 0).then(|| client_identity(1));
        let mut pair = Pair::new(options);
        assert!(pair.run_until(LIMIT, |pair| pair.client.info().is_some()));
        for passing in pair.record.drain(..) {
            if passing.bytes.len() >= 200 {
                see(passing.way, &passing.bytes);
            }
        }
    }
}

#[test]
fn handshakes_are_noise_without_a_size_of_their_own() {
    let mut sizes: BTreeMap<(bool, usize), u64> = BTreeMap::new();
    let mut totals = [0; 2];
    let (mut image, mut first) = (Image::new(PLACES), Place::default());
    handshakes(700, |way, bytes| {
        let down = way == Way::Down;
        *sizes.entry((down, bytes.len())).or_default() += 1;
        totals[usize::from(down)] += 1;
        image.add(bytes);
        first.add(bytes[0]);
    });
    assert!(totals[0] > 2000 && totals[1] > 1400, "{totals:?}");
    for ((down, size), count) in sizes {
        let share = count as f64 / f64::from(totals[usize::from(down)]);
        assert!(
            share <= 0.02,
            "{size} bytes {}: {:.1} %",
            ["up", "down"][usize::from(down)],
            share * 100.0
        );
    }
    assert_eq!(image.faults(), Vec::<String>::new());
    assert_eq!(first.fault(), None);
}

/// The lengths of the first packets behind the handshake tell nothing either, the search for the path's MTU apart: its
/// first probe has the length that most packets of any transfer have.
#[test]
fn the_first_packets_have_no_size_of_their_own() {
    const FIRST: usize = 4;
    let mut sizes: BTreeMap<(bool, usize, usize), u64> = BTreeMap::new();
    let connections = 600;
    for seed in 0..connections {
        let mut pair = Pair::new(Options::new(seed));
        assert!(pair.run_until(LIMIT, Pair::is_connected));
        pair.run_for(Duration::from_millis(500));
        let mut position = [0; 2];
        let begun = pair
            .record
            .iter()
            .rposition(|passing| passing.way == Way::Down && passing.bytes.len() >= 200)
            .unwrap_or(0);
        for passing in pair.record[begun + 1..]
            .iter()
            .filter(|passing| passing.bytes.len() < 1232)
        {
            let down = usize::from(passing.way == Way::Down);
            *sizes
                .entry((down == 1, position[down], passing.bytes.len()))
                .or_default() += 1;
            position[down] += 1;
        }
    }
    let fixed: Vec<_> = sizes
        .iter()
        .filter(|((_, at, _), count)| *at < FIRST && **count * 50 > connections)
        .collect();
    assert!(
        fixed.is_empty(),
        "(down, position, size): of {connections}: {fixed:?}"
    );
}
