//! CONNECT-UDP bind over real sockets: clients of one relay, strangers, and a relay that knows no bind.

mod common;

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use common::{LOOPBACK, PATIENCE, bundle, eventually, identity, pattern, statics};
use transport_api::relay::{
    Decision, Grant, Neighbours, Network, Quota, RelayConfig, RelayService, RequestMeta, Snapshot,
    TargetPolicy,
};
use transport_api::tunnel::{APP, BindOptions, BindSendError, BindSender, BoundUdp, Client, TunnelErrorKind};
use transport_api::{ConnectOptions, Endpoint, EndpointConfig, ServerOptions, Wait};

struct World {
    relay: RelayService,
    address: SocketAddr,
    endpoint: Endpoint,
}

fn world(change: impl FnOnce(&mut RelayConfig)) -> World {
    world_at(LOOPBACK, change)
}

/// A relay that listens at, binds ports at, and lets clients reach a loopback address.
fn world_at(at: SocketAddr, change: impl FnOnce(&mut RelayConfig)) -> World {
    let options = ServerOptions::open(identity().relay_id(), statics(), 1, APP);
    let server = Endpoint::bind(EndpointConfig::server(at, options)).expect("server socket");
    let address = server.local_addr();
    let mut config = RelayConfig::default();
    config.bind.addresses = vec![at.ip()];
    config.policy.allow = vec![Network::single(at.ip())];
    change(&mut config);
    World {
        relay: RelayService::start(server, config).expect("relay"),
        address,
        endpoint: Endpoint::bind(EndpointConfig::client(at)).expect("client socket"),
    }
}

impl World {
    fn client(&self) -> Client {
        let connecting = self
            .endpoint
            .connect(ConnectOptions::new(bundle(self.address), APP));
        let connection = connecting
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("a connection");
        Client::start_thread(connection).expect("thread")
    }

    fn bind(&self) -> (Client, BoundUdp) {
        let client = self.client();
        let bound = client
            .bind_udp(&BindOptions::default())
            .wait_timeout(PATIENCE)
            .expect("in time")
            .expect("bound");
        (client, bound)
    }

    fn until(&self, wanted: impl Fn(&Snapshot) -> bool) {
        let deadline = transport_api::now().instant + PATIENCE;
        while !wanted(&self.relay.snapshot()) {
            assert!(
                transport_api::now().instant < deadline,
                "{:?}",
                self.relay.snapshot()
            );
            std::thread::yield_now();
        }
    }
}

fn recv(bound: &BoundUdp) -> (Vec<u8>, SocketAddr) {
    let (packet, from) = bound
        .recv_from()
        .wait_timeout(PATIENCE)
        .expect("in time")
        .expect("a packet");
    (packet.to_vec(), from)
}

#[test]
fn handles_may_be_used_from_any_thread() {
    fn check<T: Send + Sync + Clone>() {}
    check::<BoundUdp>();
    check::<BindSender>();
}

#[test]
fn clients_of_one_relay_reach_each_other_at_their_public_addresses() {
    // Nothing on this machine is allowed but what the relay bound itself.
    let world = world(|config| config.policy.allow.clear());
    let ((_one, a), (_two, b)) = (world.bind(), world.bind());
    let (at_a, at_b) = (a.public_addrs()[0], b.public_addrs()[0]);
    let narrow = a.max_payload(at_b);
    for round in 0..200usize {
        let sent = pattern(round * 7 % narrow);
        a.send_to(&sent, at_b).expect("sent");
        assert_eq!(recv(&b), (sent.clone(), at_a));
        b.send_to(&sent, at_a).expect("sent");
        assert_eq!(recv(&a), (sent, at_b));
    }
    assert!(a.is_compressed(at_b) && b.is_compressed(at_a));
    assert_eq!(
        a.max_payload(at_b),
        narrow + 7,
        "address and port are no longer sent"
    );
    let largest = pattern(a.max_payload(at_b));
    a.send_to(&largest, at_b).expect("sent");
    assert_eq!(recv(&b), (largest, at_a));
    a.send_to(b"?", world.address).expect("sent");
    world.until(|s| s.bind_dropped_policy == 1);
}

#[test]
fn clients_of_several_services_that_are_one_relay_reach_each_other() {
    let table = Neighbours::new();
    let service = |neighbours: &Neighbours| {
        world(|config| {
            config.policy.allow.clear();
            config.bind.neighbours = neighbours.clone();
        })
    };
    let (one, other, foreign) = (service(&table), service(&table), service(&Neighbours::new()));
    let ((_a, a), (client_b, b), (_c, c)) = (one.bind(), other.bind(), foreign.bind());
    let (at_a, at_b, at_c) = (a.public_addrs()[0], b.public_addrs()[0], c.public_addrs()[0]);
    for round in 0..200usize {
        let sent = pattern(round * 5);
        a.send_to(&sent, at_b).expect("sent");
        assert_eq!(recv(&b), (sent.clone(), at_a));
        b.send_to(&sent, at_a).expect("sent");
        assert_eq!(recv(&a), (sent, at_b));
    }
    assert!(a.is_compressed(at_b) && b.is_compressed(at_a));
    // Whoever shares no table is a stranger on this machine, and nobody is left in it.
    a.send_to(b"?", at_c).expect("sent");
    one.until(|s| s.bind_dropped_policy == 1);
    drop((client_b, b));
    other.until(|s| s.tunnels_open == 0);
    a.send_to(b"?", at_b).expect("sent");
    one.until(|s| s.bind_dropped_policy == 2);
}

#[test]
fn a_changed_policy_reaches_bound_ports_but_not_what_was_granted() {
    let wide = TargetPolicy {
        allow: ["127.0.0.1", "::1"]
            .map(|one| one.parse().expect("network"))
            .into(),
        deny: Vec::new(),
    };
    for granted in [false, true] {
        let world = world(|config| {
            config.policy = wide.clone();
            config.bind.addresses.push(Ipv6Addr::LOCALHOST.into());
            if granted {
                let grant = Grant::new().with_policy(wide.clone());
                config.hook = Arc::new(move |_: &RequestMeta<'_>| Decision::Accept(grant.clone()));
            }
        });
        let (_client, bound) = world.bind();
        let [one, two] = ["127.0.0.1:0", "[::1]:0"].map(|at| UdpSocket::bind(at).expect("bind"));
        let send = |to: &UdpSocket| {
            bound
                .send_to(b"?", to.local_addr().expect("address"))
                .expect("sent");
        };
        let mut buffer = [0; 10];
        send(&one);
        one.recv_from(&mut buffer).expect("a packet");
        world.relay.update(TargetPolicy::default(), Quota::default());
        // Of this address there is no verdict yet.
        send(&two);
        if granted {
            two.recv_from(&mut buffer).expect("a packet");
        } else {
            world.until(|s| s.bind_dropped_policy == 1);
        }
    }
}

#[test]
fn six_is_carried_as_four_is() {
    let here = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let world = world_at(here, |_| {});
    let ((_one, bound), (_other, neighbour)) = (world.bind(), world.bind());
    let public = bound.public_addrs()[0];
    assert!(public.ip() == here.ip() && bound.public_addrs().len() == 1);
    let target = UdpSocket::bind(here).expect("bind");
    target.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let at = target.local_addr().expect("address");
    let mut buffer = [0; 2000];
    let mut exchange = |len: usize| {
        let sent = pattern(len);
        bound.send_to(&sent, at).expect("sent");
        let (len, from) = target.recv_from(&mut buffer).expect("a packet");
        assert_eq!((&buffer[..len], from), (&sent[..], public));
        // The relay may not have found yet how wide the path is.
        let answer = &sent[..len.min(1000)];
        target.send_to(answer, public).expect("sent");
        assert_eq!(recv(&bound), (answer.to_vec(), at));
    };
    assert!(!bound.is_compressed(at));
    for len in [0, 1, bound.max_payload(at)] {
        exchange(len);
    }
    bound.compress(at).expect("room");
    // That it is accepted is heard by who receives.
    eventually("address and port are no longer sent", || {
        exchange(1);
        bound.max_payload(at) == bound.max_payload(public) + 19
    });
    assert!(bound.is_compressed(at));
    for len in [0, bound.max_payload(at)] {
        exchange(len);
    }
    // What is no address of the relay's, and who else is bound there.
    let four = bound.send_to(b"?", "127.0.0.1:9".parse().expect("address"));
    assert_eq!(four, Err(BindSendError::Unsupported));
    bound
        .send_to(b"hello", neighbour.public_addrs()[0])
        .expect("sent");
    assert_eq!(recv(&neighbour), (b"hello".to_vec(), public));
}

#[test]
fn strangers_are_heard_and_kept_out() {
    let world = world(|_| {});
    let (_client, bound) = world.bind();
    let public = bound.public_addrs()[0];
    let (known, stranger) = (
        UdpSocket::bind(LOOPBACK).expect("bind"),
        UdpSocket::bind(LOOPBACK).expect("bind"),
    );
    let at_known = known.local_addr().expect("address");
    stranger.send_to(b"who is there?", public).expect("sent");
    assert_eq!(
        recv(&bound),
        (b"who is there?".to_vec(), stranger.local_addr().expect("address"))
    );
    bound.compress(at_known).expect("room");
    bound.firewall(true).expect("bound");
    // The relay's word that it knows: what is sent now is heard on a context.
    world.until(|s| s.bind_contexts_open == 1 && s.bind_contexts_opened == 2);
    stranger.send_to(b"still there?", public).expect("sent");
    world.until(|s| s.bind_dropped_no_context == 1);
    known.send_to(b"me", public).expect("sent");
    assert_eq!(recv(&bound), (b"me".to_vec(), at_known));
    bound.firewall(false).expect("room");
    world.until(|s| s.bind_contexts_open == 2);
    stranger.send_to(b"and now?", public).expect("sent");
    assert_eq!(recv(&bound).0, b"and now?");
}

#[test]
fn without_bind_the_target_alone_is_reached() {
    let world = world(|config| config.bind.enabled = false);
    let client = world.client();
    let echo = UdpSocket::bind(LOOPBACK).expect("bind");
    let target = echo.local_addr().expect("address");
    let options = BindOptions::default();
    let refused = client.bind_udp(&options).wait_timeout(PATIENCE).expect("in time");
    assert_eq!(refused.expect_err("no bind").kind(), TunnelErrorKind::BadTarget);
    let bound = client.bind_udp_to(target, &options).wait_timeout(PATIENCE);
    let bound = bound.expect("in time").expect("a tunnel");
    assert!(!bound.is_bound() && bound.public_addrs().is_empty());
    bound.send_to(b"plain", target).expect("sent");
    let mut buffer = [0; 100];
    let (len, from) = echo.recv_from(&mut buffer).expect("a packet");
    echo.send_to(&buffer[..len], from).expect("sent");
    assert_eq!(recv(&bound), (b"plain".to_vec(), target));
    bound.send_to(b"?", LOOPBACK).expect_err("nobody else");
}
