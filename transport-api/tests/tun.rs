//! TUN devices and netlink, each test in a network namespace of its own: the test starts itself again in one.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use mio::event::Source as _;
use mio::unix::SourceFd;
use transport_api::local::{Loop, TunDevice};
use transport_api::tun::netlink::{
    Address, MAIN_TABLE, Netlink, NetlinkError, Prefix, Route, RouteKind, Rule,
};
use transport_api::tun::{Tun, TunError, TunOptions};

// ---- namespaces ---------------------------------------------------------------------------------------------------

/// Tells a test that it is inside.
const INSIDE: &str = "ADIT_TUN_TEST";
/// Long enough for a loaded machine; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `body` in a new network namespace, reached by `way`; `name` is the test that calls.
fn inside(name: &str, way: &[&str], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == name) {
        return body();
    }
    let possible = Command::new(way[0])
        .args(&way[1..])
        .arg("true")
        .stderr(Stdio::null())
        .status();
    if !possible.is_ok_and(|status| status.success()) {
        return skip(name, &format!("`{}` is not allowed here", way.join(" ")));
    }
    // A container may show the file and forbid its use. Opening it makes no device yet.
    if let Err(error) = File::options().read(true).write(true).open("/dev/net/tun") {
        return skip(name, &format!("/dev/net/tun: {error}"));
    }
    let output = Command::new(way[0])
        .args(&way[1..])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, name)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "inside the namespace:\n{out}{err}");
    assert!(out.contains("1 passed"), "no test is named {name}:\n{out}{err}");
}

fn in_namespace(name: &str, body: impl FnOnce()) {
    inside(name, &["unshare", "-n"], body);
}

fn skip(name: &str, reason: &str) {
    let must_run = std::env::var_os("ADIT_NO_SKIP").is_some();
    assert!(!must_run, "{name} must not be skipped: {reason}");
    eprintln!("SKIP: {name}: {reason}");
}

// ---- helpers ------------------------------------------------------------------------------------------------------

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    (ip(address), length.parse().unwrap())
}

fn options(name: &str) -> TunOptions {
    TunOptions {
        name: Some(name.to_owned()),
        ..TunOptions::default()
    }
}

fn open(options: &TunOptions) -> Tun {
    let mut queues = Tun::open(options).unwrap();
    assert_eq!(queues.len(), 1);
    queues.remove(0)
}

/// Switches a device on, with 10.77.0.1/24; gives its number.
fn bring_up(netlink: &mut Netlink, name: &str) -> u32 {
    let index = netlink.link(name).unwrap().unwrap().index;
    netlink.set_link(index, Some(true), None).unwrap();
    netlink
        .add_address(index, &Address::new(prefix("10.77.0.1/24")))
        .unwrap();
    index
}

/// A socket of this host that speaks to somebody behind the device.
fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("10.77.0.1:0").unwrap();
    socket.connect("10.77.0.2:9").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Whether it is a UDP packet over IPv4; a device that is up sees neighbours being sought over IPv6 as well.
fn is_udp(packet: &[u8]) -> bool {
    packet.len() >= 28 && packet[0] == 0x45 && packet[9] == 17
}

/// The next packet; the kernel may still be handing it over when the socket says it is sent.
fn next(tun: &Tun, buffer: &mut [u8]) -> usize {
    loop {
        match tun.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(std::slice::from_ref(tun)),
            length => return length.unwrap(),
        }
    }
}

/// Until one of the queues has something.
fn wait(queues: &[Tun]) {
    let mut poll = mio::Poll::new().unwrap();
    let mut events = mio::Events::with_capacity(1);
    for queue in queues {
        let mut source = SourceFd(&queue.as_raw_fd());
        source
            .register(poll.registry(), mio::Token(0), mio::Interest::READABLE)
            .unwrap();
    }
    poll.poll(&mut events, Some(PATIENCE)).unwrap();
    assert!(!events.is_empty(), "nothing came");
}

/// The next UDP packet, behind a header of `header` bytes.
fn next_udp(tun: &Tun, header: usize) -> Vec<u8> {
    let mut buffer = [0; 2048];
    loop {
        let length = next(tun, &mut buffer);
        if is_udp(&buffer[header..length]) {
            return buffer[..length].to_vec();
        }
    }
}

/// Header of IPv4 and UDP of the answer to `packet`, to go before `payload`. UDP over IPv4 does without a checksum.
fn answer_head(packet: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut head = packet[..28].to_vec();
    head[12..16].copy_from_slice(&packet[16..20]);
    head[16..20].copy_from_slice(&packet[12..16]);
    head[20..22].copy_from_slice(&packet[22..24]);
    head[22..24].copy_from_slice(&packet[20..22]);
    head[2..4].copy_from_slice(&(28 + payload.len() as u16).to_be_bytes());
    head[24..26].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    head[26..28].fill(0);
    head[10..12].fill(0);
    let sum: u32 = head[..20]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    head[10..12].copy_from_slice(&(!folded as u16).to_be_bytes());
    head
}

fn assert_hears(socket: &UdpSocket, payload: &[u8]) {
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], payload);
}

// ---- devices ------------------------------------------------------------------------------------------------------

#[test]
fn a_device_lives_as_long_as_its_queues() {
    in_namespace("a_device_lives_as_long_as_its_queues", || {
        let mut netlink = Netlink::open().unwrap();
        let tun = open(&options("adit%d"));
        assert_eq!(tun.name(), "adit0");
        assert!(!tun.has_offload() && !tun.has_uso());
        let unnamed = open(&TunOptions::default());
        assert!(unnamed.name().starts_with("tun"), "{}", unnamed.name());

        let link = netlink.link("adit0").unwrap().unwrap();
        assert_eq!((&*link.name, link.up, link.mac), ("adit0", false, None));
        netlink.set_link(link.index, Some(true), Some(1280)).unwrap();
        let link = netlink.link("adit0").unwrap().unwrap();
        assert_eq!((link.up, link.mtu), (true, 1280));
        netlink.set_link(link.index, Some(false), None).unwrap();
        let link = netlink.link("adit0").unwrap().unwrap();
        assert_eq!((link.up, link.mtu), (false, 1280));

        drop(tun);
        assert_eq!(netlink.link("adit0").unwrap(), None);
        assert_eq!(netlink.link("a name longer than any device's").unwrap(), None);
        let error = netlink.set_link(link.index, Some(true), None).unwrap_err();
        assert!(matches!(error, NetlinkError::Missing { .. }), "{error}");
    });
}

#[test]
fn a_name_in_use_is_left_alone() {
    in_namespace("a_name_in_use_is_left_alone", || {
        let several = TunOptions {
            queues: 2,
            ..options("adit0")
        };
        let first = Tun::open(&several).unwrap();
        // Without asking for a device of one's own the kernel would let another in.
        for taken in [several, options("adit0"), options("lo")] {
            let error = Tun::open(&taken).unwrap_err();
            assert!(
                matches!(&error, TunError::NameTaken { name } if Some(name) == taken.name.as_ref()),
                "{error}"
            );
        }
        drop(first);
        open(&options("adit0"));
    });
}

#[test]
fn packets_pass_in_both_directions() {
    in_namespace("packets_pass_in_both_directions", || {
        let mut netlink = Netlink::open().unwrap();
        let tun = open(&options("adit0"));
        assert_eq!(tun.send(&[0x45; 28]).unwrap_err().raw_os_error(), Some(5), "down");
        bring_up(&mut netlink, "adit0");
        assert_eq!(
            tun.send(&[0xff; 28]).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );

        let socket = socket();
        socket.send(b"ping").unwrap();
        let packet = next_udp(&tun, 0);
        assert_eq!(packet[12..20], [10, 77, 0, 1, 10, 77, 0, 2]);
        assert_eq!(packet[20..22], socket.local_addr().unwrap().port().to_be_bytes());
        assert_eq!(packet[22..24], [0, 9]);
        assert_eq!(&packet[28..], b"ping");
        let mut buffer = [0; 2048];
        while let Ok(length) = tun.recv(&mut buffer) {
            assert!(!is_udp(&buffer[..length]), "it was sent once");
        }
        assert_eq!(
            tun.recv(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );

        let head = answer_head(&packet, b"pong");
        assert_eq!(tun.send(&[&*head, b"pong"].concat()).unwrap(), 32);
        assert_hears(&socket, b"pong");
        let parts = [IoSlice::new(&head), IoSlice::new(b"po"), IoSlice::new(b"ng")];
        assert_eq!(tun.send_parts(&parts).unwrap(), 32);
        assert_hears(&socket, b"pong");
    });
}

#[test]
fn a_device_wakes_tasks_of_a_loop() {
    in_namespace("a_device_wakes_tasks_of_a_loop", || {
        let mut local = Loop::new(1).unwrap();
        let handle = local.handle();
        let tun = TunDevice::new(&handle, open(&options("adit0"))).unwrap();
        bring_up(&mut Netlink::open().unwrap(), tun.get().name());
        let socket = socket();
        let exchange = async {
            for round in 0..100u8 {
                let other = socket.try_clone().unwrap();
                // Another thread sends, so that the loop is asleep at least sometimes.
                let sender = std::thread::spawn(move || other.send(&[round]).unwrap());
                let mut buffer = [0; 2048];
                let packet = loop {
                    let length = tun.recv(&mut buffer).await.unwrap();
                    if is_udp(&buffer[..length]) {
                        break &buffer[..length];
                    }
                };
                assert_eq!(packet[28..], [round]);
                let head = answer_head(packet, &[round]);
                let answer = [&*head, &[round]].concat();
                let sent = if round % 2 == 0 {
                    tun.try_send(&answer)
                } else {
                    std::future::poll_fn(|cx| tun.poll_send(cx, &answer)).await
                };
                assert_eq!(sent.unwrap(), 29);
                assert_hears(&socket, &[round]);
                sender.join().unwrap();
            }
        };
        local.run(handle.timeout(PATIENCE, exchange)).unwrap().unwrap();
    });
}

#[test]
fn two_queues_share_a_device() {
    in_namespace("two_queues_share_a_device", || {
        let mut netlink = Netlink::open().unwrap();
        let queues = Tun::open(&TunOptions {
            queues: 2,
            offload: true,
            ..options("adit%d")
        })
        .unwrap();
        let names: Vec<&str> = queues.iter().map(Tun::name).collect();
        assert_eq!(names, ["adit0", "adit0"]);
        bring_up(&mut netlink, "adit0");
        // The kernel chooses the queue by a hash of the flow: some of 64 flows take each.
        let flows: Vec<UdpSocket> = (0..64).map(|_| socket()).collect();
        for flow in &flows {
            flow.send(b"flow").unwrap();
        }
        let mut ports: [Vec<u16>; 2] = Default::default();
        while ports.concat().len() < flows.len() {
            wait(&queues);
            for (queue, ports) in queues.iter().zip(&mut ports) {
                let mut buffer = [0; 2048];
                while let Ok(length) = queue.recv(&mut buffer) {
                    if is_udp(&buffer[10..length]) {
                        ports.push(u16::from_be_bytes([buffer[30], buffer[31]]));
                    }
                }
            }
        }
        assert!(
            ports.iter().all(|ports| !ports.is_empty()),
            "a queue carries nothing"
        );
        let mut ports = ports.concat();
        ports.sort_unstable();
        let mut sent: Vec<u16> = flows
            .iter()
            .map(|flow| flow.local_addr().unwrap().port())
            .collect();
        sent.sort_unstable();
        assert_eq!(ports, sent);
    });
}

#[test]
fn with_offload_packets_have_a_header() {
    in_namespace("with_offload_packets_have_a_header", || {
        let mut netlink = Netlink::open().unwrap();
        let tun = open(&TunOptions {
            offload: true,
            ..options("adit0")
        });
        assert!(tun.has_offload());
        bring_up(&mut netlink, "adit0");
        let socket = socket();
        socket.send(b"ping").unwrap();
        let bytes = next_udp(&tun, 10);
        assert_eq!(bytes.len(), 10 + 28 + 4);
        let (header, packet) = bytes.split_at(10);
        // The checksum is left to us: from byte 20, to be put 6 bytes further.
        assert_eq!(header, [1, 0, 0, 0, 0, 0, 20, 0, 6, 0]);
        assert_eq!(&packet[28..], b"ping");
        let head = answer_head(packet, b"pong");
        let parts = [IoSlice::new(&[0; 10]), IoSlice::new(&head), IoSlice::new(b"pong")];
        assert_eq!(tun.send_parts(&parts).unwrap(), 42);
        assert_hears(&socket, b"pong");
    });
}

// ---- netlink ------------------------------------------------------------------------------------------------------

#[test]
fn addresses_come_and_go() {
    in_namespace("addresses_come_and_go", || {
        let mut netlink = Netlink::open().unwrap();
        let _tun = open(&options("adit0"));
        let index = netlink.link("adit0").unwrap().unwrap().index;
        netlink.set_link(index, Some(true), None).unwrap();
        let v4 = Address {
            no_prefix_route: true,
            ..Address::new(prefix("10.77.0.1/24"))
        };
        let v6 = Address {
            no_detection: true,
            no_prefix_route: true,
            ..Address::new(prefix("fd77::1/64"))
        };
        for address in [v4, v6] {
            netlink.add_address(index, &address).unwrap();
            let error = netlink.add_address(index, &address).unwrap_err();
            assert!(matches!(error, NetlinkError::Exists { .. }), "{error}");
            assert!(netlink.addresses(index).unwrap().contains(&address));
            let reached = |route: &Route| route.destination.1 == address.prefix.1;
            let routes = netlink.routes(MAIN_TABLE).unwrap();
            assert!(
                !routes
                    .iter()
                    .any(|route| reached(route) && route.destination.0 != ip("fe80::"))
            );
            // Usable at once.
            UdpSocket::bind((address.prefix.0, 0)).unwrap();
            netlink.remove_address(index, address.prefix).unwrap();
            let error = netlink.remove_address(index, address.prefix).unwrap_err();
            assert!(matches!(error, NetlinkError::Missing { .. }), "{error}");
        }
        let mut left = netlink.addresses(index).unwrap();
        left.retain(|address| address.prefix.0.is_ipv4() || address.prefix.1 != 64);
        assert_eq!(left, []);
        assert_eq!(netlink.addresses(9999).unwrap(), []);
        let error = netlink
            .add_address(9999, &Address::new(prefix("10.0.0.1/8")))
            .unwrap_err();
        assert!(matches!(error, NetlinkError::Missing { .. }), "{error}");
        let error = netlink
            .add_address(index, &Address::new(prefix("10.0.0.1/33")))
            .unwrap_err();
        assert!(matches!(error, NetlinkError::Invalid { .. }), "{error}");
    });
}

/// Routes of every kind, which all say what the kernel will list.
fn routes(index: u32) -> Vec<Route> {
    let unicast = |destination| Route {
        device: Some(index),
        table: 51820,
        ..Route::to(prefix(destination))
    };
    let v6 = |route| Route {
        metric: Some(1024),
        ..route
    };
    vec![
        unicast("0.0.0.0/0"),
        v6(unicast("::/0")),
        Route {
            gateway: Some(ip("10.77.0.2")),
            source: Some(ip("10.77.0.1")),
            metric: Some(5),
            mtu: Some(1280),
            protocol: 77,
            ..unicast("10.1.0.0/16")
        },
        Route {
            gateway: Some(ip("fd77::2")),
            source: Some(ip("fd77::1")),
            metric: Some(7),
            mtu: Some(1280),
            protocol: 77,
            ..unicast("2001:db8::/32")
        },
        Route {
            gateway: Some(ip("fd77::2")),
            ..unicast("10.2.0.0/16")
        },
        Route {
            device: None,
            kind: RouteKind::Unreachable,
            ..unicast("10.3.0.0/16")
        },
        Route {
            device: None,
            kind: RouteKind::Blackhole,
            ..unicast("10.4.0.0/16")
        },
        Route {
            device: None,
            kind: RouteKind::Throw,
            ..unicast("10.5.0.0/16")
        },
        v6(Route {
            device: None,
            kind: RouteKind::Unreachable,
            ..unicast("2001:db8:1::/48")
        }),
        v6(Route {
            device: None,
            kind: RouteKind::Throw,
            ..unicast("2001:db8:2::/48")
        }),
    ]
}

#[test]
fn routes_come_and_go() {
    in_namespace("routes_come_and_go", || {
        let mut netlink = Netlink::open().unwrap();
        let _tun = open(&options("adit0"));
        let index = bring_up(&mut netlink, "adit0");
        let v6 = Address {
            no_detection: true,
            ..Address::new(prefix("fd77::1/64"))
        };
        netlink.add_address(index, &v6).unwrap();
        assert_eq!(netlink.routes(51820).unwrap(), []);

        let routes = routes(index);
        for route in &routes {
            netlink.add_route(route).unwrap();
            let error = netlink.add_route(route).unwrap_err();
            assert!(matches!(error, NetlinkError::Exists { .. }), "{error}");
        }
        let listed = netlink.routes(51820).unwrap();
        assert_eq!(listed.len(), routes.len(), "{listed:#?}");
        for route in &routes {
            assert!(listed.contains(route), "{route} is not in {listed:#?}");
        }
        for route in &routes {
            netlink.remove_route(route).unwrap();
            let error = netlink.remove_route(route).unwrap_err();
            assert!(matches!(error, NetlinkError::Missing { .. }), "{error}");
        }
        assert_eq!(netlink.routes(51820).unwrap(), []);
        assert!(netlink.routes(MAIN_TABLE).unwrap().iter().any(|route| {
            route.destination == prefix("10.77.0.0/24") && route.source == Some(ip("10.77.0.1"))
        }));
    });
}

#[test]
fn a_refusal_has_the_words_of_the_kernel() {
    in_namespace("a_refusal_has_the_words_of_the_kernel", || {
        let mut netlink = Netlink::open().unwrap();
        let _tun = open(&options("adit0"));
        let index = bring_up(&mut netlink, "adit0");
        let route = Route {
            device: Some(index),
            ..Route::to(prefix("10.1.2.3/8"))
        };
        let error = netlink.add_route(&route).unwrap_err();
        assert!(
            matches!(&error, NetlinkError::Kernel { errno: 22, text, .. } if text.contains("prefix")),
            "{error}"
        );
        let said = error.to_string();
        assert!(said.starts_with("adding the route 10.1.2.3/8 dev #"), "{said}");
        // The socket is as good as before.
        assert!(netlink.link("adit0").unwrap().is_some());
    });
}

#[test]
fn policy_routing_as_wg_quick_does_it() {
    in_namespace("policy_routing_as_wg_quick_does_it", || {
        let mut netlink = Netlink::open().unwrap();
        for v6 in [false, true] {
            let before = netlink.rules(v6).unwrap();
            assert!(
                before
                    .iter()
                    .any(|rule| rule.table == MAIN_TABLE && rule.priority == 32766)
            );
            let unmarked = Rule {
                v6,
                priority: 1001,
                mark: Some((51820, u32::MAX)),
                invert: true,
                table: 51820,
                suppress_prefix_length: None,
            };
            let specific = Rule {
                v6,
                priority: 1000,
                mark: None,
                invert: false,
                table: MAIN_TABLE,
                suppress_prefix_length: Some(0),
            };
            for rule in [&unmarked, &specific] {
                netlink.add_rule(rule).unwrap();
                let error = netlink.add_rule(rule).unwrap_err();
                assert!(matches!(error, NetlinkError::Exists { .. }), "{error}");
            }
            let listed = netlink.rules(v6).unwrap();
            assert!(
                listed.contains(&unmarked) && listed.contains(&specific),
                "{listed:#?}"
            );
            for rule in [&unmarked, &specific] {
                netlink.remove_rule(rule).unwrap();
                let error = netlink.remove_rule(rule).unwrap_err();
                assert!(matches!(error, NetlinkError::Missing { .. }), "{error}");
            }
            assert_eq!(netlink.rules(v6).unwrap(), before);
        }
    });
}

#[test]
fn the_rules_of_wg_quick_keep_the_tunnel_out_of_itself() {
    in_namespace("the_rules_of_wg_quick_keep_the_tunnel_out_of_itself", || {
        let mut netlink = Netlink::open().unwrap();
        let tun = open(&options("adit0"));
        let index = bring_up(&mut netlink, "adit0");
        let default = Route {
            device: Some(index),
            table: 51820,
            ..Route::to(prefix("0.0.0.0/0"))
        };
        let unmarked = Rule {
            v6: false,
            priority: 1001,
            mark: Some((51820, u32::MAX)),
            invert: true,
            table: 51820,
            suppress_prefix_length: None,
        };
        let socket = UdpSocket::bind("10.77.0.1:0").unwrap();
        let unreachable = socket.send_to(b"lost", "192.0.2.1:9").unwrap_err();
        assert_eq!(unreachable.kind(), io::ErrorKind::NetworkUnreachable);
        netlink.add_route(&default).unwrap();
        netlink.add_rule(&unmarked).unwrap();
        socket.send_to(b"out", "192.0.2.1:9").unwrap();
        assert_eq!(next_udp(&tun, 0)[16..20], [192, 0, 2, 1]);
    });
}

#[test]
fn a_long_list_is_read_whole() {
    in_namespace("a_long_list_is_read_whole", || {
        let mut netlink = Netlink::open().unwrap();
        let number = 5000u16;
        let route = |i: u16| {
            let [high, low] = i.to_be_bytes();
            Route {
                table: 300,
                kind: RouteKind::Blackhole,
                ..Route::to((IpAddr::from([10, high, low, 0]), 24))
            }
        };
        for i in 0..number {
            netlink.add_route(&route(i)).unwrap();
        }
        let mut listed = netlink.routes(300).unwrap();
        listed.sort_by_key(|route| route.destination);
        assert!(listed.iter().cloned().eq((0..number).map(route)));
    });
}

#[test]
fn without_privilege_it_says_which() {
    let way = ["unshare", "-n", "unshare", "-U"];
    inside("without_privilege_it_says_which", &way, || {
        let error = Tun::open(&options("adit0")).unwrap_err();
        assert!(matches!(error, TunError::NoPrivilege), "{error}");
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap().unwrap();
        let error = netlink.set_link(lo.index, Some(true), None).unwrap_err();
        assert!(matches!(error, NetlinkError::NoPrivilege { .. }), "{error}");
    });
}
