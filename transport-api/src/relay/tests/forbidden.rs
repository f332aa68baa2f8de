//! Nothing is forwarded to a forbidden address, whatever the encoding: as it stands in the request, behind a name, and after the
//! name has changed its mind.

use std::io;
use std::net::{IpAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::Names;
use super::*;

/// One of each, in every way to write it.
pub(super) const FORBIDDEN: &[&str] = &[
    // Of IPv4: this machine, private, shared, link-local, metadata, multicast, broadcast, reserved, unspecified.
    "127.0.0.1",
    "127.8.9.10",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "0.0.0.0",
    "0.1.2.3",
    // Mapped.
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:224.0.0.1",
    "::ffff:0.0.0.0",
    // Compatible (RFC 4291 §2.5.5.1), and the translated form of RFC 2765.
    "::127.0.0.1",
    "::10.0.0.1",
    "::169.254.169.254",
    "::ffff:0:127.0.0.1",
    // NAT64, well-known and for local use (RFC 8215), at several lengths of its prefix.
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b::224.0.0.1",
    "64:ff9b:1::127.0.0.1",
    "64:ff9b:1::808:808",
    "64:ff9b:1:a9fe:a9:fe00::",
    "64:ff9b:1:ffff::a00:1",
    // 6to4, Teredo.
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2002:a9fe:a9fe::1",
    "2001:0:808:808:0:0:f5ff:fffe",
    // Unspecified, loopback, unique local, site-local, link-local, multicast, metadata, documentation, discard.
    "::",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "fe80::1",
    "febf::1",
    "ff02::1",
    "ff0e::1",
    "fd00:ec2::254",
    "2001:db8::1",
    "3fff::1",
    "100::1",
    "4000::1",
];

/// Answers with what stands in the name: each label is an address; what stands behind `then` is the next answer.
#[derive(Default)]
struct Written(AtomicUsize);

impl Names for Written {
    fn look_up(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let turns: Vec<&str> = name.trim_end_matches(".end").split(".then.").collect();
        let turn = self.0.fetch_add(1, Ordering::Relaxed).min(turns.len() - 1);
        let parse = |label: &str| label.replace('x', ":").replace('_', ".").parse::<IpAddr>();
        let parsed: Result<Vec<_>, _> = turns[turn].split('.').map(parse).collect();
        let found = parsed.map_err(io::Error::other)?;
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }
}

/// The label that stands for an address.
fn named(address: &str) -> String {
    address.replace(':', "x").replace('.', "_")
}

async fn is_forbidden(world: &World, host: &str, port: u16) {
    let tcp = world.client.connect_tcp(host, port).await.expect_err(host);
    let udp = world.client.connect_udp(host, port).await.expect_err(host);
    for failure in [tcp, udp] {
        let refusal = failure.refusal().unwrap_or_else(|| panic!("{host}: {failure}"));
        assert_eq!(refusal.status, 403, "{host}: {failure}");
        let why = refusal.proxy_status.as_ref().and_then(|status| status.error);
        assert_eq!(why, Some(ProxyError::DestinationIpProhibited), "{host}");
    }
}

#[test]
fn no_address_of_the_list_is_reached_directly() {
    with_relay(RelayConfig::default(), |world| async move {
        let listener = StdListener::bind(loopback()).expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("address").port();
        for address in FORBIDDEN {
            is_forbidden(&world, address, port).await;
        }
        let snapshot = world.snapshot();
        assert_eq!(snapshot.rejected_policy, 2 * FORBIDDEN.len() as u64);
        assert_eq!((snapshot.tcp_opened, snapshot.udp_opened), (0, 0));
        assert!(listener.accept().is_err(), "somebody was here");
    });
}

#[test]
fn no_address_of_the_list_is_reached_by_a_name() {
    let config = RelayConfig {
        names: Arc::new(Written::default()),
        ..RelayConfig::default()
    };
    with_relay(config, |world| async move {
        for address in FORBIDDEN {
            is_forbidden(&world, &format!("{}.end", named(address)), 9).await;
        }
        // Several at once.
        let all: Vec<_> = FORBIDDEN.iter().take(10).map(|address| named(address)).collect();
        is_forbidden(&world, &format!("{}.end", all.join(".")), 9).await;
        assert_eq!(world.snapshot().tcp_opened, 0);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_changes_its_mind_is_judged_anew_each_time() {
    for second in FORBIDDEN {
        let mut config = RelayConfig::default();
        config.policy.allow = vec!["127.0.0.77".parse().expect("network")];
        config.names = Arc::new(Written::default());
        with_relay(config, |world| async move {
            let here = SocketAddr::from(([127, 0, 0, 77], 0));
            let listener = StdListener::bind(here).expect("bind");
            let port = listener.local_addr().expect("address").port();
            let name = format!("127_0_0_77.then.{}.end", named(second));
            drop(
                world
                    .client
                    .connect_tcp(&name, port)
                    .await
                    .expect("allowed at first"),
            );
            is_forbidden(&world, &name, port).await;
        });
    }
}

#[test]
fn of_several_addresses_only_the_allowed_are_tried() {
    let mut config = config();
    config.names = Arc::new(Written::default());
    with_relay(config, |world| async move {
        let (tcp, udp) = (world.tcp_echo(), world.udp_echo());
        let name = "10_0_0_1.127_0_0_1.fe80xx1.end";
        let mut stream = world
            .client
            .connect_tcp(name, tcp)
            .await
            .expect("the allowed one");
        stream.write_all(b"x").await.expect("write");
        assert_eq!(stream.read(&mut [0; 2]).await.expect("echo"), Some(1));
        let packets = world
            .client
            .connect_udp(name, udp)
            .await
            .expect("the allowed one");
        packets.send(b"y").expect("sent");
        assert_eq!(&*packets.recv().await.expect("echo"), b"y");
    });
}
