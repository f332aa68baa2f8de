//! IP tunnels end to end, over lanes in memory and a device that remembers what it was given.

use std::cell::RefCell;
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::gateway::{Gateway, Plan};
use super::pool::Lease;
use crate::driver::clock;
use crate::http::RequestHead;
use crate::ip::checksum::Sum;
use crate::ip::{Network, Packet, protocol};
use crate::local::{Handle, Loop};
use crate::masque::ip::{IpScope, ScopeTarget};
use crate::masque::{Template, capsule};
use crate::relay::resolve::Resolver;
use crate::relay::service::{Relay, Shared};
use crate::relay::{RelayConfig, Snapshot};
use crate::tun::offload::VNET_HEADER;
use crate::tunnel::ip::Device;
use crate::tunnel::pipe::{PipeLane, lanes};
use crate::tunnel::{Client, IpEvent, IpRequest, IpTunnel, TunnelErrorKind};
use crate::{ClientId, Peer};

/// Keeps the packets that leave tunnels.
#[derive(Debug, Default)]
struct Memory(RefCell<Vec<Vec<u8>>>);

impl Device for Memory {
    fn put(&self, packet: &[u8]) {
        self.0.borrow_mut().push(packet.to_vec());
    }

    fn flush(&self) {}

    fn take_dropped(&self) -> u64 {
        0
    }
}

struct World {
    local: Handle,
    relay: Rc<Relay<PipeLane>>,
    gateway: Option<Rc<Gateway<PipeLane>>>,
    shared: Arc<Shared>,
    device: Rc<Memory>,
    leases: Rc<RefCell<Vec<Lease>>>,
}

struct Offer {
    pools: &'static [&'static str],
    routes: &'static [&'static str],
    between_clients: bool,
}

const USUAL: Offer = Offer {
    pools: &["10.77.0.0/29", "fd77::/64"],
    routes: &["192.0.2.0/24", "2001:db8::/32"],
    between_clients: false,
};

fn networks(texts: &[&str]) -> Vec<Network> {
    texts
        .iter()
        .map(|text| text.parse().expect("a network"))
        .collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn with_relay<F: Future<Output = ()>>(offer: Option<&Offer>, test: impl FnOnce(Rc<World>) -> F) {
    let mut looper = Loop::new(1000).expect("loop");
    let local = looper.handle();
    let config = RelayConfig::default();
    let shared = Arc::new(Shared::new(&config));
    let resolver = Resolver::start().expect("threads");
    let mut relay = Relay::new(local.clone(), config, resolver, Arc::clone(&shared));
    let (device, leases) = (Rc::<Memory>::default(), Rc::<RefCell<Vec<Lease>>>::default());
    let kept = Rc::clone(&leases);
    let gateway = offer.map(|offer| {
        let plan = Plan {
            pools: networks(offer.pools),
            routes: networks(offer.routes),
            between_clients: offer.between_clients,
            leases: Vec::new(),
            on_lease: Box::new(move |told| kept.borrow_mut().push(told)),
        };
        let device: Rc<dyn Device> = device.clone();
        Rc::new(Gateway::new(plan, device, 7, Arc::clone(&shared)).expect("a plan"))
    });
    relay.gateway = gateway.clone();
    let world = World {
        local: local.clone(),
        relay: Rc::new(relay),
        gateway,
        shared,
        device,
        leases,
    };
    let done = looper
        .run(local.timeout(Duration::from_secs(10), test(Rc::new(world))))
        .expect("loop");
    assert!(done.is_ok(), "the test hangs");
}

impl World {
    fn client(&self, id: u64, peer: Peer) -> Client<PipeLane> {
        let (near, far) = lanes();
        assert!(self.relay.serve(id, far, peer));
        let (client, work) = Client::new(near, Template::relay());
        self.local.spawn(async move { drop(work.await) }).expect("room");
        client
    }

    /// A client with both addresses, its tunnel, and what else it was told.
    async fn tunnel(&self, id: u64, peer: Peer) -> (IpTunnel<PipeLane>, Vec<Network>) {
        let client = self.client(id, peer);
        let mut tunnel = client.connect_ip(&IpRequest::default()).await.expect("a tunnel");
        assert!(matches!(next(&mut tunnel).await, IpEvent::Routes(_)));
        match next(&mut tunnel).await {
            IpEvent::Addresses(addresses) => (tunnel, addresses),
            other => panic!("{other:?}"),
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    async fn until(&self, wanted: impl Fn(&Snapshot) -> bool) {
        while !wanted(&self.snapshot()) {
            self.local.sleep(Duration::from_millis(1)).await;
        }
    }

    /// What has left the tunnels since the last look.
    fn left(&self) -> Vec<Vec<u8>> {
        self.device.0.take()
    }

    /// The device gives a packet.
    fn arrives(&self, packet: &[u8]) {
        let mut frame = vec![0; VNET_HEADER];
        frame.extend_from_slice(packet);
        let gateway = self.gateway.as_ref().expect("a gateway");
        gateway.take_from_device(clock::now().instant, &mut frame);
    }
}

async fn next(tunnel: &mut IpTunnel<PipeLane>) -> IpEvent {
    tunnel.recv().await.expect("an event")
}

async fn packet(tunnel: &mut IpTunnel<PipeLane>) -> Vec<u8> {
    match next(tunnel).await {
        IpEvent::Packet(packet) => packet.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// A UDP packet without a checksum of its payload.
fn udp(source: IpAddr, destination: IpAddr, len: usize) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) else {
        return udp_v6(source, destination, len);
    };
    let mut packet = vec![0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = !Sum::new().bytes(&packet).fold();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend([0x10, 0, 0x20, 0, ((len - 20) >> 8) as u8, (len - 20) as u8, 0, 0]);
    packet.resize(len, 7);
    packet
}

fn udp_v6(source: IpAddr, destination: IpAddr, len: usize) -> Vec<u8> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (source, destination) else {
        panic!("families")
    };
    let payload = len - 40;
    let mut packet = vec![0x60, 0, 0, 0, (payload >> 8) as u8, payload as u8, 17, 64];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend([0x10, 0, 0x20, 0, (payload >> 8) as u8, payload as u8, 0xff, 0xff]);
    packet.resize(len, 7);
    packet
}

fn icmp_kind(packet: &[u8]) -> (u8, u8) {
    let packet = Packet::parse(packet).expect("an ICMP packet");
    assert!(matches!(packet.protocol(), protocol::ICMP | protocol::ICMPV6));
    let transport = packet.transport().expect("not a fragment");
    (transport[0], transport[1])
}

#[test]
fn packets_pass_both_ways_between_client_and_device() {
    with_relay(Some(&USUAL), |world| async move {
        let (mut tunnel, addresses) = world.tunnel(1, Peer::Anonymous).await;
        assert_eq!(addresses, networks(&["10.77.0.2", "fd77::2"]));
        for (own, far) in [
            ("10.77.0.2", "192.0.2.9"),
            ("fd77::2", "2001:db8::9"),
            ("10.77.0.2", "10.77.0.1"),
        ] {
            let up = udp(ip(own), ip(far), 200);
            tunnel.send(1, &up).expect("sent");
            world.until(|s| s.ip_packets_up > 0).await;
            world.local.sleep(Duration::from_millis(2)).await;
            assert_eq!(world.left(), [up], "nothing was changed");
            let down = udp(ip(far), ip(own), 300);
            world.arrives(&down);
            assert_eq!(packet(&mut tunnel).await, down);
        }
        let s = world.snapshot();
        assert_eq!((s.ip_opened, s.ip_packets_down, s.ip_bytes_down), (1, 3, 900));
    });
}

#[test]
fn a_packet_that_lies_or_strays_is_answered_and_counted() {
    with_relay(Some(&USUAL), |world| async move {
        let (mut tunnel, _) = world.tunnel(1, Peer::Anonymous).await;
        for (source, destination, kind) in [
            ("10.77.0.3", "192.0.2.9", (3, 13)),
            ("fd77::3", "2001:db8::9", (1, 5)),
            ("10.77.0.2", "198.51.100.1", (3, 0)),
            ("fd77::2", "2600::1", (1, 0)),
            ("10.77.0.2", "10.77.0.3", (3, 13)),
        ] {
            tunnel
                .send(1, &udp(ip(source), ip(destination), 100))
                .expect("sent");
            assert_eq!(
                icmp_kind(&packet(&mut tunnel).await),
                kind,
                "{source} {destination}"
            );
        }
        // Nobody is told of these.
        for (source, destination) in [
            ("0.0.0.0", "255.255.255.255"),
            ("10.77.0.2", "224.0.0.1"),
            ("fe80::1", "ff02::2"),
        ] {
            tunnel
                .send(1, &udp(ip(source), ip(destination), 100))
                .expect("sent");
        }
        tunnel.send(1, &[0x45, 0, 0]).expect("sent");
        tunnel.send(1, &[]).expect("sent");
        world.until(|s| s.ip_dropped_malformed == 2).await;
        let s = world.snapshot();
        assert_eq!(
            (s.ip_dropped_source, s.ip_dropped_policy, s.ip_errors_sent),
            (2, 6, 5)
        );
        assert!(world.left().is_empty());
    });
}

#[test]
fn default_routes_are_judged_by_the_policy_and_named_ones_are_meant() {
    let offer = Offer {
        routes: &["0.0.0.0/0", "172.16.9.0/24"],
        ..USUAL
    };
    with_relay(Some(&offer), |world| async move {
        let (mut tunnel, _) = world.tunnel(1, Peer::Anonymous).await;
        let own = ip("10.77.0.2");
        for inside in ["127.0.0.1", "169.254.169.254"] {
            tunnel.send(1, &udp(own, ip(inside), 100)).expect("sent");
        }
        for private in ["10.0.0.1", "192.168.1.1", "100.64.0.1"] {
            tunnel.send(1, &udp(own, ip(private), 100)).expect("sent");
            assert_eq!(icmp_kind(&packet(&mut tunnel).await), (3, 13), "{private}");
        }
        for allowed in ["1.1.1.1", "172.16.9.1"] {
            tunnel.send(1, &udp(own, ip(allowed), 100)).expect("sent");
        }
        world.until(|s| s.ip_packets_up == 2).await;
        assert_eq!(world.snapshot().ip_dropped_policy, 5);
    });
}

#[test]
fn clients_reach_each_other_only_when_that_is_wanted() {
    let offer = Offer {
        between_clients: true,
        ..USUAL
    };
    with_relay(Some(&offer), |world| async move {
        let (mut a, _) = world.tunnel(1, Peer::Anonymous).await;
        let (mut b, _) = world.tunnel(2, Peer::Anonymous).await;
        let sent = udp(ip("10.77.0.2"), ip("10.77.0.3"), 100);
        a.send(1, &sent).expect("sent");
        let got = packet(&mut b).await;
        assert_eq!((got[8], sent[8]), (63, 64), "one hop");
        assert!(Packet::parse(&got).is_ok(), "the checksum follows");
        let mut old = sent.clone();
        old[8] = 1;
        old[10..12].fill(0);
        let sum = !Sum::new().bytes(&old[..20]).fold();
        old[10..12].copy_from_slice(&sum.to_be_bytes());
        a.send(1, &old).expect("sent");
        assert_eq!(icmp_kind(&packet(&mut a).await), (11, 0));
        a.send(1, &udp(ip("10.77.0.2"), ip("10.77.0.4"), 100))
            .expect("sent");
        assert_eq!(
            icmp_kind(&packet(&mut a).await),
            (3, 1),
            "nobody has that address"
        );
    });
}

#[test]
fn what_the_path_does_not_take_is_cut_pieced_or_refused() {
    // The lane takes 1,200 bytes, two of them for ids.
    with_relay(Some(&USUAL), |world| async move {
        let (mut tunnel, _) = world.tunnel(1, Peer::Anonymous).await;
        let (own, far) = (ip("10.77.0.2"), ip("192.0.2.9"));
        assert_eq!(tunnel.max_packet(), 1280);
        let large = udp(far, own, 1280);
        world.arrives(&large);
        let first = packet(&mut tunnel).await;
        let second = packet(&mut tunnel).await;
        let [first, second] = [&first, &second].map(|bytes| Packet::parse(bytes).expect("a fragment"));
        assert!(first.is_fragment() && second.is_fragment() && first.len() <= 1198);
        let v6 = udp(ip("2001:db8::9"), ip("fd77::2"), 1280);
        world.arrives(&v6);
        assert_eq!(packet(&mut tunnel).await, v6, "in two pieces");
        world.arrives(&udp(ip("2001:db8::9"), ip("fd77::2"), 1281));
        let told = world.left();
        assert_eq!(icmp_kind(&told[0]), (2, 0));
        assert_eq!(Packet::parse(&told[0]).expect("ICMP").source(), ip("fd77::2"));
        assert_eq!(told[0][44..48], 1280u32.to_be_bytes());
        let up = udp(ip("fd77::2"), ip("2001:db8::9"), 1250);
        tunnel.send(1, &up).expect("in two pieces");
        world.until(|s| s.ip_packets_up == 1).await;
        assert_eq!(world.left(), [up]);
        assert_eq!(world.snapshot().dropped_too_large, 1);
    });
}

#[test]
fn a_scope_narrows_the_routes() {
    with_relay(Some(&USUAL), |world| async move {
        let client = world.client(1, Peer::Anonymous);
        let scope = |target: &str, protocol| IpScope {
            target: ScopeTarget::Network(target.parse().expect("a network")),
            protocol,
        };
        let wanted = IpRequest {
            scope: scope("192.0.2.128/25", Some(protocol::UDP)),
            ..IpRequest::default()
        };
        let mut tunnel = client.connect_ip(&wanted).await.expect("a tunnel");
        let IpEvent::Routes(routes) = next(&mut tunnel).await else {
            panic!("routes first")
        };
        assert!(routes.admit(ip("192.0.2.200"), 17) && !routes.admit(ip("192.0.2.200"), 6));
        assert!(!routes.admit(ip("192.0.2.1"), 17) && routes.admit(ip("192.0.2.200"), 1));
        assert!(matches!(next(&mut tunnel).await, IpEvent::Addresses(_)));
        world.arrives(&udp(ip("192.0.2.1"), ip("10.77.0.2"), 100));
        world.arrives(&udp(ip("192.0.2.130"), ip("10.77.0.2"), 100));
        let got = packet(&mut tunnel).await;
        assert_eq!(Packet::parse(&got).expect("UDP").source(), ip("192.0.2.130"));
        let nowhere = IpRequest {
            scope: scope("203.0.113.0/24", None),
            ..IpRequest::default()
        };
        let error = client.connect_ip(&nowhere).await.expect_err("no route");
        assert_eq!(error.kind(), TunnelErrorKind::Refused);
    });
}

#[test]
fn a_full_pool_denies_and_a_known_client_keeps_its_address() {
    with_relay(Some(&USUAL), |world| async move {
        let known = Peer::Client(ClientId::from_bytes([7; 32]));
        let (first, addresses) = world.tunnel(1, known).await;
        assert_eq!(addresses[0].first(), ip("10.77.0.2"));
        assert_eq!(
            world.leases.borrow().last().map(|lease| lease.addresses.clone()),
            Some(vec![ip("10.77.0.2"), ip("fd77::2")])
        );
        // Back before the old connection is known to be dead: the address moves.
        let (mut again, same) = world.tunnel(2, known).await;
        assert_eq!(same, addresses);
        world.arrives(&udp(ip("192.0.2.9"), ip("10.77.0.2"), 100));
        packet(&mut again).await;
        drop(first);
        world.until(|s| s.tunnels_open == 1).await;
        world.arrives(&udp(ip("192.0.2.9"), ip("10.77.0.2"), 100));
        packet(&mut again).await;
        let mut others = Vec::new();
        for id in 3..=6 {
            others.push(world.tunnel(id, Peer::Anonymous).await);
        }
        let (_, last) = world.tunnel(7, Peer::Anonymous).await;
        assert_eq!(last.len(), 1, "IPv6 alone is left");
        assert_eq!(world.snapshot().ip_pool_exhausted, 1);
        drop(others);
        world.until(|s| s.tunnels_open == 1).await;
        world.arrives(&udp(ip("192.0.2.9"), ip("10.77.0.4"), 100));
        assert_eq!(icmp_kind(&world.left()[0]), (3, 1), "nobody is there now");
        assert_eq!(world.snapshot().ip_dropped_no_client, 1);
    });
}

#[test]
fn malformed_capsules_end_the_tunnel_and_a_relay_without_ip_says_so() {
    with_relay(None, |world| async move {
        let error = world
            .client(1, Peer::Anonymous)
            .connect_ip(&IpRequest::default())
            .await;
        let error = error.expect_err("not served");
        assert_eq!(error.refusal().map(|refusal| refusal.status), Some(501));
        assert!(error.to_string().contains("no IP tunnels"), "{error}");
    });
    with_relay(Some(&USUAL), |world| async move {
        let client = world.client(1, Peer::Anonymous);
        let head = RequestHead::extended("connect-ip", "relay", "/.well-known/masque/ip/192.0.2.1%2F24/6/");
        assert_eq!(client.status_of(&head).await, Some(400), "host bits");
        let head = RequestHead::extended("connect-ip", "relay", "/.well-known/masque/ip/example.org/6/");
        assert_eq!(client.status_of(&head).await, Some(501), "names");
        // X15: an empty ADDRESS_REQUEST.
        let mut capsule = Vec::new();
        capsule::put(&mut capsule, 2, &[]);
        let mut tunnel = client.connect_ip(&IpRequest::default()).await.expect("a tunnel");
        tunnel.tell(&capsule);
        let error = loop {
            match tunnel.recv().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), TunnelErrorKind::Transport, "{error}");
        world.until(|s| s.closed_fault == 1).await;
    });
}
