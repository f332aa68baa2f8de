//! Relay and client as separate processes on loopback.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    thread,
    time::Duration,
};

use crate::common::{Running, adit, edit, folder, free_port, init_relay, json, read_all, until};

pub(crate) fn start_relay(folder: &Path, relay: &Path) -> Running {
    let mut command = adit(folder);
    command.args(["relay", "--config"]).arg(relay.join("relay.toml"));
    Running::start(command, "READY")
}

/// A client with a SOCKS5 port and whatever else is given.
pub(crate) fn start_client(folder: &Path, relay: &Path, more: &[&str]) -> (Running, SocketAddr) {
    let port = free_tcp_port();
    let socks = SocketAddr::from(([127, 0, 0, 1], port));
    let mut command = adit(folder);
    command
        .args(["connect", "--json", "--socks", &socks.to_string()])
        .args(more)
        .arg(relay.join("relay.bundle"));
    (Running::start(command, "connected"), socks)
}

fn free_tcp_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port()
}

/// A TCP server that says back what it hears.
pub(crate) fn tcp_echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut stream);
                let _ = stream.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

/// A SOCKS5 CONNECT; the reply code and the stream.
pub(crate) fn socks_connect(socks: SocketAddr, host: &str, port: u16) -> (u8, TcpStream) {
    let mut stream = TcpStream::connect(socks).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
    let mut request = vec![5, 1, 0, 3, host.len() as u8];
    request.extend_from_slice(host.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).unwrap();
    (reply[1], stream)
}

pub(crate) fn echoes(stream: &mut TcpStream, bytes: usize) {
    let sent: Vec<u8> = (0..bytes).map(|n| (n * 31 % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    writing.join().unwrap();
    assert!(back == sent, "{} of {} bytes, or others", back.len(), sent.len());
}

#[test]
fn the_quick_demo_passes() {
    let folder = folder("demo");
    let result = json(&folder, &["demo", "--quick", "--json"]);
    assert_eq!(result["ok"], true, "{result}");
    assert!(result["checks"].as_array().unwrap().len() >= 8, "{result}");
}

#[test]
fn socks_carries_tcp_and_tells_why_not() {
    let folder = folder("socks");
    let (relay_dir, _) = init_relay(&folder, "open");
    let relay = start_relay(&folder, &relay_dir);
    let (mut client, socks) = start_client(&folder, &relay_dir, &[]);
    let mut first = String::new();
    BufReader::new(client.stdout()).read_line(&mut first).unwrap();
    let event: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(event["event"], "connected");
    for key in [
        "relay_id",
        "handshake_ms",
        "resumed",
        "rtt_ms",
        "path_mtu",
        "carrier",
        "socks",
        "tun",
    ] {
        assert!(event.get(key).is_some(), "{key} is missing: {event}");
    }

    let echo = tcp_echo();
    let (code, mut stream) = socks_connect(socks, &echo.ip().to_string(), echo.port());
    assert_eq!(code, 0);
    echoes(&mut stream, 3_000_000);
    assert_eq!(socks_connect(socks, "10.1.2.3", 80).0, 2, "private: policy");
    assert_eq!(
        socks_connect(socks, "169.254.169.254", 80).0,
        2,
        "metadata: policy"
    );
    assert_eq!(
        socks_connect(socks, "no-such-name.invalid", 80).0,
        4,
        "does not resolve"
    );
    assert_eq!(socks_connect(socks, "127.0.0.1", free_tcp_port()).0, 5, "refused");
    assert_eq!(client.signal("INT"), Some(130));
    assert_eq!(relay.signal("TERM"), Some(0));
}

#[test]
fn forwards_carry_udp_and_tcp() {
    let folder = folder("forward");
    let (relay_dir, _) = init_relay(&folder, "open");
    let _relay = start_relay(&folder, &relay_dir);
    let target = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let target_port = target.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((read, from)) = target.recv_from(&mut buffer) {
            let _ = target.send_to(&buffer[..read], from);
        }
    });
    let (udp, tcp, echo) = (free_port(), free_tcp_port(), tcp_echo());
    let forward_udp = format!("127.0.0.1:{udp}=localhost:{target_port}");
    let forward_tcp = format!("127.0.0.1:{tcp}=127.0.0.1:{}", echo.port());
    let more = [
        "--forward-udp",
        forward_udp.as_str(),
        "--forward-tcp",
        &forward_tcp,
    ];
    let (_client, _) = start_client(&folder, &relay_dir, &more);
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for number in 0..100u32 {
        let packet = [&number.to_be_bytes()[..], &[7; 900]].concat();
        socket.send_to(&packet, ("127.0.0.1", udp)).unwrap();
        let mut back = [0; 2000];
        let read = socket.recv(&mut back).unwrap();
        assert_eq!(back[..read], packet);
    }
    echoes(&mut TcpStream::connect(("127.0.0.1", tcp)).unwrap(), 200_000);
}

#[test]
fn an_allowlist_lets_in_who_is_on_it_and_is_silent_to_others() {
    let folder = folder("allowlist");
    let (relay_dir, _) = init_relay(&folder, "allowlist");
    let made = json(
        &folder,
        &["init", "client", "--dir", folder.to_str().unwrap(), "--json"],
    );
    let id = made["client_id"].as_str().unwrap();
    let key = folder.join("client.key");
    let identity = ["--identity", key.to_str().unwrap()];
    let mut command = adit(&folder);
    command.args(["--log", "info", "relay", "--config"]);
    command.arg(relay_dir.join("relay.toml"));
    let relay = Running::start(command, "READY");
    let output = adit(&folder)
        .args(["connect", "--socks", "127.0.0.1:0"])
        .args(identity)
        .arg(relay_dir.join("relay.bundle"))
        .output();
    assert_eq!(output.unwrap().status.code(), Some(5));
    // SIGHUP reads the list again; the relay goes on.
    edit(
        &relay_dir.join("relay.toml"),
        "clients = []",
        &format!("clients = [\"{id}\"]"),
    );
    relay.send("HUP");
    until("the list is read again", || {
        relay.said().contains("configuration read again")
    });
    let (_client, socks) = start_client(&folder, &relay_dir, &identity);
    let echo = tcp_echo();
    let (code, mut stream) = socks_connect(socks, "127.0.0.1", echo.port());
    assert_eq!(code, 0);
    echoes(&mut stream, 10_000);
}

#[test]
fn limits_of_the_configuration_are_enforced() {
    let folder = folder("limits");
    let (relay_dir, _) = init_relay(&folder, "open");
    let toml = relay_dir.join("relay.toml");
    edit(&toml, "sessions = 100000", "sessions = 1");
    edit(&toml, "tunnels_per_session = 128", "tunnels_per_session = 2");
    edit(&toml, "mbit_per_session = 0", "mbit_per_session = 8");
    let _relay = start_relay(&folder, &relay_dir);
    let (_client, socks) = start_client(&folder, &relay_dir, &[]);
    let echo = tcp_echo();
    let one = socks_connect(socks, "127.0.0.1", echo.port());
    let mut two = socks_connect(socks, "127.0.0.1", echo.port());
    let three = socks_connect(socks, "127.0.0.1", echo.port());
    assert_eq!((one.0, two.0), (0, 0));
    assert_ne!(three.0, 0, "a third tunnel is refused");
    // 2 MB each way at 8 Mbit/s for both directions take about four seconds.
    let begin = transport_api::now().instant;
    echoes(&mut two.1, 2_000_000);
    let took = transport_api::now().instant - begin;
    assert!(took > Duration::from_secs(2), "{took:?}");
    // A second session finds no room.
    let mut command = adit(&folder);
    command
        .args(["connect", "--socks", "127.0.0.1:0"])
        .arg(relay_dir.join("relay.bundle"));
    assert_ne!(command.output().unwrap().status.code(), Some(0));
}

#[test]
fn bench_reports_every_key() {
    let folder = folder("bench");
    let port = free_port();
    let mut server = adit(&folder);
    server
        .args([
            "bench",
            "server",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--dir",
        ])
        .arg(&folder);
    let mut server = Running::start(server, "READY");
    let out = server.stdout();
    let bundle = folder.join("relay.bundle");
    let bench = |more: &[&str]| {
        let mut arguments = vec![
            "bench",
            "client",
            bundle.to_str().unwrap(),
            "--seconds",
            "0.5",
            "--json",
            "--workload",
        ];
        arguments.extend(more);
        json(&folder, &arguments)
    };
    let echo = bench(&["echo"]);
    for key in KEYS {
        assert!(echo.get(key).is_some(), "{key} is missing: {echo}");
    }
    for more in [
        &["bulk", "--cc", "bbr"][..],
        &["bulk", "--cc", "bbr", "--reverse"],
    ] {
        let result = bench(more);
        assert!(result["gbit_per_s"].as_f64().unwrap() > 0.0, "{more:?}: {result}");
        assert_eq!(result["cc"], "bbr");
    }
    assert_eq!(bench(&["echo", "--cc", "cubic"])["cc"], "cubic");
    assert!(echo["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    for more in [
        &["bulk"][..],
        &["bulk", "--reverse"],
        &["bulk", "--streams", "4", "--connections", "2"],
        &["datagrams"],
        &["datagrams", "--reverse"],
    ] {
        let result = bench(more);
        assert!(result["gbit_per_s"].as_f64().unwrap() > 0.0, "{more:?}: {result}");
    }
    assert_eq!(
        bench(&["bulk", "--cipher", "chacha20"])["cipher"],
        "chacha20-poly1305"
    );
    assert!(
        bench(&["handshakes", "--connections", "4"])["handshakes"]
            .as_u64()
            .unwrap()
            > 0
    );
    let back = bench(&["handshakes", "--resume"]);
    // A busy machine may be too late to answer one, and a full handshake follows.
    assert!(
        back["resumed"].as_u64().unwrap() * 2 > back["handshakes"].as_u64().unwrap(),
        "{back}"
    );
    assert_eq!(bench(&["handshakes"])["resumed"], 0);
    assert_eq!(bench(&["idle", "--connections", "20"])["connections"], 20);
    server.send("TERM");
    let report: serde_json::Value = serde_json::from_str(read_all(out).trim()).unwrap();
    assert!(report["handshakes"].as_u64().unwrap() >= 30, "{report}");
}

#[test]
fn a_bench_of_all_at_once_measures_each() {
    let folder = folder("mixed");
    let mut server = adit(&folder);
    server
        .args(["bench", "server", "--listen"])
        .arg(format!("127.0.0.1:{}", free_port()))
        .arg("--dir")
        .arg(&folder);
    let mut server = Running::start(server, "READY");
    let out = server.stdout();
    let bundle = folder.join("relay.bundle");
    for more in [&[][..], &["--reverse"], &["--connections", "2", "--streams", "3"]] {
        let mut arguments = vec!["bench", "client", bundle.to_str().unwrap(), "--workload", "mixed"];
        arguments.extend(["--seconds", "0.5", "--json"].iter().chain(more));
        let mixed = json(&folder, &arguments);
        for key in ["latency_us", "unloaded_latency_us", "datagram_latency_us"] {
            assert!(mixed[key]["p50"].as_f64().unwrap() > 0.0, "{more:?}: {mixed}");
        }
        assert!(mixed["gbit_per_s"].as_f64().unwrap() > 0.0, "{more:?}: {mixed}");
        let [sent, delivered] =
            ["datagrams_sent", "datagrams_delivered"].map(|key| mixed[key].as_u64().unwrap());
        assert!(0 < delivered && delivered <= sent, "{more:?}: {mixed}");
    }
    server.send("TERM");
    read_all(out);
}

const KEYS: &[&str] = &[
    "workload",
    "seconds",
    "bytes",
    "gbit_per_s",
    "handshakes",
    "handshakes_per_s",
    "failed",
    "datagrams_sent",
    "datagrams_delivered",
    "sent_packets",
    "declared_lost",
    "spurious",
    "retransmitted_bytes",
    "latency_us",
    "unloaded_latency_us",
    "datagram_latency_us",
    "rtt_us",
    "path_mtu",
    "cwnd_bytes",
    "cc",
    "cipher",
    "gso",
    "gro",
    "cpu_user_s",
    "cpu_sys_s",
    "max_rss_bytes",
    "rss_per_connection_bytes",
    "connections",
];
