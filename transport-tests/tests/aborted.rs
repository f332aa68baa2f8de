//! Handshakes that come to nothing, a hundred thousand of them, leave memory as it was. A binary of its own, since it looks
//! at the memory of the whole process.

use std::net::SocketAddr;
use std::time::Duration;

use transport_core::{Route, TransportConfig};
use transport_tests::misbehave::{Envelopes, generous, hello};
use transport_tests::pair::{Options, Pair, Way};

const ABORTED: u64 = 100_000;
/// Every so many go so far that the relay answers, or finds that they do not read.
const ANSWERED: u64 = 64;
const INVALID: u64 = 16;

/// Bytes of memory this process holds.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    pages
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok())
        .expect("a number")
        * 4096
}

/// A round: at random stages they stop after one fragment, say what does not read, or never use the answer.
fn abort(pair: &mut Pair, envelopes: &mut Envelopes, from: u64, count: u64, invalid: &[u8]) {
    let mut params = Vec::new();
    generous().encode(&mut params).expect("parameters that fit");
    for number in from..from + count {
        let hid = number.to_be_bytes();
        let [.., a, b, c] = number.to_be_bytes();
        let remote = SocketAddr::from(([20 + a, b, c, 1], 9));
        if number % ANSWERED == 0 {
            let (_, body) = hello(number, hid, &params);
            envelopes.knock(pair, remote, hid, &body);
        } else if number % INVALID == 0 {
            envelopes.knock(pair, remote, hid, invalid);
        } else {
            let now = pair.now(Way::Down);
            let mut datagram = envelopes.fragments(hid, &invalid[..1400], 1100).swap_remove(0);
            let route = Route { remote, local: None };
            pair.server.endpoint.handle_datagram(now, route, &mut datagram);
        }
        if number % 16 == 0 {
            pair.run_for(Duration::from_millis(10));
            pair.record.clear();
        }
    }
    // All of it is over after half a minute, and seen to be with the next keep-alive.
    pair.run_for(Duration::from_secs(40));
}

#[test]
fn a_hundred_thousand_aborted_handshakes_leave_memory_flat() {
    // The relay looks at the time now and then.
    let keep = |transport: &mut TransportConfig| transport.keep_alive = Some(Duration::from_secs(5));
    let (mut pair, mut envelopes) = (Pair::connected(Options::new(1).with(keep)), Envelopes::new(1));
    let mut params = Vec::new();
    generous().encode(&mut params).expect("parameters that fit");
    // Under another handshake id it does not read.
    let (_, invalid) = hello(1, [9; 8], &params);
    abort(&mut pair, &mut envelopes, 1 << 20, ABORTED / 4, &invalid);
    let (memory, rss) = (pair.server.endpoint.memory(), resident());
    abort(&mut pair, &mut envelopes, 2 << 20, ABORTED * 3 / 4, &invalid);
    let stats = pair.server.endpoint.stats();
    assert_eq!(
        (stats.half_open, stats.reassembling, stats.hellos_waiting),
        (0, 0, 0)
    );
    assert!(stats.handshakes_answered > ABORTED / ANSWERED / 2, "{stats:?}");
    // What stays are nonces and hashes for 21 minutes, in registers that are bounded.
    let (more, grown) = (
        pair.server.endpoint.memory() - memory,
        resident().saturating_sub(rss),
    );
    eprintln!(
        "{} answered; {more} bytes more in the engine, {grown} in the process",
        stats.handshakes_answered
    );
    assert!(more < 4 << 20 && grown < 8 << 20, "{more}, {grown}");
    assert!(pair.transfer(Way::Up, 50_000, Duration::from_secs(30)));
}
