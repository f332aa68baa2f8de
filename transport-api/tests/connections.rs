//! Connections: how they begin and end.

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::{APP, LOOPBACK, PATIENCE, bundle, pair, pair_with, pattern, server_options};
use transport_api::{
    Access, By, ClientIdentity, CloseReason, ConnectError, ConnectOptions, ConnectionError, Endpoint,
    EndpointConfig, Fault, Peer, ReadError, TransportOptions, Wait,
};

fn application(code: u64, reason: &[u8], by: By) -> ConnectionError {
    ConnectionError::Closed(CloseReason::Application {
        code,
        reason: reason.to_vec(),
        by,
    })
}

#[test]
fn both_sides_learn_the_reason() {
    let pair = pair();
    pair.at_client.close(42, b"done here");
    let at_server = pair.at_server.closed().wait_timeout(PATIENCE).unwrap();
    assert_eq!(at_server, application(42, b"done here", By::Peer));
    let at_client = pair.at_client.closed().wait_timeout(PATIENCE).unwrap();
    assert_eq!(at_client, application(42, b"done here", By::Local));
    assert_eq!(pair.at_server.accept_bi().wait().unwrap_err(), at_server);
    assert_eq!(pair.at_server.read_datagram().wait().unwrap_err(), at_server);
    assert!(pair.at_client.open_bi().wait().is_err());
    assert!(pair.at_client.send_datagram(vec![1]).is_err());
    assert!(!pair.at_client.export(b"x", &mut [0; 8]));
}

#[test]
fn dropping_the_last_handle_closes_with_code_zero() {
    let pair = pair();
    let clone = pair.at_client.clone();
    drop(pair.at_client);
    assert!(
        pair.at_server
            .closed()
            .wait_timeout(Duration::from_millis(100))
            .is_none()
    );
    drop(clone);
    assert_eq!(
        pair.at_server.closed().wait_timeout(PATIENCE).unwrap(),
        application(0, b"", By::Peer)
    );
}

#[test]
fn finish_and_close_loses_no_byte() {
    // 390,000 bytes are more than the handle's queue takes unread: the rest is taken over at the end. With 393,216, that queue and
    // half a window, flow control may begin to wait for the reader.
    for len in [1, 1000, 390_000, 3 << 20] {
        let pair = pair();
        let data = pattern(len);
        let server = pair.at_server.clone();
        let reader = std::thread::spawn(move || {
            let mut recv = server.accept_uni().wait_timeout(PATIENCE).unwrap().unwrap();
            // Read late: the connection is closed by then, what was acknowledged must still be here.
            let end = (len < 1 << 20).then(|| server.closed().wait_timeout(PATIENCE).unwrap());
            let all = recv
                .read_to_end(16 << 20)
                .wait_timeout(PATIENCE)
                .unwrap()
                .unwrap();
            (all, end)
        });
        let mut send = pair.at_client.open_uni().wait().unwrap();
        send.write_all(&data).wait_timeout(PATIENCE).unwrap().unwrap();
        drop(send);
        assert_eq!(
            pair.at_client
                .finish_and_close(PATIENCE)
                .wait_timeout(PATIENCE)
                .unwrap(),
            Ok(())
        );
        let (all, _) = reader.join().unwrap();
        assert!(all == data, "{len} bytes: {} arrived", all.len());
    }
}

#[test]
fn finish_and_close_has_a_deadline() {
    let pair = pair();
    let mut send = pair.at_client.open_uni().wait().unwrap();
    // More than the windows: nobody reads, so it cannot be acknowledged.
    let data = pattern(64 * 1024);
    while send
        .write(&data)
        .wait_timeout(Duration::from_millis(300))
        .is_some()
    {}
    drop(send);
    let error = pair
        .at_client
        .finish_and_close(Duration::from_millis(200))
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(
            error,
            transport_api::FinishError::Deadline {
                unacknowledged: 1,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        pair.at_server.closed().wait_timeout(PATIENCE).unwrap(),
        application(0, b"", By::Peer)
    );
}

#[test]
fn closing_ends_every_wait() {
    let pair = pair();
    let (mut send, mut recv) = pair.at_client.open_bi().wait().unwrap();
    send.write_all(b"x").wait().unwrap();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4];
        recv.read(&mut buffer).wait_timeout(PATIENCE).unwrap()
    });
    let connection = pair.at_client.clone();
    let acceptor = std::thread::spawn(move || {
        connection
            .accept_uni()
            .wait_timeout(PATIENCE)
            .unwrap()
            .map(|_| ())
    });
    pair.at_server.close(5, b"");
    let reason = application(5, b"", By::Peer);
    assert_eq!(reader.join().unwrap(), Err(ReadError::Connection(reason.clone())));
    assert_eq!(acceptor.join().unwrap(), Err(reason));
}

#[test]
fn connecting_to_nobody_times_out() {
    let silent = UdpSocket::bind(LOOPBACK).unwrap();
    let transport = TransportOptions {
        handshake_timeout: Duration::from_millis(400),
        ..TransportOptions::default()
    };
    let client = Endpoint::bind(EndpointConfig {
        transport,
        ..EndpointConfig::client(LOOPBACK)
    })
    .unwrap();
    let connecting = client.connect(ConnectOptions::new(bundle(silent.local_addr().unwrap()), APP));
    let error = connecting
        .wait_timeout(PATIENCE)
        .expect("gives up by itself")
        .unwrap_err();
    assert_eq!(error, ConnectError::Handshake(CloseReason::HandshakeTimeout));
    assert!(error.is_retryable() && error.fault() == Fault::Network);
    client
        .wait_idle()
        .wait_timeout(PATIENCE)
        .expect("nothing is left");
}

#[test]
fn silence_ends_a_connection() {
    let transport = TransportOptions {
        idle_timeout: Duration::from_millis(500),
        ..TransportOptions::default()
    };
    let pair = pair_with(transport.clone(), transport);
    assert_eq!(
        pair.at_client.closed().wait_timeout(PATIENCE),
        Some(ConnectionError::Closed(CloseReason::Idle))
    );
    assert_eq!(
        pair.at_server.closed().wait_timeout(PATIENCE),
        Some(ConnectionError::Closed(CloseReason::Idle))
    );
}

#[test]
fn keep_alive_keeps_it_alive() {
    let short = TransportOptions {
        idle_timeout: Duration::from_millis(600),
        ..TransportOptions::default()
    };
    let keep = TransportOptions {
        keep_alive: Some(Duration::from_millis(150)),
        ..short.clone()
    };
    let pair = pair_with(short, keep);
    assert_eq!(
        pair.at_client.closed().wait_timeout(Duration::from_millis(1800)),
        None
    );
}

#[test]
fn only_those_on_the_list_get_in() {
    let (friend, stranger) = (
        ClientIdentity::from_seeds([21; 96]),
        ClientIdentity::from_seeds([22; 96]),
    );
    let mut options = server_options();
    options.access = Access::AllowList(std::iter::once(friend.client_id()).collect());
    let server = Endpoint::bind(EndpointConfig::server(LOOPBACK, options)).unwrap();
    let transport = TransportOptions {
        handshake_timeout: Duration::from_millis(1500),
        ..TransportOptions::default()
    };
    let client = Endpoint::bind(EndpointConfig {
        transport,
        ..EndpointConfig::client(LOOPBACK)
    })
    .unwrap();
    let connect = |identity: Option<ClientIdentity>| {
        let options = ConnectOptions {
            identity,
            ..ConnectOptions::new(bundle(server.local_addr()), APP)
        };
        client.connect(options).wait_timeout(PATIENCE).unwrap()
    };
    let connection = connect(Some(friend.clone())).expect("a friend");
    let incoming = server.accept().wait_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(incoming.peer(), Peer::Client(friend.client_id()));
    assert!(matches!(connect(Some(stranger)), Err(ConnectError::Handshake(_))));
    assert!(matches!(connect(None), Err(ConnectError::Handshake(_))));
    assert_eq!(connection.close_reason(), None);
}

#[test]
fn refused_and_dropped_incomings_are_closed() {
    let server = Endpoint::bind(EndpointConfig::server(LOOPBACK, server_options())).unwrap();
    let client = Endpoint::bind(EndpointConfig::client(LOOPBACK)).unwrap();
    let connect = || {
        client
            .connect(ConnectOptions::new(bundle(server.local_addr()), APP))
            .wait_timeout(PATIENCE)
            .unwrap()
    };
    let first = connect().unwrap();
    server
        .accept()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap()
        .refuse(77);
    assert_eq!(
        first.closed().wait_timeout(PATIENCE),
        Some(application(77, b"", By::Peer))
    );
    let second = connect().unwrap();
    drop(server.accept().wait_timeout(PATIENCE).unwrap().unwrap());
    assert_eq!(
        second.closed().wait_timeout(PATIENCE),
        Some(application(0, b"", By::Peer))
    );
}

#[test]
fn closing_an_endpoint_closes_all() {
    let pair = pair();
    pair.server.close(9, b"maintenance");
    assert!(pair.server.accept().wait_timeout(PATIENCE).unwrap().is_none());
    assert_eq!(
        pair.at_client.closed().wait_timeout(PATIENCE),
        Some(application(9, b"maintenance", By::Peer))
    );
    pair.server.wait_idle().wait_timeout(PATIENCE).expect("idle");
    pair.client.wait_idle().wait_timeout(PATIENCE).expect("idle");
}

#[test]
fn both_sides_export_the_same_secret() {
    let pair = pair();
    let (mut one, mut two, mut other) = ([0; 32], [0; 32], [0; 32]);
    assert!(pair.at_client.export(b"label", &mut one));
    assert!(pair.at_server.export(b"label", &mut two));
    assert!(pair.at_server.export(b"another", &mut other));
    assert_eq!(one, two);
    assert_ne!(one, other);
    assert_ne!(one, [0; 32]);
}

#[test]
fn a_new_socket_does_not_break_a_stream() {
    let pair = pair();
    let (mut send, mut recv) = pair.at_client.open_bi().wait().unwrap();
    send.write_all(b"before").wait().unwrap();
    let (mut far_send, mut far_recv) = pair
        .at_server
        .accept_bi()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap();
    let mut buffer = [0; 16];
    assert_eq!(
        far_recv.read(&mut buffer).wait_timeout(PATIENCE).unwrap(),
        Ok(Some(6))
    );
    let old = pair.client.local_addr();
    pair.client.rebind(LOOPBACK).unwrap();
    assert_ne!(pair.client.local_addr(), old);
    send.write_all(b"after").wait().unwrap();
    assert_eq!(
        far_recv.read(&mut buffer).wait_timeout(PATIENCE).unwrap(),
        Ok(Some(5))
    );
    far_send.write_all(b"back").wait().unwrap();
    assert_eq!(
        recv.read(&mut buffer).wait_timeout(PATIENCE).unwrap(),
        Ok(Some(4))
    );
    assert_eq!(&buffer[..4], b"back");
}

#[test]
fn keys_change_under_traffic() {
    let pair = pair();
    let mut send = pair.at_client.open_uni().wait().unwrap();
    let mut recv = None;
    for round in 0..3 {
        pair.at_client.update_keys();
        send.write_all(&pattern(50_000)).wait().unwrap();
        let recv = recv.get_or_insert_with(|| {
            pair.at_server
                .accept_uni()
                .wait_timeout(PATIENCE)
                .unwrap()
                .unwrap()
        });
        let mut got = 0;
        let mut buffer = vec![0; 50_000];
        while got < 50_000 {
            let rest = &mut buffer[got..];
            got += recv
                .read(rest)
                .wait_timeout(PATIENCE)
                .unwrap()
                .unwrap()
                .expect("no end yet");
        }
        assert_eq!(buffer, pattern(50_000), "round {round}");
    }
}
