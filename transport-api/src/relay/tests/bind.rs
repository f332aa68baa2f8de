//! Bound ports over lanes in memory and sockets on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use super::{World, config, raw, with_relay};
use crate::http::{Field, RequestHead};
use crate::local::UdpSocket;
use crate::masque::bind::{self, Dialect, Limits};
use crate::masque::lane::{Lane, LaneError};
use crate::relay::RelayConfig;
use crate::tunnel::pipe::PipeLane;
use crate::tunnel::{BindOptions, BindSendError, BoundUdp, TunnelErrorKind};

/// A relay that is reached at loopback.
fn bound() -> RelayConfig {
    let mut config = config();
    config.bind.addresses = vec!["127.0.0.1".parse().expect("address")];
    config
}

/// One that lets nobody reach loopback by name, so that its own ports are all there is.
fn strict() -> RelayConfig {
    let mut config = bound();
    config.policy.allow.clear();
    config
}

impl World {
    async fn bind(&self) -> BoundUdp<PipeLane> {
        self.bind_with(&BindOptions::default()).await
    }

    async fn bind_with(&self, options: &BindOptions) -> BoundUdp<PipeLane> {
        self.client.bind_udp(options).await.expect("bound")
    }

    fn socket(&self) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind(&self.local, super::loopback()).expect("bind");
        let address = socket.local_addr().expect("address");
        (socket, address)
    }
}

async fn expect(tunnel: &BoundUdp<PipeLane>, payload: &[u8], from: SocketAddr) {
    let (packet, peer) = tunnel.recv_from().await.expect("a packet");
    assert_eq!((&*packet, peer), (payload, from));
}

async fn expect_at(socket: &UdpSocket, payload: &[u8], from: SocketAddr) {
    let mut buffer = [0; 2000];
    let (len, peer) = socket.recv_from(&mut buffer).await.expect("a packet");
    assert_eq!((&buffer[..len], peer), (payload, from));
}

#[test]
fn packets_go_to_anybody_and_come_from_anybody() {
    with_relay(bound(), |world| async move {
        let tunnel = world.bind().await;
        let public = tunnel.public_addrs()[0];
        let ((one, at_one), (two, at_two)) = (world.socket(), world.socket());
        tunnel.send_to(b"to one", at_one).expect("sent");
        tunnel.send_to(b"", at_two).expect("sent");
        expect_at(&one, b"to one", public).await;
        expect_at(&two, b"", public).await;
        one.try_send_to(b"from one", public).expect("sent");
        expect(&tunnel, b"from one", at_one).await;
        two.try_send_to(b"", public).expect("sent");
        expect(&tunnel, b"", at_two).await;
        let snapshot = world.snapshot();
        assert_eq!((snapshot.bind_opened, snapshot.bind_contexts_open), (1, 1));
        assert_eq!((snapshot.udp_packets_up, snapshot.udp_packets_down), (2, 2));
        drop(tunnel);
        world
            .until(|s| s.tunnels_open == 0 && s.bind_contexts_open == 0)
            .await;
    });
}

#[test]
fn two_clients_of_one_relay_exchange_packets() {
    with_relay(strict(), |world| async move {
        let (a, b) = (world.bind().await, world.bind().await);
        let (at_a, at_b) = (a.public_addrs()[0], b.public_addrs()[0]);
        for round in 0..10u8 {
            a.send_to(&[round, 1], at_b).expect("sent");
            expect(&b, &[round, 1], at_a).await;
            b.send_to(&[round, 2], at_a).expect("sent");
            expect(&a, &[round, 2], at_b).await;
        }
        assert!(a.is_compressed(at_b) && b.is_compressed(at_a), "they are busy");
        // A port of this machine that is nobody's of this relay's.
        let (_other, at_other) = world.socket();
        a.send_to(b"?", at_other).expect("sent");
        world.until(|s| s.bind_dropped_policy == 1).await;
        // Nor is one that was somebody's, although the context stands.
        drop(b);
        world.until(|s| s.tunnels_open == 1).await;
        a.send_to(b"?", at_b).expect("sent");
        world.until(|s| s.bind_dropped_policy == 2).await;
    });
}
