//! Every mistake gives one clear error and the exit code of the contract.

use std::{fs, net::UdpSocket, os::unix::fs::PermissionsExt, path::Path};

use crate::common::{adit, edit, fails, folder, free_port, init_relay, json, run};
use transport_api::{BundleDraft, BundleEndpoint, EndpointAddress, OsEntropy, RelayIdentity, RelayStatics};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn connect(bundle: &Path) -> [&str; 4] {
    ["connect", text(bundle), "--socks", "127.0.0.1:0"]
}

#[test]
fn init_writes_private_keys_and_never_overwrites() {
    let folder = folder("init");
    let made = json(&folder, &["init", "client", "--dir", text(&folder), "--json"]);
    assert_eq!(made["client_id"].as_str().unwrap().len(), 64);
    let key = folder.join("client.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&key).unwrap();
    assert!(fails(&folder, 3, &["init", "client", "--dir", text(&folder)]).contains("exists already"));
    assert_eq!(fs::read(&key).unwrap(), before);
    let (relay, _) = init_relay(&folder, "open");
    let arguments = [
        "init",
        "relay",
        "--dir",
        text(&relay),
        "--endpoint",
        "127.0.0.1:1",
    ];
    assert!(fails(&folder, 3, &arguments).contains("exists already"));
}

#[test]
fn damaged_bundles() {
    let folder = folder("bundles");
    let (relay, _) = init_relay(&folder, "open");
    let good = fs::read(relay.join("relay.bundle")).unwrap();
    let bad = folder.join("bad.bundle");
    let with = |bytes: &[u8], code| {
        fs::write(&bad, bytes).unwrap();
        for arguments in [&["bundle", "show", text(&bad)][..], &connect(&bad)] {
            let said = fails(&folder, code, arguments);
            assert!(
                said.starts_with("adit: ") && said.contains("bad.bundle"),
                "{said}"
            );
        }
    };
    with(&good[..good.len() - 1], 3);
    with(&good[..100], 3);
    with(b"", 3);
    with(&[&good[..], &[0]].concat(), 3);
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    with(&flipped(0), 3);
    // A field, the ML-DSA leg and the Ed25519 leg.
    with(&flipped(15), 4);
    with(&flipped(good.len() - 1000), 4);
    with(&flipped(good.len() - 1), 4);
    assert!(
        fails(&folder, 3, &["bundle", "show", "/nowhere/relay.bundle"]).contains("/nowhere/relay.bundle")
    );
}

#[test]
fn a_bundle_of_another_relay_or_another_time() {
    let folder = folder("expired");
    let (relay, _) = init_relay(&folder, "open");
    let bundle = relay.join("relay.bundle");
    let shown = json(&folder, &["bundle", "show", text(&bundle), "--json"]);
    let id = shown["relay_id"].as_str().unwrap();
    assert!(
        run(&folder, &["bundle", "verify", text(&bundle), "--relay-id", id])
            .status
            .success()
    );
    let other = "0".repeat(64);
    fails(
        &folder,
        4,
        &["bundle", "verify", text(&bundle), "--relay-id", &other],
    );
    fails(
        &folder,
        2,
        &["bundle", "verify", text(&bundle), "--relay-id", "xyz"],
    );

    let identity = RelayIdentity::generate(&mut OsEntropy).unwrap();
    let statics = RelayStatics::generate(&mut OsEntropy).unwrap();
    let endpoints = vec![BundleEndpoint {
        address: EndpointAddress::Ip([127, 0, 0, 1].into()),
        port: 9,
        cover: 0,
    }];
    let now = transport_api::now().unix_ms / 1000;
    for (not_before, not_after) in [(now - 100, now - 10), (now + 1000, now + 2000)] {
        let draft = BundleDraft {
            epoch: 1,
            not_before,
            not_after,
            endpoints: endpoints.clone(),
        };
        let path = folder.join("time.bundle");
        fs::write(&path, identity.sign_bundle(&draft, &statics).unwrap()).unwrap();
        fails(&folder, 4, &connect(&path));
    }
}

#[test]
fn an_older_epoch_than_the_one_stored() {
    let folder = folder("epoch");
    let (relay, _) = init_relay(&folder, "open");
    let bundle = relay.join("relay.bundle");
    let id = json(&folder, &["bundle", "show", text(&bundle), "--json"])["relay_id"]
        .as_str()
        .unwrap()
        .to_string();
    let state = folder.join("state").join(id);
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("epoch"), "7").unwrap();
    assert!(fails(&folder, 4, &connect(&bundle)).contains("older than 7"));
}

#[test]
fn keys_that_are_wrong_or_open() {
    let folder = folder("keys");
    let (relay, _) = init_relay(&folder, "open");
    json(&folder, &["init", "client", "--dir", text(&folder), "--json"]);
    let (bundle, key) = (relay.join("relay.bundle"), folder.join("client.key"));
    let with_key = |key: &Path| {
        let mut arguments = connect(&bundle).to_vec();
        arguments.extend(["--identity", key.to_str().unwrap()]);
        fails(&folder, 3, &arguments)
    };
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(with_key(&key).contains("chmod 600"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "not a key").unwrap();
    assert!(with_key(&key).contains("not a PEM key"));
    assert!(with_key(&relay.join("identity.key")).contains("ADIT RELAY KEY"));
    // The relay's own key does not fit its bundle any more.
    let other = folder.join("other");
    json(
        &folder,
        &[
            "init",
            "relay",
            "--dir",
            text(&other),
            "--endpoint",
            "127.0.0.1:1",
            "--json",
        ],
    );
    fs::copy(other.join("identity.key"), relay.join("identity.key")).unwrap();
    fails(
        &folder,
        3,
        &["relay", "--config", text(&relay.join("relay.toml"))],
    );
}

#[test]
fn mistakes_in_the_configuration() {
    let folder = folder("config");
    let (relay, port) = init_relay(&folder, "open");
    let toml = relay.join("relay.toml");
    edit(&toml, "sessions = 100000", "sesions = 100000");
    let written = std::fs::read_to_string(&toml).unwrap();
    let line = 1 + written
        .lines()
        .position(|line| line.starts_with("sesions"))
        .unwrap();
    let said = fails(&folder, 3, &["relay", "--config", text(&toml)]);
    assert!(
        said.contains(&format!("relay.toml:{line}:1: unknown field"))
            && said.contains("did you mean `sessions`?"),
        "{said}"
    );
    edit(&toml, "sesions = 100000", "sessions = \"many\"");
    let said = fails(&folder, 3, &["relay", "--config", text(&toml)]);
    assert!(said.contains(&format!("relay.toml:{line}:")), "{said}");
    edit(&toml, "sessions = \"many\"", "sessions = 10");
    let taken = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    edit(&toml, "[::]:", "127.0.0.1:");
    let said = fails(&folder, 1, &["relay", "--config", text(&toml)]);
    assert!(said.contains("another program uses this port"), "{said}");
    drop(taken);
    fails(&folder, 3, &["relay", "--config", "/nowhere/relay.toml"]);
}

#[test]
fn what_does_not_exist_yet_is_a_usage_error() {
    let folder = folder("usage");
    let (relay, _) = init_relay(&folder, "open");
    let bundle = relay.join("relay.bundle");
    fails(
        &folder,
        2,
        &[
            "connect",
            text(&bundle),
            "--kill-switch",
            "--socks",
            "127.0.0.1:0",
        ],
    );
    fails(
        &folder,
        2,
        &[
            "connect",
            text(&bundle),
            "--tun",
            "adit0",
            "--route",
            "10.0.0.1/8",
        ],
    );
    fails(
        &folder,
        2,
        &["connect", text(&bundle), "--socks", "127.0.0.1:0", "--no-cc"],
    );
    fails(
        &folder,
        2,
        &[
            "connect",
            text(&bundle),
            "--socks",
            "127.0.0.1:0",
            "--fixed-rate",
            "0",
        ],
    );
    fails(&folder, 2, &["connect", text(&bundle)]);
    fails(
        &folder,
        2,
        &["connect", text(&bundle), "--socks", "127.0.0.1:0", "--cc", "reno"],
    );
    fails(&folder, 2, &["no-such-command"]);
    for misplaced in [
        &["echo", "--resume"][..],
        &["handshakes", "--reverse"],
        &["idle", "--reverse"],
        &["echo", "--reverse"],
        &["datagrams", "--streams", "2"],
        &["echo", "--streams", "2"],
    ] {
        let mut arguments = vec!["bench", "client", text(&bundle), "--workload"];
        arguments.extend(misplaced);
        fails(&folder, 2, &arguments);
    }
    fails(
        &folder,
        2,
        &["connect", text(&bundle), "--forward-udp", "nonsense"],
    );
    fails(
        &folder,
        2,
        &["bench", "server", "--dir", text(&folder), "--listen", "0.0.0.0:0"],
    );
}

#[test]
fn nobody_there_is_told_with_its_causes() {
    let folder = folder("nobody");
    let (relay, port) = init_relay(&folder, "open");
    // A socket that never answers.
    let _silent = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let mut arguments = connect(&relay.join("relay.bundle")).map(str::to_string).to_vec();
    json(&folder, &["init", "client", "--dir", text(&folder), "--json"]);
    arguments.extend(["--identity".into(), text(&folder.join("client.key")).into()]);
    let output = adit(&folder).args(&arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("clock") && said.contains("client_id"), "{said}");
}

#[test]
fn a_port_in_use_for_socks() {
    let folder = folder("socks-port");
    let (relay, _) = init_relay(&folder, "open");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = fails(
        &folder,
        1,
        &["connect", text(&relay.join("relay.bundle")), "--socks", &address],
    );
    assert!(said.contains(&address), "{said}");
    let _ = free_port();
}

#[test]
fn status_of_nothing_and_nowhere() {
    let folder = folder("status-bad");
    let (relay, _) = init_relay(&folder, "open");
    let toml = relay.join("relay.toml");
    let config = ["status", "--config", text(&toml)];
    assert!(fails(&folder, 5, &["status"]).contains("no relay answers"));
    assert!(fails(&folder, 5, &config).contains("is it running?"));
    let nowhere = folder.join("nowhere");
    assert!(fails(&folder, 5, &["status", "--socket", text(&nowhere)]).contains("nowhere"));
    let long = "x".repeat(200);
    fails(&folder, 3, &["status", "--socket", &long]);
    fails(&folder, 3, &["status", "--config", text(&nowhere)]);
    fails(&folder, 2, &["status", "--config", "a", "--socket", "b"]);
    fails(&folder, 2, &["status", "--sessions", "1001"]);
    fs::write(&nowhere, "no socket").unwrap();
    fails(&folder, 5, &["status", "--socket", text(&nowhere)]);
    // A relay does not replace a file it did not make, nor does it start without the socket it was told to have.
    let with = |socket: &str| {
        let toml = folder.join("relay/relay.toml");
        let text = fs::read_to_string(&toml).unwrap();
        let (head, _) = text.split_once("[status]").unwrap();
        fs::write(&toml, format!("{head}[status]\nsocket = \"{socket}\"\n")).unwrap();
    };
    with(text(&nowhere));
    assert!(fails(&folder, 3, &["relay", "--config", text(&toml)]).contains("not a socket"));
    assert_eq!(fs::read_to_string(&nowhere).unwrap(), "no socket");
    with("no/such/folder/socket");
    fails(&folder, 3, &["relay", "--config", text(&toml)]);
    with("");
    assert!(fails(&folder, 3, &config).contains("has none"));
}

#[test]
fn keys_that_cannot_be_rotated() {
    let folder = folder("rotate-bad");
    let (relay, _) = init_relay(&folder, "open");
    let (toml, key) = (relay.join("relay.toml"), relay.join("identity.key"));
    let rotate = ["bundle", "rotate", "--config", text(&toml)];
    fails(&folder, 2, &["bundle", "rotate"]);
    fails(&folder, 3, &["bundle", "rotate", "--config", "/nowhere"]);
    json(&folder, &[&rotate[..], &["--json"]].concat());
    assert!(fails(&folder, 1, &rotate).contains("--force"));
    json(&folder, &[&rotate[..], &["--json", "--force"]].concat());
    // The file of another day does not fit, and the relay says what to do.
    let rotated = fs::read(&key).unwrap();
    edit(&key, "ADIT RELAY PREVIOUS", "ADIT RELAY KEY");
    assert!(fails(&folder, 3, &["relay", "--config", text(&toml)]).contains("wanted ADIT RELAY PREVIOUS"));
    fs::write(&key, &rotated[..rotated.len() / 2]).unwrap();
    fails(&folder, 3, &rotate);
    fs::write(&key, &rotated).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(fails(&folder, 3, &rotate).contains("chmod 600"));
}
