//! Keys that change too often, and packets that were never sealed with any.

use std::time::Duration;

use transport_core::wire::Frame;
use transport_core::{DropReason, SuiteChoice};
use transport_tests::misbehave::encode;
use transport_tests::oracle::memory::Counting;
use transport_tests::pair::{Options, Pair, Transfer, Way, client_address};
use transport_tests::sim::rng::Rng;

use crate::{dropped, ended, pair};

/// RUSTSEC-2024-0011 (snow): a packet that does not open must not advance anything. Ten thousand forgeries of every sort
/// between honest packets, with both ciphers: every honest one opens.
#[test]
fn ten_thousand_forgeries_between_honest_packets_disturb_none() {
    for suite in [SuiteChoice::ChaCha20Poly1305, SuiteChoice::Aes256Gcm] {
        let options = Options {
            suite,
            ..Options::new(1)
        }
        .with(|transport| transport.aes = true);
        let mut pair = Pair::connected(options);
        let mut rng = Rng::new(1, "forgeries");
        let mut transfer = Transfer::open(&mut pair, Way::Up, 400_000);
        let mut forged = 0;
        let over = pair.run_until(Duration::from_mins(1), |pair| {
            let honest = pair.record.iter().rev().find(|passing| passing.way == Way::Up);
            let honest = honest.cloned().expect("packets");
            pair.record.clear();
            pair.record.push(honest.clone());
            for round in 0..100 {
                let mut bytes = honest.bytes.clone();
                // The id stays, since masks come from the last sixteen bytes; all else may be anything.
                let at = 9 + rng.below(bytes.len() as u64 - 9 - 16) as usize;
                match round % 4 {
                    0 => bytes[at] ^= 1 << rng.below(8),
                    1 => bytes[9] ^= 0x80,
                    2 => bytes[10..14].copy_from_slice(&(rng.u64() as u32).to_be_bytes()),
                    _ => bytes[9..at].fill(rng.u64() as u8),
                }
                if bytes != honest.bytes {
                    pair.inject(Way::Up, honest.from, &bytes);
                    forged += 1;
                }
            }
            transfer.drive(pair)
        });
        assert!(over && forged >= 10_000, "{forged} forgeries");
        let stats = pair.server.endpoint.stats();
        let refused = stats.drops.get(DropReason::Forged) + stats.drops.get(DropReason::Replay);
        assert!(refused >= forged, "{refused} of {forged}: {:?}", stats.drops);
        assert_eq!(pair.client.connection().stats().declared_lost, 0);
        assert_eq!(pair.server.connection().stats().key_updates, 0);
    }
}

/// Key-phase flapping: a peer changes keys as fast as the rules let it, a thousand times. Each change costs the same, nothing
/// is lost, and nothing is kept of old keys.
#[test]
fn a_thousand_key_changes_leave_nothing_behind() {
    let (mut pair, mut raw) = pair(2);
    let mut held = 0;
    for round in 0..1000u64 {
        raw.session.seal.update();
        let message = transport_core::wire::frame::Datagram {
            data: &round.to_be_bytes(),
        };
        raw.say(&mut pair, &[Frame::Datagram(message)]);
        raw.hear(&pair);
        let ack = raw.honest_ack(0).unwrap();
        raw.say_bytes(&mut pair, &ack);
        pair.run_for(Duration::from_secs(2));
        raw.hear(&pair);
        raw.forget(&mut pair);
        let got = pair.server.take_datagrams();
        assert_eq!(got, [round.to_be_bytes()], "round {round}");
        if round == 500 {
            held = Counting::held();
        }
    }
    assert_eq!(ended(&pair), None);
    assert_eq!(pair.server.connection().stats().key_updates, 1000);
    let grown = Counting::held() - held;
    assert!(grown < 64 << 10, "{grown} bytes over 500 changes");
}

/// Packets of the keys before the last, held back and sent between those of the new ones: what three timeouts allow is taken,
/// later they are silence, and neither moves the phase.
#[test]
fn packets_of_old_keys_do_not_turn_the_phase_back() {
    let (mut pair, mut raw) = pair(3);
    let ping = encode(&[Frame::Ping]);
    let held_back: Vec<Vec<u8>> = (0..40).map(|_| raw.seal(&ping)).collect();
    raw.session.seal.update();
    raw.say(&mut pair, &[Frame::Ping]);
    assert_eq!(pair.server.connection().stats().key_updates, 1);
    for datagram in &held_back[..20] {
        pair.inject(Way::Up, client_address(), datagram);
        raw.say(&mut pair, &[Frame::Ping]);
    }
    assert_eq!(dropped(&pair, DropReason::Forged), 0, "reordering is no forgery");
    pair.run_for(Duration::from_secs(8));
    for datagram in &held_back[20..] {
        pair.inject(Way::Up, client_address(), datagram);
        raw.say(&mut pair, &[Frame::Ping]);
    }
    assert_eq!(dropped(&pair, DropReason::Forged), 20, "the old keys are gone");
    assert_eq!(pair.server.connection().stats().key_updates, 1);
    assert_eq!(ended(&pair), None);
}
