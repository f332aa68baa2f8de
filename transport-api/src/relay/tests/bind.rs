//! Bound ports over lanes in memory and sockets on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::forbidden::FORBIDDEN;
use super::{World, closed_port, config, data_frame, loopback, raw, with_relay};
use crate::http::{Code, Field, RequestHead};
use crate::local::UdpSocket;
use crate::masque::bind::{self, Assign, BindCapsule, Dialect, put_capsule};
use crate::masque::lane::{Lane, LaneError, LaneSend};
use crate::masque::proxy_status::{ProxyError, ProxyStatus};
use crate::relay::hook::{Asked, Decision, Protocol, RequestMeta};
use crate::relay::{Grant, RelayConfig, TunnelLimits};
use crate::tunnel::frames::{FrameReader, StreamError, write_all};
use crate::tunnel::pipe::{PipeLane, PipeRecv, PipeSend};
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

fn address(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

impl World {
    async fn bind(&self) -> BoundUdp<PipeLane> {
        self.bind_with(&BindOptions::default()).await
    }

    async fn bind_with(&self, options: &BindOptions) -> BoundUdp<PipeLane> {
        self.client.bind_udp(options).await.expect("bound")
    }

    fn socket(&self) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind(&self.local, loopback()).expect("bind");
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
        let v6 = tunnel.send_to(b"", address("[2600::1]:9"));
        assert_eq!(
            v6,
            Err(BindSendError::Unsupported),
            "the relay has no such address"
        );
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

#[test]
fn neighbours_have_their_own_queue() {
    with_relay(strict(), |world| async move {
        let (a, b) = (world.bind().await, world.bind().await);
        let at_b = b.public_addrs()[0];
        b.firewall(true).expect("bound");
        world.until(|s| s.bind_contexts_open == 1).await;
        a.send_to(b"?", at_b).expect("sent");
        world.until(|s| s.bind_dropped_no_context == 1).await;
        b.compress(a.public_addrs()[0]).expect("room");
        world.until(|s| s.bind_contexts_open == 2).await;
        a.send_to(b"!", at_b).expect("sent");
        expect(&b, b"!", a.public_addrs()[0]).await;
    });
}

#[test]
fn the_queue_of_neighbours_is_bounded() {
    with_relay(strict(), |world| async move {
        let hearer = world.bind().await;
        let at = hearer.public_addrs()[0];
        let mut many = Vec::new();
        for session in 1..=8 {
            let client = world.join(session);
            let bound = client.bind_udp(&BindOptions::default()).await.expect("bound");
            many.push((client, bound));
        }
        // Many come before the one that hears them has its turn.
        for (_, speaker) in &many {
            for _ in 0..100 {
                speaker.send_to(b"hear me", at).expect("sent");
            }
        }
        world
            .until(|s| s.udp_packets_up + s.dropped_queue_full == 800)
            .await;
        let snapshot = world.snapshot();
        assert!(
            snapshot.dropped_queue_full > 0 && snapshot.udp_packets_up >= 256,
            "{snapshot:?}"
        );
        for _ in 0..snapshot.udp_packets_up {
            assert_eq!(&*hearer.recv_from().await.expect("what was taken").0, b"hear me");
        }
        assert_eq!(world.snapshot().udp_packets_down, snapshot.udp_packets_up);
    });
}

#[test]
fn a_context_makes_room_and_is_heard_through_the_firewall() {
    with_relay(bound(), |world| async move {
        let options = BindOptions {
            automatic: false,
            strangers: false,
            ..BindOptions::default()
        };
        let tunnel = world.bind_with(&options).await;
        let public = tunnel.public_addrs()[0];
        let ((friend, at_friend), (stranger, _)) = (world.socket(), world.socket());
        assert_eq!(tunnel.send_to(b"", at_friend), Err(BindSendError::NoContext));
        assert_eq!(tunnel.max_payload(at_friend), 0);
        tunnel.compress(at_friend).expect("room");
        tunnel.compress(at_friend).expect("it is there already");
        // At once: a datagram may overtake its registration.
        assert_eq!(tunnel.max_payload(at_friend), 1200 - 2);
        tunnel.send_to(b"hello", at_friend).expect("sent");
        expect_at(&friend, b"hello", public).await;
        stranger.try_send_to(b"?", public).expect("sent");
        world.until(|s| s.bind_dropped_no_context == 1).await;
        friend.try_send_to(b"!", public).expect("sent");
        expect(&tunnel, b"!", at_friend).await;
        tunnel.firewall(false).expect("room");
        world.until(|s| s.bind_contexts_open == 2).await;
        stranger.try_send_to(b"??", public).expect("sent");
        assert_eq!(&*tunnel.recv_from().await.expect("a packet").0, b"??");
        tunnel.uncompress(at_friend);
        assert_eq!(tunnel.max_payload(at_friend), 1200 - 2 - 7);
        assert_eq!(
            tunnel.send_to(&[0; 1200], at_friend),
            Err(BindSendError::TooLarge(1191))
        );
    });
}

#[test]
fn context_0_is_the_target() {
    with_relay(bound(), |world| async move {
        let (target, at_target) = world.socket();
        let tunnel = world
            .client
            .bind_udp_to(at_target, &BindOptions::default())
            .await
            .expect("bound");
        assert!(tunnel.is_bound());
        assert_eq!(tunnel.max_payload(at_target), 1200 - 2, "no context is needed");
        for _ in 0..10 {
            tunnel.send_to(b"ping", at_target).expect("sent");
            expect_at(&target, b"ping", tunnel.public_addrs()[0]).await;
        }
        assert!(!tunnel.is_compressed(at_target));
        target
            .try_send_to(b"pong", tunnel.public_addrs()[0])
            .expect("sent");
        expect(&tunnel, b"pong", at_target).await;
        let private = address("10.0.0.1:9");
        let refused = world.client.bind_udp_to(private, &BindOptions::default()).await;
        assert_eq!(refused.expect_err("private").kind(), TunnelErrorKind::Policy);
    });
}

/// A bind request of our own making.
struct Raw {
    send: PipeSend,
    frames: FrameReader<PipeRecv>,
    lane: PipeLane,
}

fn head(path: &str, field: &[&str]) -> RequestHead {
    let path = format!("/.well-known/masque/udp/{path}/");
    let mut head = RequestHead::extended("connect-udp", "relay", &path);
    let fields = field.iter().map(|value| Field::new(bind::FIELD, *value));
    head.fields.extend(fields);
    head
}

async fn raw_bind(world: &World) -> Raw {
    let (send, frames, response) = raw(world, &head("%2A/%2A", &["?1"])).await;
    assert_eq!(response.status, 200);
    Raw {
        send,
        frames,
        lane: world.client.lane().clone(),
    }
}

impl Raw {
    async fn tell(&mut self, capsules: &[BindCapsule]) {
        let mut out = Vec::new();
        for capsule in capsules {
            put_capsule(&mut out, Dialect::Current, *capsule);
        }
        write_all(&mut self.send, &data_frame(&out))
            .await
            .expect("written");
    }

    fn datagram(&self, bytes: &[u8]) {
        let mut datagram = vec![u8::try_from(self.send.ordinal()).expect("few")];
        datagram.extend_from_slice(bytes);
        self.lane.send_datagram(datagram).expect("sent");
    }

    async fn answer(&mut self, capsule: BindCapsule) {
        let mut wanted = Vec::new();
        put_capsule(&mut wanted, Dialect::Current, capsule);
        let (mut got, mut byte) = (Vec::new(), [0]);
        while got.len() < wanted.len() {
            let n = self.frames.read_data(&mut byte).await.expect("data");
            got.extend_from_slice(&byte[..n.expect("not the end")]);
        }
        assert_eq!(got, wanted, "{capsule:?}");
    }

    async fn reset(&mut self) {
        let mut scrap = [0; 64];
        let error = loop {
            match self.frames.read_data(&mut scrap).await {
                Ok(None) => panic!("not a clean end"),
                Ok(Some(_)) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error, StreamError::Lane(LaneError::Reset(Code::MESSAGE_ERROR.0)));
    }
}

fn assign(context: u64, target: Option<SocketAddr>) -> BindCapsule {
    BindCapsule::Assign(Assign { context, target })
}

#[test]
fn what_is_agreed_on() {
    with_relay(bound(), |world| async move {
        let port = closed_port();
        let plain = format!("127.0.0.1/{port}");
        for (path, field, status, agreed) in [
            ("%2A/%2A", &["?1"][..], 200, true),
            ("%2A/%2A", &["?1;x=y"], 200, true),
            (&plain, &["?1"], 200, true),
            // Anything but one true boolean is as if absent.
            (&plain, &[], 200, false),
            (&plain, &["?1", "?1"], 200, false),
            (&plain, &["?0"], 200, false),
            (&plain, &["1"], 200, false),
            ("%2A/%2A", &["?0"], 400, false),
            // X21: one star is neither.
            ("%2A/443", &["?1"], 400, false),
            ("127.0.0.1/%2A", &["?1"], 400, false),
            ("127.0.0.1/0", &["?1"], 400, false),
            ("127.0.0.1/70000", &["?1"], 400, false),
        ] {
            let (_send, _frames, response) = raw(&world, &head(path, field)).await;
            assert_eq!(response.status, status, "{path} {field:?}");
            let public = bind::address::parse(&response.fields);
            assert_eq!(public.is_ok(), agreed, "{path} {field:?}");
            assert_eq!(crate::masque::is_true(&response.fields, bind::FIELD), agreed);
            if let Ok(public) = public {
                assert_eq!(public.len(), 1);
                assert!(public[0].ip().is_loopback() && public[0].port() > 0);
            }
        }
    });
}

#[test]
fn what_ends_a_tunnel() {
    let peer = Some(address("127.0.0.1:9"));
    let other = Some(address("127.0.0.1:10"));
    let none: &[BindCapsule] = &[];
    let cases: [(&str, &[BindCapsule], &[u8]); 12] = [
        ("X3: context 0", &[assign(0, None)], &[]),
        ("an odd context of a client", &[assign(1, peer)], &[]),
        ("X5: nothing to acknowledge", &[BindCapsule::Ack(4)], &[]),
        ("X6: CLOSE of 0", &[BindCapsule::Close(0)], &[]),
        (
            "X7: a second uncompressed",
            &[assign(2, None), assign(8, None)],
            &[],
        ),
        ("X9: twice", &[assign(4, peer), assign(4, other)], &[]),
        (
            "X9: again after CLOSE",
            &[assign(4, peer), BindCapsule::Close(4), assign(4, peer)],
            &[],
        ),
        ("X10: one tuple twice", &[assign(4, peer), assign(8, peer)], &[]),
        ("X11: context 0 without a target", none, &[0, 1, 2]),
        ("X20: no whole context", none, &[0x40]),
        ("nothing at all", none, &[]),
        ("an uncompressed one of a proxy", &[assign(3, None)], &[]),
    ];
    with_relay(bound(), move |world| async move {
        for (ended, (what, capsules, datagram)) in (1..).zip(cases) {
            eprintln!("{what}");
            let mut raw = raw_bind(&world).await;
            if capsules.is_empty() {
                raw.datagram(datagram);
            } else {
                raw.tell(capsules).await;
            }
            raw.reset().await;
            world.until(|s| s.closed_fault == ended).await;
        }
        // X4, X5, X19: capsules that are not exactly what they should be. X11 in a capsule that is longer than a packet.
        for bytes in [
            &[0x11, 2, 2, 5][..],
            &[0x11, 3, 2, 0, 0xff],
            &[0x11, 7, 2, 4, 0xc0, 0, 2, 1, 0],
            &[0x12, 2, 2, 0],
            &[0, 0],
            &[0, 0x46, 0, 0, 1],
        ] {
            let mut raw = raw_bind(&world).await;
            write_all(&mut raw.send, &data_frame(bytes))
                .await
                .expect("written");
            raw.reset().await;
        }
        assert_eq!(world.client.lane().closed(), None, "only the streams");
    });
}

#[test]
fn what_does_not_end_a_tunnel() {
    with_relay(bound(), |world| async move {
        let (socket, at) = world.socket();
        let mut raw = raw_bind(&world).await;
        // X7, the legal half: closed and opened with a new id.
        raw.tell(&[assign(2, None), BindCapsule::Close(2), assign(8, None)])
            .await;
        raw.answer(BindCapsule::Ack(2)).await;
        raw.answer(BindCapsule::Ack(8)).await;
        // X12: on a closed context; CLOSE of what was never open.
        raw.datagram(&[2, 4, 127, 0, 0, 1, 0, 9, 1]);
        raw.tell(&[BindCapsule::Close(2), BindCapsule::Close(77)]).await;
        // X13: no tuple, or half of one.
        for bytes in [
            &[8, 2][..],
            &[8, 2, 5, 0xc0],
            &[8, 2, 4, 0xc0, 0],
            &[8],
            &[8, 4, 127, 0, 0, 1, 0],
        ] {
            raw.datagram(bytes);
        }
        world.until(|s| s.bind_dropped_unreadable == 5).await;
        // X12: on a context nobody registered: kept for a while, a few of them.
        for _ in 0..20 {
            raw.datagram(&[10, 1]);
        }
        world.until(|s| s.bind_dropped_unknown == 4).await;
        // Those that are kept go out once it is registered.
        raw.tell(&[assign(10, Some(at))]).await;
        raw.answer(BindCapsule::Ack(10)).await;
        let mut buffer = [0; 10];
        for _ in 0..16 {
            assert_eq!(socket.recv_from(&mut buffer).await.expect("a packet").0, 1);
        }
        // V3: an id in more bytes than it needs.
        raw.datagram(&[0x40, 10, 7, 7]);
        assert_eq!(socket.recv_from(&mut buffer).await.expect("a packet").0, 2);
        assert_eq!(world.snapshot().closed_fault, 0);
    });
}

#[test]
fn contexts_are_limited() {
    let mut config = bound();
    config.bind.limits.contexts = 3;
    with_relay(config, |world| async move {
        let tunnel = world.bind().await;
        let (socket, at) = world.socket();
        for port in 1..=2 {
            tunnel
                .compress(SocketAddr::new(at.ip(), port))
                .expect("room here");
        }
        world.until(|s| s.bind_contexts_open == 3).await;
        tunnel.compress(at).expect("room here");
        world.until(|s| s.bind_contexts_refused == 1).await;
        // It was told, and goes on as before.
        socket.try_send_to(b"!", tunnel.public_addrs()[0]).expect("sent");
        expect(&tunnel, b"!", at).await;
        assert!(!tunnel.is_compressed(at));
        tunnel.send_to(b"!!", at).expect("sent");
        expect_at(&socket, b"!!", tunnel.public_addrs()[0]).await;
        assert_eq!(world.snapshot().bind_contexts_open, 3);
    });
}

#[test]
fn contexts_are_limited_by_the_hook() {
    let mut config = bound();
    config.hook = Arc::new(|request: &RequestMeta<'_>| {
        assert_eq!(
            (request.protocol, request.target),
            (Protocol::Bind, Asked::Anybody)
        );
        let mut limits = TunnelLimits::new();
        limits.contexts = Some(0);
        Decision::Accept(Grant::new().with_limits(limits))
    });
    with_relay(config, |world| async move {
        let tunnel = world.bind().await;
        world.until(|s| s.bind_contexts_refused == 1).await;
        drop(tunnel);
    });
}

#[test]
fn the_hook_may_refuse() {
    let mut config = bound();
    config.hook = Arc::new(|_: &RequestMeta<'_>| {
        Decision::reject(403, ProxyStatus::new(ProxyError::HttpRequestDenied))
    });
    with_relay(config, |world| async move {
        let refused = world.client.bind_udp(&BindOptions::default()).await;
        assert_eq!(refused.expect_err("refused").kind(), TunnelErrorKind::Policy);
    });
}

#[test]
fn answers_nobody_takes_end_the_tunnel() {
    with_relay(bound(), |world| async move {
        let mut raw = raw_bind(&world).await;
        let mut capsules = Vec::new();
        for context in 1..=5000u64 {
            let capsule = assign(context * 2, Some(address("127.0.0.1:9")));
            put_capsule(&mut capsules, Dialect::Current, capsule);
            put_capsule(&mut capsules, Dialect::Current, BindCapsule::Close(context * 2));
        }
        // The relay stops reading when it gives up.
        while write_all(&mut raw.send, &data_frame(&capsules)).await.is_ok() {}
        raw.reset().await;
        world.until(|s| s.closed_fault == 1).await;
    });
}

#[test]
fn scattered_contexts_end_the_tunnel() {
    with_relay(bound(), |world| async move {
        let mut raw = raw_bind(&world).await;
        for n in 1..=65u64 {
            let peer = SocketAddr::new(loopback().ip(), 1000 + n as u16);
            raw.tell(&[assign(n * 4, Some(peer))]).await;
        }
        raw.reset().await;
    });
}

#[test]
fn the_rate_and_the_length_of_packets_are_limited() {
    let mut config = bound();
    config.quota.mbit_per_session = 1;
    with_relay(config, |world| async move {
        let mut raw = raw_bind(&world).await;
        let (_socket, at) = world.socket();
        raw.tell(&[assign(2, Some(at))]).await;
        raw.answer(BindCapsule::Ack(2)).await;
        // Longer than a packet on Ethernet is told by no datagram of this lane; a capsule can.
        let mut long = vec![0x00, 0x45, 0xc2, 2];
        long.resize(4 + 0x5c1, 7);
        write_all(&mut raw.send, &data_frame(&long))
            .await
            .expect("written");
        world.until(|s| s.dropped_too_large == 1).await;
        for _ in 0..200 {
            raw.datagram(&[&[2][..], &[7; 1000]].concat());
        }
        world
            .until(|s| s.dropped_rate > 0 && s.dropped_rate + s.udp_packets_up == 200)
            .await;
    });
}

#[test]
fn quiet_ports_are_given_back() {
    let mut config = bound();
    config.udp_idle = Duration::from_millis(200);
    with_relay(config, |world| async move {
        let tunnel = world.bind().await;
        let public = tunnel.public_addrs()[0];
        let ended = tunnel.closed().await;
        assert_eq!(ended.kind(), TunnelErrorKind::Refused, "{ended}");
        tunnel.recv_from().await.expect_err("it is over");
        world.until(|s| s.closed_idle == 1 && s.tunnels_open == 0).await;
        std::net::UdpSocket::bind(public).expect("the port is free");
    });
}

#[test]
fn nothing_goes_to_a_forbidden_address_by_packet_or_registration() {
    let mut config = strict();
    config.bind.addresses.push("::1".parse().expect("address"));
    with_relay(config, |world| async move {
        let mut raw = raw_bind(&world).await;
        raw.tell(&[assign(2, None)]).await;
        raw.answer(BindCapsule::Ack(2)).await;
        for (count, (context, text)) in (1..).zip((4u64..).step_by(2).zip(FORBIDDEN)) {
            let peer = SocketAddr::new(text.parse().expect(text), 80);
            let mut datagram = Vec::new();
            bind::datagram::put_header(&mut datagram, 2, peer);
            raw.datagram(&datagram);
            raw.tell(&[assign(context, Some(peer))]).await;
            raw.answer(BindCapsule::Close(context)).await;
            world
                .until(|s| s.bind_dropped_policy == count && s.bind_contexts_refused == count)
                .await;
        }
        assert_eq!(world.snapshot().udp_packets_up, 0);
    });
}

#[test]
fn packets_to_what_was_registered_are_judged_as_well() {
    let mut config = bound();
    config.policy.allow.push("10.0.0.0/8".parse().expect("network"));
    config.policy.deny.push("10.9.0.0/16".parse().expect("network"));
    with_relay(config, |world| async move {
        let mut raw = raw_bind(&world).await;
        let denied = [10, 9, 0, 1];
        raw.tell(&[assign(2, None), assign(4, Some((denied, 9).into()))])
            .await;
        raw.answer(BindCapsule::Ack(2)).await;
        raw.answer(BindCapsule::Close(4)).await;
        // A refused context is no way there.
        raw.datagram(&[4, 1]);
        raw.datagram(&[&[2, 4][..], &denied, &[0, 9, 1]].concat());
        world.until(|s| s.bind_dropped_policy == 1).await;
        assert_eq!(world.snapshot().udp_packets_up, 0);
    });
}

#[test]
fn the_older_dialect_is_spoken_when_it_is_asked_for() {
    let mut config = bound();
    config.bind.dialect = Dialect::Older;
    with_relay(config, |world| async move {
        let options = BindOptions {
            dialect: Dialect::Older,
            ..BindOptions::default()
        };
        let tunnel = world.bind_with(&options).await;
        let (socket, at) = world.socket();
        tunnel.send_to(b"ping", at).expect("sent");
        expect_at(&socket, b"ping", tunnel.public_addrs()[0]).await;
        tunnel.compress(at).expect("room");
        world.until(|s| s.bind_contexts_open == 2).await;
        socket
            .try_send_to(b"pong", tunnel.public_addrs()[0])
            .expect("sent");
        expect(&tunnel, b"pong", at).await;
        // Who speaks the other one is not understood, and breaks nothing: V27 the other way round.
        let newer = world.bind().await;
        newer.send_to(b"?", at).expect("sent");
        world.until(|s| s.tunnels_open == 2).await;
        assert_eq!(world.snapshot().bind_contexts_open, 2);
        assert_eq!(world.snapshot().closed_fault, 0);
    });
}
