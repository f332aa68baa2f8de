//! The client's end against a relay of our own making, over a lane in memory.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use super::{BindOptions, BindSendError, BoundUdp};
use crate::http::{Code, Field, ResponseHead, frame};
use crate::local::{Handle, Loop, yield_now};
use crate::masque::Template;
use crate::masque::bind::{Assign, BindCapsule, Dialect, put_capsule};
use crate::masque::capsule;
use crate::masque::lane::{Lane, LaneSend};
use crate::tunnel::frames::write_all;
use crate::tunnel::pipe::{PipeLane, lanes};
use crate::tunnel::session::{RequestStream, Role, Session};
use crate::tunnel::{Client, TunnelErrorKind, UdpTunnel};

struct Relay {
    local: Handle,
    lane: PipeLane,
    stream: RequestStream<PipeLane>,
}

/// Runs `test` with what `open` gets from a relay that answers 200 with `fields`, and that relay's end.
fn with_relay<T: 'static, O: Future<Output = T>, F: Future<Output = ()>>(
    fields: &[(&str, &str)],
    open: impl FnOnce(Client<PipeLane>) -> O,
    test: impl FnOnce(T, Relay) -> F,
) {
    let mut looper = Loop::new(10).expect("loop");
    let local = looper.handle();
    let (near, far) = lanes();
    let (client, work) = Client::new(near, Template::relay());
    local.spawn(async move { drop(work.await) }).expect("room");
    let session = Session::new(far.clone(), Role::Server);
    let running = session.clone();
    local
        .spawn(async move { drop(running.run().await) })
        .expect("room");
    let mut head = ResponseHead::new(200);
    head.fields
        .extend(fields.iter().map(|(name, value)| Field::new(*name, *value)));
    let served = async {
        let mut stream = session.accept_request().await.expect("a request");
        stream.frames.read_head().await.expect("read").expect("a head");
        stream.frames.head_done();
        stream.route.inbox.open(true);
        let mut out = Vec::new();
        head.put(&mut out);
        write_all(&mut stream.send, &out).await.expect("written");
        let lane = far.clone();
        Relay {
            local: local.clone(),
            lane,
            stream,
        }
    };
    let all = async {
        let mut opening = std::pin::pin!(open(client));
        let mut serving = std::pin::pin!(served);
        let (mut opened, mut relay) = (None, None);
        std::future::poll_fn(|cx| {
            if opened.is_none()
                && let std::task::Poll::Ready(done) = opening.as_mut().poll(cx)
            {
                opened = Some(done);
            }
            if relay.is_none()
                && let std::task::Poll::Ready(done) = serving.as_mut().poll(cx)
            {
                relay = Some(done);
            }
            if opened.is_some() && relay.is_some() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        test(opened.expect("opened"), relay.expect("served")).await;
    };
    let done = looper
        .run(local.timeout(Duration::from_secs(5), all))
        .expect("loop");
    assert!(done.is_ok(), "the test hangs");
}

const BOUND: &[(&str, &str)] = &[
    ("connect-udp-bind", "?1"),
    (
        "proxy-public-address",
        "\"192.0.2.45:54321\", \"[2001:db8::1]:54321\"",
    ),
];

fn with_bound<F: Future<Output = ()>>(
    options: BindOptions,
    test: impl FnOnce(BoundUdp<PipeLane>, Relay) -> F,
) {
    let open = |client: Client<PipeLane>| async move { client.bind_udp(&options).await.expect("bound") };
    with_relay(BOUND, open, test);
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 11], port))
}

fn assign(context: u64, target: Option<SocketAddr>) -> BindCapsule {
    BindCapsule::Assign(Assign { context, target })
}

impl Relay {
    async fn say(&mut self, content: &[u8]) {
        let mut out = Vec::new();
        frame::put(&mut out, frame::kind::DATA, content);
        write_all(&mut self.stream.send, &out).await.expect("written");
    }

    async fn tell(&mut self, told: BindCapsule) {
        let mut out = Vec::new();
        put_capsule(&mut out, Dialect::Current, told);
        self.say(&out).await;
    }

    async fn hear(&mut self, wanted: BindCapsule) {
        let (mut expected, mut got, mut byte) = (Vec::new(), Vec::new(), [0]);
        put_capsule(&mut expected, Dialect::Current, wanted);
        while got.len() < expected.len() {
            let n = self.stream.frames.read_data(&mut byte).await.expect("data");
            got.extend_from_slice(&byte[..n.expect("not the end")]);
        }
        assert_eq!(got, expected, "{wanted:?}");
    }

    fn datagram(&self, bytes: &[u8]) {
        self.lane.send_datagram([&[0], bytes].concat()).expect("sent");
    }

    async fn next(&self) -> Vec<u8> {
        let next = std::future::poll_fn(|cx| self.stream.route.inbox.poll_recv(cx));
        next.await.expect("a datagram").to_vec()
    }
}

/// Receives in the background, as programs do.
fn keep_receiving(bound: &BoundUdp<PipeLane>, local: &Handle) {
    let bound = bound.clone();
    let receive = async move { while bound.recv_from().await.is_ok() {} };
    local.spawn(receive).expect("room");
}

#[test]
fn packets_are_written_as_the_draft_says() {
    with_bound(BindOptions::default(), |bound, mut relay| async move {
        assert_eq!(bound.public_addrs().len(), 2);
        relay.hear(assign(2, None)).await;
        // V13 and V14, and V15 below.
        bound
            .send_to(b"ping", "192.0.2.42:50000".parse().expect("peer"))
            .expect("sent");
        let v4 = [2, 4, 0xc0, 0, 2, 0x2a, 0xc3, 0x50, b'p', b'i', b'n', b'g'];
        assert_eq!(relay.next().await, v4);
        relay.datagram(&v4);
        let (packet, from) = bound.recv_from().await.expect("a packet");
        assert_eq!(
            (&*packet, from),
            (&b"ping"[..], "192.0.2.42:50000".parse().expect("peer"))
        );
        bound
            .send_to(b"", "[2001:db8::1]:443".parse().expect("peer"))
            .expect("sent");
        assert_eq!(relay.next().await[..2], [2, 6]);
        relay.tell(BindCapsule::Ack(2)).await;
        keep_receiving(&bound, &relay.local);
        relay.local.sleep(Duration::from_millis(20)).await;
        bound.compress(peer(60000)).expect("room");
        relay.hear(assign(4, Some(peer(60000)))).await;
        // Not accepted yet: as before.
        bound.send_to(b"ping", peer(60000)).expect("sent");
        assert_eq!(relay.next().await[..2], [2, 4]);
        relay.tell(BindCapsule::Ack(4)).await;
        let one = bound.max_payload(peer(60000));
        while bound.max_payload(peer(60000)) == one {
            yield_now().await;
        }
        bound.send_to(b"ping", peer(60000)).expect("sent");
        assert_eq!(relay.next().await, [4, b'p', b'i', b'n', b'g'], "V15");
        let mapped: SocketAddr = "[::ffff:203.0.113.11]:60000".parse().expect("peer");
        bound.send_to(b"pong", mapped).expect("sent");
        assert_eq!(relay.next().await, [4, b'p', b'o', b'n', b'g']);
    });
}

#[test]
fn a_crossing_ends_with_the_clients_context() {
    with_bound(BindOptions::default(), |bound, mut relay| async move {
        relay.hear(assign(2, None)).await;
        bound.compress(peer(1)).expect("room");
        keep_receiving(&bound, &relay.local);
        relay.tell(assign(1, Some(peer(1)))).await;
        relay.hear(assign(4, Some(peer(1)))).await;
        relay.hear(BindCapsule::Close(1)).await;
        assert!(bound.is_compressed(peer(1)));
        // One that nobody crosses is taken.
        relay.tell(assign(3, Some(peer(2)))).await;
        relay.hear(BindCapsule::Ack(3)).await;
        bound.send_to(b"x", peer(2)).expect("sent");
        assert_eq!(relay.next().await, [3, b'x']);
        bound.firewall(true).expect("bound");
        relay.hear(BindCapsule::Close(2)).await;
        assert_eq!(bound.send_to(b"x", peer(3)), Err(BindSendError::NoContext));
        // What it registers although strangers are kept out is refused.
        relay.tell(assign(5, Some(peer(3)))).await;
        relay.hear(BindCapsule::Close(5)).await;
        bound.firewall(false).expect("room");
        relay.hear(assign(6, None)).await;
    });
}

#[test]
fn a_relay_that_breaks_the_rules_is_left() {
    for told in [
        assign(1, None),
        assign(2, Some(peer(1))),
        assign(0, Some(peer(1))),
        BindCapsule::Ack(4),
        BindCapsule::Close(0),
    ] {
        with_bound(BindOptions::default(), |bound, mut relay| async move {
            relay.tell(told).await;
            let error = bound.recv_from().await.expect_err("a fault");
            assert_eq!(error.kind(), TunnelErrorKind::Protocol, "X8: {told:?}");
            assert_eq!(bound.closed().await.kind(), TunnelErrorKind::Protocol);
            let again = bound.recv_from().await.expect_err("still");
            assert_eq!(again.kind(), TunnelErrorKind::Protocol);
            assert_eq!(relay.lane.closed(), None, "only the stream");
        });
    }
    with_bound(BindOptions::default(), |bound, relay| async move {
        relay.datagram(&[0, 1]);
        let error = bound.recv_from().await.expect_err("X11");
        assert_eq!(error.kind(), TunnelErrorKind::Protocol);
    });
    // X25: WRAP_UP once, empty.
    with_bound(BindOptions::default(), |bound, mut relay| async move {
        let mut twice = Vec::new();
        capsule::put(&mut twice, 0x272d_da5e, &[]);
        capsule::put(&mut twice, 0x272d_da5e, &[]);
        relay.say(&twice).await;
        assert_eq!(
            bound.recv_from().await.expect_err("twice").kind(),
            TunnelErrorKind::Protocol
        );
    });
}

#[test]
fn answers_that_make_no_sense() {
    let cases: [(&[(&str, &str)], TunnelErrorKind); 4] = [
        (&[], TunnelErrorKind::Rejected),
        (&[("connect-udp-bind", "?0")], TunnelErrorKind::Rejected),
        (&[("connect-udp-bind", "?1")], TunnelErrorKind::Protocol),
        (
            &[
                ("connect-udp-bind", "?1"),
                ("proxy-public-address", "192.0.2.1:1"),
            ],
            TunnelErrorKind::Protocol,
        ),
    ];
    for (fields, kind) in cases {
        let open = |client: Client<PipeLane>| async move { client.bind_udp(&BindOptions::default()).await };
        with_relay(fields, open, |opened, _| async move {
            assert_eq!(opened.expect_err("no use").kind(), kind, "{fields:?}");
        });
    }
}

#[test]
fn datagrams_may_overtake_the_registration_of_their_context() {
    with_bound(BindOptions::default(), |bound, mut relay| async move {
        for n in 0..3 {
            relay.datagram(&[1, n]);
        }
        relay.tell(assign(1, Some(peer(7)))).await;
        for n in 0..3 {
            let (packet, from) = bound.recv_from().await.expect("a packet");
            assert_eq!((&*packet, from), (&[n][..], peer(7)));
        }
        relay.datagram(&[3, 9]);
        let none = relay
            .local
            .timeout(Duration::from_millis(1100), bound.recv_from());
        none.await.expect_err("nothing yet");
        relay.tell(assign(3, Some(peer(8)))).await;
        relay.datagram(&[3, 10]);
        let (packet, _) = bound.recv_from().await.expect("a packet");
        assert_eq!(*packet, [10], "one that waited too long is gone");
    });
}

fn with_udp<F: Future<Output = ()>>(test: impl FnOnce(UdpTunnel<PipeLane>, Relay) -> F) {
    let open =
        |client: Client<PipeLane>| async move { client.connect_udp("192.0.2.1", 7).await.expect("a tunnel") };
    with_relay(&[], open, test);
}

#[test]
fn the_end_of_a_udp_tunnel_is_told_to_who_does_not_receive() {
    with_udp(|tunnel, mut relay| async move {
        relay.stream.send.finish();
        let waiting = tunnel.clone();
        let ended = waiting.closed().await;
        assert_eq!(ended.kind(), TunnelErrorKind::Refused, "{ended}");
        assert_eq!(
            tunnel.recv().await.expect_err("over").kind(),
            TunnelErrorKind::Refused
        );
    });
    with_udp(|tunnel, mut relay| async move {
        relay.stream.send.reset(Code::CONNECT_ERROR.0);
        assert_eq!(tunnel.closed().await.kind(), TunnelErrorKind::Transport);
    });
}

#[test]
fn who_waits_for_the_end_takes_nothing_from_who_receives() {
    with_udp(|tunnel, mut relay| async move {
        let (watcher, receiver) = (tunnel.clone(), tunnel);
        let ends = std::rc::Rc::new(std::cell::Cell::new(0));
        for _ in 0..3 {
            let (watcher, ends) = (watcher.clone(), std::rc::Rc::clone(&ends));
            let watch = async move {
                assert_eq!(watcher.closed().await.kind(), TunnelErrorKind::Refused);
                ends.set(ends.get() + 1);
            };
            relay.local.spawn(watch).expect("room");
        }
        // As capsules, which both look for, and as a datagram.
        for n in 0..5 {
            yield_now().await;
            let mut packet = Vec::new();
            capsule::put(&mut packet, capsule::kind::DATAGRAM, &[0, n]);
            relay.say(&packet).await;
        }
        for n in 0..5 {
            assert_eq!(*receiver.recv().await.expect("a packet"), [n]);
        }
        relay.datagram(&[0, 6]);
        assert_eq!(*receiver.recv().await.expect("a packet"), [6]);
        let receiving = {
            let (receiver, ends) = (receiver.clone(), std::rc::Rc::clone(&ends));
            async move {
                receiver.recv().await.expect_err("the end");
                ends.set(ends.get() + 10);
            }
        };
        relay.local.spawn(receiving).expect("room");
        yield_now().await;
        relay.stream.send.finish();
        while ends.get() < 13 {
            yield_now().await;
        }
    });
}

#[test]
fn a_narrower_path_is_told() {
    with_udp(|tunnel, relay| async move {
        let wide = tunnel.max_payload();
        assert_eq!(tunnel.max_payload_changed(0).await, Ok(wide), "at once");
        let lane = relay.lane.clone();
        let local = relay.local.clone();
        let narrow = async move {
            local.sleep(Duration::from_millis(5)).await;
            lane.set_max_datagram(1000);
        };
        relay.local.spawn(narrow).expect("room");
        assert_eq!(tunnel.max_payload_changed(wide).await, Ok(1000 - 2));
    });
    with_bound(BindOptions::default(), |bound, relay| async move {
        let wide = bound.max_payload(peer(1));
        relay.lane.set_max_datagram(1000);
        assert_eq!(bound.max_payload_changed(peer(1), wide).await, Ok(1000 - 2 - 7));
        relay.lane.close(0, "");
        let narrow = bound.max_payload(peer(1));
        let over = bound.max_payload_changed(peer(1), narrow).await;
        assert_eq!(over.expect_err("over").kind(), TunnelErrorKind::Transport);
    });
}
