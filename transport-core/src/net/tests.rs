use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;
use crate::buffer::{Batch, Ecn};

/// Loopback is fast, but not instant.
#[expect(clippy::disallowed_methods, reason = "real sockets run on real time")]
pub(super) fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

fn socket(ip: impl Into<IpAddr>, options: SocketOptions) -> UdpSocket {
    UdpSocket::bind((ip, 0).into(), &options).unwrap()
}

fn v4() -> UdpSocket {
    socket(Ipv4Addr::LOCALHOST, SocketOptions::default())
}

fn to(receiver: &UdpSocket) -> Route {
    Route {
        remote: receiver.local_addr().unwrap(),
        local: None,
    }
}

/// `count` segments of `size` bytes and a last one of `last`, each told apart by its content.
fn batch(count: usize, size: usize, last: usize) -> Batch {
    let mut batch = Batch::default();
    for index in 0..count {
        batch.push(&vec![index as u8; size]).unwrap();
    }
    if last > 0 {
        batch.push(&vec![0xee; last]).unwrap();
    }
    batch
}

/// Receives until `count` datagrams came, or nothing for a while.
fn receive(socket: &mut UdpSocket, count: usize) -> Vec<(Route, Vec<u8>)> {
    let mut slots = RecvBatch::new(4);
    let mut found = Vec::new();
    for _ in 0..200 {
        match socket.recv_batch(&mut slots) {
            Ok(filled) => {
                assert!((1..=slots.slots()).contains(&filled));
                found.extend(
                    slots
                        .datagrams()
                        .map(|(from, bytes)| (from.route, bytes.to_vec())),
                );
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                pause();
            }
        }
        if found.len() >= count {
            break;
        }
    }
    found
}

fn assert_arrived(found: &[(Route, Vec<u8>)], batch: &Batch) {
    let bytes: Vec<_> = found.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    assert_eq!(bytes, batch.segments().collect::<Vec<_>>());
}

#[test]
fn a_batch_arrives_whole_and_in_order() {
    let (mut sender, mut receiver) = (v4(), v4());
    let mut sent = batch(40, 1200, 77);
    sender.send_batch(to(&receiver), &mut sent).unwrap();
    let found = receive(&mut receiver, 41);
    assert_arrived(&found, &sent);
    for (route, _) in &found {
        assert_eq!(route.remote, sender.local_addr().unwrap());
        assert_eq!(route.local, Some(Ipv4Addr::LOCALHOST.into()));
    }
    let stats = sender.send_stats();
    assert_eq!((stats.sent, stats.too_long, stats.refused), (41, 0, 0));
    if sender.caps().gso {
        assert_eq!(stats.calls, 1, "one call takes the whole batch");
    }
}

#[test]
fn joined_datagrams_fill_few_slots() {
    let (mut sender, mut receiver) = (v4(), v4());
    if !(sender.caps().gso && receiver.caps().gro) {
        return;
    }
    sender.send_batch(to(&receiver), &mut batch(30, 1000, 5)).unwrap();
    let mut slots = RecvBatch::new(8);
    assert_eq!(receiver.recv_batch(&mut slots).unwrap(), 1);
    assert_eq!(slots.datagrams().count(), 31);
}

#[test]
fn without_gso_and_gro_the_same_arrives() {
    let plain = SocketOptions {
        gso: false,
        gro: false,
        ..SocketOptions::default()
    };
    let (mut sender, mut receiver) = (
        socket(Ipv4Addr::LOCALHOST, plain),
        socket(Ipv4Addr::LOCALHOST, plain),
    );
    assert!(!sender.caps().gso && !receiver.caps().gro);
    let mut sent = batch(10, 900, 1);
    sender.send_batch(to(&receiver), &mut sent).unwrap();
    assert_arrived(&receive(&mut receiver, 11), &sent);
}

#[test]
fn six_and_four_over_one_socket() {
    let mut both = socket(Ipv6Addr::UNSPECIFIED, SocketOptions::default());
    let port = both.local_addr().unwrap().port();
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let mut peer = socket(ip, SocketOptions::default());
        let mut sent = batch(5, 300, 20);
        peer.send_batch(
            Route {
                remote: (ip, port).into(),
                local: Some(ip),
            },
            &mut sent,
        )
        .unwrap();
        let found = receive(&mut both, 6);
        assert_arrived(&found, &sent);
        let (route, _) = &found[0];
        assert_eq!(
            *route,
            Route {
                remote: peer.local_addr().unwrap(),
                local: Some(ip)
            }
        );
        // Back along the route the datagrams came by.
        sent.clear();
        sent.push(b"one").unwrap();
        sent.push(b"two").unwrap();
        both.send_batch(*route, &mut sent).unwrap();
        let found = receive(&mut peer, 2);
        assert_arrived(&found, &sent);
        assert_eq!(found[0].0.remote, (ip, port).into());
    }
}

#[test]
fn empty_datagrams_are_handed_on_and_stop_nothing() {
    let mut receiver = v4();
    let stranger = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = receiver.local_addr().unwrap();
    for datagram in [&b""[..], b"a", b"", b"b"] {
        stranger.send_to(datagram, address).unwrap();
    }
    let found = receive(&mut receiver, 4);
    let bytes: Vec<&[u8]> = found.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    assert_eq!(bytes, [&b""[..], b"a", b"", b"b"]);
}

#[test]
fn datagrams_longer_than_a_slot_are_counted() {
    let mut receiver = v4();
    let stranger = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = receiver.local_addr().unwrap();
    stranger.send_to(&[1; 101], address).unwrap();
    stranger.send_to(&[2; 100], address).unwrap();
    let mut slots = RecvBatch::with_slot_size(4, 100);
    let mut whole = 0;
    for _ in 0..200 {
        if receiver.recv_batch(&mut slots).is_ok() {
            whole += slots.datagrams().filter(|(_, bytes)| bytes.len() == 100).count();
        }
        if slots.truncated() == 1 && whole == 1 {
            return;
        }
        pause();
    }
    panic!("{} cut off, {whole} whole", slots.truncated());
}

#[test]
fn the_longest_datagram_passes() {
    let (mut sender, mut receiver) = (v4(), v4());
    let mut sent = Batch::default();
    sent.push(&vec![1; crate::buffer::MAX_BATCH_BYTES]).unwrap();
    sender.send_batch(to(&receiver), &mut sent).unwrap();
    assert_arrived(&receive(&mut receiver, 1), &sent);
    assert_eq!(sender.send_stats().too_long, 0);
}

#[test]
fn unreachable_routes_lose_the_batch_and_keep_the_socket() {
    let (mut sender, mut receiver) = (v4(), v4());
    // A loopback source cannot reach the world.
    let nowhere = Route {
        remote: "192.0.2.1:9".parse().unwrap(),
        local: Some(Ipv4Addr::LOCALHOST.into()),
    };
    let gso = sender.caps().gso;
    sender.send_batch(nowhere, &mut batch(3, 500, 0)).unwrap();
    assert_eq!(sender.caps().gso, gso, "the route is to blame, not the kernel");
    let mut sent = batch(3, 500, 0);
    sender.send_batch(to(&receiver), &mut sent).unwrap();
    assert_arrived(&receive(&mut receiver, 3), &sent);
}

#[test]
fn a_full_buffer_is_reported_and_nothing_goes_twice() {
    let tiny = SocketOptions {
        send_buffer: 4096,
        gso: false,
        ..SocketOptions::default()
    };
    let (mut sender, mut receiver) = (socket(Ipv4Addr::LOCALHOST, tiny), v4());
    let mut sent = batch(60, 1000, 0);
    let mut found = Vec::new();
    for _ in 0..1000 {
        match sender.send_batch(to(&receiver), &mut sent) {
            Ok(()) => break,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        found.extend(receive(&mut receiver, 1));
    }
    found.extend(receive(&mut receiver, 60 - found.len()));
    assert_arrived(&found, &sent);
    assert_eq!(sender.send_stats().sent, 60);
    // Sending it again without clearing sends nothing.
    sender.send_batch(to(&receiver), &mut sent).unwrap();
    assert_eq!(sender.send_stats().sent, 60);
}

#[test]
fn clear_headers_do_not_leave() {
    let (mut sender, receiver) = (v4(), v4());
    let mut sent = Batch::default();
    sent.reserve(100).unwrap().fill(1);
    sent.commit(100);
    let error = sender.send_batch(to(&receiver), &mut sent).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn buffers_are_asked_for_and_reported() {
    let caps = v4().caps();
    let small = socket(
        Ipv4Addr::LOCALHOST,
        SocketOptions {
            recv_buffer: 1,
            send_buffer: 1,
            ..SocketOptions::default()
        },
    );
    if cfg!(target_os = "linux") {
        assert!(caps.recv_buffer >= small.caps().recv_buffer && small.caps().recv_buffer > 0);
        assert!(caps.local_address && caps.dont_fragment);
    }
}

#[test]
fn the_portable_socket_carries_the_same() {
    use super::sys::portable::Socket;
    let bind = |ip: IpAddr| Socket::bind((ip, 0).into(), &SocketOptions::default()).unwrap();
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let (mut sender, receiver) = (bind(ip), bind(ip));
        let mut receiver = UdpSocketLike(receiver);
        let mut sent = batch(6, 700, 3);
        let (udp, ipv6) = receiver.0.plain();
        assert_eq!(ipv6, ip.is_ipv6());
        let remote = udp.local_addr().unwrap();
        sender.send(Route { remote, local: None }, &mut sent).unwrap();
        let found = receiver.receive(7);
        assert_eq!(found, sent.segments().map(<[u8]>::to_vec).collect::<Vec<_>>());
        assert_eq!((sender.send_stats().sent, sender.caps()), (7, Caps::default()));
        sender.plain().0.send_to(&[], remote).unwrap();
        assert_eq!(receiver.receive(1), [[]; 1]);
        sender.note_unreachable();
        assert_eq!(sender.send_stats().unreachable, 1);
    }
}

struct UdpSocketLike(super::sys::portable::Socket);

impl UdpSocketLike {
    fn receive(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut slots = RecvBatch::new(3);
        let mut found = Vec::new();
        for _ in 0..200 {
            if self.0.recv(&mut slots).is_ok() {
                found.extend(slots.datagrams().map(|(_, bytes)| bytes.to_vec()));
            } else {
                pause();
            }
            if found.len() >= count {
                break;
            }
        }
        found
    }
}

/// What one socket has, with who sent it.
#[cfg(target_os = "linux")]
fn heard(socket: &mut UdpSocket) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut slots = RecvBatch::new(8);
    let mut all = Vec::new();
    while socket.recv_batch(&mut slots).is_ok() {
        all.extend(
            slots
                .datagrams()
                .map(|(from, bytes)| (from.route.remote, bytes.to_vec())),
        );
    }
    all
}

#[test]
#[cfg(target_os = "linux")]
fn a_lane_hears_one_remote_and_the_common_socket_everybody_else() {
    for local in ["127.0.0.1:0", "[::]:0"] {
        let options = SocketOptions::default();
        let mut common = UdpSocket::bind(local.parse().unwrap(), &options).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], common.local_addr().unwrap().port()));
        let [peer, other] = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        peer.send_to(b"before", to).unwrap();
        let route = Route {
            remote: peer.local_addr().unwrap(),
            local: Some(to.ip()),
        };
        let mut lane = common.lane(route).unwrap();
        for (socket, bytes) in [(&peer, b"peer"), (&other, b"else"), (&peer, b"more")] {
            socket.send_to(bytes, to).unwrap();
        }
        (0..20).for_each(|_| pause());
        let (peer_at, other_at) = (peer.local_addr().unwrap(), other.local_addr().unwrap());
        assert_eq!(
            heard(&mut lane),
            [(peer_at, b"peer".to_vec()), (peer_at, b"more".to_vec())]
        );
        assert_eq!(
            heard(&mut common),
            [(peer_at, b"before".to_vec()), (other_at, b"else".to_vec())]
        );
        // A port with lanes is still taken, for everyone who does not share it on purpose.
        assert!(UdpSocket::bind(to, &options).is_err());
        drop(lane);
        peer.send_to(b"back", to).unwrap();
        (0..20).for_each(|_| pause());
        assert_eq!(heard(&mut common), [(peer_at, b"back".to_vec())]);
    }
}

/// The codepoints of the next `count` datagrams.
#[cfg(target_os = "linux")]
fn marks(socket: &mut UdpSocket, count: usize) -> Vec<Option<Ecn>> {
    let mut slots = RecvBatch::new(8);
    let mut found = Vec::new();
    for _ in 0..200 {
        if socket.recv_batch(&mut slots).is_ok() {
            found.extend(slots.datagrams().map(|(from, _)| from.ecn));
        } else {
            pause();
        }
        if found.len() >= count {
            break;
        }
    }
    found
}

#[test]
#[cfg(target_os = "linux")]
fn codepoints_cross_in_either_family_joined_or_not() {
    let (four, six): (IpAddr, IpAddr) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let any: IpAddr = Ipv6Addr::UNSPECIFIED.into();
    for (bound, target) in [(four, four), (six, six), (any, four), (any, six)] {
        for gso in [true, false] {
            let options = SocketOptions {
                gso,
                ..SocketOptions::default()
            };
            let (mut sender, mut receiver) = (socket(bound, options), socket(bound, options));
            assert!(sender.caps().ecn);
            let route = Route {
                remote: SocketAddr::new(target, receiver.local_addr().unwrap().port()),
                local: None,
            };
            for ecn in [Ecn::Ect0, Ecn::NotEct, Ecn::Ect1, Ecn::Ce] {
                let mut marked = batch(3, 200, 7);
                marked.set_ecn(ecn);
                sender.send_batch(route, &mut marked).unwrap();
                assert_eq!(marks(&mut receiver, 4), [Some(ecn); 4], "{bound} to {target}");
            }
        }
    }
}

#[test]
fn a_connected_socket_hears_one_remote_and_of_its_absence() {
    for bound in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::UNSPECIFIED.into()] {
        let (sender, mut receiver, stranger) = (v4(), socket(bound, SocketOptions::default()), v4());
        let (from, port) = (
            sender.local_addr().unwrap(),
            receiver.local_addr().unwrap().port(),
        );
        let at = (Ipv4Addr::LOCALHOST, port).into();
        receiver.connect(from).unwrap();
        stranger.send_empty(at).unwrap();
        sender.send_empty(at).unwrap();
        let found = receive(&mut receiver, 1);
        assert_eq!(found.len(), 1, "strangers are not heard");
        assert_eq!((found[0].0.remote, found[0].1.len()), (from, 0));
        drop(sender);
        let route = Route {
            remote: from,
            local: None,
        };
        receiver.send_batch(route, &mut batch(1, 10, 0)).unwrap();
        assert!(receive(&mut receiver, 1).is_empty());
        assert_eq!(receiver.send_stats().unreachable, 1);
    }
}
