//! What the hook sees and grants.

use std::net::IpAddr;
use std::sync::Mutex;

use super::super::grant::Egress;
use super::super::{Asked, Protocol};
use super::*;

/// A TCP server and a UDP socket that tell each peer its own address.
fn mirrors(world: &World) -> (u16, u16) {
    let listener = TcpListener::bind(&world.local, loopback()).expect("bind");
    let socket = UdpSocket::bind(&world.local, loopback()).expect("bind");
    let ports = (
        listener.local_addr().expect("addr").port(),
        socket.local_addr().expect("addr").port(),
    );
    let serve = async move {
        while let Ok((stream, from)) = listener.accept().await {
            stream
                .write_all(from.ip().to_string().as_bytes())
                .await
                .expect("write");
        }
    };
    world.local.spawn(serve).expect("room");
    let serve = async move {
        let mut buffer = [0; 100];
        while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
            socket
                .try_send_to(from.ip().to_string().as_bytes(), from)
                .expect("send");
        }
    };
    world.local.spawn(serve).expect("room");
    ports
}

/// The address that targets see, by TCP and by UDP.
async fn seen(world: &World) -> (IpAddr, IpAddr) {
    let (tcp, udp) = mirrors(world);
    let mut stream = world.client.connect_tcp("127.0.0.1", tcp).await.expect("tunnel");
    let (mut text, mut buffer) = (Vec::new(), [0; 100]);
    while let Some(n) = stream.read(&mut buffer).await.expect("read") {
        text.extend_from_slice(&buffer[..n]);
    }
    let packets = world.client.connect_udp("127.0.0.1", udp).await.expect("tunnel");
    packets.send(b"who am I?").expect("send");
    let answer = packets.recv().await.expect("answer");
    let parse = |text: &[u8]| str::from_utf8(text).expect("text").parse().expect("address");
    (parse(&text), parse(&answer))
}

fn egress_of(egress: Egress) -> RelayConfig {
    let mut config = config();
    config.hook =
        Arc::new(move |_: &RequestMeta<'_>| Decision::Accept(Grant::new().with_egress(egress.clone())));
    config
}

#[cfg(target_os = "linux")]
#[test]
fn tunnels_leave_from_the_address_that_was_granted() {
    let mut egress = Egress::new();
    egress.source_v4 = Some(Ipv4Addr::new(127, 0, 0, 9));
    with_relay(egress_of(egress), |world| async move {
        let wanted = IpAddr::from([127, 0, 0, 9]);
        assert_eq!(seen(&world).await, (wanted, wanted));
    });
}

#[cfg(target_os = "linux")]
#[test]
fn tunnels_leave_by_the_interface_that_was_granted() {
    let mut egress = Egress::new();
    egress.interface = Some("lo".into());
    with_relay(egress_of(egress), |world| async move {
        let wanted = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(seen(&world).await, (wanted, wanted));
    });
    let mut egress = Egress::new();
    egress.interface = Some("no-such-device".into());
    with_relay(egress_of(egress), |world| async move {
        let port = world.udp_echo();
        let tcp = world
            .client
            .connect_tcp("127.0.0.1", port)
            .await
            .expect_err("tcp");
        let udp = world
            .client
            .connect_udp("127.0.0.1", port)
            .await
            .expect_err("udp");
        for failure in [tcp, udp] {
            assert_eq!(failure.refusal().map(|refusal| refusal.status), Some(503));
        }
    });
}

#[test]
fn the_hook_sees_what_is_asked() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut config = config();
    let told = Arc::clone(&seen);
    config.hook = Arc::new(move |meta: &RequestMeta<'_>| {
        let Asked::Host(target) = meta.target else {
            panic!("a host was asked for")
        };
        let line = format!(
            "{} {target} {} {:?} {} {:?}",
            meta.protocol.name(),
            meta.path,
            meta.field("x-test"),
            meta.early,
            meta.peer
        );
        told.lock().expect("lock").push(line);
        assert!(!meta.export(b"label", &mut [0; 8]), "memory has no keys");
        Decision::accept()
    });
    with_relay(config, |world| async move {
        let port = world.udp_echo();
        let path = format!("/.well-known/masque/udp/127.0.0.1/{port}/");
        let mut head = RequestHead::extended("connect-udp", "relay", &path);
        head.fields.push(Field::new("x-test", "1"));
        assert_eq!(world.client.status_of(&head).await, Some(200));
        let wanted = format!("udp 127.0.0.1:{port} {path} Some(\"1\") false Anonymous");
        assert_eq!(*seen.lock().expect("lock"), [wanted]);
        assert_eq!(Protocol::Bind.name(), "bind");
    });
}
