//! Client and relay end to end, over lanes in memory and real sockets on loopback.

mod access;
mod bind;
mod forbidden;
mod grants;
mod moving;
mod tenants;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::grant::Grant;
use super::hook::{Decision, OnRequest, RequestMeta};
use super::resolve::Resolver;
use super::service::{Relay, Shared};
use super::{Quota, RelayConfig, Snapshot, TargetPolicy};
use crate::Peer;
use crate::http::{Code, Field, RequestHead, ResponseHead};
use crate::local::{Handle, Loop, TcpListener, TcpStream, UdpSocket};
use crate::masque::lane::{Lane, LaneError, LaneRecv, LaneSend};
use crate::masque::proxy_status::{ProxyError, ProxyStatus};
use crate::masque::{Template, capsule};
use crate::tunnel::frames::{FrameReader, StreamError, write_all};
use crate::tunnel::pipe::{PipeLane, PipeRecv, PipeSend, lanes};
use crate::tunnel::{Client, TunnelErrorKind};

struct World {
    local: Handle,
    client: Client<PipeLane>,
    relay: Rc<Relay<PipeLane>>,
    shared: Arc<Shared>,
}

fn loopback() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
}

fn config() -> RelayConfig {
    let mut config = RelayConfig::default();
    config.policy.allow = vec!["127.0.0.1".parse().expect("network")];
    config
}

fn template() -> Template {
    Template::well_known("relay.example").expect("template")
}

/// Runs `test` with a client of a relay, at most ten seconds.
fn with_relay<F: Future<Output = ()>>(config: RelayConfig, test: impl FnOnce(World) -> F) {
    let mut looper = Loop::new(1000).expect("loop");
    let local = looper.handle();
    let shared = Arc::new(Shared::new(&config));
    let names = Arc::clone(&config.names);
    let relay = Rc::new(Relay::new(
        local.clone(),
        config,
        Resolver::asking(names).expect("threads"),
        Arc::clone(&shared),
    ));
    let world = World {
        local: local.clone(),
        client: join(&local, &relay, 0),
        relay,
        shared,
    };
    let done = looper
        .run(local.timeout(Duration::from_secs(10), test(world)))
        .expect("loop");
    assert!(done.is_ok(), "the test hangs");
}

/// A session of `relay`.
fn join(local: &Handle, relay: &Rc<Relay<PipeLane>>, id: u64) -> Client<PipeLane> {
    let (near, far) = lanes();
    assert!(relay.serve(id, far, Peer::Anonymous));
    let (client, work) = Client::new(near, template());
    local.spawn(async move { drop(work.await) }).expect("room");
    client
}

impl World {
    /// Another session of the same relay.
    fn join(&self, id: u64) -> Client<PipeLane> {
        join(&self.local, &self.relay, id)
    }

    fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// A TCP server that sends everything back, and the end after the end.
    fn tcp_echo(&self) -> u16 {
        let listener = TcpListener::bind(&self.local, loopback()).expect("bind");
        let port = listener.local_addr().expect("addr").port();
        let local = self.local.clone();
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                local.spawn(echo(stream)).expect("room");
            }
        };
        self.local.spawn(serve).expect("room");
        port
    }

    fn udp_echo(&self) -> u16 {
        let socket = UdpSocket::bind(&self.local, loopback()).expect("bind");
        let port = socket.local_addr().expect("addr").port();
        let serve = async move {
            let mut buffer = [0; 2000];
            while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
                socket.try_send_to(&buffer[..n], from).expect("send");
            }
        };
        self.local.spawn(serve).expect("room");
        port
    }

    /// Waits until the relay's figures are as wanted.
    async fn until(&self, wanted: impl Fn(&Snapshot) -> bool) {
        while !wanted(&self.snapshot()) {
            self.local.sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn echo(stream: TcpStream) {
    let mut buffer = vec![0; 30_000];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
}

fn closed_port() -> u16 {
    std::net::TcpListener::bind(loopback())
        .expect("bind")
        .local_addr()
        .expect("addr")
        .port()
}

#[test]
fn tcp_both_ways_with_half_close() {
    with_relay(config(), |world| async move {
        let tunnel = world
            .client
            .connect_tcp("127.0.0.1", world.tcp_echo())
            .await
            .expect("tunnel");
        let (mut sender, mut receiver) = tunnel.split();
        let sent: Vec<u8> = (0..3_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
        let copy = sent.clone();
        let send = async move {
            sender.write_all(&copy).await.expect("write");
            sender.finish();
        };
        world.local.spawn(send).expect("room");
        let (mut got, mut buffer) = (Vec::new(), vec![0; 100_000]);
        while let Some(n) = receiver.read(&mut buffer).await.expect("read") {
            got.extend_from_slice(&buffer[..n]);
        }
        assert!(got == sent);
        world
            .until(|s| s.closed_finished == 1 && s.tunnels_open == 0)
            .await;
        let snapshot = world.snapshot();
        assert_eq!(
            (snapshot.tcp_bytes_up, snapshot.tcp_bytes_down),
            (3_000_000, 3_000_000)
        );
    });
}

#[test]
fn udp_both_ways() {
    with_relay(config(), |world| async move {
        let tunnel = world
            .client
            .connect_udp("127.0.0.1", world.udp_echo())
            .await
            .expect("tunnel");
        assert_eq!(tunnel.max_payload(), 1198);
        for len in [0, 1, 1198] {
            tunnel.send(&vec![5; len]).expect("send");
            assert_eq!(tunnel.recv().await.expect("echo").to_vec(), vec![5; len]);
        }
        tunnel.send(&[0; 1199]).expect_err("too large");
        drop(tunnel);
        world
            .until(|s| s.closed_finished == 1 && s.tunnels_open == 0)
            .await;
        assert_eq!(world.snapshot().udp_packets_down, 3);
    });
}

#[test]
fn two_udp_tunnels_do_not_mix() {
    with_relay(config(), |world| async move {
        let port = world.udp_echo();
        let one = world.client.connect_udp("127.0.0.1", port).await.expect("tunnel");
        let two = world.client.connect_udp("127.0.0.1", port).await.expect("tunnel");
        one.send(b"one").expect("send");
        two.send(b"two").expect("send");
        assert_eq!(&*two.recv().await.expect("echo"), b"two");
        assert_eq!(&*one.recv().await.expect("echo"), b"one");
    });
}

#[test]
fn refusals_say_why() {
    with_relay(config(), |world| async move {
        let cases = [
            (
                "127.0.0.2",
                80,
                403,
                ProxyError::DestinationIpProhibited,
                TunnelErrorKind::Policy,
            ),
            (
                "10.1.2.3",
                80,
                403,
                ProxyError::DestinationIpProhibited,
                TunnelErrorKind::Policy,
            ),
            (
                "::ffff:169.254.169.254",
                80,
                403,
                ProxyError::DestinationIpProhibited,
                TunnelErrorKind::Policy,
            ),
            (
                "no-such-name.invalid",
                80,
                502,
                ProxyError::DnsError,
                TunnelErrorKind::Dns,
            ),
        ];
        for (host, port, status, error, kind) in cases {
            let tcp = world.client.connect_tcp(host, port).await.expect_err("refused");
            let udp = world.client.connect_udp(host, port).await.expect_err("refused");
            for failure in [tcp, udp] {
                assert_eq!(failure.kind(), kind, "{host}: {failure}");
                let refusal = failure.refusal().expect("an answer");
                assert_eq!(refusal.status, status, "{host}");
                assert_eq!(
                    refusal.proxy_status.as_ref().and_then(|s| s.error),
                    Some(error),
                    "{host}"
                );
            }
        }
        let failure = world
            .client
            .connect_tcp("127.0.0.1", closed_port())
            .await
            .expect_err("nobody listens");
        assert_eq!(failure.kind(), TunnelErrorKind::Refused);
        assert_eq!(failure.refusal().expect("an answer").status, 503);
        let local_name = world
            .client
            .connect_tcp("localhost.localdomain.", 0)
            .await
            .expect_err("port 0");
        assert_eq!(local_name.kind(), TunnelErrorKind::BadTarget);
        let snapshot = world.snapshot();
        assert_eq!(
            (
                snapshot.rejected_policy,
                snapshot.rejected_dns,
                snapshot.rejected_unreachable
            ),
            (6, 2, 1)
        );
    });
}

#[test]
fn a_target_that_takes_too_long_is_a_timeout() {
    let mut config = config();
    // No handshake is fast enough for this.
    config.connect_timeout = Duration::ZERO;
    with_relay(config, |world| async move {
        let failure = world
            .client
            .connect_tcp("127.0.0.1", world.tcp_echo())
            .await
            .expect_err("too slow");
        assert_eq!(failure.refusal().map(|r| r.status), Some(504));
        assert_eq!(failure.kind(), TunnelErrorKind::Timeout);
        assert_eq!(world.snapshot().rejected_timeout, 1);
    });
}

#[test]
fn tunnels_per_session_are_limited() {
    let mut config = config();
    config.quota.tunnels_per_session = 2;
    with_relay(config, |world| async move {
        let port = world.tcp_echo();
        let one = world.client.connect_tcp("127.0.0.1", port).await.expect("first");
        let _two = world
            .client
            .connect_udp("127.0.0.1", world.udp_echo())
            .await
            .expect("second");
        let failure = world
            .client
            .connect_tcp("127.0.0.1", port)
            .await
            .expect_err("third");
        assert_eq!(failure.kind(), TunnelErrorKind::Limit);
        assert_eq!(failure.refusal().map(|r| r.status), Some(503));
        drop(one);
        world.until(|s| s.tunnels_open == 1).await;
        world
            .client
            .connect_tcp("127.0.0.1", port)
            .await
            .expect("there is room again");
        assert_eq!(world.snapshot().rejected_limit, 1);
    });
}

#[test]
fn sessions_are_limited() {
    let mut config = config();
    config.quota = Quota {
        sessions: 1,
        ..Quota::default()
    };
    with_relay(config, |world| async move {
        assert!(!world.relay.serve(1, lanes().0, Peer::Anonymous));
        assert_eq!(world.snapshot().sessions_refused, 1);
        world.client.lane().close(0, "");
        world.until(|s| s.sessions_open == 0).await;
        assert!(world.relay.serve(2, lanes().0, Peer::Anonymous));
    });
}

/// What passes a TCP tunnel both ways does so at 40 Mbit/s.
fn is_limited_to_40_mbit(config: RelayConfig) {
    with_relay(config, |world| async move {
        let tunnel = world
            .client
            .connect_tcp("127.0.0.1", world.tcp_echo())
            .await
            .expect("tunnel");
        let (mut sender, mut receiver) = tunnel.split();
        let start = crate::now().instant;
        let send = async move {
            sender.write_all(&vec![1; 1_500_000]).await.expect("write");
            sender.finish();
        };
        world.local.spawn(send).expect("room");
        let mut buffer = vec![0; 65_536];
        while receiver.read(&mut buffer).await.expect("read").is_some() {}
        // 3 MB both ways less a burst of 0.5 MB, at 5 MB/s.
        let took = crate::now().instant - start;
        assert!((450..3000).contains(&took.as_millis()), "{took:?}");
    });
}

#[test]
fn the_rate_of_a_session_is_limited() {
    let mut config = config();
    config.quota.mbit_per_session = 40;
    is_limited_to_40_mbit(config);
}

#[test]
fn a_reset_by_the_target_is_a_connect_error() {
    with_relay(config(), |world| async move {
        let listener = TcpListener::bind(&world.local, loopback()).expect("bind");
        let port = listener.local_addr().expect("addr").port();
        let mut tunnel = world.client.connect_tcp("127.0.0.1", port).await.expect("tunnel");
        let (stream, _) = listener.accept().await.expect("accept");
        // Closing with unread bytes makes the kernel send a reset.
        tunnel.write_all(b"unread").await.expect("write");
        world.until(|s| s.tcp_bytes_up == 6).await;
        world.local.sleep(Duration::from_millis(5)).await;
        drop(stream);
        let error = tunnel.read(&mut [0; 10]).await.expect_err("reset");
        assert_eq!(error.kind(), TunnelErrorKind::Transport);
        assert!(error.to_string().contains("H3_CONNECT_ERROR"), "{error}");
        world.until(|s| s.closed_by_target == 1).await;
    });
}

#[test]
fn an_unreachable_udp_port_closes_the_tunnel() {
    with_relay(config(), |world| async move {
        let socket = std::net::UdpSocket::bind(loopback()).expect("bind");
        let port = socket.local_addr().expect("addr").port();
        drop(socket);
        let tunnel = world.client.connect_udp("127.0.0.1", port).await.expect("tunnel");
        tunnel.send(b"anybody?").expect("send");
        assert_eq!(
            tunnel.recv().await.expect_err("closed").kind(),
            TunnelErrorKind::Refused
        );
        world.until(|s| s.closed_by_target == 1).await;
    });
}

#[test]
fn quiet_udp_tunnels_end() {
    let mut config = config();
    config.udp_idle = Duration::from_millis(300);
    with_relay(config, |world| async move {
        let start = crate::now().instant;
        let tunnel = world
            .client
            .connect_udp("127.0.0.1", world.udp_echo())
            .await
            .expect("tunnel");
        world.local.sleep(Duration::from_millis(200)).await;
        tunnel.send(b"awake").expect("send");
        assert_eq!(&*tunnel.recv().await.expect("echo"), b"awake");
        tunnel.recv().await.expect_err("idle");
        assert!(crate::now().instant - start >= Duration::from_millis(500));
        assert_eq!(world.snapshot().closed_idle, 1);
    });
}

#[test]
fn draining_lets_tunnels_finish() {
    with_relay(config(), |world| async move {
        let mut tunnel = world
            .client
            .connect_tcp("127.0.0.1", world.tcp_echo())
            .await
            .expect("tunnel");
        let relay = Rc::clone(&world.relay);
        world
            .local
            .spawn(async move { relay.drain(Duration::from_secs(5)).await })
            .expect("room");
        while !world.client.is_draining() {
            world.local.sleep(Duration::from_millis(1)).await;
        }
        let failure = world
            .client
            .connect_tcp("127.0.0.1", 1)
            .await
            .expect_err("draining");
        assert_eq!(failure.kind(), TunnelErrorKind::Draining);
        tunnel.write_all(b"last words").await.expect("write");
        tunnel.finish();
        let mut got = [0; 10];
        assert_eq!(tunnel.read(&mut got).await.expect("echo"), Some(10));
        assert_eq!(tunnel.read(&mut [0; 10]).await.expect("end"), None);
        while world.client.lane().closed().is_none() {
            world.local.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(world.client.lane().closed(), Some(Code::NO_ERROR.0));
    });
}

#[test]
fn draining_has_a_deadline() {
    with_relay(config(), |world| async move {
        let mut tunnel = world
            .client
            .connect_tcp("127.0.0.1", world.tcp_echo())
            .await
            .expect("tunnel");
        world.relay.drain(Duration::from_millis(50)).await;
        assert_eq!(world.client.lane().closed(), Some(Code::NO_ERROR.0));
        drop(tunnel.write_all(b"x").await);
    });
}

struct OnlyUdp;

impl OnRequest for OnlyUdp {
    fn on_request(&self, request: &RequestMeta<'_>) -> Decision {
        if request.protocol == super::Protocol::Udp {
            return Decision::Accept(Grant::new().with_policy(TargetPolicy::default()));
        }
        Decision::Reject {
            status: 407,
            proxy_status: Some(ProxyStatus::new(ProxyError::HttpRequestDenied)),
            fields: vec![Field::new("proxy-authenticate", "Basic realm=\"x\"")],
        }
    }
}

#[test]
fn the_hook_decides() {
    let mut config = config();
    config.hook = Arc::new(OnlyUdp);
    with_relay(config, |world| async move {
        let tcp = world
            .client
            .connect_tcp("127.0.0.1", 1)
            .await
            .expect_err("rejected");
        assert_eq!(tcp.refusal().map(|r| r.status), Some(407));
        let udp = world
            .client
            .connect_udp("127.0.0.1", 1)
            .await
            .expect_err("the hook's own policy");
        assert_eq!(udp.kind(), TunnelErrorKind::Policy);
        assert_eq!(world.snapshot().rejected_by_hook, 1);
    });
}

/// A request of our own making.
async fn raw(world: &World, head: &RequestHead) -> (PipeSend, FrameReader<PipeRecv>, ResponseHead) {
    let (mut send, recv) = world.client.lane().open_bi().await.expect("stream");
    let mut out = Vec::new();
    head.put(&mut out);
    write_all(&mut send, &out).await.expect("write");
    let mut frames = FrameReader::new(recv);
    let payload = frames.read_head().await.expect("head").expect("an answer");
    frames.head_done();
    let response = ResponseHead::parse(&payload).expect("well-formed");
    (send, frames, response)
}

#[test]
fn what_is_not_served() {
    with_relay(config(), |world| async move {
        let get = RequestHead {
            method: "GET".into(),
            scheme: Some("https".into()),
            authority: Some("relay".into()),
            path: Some("/".into()),
            ..RequestHead::default()
        };
        let path = "/.well-known/masque/udp/127.0.0.1/99999/";
        let cases = [
            (get, 405),
            (
                RequestHead::extended("connect-ip", "relay", "/.well-known/masque/ip/*/*/"),
                501,
            ),
            (RequestHead::extended("connect-udp", "relay", "/elsewhere"), 404),
            (RequestHead::extended("connect-udp", "relay", path), 400),
            (RequestHead::connect("127.0.0.1"), 400),
            (RequestHead::connect("127.1:80"), 400),
        ];
        for (head, status) in cases {
            let (_send, _frames, response) = raw(&world, &head).await;
            assert_eq!(response.status, status, "{head:?}");
            assert!(ProxyStatus::from_fields(&response.fields).is_some_and(|s| s.error.is_some()));
        }
        assert_eq!(world.snapshot().rejected_unsupported, 3);
    });
}

fn data_frame(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    crate::http::frame::put(&mut out, crate::http::frame::kind::DATA, content);
    out
}

#[test]
fn capsules_are_packets_too() {
    with_relay(config(), |world| async move {
        let port = world.udp_echo();
        let path = format!("/.well-known/masque/udp/127.0.0.1/{port}/");
        let head = RequestHead::extended("connect-udp", "relay", &path);
        let (mut send, mut frames, response) = raw(&world, &head).await;
        assert_eq!(response, ResponseHead::new(200).with("capsule-protocol", "?1"));
        // An unknown capsule, then "ping", cut across DATA frames.
        let mut capsules = vec![0x17, 2, 0xa1, 0xa2];
        capsule::put(&mut capsules, capsule::kind::DATAGRAM, b"\0ping");
        for byte in &capsules {
            write_all(&mut send, &data_frame(&[*byte])).await.expect("write");
        }
        world.until(|s| s.udp_packets_down == 1).await;
        // X20: a capsule without a context id aborts the stream.
        write_all(&mut send, &data_frame(&[0, 0])).await.expect("write");
        let mut scrap = [0; 16];
        let error = loop {
            match frames.read_data(&mut scrap).await {
                Ok(None) => panic!("not a clean end"),
                Ok(Some(_)) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error, StreamError::Lane(LaneError::Reset(Code::MESSAGE_ERROR.0)));
        world.until(|s| s.closed_fault == 1).await;
        assert_eq!(world.client.lane().closed(), None, "only the stream");
    });
}

#[test]
fn a_datagram_for_a_tcp_tunnel_aborts_it() {
    with_relay(config(), |world| async move {
        let mut tunnel = world
            .client
            .connect_tcp("127.0.0.1", world.tcp_echo())
            .await
            .expect("tunnel");
        world.client.lane().send_datagram(vec![0, 0, 1]).expect("sent");
        let error = tunnel.read(&mut [0; 10]).await.expect_err("aborted");
        assert!(error.to_string().contains("H3_DATAGRAM_ERROR"), "{error}");
    });
}

/// What the relay does with bytes on a fresh request stream: the code of the stream's reset.
async fn reset_code(world: &World, bytes: &[u8], fin: bool) -> Option<u64> {
    let (mut send, mut recv) = world.client.lane().open_bi().await.expect("stream");
    write_all(&mut send, bytes).await.expect("write");
    if fin {
        send.finish();
    }
    let mut scrap = [0; 16];
    match std::future::poll_fn(|cx| recv.poll_read(cx, &mut scrap)).await {
        Err(LaneError::Reset(code)) => Some(code),
        _ => None,
    }
}

#[test]
fn broken_requests() {
    with_relay(config(), |world| async move {
        assert_eq!(
            reset_code(&world, &[], true).await,
            Some(Code::REQUEST_INCOMPLETE.0)
        );
        assert_eq!(
            reset_code(&world, &[1, 2, 0, 0], false).await,
            Some(Code::MESSAGE_ERROR.0)
        );
        assert_eq!(
            reset_code(&world, &[1, 0x80, 1, 0, 0], false).await,
            Some(Code::EXCESSIVE_LOAD.0)
        );
        assert_eq!(world.client.lane().closed(), None);
        assert_eq!(
            reset_code(&world, &[0, 1, 9], false).await,
            Some(Code::FRAME_UNEXPECTED.0)
        );
        assert_eq!(world.client.lane().closed(), Some(Code::FRAME_UNEXPECTED.0));
    });
}
