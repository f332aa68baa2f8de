//! Datagrams with nothing in them, on the socket and inside packets.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use transport_api::{
    Bundle, BundleDraft, BundleEndpoint, ConnectOptions, Endpoint, EndpointAddress, EndpointConfig,
    RelayIdentity, RelayStatics, ServerOptions, Wait,
};
use transport_core::wire::frame::{Datagram, Frame};
use transport_core::{Event, Route, TransportConfig};
use transport_tests::misbehave::encode;
use transport_tests::oracle::memory::Counting;
use transport_tests::pair::{Way, client_address};

use crate::{ended, forget_what_is_sent, pair};

const PATIENCE: Duration = Duration::from_mins(1);
const LABEL: &[u8] = b"attacks/1";

/// More than a million empty messages before the application looks once: they are counted with what they cost, so that they
/// end where full ones would.
#[test]
fn a_million_empty_messages_are_bounded_by_what_they_cost() {
    let (mut pair, mut raw) = pair(1);
    forget_what_is_sent(&mut pair, &mut raw);
    let packet = encode(&vec![Frame::Datagram(Datagram { data: b"" }); 575]);
    let route = Route {
        remote: client_address(),
        local: None,
    };
    let held = Counting::held();
    for _ in 0..2000 {
        let mut datagram = raw.seal(&packet);
        let now = pair.now(Way::Down);
        // Nobody polls: the application sleeps.
        pair.server.endpoint.handle_datagram(now, route, &mut datagram);
    }
    let grown = Counting::held() - held;
    let bound = TransportConfig::default().datagram_receive_bytes;
    // What a message is charged is at least what its place in the queue takes, and queues double.
    assert!(grown < 4 * bound as i64, "{grown} bytes for a bound of {bound}");
    let stats = pair.server.connection().stats();
    assert!(stats.datagrams_received <= bound as u64 / 64);
    assert_eq!(stats.datagrams_received + stats.datagrams_refused, 2000 * 575);
    pair.settle();
    let told = |event: &&Event| matches!(event, Event::DatagramReceived(_));
    assert_eq!(
        pair.server.events.iter().filter(told).count() as u64,
        stats.datagrams_received
    );
    assert_eq!(ended(&pair), None);
}

fn relay() -> (Endpoint, Bundle) {
    let identity = RelayIdentity::from_seeds([3; 64]);
    let statics = || RelayStatics::from_seeds([4; 96]);
    let options = ServerOptions::open(identity.relay_id(), statics(), 1, LABEL);
    let loopback = ([127, 0, 0, 1], 0).into();
    let relay = Endpoint::bind(EndpointConfig::server(loopback, options)).expect("a socket");
    let now = transport_api::now().unix_ms / 1000;
    let draft = BundleDraft {
        epoch: 1,
        not_before: now - 60,
        not_after: now + 3600,
        endpoints: vec![BundleEndpoint {
            address: EndpointAddress::Ip(relay.local_addr().ip()),
            port: relay.local_addr().port(),
            cover: 0,
        }],
    };
    let signed = identity.sign_bundle(&draft, &statics()).expect("a bundle");
    (relay, Bundle::parse(&signed).expect("our own bundle"))
}

/// CVE-2026-11352 (curl): empty datagrams that the receive loop did not count, so that it never came back. Two sockets send
/// nothing but empty datagrams to a relay as fast as they can; a client connects and is answered all the same.
#[test]
fn a_flood_of_empty_datagrams_does_not_stop_a_relay() {
    let (relay, bundle) = relay();
    let target = relay.local_addr();
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..2)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                let mut sent = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    sent += u64::from(socket.send_to(&[], target).is_ok());
                }
                sent
            })
        })
        .collect();
    let client = Endpoint::bind(EndpointConfig::client(([127, 0, 0, 1], 0).into())).expect("a socket");
    let connecting = client.connect(ConnectOptions::new(bundle, LABEL));
    let at_client = connecting
        .wait_timeout(PATIENCE)
        .expect("a handshake in time")
        .expect("a connection");
    let incoming = relay
        .accept()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("one");
    let at_relay = incoming.accept();
    for round in 0..20u8 {
        at_client.send_datagram(vec![round; 100]).expect("room");
        let got = at_relay.read_datagram().wait_timeout(PATIENCE);
        if let Some(got) = got {
            assert_eq!(got.expect("a message").len(), 100);
        }
    }
    assert!(at_relay.stats().datagrams_received > 0);
    stop.store(true, Ordering::Relaxed);
    let sent: u64 = floods
        .into_iter()
        .map(|flood| flood.join().expect("a flood"))
        .sum();
    assert!(sent > 1000, "{sent} empty datagrams are no flood");
}
