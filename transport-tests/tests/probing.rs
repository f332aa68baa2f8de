//! Active probing: whatever a stranger sends gets silence, and work that tells nothing. Probes that fail at the same step of
//! the order of work (`endpoint/admit`) cost the same: envelopes decrypted, hellos read, allocations, entries in tables.
#![expect(unsafe_code, reason = "a global allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use transport_core::Route;
use transport_crypto::{ENVELOPE_OVERHEAD, EnvelopeHeader, EnvelopeType};
use transport_tests::misbehave::{Envelopes, generous, hello};
use transport_tests::pair::{Options, Pair, Way, client_address, stranger};
use transport_tests::sim::rng::Rng;

/// Where the relay first decides: behind the bytes the hint is made of, and behind the hint (protocol, "the hint").
const HINTED: usize = 16;
const HINT: std::ops::Range<usize> = 20..24;

thread_local! {
    /// Calls for memory by this thread, and bytes it holds.
    static HEARD: Cell<(u64, i64)> = const { Cell::new((0, 0)) };
}

struct Counting;

fn hear(calls: u64, bytes: i64) {
    // Where a thread ends, its counters may be gone already.
    let _ = HEARD.try_with(|heard| heard.set((heard.get().0 + calls, heard.get().1 + bytes)));
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing. `realloc` is the default one,
// made of these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        hear(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        hear(0, -(layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`, and the memory is the system's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a probe cost the relay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Work {
    envelopes_tried: u64,
    hellos_read: u64,
    allocations: u64,
    bytes_held: i64,
    entries: usize,
    answers: usize,
}

/// The work of a datagram that fails before (`0`) or in (`1`) the decryption of its envelope, or just behind it (`1`).
const fn only(envelopes_tried: u64) -> Work {
    Work {
        envelopes_tried,
        hellos_read: 0,
        allocations: 0,
        bytes_held: 0,
        entries: 0,
        answers: 0,
    }
}

fn measured(pair: &mut Pair, from: SocketAddr, work: impl FnOnce(&mut Pair)) -> Work {
    let before = pair.server.endpoint.stats();
    let (calls, held) = HEARD.get();
    work(pair);
    let (calls_after, held_after) = HEARD.get();
    pair.run_for(Duration::from_millis(50));
    let after = pair.server.endpoint.stats();
    let entries =
        |stats: &transport_core::EndpointStats| stats.reassembling + stats.half_open + stats.hellos_waiting;
    let answered = |passing: &&transport_tests::pair::Passing| passing.way == Way::Down && passing.to == from;
    Work {
        envelopes_tried: after.envelopes_tried - before.envelopes_tried,
        hellos_read: after.hellos_read - before.hellos_read,
        allocations: calls_after - calls,
        bytes_held: held_after - held,
        entries: entries(&after) - entries(&before),
        answers: pair.record.iter().filter(answered).count(),
    }
}

/// One datagram before the relay; the copy it is decrypted in is the driver's, and does not count.
fn probe(pair: &mut Pair, from: SocketAddr, datagram: &[u8]) -> Work {
    let mut bytes = datagram.to_vec();
    let route = Route {
        remote: from,
        local: None,
    };
    measured(pair, from, |pair| {
        let now = pair.now(Way::Down);
        pair.server.endpoint.handle_datagram(now, route, &mut bytes);
    })
}

/// A relay that has seen some traffic, so that no table is touched for the first time; and a hello that its client sent.
fn relay(seed: u64) -> (Pair, Vec<Vec<u8>>) {
    let mut pair = Pair::connected(Options::new(seed));
    let captured = pair
        .record
        .iter()
        .filter(|passing| passing.way == Way::Up)
        .take(3);
    let captured = captured.map(|passing| passing.bytes.clone()).collect();
    pair.record.clear();
    pair.recording = true;
    (pair, captured)
}

/// All of `kinds` cost `wanted`, to the last.
fn assert_all(
    pair: &mut Pair,
    wanted: Work,
    kinds: &mut dyn Iterator<Item = (String, SocketAddr, Vec<u8>)>,
) -> usize {
    let mut count = 0;
    for (name, from, bytes) in kinds {
        assert_eq!(probe(pair, from, &bytes), wanted, "{name}");
        count += 1;
    }
    count
}

fn flipped(datagram: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    bytes[at] ^= 1 << bit;
    bytes
}

#[test]
fn what_has_no_hint_costs_no_decryption_and_no_memory() {
    let (mut pair, captured) = relay(1);
    let mut rng = Rng::new(1, "probes");
    let mut noise = |length: usize| -> Vec<u8> {
        (0..length.div_ceil(8))
            .flat_map(|_| rng.u64().to_le_bytes())
            .take(length)
            .collect()
    };
    let random: Vec<Vec<u8>> = (0..1500).map(&mut noise).collect();
    let quic = |length: usize| [&[0xc3, 0, 0, 0, 1, 8], &vec![0x5a; length][..]].concat();
    let mut kinds = random
        .into_iter()
        .map(|bytes| (format!("{} random bytes", bytes.len()), stranger(1), bytes))
        .chain((0..1500).map(|length| (format!("{length} zeros"), stranger(2), vec![0; length])))
        .chain([(String::from("a QUIC Initial"), stranger(3), quic(1194))])
        .chain((0..HINTED).chain(HINT).flat_map(|at| {
            let datagram = &captured[0];
            (0..8).map(move |bit| {
                (
                    format!("bit {bit} of byte {at}"),
                    stranger(4),
                    flipped(datagram, at, bit),
                )
            })
        }));
    assert!(assert_all(&mut pair, only(0), &mut kinds) > 3000);
}

#[test]
fn what_has_the_hint_and_does_not_open_costs_one_decryption_wherever_it_is_wrong() {
    let (mut pair, _) = relay(2);
    let (mut envelopes, hid) = (Envelopes::new(2), [9; 8]);
    let unseen = envelopes.fragments(hid, &[0; 2460], 1232 - ENVELOPE_OVERHEAD);
    let every_byte = unseen.iter().flat_map(|datagram| {
        let behind = (HINTED..HINT.start).chain(HINT.end..datagram.len());
        behind.map(move |at| {
            (
                format!("byte {at}"),
                client_address(),
                flipped(datagram, at, at as u8 % 8),
            )
        })
    });
    let cut = (64..900).map(|length| {
        (
            format!("cut to {length}"),
            stranger(5),
            unseen[0][..length].to_vec(),
        )
    });
    let longer = (1..100).map(|more| {
        (
            format!("{more} more"),
            stranger(6),
            [&unseen[1][..], &vec![7; more]].concat(),
        )
    });
    assert!(assert_all(&mut pair, only(1), &mut every_byte.chain(cut).chain(longer)) > 3000);
}

#[test]
fn what_opens_and_is_not_wanted_costs_the_same_as_what_does_not_open() {
    let (mut pair, _) = relay(3);
    let mut envelopes = Envelopes::new(3);
    let mut inside = |change: &dyn Fn(&mut EnvelopeHeader)| {
        let mut header = Envelopes::header([9; 8], 2460);
        (header.count, header.fragment_len) = (3, 820);
        change(&mut header);
        envelopes.seal(&header, &[0; 820], 1100)
    };
    let kinds = [
        ("old", inside(&|header| header.unix_minutes -= 11)),
        ("of tomorrow", inside(&|header| header.unix_minutes += 1440)),
        (
            "a server's hello",
            inside(&|header| header.kind = EnvelopeType::ServerHello),
        ),
        ("a RETRY", inside(&|header| header.kind = EnvelopeType::Retry)),
        (
            "a refusal",
            inside(&|header| header.kind = EnvelopeType::HandshakeClose),
        ),
    ];
    let kinds = kinds.map(|(name, bytes)| (name.into(), stranger(7), bytes));
    assert_eq!(assert_all(&mut pair, only(1), &mut kinds.into_iter()), 5);
}

#[test]
fn what_was_captured_costs_what_random_bytes_cost_whoever_sends_it_and_whatever_was_changed_in_it() {
    let (mut pair, captured) = relay(3);
    let copies = captured.iter().flat_map(|bytes| {
        [client_address(), stranger(8)].map(|from| (format!("captured, from {from}"), from, bytes.clone()))
    });
    let changed = captured.iter().flat_map(|bytes| {
        (HINT.end..bytes.len()).map(|at| {
            let bytes = flipped(bytes, at, at as u8 % 8);
            (format!("captured, but for byte {at}"), stranger(9), bytes)
        })
    });
    assert!(assert_all(&mut pair, only(0), &mut copies.chain(changed)) > 2500);
}

/// Three fragments that make a hello with something wrong in it; the work of all of them.
fn wrong_hello(pair: &mut Pair, envelopes: &mut Envelopes, name: u64, body: &[u8], hid: [u8; 8]) -> Work {
    let from = SocketAddr::from(([172, 16, name as u8, 1], 4000));
    let mut fragments = envelopes.fragments(hid, body, 1232 - ENVELOPE_OVERHEAD);
    measured(pair, from, |pair| {
        for fragment in &mut fragments {
            let route = Route {
                remote: from,
                local: None,
            };
            let now = pair.now(Way::Down);
            pair.server.endpoint.handle_datagram(now, route, fragment);
        }
    })
}

/// Only holders of the bundle come so far. A hello is read once, and every table is as before; what cannot be decrypted
/// leaves no other trace than the two hashes by which a copy of it would be known. Each comes to a relay in the same state,
/// since tables grow by steps.
#[test]
fn a_right_envelope_with_a_wrong_hello_inside_is_read_once_and_forgotten() {
    let mut params = Vec::new();
    generous().encode(&mut params).expect("parameters that fit");
    let hid = [7; 8];
    let (_, body) = hello(7, hid, &params);
    let places = [12, 500, 1099, 1100, 1131, 1132, 1150, 1200, 2000, body.len() - 1];
    let mut noise = Rng::new(4, "hello");
    let random = body[..12].iter().copied();
    let random = random
        .chain((12..body.len()).map(|_| noise.u64() as u8))
        .collect();
    let mut bodies: Vec<Vec<u8>> = places.into_iter().map(|at| flipped(&body, at, 3)).collect();
    bodies.push(random);
    let cost = |body: &[u8], hid| wrong_hello(&mut relay(4).0, &mut Envelopes::new(4), 7, body, hid);
    let mut costs: BTreeSet<Work> = bodies.iter().map(|body| cost(body, hid)).collect();
    costs.insert(cost(&body, [8; 8]));
    let read = Work {
        envelopes_tried: 3,
        hellos_read: 1,
        ..*costs.first().expect("a cost")
    };
    assert_eq!((read.entries, read.answers), (0, 0));
    assert_eq!(
        costs,
        BTreeSet::from([read]),
        "until the hello is read, all cost the same"
    );
}
