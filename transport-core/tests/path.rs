//! Addresses that change: a NAT that forgets, and somebody who would like to be taken for one.
mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{CLIENT, Net, Setup, Way, echo, ms};
use transport_core::{Event, TransportConfig};

fn alive() -> Setup {
    let keep = TransportConfig {
        keep_alive: Some(Duration::from_millis(500)),
        ..TransportConfig::default()
    };
    Setup {
        client: keep,
        ..Setup::default()
    }
}

#[test]
fn a_nat_that_forgets_the_port_costs_little() {
    let mut net = Net::new(alive());
    let (a, b) = net.pair();
    echo(&mut net, a, b, 300_000, ms(5000));
    let before = net.s(b).stats();
    net.client_addr = SocketAddr::from((CLIENT.0, 50_001));
    echo(&mut net, a, b, 300_000, ms(5000));
    let remote = net.client_addr;
    assert_eq!(net.s(b).remote(), remote);
    let after = net.s(b).stats();
    assert_eq!(after.path_changes, 1);
    assert!(
        after.min_rtt <= before.min_rtt && after.mtu == 1472,
        "RTT and MTU stay: {after:?}"
    );
    assert!(net.server_events.contains(&(b, Event::PathChanged { remote })));
}

#[test]
fn another_address_starts_over() {
    let mut net = Net::new(alive());
    let (a, b) = net.pair();
    echo(&mut net, a, b, 2_000_000, ms(5000));
    let wide = net.s(b).stats().cwnd;
    net.client_addr = SocketAddr::from(([10, 7, 7, 7], 50_000));
    let moved = net.run_until(ms(2000), |net| {
        net.server.connection(b).unwrap().stats().path_changes == 1
    });
    assert!(moved);
    assert!(net.s(b).stats().cwnd < wide, "{} {wide}", net.s(b).stats().cwnd);
    echo(&mut net, a, b, 300_000, ms(8000));
    assert_eq!(net.s(b).stats().mtu, 1472, "found anew");
}

#[test]
fn rebinding_again_and_again_in_a_transfer() {
    let mut net = Net::new(alive());
    let (a, b) = net.pair();
    for port in 0..20u16 {
        net.client_addr = SocketAddr::from((CLIENT.0, 50_100 + port));
        echo(&mut net, a, b, 50_000, ms(8000));
    }
    assert_eq!(net.s(b).stats().path_changes, 20);
    assert_eq!(net.s(b).remote().port(), 50_119);
}

/// The attacker sees everything and is faster: each of its copies arrives before the original.
#[test]
fn a_packet_replayed_from_elsewhere_moves_nothing() {
    let changes = replayed_from_elsewhere(false);
    assert_eq!(changes, 0);
}

/// What the server sends to the attacker is handed on to the client, as if the server had sent it. So now and then the attacker
/// proves its address with a copy of the client's answer, which nobody can tell (RFC 9000 §9.3.3); but nobody stays there.
#[test]
fn an_attacker_who_carries_packets_on_does_not_keep_the_connection() {
    let changes = replayed_from_elsewhere(true);
    assert!(changes.is_multiple_of(2), "{changes}");
}

/// How often the server changed its mind about the address.
fn replayed_from_elsewhere(carried_on: bool) -> u64 {
    let mut net = Net::new(alive());
    let (a, b) = net.pair();
    echo(&mut net, a, b, 50_000, ms(5000));
    let attacker = SocketAddr::from(([10, 66, 66, 66], 666));
    let mut seen = 0u64;
    net.meddle = Box::new(move |datagram| {
        let mut out = vec![datagram.clone()];
        if datagram.way == Way::Up {
            seen += 1;
            if seen.is_multiple_of(7) {
                let mut copy = datagram.clone();
                (copy.client, copy.at) = (attacker, copy.at.checked_sub(ms(1)).unwrap());
                out.push(copy);
            }
        } else if carried_on && datagram.client == attacker {
            out[0].client = CLIENT.into();
        }
        out
    });
    echo(&mut net, a, b, 300_000, ms(30_000));
    net.run(ms(3000));
    assert_eq!(net.s(b).remote(), CLIENT.into());
    net.s(b).stats().path_changes
}

#[test]
fn an_unproved_address_gets_no_more_than_three_times_what_it_sent() {
    let mut net = Net::new(alive());
    let (a, b) = net.pair();
    echo(&mut net, a, b, 50_000, ms(5000));
    let victim = SocketAddr::from(([10, 66, 66, 66], 666));
    let bytes = std::rc::Rc::new(std::cell::Cell::new((0usize, 0usize)));
    let count = bytes.clone();
    net.meddle = Box::new(move |datagram| {
        let (up, down) = count.get();
        match datagram.way {
            Way::Up if up == 0 => {
                let mut copy = datagram.clone();
                (copy.client, copy.at) = (victim, copy.at.checked_sub(ms(1)).unwrap());
                count.set((datagram.bytes.len(), down));
                vec![copy, datagram.clone()]
            }
            Way::Down if datagram.client == victim => {
                count.set((up, down + datagram.bytes.len()));
                vec![]
            }
            _ => vec![datagram.clone()],
        }
    });
    net.run(ms(10_000));
    let (up, down) = bytes.get();
    assert!(up > 0 && down > 0 && down <= 3 * up, "{down} for {up}");
    assert_eq!(net.s(b).remote(), CLIENT.into());
    net.meddle = Box::new(|datagram| vec![datagram.clone()]);
    echo(&mut net, a, b, 10_000, ms(3000));
}

#[test]
fn a_client_listens_to_its_relay_alone() {
    let mut net = Net::new(Setup::default());
    let (a, b) = net.pair();
    net.keep_wire = true;
    echo(&mut net, a, b, 10_000, ms(3000));
    let now = net.now();
    let stray: Vec<Vec<u8>> = net
        .wire
        .iter()
        .filter(|(way, _)| *way == Way::Down)
        .map(|(_, d)| d.clone())
        .collect();
    let elsewhere = transport_core::Route {
        remote: ([10, 0, 0, 99], 4433).into(),
        local: None,
    };
    for mut datagram in stray {
        net.client.handle_datagram(now, elsewhere, &mut datagram);
    }
    assert!(
        net.client
            .stats()
            .drops
            .get(transport_core::DropReason::WrongAddress)
            > 3
    );
    assert_eq!(net.c(a).remote(), common::SERVER.into());
}
