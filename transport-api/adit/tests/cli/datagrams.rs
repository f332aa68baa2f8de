//! UDP ASSOCIATE: one bound port of the relay's, or a tunnel for each target.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use crate::{
    common::{edit, folder, init_relay},
    traffic::{start_client, start_relay},
};

/// An echo that says who asked, too.
fn mirror() -> SocketAddr {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((read, from)) = socket.recv_from(&mut buffer) {
            let answer = [&buffer[..read], b" ", from.to_string().as_bytes()].concat();
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

/// An association: its control connection, and a socket that speaks to it.
fn associate(socks: SocketAddr) -> (TcpStream, UdpSocket) {
    let mut control = TcpStream::connect(socks).unwrap();
    control.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    control
        .write_all(&[5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0])
        .unwrap();
    let mut reply = [0; 12];
    control.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..6], [5, 0, 5, 0, 0, 1]);
    let port = u16::from_be_bytes([reply[10], reply[11]]);
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (control, socket)
}

/// What a target answers, and whom it saw.
fn ask(socket: &UdpSocket, target: SocketAddr, name: Option<&str>) -> SocketAddr {
    let mut header = vec![0, 0, 0];
    match name {
        Some(name) => {
            header.extend_from_slice(&[3, name.len() as u8]);
            header.extend_from_slice(name.as_bytes());
        }
        None => header.extend_from_slice(&[1, 127, 0, 0, 1]),
    }
    header.extend_from_slice(&target.port().to_be_bytes());
    socket.send(&[&header[..], b"hello"].concat()).unwrap();
    let mut back = [0; 2000];
    let read = socket.recv(&mut back).unwrap();
    let answer = back[..read].strip_prefix(&header[..]).expect("from the target");
    let seen = answer.strip_prefix(b"hello ").expect("the echo");
    str::from_utf8(seen).unwrap().parse().unwrap()
}

#[test]
fn an_association_is_one_port_of_the_relay() {
    let folder = folder("associate");
    let (relay_dir, _) = init_relay(&folder, "open");
    let toml = relay_dir.join("relay.toml");
    edit(&toml, "public = []", "public = [\"127.0.0.1\"]");
    let _relay = start_relay(&folder, &relay_dir);
    let (_client, socks) = start_client(&folder, &relay_dir, &[]);
    let (one, two) = (mirror(), mirror());
    let (_control, socket) = associate(socks);
    let seen = ask(&socket, one, None);
    for _ in 0..20 {
        assert_eq!(ask(&socket, one, None), seen);
        assert_eq!(ask(&socket, two, None), seen, "the same to everybody");
    }
    assert_ne!(
        ask(&socket, two, Some("localhost")),
        seen,
        "a name has a tunnel of its own"
    );
    // Who was never spoken to may speak first.
    let stranger = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    stranger.send_to(b"psst", seen).unwrap();
    let mut back = [0; 100];
    let read = socket.recv(&mut back).unwrap();
    assert!(back[..read].ends_with(b"psst"));
    // Two programs reach each other by the relay.
    let (_other, peer) = associate(socks);
    let at_peer = ask(&peer, one, None);
    let to_peer = [
        &[0, 0, 0, 1, 127, 0, 0, 1][..],
        &at_peer.port().to_be_bytes(),
        b"peer",
    ]
    .concat();
    socket.send(&to_peer).unwrap();
    let read = peer.recv(&mut back).unwrap();
    let from_socket = [
        &[0, 0, 0, 1, 127, 0, 0, 1][..],
        &seen.port().to_be_bytes(),
        b"peer",
    ]
    .concat();
    assert_eq!(back[..read], from_socket);
}

#[test]
fn without_bind_each_target_has_a_tunnel() {
    let folder = folder("associate-plain");
    let (relay_dir, _) = init_relay(&folder, "open");
    edit(&relay_dir.join("relay.toml"), "enabled = true", "enabled = false");
    let _relay = start_relay(&folder, &relay_dir);
    let (_client, socks) = start_client(&folder, &relay_dir, &[]);
    let (one, two) = (mirror(), mirror());
    let (_control, socket) = associate(socks);
    let seen = ask(&socket, one, None);
    assert_ne!(ask(&socket, two, None), seen);
    assert_eq!(ask(&socket, one, None), seen);
}
